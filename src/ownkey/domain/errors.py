"""Errors that use cases raise beside refusals.

StoreError
├── Conflict        the change contradicts what is stored (a taken name, a stale version)
├── NotFound        no such object in this workspace
└── Unavailable     the store cannot promise durability now (disk full, closed): no hold, no call
"""


class StoreError(Exception):
    """Base of what the store raises on purpose."""


class Conflict(StoreError):
    pass


class NotFound(StoreError):
    pass


class Unavailable(StoreError):
    pass
