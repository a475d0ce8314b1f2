"""The sentences of refusals that carry figures: what happened, what to do, in the caller's terms."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import lru_cache

from ownkey.domain.booking import CapFigures, HoldRefused
from ownkey.domain.days import tell_moment
from ownkey.domain.failures import Failure, FailureClass
from ownkey.domain.money import format_usd
from ownkey.domain.phrases import Phrase
from ownkey.domain.receipts import AttemptRecord, provider_name
from ownkey.domain.refusals import Code, Refusal, refusal_for
from ownkey.domain.routing import Route
from ownkey.domain.wire import Endpoint
from ownkey.domain.workspace import Credential, Health

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@lru_cache(maxsize=256)
def to_iso(at_ms: int) -> str:
    """UTC with a Z, to the second."""
    return (_EPOCH + timedelta(milliseconds=at_ms)).strftime("%Y-%m-%dT%H:%M:%SZ")


@lru_cache(maxsize=256)
def to_words(at_ms: int) -> str:
    """1_764_547_200_000 → "1 Dec 2025, 00:00 UTC", for people."""
    at = _EPOCH + timedelta(milliseconds=at_ms)
    return tell_moment(at)


def cap_details(cap: CapFigures) -> dict[str, object]:
    """The cap's figures for an error envelope; amounts are decimal strings in USD."""
    return {
        "period": cap.period_key,
        "cap_usd": None if cap.cap_nusd is None else format_usd(cap.cap_nusd),
        "spent_usd": format_usd(cap.spent_nusd),
        "held_usd": format_usd(cap.held_nusd),
    }


def paused(cap: CapFigures) -> Refusal:
    resets, when = to_iso(cap.resets_at_ms), to_words(cap.resets_at_ms)
    message = Phrase("AI is paused: this month's spend cap is reached. It resets on {when}.", when=when)
    if cap.cap_nusd == 0:
        # A new month brings nothing: waiting is no way out.
        return Refusal(
            Code.AI_PAUSED, Phrase("AI is off: the monthly spend cap is US$0.00."), Phrase("Raise the spend cap."),
            "cap", resets_at=resets, details=cap_details(cap),
        )
    if cap.cap_nusd is not None:
        message = Phrase(
            "AI is paused: this month's spend cap of {cap} is reached. It resets on {when}.",
            cap=f"US${format_usd(cap.cap_nusd)}", when=when,
        )
    return Refusal(
        Code.AI_PAUSED, message, Phrase("Raise the spend cap, or wait until it resets."), "cap", resets_at=resets,
        details=cap_details(cap),
    )


def hold_refused(refused: HoldRefused, retry_after_s: int) -> Refusal:
    """The caller's answer to a hold that was not granted."""
    cap = refused.cap
    match refused.code:
        case Code.AI_PAUSED if cap is not None:
            return paused(cap)
        case Code.SPEND_CAP_BUSY if cap is not None:
            return Refusal(
                Code.SPEND_CAP_BUSY, Phrase("Other calls in flight hold what is left under the spend cap."),
                Phrase(
                    "Try again in {seconds} s; what they do not use is given back.", seconds=retry_after_s
                ), "cap",
                retry_after_s=retry_after_s,
                details={**cap_details(cap), "needed_usd": format_usd(refused.needed_nusd)},
            )
        case Code.SPEND_CAP_TOO_LOW if cap is not None and cap.cap_nusd is not None:
            left = max(0, cap.cap_nusd - cap.spent_nusd - cap.held_nusd)
            return Refusal(
                Code.SPEND_CAP_TOO_LOW,
                Phrase(
                    "This call could cost up to US${amount}, more than the US${left} left under the spend cap. "
                    "Smaller calls go on.", amount=format_usd(refused.needed_nusd), left=format_usd(left),
                ),
                Phrase("Send less text, lower max_tokens, or raise the spend cap."), "cap",
                details={**cap_details(cap), "needed_usd": format_usd(refused.needed_nusd),
                         "left_usd": format_usd(left)},
            )
        case Code.INSUFFICIENT_CREDITS:
            return Refusal(
                Code.INSUFFICIENT_CREDITS,
                f"This call could take up to {refused.needed_credits} "
                f"credit{'' if refused.needed_credits == 1 else 's'}; free now: {refused.free_credits}.",
                Phrase("Add credits, lower max_tokens, or connect your own OpenRouter key."), "credits",
                details={"needed_credits": refused.needed_credits, "free_credits": refused.free_credits},
            )
        case Code.UNPRICED_MODEL:
            return Refusal(
                Code.UNPRICED_MODEL, Phrase("This model has no known price, and a spend cap or credits apply."),
                Phrase("Use a priced model, set a price in ownkey.toml, or remove the spend cap."), param="model",
            )
        case _:
            return refusal_for(Code(refused.code))


