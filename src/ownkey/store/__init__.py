"""Remembers. The only room that knows SQL: money, settings, ciphertext, receipts, audit and outbox in one database."""

from ownkey.store.connection import InUse
from ownkey.store.schema import TooNew
from ownkey.store.sqlite import SQLiteStore

__all__ = ["InUse", "SQLiteStore", "TooNew"]
