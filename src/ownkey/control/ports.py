"""What the settings' use cases need from the store, in their own words.

Every mutating method is one database transaction, writes its audit row in it, and is visible to the next call
when it returns. Objects of another workspace do not exist here: methods take the workspace and answer None.
"""

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from typing import Any, Literal, Protocol

from ownkey.domain.activity import ActivitySums, CostlyTrace, MeterSums, TotalRow, TraceLine
from ownkey.domain.activity import Choices as ActivityChoices
from ownkey.domain.backups import BackupFile
from ownkey.domain.billing import (
    Addon,
    Applied,
    BillingBooks,
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
from ownkey.domain.operators import (
    Attempt,
    Factors,
    Operator,
    OperatorRole,
    OperatorSession,
    SessionRow,
    SetUp,
)
from ownkey.domain.portal import EndReason, LinkTrouble, ListedSession, Mode, PortalSession
from ownkey.domain.pricing import ModelPrice, PriceBook
from ownkey.domain.receipts import Receipt
from ownkey.domain.records import (
    UNFILTERED,
    Actor,
    CapSetting,
    CreditLot,
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
from ownkey.domain.statement import StatementLine
from ownkey.domain.work import Work, WorkKind, WorkState
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
    "ActivityRows",
    "Actor",
    "Addons",
    "Auditor",
    "Books",
    "CapSetting",
    "Caps",
    "Clock",
    "Connects",
    "Credentials",
    "Credits",
    "Directory",
    "Due",
    "EventBook",
    "EventSender",
    "Features",
    "Finding",
    "HealthBook",
    "Idempotency",
    "Incidents",
    "Mailer",
    "Member",
    "Opener",
    "Orders",
    "Outbox",
    "OutboxRows",
    "Payments",
    "People",
    "PriceVersions",
    "ProbeDue",
    "ProbeProvider",
    "ReceiptFilter",
    "Receipts",
    "Safe",
    "Sealer",
    "Statements",
    "StoredAnswer",
    "TokenRow",
    "Tokens",
    "Totals",
    "Upstream",
    "UpstreamResponse",
    "Wallet",
    "Workspaces",
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


class Mutes(Protocol):
    async def save_mute(
        self, workspace_id: str, member_id: str, topic: str, muted: bool, *, at_ms: int, actor: Actor
    ) -> Member | None:
        """One topic of one member, and nothing else of theirs; None: there is no such member."""
        ...


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
        self, workspace_id: str, provider: str, status: str, *, at_ms: int, actor: Actor, always_off: bool = False,
    ) -> Credential | None:
        """`always_off`: Always use this key goes off with it, in the same transaction."""
        ...

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
        self, workspace_id: str, provider: str, *, at_ms: int, actor: Actor, always_off: bool = False
    ) -> bool:
        """Disconnect: the ciphertext is gone from the file when this returns (secure_delete, checkpoint). `always_off`
        as with a status."""
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


class PortalSessions(Protocol):
    """Visits to the pages. A link's code and a session's secret are never stored, only their SHA-256."""

    async def save_portal_session(
        self, session: PortalSession, code_sha256: bytes, code_expires_at_ms: int, member: Member | None,
        *, at_ms: int, actor: Actor,
    ) -> None:
        """The link, and in the same transaction the member as the host knows them now: another role than before ends
        their older visits first. None: nobody becomes a member."""
        ...

    async def enter_portal_session(
        self, code_sha256: bytes, mode: Mode | None, secret_sha256: bytes, *, replaces: bytes | None, at_ms: int
    ) -> PortalSession | LinkTrouble:
        """Opens the visit, once; whatever is wrong leaves the link as it was. `mode` None: either. `replaces` is the
        digest of the secret that the browser's cookie holds: where this is a page's visit too, that one ends."""
        ...

    async def find_portal_session(self, secret_sha256: bytes, *, at_ms: int) -> PortalSession | None:
        """A visit that lives: neither ended nor expired, as of the last commit."""
        ...

    async def load_portal_sessions(self, workspace_id: str, *, at_ms: int) -> Sequence[ListedSession]:
        """Those that live, and links that can still be opened; newest first, 500 at most."""
        ...

    async def end_portal_sessions(
        self, workspace_id: str, reason: EndReason, *, session_id: str | None = None, member_id: str | None = None,
        at_ms: int, actor: Actor,
    ) -> int:
        """One visit, or all of a member's, links included: how many ended."""
        ...


