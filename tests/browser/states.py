"""Every page and state that is looked at: what it is called, and how to get there.

A state is data. `prepare` sets a workspace of its own up through the API, the emulated provider and, where nothing else
leads there, the database; `act` then does in the browser what a person does. Whoever writes a page adds rows here: the
matrix, the screenshots and the contact sheets follow.

    State("spend", "paused", paused, shows="text=AI paused")
"""

import sqlite3
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from playwright.sync_api import Frame
from tests.browser.portal_world import PRESETS, PortalWorld, Preset, Visitor
from tests.deployment import TestWorkspace

Prepare = Callable[[PortalWorld, TestWorkspace], None]
Act = Callable[[Frame, PortalWorld], None]
Path = str | Callable[[PortalWorld, TestWorkspace], str]

DESK: tuple[Preset, ...] = ("support-desk",)
BUILDER: tuple[Preset, ...] = ("app-builder",)
HOSTILE = '<img src=x onerror=alert(1)>"\'& ‮gnp.exe 𝕬𝖈𝖒𝖊 ' + "long" * 30
"""What somebody may call a thing: markup, quotes, a right-to-left override, and no end."""


def nothing(world: PortalWorld, workspace: TestWorkspace) -> None:
    """A workspace as it is made."""


@dataclass(frozen=True, slots=True)
class State:
    """`page` names the contact sheet. `path` "" is the page's own. `shows` is a selector that is visible once the state
    is reached. `fields` are the new workspace's. `passing`: it lasts for seconds, or changes the workspace, so it is
    made anew for each look. `short`: part of every test run, not only of the whole matrix. `status` is the answer's.
    `framed`: it can be reached in a frame too."""

    page: str
    name: str
    prepare: Prepare = nothing
    path: Path = ""
    act: Act | None = None
    shows: str = ""
    presets: tuple[Preset, ...] = PRESETS
    role: str = "owner"
    status: int = 200
    fields: Mapping[str, Any] = field(default_factory=dict)
    passing: bool = False
    short: bool = False
    framed: bool = True

    @property
    def key(self) -> str:
        return f"{self.page}-{self.name}"

    def address(self, world: PortalWorld, workspace: TestWorkspace) -> str:
        if callable(self.path):
            return self.path(world, workspace)
        return self.path or f"/portal/{self.page}"


def reach(visitor: Visitor, state: State, *, framed: bool = False, theme: str = "auto") -> Frame:
    """Bring a browser there; returns the document. Raises AssertionError where the page is not what it should be."""
    world = visitor.world
    workspace = world.prepared(state.key, state.prepare, dict(state.fields))
    path = state.address(world, workspace)
    if framed:
        people = {"owner": "ada", "admin": "ben", "member": "cho", "viewer": "dee"}
        visitor.open_framed(workspace, person=people[state.role], theme="" if theme == "auto" else theme)
        visitor.goto(path)
    else:
        if path.startswith("/console"):
            visitor.open_console(state.role)
        else:
            visitor.open(workspace, role=state.role, theme=theme)
        answer = visitor.page.goto(world.url + path)
        assert answer is not None
        assert answer.status == state.status, f"{path} answered {answer.status}: {visitor.page.title()}"
    shown = visitor.shown
    if state.act is not None:
        state.act(shown, world)
    if state.shows:
        shown.locator(state.shows).first.wait_for(timeout=10_000)
    return shown


# --- how a workspace gets somewhere


def openrouter(world: PortalWorld, workspace: TestWorkspace) -> None:
    workspace.save_key("openrouter", world.key("openrouter"), label="Production")


def with_anthropic(world: PortalWorld, workspace: TestWorkspace) -> None:
    openrouter(world, workspace)
    workspace.save_key("anthropic", world.key("anthropic"), label="Claude, direct")


def hostile(world: PortalWorld, workspace: TestWorkspace) -> None:
    """Every text that a customer or a caller may choose, as bad as it gets."""
    workspace.settings(name=HOSTILE[:60].replace("‮", ""))
    workspace.save_key("openrouter", world.key("openrouter"), label=HOSTILE[:60].replace("‮", ""))
    ask(workspace, project=HOSTILE[:40].encode("ascii", "ignore").decode())


