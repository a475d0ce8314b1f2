"""The control API under /_control: keys, prices, settings, faults, and the bill book. Loopback only.

    POST   reset
    GET    keys             POST keys {provider, key, kind?, balance_nusd?, limit_nusd?, limit_reset?, models?, denied?,
                                       rate_limit_per_minute?, expires_at?, label?}     DELETE keys {provider, key}
    GET    models           POST models {slug, input, output?, native?, context?, …}
    POST   prices {provider, model, input?, cache_read?, cache_write_5m?, cache_write_1h?, output?}   USD per million
    GET    settings         POST settings {match: {provider?, model?, key?}, settings: {…}}           DELETE settings
    GET    faults           POST faults {match?, times?, skip?, probability?, fault: {name, …}}
    GET    faults/names     DELETE faults {id?}         POST sign-ins/age {seconds}   codes handed out get older
    GET    bills?key=|key_sha256=&since=      GET bills/total?key=|key_sha256=&since=      GET requests?limit=

Amounts are nano-USD as strings, prices USD as strings. A mistake is 400 {"error": "what is wrong"}.
"""

from hashlib import sha256
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs

import msgspec

from ownkey.domain.money import AmountError, parse_usd_nusd

from . import errors
from .answers import DEFAULT, settings_from
from .catalogue import PROVIDERS, Model, Price, Rates
from .faults import PARAMETERS, FaultError
from .keys import KINDS, Key
from .plan import Json
from .server import Exchange

if TYPE_CHECKING:
    from .app import Emulator

_RATES = ("input", "cache_read", "cache_write_5m", "cache_write_1h", "output")


class Asked(ValueError):
    """A control request that cannot be done; the text says why."""


