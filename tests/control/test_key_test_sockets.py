"""Test over real sockets against the emulated providers: six outcomes for each of four, and fifteen seconds in all."""

import asyncio
import itertools
import logging
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass
from datetime import date
from functools import lru_cache
from pathlib import Path
from typing import Any

import pytest
from tests.backup_files import NoBackupFiles
from tests.control.house import ACTOR, Opener, product_of
from tests.emulator_process import EmulatorHandle, start_emulator
from tests.fresh_database import lay_database

from ownkey.bootstrap import SystemClock
from ownkey.control.desk import Desk, make_desk
from ownkey.control.key_test import TEST_SECONDS, KeyTest, KeyTestResult, Outcome
from ownkey.control.live_probe import LiveProbe
from ownkey.control.master_key import KeyKeeper
from ownkey.control.master_key_check import KeyCheck
from ownkey.control.pace import KeyTestPace, PaceLimits
from ownkey.control.probes import AuthProber
from ownkey.control.workspaces import NewWorkspace
from ownkey.domain.health import KEY_LIMIT
from ownkey.domain.models import native_id, normalize_requested
from ownkey.domain.pricing import ModelPrice
from ownkey.domain.product import Product
from ownkey.domain.workspace import Health, WorkspaceState
from ownkey.providers.anthropic import AnthropicProvider
from ownkey.providers.egress import parse_origin
from ownkey.providers.google import GoogleProvider
from ownkey.providers.openai import OpenAIProvider
from ownkey.providers.openrouter import OpenRouterProvider
from ownkey.providers.prices import list_prices
from ownkey.providers.upstream import Upstream
from ownkey.store.export_files import ExportFiles
from ownkey.store.sqlite import SQLiteStore
from ownkey.vault.envelope import Vault
from ownkey.vault.keyring import Keyring
from ownkey.vault.keyset import generate_keyset_text, parse_keyset

PROVIDERS = ("openrouter", "openai", "anthropic", "google")
BEGINNINGS = {"openrouter": "sk-or-v1-", "openai": "sk-proj-", "anthropic": "sk-ant-api03-", "google": "AQ.Ab8"}
CHEAPEST = {
    "openrouter": "google/gemini-2.5-flash-lite", "openai": "openai/gpt-4.1-mini",
    "anthropic": "anthropic/claude-haiku-4.5", "google": "google/gemini-2.5-flash-lite",
}
_count = itertools.count(1)


def new_key(provider: str) -> str:
    """A key that no other test uses."""
    return f"{BEGINNINGS[provider]}{next(_count):04d}" + "a5" * 20


@dataclass
class Bench:
    """A Test with a real way out, on a real store."""

    emulator: EmulatorHandle
    desk: Desk
    store: SQLiteStore
    folder: Path
    quick: KeyTest
    """The same Test with half a second in all."""

    async def workspace(self) -> WorkspaceState:
        return await self.desk.workspaces.create(NewWorkspace(f"W{next(_count)}"), ACTOR)

    async def test(
        self, provider: str, typed: str | None, *, workspace: WorkspaceState | None = None, quick: bool = False
    ) -> KeyTestResult:
        workspace = workspace or await self.workspace()
        run = (self.quick if quick else self.desk.key_test).run
        return await run(workspace, provider, typed, address="192.0.2.1", actor=ACTOR, token_id="tok_test")

    async def save(self, workspace: WorkspaceState, provider: str, key: str) -> WorkspaceState:
        await self.desk.credentials.save(
            workspace, provider, key, label="", save_anyway=False, address="192.0.2.1", actor=ACTOR
        )
        return await self.desk.workspaces.find(workspace.id)


@lru_cache(1)
def shipped() -> Sequence[ModelPrice]:
    """What the product is shipped with; reading it takes a while."""
    return tuple(list_prices(date(2026, 11, 22)))


def shipped_prices(product: Product) -> list[ModelPrice]:
    """Those of the product's own models, on every route."""
    slugs = {slug for task in product.tasks.values() for slug in task.models}
    names = {("openrouter", slug) for slug in slugs} | {found for slug in slugs if (found := native_id(slug, {}))}
    return [price for price in shipped() if (price.provider, price.model) in names]