def unhealthy(credential: Credential) -> Refusal:
    """An unhealthy key without a substitute, between two trial calls."""
    code = Code.CREDENTIAL_REJECTED if credential.health is Health.REJECTED else Code.CREDENTIAL_OUT_OF_FUNDS
    name = provider_name(credential.provider)
    hint, signal = credential.hint, credential.health_signal
    message = Phrase(
        "{name} says there are no funds behind the saved key {hint} ({signal}).", name=name, hint=hint, signal=signal
    )
    if credential.health is Health.REJECTED:
        message = Phrase("{name} rejects the saved key {hint} ({signal}).", name=name, hint=hint, signal=signal)
    return Refusal(
        code, message,
        Phrase("Test the key in the AI settings, and replace it or add funds at {name}.", name=name),
        f"credential:{credential.provider}", retry_after_s=30,
    )


def unserved(endpoint: Endpoint, reasons: str) -> Refusal:
    """No provider that the call could reach has the endpoint, for this model or at all."""
    fix, flow = Phrase("Name a model whose provider has it, and save that provider's key."), ""
    if endpoint == "count_tokens":
        fix = Phrase(
            "Only Anthropic counts tokens: name one of its models, and save the workspace's own Anthropic key."
        )
        flow = "credential:anthropic"
    return Refusal(
        Code.BAD_REQUEST, Phrase("No route can take this call: {reasons}.", reasons=reasons), fix, flow, param="model"
    )


def interrupted(gone: bool) -> Refusal:
    """Nobody waits for an answer any more, or this process will not be here to give it."""
    if gone:
        return Refusal(
            Code.PROVIDER_UNAVAILABLE, Phrase("The caller hung up before an answer."), Phrase("Nothing to fix."),
            status=499
        )
    return Refusal(
        Code.PROVIDER_UNAVAILABLE, Phrase("This server is stopping; the call was ended and its money settled."),
        Phrase("Send it again."), retry_after_s=1,
    )


def internal(receipt: str) -> Refusal:
    return Refusal(
        Code.INTERNAL, Phrase("Something broke inside Ownkey; this call was ended and its money settled."),
        Phrase("Tell the operator the receipt {receipt}; the server's log has the rest.", receipt=receipt),
    )


def books_closed() -> Refusal:
    """The answer has begun and its end cannot be booked: without books there is no end."""
    return Refusal(
        Code.PROVIDER_UNAVAILABLE, Phrase("The books cannot be written now, so this answer was ended."),
        Phrase("Try again shortly."), retry_after_s=2,
    )


def key_failed(attempts: Sequence[AttemptRecord], skipped: Credential | None) -> Refusal | None:
    """The refusal of the workspace's own key that led to credits: the attempt's, else that of the key which was
    skipped because it is known to fail."""
    for last in reversed(attempts):
        if last.route is Route.OPENROUTER and last.failure in ("auth", "funds"):
            code = Code.CREDENTIAL_OUT_OF_FUNDS if last.failure == "funds" else Code.CREDENTIAL_REJECTED
            failure = Failure(FailureClass(last.failure), last.signal, last.message, status=last.status)
            return all_failed(code, failure, Route.OPENROUTER, attempts, None)
    return None if skipped is None else unhealthy(skipped)


