"""A workspace's data, for its owner alone: everything of it as one file, and its end.

Deleting asks for the workspace's name, says what is destroyed and what stays, and ends this very visit.
"""

from typing import Final

from ownkey.control.problems import Problem, ProblemCode
from ownkey.control.work import WorkView
from ownkey.domain.portal import Page, Sight
from ownkey.domain.work import WorkKind, WorkState
from ownkey.domain.workspace import EntitlementState
from ownkey.pages.http import Answer, html
from ownkey.portal.visit import PortalRoute, Visit

PATH: Final = "/portal/data"
REFRESH_S: Final = 3
LISTED: Final = 50
_ADDON: Final = frozenset({EntitlementState.ACTIVE, EntitlementState.CANCELLING, EntitlementState.GRACE})
"""Entitlements that end with the workspace."""


async def show(visit: Visit) -> Answer:
    return await _page(visit)


async def start_export(visit: Visit) -> Answer:
    """A second click finds the one that is under way."""
    await visit.desk.work.start(
        visit.workspace, WorkKind.EXPORT_ALL, {}, visit.actor, member_id=visit.session.member_id
    )
    return visit.go(f"{PATH}?done=started")


async def cancel_export(visit: Visit) -> Answer:
    found = await _export(visit)
    await visit.desk.work.cancel(visit.workspace, found.work.id, visit.actor)
    return visit.go(PATH)


async def fetch_export(visit: Visit) -> Answer:
    found = await _export(visit)
    name, content = await visit.desk.work.fetch(visit.workspace, found.work.id)
    plain = "".join(c for c in name if c.isascii() and (c.isalnum() or c in "._-")) or "workspace.zip"
    return Answer(200, content, "application/zip", [("content-disposition", f'attachment; filename="{plain}"')])


async def delete(visit: Visit) -> Answer:
    """Only with the workspace's name, as it stands there."""
    typed = " ".join(visit.request.field("name").split())
    if typed != visit.workspace.name:
        return await _page(visit, typed=typed[:120], wrong=visit.say(
            "This is not the workspace's name, so nothing was deleted."), status=422)
    await visit.desk.workspaces.delete(visit.workspace, visit.actor)
    return _gone(visit)


async def back(visit: Visit) -> Answer:
    return visit.go(PATH)


# --- the steps


async def _page(visit: Visit, *, typed: str = "", wrong: str = "", status: int = 200) -> Answer:
    exports = [
        view for view in await visit.desk.work.list(visit.workspace, LISTED) if view.work.kind is WorkKind.EXPORT_ALL
    ]
    running = any(view.can_cancel for view in exports)
    return visit.show(
        "workspace_data.html", title=visit.say("Workspace data"), status=status, typed=typed, wrong=wrong,
        exports=exports, running=running, path=PATH, WorkState=WorkState,
        keys=len(visit.workspace.credentials), addon=visit.workspace.entitlement in _ADDON,
        refresh_s=REFRESH_S if running and status == 200 and visit.request.method == "GET" else None,
    )


async def _export(visit: Visit) -> WorkView:
    """The export of the address; other work is fetched elsewhere. Raises Problem."""
    found = await visit.desk.work.show(visit.workspace, visit.request.params["work"])
    if found.work.kind is not WorkKind.EXPORT_ALL:
        raise Problem(
            ProblemCode.NOT_FOUND, visit.say("There is no such export here."), visit.say("Look at the list."),
        )
    return found


def _gone(visit: Visit) -> Answer:
    """The last page of a visit that has ended with its workspace."""
    way = visit.session.return_url or visit.house.reopen_url
    return html(visit.house.site.render(
        "portal/outside.html", title=visit.say("The workspace is deleted"),
        sentence=visit.say(
            "Its data key, its API keys and its access tokens are destroyed, and this visit has ended."
        ),
        fix=visit.say("Receipts and the ledger stay, as books must; they hold no key, no prompt and no answer."),
        back="", link=way, link_text=visit.say("Back to {product}", product=visit.product.name),
        product=visit.product, theme=visit.session.theme,
    ))


ROUTES: tuple[PortalRoute, ...] = (
    PortalRoute("GET", PATH, Page.DATA, Sight.MANAGE, show),
    PortalRoute("POST", f"{PATH}/export", Page.DATA, Sight.MANAGE, start_export),
    PortalRoute("GET", f"{PATH}/export/{{work}}", Page.DATA, Sight.MANAGE, fetch_export),
    PortalRoute("POST", f"{PATH}/export/{{work}}/cancel", Page.DATA, Sight.MANAGE, cancel_export),
    PortalRoute("POST", f"{PATH}/delete", Page.DATA, Sight.MANAGE, delete),
    PortalRoute("GET", f"{PATH}/export", Page.DATA, Sight.MANAGE, back),
    PortalRoute("GET", f"{PATH}/delete", Page.DATA, Sight.MANAGE, back),
)
