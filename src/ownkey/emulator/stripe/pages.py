"""The pages that a customer's browser sees: checkout, the bank's question, the portal, an open invoice.

Plain forms without scripts. Every answer to a button is a redirect, or the same page with the reason why not.
"""

from dataclasses import dataclass
from datetime import UTC, datetime
from html import escape

from . import billing, checkout, portal
from .cards import by_number
from .checkout import Typed
from .customers import make_method
from .invoices import intent_of
from .refusals import Json, Refusal, declined, missing
from .subscriptions import period_of
from .world import Origin, World


@dataclass(frozen=True, slots=True)
class Page:
    """An answer to a browser: a page, or where to go."""

    status: int
    html: str = ""
    location: str = ""


def _page(title: str, body: str, status: int = 200) -> Page:
    style = (
        "body{font:16px system-ui;max-width:34rem;margin:3rem auto;padding:0 1rem;color:#1a1a2e}"
        "label{display:block;margin:.8rem 0 .2rem}input{font:inherit;padding:.4rem;width:100%;box-sizing:border-box}"
        "button{font:inherit;padding:.5rem 1rem;margin:.8rem .5rem 0 0}.error{color:#b00020}"
        ".test{background:#ffe9b3;padding:.2rem .5rem}table{width:100%}td:last-child{text-align:right}"
    )
    html = (
        f"<!doctype html><html lang=en><meta charset=utf-8><title>{escape(title)}</title><link rel=icon href=data:,>"
        f"<style>{style}</style>"
        f"<p class=test>Emulated Stripe, test mode: no money moves.</p><h1>{escape(title)}</h1>{body}</html>"
    )
    return Page(status, html)


def _money(amount: int, currency: str) -> str:
    whole, cents = divmod(amount, 100)
    return f"{whole:,}.{cents:02} {currency.upper()}"


def _error(message: str) -> str:
    return f'<p class=error role=alert id=error>{escape(message)}</p>' if message else ""


def answer(world: World, method: str, path: str, values: dict[str, str]) -> Page:
    """The page at `path`, or what its button does."""
    parts = path.strip("/").split("/")
    try:
        match method, parts:
            case "GET", ["c", "pay", ident]:
                return _checkout_page(world, ident)
            case "POST", ["c", "pay", ident]:
                return _pay(world, ident, values)
            case "GET", ["c", "pay", ident, "authenticate"]:
                return _bank_page(f"/c/pay/{ident}/authenticate")
            case "POST", ["c", "pay", ident, "authenticate"]:
                return _after_bank(world, ident, values.get("answer") == "complete")
            case "GET", ["authenticate", ident]:
                return _bank_page(f"/authenticate/{ident}")
            case "POST", ["authenticate", ident]:
                return _answer_intent(world, ident, values.get("answer") == "complete")
            case "GET", ["p", "session", ident]:
                return _portal_page(world, ident)
            case "POST", ["p", "session", ident]:
                return _press(world, ident, values)
            case "GET", ["invoices", ident]:
                return _invoice_page(world, ident)
            case "POST", ["invoices", ident]:
                return _pay_invoice(world, ident, values)
            case _:
                return _page("Nothing here", "<p>This page does not exist.</p>", 404)
    except Refusal as refusal:
        return _page("This did not work", _error(str(refusal)), refusal.status)


# checkout


def _checkout_page(world: World, ident: str, error: str = "", status: int = 200) -> Page:
    session = world.get("checkout.session", ident, in_path=True)
    if session["status"] != "open":
        word = "already been completed" if session["status"] == "complete" else "expired"
        return _page("Checkout", f"<p>This checkout has {word}.</p>", 410 if word == "expired" else 200)
    rows = "".join(
        f"<tr><td>{item['quantity']} × {escape(item['description'])}"
        f"<td>{_money(item['amount_total'], item['currency'])}"
        for item in checkout.items_of(world, session)
    )
    total = _money(session["amount_total"], session["currency"])
    email = session["customer_email"] or ""
    if session["customer"]:
        email = world.get("customer", session["customer"])["email"] or ""
    verb = "Subscribe" if session["mode"] == "subscription" else "Pay"
    back = f'<p><a id=cancel href="{escape(session["cancel_url"])}">Back</a></p>' if session["cancel_url"] else ""
    body = (
        f"<table>{rows}<tr><td><b>Total</b><td><b>{total}</b></table>{_error(error)}"
        f'<form method=post action="/c/pay/{escape(ident)}"><label for=email>Email</label>'
        f'<input id=email name=email type=email required value="{escape(email)}">'
        "<label for=card_number>Card number</label>"
        '<input id=card_number name=card_number required inputmode=numeric value="4242 4242 4242 4242">'
        "<label for=exp>Expiry</label><input id=exp name=exp value=12/34><label for=cvc>CVC</label>"
        "<input id=cvc name=cvc value=123><label for=name>Name on card</label><input id=name name=name>"
        f"<button type=submit>{verb}</button></form>{back}"
    )
    return _page("Checkout", body, status)


def _pay(world: World, ident: str, values: dict[str, str]) -> Page:
    session = world.get("checkout.session", ident, in_path=True)
    if session["status"] != "open":
        return _checkout_page(world, ident)
    typed = Typed(values.get("card_number", ""), values.get("email") or None, values.get("name") or None)
    try:
        with world.request(Origin()):
            done = checkout.submit(world, session, typed)
    except Refusal as refusal:
        return _checkout_page(world, ident, str(refusal), 402)
    return _to_success(session) if done else Page(303, location=f"{world.url}/c/pay/{ident}/authenticate")


