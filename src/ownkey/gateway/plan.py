"""Turns one decoded call into an ordered list of attempts, or one refusal, without doing anything yet.

The same function serves a call and `explain`: what explain says is what a call would do.
"""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from functools import partial
from typing import Literal, TypeVar

from ownkey.domain import bounds, ledger, models
from ownkey.domain.booking import MoneyView
from ownkey.domain.bounds import ModelLimits, Terms
from ownkey.domain.conversation import ChatRequest, Untranslatable
from ownkey.domain.entitlements import key_state, payer_state, standing
from ownkey.domain.health import is_unhealthy
from ownkey.domain.phrases import Phrase, together
from ownkey.domain.pricing import ModelPrice, PriceBook
from ownkey.domain.product import Payers, Product, Task
from ownkey.domain.receipts import Skip
from ownkey.domain.refusals import KEY_STATE, Code, Refusal, Refused, refusal_for
from ownkey.domain.routing import (
    Funding,
    PayerDecision,
    Route,
    decide,
)
from ownkey.domain.wire import ANSWERING, Endpoint
from ownkey.domain.workspace import (
    Credential,
    CredentialStatus,
    Health,
    WorkspaceState,
)
from ownkey.gateway import words
from ownkey.gateway.circuits import Circuits, Key
from ownkey.gateway.codecs import BadRequest, Call, Codec, EmbeddingsRequest, Provider


@dataclass(frozen=True, slots=True)
class Planned:
    """One attempt that may be made. `owner` is the workspace whose credential it is (the tenant's or the
    platform's); `terms` None means that the model has no price and none is needed."""

    route: Route
    funding: Funding
    model_index: int
    slug: str
    native_model: str
    provider: Provider
    codec: Codec
    mode: Literal["passthrough", "translated"]
    owner: WorkspaceState
    credential: Credential
    price: ModelPrice | None
    limits: ModelLimits
    terms: Terms | None
    output_limit: int
    circuit: Key
    price_of: Callable[[str], ModelPrice | None]
    """The same version's prices of the provider's other models: one of them may take over or help inside a call."""
    trial: bool = False
    """The key is marked unhealthy; this is the one call in a while that finds out whether it still is."""
    translated_body: bytes | None = None
    dropped: tuple[str, ...] = ()


@dataclass(slots=True)
class Plan:
    """Attempts in order, with the decision that made them and the routes left out; or `refusal`, and no attempt.

    `unhealthy` is the OpenRouter credential that was left out because it is known to fail.
    """

    decision: PayerDecision
    task: Task | None
    models: tuple[str, ...]
    price_version: int
    refusal: Refusal | None = None
    unhealthy: Credential | None = None
    attempts: list[Planned] = field(default_factory=list)
    skips: list[Skip] = field(default_factory=list)
    chat: ChatRequest | None = None
    embeddings: EmbeddingsRequest | None = None
    money: MoneyView | None = None
    at_stake: bool = False


@dataclass(frozen=True, slots=True)
class PlanInputs:
    """Everything a plan depends on, loaded before it is made."""

    product: Product
    providers: Mapping[str, Provider]
    workspace: WorkspaceState
    platform: WorkspaceState | None
    money: MoneyView
    prices: PriceBook
    dialect: str
    call: Call
    task: Task | None
    now: float
    now_ms: int
    unusable: frozenset[str] = frozenset()
    on_trial: str = ""
    is_flagged: Callable[[str, str, int], bool] = lambda provider, model, version: False


def is_due(credential: Credential, now_ms: int) -> bool:
    """Out of funds, and the time has come for one real call. A rejected key waits for a free probe instead."""
    return credential.health is Health.NO_FUNDS and now_ms >= credential.next_probe_ms


