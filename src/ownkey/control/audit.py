"""The audit log as people read it, and the refused authorisations that must stand in it."""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from ownkey.control import ports
from ownkey.control.ports import Actor, Clock
from ownkey.domain.workspace import WorkspaceState


class _Store(ports.Caps, ports.Credentials, Protocol):
    pass


class AuditControl:
    def __init__(self, store: _Store, clock: Clock) -> None:
        self._store = store
        self._clock = clock

    async def list(self, workspace: WorkspaceState | None, limit: int) -> Sequence[Mapping[str, Any]]:
        """Newest first. None: the deployment's own chain."""
        return await self._store.load_audit(None if workspace is None else workspace.id, limit=limit)

    async def note_refused(self, workspace_id: str | None, operation: str, actor: Actor) -> None:
        """Somebody with a valid token asked for what it may not do."""
        await self._store.save_audit(
            workspace_id, "authorisation.refused", operation, None, None, at_ms=self._clock.now_ms(), actor=actor
        )
