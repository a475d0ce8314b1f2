"""OpenRouter's own addresses under `/api/v1` beside the calls: a client of OpenRouter reads the same things here.

The key is the caller's Ownkey token, its limit the workspace's spend cap, its usage what our books hold. Every answer
has OpenRouter's shape (its OpenAPI, November 2026); what only Ownkey knows stands in a field `ownkey` of its own.
"""

import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal, InvalidOperation
from typing import Any, Final, Protocol
from urllib.parse import parse_qsl, quote

import msgspec

from ownkey.api.model_lists import openrouter_models
from ownkey.control.receipts import Scope
from ownkey.control.status import Status
from ownkey.domain.booking import CapFigures
from ownkey.domain.money import format_usd
from ownkey.domain.pricing import PriceBook
from ownkey.domain.product import Product
from ownkey.domain.receipts import AttemptRecord, Receipt, provider_name
from ownkey.domain.records import UsageSince, UsageSums, Wallet
from ownkey.domain.refusals import Code, Refusal, Refused
from ownkey.domain.routing import Funding, Route
from ownkey.domain.usage import Usage
from ownkey.domain.workspace import Principal, TokenKind, WorkspaceState

PREFIX: Final = "/api/v1"
MAX_PAGE: Final = 1_000
USUAL_PAGE: Final = 500
_NO_QUOTA: Final = 1_000_000
"""Calls of free models are not counted here, and the SDK wants a number."""

_RATE_NOTE: Final = "This field is deprecated and safe to ignore."
_NAMES: Final[Mapping[str, str]] = {"google": "Google AI Studio"}

_MODEL: Final = re.compile(r"/model/(?P<slug>[^/]+/[^/]+)")
_ENDPOINTS: Final = re.compile(r"/models/(?P<slug>[^/]+/[^/]+)/endpoints")


class Books(Protocol):
    """What was called and what it came to."""

    async def load_generation(self, workspace_id: str, ident: str) -> Mapping[str, Any] | None: ...

    async def load_usage(
        self, workspace_id: str, since: UsageSince, *, tasks: frozenset[str], projects: frozenset[str]
    ) -> Mapping[str, UsageSums]: ...

    async def load_wallet(self, workspace_id: str) -> Wallet: ...


class Prices(Protocol):
    def current(self) -> PriceBook: ...


class Payer(Protocol):
    """Who pays now."""

    async def show(self, workspace: WorkspaceState) -> Status: ...


class Catalogue(Protocol):
    """What OpenRouter tells everybody; empty or None where it could not be read."""

    async def models(self) -> Mapping[str, Mapping[str, Any]]: ...

    async def endpoints(self, slug: str) -> Mapping[str, Any] | None: ...

    async def providers(self) -> list[Any] | None: ...


@dataclass(frozen=True, slots=True)
class Question:
    """One GET: the path below `/api/v1`, and the query as it came."""

    path: str
    query: bytes
    principal: Principal
    workspace: WorkspaceState


Answer = Callable[[Question], Awaitable[Any]]


