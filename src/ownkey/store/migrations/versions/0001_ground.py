"""The ground: workspaces, credentials, caps, holds, credits, receipts, and the triggers that guard the money."""

from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

_TABLES = (
    """
    CREATE TABLE instance(
      only_row INTEGER PRIMARY KEY CHECK (only_row = 1),
      id TEXT NOT NULL,
      created_at_ms INTEGER NOT NULL
    ) STRICT
    """,
    """
    CREATE TABLE workspace(
      id TEXT PRIMARY KEY,
      kind TEXT NOT NULL CHECK (kind IN ('tenant', 'platform')),
      name TEXT NOT NULL,
      external_id TEXT NOT NULL,
      plan TEXT NOT NULL,
      status TEXT NOT NULL CHECK (status IN ('active', 'suspended', 'deleted')),
      timezone TEXT NOT NULL,
      entitlement TEXT NOT NULL
        CHECK (entitlement IN ('included', 'none', 'active', 'cancelling', 'grace', 'inactive')),
      grace_until_ms INTEGER,
      always_use_key INTEGER NOT NULL DEFAULT 0 CHECK (always_use_key IN (0, 1)),
      credits_if_key_fails INTEGER NOT NULL CHECK (credits_if_key_fails IN (0, 1)),
      credits_if_key_fails_limit INTEGER CHECK (credits_if_key_fails_limit >= 0),
      on_direct_auth_failure TEXT NOT NULL DEFAULT 'fallback'
        CHECK (on_direct_auth_failure IN ('fallback', 'fail')),
      settings_version INTEGER NOT NULL DEFAULT 1,
      created_at_ms INTEGER NOT NULL
    ) STRICT, WITHOUT ROWID
    """,
    "CREATE UNIQUE INDEX workspace_external ON workspace(external_id) WHERE status <> 'deleted'",
    "CREATE UNIQUE INDEX workspace_platform ON workspace(kind) WHERE kind = 'platform' AND status <> 'deleted'",
    """
    CREATE TABLE dek(
      workspace_id TEXT PRIMARY KEY REFERENCES workspace(id),
      dek_id TEXT NOT NULL,
      kek_id TEXT NOT NULL,
      nonce BLOB NOT NULL,
      ciphertext BLOB NOT NULL
    ) STRICT, WITHOUT ROWID
    """,
    """
    CREATE TABLE project(
      workspace_id TEXT NOT NULL REFERENCES workspace(id),
      id TEXT NOT NULL,
      name TEXT NOT NULL,
      created_at_ms INTEGER NOT NULL,
      PRIMARY KEY (workspace_id, id)
    ) STRICT, WITHOUT ROWID
    """,
    """
    CREATE TABLE member(
      workspace_id TEXT NOT NULL REFERENCES workspace(id),
      id TEXT NOT NULL,
      email TEXT NOT NULL,
      name TEXT NOT NULL,
      role TEXT NOT NULL CHECK (role IN ('owner', 'admin', 'member', 'viewer')),
      PRIMARY KEY (workspace_id, id)
    ) STRICT, WITHOUT ROWID
    """,
    # workspace_id '' is the deployment itself (service and operator tokens, its audit chain): never NULL.
    """
    CREATE TABLE access_token(
      id TEXT PRIMARY KEY,
      workspace_id TEXT NOT NULL,
      digest BLOB NOT NULL UNIQUE CHECK (length(digest) = 32),
      kind TEXT NOT NULL CHECK (kind IN ('service', 'workspace', 'operator')),
      label TEXT NOT NULL,
      last4 TEXT NOT NULL CHECK (length(last4) <= 4),
      scopes TEXT NOT NULL,
      tasks TEXT NOT NULL,
      projects TEXT NOT NULL,
      created_at_ms INTEGER NOT NULL,
      expires_at_ms INTEGER,
      revoked_at_ms INTEGER,
      CHECK ((kind = 'workspace') = (workspace_id <> ''))
    ) STRICT
    """,
    "CREATE INDEX access_token_workspace ON access_token(workspace_id, created_at_ms)",
    """
    CREATE TABLE credential(
      id TEXT PRIMARY KEY,
      workspace_id TEXT NOT NULL REFERENCES workspace(id),
      provider TEXT NOT NULL,
      version INTEGER NOT NULL CHECK (version >= 1),
      origin TEXT NOT NULL,
      hint TEXT NOT NULL,
      label TEXT NOT NULL,
      status TEXT NOT NULL CHECK (status IN ('enabled', 'disabled')),
      health TEXT NOT NULL CHECK (health IN ('unknown', 'ok', 'rejected', 'no_funds')),
      salt BLOB NOT NULL,
      commitment BLOB NOT NULL,
      nonce BLOB NOT NULL,
      ciphertext BLOB NOT NULL,
      format INTEGER NOT NULL,
      fingerprint BLOB NOT NULL,
      created_at_ms INTEGER NOT NULL,
      undecryptable INTEGER NOT NULL DEFAULT 0 CHECK (undecryptable IN (0, 1)),
      health_signal TEXT NOT NULL DEFAULT '',
      health_at_ms INTEGER NOT NULL DEFAULT 0,
      next_probe_ms INTEGER NOT NULL DEFAULT 0,
      UNIQUE (workspace_id, provider)
    ) STRICT
    """,
    """
    CREATE TABLE incident(
      id INTEGER PRIMARY KEY,
      workspace_id TEXT NOT NULL REFERENCES workspace(id),
      credential_id TEXT NOT NULL,
      provider TEXT NOT NULL,
      cause TEXT NOT NULL,
      signal TEXT NOT NULL,
      opened_at_ms INTEGER NOT NULL,
      closed_at_ms INTEGER
    ) STRICT
    """,
    "CREATE UNIQUE INDEX incident_open ON incident(workspace_id, credential_id) WHERE closed_at_ms IS NULL",
    """
    CREATE TABLE feature(
      workspace_id TEXT NOT NULL REFERENCES workspace(id),
      task TEXT NOT NULL,
      switched_on INTEGER NOT NULL CHECK (switched_on IN (0, 1)),
      settings TEXT NOT NULL,
      PRIMARY KEY (workspace_id, task)
    ) STRICT, WITHOUT ROWID
    """,
    """
    CREATE TABLE cap_version(
      workspace_id TEXT NOT NULL REFERENCES workspace(id),
      version INTEGER NOT NULL CHECK (version >= 1),
      cap_nusd INTEGER CHECK (cap_nusd >= 0),
      threshold INTEGER NOT NULL CHECK (threshold BETWEEN 1 AND 100),
      actor TEXT NOT NULL,
      at_ms INTEGER NOT NULL,
      period_key TEXT,
      used_nusd INTEGER NOT NULL DEFAULT 0 CHECK (used_nusd >= 0),
      PRIMARY KEY (workspace_id, version)
    ) STRICT, WITHOUT ROWID
    """,
    """
    CREATE TABLE cap_period(
      id INTEGER PRIMARY KEY,
      workspace_id TEXT NOT NULL REFERENCES workspace(id),
      period_key TEXT NOT NULL,
      starts_at_ms INTEGER NOT NULL,
      ends_at_ms INTEGER NOT NULL,
      timezone TEXT NOT NULL,
      cap_version INTEGER NOT NULL,
      cap_nusd INTEGER CHECK (cap_nusd >= 0),
      threshold INTEGER NOT NULL CHECK (threshold BETWEEN 1 AND 100),
      spent_nusd INTEGER NOT NULL DEFAULT 0 CHECK (spent_nusd >= 0),
      held_nusd INTEGER NOT NULL DEFAULT 0 CHECK (held_nusd >= 0),
      leased_nusd INTEGER NOT NULL DEFAULT 0 CHECK (leased_nusd >= 0),
      overage_nusd INTEGER NOT NULL DEFAULT 0 CHECK (overage_nusd >= 0),
      state TEXT NOT NULL DEFAULT 'active' CHECK (state IN ('active', 'paused')),
      pause_reason TEXT CHECK (pause_reason IN ('reached', 'no_room')),
      UNIQUE (workspace_id, period_key),
      CHECK (starts_at_ms < ends_at_ms),
      CHECK ((state = 'paused') = (pause_reason IS NOT NULL))
    ) STRICT
    """,
    """
    CREATE TABLE hold(
      id TEXT PRIMARY KEY,
      workspace_id TEXT NOT NULL REFERENCES workspace(id),
      call_id TEXT NOT NULL,
      attempt INTEGER NOT NULL,
      funding TEXT NOT NULL CHECK (funding IN ('byok', 'credits')),
      period_id INTEGER REFERENCES cap_period(id),
      bound_nusd INTEGER NOT NULL CHECK (bound_nusd >= 0),
      bound_credits INTEGER NOT NULL CHECK (bound_credits >= 0),
      priced INTEGER NOT NULL CHECK (priced IN (0, 1)),
      price_version INTEGER NOT NULL,
      credit_price_nusd INTEGER NOT NULL,
      markup_bps INTEGER NOT NULL,
      key_period TEXT,
      after_audit INTEGER,
      boot_id TEXT NOT NULL,
      created_at_ms INTEGER NOT NULL,
      expires_at_ms INTEGER NOT NULL,
      state TEXT NOT NULL DEFAULT 'held' CHECK (state IN ('held', 'settled', 'released', 'expired')),
      basis TEXT CHECK (basis IN ('actual', 'computed', 'estimated', 'none', 'unknown')),
      cost_nusd INTEGER CHECK (cost_nusd >= 0),
      charge_nusd INTEGER NOT NULL DEFAULT 0 CHECK (charge_nusd >= 0),
      charge_credits INTEGER NOT NULL DEFAULT 0 CHECK (charge_credits >= 0),
      absorbed_nusd INTEGER NOT NULL DEFAULT 0 CHECK (absorbed_nusd >= 0),
      maybe_billed INTEGER NOT NULL DEFAULT 0 CHECK (maybe_billed IN (0, 1)),
      delivered_bytes INTEGER NOT NULL DEFAULT 0 CHECK (delivered_bytes >= 0),
      low_cost_nusd INTEGER NOT NULL DEFAULT 0 CHECK (low_cost_nusd >= 0),
      ended_at_ms INTEGER,
      context TEXT,
      UNIQUE (call_id, attempt),
      CHECK (charge_credits <= bound_credits),
      CHECK ((funding = 'credits') = (period_id IS NULL)),
      CHECK ((funding = 'credits') = (after_audit IS NOT NULL)),
      CHECK ((state = 'held') = (ended_at_ms IS NULL)),
      CHECK (state <> 'held' OR context IS NOT NULL)
    ) STRICT, WITHOUT ROWID
    """,
    # Open business: held, or the first attempt of a call that has no receipt yet. Few rows, whatever the age.
    "CREATE INDEX hold_open ON hold(expires_at_ms) WHERE context IS NOT NULL",
    """
    CREATE TABLE correction(
      hold_id TEXT PRIMARY KEY REFERENCES hold(id),
      workspace_id TEXT NOT NULL,
      cost_delta_nusd INTEGER NOT NULL,
      charge_delta_nusd INTEGER NOT NULL CHECK (charge_delta_nusd <= 0),
      credits_delta INTEGER NOT NULL CHECK (credits_delta <= 0),
      origin TEXT NOT NULL,
      at_ms INTEGER NOT NULL
    ) STRICT, WITHOUT ROWID
    """,
    """
    CREATE TABLE wallet(
      workspace_id TEXT PRIMARY KEY REFERENCES workspace(id),
      balance_credits INTEGER NOT NULL DEFAULT 0,
      held_credits INTEGER NOT NULL DEFAULT 0 CHECK (held_credits >= 0),
      carry_nusd INTEGER NOT NULL DEFAULT 0 CHECK (carry_nusd >= 0)
    ) STRICT, WITHOUT ROWID
    """,
    """
    CREATE TABLE key_failure_limit(
      workspace_id TEXT NOT NULL REFERENCES workspace(id),
      period_key TEXT NOT NULL,
      limit_credits INTEGER CHECK (limit_credits >= 0),
      used_credits INTEGER NOT NULL DEFAULT 0 CHECK (used_credits >= 0),
      held_credits INTEGER NOT NULL DEFAULT 0 CHECK (held_credits >= 0),
      PRIMARY KEY (workspace_id, period_key)
    ) STRICT, WITHOUT ROWID
    """,
    """
    CREATE TABLE lot(
      id INTEGER PRIMARY KEY,
      workspace_id TEXT NOT NULL REFERENCES workspace(id),
      origin TEXT NOT NULL CHECK (origin IN ('plan', 'topup', 'promo', 'operator')),
      granted_credits INTEGER NOT NULL CHECK (granted_credits > 0),
      remaining_credits INTEGER NOT NULL CHECK (remaining_credits >= 0),
      expires_at_ms INTEGER,
      created_at_ms INTEGER NOT NULL,
      CHECK (remaining_credits <= granted_credits)
    ) STRICT
    """,
    "CREATE INDEX lot_open ON lot(workspace_id, expires_at_ms) WHERE remaining_credits > 0",
    """
    CREATE TABLE ledger_entry(
      id INTEGER PRIMARY KEY,
      workspace_id TEXT NOT NULL REFERENCES workspace(id),
      idem_key TEXT NOT NULL UNIQUE,
      kind TEXT NOT NULL,
      hold_id TEXT REFERENCES hold(id),
      actor TEXT NOT NULL,
      at_ms INTEGER NOT NULL
    ) STRICT
    """,
    "CREATE INDEX ledger_entry_workspace ON ledger_entry(workspace_id, id)",
    """
    CREATE TABLE posting(
      entry_id INTEGER NOT NULL REFERENCES ledger_entry(id),
      n INTEGER NOT NULL,
      workspace_id TEXT NOT NULL,
      source TEXT NOT NULL,
      destination TEXT NOT NULL,
      amount_credits INTEGER NOT NULL CHECK (amount_credits > 0),
      PRIMARY KEY (entry_id, n),
      CHECK (source <> destination)
    ) STRICT, WITHOUT ROWID
    """,
    """
    CREATE TABLE alert(
      workspace_id TEXT NOT NULL REFERENCES workspace(id),
      period_id INTEGER NOT NULL REFERENCES cap_period(id),
      cap_version INTEGER NOT NULL,
      threshold INTEGER NOT NULL CHECK (threshold BETWEEN 1 AND 100),
      state TEXT NOT NULL CHECK (state IN ('due', 'silent')),
      cap_nusd INTEGER NOT NULL,
      spent_nusd INTEGER NOT NULL,
      reason TEXT,
      at_ms INTEGER NOT NULL,
      PRIMARY KEY (workspace_id, period_id, cap_version, threshold)
    ) STRICT, WITHOUT ROWID
    """,
    """
    CREATE TABLE outbox(
      id INTEGER PRIMARY KEY,
      workspace_id TEXT NOT NULL REFERENCES workspace(id),
      dedupe_key TEXT NOT NULL UNIQUE,
      channel TEXT NOT NULL CHECK (channel IN ('email', 'event')),
      kind TEXT NOT NULL,
      payload TEXT NOT NULL,
      state TEXT NOT NULL DEFAULT 'waiting' CHECK (state IN ('waiting', 'sent', 'failed')),
      attempts INTEGER NOT NULL DEFAULT 0,
      next_at_ms INTEGER NOT NULL,
      created_at_ms INTEGER NOT NULL
    ) STRICT
    """,
    "CREATE INDEX outbox_waiting ON outbox(next_at_ms) WHERE state = 'waiting'",
    "CREATE INDEX outbox_workspace ON outbox(workspace_id, id)",
    """
    CREATE TABLE receipt(
      seq INTEGER PRIMARY KEY,
      id TEXT NOT NULL UNIQUE,
      workspace_id TEXT NOT NULL,
      at_ms INTEGER NOT NULL,
      task TEXT,
      model TEXT,
      provider TEXT,
      funding TEXT,
      code TEXT,
      conversation TEXT,
      project TEXT,
      basis TEXT NOT NULL,
      cost_nusd INTEGER,
      charge_credits INTEGER NOT NULL,
      interrupted INTEGER NOT NULL DEFAULT 0 CHECK (interrupted IN (0, 1)),
      doc TEXT NOT NULL
    ) STRICT
    """,
    "CREATE INDEX receipt_time ON receipt(workspace_id, at_ms, id)",
    """
    CREATE INDEX receipt_conversation ON receipt(workspace_id, conversation, at_ms) WHERE conversation IS NOT NULL
    """,
    """
    CREATE TABLE price_version(
      id INTEGER PRIMARY KEY,
      created_at_ms INTEGER NOT NULL,
      created_by TEXT NOT NULL,
      sha256 TEXT NOT NULL,
      aliases TEXT NOT NULL
    ) STRICT
    """,
    """
    CREATE TABLE price_model(
      version INTEGER NOT NULL REFERENCES price_version(id),
      provider TEXT NOT NULL,
      model TEXT NOT NULL,
      free INTEGER NOT NULL CHECK (free IN (0, 1)),
      context_window INTEGER,
      max_output_tokens INTEGER,
      source TEXT NOT NULL,
      PRIMARY KEY (version, provider, model)
    ) STRICT, WITHOUT ROWID
    """,
    """
    CREATE TABLE price(
      version INTEGER NOT NULL REFERENCES price_version(id),
      provider TEXT NOT NULL,
      model TEXT NOT NULL,
      dimension TEXT NOT NULL,
      min_input_tokens INTEGER NOT NULL DEFAULT 0,
      service_tier TEXT NOT NULL DEFAULT '',
      nusd_per_million INTEGER CHECK (nusd_per_million >= 0),
      nusd_per_unit INTEGER CHECK (nusd_per_unit >= 0),
      PRIMARY KEY (version, provider, model, dimension, min_input_tokens, service_tier),
      CHECK ((nusd_per_million IS NULL) <> (nusd_per_unit IS NULL))
    ) STRICT, WITHOUT ROWID
    """,
    """
    CREATE TABLE overage_flag(
      provider TEXT NOT NULL,
      model TEXT NOT NULL,
      price_version INTEGER NOT NULL,
      hold_id TEXT NOT NULL,
      at_ms INTEGER NOT NULL,
      PRIMARY KEY (provider, model, price_version)
    ) STRICT, WITHOUT ROWID
    """,
    """
    CREATE TABLE audit(
      seq INTEGER PRIMARY KEY,
      workspace_id TEXT NOT NULL,
      n INTEGER NOT NULL CHECK (n >= 1),
      at_ms INTEGER NOT NULL,
      actor_kind TEXT NOT NULL,
      actor_id TEXT NOT NULL,
      action TEXT NOT NULL,
      target TEXT NOT NULL,
      before TEXT,
      after TEXT,
      prev BLOB NOT NULL,
      mac BLOB NOT NULL,
      UNIQUE (workspace_id, n)
    ) STRICT
    """,
    """
    CREATE TABLE audit_head(
      workspace_id TEXT PRIMARY KEY,
      n INTEGER NOT NULL,
      mac BLOB NOT NULL
    ) STRICT, WITHOUT ROWID
    """,
    # The scope is the principal that sent the key, of the deployment or of a workspace.
    """
    CREATE TABLE idempotency(
      scope TEXT NOT NULL,
      key TEXT NOT NULL,
      request_sha256 BLOB NOT NULL,
      status INTEGER,
      body BLOB NOT NULL,
      at_ms INTEGER NOT NULL,
      PRIMARY KEY (scope, key)
    ) STRICT, WITHOUT ROWID
    """,
)

