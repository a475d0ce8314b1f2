"""All workspaces at once, for operators: what needs a look, where something is, and what was done by whom. Reads only,
but for the reason that an operator gives before changing something."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Any, Protocol

from ownkey.control.ports import Actor, Clock, Directory
from ownkey.control.problems import invalid, not_found, suggest
from ownkey.control.status import is_usable
from ownkey.domain.activity import Outcome
from ownkey.domain.overview import (
    TROUBLES,
    AuditLine,
    AuditQuery,
    CallPage,
    CallQuery,
    ChainsState,
    Counts,
    DayLine,
    FoundCall,
    Hit,
    OverageFlag,
    PlanUse,
    PriceSource,
    WorkspaceLine,
    WorkspaceQuery,
)
from ownkey.domain.product import PROVIDERS, Product
from ownkey.domain.records import Finding
from ownkey.domain.scrub import looks_like_secret

DAY_MS = 86_400_000
EXPIRED_WITHIN_MS = DAY_MS
UNPRICED_WITHIN_MS = 30 * DAY_MS
MAX_TEXT = 200
MIN_REASON, MAX_REASON = 5, 300
FUNDINGS = ("byok", "credits", "nobody")
HEALTHY_KEY = "credits_beside_healthy_key"
"""The built-in filter: calls that credits paid for although a usable own key was saved."""

_CALL_FILTERS = (
    "workspace", "task", "model", "provider", "funding", "outcome", "code", "since", "until", "special",
)


class Overviews(Protocol):
    """Figures over all workspaces."""

    async def load_counts(self, now_ms: int, expired_since_ms: int) -> Counts: ...

    async def load_today(self, day: date) -> Sequence[DayLine]:
        """Of each workspace's own date."""
        ...

    async def load_plan_uses(self) -> Sequence[PlanUse]: ...

    async def count_outbox(self, since_ms: int) -> Mapping[str, Mapping[str, int]]:
        """Rows written since then, by channel and state."""
        ...


class Finds(Protocol):
    """Lists and searches over all workspaces."""

    async def load_workspace_lines(self, query: WorkspaceQuery, now_ms: int) -> Sequence[WorkspaceLine]: ...

    async def load_calls(self, query: CallQuery, before: int | None, *, limit: int) -> CallPage: ...

    async def load_calls_around(
        self, workspace_id: str, since_ms: int, until_ms: int, *, limit: int
    ) -> Sequence[FoundCall]: ...

    async def search(self, text: str, last4: str) -> Sequence[Hit]:
        """`last4`: the end of a key's hint, "" for none."""
        ...

    async def find_owner(self, receipt_id: str) -> str | None:
        """The workspace of a receipt, or of a call that still runs."""
        ...


class AuditRows(Protocol):
    """The audit log's chains."""

    async def load_audit_lines(self, query: AuditQuery) -> Sequence[AuditLine]: ...

    async def load_chains(self) -> ChainsState: ...

    async def verify_chains(self) -> Sequence[Finding]:
        """Every MAC computed again; empty: whole."""
        ...

    async def save_audit(
        self, workspace_id: str | None, action: str, target: str, before: Mapping[str, Any] | None,
        after: Mapping[str, Any] | None, *, at_ms: int, actor: Actor
    ) -> None: ...


class PriceHistory(Protocol):
    async def load_price_versions(self, *, limit: int) -> Sequence[PriceSource]:
        """Newest first."""
        ...

    async def load_overage_flags(self) -> Sequence[OverageFlag]: ...

    async def load_unpriced(self, since_ms: int) -> Sequence[str]:
        """Models of calls that were refused since then because they have no price."""
        ...


class _Store(Overviews, Finds, AuditRows, PriceHistory, Protocol):
    pass


@dataclass(frozen=True, slots=True)
class PriceState:
    """`versions` newest first. `unpriced` are models that calls asked for within thirty days and did not get for want
    of a price; `flags` are of models whose price proved too low."""

    versions: Sequence[PriceSource]
    unpriced: Sequence[str]
    flags: Sequence[OverageFlag]


@dataclass(frozen=True, slots=True)
class Today:
    """All calls of today. `refused` got a no from Ownkey, `failed` an answer from nobody. `lines` are by payer ("byok",
    "credits", "" for nobody), with sums over all outcomes."""

    calls: int
    refused: int
    failed: int
    lines: Sequence[DayLine]