def find_task(product: Product, header: str | None, model: str) -> Task | None:
    """The task that a call names by header or as `task:<name>`; None if it names none. Raises Refused."""
    names_task = model.startswith("task:")
    name = model[5:] if names_task else header
    if not name and not names_task:
        return None
    task = product.tasks.get(name or "")
    if task is None:
        known = ", ".join(sorted(product.tasks))
        raise Refused(Refusal(
            Code.UNKNOWN_TASK, Phrase("There is no task {name} in this product.", name=repr((name or '')[:60])),
            Phrase("Use one of: {known}.", known=known),
            param="model",
        ))
    return task


def check_feature(workspace: WorkspaceState, task: Task | None) -> None:
    """Gate 3. Raises Refused if the workspace switched the task off."""
    if task is not None and not workspace.features.get(task.name, task.default_on):
        raise Refused(Refusal(
            Code.FEATURE_DISABLED, Phrase("{title} is switched off in this workspace.", title=task.title),
            Phrase("Switch {title} on under AI Agent, Features.", title=task.title), f"feature:{task.name}",
        ))


def choose_models(task: Task | None, call: Call) -> tuple[str, ...]:
    """Slugs in order of preference. Embeddings never change model. Raises Refused for an unknown one."""
    if call.model.startswith("task:"):
        assert task is not None
        if (task.endpoint == "embeddings") != (call.endpoint == "embeddings"):
            raise Refused(Refusal(
                Code.BAD_REQUEST, Phrase(
                    "The task {name} is for {endpoint}, not for {asked}.", name=task.name, endpoint=task.endpoint,
                    asked=call.endpoint,
                ),
                Phrase("Call the endpoint that belongs to the task."), param="model",
            ))
        return task.models[:1] if call.endpoint == "embeddings" else task.models
    slug = models.normalize_requested(call.model)
    if slug is None:
        raise Refused(Refusal(
            Code.UNKNOWN_MODEL, Phrase("The model {model} is not known here.", model=repr(call.model[:80])),
            Phrase(
                "Use an OpenRouter slug such as openai/gpt-4.1-mini, or task:<name>; GET /v1/models lists them."
            ),
            param="model",
        ))
    if models.makes_embeddings(slug) is (call.endpoint != "embeddings"):
        makes = "embeddings and no answers" if call.endpoint != "embeddings" else "answers and no embeddings"
        raise Refused(Refusal(
            Code.BAD_REQUEST, Phrase("The model {model} makes {makes}.", model=repr(call.model[:80]), makes=makes),
            Phrase("Call the endpoint that belongs to the model, or name another model."), param="model",
        ))
    return (slug,)


def make_plan(inputs: PlanInputs, circuits: Circuits) -> Plan:
    """Decide the payer and lay out the attempts. Raises Refused for a call that names no model we know."""
    call, product = inputs.call, inputs.product
    slugs = choose_models(inputs.task, call)
    if product.payers is Payers.WITH_CREDITS:
        credits_left = inputs.money.balance_credits - inputs.money.held_credits
        short = _credits_short(inputs, slugs[0], credits_left)
    else:
        short = True
    state = payer_state(
        product, standing(inputs.workspace, inputs.now_ms), inputs.money, direct_usable=_any_direct(inputs, slugs),
        credits_short=short, unusable=inputs.unusable,
    )
    decision = decide(state)
    plan = Plan(decision, inputs.task, slugs, inputs.prices.version, money=inputs.money)
    if decision.refusal is not None:
        plan.refusal = _refusal(decision, inputs)
        return plan
    plan.at_stake = inputs.money.has_cap or Route.CREDITS in decision.routes
    if plan.at_stake and call.shape.unboundable:
        plan.refusal = Refusal(
            Code.BAD_REQUEST,
            Phrase(
                "{names}: its cost has no known maximum, and a spend cap or credits apply.",
                names=", ".join(call.shape.unboundable),
            ),
            Phrase("Leave it out, or remove the spend cap."), param=call.shape.unboundable[0],
        )
        return plan
    builder = _Builder(inputs, plan, circuits)
    byok = [r for r in decision.routes if r is not Route.CREDITS]
    for slug_index, slug in enumerate(slugs):
        for route in byok:
            builder.add(route, slug_index, slug)
    builder.skip_what_just_failed()
    if Route.CREDITS in decision.routes:
        first = len(plan.attempts)
        for slug_index, slug in enumerate(slugs):
            builder.add(Route.CREDITS, slug_index, slug)
        builder.skip_what_just_failed(first)
    if not plan.attempts:
        plan.refusal = builder.refusal()
    elif call.stateful:
        plan.refusal = _refuse_state(plan, call, builder.keys)
    return plan


