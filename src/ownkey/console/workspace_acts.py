"""What operators may do to a workspace: look at it as its people do, suspend it, give it something, take access away.

Nothing here reads a credential, moves a switch or raises a cap. What is given away needs a fresh proof of identity and
a reason; what takes something away is confirmed on the workspace's own page first.
"""

from collections.abc import Mapping
from dataclasses import replace

from ownkey.console.visit import ConsoleRoute, ConsoleVisit
from ownkey.console.workspaces import PATH, Act, find, page, url_of, version_of
from ownkey.control.problems import Problem, ProblemCode, invalid, not_found
from ownkey.domain.operators import OperatorRole
from ownkey.domain.records import Actor
from ownkey.domain.workspace import CredentialStatus, EntitlementState, WorkspaceState
from ownkey.pages.http import Answer

_ONE = f"{PATH}/{{workspace}}"
COMPS: Mapping[str, EntitlementState] = {
    "active": EntitlementState.ACTIVE, "none": EntitlementState.NONE,
}
"""What an operator may set the add-on to, instead of a payment."""


# --- view as


async def view_as(visit: ConsoleVisit) -> Answer:
    """A link that works once, for a minute; the log of the workspace and of the deployment have it."""
    workspace = await find(visit)
    minted = await visit.desk.portal_sessions.view_as(workspace, visit.actor, visit.session.name)
    await visit.house.staff.sessions.note_view_as(visit.session, workspace.id)
    return visit.page("console/view_as.html", "View as workspace", workspace=workspace, url=minted.url,
                      back=url_of(workspace))


# --- suspension


async def ask_status(visit: ConsoleVisit) -> Answer:
    return await page(visit, await find(visit), Act("status"))


async def set_status(visit: ConsoleVisit) -> Answer:
    workspace, wanted = await find(visit), visit.request.field("status")
    try:
        if wanted not in ("active", "suspended"):
            raise invalid("status", "A workspace is active or suspended.", "Choose one of the two.")
        visit.check_fresh(version_of(workspace, "status"))
        await _reason(visit, workspace, "workspace.status", workspace.id)
    except Problem as problem:
        return await page(visit, workspace, Act("status", form=visit.request.form, problem=problem))
    await visit.desk.workspaces.change(workspace, {"status": wanted}, visit.actor)
    return visit.go(f"{url_of(workspace)}?done={'suspended' if wanted == 'suspended' else 'lifted'}")


# --- what is given


async def ask_credits(visit: ConsoleVisit) -> Answer:
    return await page(visit, await find(visit), Act("credits", nonce=visit.house.clock.new_id("form")))


async def grant_credits(visit: ConsoleVisit) -> Answer:
    """The form's own id makes a second click the same grant."""
    workspace, form = await find(visit), visit.request.form
    nonce = visit.request.field("nonce")
    try:
        amount = _whole(visit.request.field("amount"))
        if not nonce or len(nonce) > 80:
            raise invalid("amount", "This form is not whole.", "Reload the page and fill it in again.")
        await _reason(visit, workspace, "credits.granted", workspace.id)
        await visit.desk.credits.grant(workspace, amount, "operator", None, f"console:{nonce}", visit.actor)
    except Problem as problem:
        if problem.code is not ProblemCode.INVALID:
            raise
        return await page(visit, workspace, Act("credits", form=form, nonce=nonce, problem=problem))
    return visit.go(f"{url_of(workspace)}?done=granted")


async def ask_comp(visit: ConsoleVisit) -> Answer:
    return await page(visit, await find(visit), Act("comp"))


async def set_comp(visit: ConsoleVisit) -> Answer:
    workspace, wanted = await find(visit), visit.request.field("entitlement")
    try:
        if wanted not in COMPS:
            raise invalid("entitlement", "There is no such state of the add-on.", "Choose one of the list.")
        visit.check_fresh(version_of(workspace, "comp"))
        await _reason(visit, workspace, "workspace.entitlement", workspace.id)
        await visit.desk.workspaces.set_entitlement(workspace, COMPS[wanted], visit.actor)
    except Problem as problem:
        if problem.code not in (ProblemCode.INVALID, ProblemCode.CONFLICT):
            raise
        return await page(visit, workspace, Act("comp", form=visit.request.form, problem=problem))
    return visit.go(f"{url_of(workspace)}?done=entitled")


