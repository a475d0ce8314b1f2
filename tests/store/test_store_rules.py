"""House rules, executed: every statement on a tenant's table names the workspace; the books' rows are kept."""

import ast
import re
import sqlite3
from pathlib import Path

import pytest
from store_kit import ACTOR, NOV, add_workspace, credits_request, finish, request, settle, take

import ownkey.store
from ownkey.store import SQLiteStore

FOLDER = Path(ownkey.store.__file__).parent

NO_TENANT = {
    "instance", "alembic_version", "sqlite_master", "price_version", "price_model", "price", "overage_flag",
    "idempotency", "json_each", "plan_minimum", "operator", "operator_link", "operator_recovery", "operator_step",
    "operator_session", "operator_attempt", "operator_lock", "operator_state", "operator_filter", "master_key",
    "key_process",
}
"""Tables of the deployment: they have no workspace, or (idempotency) the principal's scope names it."""

EXCEPTIONS = {
    "failpoints._STATEMENTS": "how other modules' statements begin: the points at which a test kills the process",
    "addons._COLUMNS": "the first half of a statement that ends with its workspace",
    "addons._DUE": "the job that renews add-ons serves all workspaces",
    "addons._CYCLES_DUE": "the job that grants cycles' credits serves all workspaces",
    "payment_rows.ORDER_COLUMNS": "the first half of statements; an order's id finds its workspace",
    "payment_rows._PAYMENT": "finds the workspace by Stripe's own id of a payment, which is unique",
    "payments._CARD_ADDONS": "the round that asks Stripe serves all workspaces",
    "payments._WISHES": "the round that tells Stripe serves all workspaces",
    "payments._EVENT": "an event is the deployment's; it names the workspace that it touched",
    "payments._ONE_EVENT": "an event is the deployment's",
    "payments._AGAIN": "an event is the deployment's",
    "payments._INBOX": "the operators' view of Stripe's events",
    "payments._FAILED": "the round that retries serves all workspaces",
    "payments._COUNTS": "the operators' view of Stripe's events",
    "workspaces._KEK_IDS": "asks which master keys the whole deployment needs",
    "workspaces._PLATFORM": "finds the one workspace that is the platform's",
    "workspaces._PAGE": "the operators' list of all workspaces",
    "workspaces._TAKEN": "an external id is unique over all workspaces",
    "workspaces._SECOND_PLATFORM": "there is one platform workspace",
    "credits._ENTRY": "an idempotency key is unique over all workspaces",
    "tokens._TAKEN": "a digest is unique over all workspaces",
    "tokens._PRINCIPAL": "finds the workspace by the full digest of an opaque token",
    "connects._FIND": "finds the workspace by the full digest of an opaque state",
    "portal_sessions._COLUMNS": "the first half of statements that end with their workspace, or with a full digest",
    "portal_sessions._TICKET": "finds the workspace by the full digest of an opaque ticket",
    "portal_sessions._FORGET": "the job that forgets serves all workspaces",
    "portal_sessions._FORGET_TICKETS": "the job that forgets serves all workspaces",
    "late_costs._PLATFORM_KEY": "finds the key of the one workspace that is the platform's",
    "key_readings._COLUMNS": "the first half of statements that end with their workspace",
    "key_readings._LAST_RECEIPT": "receipts are numbered over all workspaces",
    "key_readings._UNREAD": "the job that reads keys serves all workspaces",
    "late_costs._DUE": "the job that asks for lost costs serves all workspaces",
    "connects._FORGET": "the job that forgets serves all workspaces",
    "outbox._COLUMNS": "the first half of statements that end with their workspace, or of the operators' view",
    "outbox._DUE": "the job that sends serves all workspaces",
    "outbox._RELEASE": "a start serves all workspaces",
    "outbox._SKIP_ALL": "the job that finds no channel serves all workspaces",
    "outbox._ANY_WAITING": "the job that finds no channel serves all workspaces",
    "outbox._RETRY": "by the primary key that an operator was shown",
    "outbox._ONE": "by the primary key that an operator was shown",
    "outbox._COUNTS": "the operators' view of the outbox",
    "notices._PAYING": "a changed minimum balance concerns every workspace of a plan",
    "notices._GRACE": "the job that watches grace serves all workspaces",
    "periods.PAUSED_AND_OVER": "the job that begins months serves all workspaces",
    "credentials._DUE": "the job that probes keys serves all workspaces",
    "credits._EXPIRED": "the job that expires lots serves all workspaces",
    "work._COLUMNS": "the first half of statements that end with their workspace, or of the operators' view",
    "work._DUE": "whoever does long work does it for all workspaces",
    "work._STALE_FILES": "the job that deletes files serves all workspaces",
    "work._FORGET": "the job that forgets serves all workspaces",
    "totals._ANY_ACTIVITY": "a start fills in for all workspaces",
    "totals._ANY_LINE": "a start fills in for all workspaces",
    "totals._ALL_RECEIPTS": "a start fills in for all workspaces",
    "restore._END_VISITS": "a restore ends every visit of the old time",
    "restore._DROP_TICKETS": "a restore ends every visit of the old time",
    "restore._END_CONNECTS": "a restore ends every sign-in that was begun",
    "restore._END_BACKUPS": "the deployment's own work",
    "restore._TOKENS": "counts what a restore has made valid again",
    "recovery._OPEN_CALLS": "a start, and the job that expires holds, serve all workspaces",
    "credentials._COLUMNS": "the first half of statements that end with their workspace",
    "workspaces._SELECT": "the first half of statements that end with their workspace",
    "overview._CHAINS": "the operators' view of the audit log",
    "overview._COUNTS": "the operators' counts over all workspaces",
    "overview._ENDS": "the operators' list of all calls",
    "overview._EXPIRED": "the operators' counts over all workspaces",
    "overview._KEYRING": "which master keys the whole deployment needs",
    "overview._OF_CALL": "the operators' search: a call's id finds its workspace",
    "overview._OF_HINT": "the operators' search by the end of a key's hint",
    "overview._OF_PAYMENT": "the operators' search by Stripe's ids",
    "overview._OF_RECEIPT": "the operators' search: a receipt's id finds its workspace",
    "overview._OWN_HEAD": "the deployment's own chain",
    "master_keys._COUNT_ELSEWHERE": "how many data keys hang on an old master key, of all workspaces",
    "master_keys._DEKS": "the look at every sealed row serves all workspaces",
    "master_keys._ELSEWHERE": "the rewrap serves all workspaces",
    "master_keys._HANGING": "how many data keys hang on a master key, of all workspaces",
    "master_keys._IN_USE": "which master keys the deployment needs",
    "master_keys._SEE_ANOTHER": "whether any data key hangs on a master key",
    "overview._PAUSED": "a part of the operators' list and counts",
    "overview._PLACE_AT": "the operators' list of all calls",
    "overview._PLANS": "how many workspaces a plan has",
    "overview._SERVICE_TOKENS": "the deployment's own tokens",
    "overview._TODAY": "the operators' sums over all workspaces",
    "overview._UNDECRYPTABLE": "a part of the operators' list and counts",
    "overview._UNHEALTHY": "a part of the operators' list and counts",
    "overview._UNPRICED": "which models lack a price for anybody",
    "overview._WORKSPACES": "the operators' list of all workspaces",
    "verify_touched._NEWEST": "how far the books have come, two numbers of nobody's",
}
SCOPED = re.compile(
    r"workspace_id = (\?|:\w+)"  # the usual way
    r"|UPDATE workspace SET .* WHERE id = \?|INTO workspace\(|FROM workspace WHERE id = \?"  # the workspace's own row
    r"|w\.id = (\?|:\w+)|w\.external_id = \?", re.DOTALL,
)


