"""Why, Explain and a real call tell one story: in every state the same code, and the same first gate that is shut."""

import itertools
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
from tests.gateway.gateway_kit import CHAT, MINI, Rig, refusal, whole_answer
from tests.gateway.test_routes_and_keys import TRIAGE, grant
from tests.store.store_kit import ACTOR, NOV, USD, credential, dek

from ownkey.control.gates import GateControl, GateInputs, GateName, GateState, TaskGates, task_gates
from ownkey.domain.booking import CapFigures, MoneyView
from ownkey.domain.entitlements import payer_state
from ownkey.domain.money import parse_usd_nusd
from ownkey.domain.pricing import ModelPrice, PriceBook, Rate
from ownkey.domain.product import CreditRules, Payers, Plan, Product, RoutingLimits, Task
from ownkey.domain.refusals import Code
from ownkey.domain.routing import Entitled, KeyState, PayerState, decide
from ownkey.domain.workspace import CredentialStatus, EntitlementState, Health, WorkspaceState

TASK = Task("chat", "Chat", "chat", (MINI,))
ORDER = list(GateName)
STATES = [
    PayerState(*found) for found in itertools.product(
        Payers, Entitled, (True, False), KeyState, (True, False), (True, False), (True, False), (True, False),
        (True, False),
    )
]


def product(payers: Payers) -> Product:
    plans = {"pro": Plan("pro", "Pro", "addon", minimum_balance_credits=10)}
    return Product(
        "Test", "app-builder", payers, {"chat": TASK}, plans, "pro", ("openai",), RoutingLimits(),
        CreditRules(10_000_000, 0), "https://app.test/{flow}",
    )


PRICES = PriceBook(1, "test", {
    (provider, name): ModelPrice(provider, name, {"input": (Rate(0, 1_000),), "output": (Rate(0, 1_000),)})
    for provider, name in (("openrouter", MINI), ("openai", "gpt-4.1-mini"))
})
ENTITLED = {
    Entitled.OK: EntitlementState.ACTIVE, Entitled.NONE: EntitlementState.NONE,
    Entitled.INACTIVE: EntitlementState.INACTIVE,
}


def inputs_of(state: PayerState) -> GateInputs:
    """A workspace and its money that are in this state."""
    credentials = {}
    if state.key is not KeyState.MISSING:
        status = CredentialStatus.DISABLED if state.key is KeyState.DISABLED else CredentialStatus.ENABLED
        credentials["openrouter"] = credential(
            "ws_a", "openrouter", status=status, undecryptable=state.key is KeyState.UNDECRYPTABLE
        )
    if state.direct_usable:
        credentials["openai"] = credential("ws_a", "openai")
    workspace = WorkspaceState(
        "ws_a", "A", "a", "pro", "active", "UTC", ENTITLED[state.entitled], state.always, state.credits_if_key_fails,
        None, "fallback", {}, {}, credentials, dek(), NOV,
    )
    balance = 5 if state.balance_low else 50
    cap = CapFigures("2026-11", 0 if state.cap_paused else USD, 0, 0, NOV, state.cap_paused)
    held = balance if state.credits_short else 0
    return GateInputs(
        product(state.payers), workspace, MoneyView(state.cap_paused, True, balance, held, 0, cap), PRICES,
        lambda provider, model, version: False, True, NOV,
    )


def test_every_state_of_the_payer_decision_shuts_the_gate_that_the_decision_refuses_at() -> None:
    """X7, M13: in all 1,536 states the first shut gate has the decision's own code, none where it pays."""
    assert len(STATES) == 1536
    for state in STATES:
        inputs = inputs_of(state)
        derived = payer_state(
            inputs.product, inputs.workspace, inputs.money, direct_usable=state.direct_usable,
            credits_short=state.credits_short,
        )
        decision = decide(derived)
        found = task_gates(inputs, TASK)
        if state.payers is Payers.WITH_CREDITS:
            assert derived == state
        expected = decision.refusal

        assert found.row == decision.row, state
        assert (None if found.refusal is None else found.refusal.code) == expected, state
        assert [gate.name for gate in found.gates] == ORDER[1:], state
        assert all((gate.refusal is not None) is (gate.state is GateState.FAIL) for gate in found.gates)
        assert all(gate.sentence for gate in found.gates)


def test_gates_behind_the_first_shut_one_are_told_as_they_are() -> None:
    """A paused cap behind a missing key: both are shut, and the first is the one to put right."""
    state = PayerState(Payers.BYOK_ONLY, Entitled.NONE, False, KeyState.MISSING, False, False, True, True, False)
    found = task_gates(inputs_of(state), TASK)

    shut = [gate.name for gate in found.gates if gate.state is GateState.FAIL]
    assert shut == [GateName.PLAN, GateName.PAYER, GateName.CAP]
    assert found.first is not None
    assert found.first.refusal is not None
    assert found.first.refusal.flow == "addon"


