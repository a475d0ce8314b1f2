"""Any history of holds, ends, expiries, caps, grants and months keeps the books equal to their rows.

The machine keeps its own simple books beside the store's and compares the two after every step.
"""

import asyncio
import os
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from store_kit import (
    ACTOR,
    DAY,
    NOV,
    RULES,
    Clock,
    add_workspace,
    credits_request,
    open_store,
    receipt,
    release,
    request,
    settle,
    terms,
)

from ownkey.domain.booking import AttemptEnd, HoldGranted, HoldRequest
from ownkey.domain.ledger import hold_credits
from ownkey.domain.receipts import HoldState
from ownkey.domain.routing import Funding

EXAMPLES = int(os.environ.get("OWNKEY_STATEFUL_EXAMPLES", "60"))
STEPS = int(os.environ.get("OWNKEY_STATEFUL_STEPS", "40"))


@dataclass
class Open:
    request: HoldRequest
    bound_nusd: int
    bound_credits: int
    expired: bool = False


class Books(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(prefix="ownkey-books-"))
        self.loop = asyncio.new_event_loop()
        self.clock = Clock(NOV)
        self.boot = 0
        self.open: list[Open] = []
        self.ended: list[tuple[HoldRequest, AttemptEnd]] = []
        self.cap: int | None = None
        self.always = False
        self.granted = 0
        self.grants = 0

    def run(self, coroutine: Any) -> Any:
        return self.loop.run_until_complete(coroutine)

    @initialize(cap=st.one_of(st.none(), st.integers(0, 3_000_000)), zone=st.sampled_from(["UTC", "Asia/Kolkata"]))
    def start(self, cap: int | None, zone: str) -> None:
        self.store = open_store(self.folder / "a.db", self.clock)
        self.ws = self.run(add_workspace(self.store, timezone=zone, credits_if_key_fails_limit=20)).id
        self.save_cap(cap, 80)

    @rule(cap=st.one_of(st.none(), st.integers(0, 3_000_000)), threshold=st.integers(1, 100))
    def save_cap(self, cap: int | None, threshold: int) -> None:
        setting = self.run(self.store.save_cap(self.ws, cap, threshold, at_ms=self.clock.ms, actor=ACTOR))
        self.cap = cap
        assert (setting.state == "paused") == (cap is not None and setting.spent_nusd >= cap)

    @rule(bound=st.integers(0, 800_000), shrink=st.booleans(), probe=st.booleans(), priced=st.booleans())
    def hold(self, bound: int, shrink: bool, probe: bool, priced: bool) -> None:
        before = self.run(self.store.load_money(self.ws, self.clock.ms))
        made = terms(bound, output_limit=100, min_output=10) if priced or self.cap is not None else None
        req = self._request(request, bound, terms=made, shrink=shrink, probe=probe)
        answer = self.run(self.store.hold(req))
        if isinstance(answer, HoldGranted):
            assert probe or not before.cap_paused
            self.open.append(Open(req, answer.bound_nusd, 0))
            cap = answer.cap
            assert cap.cap_nusd is None or cap.spent_nusd + cap.held_nusd <= cap.cap_nusd
        else:
            assert self.cap is not None
            left = self.cap - before.cap.spent_nusd - before.cap.held_nusd
            least = made.bound_nusd(10 if shrink else 100)
            assert before.cap_paused or least > left, answer

    @rule(bound=st.integers(0, 60_000_000), shrink=st.booleans(), key_failed=st.booleans())
    def hold_credits(self, bound: int, shrink: bool, key_failed: bool) -> None:
        wallet = self.run(self.store.load_wallet(self.ws))
        req = self._request(
            credits_request, bound, terms=terms(bound, output_limit=100, min_output=10), shrink=shrink,
            key_failed=key_failed,
        )
        answer = self.run(self.store.hold(req))
        if isinstance(answer, HoldGranted):
            assert not self.always
            assert answer.bound_credits == hold_credits(answer.bound_nusd, RULES)
            assert answer.bound_credits <= wallet.balance_credits - wallet.held_credits
            self.open.append(Open(req, answer.bound_nusd, answer.bound_credits))
        elif answer.code == "insufficient_credits" and not key_failed:
            assert answer.needed_credits > wallet.balance_credits - wallet.held_credits

    def _request(self, make: Any, bound: int, **changes: Any) -> HoldRequest:
        made: HoldRequest = make(
            self.ws, bound, at_ms=self.clock.ms, expires_at_ms=self.clock.ms + 180_000, **changes
        )
        return made

    def _take(self, pick: int) -> Open:
        return self.open.pop(pick % len(self.open))

    @precondition(lambda self: self.open)
    @rule(pick=st.integers(0, 50), share=st.integers(0, 130), delivered=st.integers(0, 100), split=st.booleans())
    def settle(self, pick: int, share: int, delivered: int, split: bool) -> None:
        one = self._take(pick)
        cost = one.bound_nusd * share // 100
        end = settle(
            one.request, cost, delivered_cost_nusd=min(cost, one.bound_nusd) * delivered // 100, at_ms=self.clock.ms
        )
        self._end(one, end, split)

    @precondition(lambda self: self.open)
    @rule(pick=st.integers(0, 50), split=st.booleans())
    def release(self, pick: int, split: bool) -> None:
        one = self._take(pick)
        self._end(one, release(one.request, at_ms=self.clock.ms), split)

    def _end(self, one: Open, end: AttemptEnd, split: bool) -> None:
        if split:
            booked = self.run(self.store.end_attempt(end))
            assert booked.charge_credits <= one.bound_credits
            written = self.run(self.store.end_call(None, receipt(one.request, (one.request, end))))
        else:
            written = self.run(self.store.end_call(end, receipt(one.request, (one.request, end))))
        assert written.charge_credits <= one.bound_credits
        if one.request.funding is Funding.BYOK:
            assert (written.charge_nusd, written.charge_credits) == (0, 0)
        if end.state is HoldState.RELEASED:
            assert (written.cost_nusd, written.charge_nusd) == (0, 0)
        self.ended.append((one.request, end))

    @precondition(lambda self: self.ended)
    @rule(pick=st.integers(0, 50))
    def end_again(self, pick: int) -> None:
        req, end = self.ended[pick % len(self.ended)]
        before = self.run(self.store.load_money(self.ws, self.clock.ms))
        self.run(self.store.end_attempt(end))
        assert self.run(self.store.load_money(self.ws, self.clock.ms)) == before
        assert req.workspace_id == self.ws

    @precondition(lambda self: self.ended)
    @rule(pick=st.integers(0, 50), cost=st.integers(0, 800_000))
    def correct(self, pick: int, cost: int) -> None:
        req, _ = self.ended[pick % len(self.ended)]
        self.run(self.store.correct_hold(
            self.ws, req.hold_id, cost, delivered_cost_nusd=cost, origin="report", at_ms=self.clock.ms
        ))

    @rule()
    def expire(self) -> None:
        self.run(self.store.expire_holds(self.clock.ms))
        for one in self.open:
            one.expired = one.expired or one.request.expires_at_ms <= self.clock.ms

    @rule(amount=st.integers(1, 40), days=st.one_of(st.none(), st.integers(1, 40)), again=st.booleans())
    def grant(self, amount: int, days: int | None, again: bool) -> None:
        self.grants += 1
        for _ in range(2 if again else 1):
            self.run(self.store.grant_credits(
                self.ws, amount, "topup", expires_at_ms=None if days is None else self.clock.ms + days * DAY,
                idem_key=f"grant-{self.grants}", at_ms=self.clock.ms, actor=ACTOR,
            ))
        self.granted += amount

    @rule()
    def expire_credits(self) -> None:
        self.run(self.store.expire_credits(self.clock.ms))

    @rule(on=st.booleans())
    def switch_always(self, on: bool) -> None:
        self.run(self.store.save_settings(self.ws, {"always_use_key": on}, at_ms=self.clock.ms, actor=ACTOR))
        self.always = on

    @rule(zone=st.sampled_from(["UTC", "Asia/Kolkata", "Pacific/Kiritimati", "Pacific/Pago_Pago"]))
    def move(self, zone: str) -> None:
        self.run(self.store.save_settings(self.ws, {"timezone": zone}, at_ms=self.clock.ms, actor=ACTOR))

    @rule(ms=st.sampled_from([1_000, 60_000, 200_000, DAY, 9 * DAY, 31 * DAY]))
    def wait(self, ms: int) -> None:
        self.clock.ms += ms
        self.expire()

    @rule()
    def restart(self) -> None:
        """A clean stop and a kill look the same to what was open: its process is gone."""
        self.run(self.store.close())
        self.boot += 1
        self.store = open_store(self.folder / "a.db", self.clock, f"boot-{self.boot}")
        for one in self.open:
            one.expired = True

    @invariant()
    def the_books_agree_with_their_rows(self) -> None:
        if not hasattr(self, "store"):
            return
        assert list(self.run(self.store.verify(self.clock.ms))) == []
        wallet = self.run(self.store.load_wallet(self.ws))
        alive = [one for one in self.open if not one.expired]
        assert wallet.held_credits == sum(one.bound_credits for one in alive)
        assert 0 <= wallet.balance_credits <= self.granted

    def teardown(self) -> None:
        if hasattr(self, "store"):
            self.run(self.store.close())
        self.loop.close()
        shutil.rmtree(self.folder, ignore_errors=True)


Books.TestCase.settings = settings(
    max_examples=EXAMPLES, stateful_step_count=STEPS, deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
TestBooks = Books.TestCase
