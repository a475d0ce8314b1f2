"""Money, section 8, as tables and properties: entitlements, anniversaries, cycles, refunds."""

from dataclasses import replace
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ownkey.domain.billing import (
    Addon,
    AddonState,
    Adoption,
    Entitlement,
    PlanTerms,
    Rail,
    SubscriptionFacts,
    adopt,
    after_leaving_plan,
    anniversary,
    at_call,
    cancel_with_credits,
    card_addon,
    dispute_outcome,
    due_cycles,
    entitlement_of,
    is_live,
    keep_with_credits,
    period_index,
    refunded_credits,
    renew_with_credits,
    start_with_credits,
    with_addon,
)
from ownkey.domain.ledger import Lot, Posting, plan_give_back, plan_take_back
from ownkey.domain.workspace import EntitlementState as E

DAY = 86_400_000
GRACE = 3 * DAY
NOW = 1_795_000_000_000
TIMES = st.integers(NOW - 800 * DAY, NOW + 800 * DAY)


def ms(*date: int) -> int:
    return int(datetime(*date, tzinfo=UTC).timestamp()) * 1_000  # type: ignore[misc,arg-type]


@pytest.mark.parametrize(("state", "paid", "grace", "before", "after_paid", "after_grace"), [
    (E.INCLUDED, None, None, E.INCLUDED, E.INCLUDED, E.INCLUDED),
    (E.NONE, None, None, E.NONE, E.NONE, E.NONE),
    (E.INACTIVE, None, None, E.INACTIVE, E.INACTIVE, E.INACTIVE),
    (E.ACTIVE, NOW, NOW + GRACE, E.ACTIVE, E.GRACE, E.INACTIVE),
    (E.ACTIVE, NOW, None, E.ACTIVE, E.INACTIVE, E.INACTIVE),
    (E.ACTIVE, None, None, E.ACTIVE, E.ACTIVE, E.ACTIVE),
    (E.CANCELLING, NOW, None, E.CANCELLING, E.NONE, E.NONE),
    (E.CANCELLING, None, None, E.CANCELLING, E.CANCELLING, E.CANCELLING),
    (E.GRACE, NOW, NOW + GRACE, E.GRACE, E.GRACE, E.INACTIVE),
    (E.GRACE, None, NOW + GRACE, E.GRACE, E.GRACE, E.NONE),
    (E.GRACE, None, None, E.GRACE, E.GRACE, E.GRACE),
])
def test_what_has_ended_has_ended(
    state: E, paid: int | None, grace: int | None, before: E, after_paid: E, after_grace: E
) -> None:
    """The entitlement at the call: to the millisecond, without any job."""
    seen = [at_call(state, paid, grace, at) for at in (NOW - 1, NOW, NOW + GRACE - 1, NOW + GRACE)]

    assert seen == [before, after_paid, after_paid, after_grace]


@given(st.sampled_from(E), st.none() | TIMES, st.none() | TIMES, TIMES, TIMES)
def test_time_alone_never_improves_an_entitlement(
    state: E, paid: int | None, grace: int | None, one: int, two: int
) -> None:
    """Total over every state, and only ever downwards without a payment."""
    order = [E.INCLUDED, E.ACTIVE, E.CANCELLING, E.GRACE, E.INACTIVE, E.NONE]
    early, late = (at_call(state, paid, grace, at) for at in sorted((one, two)))

    assert order.index(early) <= order.index(late)


@pytest.mark.parametrize(("months", "expected"), [
    (0, (2024, 1, 31)), (1, (2024, 2, 29)), (2, (2024, 3, 31)), (3, (2024, 4, 30)), (12, (2025, 1, 31)),
    (13, (2025, 2, 28)), (14, (2025, 3, 31)), (49, (2028, 2, 29)),
])
def test_anniversaries_are_counted_from_the_original_day(months: int, expected: tuple[int, int, int]) -> None:
    """31 January, 28 or 29 February, 31 March."""
    assert anniversary(ms(2024, 1, 31, 13, 5, 7), months) == ms(*expected, 13, 5, 7)


@given(TIMES, st.integers(0, 60))
def test_periods_tile_time(anchor: int, months: int) -> None:
    """Each begins where the one before ends; its number is found from any instant inside it."""
    start, end = anniversary(anchor, months), anniversary(anchor, months + 1)

    assert 28 * DAY <= end - start <= 31 * DAY
    assert period_index(anchor, start) == period_index(anchor, end - 1) == months
    assert period_index(anchor, end) == months + 1


# --- the credits rail


