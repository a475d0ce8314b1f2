"""A database with many receipts in one workspace, written by the store's own functions, a thousand a transaction.

The mix is that of a large help desk or app builder: tasks (each with a usual model), models, projects and conversations
in long tails, some failures, a few credits, failovers from a direct key, and values so rare that a search has to look.
"""

import random
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from ownkey.domain.receipts import AttemptRecord, Basis, HoldState, Receipt
from ownkey.domain.records import Actor
from ownkey.domain.routing import Funding, Route
from ownkey.domain.usage import Usage
from ownkey.domain.workspace import EntitlementState, WrappedDek
from ownkey.store.connection import Connection
from ownkey.store.receipt_rows import save_receipt
from ownkey.store.sqlite import SQLiteStore

WORKSPACE = "ws_large"
OTHER = "ws_other"
NOW_MS = 1_795_330_800_000  # 2026-11-22T07:00:00Z
DAY_MS = 86_400_000
ACTOR = Actor("operator", "portal_figures")
TASKS = ("chat", "triage", "draft_reply", "summary", "search", "translate", "tag", "title", "auto_reply", "key_test")
MODELS = (
    "anthropic/claude-haiku-4.5", "openai/gpt-4.1-mini", "google/gemini-2.5-flash", "anthropic/claude-sonnet-4.5",
    "openai/gpt-4.1-nano", "openai/gpt-4o-mini", "meta-llama/llama-3.3-70b-instruct", "mistralai/mistral-small",
)
RARE_MODEL = "qwen/qwen3-235b-a22b"
RARE_PROJECT = "proj_rare"
FAILURES = ("provider_unavailable", "credential_rejected", "content_refused")
REFUSALS = ("ai_paused", "feature_disabled", "spend_cap_too_low")


def make_receipts(count: int, days: int, projects: int, seed: int) -> Iterator[Receipt]:
    """Receipts in the order of time, the last a few minutes ago."""
    dice = random.Random(seed)
    step = days * DAY_MS / count
    for n in range(count):
        at_ms = int(NOW_MS - 60_000 - (count - n) * step)
        yield make_receipt(dice, n, at_ms, projects)


def _tail(dice: random.Random, most: int) -> int:
    """Small numbers often, large ones rarely."""
    return min(most - 1, int(most * dice.random() ** 3))


def make_receipt(dice: random.Random, n: int, at_ms: int, projects: int) -> Receipt:
    task = _tail(dice, len(TASKS))
    model = RARE_MODEL if n % 50_021 == 7 else MODELS[
        task % len(MODELS) if dice.random() < 0.85 else _tail(dice, len(MODELS))
    ]
    project = RARE_PROJECT if n % 40_009 == 11 else f"proj_{_tail(dice, projects):04d}"
    luck = dice.random()
    native = model.partition("/")[0]
    direct = native in ("anthropic", "openai", "google") and dice.random() < 0.4
    cost = 2_000 + _tail(dice, 40_000_000)
    credits = luck > 0.98
    receipt = Receipt(
        id=f"rcpt_{at_ms:012x}{n:012x}", workspace_id=WORKSPACE, at_ms=at_ms, token_id="tok_1", endpoint="chat",
        dialect="openai", task=TASKS[task], requested_model=model, served_model=model, stream=True,
        project=project, conversation=None if luck < 0.3 else f"conv_{n // 40 * 7 + _tail(dice, 7):08d}", member=None,
        row="F8", funding=Funding.CREDITS if credits else Funding.BYOK,
        route=Route.CREDITS if credits else Route.DIRECT if direct else Route.OPENROUTER,
        provider=native if direct else "openrouter", status=200, code=None, message="", cost_nusd=cost,
        basis=Basis.COMPUTED if direct else Basis.ACTUAL, price_version=3, duration_ms=1_800, first_content_ms=300,
        charge_credits=1 if credits else 0, hung_up=n % 97 == 0, finish_reason="stop",
    )
    if n % 31 == 0:
        refused = REFUSALS[dice.randrange(3)]
        return replace(receipt, code=refused, status=402, served_model=None, provider=None, funding=None, cost_nusd=0,
                       charge_credits=0, basis=Basis.NONE, message="Refused.")
    attempts = [make_attempt(1, receipt, native if direct else "openrouter", cost)]
    if direct and n % 23 == 0:
        lost = replace(attempts[0], failure="rate_limit", status=429, cost_nusd=0, basis=Basis.NONE,
                       state=HoldState.RELEASED, usage=None)
        attempts = [lost, make_attempt(2, receipt, "openrouter", cost)]
        receipt = replace(receipt, provider="openrouter", route=Route.OPENROUTER, basis=Basis.ACTUAL)
    if n % 37 == 0:
        receipt = replace(receipt, code=FAILURES[dice.randrange(3)], status=503, served_model=None)
    return replace(receipt, attempts=tuple(attempts), usage=attempts[-1].usage)


def make_attempt(number: int, receipt: Receipt, provider: str, cost: int) -> AttemptRecord:
    direct = provider != "openrouter"
    return AttemptRecord(
        n=number, route=Route.DIRECT if direct else receipt.route if receipt.route is Route.CREDITS else
        Route.OPENROUTER, provider=provider, model=receipt.requested_model.partition("/")[2] if direct
        else receipt.requested_model, credential_id=f"cred_{provider}", credential_label="Main",
        credential_hint="sk-…abcd", hold_id=f"hold_{receipt.id[5:]}_{number}", bound_nusd=cost * 2,
        state=HoldState.SETTLED, basis=Basis.COMPUTED if direct else Basis.ACTUAL, cost_nusd=cost,
        usage=Usage(input=812, cache_read=120, output=240), status=200, failure=None, signal="", message="",
        request_id=f"req_{receipt.id[5:]}", started_ms=2, first_content_ms=300, ended_ms=1_700,
    )


async def open_filled(path: Path, count: int, days: int, projects: int, seed: int) -> SQLiteStore:
    """The store with its receipts; a database that is there already is taken as it is."""
    fresh = not path.exists()
    store = SQLiteStore.open(path, clock_ms=lambda: NOW_MS, boot_id="figures", audit_key=b"k" * 32)
    if fresh:
        for workspace in (WORKSPACE, OTHER):
            await store.create_workspace(
                workspace_id=workspace, name=workspace, external_id=workspace, plan="pro", timezone="Europe/Berlin",
                entitlement=EntitlementState.INCLUDED, credits_if_key_fails=True, credits_if_key_fails_limit=None,
                dek=WrappedDek("dek", "kek", b"n" * 12, b"c" * 48), features={}, at_ms=NOW_MS - 400 * DAY_MS,
                actor=ACTOR,
            )
        await fill(store, make_receipts(count, days, projects, seed))
        await fill(store, (
            replace(receipt, id=f"o{receipt.id}", workspace_id=OTHER) for receipt in make_receipts(
                max(1, count // 100), days, 5, seed + 1)
        ))
    return store


async def fill(store: SQLiteStore, receipts: Iterator[Receipt]) -> None:
    batch: list[Receipt] = []
    for receipt in receipts:
        batch.append(receipt)
        if len(batch) == 1_000:
            await store.writer.submit(lambda conn, batch=batch: write_batch(conn, batch))
            batch = []
    if batch:
        await store.writer.submit(lambda conn: write_batch(conn, batch))


def write_batch(conn: Connection, batch: list[Receipt]) -> None:
    for receipt in batch:
        save_receipt(conn, receipt)
