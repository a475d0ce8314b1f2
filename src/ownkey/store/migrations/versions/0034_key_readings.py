"""Readings of what OpenRouter tells about a key, each with what came of its comparison with the books."""

from alembic import op

revision = "0034"
down_revision = "0033"
branch_labels = None
depends_on = None

_STATEMENTS = (
    """
    CREATE TABLE key_reading(
      id INTEGER PRIMARY KEY,
      workspace_id TEXT NOT NULL REFERENCES workspace(id),
      credential_id TEXT NOT NULL,
      credential_version INTEGER NOT NULL CHECK (credential_version >= 1),
      origin TEXT NOT NULL CHECK (origin IN ('daily', 'test', 'save', 'asked')),
      asked_ms INTEGER NOT NULL,
      answered_ms INTEGER NOT NULL,
      usage_nusd INTEGER NOT NULL CHECK (usage_nusd >= 0),
      byok_nusd INTEGER NOT NULL CHECK (byok_nusd >= 0),
      usage_daily_nusd INTEGER,
      usage_weekly_nusd INTEGER,
      usage_monthly_nusd INTEGER,
      byok_daily_nusd INTEGER,
      byok_weekly_nusd INTEGER,
      byok_monthly_nusd INTEGER,
      limit_nusd INTEGER,
      limit_left_nusd INTEGER,
      limit_reset TEXT,
      upto INTEGER NOT NULL CHECK (upto >= 0),
      start TEXT CHECK (start IN ('first', 'replaced', 'shrank', 'clock')),
      series_start_ms INTEGER NOT NULL,
      series_upto INTEGER NOT NULL CHECK (series_upto >= 0),
      series_total_nusd INTEGER NOT NULL,
      series_ours_nusd INTEGER NOT NULL CHECK (series_ours_nusd >= 0),
      series_calls INTEGER NOT NULL CHECK (series_calls >= 0),
      missing_nusd INTEGER NOT NULL CHECK (missing_nusd >= 0),
      since_ms INTEGER,
      grown_nusd INTEGER NOT NULL CHECK (grown_nusd >= 0),
      ours_nusd INTEGER NOT NULL CHECK (ours_nusd >= 0),
      unsure_nusd INTEGER NOT NULL CHECK (unsure_nusd >= 0),
      verdict TEXT NOT NULL CHECK (verdict IN ('started', 'agrees', 'elsewhere', 'drift')),
      off_nusd INTEGER NOT NULL CHECK (off_nusd >= 0),
      accepted_at_ms INTEGER,
      accepted_by TEXT NOT NULL DEFAULT '',
      accepted_reason TEXT NOT NULL DEFAULT '',
      CHECK (asked_ms <= answered_ms),
      CHECK ((start IS NULL) = (since_ms IS NOT NULL)),
      CHECK ((verdict = 'started') = (start IS NOT NULL)),
      CHECK (verdict = 'drift' OR accepted_at_ms IS NULL)
    ) STRICT
    """,
    "CREATE INDEX key_reading_latest ON key_reading(workspace_id, credential_id, id)",
    "CREATE INDEX key_reading_drift ON key_reading(workspace_id) WHERE verdict = 'drift' AND accepted_at_ms IS NULL",
    # What a reading told is evidence: it is never changed, but that somebody has accepted a drift.
    """
    CREATE TRIGGER key_reading_kept BEFORE UPDATE ON key_reading
    WHEN OLD.accepted_at_ms IS NOT NULL OR NEW.verdict <> OLD.verdict OR NEW.off_nusd <> OLD.off_nusd
      OR NEW.usage_nusd <> OLD.usage_nusd OR NEW.byok_nusd <> OLD.byok_nusd OR NEW.ours_nusd <> OLD.ours_nusd
    BEGIN SELECT RAISE(ABORT, 'a reading is never changed'); END
    """,
    """
    CREATE TRIGGER key_reading_stays BEFORE DELETE ON key_reading
    BEGIN SELECT RAISE(ABORT, 'a reading is never removed'); END
    """,
)


def upgrade() -> None:
    for statement in _STATEMENTS:
        op.execute(statement)


def downgrade() -> None:
    raise NotImplementedError("books are not unwritten: restore a backup instead")
