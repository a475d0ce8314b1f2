"""Delivery of notices: leases, recipients, order within a group, mute settings, and the balance's crossings."""

from alembic import op

revision = "0010"
down_revision = "0004"
branch_labels = None
depends_on = None

# The row's states gain `skipped` (nobody to send it to, or no such channel), and a CHECK cannot be altered in place.
_OUTBOX = (
    """
    CREATE TABLE outbox_new(
      id INTEGER PRIMARY KEY,
      workspace_id TEXT NOT NULL REFERENCES workspace(id),
      dedupe_key TEXT NOT NULL UNIQUE,
      channel TEXT NOT NULL CHECK (channel IN ('email', 'event')),
      kind TEXT NOT NULL,
      payload TEXT NOT NULL,
      state TEXT NOT NULL DEFAULT 'waiting' CHECK (state IN ('waiting', 'sent', 'failed', 'skipped')),
      attempts INTEGER NOT NULL DEFAULT 0,
      next_at_ms INTEGER NOT NULL,
      created_at_ms INTEGER NOT NULL,
      grp TEXT NOT NULL DEFAULT '',
      leased INTEGER NOT NULL DEFAULT 0 CHECK (leased IN (0, 1)),
      reached INTEGER NOT NULL DEFAULT 0 CHECK (reached >= 0),
      reason TEXT NOT NULL DEFAULT '',
      since_ms INTEGER NOT NULL,
      ended_at_ms INTEGER
    ) STRICT
    """,
    """
    INSERT INTO outbox_new(id, workspace_id, dedupe_key, channel, kind, payload, state, attempts, next_at_ms,
      created_at_ms, since_ms)
    SELECT id, workspace_id, dedupe_key, channel, kind, payload, state, attempts, next_at_ms, created_at_ms,
      created_at_ms FROM outbox
    """,
    "DROP TABLE outbox",
    "ALTER TABLE outbox_new RENAME TO outbox",
    "CREATE INDEX outbox_waiting ON outbox(next_at_ms) WHERE state = 'waiting'",
    "CREATE INDEX outbox_workspace ON outbox(workspace_id, id)",
    "CREATE INDEX outbox_group ON outbox(workspace_id, channel, grp) WHERE state = 'waiting' AND grp <> ''",
    # Who has a row's e-mail already, or can never have it: a second try leaves them alone.
    """
    CREATE TABLE outbox_recipient(
      workspace_id TEXT NOT NULL REFERENCES workspace(id),
      outbox_id INTEGER NOT NULL REFERENCES outbox(id),
      member_id TEXT NOT NULL,
      state TEXT NOT NULL CHECK (state IN ('sent', 'refused')),
      reason TEXT NOT NULL DEFAULT '',
      at_ms INTEGER NOT NULL,
      PRIMARY KEY (workspace_id, outbox_id, member_id)
    ) STRICT, WITHOUT ROWID
    """,
    "ALTER TABLE member ADD COLUMN muted TEXT NOT NULL DEFAULT ''",
    # The plans' minimum balances as configured, so that a crossing is seen in the transaction that moves the balance.
    "CREATE TABLE plan_minimum(plan TEXT PRIMARY KEY, credits INTEGER NOT NULL CHECK (credits > 0)) STRICT",
)

# The JSON is put together by hand: a schema that is not trusted may not call json_object, and ids are ours.
# Whoever moves a balance writes a ledger entry first, in the same transaction: its time and id are the crossing's.
_CROSSING = """
CREATE TRIGGER wallet_{name} AFTER UPDATE OF balance_credits ON wallet
WHEN EXISTS (
  SELECT 1 FROM workspace w JOIN plan_minimum m ON m.plan = w.plan
  WHERE w.id = NEW.workspace_id AND w.entitlement IN ('active', 'cancelling', 'grace') AND {crossed}
    AND (w.always_use_key = 1 OR EXISTS (
      SELECT 1 FROM credential c
      WHERE c.workspace_id = w.id AND c.provider = 'openrouter' AND c.status = 'enabled')))
BEGIN
  INSERT INTO outbox(workspace_id, dedupe_key, channel, kind, payload, next_at_ms, created_at_ms, since_ms, grp)
  SELECT NEW.workspace_id, 'balance:' || NEW.workspace_id || ':' || e.id || ':{name}:' || ch.channel, ch.channel,
    'balance_{name}', '{{"workspace_id":"' || NEW.workspace_id || '","balance_credits":' || NEW.balance_credits
      || ',"minimum_credits":' || m.credits || ',"at":"' || strftime('%Y-%m-%dT%H:%M:%SZ', e.at_ms / 1000, 'unixepoch')
      || '"}}',
    e.at_ms, e.at_ms, e.at_ms, 'balance'
  FROM ledger_entry e
  JOIN workspace w ON w.id = e.workspace_id
  JOIN plan_minimum m ON m.plan = w.plan
  JOIN (SELECT 'email' AS channel UNION ALL SELECT 'event') ch
  WHERE e.workspace_id = NEW.workspace_id
    AND e.id = (SELECT max(id) FROM ledger_entry WHERE workspace_id = NEW.workspace_id)
  ON CONFLICT DO NOTHING;
END
"""


def upgrade() -> None:
    for statement in _OUTBOX:
        op.execute(statement)
    # op.execute would take ':name' in a trigger's text for a parameter.
    bind = op.get_bind()
    for name, crossed in (
        ("low", "OLD.balance_credits >= m.credits AND NEW.balance_credits < m.credits"),
        ("restored", "OLD.balance_credits < m.credits AND NEW.balance_credits >= m.credits"),
    ):
        bind.exec_driver_sql(_CROSSING.format(name=name, crossed=crossed))


def downgrade() -> None:
    raise NotImplementedError("books are not unwritten: restore a backup instead")