class PortalTickets(Protocol):
    """Single downloads of framed visits, whose browsers cannot show a bearer."""

    async def save_portal_ticket(
        self, session: PortalSession, digest: bytes, path: str, expires_at_ms: int
    ) -> None: ...

    async def take_portal_ticket(self, digest: bytes, path: str, *, at_ms: int) -> PortalSession | LinkTrouble:
        """The visit that it belongs to, once, for that path alone; a visit that has ended takes its tickets along."""
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

    async def load_lots(self, workspace_id: str) -> Sequence[CreditLot]:
        """Those that still hold credits, in the order in which they are drawn."""
        ...

    async def load_ledger(self, workspace_id: str, *, limit: int) -> Sequence[Mapping[str, Any]]: ...


class Receipts(Protocol):
    async def load_receipt(self, workspace_id: str | None, receipt_id: str) -> Mapping[str, Any] | None:
        """The receipt as stored JSON; workspace None: any (operators)."""
        ...

    async def load_receipts(self, workspace_id: str, query: ReceiptFilter) -> Sequence[Mapping[str, Any]]: ...

    async def load_spend(
        self, workspace_id: str, *, since_day: str, until_day: str, by: str
    ) -> Sequence[Mapping[str, Any]]:
        """Sums by "task", "model", "provider", "conversation" (whole months only), "project", "day" or "basis": calls,
        cost_nusd, charge_credits, unknown_cost_calls. Days are the workspace's own, "2026-11-22", both included."""
        ...

    async def load_meter(
        self, workspace_id: str, conversation: str, tasks: frozenset[str], projects: frozenset[str]
    ) -> MeterSums:
        """One conversation's sums over all time; empty sets: all tasks, all projects."""
        ...


class Totals(Protocol):
    """Daily totals, exact at every commit; days are the workspace's own dates, "2026-11-22", both included."""

    async def load_totals(
        self, workspace_id: str, since_day: str, until_day: str, by: tuple[str, ...],
        where: ReceiptFilter = UNFILTERED, *, brief: bool = False,
    ) -> Sequence[TotalRow]:
        """Sums grouped by any of "day", "month", "task", "project", "funding", "outcome", "code", "answered_by" (of the
        call), "provider", "model", "credential", "basis", "route" (of its attempts); () is one sum. By day or month
        first: in order of time; else the dearest first. `where` may name whatever a receipt is filtered by but
        conversation, receipt and times. `brief` sums calls, costs and credits only. Raises ValueError for others."""
        ...

    async def load_costly_traces(self, workspace_id: str, month: str, *, limit: int) -> Sequence[CostlyTrace]:
        """The dearest conversations of "2026-11"."""
        ...

    async def load_last_calls(self, workspace_id: str, by: str) -> Mapping[str, int]:
        """"task", "project" or "credentials" (marked lists: `domain.activity.mark`) → time of the last call, UTC
        milliseconds; "" stands for calls without."""
        ...


class ActivityRows(Protocol):
    """What a page of Activity is made of; no answer takes longer because there are more receipts."""

    async def load_traces(
        self, workspace_id: str, query: ReceiptFilter, cursor: str | None
    ) -> tuple[Sequence[TraceLine], str | None]:
        """One line per conversation with its calls that match, the latest first, and the cursor of what follows."""
        ...

    async def count_since(self, workspace_id: str, query: ReceiptFilter, receipt_id: str, *, most: int) -> int:
        """How many receipts that match were written after that one."""
        ...

    async def load_last_written(self, workspace_id: str) -> str | None: ...

    async def load_sums(self, workspace_id: str, query: ReceiptFilter) -> ActivitySums: ...

    async def load_hours(self, workspace_id: str, query: ReceiptFilter) -> Sequence[tuple[int, str, str, int]]:
        """(hour's start in UTC milliseconds, outcome, funding, calls) of a filter by one day or one conversation."""
        ...


