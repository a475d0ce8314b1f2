"""Operators: who they are, how they prove it, their visits, and what failed. All of it is the deployment's own."""

from alembic import op

revision = "0033"
down_revision = "0032"
branch_labels = None
depends_on = None

_STATEMENTS = (
    # A seed is there whole or not at all; nobody has a password without a second factor.
    """
    CREATE TABLE operator(
      id TEXT PRIMARY KEY,
      email TEXT NOT NULL UNIQUE,
      name TEXT NOT NULL,
      role TEXT NOT NULL CHECK (role IN ('support', 'ops')),
      disabled INTEGER NOT NULL DEFAULT 0 CHECK (disabled IN (0, 1)),
      password_hash TEXT,
      totp_salt BLOB,
      totp_commitment BLOB,
      totp_nonce BLOB,
      totp_ciphertext BLOB,
      totp_format INTEGER,
      totp_last_step INTEGER NOT NULL DEFAULT -1,
      oidc_issuer TEXT NOT NULL DEFAULT '',
      oidc_subject TEXT NOT NULL DEFAULT '',
      shortcuts INTEGER NOT NULL DEFAULT 1 CHECK (shortcuts IN (0, 1)),
      created_at_ms INTEGER NOT NULL,
      last_sign_in_at_ms INTEGER,
      CHECK ((password_hash IS NULL) = (totp_ciphertext IS NULL)),
      CHECK ((totp_ciphertext IS NULL) = (totp_salt IS NULL AND totp_commitment IS NULL AND totp_nonce IS NULL
        AND totp_format IS NULL)),
      CHECK ((oidc_issuer = '') = (oidc_subject = ''))
    ) STRICT
    """,
    "CREATE UNIQUE INDEX operator_subject ON operator(oidc_issuer, oidc_subject) WHERE oidc_subject <> ''",
    # One link at a time; what its opener has chosen waits here until a first code proves that the app has the seed.
    """
    CREATE TABLE operator_link(
      operator_id TEXT PRIMARY KEY REFERENCES operator(id),
      digest BLOB NOT NULL UNIQUE CHECK (length(digest) = 32),
      expires_at_ms INTEGER NOT NULL,
      used_at_ms INTEGER,
      password_hash TEXT,
      totp_salt BLOB,
      totp_commitment BLOB,
      totp_nonce BLOB,
      totp_ciphertext BLOB,
      totp_format INTEGER
    ) STRICT
    """,
    """
    CREATE TABLE operator_recovery(
      operator_id TEXT NOT NULL REFERENCES operator(id),
      digest BLOB NOT NULL CHECK (length(digest) = 32),
      used_at_ms INTEGER,
      PRIMARY KEY (operator_id, digest)
    ) STRICT, WITHOUT ROWID
    """,
    # A right password that waits for its code.
    """
    CREATE TABLE operator_step(
      digest BLOB PRIMARY KEY CHECK (length(digest) = 32),
      operator_id TEXT NOT NULL REFERENCES operator(id),
      expires_at_ms INTEGER NOT NULL
    ) STRICT, WITHOUT ROWID
    """,
    "CREATE INDEX operator_step_of ON operator_step(operator_id)",
    """
    CREATE TABLE operator_session(
      id TEXT PRIMARY KEY,
      digest BLOB NOT NULL UNIQUE CHECK (length(digest) = 32),
      operator_id TEXT NOT NULL REFERENCES operator(id),
      via TEXT NOT NULL CHECK (via IN ('password', 'oidc')),
      address TEXT NOT NULL,
      created_at_ms INTEGER NOT NULL,
      idle_until_ms INTEGER NOT NULL,
      absolute_until_ms INTEGER NOT NULL,
      fresh_until_ms INTEGER NOT NULL,
      ended_at_ms INTEGER,
      end_reason TEXT,
      CHECK ((ended_at_ms IS NULL) = (end_reason IS NULL))
    ) STRICT
    """,
    "CREATE INDEX operator_session_of ON operator_session(operator_id) WHERE ended_at_ms IS NULL",
    "CREATE INDEX operator_session_live ON operator_session(idle_until_ms) WHERE ended_at_ms IS NULL",
    "CREATE INDEX operator_session_old ON operator_session(ended_at_ms) WHERE ended_at_ms IS NOT NULL",
    # Attempts to sign in, by what they are counted under, an account and an address; the typed text itself is not kept.
    # An attempt at a name that nobody has leaves the same row as any other, so that it costs the same.
    """
    CREATE TABLE operator_attempt(
      id TEXT PRIMARY KEY,
      account BLOB NOT NULL CHECK (length(account) = 32),
      address BLOB NOT NULL CHECK (length(address) = 32),
      shown_address TEXT NOT NULL,
      at_ms INTEGER NOT NULL,
      operator_id TEXT NOT NULL DEFAULT '',
      stage TEXT NOT NULL DEFAULT '',
      failed INTEGER NOT NULL DEFAULT 0 CHECK (failed IN (0, 1)),
      forgiven INTEGER NOT NULL DEFAULT 0 CHECK (forgiven IN (0, 1)),
      told INTEGER NOT NULL DEFAULT 0 CHECK (told IN (0, 1))
    ) STRICT, WITHOUT ROWID
    """,
    "CREATE INDEX operator_attempt_account ON operator_attempt(account, at_ms)",
    "CREATE INDEX operator_attempt_address ON operator_attempt(address, at_ms)",
    "CREATE INDEX operator_attempt_old ON operator_attempt(at_ms)",
    """
    CREATE TABLE operator_lock(
      counted BLOB PRIMARY KEY CHECK (length(counted) = 32),
      what TEXT NOT NULL CHECK (what IN ('account', 'address')),
      operator_id TEXT NOT NULL,
      shown_address TEXT NOT NULL,
      at_ms INTEGER NOT NULL,
      until_ms INTEGER NOT NULL,
      told INTEGER NOT NULL DEFAULT 0 CHECK (told IN (0, 1))
    ) STRICT, WITHOUT ROWID
    """,
    # States of sign-ins at a provider that have come back: each comes back once.
    """
    CREATE TABLE operator_state(
      digest BLOB PRIMARY KEY CHECK (length(digest) = 32),
      expires_at_ms INTEGER NOT NULL
    ) STRICT, WITHOUT ROWID
    """,
    """
    CREATE TABLE operator_filter(
      operator_id TEXT NOT NULL REFERENCES operator(id),
      name TEXT NOT NULL,
      query TEXT NOT NULL,
      created_at_ms INTEGER NOT NULL,
      PRIMARY KEY (operator_id, name)
    ) STRICT, WITHOUT ROWID
    """,
    # When somebody last showed a token, to half a minute: a token that nobody uses is one to revoke.
    "ALTER TABLE access_token ADD COLUMN last_used_ms INTEGER",
    # What ended without a report, which the console's first page counts.
    "CREATE INDEX hold_expired ON hold(ended_at_ms) WHERE state = 'expired'",
)


def upgrade() -> None:
    for statement in _STATEMENTS:
        op.execute(statement)


def downgrade() -> None:
    raise NotImplementedError("books are not unwritten: restore a backup instead")