class OverviewControl:
    def __init__(self, store: _Store, directory: Directory, clock: Clock, product: Product) -> None:
        self._store = store
        self._directory = directory
        self._clock = clock
        self._product = product

    # --- counts

    async def counts(self) -> Counts:
        """As of now; expired holds of the last 24 hours."""
        now = self._clock.now_ms()
        return await self._store.load_counts(now, now - EXPIRED_WITHIN_MS)

    @property
    def today(self) -> date:
        return datetime.fromtimestamp(self._clock.now_ms() / 1_000, UTC).date()

    async def calls_today(self) -> Today:
        """By each workspace's own calendar."""
        lines = await self._store.load_today(self.today)
        sums = [
            DayLine(funding, "", *map(sum, zip(*(
                (line.calls, line.cost_nusd, line.charge_credits) for line in lines if line.funding == funding
            ), strict=True)))
            for funding in sorted({line.funding for line in lines}, reverse=True)
        ]
        return Today(
            sum(line.calls for line in lines), _calls(lines, Outcome.REFUSED), _calls(lines, Outcome.FAILED), sums
        )

    async def outbox(self) -> Mapping[str, Mapping[str, int]]:
        """Messages of the last seven days, by channel and state."""
        return await self._store.count_outbox(self._clock.now_ms() - 7 * DAY_MS)

    async def has_platform_key(self) -> bool:
        """Whether there is a key that credits can be spent with."""
        platform = await self._directory.load_platform()
        return platform is not None and is_usable(platform.credentials.get("openrouter"))

    async def has_calls(self) -> bool:
        """Whether any call was ever made."""
        return (await self._store.load_calls(CallQuery(), None, limit=1)).newest > 0

    async def plan_uses(self) -> Sequence[PlanUse]:
        return await self._store.load_plan_uses()

    async def prices(self) -> PriceState:
        return PriceState(
            await self._store.load_price_versions(limit=10),
            await self._store.load_unpriced(self._clock.now_ms() - UNPRICED_WITHIN_MS),
            await self._store.load_overage_flags(),
        )

    # --- lists

    async def workspaces(self, query: WorkspaceQuery) -> tuple[Sequence[WorkspaceLine], str]:
        """A page in the order of ids, and the next page's `after`, "" at the end. Raises Problem."""
        if query.trouble and query.trouble not in TROUBLES:
            raise invalid("trouble", f"There is no list {str(query.trouble)[:40]!r}.", suggest(query.trouble, TROUBLES))
        if len(query.text) > MAX_TEXT:
            raise invalid("q", f"This is longer than {MAX_TEXT} characters.", "Shorten it.")
        lines = await self._store.load_workspace_lines(
            WorkspaceQuery(query.text, query.trouble, query.plan, query.after, query.limit + 1), self._clock.now_ms()
        )
        more = len(lines) > query.limit
        return lines[: query.limit], lines[query.limit - 1].id if more else ""

    def read_calls_filter(self, given: Mapping[str, str]) -> CallQuery:
        """The filter that an address names; empty values are no filter, "none" finds calls without. Dates are UTC, both
        included. Raises Problem with `param`."""
        given = {name: value.strip() for name, value in given.items() if value.strip()}
        for name, value in given.items():
            if name not in _CALL_FILTERS:
                raise invalid(name[:40], f"There is no filter {name[:40]!r}.", suggest(name, _CALL_FILTERS))
            if len(value) > MAX_TEXT:
                raise invalid(name, f"This is longer than {MAX_TEXT} characters.", "Shorten it.")
        _check_word(given, "outcome", tuple(Outcome))
        _check_word(given, "funding", FUNDINGS)
        _check_word(given, "provider", (*PROVIDERS, "none"))
        _check_word(given, "special", (HEALTHY_KEY,))
        since, until = _read_day("since", given), _read_day("until", given)
        if since is not None and until is not None and since > until:
            raise invalid("until", "The last day is before the first one.", "Swap them.")
        funding = given.get("funding")
        return CallQuery(
            workspace_id=given.get("workspace"), task=_none(given.get("task")), model=given.get("model"),
            provider=_none(given.get("provider")), funding="" if funding == "nobody" else funding,
            outcome=given.get("outcome"), code=_none(given.get("code")),
            since_ms=None if since is None else _start_ms(since),
            until_ms=None if until is None else _start_ms(until) + DAY_MS, healthy_key="special" in given,
        )

    async def calls(self, query: CallQuery, before: int | None = None, limit: int = 50) -> CallPage:
        return await self._store.load_calls(query, before, limit=limit)

    async def calls_around(self, workspace_id: str, at_ms: int, span_ms: int, limit: int = 30) -> Sequence[FoundCall]:
        """A workspace's calls up to `span_ms` before or after a moment, newest first."""
        return await self._store.load_calls_around(workspace_id, at_ms - span_ms, at_ms + span_ms, limit=limit)

    async def owner_of(self, receipt_id: str) -> str:
        """Whose call it is. Raises Problem(NOT_FOUND)."""
        found = await self._store.find_owner(receipt_id[:MAX_TEXT])
        if found is None:
            raise not_found("receipt", receipt_id, "here")
        return found

    async def search(self, text: str) -> Sequence[Hit]:
        """Workspaces, receipts, keys by the end of their hint, subscriptions: what goes by exactly this name first.

        Raises Problem, also for a text that is a key: it must not be typed here.
        """
        wanted = " ".join(text.split())
        if not wanted:
            return ()
        if looks_like_secret(wanted):
            raise invalid("q", "This looks like a whole key or token. Nothing was searched for.",
                          "Search for its last 4 characters, and have the key replaced: it was typed into an address.")
        if len(wanted) > MAX_TEXT:
            raise invalid("q", f"This is longer than {MAX_TEXT} characters.", "Shorten it.")
        end = wanted.rpartition("…")[2].rpartition("...")[2]
        hits = await self._store.search(wanted, end if len(end) == 4 else "")
        return sorted(hits, key=lambda hit: not _is_exact(hit, wanted))

    # --- what was done

    async def audit(self, query: AuditQuery) -> Sequence[AuditLine]:
        """Newest first."""
        return await self._store.load_audit_lines(query)

    async def chains(self) -> ChainsState:
        return await self._store.load_chains()

    async def verify_chains(self) -> Sequence[Finding]:
        return await self._store.verify_chains()

    async def note_reason(self, workspace_id: str | None, action: str, target: str, reason: str, actor: Actor) -> None:
        """Before the act itself, in the chain where the act will stand. Raises Problem."""
        await self._store.save_audit(
            workspace_id, "operator.reason", target, None, {"for": action, "reason": check_reason(reason)},
            at_ms=self._clock.now_ms(), actor=actor,
        )

    async def note(self, workspace_id: str | None, action: str, target: str, actor: Actor) -> None:
        """An act whose own bookkeeping names no operator."""
        await self._store.save_audit(
            workspace_id, action, target[:MAX_TEXT], None, None, at_ms=self._clock.now_ms(), actor=actor
        )