class Choices(Protocol):
    async def load_choices(self, workspace_id: str) -> ActivityChoices:
        """What there is to filter by."""
        ...


class Statements(Protocol):
    async def load_statement(
        self, workspace_id: str, *, before: int | None, limit: int, kinds: Sequence[str] = ()
    ) -> Sequence[StatementLine]:
        """Every movement of credits, or those of some kinds of entry, newest first; `before` is an entry's number,
        exclusive."""
        ...


class WorkRows(Protocol):
    """Work as people see it. `workspace_id` "" is the deployment's."""

    async def create_work(
        self, work_id: str, workspace_id: str, kind: WorkKind, wish: Mapping[str, Any], *, member_id: str, at_ms: int,
        actor: Actor,
    ) -> Work:
        """The same work that is still open, else a new row. Raises Conflict where too much is open."""
        ...

    async def load_work(self, workspace_id: str | None, work_id: str) -> Work | None:
        """None: of any workspace (operators)."""
        ...

    async def load_works(self, workspace_id: str | None, *, limit: int) -> Sequence[Work]: ...

    async def cancel_work(self, workspace_id: str, work_id: str, *, at_ms: int, actor: Actor) -> bool: ...


class WorkClaims(Protocol):
    """Work as those see it who do it. A claim is a lease that each beat prolongs; only its holder can write."""

    async def claim_work(self, at_ms: int, until_ms: int) -> Work | None:
        """The oldest that waits, or whose process is gone."""
        ...

    async def save_beat(
        self, work: Work, step: str, done: int, total: int | None, checkpoint: Mapping[str, Any], *, at_ms: int,
        until_ms: int,
    ) -> bool:
        """False: it was cancelled, or somebody else has it."""
        ...

    async def end_work(
        self, work: Work, state: WorkState, *, error: str, result: Mapping[str, Any], file: str, done: int,
        total: int | None, at_ms: int,
    ) -> bool:
        """Once; with the notice to the member who asked for it."""
        ...

    async def put_back_work(self, work: Work, error: str) -> None: ...

    async def take_stale_files(self, at_ms: int) -> Sequence[str]:
        """Names of files that are 24 hours old, which their rows have forgotten when this returns."""
        ...


class ExportFiles(Protocol):
    """Finished and unfinished files in a folder that only their owner can read. Names have no path."""

    async def append(self, name: str, size: int, data: bytes) -> int:
        """Cut the file to `size` bytes and write behind; the new size. Size 0 begins a file."""
        ...

    async def finish(self, name: str, final: str) -> None:
        """On the disk, and under its final name."""
        ...

    async def write_zip(self, name: str, parts: AsyncIterator[tuple[str, bytes]]) -> int:
        """A zip archive of (path, content), where the parts of one path follow each other; its size."""
        ...

    def read(self, name: str) -> AsyncIterator[bytes]: ...

    def size(self, name: str) -> int | None: ...

    async def drop(self, name: str) -> None: ...


class BackupFiles(Protocol):
    """Sealed copies of the database in a folder that only their owner can read. Names have no path."""

    async def make(self, at_ms: int, told: Callable[[str, int, int], None]) -> BackupFile:
        """`told` hears (step, done, total) on another thread; what it raises ends the work. Raises BackupTrouble."""
        ...

    async def list(self) -> Sequence[BackupFile]:
        """Newest first."""
        ...

    def read(self, name: str) -> AsyncIterator[bytes]: ...

    async def drop(self, name: str) -> None: ...


