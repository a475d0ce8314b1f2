"""The correction of an ended hold and of its call's receipt, together; runs inside the writer's transaction."""

from dataclasses import dataclass

from ownkey.domain.booking import Booked
from ownkey.domain.errors import NotFound
from ownkey.domain.receipts import HoldState
from ownkey.store.connection import Connection
from ownkey.store.ends import load_hold, save_correction
from ownkey.store.receipt_rows import Amendment, amend_receipt

_CALL_OF = "SELECT call_id FROM hold WHERE id = ? AND workspace_id = ?"


@dataclass(frozen=True, slots=True)
class Report:
    """A cost learned after the end. `delivered_nusd` is what the caller got of it; `is_actual`: the provider's own
    figure, which ends every doubt about the attempt if it is booked as it stands."""

    cost_nusd: int
    delivered_nusd: int
    origin: str
    at_ms: int
    is_actual: bool = False
    note: str = ""


def correct_hold(conn: Connection, workspace_id: str, hold_id: str, report: Report) -> Booked | NotFound | None:
    """Book a report once; None if the hold is open or was corrected before. The receipt keeps the estimate beside."""
    row = load_hold(conn, workspace_id, hold_id)
    if row is None:
        return NotFound("no such hold in this workspace")
    if row.state == HoldState.HELD or row.corrected:
        return None
    save_correction(
        conn, workspace_id, hold_id, row, report.cost_nusd, report.delivered_nusd, report.origin, report.at_ms
    )
    (call_id,) = conn.execute(_CALL_OF, (hold_id, workspace_id)).fetchone()
    amend_receipt(conn, workspace_id, call_id, report.note or f"Corrected afterwards: {report.origin}.", Amendment(
        hold_id, report.origin, report.cost_nusd, report.at_ms, report.is_actual
    ))
    row = load_hold(conn, workspace_id, hold_id)
    assert row is not None
    return Booked(row.cost_nusd, row.charge_nusd, row.charge_credits, row.absorbed_nusd, row.overage_nusd, None)
