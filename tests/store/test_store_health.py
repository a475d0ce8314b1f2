"""Health in the database: one incident and one notice whatever happens at once, and nothing forgotten by a restart."""

import asyncio
import sqlite3
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
from store_kit import ACTOR, NOV, add_workspace, credential, open_store

from ownkey.domain.health import KEY_LIMIT, Evidence, Sign
from ownkey.domain.workspace import Credential, CredentialStatus, Health
from ownkey.store import SQLiteStore
from ownkey.store.schema import HEAD, migrate, read_revision, run_alembic

MINUTE = 60_000
ONE_NOTICE = {"credential_unhealthy": 2}  # an e-mail and an event
BOTH_NOTICES = {"credential_unhealthy": 2, "credential_recovered": 2}


async def notices(store: SQLiteStore, workspace: str = "ws_acme") -> dict[str, int]:
    """Of keys' health, e-mails and events; that saving a key is told too is another matter."""
    rows = await store.load_outbox(workspace, limit=500)
    return dict(Counter(row["kind"] for row in rows if row["kind"].startswith("credential_")))


async def key_of(store: SQLiteStore, provider: str = "openrouter") -> Credential:
    state = await store.load_workspace("ws_acme")
    assert state is not None
    return state.credentials[provider]


async def with_key(store: SQLiteStore, **changes: object) -> Credential:
    await add_workspace(store)
    await store.save_credential(credential("ws_acme", **changes), at_ms=NOV, actor=ACTOR)
    return await key_of(store)


async def note(store: SQLiteStore, sign: Sign, at_ms: int, signal: str = "", key: Credential | None = None) -> None:
    key = key or await key_of(store)
    evidence = Evidence(sign, signal or sign.value, at_ms, scheduled=True)
    await store.note_health(key.workspace_id, key.id, key.version, evidence)


async def test_a_suspicion_is_kept_and_says_nothing(store: SQLiteStore) -> None:
    """X6: a rejection in traffic takes the key out of service; nobody is told before it is confirmed."""
    key = await with_key(store)
    for _ in range(5):
        store.mark(key, Health.REJECTED, "401", NOV)
    await store.check_writable()

    seen = await key_of(store)
    assert (seen.health, seen.health_signal, seen.probe_failures) == (Health.REJECTED, "401", 0)
    assert await store.load_incidents("ws_acme") == []
    assert await notices(store) == {}
    await note(store, Sign.ACCEPTED, NOV + 1_000)
    assert (await key_of(store)).health is Health.OK
    assert (await store.load_incidents("ws_acme"), await notices(store)) == ([], {})


async def test_one_incident_one_notice_one_recovery_at_once(store: SQLiteStore) -> None:
    """X6: fifty probes and fifty calls say the same at the same time; so do fifty recoveries."""
    key = await with_key(store)

    async def fail() -> None:
        store.mark(key, Health.REJECTED, "401", NOV)
        await note(store, Sign.REJECTED, NOV, key=key)
        store.mark(key, Health.NO_FUNDS, "402", NOV)

    await asyncio.gather(*[fail() for _ in range(50)])
    await store.check_writable()
    assert len(await store.load_incidents("ws_acme")) == 1
    assert await notices(store) == ONE_NOTICE

    await asyncio.gather(*[note(store, Sign.ANSWERED, NOV + 5, key=key) for _ in range(50)])
    incidents = await store.load_incidents("ws_acme")
    assert [(i["cause"], i["closed_at_ms"]) for i in incidents] == [("rejected", NOV + 5)]
    assert await notices(store) == BOTH_NOTICES


async def test_a_second_failure_is_an_incident_of_its_own(store: SQLiteStore) -> None:
    """Each incident has its own notice and its own end, and the audit log has all four."""
    await with_key(store)
    for n in range(2):
        await note(store, Sign.NO_FUNDS, NOV + n * MINUTE)
        await note(store, Sign.ANSWERED, NOV + n * MINUTE + 1)

    assert await notices(store) == {"credential_unhealthy": 4, "credential_recovered": 4}
    actions = [row["action"] for row in await store.load_audit("ws_acme", limit=50)]
    assert Counter(actions)["credential.unhealthy"] == Counter(actions)["credential.recovered"] == 2