def _refuse_state(plan: Plan, call: Call, keys: Collection[str]) -> Refusal | None:
    """What one provider has stored is found on one route only, even while another rests; and what lies behind the
    platform's own key is no tenant's to point at."""
    if len(keys) == 1 and plan.attempts[0].route is not Route.CREDITS:
        return None
    names = ", ".join(call.stateful)
    own = "input" if call.endpoint == "responses" else "messages"
    why = Phrase("more than one route could answer, and it is stored behind one") if len(keys) > 1 else (
        Phrase("the platform's own key answers this call")
    )
    return Refusal(
        Code.BAD_REQUEST, Phrase("{names}: refers to what a provider has stored, but {why}.", names=names, why=why),
        Phrase("Send the whole conversation in `{own}`.", own=own), param=call.stateful[0],
    )


def _refusal(decision: PayerDecision, inputs: PlanInputs) -> Refusal:
    code = decision.refusal
    assert code is not None
    if code is Code.AI_PAUSED and inputs.money.cap is not None:
        return words.paused(inputs.money.cap)
    details: dict[str, object] = {}
    if code in (Code.INSUFFICIENT_CREDITS, Code.MINIMUM_BALANCE_REQUIRED):
        details["balance_credits"] = inputs.money.balance_credits
    if code in (Code.ALWAYS_USE_KEY_UNAVAILABLE, Code.OPENROUTER_KEY_REQUIRED):
        details[KEY_STATE] = key_state(inputs.workspace, inputs.unusable).value
    return refusal_for(code, details=details)


def _any_direct(inputs: PlanInputs, slugs: tuple[str, ...]) -> bool:
    return any(_direct_of(inputs, slug) is not None for slug in slugs)


def _direct_of(inputs: PlanInputs, slug: str) -> tuple[Provider, str, Credential] | None:
    mapped = models.native_id(slug, inputs.product.model_ids)
    if mapped is None or mapped[0] not in inputs.product.direct_providers:
        return None
    credential = inputs.workspace.credentials.get(mapped[0])
    if credential is None or credential.status is not CredentialStatus.ENABLED:
        return None
    return inputs.providers[mapped[0]], mapped[1], credential


def _only_openrouter(inputs: PlanInputs, provider: Provider) -> list[str]:
    """The request's fields that this direct provider cannot be given."""
    call = inputs.call
    pair = provider.codec(inputs.dialect, call.endpoint)
    carried = call.translatable_fields if pair is not None and pair[1] == "translated" else ()
    return [name for name in call.router_fields if name not in carried]


def _credits_short(inputs: PlanInputs, slug: str, credits_left: int) -> bool:
    """Whether credits cannot even cover the smallest answer of the first model (an unpriced model is told later)."""
    price = _find_price(inputs, "openrouter", slug)
    if price is None:
        return credits_left <= 0
    limits = models.limits("openrouter", slug, price)
    terms = _terms(inputs, price, limits, openrouter=True)
    if terms is None:
        return credits_left <= 0
    smallest = terms.min_output if inputs.product.shrink_to_fit else terms.output_limit
    return ledger.hold_credits(terms.bound_nusd(smallest), inputs.product.credits) > credits_left