@pytest.fixture(scope="module")
def emulator() -> Iterator[EmulatorHandle]:
    handle = start_emulator()
    yield handle
    handle.stop()


@pytest.fixture
async def bench(tmp_path: Path, emulator: EmulatorHandle) -> AsyncIterator[Bench]:
    emulator.control("DELETE", "faults")
    product, _ = product_of(tmp_path, "support-desk")
    clock, origins = SystemClock(), {p: parse_origin(emulator.base(p)) for p in PROVIDERS}
    upstream = Upstream(connect_s=3.0, allow_insecure_origins=True)
    store = SQLiteStore.open(lay_database(tmp_path / "ownkey.db"), clock_ms=clock.now_ms, boot_id="boot")
    try:
        keyset = parse_keyset(generate_keyset_text())
        vault = Vault(keyset, store.instance_id)
        ring = Keyring(keyset, vault, None, None)
        await store.activate_prices(shipped_prices(product), {}, author="test", at_ms=clock.now_ms())
        providers = {
            p.id: p for p in (OpenRouterProvider(), OpenAIProvider(), AnthropicProvider(), GoogleProvider())
        }
        pace = KeyTestPace(PaceLimits(1_000, 1_000, 1_000, 1_000))
        desk = make_desk(
            store=store, directory=store, books=store, prices=store, auditor=store, sealer=vault, safe=vault,
            opener=Opener(vault), upstream=upstream, providers=providers, origins=origins, clock=clock,
            product=product, pace=pace, files=ExportFiles(tmp_path / "exports"),
            backup_files=NoBackupFiles(),
            ring=ring, keeper=KeyKeeper(ring, store, clock, boot_id="boot", host="here", pid=1),
            key_check=KeyCheck(ring, store, clock),
        )
        quick = KeyTest(
            store, vault, Opener(vault), AuthProber(upstream, providers, origins, clock),
            LiveProbe(upstream, providers, origins, store, store, clock), store, pace, clock, product, seconds=0.5,
        )
        yield Bench(emulator, desk, store, tmp_path, quick)
        assert list(await store.verify(clock.now_ms())) == []
    finally:
        await upstream.aclose()
        await store.close()


# How the emulated key is made, or what is typed instead → the outcome. `fault` hits each of the provider's requests
# whose path contains `path`.
CASES: dict[tuple[str, str], dict[str, Any]] = {
    **{("works", p): {} for p in PROVIDERS},
    **{("rejected", p): {"kind": "revoked"} for p in PROVIDERS},
    **{("works_no_balance", p): {"kind": "no_balance"} for p in PROVIDERS},
    **{("restricted", p): {"models": [CHEAPEST[p]]} for p in PROVIDERS},
    **{("unreachable", p): {"fault": "overloaded"} for p in PROVIDERS},
    ("wrong_kind", "openrouter"): {"kind": "management"},
    ("wrong_kind", "openai"): {"typed": "sk-admin-" + "q" * 40},
    ("wrong_kind", "anthropic"): {"typed": "sk-ant-admin01-" + "q" * 40},
    ("wrong_kind", "google"): {"typed": "sk-or-v1-" + "q" * 64},
}


@pytest.mark.parametrize(("outcome", "provider"), CASES, ids=lambda word: word)
async def test_six_outcomes_for_four_providers(bench: Bench, outcome: str, provider: str) -> None:
    """Section 2: the first that matches decides; each in words, with its fix, and never more of the key than its
    hint."""
    case = dict(CASES[outcome, provider])
    key, fault = case.pop("typed", None) or new_key(provider), case.pop("fault", None)
    if not CASES[outcome, provider].get("typed"):
        bench.emulator.add_key(provider, key, **case)
    if fault:
        bench.emulator.add_fault(fault, None, provider=provider, key=key)
    workspace = await bench.workspace()

    found = await bench.test(provider, key, workspace=workspace)

    assert found.outcome == outcome, found
    assert found.sentence.endswith(".")
    assert (found.fix == "") == (found.outcome is Outcome.WORKS)
    assert key not in repr(found)
    assert not (await bench.desk.workspaces.find(workspace.id)).credentials
    if outcome == "works":
        assert (found.model, found.paid_call) == (CHEAPEST[provider], "answered")
        assert found.latency_ms is not None
        assert {row.state for row in found.reach} == {"works"}
        assert found.cost_nusd == bench.emulator.total_nusd(key) > 0
    if outcome == "restricted":
        states = {row.model: row.state for row in found.reach}
        assert states.get(CHEAPEST[provider], "works") == "works"
        assert "refused" in states.values()
        assert all(row.reason for row in found.reach if row.state == "refused")


