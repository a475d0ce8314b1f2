"""Daily totals, kept exact in the transaction that writes or corrects a receipt, and what is read from them.

A receipt adds one row to `activity` (its place in time and its shape) and one a share to `receipt_share`; the shares
are added to `day_total`. A correction takes away exactly what was added, and adds anew. `verify` adds it all up again.
"""

import sqlite3
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import lru_cache
from operator import add, attrgetter
from typing import Any

import msgspec

from ownkey.domain.activity import (
    Amounts,
    Shape,
    SumKeys,
    TotalRow,
    Where,
    day_text,
    local_day,
    mark,
    model_slug,
    parse_day,
    shape_of,
    shares_of,
)
from ownkey.domain.caps import Period, plan_period
from ownkey.domain.receipts import Receipt
from ownkey.domain.records import ReceiptFilter
from ownkey.store.connection import Connection
from ownkey.store.periods import load_newest

PLACE_BITS = 20
_PLACE_MASK = (1 << PLACE_BITS) - 1
_MEMORY_LIMIT = 50_000

_SHAPE = """
SELECT id FROM shape WHERE workspace_id = ? AND task = ? AND project = ? AND provider = ? AND funding = ?
  AND outcome = ? AND code = ? AND models = ? AND credentials = ? AND traced = ?
"""
_NEW_SHAPE = """
INSERT INTO shape(workspace_id, task, project, provider, funding, outcome, code, models, credentials, traced)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
"""
_SHARE = """
SELECT id FROM share WHERE workspace_id = ? AND route = ? AND provider = ? AND model = ? AND credential = ?
  AND basis = ?
"""
_NEW_SHARE = "INSERT INTO share(workspace_id, route, provider, model, credential, basis) VALUES (?, ?, ?, ?, ?, ?)"
_CONVERSATION = "SELECT id FROM conversation WHERE workspace_id = ? AND name = ?"
_NEW_CONVERSATION = "INSERT INTO conversation(workspace_id, name) VALUES (?, ?)"
_TOUCH_CONVERSATION = """
UPDATE conversation SET last_place = max(last_place, ?) WHERE id = ? AND workspace_id = ?
"""
_ZONE = "SELECT timezone FROM workspace WHERE id = ?"
_PERIOD_OF = """
SELECT period_key, starts_at_ms, ends_at_ms, timezone FROM cap_period
WHERE workspace_id = ? AND starts_at_ms <= ? AND ends_at_ms > ?
"""
_PLACE = """
INSERT INTO activity(workspace_id, seq, place, day, shape, conversation, cost_nusd, unknown, charge_credits)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)
"""
_COLUMNS = ", ".join(Amounts._fields)
_HOLES = ", ".join("?" for _ in Amounts._fields)
_KEEP_SHARE = """
INSERT INTO receipt_share(workspace_id, seq, share, {columns}) VALUES (?, ?, ?, {holes})
""".replace("{columns}", _COLUMNS).replace("{holes}", _HOLES)
_TABLES: Mapping[str, tuple[str, ...]] = {
    "day_total": ("shape", "day", "share"),
    "task_day": ("workspace_id", "day", "task", "funding", "outcome", "share"),
    "project_day": ("workspace_id", "day", "project", "funding", "outcome", "route"),
}
"""The tables of sums and their keys; `day_total` holds them by everything, the others by what most pages sum by."""
_ADD_ONE = """
INSERT INTO {table}(workspace_id, {keys}, {columns}) VALUES (?, {places}, {holes})
ON CONFLICT({key}) DO UPDATE SET {sums}
""".replace("{columns}", _COLUMNS).replace("{holes}", _HOLES).replace(
    "{sums}", ", ".join(f"{name} = {name} + excluded.{name}" for name in Amounts._fields)
)
_EMPTY_ONE = "DELETE FROM {table} WHERE workspace_id = ? AND {equal} AND calls = 0 AND attempts = 0"
_Pick = Callable[[SumKeys], tuple[str | int, ...]]


def _for_tables(statement: str) -> tuple[tuple[str, _Pick], ...]:
    """The statement for each table, and what picks the table's keys, the workspace first."""
    found = []
    for table, key in _TABLES.items():
        keys = [name for name in key if name != "workspace_id"]
        text = (
            statement.replace("{table}", table).replace("{keys}", ", ".join(keys)).replace("{key}", ", ".join(key))
            .replace("{places}", ", ".join("?" for _ in keys))
            .replace("{equal}", " AND ".join(f"{name} = ?" for name in keys))
        )
        found.append((text, attrgetter("workspace_id", *keys)))
    return tuple(found)