class Control:
    """Turns control requests into changes of the emulator."""

    def __init__(self, emulator: "Emulator") -> None:
        self._emulator = emulator

    def handle(self, exchange: Exchange) -> None:
        """Answer a request outside the provider prefixes."""
        raw, _, query = exchange.target.partition(b"?")
        path = raw.decode("latin-1")
        if not path.startswith("/_control") or not _is_local(exchange):
            self._send(exchange, 404, {"error": "nothing here; the providers are " + ", ".join(PROVIDERS)})
            return
        arguments = {name: values[0] for name, values in parse_qs(query.decode("latin-1")).items()}
        try:
            body = msgspec.json.decode(exchange.body) if exchange.body else {}
            if not isinstance(body, dict):
                raise Asked("send a JSON object")
            made = self._do(
                exchange.method.decode("latin-1"), path.removeprefix("/_control").strip("/"), body, arguments
            )
        except (Asked, FaultError, AmountError, ValueError, KeyError, TypeError) as error:
            self._send(exchange, 400, {"error": str(error) or type(error).__name__})
            return
        if made is None:
            self._send(exchange, 404, {"error": f"no {exchange.method.decode('latin-1')} {path}"})
        else:
            self._send(exchange, 200, made)

    def _send(self, exchange: Exchange, status: int, body: Any) -> None:
        exchange.respond(status, b"content-type: application/json\r\n", msgspec.json.encode(body))

    def _do(self, method: str, path: str, body: Json, arguments: dict[str, str]) -> Any:
        emulator = self._emulator
        match method, path:
            case "GET", "":
                return {"seed": emulator.seed, "providers": PROVIDERS, "requests": emulator.log.count,
                        "bills": len(emulator.book.bills), "faults": len(emulator.faults.rules)}  # fmt: skip
            case "POST", "reset":
                emulator.reset()
                return {"ok": True}
            case "GET", "keys":
                return {"keys": [_key_json(key) for key in emulator.keys]}
            case "POST", "keys":
                return self._add_key(body)
            case "DELETE", "keys":
                return {"removed": emulator.keys.remove(str(body["provider"]), str(body["key"]))}
            case "GET", "models":
                return {"models": [self._model_json(model, provider) for provider in PROVIDERS
                                   for model in emulator.catalogue.listed(provider)]}  # fmt: skip
            case "POST", "models":
                return self._add_model(body)
            case "POST", "prices":
                return self._set_price(body)
            case "GET", "settings":
                return {"rules": [{"match": rule.match, "settings": rule.changes} for rule in emulator.rules],
                        "default": msgspec.to_builtins(DEFAULT)}  # fmt: skip
            case "POST", "settings":
                return self._add_settings(body)
            case "DELETE", "settings":
                emulator.rules.clear()
                emulator.settings_changed()
                return {"ok": True}
            case _:
                return self._watch(method, path, body, arguments)

    def _watch(self, method: str, path: str, body: Json, arguments: dict[str, str]) -> Any:
        emulator = self._emulator
        match method, path:
            case "GET", "faults":
                return {"faults": [rule.as_json() for rule in emulator.faults.rules]}
            case "POST", "faults":
                return emulator.faults.add(body).as_json()
            case "DELETE", "faults":
                if "id" in body:
                    return {"removed": emulator.faults.remove(int(body["id"]))}
                emulator.faults.rules.clear()
                return {"ok": True}
            case "GET", "faults/names":
                return {"faults": PARAMETERS, "errors": {name: errors.names(name) for name in PROVIDERS}}
            case "GET", "bills":
                chosen = emulator.book.select(key_sha256=_digest(arguments), since=int(arguments.get("since", 0)))
                return {"bills": [bill.as_json() for bill in chosen]}
            case "GET", "bills/total":
                chosen = emulator.book.select(key_sha256=_digest(arguments), since=int(arguments.get("since", 0)))
                return {"count": len(chosen), "total_nusd": str(sum(bill.cost_nusd for bill in chosen))}
            case "POST", "sign-ins/age":
                return {"aged": emulator.age_sign_ins(float(body["seconds"]))}
            case "GET", "requests":
                last = emulator.log.last(int(arguments.get("limit", 100)))
                return {"count": emulator.log.count, "requests": [seen.as_json() for seen in last]}
            case _:
                return None

    def _add_key(self, body: Json) -> Json:
        provider, text = _provider(body), body.get("key")
        if not isinstance(text, str) or not text:
            raise Asked("key: give the key's text")
        kind = body.get("kind", "valid")
        if kind not in KINDS:
            raise Asked(f"kind: one of {', '.join(KINDS)}")
        limit = _nusd(body, "limit_nusd")
        if kind == "limited" and limit is None:
            raise Asked("limit_nusd: a limited key needs one")
        if kind == "expiring" and body.get("expires_at") is None:
            raise Asked("expires_at: an expiring key needs one (seconds since 1970)")
        models = body.get("models")
        key = Key(
            provider,
            text,
            kind,
            balance_nusd=_nusd(body, "balance_nusd"),
            limit_nusd=limit,
            limit_reset=body.get("limit_reset"),
            models=tuple(str(model) for model in models) if models is not None else None,
            denied=tuple(str(word) for word in body.get("denied", ())),
            rate_limit_per_minute=_int(body, "rate_limit_per_minute"),
            expires_at=float(body["expires_at"]) if body.get("expires_at") is not None else None,
            label=str(body.get("label", "")),
        )
        self._emulator.keys.add(key)
        return _key_json(key)

    def _model(self, provider: str, name: Any) -> Model:
        model = self._emulator.catalogue.find(provider, str(name))
        if model is None:
            raise Asked(f"model: {provider} has no {name!r}")
        return model

    def _set_price(self, body: Json) -> Json:
        provider = _provider(body)
        model = self._model(provider, body.get("model"))
        old = self._emulator.catalogue.price(provider, model).rates
        changed = {name: _usd(body[name]) if name in body else getattr(old, name) for name in _RATES}
        self._emulator.catalogue.set_price(provider, model, Price(Rates(**changed)))
        self._emulator.settings_changed()
        return self._model_json(model, provider)

    def _add_model(self, body: Json) -> Json:
        slug = body.get("slug")
        if not isinstance(slug, str) or "/" not in slug:
            raise Asked("slug: author/name")
        price = {name: _usd(body[name]) for name in _RATES if name in body}
        if "input" not in price:
            raise Asked("input: a price in USD per million tokens")
        filled = {name: price.get(name, 0 if name == "output" else price["input"]) for name in _RATES}
        maker = slug.split("/")[0]
        native = body.get("native")
        model = Model(
            slug,
            maker,
            str(body.get("name", slug)),
            Price(Rates(**filled)),
            native=native,
            dated=str(body.get("dated", native or "")),
            canonical=str(body.get("canonical", slug)),
            context=_int(body, "context") or 128_000,
            max_output=_int(body, "max_output") or 16_384,
            kind=str(body.get("kind", "chat")),
            thinks=body.get("thinks") is True,
            dimensions=_int(body, "dimensions") or 0,
            host=str(body.get("host", "Emulated")),
        )
        self._emulator.catalogue.add(model)
        self._emulator.settings_changed()
        return self._model_json(model, "openrouter")

    def _add_settings(self, body: Json) -> Json:
        from .app import SettingRule

        match = body.get("match") or {}
        changes = body.get("settings")
        if not isinstance(changes, dict) or set(match) - {"provider", "model", "key"}:
            raise Asked("send {match: {provider?, model?, key?}, settings: {…}}")
        settings_from(DEFAULT, changes)
        self._emulator.rules.append(SettingRule(match, changes))
        self._emulator.settings_changed()
        return {"ok": True, "rules": len(self._emulator.rules)}

    def _model_json(self, model: Model, provider: str) -> Json:
        asked = self._emulator.catalogue.price(provider, model)
        made: Json = {
            "provider": provider,
            "slug": model.slug,
            "native": model.native,
            "dated": model.dated,
            "kind": model.kind,
            "context": model.context,
            "max_output": model.max_output,
        }
        made["nusd_per_million"] = {name: str(getattr(asked.rates, name)) for name in _RATES}
        if asked.long is not None:
            made["long_over"] = asked.long_over
            made["long_nusd_per_million"] = {name: str(getattr(asked.long, name)) for name in _RATES}
        return made


