"""verify finds every drift that somebody with the file in hand could make, and is silent about healthy books."""

import sqlite3
from pathlib import Path

import pytest
from store_kit import (
    ACTOR,
    NOV,
    Clock,
    add_workspace,
    credits_request,
    finish,
    open_store,
    request,
    settle,
    take,
)

from ownkey.store import SQLiteStore


async def a_life(store: SQLiteStore) -> None:
    ws = await add_workspace(store)
    await store.save_cap(ws.id, 100_000_000, 50, at_ms=NOV, actor=ACTOR)
    await store.grant_credits(ws.id, 100, "topup", expires_at_ms=None, idem_key="g", at_ms=NOV, actor=ACTOR)
    for make in (request, credits_request):
        req = make(ws.id, 80_000_000, hold_id=f"hold_{make.__name__}", call_id=f"call_{make.__name__}")
        await take(store, req)
        await finish(store, req, settle(req, 60_000_000))
    await take(store, request(ws.id, 1_000, hold_id="hold_open", call_id="call_open"))
    await take(store, credits_request(ws.id, 1_000, hold_id="hold_open_c", call_id="call_open_c"))


def spoil(path: Path, *statements: str) -> None:
    """What somebody does who first removes the guards."""
    conn = sqlite3.connect(path)
    for (name,) in conn.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall():
        conn.execute(f"DROP TRIGGER {name}")
    for statement in statements:
        assert conn.execute(statement).rowcount != 0, statement
    conn.commit()
    conn.close()


@pytest.mark.parametrize(("check", "statement"), [
    ("cap_period.spent_nusd", "UPDATE cap_period SET spent_nusd = spent_nusd - 1"),
    ("cap_period.held_nusd", "UPDATE cap_period SET held_nusd = 0"),
    ("cap_period.overage_nusd", "UPDATE cap_period SET overage_nusd = 5"),
    ("cap_period.spent_nusd", "UPDATE hold SET cost_nusd = 1 WHERE id = 'hold_request'"),
    ("cap_period.missing", "UPDATE hold SET period_id = 99 WHERE id = 'hold_open'"),
    ("cap_period.missing", "DELETE FROM cap_period"),
    ("cap.law", "UPDATE cap_period SET spent_nusd = 200000000, state = 'paused', pause_reason = 'reached'"),
    ("cap_period.state", "UPDATE cap_period SET state = 'paused', pause_reason = 'reached'"),
    ("alert.missing", "DELETE FROM alert"),
    ("alert.false", "UPDATE alert SET spent_nusd = 1"),
    ("alert.outbox", "DELETE FROM outbox WHERE channel = 'email'"),
    ("L3.balance", "UPDATE wallet SET balance_credits = balance_credits + 1"),
    ("L3.held", "UPDATE wallet SET held_credits = 0"),
    ("L7.carry", "UPDATE wallet SET carry_nusd = carry_nusd + 1"),
    ("wallet.missing", "DELETE FROM wallet"),
    ("L2.lot", "UPDATE lot SET remaining_credits = remaining_credits - 1"),
    ("L2.entry", "DELETE FROM posting"),
    ("L5.charge", "UPDATE posting SET amount_credits = 1 WHERE destination = 'revenue:usage'"),
    ("L5.charge", "UPDATE hold SET charge_credits = 0 WHERE id = 'hold_credits_request'"),
    ("L8.effect", "UPDATE ledger_entry SET hold_id = 'hold_request' WHERE kind = 'charge'"),
    ("L4.below_zero", "UPDATE posting SET source = 'lot:77' WHERE source LIKE 'lot:%'"),
    ("receipt.missing", "DELETE FROM receipt WHERE id = 'call_request'"),
    ("receipt.cost", "UPDATE receipt SET cost_nusd = 3 WHERE id = 'call_request'"),
    ("receipt.charge", "UPDATE receipt SET charge_credits = 0 WHERE id = 'call_credits_request'"),
    ("audit.chain", "UPDATE audit SET actor_id = 'nobody' WHERE n = 1"),
    ("audit.chain", "DELETE FROM audit WHERE n = 1"),
    ("audit.chain", "UPDATE audit SET n = n + 10"),
    ("audit.head", "DELETE FROM audit WHERE n = (SELECT max(n) FROM audit)"),
    ("L6.always", "UPDATE hold SET after_audit = 99 WHERE id = 'hold_open_c'"),
])
async def test_tampering_is_found(tmp_path: Path, check: str, statement: str) -> None:
    store = open_store(tmp_path / "a.db")
    await a_life(store)
    if check == "L6.always":
        await store.save_settings("ws_acme", {"always_use_key": True}, at_ms=NOV, actor=ACTOR)
    assert await store.verify(NOV) == []
    spoil(tmp_path / "a.db", statement)

    findings = await store.verify(NOV)

    assert check in {f.check for f in findings}, findings
    assert all(f.detail for f in findings)
    await store.close()


async def test_a_hold_that_nobody_ends_is_found(tmp_path: Path) -> None:
    store = open_store(tmp_path / "a.db", clock := Clock())
    await a_life(store)
    clock.ms = NOV + 10**9
    checks = {f.check for f in await store.verify(clock.ms)}
    assert {"hold.open", "receipt.missing"} <= checks
    assert await store.expire_holds(clock.ms) == 2
    assert await store.verify(clock.ms) == []
    await store.close()


async def test_the_wrong_audit_key_reads_no_chain(tmp_path: Path) -> None:
    store = open_store(tmp_path / "a.db")
    await a_life(store)
    await store.close()
    store = SQLiteStore.open(tmp_path / "a.db", clock_ms=Clock(), boot_id="b", audit_key=b"other")
    assert {f.check for f in await store.verify(NOV)} == {"audit.chain"}
    await store.close()
