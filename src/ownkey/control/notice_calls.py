"""The call that set a notice off: its headline and its receipt, kept with the message before anybody is told.

A receipt is written when its call ends, which may be after the notice. A message waits a little for it; what it says
then is kept, so that a repeat under the same Message-ID says the same, whatever is corrected meanwhile.
"""

from collections.abc import Mapping
from typing import Any, Final, Protocol

import msgspec

from ownkey.control.ports import Clock, OutboxCalls, Receipts, Workspaces
from ownkey.control.receipts import ReceiptControl
from ownkey.domain.notices import CALL, CALL_HEADLINE, Payload
from ownkey.domain.phrases import retell
from ownkey.domain.records import Due, ReceiptFilter
from ownkey.domain.workspace import WorkspaceState

WAIT_MS: Final = 20_000
_LOOK_BACK_MS: Final = 600_000
_LOOKED_AT: Final = 50


class _Store(OutboxCalls, Receipts, Workspaces, Protocol):
    pass


class NoticeCalls:
    """`words` are the host's own, which the e-mails' readers know from the pages."""

    def __init__(self, store: _Store, receipts: ReceiptControl, clock: Clock, words: Mapping[str, str]) -> None:
        self._store, self._receipts, self._clock, self._words = store, receipts, clock, words

    async def complete(self, due: Due) -> Payload | None:
        """The message's payload with what it says of its call. None: the call may still run, ask again."""
        payload = due.payload
        if CALL_HEADLINE in payload or not (payload.get(CALL) or payload.get("credential")):
            return payload
        workspace = await self._store.load_workspace(due.workspace_id)
        if workspace is None:
            return payload
        receipt = await self._find(due)
        if receipt is None:
            if self._clock.now_ms() < due.since_ms + WAIT_MS:
                return None
            told = {CALL_HEADLINE: ""}
        else:
            told = {CALL: str(receipt["id"]), CALL_HEADLINE: await self._headline(workspace, receipt)}
        await self._store.save_outbox_call(due, told)
        return {**payload, **told}

    async def _headline(self, workspace: WorkspaceState, receipt: Mapping[str, Any]) -> str:
        """In the host's words; "" for a receipt that this version cannot read: no message stays behind for that."""
        try:
            headline = await self._receipts.headline(workspace, receipt)
        except msgspec.ValidationError:
            return ""
        return retell(headline, self._words)

    async def _find(self, due: Due) -> Mapping[str, Any] | None:
        if due.payload.get(CALL):
            return await self._store.load_receipt(due.workspace_id, str(due.payload[CALL]))
        return await self._find_failed(due.workspace_id, str(due.payload["credential"]), int(due.payload["since_ms"]))

    async def _find_failed(self, workspace_id: str, credential: str, since_ms: int) -> Mapping[str, Any] | None:
        """The call whose attempt with this key failed when the incident began; None where a probe found it out."""
        calls = await self._store.load_receipts(workspace_id, ReceiptFilter(
            credential=credential, since_ms=since_ms - _LOOK_BACK_MS, until_ms=since_ms + 1, limit=_LOOKED_AT,
        ))
        found = [
            (abs(int(call["at_ms"]) + int(attempt["ended_ms"]) - since_ms), n)
            for n, call in enumerate(calls) for attempt in call["attempts"]
            if attempt["credential_id"] == credential and attempt["failure"] in ("auth", "funds")
        ]
        return calls[min(found)[1]] if found else None
