"""The credits statement: every movement of a workspace's credits, and the balance after it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from ownkey.domain.ledger import Posting
from ownkey.domain.phrases import Phrase

WHAT: Final[Mapping[str, str]] = {
    "plan": Phrase("Credits of the plan"),
    "topup": "Top-up",
    "promo": Phrase("Promotional credits"),
    "operator": Phrase("Credits granted by the operator"),
    "charge": "AI call",
    "correction": Phrase("AI call corrected, credits returned"),
    "addon": Phrase("OpenRouter add-on, one month"),
    "expiry": Phrase("Credits expired"),
    "refund": Phrase("Top-up refunded"),
    "refund_failed": Phrase("Refund failed, credits returned"),
    "dispute_opened": Phrase("Payment disputed, credits frozen"),
    "dispute_won": Phrase("Dispute won, credits returned"),
    "dispute_lost": Phrase("Dispute lost, frozen credits given up"),
    "repayment": Phrase("Owed credits repaid"),
}
"""What each kind of ledger entry is called."""


@dataclass(frozen=True, slots=True)
class StatementLine:
    """One movement. `credits` is what it added to the balance (below 0: took), `balance` what it left; whole credits.
    `receipt` is the call that was charged or corrected, else None."""

    entry: int
    at_ms: int
    kind: str
    what: str
    credits: int
    balance: int
    receipt: str | None
    actor: str


def net_credits(postings: Sequence[Posting]) -> int:
    """What an entry adds to the workspace's balance: its lots and its debt together."""
    return sum(
        posting.amount_credits * (_is_own(posting.destination) - _is_own(posting.source)) for posting in postings
    )


def _is_own(account: str) -> int:
    return 1 if account.startswith(("lot:", "debt:")) else 0
