"""What the settings' use cases need from the store, in their own words.

Every mutating method is one database transaction, writes its audit row in it, and is visible to the next call
when it returns. Objects of another workspace do not exist here: methods take the workspace and answer None.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Literal, Protocol

from ownkey.domain.billing import (
    Addon,
    Applied,
    CheckoutFacts,
    DisputeFacts,
    EventHint,
    Fetched,
    InvoiceFacts,
    Order,
    OrderState,
    PlanTerms,
    RefundFacts,
    SubscriptionFacts,
)
from ownkey.domain.booking import (
    AttemptEnd,
    Booked,
    CapFigures,
    HoldGranted,
    HoldRefused,
    HoldRequest,
    MoneyView,
)
from ownkey.domain.connect import PendingConnect
from ownkey.domain.credentials import AcceptedCredential
from ownkey.domain.exchange import UpstreamRequest
from ownkey.domain.failures import Failure
from ownkey.domain.health import Evidence
from ownkey.domain.notices import Notice
from ownkey.domain.pricing import ModelPrice, PriceBook
from ownkey.domain.receipts import Receipt
from ownkey.domain.records import (
    Actor,
    CapSetting,
    Due,
    Finding,
    Member,
    ProbeDue,
    ReceiptFilter,
    StoredAnswer,
    TokenRow,
    Wallet,
)
from ownkey.domain.secret import Secret
from ownkey.domain.workspace import (
    Credential,
    EntitlementState,
    Health,
    Principal,
    Sealed,
    WorkspaceState,
    WrappedDek,
)

__all__ = [
    "Actor", "Addons", "Auditor", "Books", "CapSetting", "Caps", "Clock", "Connects", "Credentials", "Credits",
    "Directory", "Due", "EventBook", "EventSender", "Features",
    "Finding", "HealthBook", "Idempotency", "Incidents", "Mailer", "Member", "Opener", "Orders", "Outbox", "OutboxRows",
    "Payments", "People", "PriceVersions", "ProbeDue",
    "ProbeProvider", "ReceiptFilter", "Receipts", "Safe", "Sealer", "StoredAnswer", "TokenRow", "Tokens",
    "Upstream", "UpstreamResponse", "Wallet", "Workspaces",
]


class Workspaces(Protocol):
    async def create_workspace(
        self, *, workspace_id: str, name: str, external_id: str, plan: str, timezone: str,
        entitlement: EntitlementState, credits_if_key_fails: bool, credits_if_key_fails_limit: int | None,
        dek: WrappedDek, features: Mapping[str, bool], at_ms: int, actor: Actor, kind: str = "tenant",
        threshold: int = 80, terms: PlanTerms | None = None,
    ) -> WorkspaceState:
        """`terms` of its plan begin its cycles of credits. Raises Conflict if the external id is taken."""
        ...

    async def load_workspace(self, workspace_id: str) -> WorkspaceState | None: ...

    async def load_workspaces(self, *, after: str | None, limit: int) -> Sequence[WorkspaceState]: ...

    async def save_settings(
        self, workspace_id: str, changes: Mapping[str, Any], *, at_ms: int, actor: Actor,
        terms: PlanTerms | None = None,
    ) -> WorkspaceState | None:
        """`changes` ⊆ {name, plan, entitlement, paid_until_ms, grace_until_ms, timezone, always_use_key,
        credits_if_key_fails, credits_if_key_fails_limit, on_direct_auth_failure, status}. `terms` come with a change
        of plan: the entitlement and the cycle's credits follow in the same transaction."""
        ...

    async def delete_workspace(self, workspace_id: str, *, at_ms: int, actor: Actor) -> bool:
        """Destroys the data key and every credential; receipts and ledger stay, as books must."""
        ...


class People(Protocol):
    async def save_member(self, member: Member, *, at_ms: int, actor: Actor) -> Member: ...

    async def load_members(self, workspace_id: str) -> Sequence[Member]: ...

    async def delete_member(self, workspace_id: str, member_id: str, *, at_ms: int, actor: Actor) -> bool: ...

    async def save_project(
        self, workspace_id: str, project_id: str, name: str, *, at_ms: int, actor: Actor
    ) -> None: ...

    async def load_projects(self, workspace_id: str) -> Mapping[str, str]: ...