def not_verified(world: PortalWorld, workspace: TestWorkspace) -> None:
    """Saved although the provider was not reached."""
    key = world.key("openrouter")
    world.deployment.emulator.add_fault({"name": "cut_before_headers"}, None, provider="openrouter", key=key)
    workspace.save_key("openrouter", key, save_anyway=True)


def waiting(world: PortalWorld, workspace: TestWorkspace) -> None:
    """A direct key that was saved before OpenRouter's."""
    workspace.save_key("anthropic", world.key("anthropic"))


def direct_failing(world: PortalWorld, workspace: TestWorkspace) -> None:
    """A direct key that was revoked at its provider; OpenRouter answers."""
    with_anthropic(world, workspace)
    key = world.key("anthropic")
    workspace.save_key("anthropic", key)
    world.deployment.emulator.add_key("anthropic", key, kind="revoked")
    _until(world, workspace, "anthropic", "unhealthy", model="anthropic/claude-haiku-4.5")


def credits_step_in(world: PortalWorld, workspace: TestWorkspace) -> None:
    """The key fails, and credits pay for what it does not."""
    world.deployment.manage(
        "POST", f"workspaces/{workspace.id}/credits/grants", {"amount_credits": 1_000},
        token=world.deployment.operator,
    )
    unhealthy(world, workspace)
    ask(workspace)


def always_on(world: PortalWorld, workspace: TestWorkspace) -> None:
    openrouter(world, workspace)
    workspace.settings(always_use_key=True)


def stopped_call(world: PortalWorld, workspace: TestWorkspace) -> None:
    stopped(world, workspace)
    ask(workspace)


def direct_call(world: PortalWorld, workspace: TestWorkspace) -> None:
    with_anthropic(world, workspace)
    ask(workspace, model="anthropic/claude-haiku-4.5", conversation="ticket-1", task="draft_reply")


def all_failed(world: PortalWorld, workspace: TestWorkspace) -> None:
    """Anthropic cannot be reached, and OpenRouter is overloaded."""
    for provider, fault in (("openrouter", "overloaded"), ("anthropic", {"name": "cut_before_headers"})):
        key = world.key(provider)
        workspace.save_key(provider, key)
        world.deployment.emulator.add_fault(fault, None, provider=provider, key=key, method="POST")
    ask(workspace, model="anthropic/claude-haiku-4.5")


def cut_stream(world: PortalWorld, workspace: TestWorkspace) -> None:
    """The provider hangs up in the middle of its answer."""
    key = world.key("openrouter")
    workspace.save_key("openrouter", key)
    world.deployment.emulator.add_fault({"name": "cut_after", "events": 3}, None, provider="openrouter", key=key)
    ask(workspace, stream=True)


def tested(world: PortalWorld, workspace: TestWorkspace) -> None:
    openrouter(world, workspace)
    world.manage("POST", f"workspaces/{workspace.id}/credentials/openrouter/test", {})


def disabled(world: PortalWorld, workspace: TestWorkspace) -> None:
    openrouter(world, workspace)
    world.manage("POST", f"workspaces/{workspace.id}/credentials/openrouter/disable", {})


def stopped(world: PortalWorld, workspace: TestWorkspace) -> None:
    """Always use this key, and no key that can be used."""
    openrouter(world, workspace)
    workspace.settings(always_use_key=True)
    world.manage("POST", f"workspaces/{workspace.id}/credentials/openrouter/disable", {})


def unhealthy(world: PortalWorld, workspace: TestWorkspace) -> None:
    """The key was revoked at the provider, and calls have found out."""
    openrouter(world, workspace)
    key = world.key("openrouter")
    workspace.save_key("openrouter", key)
    world.deployment.emulator.add_key("openrouter", key, kind="revoked")
    _until(world, workspace, "openrouter", "unhealthy")


