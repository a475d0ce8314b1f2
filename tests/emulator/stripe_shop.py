"""A shop for the Stripe tests: on the emulator, or on Stripe's own test mode where STRIPE_TEST_KEY is set."""

import calendar
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import stripe

from stripe_process import StripeHandle

HOUR, DAY = 3600, 86_400


def at(year: int, month: int, day: int, hour: int = 12) -> int:
    """A moment in UTC, in Unix seconds."""
    return int(datetime(year, month, day, hour, tzinfo=UTC).timestamp())


def shown(moment: int) -> str:
    """A moment for people: 2026-01-31 12:00."""
    return datetime.fromtimestamp(moment, UTC).strftime("%Y-%m-%d %H:%M")


def months_after(start: int, months: int) -> int:
    """The same day and time some months later, or the month's last day: reckoned apart from the emulator."""
    day = datetime.fromtimestamp(start, UTC)
    year, month = day.year + (day.month - 1 + months) // 12, (day.month - 1 + months) % 12 + 1
    last = calendar.monthrange(year, month)[1]
    return int(day.replace(year=year, month=month, day=min(day.day, last)).timestamp())


@dataclass
class Shop:
    """What the tests do again and again, in the SDK's calls only."""

    client: stripe.StripeClient
    emulator: StripeHandle | None
    _clocks: list[str] = field(default_factory=list)

    @property
    def v1(self) -> Any:
        return self.client.v1

    def price(self, amount: int = 500, interval: str = "month", name: str = "Add-on") -> str:
        """A recurring price in cents."""
        product = self.v1.products.create({"name": name})
        made = self.v1.prices.create(
            {"product": product.id, "currency": "usd", "unit_amount": amount, "recurring": {"interval": interval}}
        )
        return str(made.id)

    def clock(self, moment: int) -> str:
        """A test clock standing at a moment."""
        made = self.v1.test_helpers.test_clocks.create({"frozen_time": moment})
        self._clocks.append(made.id)
        return str(made.id)

    def customer(self, card: str | None = "pm_card_visa", clock: str | None = None) -> str:
        """A customer whose invoices are charged to a test card."""
        params: dict[str, Any] = {"email": "buyer@example.com", "metadata": {"workspace": "ws_1"}}
        if clock:
            params["test_clock"] = clock
        made = self.v1.customers.create(params)
        if card:
            self.use_card(made.id, card)
        return str(made.id)

    def use_card(self, customer: str, card: str) -> str:
        """Make a test card the customer's default."""
        method = self.v1.payment_methods.attach(card, {"customer": customer})
        self.v1.customers.update(customer, {"invoice_settings": {"default_payment_method": method.id}})
        return str(method.id)

    def subscribe(self, customer: str, price: str, **more: Any) -> Any:
        """A subscription to one price."""
        return self.v1.subscriptions.create({"customer": customer, "items": [{"price": price}], **more})

    def subscription(self, ident: str) -> Any:
        """The subscription as it is now."""
        return self.v1.subscriptions.retrieve(ident, {"expand": ["latest_invoice"]})

    def advance(self, clock: str, moment: int) -> None:
        """Move a test clock and wait until everything due has happened."""
        self.v1.test_helpers.test_clocks.advance(clock, {"frozen_time": moment})
        pause = 0.02 if self.emulator else 2.0
        for _ in range(500):
            found = self.v1.test_helpers.test_clocks.retrieve(clock)
            if found.status == "ready":
                return
            time.sleep(pause)
        raise AssertionError(f"the clock is still {found.status}")

    def invoices(self, subscription: str) -> list[Any]:
        """All invoices of a subscription, oldest first."""
        found = self.v1.invoices.list({"subscription": subscription, "limit": 100})
        return list(reversed(list(found.auto_paging_iter())))

    def event_types(self) -> list[str]:
        """The types of all events, oldest first."""
        return [event.type for event in reversed(list(self.v1.events.list({"limit": 100}).auto_paging_iter()))]

    def close(self) -> None:
        """Remove the clocks with all that belongs to them."""
        for clock in self._clocks:
            self.v1.test_helpers.test_clocks.delete(clock)


def period(subscription: Any) -> tuple[int, int]:
    """The current period, which lives on the items."""
    item = subscription["items"].data[0]
    return item.current_period_start, item.current_period_end
