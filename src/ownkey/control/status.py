"""Which payer is in force now, and whether AI is on: the data plane's own decision, told in one sentence.

Nothing is computed here that a call would compute otherwise: the answer is `domain.routing.decide` on the state as
it is.
"""

from dataclasses import dataclass, replace
from typing import Literal, Protocol

from ownkey.control.credentials import clock_text
from ownkey.control.ports import Clock, Directory
from ownkey.domain import entitlements
from ownkey.domain.booking import MoneyView
from ownkey.domain.entitlements import key_state, minimum_balance, standing
from ownkey.domain.health import is_confirmed, is_unhealthy
from ownkey.domain.phrases import Phrase, listed, together
from ownkey.domain.product import DIRECT_PROVIDERS, Payers, Product
from ownkey.domain.receipts import provider_name
from ownkey.domain.refusals import Code, Refusal, refusal_for
from ownkey.domain.routing import KeyState, PayerDecision, PayerState, Route, decide
from ownkey.domain.workspace import (
    Credential,
    CredentialStatus,
    EntitlementState,
    Health,
    WorkspaceState,
)

EXPIRY_NOTICE_MS = 7 * 24 * 3_600_000


class _Money(Protocol):
    async def load_money(self, workspace_id: str, at_ms: int) -> MoneyView: ...


@dataclass(frozen=True, slots=True)
class Status:
    """`state` is the header's word; `sentence` says who pays; `refusal` is set where nobody can.

    `payer` is "your_key", "credits" or "nobody"; `row` the payer decision's row; `routes` in order.
    """

    state: Literal["on", "paused", "off", "needs_attention"]
    headline: str
    sentence: str
    payer: Literal["your_key", "credits", "nobody"]
    row: str
    routes: tuple[Route, ...]
    refusal: Refusal | None
    attention: tuple[str, ...]
    money: MoneyView


class StatusControl:
    def __init__(self, money: _Money, directory: Directory, clock: Clock, product: Product) -> None:
        self._money = money
        self._directory = directory
        self._clock = clock
        self._product = product

    async def show(self, workspace: WorkspaceState) -> Status:
        now_ms = self._clock.now_ms()
        money = await self._money.load_money(workspace.id, now_ms)
        platform = None
        if self._product.payers is Payers.WITH_CREDITS:
            platform = await self._directory.load_platform()
        return describe_status(
            self._product, standing(workspace, now_ms), money,
            platform_key=platform is not None and is_usable(platform.credentials.get("openrouter")), now_ms=now_ms,
        )


NO_PLATFORM_KEY = Refusal(
    Code.PROVIDER_UNAVAILABLE,
    Phrase("The platform's own OpenRouter key is not set up, so credits cannot pay for any call."),
    Phrase("The operator saves it: ownkey credential add openrouter --platform."),
)


def payer_state(product: Product, workspace: WorkspaceState, money: MoneyView) -> PayerState:
    """The payer decision's inputs for the smallest call of the first task."""
    return entitlements.payer_state(
        product, workspace, money,
        direct_usable=any(is_usable(workspace.credentials.get(p)) for p in product.direct_providers),
        credits_short=money.balance_credits - money.held_credits <= 0,
    )


def is_usable(credential: Credential | None) -> bool:
    return credential is not None and credential.status is CredentialStatus.ENABLED and not credential.undecryptable


def describe_status(
    product: Product, workspace: WorkspaceState, money: MoneyView, *, platform_key: bool, now_ms: int
) -> Status:
    """The whole answer, pure. `platform_key`: whether the key is set up that calls paid with credits are sent with."""
    decision = decide(payer_state(product, workspace, money))
    refusal = None if decision.refusal is None else refusal_now(decision.refusal, money)
    attention = _attention(product, workspace, money, now_ms)
    if decision.routes == (Route.CREDITS,) and not platform_key:
        refusal = NO_PLATFORM_KEY
    elif Route.CREDITS in decision.routes and not platform_key:
        attention = (*attention, NO_PLATFORM_KEY.message)
    if workspace.status == "suspended":
        refusal = Refusal(
            Code.FORBIDDEN, Phrase("This workspace is suspended by the operator."),
            Phrase(
                "Ask the operator to lift it: ownkey workspace set {external_id} --status active.",
                external_id=workspace.external_id,
            ),
        )
    state: Literal["on", "paused", "off", "needs_attention"]
    if refusal is not None:
        state = "paused" if refusal.code is Code.AI_PAUSED else "off"
    else:
        state = "needs_attention" if attention else "on"
    headline = {
        "on": Phrase("AI on"), "paused": Phrase("AI paused"), "off": Phrase("AI off"),
        "needs_attention": Phrase("Needs attention"),
    }[state]
    key = workspace.credentials.get("openrouter")
    stood_in = decision.credits_on_key_failure and platform_key and key is not None and is_unhealthy(key)
    if decision.credits_on_key_failure and not platform_key:
        # Nothing stands in that has no key to be spent with.
        workspace = replace(workspace, credits_if_key_fails=False)
    sentence = refusal.message if refusal is not None and decision.row in ("F1", "F2", "F3", "F7", "F12") else (
        payer_sentence(product, workspace, money)
    )
    if decision.row == "F12":
        sentence = Phrase(
            "{product} credits would pay, and there are not enough of them: AI calls are stopped.",
            product=product.name,
        )
    if refusal is not None and (workspace.status == "suspended" or refusal is NO_PLATFORM_KEY):
        sentence = refusal.message
    return Status(
        state=state, headline=headline, sentence=sentence, payer=_payer(decision, refusal, stood_in), row=decision.row,
        routes=() if refusal is not None else decision.routes, refusal=refusal, attention=attention, money=money,
    )