def undecryptable(world: PortalWorld, workspace: TestWorkspace) -> None:
    """No door leads here: the row is marked as the gateway marks it when the vault cannot open it. The change of a
    setting makes the server read the workspace anew."""
    openrouter(world, workspace)
    with sqlite3.connect(next((world.deployment.home / "data").glob("*.db")), timeout=10) as books:
        books.execute("UPDATE credential SET undecryptable = 1 WHERE workspace_id = ?", (workspace.id,))
    workspace.settings(name="Undecryptable")


def past_due(world: PortalWorld, workspace: TestWorkspace) -> None:
    """The plan that included the key is over, the days of grace are not."""
    workspace.settings(plan="enterprise")
    openrouter(world, workspace)
    workspace.settings(plan="free")


def parked(world: PortalWorld, workspace: TestWorkspace) -> None:
    """And now they are."""
    past_due(world, workspace)
    world.deployment.manage(
        "PUT", f"workspaces/{workspace.id}/entitlement", {"entitlement": "inactive"}, token=world.deployment.operator
    )


def busy(world: PortalWorld, workspace: TestWorkspace) -> None:
    """A day's calls, of several tasks, projects and conversations, some refused and one rescued."""
    openrouter(world, workspace)
    tasks = {"support-desk": ("auto_triage", "draft_reply"), "app-builder": ("build_app", "edit_code")}[world.preset]
    for number in range(6):
        odd = number % 2
        ask(workspace, project=("shop", "blog")[odd], conversation=f"ticket-{number % 3}", task=tasks[odd])
    if world.preset == "support-desk":
        anthropic = world.key("anthropic")
        workspace.save_key("anthropic", anthropic)
        world.deployment.emulator.add_fault("overloaded", 2, provider="anthropic", key=anthropic)
        ask(workspace, model="anthropic/claude-haiku-4.5", conversation="ticket-1")
        ask(workspace, model="anthropic/claude-haiku-4.5", conversation="ticket-2")
    ask(workspace, model="nobody/has-this-model")


def capped(world: PortalWorld, workspace: TestWorkspace) -> None:
    busy(world, workspace)
    workspace.set_cap("25.00")


def paused(world: PortalWorld, workspace: TestWorkspace) -> None:
    """The cap is at what was spent."""
    busy(world, workspace)
    workspace.set_cap(world.manage("GET", f"workspaces/{workspace.id}/cap")["spent_usd"])
    ask(workspace)


def no_key_but_calls(world: PortalWorld, workspace: TestWorkspace) -> None:
    ask(workspace)


def subscribed(world: PortalWorld, workspace: TestWorkspace) -> None:
    """The add-on, paid on the emulated checkout."""
    assert world.stripe is not None
    step = world.manage("POST", f"workspaces/{workspace.id}/billing/subscribe", {})
    world.stripe.pay(step["url"])
    until = time.monotonic() + 10
    while world.manage("GET", f"workspaces/{workspace.id}/billing")["state"] != "active":
        assert time.monotonic() < until, "the add-on did not become active"
        time.sleep(0.05)


def feature_off(world: PortalWorld, workspace: TestWorkspace) -> None:
    busy(world, workspace)
    task = sorted(world.manage("GET", f"workspaces/{workspace.id}/features")["features"], key=str)[0]["task"]
    world.manage("PUT", f"workspaces/{workspace.id}/features/{task}", {"on": False})


def ask(
    workspace: TestWorkspace, *, model: str = "openai/gpt-4.1-mini", stream: bool = False, **labels: str
) -> None:
    """One small call, whatever comes of it."""
    question = [{"role": "user", "content": "What is our refund policy?"}]
    workspace.post(
        "/v1/chat/completions", {"model": model, "max_tokens": 40, "messages": question, "stream": stream},
        **{f"x_ownkey_{name}": value for name, value in labels.items()},
    )


def _until(world: PortalWorld, workspace: TestWorkspace, provider: str, state: str, **call: str) -> None:
    """Calls until the provider's card is in this state."""
    until = time.monotonic() + 10
    while _state_of(world, workspace, provider) != state and time.monotonic() < until:
        ask(workspace, **call)
        time.sleep(0.1)