def _find_price(inputs: PlanInputs, provider: str, model: str) -> ModelPrice | None:
    """The price at the tier that the request asks for: held and computed at the same rates. Counting is free."""
    if inputs.call.endpoint == "count_tokens":
        return ModelPrice(provider, model, {}, free=True)
    price = inputs.prices.find(provider, model)
    return None if price is None else price.at_service_tier(inputs.call.shape.service_tier)


def _output_limit(inputs: PlanInputs, limits: ModelLimits) -> int:
    if inputs.call.endpoint not in ANSWERING:
        return 0
    task_limit = None if inputs.task is None else inputs.task.max_output_tokens
    return bounds.estimate_output_limit(inputs.call.shape, task_limit, limits)


def _terms(inputs: PlanInputs, price: ModelPrice | None, limits: ModelLimits, *, openrouter: bool) -> Terms | None:
    if price is None:
        return None
    return bounds.plan_terms(
        inputs.call.shape, price, limits, output_limit=_output_limit(inputs, limits),
        min_output=inputs.product.min_output_tokens, openrouter=openrouter,
    )


def circuit_id(credential: Credential) -> str:
    """A replaced key starts afresh: what its predecessor did is no reason to skip it."""
    return f"{credential.id}:{credential.version}"


def circuit_model(native: str, endpoint: Endpoint) -> str:
    """A key that does not serve a model's embeddings may serve its answers, and the other way round."""
    return f"{native} (embeddings)" if endpoint == "embeddings" else native


LEAST_RESPONSES_OUTPUT = 16
"""OpenAI refuses a smaller `max_output_tokens` (its API reference); OpenRouter takes any."""

NO_PLATFORM_KEY = Phrase("the platform's own OpenRouter key is not set up")


