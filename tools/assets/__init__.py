"""Builds the browser assets that come from npm; `python -m tools.assets`."""