def test_no_gate_says_an_amount_or_a_hint() -> None:
    """Members read these sentences: whatever the state, no digit of money and no key."""
    for state in STATES[::7]:
        for gate in task_gates(inputs_of(state), TASK).gates:
            assert "US$" not in gate.sentence
            assert "…" not in gate.sentence


# --- real calls


async def why(rig: Rig, workspace: str, task: str) -> TaskGates:
    control = GateControl(rig.store, rig.store, rig.store, rig.clock, rig.product)
    found = await rig.store.load_workspace(workspace)
    assert found is not None
    return next(one for one in await control.show(found) if one.task.name == task)


async def stories(rig: Rig, workspace: str, body: Mapping[str, Any], task: str) -> tuple[str, str, str]:
    """What Why, Explain and then the call itself say; "ok" for an answer."""
    gates = await why(rig, workspace, task)
    dry = (await rig.call(workspace, body, path="/v1/explain")).json
    caller = await rig.call(workspace, body)
    real = "ok" if caller.status == 200 else caller.error["code"]
    told = "ok" if gates.refusal is None else gates.refusal.code.value
    return told, "ok" if dry["would"] == "answer" else dry["code"], real


DESK_STATES = {
    "ready": (("openrouter",), {}, {}, "ok"),
    "no key": ((), {}, {}, "openrouter_key_required"),
    "direct only": (("openai",), {}, {}, "openrouter_key_required"),
    "off": (("openrouter",), {"features": {"auto_triage": False}}, {}, "feature_disabled"),
    "off and no key": ((), {"features": {"auto_triage": False}}, {}, "feature_disabled"),
    "suspended": (("openrouter",), {}, {"status": "suspended"}, "forbidden"),
    "suspended and off": (("openrouter",), {"features": {"auto_triage": False}}, {"status": "suspended"}, "forbidden"),
    "not entitled": (("openrouter",), {"entitlement": EntitlementState.NONE}, {}, "addon_required"),
    "unpaid": (("openrouter",), {"entitlement": EntitlementState.INACTIVE}, {}, "addon_inactive"),
    "in grace": (("openrouter",), {"entitlement": EntitlementState.GRACE}, {}, "ok"),
}


@pytest.mark.parametrize("name", DESK_STATES)
async def test_a_support_desk_tells_one_story(desk: Rig, name: str) -> None:
    """X7: Why and Explain say before the call what the call says."""
    keys, made, settings, expected = DESK_STATES[name]
    workspace = await desk.workspace("a", *keys, **made)
    if settings:
        await desk.store.save_settings(workspace, settings, at_ms=NOV, actor=ACTOR)
    desk.script(whole_answer())

    assert await stories(desk, workspace, TRIAGE, "auto_triage") == (expected, expected, expected)
    await desk.check()


@pytest.mark.parametrize(("cap_nusd", "expected"), [
    (None, "ok"), (10 * USD, "ok"), (0, "ai_paused"), (1_000, "spend_cap_too_low"),
])
async def test_a_cap_tells_one_story(desk: Rig, cap_nusd: int | None, expected: str) -> None:
    """X1, X7: Explain reads the cap as the hold does; Why knows what is paused, and leaves a call's size to Explain."""
    workspace = await desk.workspace("a", "openrouter")
    await desk.cap(workspace, cap_nusd)
    desk.script(whole_answer())
    told, dry, real = await stories(desk, workspace, TRIAGE, "auto_triage")

    assert (dry, real) == (expected, expected)
    assert told == ("ok" if expected == "spend_cap_too_low" else expected)


async def test_a_limit_that_is_lowered_to_fit_is_said_before(desk: Rig) -> None:
    """What Explain says would be held is what the call then holds, to the nano-USD."""
    workspace = await desk.workspace("a", "openrouter")
    await desk.cap(workspace, 400_000)
    body = {**CHAT, "max_tokens": 4_000}
    desk.script(whole_answer())
    dry = (await desk.call(workspace, body, path="/v1/explain")).json
    await desk.call(workspace, body)
    attempt = (await desk.receipt(workspace))["attempts"][0]

    assert dry["hold"]["shrunk"] is attempt["shrunk"] is True
    assert dry["hold"]["output_limit"] == attempt["output_limit"]
    assert parse_usd_nusd(dry["hold"]["usd"]) == attempt["bound_nusd"]


async def test_a_key_that_is_known_to_fail_is_the_route_gate(desk: Rig) -> None:
    """X6, X7: the saved key was refused; the next call gets its code, and Why names the key's card."""
    workspace = await desk.workspace("a", "openrouter")
    desk.script(refusal(401))
    await desk.call(workspace, TRIAGE)
    await desk.call(workspace, TRIAGE)
    gates = await why(desk, workspace, "auto_triage")

    assert await stories(desk, workspace, TRIAGE, "auto_triage") == ("credential_rejected",) * 3
    assert gates.first is not None
    assert (gates.first.name, gates.first.refusal and gates.first.refusal.flow) == (
        GateName.ROUTE, "credential:openrouter"
    )