@pytest.mark.parametrize("provider", PROVIDERS)
@pytest.mark.parametrize(("fault", "says"), [
    ("rate_limit", "rate limiting"), ("overloaded", "overloaded or broken"), ("cut_before_headers", "be reached"),
    ("html_login_200", ""),
])
async def test_unreachable_says_how_far_it_came(bench: Bench, provider: str, fault: str, says: str) -> None:
    """The key was accepted; the model call was not answered."""
    key = new_key(provider)
    bench.emulator.add_key(provider, key)
    bench.emulator.add_fault(fault, None, provider=provider, key=key, method="POST")

    found = await bench.test(provider, key)

    assert found.outcome is Outcome.UNREACHABLE, found
    assert found.sentence.startswith("The key is accepted, but the model call failed")
    assert says in found.sentence
    assert (found.proved, found.paid_call) == ("accepted", "failed")


@pytest.mark.parametrize("provider", PROVIDERS)
async def test_a_rejection_by_the_model_call_is_one_too(bench: Bench, provider: str) -> None:
    """Class auth in step 4, after a list that the provider hands to anyone."""
    key = new_key(provider)
    bench.emulator.add_key(provider, key)
    name = {"google": "auth_400"}.get(provider, "auth_401")
    bench.emulator.add_fault(name, None, provider=provider, key=key, method="POST")

    assert (await bench.test(provider, key)).outcome is Outcome.REJECTED


async def test_a_restricted_openai_key_is_tested_by_calls(bench: Bench) -> None:
    """401 "Missing scopes" for the list: the key goes on to the live call. Missing scopes for calls too: restricted."""
    lists, calls = new_key("openai"), new_key("openai")
    bench.emulator.add_key("openai", lists, kind="restricted")
    bench.emulator.add_key("openai", calls, kind="restricted")
    bench.emulator.add_fault("scope_401", None, provider="openai", key=calls, method="POST")

    one, two = await bench.test("openai", lists), await bench.test("openai", calls)

    assert one.outcome is Outcome.WORKS, one
    assert {row.state for row in one.reach} == {"works", "not_tested"}
    assert two.outcome is Outcome.RESTRICTED, two


async def test_a_used_up_limit_is_told_without_a_paid_call(bench: Bench) -> None:
    """`limit_remaining` ≤ 0: the key's limit, its reset and its end are on the result; nothing is billed."""
    key, until = new_key("openrouter"), time.time() + 3 * 86_400
    bench.emulator.add_key(
        "openrouter", key, kind="limited", limit_nusd="0", limit_reset="monthly", expires_at=until
    )
    workspace = await bench.save(await bench.workspace(), "openrouter", key)

    found = await bench.test("openrouter", None, workspace=workspace)

    assert found.outcome is Outcome.WORKS_NO_BALANCE, found
    assert (found.limit_nusd, found.limit_left_nusd, found.limit_reset) == (0, 0, "monthly")
    assert found.expires_at is not None
    assert found.paid_call == "skipped: the free checks decided"
    assert bench.emulator.bills(key) == []
    saved = (await bench.desk.workspaces.find(workspace.id)).credentials["openrouter"]
    assert (saved.health, saved.health_signal) == (Health.NO_FUNDS, KEY_LIMIT)
    assert saved.expires_at_ms is not None
    assert abs(saved.expires_at_ms - until * 1_000) < 2_000


