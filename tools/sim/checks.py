"""What must hold after every commit and after every step: the books against their rows, and against the bill book.

The checks read the database with SQL of their own, on a connection of their own; the providers' bills come from the
emulator, matched to the hold whose task sent the request. Nothing here uses a figure that the product computed
about itself, but `verify`, which is run as well.
"""

import asyncio
import sqlite3
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from ownkey.domain.money import ceil_div
from ownkey.domain.product import CreditRules
from ownkey.emulator.book import Bill
from ownkey.store.connection import open_reader
from ownkey.store.verify import verify
from tools.sim.caller import Caller
from tools.sim.network import Exchange
from tools.sim.node import AUDIT_KEY, Node

_PERIODS = """
SELECT p.id, p.cap_version, p.cap_nusd, p.spent_nusd + p.held_nusd + p.leased_nusd - p.overage_nusd,
  coalesce((SELECT sum(max(0, c.cost_delta_nusd)) FROM correction c JOIN hold h ON h.id = c.hold_id
    WHERE h.period_id = p.id), 0)
FROM cap_period p
"""
_HOLDS = """
SELECT h.id, h.state, h.funding, h.workspace_id, h.bound_nusd, coalesce(h.cost_nusd, 0), h.charge_nusd,
  h.charge_credits, h.bound_credits, coalesce(c.cost_delta_nusd, 0), coalesce(c.charge_delta_nusd, 0),
  coalesce(c.credits_delta, 0), c.hold_id IS NOT NULL, h.priced, h.created_at_ms, p.ends_at_ms
FROM hold h LEFT JOIN correction c ON c.hold_id = h.id LEFT JOIN cap_period p ON p.id = h.period_id
"""
_SWITCHES = """
SELECT w.id, w.always_use_key, coalesce(a.n, 0),
  (SELECT count(*) FROM hold h WHERE h.workspace_id = w.id AND h.funding = 'credits')
FROM workspace w LEFT JOIN audit_head a ON a.workspace_id = w.id
"""
_ACCOUNT = """
SELECT w.workspace_id, w.balance_credits,
  coalesce((SELECT sum(remaining_credits) FROM lot l WHERE l.workspace_id = w.workspace_id), 0),
  coalesce((SELECT sum(CASE WHEN p.source LIKE 'source:%' THEN p.amount_credits
    WHEN p.destination LIKE 'revenue:%' OR p.destination LIKE 'sink:%' THEN -p.amount_credits
    WHEN p.source LIKE 'revenue:%' THEN p.amount_credits ELSE 0 END)
    FROM posting p WHERE p.workspace_id = w.workspace_id), 0)
FROM wallet w
"""
_FAILED_AND_CHARGED = """
SELECT id, code, charge_credits FROM receipt r WHERE code IS NOT NULL AND charge_credits > 0
  AND NOT EXISTS (SELECT 1 FROM hold h WHERE h.call_id = r.id AND h.delivered_bytes > 0)
"""
# A month paid twice, whatever restarted in between: two charges of one subscription within 27 days.
_ADDON = """
SELECT e.workspace_id, e.idem_key FROM ledger_entry e JOIN ledger_entry f ON f.workspace_id = e.workspace_id
  AND f.kind = 'addon' AND f.id < e.id AND e.at_ms - f.at_ms < 27 * 86400000
WHERE e.kind = 'addon' AND NOT EXISTS (SELECT 1 FROM audit a WHERE a.workspace_id = e.workspace_id
  AND a.at_ms BETWEEN f.at_ms AND e.at_ms AND a.after ->> '$.state' IN ('lapsed', 'ended', 'cancelling', 'past_due'))
"""
_OUTBOX = "SELECT dedupe_key FROM outbox GROUP BY dedupe_key HAVING count(*) > 1"
_ENTRIES = "SELECT count(*), coalesce(max(id), 0), coalesce(sum(at_ms), 0) FROM ledger_entry WHERE id <= ?"
_FIGURES = """
SELECT (SELECT count(*) FROM hold), (SELECT count(*) FROM receipt),
  (SELECT coalesce(sum(spent_nusd), 0) FROM cap_period),
  (SELECT coalesce(sum(held_nusd), 0) FROM cap_period), (SELECT coalesce(sum(balance_credits), 0) FROM wallet),
  (SELECT coalesce(sum(carry_nusd), 0) FROM wallet), (SELECT count(*) FROM correction), (SELECT count(*) FROM alert),
  (SELECT count(*) FROM outbox), (SELECT count(*) FROM ledger_entry), (SELECT count(*) FROM audit)
"""

TERMINAL = {"settled", "released", "expired"}


class Broken(Exception):
    """An invariant does not hold. The sentence says which, and where."""