class Tokens(Protocol):
    async def save_token(self, row: TokenRow, digest: bytes, *, at_ms: int, actor: Actor) -> None: ...

    async def load_tokens(self, workspace_id: str | None) -> Sequence[TokenRow]:
        """None: the service tokens."""
        ...

    async def revoke_token(
        self, token_id: str, workspace_id: str | None, *, at_ms: int, actor: Actor
    ) -> bool: ...

    async def load_principal(self, token_digest: bytes) -> Principal | None: ...


class Credentials(Protocol):
    async def save_credential(self, credential: Credential, *, at_ms: int, actor: Actor) -> None:
        """Adds, or replaces the workspace's credential for that provider (then `version` is one higher)."""
        ...

    async def set_credential_status(
        self, workspace_id: str, provider: str, status: str, *, at_ms: int, actor: Actor
    ) -> Credential | None: ...

    async def note_health(
        self, workspace_id: str, credential_id: str, version: int, evidence: Evidence
    ) -> Credential | None:
        """Save what the domain judges of the evidence, with its incident and its notice. The credential afterwards;
        None: it is gone or was replaced since, and nothing was changed."""
        ...

    def mark_undecryptable(self, credential: Credential, at_ms: int) -> None:
        """Queued: the ciphertext cannot be opened, which opens an incident."""
        ...

    async def delete_credential(
        self, workspace_id: str, provider: str, *, at_ms: int, actor: Actor
    ) -> bool:
        """Disconnect: the ciphertext is gone from the file when this returns (secure_delete, checkpoint)."""
        ...

    async def save_audit(
        self, workspace_id: str | None, action: str, target: str, before: Mapping[str, Any] | None,
        after: Mapping[str, Any] | None, *, at_ms: int, actor: Actor
    ) -> None: ...


class Connects(Protocol):
    """Sign-ins at OpenRouter that were begun. A state itself is never stored, only its SHA-256."""

    async def save_connect(
        self, pending: PendingConnect, state_sha256: bytes, verifier: Sealed, *, at_ms: int, actor: Actor
    ) -> None: ...

    async def find_connect(self, state_sha256: bytes) -> PendingConnect | None:
        """Also one that was used or has expired, for a day: its owner is told so."""
        ...

    async def take_connect(self, workspace_id: str, connect_id: str, *, at_ms: int) -> Sealed | None:
        """The sealed verifier, handed out once and gone from the database then. None: used, expired, or begun with a
        token that has been revoked since."""
        ...


class HealthBook(Protocol):
    """What is known about credentials' health, kept across restarts."""

    def mark(
        self, credential: Credential, health: Health, signal: str, at_ms: int, *, resets_at_ms: int | None = None
    ) -> bool:
        """What a call learnt: queued, never awaited. A rejection is marked as a suspicion."""
        ...

    def mark_undecryptable(self, credential: Credential, at_ms: int) -> None: ...

    async def note_health(
        self, workspace_id: str, credential_id: str, version: int, evidence: Evidence
    ) -> Credential | None:
        """What a probe learnt; as `Credentials.note_health`."""
        ...

    async def claim_probes(self, due_by_ms: int, until_ms: int, limit: int) -> Sequence[ProbeDue]:
        """The enabled credentials whose free probe is due by then, each put off until `until_ms`."""
        ...

    async def load_workspace(self, workspace_id: str) -> WorkspaceState | None: ...


class Incidents(Protocol):
    async def load_incidents(self, workspace_id: str, *, limit: int = 50) -> Sequence[Mapping[str, Any]]:
        """Newest first: id, credential_id, provider, cause, signal, opened_at_ms, closed_at_ms (None: open)."""
        ...


class Features(Protocol):
    async def save_feature(
        self, workspace_id: str, task: str, on: bool, settings: Mapping[str, int], *, at_ms: int, actor: Actor
    ) -> None: ...


class Caps(Protocol):
    async def save_cap(
        self, workspace_id: str, cap_nusd: int | None, threshold: int, *, at_ms: int, actor: Actor
    ) -> CapSetting:
        """A new cap version, evaluated at once: pauses, resumes, writes due alerts and their outbox rows."""
        ...

    async def load_cap(self, workspace_id: str, at_ms: int) -> CapSetting | None: ...

    async def load_alerts(self, workspace_id: str) -> Sequence[Mapping[str, Any]]: ...

    async def load_audit(self, workspace_id: str | None, *, limit: int) -> Sequence[Mapping[str, Any]]: ...


