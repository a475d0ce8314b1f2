"""A page of receipts, by any combination of filters, from any place on; one line per conversation; what has come since.

First the newest calls of the workspace are walked: a filter that many calls match is answered by a few hundred. Where
the walk finds too few, the filter is rare, so that its shapes are few: of each the newest place is looked up, and only
those that can be on the page are read. Neither way grows with the number of receipts.
"""

import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from heapq import nlargest
from typing import Any

import msgspec

from ownkey.domain.activity import (
    MARK,
    ActivitySums,
    Choices,
    CostlyTrace,
    MeterSums,
    TraceLine,
    day_bounds_ms,
)
from ownkey.domain.records import ReceiptFilter
from ownkey.store.totals import MATCH, PLACE_BITS, is_summed, load_totals, match_values, ms_of

WALKS = (300, 2_000)
TRACE_CHUNK = 150
TRACE_MOST = 20_000
MOST_A_PAGE = 1_000
_END = (1 << 63) - 1

_RANGE = "AND {a}.place < :before AND {a}.place >= :since AND {a}.day >= :since_day AND {a}.day <= :until_day"
_WALK = """
SELECT w.place, w.seq, w.conversation FROM (
  SELECT a.place, a.seq, a.conversation, a.shape FROM activity a INDEXED BY activity_time
  WHERE a.workspace_id = :workspace {range} ORDER BY a.place DESC LIMIT :walk
) w CROSS JOIN shape s ON s.id = w.shape WHERE {match} AND (:traced IS NULL OR s.traced = :traced)
ORDER BY w.place DESC LIMIT :limit
""".replace("{range}", _RANGE.replace("{a}", "a")).replace("{match}", MATCH)
_NEWEST = """
WITH found AS MATERIALIZED (
  SELECT s.id, (
    SELECT max(a.place) FROM activity a INDEXED BY activity_shape WHERE a.shape = s.id {range}
  ) AS newest
  FROM shape s WHERE {match} AND s.workspace_id = :workspace AND (:traced IS NULL OR s.traced = :traced)
)
SELECT id, newest FROM found WHERE newest IS NOT NULL ORDER BY newest DESC LIMIT :limit
""".replace("{range}", _RANGE.replace("{a}", "a")).replace("{match}", MATCH)
_OF_SHAPE = """
SELECT a.place, a.seq, a.conversation FROM activity a INDEXED BY activity_shape
WHERE a.shape = :shape AND +a.workspace_id = :workspace {range} ORDER BY a.place DESC LIMIT :limit
""".replace("{range}", _RANGE.replace("{a}", "a"))
_OF_CONVERSATION = """
SELECT a.place, a.seq FROM activity a INDEXED BY activity_conversation CROSS JOIN shape s ON s.id = a.shape
WHERE a.conversation = :conversation_id AND +a.workspace_id = :workspace
  AND {match} {range} ORDER BY a.place DESC LIMIT :limit
""".replace("{range}", _RANGE.replace("{a}", "a")).replace("{match}", MATCH)
_CONVERSATION = "SELECT id FROM conversation WHERE workspace_id = ? AND name = ?"
_CONVERSATION_NAME = "SELECT name FROM conversation WHERE id = ? AND workspace_id = ?"
_SEEN = """
SELECT 1 FROM activity a INDEXED BY activity_conversation CROSS JOIN shape s ON s.id = a.shape
WHERE a.conversation = :conversation_id AND +a.workspace_id = :workspace
  AND {match} AND a.place >= :before AND a.place < :ends
  AND a.day >= :since_day AND a.day <= :until_day LIMIT 1
""".replace("{match}", MATCH)
_TRACE_SUMS = """
SELECT count(*), coalesce(sum(a.cost_nusd), 0), coalesce(sum(a.unknown), 0), coalesce(sum(a.charge_credits), 0),
  min(a.place), max(a.place)
FROM activity a INDEXED BY activity_conversation CROSS JOIN shape s ON s.id = a.shape
WHERE a.conversation = :conversation_id AND +a.workspace_id = :workspace
  AND {match} AND a.place < :ends AND a.place >= :since
  AND a.day >= :since_day AND a.day <= :until_day
""".replace("{match}", MATCH)
_METER = """
SELECT count(*), coalesce(sum(a.cost_nusd), 0), coalesce(sum(a.unknown), 0), coalesce(sum(a.charge_credits), 0),
  min(a.place), max(a.place)
FROM conversation v CROSS JOIN activity a INDEXED BY activity_conversation ON a.conversation = v.id
CROSS JOIN shape s ON s.id = a.shape
WHERE v.workspace_id = :workspace AND v.name = :name
  AND (:tasks IS NULL OR s.task IN (SELECT value FROM json_each(:tasks)))
  AND (:projects IS NULL OR s.project IN (SELECT value FROM json_each(:projects)))
"""
_WHOLE_METER = """
SELECT coalesce(sum(m.calls), 0), coalesce(sum(m.cost_nusd), 0), coalesce(sum(m.unknown_calls), 0),
  coalesce(sum(m.charge_credits), 0),
  (SELECT min(a.place) FROM activity a WHERE a.conversation = v.id), max(v.last_place)
FROM conversation v JOIN conversation_month m ON m.conversation = v.id
WHERE v.workspace_id = :workspace AND v.name = :name
"""
_LAST_TRACES = """
SELECT v.id, v.name, v.last_place, (SELECT min(a.place) FROM activity a WHERE a.conversation = v.id),
  sum(m.calls), sum(m.cost_nusd), sum(m.unknown_calls), sum(m.charge_credits)
FROM (
  SELECT id, name, last_place FROM conversation WHERE workspace_id = :workspace AND last_place < :before
  ORDER BY last_place DESC LIMIT :limit
) v JOIN conversation_month m ON m.conversation = v.id GROUP BY v.id ORDER BY v.last_place DESC
"""
_COSTLY = """
SELECT v.name, m.calls, m.cost_nusd, m.unknown_calls, m.charge_credits, m.last_place
FROM conversation_month m INDEXED BY conversation_cost JOIN conversation v ON v.id = m.conversation
WHERE m.workspace_id = :workspace AND m.month = :month
ORDER BY m.cost_nusd DESC, m.charge_credits DESC, m.conversation DESC LIMIT :limit
"""
_SINCE = """
SELECT count(*) FROM (
  SELECT 1 FROM activity a INDEXED BY activity_time JOIN shape s ON s.id = a.shape
  WHERE a.workspace_id = :workspace AND a.place >= :from AND a.seq > :seq AND a.day >= :since_day
    AND a.day <= :until_day AND {match} AND (:conversation_id IS NULL OR a.conversation = :conversation_id)
  LIMIT :most
)
""".replace("{match}", MATCH)
_CONVERSATION_SUMS = """
SELECT count(*), coalesce(sum(a.cost_nusd), 0), coalesce(sum(a.unknown), 0), coalesce(sum(a.charge_credits), 0)
FROM activity a INDEXED BY activity_conversation CROSS JOIN shape s ON s.id = a.shape
WHERE a.conversation = :conversation_id AND +a.workspace_id = :workspace
  AND {match} AND a.place < :ends AND a.place >= :since
  AND a.day >= :since_day AND a.day <= :until_day
""".replace("{match}", MATCH)
_SPAN_SUMS = """
SELECT count(*), coalesce(sum(a.cost_nusd), 0), coalesce(sum(a.unknown), 0), coalesce(sum(a.charge_credits), 0)
FROM activity a INDEXED BY activity_time CROSS JOIN shape s ON s.id = a.shape
WHERE a.workspace_id = :workspace AND {match} AND a.place < :ends AND a.place >= :since
  AND a.day >= :since_day AND a.day <= :until_day
""".replace("{match}", MATCH)
_HOURS = """
SELECT a.place / {hour}, s.outcome, s.funding, count(*)
FROM activity a INDEXED BY activity_time CROSS JOIN shape s ON s.id = a.shape
WHERE a.workspace_id = :workspace AND {match}
  AND a.place < :ends AND a.place >= :since AND a.day >= :since_day AND a.day <= :until_day
GROUP BY 1, 2, 3 ORDER BY 1, 2, 3
""".replace("{match}", MATCH).replace("{hour}", str(3_600_000 << PLACE_BITS))
_CONVERSATION_HOURS = """
SELECT a.place / {hour}, s.outcome, s.funding, count(*)
FROM activity a INDEXED BY activity_conversation CROSS JOIN shape s ON s.id = a.shape
WHERE a.conversation = :conversation_id AND +a.workspace_id = :workspace
  AND {match}
  AND a.place < :ends AND a.place >= :since AND a.day >= :since_day AND a.day <= :until_day
GROUP BY 1, 2, 3 ORDER BY 1, 2, 3
""".replace("{match}", MATCH).replace("{hour}", str(3_600_000 << PLACE_BITS))
_LAST_WRITTEN = """
SELECT r.id FROM receipt r WHERE r.seq = (
  SELECT max(a.seq) FROM (
    SELECT seq FROM activity WHERE workspace_id = :workspace ORDER BY place DESC LIMIT 1000) a)
  AND r.workspace_id = :workspace
"""
_PLACE_OF = """
SELECT a.place, a.seq FROM receipt r JOIN activity a ON a.seq = r.seq WHERE r.id = ? AND r.workspace_id = ?
"""
_DOC = "SELECT doc FROM receipt WHERE seq = ? AND workspace_id = ?"
_LAST_CALLS = """
SELECT {key}, max((SELECT max(a.place) FROM activity a INDEXED BY activity_shape WHERE a.shape = s.id))
FROM shape s WHERE s.workspace_id = :workspace GROUP BY 1
"""
_LAST_BY = {"task": _LAST_CALLS.replace("{key}", "s.task"), "project": _LAST_CALLS.replace("{key}", "s.project"),
            "credentials": _LAST_CALLS.replace("{key}", "s.credentials")}

