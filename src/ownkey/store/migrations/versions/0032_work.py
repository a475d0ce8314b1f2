"""Long work as rows: claimed with a lease, told of by a heartbeat, gone on with from a checkpoint."""

from alembic import op

revision = "0032"
down_revision = "0031"
branch_labels = None
depends_on = None

_STATEMENTS = (
    # workspace_id '' is the deployment itself.
    """
    CREATE TABLE work(
      id TEXT PRIMARY KEY,
      workspace_id TEXT NOT NULL,
      kind TEXT NOT NULL,
      state TEXT NOT NULL DEFAULT 'waiting'
        CHECK (state IN ('waiting', 'running', 'done', 'failed', 'cancelled')),
      wish TEXT NOT NULL,
      step TEXT NOT NULL DEFAULT '',
      done INTEGER NOT NULL DEFAULT 0 CHECK (done >= 0),
      total INTEGER CHECK (total >= 0),
      checkpoint TEXT NOT NULL DEFAULT '{}',
      error TEXT NOT NULL DEFAULT '',
      result TEXT NOT NULL DEFAULT '{}',
      file TEXT NOT NULL DEFAULT '',
      started_by TEXT NOT NULL,
      member_id TEXT NOT NULL DEFAULT '',
      created_at_ms INTEGER NOT NULL,
      run_at_ms INTEGER,
      run_done INTEGER NOT NULL DEFAULT 0,
      heartbeat_ms INTEGER,
      ended_at_ms INTEGER,
      boot_id TEXT NOT NULL DEFAULT '',
      lease_until_ms INTEGER NOT NULL DEFAULT 0,
      runs INTEGER NOT NULL DEFAULT 0,
      CHECK ((state IN ('waiting', 'running')) = (ended_at_ms IS NULL))
    ) STRICT, WITHOUT ROWID
    """,
    "CREATE INDEX work_open ON work(created_at_ms) WHERE state IN ('waiting', 'running')",
    "CREATE INDEX work_workspace ON work(workspace_id, created_at_ms)",
    "CREATE INDEX work_files ON work(ended_at_ms) WHERE file <> ''",
    """
    CREATE TRIGGER work_ended BEFORE UPDATE OF state ON work WHEN OLD.state IN ('done', 'failed', 'cancelled')
    BEGIN SELECT RAISE(ABORT, 'work that has ended stays ended'); END
    """,
)


def upgrade() -> None:
    for statement in _STATEMENTS:
        op.execute(statement)


def downgrade() -> None:
    raise NotImplementedError("books are not unwritten: restore a backup instead")