class OpenRouterSurface:
    """Answers the GETs. Raises Refused, which the data plane writes in OpenRouter's envelope."""

    def __init__(
        self, *, books: Books, prices: Prices, payer: Payer, catalogue: Catalogue, product: Product,
        now_ms: Callable[[], int],
    ) -> None:
        self._books = books
        self._prices = prices
        self._payer = payer
        self._catalogue = catalogue
        self._product = product
        self._now_ms = now_ms
        self._answers: Mapping[str, Answer] = {
            "/key": self._key, "/auth/key": self._key, "/credits": self._credits, "/generation": self._generation,
            "/models": self._models, "/models/user": self._models_user, "/models/count": self._count,
            "/embeddings/models": self._embeddings, "/providers": self._providers,
        }

    @property
    def paths(self) -> tuple[str, ...]:
        """For people who ask for an address that is not there."""
        one = ("/model/{author}/{slug}", "/models/{author}/{slug}/endpoints")
        return tuple(PREFIX + path for path in (*self._answers, *one))

    def find(self, method: str, path: str) -> Answer | None:
        """Who answers a path; None: nobody here."""
        if method != "GET" or not path.startswith(PREFIX + "/"):
            return None
        below = path.removeprefix(PREFIX)
        found = self._answers.get(below)
        if found is None and _ENDPOINTS.fullmatch(below):
            return self._endpoints
        if found is None and _MODEL.fullmatch(below):
            return self._model
        return found

    # --- the key and its books

    async def _key(self, question: Question) -> Any:
        _read_query(question.query, ())
        principal, status = question.principal, await self._payer.show(question.workspace)
        sums = await self._books.load_usage(
            question.workspace.id, self._since(), tasks=principal.tasks, projects=principal.projects
        )
        # The cap bounds what the customer's own keys spend; credits are bounded by their balance, see /credits.
        cap = None if status.payer == "credits" else status.money.cap
        budgets = _budgets(cap)
        usage = _added(sums.get("openrouter", UsageSums()), sums.get("credits", UsageSums()),
                       self._product.credits.price_nusd)
        return {"data": {
            "label": principal.label or principal.token_id,
            "limit": None if cap is None else _usd(cap.cap_nusd),
            "limit_remaining": None if cap is None or cap.cap_nusd is None else _usd(_left(cap)),
            "limit_reset": None if cap is None or cap.cap_nusd is None else "monthly",
            "include_byok_in_limit": True,
            **_windows("usage", usage), **_windows("byok_usage", sums.get("direct", UsageSums())),
            "budgets": budgets, "effective_budget": budgets[0] if budgets else None,
            "allowed_data_regions": ["global"],
            "free_model_daily_requests": {"limit": _NO_QUOTA, "remaining": _NO_QUOTA, "used": 0},
            "is_free_tier": False, "is_management_key": False, "is_provisioning_key": False,
            "creator_user_id": None, "organization_id": None, "workspace_id": question.workspace.id,
            "expires_at": None if principal.expires_at_ms is None else _iso(principal.expires_at_ms),
            "rate_limit": {"requests": -1, "interval": "10s", "note": _RATE_NOTE},
        }}

    async def _credits(self, question: Question) -> Any:
        """At OpenRouter for management keys only; here for the tokens that may manage."""
        _read_query(question.query, ())
        if question.principal.kind is TokenKind.WORKSPACE or "manage" not in question.principal.scopes:
            raise Refused(Refusal(
                Code.FORBIDDEN, "Only management keys may read credits: here, service tokens with the scope manage.",
                "Ask the product for the balance; GET /api/v1/key shows this token's own limit and usage.",
            ))
        wallet = await self._books.load_wallet(question.workspace.id)
        sums = await self._books.load_usage(
            question.workspace.id, self._since(), tasks=frozenset(), projects=frozenset()
        )
        used, price = sums.get("credits", UsageSums()).total, self._product.credits.price_nusd
        return {"data": {
            "total_credits": _usd((wallet.balance_credits + used) * price), "total_usage": _usd(used * price),
        }}

    async def _generation(self, question: Question) -> Any:
        asked = _read_query(question.query, ("id",))
        ident = asked.get("id", "").strip()
        if not ident or len(ident) > 200:
            raise Refused(Refusal(
                Code.BAD_REQUEST, "Which generation? The parameter id is missing or too long.",
                "Send ?id= with the id of an answer.", param="id",
            ))
        stored = await self._books.load_generation(question.workspace.id, ident)
        scope = Scope(question.principal.tasks, question.principal.projects)
        if stored is None or not scope.admits(stored):
            raise Refused(Refusal(
                Code.UNKNOWN_GENERATION, f"There is no generation {ident[:80]!r} in this workspace.",
                "Give the id of an answer, or the receipt of its header x-ownkey-receipt.", param="id",
            ))
        return {"data": show_generation(msgspec.convert(stored, Receipt, strict=False), ident)}

    def _since(self) -> UsageSince:
        now = datetime.fromtimestamp(self._now_ms() / 1_000, UTC)
        day = now.replace(hour=0, minute=0, second=0, microsecond=0)
        return UsageSince(*(
            int(start.timestamp()) * 1_000 for start in (day, day - timedelta(days=day.weekday()), day.replace(day=1))
        ))

    # --- models

    async def _entries(self) -> dict[str, dict[str, Any]]:
        return openrouter_models(self._product, self._prices.current(), await self._catalogue.models())

    async def _models(self, question: Question) -> Any:
        asked = _read_query(question.query, (*_PAGE, *_FILTERS, *_NUMBERS, "sort"))
        found = _sorted(_filtered(list((await self._entries()).values()), asked), asked.get("sort", ""))
        return _page(found, asked, "/models")

    async def _models_user(self, question: Question) -> Any:
        """What this workspace can call as it stands: under a cap or credits, only what has a price."""
        asked = _read_query(question.query, _PAGE)
        status, book = await self._payer.show(question.workspace), self._prices.current()
        bounded = status.payer == "credits" or (status.money.cap is not None and status.money.cap.cap_nusd is not None)
        found = [
            entry for slug, entry in (await self._entries()).items()
            if not bounded or book.find("openrouter", slug) is not None
        ]
        return _page(_filtered(found, {}), asked, "/models/user")

    async def _count(self, question: Question) -> Any:
        asked = _read_query(question.query, ("output_modalities",))
        return {"data": {"count": len(_filtered(list((await self._entries()).values()), asked))}}

    async def _embeddings(self, question: Question) -> Any:
        asked = _read_query(question.query, _PAGE)
        found = _filtered(list((await self._entries()).values()), {"output_modalities": "embeddings"})
        return _page(found, asked, "/embeddings/models")

    async def _model(self, question: Question) -> Any:
        _read_query(question.query, ())
        match = _MODEL.fullmatch(question.path.removeprefix(PREFIX))
        assert match is not None
        return {"data": await self._known(match["slug"])}

    async def _endpoints(self, question: Question) -> Any:
        """OpenRouter's hosts of a model; from the price book alone where OpenRouter's page cannot be read."""
        _read_query(question.query, ())
        match = _ENDPOINTS.fullmatch(question.path.removeprefix(PREFIX))
        assert match is not None
        entry = await self._known(match["slug"])
        return {"data": await self._catalogue.endpoints(entry["id"]) or _own_endpoints(entry)}

    async def _known(self, slug: str) -> dict[str, Any]:
        """The entry of a slug or of a name that leads to it. Nothing else gets on into a path of ours."""
        entries = await self._entries()
        by_name = {entry["canonical_slug"]: entry for entry in entries.values()}
        found = entries.get(slug) or by_name.get(slug)
        if found is None:
            raise Refused(Refusal(
                Code.UNKNOWN_MODEL, f"The model {slug[:80]!r} is not listed here.",
                "GET /api/v1/models lists the models.", param="model",
            ))
        return found

    async def _providers(self, question: Question) -> Any:
        _read_query(question.query, ())
        listed = await self._catalogue.providers()
        if listed is None:
            names = ("openrouter", *self._product.direct_providers)
            listed = [
                {"name": provider_name(name), "slug": name, "privacy_policy_url": None, "terms_of_service_url": None,
                 "status_page_url": None} for name in names
            ]
        return {"data": listed}


