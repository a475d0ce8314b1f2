"""The control API under /_control: what a test, or the demo, does behind Stripe's back. Loopback only.

    GET    (nothing)        how much there is of everything         POST reset
    GET    settings         POST settings {name: value, …}          as in `world.Settings`
    GET    clock            POST clock {now? | advance_s?, frozen?} moves the account's time and does what is due
    POST   clock/frozen {clock, frozen_time}                        moves a test clock at once, however far
    GET    faults           POST faults {match?: {method?, path?}, times?, skip?, probability?, fault}
    GET    faults/names     DELETE faults
    GET    failing          POST failing {customer, code?}          every charge of a customer fails; null code ends it
    POST   disputes {charge | payment_intent, reason?, amount?}     POST disputes/close {dispute, won}
    POST   refunds {charge | payment_intent, amount?, reason?}      POST refunds/fail {refund}
    POST   checkout/pay {session, card?, email?, name?, bank?}      what the browser would do; bank: complete or fail
    POST   portal/press {session, button, subscription?, card?}     the same for the portal
    GET    objects?kind=    GET requests?limit=                     GET deliveries     POST deliveries/again {event}
    POST   endpoints {url, secret, events?}                         a webhook endpoint with a secret known beforehand
    POST   endpoints/roll {endpoint, secret, keep_old?}             a new secret, for a while beside the old one
    POST   chaos {url, secret, seed?, kinds?, events?}              the chaos sender; answers with its report

A mistake is 400 {"error": "what is wrong"}.
"""

from dataclasses import asdict, fields
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs

import msgspec

from ownkey.emulator.control import _is_local as is_local
from ownkey.emulator.server import Exchange

from . import billing, chaos, checkout, disputes, portal, refunds
from .checkout import Typed
from .faults import NAMES
from .refusals import Json, Refusal
from .webhooks import register, wants
from .world import Origin, Settings, World

if TYPE_CHECKING:
    from .app import Stripe

_SHAPES = {field.name: type(getattr(Settings(), field.name)) for field in fields(Settings)}


