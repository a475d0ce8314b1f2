"""Settings, tokens, credentials, receipts, prices, answers: visible to the next call when the write returns."""

import asyncio
import hashlib
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest
from store_kit import (
    ACTOR,
    DAY,
    NOV,
    Clock,
    add_workspace,
    credential,
    credits_request,
    dek,
    finish,
    open_store,
    request,
    settle,
    take,
)

from ownkey.domain.errors import Conflict
from ownkey.domain.pricing import ModelPrice, Rate
from ownkey.domain.receipts import Basis, Receipt
from ownkey.domain.records import Member, ReceiptFilter, TokenRow
from ownkey.domain.workspace import EntitlementState, Role, Sealed, TokenKind
from ownkey.store import SQLiteStore


def digest(text: str) -> bytes:
    return hashlib.sha256(text.encode()).digest()


def token(workspace_id: str | None, name: str = "tok_1", **changes) -> TokenRow:
    values = {
        "token_id": name, "kind": TokenKind.SERVICE if workspace_id is None else TokenKind.WORKSPACE,
        "workspace_id": workspace_id, "label": "CI", "last4": "wxyz", "scopes": frozenset({"call", "manage"}),
        "created_at_ms": NOV, "expires_at_ms": None, "revoked_at_ms": None,
    }
    return TokenRow(**(values | changes))


async def test_a_workspace_is_found_by_both_names_and_changes_show_at_once(store: SQLiteStore) -> None:
    ws = await add_workspace(store)
    assert await store.load_workspace(ws.id) == await store.load_workspace("ext-acme") == ws
    assert await store.load_workspace("nobody") is None

    changed = await store.save_settings(
        ws.id, {"always_use_key": True, "entitlement": EntitlementState.GRACE, "name": "Acme 2"}, at_ms=NOV, actor=ACTOR
    )
    seen = await store.load_workspace("ext-acme")
    assert changed == seen
    assert (seen.always_use_key, seen.entitlement, seen.name) == (True, EntitlementState.GRACE, "Acme 2")
    assert seen.settings_version > ws.settings_version

    await store.save_feature(ws.id, "chat", False, {"threshold": 85}, at_ms=NOV, actor=ACTOR)
    await store.save_project(ws.id, "p1", "Site", at_ms=NOV, actor=ACTOR)
    seen = await store.load_workspace(ws.id)
    assert (seen.features, seen.feature_settings["chat"], seen.projects) == (
        {"chat": False}, {"threshold": 85}, {"p1": "Site"},
    )
    assert await store.load_projects(ws.id) == {"p1": "Site"}
    assert await store.save_settings("ws_none", {"name": "x"}, at_ms=NOV, actor=ACTOR) is None
    with pytest.raises(ValueError, match="not a setting"):
        await store.save_settings(ws.id, {"id": "x"}, at_ms=NOV, actor=ACTOR)
    with pytest.raises(ValueError, match="IANA"):
        await store.save_settings(ws.id, {"timezone": "Mars/Base"}, at_ms=NOV, actor=ACTOR)


async def test_the_platform_is_one_and_no_tenant(store: SQLiteStore) -> None:
    assert await store.load_platform() is None
    platform = await add_workspace(store, "platform", kind="platform")
    await add_workspace(store, "b")
    await add_workspace(store, "a")
    with pytest.raises(Conflict):
        await add_workspace(store, "platform2", kind="platform")

    assert await store.load_platform() == platform
    assert [w.id for w in await store.load_workspaces(after=None, limit=10)] == ["ws_a", "ws_b"]
    assert [w.id for w in await store.load_workspaces(after="ws_a", limit=10)] == ["ws_b"]


async def test_a_deleted_workspace_is_gone_but_its_books_stay(store: SQLiteStore) -> None:
    ws = await add_workspace(store)
    req = request(ws.id, 10)
    await take(store, req)
    await finish(store, req, settle(req, 10))
    await store.save_token(token(ws.id), digest("t"), at_ms=NOV, actor=ACTOR)
    await store.load_principal(digest("t"))

    assert await store.delete_workspace(ws.id, at_ms=NOV, actor=ACTOR)
    assert not await store.delete_workspace(ws.id, at_ms=NOV, actor=ACTOR)
    assert await store.load_workspace(ws.id) is None
    assert await store.load_principal(digest("t")) is None
    assert await store.load_receipt(None, req.call_id) is not None
    again = await add_workspace(store, "again", external_id="ext-acme")
    assert await store.load_workspace("ext-acme") == again


