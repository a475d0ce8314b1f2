"""The rewrap: every data key under the first master key, a batch at a time, while calls go on.

What a data key seals is not touched, so nothing that is saved meanwhile can be lost. A row that another one replaced
since it was read is left to the next look; where the process dies, the rows that are left say where to go on.
"""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from ownkey.control.master_key_check import KeyCheck
from ownkey.control.ports import Actor, Clock
from ownkey.control.upkeep_work import tell_while
from ownkey.control.work import Made, Teller, WorkFailed
from ownkey.domain.master_key import AUDIT_KEY, LoadedKey
from ownkey.domain.work import Work
from ownkey.domain.workspace import WrappedDek

BATCH = 100
SHOWN = 50
STEP = "Rewrapping data keys"
CHECKING = "Trying every sealed row"
REWRAPPER = Actor("job", "rewrap")


class Wrapper(Protocol):
    """The vault, for data keys."""

    @property
    def keys(self) -> Sequence[LoadedKey]: ...

    def rewrap(self, deks: Sequence[tuple[str, WrappedDek]]) -> Sequence[WrappedDek | None]:
        """Under the first master key; None for what does not open."""
        ...

    def rewrap_audit_key(self) -> bool | None:
        """True: moved; False: it was there; None: it does not open. Raises OSError."""
        ...

    def audit_kek_id(self) -> str: ...


class DekRows(Protocol):
    async def count_deks_elsewhere(self, kek_id: str) -> int: ...

    async def load_deks_elsewhere(self, kek_id: str, after: str, *, limit: int) -> Sequence[tuple[str, WrappedDek]]: ...

    async def save_rewrapped(self, changes: Sequence[tuple[str, WrappedDek, WrappedDek]]) -> int:
        """(workspace id, as read, as wanted); returns how many were still as read."""
        ...

    async def save_audit(
        self, workspace_id: str | None, action: str, target: str, before: Mapping[str, Any] | None,
        after: Mapping[str, Any] | None, *, at_ms: int, actor: Actor,
    ) -> None: ...


class RewrapWorker:
    """One rewrap. Beginning again is safe: what has been moved is not found any more."""

    def __init__(
        self, wrapper: Wrapper, rows: DekRows, check: KeyCheck, clock: Clock, *, batch: int = BATCH
    ) -> None:
        self._wrapper = wrapper
        self._rows = rows
        self._check = check
        self._clock = clock
        self._batch = batch

    async def run(self, work: Work, teller: Teller) -> Made:
        to = str(work.wish.get("to", ""))
        left = await self._left(to)
        total = int(work.checkpoint.get("total", left))
        await teller.tell(STEP, max(0, total - left), total, {"total": total}, now=True)
        bad: set[str] = set()
        try:
            # A second look from the beginning finds what was being made when the first key changed.
            while await self._pass(to, teller, total, left, bad):
                left = await self._left(to)
            audit = await self._rewrap_audit_key()
        except WorkFailed as error:
            await self._note("master_key.rewrap_stopped", to, {"left": await self._left(to), "why": str(error)})
            raise
        if audit is None:
            bad.add(AUDIT_KEY)
        left = await self._left(to)
        # Before anybody retires the old key: does everything open that is sealed?
        await tell_while(teller, CHECKING, self._check.run(), max(0, total - left), total)
        named = sorted(bad)
        result = {"to": to, "rewrapped": max(0, total - left), "left": left, "undecryptable": len(named),
                  "named": named[:SHOWN]}
        await self._note("master_key.rewrapped", to, {
            key: result[key] for key in ("rewrapped", "left", "undecryptable")
        })
        return Made(max(0, total - left), total, result)

    async def _rewrap_audit_key(self) -> bool | None:
        """Raises WorkFailed: a full disk is not a key that does not open."""
        try:
            return await asyncio.to_thread(self._wrapper.rewrap_audit_key)
        except OSError as error:
            raise WorkFailed(
                f"{AUDIT_KEY} cannot be rewritten beside the database: {error.strerror or type(error).__name__}. It is "
                "as it was; start the rewrap again when that is mended."
            ) from error

    async def _note(self, action: str, to: str, after: Mapping[str, Any]) -> None:
        await self._rows.save_audit(
            None, action, to, None, after, at_ms=self._clock.now_ms(), actor=REWRAPPER
        )

    async def _left(self, to: str) -> int:
        audit = await asyncio.to_thread(self._wrapper.audit_kek_id)
        return await self._rows.count_deks_elsewhere(to) + (audit not in ("", to))

    async def _pass(self, to: str, teller: Teller, total: int, left: int, bad: set[str]) -> int:
        """Once through all rows; returns how many were moved."""
        moved, after = 0, ""
        while rows := await self._rows.load_deks_elsewhere(to, after, limit=self._batch):
            after = rows[-1][0]
            if self._wrapper.keys[0].kek_id != to:
                raise WorkFailed(f"Another master key than {to} is the first one now. Start the rewrap again.")
            made = await asyncio.to_thread(self._wrapper.rewrap, rows)
            bad.update(workspace for (workspace, _), new in zip(rows, made, strict=True) if new is None)
            moved += await self._rows.save_rewrapped([
                (workspace, old, new) for (workspace, old), new in zip(rows, made, strict=True) if new is not None
            ])
            await teller.tell(STEP, min(total, max(0, total - left + moved)), total, {"total": total})
        return moved
