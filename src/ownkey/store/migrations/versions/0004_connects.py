"""Sign-ins at OpenRouter that are under way, and the id by which a caller finds what an answer has cost."""

from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

_STATEMENTS = (
    """
    CREATE TABLE pending_connect(
      id TEXT PRIMARY KEY,
      workspace_id TEXT NOT NULL REFERENCES workspace(id),
      state_sha256 BLOB NOT NULL UNIQUE CHECK (length(state_sha256) = 32),
      actor_kind TEXT NOT NULL,
      actor_id TEXT NOT NULL,
      label TEXT NOT NULL,
      return_url TEXT NOT NULL,
      salt BLOB NOT NULL,
      commitment BLOB NOT NULL,
      nonce BLOB NOT NULL,
      ciphertext BLOB NOT NULL,
      format INTEGER NOT NULL,
      expires_at_ms INTEGER NOT NULL,
      used_at_ms INTEGER
    ) STRICT
    """,
    "CREATE INDEX pending_connect_end ON pending_connect(expires_at_ms)",
    "ALTER TABLE receipt ADD COLUMN generation TEXT",
    # The id that the answer carried; Google's are unique per workspace only by chance, so the index is not.
    "CREATE INDEX receipt_generation ON receipt(workspace_id, generation) WHERE generation IS NOT NULL",
)


def upgrade() -> None:
    for statement in _STATEMENTS:
        op.execute(statement)


def downgrade() -> None:
    raise NotImplementedError("books are not unwritten: restore a backup instead")
