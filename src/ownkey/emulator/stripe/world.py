"""The account's whole state: objects by kind, what Stripe knows without showing it, the time, and the events.

An object is kept as the JSON that Stripe answers with, references as ids. Everything here is synchronous: a request
or a due change happens at once or not at all.
"""

import contextlib
import copy
import random
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from . import API_VERSION
from .refusals import Json, Refusal, busy, missing
from .shapes import blank

_LETTERS = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_NOUNS = {
    "billing_portal.configuration": "configuration", "billing_portal.session": "portal session",
    "invoiceitem": "invoice item", "test_helpers.test_clock": "test clock", "payment_method": "PaymentMethod",
}  # fmt: skip


@dataclass(slots=True)
class Settings:
    """What a Dashboard would set, and the emulator's own pace. Times in seconds unless their name says days."""

    account: str = "acct_1EmulatedStripe"
    livemode: bool = False
    keys: list[str] = field(default_factory=list)  # empty: every well-formed key of the mode is accepted
    retry_days: list[int] = field(default_factory=lambda: [3, 5, 7])  # after each failed payment of an invoice
    final_action: str = "cancel"  # of a subscription whose retries are used up: cancel, unpaid, past_due
    finalize_after_s: int = 3600  # a renewal's invoice stays a draft for an hour
    advance_s: float = 0.05  # how long a test clock says "advancing"
    two_intervals: bool = True  # a test clock refuses to go further than two billing periods at once
    webhooks_on: bool = True  # False: events happen and nobody is told
    webhook_retry_s: list[float] = field(default_factory=lambda: [0.5, 2.0, 10.0, 60.0, 300.0])
    webhook_timeout_s: float = 10.0
    signature_time: str = "real"  # of webhook signatures: real, or the account's virtual time
    event_days: int = 30  # how long the events list reaches back


@dataclass(frozen=True, slots=True)
class Origin:
    """The request that caused an event; both are None where time caused it."""

    request: str | None = None
    idempotency_key: str | None = None