def with_attempts(refusal: Refusal, attempts: Sequence[AttemptRecord]) -> Refusal:
    """What was tried before the refusal stands beside it."""
    if not attempts or "attempts" in refusal.details:
        return refusal
    return replace(refusal, details={**refusal.details, "attempts": _tried(attempts)})


def _tried(attempts: Sequence[AttemptRecord]) -> list[dict[str, object]]:
    return [
        {"route": a.route.value, "provider": a.provider, "model": a.model, "status": a.status,
         "class": a.failure, "signal": a.signal}
        for a in attempts
    ]


_FIXES = {
    Code.CREDENTIAL_REJECTED: Phrase("Test the key in the AI settings and replace it if the Test says so."),
    Code.CREDENTIAL_OUT_OF_FUNDS: Phrase("Add funds or raise the key's limit at the provider."),
    Code.PROVIDER_UNAVAILABLE: Phrase("Try again shortly; nothing needs to be changed."),
    Code.UNKNOWN_MODEL: Phrase("Use a model that GET /v1/models lists, or task:<name>."),
    Code.BAD_REQUEST: Phrase("Correct the request as the provider's message says."),
    Code.CONTEXT_TOO_LONG: Phrase("Send fewer or shorter messages, or use a model with a larger context window."),
    Code.CONTENT_REFUSED: Phrase("Change the content; no other route is tried for a refusal."),
}


# Signals of the upstream client that point at this server's own network rather than at the provider.
_OUR_NETWORK = frozenset({
    "name not resolved", "connection refused", "connect failed", "connect timed out", "refused address",
})


def all_failed(
    code: Code, failure: Failure, route: Route, attempts: Sequence[AttemptRecord], retry_after_s: int | None
) -> Refusal:
    """Every allowed attempt failed, or the first that no other route could heal."""
    by = provider_name(attempts[-1].provider) if attempts else Phrase("The provider")
    text = f" {failure.message}" if failure.message else ""
    status: int | None = None
    match code:
        case Code.BAD_REQUEST | Code.CONTEXT_TOO_LONG | Code.CONTENT_REFUSED:
            message = Phrase("{by} refused the request:{text}", by=by, text=text) if text else Phrase(
                "{by} refused the request ({signal}).", by=by, signal=failure.signal
            )
            status = failure.status if failure.status is not None and 400 <= failure.status < 500 else None
        case Code.UNKNOWN_MODEL:
            message = Phrase("No route knows this model.{text}", text=text)
        case Code.CREDENTIAL_REJECTED:
            message = Phrase("{by} rejects the saved key ({signal}).", by=by, signal=failure.signal)
        case Code.CREDENTIAL_OUT_OF_FUNDS:
            message = Phrase(
                "{by} says there are no funds behind the saved key ({signal}).", by=by, signal=failure.signal,
            )
        case _:
            last = f"{by}: {failure.signal}"
            message = Phrase("The AI provider could not answer ({last}).", last=last) if len(attempts) < 2 else (
                Phrase(
                    "None of {count} attempts was answered; the last: {last}.", count=len(attempts), last=last,
                )
            )
    fix = _FIXES[code]
    if code is Code.PROVIDER_UNAVAILABLE and failure.signal in _OUR_NETWORK:
        fix = Phrase(
            "This server cannot reach {by}: check its network, DNS and egress rules (`ownkey doctor`).", by=by,
        )
    flow = "" if route is Route.CREDITS or not attempts else f"credential:{attempts[-1].provider}"
    return Refusal(
        code, message, fix, flow if code.value.startswith("credential") else "", status=status,
        param=failure.param, retry_after_s=retry_after_s, details={"attempts": _tried(attempts)},
    )