# --- amounts


def _usd(amount_nusd: int | None) -> msgspec.Raw | None:
    """An amount as a JSON number, digit by digit."""
    return None if amount_nusd is None else msgspec.Raw(format_usd(amount_nusd).encode())


def _windows(name: str, sums: UsageSums) -> dict[str, Any]:
    return {
        name: _usd(sums.total), f"{name}_daily": _usd(sums.daily), f"{name}_weekly": _usd(sums.weekly),
        f"{name}_monthly": _usd(sums.monthly),
    }


def _added(routed: UsageSums, credits: UsageSums, price_nusd: int) -> UsageSums:
    """What went over OpenRouter: with the customer's key as it cost, with credits as they were charged."""
    return UsageSums(
        routed.total + credits.total * price_nusd, routed.daily + credits.daily * price_nusd,
        routed.weekly + credits.weekly * price_nusd, routed.monthly + credits.monthly * price_nusd,
    )


def _left(cap: CapFigures) -> int:
    return max(0, (cap.cap_nusd or 0) - cap.spent_nusd - cap.held_nusd)


def _budgets(cap: CapFigures | None) -> list[dict[str, Any]]:
    if cap is None or cap.cap_nusd is None:
        return []
    return [{
        "scope": "key_limit", "budget_id": None, "guardrail_id": None, "limit_usd": _usd(cap.cap_nusd),
        "spend_usd": _usd(cap.spent_nusd), "remaining_usd": _usd(_left(cap)), "reset_interval": "monthly",
        "resets_at": _iso(cap.resets_at_ms), "include_byok": True,
    }]


def _iso(at_ms: int) -> str:
    at = datetime.fromtimestamp(at_ms / 1_000, UTC)
    return at.isoformat(timespec="milliseconds").replace("+00:00", "Z")


# --- a generation


