"""A new database as its first start leaves it: migrated once a test process, copied where a test begins with one."""

import sqlite3
import tempfile
from functools import cache
from pathlib import Path

from ownkey.store.schema import migrate


@cache
def _template() -> bytes:
    with tempfile.TemporaryDirectory(prefix="ownkey-template-") as folder:
        path = Path(folder) / "ownkey.db"
        conn = sqlite3.connect(path, isolation_level=None)
        migrate(conn)
        conn.close()
        return path.read_bytes()


def lay_database(path: Path) -> Path:
    """Put the copy there, unless there is a database already; the steps that make it have tests of their own."""
    if not path.exists():
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        path.write_bytes(_template())
        path.chmod(0o600)
    return path