def _state_of(world: PortalWorld, workspace: TestWorkspace, provider: str) -> str:
    cards = world.manage("GET", f"workspaces/{workspace.id}/credentials")["credentials"]
    return next((str(card["state"]) for card in cards if card["provider"] == provider), "")


def newest_call(world: PortalWorld, workspace: TestWorkspace) -> str:
    return f"/portal/calls/{workspace.receipts()[0]['id']}"


def call_with(word: str, value: Any) -> Callable[[PortalWorld, TestWorkspace], str]:
    """The newest call whose receipt has this value under this name."""

    def address(world: PortalWorld, workspace: TestWorkspace) -> str:
        found = next((r for r in workspace.receipts() if r.get(word) == value), None)
        assert found is not None, f"no receipt of {workspace.id} has {word} = {value!r}"
        return f"/portal/calls/{found['id']}"

    return address


def rescued_call(world: PortalWorld, workspace: TestWorkspace) -> str:
    for receipt in workspace.receipts():
        if len(workspace.receipt(receipt["id"])["attempts"]) > 1:
            return f"/portal/calls/{receipt['id']}"
    raise AssertionError("no call was rescued")


# --- what a person does


def type_key(provider: str = "OpenRouter", **kind: Any) -> Act:
    """Paste a key of this kind (the emulator's words) into a provider's field."""

    def act(shown: Frame, world: PortalWorld) -> None:
        _open_field(shown, provider).fill(world.key(provider.lower(), **kind))

    return act


def try_key(provider: str = "OpenRouter", text: str = "", *, waits: bool = True, **kind: Any) -> Act:
    """Paste a key and press Test; `text` instead of one that the provider knows."""

    def act(shown: Frame, world: PortalWorld) -> None:
        key = text or world.key(provider.lower(), **kind)
        world.typed.add(key)
        _open_field(shown, provider).fill(key)
        _press_test(shown, provider, waits=waits)

    return act


def slow_test(shown: Frame, world: PortalWorld) -> None:
    """A provider that takes its time: the state between the press and the answer."""
    key = world.key("openrouter")
    world.deployment.emulator.set({"latency_s": 4.0}, provider="openrouter", key=key)
    _open_field(shown, "OpenRouter").fill(key)
    _press_test(shown, "OpenRouter", waits=False)


def unreachable_key(shown: Frame, world: PortalWorld) -> None:
    key = world.key("openrouter")
    world.deployment.emulator.add_fault({"name": "cut_before_headers"}, None, provider="openrouter", key=key)
    _open_field(shown, "OpenRouter").fill(key)
    _press_test(shown, "OpenRouter", waits=True)


def save_key(shown: Frame, world: PortalWorld) -> None:
    _open_field(shown, "OpenRouter").fill(world.key("openrouter"))
    card(shown, "openrouter").get_by_role("button", name="Save", exact=True).click()


def save_tested(**kind: Any) -> Act:
    """Paste a key of this kind, Test it, and save it nevertheless."""

    def act(shown: Frame, world: PortalWorld) -> None:
        try_key(**kind)(shown, world)
        shown.locator("#result-openrouter .panel").wait_for()
        card(shown, "openrouter").get_by_role("button", name="Save", exact=True).click()

    return act


def press(name: str, provider: str = "") -> Act:
    """A button or link by its label, in a provider's card or anywhere."""

    def act(shown: Frame, world: PortalWorld) -> None:
        place = card(shown, provider) if provider else shown.locator("main")
        named = place.get_by_role("button", name=name, exact=True).or_(place.get_by_role("link", name=name, exact=True))
        named.first.click()

    return act


def type_cap(amount: str) -> Act:
    def act(shown: Frame, world: PortalWorld) -> None:
        field = shown.get_by_label("Monthly spend cap (USD)").first
        field.fill(amount)
        field.locator("xpath=ancestor::form").get_by_role("button", name="Save", exact=True).click()

    return act


def go(path: str) -> Act:
    """An address that no link of the page leads to."""

    def act(shown: Frame, world: PortalWorld) -> None:
        shown.page.goto(world.url + path)

    return act


def sign_out(shown: Frame, world: PortalWorld) -> None:
    shown.get_by_role("button", name="Sign out").click()


