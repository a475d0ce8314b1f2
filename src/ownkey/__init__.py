"""Ownkey: the BYOK (bring your own key) layer of a SaaS product.

The package is a house of rooms; ARCHITECTURE.md has the map and the path of a call.
"""

__version__ = "0.1.0"
