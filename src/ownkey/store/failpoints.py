"""Named points at which a test lets this process die: inert unless the environment says twice that this is a test.

`OWNKEY_FAILPOINT=in_settle:3` dies the third time that a hold is about to be settled, and only where
`OWNKEY_TESTING=1` stands too. Points are recognised by the statements of the writing connection, so that the code
that they interrupt knows nothing of them.
"""

import os
import signal
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from ownkey.domain.errors import StoreError
from ownkey.store.connection import Connection
from ownkey.store.writer import Writer

# Point → how its statement begins. The statement has not run yet when the process dies.
_STATEMENTS = {
    "before_hold": "UPDATE cap_period SET held_nusd = held_nusd +",
    "in_hold": "INSERT INTO hold(",
    "in_settle": "UPDATE hold SET state = 'settled'",
    "in_expiry": "UPDATE hold SET state = 'expired'",
    "in_receipt": "INSERT INTO receipt(",
    "in_outbox": "INSERT INTO outbox(",
    "in_cap": "INSERT INTO cap_version(",
    "in_order": "INSERT INTO payment_order(",
    "in_event": "INSERT INTO stripe_event(",
    "in_payment": "INSERT INTO payment(",
    "in_loss": "INSERT INTO payment_loss(",
    "in_addon": "INSERT INTO addon(",
    "in_wish": "INSERT INTO subscription_wish(",
    "in_rewrap": "UPDATE dek SET kek_id",
}
# Point → what the transaction held that has just been committed, and that nobody has heard of.
_COMMITTED = {
    "after_hold": _STATEMENTS["in_hold"], "after_settle": _STATEMENTS["in_receipt"],
    "after_order": _STATEMENTS["in_order"], "after_event": _STATEMENTS["in_event"],
    "after_wish": _STATEMENTS["in_wish"], "after_rewrap": _STATEMENTS["in_rewrap"],
}

POINTS = (*_STATEMENTS, *_COMMITTED)


def die() -> None:
    """kill -9, by our own hand."""
    os.kill(os.getpid(), signal.SIGKILL)


@dataclass(slots=True)
class Failpoint:
    """Dies the `left`-th time that the point `name` is reached."""

    name: str
    left: int
    kill: Callable[[], None] = die
    _due: bool = False
    _last: str = ""

    def statement(self, sql: str) -> None:
        """A statement of the writing connection, before it runs."""
        if sql == self._last:
            return  # SQLite tells a statement again for every trigger that it runs.
        self._last = sql
        text = " ".join(sql.split())
        if text.startswith(_STATEMENTS.get(self.name, "\0")):
            self._reached()
        elif text.startswith(_COMMITTED.get(self.name, "\0")):
            self._due = True
        elif text.startswith("ROLLBACK"):
            self._due = False

    def committed(self) -> None:
        """A transaction is on the disk, and its callers have not heard of it."""
        if self._due:
            self._due = False
            self._reached()

    def _reached(self) -> None:
        self.left -= 1
        if self.left == 0:
            self.kill()

    def make_writer(self, conn: Connection) -> Writer:
        return _Writer(conn, self)

    def hooks(self) -> dict[str, Any]:
        """For `SQLiteStore.open`."""
        return {"make_writer": self.make_writer, "watch": self.statement}


class _Writer(Writer):
    def __init__(self, conn: Connection, failpoint: Failpoint) -> None:
        self._failpoint = failpoint
        super().__init__(conn)

    def _commit_together(self, batch: list[Any]) -> None:
        super()._commit_together(batch)
        self._failpoint.committed()


def load_failpoint(environ: Mapping[str, str]) -> Failpoint | None:
    """What the environment asks for; None without both variables. Raises StoreError for a point that does not exist."""
    wanted = environ.get("OWNKEY_FAILPOINT", "")
    if environ.get("OWNKEY_TESTING") != "1" or not wanted:
        return None
    name, _, times = wanted.partition(":")
    if name not in POINTS or not (times or "1").isdigit() or int(times or "1") < 1:
        raise StoreError(
            f"OWNKEY_FAILPOINT: {wanted[:40]!r} is no point; write one of {', '.join(POINTS)}, or name:times."
        )
    return Failpoint(name, int(times or "1"))
