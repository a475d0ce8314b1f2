"""The audit log as people read it, and the refused authorisations that must stand in it."""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from ownkey.control import ports
from ownkey.control.ports import Actor, Clock
from ownkey.domain.workspace import WorkspaceState


class _Store(ports.Caps, ports.Credentials, Protocol):
    pass


REFUSED_EVERY_MS = 60_000
MAX_TRACKED = 10_000


class AuditControl:
    """Reads the log, and notes refusals. Who is refused in a loop writes one row a minute, not one a request: the
    log is for ever, and a valid token without rights must not be able to fill the disk with it."""

    def __init__(self, store: _Store, clock: Clock) -> None:
        self._store = store
        self._clock = clock
        self._noted: dict[tuple[str, str], int] = {}

    async def list(self, workspace: WorkspaceState | None, limit: int) -> Sequence[Mapping[str, Any]]:
        """Newest first. None: the deployment's own chain."""
        return await self._store.load_audit(None if workspace is None else workspace.id, limit=limit)

    async def note(self, action: str, target: str, actor: Actor) -> None:
        """Something that the deployment's log should hold although it changed nothing."""
        await self._store.save_audit(None, action, target, None, None, at_ms=self._clock.now_ms(), actor=actor)

    async def note_refused(self, workspace_id: str | None, operation: str, actor: Actor) -> None:
        """Somebody with a valid token asked for what it may not do: once per token, operation and minute."""
        now_ms, key = self._clock.now_ms(), (actor.id, operation)
        last = self._noted.get(key)
        if last is not None and 0 <= now_ms - last < REFUSED_EVERY_MS:
            return
        self._noted.pop(key, None)
        while len(self._noted) >= MAX_TRACKED:
            del self._noted[next(iter(self._noted))]
        self._noted[key] = now_ms
        await self._store.save_audit(
            workspace_id, "authorisation.refused", operation, None, None, at_ms=now_ms, actor=actor
        )