_IN_ORDER = """
SELECT seq FROM activity INDEXED BY activity_time
WHERE workspace_id = :workspace AND place > :after AND place < :ends AND day >= :since_day AND day <= :until_day
ORDER BY place LIMIT :limit
"""
_CHOICES = tuple(
    "SELECT DISTINCT {column} FROM shape WHERE workspace_id = ?".replace("{column}", column)
    for column in ("task", "project", "models", "provider", "credentials", "code")
)

# A call that began this long before one that is written already may still be on its way.
_LATE_MS = 3_600_000

Found = tuple[int, int, int | None]
"""(place, seq, conversation) of one receipt."""


def find_receipts(conn: sqlite3.Connection, workspace_id: str, query: ReceiptFilter) -> list[Mapping[str, Any]]:
    """The documents of one page, newest first."""
    return [
        msgspec.json.decode(conn.execute(_DOC, (seq, workspace_id)).fetchone()[0])
        for _, seq, _ in find_places(conn, workspace_id, query)
    ]


def find_places(conn: sqlite3.Connection, workspace_id: str, query: ReceiptFilter) -> Sequence[Found]:
    """Where the receipts of one page stand, newest first."""
    limit = max(0, min(query.limit, MOST_A_PAGE))
    if query.receipt is not None:
        return _find_one(conn, workspace_id, query)
    values = _values(conn, workspace_id, query)
    if values is None or limit == 0:
        return ()
    if query.conversation is not None:
        found = conn.execute(_OF_CONVERSATION, values | {"limit": limit}).fetchall()
        return [(place, seq, values["conversation_id"]) for place, seq in found]
    return _page(conn, values, limit)