# --- what is taken


async def ask_disable(visit: ConsoleVisit) -> Answer:
    workspace, provider = await find(visit), visit.request.params["provider"]
    _saved_key(workspace, provider)
    return await page(visit, workspace, Act("disable", provider, coming=await _coming(visit, workspace, provider)))


async def disable(visit: ConsoleVisit) -> Answer:
    """The ciphertext stays; its people can enable it again, operators cannot."""
    workspace, provider = await find(visit), visit.request.params["provider"]
    _saved_key(workspace, provider)
    try:
        visit.check_fresh(version_of(workspace, "disable", provider))
        await _reason(visit, workspace, "credential.disabled", provider)
    except Problem as problem:
        act = Act("disable", provider, visit.request.form, coming=await _coming(visit, workspace, provider))
        return await page(visit, workspace, replace(act, problem=problem))
    await visit.desk.credentials.set_enabled(workspace, provider, False, visit.actor)
    return visit.go(f"{url_of(workspace)}?done=disabled")


async def ask_revoke(visit: ConsoleVisit) -> Answer:
    workspace, token = await find(visit), visit.request.params["token"]
    if token not in {row.token_id for row in await visit.desk.tokens.list(workspace)}:
        raise not_found("token", token)
    return await page(visit, workspace, Act("revoke", token))


async def revoke(visit: ConsoleVisit) -> Answer:
    workspace, token = await find(visit), visit.request.params["token"]
    await visit.desk.tokens.revoke(workspace, token, visit.actor)
    return visit.go(f"{url_of(workspace)}?done=revoked")


# --- parts


async def _reason(visit: ConsoleVisit, workspace: WorkspaceState, action: str, target: str) -> None:
    actor: Actor = visit.actor
    await visit.desk.overview.note_reason(workspace.id, action, target, visit.request.field("reason"), actor)


def _saved_key(workspace: WorkspaceState, provider: str) -> None:
    if provider not in workspace.credentials:
        raise not_found("saved key of", provider)


async def _coming(visit: ConsoleVisit, workspace: WorkspaceState, provider: str) -> str:
    """Who pays once the key is disabled, by the function that says who pays now."""
    keys = dict(workspace.credentials)
    keys[provider] = replace(keys[provider], status=CredentialStatus.DISABLED)
    return (await visit.desk.status.show(replace(workspace, credentials=keys))).sentence


def _whole(text: str) -> int:
    digits = text.replace(",", "").replace(" ", "")
    if not (digits.isascii() and digits.isdigit() and len(digits) <= 12):
        raise invalid("amount", "Credits are a whole number.", "Write digits, such as 500.")
    return int(digits)


_OPS = OperatorRole.OPS
_KEY, _TOKEN = f"{_ONE}/credentials/{{provider}}/disable", f"{_ONE}/tokens/{{token}}/revoke"

ROUTES: tuple[ConsoleRoute, ...] = (
    ConsoleRoute("POST", f"{_ONE}/view-as", view_as),
    ConsoleRoute("GET", f"{_ONE}/status", ask_status, _OPS),
    ConsoleRoute("POST", f"{_ONE}/status", set_status, _OPS),
    ConsoleRoute("GET", f"{_ONE}/credits", ask_credits, _OPS, fresh=True),
    ConsoleRoute("POST", f"{_ONE}/credits", grant_credits, _OPS, fresh=True),
    ConsoleRoute("GET", f"{_ONE}/entitlement", ask_comp, _OPS, fresh=True),
    ConsoleRoute("POST", f"{_ONE}/entitlement", set_comp, _OPS, fresh=True),
    ConsoleRoute("GET", _KEY, ask_disable, _OPS),
    ConsoleRoute("POST", _KEY, disable, _OPS),
    ConsoleRoute("GET", _TOKEN, ask_revoke, _OPS),
    ConsoleRoute("POST", _TOKEN, revoke, _OPS),
)
