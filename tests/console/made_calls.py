"""Receipts in a console's books, as calls write them, without a call."""

from types import SimpleNamespace
from typing import Any, cast

from tests.console.console_pages import Console
from tests.portal.receipts_made import make_receipt
from tests.portal.visiting import Portal

from ownkey.domain.receipts import AttemptRecord, Receipt
from ownkey.domain.workspace import WorkspaceState


async def write(console: Console, workspace: WorkspaceState, *attempts: AttemptRecord, **fields: Any) -> Receipt:
    """The receipt as it stands in the books now."""
    place = cast(Portal, SimpleNamespace(control=console.control, workspace=workspace))
    return await console.control.store.end_call(None, make_receipt(place, *attempts, **fields))