async def test_members_belong_to_their_workspace(store: SQLiteStore) -> None:
    ws, other = await add_workspace(store), await add_workspace(store, "other")
    ann = Member(ws.id, "m1", "ann@example.com", "Ann", Role.OWNER)
    await store.save_member(ann, at_ms=NOV, actor=ACTOR)
    await store.save_member(replace(ann, role=Role.ADMIN), at_ms=NOV, actor=ACTOR)

    assert await store.load_members(ws.id) == [replace(ann, role=Role.ADMIN, muted=frozenset())]
    assert await store.load_members(other.id) == []
    assert not await store.delete_member(other.id, "m1", at_ms=NOV, actor=ACTOR)
    assert await store.delete_member(ws.id, "m1", at_ms=NOV, actor=ACTOR)


async def test_a_revoked_token_is_unknown_to_the_next_call(store: SQLiteStore, clock: Clock) -> None:
    ws = await add_workspace(store)
    row = token(ws.id, tasks=frozenset({"chat"}), expires_at_ms=NOV + DAY)
    await store.save_token(row, digest("one"), at_ms=NOV, actor=ACTOR)
    await store.save_token(token(None, "tok_2"), digest("two"), at_ms=NOV, actor=ACTOR)
    with pytest.raises(Conflict):
        await store.save_token(token(ws.id, "tok_3"), digest("one"), at_ms=NOV, actor=ACTOR)

    principal = await store.load_principal(digest("one"))
    service = await store.load_principal(digest("two"))
    assert (principal.workspace_id, principal.kind, principal.tasks) == (ws.id, TokenKind.WORKSPACE, {"chat"})
    assert (service.workspace_id, service.scopes) == (None, {"call", "manage"})
    assert await store.load_principal(digest("three")) is None
    assert await store.load_tokens(ws.id) == [row]
    assert [t.token_id for t in await store.load_tokens(None)] == ["tok_2"]
    assert not await store.revoke_token("tok_1", None, at_ms=NOV, actor=ACTOR)
    assert await store.revoke_token("tok_1", ws.id, at_ms=NOV, actor=ACTOR)
    assert await store.load_principal(digest("one")) is None
    assert not await store.revoke_token("tok_1", ws.id, at_ms=NOV, actor=ACTOR)


async def test_an_expired_token_is_unknown_even_while_cached(store: SQLiteStore, clock: Clock) -> None:
    ws = await add_workspace(store)
    await store.save_token(token(ws.id, expires_at_ms=NOV + 5_000), digest("t"), at_ms=NOV, actor=ACTOR)
    assert await store.load_principal(digest("t")) is not None
    clock.ms = NOV + 5_000
    assert await store.load_principal(digest("t")) is None


async def test_a_credential_is_added_replaced_and_switched(store: SQLiteStore) -> None:
    ws = await add_workspace(store)
    await store.save_credential(credential(ws.id), at_ms=NOV, actor=ACTOR)
    with pytest.raises(Conflict):
        await store.save_credential(credential(ws.id), at_ms=NOV, actor=ACTOR)
    second = credential(ws.id, version=2, id="cred_new", hint="sk-or-…wxyz")
    await store.save_credential(second, at_ms=NOV, actor=ACTOR)
    assert (await store.load_workspace(ws.id)).credentials == {"openrouter": second}

    off = await store.set_credential_status(ws.id, "openrouter", "disabled", at_ms=NOV, actor=ACTOR)
    assert (await store.load_workspace(ws.id)).credentials["openrouter"] == off
    assert off.status == "disabled"
    assert off.sealed == second.sealed
    assert await store.set_credential_status(ws.id, "google", "disabled", at_ms=NOV, actor=ACTOR) is None


