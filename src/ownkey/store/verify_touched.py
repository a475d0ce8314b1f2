"""What was written since the books were last found to balance: what a recent check reads again."""

import re
import sqlite3
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

from ownkey.store.totals import place_of

_NEWEST = """
SELECT coalesce((SELECT max(seq) FROM receipt), 0), coalesce((SELECT max(id) FROM ledger_entry), 0)
"""
# A correction changes a receipt that may be much older.
_TOUCHED = """
WITH touched AS (
  SELECT seq, id AS call_id, workspace_id FROM receipt WHERE seq > :seq
  UNION SELECT r.seq, r.id, r.workspace_id FROM correction c
  JOIN hold h ON h.id = c.hold_id AND h.workspace_id = c.workspace_id
  JOIN receipt r ON r.id = h.call_id AND r.workspace_id = h.workspace_id WHERE c.at_ms >= :since_ms)
"""
_AMONG = {
    "seq": "IN (SELECT seq FROM touched)",
    "call_id": "IN (SELECT call_id FROM touched)",
    "conversation": "IN (SELECT a.conversation FROM touched t JOIN activity a ON a.seq = t.seq "
    "AND a.workspace_id = t.workspace_id WHERE a.conversation IS NOT NULL)",
}
_FIRST_DAYS = _TOUCHED + """
SELECT t.workspace_id, min(a.day) FROM touched t JOIN activity a ON a.seq = t.seq AND a.workspace_id = t.workspace_id
GROUP BY t.workspace_id
"""
_MARGIN = timedelta(days=3)
"""How far a date may be from the date in UTC: a zone is 14 hours, and a moved end of the month a day, away."""


class Mark(NamedTuple):
    """The newest receipt and the newest ledger entry of a moment."""

    seq: int
    entry: int
    at_ms: int

    def values(self) -> dict[str, int]:
        """What the statements of `limited` and those about entries need to know."""
        return {"seq": self.seq, "entry": self.entry, "since_ms": self.at_ms}


ANYTHING = Mark(0, 0, 0)
"""The mark of a check that reads everything."""


def mark_now(conn: sqlite3.Connection, at_ms: int) -> Mark:
    seq, entry = conn.execute(_NEWEST).fetchone()
    return Mark(seq, entry, at_ms)


def limited(statement: str) -> tuple[str, str]:
    """The statement over everything, and over what was touched. It holds one `{x.seq}`, `{x.call_id}` or
    `{x.conversation}` where its condition belongs."""
    found = re.search(r"\{(\w+\.(\w+))\}", statement)
    assert found is not None, statement
    whole, column, name = found[0], found[1], found[2]
    return statement.replace(whole, "true"), _TOUCHED + statement.replace(whole, f"{column} {_AMONG[name]}")


def first_days(conn: sqlite3.Connection, mark: Mark) -> list[tuple[str, int]]:
    """The workspaces that were touched, each with the earliest day of which something was."""
    return conn.execute(_FIRST_DAYS, mark.values()).fetchall()


def earliest_place(day: int) -> int:
    """A place that no call of this day or a later one is before."""
    date = datetime(day // 10_000, day // 100 % 100, day % 100, tzinfo=UTC) - _MARGIN
    return place_of(int(date.timestamp()) * 1_000, 0)
