"""Every object that the emulator sends, held against the annotations of the official SDK's resources.

A required field is there with a value of its type, a literal is one of its values, and no field is invented.
"""

import ast
from decimal import Decimal
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import stripe
from stripe_shop import Shop, at

from stripe_process import StripeHandle

PACKAGE = Path(stripe.__file__).parent
KINDS = {
    "account": "_account.py", "balance": "_balance.py", "balance_transaction": "_balance_transaction.py",
    "billing_portal.configuration": "billing_portal/_configuration.py", "charge": "_charge.py",
    "billing_portal.session": "billing_portal/_session.py", "checkout.session": "checkout/_session.py",
    "customer": "_customer.py", "dispute": "_dispute.py", "event": "_event.py", "invoice": "_invoice.py",
    "invoice_payment": "_invoice_payment.py", "invoiceitem": "_invoice_item.py", "item": "_line_item.py",
    "line_item": "_invoice_line_item.py", "payment_intent": "_payment_intent.py", "plan": "_plan.py",
    "payment_method": "_payment_method.py", "price": "_price.py", "product": "_product.py", "refund": "_refund.py",
    "subscription": "_subscription.py", "subscription_item": "_subscription_item.py",
    "test_helpers.test_clock": "test_helpers/_test_clock.py", "webhook_endpoint": "_webhook_endpoint.py",
}  # fmt: skip
ABSENT = {  # declared by the SDK, sent only where it was asked for, or of other payment methods
    "checkout.session": {"line_items"}, "invoice": {"payments", "confirmation_secret"}, "charge": {"refunds"},
    "customer": {"sources", "subscriptions", "tax_ids", "tax", "cash_balance", "invoice_credit_balance"},
}  # fmt: skip


@cache
def resource(kind: str) -> ast.ClassDef:
    """The SDK's class of an object."""
    tree = ast.parse((PACKAGE / KINDS[kind]).read_text())
    for node in tree.body:
        if isinstance(node, ast.ClassDef):
            names = [n for n in node.body if isinstance(n, ast.AnnAssign) and ast.unparse(n.target) == "OBJECT_NAME"]
            if names and names[0].value is not None and ast.literal_eval(names[0].value) == kind:
                return node
    raise AssertionError(f"the SDK has no {kind}")


def problems(kind: str, thing: dict[str, Any]) -> list[str]:
    """What is wrong with one object, in words."""
    return list(_walk(thing, resource(kind), kind))


def _walk(thing: dict[str, Any], cls: ast.ClassDef, path: str) -> list[str]:
    nested = {node.name: node for node in cls.body if isinstance(node, ast.ClassDef)}
    fields = {
        ast.unparse(node.target): node.annotation for node in cls.body
        if isinstance(node, ast.AnnAssign) and "ClassVar" not in ast.unparse(node.annotation)
    }  # fmt: skip
    found = [f"{path}.{name}: invented" for name in thing if name not in fields and name != "deleted"]
    for name, annotation in fields.items():
        optional = _is(annotation, "Optional")
        if name not in thing or thing[name] is None:
            if not optional:
                found.append(f"{path}.{name}: required and {'null' if name in thing else 'absent'}")
            continue
        inner = annotation.slice if optional and isinstance(annotation, ast.Subscript) else annotation
        found += _value(thing[name], inner, nested, f"{path}.{name}")
    return found


def _is(node: ast.expr, name: str) -> bool:
    return isinstance(node, ast.Subscript) and ast.unparse(node.value) == name


def _value(value: Any, wanted: ast.expr, nested: dict[str, ast.ClassDef], path: str) -> list[str]:
    text = ast.unparse(wanted)
    simple = {"int": int, "str": str, "bool": bool, "Decimal": (str, Decimal), "float": (int, float)}
    if text in simple:
        good = isinstance(value, simple[text]) and not (text == "int" and isinstance(value, bool))  # type: ignore[arg-type]
        return [] if good else [f"{path}: {value!r} is no {text}"]
    if _is(wanted, "List") or _is(wanted, "ListObject"):
        assert isinstance(wanted, ast.Subscript)
        items = value
        if _is(wanted, "ListObject"):
            if not isinstance(value, dict) or set(value) != {"object", "data", "has_more", "url"}:
                return [f"{path}: no list object"]
            items = value["data"]
        if not isinstance(items, list):
            return [f"{path}: no list"]
        inner = wanted.slice
        return [found for n, item in enumerate(items) for found in _value(item, inner, nested, f"{path}[{n}]")]
    if _is(wanted, "Union") or _is(wanted, "Literal"):
        return _literal(value, wanted, path)
    if _is(wanted, "ExpandableField"):
        return [] if isinstance(value, str) else _resource(value, path)
    if text in nested:
        return _walk(value, nested[text], path) if isinstance(value, dict) else [f"{path}: no object"]
    if isinstance(wanted, ast.Constant):
        return _resource(value, path)
    return []


def _literal(value: Any, wanted: ast.expr, path: str) -> list[str]:
    allowed = [
        constant.value for node in ast.walk(wanted) if _is_literal(node)
        for constant in ast.walk(node) if isinstance(constant, ast.Constant)
    ]  # fmt: skip
    return [] if not allowed or value in allowed else [f"{path}: {value!r} is none of {allowed}"]


def _is_literal(node: ast.AST) -> bool:
    return isinstance(node, ast.Subscript) and ast.unparse(node.value) == "Literal"