async def test_a_direct_key_stands_in_for_a_failing_openrouter_key(desk: Rig) -> None:
    """The route gate is open while one route of the task is."""
    workspace = await desk.workspace("a", "openrouter", "openai")
    saved = await desk.store.load_workspace(workspace)
    assert saved is not None
    desk.store.mark(saved.credentials["openrouter"], Health.NO_FUNDS, "402", desk.clock.now_ms())
    desk.script(whole_answer())
    await desk.call(workspace, TRIAGE)

    assert await stories(desk, workspace, TRIAGE, "auto_triage") == ("ok", "ok", "ok")


async def test_a_model_without_a_price_is_silent_only_under_a_cap(desk: Rig) -> None:
    """`unpriced_model` where a cap applies; without one the call runs, its cost unknown."""
    task = Task("auto_triage", "Triage", "chat", ("mistralai/mystery-1",))
    changed = replace(desk.product, tasks={**desk.product.tasks, "auto_triage": task})
    desk.product = changed
    desk.gateway._house = desk.explainer._house = replace(desk.house, product=changed)
    workspace = await desk.workspace("a", "openrouter")
    desk.script(whole_answer())

    assert await stories(desk, workspace, TRIAGE, "auto_triage") == ("ok", "ok", "ok")
    await desk.cap(workspace, USD)
    assert await stories(desk, workspace, TRIAGE, "auto_triage") == ("unpriced_model",) * 3


BUILDER_TASK = {"model": "task:name_project", "messages": CHAT["messages"]}
# name → (plan, entitlement, key, credits, settings, expected)
Row = tuple[str, EntitlementState, str, int, Mapping[str, Any], str]
INCLUDED, NONE, ACTIVE, INACTIVE = (
    EntitlementState.INCLUDED, EntitlementState.NONE, EntitlementState.ACTIVE, EntitlementState.INACTIVE
)
ON, IF_FAILS = {"always_use_key": True}, {"credits_if_key_fails": True}
BUILDER_STATES: Mapping[str, Row] = {
    "included": ("enterprise", INCLUDED, "enabled", 0, {}, "ok"),
    "included, ON": ("enterprise", INCLUDED, "enabled", 0, ON, "ok"),
    "ON, disabled": ("enterprise", INCLUDED, "disabled", 100, ON, "always_use_key_unavailable"),
    "ON, missing": ("enterprise", INCLUDED, "missing", 100, ON, "always_use_key_unavailable"),
    "ON, undecryptable": ("enterprise", INCLUDED, "undecryptable", 100, ON, "always_use_key_unavailable"),
    "ON, not entitled": ("free", NONE, "enabled", 100, ON, "addon_required"),
    "ON, unpaid": ("free", INACTIVE, "enabled", 100, ON, "addon_inactive"),
    "active, balance low": ("free", ACTIVE, "enabled", 9, {}, "minimum_balance_required"),
    "active, balance at the minimum": ("free", ACTIVE, "enabled", 10, {}, "ok"),
    "disabled, credits pay": ("free", ACTIVE, "disabled", 9, {}, "ok"),
    "disabled, no credits": ("free", ACTIVE, "disabled", 0, {}, "insufficient_credits"),
    "missing, credits pay": ("free", NONE, "missing", 50, {}, "ok"),
    "missing, no credits": ("free", NONE, "missing", 0, {}, "insufficient_credits"),
    "unpaid, credits pay": ("free", INACTIVE, "enabled", 50, {}, "ok"),
    "undecryptable, no stand-in": ("enterprise", INCLUDED, "undecryptable", 50, {}, "openrouter_key_required"),
    "undecryptable, credits stand in": ("enterprise", INCLUDED, "undecryptable", 50, IF_FAILS, "ok"),
    "sick, credits stand in": ("enterprise", INCLUDED, "sick", 50, IF_FAILS, "ok"),
    "sick, credits short": ("enterprise", INCLUDED, "sick", 0, IF_FAILS, "credential_out_of_funds"),
    "sick, credits' limit used": (
        "enterprise", INCLUDED, "sick", 50, {**IF_FAILS, "credits_if_key_fails_limit": 0}, "credential_out_of_funds"
    ),
}