class InOrder(Protocol):
    """Rows from the oldest on, a page at a time, for work that goes through all of them."""

    async def load_receipts_in_order(
        self, workspace_id: str, since_day: str, until_day: str, after: str | None, *, limit: int
    ) -> Sequence[Mapping[str, Any]]: ...

    async def load_entries_in_order(
        self, workspace_id: str, after: int, *, limit: int
    ) -> Sequence[Mapping[str, Any]]:
        """Ledger entries with their postings; `after` is an entry's id."""
        ...

    async def load_audit_in_order(
        self, workspace_id: str, after: int, *, limit: int
    ) -> Sequence[Mapping[str, Any]]:
        """Audit rows without their chain; `after` is a row's `n`."""
        ...


class PriceVersions(Protocol):
    async def activate_prices(
        self, prices: Sequence[ModelPrice], aliases: Mapping[tuple[str, str], str], *, author: str, at_ms: int
    ) -> PriceBook:
        """Writes a whole new immutable version and activates it; the same content as now changes nothing."""
        ...

    def current(self) -> PriceBook: ...

    def is_flagged(self, provider: str, model: str, price_version: int) -> bool:
        """Whether a call has cost more than this version's bound."""
        ...


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
        self, workspace_id: str, wrapped_dek: WrappedDek, purpose: str, plaintext: bytes | AcceptedCredential
    ) -> Sealed:
        """An accepted credential too: a tested key that waits in the page that may save it."""
        ...

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

    async def load_told(self, workspace_id: str, member_id: str | None = None) -> Sequence[Member]:
        """Owners and admins, with what they have muted; or the one member whom alone it concerns."""
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


class OutboxCalls(Protocol):
    """What messages say of the calls that set them off."""

    async def save_outbox_call(self, due: Due, call: Mapping[str, str]) -> None:
        """Kept with the message: a repeat says the same."""
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


class Bought(Protocol):
    """What a page tells of purchases: read at one moment, so that no payment is seen by half."""

    async def load_billing(self, workspace_id: str) -> BillingBooks: ...


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


class Operators(Protocol):
    """The deployment's staff. What changes a person's rights ends their sessions in the same transaction."""

    async def add_operator(
        self, operator: Operator, link: tuple[bytes, int] | None, *, at_ms: int, actor: Actor
    ) -> Operator:
        """`link` is (digest, end) of the one-time link; None: they come through a provider. Raises Conflict."""
        ...

    async def load_operators(self) -> Sequence[Operator]: ...

    async def find_operator(self, reference: str) -> Operator | None:
        """By id or by e-mail address."""
        ...

    async def change_operator(
        self, operator_id: str, *, role: OperatorRole | None = None, disabled: bool | None = None, at_ms: int,
        actor: Actor,
    ) -> Operator: ...

    async def reset_operator(
        self, operator_id: str, link: tuple[bytes, int] | None, *, at_ms: int, actor: Actor
    ) -> Operator:
        """Factors, recovery codes, provider's subject and older links are gone."""
        ...


class SetUps(Protocol):
    """One-time links. What was chosen behind one is in force only when a first code has proved it."""

    async def find_set_up(self, digest: bytes) -> SetUp | None: ...

    async def save_set_up(self, digest: bytes, password_hash: str, totp: Sealed, *, at_ms: int) -> bool:
        """False: the link was used, has expired, or another took its place."""
        ...

    async def finish_set_up(
        self, digest: bytes, step: int, recovery: Sequence[bytes], *, at_ms: int
    ) -> Operator | None:
        """Once; None: it was used, has expired, or the operator is disabled."""
        ...


class OperatorFactors(Protocol):
    """What operators prove themselves with."""

    async def load_factors(self, operator_id: str) -> Factors | None: ...

    async def use_totp_step(self, operator_id: str, step: int) -> bool:
        """False: this half minute's code, or a later one, was used before."""
        ...

    async def use_recovery_code(self, operator_id: str, digest: bytes, *, at_ms: int) -> bool: ...

    async def save_password(
        self, operator_id: str, password_hash: str, *, replaces: str | None, keep_session: str | None, at_ms: int
    ) -> bool:
        """A new password, which ends all sessions but one; or (`replaces`) another hash of the same."""
        ...

    async def save_recovery_codes(self, operator_id: str, digests: Sequence[bytes], *, at_ms: int) -> None: ...