def type_limit(text: str) -> Act:
    def act(shown: Frame, world: PortalWorld) -> None:
        shown.get_by_label("Monthly limit in credits").fill(text)
        shown.get_by_role("button", name="Save limit").click()

    return act


def flip(name: str) -> Act:
    """A switch, by its label."""

    def act(shown: Frame, world: PortalWorld) -> None:
        shown.get_by_role("switch", name=name, exact=True).click()

    return act


def lose_the_network(shown: Frame, world: PortalWorld) -> None:
    shown.page.context.set_offline(True)
    shown.evaluate("() => window.dispatchEvent(new Event('offline'))")


def wrong_option(shown: Frame, world: PortalWorld) -> None:
    field = shown.get_by_label("Auto-reply threshold")
    field.fill("lots")
    field.locator("xpath=ancestor::form").get_by_role("button", name="Save", exact=True).click()


def wrong_name(shown: Frame, world: PortalWorld) -> None:
    shown.get_by_label("Type the workspace's name to confirm").fill("something else")
    press("Delete this workspace")(shown, world)


def wrong_fee(shown: Frame, world: PortalWorld) -> None:
    shown.get_by_label("OpenRouter's fee on buying credits there (%)").fill("lots")
    press("Replay")(shown, world)


def open_json(shown: Frame, world: PortalWorld) -> None:
    shown.get_by_text("Receipt as JSON").first.click()


def start_export(shown: Frame, world: PortalWorld) -> None:
    """From the offer, or of all calls."""
    start = shown.get_by_role("button", name="Start the export")
    start.or_(shown.get_by_role("button", name="Export all calls")).first.click()


def replay_month(shown: Frame, world: PortalWorld) -> None:
    """This month, at once: there is little in it."""
    months = shown.get_by_label("Month", exact=True)
    months.select_option(index=months.locator("option").count() - 1)
    press("Replay")(shown, world)


def card(shown: Frame, provider: str) -> Any:
    return shown.locator(f"[data-provider={provider}][data-state]").first


def _open_field(shown: Frame, provider: str) -> Any:
    """A provider's key field, behind Connect or Replace where it is."""
    field = shown.get_by_label(f"{provider} API key", exact=True)
    if not field.is_visible():
        place = card(shown, provider.lower())
        place.get_by_role("link", name="Connect").or_(place.get_by_role("button", name="Connect")).or_(
            place.get_by_role("link", name="Replace")).or_(place.get_by_role("button", name="Replace")).first.click()
    return field


def _press_test(shown: Frame, provider: str, *, waits: bool) -> None:
    button = card(shown, provider.lower()).get_by_role("button", name="Test", exact=True).first
    button.click(no_wait_after=not waits)


# --- the states


def in_state(word: str, provider: str = "openrouter") -> str:
    return f"[data-provider={provider}][data-state={word}]"


ENTERPRISE: Mapping[str, Any] = {"plan": "enterprise"}
"""An app builder's plan that includes the own key."""


