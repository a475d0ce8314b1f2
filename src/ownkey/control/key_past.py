"""What a key's card tells beside its state: who saved it and when it was tested, and what its failing has cost so far.

Reads only. People are named by what the host said of them; who is unknown stays unnamed.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from ownkey.control import ports
from ownkey.control.incidents import IncidentControl, IncidentView
from ownkey.control.people import actor_name
from ownkey.domain.key_past import KeyPast, Toll
from ownkey.domain.product import Product
from ownkey.domain.records import Actor
from ownkey.domain.workspace import Credential, WorkspaceState

_LOOK_BACK = 200
"""How many incidents are looked through for the open ones: at most one a provider is, and it is among the newest."""


class PastBook(Protocol):
    async def load_key_past(self, credential: Credential) -> KeyPast: ...

    async def load_toll(self, workspace_id: str, provider: str, since_ms: int) -> Toll:
        """What calls met since then that this provider's key concerns."""
        ...


class _Store(PastBook, ports.People, Protocol):
    pass


@dataclass(frozen=True, slots=True)
class SavedKey:
    """`saved_by` is a person's name, the product's, or "" for somebody unknown."""

    saved_at_ms: int
    saved_by: str
    tested_ms: int | None
    found: str


@dataclass(frozen=True, slots=True)
class OpenIncident:
    incident: IncidentView
    toll: Toll


class KeyPastControl:
    def __init__(self, store: _Store, incidents: IncidentControl, product: Product) -> None:
        self._store = store
        self._incidents = incidents
        self._product = product

    async def saved(self, workspace: WorkspaceState) -> Mapping[str, SavedKey]:
        """By provider, of the keys that are saved now."""
        if not workspace.credentials:
            return {}
        names = {member.member_id: member.name for member in await self._store.load_members(workspace.id)}
        found = {}
        for provider, credential in workspace.credentials.items():
            past = await self._store.load_key_past(credential)
            found[provider] = SavedKey(
                credential.created_at_ms, _saver(self._product, past.saved_by, names), past.tested_ms, past.found
            )
        return found

    async def open_incidents(self, workspace: WorkspaceState) -> Sequence[OpenIncident]:
        """Keys that fail now, oldest first, with what calls met since."""
        rows = [row for row in await self._incidents.list(workspace, _LOOK_BACK) if row.closed_at_ms is None]
        return [
            OpenIncident(row, await self._store.load_toll(workspace.id, row.provider, row.opened_at_ms))
            for row in reversed(rows)
        ]


def _saver(product: Product, saved_by: Actor | None, names: Mapping[str, str]) -> str:
    return "" if saved_by is None else actor_name(product, saved_by, names)
