"""The credits statement, page by page: what came, what went, and what was left each time. Reads only."""

from collections.abc import Sequence
from dataclasses import dataclass

from ownkey.control.ports import Statements
from ownkey.domain.statement import StatementLine
from ownkey.domain.workspace import WorkspaceState

PAGE = 50
PAGE_MOST = 500


@dataclass(frozen=True, slots=True)
class StatementPage:
    """Newest first. `next_before` continues, None at the end."""

    lines: Sequence[StatementLine]
    next_before: int | None


class StatementControl:
    def __init__(self, store: Statements) -> None:
        self._store = store

    async def page(
        self, workspace: WorkspaceState, before: int | None = None, limit: int = PAGE, kinds: Sequence[str] = ()
    ) -> StatementPage:
        """`before` is the last line's `entry` of the page before; `kinds` of ledger entries, empty for all."""
        limit = max(1, min(limit, PAGE_MOST))
        found = await self._store.load_statement(workspace.id, before=before, limit=limit + 1, kinds=kinds)
        shown = found[:limit]
        return StatementPage(shown, shown[-1].entry if len(found) > limit else None)
