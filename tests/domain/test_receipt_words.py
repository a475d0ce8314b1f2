"""The sentence of a receipt: it names the payer, the key and the true reason, whatever happened on the way."""

from dataclasses import replace
from typing import Any

import pytest

from ownkey.domain.receipt_words import describe, explain_route
from ownkey.domain.receipts import AttemptRecord, Basis, Correction, HoldState, Receipt, Skip
from ownkey.domain.routing import Funding, Route

MINI = "openai/gpt-4.1-mini"
REJECTED = "the key is marked rejected (401)"
OPEN = "circuit open after status 503, 4.2 s left"
HINTS = {"openrouter": "sk-or-…1234", "openai": "sk-…5678"}


def attempt(route: Route, provider: str = "openrouter", model: str = MINI, **fields: Any) -> AttemptRecord:
    own = route is not Route.CREDITS
    plain = AttemptRecord(
        n=1, route=route, provider=provider, model=model, credential_id="c", credential_label="", hold_id="h",
        credential_hint=HINTS[provider] if own else "", bound_nusd=5_000_000, state=HoldState.SETTLED,
        basis=Basis.ACTUAL, cost_nusd=1_000_000, usage=None, status=200, failure=None, signal="", message="",
        request_id=None, started_ms=0, first_content_ms=10, ended_ms=20,
    )
    return replace(plain, **fields)


def failed(route: Route, cls: str, signal: str, provider: str = "openrouter", **fields: Any) -> AttemptRecord:
    nothing = {"state": HoldState.RELEASED, "basis": Basis.NONE, "cost_nusd": 0, "first_content_ms": None}
    model = "gpt-4.1-mini" if route is Route.DIRECT else MINI
    return attempt(route, provider, model, failure=cls, signal=signal, **{**nothing, **fields})


def receipt(row: str, *attempts: AttemptRecord, **fields: Any) -> Receipt:
    costs = [a.cost_nusd for a in attempts]
    last = attempts[-1] if attempts else None
    plain = Receipt(
        id="call_1", workspace_id="w", at_ms=0, token_id="t", endpoint="chat", dialect="openai", task=None,
        requested_model=MINI, served_model=MINI, stream=True, project=None, conversation=None, member=None, row=row,
        funding=Funding.CREDITS if last and last.route is Route.CREDITS else Funding.BYOK,
        route=last and last.route, provider=last and last.provider, status=200, code=None, message="",
        attempts=attempts, cost_nusd=None if None in costs else sum(c or 0 for c in costs),
        basis=last.basis if last else Basis.NONE, finish_reason="stop",
    )
    return replace(plain, **fields)


DIRECT_TIMEOUT = failed(Route.DIRECT, "timeout", "no first content in time", "openai")
KEY_401 = failed(Route.OPENROUTER, "auth", "401")
KEY_SKIPPED = Skip(Route.OPENROUTER, "openrouter", MINI, REJECTED)
BY_CREDITS: dict[str, Any] = {"charge_credits": 1, "charge_nusd": 10_000_000}
UNSENT: dict[str, Any] = {"code": "provider_unavailable", "served_model": None, "finish_reason": None, "status": 503}