class Credits(Protocol):
    async def grant_credits(
        self, workspace_id: str, amount_credits: int, origin: Literal["plan", "topup", "promo", "operator"],
        *, expires_at_ms: int | None, idem_key: str, at_ms: int, actor: Actor
    ) -> Wallet:
        """One ledger entry source → lot; the same `idem_key` again changes nothing."""
        ...

    async def load_wallet(self, workspace_id: str) -> Wallet: ...

    async def load_ledger(self, workspace_id: str, *, limit: int) -> Sequence[Mapping[str, Any]]: ...


class Receipts(Protocol):
    async def load_receipt(self, workspace_id: str | None, receipt_id: str) -> Mapping[str, Any] | None:
        """The receipt as stored JSON; workspace None: any (operators)."""
        ...

    async def load_receipts(self, workspace_id: str, query: ReceiptFilter) -> Sequence[Mapping[str, Any]]: ...

    async def load_spend(
        self, workspace_id: str, *, since_ms: int, until_ms: int, by: str
    ) -> Sequence[Mapping[str, Any]]:
        """Sums by "task", "model", "provider", "conversation", "project", "day" or "basis": calls, cost_nusd,
        charge_credits, unknown_cost_calls."""
        ...


class PriceVersions(Protocol):
    async def activate_prices(
        self, prices: Sequence[ModelPrice], aliases: Mapping[tuple[str, str], str], *, author: str, at_ms: int
    ) -> PriceBook:
        """Writes a whole new immutable version and activates it; the same content as now changes nothing."""
        ...

    def current(self) -> PriceBook: ...


class Auditor(Protocol):
    async def verify(self, at_ms: int) -> Sequence[Finding]:
        """Recompute every counter from rows and check every invariant; empty: clean."""
        ...

    async def load_cap_figures(self, workspace_id: str, at_ms: int) -> CapFigures | None: ...


class Clock(Protocol):
    """Time and chance, so that tests and a simulation can own both."""

    def now_ms(self) -> int:
        """Unix time in milliseconds."""
        ...

    def monotonic(self) -> float:
        """Seconds on a clock that never goes back."""
        ...

    def new_id(self, prefix: str) -> str:
        """An opaque, unique, time-sortable id such as "ws_01J…"."""
        ...


class Directory(Protocol):
    """The operator's own pseudo-workspace, which holds the platform's credentials; None before its first use."""

    async def load_platform(self) -> WorkspaceState | None: ...


class Sealer(Protocol):
    """Plaintext → ciphertext. Raises the vault's own error if the workspace's data key cannot be opened."""

    def new_dek(self, workspace_id: str) -> WrappedDek: ...

    def seal(
        self, workspace_id: str, wrapped_dek: WrappedDek, provider: str, credential_id: str, version: int,
        origin: str, plaintext: AcceptedCredential,
    ) -> Sealed:
        """Bound to this place: no other workspace, provider, id, version or origin opens it."""
        ...

    def fingerprint(self, workspace_id: str, wrapped_dek: WrappedDek, plaintext: AcceptedCredential) -> bytes:
        """8 bytes, equal for equal keys of one workspace."""
        ...


class Safe(Protocol):
    """Seals small secrets that are no provider's key, each for one purpose."""

    def seal_secret(
        self, workspace_id: str, wrapped_dek: WrappedDek, purpose: str, plaintext: bytes
    ) -> Sealed: ...

    def open_secret(self, workspace_id: str, wrapped_dek: WrappedDek, purpose: str, sealed: Sealed) -> bytes:
        """Raises ValueError where it cannot be opened."""
        ...


class Opener(Protocol):
    """Ciphertext → Secret, for one send."""

    def open(self, workspace: WorkspaceState, credential: Credential) -> Secret:
        """Raises ValueError where the credential cannot be opened."""
        ...


class Books(Protocol):
    """Money, as a key's Test needs it; every method is one short database transaction."""

    async def load_money(self, workspace_id: str, at_ms: int) -> MoneyView: ...

    async def hold(self, request: HoldRequest) -> HoldGranted | HoldRefused: ...

    async def end_attempt(self, end: AttemptEnd) -> Booked: ...

    async def end_call(self, end: AttemptEnd | None, receipt: Receipt) -> Receipt: ...


