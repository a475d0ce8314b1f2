"""How a workspace gets somewhere: through the API, the emulated provider and, where nothing else leads there, the
database.
"""

import contextlib
import html
import re
import sqlite3
import time
from collections.abc import Callable, Iterator
from typing import Any

import httpx
from tests.browser.portal_world import PortalWorld
from tests.deployment import TestWorkspace

from ownkey.portal.visit import csrf_token

Prepare = Callable[[PortalWorld, TestWorkspace], None]

HOSTILE = '<img src=x onerror=alert(1)>"\'& ‮gnp.exe 𝕬𝖈𝖒𝖊 ' + "long" * 30
"""What somebody may call a thing: markup, quotes, a right-to-left override, and no end."""


@contextlib.contextmanager
def books(world: PortalWorld) -> Iterator[sqlite3.Connection]:
    """The database of a running server, for rows that no door leads to: they are written as the server writes them."""
    file = next((world.deployment.home / "data").glob("*.db"))
    connection = sqlite3.connect(file, timeout=10)
    try:
        with connection:
            yield connection
    finally:
        connection.close()


def nothing(world: PortalWorld, workspace: TestWorkspace) -> None:
    """A workspace as it is made."""


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
    with books(world) as rows:
        rows.execute("UPDATE credential SET undecryptable = 1 WHERE workspace_id = ?", (workspace.id,))
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
        world.deployment.emulator.add_fault("overloaded", 2, provider="anthropic", key=anthropic, method="POST")
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


# --- calls that went another way


def rate_limited(world: PortalWorld, workspace: TestWorkspace) -> None:
    """Anthropic says that it is too much, and OpenRouter answers."""
    openrouter(world, workspace)
    key = world.key("anthropic")
    workspace.save_key("anthropic", key)
    world.deployment.emulator.add_fault("rate_limit", 2, provider="anthropic", key=key, method="POST")
    ask(workspace, model="anthropic/claude-haiku-4.5", task="draft_reply")


def switched_off_call(world: PortalWorld, workspace: TestWorkspace) -> None:
    feature_off(world, workspace)
    task = next(
        row["task"] for row in world.manage("GET", f"workspaces/{workspace.id}/features")["features"] if not row["on"]
    )
    ask(workspace, task=task)


def suspended(world: PortalWorld, workspace: TestWorkspace) -> None:
    openrouter(world, workspace)
    world.deployment.manage(
        "PATCH", f"workspaces/{workspace.id}", {"status": "suspended"}, token=world.deployment.operator
    )


# --- a sign-in out of a frame


def approve_page(world: PortalWorld, workspace: TestWorkspace) -> str:
    """The page at top level that a framed visit's sign-in with OpenRouter leads to; it opens once, in one browser."""
    with httpx.Client(base_url=world.url, trust_env=False, headers=world.own_address()) as frame:
        opened = frame.get(world.link(workspace, mode="frame")["url"])
        bearer = _found(r'name="ownkey-bearer" content="([^"]+)"', opened.text)
        begun = frame.post(
            "/portal/credentials/openrouter/sign-in", data={"csrf": csrf_token(bearer), "version": "0"},
            headers={"authorization": f"Bearer {bearer}"},
        )
    return _found(r'id="go" href="([^"]+)"', begun.text)


def _found(pattern: str, text: str) -> str:
    found = re.search(pattern, text)
    assert found is not None, text[:600]
    return html.unescape(found[1])


# --- payments


def checking_out(world: PortalWorld, workspace: TestWorkspace) -> None:
    """A payment page that was opened, and nothing paid."""
    world.manage("POST", f"workspaces/{workspace.id}/billing/subscribe", {})


def just_returned(world: PortalWorld, workspace: TestWorkspace) -> str:
    """Back from the payment page, whose news has not come."""
    return f"/portal/plans?returned=paid&since={int(time.time() * 1_000)}"


def returned_before(world: PortalWorld, workspace: TestWorkspace) -> str:
    """The same some seconds later."""
    return f"/portal/plans?returned=paid&since={int(time.time() * 1_000) - 6_000}"


