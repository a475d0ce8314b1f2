"""Master keys as the deployment remembers them, and which running process has loaded which."""

from alembic import op

revision = "0035"
down_revision = "0034"
branch_labels = None
depends_on = None

_STATEMENTS = (
    # No byte of a key is here: a fingerprint tells two keys of one name apart, and nothing else.
    """
    CREATE TABLE master_key(
      kek_id TEXT PRIMARY KEY,
      fingerprint TEXT NOT NULL CHECK (length(fingerprint) = 16),
      first_seen_ms INTEGER NOT NULL,
      retired_at_ms INTEGER,
      is_primary INTEGER NOT NULL DEFAULT 0 CHECK (is_primary IN (0, 1)),
      CHECK (is_primary = 0 OR retired_at_ms IS NULL)
    ) STRICT, WITHOUT ROWID
    """,
    "CREATE UNIQUE INDEX master_key_primary ON master_key(is_primary) WHERE is_primary = 1",
    """
    CREATE TABLE key_process(
      boot_id TEXT PRIMARY KEY,
      host TEXT NOT NULL,
      pid INTEGER NOT NULL,
      started_at_ms INTEGER NOT NULL,
      beat_at_ms INTEGER NOT NULL,
      keys TEXT NOT NULL,
      problem TEXT NOT NULL DEFAULT ''
    ) STRICT, WITHOUT ROWID
    """,
    "CREATE INDEX dek_kek ON dek(kek_id)",
    # A key that was retired wraps nothing any more, whoever was in the middle of what: its line may be gone already.
    """
    CREATE TRIGGER dek_not_on_a_retired_key BEFORE INSERT ON dek
    WHEN EXISTS (SELECT 1 FROM master_key WHERE kek_id = NEW.kek_id AND retired_at_ms IS NOT NULL)
    BEGIN SELECT RAISE(ABORT, 'this master key was retired'); END
    """,
    """
    CREATE TRIGGER dek_not_back_on_a_retired_key BEFORE UPDATE OF kek_id ON dek
    WHEN EXISTS (SELECT 1 FROM master_key WHERE kek_id = NEW.kek_id AND retired_at_ms IS NOT NULL)
    BEGIN SELECT RAISE(ABORT, 'this master key was retired'); END
    """,
)


def upgrade() -> None:
    for statement in _STATEMENTS:
        op.execute(statement)


def downgrade() -> None:
    raise NotImplementedError("books are not unwritten: restore a backup instead")
