"""What the store's tests share: a clock to turn, workspaces, holds, ends and receipts in one line each."""

import itertools
from pathlib import Path
from typing import Any

from tests.fresh_database import lay_database

from ownkey.domain.booking import AttemptEnd, HoldGranted, HoldRequest
from ownkey.domain.bounds import Terms
from ownkey.domain.product import CreditRules
from ownkey.domain.receipts import AttemptRecord, Basis, HoldState, Receipt
from ownkey.domain.records import Actor
from ownkey.domain.routing import Funding, Route
from ownkey.domain.workspace import (
    Credential,
    CredentialStatus,
    EntitlementState,
    Health,
    Sealed,
    WorkspaceState,
    WrappedDek,
)
from ownkey.store import SQLiteStore

NOV = 1_794_873_600_000  # 2026-11-17T00:00:00Z
DAY = 86_400_000
USD = 10**9
ACTOR = Actor("operator", "test")
RULES = CreditRules(price_nusd=10_000_000, markup_bps=2_000)
AUDIT_KEY = b"k" * 32

_ids = itertools.count(1)


class Clock:
    def __init__(self, now_ms: int = NOV) -> None:
        self.ms = now_ms

    def __call__(self) -> int:
        return self.ms


def open_store(path: Path, clock: Clock | None = None, boot_id: str = "boot-1") -> SQLiteStore:
    return SQLiteStore.open(lay_database(path), clock_ms=clock or Clock(), boot_id=boot_id, audit_key=AUDIT_KEY)


def dek(name: str = "dek") -> WrappedDek:
    return WrappedDek(name, "kek-1", b"n" * 12, b"c" * 48)


async def add_workspace(store: SQLiteStore, name: str = "acme", **changes: Any) -> WorkspaceState:
    values: dict[str, Any] = {
        "workspace_id": f"ws_{name}", "name": name, "external_id": f"ext-{name}", "plan": "pro", "timezone": "UTC",
        "entitlement": EntitlementState.INCLUDED, "credits_if_key_fails": True, "credits_if_key_fails_limit": None,
        "dek": dek(), "features": {"chat": True}, "at_ms": NOV, "actor": ACTOR,
    }
    return await store.create_workspace(**(values | changes))


def terms(bound_nusd: int, *, output_limit: int = 1_000, min_output: int | None = None) -> Terms:
    """A bound that is all output: `bound_nusd` at the limit, in proportion below it."""
    per_token = bound_nusd * 1_000_000 // output_limit
    return Terms(0, per_token, (1, 1), 0, output_limit, output_limit if min_output is None else min_output)


def request(workspace_id: str, bound_nusd: int | None, **changes: Any) -> HoldRequest:
    n = next(_ids)
    values: dict[str, Any] = {
        "hold_id": f"hold_{n:08}", "workspace_id": workspace_id, "call_id": f"call_{n:08}", "attempt": 1,
        "funding": Funding.BYOK, "terms": None if bound_nusd is None else terms(bound_nusd), "price_version": 1,
        "at_ms": NOV, "expires_at_ms": NOV + 180_000, "timezone": "UTC", "shrink": False,
        "context": '{"task":"chat","requested_model":"m"}',
    }
    return HoldRequest(**(values | changes))


def credits_request(workspace_id: str, bound_nusd: int, **changes: Any) -> HoldRequest:
    return request(workspace_id, bound_nusd, **({"funding": Funding.CREDITS, "credits": RULES} | changes))


def settle(req: HoldRequest, cost_nusd: int | None, **changes: Any) -> AttemptEnd:
    values: dict[str, Any] = {
        "hold_id": req.hold_id, "workspace_id": req.workspace_id, "state": HoldState.SETTLED, "basis": Basis.ACTUAL,
        "cost_nusd": cost_nusd, "delivered_cost_nusd": cost_nusd or 0, "maybe_billed": False, "delivered_bytes": 100,
        "at_ms": req.at_ms + 1_000,
    }
    return AttemptEnd(**(values | changes))


def release(req: HoldRequest, **changes: Any) -> AttemptEnd:
    return settle(req, 0, **({"state": HoldState.RELEASED, "basis": Basis.NONE, "delivered_bytes": 0} | changes))


def attempt(req: HoldRequest, end: AttemptEnd, bound_nusd: int | None = None) -> AttemptRecord:
    if bound_nusd is None and req.terms is not None:
        bound_nusd = req.terms.bound_nusd(req.terms.output_limit)
    return AttemptRecord(
        n=req.attempt, route=Route.OPENROUTER, provider="openrouter", model="m", credential_id="cred_1",
        credential_label="Main", credential_hint="sk-or-…abcd", hold_id=req.hold_id, bound_nusd=bound_nusd,
        state=end.state, basis=end.basis, cost_nusd=end.cost_nusd, usage=None, status=200, failure=None, signal="",
        message="", request_id=None, started_ms=0, first_content_ms=10, ended_ms=20,
    )


def receipt(req: HoldRequest, *ends: tuple[HoldRequest, AttemptEnd], **changes: Any) -> Receipt:
    attempts = tuple(attempt(r, e) for r, e in ends)
    costs = [a.cost_nusd for a in attempts]
    known = [c for c in costs if c is not None]
    values: dict[str, Any] = {
        "id": req.call_id, "workspace_id": req.workspace_id, "at_ms": req.at_ms, "token_id": "tok_1",
        "endpoint": "chat", "dialect": "openai", "task": "chat", "requested_model": "m", "served_model": "m",
        "stream": False, "project": None, "conversation": None, "member": None, "row": "F8", "funding": req.funding,
        "route": Route.OPENROUTER, "provider": "openrouter", "status": 200, "code": None, "message": "",
        "attempts": attempts, "cost_nusd": None if len(known) < len(costs) else sum(known),
        "basis": attempts[-1].basis if attempts else Basis.NONE, "price_version": req.price_version,
    }
    return Receipt(**(values | changes))


async def finish(store: SQLiteStore, req: HoldRequest, end: AttemptEnd, **changes: Any) -> Receipt:
    """End the only attempt of a call, with its receipt."""
    return await store.end_call(end, receipt(req, (req, end), **changes))


async def take(store: SQLiteStore, req: HoldRequest) -> HoldGranted:
    granted = await store.hold(req)
    assert isinstance(granted, HoldGranted), granted
    return granted


def credential(workspace_id: str, provider: str = "openrouter", **changes: Any) -> Credential:
    values: dict[str, Any] = {
        "id": f"cred_{provider}", "workspace_id": workspace_id, "provider": provider, "version": 1,
        "origin": "https://openrouter.ai/api/v1", "hint": "sk-or-…abcd", "label": "Main",
        "status": CredentialStatus.ENABLED, "health": Health.UNKNOWN,
        "sealed": Sealed(b"s" * 32, b"k" * 32, b"n" * 12, b"CIPHERTEXT-" * 8, 1), "fingerprint": b"f" * 8,
        "created_at_ms": NOV,
    }
    return Credential(**(values | changes))