def refusal_now(code: Code, money: MoneyView) -> Refusal:
    """What a call gets now, in words that hold for this cap: one of 0 does not go away with the month."""
    refusal = refusal_for(code)
    if code is Code.AI_PAUSED and money.cap is not None and money.cap.cap_nusd == 0:
        return replace(
            refusal, message=Phrase("AI is paused: the spend cap allows no AI."), fix=Phrase("Raise the spend cap.")
        )
    return refusal


def payer_sentence(product: Product, workspace: WorkspaceState, money: MoneyView) -> str:
    """Who pays for the next call, as the page says it on top; the cap, add-on and balance come before this."""
    credential = workspace.credentials.get("openrouter")
    key = key_state(workspace)
    if credential is not None and is_unhealthy(credential) and key is KeyState.ENABLED and _is_entitled(workspace):
        return _without_the_key(product, workspace, credential)
    hint = _tail(credential)
    if product.payers is Payers.BYOK_ONLY:
        if key is KeyState.MISSING:
            return Phrase("AI features are off until an OpenRouter API key is saved.")
        if key is KeyState.DISABLED:
            return Phrase("AI features are off: the OpenRouter API key is disabled.")
        if key is KeyState.UNDECRYPTABLE:
            return Phrase(
                "AI features are off: the saved OpenRouter API key cannot be opened. Your operator knows; pasting "
                "the key again also helps."
            )
        if _is_unverified(credential):
            return Phrase(
                "Your OpenRouter key{hint} is saved, unverified: it pays for every AI call if OpenRouter accepts "
                "it.", hint=hint,
            )
        return together(
            Phrase("Your OpenRouter key{hint} pays for every AI call.", hint=hint), _direct_sentence(product, workspace)
        )
    if workspace.always_use_key:
        if key is KeyState.ENABLED:
            if _is_unverified(credential):
                return Phrase(
                    "Your key{hint} is saved, unverified: it pays for every AI call if OpenRouter accepts it. "
                    "{product} credits are never used.", hint=hint, product=product.name,
                )
            return Phrase(
                "Your key{hint} pays for every AI call. {product} credits are never used.", hint=hint,
                product=product.name,
            )
        return Phrase(
            "AI calls are stopped: Always use this key is on and the key cannot be used. Credits are not touched."
        )
    entitled = _is_entitled(workspace)
    if key is KeyState.ENABLED and entitled:
        return _with_credits_behind(product, workspace)
    if key is KeyState.UNDECRYPTABLE and entitled and not workspace.credits_if_key_fails:
        return Phrase(
            "AI calls are stopped: the saved OpenRouter API key cannot be opened. Credits are not touched."
        )
    return Phrase("{product} credits pay for every AI call.", product=product.name)


def _is_entitled(workspace: WorkspaceState) -> bool:
    return workspace.entitlement not in (EntitlementState.NONE, EntitlementState.INACTIVE)


def _without_the_key(product: Product, workspace: WorkspaceState, credential: Credential) -> str:
    """What calls do while the OpenRouter key is out of service."""
    why, names = _failing(credential, _tail(credential)), _direct_names(product, workspace)
    what, lead = Phrase("AI calls"), ""
    if names:
        what = Phrase("other calls")
        lead = Phrase("{names} calls use your own key.", names=listed(names)) if len(names) == 1 else Phrase(
            "{names} calls use your own keys.", names=listed(names)
        )
    return together(lead, _meanwhile(product, workspace, why, what))


def _meanwhile(product: Product, workspace: WorkspaceState, why: str, what: str) -> str:
    if product.payers is Payers.BYOK_ONLY:
        return Phrase("{why}: {what} fail until it works again or is replaced.", why=why, what=what)
    if workspace.always_use_key:
        return Phrase(
            "{why}: {what} fail until it works again or is replaced, because Always use this key is on. Credits are "
            "not touched.", why=why, what=what,
        )
    if not workspace.credits_if_key_fails:
        return Phrase(
            "{why}: {what} fail until it works again or is replaced; credits are not used.", why=why, what=what
        )
    limit = workspace.credits_if_key_fails_limit
    if limit is None:
        return Phrase(
            "{why}: {product} credits pay for {what} until it works again.", why=why, product=product.name, what=what
        )
    return Phrase(
        "{why}: {product} credits pay for {what} until it works again, up to {limit} this month.", why=why,
        product=product.name, what=what, limit=limit,
    )


