"""Adds up again what pages show: daily totals, conversations and the credits statement, from receipts and postings."""

import sqlite3
from collections.abc import Iterator

from ownkey.domain.activity import Amounts, day_text
from ownkey.domain.records import Finding
from ownkey.store.verify_touched import ANYTHING, Mark, earliest_place, first_days, limited

_RECEIPTS_OF = """
SELECT r.workspace_id, r.id FROM receipt r
LEFT JOIN activity a ON a.seq = r.seq AND a.workspace_id = r.workspace_id
LEFT JOIN shape s ON s.id = a.shape AND s.workspace_id = a.workspace_id
WHERE {r.seq} AND (a.seq IS NULL OR s.id IS NULL OR a.place / 1048576 <> r.at_ms OR a.charge_credits <> r.charge_credits
  OR a.unknown <> (r.cost_nusd IS NULL) OR (r.cost_nusd IS NOT NULL AND a.cost_nusd <> r.cost_nusd)
  OR s.task <> coalesce(r.task, '') OR s.project <> coalesce(r.project, '')
  OR s.provider <> coalesce(r.provider, '') OR s.funding <> coalesce(r.funding, '') OR s.code <> coalesce(r.code, '')
  OR (a.conversation IS NULL) <> (r.conversation IS NULL OR r.conversation = ''))
"""
_RECEIPTS, _RECENT_RECEIPTS = limited(_RECEIPTS_OF)
_SHARES_OF = """
SELECT a.workspace_id, a.seq FROM activity a JOIN receipt_share p ON p.seq = a.seq WHERE {a.seq} GROUP BY a.seq
HAVING sum(p.cost_nusd) <> a.cost_nusd OR sum(p.calls) <> 1 OR sum(p.charge_credits) <> a.charge_credits
"""
_SHARES, _RECENT_SHARES = limited(_SHARES_OF)
_STRAY = """
SELECT p.workspace_id, p.seq FROM receipt_share p LEFT JOIN activity a ON a.seq = p.seq
LEFT JOIN receipt r ON r.seq = p.seq WHERE a.seq IS NULL OR r.seq IS NULL
"""
_SHAPES = "SELECT id, workspace_id FROM shape"
_COLUMNS = ", ".join(Amounts._fields)
_TOTALS = """
SELECT workspace_id, day, share, shape, {columns} FROM day_total WHERE shape = ?
""".replace("{columns}", _COLUMNS)
_SUMS = """
SELECT p.workspace_id, a.day, p.share, a.shape, {sums}
FROM activity a INDEXED BY activity_shape JOIN receipt_share p ON p.seq = a.seq
WHERE a.shape = ? GROUP BY p.workspace_id, a.day, p.share
""".replace("{sums}", ", ".join(f"sum(p.{name})" for name in Amounts._fields))
_RECENT_TOTALS = """
SELECT t.workspace_id, t.day, t.share, t.shape, {columns} FROM shape s CROSS JOIN day_total t ON t.shape = s.id
WHERE s.workspace_id = ? AND t.day >= ?
""".replace("{columns}", ", ".join(f"t.{name}" for name in Amounts._fields))
_RECENT_SUMS = """
SELECT p.workspace_id, a.day, p.share, a.shape, {sums}
FROM activity a INDEXED BY activity_time JOIN receipt_share p ON p.seq = a.seq
WHERE a.workspace_id = ? AND a.day >= ? AND a.place >= ? GROUP BY p.workspace_id, a.day, p.share, a.shape
""".replace("{sums}", ", ".join(f"sum(p.{name})" for name in Amounts._fields))
_STRAY_TOTALS = """
SELECT t.workspace_id, t.day FROM day_total t LEFT JOIN shape s ON s.id = t.shape AND s.workspace_id = t.workspace_id
LEFT JOIN share x ON x.id = t.share AND x.workspace_id = t.workspace_id WHERE s.id IS NULL OR x.id IS NULL
"""
_BY_TASK = """
SELECT t.workspace_id, t.day, s.task, s.funding, s.outcome, t.share, {sums} FROM shape s
CROSS JOIN day_total t ON t.shape = s.id WHERE s.workspace_id = ? AND t.day >= ? GROUP BY 1, 2, 3, 4, 5, 6
"""
_TASK_DAYS = """
SELECT workspace_id, day, task, funding, outcome, share, {columns} FROM task_day WHERE workspace_id = ? AND day >= ?
"""
_BY_PROJECT = """
SELECT t.workspace_id, t.day, s.project, s.funding, s.outcome, x.route, {sums} FROM shape s
CROSS JOIN day_total t ON t.shape = s.id JOIN share x ON x.id = t.share WHERE s.workspace_id = ? AND t.day >= ?
GROUP BY 1, 2, 3, 4, 5, 6
"""
_PROJECT_DAYS = """
SELECT workspace_id, day, project, funding, outcome, route, {columns} FROM project_day
WHERE workspace_id = ? AND day >= ?
"""
_SUMMED = """
SELECT DISTINCT workspace_id FROM shape UNION SELECT workspace_id FROM task_day UNION
SELECT workspace_id FROM project_day
"""
_ROLLUPS = tuple(
    (name, *(statement.replace("{sums}", ", ".join(f"sum(t.{field})" for field in Amounts._fields))
             .replace("{columns}", _COLUMNS) for statement in pair))
    for name, pair in (("task_day", (_TASK_DAYS, _BY_TASK)), ("project_day", (_PROJECT_DAYS, _BY_PROJECT)))
)
_CONVERSATIONS_OF = """
SELECT m.workspace_id, v.name, m.month FROM conversation_month m
JOIN conversation v ON v.id = m.conversation
LEFT JOIN activity a ON a.conversation = m.conversation AND a.day / 100 = m.month AND a.workspace_id = v.workspace_id
WHERE {m.conversation} GROUP BY m.conversation, m.month
HAVING m.calls <> count(a.seq) OR m.cost_nusd <> coalesce(sum(a.cost_nusd), 0)
  OR m.unknown_calls <> coalesce(sum(a.unknown), 0) OR m.charge_credits <> coalesce(sum(a.charge_credits), 0)
  OR m.workspace_id <> v.workspace_id
"""
_CONVERSATIONS, _RECENT_CONVERSATIONS = limited(_CONVERSATIONS_OF)
_LOST_CONVERSATIONS_OF = """
SELECT a.workspace_id, a.seq FROM activity a WHERE {a.seq} AND a.conversation IS NOT NULL AND NOT EXISTS (
  SELECT 1 FROM conversation_month m WHERE m.conversation = a.conversation AND m.month = a.day / 100)
"""
_LOST_CONVERSATIONS, _RECENT_LOST_CONVERSATIONS = limited(_LOST_CONVERSATIONS_OF)
_STATEMENT = """
SELECT workspace_id, entry_id, balance, expected FROM (
  SELECT workspace_id, entry_id, balance,
    sum(credits) OVER (PARTITION BY workspace_id ORDER BY entry_id) AS expected FROM statement_line)
WHERE balance <> expected
"""
# The same for the newest lines alone, each by the one before it.
_RECENT_STATEMENT = """
SELECT l.workspace_id, l.entry_id, l.balance, l.credits + l.before FROM (
  SELECT l.*, coalesce((SELECT b.balance FROM statement_line b WHERE b.workspace_id = l.workspace_id
    AND b.entry_id < l.entry_id ORDER BY b.entry_id DESC LIMIT 1), 0) AS before
  FROM ledger_entry e JOIN statement_line l ON l.entry_id = e.id AND l.workspace_id = e.workspace_id
  WHERE e.id > :entry) l
WHERE l.balance <> l.credits + l.before
"""
_ENTRIES = """
SELECT e.workspace_id, e.id FROM ledger_entry e
LEFT JOIN statement_line l ON l.entry_id = e.id AND l.workspace_id = e.workspace_id
LEFT JOIN posting p ON p.entry_id = e.id AND p.workspace_id = e.workspace_id
WHERE e.id > :entry GROUP BY e.id
HAVING l.credits IS NOT coalesce(sum(
    CASE WHEN p.destination LIKE 'lot:%' OR p.destination LIKE 'debt:%' THEN p.amount_credits ELSE 0 END
    - CASE WHEN p.source LIKE 'lot:%' OR p.source LIKE 'debt:%' THEN p.amount_credits ELSE 0 END), 0)
"""
_BALANCES = """
SELECT w.workspace_id, w.balance_credits, coalesce((
  SELECT l.balance FROM statement_line l WHERE l.workspace_id = w.workspace_id ORDER BY l.entry_id DESC LIMIT 1), 0)
FROM wallet w
"""