_ADD = _for_tables(_ADD_ONE)
_EMPTY = _for_tables(_EMPTY_ONE)
_ADD_MONTH = """
INSERT INTO conversation_month(workspace_id, conversation, month, calls, cost_nusd, unknown_calls, charge_credits,
  last_place) VALUES (?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT(conversation, month) DO UPDATE SET calls = calls + excluded.calls,
  cost_nusd = cost_nusd + excluded.cost_nusd, unknown_calls = unknown_calls + excluded.unknown_calls,
  charge_credits = charge_credits + excluded.charge_credits, last_place = max(last_place, excluded.last_place)
"""
_PLACED = """
SELECT place, day, shape, conversation, cost_nusd, unknown, charge_credits FROM activity
WHERE seq = ? AND workspace_id = ?
"""
_SHARES = """
SELECT share, {columns} FROM receipt_share WHERE seq = ? AND workspace_id = ?
""".replace("{columns}", _COLUMNS)
_UNPLACE = "DELETE FROM activity WHERE seq = ? AND workspace_id = ?"
_UNSHARE = "DELETE FROM receipt_share WHERE seq = ? AND workspace_id = ?"
_KEYS_OF = """
SELECT s.task, s.project, s.funding, s.outcome, x.route FROM shape s JOIN share x ON x.id = ?
WHERE s.id = ? AND s.workspace_id = ?
"""
_EMPTY_MONTH = """
DELETE FROM conversation_month WHERE conversation = ? AND month = ? AND calls = 0 AND workspace_id = ?
"""


def place_of(at_ms: int, seq: int) -> int:
    """Where a call stands in time: by milliseconds, within one by the order of writing. Unique in a workspace until a
    million receipts are written between two of the same millisecond."""
    return at_ms << PLACE_BITS | seq & _PLACE_MASK


def ms_of(place: int) -> int:
    """The milliseconds of a place."""
    return place >> PLACE_BITS


def add_receipt(conn: Connection, seq: int, receipt: Receipt, day: int | None = None) -> None:
    """Place a new receipt and add it to its day; `day` is given where an earlier writing has fixed it."""
    workspace_id = receipt.workspace_id
    if day is None:
        day = _day_of(conn, workspace_id, receipt.at_ms)
    named = shape_of(receipt)
    shape = _shape_id(conn, workspace_id, named)
    cost = 0
    for where, amounts in shares_of(receipt):
        share = _share_id(conn, workspace_id, where)
        conn.execute(_KEEP_SHARE, (workspace_id, seq, share, *amounts))
        _add(conn, SumKeys(
            workspace_id, day, shape, share, named.task, named.project, named.funding, named.outcome, where.route
        ), amounts)
        cost += amounts.cost_nusd
    place, unknown = place_of(receipt.at_ms, seq), 1 if receipt.cost_nusd is None else 0
    conversation = None
    if receipt.conversation:
        conversation = _conversation_id(conn, workspace_id, receipt.conversation)
        conn.execute(_TOUCH_CONVERSATION, (place, conversation, workspace_id))
        conn.execute(_ADD_MONTH, (
            workspace_id, conversation, day // 100, 1, cost, unknown, receipt.charge_credits, place,
        ))
    conn.execute(_PLACE, (workspace_id, seq, place, day, shape, conversation, cost, unknown, receipt.charge_credits))


def _add(conn: Connection, keys: SumKeys, amounts: Amounts) -> None:
    """Remembered until `settle_totals`: calls that are committed together often belong to the same sums."""
    kept = conn.totals.get(keys)
    conn.totals[keys] = amounts if kept is None else Amounts(*map(add, kept, amounts))


def settle_totals(conn: Connection) -> None:
    """Write what this transaction adds to the sums. Whoever commits receipts calls it before the COMMIT."""
    if not conn.totals:
        return
    # What only goes up leaves no empty sum behind.
    lessened = any(amounts.calls <= 0 for amounts in conn.totals.values())
    for (statement, pick), (empty, _) in zip(_ADD, _EMPTY, strict=True):
        sums: dict[tuple[str | int, ...], tuple[int, ...]] = {}
        for keys, amounts in conn.totals.items():
            place = pick(keys)
            sums[place] = tuple(map(add, sums[place], amounts)) if place in sums else amounts
        for place, sum_of in sums.items():
            conn.execute(statement, (*place, *sum_of))
            if lessened:
                conn.execute(empty, place)
    conn.totals.clear()