async def test_what_was_said_about_a_replaced_key_says_nothing_about_the_new_one(store: SQLiteStore) -> None:
    """Evidence names a version."""
    old = await with_key(store)
    await store.save_credential(replace(old, version=2, health=Health.OK), at_ms=NOV, actor=ACTOR)
    store.mark(old, Health.NO_FUNDS, "402", NOV)
    assert await store.note_health("ws_acme", old.id, 1, Evidence(Sign.REJECTED, "401", NOV)) is None
    await store.check_writable()

    assert (await key_of(store)).health is Health.OK
    assert await notices(store) == {}


@pytest.mark.parametrize(("health", "told"), [
    (Health.OK, BOTH_NOTICES), (Health.UNKNOWN, ONE_NOTICE), (Health.NO_FUNDS, ONE_NOTICE),
])
async def test_a_new_key_ends_the_incident_only_where_it_works(
    store: SQLiteStore, health: Health, told: dict[str, int]
) -> None:
    """One that nobody could ask about ends it with its first answer."""
    old = await with_key(store)
    await note(store, Sign.REJECTED, NOV)
    await store.save_credential(replace(old, version=2, health=health), at_ms=NOV + 1, actor=ACTOR)

    assert await notices(store) == told
    await note(store, Sign.ANSWERED, NOV + 2)
    assert await notices(store) == BOTH_NOTICES


async def test_a_key_that_can_be_opened_again_ends_its_incident(store: SQLiteStore) -> None:
    """A pasted key cures a ciphertext that could not be opened, whoever could be asked about it."""
    old = await with_key(store)
    for _ in range(3):
        store.mark_undecryptable(old, NOV)
    await store.check_writable()
    assert await notices(store) == ONE_NOTICE
    store.mark(old, Health.OK, "answered", NOV)
    await store.check_writable()
    assert await notices(store) == ONE_NOTICE
    await store.save_credential(replace(old, version=2), at_ms=NOV + 1, actor=ACTOR)

    assert await notices(store) == BOTH_NOTICES


async def test_a_disconnected_key_leaves_no_incident_open(store: SQLiteStore) -> None:
    """Nothing has recovered, so nobody is told that it has."""
    await with_key(store)
    await note(store, Sign.REJECTED, NOV)
    await store.delete_credential("ws_acme", "openrouter", at_ms=NOV + 7, actor=ACTOR)

    assert [i["closed_at_ms"] for i in await store.load_incidents("ws_acme")] == [NOV + 7]
    assert await notices(store) == ONE_NOTICE


async def test_a_restart_forgets_nothing(tmp_path: Path) -> None:
    """How many probes have failed, when the next one is, and that the notice is out: all of it is on the disk."""
    store = open_store(tmp_path / "a.db")
    await with_key(store)
    for n in range(3):
        await note(store, Sign.REJECTED, NOV + n * MINUTE)
    before = await key_of(store)
    await store.close()
    store = open_store(tmp_path / "a.db")
    try:
        assert await key_of(store) == before
        assert before.probe_failures == 3
        await note(store, Sign.REJECTED, NOV + 10 * MINUTE)
        assert (await key_of(store)).probe_failures == 4
        assert await notices(store) == ONE_NOTICE
    finally:
        await store.close()


async def test_a_probe_is_claimed_once(store: SQLiteStore) -> None:
    """Two rounds at once never probe one key twice; a claim that nobody finishes is due again after its lease."""
    key = await with_key(store)
    await note(store, Sign.REJECTED, NOV)
    due = (await key_of(store)).next_probe_ms
    assert await store.claim_probes(due - 1, due + 2 * MINUTE, 10) == []

    claims = await asyncio.gather(*[store.claim_probes(due, due + 2 * MINUTE, 10) for _ in range(5)])

    assert [(c.workspace_id, c.credential_id, c.version) for claim in claims for c in claim] == [("ws_acme", key.id, 1)]
    assert (await key_of(store)).next_probe_ms == due + 2 * MINUTE
    assert len(await store.claim_probes(due + 2 * MINUTE, due + 4 * MINUTE, 10)) == 1