async def test_a_key_that_cannot_be_opened_is_marked_once(store: SQLiteStore) -> None:
    ws = await add_workspace(store)
    key = credential(ws.id)
    await store.save_credential(key, at_ms=NOV, actor=ACTOR)
    for _ in range(3):
        store.mark_undecryptable(key, NOV)
    await store.check_writable()

    assert (await store.load_workspace(ws.id)).credentials["openrouter"].undecryptable
    assert [i["cause"] for i in await store.load_incidents(ws.id)] == ["undecryptable"]


@pytest.mark.parametrize("way", ["disconnect", "replace", "delete workspace"])
async def test_a_deleted_ciphertext_is_nowhere_in_the_files(tmp_path: Path, way: str) -> None:
    store = open_store(tmp_path / "a.db")
    ws = await add_workspace(store, dek=dek("dek-1"))
    canary = b"CANARY-" + bytes(range(160, 250))
    sealed = Sealed(b"s" * 32, b"k" * 32, b"n" * 12, canary, 1)
    for provider in ("anthropic", "openrouter", "openai"):
        await store.save_credential(
            credential(ws.id, provider, sealed=sealed if provider == "openrouter" else credential(ws.id).sealed),
            at_ms=NOV, actor=ACTOR,
        )
    holds = [request(ws.id, 1) for _ in range(200)]
    await asyncio.gather(*[store.hold(r) for r in holds])

    def files() -> bytes:
        return b"".join(p.read_bytes() for p in tmp_path.iterdir())

    assert canary in files()
    if way == "disconnect":
        assert await store.delete_credential(ws.id, "openrouter", at_ms=NOV, actor=ACTOR)
        assert not await store.delete_credential(ws.id, "openrouter", at_ms=NOV, actor=ACTOR)
    elif way == "replace":
        await store.save_credential(credential(ws.id, version=2), at_ms=NOV, actor=ACTOR)
    else:
        assert await store.delete_workspace(ws.id, at_ms=NOV, actor=ACTOR)

    assert canary not in files()
    assert canary[:24] not in files()
    await store.close()


async def test_receipts_are_filtered_paged_and_isolated(store: SQLiteStore) -> None:
    ws, other = await add_workspace(store), await add_workspace(store, "other")
    for n in range(10):
        req = request(ws.id, 100, at_ms=NOV + n)
        await take(store, req)
        await finish(
            store, req, settle(req, n), at_ms=NOV + n, task="chat" if n < 7 else "triage", conversation="c1",
            project="p1" if n == 3 else None,
        )
    first = await store.load_receipts(ws.id, ReceiptFilter(limit=4))
    second = await store.load_receipts(ws.id, ReceiptFilter(limit=4, before=first[-1]["id"]))
    assert [r["cost_nusd"] for r in (*first, *second)] == [9, 8, 7, 6, 5, 4, 3, 2]
    assert len(await store.load_receipts(ws.id, ReceiptFilter(task="triage"))) == 3
    assert len(await store.load_receipts(ws.id, ReceiptFilter(project="p1", refused=False))) == 1
    assert await store.load_receipts(ws.id, ReceiptFilter(refused=True)) == []
    assert len(await store.load_receipts(ws.id, ReceiptFilter(since_ms=NOV + 2, until_ms=NOV + 5))) == 3
    assert await store.load_receipts(other.id, ReceiptFilter()) == []
    assert await store.load_receipt(other.id, first[0]["id"]) is None
    assert msgspec.convert(first[0], Receipt).attempts[0].basis is Basis.ACTUAL

    spend = await store.load_spend(ws.id, since_day="2026-11-01", until_day="2026-11-30", by="task")
    assert [(s["task"], s["calls"], s["cost_nusd"]) for s in spend] == [("triage", 3, 24), ("chat", 7, 21)]
    for by in ("model", "provider", "conversation", "project", "day", "basis"):
        rows = await store.load_spend(ws.id, since_day="2026-11-01", until_day="2026-11-30", by=by)
        assert sum(r["cost_nusd"] for r in rows) == 45, by
    with pytest.raises(ValueError, match="summed by"):
        await store.load_spend(ws.id, since_day="2026-11-01", until_day="2026-11-30", by="doc")