@pytest.mark.parametrize(("told", "parts", "never"), [
    (receipt("F10", KEY_401, attempt(Route.CREDITS), **BY_CREDITS),
     ["after a failover, paid with 1 credit, because your own key failed and Use credits if my key fails is on: "
      "OpenRouter rejected the key sk-or-…1234 (auth: 401)."], ["connected and enabled", "Tried"]),
    (receipt("F10", attempt(Route.CREDITS), skips=(KEY_SKIPPED,), **BY_CREDITS),
     ["paid with 1 credit, because your own key failed and Use credits if my key fails is on: the OpenRouter key was "
      f"skipped: {REJECTED}."], ["connected and enabled", "failover"]),
    (receipt("F10", failed(Route.OPENROUTER, "funds", "402"), attempt(Route.CREDITS), **BY_CREDITS),
     ["OpenRouter says that there are no funds behind the key sk-or-…1234 (funds: 402)"], ["connected"]),
    (receipt("F10", DIRECT_TIMEOUT, KEY_401, attempt(Route.CREDITS), **BY_CREDITS),
     ["is on: OpenRouter rejected", "Tried: on the direct route OpenAI did not answer in time"], []),
    (receipt("F13", attempt(Route.CREDITS), notes=("the saved key cannot be opened; credits paid instead",),
             **BY_CREDITS),
     ["because the saved key cannot be opened and Use credits if my key fails is on."], ["no own key is in force"]),
    (receipt("F13", attempt(Route.CREDITS), **BY_CREDITS), ["because no own key is in force"], []),
    (receipt("F8", attempt(Route.OPENROUTER), skips=(Skip(Route.DIRECT, "openai", MINI, OPEN),)),
     [f"paid by the workspace's own OpenRouter key sk-or-…1234, because the direct OpenAI key was not used: {OPEN}."],
     ["direct keys first", "always uses"]),
    (receipt("F8", attempt(Route.OPENROUTER), skips=(
        Skip(Route.DIRECT, "", MINI, "provider: only OpenRouter understands this"),)),
     ["the direct OpenAI key was not used: provider: only OpenRouter understands this."], ["direct keys first"]),
    (receipt("F8", DIRECT_TIMEOUT, attempt(Route.OPENROUTER)),
     ["after a failover, paid by the workspace's own OpenRouter key sk-or-…1234, because on the direct route OpenAI "
      "did not answer in time (timeout: no first content in time)."], ["direct keys first", "Tried"]),
    (receipt("F11", attempt(Route.OPENROUTER), skips=(Skip(Route.DIRECT, "openai", MINI, REJECTED),)),
     [f"because the direct OpenAI key was not used: {REJECTED}."], ["connected and enabled"]),
    (receipt("F8", attempt(Route.OPENROUTER), skips=(Skip(Route.DIRECT, "anthropic", "anthropic/claude", REJECTED),)),
     ["always uses your own keys and no direct key is in force for this model."], ["Anthropic", "direct keys first"]),
    (receipt("F8", attempt(Route.DIRECT, "openai", "gpt-4.1-mini")),
     ["OpenAI answered with gpt-4.1-mini, paid by the workspace's own OpenAI key sk-…5678, because this product always "
      "uses your own keys, direct keys first."], ["failover"]),
    (receipt("F9", failed(Route.OPENROUTER, "network", "reset"), attempt(Route.OPENROUTER)),
     ["on another try", "because Always use this key is on", "Tried: OpenRouter could not be reached"], ["failover"]),
    (receipt("F8", failed(Route.DIRECT, "auth", "the saved key cannot be opened", "openai"),
             attempt(Route.OPENROUTER)),
     ["the key sk-…5678 of OpenAI could not be opened"], ["rejected"]),
    (receipt("F8", failed(Route.DIRECT, "timeout", "slow", "openai", cost_nusd=2_000_000, state=HoldState.SETTLED),
             attempt(Route.OPENROUTER)),
     ["Cost: US$0.003 ", "US$0.002 of it was billed to the workspace's own OpenAI key sk-…5678 for an attempt that "
      "failed."], []),
    (receipt("F8", attempt(Route.OPENROUTER, signal="the caller hung up"), hung_up=True, finish_reason=None),
     [f"The caller hung up while OpenRouter was answering with {MINI}, paid by the workspace's own OpenRouter key "
      "sk-or-…1234,", "Cost: US$0.001"], ["Refused"]),
    (receipt("F13", attempt(Route.CREDITS, first_content_ms=None), hung_up=True, finish_reason=None, **BY_CREDITS),
     ["The caller hung up before OpenRouter answered with", "paid with 1 credit"], ["0 credits"]),
    (receipt("F8", attempt(Route.OPENROUTER, failure="timeout", signal="the stream stalled"), finish_reason=None,
             code="provider_unavailable", message="The AI provider could not answer."),
     ["OpenRouter began to answer with", "paid by the workspace's own OpenRouter key sk-or-…1234", "the answer broke "
      "off (provider_unavailable)", "the stream stalled"], ["Refused", "No answer"]),
    (receipt("F8", failed(Route.OPENROUTER, "bad_output", "empty answer", cost_nusd=1_000_000, basis=Basis.ACTUAL,
                          state=HoldState.SETTLED), message="No.", **UNSENT),
     ["No answer (provider_unavailable): No. Tried: OpenRouter gave an answer that cannot be used", "Cost: US$0.001",
      "Paid by the workspace's own OpenRouter key sk-or-…1234."], ["Refused"]),
    (receipt("F10", KEY_401, skips=(Skip(Route.CREDITS, "openrouter", MINI, "Too dear."),), message="No.",
             **{**UNSENT, "code": "credential_rejected"}),
     ["No answer (credential_rejected): No.", "Not used: credits: Too dear.", "Cost: US$0.00"], ["Paid by"]),
    (receipt("F7", message="AI is paused.", **{**UNSENT, "code": "ai_paused"}),
     ["Refused with ai_paused (F7: the spend cap is reached): AI is paused. Nothing was sent"], ["Cost"]),
    (receipt("F8", attempt(Route.OPENROUTER, correction=Correction("g", 4_000_000, Basis.ESTIMATED, 1_000_000, 9))),
     ["Cost: US$0.001 (as the provider reported it; corrected, first booked as US$0.004)."], ["missing"]),
    (receipt("F8", attempt(Route.OPENROUTER, cost_nusd=5_000_000, basis=Basis.ESTIMATED, correction=Correction(
        "g", 4_000_000, Basis.ESTIMATED, 9_000_000, 9))),
     ["Cost: US$0.005 (estimated", "corrected, first booked as US$0.004; reported afterwards: US$0.009)."], []),
])
def test_the_sentence_tells_the_truth(told: Receipt, parts: list[str], never: list[str]) -> None:
    """Payer, key, reason, and what was tried or left out; nothing that did not happen."""
    sentence = describe(told)

    for part in parts:
        assert part in sentence
    for word in never:
        assert word not in sentence


def test_explain_and_the_receipt_share_the_reason() -> None:
    """Before the call and after it: the same words."""
    skips = (Skip(Route.DIRECT, "openai", MINI, OPEN),)

    assert explain_route("F8", Route.OPENROUTER, MINI, skips) in describe(
        receipt("F8", attempt(Route.OPENROUTER), skips=skips)
    )


def test_a_providers_own_words_end_as_a_sentence() -> None:
    """X2: what follows them begins a sentence of its own."""
    told = describe(receipt(
        "F8", failed(Route.OPENROUTER, "model_missing", "400 said"), code="unknown_model", status=404,
        served_model=None, message="nobody/has-this is not a valid model ID",
    ))

    assert "is not a valid model ID. Tried: " in told
