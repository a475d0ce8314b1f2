"""Adds up again what pages show: daily totals, conversations and the credits statement, from receipts and postings."""

import sqlite3
from collections.abc import Iterator

from ownkey.domain.activity import Amounts, day_text
from ownkey.domain.records import Finding

_RECEIPTS = """
SELECT r.workspace_id, r.id FROM receipt r
LEFT JOIN activity a ON a.seq = r.seq AND a.workspace_id = r.workspace_id
LEFT JOIN shape s ON s.id = a.shape AND s.workspace_id = a.workspace_id
WHERE a.seq IS NULL OR s.id IS NULL OR a.place / 1048576 <> r.at_ms OR a.charge_credits <> r.charge_credits
  OR a.unknown <> (r.cost_nusd IS NULL) OR (r.cost_nusd IS NOT NULL AND a.cost_nusd <> r.cost_nusd)
  OR s.task <> coalesce(r.task, '') OR s.project <> coalesce(r.project, '')
  OR s.provider <> coalesce(r.provider, '') OR s.funding <> coalesce(r.funding, '') OR s.code <> coalesce(r.code, '')
  OR (a.conversation IS NULL) <> (r.conversation IS NULL OR r.conversation = '')
"""
_SHARES = """
SELECT a.workspace_id, a.seq FROM activity a JOIN receipt_share p ON p.seq = a.seq GROUP BY a.seq
HAVING sum(p.cost_nusd) <> a.cost_nusd OR sum(p.calls) <> 1 OR sum(p.charge_credits) <> a.charge_credits
"""
_STRAY = """
SELECT p.workspace_id, p.seq FROM receipt_share p LEFT JOIN activity a ON a.seq = p.seq
LEFT JOIN receipt r ON r.seq = p.seq WHERE a.seq IS NULL OR r.seq IS NULL
"""
_SHAPES = "SELECT id, workspace_id FROM shape"
_COLUMNS = ", ".join(Amounts._fields)
_TOTALS = """
SELECT workspace_id, day, share, {columns} FROM day_total WHERE shape = ?
""".replace("{columns}", _COLUMNS)
_SUMS = """
SELECT p.workspace_id, a.day, p.share, {sums}
FROM activity a INDEXED BY activity_shape JOIN receipt_share p ON p.seq = a.seq
WHERE a.shape = ? GROUP BY p.workspace_id, a.day, p.share
""".replace("{sums}", ", ".join(f"sum(p.{name})" for name in Amounts._fields))
_STRAY_TOTALS = """
SELECT t.workspace_id, t.day FROM day_total t LEFT JOIN shape s ON s.id = t.shape AND s.workspace_id = t.workspace_id
LEFT JOIN share x ON x.id = t.share AND x.workspace_id = t.workspace_id WHERE s.id IS NULL OR x.id IS NULL
"""
_BY_TASK = """
SELECT t.workspace_id, t.day, s.task, s.funding, s.outcome, t.share, {sums} FROM shape s
CROSS JOIN day_total t ON t.shape = s.id WHERE s.workspace_id = ? GROUP BY 1, 2, 3, 4, 5, 6
"""
_TASK_DAYS = """
SELECT workspace_id, day, task, funding, outcome, share, {columns} FROM task_day WHERE workspace_id = ?
"""
_BY_PROJECT = """
SELECT t.workspace_id, t.day, s.project, s.funding, s.outcome, x.route, {sums} FROM shape s
CROSS JOIN day_total t ON t.shape = s.id JOIN share x ON x.id = t.share WHERE s.workspace_id = ?
GROUP BY 1, 2, 3, 4, 5, 6
"""
_PROJECT_DAYS = """
SELECT workspace_id, day, project, funding, outcome, route, {columns} FROM project_day WHERE workspace_id = ?
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
_CONVERSATIONS = """
SELECT m.workspace_id, v.name, m.month FROM conversation_month m
JOIN conversation v ON v.id = m.conversation
LEFT JOIN activity a ON a.conversation = m.conversation AND a.day / 100 = m.month AND a.workspace_id = v.workspace_id
GROUP BY m.conversation, m.month
HAVING m.calls <> count(a.seq) OR m.cost_nusd <> coalesce(sum(a.cost_nusd), 0)
  OR m.unknown_calls <> coalesce(sum(a.unknown), 0) OR m.charge_credits <> coalesce(sum(a.charge_credits), 0)
  OR m.workspace_id <> v.workspace_id
