"""Exports that take long, as work: calls as CSV, resumed where they stopped; a whole workspace as a zip archive."""

import json
from collections.abc import AsyncIterator, Mapping
from dataclasses import fields
from typing import Any, Protocol

from ownkey.control import ports
from ownkey.control.csv_rows import STATEMENT_COLUMNS, statement_cells, to_line
from ownkey.control.exports import PAGE, ExportControl
from ownkey.control.work import Made, Teller, WorkFailed, part_name
from ownkey.domain.records import ReceiptFilter
from ownkey.domain.work import Work
from ownkey.domain.workspace import WorkspaceState

_FIRST_DAY, _LAST_DAY = "1970-01-01", "9998-12-31"
_WISHED = frozenset(field.name for field in fields(ReceiptFilter)) - {"before", "limit"}


class _Workspaces(Protocol):
    async def load_workspace(self, workspace_id: str) -> WorkspaceState | None: ...


class _Stored(_Workspaces, ports.People, ports.Statements, ports.InOrder, Protocol):
    pass


def wish_of(query: ReceiptFilter) -> dict[str, Any]:
    """A filter as plain JSON: what it names, nothing else."""
    return {name: getattr(query, name) for name in sorted(_WISHED) if getattr(query, name) is not None}


def query_of(wish: Mapping[str, Any]) -> ReceiptFilter:
    """The filter of a wish."""
    return ReceiptFilter(**{name: value for name, value in wish.items() if name in _WISHED})


class ExportWorker:
    """Calls as CSV. The file grows a page at a time; each page is kept with the receipt that it ends with, and a run
    that begins in the middle cuts what was written behind it."""

    def __init__(self, workspaces: _Workspaces, exports: ExportControl, files: ports.ExportFiles) -> None:
        self._workspaces = workspaces
        self._exports = exports
        self._files = files

    async def run(self, work: Work, teller: Teller) -> Made:
        workspace = await _find(self._workspaces, work)
        query, name = query_of(work.wish), part_name(work)
        after, rows, size = _checkpoint(work, self._files.size(name))
        total = max(rows, await self._exports.count(workspace, query))
        async for chunk in self._exports.receipts(workspace, query, after):
            size = await self._files.append(name, size, chunk.text.encode())
            rows, after = rows + chunk.rows, chunk.last or after
            await teller.tell(
                "Writing calls", rows, max(rows, total), {"after": after, "rows": rows, "bytes": size}
            )
        final = f"{work.id}.csv"
        await self._files.finish(name, final)
        shown = self._exports.file_name(workspace, "receipts")
        return Made(rows, rows, {"name": shown, "rows": rows, "bytes": size, "type": "text/csv"}, final)


def _checkpoint(work: Work, size: int | None) -> tuple[str | None, int, int]:
    """(last receipt, rows, bytes) to go on from: the beginning where the file has lost what the checkpoint says."""
    kept = work.checkpoint
    if not kept.get("after") or size is None or size < kept["bytes"]:
        return None, 0, 0
    return kept["after"], kept["rows"], kept["bytes"]


async def _find(workspaces: _Workspaces, work: Work) -> WorkspaceState:
    workspace = await workspaces.load_workspace(work.workspace_id)
    if workspace is None:
        raise WorkFailed("The workspace is gone.")
    return workspace


