"""Payments: orders written before checkout, the add-on of each workspace, what was paid, and Stripe's events."""

from alembic import op

revision = "0020"
down_revision = "0010"
branch_labels = None
depends_on = None

_STATEMENTS = (
    "ALTER TABLE workspace ADD COLUMN paid_until_ms INTEGER",
    # Who has set the entitlement: the plan, payments, or an operator by hand.
    """
    ALTER TABLE workspace ADD COLUMN entitlement_by TEXT NOT NULL DEFAULT 'plan'
      CHECK (entitlement_by IN ('plan', 'payments', 'operator'))
    """,
    """
    CREATE TABLE payment_order(
      id TEXT PRIMARY KEY,
      workspace_id TEXT NOT NULL REFERENCES workspace(id),
      purpose TEXT NOT NULL CHECK (purpose IN ('addon', 'topup')),
      rail TEXT NOT NULL CHECK (rail IN ('card')),
      amount_cents INTEGER NOT NULL CHECK (amount_cents > 0),
      currency TEXT NOT NULL,
      credits INTEGER NOT NULL CHECK (credits >= 0),
      state TEXT NOT NULL CHECK (state IN ('new', 'open', 'paid', 'expired', 'failed')),
      return_url TEXT NOT NULL,
      customer TEXT NOT NULL,
      created_at_ms INTEGER NOT NULL,
      checkout TEXT UNIQUE,
      url TEXT NOT NULL DEFAULT '',
      subscription TEXT UNIQUE,
      payment_intent TEXT UNIQUE,
      expires_at_ms INTEGER,
      CHECK ((purpose = 'topup') = (credits > 0))
    ) STRICT, WITHOUT ROWID
    """,
    # A double click, Back and a second tab find the page that is open.
    """
    CREATE UNIQUE INDEX payment_order_open_addon ON payment_order(workspace_id)
    WHERE purpose = 'addon' AND state IN ('new', 'open')
    """,
    """
    CREATE UNIQUE INDEX payment_order_open_topup ON payment_order(workspace_id, credits, amount_cents)
    WHERE purpose = 'topup' AND state IN ('new', 'open')
    """,
    "CREATE INDEX payment_order_waiting ON payment_order(created_at_ms) WHERE state IN ('new', 'open')",
    "CREATE INDEX payment_order_workspace ON payment_order(workspace_id, created_at_ms)",
    """
    CREATE TRIGGER payment_order_paid BEFORE UPDATE ON payment_order WHEN OLD.state = 'paid'
      AND (NEW.state <> 'paid' OR NEW.checkout IS NOT OLD.checkout OR NEW.subscription IS NOT OLD.subscription)
    BEGIN SELECT RAISE(ABORT, 'a paid order never changes'); END
    """,
    """
    CREATE TRIGGER payment_order_terms BEFORE UPDATE OF
      id, workspace_id, purpose, rail, amount_cents, currency, credits, created_at_ms ON payment_order
    BEGIN SELECT RAISE(ABORT, 'what was ordered never changes'); END
    """,
    """
    CREATE TRIGGER payment_order_kept BEFORE DELETE ON payment_order
    BEGIN SELECT RAISE(ABORT, 'orders are kept'); END
    """,
    """
    CREATE TABLE addon(
      workspace_id TEXT PRIMARY KEY REFERENCES workspace(id),
      rail TEXT NOT NULL CHECK (rail IN ('card', 'credits')),
      state TEXT NOT NULL CHECK (state IN ('pending', 'active', 'cancelling', 'past_due', 'lapsed', 'ended')),
      anchor_ms INTEGER NOT NULL,
      paid_until_ms INTEGER NOT NULL,
      grace_until_ms INTEGER NOT NULL,
      amount INTEGER NOT NULL CHECK (amount > 0),
      grace_ms INTEGER NOT NULL CHECK (grace_ms >= 0),
      subscription TEXT UNIQUE,
      customer TEXT NOT NULL,
      over INTEGER NOT NULL CHECK (over IN (0, 1)),
      tried_at_ms INTEGER NOT NULL DEFAULT 0,
      CHECK ((rail = 'card') = (subscription IS NOT NULL))
    ) STRICT, WITHOUT ROWID
    """,
    "CREATE INDEX addon_due ON addon(paid_until_ms) WHERE state IN ('active', 'cancelling', 'past_due')",
    # What Stripe is to be told about a subscription: written before it is sent, gone when Stripe has agreed.
    """
    CREATE TABLE subscription_wish(
      workspace_id TEXT PRIMARY KEY REFERENCES workspace(id),
      id TEXT NOT NULL UNIQUE,
      subscription TEXT NOT NULL,
      wish TEXT NOT NULL CHECK (wish IN ('cancel', 'keep', 'end')),
      at_ms INTEGER NOT NULL
    ) STRICT, WITHOUT ROWID
    """,
    # One row for each of Stripe's objects that money came with: a checkout or an invoice.
    """
    CREATE TABLE payment(
      id TEXT PRIMARY KEY,
      workspace_id TEXT NOT NULL REFERENCES workspace(id),
      order_id TEXT NOT NULL REFERENCES payment_order(id),
      purpose TEXT NOT NULL CHECK (purpose IN ('addon', 'topup')),
      payment_intent TEXT UNIQUE,
      amount_cents INTEGER NOT NULL CHECK (amount_cents >= 0),
      currency TEXT NOT NULL,
      credits INTEGER NOT NULL CHECK (credits >= 0),
      lot_id INTEGER REFERENCES lot(id),
      period_start_ms INTEGER,
      at_ms INTEGER NOT NULL,
      CHECK ((purpose = 'topup') = (lot_id IS NOT NULL))
    ) STRICT, WITHOUT ROWID
    """,
    "CREATE INDEX payment_workspace ON payment(workspace_id, at_ms)",
    "CREATE TRIGGER payment_kept BEFORE DELETE ON payment BEGIN SELECT RAISE(ABORT, 'payments are kept'); END",
    "CREATE TRIGGER payment_fixed BEFORE UPDATE ON payment BEGIN SELECT RAISE(ABORT, 'payments never change'); END",
    # A refund or a dispute: what was taken off a payment. It only goes forward.
    """
    CREATE TABLE payment_loss(
      id TEXT PRIMARY KEY,
      workspace_id TEXT NOT NULL REFERENCES workspace(id),
      payment_id TEXT NOT NULL REFERENCES payment(id),
      kind TEXT NOT NULL CHECK (kind IN ('refund', 'dispute')),
      state TEXT NOT NULL CHECK (state IN ('booked', 'failed', 'opened', 'won', 'lost')),
      amount_cents INTEGER NOT NULL CHECK (amount_cents > 0),
      credits INTEGER NOT NULL CHECK (credits >= 0),
      at_ms INTEGER NOT NULL
    ) STRICT, WITHOUT ROWID
    """,
    "CREATE INDEX payment_loss_of ON payment_loss(workspace_id, payment_id)",
    """
    CREATE TRIGGER payment_loss_forward BEFORE UPDATE ON payment_loss
    WHEN NOT ((OLD.state = 'booked' AND NEW.state = 'failed')
        OR (OLD.state = 'opened' AND NEW.state IN ('won', 'lost')))
      OR NEW.amount_cents <> OLD.amount_cents OR NEW.credits <> OLD.credits OR NEW.payment_id <> OLD.payment_id
    BEGIN SELECT RAISE(ABORT, 'a refund and a dispute only go forward'); END
    """,
    "CREATE TRIGGER payment_loss_kept BEFORE DELETE ON payment_loss BEGIN SELECT RAISE(ABORT, 'kept'); END",
    # workspace_id '' : not known, or of no workspace.
    """
    CREATE TABLE stripe_event(
      id TEXT PRIMARY KEY,
      workspace_id TEXT NOT NULL DEFAULT '',
      type TEXT NOT NULL,
      object_type TEXT NOT NULL,
      object_id TEXT NOT NULL,
      livemode INTEGER NOT NULL CHECK (livemode IN (0, 1)),
      created_ms INTEGER NOT NULL,
      state TEXT NOT NULL CHECK (state IN ('processed', 'ignored', 'quarantined', 'failed')),
      reason TEXT NOT NULL DEFAULT '',
      source TEXT NOT NULL CHECK (source IN ('webhook', 'reconcile')),
      deliveries INTEGER NOT NULL DEFAULT 1 CHECK (deliveries >= 1),
      received_at_ms INTEGER NOT NULL,
      done_at_ms INTEGER
    ) STRICT, WITHOUT ROWID
    """,
    "CREATE INDEX stripe_event_inbox ON stripe_event(received_at_ms, id)",
    "CREATE INDEX stripe_event_open ON stripe_event(state, received_at_ms) WHERE state IN ('quarantined', 'failed')",
    # Credits that come with a plan each cycle: whose cycles begin when, and how far they have been granted.
    """
    CREATE TABLE plan_cycle(
      workspace_id TEXT PRIMARY KEY REFERENCES workspace(id),
      anchor_ms INTEGER NOT NULL,
      next_index INTEGER NOT NULL CHECK (next_index >= 0),
      granted_credits INTEGER NOT NULL CHECK (granted_credits >= 0),
      plan TEXT NOT NULL,
      cycle_credits INTEGER NOT NULL CHECK (cycle_credits >= 0),
      rollover INTEGER NOT NULL CHECK (rollover IN (0, 1)),
      next_at_ms INTEGER
    ) STRICT, WITHOUT ROWID
    """,
    "CREATE INDEX plan_cycle_due ON plan_cycle(next_at_ms) WHERE next_at_ms IS NOT NULL",
    """
    CREATE INDEX workspace_grace ON workspace(grace_until_ms) WHERE entitlement = 'grace' AND status <> 'deleted'
    """,
)


def upgrade() -> None:
    for statement in _STATEMENTS:
        op.execute(statement)


def downgrade() -> None:
    raise NotImplementedError("books are not unwritten: restore a backup instead")