def _credentials() -> list[State]:
    """The cards of 4.1. A support desk needs no plan; an app builder's enterprise plan includes the key."""
    found = []
    both: list[tuple[str, Prepare, Act | None, str, dict[str, Any]]] = [
        ("empty", nothing, None, "empty", {"short": True}),
        ("typed", nothing, type_key(), "", {}),
        ("testing", nothing, slow_test, "button[aria-busy=true]", {"passing": True}),
        ("works", nothing, try_key(), "works", {"short": True}),
        ("works-no-balance", nothing, try_key(kind="no_balance"), "works_no_balance", {}),
        ("restricted", nothing, try_key(kind="restricted", models=["openai/gpt-4.1-mini"]), "restricted", {}),
        ("wrong-kind", nothing, try_key(kind="management"), "wrong_kind", {}),
        ("rejected", nothing, try_key(kind="revoked"), "rejected", {}),
        ("wrong-field", nothing, try_key(text="sk-ant-api03-" + "w" * 60), "", {}),
        ("no-key", nothing, try_key(text="hello there"), "editing", {}),
        ("unreachable", nothing, unreachable_key, "unreachable", {}),
        ("saved", nothing, save_key, "main >> text=saved successfully.", {"short": True, "passing": True}),
        ("connected", openrouter, None, "connected", {"short": True}),
        ("not-verified", not_verified, None, "text=Not verified", {}),
        ("replace", openrouter, press("Replace", "openrouter"), "", {}),
        ("confirm-disable", openrouter, press("Disable", "openrouter"), "", {}),
        ("confirm-disconnect", openrouter, press("Disconnect", "openrouter"), "", {}),
        ("disabled", disabled, None, "disabled", {}),
        ("unhealthy", unhealthy, None, "unhealthy", {"short": True}),
        ("undecryptable", undecryptable, None, "undecryptable", {}),
        ("hostile-texts", hostile, None, "connected", {}),
    ]
    for name, prepare, act, shows, more in both:
        selector = shows if not shows or "=" in shows else in_state(shows)
        for preset in PRESETS:
            fields = ENTERPRISE if preset == "app-builder" else {}
            found.append(State("credentials", name, prepare, "", act, selector, (preset,), fields=fields, **more))
    return [
        *found,
        State("credentials", "direct", with_anthropic, shows=in_state("connected", "anthropic"), presets=DESK),
        State("credentials", "viewer", openrouter, role="viewer", presets=DESK, short=True),
        State("credentials", "member", unhealthy, role="member", presets=DESK),
        State("credentials", "not-entitled", shows=in_state("not_entitled"), presets=BUILDER, short=True),
        State("credentials", "parked", parked, shows=in_state("parked"), presets=BUILDER),
        State("credentials", "past-due", past_due, shows=in_state("connected"), presets=BUILDER),
        State("credentials", "stopped", stopped, shows=in_state("disabled"), presets=BUILDER, fields=ENTERPRISE),
        State("credentials", "paused", paused, presets=DESK),
        State("credentials", "waiting", waiting, shows=in_state("waiting_for_openrouter", "anthropic"), presets=DESK),
        State("credentials", "no-money", act=save_tested(kind="no_balance"), shows="#news", presets=DESK),
        State("credentials", "saved-restricted", act=save_tested(kind="restricted", models=["openai/gpt-4.1-mini"]),
              shows="#news", presets=DESK),
        State("credentials", "direct-failing", direct_failing, shows=in_state("unhealthy", "anthropic"), presets=DESK),
        State("credentials", "replace-direct", with_anthropic, act=press("Replace", "anthropic"), presets=DESK),
        State("credentials", "disconnect-with-direct", with_anthropic, act=press("Disconnect", "openrouter"),
              presets=DESK),
        State("credentials", "disconnected", openrouter, "/portal/credentials/openrouter/disconnect",
              press("Disconnect", "openrouter"), "#news", DESK, passing=True),
        State("credentials", "tested", openrouter, act=press("Test", "openrouter"), shows="[data-result=works]",
              presets=DESK),
        State("credentials", "sign-in", act=press("Sign in with OpenRouter"), shows="#go", presets=DESK),
        State("credentials", "sign-in-cancelled", presets=DESK, shows="#news",
              path="/portal/credentials?ownkey_connect=failed&ownkey_code=connect_cancelled"),
        State("credentials", "credits-step-in", credits_step_in, shows="[data-incident]", presets=BUILDER,
              fields=ENTERPRISE),
        State("credentials", "always-on", always_on, presets=BUILDER, fields=ENTERPRISE),
        State("credentials", "disable-always-on", always_on, act=press("Disable", "openrouter"), presets=BUILDER,
              fields=ENTERPRISE),
        State("credentials", "wrong-limit", openrouter, act=type_limit("lots"), shows="[aria-invalid=true]",
              presets=BUILDER, fields=ENTERPRISE),
        State("credentials", "admin", openrouter, role="admin", presets=BUILDER, fields=ENTERPRISE),
    ]


