"""What one AI call needs from the rest of the house, in its own words."""

from collections.abc import Mapping, Sequence
from typing import Protocol

from ownkey.domain.booking import AttemptEnd, Booked, HoldGranted, HoldRefused, HoldRequest, MoneyView
from ownkey.domain.exchange import UpstreamRequest
from ownkey.domain.pricing import PriceBook
from ownkey.domain.receipts import Receipt
from ownkey.domain.secret import Secret
from ownkey.domain.workspace import Credential, Health, Principal, WorkspaceState


class Clock(Protocol):
    """Time and chance, so that a simulation can own both."""

    def now_ms(self) -> int:
        """Unix time in milliseconds."""
        ...

    def monotonic(self) -> float:
        """Seconds on a clock that never goes back."""
        ...

    def chance(self) -> float:
        """A random number in [0, 1)."""
        ...

    def new_id(self, prefix: str) -> str:
        """An opaque, unique, time-sortable id such as "call_01J…"."""
        ...


class Directory(Protocol):
    """Who calls, and for which workspace. Answers are at most one second old."""

    async def load_principal(self, token_digest: bytes) -> Principal | None: ...

    async def load_workspace(self, workspace_id: str) -> WorkspaceState | None:
        """By id or by the host's external id."""
        ...

    async def load_platform(self) -> WorkspaceState | None:
        """The operator's own pseudo-workspace, which holds the platform's credentials."""
        ...


class Books(Protocol):
    """Money. Every method is one short database transaction, durable when it returns."""

    async def load_money(self, workspace_id: str, at_ms: int) -> MoneyView: ...

    async def hold(self, request: HoldRequest) -> HoldGranted | HoldRefused: ...

    async def end_attempt(self, end: AttemptEnd) -> Booked:
        """Settle or release. Guarded by the hold's state: a second end of the same hold changes nothing. A hold
        that expired meanwhile is corrected instead (once)."""
        ...

    async def end_call(self, end: AttemptEnd | None, receipt: Receipt) -> Receipt:
        """The last attempt's end (None: already ended, or nothing was held) and the receipt, in one database
        transaction. Returns the receipt with the booked figures filled in."""
        ...

    async def wait_for_room(self, workspace_id: str, timeout_s: float) -> None:
        """Return when a hold of this workspace ends or its cap changes, or after `timeout_s`: the moment to ask
        again after spend_cap_busy. Promises nothing about how much room there is."""
        ...


class Journal(Protocol):
    async def journal_delivery(
        self, workspace_id: str, hold_id: str, delivered_bytes: int, low_cost_nusd: int = 0
    ) -> None:
        """What an attempt paid with credits has delivered so far, and the least it costs: what credits pay if this
        process dies. Both only grow."""
        ...


class Prices(Protocol):
    def current(self) -> PriceBook:
        """The activated version, from memory."""
        ...

    def is_flagged(self, provider: str, model: str, price_version: int) -> bool:
        """Whether a call has cost more than this version's bound: the price proved wrong, and counts as none where a
        cap or credits apply."""
        ...


class HealthLog(Protocol):
    """Remembers what traffic says about credentials. Writes are queued; none delays a call."""

    def mark(
        self, credential: Credential, health: Health, signal: str, at_ms: int, *, resets_at_ms: int | None = None
    ) -> bool:
        """Change a credential's health; opens one incident (a notice) on a change to the worse, and closes it on
        recovery. `resets_at_ms` is when the provider says that it will work again.

        False: the key has just proved good in a free probe, so this rejection speaks of the model alone; nothing is
        marked, and the caller leaves that model out for this key.
        """
        ...

    def mark_undecryptable(self, credential: Credential, at_ms: int) -> None: ...


class PriceRefresh(Protocol):
    """Looks a model's price up again where OpenRouter found no endpoint at the listed one."""

    async def refresh(self, slug: str, timeout_s: float) -> bool:
        """Whether a newer price is active now. Never raises; asks at most once a minute for one model."""
        ...


class Opener(Protocol):
    """Ciphertext → Secret, for one send."""

    def open(self, workspace: WorkspaceState, credential: Credential) -> Secret:
        """Raises ValueError where the credential cannot be opened (wrong or missing master key, swapped row)."""
        ...


class UpstreamResponse(Protocol):
    status: int
    headers: Mapping[str, str]

    async def read_chunk(self, timeout_s: float) -> bytes:
        """Next body bytes; b"" at a proper end. Raises domain.failures.UpstreamError."""
        ...

    async def read_all(self, timeout_s: float, limit_bytes: int) -> bytes: ...

    def discard(self) -> None:
        """Close, and use the connection for nothing else."""
        ...

    def close(self) -> None: ...


class Upstream(Protocol):
    """The only way out. Raises domain.failures.UpstreamError."""

    async def send(self, request: UpstreamRequest, *, head_timeout_s: float) -> UpstreamResponse: ...


class Reply(Protocol):
    """The caller's connection, in the caller's dialect's bytes. Nothing is sent before `start`."""

    gone: bool
    """The caller hung up."""

    cancel_on_gone: bool
    """Whether the call's task is cancelled when the caller hangs up (a provider that bills on is read on)."""

    async def start(self, status: int, headers: Sequence[tuple[str, str]]) -> None: ...

    async def write(self, data: bytes) -> None:
        """Waits while the caller reads too slowly."""
        ...

    async def finish(self, data: bytes = b"") -> None: ...
