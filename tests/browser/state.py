"""One state that is looked at: what it is called, how to get there, and how it is seen that one is there."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from playwright.sync_api import Frame
from tests.browser.acting import Act
from tests.browser.portal_world import PRESETS, PortalWorld, Preset, Visitor
from tests.browser.preparing import Prepare, nothing
from tests.deployment import TestWorkspace

Path = str | Callable[[PortalWorld, TestWorkspace], str]

DESK: tuple[Preset, ...] = ("support-desk",)
BUILDER: tuple[Preset, ...] = ("app-builder",)
NOBODY = "nobody"
"""The role of somebody who is not signed in to the console."""


@dataclass(frozen=True, slots=True)
class State:
    """`page` names the contact sheet. `path` "" is the page's own. `shows` is a selector that is visible once the state
    is reached. `fields` are the new workspace's. `passing`: it lasts for seconds, or changes the workspace, so it is
    made anew for each look. `short`: part of every test run, not only of the whole matrix. `status` is the answer's.
    `framed`: it can be reached in a frame too. `excused`: parts of the errors that a browser tells of it.
    `bare`: of a deployment without any workspace."""

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
    excused: tuple[str, ...] = ()
    bare: bool = False

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
    if state.bare:
        workspace = TestWorkspace(world.deployment, "", "")
    else:
        workspace = world.prepared(state.key, state.prepare, dict(state.fields))
    path = state.address(world, workspace)
    visitor.watch.excuse(*state.excused, *([f"{state.status} from "] if state.status >= 500 else []))
    if framed:
        people = {"owner": "ada", "admin": "ben", "member": "cho", "viewer": "dee"}
        visitor.open_framed(workspace, person=people[state.role], theme="" if theme == "auto" else theme)
        visitor.goto(path)
    else:
        if path.startswith("/console"):
            if state.role != NOBODY:
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
        shown.locator(state.shows).first.wait_for(timeout=20_000)
    return shown