_APPEND_ONLY = (
    "posting", "ledger_entry", "correction", "audit", "cap_version", "price_version", "price_model", "price",
)

_TRIGGERS = (
    # The payer firewall, told by the database itself: whatever the code above it believes.
    """
    CREATE TRIGGER hold_always BEFORE INSERT ON hold
    WHEN NEW.funding = 'credits'
      AND (SELECT always_use_key FROM workspace WHERE id = NEW.workspace_id) IS NOT 0
    BEGIN SELECT RAISE(ABORT, 'Always use this key is on: no hold may take credits'); END
    """,
    """
    CREATE TRIGGER hold_once BEFORE UPDATE OF state ON hold WHEN OLD.state <> 'held'
    BEGIN SELECT RAISE(ABORT, 'a hold has one terminal state'); END
    """,
    """
    CREATE TRIGGER hold_identity BEFORE UPDATE OF
      id, workspace_id, call_id, attempt, funding, period_id, bound_nusd, bound_credits, priced, price_version,
      credit_price_nusd, markup_bps, key_period, after_audit, boot_id, created_at_ms ON hold
    BEGIN SELECT RAISE(ABORT, 'what a hold is for never changes'); END
    """,
    """
    CREATE TRIGGER hold_booked BEFORE UPDATE OF
      cost_nusd, charge_nusd, charge_credits, absorbed_nusd, basis ON hold WHEN OLD.state <> 'held'
    BEGIN SELECT RAISE(ABORT, 'what a hold booked never changes; a correction is a row of its own'); END
    """,
    "CREATE TRIGGER hold_kept BEFORE DELETE ON hold BEGIN SELECT RAISE(ABORT, 'holds are kept'); END",
    """
    CREATE TRIGGER cap_law BEFORE UPDATE OF held_nusd, leased_nusd ON cap_period
    WHEN NEW.cap_nusd IS NOT NULL AND NEW.held_nusd + NEW.leased_nusd > OLD.held_nusd + OLD.leased_nusd
      AND NEW.held_nusd + NEW.leased_nusd > NEW.cap_nusd - NEW.spent_nusd
    BEGIN SELECT RAISE(ABORT, 'spent + held + leased may not pass the cap'); END
    """,
    """
    CREATE TRIGGER cap_period_identity BEFORE UPDATE OF
      id, workspace_id, period_key, starts_at_ms, ends_at_ms, timezone ON cap_period
    BEGIN SELECT RAISE(ABORT, 'a period never moves'); END
    """,
    "CREATE TRIGGER cap_period_kept BEFORE DELETE ON cap_period BEGIN SELECT RAISE(ABORT, 'periods are kept'); END",
    "CREATE TRIGGER alert_kept BEFORE DELETE ON alert BEGIN SELECT RAISE(ABORT, 'alerts are kept'); END",
    "CREATE TRIGGER lot_kept BEFORE DELETE ON lot BEGIN SELECT RAISE(ABORT, 'lots are kept'); END",
    "CREATE TRIGGER wallet_kept BEFORE DELETE ON wallet BEGIN SELECT RAISE(ABORT, 'wallets are kept'); END",
)


def upgrade() -> None:
    for statement in _TABLES:
        op.execute(statement)
    for table in _APPEND_ONLY:
        for verb in ("UPDATE", "DELETE"):
            op.execute(
                f"CREATE TRIGGER {table}_no_{verb.lower()} BEFORE {verb} ON {table} "
                f"BEGIN SELECT RAISE(ABORT, '{table} is append-only'); END"
            )
    for statement in _TRIGGERS:
        op.execute(statement)


def downgrade() -> None:
    raise NotImplementedError("books are not unwritten: restore a backup instead")