def replace_receipt(conn: Connection, seq: int, receipt: Receipt) -> None:
    """A stored receipt was corrected, or gave way to the call's own: its day stays."""
    add_receipt(conn, seq, receipt, take_receipt(conn, receipt.workspace_id, seq))


def take_receipt(conn: Connection, workspace_id: str, seq: int) -> int:
    """Take away exactly what a receipt had added; returns its day."""
    row = conn.execute(_PLACED, (seq, workspace_id)).fetchone()
    _, day, shape, conversation, cost, unknown, credits = row
    for share, *amounts in conn.execute(_SHARES, (seq, workspace_id)).fetchall():
        task, project, funding, outcome, route = conn.execute(_KEYS_OF, (share, shape, workspace_id)).fetchone()
        keys = SumKeys(workspace_id, day, shape, share, task, project, funding, outcome, route)
        _add(conn, keys, Amounts(*(-amount for amount in amounts)))
    if conversation is not None:
        conn.execute(_ADD_MONTH, (workspace_id, conversation, day // 100, -1, -cost, -unknown, -credits, 0))
        conn.execute(_EMPTY_MONTH, (conversation, day // 100, workspace_id))
    conn.execute(_UNSHARE, (seq, workspace_id))
    conn.execute(_UNPLACE, (seq, workspace_id))
    return int(day)


def _shape_id(conn: Connection, workspace_id: str, shape: Shape) -> int:
    return _known_id(conn, conn.shapes, (workspace_id, *shape), _SHAPE, _NEW_SHAPE)


def _share_id(conn: Connection, workspace_id: str, where: Where) -> int:
    return _known_id(conn, conn.shares, (workspace_id, *where), _SHARE, _NEW_SHARE)


def _conversation_id(conn: Connection, workspace_id: str, name: str) -> int:
    return _known_id(conn, conn.conversations, (workspace_id, name), _CONVERSATION, _NEW_CONVERSATION)


def _known_id(
    conn: Connection, memory: dict[tuple[str | int, ...], int], key: tuple[str | int, ...], find: str, add: str
) -> int:
    known = memory.get(key)
    if known is not None:
        return known
    found = conn.execute(find, key).fetchone()
    number: int | None = conn.execute(add, key).lastrowid if found is None else found[0]
    assert number is not None
    if len(memory) >= _MEMORY_LIMIT:
        memory.clear()
    memory[key] = number
    return number


def _day_of(conn: Connection, workspace_id: str, at_ms: int) -> int:
    known = conn.days.get(workspace_id)
    if known is not None and known.from_ms <= at_ms < known.until_ms:
        return known.number
    day = local_day(at_ms, _period_at(conn, workspace_id, at_ms))
    if len(conn.days) >= _MEMORY_LIMIT:
        conn.days.clear()
    conn.days[workspace_id] = day
    return day.number


def _period_at(conn: Connection, workspace_id: str, at_ms: int) -> Period:
    """The period that counts a call of this moment; one that no hold has opened is told as it would begin."""
    found = conn.execute(_PERIOD_OF, (workspace_id, at_ms, at_ms)).fetchone()
    if found is not None:
        return Period(*found)
    newest = load_newest(conn, workspace_id)
    zone = conn.execute(_ZONE, (workspace_id,)).fetchone()
    previous = None if newest is None or at_ms < newest[1].ends_at_ms else newest[1]
    return plan_period(at_ms, "UTC" if zone is None else zone[0], previous)


_ANY_ACTIVITY = "SELECT 1 WHERE EXISTS (SELECT 1 FROM activity) OR EXISTS (SELECT 1 FROM receipt_share)"
_ANY_LINE = "SELECT 1 FROM statement_line LIMIT 1"
_ALL_RECEIPTS = "SELECT seq, doc FROM receipt WHERE seq > ? ORDER BY seq LIMIT 1000"
_ALL_LINES = """
INSERT INTO statement_line(workspace_id, entry_id, credits, balance)
SELECT workspace_id, id, credits, sum(credits) OVER (PARTITION BY workspace_id ORDER BY id) FROM (
  SELECT e.workspace_id, e.id, coalesce(sum(
      CASE WHEN p.destination LIKE 'lot:%' OR p.destination LIKE 'debt:%' THEN p.amount_credits ELSE 0 END
      - CASE WHEN p.source LIKE 'lot:%' OR p.source LIKE 'debt:%' THEN p.amount_credits ELSE 0 END), 0) AS credits
  FROM ledger_entry e LEFT JOIN posting p ON p.entry_id = e.id AND p.workspace_id = e.workspace_id
  GROUP BY e.workspace_id, e.id)
"""

_decoder = msgspec.json.Decoder(Receipt, strict=False)


def fill_in(conn: Connection) -> int:
    """At start: place the receipts and entries that are older than these tables, whole or not at all. Returns the
    number of receipts; 0 costs two looks at empty tables."""
    done = 0
    conn.execute("BEGIN IMMEDIATE")
    if conn.execute(_ANY_ACTIVITY).fetchone() is None:
        last = 0
        while rows := conn.execute(_ALL_RECEIPTS, (last,)).fetchall():
            for seq, doc in rows:
                add_receipt(conn, seq, _decoder.decode(doc))
            last, done = rows[-1][0], done + len(rows)
            settle_totals(conn)
    if conn.execute(_ANY_LINE).fetchone() is None:
        conn.execute(_ALL_LINES)
    conn.execute("COMMIT")
    return done


# "" is none in the table of shapes; a filter by "" finds just that.
MATCH = """s.workspace_id = :workspace
  AND (:task IS NULL OR s.task = :task) AND (:project IS NULL OR s.project = :project)
  AND (:provider IS NULL OR s.provider = :provider) AND (:funding IS NULL OR s.funding = :funding)
  AND (:outcome IS NULL OR s.outcome = :outcome) AND (:code IS NULL OR s.code = :code)
  AND (:refused IS NULL OR (s.code <> '') = :refused)
  AND (:model IS NULL OR instr(s.models, :model) > 0)
  AND (:credential IS NULL OR instr(s.credentials, :credential) > 0)
"""
_JOIN_SHARE = "CROSS JOIN share x ON x.id = t.share"
# From the smallest table that has what is asked for.
_FROM_TASKS = """
FROM task_day t {share}
WHERE t.workspace_id = :workspace AND t.day >= :since_day AND t.day <= :until_day
  AND (:task IS NULL OR t.task = :task) AND (:funding IS NULL OR t.funding = :funding)
  AND (:outcome IS NULL OR t.outcome = :outcome)
""".replace("{share}", _JOIN_SHARE)
_FROM_PROJECTS = """
FROM project_day t
WHERE t.workspace_id = :workspace AND t.day >= :since_day AND t.day <= :until_day
  AND (:project IS NULL OR t.project = :project) AND (:funding IS NULL OR t.funding = :funding)
  AND (:outcome IS NULL OR t.outcome = :outcome)
"""
_FROM_ALL = """
FROM shape s CROSS JOIN day_total t ON t.shape = s.id {share}
WHERE {match} AND s.workspace_id = :workspace AND t.day >= :since_day AND t.day <= :until_day
""".replace("{share}", _JOIN_SHARE).replace("{match}", MATCH)
_SUM = """
SELECT {keys}, {sums}, sum(CASE WHEN {route} IN ('direct', 'openrouter') THEN t.cost_nusd ELSE 0 END)
{source} GROUP BY {groups} ORDER BY {order}
"""
_DAYS = {"day": "t.day", "month": "t.day / 100"}
_OF_SHARE = {
    "route": "x.route", "provider": "x.provider", "model": "x.model", "credential": "x.credential", "basis": "x.basis",
}
_SOURCES = (
    ("x.route", _FROM_TASKS, _DAYS | _OF_SHARE | {"task": "t.task", "funding": "t.funding", "outcome": "t.outcome"}),
    ("t.route", _FROM_PROJECTS, _DAYS | {
        "project": "t.project", "funding": "t.funding", "outcome": "t.outcome", "route": "t.route"}),
    ("x.route", _FROM_ALL, _DAYS | _OF_SHARE | {
        "task": "s.task", "project": "s.project", "funding": "s.funding", "outcome": "s.outcome", "code": "s.code",
        "answered_by": "s.provider", "asked_model": "s.models", "used_credential": "s.credentials"}),
)
_FILTERED_BY = {
    "task": "task", "project": "project", "funding": "funding", "outcome": "outcome", "code": "code",
    "refused": "code", "provider": "answered_by", "model": "asked_model", "credential": "used_credential",
}
TOTALS_BY = frozenset(_SOURCES[-1][2]) - {"asked_model", "used_credential"}
"""What sums are grouped by. "provider", "model", "credential", "basis" and "route" are those of each attempt, so that a
failover has spent at two providers; "answered_by" is whom the filter by provider means."""

_BRIEF = frozenset({"calls", "cost_nusd", "unknown_calls", "charge_credits"})
_COST = Amounts._fields.index("cost_nusd") + 1
FOREVER = (0, 99_991_231)


@lru_cache(maxsize=512)
def _sum_by(by: tuple[str, ...], filtered: frozenset[str], brief: bool) -> str:
    if not TOTALS_BY.issuperset(by):
        raise ValueError(f"totals are grouped by {', '.join(sorted(TOTALS_BY))}")
    # `_SOURCES` begins with the smallest; a filter by project alone is a few shapes, and leaves the tasks beside it.
    route, source, names = next(
        (route, source, names) for route, source, names in _SOURCES if names.keys() >= filtered.union(by)
    )
    if brief and not _OF_SHARE.keys() & set(by):
        # What own keys paid is not asked for, and nothing else of the shares.
        route, source = "''", source.replace(_JOIN_SHARE, "")
    keys = ", ".join(names[name] for name in by) or "''"
    sums = ", ".join(f"sum(t.{name})" if name in _BRIEF or not brief else "0" for name in Amounts._fields)
    order = "1" if by[:1] in (("day",), ("month",)) else f"{len(by) + _COST} DESC, {len(by) + 1} DESC, 1"
    return (
        _SUM.replace("{keys}", keys).replace("{groups}", keys).replace("{sums}", sums).replace("{route}", route)
        .replace("{source}", source).replace("{order}", order)
    )


def match_values(workspace_id: str, query: ReceiptFilter) -> dict[str, Any]:
    """What `MATCH` needs to know of a filter, and its days."""
    return {
        "workspace": workspace_id, "task": query.task, "project": query.project, "provider": query.provider,
        "funding": query.funding, "outcome": query.outcome, "code": query.code, "refused": query.refused,
        "model": None if query.model is None else mark(model_slug(query.model)),
        "credential": None if query.credential is None else mark(query.credential),
        "since_day": FOREVER[0] if query.since_day is None else parse_day(query.since_day),
        "until_day": FOREVER[1] if query.until_day is None else parse_day(query.until_day),
    }


def load_totals(
    conn: sqlite3.Connection, workspace_id: str, query: ReceiptFilter, by: tuple[str, ...], *, brief: bool = False
) -> list[TotalRow]:
    """Sums of whole days; `brief` leaves all but calls, cost and credits at 0, also `own_nusd`. Raises ValueError for
    a grouping or a filter that totals do not have."""
    if not is_summed(query):
        raise ValueError("totals know no conversation, no single receipt and no part of a day")
    filtered = frozenset(name for field, name in _FILTERED_BY.items() if getattr(query, field) is not None)
    rows = conn.execute(_sum_by(by, filtered, brief), match_values(workspace_id, query)).fetchall()
    n = len(by)
    shift = 0 if n else 1
    return [
        TotalRow(
            {name: _key_text(name, value) for name, value in zip(by, row[:n], strict=True)},
            Amounts(*row[n + shift:-1]), row[-1],
        )
        for row in rows
    ]


def within_days(query: ReceiptFilter, since_day: str, until_day: str) -> ReceiptFilter:
    """The filter, narrowed to these days, both included."""
    return replace(
        query, since_day=max(since_day, query.since_day or since_day),
        until_day=min(until_day, query.until_day or until_day),
    )


def is_summed(query: ReceiptFilter) -> bool:
    """Whether daily totals answer a filter."""
    return query.conversation is None and query.receipt is None and query.since_ms is None and query.until_ms is None


def _key_text(name: str, value: Any) -> str | None:
    if name == "day":
        return day_text(value)
    if name == "month":
        return f"{value // 100:04d}-{value % 100:02d}"
    return value or None