CONSOLE: Mapping[str, Path] = {
    "home": "/console", "workspaces": "/console/workspaces", "why": "/console/why", "calls": "/console/calls",
    "live": "/console/calls?live=1", "models": "/console/models",
    "override": "/console/models/override?provider=openrouter&model=openai/gpt-4.1-mini", "plans": "/console/plans",
    "billing": "/console/billing", "developers": "/console/developers", "system": "/console/system",
    "audit": "/console/system/audit?check=1", "configuration": "/console/system/configuration",
    "mail": "/console/system/mail?kind=ai_paused", "operators": "/console/operators", "account": "/console/account",
    "search": "/console/search?q=Acme", "no-find": "/console/search?q=nobody",
    "workspace": lambda world, workspace: f"/console/workspaces/{workspace.id}",
    "call": lambda world, workspace: f"/console/calls/{newest_call(world, workspace).rpartition('/')[2]}",
}
"""The operators' pages, by the name of their picture."""


def consoles() -> list[State]:
    """As ops, and those that differ for support."""
    found = [State("console", name, busy, path, framed=False, role="ops") for name, path in CONSOLE.items()]
    return [*found, *(
        State("console", f"{name}-support", busy, CONSOLE[name], framed=False, role="support")
        for name in ("workspace", "billing", "developers")
    )]