async def test_only_what_a_free_probe_can_tell_is_claimed(store: SQLiteStore) -> None:
    """Rejected keys, and a key's own limit at OpenRouter; not an empty account, nor what is switched off, well or
    unreadable."""
    workspace = await add_workspace(store)
    far = NOV + 365 * 86_400_000
    for provider in ("openrouter", "anthropic", "openai", "google"):
        await store.save_credential(credential(workspace.id, provider), at_ms=NOV, actor=ACTOR)
    await note(store, Sign.NO_FUNDS, NOV, KEY_LIMIT, await key_of(store, "openrouter"))
    await note(store, Sign.NO_FUNDS, NOV, "402", await key_of(store, "anthropic"))
    await note(store, Sign.REJECTED, NOV, "401", await key_of(store, "openai"))

    assert {c.provider for c in await store.claim_probes(far, NOV, 10)} == {"openrouter", "openai"}
    await store.set_credential_status(workspace.id, "openai", CredentialStatus.DISABLED, at_ms=NOV, actor=ACTOR)
    store.mark_undecryptable(await key_of(store, "openrouter"), NOV)
    await store.check_writable()
    assert list(await store.claim_probes(far, NOV, 10)) == []
    await store.set_credential_status(workspace.id, "openai", CredentialStatus.ENABLED, at_ms=NOV, actor=ACTOR)
    assert {c.provider for c in await store.claim_probes(far, NOV, 10)} == {"openai"}


async def test_a_keys_own_end_is_kept(store: SQLiteStore) -> None:
    """`expires_at` is written with whatever else was learnt, also where the health stays what it was."""
    key = await with_key(store, health=Health.OK)
    await store.note_health("ws_acme", key.id, 1, Evidence(Sign.ACCEPTED, "", NOV, expires_at_ms=NOV + 5))

    assert (await key_of(store)).expires_at_ms == NOV + 5


def test_a_database_from_before_is_brought_up_to_date(tmp_path: Path) -> None:
    """A key that was marked as rejected then has been announced then: it is confirmed, and stays so."""
    path = tmp_path / "old.db"
    conn = sqlite3.connect(path, isolation_level=None)
    run_alembic(conn, "0001")
    conn.execute("PRAGMA foreign_keys = OFF")
    for n, health in enumerate(("ok", "rejected", "no_funds")):
        conn.execute(
            "INSERT INTO credential(id, workspace_id, provider, version, origin, hint, label, status, health, salt, "
            "commitment, nonce, ciphertext, format, fingerprint, created_at_ms) "
            "VALUES (?, 'ws', ?, 1, '', '', '', 'enabled', ?, x'', x'', x'', x'', 1, x'', 0)",
            (f"c{n}", str(n), health),
        )
    migrate(conn)

    assert read_revision(conn) == HEAD
    kept = conn.execute("SELECT health, probe_failures, expires_at_ms FROM credential ORDER BY id").fetchall()
    assert kept == [("ok", 0, None), ("rejected", 1, None), ("no_funds", 0, None)]
    conn.close()


def test_the_jobs_question_is_answered_by_an_index(tmp_path: Path) -> None:
    """Asked every two seconds, it must not read every credential of every workspace."""
    from ownkey.store.credentials import _DUE

    conn = sqlite3.connect(tmp_path / "a.db", isolation_level=None)
    migrate(conn)
    plan = " ".join(row[3] for row in conn.execute("EXPLAIN QUERY PLAN " + _DUE, (0, "", 1)).fetchall())
    conn.close()

    assert "credential_due" in plan
