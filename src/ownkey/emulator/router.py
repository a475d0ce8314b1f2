"""OpenRouter's own pages: model lists with prices, endpoints, keys, credits, past generations, signing in (PKCE)."""

import base64
import hashlib
import re
import time
from dataclasses import dataclass, replace
from datetime import datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit, urlunsplit

from ownkey.domain.money import parse_usd_nusd

from .book import Bill, Seen
from .catalogue import Model
from .chat import digits
from .doors import Call
from .errors import Scene, failure, openrouter_error
from .keys import Key, Kind
from .plan import Json, Refused
from .server import Exchange

if TYPE_CHECKING:
    from .app import Emulator

_CODE_LIFE_S = 600
_S256 = re.compile(r"[A-Za-z0-9_-]{43}")
_DAY = 86_400


def _per_token(nusd_per_million: int) -> str:
    """A price per token in USD, as OpenRouter writes it: a decimal string."""
    whole, rest = divmod(nusd_per_million, 10**15)
    fraction = f"{rest:015d}".rstrip("0")
    return f"{whole}.{fraction}" if fraction else str(whole)


class RouterDesk:
    """Answers about OpenRouter's models, keys and accounts."""

    open_calls = frozenset({"auth_page", "auth_keys", "models", "models_embeddings", "endpoints", "providers"})

    def __init__(self, emulator: "Emulator") -> None:
        self._emulator = emulator
        self._codes: dict[str, _SignIn] = {}
        self._made = 0

    def reset(self) -> None:
        self._codes.clear()
        self._made = 0

    def age_sign_ins(self, seconds: float) -> int:
        self._codes = {code: replace(one, ends_at=one.ends_at - seconds) for code, one in self._codes.items()}
        return len(self._codes)

    def answer(self, exchange: Exchange, call: Call, key: Key | None) -> Any:
        """The body for one call; `key` is None only for the open ones. Raises Refused."""
        match call.name:
            case "models":
                return self._list(call.argument("output_modalities") or "text", None)
            case "models_embeddings":
                return self._list("embeddings", None)
            case "endpoints":
                return self._endpoints(call)
            case "providers":
                return self._providers()
            case "auth_keys":
                return self._exchange_code(exchange)
            case _:
                assert key is not None
                return self._account(call, key)

    def _account(self, call: Call, key: Key) -> Any:
        match call.name:
            case "models_user":
                return self._list(call.argument("output_modalities") or "text", key)
            case "key":
                return {"data": self._key(key)}
            case "credits":
                if key.kind != "management":
                    raise Refused(failure("openrouter", "management_403", Scene()))
                left = key.balance_nusd if key.balance_nusd is not None else 0
                return {"data": {"total_credits": digits(left + key.used_nusd), "total_usage": digits(key.used_nusd)}}
            case _:
                return self._generation(call)

    def _list(self, modalities: str, key: Key | None) -> Json:
        """The model list; by default models that answer in text, as at OpenRouter."""
        wanted = {word.strip() for word in modalities.split(",")}
        listed = [
            model
            for model in self._emulator.catalogue.listed("openrouter")
            if ("all" in wanted or ("embeddings" if model.kind == "embedding" else "text") in wanted)
            and (key is None or key.may_use(model.slug, model.native or "", model.dated))
        ]
        entries = [self._router_model(model) for model in listed]
        return {"data": entries, "total_count": len(entries), "links": {"next": None}}

    def _pricing(self, model: Model) -> Json:
        price = self._emulator.catalogue.price("openrouter", model)
        asked = price.rates
        made: Json = {"prompt": _per_token(asked.input), "completion": _per_token(asked.output)}
        if asked.cache_read != asked.input:
            made["input_cache_read"] = _per_token(asked.cache_read)
        if asked.cache_write_5m != asked.input:
            made["input_cache_write"] = _per_token(asked.cache_write_5m)
        if asked.cache_write_1h != asked.input:
            made["input_cache_write_1h"] = _per_token(asked.cache_write_1h)
        if price.long is not None and price.long_over is not None:
            made["overrides"] = [
                {
                    "min_prompt_tokens": price.long_over,
                    "prompt": _per_token(price.long.input),
                    "completion": _per_token(price.long.output),
                    "input_cache_read": _per_token(price.long.cache_read),
                    "input_cache_write": _per_token(price.long.cache_write_5m),
                    "input_cache_write_1h": _per_token(price.long.cache_write_1h),
                }
            ]
        return made

    def _architecture(self, model: Model) -> Json:
        inputs = ["text", "image"] if model.sees else ["text"]
        output = "embeddings" if model.kind == "embedding" else "text"
        return {
            "modality": f"{'+'.join(inputs)}->{output}",
            "input_modalities": inputs,
            "output_modalities": [output],
            "tokenizer": "Other",
            "instruct_type": None,
        }

    def _router_model(self, model: Model) -> Json:
        return {
            "id": model.slug,
            "canonical_slug": model.canonical or model.slug,
            "hugging_face_id": "",
            "name": model.name,
            "created": model.created,
            "description": f"Emulated {model.name}.",
            "context_length": model.context,
            "architecture": self._architecture(model),
            "pricing": self._pricing(model),
            "top_provider": {
                "context_length": model.context,
                "max_completion_tokens": model.max_output or None,
                "is_moderated": False,
            },
            "per_request_limits": None,
            "supported_parameters": _parameters(model),
            "default_parameters": {},
            "supported_voices": None,
            "knowledge_cutoff": None,
            "expiration_date": None,
            "links": {"details": f"/api/v1/models/{model.canonical or model.slug}/endpoints"},
        }

    def _endpoints(self, call: Call) -> Json:
        model = self._emulator.catalogue.find("openrouter", call.model)
        if model is None:
            raise Refused(openrouter_error(404, f"Model {call.model} not found"))
        speed = {"p50": 0.25, "p75": 0.35, "p90": 0.48, "p99": 0.85}
        endpoint: Json = {
            "name": f"{model.host} | {model.slug}",
            "model_id": model.slug,
            "model_name": model.name,
            "context_length": model.context,
            "pricing": self._pricing(model),
            "provider_name": model.host,
            "tag": model.host.lower().replace(" ", "-"),
            "quantization": "unknown",
            "max_completion_tokens": model.max_output or None,
            "max_prompt_tokens": None,
            "supported_parameters": _parameters(model),
            "uptime_last_30m": 100,
            "uptime_last_5m": 100,
            "uptime_last_1d": 100,
            "supports_implicit_caching": False,
            "supports_diarization": False,
            "supports_tool_choice": {"auto": True, "function": True, "none": True, "required": True},
            "native_tools": {},
            "service_tier": None,
            "latency_last_30m": speed,
            "throughput_last_30m": {"p50": 45, "p75": 38, "p90": 28, "p99": 15},
            "status": 0,
        }
        return {
            "data": {
                "id": model.slug,
                "name": model.name,
                "created": model.created,
                "description": f"Emulated {model.name}.",
                "architecture": self._architecture(model),
                "endpoints": [endpoint],
            }
        }

    def _providers(self) -> Json:
        hosts = sorted({model.host for model in self._emulator.catalogue.listed("openrouter") if model.host})
        return {"data": [
            {"name": host, "slug": host.lower().replace(" ", "-"), "privacy_policy_url": None,
             "terms_of_service_url": None, "status_page_url": None, "headquarters": None, "datacenters": None}
            for host in hosts
        ]}

    def _key(self, key: Key) -> Json:
        now = time.time()
        bills = self._emulator.book.select(key_sha256=key.sha256)
        today = now - now % _DAY
        monday = today - (int(today // _DAY) + 3) % 7 * _DAY
        date = time.gmtime(now)
        month = today - (date.tm_mday - 1) * _DAY
        left = key.remaining_nusd
        made: Json = {
            "label": key.label or f"{key.key[:12]}...{key.key[-3:]}",
            "limit": None if key.limit_nusd is None else digits(key.limit_nusd),
            "limit_remaining": None if left is None else digits(left),
            "limit_reset": key.limit_reset,
            "include_byok_in_limit": False,
        }
        for name, is_byok, total in (("usage", False, key.used_nusd), ("byok_usage", True, key.byok_used_nusd)):
            mine = [bill for bill in bills if bill.is_byok is is_byok]
            made[name] = digits(total)
            for period, since in (("daily", today), ("weekly", monday), ("monthly", month)):
                made[f"{name}_{period}"] = digits(sum(bill.cost_nusd for bill in mine if bill.at >= since))
        made.update(
            {
                "allowed_data_regions": [],
                "budgets": [],
                "effective_budget": None,
                "free_model_daily_requests": {"limit": 1000, "remaining": 1000, "used": 0},
                "organization_id": None,
                "workspace_id": None,
                "is_free_tier": False,
                "is_management_key": key.kind == "management",
                "is_provisioning_key": key.kind == "management",
                "creator_user_id": "user_emulator",
                "expires_at": None if key.expires_at is None else _iso(key.expires_at),
                "rate_limit": {"requests": -1, "interval": "10s", "note": "This field is deprecated."},
            }
        )
        return made

    def _generation(self, call: Call) -> Json:
        wanted = call.argument("id") or ""
        bill = self._emulator.book.find(wanted)
        if bill is None or bill.provider != "openrouter":
            raise Refused(openrouter_error(404, f"Generation {wanted} not found"))
        return {"data": _generation(bill)}

    # sign-in

    def authorize(self, exchange: Exchange, call: Call, seen: Seen) -> None:
        """Consent is assumed: the page sends the browser straight back with a code."""
        callback = _callback(call)
        sign_in = _sign_in(call)
        self._made += 1
        mark = hashlib.sha256(f"{self._emulator.seed}:{self._made}:code".encode()).hexdigest()
        self._codes[mark] = sign_in
        parts = urlsplit(callback)
        query = f"{parts.query}&code={mark}" if parts.query else f"code={mark}"
        target = urlunsplit(parts._replace(query=query))
        seen.status = 302
        exchange.respond(302, b"location: %s\r\ncontent-type: text/html\r\n" % target.encode(), b"")

    def _exchange_code(self, exchange: Exchange) -> Json:
        body = self._emulator.decode("openrouter", exchange.body)
        # One try a code, a wrong one included.
        sign_in = self._codes.pop(str(body.get("code")), None)
        verifier = str(body.get("code_verifier") or "")
        if sign_in is None or time.time() >= sign_in.ends_at:
            raise Refused(openrouter_error(403, "Invalid code or code_verifier"))
        if (body.get("code_challenge_method") or "") != sign_in.method:
            raise Refused(openrouter_error(400, "Invalid code_challenge_method"))
        digest = base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).rstrip(b"=").decode()
        if sign_in.challenge and sign_in.challenge != (digest if sign_in.method == "S256" else verifier):
            raise Refused(openrouter_error(403, "Invalid code or code_verifier"))
        self._made += 1
        secret = hashlib.sha256(f"{self._emulator.seed}:{self._made}:key".encode()).hexdigest()
        kind: Kind = "limited" if sign_in.limit_nusd is not None else "expiring" if sign_in.key_ends_at else "valid"
        key = Key(
            "openrouter", f"sk-or-v1-{secret}", kind, limit_nusd=sign_in.limit_nusd, limit_reset=sign_in.limit_reset,
            expires_at=sign_in.key_ends_at, label=sign_in.label,
        )
        self._emulator.keys.add(key)
        return {"key": key.key, "user_id": "user_emulator"}


@dataclass(frozen=True, slots=True)
class _SignIn:
    """What a code stands for. Times are Unix seconds."""

    challenge: str
    method: str
    ends_at: float
    label: str
    limit_nusd: int | None
    limit_reset: str | None
    key_ends_at: float | None


def _callback(call: Call) -> str:
    """https anywhere, or http to localhost on any port (OpenRouter's API reference, "Create authorization code")."""
    callback = call.argument("callback_url")
    if not callback:
        raise Refused(openrouter_error(400, "callback_url is required"))
    parts = urlsplit(callback)
    here = parts.scheme == "http" and parts.hostname in {"localhost", "127.0.0.1"}
    if not parts.hostname or not (parts.scheme == "https" or here):
        raise Refused(openrouter_error(400, "callback_url must be https, or http on localhost"))
    return callback


def _sign_in(call: Call) -> _SignIn:
    challenge, method = call.argument("code_challenge") or "", call.argument("code_challenge_method") or ""
    if method not in {"", "S256", "plain"} or (method and not challenge):
        raise Refused(openrouter_error(400, "Invalid code_challenge_method"))
    if challenge and not method:
        method = "plain"
    if method == "S256" and not _S256.fullmatch(challenge):
        raise Refused(openrouter_error(400, "Invalid code_challenge"))
    label, reset = call.argument("key_label") or "", call.argument("usage_limit_type")
    if len(label) > 100 or reset not in {None, "daily", "weekly", "monthly"}:
        raise Refused(openrouter_error(400, "Invalid key_label or usage_limit_type"))
    try:
        limit, ends = call.argument("limit"), call.argument("expires_at")
        limit_nusd = None if limit is None else parse_usd_nusd(limit)
        key_ends_at = None if ends is None else datetime.fromisoformat(ends).timestamp()
    except ValueError as error:
        raise Refused(openrouter_error(400, "Invalid limit or expires_at")) from error
    return _SignIn(challenge, method, time.time() + _CODE_LIFE_S, label, limit_nusd, reset, key_ends_at)


def _iso(at: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(at))


def _parameters(model: Model) -> list[str]:
    if model.kind == "embedding":
        return []
    common = ["max_tokens", "response_format", "seed", "stop", "structured_outputs", "temperature", "tool_choice",
              "tools", "top_p"]  # fmt: skip
    return sorted([*common, *(["include_reasoning", "reasoning"] if model.thinks else [])])


def _generation(bill: Bill) -> Json:
    usage = bill.usage
    return {
        "id": bill.request_id,
        "upstream_id": None,
        "total_cost": digits(0 if bill.is_byok else bill.cost_nusd),
        "cache_discount": None,
        "upstream_inference_cost": digits(bill.cost_nusd) if bill.is_byok else 0,
        "created_at": _iso(bill.at),
        "model": bill.model,
        "app_id": None,
        "streamed": bill.stream,
        "cancelled": bill.aborted,
        "provider_name": "Emulated",
        "latency": 20,
        "moderation_latency": None,
        "generation_time": 20,
        "finish_reason": None if bill.aborted else "stop",
        "native_finish_reason": None if bill.aborted else "stop",
        "tokens_prompt": usage.prompt,
        "tokens_completion": usage.output,
        "native_tokens_prompt": usage.prompt,
        "native_tokens_completion": usage.output,
        "native_tokens_completion_images": None,
        "native_tokens_reasoning": usage.reasoning,
        "native_tokens_cached": usage.cache_read,
        "num_media_prompt": None,
        "num_input_audio_prompt": None,
        "num_media_completion": None,
        "num_search_results": None,
        "origin": "",
        "usage": digits(bill.cost_nusd),
        "is_byok": bill.is_byok,
        "external_user": None,
        "api_type": "embeddings" if bill.endpoint == "embeddings" else "completions",
        "router": None,
        "data_region": "global",
        "num_fetches": None,
        "preset_id": None,
        "service_tier": None,
        "web_search_engine": None,
        "workspace_id": None,
        "provider_responses": None,
        "user_agent": None,
        "http_referer": None,
    }