def check_figures(conn: sqlite3.Connection, at_ms: int) -> Iterator[Finding]:
    """Whatever differs from the receipts that it is made of."""
    yield from _check_placing(conn, (_RECEIPTS, _SHARES, _CONVERSATIONS, _LOST_CONVERSATIONS), ANYTHING)
    for workspace, seq in conn.execute(_STRAY):
        yield Finding("receipt_share", workspace, (str(seq),), "the shares are not the receipt's")
    # Shape by shape: a sum over everything at once would sort all receipts in memory.
    for shape, workspace in conn.execute(_SHAPES).fetchall():
        yield from _compare_totals(workspace, _by_key(conn, _TOTALS, (shape,)), _by_key(conn, _SUMS, (shape,)))
    for (workspace,) in conn.execute(_SUMMED).fetchall():
        yield from _check_rollups(conn, workspace, 0)
    for workspace, day in conn.execute(_STRAY_TOTALS):
        yield Finding("day_total", workspace, (day_text(day),), "belongs to no shape or share of its workspace")


def check_recent_figures(conn: sqlite3.Connection, mark: Mark) -> Iterator[Finding]:
    """The same of the calls that were touched, of their conversations, and of all sums from their first day on."""
    yield from _check_placing(
        conn, (_RECENT_RECEIPTS, _RECENT_SHARES, _RECENT_CONVERSATIONS, _RECENT_LOST_CONVERSATIONS), mark
    )
    for workspace, day in first_days(conn, mark):
        yield from _compare_totals(
            workspace, _by_key(conn, _RECENT_TOTALS, (workspace, day)),
            _by_key(conn, _RECENT_SUMS, (workspace, day, earliest_place(day))),
        )
        yield from _check_rollups(conn, workspace, day)


