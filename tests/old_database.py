"""A database as an older version of Ownkey left it, with a workspace in it."""

import sqlite3
from pathlib import Path

from ownkey.store.schema import REVISIONS, run_alembic

OLD = "0020"
COMING = REVISIONS[REVISIONS.index(OLD) + 1:]
"""The steps that bring it up to date."""


def lay_old_database(path: Path) -> Path:
    conn = sqlite3.connect(path, isolation_level=None)
    run_alembic(conn, OLD)
    conn.execute("PRAGMA journal_mode = WAL")
    conn.execute("INSERT INTO instance(only_row, id, created_at_ms) VALUES (1, 'inst_old', 0)")
    conn.execute(
        "INSERT INTO workspace(id, kind, name, external_id, plan, status, timezone, entitlement, credits_if_key_fails, "
        "created_at_ms) VALUES ('ws_old', 'tenant', 'Acme', 'acme', '', 'active', 'UTC', 'included', 0, 0)"
    )
    conn.execute("INSERT INTO wallet(workspace_id) VALUES ('ws_old')")
    conn.close()
    path.chmod(0o600)
    return path
