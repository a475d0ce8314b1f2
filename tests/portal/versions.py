"""The version that a form of these pages carries now: what a browser has that has just loaded its page."""

from tests.control.house import House

from ownkey.control.problems import Problem
from ownkey.domain.errors import StoreError
from ownkey.domain.workspace import WorkspaceState
from ownkey.portal.credential_cards import form_version
from ownkey.portal.features import version_of

_SETTINGS = ("always", "if-key-fails", "credits-limit", "on-rejection")
_CARDS = ("save", "enable", "disable", "disconnect", "sign-in")


async def version_now(house: House, workspace: WorkspaceState, path: str) -> str | None:
    """Of the form at this address; None for one that carries none, or is of nothing that there is."""
    parts = path.partition("?")[0].removeprefix("/portal/").split("/")
    try:
        current = await house.again(workspace)
    except (Problem, StoreError):
        return None
    if parts[-1] == "cap" and len(parts) == 2:
        return f"{(await house.desk.caps.show(current)).version}.{current.timezone}"
    if parts[0] == "notices" and len(parts) > 1:
        # Nobody has muted anything, where this is asked.
        return "on"
    if parts[0] == "features" and len(parts) > 1:
        views = {view.task.name: view for view in house.desk.features.list(current)}
        return version_of(views[parts[1]]) if parts[1] in views else None
    if parts[0] == "credentials" and len(parts) == 2 and parts[1] in _SETTINGS:
        return str(current.settings_version)
    if parts[0] == "credentials" and len(parts) == 3 and parts[2] in _CARDS:
        return form_version(current.credentials.get(parts[1]))
    return None
