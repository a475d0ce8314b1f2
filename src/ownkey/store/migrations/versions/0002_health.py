"""Health that outlives a restart: how many probes of a credential have failed, and when it expires by itself."""

from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

_STATEMENTS = (
    "ALTER TABLE credential ADD COLUMN probe_failures INTEGER NOT NULL DEFAULT 0 CHECK (probe_failures >= 0)",
    "ALTER TABLE credential ADD COLUMN expires_at_ms INTEGER",
    "CREATE INDEX credential_due ON credential(next_probe_ms) WHERE health IN ('rejected', 'no_funds')",
    # Nothing was ever suspected before: what is marked as rejected has been announced.
    "UPDATE credential SET probe_failures = 1 WHERE health = 'rejected'",
)


def upgrade() -> None:
    for statement in _STATEMENTS:
        op.execute(statement)


def downgrade() -> None:
    raise NotImplementedError("books are not unwritten: restore a backup instead")