def show_generation(receipt: Receipt, ident: str) -> dict[str, Any]:
    """A receipt as OpenRouter tells a generation.

    As there, `is_byok` means the customer's own provider key, and then the provider's bill stands in
    `upstream_inference_cost` and not in `total_cost`. A cost that is unknown cannot be told in this shape: it is 0,
    and `ownkey.basis` says `unknown`.
    """
    answered = receipt.attempts[-1] if receipt.attempts else None
    direct = receipt.route is Route.DIRECT
    cost = receipt.charge_nusd if receipt.funding is Funding.CREDITS else receipt.cost_nusd or 0
    usage = receipt.usage or Usage()
    latency = receipt.duration_ms if receipt.first_content_ms is None else receipt.first_content_ms
    return {
        "id": ident, "request_id": receipt.id, "upstream_id": None if answered is None else answered.request_id,
        "model": receipt.served_model or receipt.requested_model,
        "provider_name": None if answered is None else _host(answered.provider),
        "total_cost": _usd(0 if direct else cost), "usage": _usd(0 if direct else cost),
        "upstream_inference_cost": _usd(cost if direct else 0), "cache_discount": None,
        "is_byok": direct or usage.is_byok, "created_at": _iso(receipt.at_ms), "streamed": receipt.stream,
        "cancelled": receipt.hung_up, "latency": latency, "moderation_latency": None,
        "generation_time": max(0, receipt.duration_ms - (receipt.first_content_ms or 0)),
        "finish_reason": receipt.finish_reason, "native_finish_reason": receipt.finish_reason,
        "tokens_prompt": usage.total_input, "tokens_completion": usage.total_output,
        "native_tokens_prompt": usage.total_input, "native_tokens_completion": usage.total_output,
        "native_tokens_completion_images": None, "native_tokens_reasoning": usage.reasoning,
        "native_tokens_cached": usage.cache_read, "num_media_prompt": None, "num_input_audio_prompt": None,
        "num_media_completion": None, "num_search_results": dict(usage.units).get("web_search"),
        "num_fetches": None, "web_search_engine": None,
        "api_type": "embeddings" if receipt.endpoint == "embeddings" else "completions",
        "provider_responses": [_tried(attempt) for attempt in receipt.attempts], "origin": "", "app_id": None,
        "external_user": receipt.member, "session_id": receipt.conversation, "preset_id": None, "router": None,
        "service_tier": None, "data_region": "global", "user_agent": None, "http_referer": None,
        "workspace_id": receipt.workspace_id,
        "ownkey": {
            "receipt": receipt.id, "route": receipt.route, "funding": receipt.funding, "code": receipt.code,
            "basis": receipt.basis, "cost_usd": None if receipt.cost_nusd is None else format_usd(receipt.cost_nusd),
            "charge_credits": receipt.charge_credits, "task": receipt.task,
        },
    }


def _host(provider: str) -> str:
    """Who answered, by OpenRouter's names; behind OpenRouter the receipt does not know the host."""
    return _NAMES.get(provider, provider_name(provider))


def _tried(attempt: AttemptRecord) -> dict[str, Any]:
    told: dict[str, Any] = {
        "status": attempt.status, "latency": max(0, attempt.ended_ms - attempt.started_ms),
        "is_byok": attempt.route is Route.DIRECT, "model_permaslug": attempt.model,
    }
    if attempt.request_id is not None:
        told["id"] = attempt.request_id
    if attempt.route is Route.DIRECT:
        told["provider_name"] = _host(attempt.provider)
    return told


# --- lists of models

_PAGE: Final = ("offset", "limit")
_FILTERS: Final = ("output_modalities", "input_modalities", "supported_parameters", "model_authors", "q")
_NUMBERS: Final = ("context", "min_price", "max_price", "min_output_price", "max_output_price")


def _read_query(raw: bytes, known: Sequence[str]) -> dict[str, str]:
    """The parameters, once each. One that cannot be honoured is refused by name rather than ignored."""
    try:
        pairs = parse_qsl(raw.decode("ascii"), keep_blank_values=True, max_num_fields=50)
    except ValueError as error:
        raise _bad("query", "The query is no list of parameters.", "Write it as ?name=value.") from error
    asked = dict(pairs)
    if len(asked) != len(pairs):
        raise _bad("query", "A query parameter is given twice.", "Give each one once.")
    for name in asked:
        if name not in known:
            told = ", ".join(known) or "none"
            raise _bad(name[:60], f"The query parameter {name[:60]!r} is not known here.", f"Known: {told}.")
    return {name: value for name, value in asked.items() if value != ""}


def _bad(param: str, message: str, fix: str) -> Refused:
    return Refused(Refusal(Code.BAD_REQUEST, message, fix, param=param))


