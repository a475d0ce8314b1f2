"""Does everything that is sealed still open? Each row is opened once and what it held is dropped at once.

Looked at when a process starts, once a day, and whenever somebody verifies. A credential that does not open is marked:
no page shows it as connected.
"""

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

from ownkey.control.ports import Auditor, Clock, Finding
from ownkey.domain.booking import CapFigures
from ownkey.domain.master_key import AUDIT_KEY, SecretPlace
from ownkey.domain.workspace import Credential, Sealed, WorkspaceState, WrappedDek

_log = logging.getLogger(__name__)

PAGE = 50
PAUSE_S = 0.002
NAMED = 50
CHECK = "undecryptable"


class Trier(Protocol):
    """The vault, asked whether something opens."""

    def opens_dek(self, workspace_id: str, dek: WrappedDek) -> bool: ...

    def opens(self, dek: WrappedDek, credential: Credential) -> bool: ...

    def opens_secret(self, workspace_id: str, dek: WrappedDek, purpose: str, sealed: Sealed) -> bool: ...

    def opens_audit_key(self) -> bool: ...


class SealedRows(Protocol):
    """Everything that is sealed."""

    async def load_sealed_page(
        self, after: str, *, limit: int
    ) -> Sequence[tuple[str, WrappedDek, Sequence[Credential]]]: ...

    async def load_sealed_seeds(self) -> Sequence[tuple[SecretPlace, Sealed]]: ...

    async def load_platform(self) -> WorkspaceState | None: ...

    def mark_undecryptable(self, credential: Credential, at_ms: int) -> None: ...


@dataclass(slots=True)
class Swept:
    """What a look at every sealed row found. `named` are the first of those that do not open: (workspace or None,
    row)."""

    at_ms: int
    data_keys: int = 0
    credentials: int = 0
    seeds: int = 0
    bad_data_keys: int = 0
    bad_credentials: int = 0
    bad_seeds: int = 0
    named: list[tuple[str | None, str]] = field(default_factory=list)

    @property
    def bad(self) -> int:
        return self.bad_data_keys + self.bad_credentials + self.bad_seeds

    def name(self, workspace_id: str | None, row: str) -> None:
        if len(self.named) < NAMED:
            self.named.append((workspace_id, row))


class KeyCheck:
    """`last` is the latest look that came to its end."""

    def __init__(self, trier: Trier, rows: SealedRows, clock: Clock) -> None:
        self._trier = trier
        self._rows = rows
        self._clock = clock
        self.last: Swept | None = None

    async def run(self) -> None:
        """A round of the job: what does not open is an alarm."""
        found = await self.sweep()
        if found.bad:
            _log.critical(
                "%d sealed rows do not open (%d data keys, %d credentials, %d seeds): %s", found.bad,
                found.bad_data_keys, found.bad_credentials, found.bad_seeds,
                ", ".join(row if place is None else f"{place} {row}" for place, row in found.named[:20]),
            )

    async def sweep(self) -> Swept:
        found = Swept(self._clock.now_ms())
        after = ""
        while page := await self._rows.load_sealed_page(after, limit=PAGE):
            after = page[-1][0]
            for credential in await asyncio.to_thread(self._try, page, found):
                self._rows.mark_undecryptable(credential, found.at_ms)
            # Calls come first: this has all day.
            await asyncio.sleep(PAUSE_S)
        await self._try_seeds(found)
        found.data_keys += 1
        if not await asyncio.to_thread(self._trier.opens_audit_key):
            found.bad_data_keys += 1
            found.name(None, AUDIT_KEY)
        self.last = found
        return found

    def _try(
        self, page: Sequence[tuple[str, WrappedDek, Sequence[Credential]]], found: Swept
    ) -> Sequence[Credential]:
        """The credentials of a page that do not open."""
        closed = []
        for workspace_id, dek, credentials in page:
            found.data_keys += 1
            found.credentials += len(credentials)
            if not self._trier.opens_dek(workspace_id, dek):
                found.bad_data_keys += 1
                found.name(workspace_id, f"data key {dek.dek_id} under {dek.kek_id}")
            for credential in credentials:
                if not self._trier.opens(dek, credential):
                    found.bad_credentials += 1
                    found.name(workspace_id, f"credential {credential.id}")
                    closed.append(credential)
        return closed

    async def _try_seeds(self, found: Swept) -> None:
        seeds = await self._rows.load_sealed_seeds()
        platform = await self._rows.load_platform() if seeds else None
        for place, sealed in seeds:
            found.seeds += 1
            if platform is None or not self._trier.opens_secret(platform.id, platform.dek, place.purpose, sealed):
                found.bad_seeds += 1
                found.name(None, place.what)


class KeyAuditor:
    """The books' own check, and the look at every sealed row beside it: satisfies `control.ports.Auditor`."""

    def __init__(self, auditor: Auditor, check: KeyCheck) -> None:
        self._auditor = auditor
        self._check = check

    async def verify(self, at_ms: int) -> Sequence[Finding]:
        books = await self._auditor.verify(at_ms)
        swept = await self._check.sweep()
        unnamed = swept.bad - len(swept.named)
        return [
            *books, *(Finding(CHECK, place, (row,), "does not open under any master key here")
                      for place, row in swept.named),
            *([Finding(CHECK, None, (), f"{unnamed} rows more do not open")] if unnamed else []),
        ]

    async def load_cap_figures(self, workspace_id: str, at_ms: int) -> CapFigures | None:
        return await self._auditor.load_cap_figures(workspace_id, at_ms)