def is_scoped(name: str, sql: str) -> bool:
    if name.startswith("verify"):
        # verify reads everything on purpose; it says of each row whose it is.
        return "workspace_id" in sql
    if sql.lstrip().startswith("INSERT"):
        return bool(re.search(r"\((id, |entry_id, n, |hold_id, )?workspace_id|INTO workspace\(", sql))
    return bool(SCOPED.search(sql))


def statements() -> list[tuple[str, str]]:
    found = []
    for path in sorted(FOLDER.glob("*.py")):
        for node in ast.parse(path.read_text()).body:
            name = node.targets[0] if isinstance(node, ast.Assign) else getattr(node, "target", None)
            if isinstance(node, ast.Assign | ast.AnnAssign) and node.value and isinstance(name, ast.Name):
                for part in ast.walk(node.value):
                    if isinstance(part, ast.Constant) and isinstance(part.value, str) \
                            and re.match(r"\s*(SELECT|INSERT|UPDATE|DELETE|WITH)\b", part.value):
                        found.append((f"{path.stem}.{name.id}", part.value))
    return found


def tables(sql: str) -> set[str]:
    named = set(re.findall(r"(?:FROM|JOIN|INTO|UPDATE)\s+([a-z_]+)", sql))
    defined = set(re.findall(r"(?:WITH|,)\s*([a-z_]+) AS \(", sql))
    return named - defined - {"set", "of"}


