"""Access tokens: made from 256 random bits, shown once, stored as a digest, revoked for good.

A workspace token calls for its own workspace; a service token acts for the host on any.
"""

import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from ownkey.control import ports
from ownkey.control.people import check_id
from ownkey.control.ports import Actor, Clock, TokenRow
from ownkey.control.problems import invalid, not_found, suggest
from ownkey.control.workspaces import check_name
from ownkey.domain.product import Product
from ownkey.domain.tokens import digest, make_token
from ownkey.domain.workspace import TokenKind, WorkspaceState

SCOPES = ("call", "manage")
MAX_LIFETIME_MS = 10 * 366 * 86_400_000


class _Store(ports.Tokens, Protocol):
    pass


@dataclass(frozen=True, slots=True)
class NewToken:
    """What a token shall be allowed. Empty `tasks` or `projects` mean all; `expires_at_ms` None: never."""

    label: str
    scopes: frozenset[str] = frozenset({"call"})
    tasks: frozenset[str] = frozenset()
    projects: frozenset[str] = frozenset()
    expires_at_ms: int | None = None


@dataclass(frozen=True, slots=True)
class ShownToken:
    """A token on the only occasion that it can be read. `token` never prints by accident."""

    row: TokenRow
    token: str

    def __repr__(self) -> str:
        return f"ShownToken(row={self.row!r}, token=***)"


class TokenControl:
    """Mints, lists and revokes."""

    def __init__(
        self, store: _Store, clock: Clock, product: Product, entropy: Callable[[int], bytes] = secrets.token_bytes
    ) -> None:
        self._store = store
        self._clock = clock
        self._product = product
        self._entropy = entropy

    async def create(self, workspace: WorkspaceState | None, new: NewToken, actor: Actor) -> ShownToken:
        """For a workspace, or (None) a service token. Raises Problem."""
        now = self._clock.now_ms()
        label = check_name("label", new.label)
        self._check(workspace, new, now)
        token = make_token(self._entropy(32))
        row = TokenRow(
            token_id=self._clock.new_id("tok"),
            kind=TokenKind.SERVICE if workspace is None else TokenKind.WORKSPACE,
            workspace_id=None if workspace is None else workspace.id,
            label=label, last4=token[-4:], scopes=new.scopes, created_at_ms=now,
            expires_at_ms=new.expires_at_ms, revoked_at_ms=None, tasks=new.tasks, projects=new.projects,
        )
        await self._store.save_token(row, digest(token), at_ms=now, actor=actor)
        return ShownToken(row, token)

    async def list(self, workspace: WorkspaceState | None) -> Sequence[TokenRow]:
        return await self._store.load_tokens(None if workspace is None else workspace.id)

    async def revoke(self, workspace: WorkspaceState | None, token_id: str, actor: Actor) -> None:
        """Refused from the next call on. Raises Problem(NOT_FOUND)."""
        workspace_id = None if workspace is None else workspace.id
        if not await self._store.revoke_token(token_id, workspace_id, at_ms=self._clock.now_ms(), actor=actor):
            where = "among the service tokens" if workspace is None else "in this workspace"
            raise not_found("token", token_id, where)

    def _check(self, workspace: WorkspaceState | None, new: NewToken, now: int) -> None:
        for scope in new.scopes:
            if scope not in SCOPES:
                raise invalid("scopes", f"There is no scope {scope[:40]!r}.", suggest(scope, SCOPES))
        if not new.scopes:
            raise invalid("scopes", "A token without a scope may do nothing.", suggest("", SCOPES))
        if workspace is not None and new.scopes != {"call"}:
            raise invalid("scopes", "A workspace token may only call; managing needs a service token.",
                          "Leave the scopes out, or make a service token.")
        for task in new.tasks:
            if task not in self._product.tasks:
                raise invalid("tasks", f"There is no task {task[:60]!r}.", suggest(task, sorted(self._product.tasks)))
        for project in new.projects:
            check_id("project", project)
        if new.expires_at_ms is not None and not now < new.expires_at_ms <= now + MAX_LIFETIME_MS:
            raise invalid("expires_at", "A token expires in the future, within ten years.",
                          "Use a later time, or leave it out for no expiry.")