def _page(conn: sqlite3.Connection, values: dict[str, Any], limit: int) -> Sequence[Found]:
    for walk in WALKS:
        found = conn.execute(_WALK, values | {"walk": max(walk, limit), "limit": limit}).fetchall()
        if len(found) == limit:
            return found
    return _merge(conn, values, limit)


def _merge(conn: sqlite3.Connection, values: dict[str, Any], limit: int) -> Sequence[Found]:
    """The newest of the shapes that match. Each shape that is looked at has its newest place on the page, or the page
    is not full yet."""
    rows: list[Found] = []
    wanted = values | {"limit": limit}
    for shape, newest in conn.execute(_NEWEST, wanted).fetchall():
        if len(rows) >= limit:
            rows = nlargest(limit, rows)
            wanted["since"] = rows[-1][0]
            if newest <= rows[-1][0]:
                break
        wanted["shape"] = shape
        rows += conn.execute(_OF_SHAPE, wanted).fetchall()
    return nlargest(limit, rows)


def _find_one(conn: sqlite3.Connection, workspace_id: str, query: ReceiptFilter) -> Sequence[Found]:
    found = conn.execute(_PLACE_OF, (query.receipt, workspace_id)).fetchone()
    return () if found is None else ((*found, None),)


def _values(conn: sqlite3.Connection, workspace_id: str, query: ReceiptFilter) -> dict[str, Any] | None:
    """The parameters of every search; None: nothing can match, because what the filter names does not exist here."""
    values = match_values(workspace_id, query) | {"traced": None, "conversation_id": None}
    since, until = 0, _END >> PLACE_BITS
    if query.since_day is not None or query.until_day is not None:
        bounds = day_bounds_ms(max(values["since_day"], 19_700_103), min(values["until_day"], 99_981_231))
        since, until = max(0, bounds[0]), bounds[1]
    since = max(since, query.since_ms or 0)
    until = until if query.until_ms is None else min(until, query.until_ms)
    ends = min(_END, max(0, until) << PLACE_BITS)
    before = ends
    if query.before is not None:
        found = conn.execute(_PLACE_OF, (query.before, workspace_id)).fetchone()
        if found is None:
            return None
        before = min(before, found[0])
    if query.conversation is not None:
        found = conn.execute(_CONVERSATION, (workspace_id, query.conversation)).fetchone()
        if found is None:
            return None
        values["conversation_id"] = found[0]
    return values | {"since": min(_END, since << PLACE_BITS), "before": before, "ends": ends}


