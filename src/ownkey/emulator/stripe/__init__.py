"""An emulated Stripe: one account on loopback, judged only by the official SDK.

It keeps what Stripe keeps (customers, subscriptions, invoices, payments, events) and moves it in virtual time. The
API version is the one of the SDK it is tested with. It shares nothing with the product.
"""

API_VERSION = "2026-10-28.endive"
