"""The emulator itself: receives every request, decides who may ask, and hands out planned answers.

The order is that of a real front door: log, script (faults), credential, permission, money, answer.
"""

import time
from collections import OrderedDict
from collections.abc import Coroutine
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from . import errors
from .answers import DEFAULT, Settings, settings_from
from .book import Book, Log, Seen
from .catalogue import Catalogue, Model
from .control import Control
from .desk import Desk
from .dice import Dice
from .doors import GENERATES, Call, Ids, credential, find, refusal_head
from .errors import Scene, failure
from .faults import Faults, Rule, Target, twist_of
from .keys import Key, Keyring
from .plan import HONEST, ID_BYTES, ID_MARK, Ask, Failure, Json, Plan, Refused, Usage
from .planning import Planner, error_frame
from .playing import LOGIN, Show, is_instant, play, send_now
from .server import Exchange

_KEPT_PLANS = 4096
_NO_KEY = {"openai": "no_key_401", "anthropic": "no_key_401", "google": "no_key_403", "openrouter": "no_key_401"}
_BAD_KEY = {"openai": "auth_401", "anthropic": "auth_401", "google": "auth_400", "openrouter": "auth_401"}
_REVOKED = {**_BAD_KEY, "google": "leaked_403"}
_EXPIRED = {**_BAD_KEY, "google": "expired_400"}
_NO_MONEY = {
    "openai": "insufficient_quota",
    "anthropic": "credit_balance_low_400",
    "google": "insufficient_quota",
    "openrouter": "insufficient_quota",
}
_LIMIT = {
    "openai": "project_spend_limit_exceeded",
    "anthropic": "usage_limit_400",
    "google": "daily_quota_429",
    "openrouter": "key_limit_403",
}
_FORBIDDEN_MODEL = {
    "openai": "model_forbidden_403",
    "anthropic": "model_missing_404",
    "google": "permission_403",
    "openrouter": "privacy_restricted_404",
}
_FORBIDDEN_CALL = {
    "openai": "scope_401",
    "anthropic": "permission_403",
    "google": "permission_403",
    "openrouter": "management_403",
}
_SCOPES = {"models": "api.model.read", "model": "api.model.read"}


@dataclass(slots=True)
class SettingRule:
    """Settings for the answers that match; later rules win."""

    match: Json
    changes: Json


