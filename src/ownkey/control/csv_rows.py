"""CSV as RFC 4180 says, safe to open in a spreadsheet: pure functions from values to lines.

A text that a spreadsheet would take for a formula gets an apostrophe in front; numbers are numbers. Columns are
documented in docs/csv.md.
"""

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Final

from ownkey.domain.activity import Amounts, TotalRow, outcome_of, shares_of
from ownkey.domain.money import format_usd
from ownkey.domain.receipts import Receipt
from ownkey.domain.routing import Route
from ownkey.domain.statement import StatementLine

Cell = str | int | None

RECEIPT_COLUMNS: Final = (
    "receipt", "time", "outcome", "code", "task", "project", "trace", "member", "model_requested", "model_served",
    "provider", "route", "funding", "credential", "credential_label", "credential_hint", "attempts", "tokens_input",
    "tokens_cache_read", "tokens_cache_write", "tokens_output", "tokens_reasoning", "cost_nano_usd", "cost_usd",
    "basis", "cost_complete", "charge_credits", "price_version", "status", "duration_ms", "first_content_ms",
)
AMOUNT_COLUMNS: Final = (
    "calls", "attempts", "cost_nano_usd", "cost_usd", "own_cost_nano_usd", "unknown_attempts", "charge_credits",
    "tokens_input", "tokens_cache_read", "tokens_cache_write", "tokens_output", "tokens_reasoning",
)
STATEMENT_COLUMNS: Final = ("entry", "time", "kind", "what", "credits", "balance_credits", "receipt")

_FORMULA: Final = ("=", "+", "-", "@", "\t", "\r")
_QUOTED: Final = frozenset(',"\r\n')
_TOKENS: Final = tuple(n for n, name in enumerate(Amounts._fields) if name.startswith("tokens_"))
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def to_line(cells: Iterable[Cell]) -> str:
    """One record with its CRLF. None is an empty cell."""
    return ",".join(map(_to_cell, cells)) + "\r\n"


def _to_cell(value: Cell) -> str:
    if value is None:
        return ""
    if isinstance(value, int):
        return str(value)
    text = f"'{value}" if value.startswith(_FORMULA) else value
    if _QUOTED.isdisjoint(text):
        return text
    doubled = text.replace('"', '""')
    return f'"{doubled}"'


def utc_time(at_ms: int) -> str:
    """2026-11-22T06:30:00.123Z."""
    return (_EPOCH + timedelta(milliseconds=at_ms)).strftime("%Y-%m-%dT%H:%M:%S.") + f"{at_ms % 1000:03d}Z"


def receipt_cells(receipt: Receipt) -> tuple[Cell, ...]:
    """One call, as `RECEIPT_COLUMNS` says. The cost is what is known of it; `cost_complete`: whether that is all."""
    last = receipt.attempts[-1] if receipt.attempts else None
    shares = [amounts for _, amounts in shares_of(receipt)]
    cost = sum(amounts.cost_nusd for amounts in shares)
    known = receipt.cost_nusd is not None or cost > 0
    # The platform's own key is none of the workspace's business.
    own = last if last is not None and last.route is not Route.CREDITS else None
    tokens = (sum(amounts[n] for amounts in shares) for n in _TOKENS)
    return (
        receipt.id, utc_time(receipt.at_ms), outcome_of(receipt).value, receipt.code, receipt.task, receipt.project,
        receipt.conversation, receipt.member, receipt.requested_model, receipt.served_model, receipt.provider,
        receipt.route, receipt.funding, *((own.credential_id, own.credential_label, own.credential_hint) if own else
        (None, None, None)), len(receipt.attempts), *tokens, cost if known else None,
        format_usd(cost) if known else None, receipt.basis, "yes" if receipt.cost_nusd is not None else "no",
        receipt.charge_credits, receipt.price_version, receipt.status, receipt.duration_ms, receipt.first_content_ms,
    )


def total_cells(by: Sequence[str], row: TotalRow) -> tuple[Cell, ...]:
    """One group of a sum: its keys, then `AMOUNT_COLUMNS`."""
    a = row.amounts
    return (
        *(row.keys[name] for name in by), a.calls, a.attempts, a.cost_nusd, format_usd(a.cost_nusd), row.own_nusd,
        a.unknown_attempts, a.charge_credits, a.tokens_input, a.tokens_cache_read, a.tokens_cache_write,
        a.tokens_output, a.tokens_reasoning,
    )


def statement_cells(line: StatementLine) -> tuple[Cell, ...]:
    """One movement of credits, as `STATEMENT_COLUMNS` says."""
    return line.entry, utc_time(line.at_ms), line.kind, line.what, line.credits, line.balance, line.receipt