def _with_credits_behind(product: Product, workspace: WorkspaceState) -> str:
    pays = Phrase("Your key pays.")
    if _is_unverified(workspace.credentials.get("openrouter")):
        pays = Phrase("Your key is saved, unverified: it pays if OpenRouter accepts it.")
    limit = workspace.credits_if_key_fails_limit
    if not workspace.credits_if_key_fails:
        then = Phrase("If it fails, the call fails; credits are not used.")
    elif limit is None:
        then = Phrase("If it fails, {product} credits pay.", product=product.name)
    else:
        then = Phrase(
            "If it fails, {product} credits pay, up to {limit} this month.", product=product.name, limit=limit
        )
    return together(pays, then, _direct_sentence(product, workspace))


def _direct_sentence(product: Product, workspace: WorkspaceState) -> str:
    names = _direct_names(product, workspace)
    if not names:
        return ""
    if len(names) == 1:
        provider = {"Claude": "anthropic", "OpenAI": "openai", "Gemini": "google"}[names[0]]
        return Phrase(
            "{name} calls use your {provider} key first; if it fails, your OpenRouter key answers.", name=names[0],
            provider=provider_name(provider),
        )
    return Phrase(
        "{names} calls use your direct keys first; if one fails, your OpenRouter key answers.", names=listed(names)
    )


def _direct_names(product: Product, workspace: WorkspaceState) -> list[str]:
    """The models' families that go direct now: their key is saved, enabled and healthy."""
    names = {"anthropic": "Claude", "openai": "OpenAI", "google": "Gemini"}
    kept = {provider: workspace.credentials.get(provider) for provider in product.direct_providers}
    return [
        names[provider] for provider, credential in kept.items()
        if provider in DIRECT_PROVIDERS and credential is not None and is_usable(credential)
        and not is_unhealthy(credential)
    ]


def _payer(
    decision: PayerDecision, refusal: Refusal | None, stood_in: bool
) -> Literal["your_key", "credits", "nobody"]:
    if refusal is not None:
        return "nobody"
    return "credits" if stood_in or decision.routes[0] is Route.CREDITS else "your_key"


def _attention(product: Product, workspace: WorkspaceState, money: MoneyView, now_ms: int) -> tuple[str, ...]:
    found = [told for key in workspace.credentials.values() if (told := key_attention(key, now_ms))]
    if workspace.entitlement is EntitlementState.GRACE:
        found.append(Phrase("The OpenRouter add-on is past due; it works until the days of grace are over."))
    minimum = minimum_balance(product, workspace)
    if product.payers is Payers.WITH_CREDITS and money.balance_credits < minimum:
        found.append(Phrase("The credit balance is below {minimum}.", minimum=minimum))
    return tuple(found)


def key_attention(credential: Credential, now_ms: int) -> str:
    """Why a key cannot be used now, or soon can no longer, in a sentence; "" where it needs nothing."""
    expires_at_ms = credential.expires_at_ms
    if (trouble := key_trouble(credential)) or expires_at_ms is None or expires_at_ms - now_ms > EXPIRY_NOTICE_MS:
        return trouble
    name, when = provider_name(credential.provider), clock_text(expires_at_ms)
    if expires_at_ms > now_ms:
        return Phrase("The saved {name} key expires on {when}: save a new one before.", name=name, when=when)
    return Phrase("The saved {name} key expired on {when}: save a new one.", name=name, when=when)


def key_trouble(credential: Credential) -> str:
    """Why an enabled key cannot be used now, in a sentence; "" where it can, or is disabled."""
    if credential.undecryptable:
        return Phrase("The saved {provider} key cannot be opened.", provider=provider_name(credential.provider))
    if credential.status is CredentialStatus.ENABLED and is_unhealthy(credential):
        return failing_sentence(credential)
    return ""


def failing_sentence(credential: Credential) -> str:
    """What is wrong with an unhealthy key, in a sentence."""
    return together(_failing(credential), ".", between="")


def _failing(credential: Credential, hint: str = "") -> str:
    name = provider_name(credential.provider)
    if not is_confirmed(credential):
        return Phrase(
            "{provider} refused a call with the saved key; it is being checked{hint}", provider=name, hint=hint
        )
    if credential.health is Health.REJECTED:
        return Phrase("{provider} does not accept the saved key{hint}", provider=name, hint=hint)
    return Phrase("The {provider} account behind the saved key is out of funds{hint}", provider=name, hint=hint)


def _is_unverified(credential: Credential | None) -> bool:
    """Saved while its provider could not be asked, and not used since: nothing is known about it."""
    return credential is not None and credential.health is Health.UNKNOWN


def _tail(credential: Credential | None) -> str:
    last = "" if credential is None else credential.hint.partition("…")[2]
    return f" (…{last})" if last else ""