def _resource(value: Any, path: str) -> list[str]:
    if not isinstance(value, dict) or "object" not in value:
        return [f"{path}: no object of the API"]
    return problems(value["object"], value) if value["object"] in KINDS else [f"{path}: {value['object']} is unknown"]


@pytest.fixture
def world(shop: Shop, emulated: StripeHandle) -> list[dict[str, Any]]:
    """One of everything, in many states."""
    clock = shop.clock(at(2027, 3, 15))
    customer, price = shop.customer(clock=clock), shop.price(500)
    sub = shop.subscribe(customer, price)
    shop.v1.subscriptions.update(sub.id, {"items": [{"id": sub["items"].data[0].id, "quantity": 3}]})
    shop.use_card(customer, "pm_card_chargeCustomerFail")
    shop.advance(clock, at(2027, 4, 15, 15))
    shop.subscribe(shop.customer(), price, trial_period_days=7, cancel_at_period_end=True)
    shop.v1.subscriptions.cancel(shop.subscribe(shop.customer(), price, billing_mode={"type": "classic"}).id)
    shop.subscribe(shop.customer("pm_card_authenticationRequired"), price)
    session = shop.v1.checkout.sessions.create({
        "mode": "subscription", "line_items": [{"price": price, "quantity": 1}], "success_url": "https://shop.example/",
        "expand": ["line_items"],
    })  # fmt: skip
    emulated.pay(session.url)
    shop.v1.checkout.sessions.create({
        "mode": "payment", "success_url": "https://shop.example/", "line_items": [
            {"price_data": {"currency": "usd", "unit_amount": 900, "product_data": {"name": "A"}}, "quantity": 1}],
    })  # fmt: skip
    paid = shop.v1.payment_intents.create({"amount": 2000, "currency": "usd", "confirm": True,
                                           "payment_method": "pm_card_createDispute"})  # fmt: skip
    dispute = shop.v1.disputes.list({"payment_intent": paid.id}).data[0]
    shop.v1.disputes.update(dispute.id, {"evidence": {"uncategorized_text": "winning_evidence"}})
    refund = shop.v1.refunds.create({"charge": paid.latest_charge, "amount": 100})
    emulated.control("POST", "refunds/fail", {"refund": refund.id})
    shop.v1.billing_portal.sessions.create({"customer": customer, "return_url": "https://shop.example/",
                                            "flow_data": {"type": "payment_method_update"}})  # fmt: skip
    shop.v1.invoice_items.create({"customer": customer, "amount": 100, "currency": "usd"})
    draft = shop.v1.invoices.create({"customer": customer, "pending_invoice_items_behavior": "include"})
    shop.v1.invoices.void_invoice(shop.v1.invoices.finalize_invoice(draft.id).id)
    shop.v1.webhook_endpoints.create({"url": f"{emulated.url}/nowhere", "enabled_events": ["charge.updated"]})
    sent = [session, shop.v1.accounts.retrieve_current(), shop.v1.balance.retrieve()]
    kept: list[dict[str, Any]] = emulated.control("GET", "objects")["objects"]
    return [*kept, *(thing.to_dict() for thing in sent), *(event["data"]["object"] for event in kept
                                                          if event["object"] == "event")]  # fmt: skip


def test_every_object_has_the_fields_of_the_sdk(world: list[dict[str, Any]]) -> None:
    """Required fields are there, typed, and nothing is invented, in every state that was reached."""
    found = {problem for thing in world for problem in problems(thing["object"], thing)}

    assert sorted(found) == []
    inside = {"item", "line_item", "plan", "subscription_item"}
    assert {thing["object"] for thing in world} == set(KINDS) - inside


def test_nullable_fields_are_sent_as_null(world: list[dict[str, Any]]) -> None:
    """Reading a nullable attribute must not be an AttributeError: it is there, as null."""
    for kind in ("subscription", "invoice", "checkout.session", "payment_intent", "charge", "customer", "price"):
        thing = next(thing for thing in world if thing["object"] == kind)
        declared = {
            ast.unparse(node.target) for node in resource(kind).body
            if isinstance(node, ast.AnnAssign) and _is(node.annotation, "Optional")
        }  # fmt: skip
        missing = declared - set(thing) - ABSENT.get(kind, set()) - {"deleted"}
        assert missing <= NEVER[kind], kind


NEVER = {
    "subscription": {"presentment_details"},
    "invoice": {"amount_paid_off_stripe", "threshold_reason", "rendering"},
    "checkout.session": {"optional_items", "presentment_details", "name_collection", "managed_payments",
                         "payment_method_configuration_details", "excluded_payment_method_types"},
    "payment_intent": {"presentment_details", "hooks", "payment_details", "amount_details", "managed_payments",
                       "payment_record"},
    "charge": {"source", "level3", "authorization_code", "presentment_details", "application_fee", "transfer"},
    "customer": {"business_name", "individual_name", "customer_account"},
    "price": {"currency_options", "tiers"},
}  # fmt: skip


def test_the_walk_finds_what_is_wrong() -> None:
    """The judge itself: a missing, a mistyped, a misspelt and an invented field are each seen."""
    found = problems("price", {"id": 5, "object": "price", "active": None, "type": "weekly", "colour": "red"})

    assert "price.id: 5 is no str" in found
    assert "price.active: required and null" in found
    assert "price.currency: required and absent" in found
    assert "price.colour: invented" in found
    assert any(problem.startswith("price.type: 'weekly' is none of") for problem in found)