def _after_bank(world: World, ident: str, passed: bool) -> Page:
    session = world.get("checkout.session", ident, in_path=True)
    if session["status"] != "open":
        return _checkout_page(world, ident)
    try:
        with world.request(Origin()):
            checkout.after_bank(world, session, passed=passed)
    except Refusal as refusal:
        return _checkout_page(world, ident, str(refusal), 402)
    return _to_success(session)


def _to_success(session: Json) -> Page:
    return Page(303, location=session["success_url"].replace("{CHECKOUT_SESSION_ID}", session["id"]))


def _bank_page(action: str) -> Page:
    body = (
        f'<p>Your bank asks whether this is you.</p><form method=post action="{escape(action)}">'
        "<button name=answer value=complete>Complete</button><button name=answer value=fail>Fail</button></form>"
    )
    return _page("3D Secure test page", body)


def _answer_intent(world: World, ident: str, passed: bool) -> Page:
    intent = world.get("payment_intent", ident, in_path=True)
    if intent["status"] != "requires_action":
        return _page("3D Secure test page", f"<p>This payment is {escape(intent['status'])}.</p>", 410)
    with world.request(Origin()):
        billing.answer_bank(world, intent, passed=passed)
    target = world.hidden(ident).get("return_url")
    if target:
        return Page(303, location=target)
    return _page("3D Secure test page", f"<p id=status>{escape(intent['status'])}</p>")


# the portal


def _portal_page(world: World, ident: str, error: str = "", status: int = 200) -> Page:
    session = world.get("billing_portal.session", ident, in_path=True)
    blocks = []
    for sub in portal.shown(world, session):
        until = datetime.fromtimestamp(period_of(sub)[1], UTC).date().isoformat()
        ending = sub["cancel_at_period_end"] or sub["cancel_at"]
        button, word = ("resume", "Don't cancel") if ending else ("cancel", "Cancel subscription")
        state = f"{'ends' if ending else 'renews'} on {until}"
        names = ", ".join(escape(_product(world, item["price"])) for item in sub["items"]["data"])
        blocks.append(
            f"<h2>{names}</h2><p>{escape(sub['status'])}, {state}</p><form method=post>"
            f'<input type=hidden name=subscription value="{sub["id"]}">'
            f"<button name=button value={button}>{word}</button></form>"
        )
    back = f'<p><a id=return href="{escape(session["return_url"])}">Return</a></p>' if session["return_url"] else ""
    body = (
        f"{_error(error)}{''.join(blocks) or '<p>No subscriptions.</p>'}<h2>Payment method</h2><form method=post>"
        "<label for=card_number>Card number</label><input id=card_number name=card_number required>"
        f"<button name=button value=update_card>Save card</button></form>{_invoices(world, session['customer'])}{back}"
    )
    return _page("Billing", body, status)


def _product(world: World, price: Json) -> str:
    product = world.find("product", price["product"])
    return str(product["name"]) if product else str(price["product"])


def _invoices(world: World, customer: str) -> str:
    rows = "".join(
        f'<tr><td><a href="{escape(i["hosted_invoice_url"])}">{escape(i["number"])}</a> {i["status"]}'
        f"<td>{_money(i['total'], i['currency'])}"
        for i in world.every("invoice") if i["customer"] == customer and i["number"]
    )  # fmt: skip
    return f"<h2>Invoices</h2><table>{rows}</table>" if rows else ""


def _press(world: World, ident: str, values: dict[str, str]) -> Page:
    session = world.get("billing_portal.session", ident, in_path=True)
    try:
        with world.request(Origin()):
            portal.press(world, session, values.get("button", ""), values)
    except Refusal as refusal:
        return _portal_page(world, ident, str(refusal), refusal.status)
    after = (session["flow"] or {}).get("after_completion") or {}
    if after.get("type") == "redirect":
        return Page(303, location=after["redirect"]["return_url"])
    return Page(303, location=session["url"])


# invoices


def _invoice_page(world: World, ident: str, error: str = "", status: int = 200) -> Page:
    invoice = world.get("invoice", ident, in_path=True)
    if invoice["status"] == "draft":
        raise missing("invoice", ident, "id", in_path=True)
    rows = "".join(
        f"<tr><td>{escape(line['description'] or '')}<td>{_money(line['amount'], line['currency'])}"
        for line in invoice["lines"]["data"]
    )
    form = ""
    if invoice["status"] == "open":
        form = (
            "<form method=post><label for=card_number>Card number</label>"
            "<input id=card_number name=card_number required><button>Pay</button></form>"
        )
    body = f"<p id=status>{invoice['status']}</p><table>{rows}</table>{_error(error)}{form}"
    return _page(f"Invoice {invoice['number']}", body, status)


def _pay_invoice(world: World, ident: str, values: dict[str, str]) -> Page:
    invoice = world.get("invoice", ident, in_path=True)
    if invoice["status"] != "open":
        return _invoice_page(world, ident)
    card = by_number(values.get("card_number", ""))
    if card is None:
        refusal = declined("Your card number is incorrect.", "incorrect_number", None, param="number")
        return _invoice_page(world, ident, str(refusal), 402)
    with world.request(Origin()):
        method = make_method(world, card, invoice["customer_email"], invoice["customer_name"])
        decline = billing.collect(world, invoice, method, off_session=False, scheduled=False)
    intent = intent_of(world, invoice)
    if decline is None and intent is not None and intent["status"] == "requires_action":
        return Page(303, location=intent["next_action"]["redirect_to_url"]["url"])
    if decline is not None:
        return _invoice_page(world, ident, decline.message, 402)
    return Page(303, location=invoice["hosted_invoice_url"])
