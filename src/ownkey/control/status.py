"""Which payer is in force now, and whether AI is on: the data plane's own decision, told in one sentence.

Nothing is computed here that a call would compute otherwise: the answer is `domain.routing.decide` on the state as
it is.
"""

from dataclasses import dataclass
from typing import Literal, Protocol

from ownkey.control.credentials import clock_text
from ownkey.control.ports import Clock, Directory
from ownkey.domain import entitlements
from ownkey.domain.booking import MoneyView
from ownkey.domain.entitlements import key_state, minimum_balance, standing
from ownkey.domain.health import is_confirmed, is_unhealthy
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
    "The platform's own OpenRouter key is not set up, so credits cannot pay for any call.",
    "The operator saves it: ownkey credential add openrouter --platform.",
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
    refusal = None if decision.refusal is None else refusal_for(decision.refusal)
    attention = _attention(product, workspace, money, now_ms)
    if decision.routes == (Route.CREDITS,) and not platform_key:
        refusal = NO_PLATFORM_KEY
    elif Route.CREDITS in decision.routes and not platform_key:
        attention = (*attention, NO_PLATFORM_KEY.message)
    if workspace.status == "suspended":
        refusal = Refusal(
            Code.FORBIDDEN, "This workspace is suspended by the operator.",
            f"Ask the operator to lift it: ownkey workspace set {workspace.external_id} --status active.",
        )
    state: Literal["on", "paused", "off", "needs_attention"]
    if refusal is not None:
        state = "paused" if refusal.code is Code.AI_PAUSED else "off"
    else:
        state = "needs_attention" if attention else "on"
    headline = {"on": "AI on", "paused": "AI paused", "off": "AI off", "needs_attention": "Needs attention"}[state]
    key = workspace.credentials.get("openrouter")
    stood_in = decision.credits_on_key_failure and key is not None and is_unhealthy(key)
    sentence = refusal.message if refusal is not None and decision.row in ("F1", "F2", "F3", "F7", "F12") else (
        payer_sentence(product, workspace, money)
    )
    if decision.row == "F12":
        sentence = f"{product.name} credits would pay, and there are not enough of them: AI calls are stopped."
    if refusal is not None and (workspace.status == "suspended" or refusal is NO_PLATFORM_KEY):
        sentence = refusal.message
    return Status(
        state=state, headline=headline, sentence=sentence, payer=_payer(decision, refusal, stood_in), row=decision.row,
        routes=() if refusal is not None else decision.routes, refusal=refusal, attention=attention, money=money,
    )


def payer_sentence(product: Product, workspace: WorkspaceState, money: MoneyView) -> str:
    """Who pays for the next call, as the page says it on top; the cap, add-on and balance come before this."""
    credential = workspace.credentials.get("openrouter")
    key = key_state(workspace)
    if credential is not None and is_unhealthy(credential) and key is KeyState.ENABLED and _is_entitled(workspace):
        return _without_the_key(product, workspace, credential)
    hint = _tail(credential)
    if product.payers is Payers.BYOK_ONLY:
        if key is KeyState.MISSING:
            return "AI features are off until an OpenRouter API key is saved."
        if key is KeyState.DISABLED:
            return "AI features are off: the OpenRouter API key is disabled."
        if key is KeyState.UNDECRYPTABLE:
            return "AI features are off: the saved OpenRouter API key cannot be opened. Your operator knows; " \
                   "pasting the key again also helps."
        if _is_unverified(credential):
            return (
                f"Your OpenRouter key{hint} is saved, unverified: it pays for every AI call if OpenRouter accepts it."
            )
        return f"Your OpenRouter key{hint} pays for every AI call.{_direct_sentence(product, workspace)}"
    if workspace.always_use_key:
        if key is KeyState.ENABLED:
            if _is_unverified(credential):
                return (
                    f"Your key{hint} is saved, unverified: it pays for every AI call if OpenRouter accepts it. "
                    f"{product.name} credits are never used."
                )
            return f"Your key{hint} pays for every AI call. {product.name} credits are never used."
        return "AI calls are stopped: Always use this key is on and the key cannot be used. Credits are not touched."
    entitled = _is_entitled(workspace)
    if key is KeyState.ENABLED and entitled:
        return _with_credits_behind(product, workspace)
    if key is KeyState.UNDECRYPTABLE and entitled and not workspace.credits_if_key_fails:
        return "AI calls are stopped: the saved OpenRouter API key cannot be opened. Credits are not touched."
    return f"{product.name} credits pay for every AI call."


def _is_entitled(workspace: WorkspaceState) -> bool:
    return workspace.entitlement not in (EntitlementState.NONE, EntitlementState.INACTIVE)