@given(TIMES, st.lists(st.tuples(st.integers(0, 20 * DAY), st.integers(0, 1_200)), max_size=80))
def test_one_charge_a_period_and_no_debt(start: int, steps: list[tuple[int, int]]) -> None:
    """M14 for any history of jobs and balances: at most one charge a period, each covered, none for a whole period
    that was never begun while anybody looked."""
    addon = start_with_credits("ws", 500, GRACE, start)
    charged = {start}
    now = start
    for wait, free in steps:
        now += wait
        renewal = renew_with_credits(addon, free, now)
        again = renew_with_credits(renewal.addon, free, now)
        if renewal.charge_start_ms is not None:
            assert free >= 500
            assert renewal.charge_start_ms not in charged
            assert renewal.charge_start_ms <= now < renewal.addon.paid_until_ms
            charged.add(renewal.charge_start_ms)
        assert again.charge_start_ms is None
        assert again.addon == renewal.addon
        addon = renewal.addon
        at_now = entitlement_of(addon)
        working = at_call(at_now.state, at_now.paid_until_ms, at_now.grace_until_ms, now) in (E.ACTIVE, E.GRACE)
        assert working == (addon.state in (AddonState.ACTIVE, AddonState.PAST_DUE))


def test_too_few_credits_lead_to_grace_and_then_to_nothing() -> None:
    addon = start_with_credits("ws", 500, GRACE, ms(2026, 1, 31))
    due = ms(2026, 2, 28)
    owed = renew_with_credits(addon, 499, due)
    paid = renew_with_credits(owed.addon, 500, due + GRACE - 1)
    lapsed = renew_with_credits(owed.addon, 9_999, due + GRACE)

    assert (owed.addon.state, owed.charge_start_ms) == (AddonState.PAST_DUE, None)
    assert (owed.addon.paid_until_ms, owed.addon.grace_until_ms) == (due, due + GRACE)
    assert (paid.addon.state, paid.charge_start_ms, paid.addon.paid_until_ms) == (
        AddonState.ACTIVE, due, ms(2026, 3, 31)
    )
    assert (lapsed.addon.state, lapsed.charge_start_ms) == (AddonState.LAPSED, None)


def test_a_process_that_slept_charges_the_present_period_only() -> None:
    """Two anniversaries passed unseen: the month that runs is charged, on the old days."""
    addon = start_with_credits("ws", 500, GRACE, ms(2026, 1, 31))
    woken = renew_with_credits(addon, 5_000, ms(2026, 4, 2))

    assert woken.charge_start_ms == ms(2026, 3, 31)
    assert woken.addon.paid_until_ms == ms(2026, 4, 30)


def test_cancelling_with_credits() -> None:
    addon = start_with_credits("ws", 500, GRACE, NOW)
    cancelled = cancel_with_credits(addon)
    end = addon.paid_until_ms
    owed = replace(addon, state=AddonState.PAST_DUE)

    assert cancelled.state is AddonState.CANCELLING
    assert keep_with_credits(cancelled, end - 1).state is AddonState.ACTIVE
    assert keep_with_credits(cancelled, end).state is AddonState.CANCELLING
    assert renew_with_credits(cancelled, 9_999, end) .addon.state is AddonState.ENDED
    assert renew_with_credits(cancelled, 9_999, end).charge_start_ms is None
    assert cancel_with_credits(owed).state is AddonState.ENDED


# --- the card rail


def facts(**changes: object) -> SubscriptionFacts:
    base = SubscriptionFacts(
        id="sub_1", customer="cus_1", workspace_id="ws", order_id="order_1", purpose="addon", status="active",
        created_ms=NOW, period_start_ms=NOW, period_end_ms=NOW + 30 * DAY, cancel_at_ms=None,
        cancel_at_period_end=False, ended_at_ms=None, failed_payment=False, owed_since_ms=None, amount_cents=500,
        currency="usd", livemode=False,
    )
    return replace(base, **changes)  # type: ignore[arg-type]