def enabled_by_host(world: PortalWorld, workspace: TestWorkspace) -> None:
    """Sold by the host product, which then says so."""
    world.deployment.manage(
        "PUT", f"workspaces/{workspace.id}/entitlement", {"entitlement": "active"}, token=world.deployment.operator
    )


def cancelling(world: PortalWorld, workspace: TestWorkspace) -> None:
    subscribed(world, workspace)
    world.manage("POST", f"workspaces/{workspace.id}/billing/cancel", {})


def payment_failed(world: PortalWorld, workspace: TestWorkspace) -> None:
    """A renewal was not paid. In this world no month passes (a journey of its own waits for it), so the rows are
    written as Stripe's event writes them."""
    subscribed(world, workspace)
    openrouter(world, workspace)
    day_ms = 86_400_000
    now_ms = int(time.time() * 1_000)
    with books(world) as rows:
        rows.execute(
            "UPDATE addon SET state = 'past_due', paid_until_ms = ?, grace_until_ms = ? WHERE workspace_id = ?",
            (now_ms - day_ms, now_ms + 2 * day_ms, workspace.id),
        )
        rows.execute(
            "UPDATE workspace SET entitlement = 'grace', grace_until_ms = ? WHERE id = ?",
            (now_ms + 2 * day_ms, workspace.id),
        )
    workspace.settings(name="Payment failed")


def unreachable_billing(world: PortalWorld, workspace: TestWorkspace) -> str:
    """Stripe answers nothing but errors from now on."""
    assert world.stripe is not None
    world.stripe.fault("server_error", None)
    return "/portal/plans?returned=paid"


def failed_events(world: PortalWorld, workspace: TestWorkspace) -> None:
    """A purchase, of whose events one failed and one is quarantined: written, because Stripe would send them again."""
    subscribed(world, workspace)
    assert world.stripe is not None
    world.stripe.quiet()
    with books(world) as rows:
        mark = "UPDATE stripe_event SET state = ?, reason = ? WHERE workspace_id = ? AND type LIKE ?"
        rows.execute(mark, ("failed", "Stripe did not answer: 500", workspace.id, "invoice.paid"))
        rows.execute(mark, (
            "quarantined", "amount in cents: 900 instead of 500", workspace.id, "checkout.session.completed",
        ))


# --- the whole deployment


def second_master_key(world: PortalWorld, workspace: TestWorkspace) -> None:
    """A rotation in its middle: a key was added and is the first now, and nothing hangs on it yet."""
    busy(world, workspace)
    added = world.deployment.cli("master-key", "add")
    assert added.returncode == 0, added.stderr
    promoted = world.deployment.cli("master-key", "promote", added.stdout.split()[1])
    assert promoted.returncode == 0, promoted.stderr + promoted.stdout


def old_backups(world: PortalWorld, workspace: TestWorkspace) -> str:
    """A schedule that is not kept: the newest backup says that it is three days old. The server has just made it, so
    that it tries again in an hour only."""
    folder = world.deployment.home / "data" / "backups"
    until = time.monotonic() + 20
    while not (files := list(folder.glob("*.backup"))):
        assert time.monotonic() < until, f"no backup was made: {list(folder.parent.iterdir())}"
        time.sleep(0.1)
    for file in files:
        file.write_bytes(re.sub(
            rb'"made_at_ms":(\d{13})', lambda found: b'"made_at_ms":%d' % (int(found[1]) - 3 * 86_400_000),
            file.read_bytes(), count=1,
        ))
    return "/console/system"


def set_up_link(world: PortalWorld, workspace: TestWorkspace) -> str:
    """A new operator's one-time link, made by the command."""
    done = world.deployment.cli("operator", "add", f"new{time.time_ns()}@example.com", "--role", "support")
    assert done.returncode == 0, done.stderr
    return done.stdout[done.stdout.index("/console/set-up?"):].split()[0]


def of_workspace(more: str = "") -> Callable[[PortalWorld, TestWorkspace], str]:
    """The operators' page of this workspace, or a deed on it."""
    return lambda world, workspace: f"/console/workspaces/{workspace.id}{more}"


def of_call(world: PortalWorld, workspace: TestWorkspace) -> str:
    """The operators' page of its newest call."""
    return f"/console/calls/{newest_call(world, workspace).rpartition('/')[2]}"
