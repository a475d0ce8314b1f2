"""Members and projects: whom the host knows, and what it groups calls by. Neither holds a credential or a rule."""

import re
from collections.abc import Mapping, Sequence
from typing import Protocol

from ownkey.control import ports
from ownkey.control.ports import Actor, Clock, Member
from ownkey.control.problems import invalid, not_found
from ownkey.control.workspaces import check_name
from ownkey.domain.notices import MUTEABLE, Topic
from ownkey.domain.phrases import Phrase
from ownkey.domain.product import Product
from ownkey.domain.scrub import looks_like_secret
from ownkey.domain.workspace import Role, WorkspaceState

_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:@-]{0,127}\Z", re.ASCII)
_EMAIL = re.compile(r"[^\s@,;<>\"]{1,64}@[^\s@,;<>\"]{1,190}\Z")


class _Store(ports.People, ports.Mutes, Protocol):
    pass


class MemberControl:
    """Owners and admins get the alerts; the host asserts roles when it opens a portal session."""

    def __init__(self, store: _Store, clock: Clock) -> None:
        self._store = store
        self._clock = clock

    async def list(self, workspace: WorkspaceState) -> Sequence[Member]:
        return await self._store.load_members(workspace.id)

    async def save(
        self, workspace: WorkspaceState, member_id: str, email: str, name: str, role: Role, actor: Actor,
        *, muted: frozenset[str] | None = None,
    ) -> Member:
        """Adds or changes; `muted` None: as before. Raises Problem."""
        member = checked_member(workspace.id, member_id, email, name, role, muted=muted)
        return await self._store.save_member(member, at_ms=self._clock.now_ms(), actor=actor)

    async def mute(
        self, workspace: WorkspaceState, member_id: str, topic: Topic, actor: Actor, *, muted: bool
    ) -> Member:
        """Whether this member gets e-mails about a topic. Raises Problem."""
        if topic not in MUTEABLE:
            raise invalid("topic", Phrase("These e-mails cannot be muted."), Phrase(
                "Choose one of {topics}.", topics=", ".join(sorted(MUTEABLE))
            ))
        at_ms = self._clock.now_ms()
        saved = await self._store.save_mute(workspace.id, member_id, topic, muted, at_ms=at_ms, actor=actor)
        if saved is None:
            raise not_found("member", member_id)
        return saved

    async def delete(self, workspace: WorkspaceState, member_id: str, actor: Actor) -> None:
        if not await self._store.delete_member(workspace.id, member_id, at_ms=self._clock.now_ms(), actor=actor):
            raise not_found("member", member_id)


class ProjectControl:
    """Any project, existing or new, goes on without a change: projects only name calls."""

    def __init__(self, store: _Store, clock: Clock) -> None:
        self._store = store
        self._clock = clock

    async def list(self, workspace: WorkspaceState) -> Mapping[str, str]:
        return await self._store.load_projects(workspace.id)

    async def save(self, workspace: WorkspaceState, project_id: str, name: str, actor: Actor) -> None:
        check_id("project", project_id)
        await self._store.save_project(
            workspace.id, project_id, check_name("name", name), at_ms=self._clock.now_ms(), actor=actor
        )


def checked_member(
    workspace_id: str, member_id: str, email: str, name: str, role: Role, *, muted: frozenset[str] | None = None,
    place: str = "",
) -> Member:
    """A member as the host describes them; `place` is where the fields stand in its request. Raises Problem."""
    check_id("member", member_id, f"{place}id" if place else "member")
    if looks_like_secret(email) or not _EMAIL.match(email):
        raise invalid(f"{place}email", "This is not an e-mail address.", "Use an address such as ada@example.com.")
    named = check_name(f"{place}name", name) if name else ""
    return Member(workspace_id, member_id, email, named, role, muted)


def check_id(kind: str, value: str, param: str = "") -> None:
    """The host's own id for a member or a project; `param` is the field, where it has another name. Raises Problem."""
    if looks_like_secret(value) or not _ID.match(value):
        raise invalid(param or kind, f"A {kind} id has 1 to 128 letters, digits and . _ : @ -.",
                      "Use the id that your product has for it.")


def actor_name(product: Product, actor: Actor, names: Mapping[str, str]) -> str:
    """Who did something, as the workspace's people know them; `names` are its members', by id. "" for no person."""
    match actor.kind:
        case "member":
            # A host need not name its people; that does not make them strangers.
            return (names[actor.id] or "a member") if actor.id in names else "a member who has left"
        case "service" | "workspace":
            return product.name
        case "operator":
            return "an operator"
        case _:
            return ""