@pytest.mark.parametrize(("changes", "state"), [
    ({}, AddonState.ACTIVE), ({"status": "trialing"}, AddonState.ACTIVE),
    ({"cancel_at_period_end": True}, AddonState.CANCELLING), ({"cancel_at_ms": NOW + DAY}, AddonState.CANCELLING),
    ({"status": "past_due"}, AddonState.PAST_DUE), ({"status": "unpaid"}, AddonState.PAST_DUE),
    ({"status": "canceled", "failed_payment": True}, AddonState.PAST_DUE),
    ({"status": "canceled", "ended_at_ms": NOW + DAY}, AddonState.ENDED), ({"status": "paused"}, AddonState.LAPSED),
    ({"status": "incomplete"}, AddonState.PENDING), ({"status": "incomplete_expired"}, AddonState.PENDING),
    ({"status": "a word of next year"}, AddonState.PENDING),
])
def test_every_status_of_a_subscription_has_its_meaning(changes: dict[str, object], state: AddonState) -> None:
    """Nothing that Stripe may say grants what was not paid."""
    addon = card_addon(facts(**changes), GRACE)
    found = entitlement_of(addon)
    now = at_call(found.state, found.paid_until_ms, found.grace_until_ms, NOW + 1)

    assert addon.state is state
    assert (now in (E.ACTIVE, E.CANCELLING, E.GRACE)) == (
        state in (AddonState.ACTIVE, AddonState.CANCELLING, AddonState.PAST_DUE)
    )


def test_grace_runs_from_the_failed_invoice() -> None:
    addon = card_addon(facts(status="past_due", owed_since_ms=NOW + 3_600_000), GRACE)

    assert (addon.paid_until_ms, addon.grace_until_ms) == (NOW, NOW + 3_600_000 + GRACE)


def test_the_newest_subscription_decides_whatever_the_order() -> None:
    """Ended ones never come back, unpaid first ones change nothing, and two that live are told apart."""
    old = card_addon(facts(status="canceled", ended_at_ms=NOW), GRACE)
    live = card_addon(facts(id="sub_2", created_ms=NOW + DAY), GRACE)
    credits = start_with_credits("ws", 500, GRACE, NOW)
    now = NOW + DAY

    def verdict(known: Addon | None, **changes: object) -> Adoption:
        return adopt(known, facts(**changes), now)

    assert verdict(None) is Adoption.TAKE
    assert verdict(None, status="incomplete") is Adoption.STALE
    assert verdict(old) is Adoption.STALE  # the same subscription, back from the dead
    assert verdict(old, id="sub_2", created_ms=NOW + DAY) is Adoption.TAKE
    assert verdict(old, id="sub_0", created_ms=NOW - DAY) is Adoption.STALE
    assert verdict(live, id="sub_2", created_ms=NOW + DAY, status="past_due") is Adoption.TAKE
    assert verdict(live, status="canceled") is Adoption.STALE
    assert verdict(live) is Adoption.SECOND
    assert verdict(credits, created_ms=NOW + DAY) is Adoption.SECOND
    assert verdict(replace(credits, state=AddonState.ENDED), created_ms=NOW + DAY) is Adoption.TAKE


# --- plans


def test_leaving_enterprise_gives_what_is_paid_or_the_days_of_grace() -> None:
    paid = card_addon(facts(), GRACE)
    lapsed = replace(paid, state=AddonState.LAPSED, paid_until_ms=NOW - DAY, grace_until_ms=NOW - 1)

    assert after_leaving_plan(paid, GRACE, NOW) == entitlement_of(paid)
    for addon in (None, lapsed, replace(paid, state=AddonState.ENDED)):
        assert after_leaving_plan(addon, GRACE, NOW) == Entitlement(E.GRACE, None, NOW + GRACE)


@pytest.mark.parametrize(("present", "by_operator", "addon_state", "expected"), [
    (Entitlement(E.INCLUDED), False, AddonState.ACTIVE, E.INCLUDED),
    (Entitlement(E.INCLUDED), False, AddonState.ENDED, E.INCLUDED),
    (Entitlement(E.ACTIVE), True, AddonState.ENDED, E.ACTIVE),
    (Entitlement(E.ACTIVE), True, AddonState.ACTIVE, E.ACTIVE),
    (Entitlement(E.NONE), True, AddonState.ACTIVE, E.ACTIVE),
    (Entitlement(E.GRACE, None, NOW + DAY), False, AddonState.ENDED, E.GRACE),
    (Entitlement(E.GRACE, None, NOW - 1), False, AddonState.ENDED, E.NONE),
    (Entitlement(E.GRACE, NOW, NOW + DAY), False, AddonState.ENDED, E.NONE),
    (Entitlement(E.ACTIVE, NOW, NOW), False, AddonState.ENDED, E.NONE),
])
def test_payments_give_way_to_the_plan_and_better_a_word_by_hand(
    present: Entitlement, by_operator: bool, addon_state: AddonState, expected: E
) -> None:
    addon = replace(card_addon(facts(), GRACE), state=addon_state)

    assert with_addon(present, by_operator, addon, NOW).state is expected


