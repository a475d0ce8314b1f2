"""Visits to the pages: who may look at which workspace, from a link that works once to the end of the session."""

from alembic import op

revision = "0030"
down_revision = "0020"
branch_labels = None
depends_on = None

_STATEMENTS = (
    # One row is a link and the visit that it opens: a code without its visit, or the other way round, cannot be.
    """
    CREATE TABLE portal_session(
      id TEXT PRIMARY KEY,
      workspace_id TEXT NOT NULL REFERENCES workspace(id),
      kind TEXT NOT NULL CHECK (kind IN ('member', 'view_as')),
      member_id TEXT NOT NULL,
      member_name TEXT NOT NULL,
      member_email TEXT NOT NULL,
      role TEXT NOT NULL,
      mode TEXT NOT NULL CHECK (mode IN ('page', 'frame')),
      pages TEXT NOT NULL,
      flow TEXT NOT NULL,
      theme TEXT NOT NULL,
      locale TEXT NOT NULL,
      return_url TEXT NOT NULL,
      refresh_url TEXT NOT NULL,
      origin TEXT NOT NULL,
      minted_kind TEXT NOT NULL,
      minted_by TEXT NOT NULL,
      code_sha256 BLOB NOT NULL UNIQUE CHECK (length(code_sha256) = 32),
      code_expires_at_ms INTEGER NOT NULL,
      secret_sha256 BLOB UNIQUE CHECK (length(secret_sha256) = 32),
      created_at_ms INTEGER NOT NULL,
      entered_at_ms INTEGER,
      expires_at_ms INTEGER NOT NULL,
      ended_at_ms INTEGER,
      end_reason TEXT,
      CHECK ((entered_at_ms IS NULL) = (secret_sha256 IS NULL)),
      CHECK ((ended_at_ms IS NULL) = (end_reason IS NULL))
    ) STRICT
    """,
    "CREATE INDEX portal_session_workspace ON portal_session(workspace_id, expires_at_ms)",
    "CREATE INDEX portal_session_end ON portal_session(expires_at_ms)",
    """
    CREATE TABLE portal_ticket(
      digest BLOB PRIMARY KEY CHECK (length(digest) = 32),
      workspace_id TEXT NOT NULL REFERENCES workspace(id),
      session_id TEXT NOT NULL REFERENCES portal_session(id) ON DELETE CASCADE,
      path TEXT NOT NULL,
      expires_at_ms INTEGER NOT NULL,
      used_at_ms INTEGER
    ) STRICT
    """,
    "CREATE INDEX portal_ticket_session ON portal_ticket(session_id)",
)


def upgrade() -> None:
    for statement in _STATEMENTS:
        op.execute(statement)


def downgrade() -> None:
    raise NotImplementedError("books are not unwritten: restore a backup instead")
