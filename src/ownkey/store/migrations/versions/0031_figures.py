"""Figures: the shapes of calls, their place in time, daily totals, conversations by month, and the credits statement.

Receipts and ledger entries that are older than these tables are filled in by the store when it opens
(`store.totals.fill_in`): what is derived from a receipt is derived by one function only.
"""

from alembic import op

revision = "0031"
down_revision = "0030"
branch_labels = None
depends_on = None

_AMOUNTS = """
      calls INTEGER NOT NULL, attempts INTEGER NOT NULL, touched_provider INTEGER NOT NULL,
      touched_model INTEGER NOT NULL, touched_basis INTEGER NOT NULL, cost_nusd INTEGER NOT NULL,
      unknown_attempts INTEGER NOT NULL, unknown_calls INTEGER NOT NULL, answered_nusd INTEGER NOT NULL,
      charge_nusd INTEGER NOT NULL, charge_credits INTEGER NOT NULL, absorbed_nusd INTEGER NOT NULL,
      tokens_input INTEGER NOT NULL, tokens_cache_read INTEGER NOT NULL, tokens_cache_write INTEGER NOT NULL,
      tokens_output INTEGER NOT NULL, tokens_reasoning INTEGER NOT NULL
"""

_STATEMENTS = (
    # Everything that people filter calls by, once for all calls that have it in common. '' is none.
    """
    CREATE TABLE shape(
      id INTEGER PRIMARY KEY,
      workspace_id TEXT NOT NULL,
      task TEXT NOT NULL, project TEXT NOT NULL, provider TEXT NOT NULL, funding TEXT NOT NULL,
      outcome TEXT NOT NULL, code TEXT NOT NULL, models TEXT NOT NULL, credentials TEXT NOT NULL,
      traced INTEGER NOT NULL CHECK (traced IN (0, 1))
    ) STRICT
    """,
    """
    CREATE UNIQUE INDEX shape_once
    ON shape(workspace_id, task, project, provider, funding, outcome, code, models, credentials, traced)
    """,
    # The attempts of a call that count as one.
    """
    CREATE TABLE share(
      id INTEGER PRIMARY KEY,
      workspace_id TEXT NOT NULL,
      route TEXT NOT NULL, provider TEXT NOT NULL, model TEXT NOT NULL, credential TEXT NOT NULL, basis TEXT NOT NULL
    ) STRICT
    """,
    "CREATE UNIQUE INDEX share_once ON share(workspace_id, route, provider, model, credential, basis)",
    """
    CREATE TABLE conversation(
      id INTEGER PRIMARY KEY,
      workspace_id TEXT NOT NULL,
      name TEXT NOT NULL,
      last_place INTEGER NOT NULL DEFAULT 0
    ) STRICT
    """,
    "CREATE UNIQUE INDEX conversation_once ON conversation(workspace_id, name)",
    "CREATE INDEX conversation_last ON conversation(workspace_id, last_place)",
    # One narrow row a receipt. `place` orders calls by time and is unique in a workspace (store.totals.place_of).
    """
    CREATE TABLE activity(
      seq INTEGER PRIMARY KEY,
      workspace_id TEXT NOT NULL,
      place INTEGER NOT NULL,
      day INTEGER NOT NULL,
      shape INTEGER NOT NULL,
      conversation INTEGER,
      cost_nusd INTEGER NOT NULL,
      unknown INTEGER NOT NULL CHECK (unknown IN (0, 1)),
      charge_credits INTEGER NOT NULL
    ) STRICT
    """,
    "CREATE INDEX activity_time ON activity(workspace_id, place, shape, day, conversation)",
    "CREATE INDEX activity_shape ON activity(shape, place, day)",
    "CREATE INDEX activity_conversation ON activity(conversation, place) WHERE conversation IS NOT NULL",
    f"""
    CREATE TABLE receipt_share(
      workspace_id TEXT NOT NULL, seq INTEGER NOT NULL, share INTEGER NOT NULL,
      {_AMOUNTS},
      PRIMARY KEY (seq, share)
    ) STRICT, WITHOUT ROWID
    """,
    f"""
    CREATE TABLE day_total(
      workspace_id TEXT NOT NULL, shape INTEGER NOT NULL, day INTEGER NOT NULL, share INTEGER NOT NULL,
      {_AMOUNTS},
      PRIMARY KEY (shape, day, share)
    ) STRICT, WITHOUT ROWID
    """,
    # The same totals by the few things that most pages sum by, so that a month is a few rows whatever its filters are.
    f"""
    CREATE TABLE task_day(
      workspace_id TEXT NOT NULL, day INTEGER NOT NULL, task TEXT NOT NULL, funding TEXT NOT NULL,
      outcome TEXT NOT NULL, share INTEGER NOT NULL,
      {_AMOUNTS},
      PRIMARY KEY (workspace_id, day, task, funding, outcome, share)
    ) STRICT, WITHOUT ROWID
    """,
    f"""
    CREATE TABLE project_day(
      workspace_id TEXT NOT NULL, day INTEGER NOT NULL, project TEXT NOT NULL, funding TEXT NOT NULL,
      outcome TEXT NOT NULL, route TEXT NOT NULL,
      {_AMOUNTS},
      PRIMARY KEY (workspace_id, day, project, funding, outcome, route)
    ) STRICT, WITHOUT ROWID
    """,
    """
    CREATE TABLE conversation_month(
      workspace_id TEXT NOT NULL, conversation INTEGER NOT NULL, month INTEGER NOT NULL,
      calls INTEGER NOT NULL, cost_nusd INTEGER NOT NULL, unknown_calls INTEGER NOT NULL,
      charge_credits INTEGER NOT NULL, last_place INTEGER NOT NULL,
      PRIMARY KEY (conversation, month)
    ) STRICT, WITHOUT ROWID
    """,
    "CREATE INDEX conversation_cost ON conversation_month(workspace_id, month, cost_nusd, charge_credits)",
    # Found by `activity` now.
    "DROP INDEX receipt_conversation",
    # What each entry moved in the workspace's balance, and the balance after it.
    """
    CREATE TABLE statement_line(
      workspace_id TEXT NOT NULL, entry_id INTEGER NOT NULL, credits INTEGER NOT NULL, balance INTEGER NOT NULL,
      PRIMARY KEY (workspace_id, entry_id)
    ) STRICT, WITHOUT ROWID
    """,
    # One kind's movements, page by page: a refund among a million charges is found at once.
    "CREATE INDEX ledger_entry_kind ON ledger_entry(workspace_id, kind, id)",
)


def upgrade() -> None:
    for statement in _STATEMENTS:
        op.execute(statement)


def downgrade() -> None:
    raise NotImplementedError("books are not unwritten: restore a backup instead")