class _Builder:
    """Adds routes one by one, and remembers why one was left out."""

    def __init__(self, inputs: PlanInputs, plan: Plan, circuits: Circuits) -> None:
        self.inputs = inputs
        self.plan = plan
        self.circuits = circuits
        self.unpriced: str | None = None
        self.untranslatable: Untranslatable | None = None
        self.unserved = 0
        self.unpriced_tier: str | None = None
        """Routes left out because their provider has no such endpoint: no later call changes that."""
        self.keys: set[str] = set()
        """The credentials of all routes that were added, also of those that rest now."""

    def add(self, route: Route, index: int, slug: str) -> None:
        inputs = self.inputs
        found = self._resolve(route, slug)
        if isinstance(found, str):
            if found:
                self.skip(route, "", slug, found)
            return
        provider, native, owner, credential = found
        sick = is_unhealthy(credential)
        why = self._why_not(route, credential, sick)
        if why is not None:
            self.skip(route, provider.id, slug, why)
            return
        pair = provider.codec(inputs.dialect, inputs.call.endpoint)
        if pair is None:
            self.unserved += 1
            self.skip(
                route, provider.id, slug,
                Phrase("{id} has no {endpoint} for this dialect", id=provider.id, endpoint=inputs.call.endpoint)
            )
            return
        codec, mode = pair
        body: bytes | None = None
        dropped: tuple[str, ...] = ()
        price = _find_price(inputs, provider.id, native)
        limits = models.limits(provider.id, slug, price)
        limit = _output_limit(inputs, limits)
        if inputs.call.endpoint == "responses" and provider.id == "openai" and limit < LEAST_RESPONSES_OUTPUT:
            self.skip(route, provider.id, slug, Phrase(
                "max_output_tokens: OpenAI takes {least} or more",
                least=LEAST_RESPONSES_OUTPUT,
            ))
            return
        if mode == "passthrough":
            dropped = inputs.call.left_out(native)
        else:
            try:
                body, dropped = self._translate(codec, native, limit)
            except Untranslatable as error:
                self.untranslatable = error
                self.skip(
                    route, provider.id, slug,
                    Phrase("{what} cannot be carried to {id}", what=error.what, id=provider.id)
                )
                return
        terms = _terms(inputs, price, limits, openrouter=provider.id == "openrouter")
        if terms is not None and body is not None and not self._carries(codec, native, terms.min_output):
            terms = replace(terms, min_output=terms.output_limit)
        if terms is not None and terms.output_limit and inputs.call.shape.fallback_models:
            terms = self._dearest(terms)
        flagged = inputs.is_flagged(provider.id, native, inputs.prices.version)
        if (terms is None or flagged) and self.plan.at_stake:
            self.unpriced = slug
            self.unpriced_tier = None if inputs.prices.find(provider.id, native) is None else (
                inputs.call.shape.service_tier
            )
            self.skip(route, provider.id, slug, Phrase("the model has no price, and a spend cap or credits apply"))
            return
        funding = Funding.CREDITS if route is Route.CREDITS else Funding.BYOK
        self.keys.add(credential.id)
        self.plan.attempts.append(Planned(
            route, funding, index, slug, native, provider, codec, mode, owner, credential, price, limits, terms,
            limit, (inputs.workspace.id, circuit_id(credential), circuit_model(native, inputs.call.endpoint)),
            partial(_find_price, inputs, provider.id), sick, body, dropped,
        ))

    def skip(self, route: Route, provider: str, slug: str, why: str) -> None:
        self.plan.skips.append(Skip(route, provider, slug, why))

    def skip_what_just_failed(self, first: int = 0) -> None:
        """A route that has just failed is left out, unless it is the payer's last: nothing stands behind that one."""
        added = self.plan.attempts[first:]
        del self.plan.attempts[first:]
        for planned in added:
            why = self.circuits.why_skipped(planned.circuit, planned.provider.id, self.inputs.now)
            if why is None or planned is added[-1]:
                self.plan.attempts.append(planned)
            else:
                self.skip(planned.route, planned.provider.id, planned.slug, why)

    def refusal(self) -> Refusal:
        """Nothing can be tried: the most useful reason."""
        if self.unpriced_tier is not None:
            return Refusal(
                Code.UNPRICED_MODEL,
                Phrase(
                    "{unpriced} has no known price at the service tier {tier}, and a spend cap or credits "
                    "apply.", unpriced=self.unpriced, tier=repr(self.unpriced_tier[:40]),
                ), Phrase("Leave the service tier out."), param="service_tier",
            )
        if self.unpriced is not None:
            known = [model for provider, model in self.inputs.prices.prices if provider == "openrouter"]
            near = get_close_matches(self.unpriced, known, 1, 0.8)
            meant = Phrase("Did you mean {model}? Otherwise use", model=near[0]) if near else Phrase("Use")
            return Refusal(
                Code.UNPRICED_MODEL, Phrase(
                    "{unpriced} has no known price, and a spend cap or credits apply.", unpriced=self.unpriced,
                ),
                Phrase("{meant} a priced model, or set a price in ownkey.toml.", meant=meant), param="model",
            )
        if self.plan.unhealthy is not None:
            return words.unhealthy(self.plan.unhealthy)
        if self.untranslatable is not None:
            return Refusal(
                Code.BAD_REQUEST, Phrase(
                    "{what} cannot be carried to any route of this model.", what=self.untranslatable.what,
                ),
                Phrase("Leave the parameter out, or name a model whose provider takes it."),
                param=self.untranslatable.what,
            )
        reasons = together(
            *dict.fromkeys(skip.why for skip in self.plan.skips), between="; "
        ) or Phrase("no route serves it")
        if self.unserved and self.unserved == len(self.plan.skips):
            return words.unserved(self.inputs.call.endpoint, reasons)
        if reasons == NO_PLATFORM_KEY:
            return Refusal(
                Code.PROVIDER_UNAVAILABLE, Phrase("Credits cannot pay for this call: {reasons}.", reasons=reasons),
                Phrase("The operator sets it up with `ownkey credential add openrouter --platform`."),
            )
        return Refusal(
            Code.PROVIDER_UNAVAILABLE, Phrase("No route can take this call now: {reasons}.", reasons=reasons),
            Phrase("Try again shortly."),
            retry_after_s=5,
        )

    def _resolve(self, route: Route, slug: str) -> tuple[Provider, str, WorkspaceState, Credential] | str:
        inputs = self.inputs
        match route:
            case Route.DIRECT:
                direct = _direct_of(inputs, slug)
                if direct is None:
                    return ""
                only = _only_openrouter(inputs, direct[0])
                if only:
                    return Phrase("{names}: only OpenRouter understands this", names=", ".join(only))
                own = direct[0].id
                if inputs.call.endpoint == "embeddings" and own not in inputs.product.direct_embeddings:
                    return Phrase("embeddings of {own} go direct only where direct_embeddings lists it", own=own)
                return direct[0], direct[1], inputs.workspace, direct[2]
            case Route.OPENROUTER:
                credential = inputs.workspace.credentials["openrouter"]
                return inputs.providers["openrouter"], slug, inputs.workspace, credential
            case Route.CREDITS:
                platform = inputs.platform
                credential_ = None if platform is None else platform.credentials.get("openrouter")
                if platform is None or credential_ is None or credential_.status is not CredentialStatus.ENABLED:
                    return NO_PLATFORM_KEY
                return inputs.providers["openrouter"], slug, platform, credential_

    def _why_not(self, route: Route, credential: Credential, sick: bool) -> str | None:
        """Why this key cannot be used now. The platform's own is tried whatever is known: nothing stands behind it."""
        if credential.id in self.inputs.unusable or credential.undecryptable:
            return Phrase("the saved key cannot be opened")
        if not sick or route is Route.CREDITS or credential.id == self.inputs.on_trial:
            return None
        why = Phrase(
            "the key is marked {health} ({signal})", health=credential.health.value,
            signal=credential.health_signal,
        )
        may_try = self.circuits.may_try_unhealthy(circuit_id(credential), self.inputs.now)
        if may_try and is_due(credential, self.inputs.now_ms):
            return None
        if route is Route.DIRECT:
            return why
        if self.plan.decision.credits_on_key_failure or not may_try:
            self.plan.unhealthy = credential
            return why
        return None

    def _translate(self, codec: Codec, native: str, limit: int) -> tuple[bytes, tuple[str, ...]]:
        """The upstream's body and the hints left behind. Raises Untranslatable. Decodes the body once."""
        plan, call = self.plan, self.inputs.call
        if call.endpoint == "embeddings":
            if plan.embeddings is None:
                plan.embeddings = _read(call.neutral_embeddings)
            return codec.encode_embeddings(native, plan.embeddings), ()
        if plan.chat is None:
            plan.chat = _read(call.neutral_chat)
        return codec.encode_chat(native, plan.chat, max(1, limit)), codec.dropped_hints(plan.chat)

    def _carries(self, codec: Codec, native: str, limit: int) -> bool:
        """Whether a limit lowered as far as this still leaves room for the thinking that the request asks for."""
        chat = self.plan.chat
        if chat is None or (chat.reasoning_effort is None and chat.reasoning_max_tokens is None):
            return True
        try:
            codec.encode_chat(native, chat, max(1, limit))
        except Untranslatable:
            return False
        return True

    def _dearest(self, terms: Terms) -> Terms | None:
        """With fallback models inside the request, the hold covers the dearest of them."""
        inputs = self.inputs
        all_terms = [terms]
        for name in inputs.call.shape.fallback_models:
            price = _find_price(inputs, "openrouter", name)
            other = _terms(inputs, price, models.limits("openrouter", name, price), openrouter=True)
            if other is None:
                return None
            all_terms.append(other)
        return bounds.dearest_terms(all_terms)


T = TypeVar("T")


def _read(load: Callable[[], T]) -> T:
    """A body that no route could read is the caller's mistake."""
    try:
        return load()
    except BadRequest as error:
        raise Refused(Refusal(
            Code.BAD_REQUEST, str(error), Phrase("Correct the request body."), param=error.param,
        )) from error
