"""What the table is made of: callers' lanes, their modes, where a fault strikes, and what it must lead to."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

Json = dict[str, Any]
Mode = Literal["body", "live", "whole"]
Where = Literal["direct", "router", "both", "once"]
Sdk = Literal["openai", "openrouter", "anthropic"]

MODES: tuple[Mode, ...] = ("body", "live", "whole")
WHERES: tuple[Where, ...] = ("direct", "router", "both", "once")

PASSING = frozenset({"network", "overload", "timeout", "rate_limit"})
STOPPING = frozenset({"request", "too_long", "policy", "bad_output"})
CODES: Mapping[str, str] = {
    **dict.fromkeys(PASSING, "provider_unavailable"), "bad_output": "provider_unavailable",
    "auth": "credential_rejected", "scope": "credential_rejected", "funds": "credential_out_of_funds",
    "model_missing": "unknown_model", "request": "bad_request", "too_long": "context_too_long",
    "policy": "content_refused",
}
"""What the caller is told if nothing else answers: the contract's own table, written down a second time."""


@dataclass(frozen=True, slots=True)
class Lane:
    """One caller's way in. `direct` is the provider whose own key stands before OpenRouter's."""

    name: str
    path: str
    endpoint: Literal["chat", "embeddings", "responses", "messages"]
    sdk: Sdk
    direct: str
    model: str
    modes: tuple[Mode, ...] = MODES
    translated: bool = False

    @property
    def upstream(self) -> str:
        """What the direct provider calls the endpoint."""
        if self.direct in {"anthropic", "google"}:
            return "messages" if self.direct == "anthropic" else "generateContent"
        return "chat" if self.translated else self.endpoint


_MINI = "openai/gpt-4.1-mini"
_HAIKU = "anthropic/claude-haiku-4.5"
LANES: tuple[Lane, ...] = (
    Lane("chat", "/v1/chat/completions", "chat", "openai", "openai", _MINI),
    Lane("chat → anthropic", "/v1/chat/completions", "chat", "openai", "anthropic", _HAIKU, translated=True),
    Lane("chat → google", "/v1/chat/completions", "chat", "openai", "google", "google/gemini-2.5-flash-lite",
         translated=True),
    Lane("router chat", "/api/v1/chat/completions", "chat", "openrouter", "openai", _MINI),
    Lane("embeddings", "/v1/embeddings", "embeddings", "openai", "openai", "openai/text-embedding-3-small", ("body",)),
    Lane("responses", "/v1/responses", "responses", "openai", "openai", _MINI),
    Lane("router responses", "/api/v1/responses", "responses", "openrouter", "openai", _MINI),
    Lane("messages", "/v1/messages", "messages", "anthropic", "anthropic", _HAIKU),
    Lane("messages → openai", "/v1/messages", "messages", "anthropic", "openai", _MINI, translated=True),
)


@dataclass(frozen=True, slots=True)
class Effect:
    """What a fault is to one kind of answer. `harmless`: the route itself must still answer, whole. `before` and
    `after` the first content. `cls` is its failure class. `wait` is what it says of a second try: "short" a time that
    is kept, "long" one that is not. `late`: not broken but slow, so that where nothing else can answer it does."""

    when: Literal["harmless", "before", "after"]
    cls: str = ""
    wait: Literal["", "short", "long"] = ""
    late: bool = False

    @property
    def stops(self) -> bool:
        """The request itself is at fault: no other route is asked."""
        return self.cls in STOPPING

    @property
    def retried(self) -> bool:
        """Whether the last route is tried a second time."""
        if self.wait:
            return self.wait == "short"
        return self.cls in {"network", "overload"}


HARMLESS = Effect("harmless")


def before(cls: str, *, wait: Literal["", "short", "long"] = "", late: bool = False) -> Effect:
    """No content came."""
    return Effect("before", cls, wait, late)


def after(cls: str) -> Effect:
    """Content came; of a whole body that is nothing yet, because it is read to its end first."""
    return Effect("after", cls)


@dataclass(frozen=True, slots=True)
class Target:
    """Whom a fault is played to: what its script may depend on."""

    provider: str
    endpoint: str
    stream: bool


Script = Callable[[Target], Json | None]
"""The emulator's fault for one target; None where there is no such fault."""


@dataclass(frozen=True, slots=True)
class Fault:
    """One row. `body`, `stream`: what it is to an answer in one piece and to a stream (None: it has no such form).

    `own` has other effects by provider. `wall` faults are no emulator's but of an address: `refused`, `unanswered`.
    `alone`: played while nothing else is, because it strikes whoever uses the connection next. `twice`: it is the
    next call that it strikes. `replaced`: a connection that was kept for later may die so, and is replaced unseen.
    `free`: at these endpoints (`*`: all) the provider itself says that the answer cost nothing, and is believed.
    `slowly`: so much arrives that on a busy machine time may be over before it is recognised. `unread_by`: packages
    that cannot read what the provider sends here, with or without a gateway. `answers`: the successful answer is
    another one than usual (a masked key).
    """

    name: str
    group: str
    script: Script
    body: Effect | None
    stream: Effect | None
    own: Mapping[str, Effect] = field(default_factory=dict)
    wall: str = ""
    only: frozenset[str] = frozenset()
    answers: Literal["same", "masked"] = "same"
    alone: bool = False
    twice: bool = False
    replaced: bool = False
    free: frozenset[str] = frozenset()
    slowly: bool = False
    unread_by: frozenset[str] = frozenset()

    @property
    def plain(self) -> bool:
        """A status and nothing else: there are many, and the modes of streaming hardly matter to them."""
        return self.group in {"A status without words", "A provider's own refusal"}

    def effect(self, target: Target) -> Effect | None:
        """What it is to this target; None if it has no such fault."""
        if self.only and target.provider not in self.only and target.endpoint not in self.only:
            return None
        usual = self.stream if target.stream else self.body
        if usual is None or (not self.wall and self.script(target) is None):
            return None
        return self.own.get(target.provider, usual)


@dataclass(frozen=True, slots=True)
class Case:
    """One cell of the table: a fault, a caller's lane and mode, and where it strikes. `round` counts its replays."""

    number: int
    fault: Fault
    lane: Lane
    mode: Mode
    where: Where
    round: int = 0

    @property
    def name(self) -> str:
        again = f" | round {self.round}" if self.round else ""
        return f"{self.fault.name} | {self.where} | {self.lane.name} | {self.mode}{again}"

    @property
    def struck(self) -> tuple[str, ...]:
        """The providers that fail."""
        return {
            "direct": (self.lane.direct,), "both": (self.lane.direct, "openrouter"),
        }.get(self.where, ("openrouter",))

    def target(self, provider: str) -> Target:
        endpoint = self.lane.endpoint if provider == "openrouter" else self.lane.upstream
        return Target(provider, endpoint, self.mode != "body")