@pytest.mark.parametrize("provider", PROVIDERS)
async def test_the_paid_call_is_sixteen_tokens_of_the_cheapest_model(bench: Bench, provider: str) -> None:
    """And one word to embed, only where calls for embeddings go to this provider."""
    key = new_key(provider)
    bench.emulator.add_key(provider, key)

    found = await bench.test(provider, key)

    bills = bench.emulator.bills(key)
    vectors = ["embeddings"] if provider in ("openrouter", "openai") else []
    assert [bill["endpoint"] for bill in bills][1:] == vectors, bills
    assert normalize_requested(bills[0]["model"]) == found.model == CHEAPEST[provider]
    assert bills[0]["tokens"]["output"] <= 16
    assert {row.state for row in found.reach} == {"works"}


@pytest.mark.parametrize("provider", PROVIDERS)
@pytest.mark.parametrize(("fault", "where"), [
    ("silence", "GET"), ("silence", "POST"), ("slow_head", "GET"),
])
async def test_a_silent_provider_is_unreachable_in_time(
    bench: Bench, provider: str, fault: str, where: str
) -> None:
    """Fifteen seconds in all, here half of one: whichever step hangs, the answer comes then, and the hold is ended."""
    key = new_key(provider)
    bench.emulator.add_key(provider, key)
    scripted: dict[str, Any] = {"name": fault, **({"seconds": 5.0} if fault == "slow_head" else {})}
    bench.emulator.add_fault(scripted, None, provider=provider, key=key, method=where)
    workspace = await bench.workspace()
    began = time.monotonic()

    found = await bench.test(provider, key, workspace=workspace, quick=True)

    assert TEST_SECONDS == 15.0
    assert time.monotonic() - began < 1.5
    assert found.outcome is Outcome.UNREACHABLE
    assert "did not answer in time" in found.sentence
    assert (await bench.desk.caps.show(workspace)).held_nusd == 0