def _calls(lines: Sequence[DayLine], outcome: Outcome) -> int:
    return sum(line.calls for line in lines if line.outcome == outcome)


def check_reason(reason: str) -> str:
    """Raises Problem."""
    text = " ".join(reason.split())
    if looks_like_secret(text):
        raise invalid("reason", "This looks like a key or a token; reasons stay in the audit log for ever.",
                      "Say it without.")
    if not MIN_REASON <= len(text) <= MAX_REASON or not text.isprintable():
        raise invalid("reason", f"A reason has {MIN_REASON} to {MAX_REASON} characters.",
                      "Say why, with the ticket's number if there is one.")
    return text


def _is_exact(hit: Hit, wanted: str) -> bool:
    return hit.kind != "workspace" or wanted in (hit.ident, hit.text, hit.workspace_name)


def _check_word(given: Mapping[str, str], name: str, known: Sequence[str]) -> None:
    value = given.get(name)
    if value is not None and value not in known:
        raise invalid(name, f"There is no {name} {value[:40]!r}.", suggest(value, known))


def _none(text: str | None) -> str | None:
    return "" if text == "none" else text


def _read_day(name: str, given: Mapping[str, str]) -> date | None:
    if name not in given:
        return None
    try:
        return date.fromisoformat(given[name])
    except ValueError:
        raise invalid(name, f"{given[name][:20]!r} is not a date.", "Write it as 2026-11-22.") from None


def _start_ms(day: date) -> int:
    return int(datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp()) * 1_000