def find_traces(
    conn: sqlite3.Connection, workspace_id: str, query: ReceiptFilter, cursor: str | None
) -> tuple[list[TraceLine], str | None]:
    """One line per conversation that has a call which matches, the latest such call first; and the cursor of what
    follows, None at the end. A page can be short and still have a next one, where thousands of calls are of few
    conversations."""
    limit = max(1, min(query.limit, 200))
    before = _read_cursor(cursor)
    if query == ReceiptFilter(limit=query.limit):
        return _last_traces(conn, workspace_id, before, limit)
    values = _values(conn, workspace_id, query)
    if values is None:
        return [], None
    values["before"] = start = min(values["before"], before)
    lines: list[TraceLine] = []
    seen: set[int] = set()
    for read, (place, _, conversation) in enumerate(_traced(conn, values, query), 1):
        if conversation not in seen:
            seen.add(conversation)
            here = values | {"conversation_id": conversation}
            if start == values["ends"] or conn.execute(_SEEN, here | {"before": start}).fetchone() is None:
                if len(lines) == limit:
                    return lines, lines[-1].cursor
                lines.append(_line(conn, here, place))
        if read >= TRACE_MOST:
            return lines, str(place)
    return lines, None


def _traced(conn: sqlite3.Connection, values: dict[str, Any], query: ReceiptFilter) -> Iterator[tuple[int, int, int]]:
    if query.conversation is not None:
        for place, seq in conn.execute(_OF_CONVERSATION, values | {"limit": 1}):
            yield place, seq, values["conversation_id"]
        return
    values = values | {"traced": 1}
    while rows := _page(conn, values, TRACE_CHUNK):
        for place, seq, conversation in rows:
            assert conversation is not None
            yield place, seq, conversation
        if len(rows) < TRACE_CHUNK:
            return
        values["before"] = rows[-1][0]


def _line(conn: sqlite3.Connection, values: dict[str, Any], place: int) -> TraceLine:
    calls, cost, unknown, credits, first, last = conn.execute(_TRACE_SUMS, values).fetchone()
    (name,) = conn.execute(_CONVERSATION_NAME, (values["conversation_id"], values["workspace"])).fetchone()
    return TraceLine(name, calls, cost, unknown, credits, ms_of(first), ms_of(last), str(place))


def _last_traces(
    conn: sqlite3.Connection, workspace_id: str, before: int, limit: int
) -> tuple[list[TraceLine], str | None]:
    rows = conn.execute(
        _LAST_TRACES, {"workspace": workspace_id, "before": before, "limit": limit + 1}
    ).fetchall()
    lines = [
        TraceLine(name, calls, cost, unknown, credits, ms_of(first), ms_of(last), str(last))
        for _, name, last, first, calls, cost, unknown, credits in rows[:limit]
    ]
    return lines, lines[-1].cursor if len(rows) > limit else None


def _read_cursor(cursor: str | None) -> int:
    """A cursor that is none begins at the newest: it can only show what its reader may see anyway."""
    if cursor is None or not (cursor.isascii() and cursor.isdigit() and len(cursor) < 20):
        return _END
    return min(int(cursor), _END)


def count_since(conn: sqlite3.Connection, workspace_id: str, query: ReceiptFilter, receipt_id: str, most: int) -> int:
    """How many receipts that match were written after that one; at most `most`. "": how many there are."""
    found = conn.execute(_PLACE_OF, (receipt_id, workspace_id)).fetchone() if receipt_id else (0, 0)
    values = _values(conn, workspace_id, query)
    if found is None or values is None or query.receipt is not None:
        return 0
    begins = max(values["since"], max(0, ms_of(found[0]) - _LATE_MS) << PLACE_BITS)
    counted = conn.execute(_SINCE, values | {"from": begins, "seq": found[1], "most": most}).fetchone()
    return int(counted[0])