class Emulator:
    """All state of one run."""

    def __init__(self, seed: int = 0, bill_file: Path | None = None) -> None:
        self.seed = seed
        self.catalogue = Catalogue()
        self.keys = Keyring()
        self.book = Book(bill_file)
        self.log = Log()
        self.faults = Faults()
        self.planner = Planner(seed, self.catalogue)
        self.rules: list[SettingRule] = []
        self.plans: OrderedDict[tuple[bytes, bytes], tuple[Plan, Settings]] = OrderedDict()
        self._keeps_plans = True
        self._ids = Ids(seed)
        self._dice = Dice(seed, "timing")
        self._desk = Desk(self)
        self._control = Control(self)
        self.reset()

    def reset(self) -> None:
        """Back to the first second: no keys, faults, bills, settings or changed prices."""
        self.catalogue.reset()
        self.keys.clear()
        self.book.reset()
        self.log.reset()
        self.faults.reset(self.seed)
        self.rules.clear()
        self.settings_changed()
        self._ids = Ids(self.seed)
        self._dice = Dice(self.seed, "timing")
        self._desk.reset()

    def age_sign_ins(self, seconds: float) -> int:
        """Make the codes of OpenRouter's sign-in page older; returns how many there are."""
        return self._desk.age_sign_ins(seconds)

    def settings_changed(self) -> None:
        """Forget kept plans: prices or settings are others now."""
        self.plans.clear()
        self._keeps_plans = not any({"model", "key"} & rule.match.keys() for rule in self.rules)

    def settings_for(self, provider: str, model: Model | None, key: Key) -> Settings:
        """The settings of all rules that match, later ones over earlier ones."""
        settings = DEFAULT
        names = {None} if model is None else {None, model.slug, model.native, model.dated, model.canonical}
        for rule in self.rules:
            match = rule.match
            if (
                match.get("provider") in {None, provider}
                and match.get("key") in {None, key.key}
                and match.get("model") in names
            ):
                settings = settings_from(settings, rule.changes)
        return settings

    # the front door

    def handle(self, exchange: Exchange) -> Coroutine[Any, Any, None] | None:
        """Answer at once, or return the work that will."""
        call = find(exchange.method, exchange.target)
        if call is None:
            self._control.handle(exchange)
            return None
        seen = self.log.add(exchange.method, exchange.target, exchange.headers, exchange.body)
        presented = credential(call.provider, exchange.headers, call)
        rule = self._fault(exchange, call, presented) if self.faults.rules else None
        if rule is not None:
            seen.fault = rule.name
            started = self._break_early(exchange, call, presented or "", rule, seen)
            if started is not _GO_ON:
                return started  # type: ignore[return-value]
        try:
            return self._answer(exchange, call, presented, rule, seen)
        except Refused as refused:
            self.refuse(exchange, call, refused.failure, seen)
            return None

    def refuse(
        self, exchange: Exchange, call: Call, refusal: Failure, seen: Seen, *, as_it_is: bool = False
    ) -> None:
        """Send a refusal in the provider's way, or byte for byte."""
        provider = call.provider
        head_id, _ = self._ids.next(provider, "", int(time.time()))
        if provider == "openrouter" and call.name == "messages" and not as_it_is:
            refusal = errors.in_messages_envelope(refusal, head_id)
        seen.status = refusal.status
        lines = refusal_head(provider, head_id, refusal.content_type) + refusal.headers
        exchange.respond(refusal.status, lines, refusal.body.replace(ID_BYTES, head_id.encode()))

    def _answer(
        self, exchange: Exchange, call: Call, presented: str | None, rule: Rule | None, seen: Seen
    ) -> Coroutine[Any, Any, None] | None:
        if self._desk.is_open(call):
            return self._at_desk(exchange, call, None, rule, seen)
        key = self._admit(call, exchange, presented)
        name = call.name
        if name in GENERATES or name in {"embeddings", "embedContent", "batchEmbedContents"}:
            return self._generate(exchange, call, key, rule, seen)
        return self._at_desk(exchange, call, key, rule, seen)

    def _at_desk(
        self, exchange: Exchange, call: Call, key: Key | None, rule: Rule | None, seen: Seen
    ) -> Coroutine[Any, Any, None] | None:
        """An answer that generates nothing. Of the faults that bend answers it knows `slow_head` and the login page."""
        match rule:
            case Rule(name="slow_head", params={"seconds": wait}):
                return self._later(exchange, call, key, float(wait), seen)
            case Rule(name="html_login_200"):
                self.refuse(exchange, call, Failure(200, LOGIN, b"", b"text/html"), seen)
            case _:
                self._desk.answer(exchange, call, key, seen)
        return None

    async def _later(self, exchange: Exchange, call: Call, key: Key | None, wait_s: float, seen: Seen) -> None:
        await exchange.sleep(wait_s)
        try:
            self._desk.answer(exchange, call, key, seen)
        except Refused as refused:
            self.refuse(exchange, call, refused.failure, seen)

    def _admit(self, call: Call, exchange: Exchange, presented: str | None) -> Key:
        """The key, if it exists, lives, and may make this call at all."""
        provider = call.provider
        scene = Scene(request_id=ID_MARK, key=presented or "", detail=_SCOPES.get(call.name, ""))
        if not presented:
            raise Refused(failure(provider, _NO_KEY[provider], Scene(request_id=ID_MARK)))
        key = self.keys.find(provider, presented)
        if key is None:
            raise Refused(failure(provider, _BAD_KEY[provider], Scene(request_id=ID_MARK, key=presented)))
        if provider == "anthropic" and b"anthropic-version" not in exchange.headers:
            detail = "anthropic-version: header is required"
            raise Refused(failure(provider, "bad_request", Scene(request_id=ID_MARK, detail=detail)))
        if key.plain:
            return key
        if key.kind == "revoked":
            raise Refused(failure(provider, _REVOKED[provider], scene))
        if key.is_expired:
            raise Refused(failure(provider, _EXPIRED[provider], scene))
        if key.kind == "management" and not (provider == "openrouter" and call.name not in GENERATES | {"embeddings"}):
            name = {"openrouter": "management_401", "openai": "scope_401"}.get(provider, _BAD_KEY[provider])
            raise Refused(failure(provider, name, scene))
        if call.name in key.denied or any(word and word in call.path for word in key.denied if "/" in word):
            raise Refused(failure(provider, _FORBIDDEN_CALL[provider], scene))
        return key

    def _permit(self, provider: str, key: Key, model: Model, ask: Ask | None) -> None:
        """Refuse what the key may not use or cannot pay."""
        scene = Scene(model=model.slug if provider == "openrouter" else model.native or "", request_id=ID_MARK)
        if not key.may_use(model.slug, model.native or "", model.dated):
            raise Refused(failure(provider, _FORBIDDEN_MODEL[provider], scene))
        if (wait := key.wait_s()) is not None:
            raise Refused(failure(provider, "rate_limit_retry_after", Scene(scene.model, ID_MARK, wait_s=wait)))
        if model.free and provider == "openrouter":
            return
        if key.balance_nusd is not None and key.balance_nusd <= 0:
            raise Refused(failure(provider, _NO_MONEY[provider], scene))
        if key.remaining_nusd == 0:
            raise Refused(failure(provider, _LIMIT[provider], scene))
        if provider == "openrouter" and key.balance_nusd is not None and ask is not None:
            self._afford(key.balance_nusd, model, ask)

    def _afford(self, balance: int, model: Model, ask: Ask) -> None:
        """OpenRouter's own check before a call: the whole output limit must be affordable."""
        limit = ask.limit if ask.limit is not None else model.max_output
        left = balance - self.planner.cost("openrouter", model, Usage(input=ask.input_tokens)).nusd
        price = self.catalogue.price("openrouter", model).rates_for(ask.input_tokens).output
        tokens = max(0, left * 1_000_000 // price) if price else limit
        if tokens < limit:
            scene = Scene(model.slug, tokens=tokens, limit=limit)
            raise Refused(failure("openrouter", "can_only_afford_402", scene))

    # answers

    def _generate(
        self, exchange: Exchange, call: Call, key: Key, rule: Rule | None, seen: Seen
    ) -> Coroutine[Any, Any, None] | None:
        provider = call.provider
        ask: Ask | None = None
        kept = self.plans.get((exchange.target, exchange.body)) if key.plain and self._keeps_plans else None
        if kept is not None and (rule is None or (twist_of(rule) is HONEST and rule.name != "swapped_kind")):
            plan, settings = kept
        else:
            plan, settings, ask = self._plan(call, exchange.body, key, rule)
            if self._keeps_plans and plan.keep and (rule is None or rule.name != "swapped_kind"):
                self.plans[exchange.target, exchange.body] = (plan, settings)
                if len(self.plans) > _KEPT_PLANS:
                    self.plans.popitem(last=False)
        seen.status = 200
        now = int(time.time())
        head_id, body_id = self._ids.next(provider, call.name, now)
        book, model, stream, is_byok = self.book, plan.served, plan.stream, plan.cost.is_byok

        def write_bill(usage: Usage, aborted: bool) -> None:
            cost = plan.cost if usage is plan.usage else self.planner.cost(provider, plan.model, usage, settings)
            book.add(key, model, call.name, stream, head_id, usage, cost.nusd, is_byok, aborted)

        show = Show(exchange, plan, provider, head_id, body_id, now, settings, write_bill, self._dice)
        if rule is None and is_instant(settings):
            send_now(show)
            return None
        if rule is not None:
            show.rule = rule
            show.key = key.key
            self._dress(show, call, rule, ask)
        return play(show)

    def _plan(self, call: Call, raw: bytes, key: Key, rule: Rule | None) -> tuple[Plan, Settings, Ask | None]:
        provider, name = call.provider, call.name
        body = self.decode(provider, raw)
        if provider == "google":
            models = [self.planner.find_model(provider, name, call.model, name)]
        else:
            models = self.planner.candidates(provider, name, body)
        model = models[0]
        if rule is not None and len(models) > 1 and rule.match.get("model") in {model.slug, body.get("model")}:
            model = models[1]
        settings = self.settings_for(provider, model, key)
        if name in GENERATES:
            ask = self.planner.read(provider, name, body, model)
            if name == "streamGenerateContent" and call.argument("alt") != "sse":
                ask.stream = False
            if rule is not None and rule.name == "swapped_kind":
                ask.stream = not ask.stream
            self._permit(provider, key, model, ask)
            return self.planner.plan(provider, name, ask, model, key, settings, twist_of(rule)), settings, ask
        self._permit(provider, key, model, None)
        if name == "embeddings":
            return self.planner.embeddings(provider, body, model, settings), settings, None
        return self.planner.google_embeddings(name, body, model, settings), settings, None

    def decode(self, provider: str, raw: bytes) -> Json:
        """The body as an object, or Refused."""
        try:
            body = msgspec.json.decode(raw)
        except msgspec.DecodeError as error:
            detail = f"We could not parse the JSON body of your request. ({error})"
            raise Refused(failure(provider, "bad_request", Scene(request_id=ID_MARK, detail=detail))) from error
        if not isinstance(body, dict):
            detail = "The body of the request must be a JSON object."
            raise Refused(failure(provider, "bad_request", Scene(request_id=ID_MARK, detail=detail)))
        return body

    # faults

    def _fault(self, exchange: Exchange, call: Call, presented: str | None) -> Rule | None:
        models: tuple[str, ...] = (call.model,) if call.model else ()
        stream = call.name == "streamGenerateContent"
        if exchange.body:
            try:
                body = msgspec.json.decode(exchange.body)
            except msgspec.DecodeError:
                body = None
            if isinstance(body, dict):
                stream = stream or body.get("stream") is True
                if isinstance(body.get("model"), str):
                    models = (*models, body["model"])
        known = self.catalogue.find(call.provider, models[0]) if models else None
        if known is not None:
            models = (*models, known.slug, known.native or known.slug, known.dated)
        method = exchange.method.decode("latin-1")
        return self.faults.take(Target(call.provider, method, call.path, presented or "", models, stream))

    def _break_early(self, exchange: Exchange, call: Call, presented: str, rule: Rule, seen: Seen) -> object:
        """What a fault does instead of an answer; `_GO_ON` if the answer is to be made and bent."""
        params = rule.params
        match rule.name:
            case "silence" | "cut_before_headers" if rule.bill in {None, "none"}:
                if rule.name == "silence":
                    return exchange.forever()
                exchange.cut(reset=bool(params["reset"]))
                return None
            case "silence" | "cut_before_headers":
                return self._break_after_billing(exchange, call, presented, rule, seen)
            case "raw":
                return self._send_raw(exchange, params)
            case "last_answer":
                exchange.connection.last = True
                return _GO_ON
            case "redirect_307":
                lines = b"location: %s\r\n" % str(params["location"]).encode()
                self.refuse(exchange, call, Failure(307, b"", lines, b"text/html"), seen)
                return None
            case "custom":
                self.refuse(exchange, call, _custom(params), seen, as_it_is=True)
                return None
            case "echo_key" if params["where"] == "error":
                self.refuse(exchange, call, _echo(call.provider, presented), seen)
                return None
            case name if name in errors.TABLES[call.provider]:
                if self._falls_back(exchange, rule):
                    return _GO_ON
                if rule.bill == "whole":
                    self._bill_unseen(exchange, call, presented, rule)
                self.refuse(exchange, call, self._named(call, presented, rule, name), seen)
                return None
            case _:
                return _GO_ON

    def _send_raw(self, exchange: Exchange, params: Json) -> object:
        """Bytes in an answer's place, or before it; then the connection ends, or is held."""
        data = str(params["data"]).encode("latin-1")
        if params["then"] == "answer":
            exchange.raw(data)
            return _GO_ON
        return _raw(exchange, data, str(params["then"]), float(params["every_s"]))

    def _named(self, call: Call, presented: str, rule: Rule, name: str) -> Failure:
        params = rule.params
        model = str(rule.match.get("model") or call.model or "the-model")
        scene = Scene(
            model, ID_MARK, presented, float(params["wait_s"]), int(params["tokens"]), int(params["limit"]), call.name,
            str(params["message"]),
        )  # fmt: skip
        made = failure(call.provider, name, scene)
        extra = b"".join(f"{key}: {value}\r\n".encode() for key, value in params["headers"].items())
        return Failure(made.status, made.body, made.headers + extra, made.content_type)

    def _falls_back(self, exchange: Exchange, rule: Rule) -> bool:
        """True if OpenRouter would try the next of the request's `models` instead."""
        if "model" not in rule.match:
            return False
        body = msgspec.json.decode(exchange.body) if exchange.body else None
        return isinstance(body, dict) and isinstance(body.get("models"), list) and len(body["models"]) > 0

    def _bill_unseen(self, exchange: Exchange, call: Call, presented: str, rule: Rule) -> None:
        """Bill an answer that the client never gets to see."""
        key = self._admit(call, exchange, presented)
        plan, settings, _ = self._plan(call, exchange.body, key, None)
        del settings
        head_id, _ = self._ids.next(call.provider, call.name, int(time.time()))
        usage = plan.usage if rule.bill == "whole" else plan.usage.so_far(0)
        cost = self.planner.cost(call.provider, plan.model, usage)
        self.book.add(key, plan.served, call.name, plan.stream, head_id, usage, cost.nusd, plan.cost.is_byok, True)

    def _break_after_billing(
        self, exchange: Exchange, call: Call, presented: str, rule: Rule, seen: Seen
    ) -> Coroutine[Any, Any, None] | None:
        try:
            self._bill_unseen(exchange, call, presented, rule)
        except Refused as refused:
            self.refuse(exchange, call, refused.failure, seen)
            return None
        if rule.name == "silence":
            return exchange.forever()
        exchange.cut(reset=bool(rule.params["reset"]))
        return None

    def _dress(self, show: Show, call: Call, rule: Rule, ask: Ask | None) -> None:
        """Prepare the frames and bodies of errors that a bent answer needs."""
        provider = call.provider
        params = rule.params
        name = str(params.get("error", "overloaded"))
        if rule.name == "echo_key":
            refusal = _echo(provider, show.key)
        else:
            if name not in errors.TABLES[provider]:
                name = "overloaded"
            refusal = failure(provider, name, Scene(model=show.plan.served, request_id=show.head_id))
        if provider == "openrouter" and call.name == "messages":
            refusal = errors.in_messages_envelope(refusal, show.head_id)
        bare = params.get("shape") == "bare"
        asked = ask if ask is not None else Ask(show.plan.model.slug)
        show.error_frame = error_frame(provider, call.name, show.plan, asked, refusal, bare=bare)
        show.error_body = refusal.body
        if rule.name == "error_in_200" and params["where"] == "choice" and provider == "openrouter":
            show.error_body = _choice_error(show, refusal)


_GO_ON = object()


async def _raw(exchange: Exchange, data: bytes, then: str, every_s: float) -> None:
    """Send bytes as they are, one at a time where `every_s` says so, and end as told."""
    pieces = [data[place : place + 1] for place in range(len(data))] if every_s > 0 else [data]
    for piece in pieces:
        exchange.raw(piece)
        await exchange.drain()
        await exchange.sleep(every_s)
    if then == "hold":
        await exchange.forever()
    await exchange.sleep(0.01)
    exchange.cut(reset=then == "reset")


def _custom(params: Json) -> Failure:
    body = params["body"]
    raw = body.encode() if isinstance(body, str) else msgspec.json.encode(body)
    given = {str(name).lower(): str(value) for name, value in params["headers"].items()}
    kind = given.pop("content-type", "text/plain" if isinstance(body, str) else "application/json")
    lines = b"".join(f"{name}: {value}\r\n".encode() for name, value in given.items())
    return Failure(int(params["status"]), raw, lines, kind.encode())


def _echo(provider: str, key: str) -> Failure:
    """An authentication error that repeats the whole key: what no provider should do, and some proxies have done."""
    message = f"The credential {key} is not accepted here."
    match provider:
        case "openai":
            return errors.openai_error(401, message, "invalid_request_error", "invalid_api_key")
        case "anthropic":
            return errors.anthropic_error(401, message, "authentication_error", ID_MARK)
        case "google":
            return errors.google_error(403, message, "PERMISSION_DENIED")
        case _:
            return errors.openrouter_error(401, message)


def _choice_error(show: Show, refusal: Failure) -> bytes:
    """OpenRouter's answer that looks like one and carries its error inside the choice."""
    error = msgspec.json.decode(refusal.body)["error"]
    choice = {
        "index": 0,
        "message": {"role": "assistant", "content": "", "refusal": None, "reasoning": None},
        "logprobs": None,
        "finish_reason": "error",
        "native_finish_reason": "error",
        "error": error,
    }
    answer = {
        "id": show.body_id,
        "object": "chat.completion",
        "created": show.now,
        "model": show.plan.served,
        "provider": show.plan.model.host,
        "choices": [choice],
        "usage": {"prompt_tokens": None, "completion_tokens": None, "total_tokens": 0},
    }
    return msgspec.json.encode(answer)