"""
_LOST_CONVERSATIONS = """
SELECT a.workspace_id, a.seq FROM activity a WHERE a.conversation IS NOT NULL AND NOT EXISTS (
  SELECT 1 FROM conversation_month m WHERE m.conversation = a.conversation AND m.month = a.day / 100)
"""
_STATEMENT = """
SELECT workspace_id, entry_id, balance, expected FROM (
  SELECT workspace_id, entry_id, balance,
    sum(credits) OVER (PARTITION BY workspace_id ORDER BY entry_id) AS expected FROM statement_line)
WHERE balance <> expected
"""
_ENTRIES = """
SELECT e.workspace_id, e.id FROM ledger_entry e
LEFT JOIN statement_line l ON l.entry_id = e.id AND l.workspace_id = e.workspace_id
LEFT JOIN posting p ON p.entry_id = e.id AND p.workspace_id = e.workspace_id
GROUP BY e.id
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
    for workspace, receipt in conn.execute(_RECEIPTS):
        yield Finding("activity.receipt", workspace, (receipt,), "is not placed as its receipt says")
    for statement in (_SHARES, _STRAY):
        for workspace, seq in conn.execute(statement):
            yield Finding("receipt_share", workspace, (str(seq),), "the shares are not the receipt's")
    yield from _check_totals(conn)
    for workspace, name, month in conn.execute(_CONVERSATIONS):
        yield Finding("conversation_month", workspace, (name, str(month)), "is not the sum of its calls")
    for workspace, seq in conn.execute(_LOST_CONVERSATIONS):
        yield Finding("conversation_month", workspace, (str(seq),), "a call is in no month of its conversation")


def _check_totals(conn: sqlite3.Connection) -> Iterator[Finding]:
    """Shape by shape: a sum over everything at once would sort all receipts in memory."""
    for shape, workspace in conn.execute(_SHAPES).fetchall():
        totals = {row[:3]: row[3:] for row in conn.execute(_TOTALS, (shape,))}
        sums = {row[:3]: row[3:] for row in conn.execute(_SUMS, (shape,))}
        for key in totals.keys() | sums.keys():
            if totals.get(key) != sums.get(key) or key[0] != workspace:
                yield Finding(
                    "day_total", workspace, (str(shape), day_text(key[1]), str(key[2])),
                    f"{_tell(totals.get(key))}, by its receipts {_tell(sums.get(key))}",
                )
    for (workspace,) in conn.execute(_SUMMED).fetchall():
        for check, kept, summed in _ROLLUPS:
            rows = {row[1:6]: row[6:] for row in conn.execute(kept, (workspace,))}
            sums = {row[1:6]: row[6:] for row in conn.execute(summed, (workspace,))}
            for key in rows.keys() | sums.keys():
                if rows.get(key) != sums.get(key):
                    yield Finding(check, workspace, tuple(map(str, key)),
                                  f"{_tell(rows.get(key))}, by its days {_tell(sums.get(key))}")
    for workspace, day in conn.execute(_STRAY_TOTALS):
        yield Finding("day_total", workspace, (day_text(day),), "belongs to no shape or share of its workspace")


def _tell(amounts: tuple[int, ...] | None) -> str:
    if amounts is None:
        return "nothing"
    named = Amounts(*amounts)
    return f"{named.calls} calls, {named.cost_nusd} nano-USD, {named.charge_credits} credits"


def check_statement(conn: sqlite3.Connection, at_ms: int) -> Iterator[Finding]:
    """Each line's balance is the sum until then, each entry has its line, and the last balance is the wallet's."""
    for workspace, entry, balance, expected in conn.execute(_STATEMENT):
        yield Finding("statement.balance", workspace, (str(entry),), f"{balance}, by its lines {expected}")
    for workspace, entry in conn.execute(_ENTRIES):
        yield Finding("statement.entry", workspace, (str(entry),), "the line is missing or is not its postings' sum")
    for workspace, wallet, balance in conn.execute(_BALANCES):
        if wallet != balance:
            yield Finding("statement.wallet", workspace, (), f"{balance}, the wallet has {wallet}")