def last_written(conn: sqlite3.Connection, workspace_id: str) -> str | None:
    """The receipt that was written last, among the thousand newest; None: no call yet."""
    found = conn.execute(_LAST_WRITTEN, {"workspace": workspace_id}).fetchone()
    return None if found is None else found[0]


def load_sums(conn: sqlite3.Connection, workspace_id: str, query: ReceiptFilter) -> ActivitySums:
    """All calls that match, added up; whole days come out of the totals."""
    if is_summed(query):
        rows = load_totals(conn, workspace_id, query, (), brief=True)
        if not rows:
            return ActivitySums(0, 0, 0, 0)
        a = rows[0].amounts
        return ActivitySums(a.calls, a.cost_nusd, a.unknown_calls, a.charge_credits)
    values = _values(conn, workspace_id, query)
    if values is None or query.receipt is not None:
        return ActivitySums(0, 0, 0, 0)
    statement = _SPAN_SUMS if query.conversation is None else _CONVERSATION_SUMS
    return ActivitySums(*conn.execute(statement, values).fetchone())


def load_hours(
    conn: sqlite3.Connection, workspace_id: str, query: ReceiptFilter
) -> list[tuple[int, str, str, int]]:
    """(hour's start in UTC milliseconds, outcome, funding, calls) of a filter that spans a few days at most."""
    values = _values(conn, workspace_id, query)
    if values is None or query.receipt is not None:
        return []
    statement = _HOURS if query.conversation is None else _CONVERSATION_HOURS
    return [
        (hour * 3_600_000, outcome, funding, calls)
        for hour, outcome, funding, calls in conn.execute(statement, values)
    ]


def load_costly(conn: sqlite3.Connection, workspace_id: str, month: int, limit: int) -> list[CostlyTrace]:
    """The conversations of a month (202611) that cost most, dearest first."""
    rows = conn.execute(_COSTLY, {"workspace": workspace_id, "month": month, "limit": limit})
    return [
        CostlyTrace(name, calls, cost, unknown, credits, ms_of(last))
        for name, calls, cost, unknown, credits, last in rows
    ]


def load_meter(
    conn: sqlite3.Connection, workspace_id: str, name: str, tasks: frozenset[str], projects: frozenset[str]
) -> MeterSums:
    """A conversation's sums; of some tasks or projects only where any are named."""
    statement = _METER if tasks or projects else _WHOLE_METER
    found = conn.execute(statement, {
        "workspace": workspace_id, "name": name,
        "tasks": msgspec.json.encode(sorted(tasks)).decode() if tasks else None,
        "projects": msgspec.json.encode(sorted(projects)).decode() if projects else None,
    }).fetchone()
    calls, cost, unknown, credits, first, last = found
    return MeterSums(
        calls, cost, unknown, credits, None if first is None else ms_of(first), None if last is None else ms_of(last)
    )


def find_in_order(
    conn: sqlite3.Connection, workspace_id: str, since_day: int, until_day: int, after: str | None, limit: int
) -> list[Mapping[str, Any]]:
    """The documents of some days, the oldest first."""
    place = -1
    if after is not None:
        found = conn.execute(_PLACE_OF, (after, workspace_id)).fetchone()
        if found is None:
            return []
        place = found[0]
    begins, ends = day_bounds_ms(max(since_day, 19_700_103), min(until_day, 99_981_231))
    rows = conn.execute(_IN_ORDER, {
        "workspace": workspace_id, "after": max(place, min(_END, max(0, begins) << PLACE_BITS) - 1),
        "since_day": since_day, "until_day": until_day, "ends": min(_END, ends << PLACE_BITS), "limit": limit,
    }).fetchall()
    return [msgspec.json.decode(conn.execute(_DOC, (seq, workspace_id)).fetchone()[0]) for (seq,) in rows]


def load_choices(conn: sqlite3.Connection, workspace_id: str) -> Choices:
    """What calls of this workspace have ever had."""
    found = (
        {part for (value,) in conn.execute(statement, (workspace_id,)) for part in value.split(MARK) if part}
        for statement in _CHOICES
    )
    return Choices(*(tuple(sorted(values)) for values in found))


def load_last_calls(conn: sqlite3.Connection, workspace_id: str, by: str) -> Mapping[str, int]:
    """Task, or project, or marked list of credentials → the time of its last call; "" for calls without."""
    rows = conn.execute(_LAST_BY[by], {"workspace": workspace_id})
    return {key: ms_of(place) for key, place in rows if place is not None}