class UpstreamResponse(Protocol):
    status: int
    headers: Mapping[str, str]

    async def read_all(self, timeout_s: float, limit_bytes: int) -> bytes: ...

    def close(self) -> None: ...


class Upstream(Protocol):
    """The only way out. Raises domain.failures.UpstreamError."""

    async def send(self, request: UpstreamRequest, *, head_timeout_s: float) -> UpstreamResponse: ...


class ProbeProvider(Protocol):
    """A provider as a key's Test needs it; the gateway's providers satisfy it."""

    id: str

    def codec(self, dialect: str, endpoint: Any) -> tuple[Any, Any] | None: ...

    def request(
        self, origin: Any, codec: Any, model: str, body: bytes, stream: bool, credential: Secret,
        headers: Mapping[str, str],
    ) -> UpstreamRequest: ...

    def decode_failure(self, status: int, headers: Mapping[str, str], body: bytes) -> Failure: ...


class Idempotency(Protocol):
    """Answers of mutations, kept for 24 hours under (principal's scope, Idempotency-Key).

    A body that shows a secret once (a new token) is stored without it, by the door.
    """

    async def begin_answer(
        self, scope: str, key: str, request_sha256: bytes, *, at_ms: int
    ) -> StoredAnswer | None:
        """Claims the key and returns None, or returns what holds it. A claim without an answer lapses after
        five minutes: its process has died."""
        ...

    async def save_answer(self, scope: str, key: str, status: int, body: bytes, *, at_ms: int) -> None: ...

    async def drop_answer(self, scope: str, key: str) -> None:
        """Gives the key back, because the request failed on our side and changed nothing."""
        ...


class Outbox(Protocol):
    """Messages that wait to be told. A claim is a lease: it counts as an attempt and puts the row off."""

    async def claim_outbox(self, channel: str, at_ms: int, until_ms: int, *, limit: int) -> Sequence[Due]:
        """Those that are due, longest first; a later message of a group waits for the one before it."""
        ...

    async def load_told(self, workspace_id: str) -> Sequence[Member]:
        """Owners and admins, with what they have muted."""
        ...

    async def save_reached(self, due: Due, member_id: str, *, sent: bool, reason: str, at_ms: int) -> None:
        """One member has the message, or can never have it: durable before the next is tried."""
        ...

    async def save_outbox_result(
        self, due: Due, state: str, next_at_ms: int, *, reason: str, at_ms: int, reached: int = 0
    ) -> bool:
        """`state` is "sent", "failed", "skipped" or "waiting". False: the lease was lost, nothing was changed."""
        ...

    async def skip_outbox(self, channel: str, reason: str, at_ms: int) -> int:
        """Ends everything that waits for a channel that is not configured."""
        ...


class OutboxRows(Protocol):
    """The outbox as operators see it."""

    async def load_outbox(
        self, workspace_id: str | None, *, limit: int, state: str | None = None
    ) -> Sequence[Mapping[str, Any]]: ...

    async def retry_outbox(self, outbox_id: int, *, at_ms: int, actor: Actor) -> bool:
        """False: it was sent, or waits. Raises NotFound."""
        ...


class Mailer(Protocol):
    """E-mail. Raises Undeliverable for one message, ChannelDown for the server."""

    async def send(self, due: Due, member: Member, notice: Notice, created_at_ms: int) -> None: ...

    async def close(self) -> None:
        """End the batch's connection."""
        ...


class EventSender(Protocol):
    """The host's endpoint. Raises Undeliverable, ChannelDown."""

    async def send(
        self, key: str, event: str, data: Mapping[str, Any], *, happened_at: str, at_ms: int
    ) -> None: ...


class Orders(Protocol):
    """What somebody was about to buy, written before Stripe hears of it."""

    async def open_order(self, wish: Order, actor: Actor) -> Order:
        """The order that is open for the same thing, else this one."""
        ...

    async def note_checkout(self, facts: CheckoutFacts, at_ms: int) -> Order | None:
        """Books what a session says. None: it is not what was ordered, and nothing was booked."""
        ...

    async def end_order(self, order: Order, state: OrderState) -> None:
        """Expired or failed; a paid order stays paid."""
        ...

    async def load_orders(self, workspace_id: str, *, limit: int = 20) -> Sequence[Order]: ...

    async def load_waiting_orders(self, *, limit: int) -> Sequence[Order]: ...

    async def load_payments(self, workspace_id: str, *, limit: int = 50) -> Sequence[Mapping[str, Any]]:
        """Newest first: id, purpose, amount_cents, currency, credits, period_start_ms, at_ms, taken_back_cents."""
        ...


