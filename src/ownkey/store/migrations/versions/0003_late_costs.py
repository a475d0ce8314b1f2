"""Costs that were lost with an answer and are asked for later: what to ask, with which credential, and when next."""

from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

_STATEMENTS = (
    """
    CREATE TABLE late_cost(
      hold_id TEXT PRIMARY KEY REFERENCES hold(id),
      workspace_id TEXT NOT NULL REFERENCES workspace(id),
      call_id TEXT NOT NULL,
      generation_id TEXT NOT NULL,
      owner_id TEXT NOT NULL REFERENCES workspace(id),
      credential_id TEXT NOT NULL,
      credential_version INTEGER NOT NULL,
      state TEXT NOT NULL DEFAULT 'waiting' CHECK (state IN ('waiting', 'booked', 'given_up')),
      tries INTEGER NOT NULL DEFAULT 0 CHECK (tries >= 0),
      created_at_ms INTEGER NOT NULL,
      next_at_ms INTEGER NOT NULL,
      reason TEXT NOT NULL DEFAULT ''
    ) STRICT, WITHOUT ROWID
    """,
    "CREATE INDEX late_cost_due ON late_cost(next_at_ms) WHERE state = 'waiting'",
)


def upgrade() -> None:
    for statement in _STATEMENTS:
        op.execute(statement)


def downgrade() -> None:
    raise NotImplementedError("books are not unwritten: restore a backup instead")