class World:
    """One Stripe account."""

    def __init__(self, seed: int = 0, wall: Callable[[], float] = time.time) -> None:
        self._seed = seed
        self._wall = wall
        self.url = "http://127.0.0.1"
        self.listeners: list[Callable[[Json], None]] = []
        self._fresh: list[tuple[str, str]] | None = None  # what the request under way has made
        self.later: Callable[[float, Callable[[], None]], None] = lambda _, act: act()
        self.reset()

    def reset(self) -> None:
        """An account as new. The ids of a seed start over."""
        self.settings = Settings()
        self.origin = Origin()
        self.failing: dict[str, str] = {}  # customer -> decline code of every charge
        self.idempotent: dict[str, Any] = {}
        self._dice = random.Random(self._seed)  # noqa: S311 - ids that a seed repeats, not secrets
        self._objects: dict[str, dict[str, Json]] = {}
        self._hidden: dict[str, Json] = {}
        self._acting: dict[str | None, int] = {}
        self._offset = 0
        self._frozen: int | None = None
        if self._fresh is not None:
            self._fresh = []

    # time

    def now(self) -> int:
        """The account's time."""
        if None in self._acting:
            return self._acting[None]
        return self.wall_now()

    def wall_now(self) -> int:
        """The account's time, whatever due change is being made."""
        return self._frozen if self._frozen is not None else int(self._wall()) + self._offset

    def set_time(self, moment: int, *, frozen: bool) -> None:
        """Move the account's time; frozen time stands still until it is moved again."""
        self._offset = moment - int(self._wall())
        self._frozen = moment if frozen else None

    def moment(self, clock: str | None) -> int:
        """What time it is for objects of a test clock, or of none."""
        if clock in self._acting:
            return self._acting[clock]
        return int(self.get("test_helpers.test_clock", clock)["frozen_time"]) if clock else self.now()

    @contextlib.contextmanager
    def acting(self, clock: str | None, moment: int) -> Iterator[None]:
        """Do something due at `moment` of that clock."""
        self._acting[clock] = moment
        try:
            yield
        finally:
            del self._acting[clock]

    # objects

    def new_id(self, prefix: str, length: int = 24) -> str:
        """A fresh id; the same seed and the same requests give the same ids."""
        return prefix + "".join(self._dice.choices(_LETTERS, k=length))

    def make(self, kind: str, ident: str, moment: int, **values: Any) -> Json:
        """Keep a new object: every nullable field null unless given."""
        made = {"id": ident, **blank(kind), "created": moment, "livemode": self.settings.livemode, **values}
        self._objects.setdefault(kind, {})[ident] = made
        if self._fresh is not None:
            self._fresh.append((kind, ident))
        return made

    def find(self, kind: str, ident: object) -> Json | None:
        """The object, or None."""
        return self._objects.get(kind, {}).get(str(ident))

    def get(self, kind: str, ident: object, param: str = "id", *, in_path: bool = False) -> Json:
        """The object, or Refused as Stripe refuses an unknown id."""
        found = self.find(kind, ident)
        if found is None:
            raise missing(_NOUNS.get(kind, kind.rpartition(".")[2]), str(ident), param, in_path=in_path)
        return found

    def anything(self, ident: str) -> Json | None:
        """The object of whatever kind with this id."""
        return next((objects[ident] for objects in self._objects.values() if ident in objects), None)

    def every(self, kind: str) -> list[Json]:
        """All objects of a kind, oldest first."""
        return list(self._objects.get(kind, {}).values())

    def kinds(self) -> list[str]:
        """The kinds of which there is anything."""
        return [kind for kind, objects in self._objects.items() if objects]

    def drop(self, kind: str, ident: str) -> None:
        """Forget an object."""
        self._objects.get(kind, {}).pop(ident, None)

    def hidden(self, ident: str) -> Json:
        """What Stripe knows of an object and does not show."""
        return self._hidden.setdefault(ident, {})

    # rules that many objects share

    def usable(self, clock: str | None) -> None:
        """Refuse to touch what a test clock is moving just now."""
        if clock and clock not in self._acting and self.get("test_helpers.test_clock", clock)["status"] == "advancing":
            raise busy("Test clock advancement underway - cannot perform modifications.", "lock_timeout")

    def clock_of(self, customer: str | None) -> str | None:
        """The test clock of a customer, if it has one."""
        found = self.find("customer", customer) if customer else None
        return found.get("test_clock") if found else None

    # events

    def emit(self, kind: str, thing: Json, before: Json | None = None) -> Json:
        """Write an event with the object as it is now, and hand it to whoever delivers."""
        data: Json = {"object": copy.deepcopy(thing)}
        if before is not None:
            data["previous_attributes"] = before
        request = {"id": self.origin.request, "idempotency_key": self.origin.idempotency_key}
        event = self.make(
            "event", self.new_id("evt_1"), self.now(), api_version=API_VERSION, data=data, type=kind,
            pending_webhooks=0, request=request,
        )  # fmt: skip
        if self._fresh is None:
            self._tell(event)
        return event

    def _tell(self, event: Json) -> None:
        for listener in self.listeners:
            listener(event)

    @contextlib.contextmanager
    def request(self, origin: Origin) -> Iterator[None]:
        """One request: a refusal that saved nothing leaves nothing, not even its events."""
        self.origin = origin
        self._fresh = []
        try:
            yield
        except Refusal as refusal:
            if not refusal.saved:
                for kind, ident in self._fresh:
                    self.drop(kind, ident)
                self._fresh = []
            raise
        finally:
            made, self._fresh, self.origin = self._fresh or [], None, Origin()
            for kind, ident in made:
                event = self.find(kind, ident) if kind == "event" else None
                if event is not None:
                    self._tell(event)

    @contextlib.contextmanager
    def changing(self, thing: Json, kind: str) -> Iterator[Json]:
        """Change an object; where anything changed, say so by an event with the old values."""
        before = copy.deepcopy(thing)
        yield thing
        old = {name: before.get(name) for name in thing if before.get(name) != thing[name]}
        if old:
            self.emit(kind, thing, old)


def listed(items: list[Json], url: str, *, more: bool = False) -> Json:
    """A list object."""
    return {"object": "list", "data": items, "has_more": more, "url": url}


def range_ok(value: int, bounds: Json | None) -> bool:
    """Whether a time is inside gt, gte, lt and lte bounds."""
    tests: dict[str, Callable[[int], bool]] = {
        "gt": lambda edge: value > edge, "gte": lambda edge: value >= edge,
        "lt": lambda edge: value < edge, "lte": lambda edge: value <= edge,
    }  # fmt: skip
    return all(tests[name](edge) for name, edge in (bounds or {}).items())