def _without_the_key(product: Product, workspace: WorkspaceState, credential: Credential) -> str:
    """What calls do while the OpenRouter key is out of service."""
    why = f"{failing_sentence(credential)[:-1]}{_tail(credential)}"
    names = _direct_names(product, workspace)
    lead = f"{_listed(names)} calls use your own {'keys' if len(names) > 1 else 'key'}. " if names else ""
    what = "other calls" if names else "AI calls"
    if product.payers is Payers.BYOK_ONLY:
        return f"{lead}{why}: {what} fail until it works again or is replaced."
    if workspace.always_use_key:
        return (
            f"{lead}{why}: {what} fail until it works again or is replaced, because Always use this key is on. "
            "Credits are not touched."
        )
    if not workspace.credits_if_key_fails:
        return f"{lead}{why}: {what} fail until it works again or is replaced; credits are not used."
    limit = workspace.credits_if_key_fails_limit
    bound = "" if limit is None else f", up to {limit} this month"
    return f"{lead}{why}: {product.name} credits pay for {what} until it works again{bound}."


def _with_credits_behind(product: Product, workspace: WorkspaceState) -> str:
    direct = _direct_sentence(product, workspace)
    pays = "Your key pays."
    if _is_unverified(workspace.credentials.get("openrouter")):
        pays = "Your key is saved, unverified: it pays if OpenRouter accepts it."
    if not workspace.credits_if_key_fails:
        return f"{pays} If it fails, the call fails; credits are not used.{direct}"
    limit = workspace.credits_if_key_fails_limit
    bound = "" if limit is None else f", up to {limit} this month"
    return f"{pays} If it fails, {product.name} credits pay{bound}.{direct}"


def _direct_sentence(product: Product, workspace: WorkspaceState) -> str:
    names = _direct_names(product, workspace)
    if not names:
        return ""
    if len(names) == 1:
        provider = {"Claude": "anthropic", "OpenAI": "openai", "Gemini": "google"}[names[0]]
        return (
            f" {names[0]} calls use your {provider_name(provider)} key first; if it fails, your OpenRouter key answers."
        )
    return f" {_listed(names)} calls use your direct keys first; if one fails, your OpenRouter key answers."


def _direct_names(product: Product, workspace: WorkspaceState) -> list[str]:
    """The models' families that go direct now: their key is saved, enabled and healthy."""
    names = {"anthropic": "Claude", "openai": "OpenAI", "google": "Gemini"}
    kept = {provider: workspace.credentials.get(provider) for provider in product.direct_providers}
    return [
        names[provider] for provider, credential in kept.items()
        if provider in DIRECT_PROVIDERS and credential is not None and is_usable(credential)
        and not is_unhealthy(credential)
    ]


def _listed(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def _payer(
    decision: PayerDecision, refusal: Refusal | None, stood_in: bool
) -> Literal["your_key", "credits", "nobody"]:
    if refusal is not None:
        return "nobody"
    return "credits" if stood_in or decision.routes[0] is Route.CREDITS else "your_key"


def _attention(product: Product, workspace: WorkspaceState, money: MoneyView, now_ms: int) -> tuple[str, ...]:
    found = []
    for provider, credential in workspace.credentials.items():
        name = provider_name(provider)
        if trouble := key_trouble(credential):
            found.append(trouble)
        elif credential.expires_at_ms is not None and credential.expires_at_ms - now_ms <= EXPIRY_NOTICE_MS:
            when = clock_text(credential.expires_at_ms)
            found.append(
                f"The saved {name} key expires on {when}: save a new one before." if credential.expires_at_ms > now_ms
                else f"The saved {name} key expired on {when}: save a new one."
            )
    if workspace.entitlement is EntitlementState.GRACE:
        found.append("The OpenRouter add-on is past due; it works until the days of grace are over.")
    minimum = minimum_balance(product, workspace)
    if product.payers is Payers.WITH_CREDITS and money.balance_credits < minimum:
        found.append(f"The credit balance is below {minimum}.")
    return tuple(found)


def key_trouble(credential: Credential) -> str:
    """Why an enabled key cannot be used now, in a sentence; "" where it can, or is disabled."""
    if credential.undecryptable:
        return f"The saved {provider_name(credential.provider)} key cannot be opened."
    if credential.status is CredentialStatus.ENABLED and is_unhealthy(credential):
        return failing_sentence(credential)
    return ""


def failing_sentence(credential: Credential) -> str:
    """What is wrong with an unhealthy key, in a sentence."""
    name = provider_name(credential.provider)
    if not is_confirmed(credential):
        return f"{name} refused a call with the saved key; it is being checked."
    if credential.health is Health.REJECTED:
        return f"{name} does not accept the saved key."
    return f"The {name} account behind the saved key is out of funds."


def _is_unverified(credential: Credential | None) -> bool:
    """Saved while its provider could not be asked, and not used since: nothing is known about it."""
    return credential is not None and credential.health is Health.UNKNOWN


def _tail(credential: Credential | None) -> str:
    last = "" if credential is None else credential.hint.partition("…")[2]
    return f" (…{last})" if last else ""
