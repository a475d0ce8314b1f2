"""The bugs: what the mistake is, the edits that make it, and where it should be caught.

Every edit names a text that stands exactly once in its file; a test demands that it still does, so that a bug cannot
quietly stop being planted when the code around it changes.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Edit:
    """`find` stands exactly once in `file` (under `src/ownkey`) and becomes `put`."""

    file: str
    find: str
    put: str


@dataclass(frozen=True, slots=True)
class Bug:
    """`tests` are asked first, then the simulator with `seeds` runs, until one fails."""

    name: str
    mistake: str
    edits: tuple[Edit, ...]
    tests: tuple[str, ...] = ()
    seeds: int = 24


BUGS = (
    Bug(
        "guard_dropped", "The hold's update forgets to compare with the cap.",
        (Edit("store/holds.py",
              "\n  AND (cap_nusd IS NULL OR :bound <= cap_nusd - spent_nusd - held_nusd - leased_nusd)\n", "\n"),),
        ("tests/store/test_store_holds.py",),
    ),
    Bug(
        "expired_as_released", "A dead process's hold is given back instead of booked whole.",
        (Edit("store/ends.py", "hold_id, workspace_id, HoldState.EXPIRED, Basis.ESTIMATED, None,",
              "hold_id, workspace_id, HoldState.EXPIRED, Basis.ESTIMATED, 0,"),),
    ),
    Bug(
        "settled_twice", "The end of a hold is not guarded by its state.",
        (Edit("store/ends.py", "workspace_id = :workspace AND state = 'held' AND funding = 'byok'",
              "workspace_id = :workspace AND funding = 'byok'"),),
        ("tests/store/test_store_ends.py",),
    ),
    Bug(
        "retry_without_hold", "The second attempt of a call goes out under the first one's hold.",
        (Edit("gateway/complete.py", "            hold = await self._hold(log, plan, planned, tries)\n",
              "            if tries == 1:\n                hold = await self._hold(log, plan, planned, tries)\n"),),
    ),
    Bug(
        "end_in_the_newest_period", "A call that crossed the month's end is booked into the new month.",
        (Edit("store/ends.py",
              "overage_nusd = overage_nusd + ?\nWHERE id = ? AND workspace_id = ?\n",
              "overage_nusd = overage_nusd + ?\nWHERE id = (SELECT max(id) FROM cap_period WHERE id >= ? "
              "AND workspace_id = ?)\n"),),
        ("tests/store/test_store_ends.py", "tests/store/test_store_holds.py"),
    ),
    Bug(
        "threshold_above_instead_of_at", "The alert comes above the threshold, not at it.",
        (Edit("domain/caps.py", "row.spent_nusd * 100 >= row.cap_nusd * row.threshold:",
              "row.spent_nusd * 100 > row.cap_nusd * row.threshold:"),),
        ("tests/domain/test_caps.py", "tests/store/test_store_holds.py", "tests/store/test_store_ends.py",
         "tests/store/test_store_verify.py"),
    ),
    Bug(
        "reached_above_instead_of_at", "AI pauses when spend is above the cap, not at it.",
        (Edit("domain/caps.py", "return cap_nusd is not None and spent_nusd >= cap_nusd",
              "return cap_nusd is not None and spent_nusd > cap_nusd"),),
        ("tests/domain/test_caps.py",),
    ),
    Bug(
        "carry_not_used", "The paid-for rest of a credit is forgotten, so that every call is rounded up alone.",
        (Edit("domain/ledger.py", "need = max(0, charge_nusd - carry_nusd)", "need = charge_nusd"),),
        ("tests/domain/test_carry.py",),
    ),
    Bug(
        "charge_above_the_hold", "A charge is not limited to what was held.",
        (Edit("domain/ledger.py", "    if credits > held_credits:\n", "    if False:\n"),
         Edit("store/ends.py", "delivered = min(end.delivered_cost_nusd, bound)",
              "delivered = end.delivered_cost_nusd")),
        ("tests/store/test_store_ends.py",),
    ),
    Bug(
        "always_in_the_plan_only", "Always use this key is asked when a call is planned, not when credits are held.",
        (Edit("store/holds.py", "    if found is None or found[0]:\n", "    if found is None:\n"),
         Edit("store/holds.py", "\n  AND (SELECT always_use_key FROM workspace WHERE id = :workspace) = 0\n", "\n")),
        ("tests/store/test_store_holds.py",),
    ),
    Bug(
        "receipt_of_the_last_attempt", "A receipt tells the last attempt's cost instead of all attempts'.",
        (Edit("gateway/calls.py", "cost_nusd=None if len(known) < len(costs) else sum(known),",
              "cost_nusd=costs[-1] if costs else 0,"),
         Edit("store/receipt_rows.py", "cost_nusd=None if None in costs else sum(costs), charge_nusd=charge,",
              "cost_nusd=costs[-1], charge_nusd=charge,")),
    ),
    Bug(
        "expiry_takes_what_is_held", "A lot's end takes credits that a running call has reserved.",
        (Edit("store/credits.py", "amount = min(remaining, free)", "amount = remaining"),),
        ("tests/store/test_store_settings.py", "tests/store/test_store_ends.py"),
    ),
    Bug(
        "corrected_twice", "A late report corrects a hold that was corrected before.",
        (Edit("store/ends.py", "if row.state == HoldState.EXPIRED and not row.corrected:",
              "if row.state == HoldState.EXPIRED:"),
         Edit("store/ends.py", "INSERT INTO correction(", "INSERT OR REPLACE INTO correction(")),
        ("tests/store/test_store_ends.py",),
    ),
    Bug(
        "hang_up_costs_nothing", "A caller who leaves before the first content is booked as unbilled.",
        (Edit("gateway/attempt.py", 'failure = Failure(FailureClass.NETWORK, "the caller hung up")',
              'failure = Failure(FailureClass.NETWORK, "the caller hung up", unbilled=True)'),),
        ("tests/gateway/test_money_on_every_exit.py",),
    ),
    Bug(
        "max_price_omitted", "OpenRouter is not told the prices that the bound was made with.",
        (Edit("gateway/attempt.py", "max_price=max_price(plan, planned, call.shape),", "max_price=None,"),),
        ("tests/gateway/test_bounds_on_the_wire.py",),
    ),
    Bug(
        "cached_entitlement", "A workspace that was changed is still served from memory.",
        (Edit("store/core.py", "        def then(_: Any) -> None:\n            self._forget(workspace_id)\n",
              "        def then(_: Any) -> None:\n"),
         Edit("store/core.py", "            if principals:\n", "            if principals or workspace_id is None:\n")),
        ("tests/store/test_store_settings.py",),
    ),
    Bug(
        "interim_report_as_the_last", "A stream that is cut is settled by its first, interim usage report.",
        (Edit("gateway/attempt.py",
              "final = seen.usage is not None and (reported or not planned.codec.interim_usage)",
              "final = seen.usage is not None"),),
        ("tests/gateway/test_bounds_on_the_wire.py",),
    ),
    Bug(
        "failed_attempt_charged", "Credits pay for an answer that nobody got.",
        (Edit("gateway/attempt.py", "delivered = progress.committed or (failure is None and not gone)",
              "delivered = True"),),
        ("tests/gateway/test_money_on_every_exit.py", "tests/gateway/test_whole_streams.py"),
    ),
    Bug(
        "alert_after_the_month", "Spend that arrives after the month's end alerts about a month that is over.",
        (Edit("store/periods.py", "    if at_ms >= row.period.ends_at_ms:\n        return\n    for threshold in",
              "    for threshold in"),),
        ("tests/store/test_store_ends.py", "tests/store/test_store_holds.py", "tests/store/test_store_verify.py"),
    ),
    Bug(
        "rounded_down", "A cost's last fraction of a nano-dollar is dropped.",
        (Edit("domain/money.py", "return -(-numerator // denominator)", "return numerator // denominator"),),
        ("tests/domain/test_pricing.py",),
    ),
    Bug(
        "new_zone_at_once", "A change of time zone cuts the running month short.",
        (Edit("domain/caps.py",
              "    if previous is not None and at_ms < previous.ends_at_ms:\n        return previous\n",
              "    if previous is not None and at_ms < previous.ends_at_ms and timezone == previous.timezone:\n"
              "        return previous\n"),),
        ("tests/domain/test_caps.py",),
    ),
)