def test_every_statement_on_a_tenants_table_names_the_workspace() -> None:
    seen = statements()
    assert len(seen) > 80
    loose = {
        name for name, sql in seen
        if tables(sql) - NO_TENANT and not is_scoped(name, sql)
    }
    assert loose - set(EXCEPTIONS) == set()
    assert set(EXCEPTIONS) <= loose, "an exception that is not needed any more"


def test_sql_is_a_named_constant_and_never_built_from_values() -> None:
    """execute() takes a module's constant, a looked-up constant or a PRAGMA written out."""
    for path in FOLDER.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) \
                    and node.func.attr in ("execute", "executemany"):
                assert not isinstance(node.args[0], ast.JoinedStr | ast.BinOp), f"{path.name}:{node.lineno}"


def test_money_modules_know_no_fractions() -> None:
    for name in (
        "holds", "ends", "periods", "ledger_rows", "caps", "credits", "verify", "corrections", "late_costs",
        "key_readings",
    ):
        for node in ast.walk(ast.parse((FOLDER / f"{name}.py").read_text())):
            assert not isinstance(node, ast.Div), name
            assert not (isinstance(node, ast.Name) and node.id in ("float", "round", "Decimal")), name
            assert not (isinstance(node, ast.Constant) and isinstance(node.value, float)), name


def test_tenant_tables_have_a_workspace_that_is_never_null(tmp_path: Path) -> None:
    from ownkey.store.schema import migrate

    conn = sqlite3.connect(tmp_path / "a.db", isolation_level=None)
    migrate(conn)
    for (table,) in conn.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall():
        if table in NO_TENANT or table == "workspace":
            continue
        columns = {row[1]: row for row in conn.execute(f"PRAGMA table_info({table})")}
        assert "workspace_id" in columns, table
        assert columns["workspace_id"][3] or columns["workspace_id"][5], table
    strict = conn.execute("SELECT name FROM pragma_table_list WHERE schema = 'main' AND type = 'table'"
                          " AND NOT strict AND name NOT LIKE 'sqlite_%' AND name <> 'alembic_version'").fetchall()
    conn.close()
    assert strict == []


async def a_booked_life(store: SQLiteStore) -> None:
    ws = await add_workspace(store)
    await store.grant_credits(ws.id, 100, "topup", expires_at_ms=None, idem_key="g", at_ms=NOV, actor=ACTOR)
    for make in (request, credits_request):
        req = make(ws.id, 20_000_000)
        await take(store, req)
        await finish(store, req, settle(req, 10_000_000))


@pytest.mark.parametrize("sql", [
    "UPDATE posting SET amount_credits = 1", "DELETE FROM posting", "UPDATE ledger_entry SET kind = 'x'",
    "DELETE FROM ledger_entry", "UPDATE audit SET action = 'x'", "DELETE FROM audit",
    "UPDATE cap_version SET threshold = 1", "DELETE FROM hold", "DELETE FROM cap_period", "DELETE FROM wallet",
    "UPDATE hold SET state = 'held'", "UPDATE hold SET state = 'released' WHERE state = 'settled'",
    "UPDATE hold SET cost_nusd = 0", "UPDATE hold SET funding = 'byok'", "UPDATE hold SET bound_nusd = 0",
    "UPDATE cap_period SET starts_at_ms = 0", "UPDATE lot SET remaining_credits = -1",
    "UPDATE cap_period SET cap_nusd = 5, held_nusd = 10",
])
async def test_the_database_itself_refuses_to_rewrite_the_books(
    tmp_path: Path, store: SQLiteStore, sql: str
) -> None:
    await a_booked_life(store)
    conn = sqlite3.connect(tmp_path / "ownkey.db")
    with pytest.raises(sqlite3.IntegrityError):
        conn.execute(sql)
    conn.close()


async def test_prices_of_a_version_never_change(tmp_path: Path, store: SQLiteStore) -> None:
    from ownkey.domain.pricing import ModelPrice, Rate

    await store.activate_prices(
        [ModelPrice("openai", "m", {"input": (Rate(0, 5),)}, units={"request": 3})], {}, author="t", at_ms=NOV
    )
    conn = sqlite3.connect(tmp_path / "ownkey.db")
    for sql in (
        "UPDATE price SET nusd_per_million = 1", "DELETE FROM price_version", "UPDATE price_model SET free = 1",
    ):
        with pytest.raises(sqlite3.IntegrityError, match="append-only"):
            conn.execute(sql)
    conn.close()