async def test_spend_by_provider_follows_the_attempts(store: SQLiteStore) -> None:
    """T26: what a failed first attempt cost belongs to its own provider."""
    from store_kit import receipt

    ws = await add_workspace(store)
    first = request(ws.id, 100)
    second = replace(first, hold_id=first.hold_id + "b", attempt=2, context="")
    await take(store, first)
    cut = settle(first, 30, basis=Basis.ESTIMATED)
    await store.end_attempt(cut)
    await take(store, second)
    good = settle(second, 50)
    whole = receipt(first, (first, cut), (second, good))
    attempts = (replace(whole.attempts[0], provider="anthropic"), whole.attempts[1])
    await store.end_call(good, replace(whole, attempts=attempts))

    rows = await store.load_spend(ws.id, since_day="2026-11-01", until_day="2026-11-30", by="provider")
    assert {r["provider"]: (r["calls"], r["cost_nusd"]) for r in rows} == {"anthropic": (1, 30), "openrouter": (1, 50)}


async def test_the_same_prices_make_no_new_version(store: SQLiteStore) -> None:
    prices = [
        ModelPrice("openai", "gpt", {"input": (Rate(0, 5), Rate(200_000, 10)), "output": (Rate(0, 20),)},
                   units={"request": 3}, context_window=100, max_output_tokens=50, source="test",
                   service_tiers={"priority": {"input": (Rate(0, 9),)}}),
        ModelPrice("openrouter", "a/free", {"input": (Rate(0, 0),)}, free=True),
    ]
    assert store.current().version == 0
    first = await store.activate_prices(prices, {("openai", "gpt-2026"): "gpt"}, author="ann", at_ms=NOV)
    again = await store.activate_prices(prices[::-1], {("openai", "gpt-2026"): "gpt"}, author="bob", at_ms=NOV)
    assert (first.version, again.version, first.created_by) == (1, 1, "ann")
    assert dict(first.prices) == {("openai", "gpt"): prices[0], ("openrouter", "a/free"): prices[1]}
    assert first.find("openai", "gpt-2026") == prices[0]

    changed = await store.activate_prices(prices[:1], {}, author="ann", at_ms=NOV)
    assert (changed.version, store.current().version) == (2, 2)
    assert store.version(1) == first
    assert store.version(9) is None
    with pytest.raises(ValueError, match="not marked free"):
        await store.activate_prices([replace(prices[1], free=False)], {}, author="x", at_ms=NOV)


async def test_a_restart_serves_the_active_prices(tmp_path: Path) -> None:
    store = open_store(tmp_path / "a.db")
    price = ModelPrice("openai", "gpt", {"input": (Rate(0, 5),)})
    await store.activate_prices([price], {}, author="ann", at_ms=NOV)
    await store.close()
    store = open_store(tmp_path / "a.db", boot_id="boot-2")

    assert store.current().find("openai", "gpt") == price
    await store.close()


async def test_one_idempotency_key_has_one_effect(store: SQLiteStore) -> None:
    """M17: fifty in parallel, one claim."""
    claims = await asyncio.gather(*[store.begin_answer("s", "k", b"h", at_ms=NOV) for _ in range(50)])
    assert claims.count(None) == 1
    await store.save_answer("s", "k", 201, b"{}", at_ms=NOV)
    stored = await store.begin_answer("s", "k", b"other", at_ms=NOV + 1)
    assert (stored.request_sha256, stored.status, stored.body) == (b"h", 201, b"{}")
    assert await store.begin_answer("s", "k", b"new", at_ms=NOV + DAY + 1) is None  # a day later it is free
    await store.drop_answer("s", "k")
    assert await store.begin_answer("s", "k", b"h", at_ms=NOV + DAY + 1) is None
    assert await store.begin_answer("s", "k", b"h", at_ms=NOV + DAY + 299_000) is not None
    assert await store.begin_answer("s", "k", b"h", at_ms=NOV + DAY + 300_001) is None  # its process has died
    assert await store.forget_answers(NOV + 9 * DAY) == 1


