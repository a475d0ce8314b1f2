"""Stripe's test cards: what a number, or a `pm_card_…` name, does when it is attached, charged or authenticated.

Source: docs.stripe.com/testing.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Decline:
    """A refusal of the card's bank."""

    code: str
    decline_code: str | None
    message: str


_DECLINED = Decline("card_declined", "generic_decline", "Your card was declined.")
_NO_FUNDS = Decline("card_declined", "insufficient_funds", "Your card has insufficient funds.")
_LOST = Decline("card_declined", "lost_card", "Your card was declined.")
_STOLEN = Decline("card_declined", "stolen_card", "Your card was declined.")
_EXPIRED = Decline("expired_card", None, "Your card has expired.")
_CVC = Decline("incorrect_cvc", None, "Your card's security code is incorrect.")
_PROCESSING = Decline(
    "processing_error", None, "An error occurred while processing your card. Try again in a little bit."
)
AUTHENTICATE = Decline(
    "authentication_required",
    "authentication_required",
    "Your card was declined. This transaction requires authentication.",
)


@dataclass(frozen=True, slots=True)
class Card:
    """A test card. `asks` is when it wants to be authenticated; `dispute` opens one after each charge."""

    number: str
    brand: str = "visa"
    attach: Decline | None = None
    charge: Decline | None = None
    asks: str = "never"  # "never", "unless_set_up", "always"
    dispute: str = ""

    @property
    def last4(self) -> str:
        return self.number[-4:]


_ALL = (
    ("pm_card_visa", Card("4242424242424242")),
    ("pm_card_mastercard", Card("5555555555554444", "mastercard")),
    ("pm_card_amex", Card("378282246310005", "amex")),
    ("pm_card_chargeCustomerFail", Card("4000000000000341", charge=_DECLINED)),
    ("pm_card_visa_chargeDeclined", Card("4000000000000002", attach=_DECLINED, charge=_DECLINED)),
    ("pm_card_chargeDeclinedInsufficientFunds", Card("4000000000009995", attach=_NO_FUNDS, charge=_NO_FUNDS)),
    ("pm_card_visa_chargeDeclinedInsufficientFunds", Card("4000000000009995", attach=_NO_FUNDS, charge=_NO_FUNDS)),
    ("pm_card_visa_chargeDeclinedLostCard", Card("4000000000009987", attach=_LOST, charge=_LOST)),
    ("pm_card_visa_chargeDeclinedStolenCard", Card("4000000000009979", attach=_STOLEN, charge=_STOLEN)),
    ("pm_card_chargeDeclinedExpiredCard", Card("4000000000000069", attach=_EXPIRED, charge=_EXPIRED)),
    ("pm_card_chargeDeclinedIncorrectCvc", Card("4000000000000127", attach=_CVC, charge=_CVC)),
    ("pm_card_chargeDeclinedProcessingError", Card("4000000000000119", attach=_PROCESSING, charge=_PROCESSING)),
    ("pm_card_authenticationRequiredOnSetup", Card("4000002500003155", asks="unless_set_up")),
    ("pm_card_authenticationRequired", Card("4000002760003184", asks="always")),
    ("pm_card_createDispute", Card("4000000000000259", dispute="fraudulent")),
    ("pm_card_createDisputeProductNotReceived", Card("4000000000002685", dispute="product_not_received")),
)

BY_NAME = dict(_ALL)
BY_NUMBER = {card.number: card for _, card in _ALL}


def by_number(typed: str) -> Card | None:
    """The test card with this number, spaces and hyphens aside; None where it is none."""
    return BY_NUMBER.get(typed.replace(" ", "").replace("-", ""))
