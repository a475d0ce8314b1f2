"""What a change of rules is told as: a cap of nothing, the platform's own keys, a minimum balance that moves."""

from typing import Any

import pytest
from store_kit import ACTOR, DAY, NOV, Clock, add_workspace, credential

from ownkey.domain.notices import Kind, Place, write_notice
from ownkey.domain.records import Actor
from ownkey.domain.workspace import EntitlementState
from ownkey.store import SQLiteStore

PLACE = Place("Acme", "Desk", with_credits=True, entry_url="https://desk.test/{flow}")


async def told(store: SQLiteStore, workspace: str, *kinds: str) -> list[dict[str, Any]]:
    """Events, oldest first."""
    rows = [row for row in await store.load_outbox(workspace, limit=1_000) if row["channel"] == "event"]
    return [{"kind": r["kind"], **r["payload"]} for r in reversed(rows) if not kinds or r["kind"] in kinds]


async def test_a_cap_of_nothing_is_told_in_one_sane_mail(store: SQLiteStore) -> None:
    """T23: no "80% of US$0": AI is off, because somebody wished so, and the month's end changes nothing."""
    ws = await add_workspace(store)
    await store.save_cap(ws.id, 0, 80, at_ms=NOV, actor=ACTOR)

    (row,) = await told(store, ws.id)
    notice = write_notice(Kind(row["kind"]), row, PLACE)

    assert row["kind"] == "ai_paused"
    assert notice.subject == "Acme: AI is off, the spend cap is US$0"
    assert notice.headline == "AI is off: this month's spend cap was set to US$0, which allows no calls."
    assert notice.calls_now == "AI calls are refused until the cap is raised or removed. Everything else goes on."
    assert "Resets" not in dict(notice.facts)
    assert "80%" not in repr(notice)
    assert [(a["threshold"], a["state"]) for a in await store.load_alerts(ws.id)] == [(80, "silent"), (100, "due")]
    assert list(await store.verify(NOV)) == []


async def test_the_platforms_own_keys_are_no_news_of_a_workspace(store: SQLiteStore) -> None:
    """The host hears of its customers' changes; the deployment's own are in the audit log."""
    platform = await add_workspace(store, "platform", kind="platform")
    await store.save_credential(credential(platform.id), at_ms=NOV, actor=ACTOR)
    await store.set_credential_status(platform.id, "openrouter", "disabled", at_ms=NOV, actor=ACTOR)
    await store.delete_credential(platform.id, "openrouter", at_ms=NOV, actor=ACTOR)
    tenant = await add_workspace(store, "tenant")
    await store.save_credential(credential(tenant.id, id="cred_t"), at_ms=NOV, actor=ACTOR)

    assert await told(store, platform.id) == []
    assert [row["kind"] for row in await told(store, tenant.id)] == ["payer_changed"]
    actions = [row["action"] for row in await store.load_audit(platform.id, limit=10)]
    assert actions[:3] == ["credential.deleted", "credential.status", "credential.saved"]


async def paying(
    store: SQLiteStore, name: str, credits: int, plan: str = "pro",
    entitlement: EntitlementState = EntitlementState.ACTIVE,
) -> str:
    ws = await add_workspace(store, name, plan=plan, entitlement=entitlement)
    await store.save_credential(credential(ws.id, id=f"cred_{name}"), at_ms=NOV, actor=ACTOR)
    if credits:
        await store.grant_credits(
            ws.id, credits, "topup", expires_at_ms=None, idem_key=f"g{name}", at_ms=NOV, actor=ACTOR
        )
    return ws.id