async def test_a_grant_is_one_effect_per_key(store: SQLiteStore) -> None:
    ws = await add_workspace(store)
    values = {"expires_at_ms": None, "idem_key": "g1", "at_ms": NOV, "actor": ACTOR}
    wallets = await asyncio.gather(*[store.grant_credits(ws.id, 50, "topup", **values) for _ in range(20)])
    assert {w.balance_credits for w in wallets} == {50}
    with pytest.raises(Conflict):
        await store.grant_credits(ws.id, 51, "topup", **values)
    with pytest.raises(ValueError, match="positive"):
        await store.grant_credits(ws.id, 0, "topup", **(values | {"idem_key": "g2"}))
    (entry,) = await store.load_ledger(ws.id, limit=10)
    assert entry["postings"] == [{"source": "source:topup", "destination": "lot:1", "amount_credits": 50}]


async def test_credits_expire_but_never_under_a_hold(store: SQLiteStore) -> None:
    ws = await add_workspace(store)
    await store.grant_credits(ws.id, 10, "promo", expires_at_ms=NOV + 5, idem_key="a", at_ms=NOV, actor=ACTOR)
    req = credits_request(ws.id, 50_000_000)  # 6 credits
    await take(store, req)
    assert await store.expire_credits(NOV + 4) == 0
    assert await store.expire_credits(NOV + 5) == 4
    await finish(store, req, settle(req, 10_000_000))  # 2 credits
    assert await store.expire_credits(NOV + 5) == 4
    assert (await store.load_wallet(ws.id)).balance_credits == 0


async def test_the_outbox_is_emptied_in_order_and_told_once(store: SQLiteStore) -> None:
    ws = await add_workspace(store)
    await store.save_cap(ws.id, 0, 100, at_ms=NOV, actor=ACTOR)
    (mail,) = await store.claim_outbox("email", NOV, NOV + 60_000, limit=10)
    (event,) = await store.claim_outbox("event", NOV, NOV + 60_000, limit=10)
    assert await store.save_outbox_result(mail, "sent", NOV, reason="", at_ms=NOV)
    assert await store.save_outbox_result(event, "waiting", NOV + 60_000, reason="down", at_ms=NOV)

    assert await store.claim_outbox("email", NOV + 99_000, NOV, limit=10) == []
    assert await store.claim_outbox("event", NOV, NOV + 60_000, limit=10) == []
    (later,) = await store.claim_outbox("event", NOV + 60_000, NOV + 120_000, limit=10)
    assert later.attempts == 2
    assert len(await store.load_outbox(None, limit=10)) == 2


async def test_every_change_leaves_its_audit_row_without_secrets(store: SQLiteStore) -> None:
    ws = await add_workspace(store)
    await store.save_credential(credential(ws.id), at_ms=NOV, actor=ACTOR)
    await store.save_cap(ws.id, 5, 80, at_ms=NOV, actor=ACTOR)
    await store.save_audit(None, "operator.added", "ann", None, {"role": "ops"}, at_ms=NOV, actor=ACTOR)

    rows = await store.load_audit(ws.id, limit=10)
    assert [r["action"] for r in rows] == ["cap.changed", "credential.saved", "workspace.created"]
    assert "CIPHERTEXT" not in str(rows)
    assert [r["action"] for r in await store.load_audit(None, limit=10)] == ["operator.added"]


async def test_an_external_id_can_never_be_taken_for_another_workspaces_id(store: SQLiteStore) -> None:
    ws = await add_workspace(store)
    with pytest.raises(Conflict):
        await add_workspace(store, "evil", external_id=ws.id)
    with pytest.raises(Conflict):
        await add_workspace(store, "evil", workspace_id="ext-acme")


async def test_a_workspace_is_never_read_half(store: SQLiteStore) -> None:
    """Two switches that are always changed together are always seen together, whatever commits meanwhile."""
    ws = await add_workspace(store)

    async def flip() -> None:
        for n in range(200):
            await store.save_settings(
                ws.id, {"plan": f"p{n}", "name": f"p{n}"}, at_ms=NOV, actor=ACTOR
            )

    flipping = asyncio.create_task(flip())
    while not flipping.done():
        store._states.clear()
        seen = await store.load_workspace(ws.id)
        assert seen.name == "acme" or seen.name == seen.plan
        await asyncio.sleep(0)
    await flipping
