"""One management request, decoded: what a handler is given and what a route says about it."""

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from ownkey.api.authorisation import Right, Subject
from ownkey.api.manage_schemas import NoQuery, Request
from ownkey.control.desk import Desk
from ownkey.control.receipts import Scope
from ownkey.domain.records import Actor
from ownkey.domain.workspace import Principal, WorkspaceState


@dataclass(frozen=True, slots=True)
class Call:
    """`workspace` is set on routes of a workspace (or of the platform). `query` and `body` are of the route's
    schemas. `on_platform`: the workspace is the platform's own. `idem_key` is the Idempotency-Key
    header, None without one."""

    desk: Desk
    principal: Principal
    actor: Actor
    workspace: WorkspaceState | None
    path: Mapping[str, str]
    query: Any
    body: Any
    on_platform: bool
    address: str
    idem_key: str | None

    @property
    def own(self) -> WorkspaceState:
        """The workspace of a route that has one."""
        assert self.workspace is not None
        return self.workspace

    @property
    def scope(self) -> Scope:
        """What a limited token may see of the receipts."""
        return Scope(self.principal.tasks, self.principal.projects)


@dataclass(frozen=True, slots=True)
class Download:
    """An answer that is a file, sent as it is read."""

    name: str
    media: str
    content: AsyncIterator[bytes]

    @property
    def headers(self) -> list[tuple[bytes, bytes]]:
        return [
            (b"content-type", self.media.encode()), (b"cache-control", b"no-store"),
            (b"x-content-type-options", b"nosniff"),
            (b"content-disposition", f'attachment; filename="{self.name}"'.encode()),
        ]


Handler = Callable[[Call], Awaitable[Any]]


@dataclass(frozen=True, slots=True)
class ManageRoute:
    """One row of the URL map. `owner` says whose objects the route shows: a workspace's, the platform's, or the
    deployment's. `shows_once` names an answer's fields, with blanks between them, that are never stored for an
    Idempotency-Key."""

    method: Literal["GET", "POST", "PUT", "PATCH", "DELETE"]
    path: str
    name: str
    subject: Subject
    right: Right
    handler: Handler
    summary: str
    answer: Any
    body: type[Request] | None = None
    query: type[Request] = NoQuery
    status: int = 200
    shows_once: str | None = None
    media: str = "application/json"

    @property
    def owner(self) -> Literal["workspace", "platform", "deployment"]:
        if self.path.startswith("/workspaces/{workspace}"):
            return "workspace"
        return "platform" if self.path.startswith("/platform/") else "deployment"