def _check_placing(
    conn: sqlite3.Connection, statements: tuple[str, str, str, str], mark: Mark
) -> Iterator[Finding]:
    """Each call by itself, and each conversation."""
    receipts, shares, conversations, lost = statements
    for workspace, receipt in conn.execute(receipts, mark.values()):
        yield Finding("activity.receipt", workspace, (receipt,), "is not placed as its receipt says")
    for workspace, seq in conn.execute(shares, mark.values()):
        yield Finding("receipt_share", workspace, (str(seq),), "the shares are not the receipt's")
    for workspace, name, month in conn.execute(conversations, mark.values()):
        yield Finding("conversation_month", workspace, (name, str(month)), "is not the sum of its calls")
    for workspace, seq in conn.execute(lost, mark.values()):
        yield Finding("conversation_month", workspace, (str(seq),), "a call is in no month of its conversation")


_Key = tuple[str, int, int, int]


def _by_key(conn: sqlite3.Connection, statement: str, values: tuple[str | int, ...]) -> dict[_Key, tuple[int, ...]]:
    """Sums by workspace, day, share and shape."""
    return {row[:4]: row[4:] for row in conn.execute(statement, values)}


def _compare_totals(
    workspace: str, totals: dict[_Key, tuple[int, ...]], sums: dict[_Key, tuple[int, ...]]
) -> Iterator[Finding]:
    for key in totals.keys() | sums.keys():
        if totals.get(key) != sums.get(key) or key[0] != workspace:
            _, day, share, shape = key
            yield Finding(
                "day_total", workspace, (str(shape), day_text(day), str(share)),
                f"{_tell(totals.get(key))}, by its receipts {_tell(sums.get(key))}",
            )


def _check_rollups(conn: sqlite3.Connection, workspace: str, since_day: int) -> Iterator[Finding]:
    for check, kept, summed in _ROLLUPS:
        rows = {row[1:6]: row[6:] for row in conn.execute(kept, (workspace, since_day))}
        sums = {row[1:6]: row[6:] for row in conn.execute(summed, (workspace, since_day))}
        for key in rows.keys() | sums.keys():
            if rows.get(key) != sums.get(key):
                yield Finding(check, workspace, tuple(map(str, key)),
                              f"{_tell(rows.get(key))}, by its days {_tell(sums.get(key))}")


def _tell(amounts: tuple[int, ...] | None) -> str:
    if amounts is None:
        return "nothing"
    named = Amounts(*amounts)
    return f"{named.calls} calls, {named.cost_nusd} nano-USD, {named.charge_credits} credits"


def check_statement(conn: sqlite3.Connection, at_ms: int) -> Iterator[Finding]:
    """Each line's balance is the sum until then, each entry has its line, and the last balance is the wallet's."""
    yield from _compare_lines(conn, _STATEMENT, ANYTHING)


def check_recent_statement(conn: sqlite3.Connection, mark: Mark) -> Iterator[Finding]:
    """The same of the newest lines."""
    yield from _compare_lines(conn, _RECENT_STATEMENT, mark)


def _compare_lines(conn: sqlite3.Connection, lines: str, mark: Mark) -> Iterator[Finding]:
    for workspace, entry, balance, expected in conn.execute(lines, mark.values()):
        yield Finding("statement.balance", workspace, (str(entry),), f"{balance}, by its lines {expected}")
    for workspace, entry in conn.execute(_ENTRIES, mark.values()):
        yield Finding("statement.entry", workspace, (str(entry),), "the line is missing or is not its postings' sum")
    for workspace, wallet, balance in conn.execute(_BALANCES):
        if wallet != balance:
            yield Finding("statement.wallet", workspace, (), f"{balance}, the wallet has {wallet}")
