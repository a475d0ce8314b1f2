"""The calls that generate nothing: model lists and token counts. OpenRouter's are in `router`."""

from typing import TYPE_CHECKING, Any

import msgspec

from . import gemini, messages
from .book import Seen
from .catalogue import Model
from .doors import Call, refusal_head
from .errors import Scene, failure, google_error, openai_error, openrouter_error
from .keys import Key
from .plan import ID_MARK, Failure, Json, Refused
from .router import RouterDesk
from .server import Exchange

if TYPE_CHECKING:
    from .app import Emulator

_encode = msgspec.json.encode


class Desk:
    """Answers about models, keys and accounts."""

    def __init__(self, emulator: "Emulator") -> None:
        self._emulator = emulator
        self._router = RouterDesk(emulator)

    def reset(self) -> None:
        self._router.reset()

    def age_sign_ins(self, seconds: float) -> int:
        return self._router.age_sign_ins(seconds)

    def is_open(self, call: Call) -> bool:
        """True for a call that needs no key: unknown paths, signing in, OpenRouter's public lists."""
        return not call.name or (call.provider == "openrouter" and call.name in self._router.open_calls)

    def answer(self, exchange: Exchange, call: Call, key: Key | None, seen: Seen) -> None:
        """Answer one call; `key` is None only for the calls that need none. Raises Refused."""
        provider = call.provider
        if not call.name:
            raise Refused(_unknown(call, exchange.method.decode("latin-1")))
        if call.name == "auth_page":
            self._router.authorize(exchange, call, seen)
            return
        made: Any
        if provider == "openrouter":
            made = self._router.answer(exchange, call, key)
        else:
            assert key is not None
            made = self._made_for(exchange, call, key)
        body = msgspec.json.format(_encode(made), indent=2) if provider == "google" else _encode(made)
        seen.status = 200
        lines = refusal_head(provider, f"req_{seen.n:032x}", b"application/json")
        exchange.respond(200, lines, body)

    def _made_for(self, exchange: Exchange, call: Call, key: Key) -> Any:
        match call.provider, call.name:
            case "openai", "models":
                return {"object": "list", "data": [_openai_model(model) for model in self._listed("openai", key)]}
            case "openai", "model":
                return _openai_model(self._one("openai", call, key))
            case "anthropic", "models":
                data = [messages.model_json(model) for model in self._listed("anthropic", key)]
                ends = {"first_id": data[0]["id"], "last_id": data[-1]["id"]} if data else {}
                return {"data": data, "has_more": False, **ends}
            case "anthropic", "model":
                return messages.model_json(self._one("anthropic", call, key))
            case "anthropic", "count_tokens":
                body = self._emulator.decode("anthropic", exchange.body)
                model = self._emulator.planner.candidates("anthropic", "messages", body)[0]
                return {"input_tokens": messages.read_prompt(body, "anthropic", model).input_tokens}
            case "google", "models":
                return {"models": [gemini.model_json(model) for model in self._listed("google", key)]}
            case "google", "model":
                return gemini.model_json(self._one("google", call, key))
            case "google", "countTokens":
                return self._google_count(exchange, call)
            case _:
                raise Refused(_unknown(call, exchange.method.decode("latin-1")))

    def _listed(self, provider: str, key: Key) -> list[Model]:
        return [
            model
            for model in self._emulator.catalogue.listed(provider)
            if key.may_use(model.slug, model.native or "", model.dated)
        ]

    def _one(self, provider: str, call: Call, key: Key) -> Model:
        model = self._emulator.catalogue.find(provider, call.model)
        if model is not None and key.may_use(model.slug, model.native or "", model.dated):
            return model
        scene = Scene(model=call.model, request_id=ID_MARK)
        if provider == "openai":
            message = f"The model '{call.model}' does not exist"
            raise Refused(openai_error(404, message, "invalid_request_error", "model_not_found", "model"))
        raise Refused(failure(provider, "model_missing_404", scene))

    def _google_count(self, exchange: Exchange, call: Call) -> Json:
        model = self._emulator.planner.find_model("google", "generateContent", call.model, "countTokens")
        body = self._emulator.decode("google", exchange.body)
        inner = gemini.pick(body, "generateContentRequest")
        tokens = gemini.read(inner if isinstance(inner, dict) else body, model, stream=False).input_tokens
        return {"totalTokens": tokens, "promptTokensDetails": [{"modality": "TEXT", "tokenCount": tokens}]}


def _openai_model(model: Model) -> Json:
    return {"id": model.native, "object": "model", "created": model.created, "owned_by": "system"}


def _unknown(call: Call, method: str) -> Failure:
    """The provider's answer for a path it does not have."""
    path = call.path.removeprefix(f"/{call.provider}")
    match call.provider:
        case "openai":
            message = f"Invalid URL ({method} {path})"
            return openai_error(404, message, "invalid_request_error", None)
        case "google":
            return google_error(404, f"Requested entity was not found: {path}", "NOT_FOUND")
        case "anthropic":
            return failure("anthropic", "model_missing_404", Scene(model=path, request_id=ID_MARK))
        case _:
            return openrouter_error(404, "Not Found")