STATES: tuple[State, ...] = (
    *_credentials(),
    State("features", "all-on", busy, presets=DESK, short=True),
    State("features", "one-off", feature_off, presets=DESK),
    State("features", "switched", busy, act=flip("Draft replies"), shows="#done", presets=DESK, passing=True),
    State("features", "wrong-option", busy, act=wrong_option, shows="[aria-invalid=true]", presets=DESK),
    State("features", "hostile-texts", hostile, presets=DESK),
    State("features", "member", busy, presets=DESK, role="member"),
    State("spend", "nothing-spent", short=True),
    State("spend", "no-cap", busy, fields=ENTERPRISE, presets=BUILDER),
    State("spend", "capped", capped, presets=DESK, short=True),
    State("spend", "paused", paused, presets=DESK),
    State("spend", "wrong-cap", capped, act=type_cap("lots"), shows="[aria-invalid=true]", presets=DESK),
    State("spend", "cap-at-once", capped, act=type_cap("0.00"), presets=DESK),
    State("spend", "cap-below-spend", capped, act=type_cap("0.0001"), presets=DESK),
    State("spend", "cap-saved", capped, act=type_cap("30.00"), shows="#cap-saved", presets=DESK, passing=True),
    State("spend", "compared", capped, act=press("Compare now"), presets=DESK, passing=True),
    State("spend", "by-model", busy, "/portal/spend?by=model", presets=DESK),
    State("spend", "by-project", busy, "/portal/spend?by=project", presets=BUILDER, fields=ENTERPRISE),
    State("spend", "hostile-texts", hostile, "/portal/spend?by=project", presets=DESK),
    State("spend", "with-credits", busy, presets=BUILDER),
    State("spend", "member-paused", paused, role="member", presets=DESK),
    State("spend", "member", capped, role="member", presets=DESK),
    State("spend", "viewer", capped, role="viewer", presets=DESK),
    State("activity", "no-calls", short=True),
    State("activity", "calls", busy, presets=DESK, short=True),
    State("activity", "calls-with-credits", busy, presets=BUILDER),
    State("activity", "no-match", busy, "/portal/activity?outcome=cancelled", presets=DESK),
    State("activity", "filtered", busy, "/portal/activity?outcome=ok&project=shop", presets=DESK),
    State("activity", "wrong-filter", busy, "/portal/activity?since=lots", presets=DESK, status=400),
    State("activity", "hostile-texts", hostile, presets=DESK),
    State("activity", "viewer", busy, role="viewer", presets=DESK),
    State("activity", "by-trace", busy, "/portal/activity?group=trace", presets=DESK),
    State("activity", "member", busy, role="member", presets=DESK),
    State("calls", "paid", busy, call_with("funding", "byok"), presets=DESK, short=True),
    State("calls", "rescued", busy, rescued_call, presets=DESK),
    State("calls", "direct", direct_call, newest_call, presets=DESK),
    State("calls", "all-failed", all_failed, newest_call, presets=DESK),
    State("calls", "cut-stream", cut_stream, newest_call, presets=DESK),
    State("calls", "test", tested, newest_call, presets=DESK),
    State("calls", "hostile-texts", hostile, newest_call, presets=DESK),
    State("calls", "member", busy, rescued_call, presets=DESK, role="member"),
    State("calls", "json", busy, rescued_call, open_json, presets=DESK),
    State("calls", "always-on-disabled", stopped_call, newest_call, presets=BUILDER, fields=ENTERPRISE),
    State("calls", "refused", no_key_but_calls, newest_call, presets=DESK),
    State("calls", "paused", paused, newest_call, presets=DESK),
    State("calls", "credits", no_key_but_calls, newest_call, presets=BUILDER),
    State("calls", "unknown", path="/portal/calls/rcp_00000000000000000000000000000000", status=404),
    State("why", "works", openrouter, presets=DESK),
    State("why", "no-key", presets=DESK, short=True),
    State("why", "paused", paused, presets=DESK),
    State("why", "member", paused, presets=DESK, role="member"),
    State("explain", "form", openrouter, presets=DESK),
    State("explain", "answered", busy, "/portal/explain?task=draft_reply&size=4000", presets=DESK, short=True),
    State("explain", "refused", paused, "/portal/explain?task=draft_reply&size=4000", presets=DESK),
    State("explain", "wrong", openrouter, "/portal/explain?size=lots", presets=DESK, status=422),
    State("explain", "with-credits", nothing, "/portal/explain?task=build_app&size=4000", presets=BUILDER),
    State("explain", "replay", busy, "/portal/explain/replay"),
    State("explain", "replay-wrong", busy, "/portal/explain/replay", wrong_fee, "[aria-invalid=true]", DESK),
    State("explain", "replayed", busy, "/portal/explain/replay", replay_month, "#result", DESK),
    State("plans", "not-subscribed", presets=BUILDER, short=True),
    State("plans", "included", presets=BUILDER, fields=ENTERPRISE),
    State("plans", "active", subscribed, presets=BUILDER),
    State("plans", "past-due", past_due, presets=BUILDER),
    State("plans", "inactive", parked, presets=BUILDER),
    State("plans", "viewer", presets=BUILDER, role="viewer"),
    State("plans", "cancel", subscribed, "/portal/plans/cancel", presets=BUILDER),
    State("plans", "credits", no_key_but_calls, "/portal/plans/credits", presets=BUILDER, short=True),
    State("plans", "credits-no-match", presets=BUILDER, path="/portal/plans/credits?kind=payments"),
    State("projects", "none", presets=BUILDER),
    State("projects", "some", busy, presets=BUILDER, short=True),
    State("exports", "none", busy, presets=DESK),
    State("exports", "offer", busy, "/portal/exports?outcome=ok", presets=DESK),
    State("exports", "done", busy, "/portal/exports?outcome=ok", start_export, "main >> text=Download", DESK),
    State("exports", "list", busy, "/portal/exports", start_export, "main >> text=Download", DESK),
    State("data", "wrong-name", openrouter, "/portal/data", wrong_name, "[aria-invalid=true]", DESK),
    State("data", "owner", openrouter, presets=DESK),
    State("data", "admin", openrouter, presets=DESK, role="admin", status=403),
    State("shared", "no-such-page", path="/portal/nowhere", status=404, presets=DESK, framed=False),
    State("shared", "signed-out", path="/portal/credentials", act=sign_out, shows="main.outside", presets=DESK,
          framed=False, passing=True),
    State("shared", "link-used", path="/portal/credentials", act=go("/portal/enter?code=used"), presets=DESK,
          framed=False),
    State("shared", "offline", busy, "/portal/spend", lose_the_network, "#offline", DESK),
    *consoles(),
)


def states_of(preset: Preset, *, short: bool = False, only: str = "") -> list[State]:
    """The states of a preset; `only` is the beginning of `page-name`."""
    return [
        state for state in STATES
        if preset in state.presets and (state.short or not short) and state.key.startswith(only)
    ]