class OperatorSessions(Protocol):
    """Operators' visits. Whoever asks after a commit that ended one does not find it."""

    async def open_operator_session(
        self, session: OperatorSession, digest: bytes, address: str, *, replaces: bytes | None, at_ms: int
    ) -> bool:
        """`replaces` is the digest of the browser's older session, which ends. False: the operator is disabled."""
        ...

    async def find_operator_session(self, digest: bytes) -> OperatorSession | None:
        """Not ended, of an operator who is not disabled; its times are the caller's to judge."""
        ...

    def touch_operator_session(self, session_id: str, idle_until_ms: int, at_ms: int) -> None:
        """Queued, never awaited."""
        ...

    async def load_operator_sessions(self, operator_id: str, at_ms: int) -> Sequence[SessionRow]: ...

    async def end_operator_sessions(
        self, operator_id: str, reason: str, *, session_id: str | None = None, at_ms: int, actor: Actor
    ) -> int: ...


class SignInAttempts(Protocol):
    """What failed, and what is locked for it. An attempt counts as a failure until it has passed."""

    async def begin_attempt(self, attempt: Attempt, *, window_ms: int, most: int) -> int | None:
        """None: go on. Else until when the account or the address is locked."""
        ...

    async def fail_attempt(
        self, attempt: Attempt, operator_id: str | None, stage: str, *, window_ms: int, most: int, lock_ms: int,
        at_ms: int,
    ) -> None:
        """Locks what has failed too often. The audit log hears of it later, so that it costs the same whether the
        account exists or not."""
        ...

    async def pass_attempt(self, attempt: Attempt, *, whole: bool) -> None:
        """`whole`: signed in, so the account's earlier failures do not count any more."""
        ...


class SignInSteps(Protocol):
    """What is remembered between the steps of a sign-in."""

    async def save_step(self, digest: bytes, operator_id: str, expires_at_ms: int) -> None: ...

    async def find_step(self, digest: bytes, at_ms: int) -> str | None:
        """The operator's id."""
        ...

    async def drop_step(self, digest: bytes) -> None: ...

    async def freshen_operator_session(
        self, session: OperatorSession, fresh_until_ms: int, *, at_ms: int
    ) -> bool: ...

    async def use_state(self, digest: bytes, expires_at_ms: int) -> bool:
        """False: this state has come back before."""
        ...


class OidcOperators(Protocol):
    """Operators who come through a provider."""

    async def find_oidc_operator(self, issuer: str, subject: str, email: str) -> Operator | None:
        """By the provider's own id of the person, else by address."""
        ...

    async def save_oidc_operator(self, operator: Operator, *, at_ms: int) -> Operator:
        """Subject, address, name and role as the provider and the configuration say. Raises Conflict."""
        ...


class OperatorWishes(Protocol):
    """What operators keep for themselves."""

    async def save_shortcuts(self, operator_id: str, on: bool) -> None: ...

    async def load_filters(self, operator_id: str) -> Sequence[tuple[str, str]]:
        """(name, query string), by name."""
        ...

    async def save_filter(self, operator_id: str, name: str, query: str, *, most: int, at_ms: int) -> bool:
        """False: there are `most` others."""
        ...

    async def delete_filter(self, operator_id: str, name: str) -> bool: ...


class Passwords(Protocol):
    """Slow hashes. Raises domain.operators.PasswordsBusy where too many wait."""

    async def hash(self, password: str) -> str: ...

    async def verify(self, password_hash: str | None, password: str) -> tuple[bool, bool]:
        """(right, hashed with other parameters than today's). None costs as much as any, and is never right."""
        ...


class IdTokens(Protocol):
    def read(self, token: str, keys: Mapping[str, Any]) -> Mapping[str, Any]:
        """The claims of a token that one of the keys has signed. Raises domain.oidc.OidcRefused, and UnknownKey where
        the list may be old."""
        ...