@dataclass(slots=True)
class Watch:
    """Everything that is remembered about one deployment, beside the product."""

    path: Path
    rules: CreditRules
    platform_keys: set[str]
    conn: sqlite3.Connection | None = None
    bills: dict[str, int] = field(default_factory=dict)
    """Hold → what its request was billed."""
    sent: dict[str, Exchange] = field(default_factory=dict)
    ended: dict[str, tuple[str, int, int]] = field(default_factory=dict)
    """Hold → (state, cost, charge) when it was first seen ended."""
    used: dict[int, tuple[int, int]] = field(default_factory=dict)
    excused: set[str] = field(default_factory=set)
    switches: dict[str, tuple[int, int, int]] = field(default_factory=dict)
    callers: list[Caller] = field(default_factory=list)
    granted: Counter[str] = field(default_factory=Counter)
    tried: Counter[str] = field(default_factory=Counter)
    mails: dict[str, list[str]] = field(default_factory=dict)
    entries: tuple[int, int, int] = (0, 0, 0)
    counts: Counter[str] = field(default_factory=Counter)

    def reader(self) -> sqlite3.Connection:
        if self.conn is None:
            self.conn = open_reader(self.path)
        return self.conn

    def close(self) -> None:
        if self.conn is not None:
            self.conn.close()
            self.conn = None

    # --- at once

    def on_send(self, node: Node, exchange: Exchange) -> None:
        """No request that generates leaves without a hold of its own, open and on the disk, of the right payer."""
        if exchange.method == b"GET" or b"/auth/keys" in exchange.target:
            return
        hold_id = node.clock.holds.get(asyncio.current_task())
        exchange.hold_id = hold_id
        if hold_id is None:
            raise Broken(f"a request left without a hold: {exchange.target.decode()}")
        if hold_id in self.sent:
            raise Broken(f"hold {hold_id} carries two requests")
        found = self.reader().execute("SELECT state, funding FROM hold WHERE id = ?", (hold_id,)).fetchone()
        if found is None or found[0] not in ("held", "expired"):
            raise Broken(f"a request left under hold {hold_id}, which is {found and found[0]}")
        if (found[1] == "credits") != (exchange.key in self.platform_keys):
            raise Broken(f"hold {hold_id} is paid by {found[1]}, but the other one's key was sent")
        self.sent[hold_id] = exchange
        self.counts["sent"] += 1

    def on_bill(self, exchange: Exchange, bill: Bill) -> None:
        if exchange.hold_id is None:
            if bill.cost_nusd:
                raise Broken(f"a bill of {bill.cost_nusd} without a hold")
            return
        self.bills[exchange.hold_id] = self.bills.get(exchange.hold_id, 0) + bill.cost_nusd
        self.counts["bills"] += 1

    def after_commit(self, node: Node) -> None:
        """The law at every commit, and the firewall."""
        conn = self.reader()
        for period, version, cap, used, raised in conn.execute(_PERIODS):
            old_version, before = self.used.get(period, (None, 0))
            # What one commit admitted before it lowered the cap was admitted under the old one.
            if cap is not None and used - raised > cap and used > before and version == old_version:
                raise Broken(f"period {period}: {used} spent and held grew over the cap of {cap}")
            self.used[period] = (version, used)
        for workspace, always, audited, holds in conn.execute(_SWITCHES):
            was = self.switches.get(workspace)
            if was is not None and was[0] and always and audited == was[1] and holds > was[2]:
                raise Broken(f"{workspace}: credits were held while Always use this key was on")
            self.switches[workspace] = (always, audited, holds)

    def delivered(self, boot: str, key: str) -> None:
        """A message left the house: again only after a crash, and then as the same message."""
        lives = self.mails.setdefault(key, [])
        if boot in lives:
            raise Broken(f"message {key} was sent twice by one process")
        lives.append(boot)

    # --- after a step

    def check(self, node: Node | None, now_ms: int) -> None:
        conn = self.reader()
        at_ms = now_ms if node is not None and node.alive and node.world.now > node.unsure_until else 0
        findings = verify(conn, at_ms, AUDIT_KEY)
        if findings:
            raise Broken("verify: " + "; ".join(f"{f.check} {f.workspace_id} {f.ids} {f.detail}" for f in findings[:5]))
        self._check_holds(conn)
        self._check_money(conn)
        self._check_calls(conn)
        double = conn.execute(_OUTBOX).fetchall()
        if double:
            raise Broken(f"two outbox rows of one key: {double}")

    def _check_holds(self, conn: sqlite3.Connection) -> None:
        known = set()
        for (hold, state, funding, _, bound, cost, charge, credits, bound_credits, cost_delta, charge_delta,
             credits_delta, corrected, priced, created_at, period_ends) in conn.execute(_HOLDS):
            known.add(hold)
            if period_ends is not None and created_at >= period_ends:
                raise Broken(f"hold {hold} is in a period that was over when it was made")
            if state in TERMINAL:
                first = self.ended.setdefault(hold, (state, cost, charge))
                if first != (state, cost, charge):
                    raise Broken(f"hold {hold} ended as {first} and is now {(state, cost, charge)}")
            elif hold in self.ended:
                raise Broken(f"hold {hold} ended and is open again")
            billed = self.bills.get(hold, 0)
            booked = bound if state == "held" else cost + cost_delta
            if billed > booked and self._is_on_the_way(hold, state, corrected):
                self.counts["on_the_way"] += hold not in self.excused
                self.excused.add(hold)
                booked = bound
            if billed > booked and priced:
                raise Broken(f"hold {hold} ({funding}, {state}): billed {billed}, the books know {booked} of {bound}")
            if funding == "byok":
                if charge or credits:
                    raise Broken(f"hold {hold}: the customer's key paid, and {credits} credits too")
                continue
            if credits + credits_delta > bound_credits:
                raise Broken(f"hold {hold}: {credits + credits_delta} credits charged, {bound_credits} held")
            exchange = self.sent.get(hold)
            if state != "held" and exchange is not None and (exchange.done or hold in self.bills):
                most = ceil_div(billed * (10_000 + self.rules.markup_bps), 10_000)
                if charge + charge_delta > most:
                    raise Broken(f"hold {hold}: {charge + charge_delta} nUSD charged, {most} were delivered")
        for hold, billed in self.bills.items():
            if billed and hold not in known:
                raise Broken(f"hold {hold} was billed {billed} and is lost")

    def _is_on_the_way(self, hold: str, state: str, corrected: bool) -> bool:
        """Whether a stream was left while bytes of it were still on the way: its estimate cannot know them, only the
        hold bounds them, until OpenRouter is asked for the cost."""
        exchange = self.sent.get(hold)
        return exchange is not None and exchange.unread and state == "settled" and not corrected

    def _check_money(self, conn: sqlite3.Connection) -> None:
        for workspace, balance, lots, posted in conn.execute(_ACCOUNT):
            if not balance == lots == posted:
                raise Broken(f"{workspace}: balance {balance}, lots {lots}, by its postings {posted}")
        charged = conn.execute(_FAILED_AND_CHARGED).fetchall()
        if charged:
            raise Broken(f"failed calls that took credits: {charged[:3]}")
        twice = conn.execute(_ADDON).fetchall()
        if twice:
            raise Broken(f"the add-on was charged twice for a month: {twice[:3]}")
        count, last, at = self.entries
        if conn.execute(_ENTRIES, (last,)).fetchone() != (count, last, at):
            raise Broken("the ledger's older entries have changed")
        self.entries = conn.execute(_ENTRIES, (2**62,)).fetchone()
        for key, amount in self.granted.items():
            row = conn.execute(
                "SELECT sum(p.amount_credits) FROM ledger_entry e JOIN posting p ON p.entry_id = e.id "
                "WHERE e.idem_key LIKE ?", (f"%:{key}",),
            ).fetchone()
            if row[0] != amount:
                raise Broken(f"the grant {key} of {amount} credits stands in the ledger as {row[0]}")

    def _check_calls(self, conn: sqlite3.Connection) -> None:
        rest = []
        for caller in self.callers:
            if not caller.ended:
                if not caller.gone:
                    rest.append(caller)
                continue
            self.counts["answered" if caller.status == 200 else caller.code] += 1
            if caller.receipt is None:
                continue
            if conn.execute("SELECT count(*) FROM receipt WHERE id = ?", (caller.receipt,)).fetchone() != (1,):
                raise Broken(f"the caller heard of receipt {caller.receipt}, which does not exist")
        self.callers = rest

    def figures(self) -> tuple[int, ...]:
        """For the trace: counts and sums that any difference would show in."""
        found: tuple[int, ...] = self.reader().execute(_FIGURES).fetchone()
        return found

    def check_end(self) -> None:
        """After everything is over: nothing is held, and what each key was billed is known."""
        conn = self.reader()
        held = conn.execute("SELECT count(*) FROM hold WHERE state = 'held'").fetchone()[0]
        if held:
            raise Broken(f"{held} holds are still open")
        open_calls = conn.execute("SELECT count(*) FROM hold WHERE context IS NOT NULL").fetchone()[0]
        if open_calls:
            raise Broken(f"{open_calls} calls never got their receipt")
        waiting = conn.execute("SELECT count(*) FROM outbox WHERE state = 'waiting'").fetchone()[0]
        if waiting:
            raise Broken(f"{waiting} messages were never sent")
