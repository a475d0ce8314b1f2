"""Receipts for page tests: written through the books, as calls write them, without a call."""

from dataclasses import replace
from typing import Any

from tests.portal.visiting import Portal

from ownkey.domain.receipts import AttemptRecord, Basis, CapView, HoldState, Receipt
from ownkey.domain.routing import Funding, Route
from ownkey.domain.usage import Usage

HINTS = {"openrouter": "sk-or-v1-…9f3c", "anthropic": "sk-ant-…c1d2", "openai": "sk-…5678"}
CAP = CapView("2026-11", 50_000_000_000, 12_000_000_000, 12_400_000_000, "2026-12-01T00:00:00Z")


def attempt(n: int = 1, route: Route = Route.OPENROUTER, provider: str = "openrouter", **fields: Any) -> AttemptRecord:
    own = route is not Route.CREDITS
    plain = AttemptRecord(
        n=n, route=route, provider=provider, model="anthropic/claude-haiku-4.5", credential_id=f"cred_{provider}",
        credential_label="Team key" if own else "platform", credential_hint=HINTS[provider] if own else "",
        hold_id=f"hold_{n}", bound_nusd=5_000_000, state=HoldState.SETTLED, basis=Basis.ACTUAL, cost_nusd=3_400_000,
        usage=Usage(input=1_200, output=300), status=200, failure=None, signal="", message="", request_id=f"req_{n}",
        started_ms=0, first_content_ms=350, ended_ms=900,
    )
    return replace(plain, **fields)


def failed(n: int = 1, route: Route = Route.DIRECT, provider: str = "anthropic", **fields: Any) -> AttemptRecord:
    nothing: dict[str, Any] = {
        "state": HoldState.RELEASED, "basis": Basis.NONE, "cost_nusd": 0, "usage": None, "first_content_ms": None,
        "status": 429, "failure": "rate_limit", "signal": "429 rate_limit_error", "message": "Slow down.",
    }
    return attempt(n, route, provider, **{**nothing, **fields})


def make_receipt(portal: Portal, *attempts: AttemptRecord, **fields: Any) -> Receipt:
    clock, costs = portal.control.clock, [a.cost_nusd for a in attempts]
    last = attempts[-1] if attempts else None
    credits = last is not None and last.route is Route.CREDITS
    usages = [a.usage for a in attempts if a.usage is not None]
    plain = Receipt(
        id=clock.new_id("call"), workspace_id=portal.workspace.id, at_ms=clock.now_ms(), token_id="tok_1",
        endpoint="chat", dialect="openai", task="auto_triage", requested_model="anthropic/claude-haiku-4.5",
        served_model="anthropic/claude-haiku-4.5" if last else None, stream=True, project=None, conversation="ticket-7",
        member="u_9", row="F8", funding=Funding.CREDITS if credits else Funding.BYOK if last else None,
        route=last and last.route, provider=last and last.provider, status=200, code=None, message="",
        attempts=attempts, usage=usages[0] if usages else None,
        cost_nusd=None if None in costs else sum(c or 0 for c in costs),
        basis=last.basis if last else Basis.NONE, price_version=1, cap=CAP, duration_ms=900,
        first_content_ms=350 if last else None, finish_reason="stop" if last else None,
    )
    return replace(plain, **fields)


async def write(portal: Portal, *attempts: AttemptRecord, **fields: Any) -> Receipt:
    """The receipt as it stands in the books now."""
    return await portal.control.store.end_call(None, make_receipt(portal, *attempts, **fields))