class Addons(Protocol):
    """The add-on of each workspace; every change is one transaction with the entitlement that follows from it."""

    async def load_addon(self, workspace_id: str) -> Addon | None: ...

    async def start_credits_addon(
        self, workspace_id: str, amount: int, grace_ms: int, *, at_ms: int, actor: Actor
    ) -> Addon | None:
        """The first period, paid now; None where the credits do not suffice. One that lives is returned as it is."""
        ...

    async def change_credits_addon(
        self, workspace_id: str, keep: bool, *, at_ms: int, actor: Actor
    ) -> Addon | None: ...

    async def save_wish(
        self, workspace_id: str, wish_id: str, subscription: str, wish: str, at_ms: int
    ) -> tuple[str, str, str]:
        """(id, subscription, wish) as kept until Stripe agrees; the same wish again keeps its first id."""
        ...

    async def load_wishes(self, *, limit: int) -> Sequence[tuple[str, str, str, str]]: ...

    async def load_card_addons(self, *, paid_by_ms: int, after: str, limit: int) -> Sequence[Addon]: ...


class EventBook(Protocol):
    """Stripe's events and their effects: each event's row and its one effect are one transaction."""

    async def find_event(self, event_id: str) -> Applied | None:
        """None if it is new, or failed and is to be worked on."""
        ...

    async def apply_event(
        self, hint: EventHint, fetched: Fetched, grace_ms: int, *, source: str, at_ms: int
    ) -> Applied: ...

    async def apply_facts(self, fetched: Fetched, grace_ms: int, *, at_ms: int) -> Applied: ...

    async def note_event(self, hint: EventHint, applied: Applied, *, source: str, at_ms: int) -> Applied: ...

    async def count_delivery(self, event_id: str) -> None: ...

    async def load_events(self, state: str | None, *, limit: int) -> Sequence[Mapping[str, Any]]: ...

    async def count_events(self) -> Mapping[str, int]: ...

    async def load_failed_events(self, *, limit: int) -> Sequence[EventHint]: ...

    async def load_event(self, event_id: str) -> EventHint | None: ...

    async def knows_payment(self, payment_intent: str) -> bool: ...


class Payments(Protocol):
    """Payments by card. Raises domain.billing.PaymentsDown where it may be asked again, PaymentsRefused for a no."""

    livemode: bool

    def read_event(self, raw: bytes, signature: str, now_ms: int) -> EventHint:
        """Raises EventRefused for whatever is not signed over these very bytes, recently, for this mode."""
        ...

    async def list_events(self, since_ms: int, kinds: Sequence[str]) -> Sequence[EventHint]: ...

    async def create_checkout(self, order: Order) -> CheckoutFacts:
        """The page where this order is paid; asked again, the same page."""
        ...

    async def load_checkout(self, checkout_id: str) -> CheckoutFacts: ...

    async def find_checkout(self, payment_intent: str) -> CheckoutFacts | None: ...

    async def end_checkout(self, checkout_id: str) -> CheckoutFacts: ...

    async def open_portal(self, customer: str, return_url: str) -> str: ...

    async def load_subscription(self, subscription_id: str) -> SubscriptionFacts: ...

    async def tell_subscription(self, subscription_id: str, wish: str, key: str) -> SubscriptionFacts:
        """`wish` is "cancel" (with its period), "keep" or "end" (now); `key` was stored before."""
        ...

    async def load_invoice(self, invoice_id: str) -> InvoiceFacts: ...

    async def find_invoice(self, payment_intent: str) -> InvoiceFacts | None: ...

    async def load_invoices(self, subscription_id: str) -> Sequence[InvoiceFacts]: ...

    async def load_refund(self, refund_id: str) -> RefundFacts: ...

    async def load_refunds(self, charge_id: str) -> Sequence[RefundFacts]: ...

    async def load_dispute(self, dispute_id: str) -> DisputeFacts: ...