TERMS = PlanTerms("pro", False, GRACE, 1_000, True)


def test_cycle_credits_arrive_each_month_and_are_made_up_for() -> None:
    """G30: subscription credits arrive each cycle and roll over; some plans' credits expire."""
    anchor = ms(2026, 1, 31)
    first, index, granted = due_cycles(anchor, 0, 0, TERMS, anchor)
    slept, index2, _ = due_cycles(anchor, index, granted, TERMS, ms(2026, 4, 30))
    expiring, _, _ = due_cycles(anchor, index, granted, replace(TERMS, rollover=False), ms(2026, 4, 30))

    assert [(g.starts_at_ms, g.credits, g.expires_at_ms) for g in first] == [(anchor, 1_000, None)]
    assert [g.starts_at_ms for g in slept] == [ms(2026, 2, 28), ms(2026, 3, 31), ms(2026, 4, 30)]
    assert index2 == 4
    assert [(g.starts_at_ms, g.expires_at_ms) for g in expiring] == [(ms(2026, 4, 30), ms(2026, 5, 31))]


@given(st.lists(st.sampled_from([0, 100, 1_000]), min_size=1, max_size=12))
def test_going_back_and_forth_between_plans_brings_nothing_twice(plans: list[int]) -> None:
    """Within one cycle a workspace gets what its dearest plan brings, no more."""
    index = granted = total = 0
    for credits in plans:
        grants, index, granted = due_cycles(NOW, index, granted, replace(TERMS, cycle_credits=credits), NOW + DAY)
        total += sum(g.credits for g in grants)

    assert total == max(plans)


# --- taking back


@given(st.integers(1, 5_000), st.integers(1, 5_000), st.data())
def test_a_refund_takes_its_share_and_never_more(credits: int, amount: int, data: st.DataObject) -> None:
    """The whole payment is all of its credits; of parts, each is rounded in the customer's favour."""
    first = data.draw(st.integers(0, amount))
    parts = refunded_credits(credits, amount, first) + refunded_credits(credits, amount, amount - first)

    assert refunded_credits(credits, amount, amount) == credits
    assert credits - 1 <= parts <= credits


LOTS = st.lists(st.integers(0, 400), min_size=1, max_size=5)


@given(LOTS, st.integers(0, 400), st.integers(1, 800))
def test_taking_back_and_giving_back_leave_nothing_behind(sizes: list[int], held: int, amount: int) -> None:
    """Its lot, then the others, then debt; never what a call holds. Given back, every lot has its own again."""
    lots = [Lot(str(n), size, None, n) for n, size in enumerate(sizes)]
    free = sum(sizes) - held
    taken = plan_take_back(lots, "0", free, amount, "debt:ws", "sink:refunded")
    from_lots = sum(p.amount_credits for p in taken if p.source != "debt:ws")
    debt = sum(p.amount_credits for p in taken if p.source == "debt:ws")
    back = plan_give_back(taken, debt, "")

    assert from_lots + debt == amount
    assert from_lots == min(amount, max(0, free))
    own = sum(p.amount_credits for p in taken if p.source == "lot:0")
    assert own == min(amount, sizes[0], max(0, free))
    assert sorted((p.destination, p.source, p.amount_credits) for p in back) == sorted(
        (p.source, p.destination, p.amount_credits) for p in taken
    )


def test_what_was_owed_and_repaid_comes_back_as_new_credits() -> None:
    taken = (Posting("lot:1", "frozen:ws", 30), Posting("debt:ws", "frozen:ws", 70))

    assert plan_give_back(taken, 20, "lot:9") == (
        Posting("frozen:ws", "debt:ws", 20), Posting("frozen:ws", "lot:9", 50), Posting("frozen:ws", "lot:1", 30),
    )


@pytest.mark.parametrize(("status", "outcome"), [
    ("needs_response", "open"), ("under_review", "open"), ("won", "won"), ("lost", "lost"), ("prevented", "won"),
    ("warning_needs_response", "warning"), ("warning_under_review", "warning"), ("warning_closed", "warning"),
    ("appeal_under_review", "open"),
])
def test_dispute_states(status: str, outcome: str) -> None:
    assert dispute_outcome(status) == outcome


def test_live_means_that_no_second_one_may_be_bought() -> None:
    active = card_addon(facts(), GRACE)

    assert is_live(active, NOW)
    assert is_live(active, active.grace_until_ms - 1)
    assert not is_live(active, active.grace_until_ms)
    assert not is_live(replace(active, state=AddonState.ENDED), NOW)
    assert active.rail is Rail.CARD