class Control:
    """Turns control requests into changes of the account."""

    def __init__(self, stripe: "Stripe") -> None:
        self._stripe = stripe

    @property
    def _world(self) -> World:
        return self._stripe.world

    async def handle(self, exchange: Exchange, method: str, path: str, query: str) -> None:
        """Answer one control request."""
        if not is_local(exchange):
            _send(exchange, 404, {"error": "nothing here"})
            return
        arguments = {name: values[0] for name, values in parse_qs(query).items()}
        try:
            body = msgspec.json.decode(exchange.body) if exchange.body else {}
            if not isinstance(body, dict):
                raise ValueError("send a JSON object")
            name = path.removeprefix("/_control").strip("/")
            if (method, name) == ("POST", "chaos"):
                made: Any = await self._chaos(body)
            else:
                with self._world.request(Origin()):
                    made = self._do(method, name, body, arguments)
        except (Refusal, ValueError, KeyError, TypeError) as error:
            _send(exchange, 400, {"error": str(error) or type(error).__name__})
            return
        if made is None:
            _send(exchange, 404, {"error": f"no {method} {path}"})
        else:
            _send(exchange, 200, made)

    def _do(self, method: str, name: str, body: Json, arguments: dict[str, str]) -> Any:
        stripe, world = self._stripe, self._world
        match method, name:
            case "GET", "":
                counts = {kind: len(world.every(kind)) for kind in world.kinds()}
                return {"objects": counts, "requests": stripe.count, "waiting_deliveries": stripe.postman.waiting,
                        "now": world.now(), "faults": len(stripe.faults.rules)}  # fmt: skip
            case "POST", "reset":
                stripe.reset()
                return {"ok": True}
            case "GET", "settings":
                return asdict(world.settings)
            case "POST", "settings":
                return self._set(body)
            case "GET", "clock":
                return {"now": world.now()}
            case "POST", "clock":
                return self._move(body)
            case "POST", "clock/frozen":
                return self._move_test_clock(str(body["clock"]), int(body["frozen_time"]))
            case "GET", "failing":
                return {"failing": world.failing}
            case "POST", "failing":
                return self._fail(str(body["customer"]), body.get("code", "generic_decline"))
            case "GET", "objects":
                kinds = [arguments["kind"]] if "kind" in arguments else world.kinds()
                return {"objects": [thing for kind in kinds for thing in world.every(kind)]}
            case "GET", "requests":
                return {"count": stripe.count, "requests": stripe.shown(int(arguments.get("limit", 100)))}
            case _:
                return self._script(method, name, body) or self._money(method, name, body)

    def _script(self, method: str, name: str, body: Json) -> Any:
        stripe = self._stripe
        match method, name:
            case "GET", "faults":
                return {"faults": [asdict(rule) for rule in stripe.faults.rules]}
            case "GET", "faults/names":
                return {"faults": NAMES}
            case "POST", "faults":
                return stripe.faults.add(body)
            case "DELETE", "faults":
                stripe.faults.rules.clear()
                return {"ok": True}
            case "GET", "deliveries":
                return {"waiting": stripe.postman.waiting, "deliveries": stripe.postman.shown()}
            case "POST", "endpoints":
                kinds = [str(kind) for kind in body.get("events", ["*"])]
                return register(self._world, str(body["url"]), str(body["secret"]), kinds)
            case "POST", "endpoints/roll":
                known = self._world.hidden(self._world.get("webhook_endpoint", body["endpoint"])["id"])
                known["secrets"] = [str(body["secret"]), *(known["secrets"][:1] if body.get("keep_old") else [])]
                return {"secrets": len(known["secrets"])}
            case "POST", "deliveries/again":
                return self._again(str(body["event"]))
            case _:
                return None

    def _money(self, method: str, name: str, body: Json) -> Any:
        world = self._world
        match method, name:
            case "POST", "disputes":
                reason = body.get("reason", "fraudulent")
                return disputes.open_dispute(world, self._charge(body), reason, body.get("amount"))
            case "POST", "disputes/close":
                return disputes.close_dispute(world, world.get("dispute", body["dispute"]), won=bool(body["won"]))
            case "POST", "refunds":
                return refunds.refund(world, self._charge(body), body.get("amount"), body.get("reason"), {})
            case "POST", "refunds/fail":
                return refunds.fail_refund(world, world.get("refund", body["refund"]))
            case "POST", "checkout/pay":
                return self._pay(body)
            case "POST", "portal/press":
                session = world.get("billing_portal.session", body["session"])
                values = {"subscription": body.get("subscription", ""), "card_number": body.get("card", "")}
                portal.press(world, session, str(body["button"]), values)
                return {"ok": True}
            case _:
                return None

    def _charge(self, body: Json) -> Json:
        world = self._world
        if "charge" in body:
            return world.get("charge", body["charge"], "charge")
        intent = world.get("payment_intent", body["payment_intent"], "payment_intent")
        return world.get("charge", intent["latest_charge"], "charge")

    def _set(self, body: Json) -> Json:
        for name, value in body.items():
            shape = _SHAPES.get(name)
            if shape is None:
                raise ValueError(f"{name}: no such setting; there are {', '.join(_SHAPES)}")
            if shape is float and isinstance(value, int) and not isinstance(value, bool):
                value = float(value)
            if not isinstance(value, shape) or (shape is int and isinstance(value, bool)):
                raise ValueError(f"{name}: give a {shape.__name__}")
            if name == "final_action" and value not in ("cancel", "unpaid", "past_due"):
                raise ValueError("final_action: cancel, unpaid or past_due")
            setattr(self._world.settings, name, value)
        return asdict(self._world.settings)

    def _move(self, body: Json) -> Json:
        """The account's time, which never goes back: what is due on the way happens at its own moment."""
        world = self._world
        target = int(body["now"]) if "now" in body else world.now() + int(body.get("advance_s", 0))
        if target < world.now() and world.kinds():
            raise ValueError("now: time does not go back once there is anything")
        done = billing.run_due(world, None, target)
        world.set_time(target, frozen=bool(body.get("frozen", False)))
        return {"now": world.now(), "done": done + checkout.expire_old(world)}

    def _move_test_clock(self, ident: str, target: int) -> Json:
        clock = self._world.get("test_helpers.test_clock", ident)
        if clock["status"] != "ready" or target < clock["frozen_time"]:
            raise ValueError("frozen_time: the clock must be ready, and time does not go back")
        done = billing.run_due(self._world, ident, target)
        clock["frozen_time"] = target
        return {"clock": clock, "done": done}

    def _fail(self, customer: str, code: str | None) -> Json:
        world = self._world
        world.get("customer", customer)
        if code is None:
            world.failing.pop(customer, None)
        else:
            world.failing[customer] = code
        return {"failing": world.failing}

    def _pay(self, body: Json) -> Json:
        world = self._world
        session = world.get("checkout.session", body["session"])
        typed = Typed(str(body.get("card", "4242424242424242")), body.get("email"), body.get("name"))
        if not checkout.submit(world, session, typed):
            if "bank" not in body:
                return {"session": session, "asks_bank": True}
            checkout.after_bank(world, session, passed=body["bank"] == "complete")
        return {"session": session, "asks_bank": False}

    def _again(self, ident: str) -> Json:
        """Deliver an event once more, as the Dashboard's "resend" does."""
        world = self._world
        event = world.get("event", ident)
        endpoints = [e for e in world.every("webhook_endpoint") if wants(e, event["type"])]
        for endpoint in endpoints:
            self._stripe.postman.send(event, endpoint)
        return {"sent": len(endpoints)}

    async def _chaos(self, body: Json) -> Json:
        wanted = body.get("events")
        events = [e for e in self._world.every("event") if wanted is None or e["id"] in wanted]
        plan = chaos.Plan(
            str(body["url"]), str(body["secret"]), int(body.get("seed", 0)),
            tuple(chaos.Kind(kind) for kind in body.get("kinds", list(chaos.Kind))),
        )  # fmt: skip
        return (await chaos.send(events, plan)).as_json()


def _send(exchange: Exchange, status: int, body: Any) -> None:
    exchange.respond(status, b"content-type: application/json\r\n", msgspec.json.encode(body))
