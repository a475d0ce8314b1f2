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


class DataKeyClosed(ValueError):
    """A workspace's data key does not open: it is damaged, or its master key is not here. Nothing of that workspace can
    be sealed or opened until an operator has put that right."""


class DeliveryError(Exception):
    """A message that was not delivered. The text says why, without a foreign word in it."""


class Undeliverable(DeliveryError):
    """This message will never pass: its recipient or its content is refused for good."""


class ChannelDown(DeliveryError):
    """It may pass later. `for_all`: nothing else will pass now either, so the rest of the batch waits too."""

    def __init__(self, reason: str, *, for_all: bool = True) -> None:
        super().__init__(reason)
        self.for_all = for_all
