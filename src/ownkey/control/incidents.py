"""Incidents: keys that stopped working, each told in one sentence with its beginning and its end."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ownkey.control.credentials import clock_text
from ownkey.control.ports import Incidents
from ownkey.domain.health import is_unhealthy
from ownkey.domain.phrases import Phrase, together
from ownkey.domain.receipts import provider_name
from ownkey.domain.workspace import Credential, WorkspaceState

_CAUSES: Mapping[str, str] = {
    "rejected": Phrase("does not accept the saved key"),
    "no_funds": Phrase("says that there are no funds behind the saved key"),
}


@dataclass(frozen=True, slots=True)
class IncidentView:
    """`hint` and `label` are the present key's, None once the provider's key is disconnected. `closed_at_ms` None: it
    is still so, and calls skip the key; `cause` and `signal` are then the present ones, else the first."""

    id: int
    provider: str
    hint: str | None
    label: str | None
    cause: str
    signal: str
    sentence: str
    opened_at_ms: int
    closed_at_ms: int | None


class IncidentControl:
    def __init__(self, store: Incidents) -> None:
        self._store = store

    async def list(self, workspace: WorkspaceState, limit: int) -> Sequence[IncidentView]:
        """Newest first. A suspicion that no probe has confirmed is no incident yet."""
        rows = await self._store.load_incidents(workspace.id, limit=limit)
        return tuple(view_incident(workspace, row) for row in rows)


def view_incident(workspace: WorkspaceState, row: Mapping[str, Any]) -> IncidentView:
    """One stored incident as people read it, pure."""
    credential = workspace.credentials.get(row["provider"])
    if credential is not None and credential.id != row["credential_id"]:
        credential = None
    end = row["closed_at_ms"]
    cause, signal = _present_cause(credential, row) if end is None else (row["cause"], row["signal"])
    since = clock_text(row["opened_at_ms"])
    until = Phrase("calls skip it until it works again") if end is None else Phrase(
        "over since {at}", at=clock_text(end)
    )
    before = _what(row["provider"], row["cause"], row["signal"])
    first = "" if cause == row["cause"] else Phrase("When it began: {before}.", before=before)
    return IncidentView(
        id=row["id"], provider=row["provider"], hint=None if credential is None else credential.hint,
        label=None if credential is None else credential.label, cause=cause, signal=signal,
        sentence=together(Phrase(
            "{what}: since {since}; {until}.", what=_what(row["provider"], cause, signal), since=since, until=until
        ), first),
        opened_at_ms=row["opened_at_ms"], closed_at_ms=end,
    )


def _present_cause(credential: Credential | None, row: Mapping[str, Any]) -> tuple[str, str]:
    """What keeps an open incident open: causes may follow each other, and the row has the first."""
    if credential is None or credential.undecryptable or not is_unhealthy(credential):
        return row["cause"], row["signal"]
    return credential.health.value, credential.health_signal


def _what(provider: str, cause: str, signal: str) -> str:
    name = provider_name(provider)
    if cause == "undecryptable":
        return Phrase("The saved {name} key cannot be opened, which is our fault", name=name)
    return Phrase("{name} {did} ({signal})", name=name, did=_CAUSES.get(cause, cause), signal=signal)
