"""Brings a database to this code's schema, or says plainly why it cannot.

The version is read before Alembic is imported: a start on a current database costs one query, not a second.
"""

import sqlite3
from collections.abc import Callable
from pathlib import Path

from ownkey.domain.errors import StoreError
from ownkey.domain.phrases import Phrase
from ownkey.domain.upgrades import Told, UpgradeStep

REVISIONS = ("0001", "0002", "0003", "0004", "0010", "0020", "0030", "0031", "0032", "0033", "0034", "0035")
HEAD = REVISIONS[-1]
COPYING = Phrase("copying it first")


class TooNew(StoreError):
    """The database was written by a newer version of the code."""


def read_revision(conn: sqlite3.Connection) -> str | None:
    """The revision a database is at; None for an empty one."""
    found = conn.execute("SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = 'alembic_version'").fetchone()
    row = conn.execute("SELECT version_num FROM alembic_version").fetchone() if found else None
    return row[0] if row else None


def check_known(revision: str | None) -> None:
    """Raises TooNew for a schema that a newer version wrote."""
    if revision is not None and revision not in REVISIONS:
        raise TooNew(
            f"The database is at schema {revision}, this version of Ownkey knows up to {HEAD}. "
            "Start the newer version, or restore the backup that was made before the upgrade."
        )


def migrate(
    conn: sqlite3.Connection, told: Told | None = None, before: Callable[[str, str], None] | None = None
) -> str | None:
    """Apply the steps that are missing, in one transaction: a kill in the middle leaves the old schema whole.

    Returns the schema that there was before, None for a new database. `told` hears of each step before it begins;
    what it raises undoes them all. `before` is called with (old, new) before the first step of a database that is not
    new: the time to copy it."""
    revision = read_revision(conn)
    check_known(revision)
    if revision == HEAD:
        return revision
    if before is not None and revision is not None:
        _tell(told, revision, 0, COPYING)
        before(revision, HEAD)
    run_alembic(conn, told=told)
    return revision


def _tell(told: Told | None, revision: str | None, n: int, name: str) -> None:
    if told is not None:
        told(UpgradeStep(revision or "", HEAD, n, len(_missing(revision)), name))


def tell_last(told: Told | None, revision: str | None, *, done: bool = False) -> None:
    """What comes behind the steps: new tables are filled from old rows; and then nothing any more."""
    of = len(_missing(revision))
    if told is not None:
        told(UpgradeStep(revision or "", HEAD, of + 1, of, Phrase("filling in what is new"), done))


def _missing(revision: str | None) -> tuple[str, ...]:
    return REVISIONS if revision is None else REVISIONS[REVISIONS.index(revision) + 1:]


def _name_of(revision: str) -> str:
    """The step's own name, as its file has it: "0032_work"."""
    found = sorted((Path(__file__).parent / "migrations" / "versions").glob(f"{revision}_*.py"))
    return found[0].stem if found else revision


def run_alembic(conn: sqlite3.Connection, target: str = "head", told: Told | None = None) -> None:
    """Apply the steps up to `target`, all in one transaction. Raises StoreError where a step fails."""
    from alembic import command
    from alembic.config import Config
    from sqlalchemy import create_engine, event
    from sqlalchemy.exc import SQLAlchemyError
    from sqlalchemy.pool import StaticPool

    engine = create_engine("sqlite://", creator=lambda: conn, poolclass=StaticPool)

    @event.listens_for(engine, "begin")
    def begin(connection: object) -> None:
        # Python's driver opens no transaction before DDL by itself; without this, half a schema could stay.
        conn.execute("BEGIN IMMEDIATE")

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    config.set_main_option("path_separator", "os")
    revision = read_revision(conn)
    coming = list(enumerate(_missing(revision), start=1))

    def tell_next(**_: object) -> None:
        if coming:
            n, name = coming.pop(0)
            _tell(told, revision, n, _name_of(name))

    try:
        with engine.connect() as connection:
            config.attributes["connection"] = connection
            config.attributes["applied"] = tell_next
            tell_next()
            command.upgrade(config, target)
            connection.commit()
    except (SQLAlchemyError, sqlite3.Error) as error:
        cause = getattr(error, "orig", None) or error
        raise StoreError(
            f"The database could not be brought from schema {revision or 'none'} to {HEAD}: {cause}. Nothing was "
            "changed: the version that wrote it still serves it. Look at the disk and the log, and start again."
        ) from error
    finally:
        conn.rollback()