async def in_state(rig: Rig, row: Row, platform: bool = True) -> str:
    plan, entitlement, key, credits, settings, _ = row
    if platform:
        await rig.workspace("platform", "openrouter", kind="platform")
    keys = () if key == "missing" else ("openrouter",)
    workspace = await rig.workspace("a", *keys, entitlement=entitlement, plan=plan)
    if credits:
        await grant(rig, workspace, credits)
    if settings:
        await rig.store.save_settings(workspace, settings, at_ms=NOV, actor=ACTOR)
    saved = await rig.store.load_workspace(workspace)
    assert saved is not None
    match key:
        case "disabled":
            await rig.store.set_credential_status(
                workspace, "openrouter", CredentialStatus.DISABLED, at_ms=NOV, actor=ACTOR
            )
        case "undecryptable":
            rig.store.mark_undecryptable(saved.credentials["openrouter"], NOV)
            await rig.store.save_settings(workspace, {"timezone": "UTC"}, at_ms=NOV, actor=ACTOR)
        case "sick":
            later = rig.clock.now_ms() + 3_600_000
            rig.store.mark(
                saved.credentials["openrouter"], Health.NO_FUNDS, "402", rig.clock.now_ms(), resets_at_ms=later
            )
            await rig.store.save_settings(workspace, {"timezone": "UTC"}, at_ms=NOV, actor=ACTOR)
    return workspace


@pytest.mark.parametrize("name", BUILDER_STATES)
async def test_an_app_builder_tells_one_story(builder: Rig, name: str) -> None:
    """X7, G17 to G22: whoever pays, Why and Explain say it before."""
    row = BUILDER_STATES[name]
    workspace = await in_state(builder, row)
    if row[2] == "sick" and row[5] != "ok":
        # One call in a while finds out whether the key still fails; this one has just done so.
        builder.script(refusal(402))
        await builder.call(workspace, BUILDER_TASK)
    builder.script(whole_answer())

    assert await stories(builder, workspace, BUILDER_TASK, "name_project") == (row[5],) * 3
    await builder.check()


async def test_credits_without_the_platforms_key_are_the_route_gate(builder: Rig) -> None:
    """Credits pay, and there is no key to spend them with: our side, and said so."""
    workspace = await in_state(builder, BUILDER_STATES["missing, credits pay"], platform=False)
    gates = await why(builder, workspace, "name_project")

    assert await stories(builder, workspace, BUILDER_TASK, "name_project") == (Code.PROVIDER_UNAVAILABLE.value,) * 3
    assert gates.first is not None
    assert gates.first.name is GateName.ROUTE


# --- what each failure leads to


async def test_explain_says_what_each_failure_leads_to_as_calls_then_do(desk: Rig) -> None:
    """X7: a direct key that is refused leads to OpenRouter; a bad request to nobody, with its code."""
    workspace = await desk.workspace("a", "openrouter", "openai")
    dry = (await desk.call(workspace, CHAT, path="/v1/explain")).json
    after = {cls: one for one in dry["attempts"][0]["after"] for cls in one["failures"]}
    last = {cls: one for one in dry["attempts"][-1]["after"] for cls in one["failures"]}
    desk.script(refusal(401), whole_answer())
    await desk.call(workspace, CHAT)
    followed = [attempt["provider"] for attempt in (await desk.receipt(workspace))["attempts"]]

    assert [attempt["provider"] for attempt in dry["attempts"]] == followed == ["openai", "openrouter"]
    assert (after["auth"]["next"], after["overload"]["next"]) == (2, 2)
    assert (after["request"]["next"], after["request"]["code"]) == (None, "bad_request")
    assert (last["auth"]["next"], last["auth"]["code"]) == (None, "credential_rejected")
    assert (last["overload"]["again"], last["overload"]["code"]) == (True, "provider_unavailable")
    assert len(after) == len(last) == 12


async def test_explain_follows_a_workspaces_wish_to_fail_with_a_direct_key(desk: Rig) -> None:
    """`on_direct_auth_failure = fail`: a refused direct key ends the call."""
    workspace = await desk.workspace("a", "openrouter", "openai")
    await desk.store.save_settings(workspace, {"on_direct_auth_failure": "fail"}, at_ms=NOV, actor=ACTOR)
    dry = (await desk.call(workspace, CHAT, path="/v1/explain")).json
    after = {cls: one for one in dry["attempts"][0]["after"] for cls in one["failures"]}

    assert (after["auth"]["next"], after["auth"]["code"]) == (None, "credential_rejected")
    assert after["overload"]["next"] == 2


async def test_explain_takes_nothing(desk: Rig) -> None:
    """No provider call, no hold, no receipt, no row."""
    workspace = await desk.workspace("a", "openrouter", "openai")
    await desk.cap(workspace, USD)
    desk.script(whole_answer())
    for _ in range(3):
        await desk.call(workspace, CHAT, path="/v1/explain")

    assert desk.upstream.sent == []
    assert desk.store._near.execute("SELECT count(*) FROM hold").fetchone() == (0,)
    assert desk.store._near.execute("SELECT count(*) FROM receipt").fetchone() == (0,)