class ExportAllWorker:
    """A workspace's data in one archive: settings without secrets, members, projects, calls, credits, ledger, audit.

    An archive cannot be written on after a crash: it begins again.
    """

    def __init__(self, store: _Stored, exports: ExportControl, files: ports.ExportFiles) -> None:
        self._store = store
        self._exports = exports
        self._files = files

    async def run(self, work: Work, teller: Teller) -> Made:
        workspace = await _find(self._store, work)
        total = await self._exports.count(workspace, ReceiptFilter())
        counted = _Counted()
        size = await self._files.write_zip(part_name(work), self._parts(workspace, counted, teller, total))
        final = f"{work.id}.zip"
        await self._files.finish(part_name(work), final)
        name = self._exports.file_name(workspace, "workspace").removesuffix(".csv") + ".zip"
        return Made(counted.calls, counted.calls, {
            "name": name, "rows": counted.calls, "bytes": size, "type": "application/zip",
        }, final)

    async def _parts(
        self, workspace: WorkspaceState, counted: "_Counted", teller: Teller, total: int
    ) -> AsyncIterator[tuple[str, bytes]]:
        await teller.tell("Collecting settings", 0, total, {}, now=True)
        yield "workspace.json", _json(await self._settings(workspace))
        yield "members.json", _json([
            {"id": m.member_id, "email": m.email, "name": m.name, "role": m.role.value, "muted": sorted(m.muted or ())}
            for m in await self._store.load_members(workspace.id)
        ])
        yield "projects.json", _json(dict(await self._store.load_projects(workspace.id)))
        async for chunk in self._exports.receipts(workspace, ReceiptFilter()):
            yield "calls.csv", chunk.text.encode()
            counted.calls += chunk.rows
            await teller.tell("Writing calls", counted.calls, max(total, counted.calls), {})
        async for data in self._receipts(workspace, teller):
            yield "receipts.jsonl", data
        yield "credits.csv", to_line(STATEMENT_COLUMNS).encode()
        async for data in self._statement(workspace):
            yield "credits.csv", data
        async for data in self._ledger(workspace):
            yield "ledger.jsonl", data
        async for data in self._audit(workspace):
            yield "audit.jsonl", data

    async def _settings(self, workspace: WorkspaceState) -> dict[str, Any]:
        """Hints of keys, never a key."""
        return {
            "id": workspace.id, "name": workspace.name, "external_id": workspace.external_id, "plan": workspace.plan,
            "timezone": workspace.timezone, "entitlement": workspace.entitlement.value,
            "always_use_key": workspace.always_use_key, "credits_if_key_fails": workspace.credits_if_key_fails,
            "credits_if_key_fails_limit": workspace.credits_if_key_fails_limit,
            "on_direct_auth_failure": workspace.on_direct_auth_failure, "features": dict(workspace.features),
            "feature_settings": {task: dict(values) for task, values in workspace.feature_settings.items()},
            "credentials": [
                {"id": c.id, "provider": c.provider, "label": c.label, "hint": c.hint, "status": c.status.value,
                 "health": c.health.value, "created_at_ms": c.created_at_ms}
                for c in workspace.credentials.values()
            ],
        }

    async def _receipts(self, workspace: WorkspaceState, teller: Teller) -> AsyncIterator[bytes]:
        after: str | None = None
        written = 0
        while True:
            found = await self._store.load_receipts_in_order(
                workspace.id, _FIRST_DAY, _LAST_DAY, after, limit=PAGE
            )
            if found:
                yield _lines(found)
                after, written = str(found[-1]["id"]), written + len(found)
                await teller.tell("Writing receipts", written, None, {})
            if len(found) < PAGE:
                return

    async def _statement(self, workspace: WorkspaceState) -> AsyncIterator[bytes]:
        before: int | None = None
        while True:
            found = await self._store.load_statement(workspace.id, before=before, limit=PAGE)
            if found:
                before = found[-1].entry
                yield "".join(to_line(statement_cells(line)) for line in found).encode()
            if len(found) < PAGE:
                return

    async def _ledger(self, workspace: WorkspaceState) -> AsyncIterator[bytes]:
        after = 0
        while found := await self._store.load_entries_in_order(workspace.id, after, limit=PAGE):
            after = found[-1]["id"]
            yield _lines(found)

    async def _audit(self, workspace: WorkspaceState) -> AsyncIterator[bytes]:
        after = 0
        while found := await self._store.load_audit_in_order(workspace.id, after, limit=PAGE):
            after = found[-1]["n"]
            yield _lines(found)


class _Counted:
    def __init__(self) -> None:
        self.calls = 0


def _json(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False, indent=2, sort_keys=True).encode()


def _lines(rows: Any) -> bytes:
    """One JSON object a line."""
    return "".join(json.dumps(row, ensure_ascii=False, default=str) + "\n" for row in rows).encode()