async def test_a_changed_minimum_tells_whom_it_stops_and_whom_it_lets_go(store: SQLiteStore, clock: Clock) -> None:
    """Each crossing once: not again at the next start, and nothing to those whose calls it does not touch."""
    await store.save_minimums({"pro": 10, "basic": 10})
    names = {"rich": 500, "middle": 60, "basic": 60, "included": 60}
    ids = {
        name: await paying(
            store, name, credits, "basic" if name == "basic" else "pro",
            EntitlementState.INCLUDED if name == "included" else EntitlementState.ACTIVE,
        ) for name, credits in names.items()
    }
    before = {name: len(await told(store, ident)) for name, ident in ids.items()}

    async def news() -> dict[str, list[tuple[str, int]]]:
        return {
            name: [(row["kind"], row["minimum_credits"]) for row in (await told(store, ident))[before[name]:]]
            for name, ident in ids.items()
        }

    for credits in (100, 100, 200, 50, 50):
        clock.ms += DAY
        await store.save_minimums({"pro": credits, "basic": 10})

    assert await news() == {
        "rich": [], "middle": [("balance_low", 100), ("balance_restored", 50)], "basic": [], "included": [],
    }


async def test_a_minimum_that_is_dropped_is_told_without_a_number(store: SQLiteStore, clock: Clock) -> None:
    await store.save_minimums({"pro": 100})
    ident = await paying(store, "poor", 5)
    clock.ms += DAY
    await store.save_minimums({})

    row = (await told(store, ident))[-1]

    assert (row["kind"], row["minimum_credits"]) == ("balance_restored", 0)
    assert write_notice(Kind.BALANCE_RESTORED, row, PLACE).headline == (
        "Calls with your own key need no minimum balance any more."
    )


async def test_a_plan_with_another_minimum_crosses_too(store: SQLiteStore) -> None:
    """The plan was changed: below its minimum calls stop, and on a plan with a smaller one they go on."""
    await store.save_minimums({"pro": 100, "basic": 10})
    ident = await paying(store, "mover", 60)
    await store.save_settings(ident, {"plan": "basic"}, at_ms=NOV + 1, actor=ACTOR)
    await store.save_settings(ident, {"plan": "pro"}, at_ms=NOV + 2, actor=ACTOR)

    found = await told(store, ident, "balance_low", "balance_restored")

    assert [(row["kind"], row["minimum_credits"]) for row in found][-2:] == [
        ("balance_restored", 10), ("balance_low", 100),
    ]


async def test_a_key_that_is_disconnected_is_no_balance_restored(store: SQLiteStore) -> None:
    """The minimum stops nothing any more because no call would go that way: that is no good news."""
    await store.save_minimums({"pro": 100})
    ident = await paying(store, "gone", 5)
    await store.delete_credential(ident, "openrouter", at_ms=NOV + 1, actor=ACTOR)

    assert await told(store, ident, "balance_restored") == []


@pytest.mark.parametrize("change", ["disable", "disconnect"])
async def test_always_goes_off_with_the_key_in_one_transaction(store: SQLiteStore, change: str) -> None:
    """One settings version, one notice with both changes, the audit row that verify reads, and credits may pay."""
    ws = await add_workspace(store)
    await store.save_credential(credential(ws.id), at_ms=NOV, actor=ACTOR)
    await store.save_settings(ws.id, {"always_use_key": True}, at_ms=NOV, actor=ACTOR)
    before, actor = len(await told(store, ws.id)), Actor("portal", "ann")

    if change == "disable":
        await store.set_credential_status(
            ws.id, "openrouter", "disabled", at_ms=NOV + 1, actor=actor, always_off=True
        )
    else:
        await store.delete_credential(ws.id, "openrouter", at_ms=NOV + 1, actor=actor, always_off=True)

    after = await store.load_workspace(ws.id)
    assert after is not None
    assert not after.always_use_key
    (row,) = (await told(store, ws.id))[before:]
    assert {c["what"] for c in row["changes"]} == {"always_use_key", "credential"}
    assert (row["kind"], row["payer_after"]) == ("payer_changed", "credits")
    actions = [row["action"] for row in await store.load_audit(ws.id, limit=2)]
    assert "workspace.changed" in actions
    assert list(await store.verify(NOV + 1)) == []