def _is_local(exchange: Exchange) -> bool:
    """True for a loopback client that also asks for a loopback name: a web page must not reach in by DNS."""
    host = exchange.headers.get(b"host", b"").decode("latin-1")
    name = host.rsplit(":", 1)[0].strip("[]").lower()
    try:
        return ip_address(exchange.peer).is_loopback and (name == "localhost" or ip_address(name).is_loopback)
    except ValueError:
        return False


def _provider(body: Json) -> str:
    provider = body.get("provider")
    if provider not in PROVIDERS:
        raise Asked(f"provider: one of {', '.join(PROVIDERS)}")
    return str(provider)


def _int(body: Json, name: str) -> int | None:
    value = body.get(name)
    return None if value is None else int(value)


def _nusd(body: Json, name: str) -> int | None:
    """An amount in nano-USD, as a string or a whole number."""
    return _int(body, name)


def _usd(value: Any) -> int:
    """A price in USD per million tokens, as digits, in nano-USD."""
    if isinstance(value, float):
        raise Asked("write prices as strings: a float is not an amount")
    return parse_usd_nusd(value)


def _digest(arguments: dict[str, str]) -> str | None:
    if "key" in arguments:
        return sha256(arguments["key"].encode()).hexdigest()
    return arguments.get("key_sha256")


def _key_json(key: Key) -> Json:
    return {
        "provider": key.provider,
        "kind": key.kind,
        "last4": key.last4,
        "sha256": key.sha256,
        "label": key.label,
        "limit_reset": key.limit_reset,
        "balance_nusd": None if key.balance_nusd is None else str(key.balance_nusd),
        "limit_nusd": None if key.limit_nusd is None else str(key.limit_nusd),
        "used_nusd": str(key.used_nusd),
        "byok_used_nusd": str(key.byok_used_nusd),
        "models": key.models,
        "denied": key.denied,
        "rate_limit_per_minute": key.rate_limit_per_minute,
        "expires_at": key.expires_at,
    }
