"""The operators' pages: each as it is on a usual day, and in the middle of something."""

from collections.abc import Mapping

from tests.browser.acting import (
    Act,
    choose_password,
    fill,
    grow_old,
    make_backup,
    make_token,
    press,
    press_without_reason,
    refuse_keyset,
)
from tests.browser.portal_world import PortalWorld, Preset
from tests.browser.preparing import (
    Prepare,
    busy,
    failed_events,
    no_key_but_calls,
    nothing,
    of_call,
    of_workspace,
    old_backups,
    paused,
    second_master_key,
    set_up_link,
    subscribed,
    suspended,
    unhealthy,
)
from tests.browser.state import (
    BUILDER,
    DESK,
    NOBODY,
    Path,
    State,
)
from tests.browser.under_way import (
    deployment_at_work,
    every_trouble,
    failed_backup,
    hold_still,
    running_call_for_operators,
    slow_provider,
)
from tests.deployment import TestWorkspace

CONSOLE: Mapping[str, Path] = {
    "home": "/console", "workspaces": "/console/workspaces", "why": "/console/why", "calls": "/console/calls",
    "live": "/console/calls?live=1", "models": "/console/models",
    "override": "/console/models/override?provider=openrouter&model=openai/gpt-4.1-mini", "plans": "/console/plans",
    "billing": "/console/billing", "developers": "/console/developers", "system": "/console/system",
    "audit": "/console/system/audit?check=1", "configuration": "/console/system/configuration",
    "mail": "/console/system/mail?kind=ai_paused", "operators": "/console/operators", "account": "/console/account",
    "search": "/console/search?q=Acme", "no-find": "/console/search?q=nobody",
    "workspace": of_workspace(), "call": of_call,
}
"""The operators' pages, by the name of their picture."""



def row(
    name: str, prepare: Prepare, path: Path, act: Act | None = None, shows: str = "",
    presets: tuple[Preset, ...] = DESK, role: str = "ops", status: int = 200,
) -> State:
    return State("console", name, prepare, path, act, shows, presets, role, status, framed=False)


def consoles() -> list[State]:
    """As ops, and those that differ for support; at their end the list of work, which stays as it is."""
    found = [row(name, busy, path) for name, path in CONSOLE.items()]
    for_support = ("workspace", "billing", "developers")
    return [*found, *(row(f"{name}-support", busy, CONSOLE[name], role="support") for name in for_support), *OTHERS]


OTHERS: tuple[State, ...] = (
    row("sign-in", nothing, "/console/sign-in", None, "form", DESK, NOBODY),
    row("sign-in-wrong", nothing, "/console/sign-in",
        fill(("E-mail address", "ops@example.com"), ("Password", "not this one"), then="Continue"), "[role=alert]",
        DESK, NOBODY),
    row("set-up", nothing, set_up_link, None, "form", DESK, NOBODY),
    row("set-up-app", nothing, set_up_link, choose_password, "#seed", DESK, NOBODY),
    row("not-allowed", busy, "/console/operators", None, "", DESK, "support", 403),
    row("no-such-page", busy, "/console/nowhere", None, "", DESK, "ops", 404),
    row("no-such-workspace", busy, "/console/workspaces/ws_nobody", None, "", DESK, "ops", 404),
    row("home-stale", busy, "/console", grow_old, ".aged"),
    row("calls-stale", busy, "/console/calls", grow_old, ".aged"),
    row("suspend", busy, of_workspace("/status"), None, "#act"),
    row("suspend-no-reason", busy, of_workspace("/status"), press_without_reason("Suspend"), "[aria-invalid=true]"),
    row("suspended", suspended, of_workspace()),
    row("disable-key", busy, of_workspace("/credentials/openrouter/disable"), None, "#act"),
    row("grant-credits", busy, of_workspace("/credits"), None, "#act", BUILDER),
    row("set-add-on", busy, of_workspace("/entitlement"), None, "#act", BUILDER),
    row("workspace-credits", busy, of_workspace(), None, "", BUILDER),
    row("workspace-unhealthy", unhealthy, of_workspace()),
    row("workspace-paused", paused, of_workspace()),
    row("new-token", busy, "/console/developers", make_token, "#new-token"),
    row("revoke-token", busy, "/console/developers", press("Revoke host"), "#act"),
    row("theme", busy, "/console/developers/theme"),
    row("why-around", busy, lambda world, workspace: f"/console/why?workspace={workspace.id}", None, "#then"),
    row("why-unknown", busy, "/console/why?receipt=call_nobody", None, "[role=alert]", DESK, "ops", 404),
    row("call-running", slow_provider, running_call_for_operators, hold_still),
    row("call-refused", no_key_but_calls, of_call),
    row("no-calls-match", busy, "/console/calls?code=nothing"),
    row("trouble-list", unhealthy, "/console/workspaces?trouble=unhealthy"),
    row("billing-failed", failed_events, "/console/billing", None, "tr >> text=quarantined", BUILDER),
    row("billing-test-mode", subscribed, "/console/billing", None, "text=Test mode", BUILDER),
    row("home-every-warning", every_trouble, "/console", None, "", BUILDER),
    row("backup-made", busy, "/console/system", make_backup, "text=Last backup"),
    row("master-key-moved", second_master_key, "/console/system", None, "text=Rewrap the data keys"),
    row("master-key-refused", busy, "/console/system", refuse_keyset, "text=A changed keyset was refused"),
    row("rewrap", busy, "/console/system/rewrap", None, "#act"),
    row("system-at-work", busy, deployment_at_work, hold_still, "progress"),
    row("system-at-work-support", busy, deployment_at_work, hold_still, "progress", DESK, "support"),
)


def hosted_consoles() -> list[State]:
    """Where backups are made by themselves: one that comes late, and one that was not made."""
    return [
        State("hosted", "backup-late", path=old_backups, shows="text=Late:", role="ops", framed=False),
        State("hosted", "backup-failed", path=failed_backup, shows="text=was not made", role="ops", framed=False),
        State("hosted", "home-backup-failed", path="/console", role="ops", framed=False),
    ]


def new_deployment() -> list[State]:
    """The operators' pages before there is anything: what is still to be set up, and empty lists."""
    places = ("", "/workspaces", "/calls", "/why", "/models", "/plans", "/billing", "/developers", "/system",
              "/operators", "/search?q=Acme")
    return [
        State("new", place.strip("/").partition("?")[0] or "home", path=_first_day(f"/console{place}"), role="ops",
              presets=DESK, framed=False, bare=True)
        for place in places
    ]


def _first_day(place: str) -> Path:
    """The product's backend has no token yet."""

    def address(world: PortalWorld, workspace: TestWorkspace) -> str:
        deployment = world.deployment
        if deployment.service:
            deployment.service = ""
            for token in world.manage("GET", "service-tokens")["tokens"]:
                world.manage("DELETE", f"service-tokens/{token['id']}")
        return place

    return address