def _words(text: str) -> set[str]:
    return {word.strip().lower() for word in text.split(",") if word.strip()}


def _filtered(entries: list[dict[str, Any]], asked: Mapping[str, str]) -> list[dict[str, Any]]:
    """By default the models that answer in text, as at OpenRouter."""
    outputs = _words(asked.get("output_modalities", "text"))
    inputs, parameters = _words(asked.get("input_modalities", "")), _words(asked.get("supported_parameters", ""))
    authors, text = _words(asked.get("model_authors", "")), asked.get("q", "").strip().lower()
    least = {name: _number(name, asked[name]) for name in _NUMBERS if name in asked}
    return [
        entry for entry in entries
        if ("all" in outputs or outputs & set(entry["architecture"].get("output_modalities") or ()))
        and inputs <= set(entry["architecture"].get("input_modalities") or ())
        and parameters <= set(entry.get("supported_parameters") or ())
        and (not authors or entry["id"].partition("/")[0] in authors)
        and (not text or text in f"{entry['id']} {entry['name']}".lower())
        and _fits(entry, least)
    ]


def _number(name: str, text: str) -> Decimal:
    try:
        number = Decimal(text)
    except InvalidOperation:
        number = Decimal("NaN")
    if not number.is_finite() or number < 0:
        raise _bad(name, f"The parameter {name} must be a number of at least 0.", "Correct it, or leave it out.")
    return number


def _fits(entry: Mapping[str, Any], wanted: Mapping[str, Decimal]) -> bool:
    """Prices are asked for in USD per million tokens, and listed per token."""
    prompt, completion = _price(entry, "prompt"), _price(entry, "completion")
    return (
        (entry.get("context_length") or 0) >= wanted.get("context", 0)
        and wanted.get("min_price", prompt) <= prompt <= wanted.get("max_price", prompt)
        and wanted.get("min_output_price", completion) <= completion <= wanted.get("max_output_price", completion)
    )


def _price(entry: Mapping[str, Any], name: str) -> Decimal:
    try:
        return Decimal(str(entry["pricing"].get(name, "0"))).scaleb(6)
    except (InvalidOperation, AttributeError):
        return Decimal(0)


_SORTS: Final[Mapping[str, tuple[Callable[[dict[str, Any]], Any], bool]]] = {
    "": (lambda entry: entry["id"], False),
    "newest": (lambda entry: entry.get("created") or 0, True),
    "pricing-low-to-high": (lambda entry: _price(entry, "prompt"), False),
    "pricing-high-to-low": (lambda entry: _price(entry, "prompt"), True),
    "context-high-to-low": (lambda entry: entry.get("context_length") or 0, True),
}


def _sorted(entries: list[dict[str, Any]], how: str) -> list[dict[str, Any]]:
    if how not in _SORTS:
        known = ", ".join(name for name in _SORTS if name)
        raise _bad("sort", f"Models cannot be sorted by {how[:40]!r} here.", f"Use one of: {known}.")
    key, reverse = _SORTS[how]
    return sorted(entries, key=key, reverse=reverse)


def _page(entries: list[dict[str, Any]], asked: Mapping[str, str], path: str) -> dict[str, Any]:
    offset, limit = _whole(asked, "offset", 0, 0, 10**9), _whole(asked, "limit", USUAL_PAGE, 1, MAX_PAGE)
    rest = {name: value for name, value in asked.items() if name not in _PAGE}
    after = {**rest, "offset": str(offset + limit), "limit": str(limit)}
    query = "&".join(f"{name}={quote(value, safe='')}" for name, value in after.items())
    more = offset + limit < len(entries)
    return {
        "data": entries[offset:offset + limit], "total_count": len(entries),
        "links": {"next": f"{PREFIX}{path}?{query}" if more else None},
    }


def _whole(asked: Mapping[str, str], name: str, usual: int, least: int, most: int) -> int:
    text = asked.get(name, str(usual))
    number = int(text) if text.isascii() and text.isdigit() and len(text) <= 10 else -1
    if not least <= number <= most:
        raise _bad(name, f"The parameter {name} must be a whole number from {least} to {most}.", "Correct it.")
    return number


def _own_endpoints(entry: Mapping[str, Any]) -> dict[str, Any]:
    """A model's page without OpenRouter's hosts: none is named that nobody has heard of."""
    return {
        "id": entry["id"], "name": entry["name"], "created": entry["created"],
        "description": entry.get("description") or "", "architecture": entry["architecture"], "endpoints": [],
    }
