"""Brings a database to this code's schema, or says plainly why it cannot.

The version is read before Alembic is imported: a start on a current database costs one query, not a second.
"""

import sqlite3
from pathlib import Path

from ownkey.domain.errors import StoreError

REVISIONS = ("0001", "0002", "0003", "0004", "0010", "0020", "0030", "0031", "0032", "0033", "0034")
HEAD = REVISIONS[-1]


class TooNew(StoreError):
    """The database was written by a newer version of the code."""


def read_revision(conn: sqlite3.Connection) -> str | None:
    """The revision a database is at; None for an empty one."""
    found = conn.execute("SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = 'alembic_version'").fetchone()
    row = conn.execute("SELECT version_num FROM alembic_version").fetchone() if found else None
    return row[0] if row else None


def migrate(conn: sqlite3.Connection) -> None:
    """Apply the steps that are missing, in one transaction: a kill in the middle leaves the old schema whole."""
    revision = read_revision(conn)
    if revision == HEAD:
        return
    if revision is not None and revision not in REVISIONS:
        raise TooNew(
            f"The database is at schema {revision}, this version of Ownkey knows up to {HEAD}. "
            "Start the newer version, or restore the backup that was made before the upgrade."
        )
    run_alembic(conn)


def run_alembic(conn: sqlite3.Connection, target: str = "head") -> None:
    """Apply the steps up to `target`, all in one transaction."""
    from alembic import command
    from alembic.config import Config
    from sqlalchemy import create_engine, event
    from sqlalchemy.pool import StaticPool

    engine = create_engine("sqlite://", creator=lambda: conn, poolclass=StaticPool)

    @event.listens_for(engine, "begin")
    def begin(connection: object) -> None:
        # Python's driver opens no transaction before DDL by itself; without this, half a schema could stay.
        conn.execute("BEGIN IMMEDIATE")

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    config.set_main_option("path_separator", "os")
    with engine.connect() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, target)
        connection.commit()
    conn.rollback()
