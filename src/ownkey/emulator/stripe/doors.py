"""The URL map of the API as data: method, path, and the function that answers."""

import re
from collections.abc import Callable
from typing import Any

from . import (
    balances,
    catalogue,
    checkout,
    clocks,
    customers,
    disputes,
    intents,
    invoice_doors,
    invoices,
    portal,
    refunds,
    subscription_doors,
    webhooks,
)
from .form import Form
from .lists import Includes
from .refusals import Json, no_route
from .world import World

Handler = Callable[..., Json]


def _one(kind: str) -> Handler:
    """GET of one object by its id."""

    def retrieve(world: World, form: Form, ident: str) -> Json:
        form.close()
        return world.get(kind, ident, in_path=True)

    return retrieve


ROUTES: list[tuple[str, str, Handler]] = [
    ("GET", "account", balances.account),
    ("GET", "accounts/:id", balances.account_by_id),
    ("GET", "balance", balances.balance),
    ("GET", "balance_transactions", balances.list_transactions),
    ("GET", "balance_transactions/:id", _one("balance_transaction")),
    ("POST", "products", catalogue.create_product),
    ("GET", "products", catalogue.list_products),
    ("GET", "products/:id", _one("product")),
    ("POST", "products/:id", catalogue.update_product),
    ("DELETE", "products/:id", catalogue.delete_product),
    ("POST", "prices", catalogue.create_price),
    ("GET", "prices", catalogue.list_prices),
    ("GET", "prices/:id", _one("price")),
    ("POST", "prices/:id", catalogue.update_price),
    ("POST", "customers", customers.create_customer),
    ("GET", "customers", customers.list_customers),
    ("GET", "customers/:id", customers.retrieve_customer),
    ("POST", "customers/:id", customers.update_customer),
    ("DELETE", "customers/:id", subscription_doors.delete_customer),
    ("GET", "customers/:id/payment_methods", lambda w, f, ident: customers.list_methods(w, f, ident)),
    ("GET", "customers/:id/payment_methods/:id", customers.retrieve_method),
    ("POST", "payment_methods", customers.create_method),
    ("GET", "payment_methods", customers.list_methods),
    ("GET", "payment_methods/:id", _one("payment_method")),
    ("POST", "payment_methods/:id", customers.update_method),
    ("POST", "payment_methods/:id/attach", customers.attach_method),
    ("POST", "payment_methods/:id/detach", customers.detach_method),
    ("POST", "payment_intents", intents.create_intent),
    ("GET", "payment_intents", intents.list_intents),
    ("GET", "payment_intents/:id", _one("payment_intent")),
    ("POST", "payment_intents/:id", intents.update_intent),
    ("POST", "payment_intents/:id/confirm", intents.confirm_intent),
    ("POST", "payment_intents/:id/cancel", intents.cancel_intent),
    ("GET", "charges", intents.list_charges),
    ("GET", "charges/:id", _one("charge")),
    ("POST", "refunds", refunds.create_refund),
    ("GET", "refunds", refunds.list_refunds),
    ("GET", "refunds/:id", _one("refund")),
    ("POST", "refunds/:id", refunds.update_refund),
    ("GET", "disputes", disputes.list_disputes),
    ("GET", "disputes/:id", _one("dispute")),
    ("POST", "disputes/:id", disputes.update_dispute),
    ("POST", "disputes/:id/close", disputes.accept_dispute),
    ("POST", "checkout/sessions", checkout.create),
    ("GET", "checkout/sessions", checkout.list_all),
    ("GET", "checkout/sessions/:id", _one("checkout.session")),
    ("POST", "checkout/sessions/:id", checkout.update),
    ("POST", "checkout/sessions/:id/expire", checkout.expire),
    ("GET", "checkout/sessions/:id/line_items", checkout.list_items),
    ("POST", "subscriptions", subscription_doors.create),
    ("GET", "subscriptions", subscription_doors.list_all),
    ("GET", "subscriptions/:id", _one("subscription")),
    ("POST", "subscriptions/:id", subscription_doors.update),
    ("DELETE", "subscriptions/:id", subscription_doors.cancel),
    ("GET", "subscription_items", subscription_doors.list_items),
    ("POST", "invoices", invoice_doors.create),
    ("GET", "invoices", invoice_doors.list_all),
    ("GET", "invoices/:id", _one("invoice")),
    ("POST", "invoices/:id", invoice_doors.update),
    ("DELETE", "invoices/:id", invoice_doors.delete),
    ("POST", "invoices/:id/finalize", invoice_doors.finalize),
    ("POST", "invoices/:id/pay", invoice_doors.pay),
    ("POST", "invoices/:id/void", invoice_doors.void),
    ("POST", "invoices/:id/mark_uncollectible", invoice_doors.write_off),
    ("GET", "invoices/:id/lines", invoice_doors.list_lines),
    ("GET", "invoice_payments", invoice_doors.list_payments),
    ("GET", "invoice_payments/:id", _one("invoice_payment")),
    ("POST", "invoiceitems", invoice_doors.create_item),
    ("GET", "invoiceitems", invoice_doors.list_items),
    ("GET", "invoiceitems/:id", _one("invoiceitem")),
    ("DELETE", "invoiceitems/:id", invoice_doors.delete_item),
    ("POST", "billing_portal/sessions", portal.create),
    ("POST", "billing_portal/configurations", portal.create_configuration),
    ("GET", "billing_portal/configurations", portal.list_configurations),
    ("GET", "billing_portal/configurations/:id", _one("billing_portal.configuration")),
    ("GET", "events", webhooks.list_events),
    ("GET", "events/:id", _one("event")),
    ("POST", "webhook_endpoints", webhooks.create),
    ("GET", "webhook_endpoints", webhooks.list_endpoints),
    ("GET", "webhook_endpoints/:id", _one("webhook_endpoint")),
    ("POST", "webhook_endpoints/:id", webhooks.update),
    ("DELETE", "webhook_endpoints/:id", webhooks.delete),
    ("POST", "test_helpers/test_clocks", clocks.create),
    ("GET", "test_helpers/test_clocks", clocks.list_all),
    ("GET", "test_helpers/test_clocks/:id", _one("test_helpers.test_clock")),
    ("DELETE", "test_helpers/test_clocks/:id", clocks.delete),
    ("POST", "test_helpers/test_clocks/:id/advance", clocks.advance),
]

INCLUDES: Includes = {
    ("checkout.session", "line_items"): checkout.listed_items,
    ("invoice", "payments"): invoices.payments_of,
    ("invoice", "confirmation_secret"): invoices.secret_of,
    ("charge", "refunds"): refunds.refunds_of,
    ("customer", "subscriptions"): customers.subscriptions_of,
}

_COMPILED = [
    (method, re.compile("/v1/" + re.sub(":id", "([^/]+)", path)), handler) for method, path, handler in ROUTES
]


def find(method: str, path: str) -> tuple[Handler, tuple[Any, ...]]:
    """The function for a request and the ids in its path, or Refused."""
    for wanted, pattern, handler in _COMPILED:
        found = pattern.fullmatch(path)
        if found and wanted == method:
            return handler, found.groups()
    raise no_route(method, path)