async def test_a_slow_list_does_not_take_the_live_calls_time(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """GET /models/user decides nothing alone: the call that does still runs."""
    monkeypatch.setattr("ownkey.control.key_test.REACH_SECONDS", 0.2)
    key = new_key("openrouter")
    bench.emulator.add_key("openrouter", key)
    bench.emulator.add_fault("silence", None, provider="openrouter", key=key, path="models/user")

    found = await bench.test("openrouter", key)

    assert found.outcome is Outcome.WORKS, found
    assert {row.state for row in found.reach} == {"works", "not_tested"}


@pytest.mark.parametrize("provider", PROVIDERS)
async def test_pasted_wrappings_are_taken_off_and_told(bench: Bench, provider: str) -> None:
    """Spaces, quotes, `Bearer `, `export X=`: the key inside is the one that is tested."""
    key = new_key(provider)
    bench.emulator.add_key(provider, key)

    found = await bench.test(provider, f'  export MY_KEY="Bearer {key}" \n')

    assert found.outcome is Outcome.WORKS
    assert set(found.cleaned) == {"white space", "quotes", "Bearer", "NAME="}


@pytest.mark.parametrize("provider", PROVIDERS)
@pytest.mark.parametrize("end", ["answer", "echo", "refused"])
async def test_a_typed_key_leaves_no_trace(
    bench: Bench, provider: str, end: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Not in the result, the receipt, the audit log, the database's files or the log, also where the provider repeats
    it in its error."""
    key = new_key(provider)
    bench.emulator.add_key(provider, key, **({"kind": "revoked"} if end == "refused" else {}))
    if end == "echo":
        bench.emulator.add_fault("echo_key", None, provider=provider, key=key, method="POST")
    workspace = await bench.workspace()

    with caplog.at_level(logging.DEBUG):
        found = await bench.test(provider, key, workspace=workspace)

    secret = key[len(BEGINNINGS[provider]):]
    assert secret not in repr(found)
    assert secret not in caplog.text
    if found.receipt is not None:
        assert secret not in str(await bench.desk.receipts.one(workspace, found.receipt))
    assert secret not in str(await bench.desk.audit.list(workspace, 50))
    await bench.store.check_writable()
    assert not [path for path in bench.folder.iterdir() if secret.encode() in path.read_bytes()]


async def test_the_test_of_a_saved_key_decides_its_health(bench: Bench) -> None:
    """Revoked at the provider: marked, with one notice. Valid again: restored at once, with one more."""
    key = new_key("anthropic")
    bench.emulator.add_key("anthropic", key)
    workspace = await bench.save(await bench.workspace(), "anthropic", key)
    bench.emulator.add_key("anthropic", key, kind="revoked")
    for _ in range(2):
        await bench.test("anthropic", None, workspace=await bench.desk.workspaces.find(workspace.id))
    marked = (await bench.desk.workspaces.find(workspace.id)).credentials["anthropic"]
    bench.emulator.add_key("anthropic", key)
    await bench.test("anthropic", None, workspace=await bench.desk.workspaces.find(workspace.id))

    restored = (await bench.desk.workspaces.find(workspace.id)).credentials["anthropic"]
    kinds = [row["kind"] for row in await bench.store.load_outbox(workspace.id, limit=50) if row["channel"] == "email"]
    assert (marked.health, restored.health) == (Health.REJECTED, Health.OK)
    assert sorted(k for k in kinds if k.startswith("credential_")) == ["credential_recovered", "credential_unhealthy"]


async def test_a_free_check_alone_restores_no_money(bench: Bench) -> None:
    """While AI is paused no paid call runs: an account that was empty is not known to be filled."""
    key = new_key("openrouter")
    bench.emulator.add_key("openrouter", key, kind="no_balance")
    workspace = await bench.save(await bench.workspace(), "openrouter", key)
    await bench.test("openrouter", None, workspace=workspace)
    await bench.desk.caps.save(workspace, "0", None, ACTOR)
    bench.emulator.add_key("openrouter", key)

    paused = await bench.test("openrouter", None, workspace=await bench.desk.workspaces.find(workspace.id))
    still = (await bench.desk.workspaces.find(workspace.id)).credentials["openrouter"]
    await bench.desk.caps.save(workspace, "5", None, ACTOR)
    await bench.test("openrouter", None, workspace=await bench.desk.workspaces.find(workspace.id))
    after = (await bench.desk.workspaces.find(workspace.id)).credentials["openrouter"]

    assert paused.paid_call.startswith("skipped: ")
    assert (still.health, after.health) == (Health.NO_FUNDS, Health.OK)


async def test_a_disabled_key_can_be_tested(bench: Bench) -> None:
    """So that one knows before enabling it."""
    key = new_key("openai")
    bench.emulator.add_key("openai", key)
    workspace = await bench.save(await bench.workspace(), "openai", key)
    await bench.desk.credentials.set_enabled(workspace, "openai", False, ACTOR)

    found = await bench.test("openai", None, workspace=await bench.desk.workspaces.find(workspace.id))

    assert found.outcome is Outcome.WORKS


async def test_saving_asks_for_reach_too(bench: Bench) -> None:
    """Restricted: saved, with a warning that names the tasks; no paid call."""
    key = new_key("openrouter")
    bench.emulator.add_key("openrouter", key, models=[CHEAPEST["openrouter"]])
    workspace = await bench.workspace()

    saved = await bench.desk.credentials.save(
        workspace, "openrouter", key, label="", save_anyway=False, address="", actor=ACTOR
    )

    assert saved.check.outcome is Outcome.RESTRICTED
    assert any("draft_reply" in warning for warning in saved.warnings)
    assert bench.emulator.bills(key) == []


async def test_many_tests_at_once_end_well(bench: Bench) -> None:
    """Forty at once, over four providers: each its own answer, and the books agree."""
    keys = [(provider, new_key(provider)) for provider in PROVIDERS for _ in range(10)]
    for provider, key in keys:
        bench.emulator.add_key(provider, key)

    found = await asyncio.gather(*[bench.test(provider, key) for provider, key in keys])

    assert {result.outcome for result in found} == {Outcome.WORKS}
    assert sum(r.cost_nusd or 0 for r in found) == sum(bench.emulator.total_nusd(key) for _, key in keys)
