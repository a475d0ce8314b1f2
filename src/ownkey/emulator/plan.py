"""The neutral middle: what a request asks, what the model answers, and the frames that carry it.

Each wire format reads its request into an `Ask` and writes an `Answer` as a `Plan`. A plan is a pure function of the
request, so it is kept and replayed: the request's id and time are marks in it, filled in when it is sent.
"""

from dataclasses import dataclass, field
from typing import Any, Literal

from .catalogue import Model

Json = dict[str, Any]
Finish = Literal["stop", "length", "tool_calls", "refusal", "content_filter", "blocked"]
PartKind = Literal["reasoning", "text", "tool", "refusal"]
EventKind = Literal["head", "ping", "content", "finish", "usage", "end", "error", "stall", "cut", "reset", "endless"]

ID_MARK = "~request-id~"
TIME_MARK = 7_770_000_000_777
ID_BYTES = ID_MARK.encode()
TIME_BYTES = str(TIME_MARK).encode()


@dataclass(frozen=True, slots=True)
class Failure:
    """An answer that is no success; `headers` are whole header lines, content-type excepted."""

    status: int
    body: bytes
    headers: bytes = b""
    content_type: bytes = b"application/json"


class Refused(Exception):
    """The provider refuses the request before any work."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.status)
        self.failure = failure


@dataclass(frozen=True, slots=True)
class Tool:
    name: str
    schema: Json


@dataclass(frozen=True, slots=True)
class CachePoint:
    """A place that `cache_control` marks: the hash of everything before it, its length, and how long it lives."""

    digest: str
    tokens: int
    hour: bool


@dataclass(slots=True)
class Ask:
    """One generation, in no provider's words. `text` is the whole prompt, `last` the newest user text."""

    model: str
    text: str = ""
    last: str = ""
    input_tokens: int = 0
    limit: int | None = None
    n: int = 1
    stream: bool = False
    include_usage: bool = False
    tools: tuple[Tool, ...] = ()
    tool_mode: Literal["none", "auto", "required"] = "auto"
    tool_name: str | None = None
    parallel: bool = True
    after_tool: bool = False
    schema: Json | None = None
    json_object: bool = False
    thinks: bool = False
    shows_thoughts: bool = False
    stop: tuple[str, ...] = ()
    cache_points: tuple[CachePoint, ...] = ()
    extra: Json = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Part:
    """A stretch of an answer. `text` is prose, or a tool call's arguments as JSON."""

    kind: PartKind
    text: str
    tokens: int
    id: str = ""
    name: str = ""
    signature: str = ""


@dataclass(frozen=True, slots=True)
class Choice:
    parts: tuple[Part, ...]
    finish: Finish
    stop_sequence: str | None = None
    hidden_tokens: int = 0

    @property
    def output_tokens(self) -> int:
        return self.hidden_tokens + sum(part.tokens for part in self.parts)

    @property
    def reasoning_tokens(self) -> int:
        return self.hidden_tokens + sum(part.tokens for part in self.parts if part.kind == "reasoning")

    def text_of(self, kind: PartKind) -> str:
        return "".join(part.text for part in self.parts if part.kind == kind)

    @property
    def calls(self) -> tuple[Part, ...]:
        return tuple(part for part in self.parts if part.kind == "tool")


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens in disjoint classes; `output` includes `reasoning`, as every provider bills it."""

    input: int = 0
    cache_read: int = 0
    cache_write_5m: int = 0
    cache_write_1h: int = 0
    output: int = 0
    reasoning: int = 0

    @property
    def prompt(self) -> int:
        """All tokens that went in."""
        return self.input + self.cache_read + self.cache_write_5m + self.cache_write_1h

    @property
    def cache_write(self) -> int:
        return self.cache_write_5m + self.cache_write_1h

    def so_far(self, output: int) -> "Usage":
        """The same request stopped after `output` tokens."""
        return Usage(
            self.input, self.cache_read, self.cache_write_5m, self.cache_write_1h, output, min(self.reasoning, output)
        )


@dataclass(frozen=True, slots=True)
class Event:
    """One frame of a stream. `done` is how many output tokens exist once it is sent."""

    data: bytes
    kind: EventKind
    done: int = 0


@dataclass(frozen=True, slots=True)
class Twist:
    """How a scripted fault bends the usage report. The bill does not bend."""

    usage: Literal["true", "missing", "zero", "null"] = "true"
    finish_error: bool = False
    native_error: bool = False
    finish_reason: str = ""


HONEST = Twist()


@dataclass(frozen=True, slots=True)
class Cost:
    """What the request costs the customer, and the shares OpenRouter reports of it.

    `extra_nusd` is a fee for something other than tokens (a web search), inside `upstream_nusd`.
    """

    nusd: int
    completions_nusd: int
    upstream_nusd: int
    fee_nusd: int
    is_byok: bool = False
    extra_nusd: int = 0


@dataclass(frozen=True, slots=True)
class Plan:
    """A whole answer ready to be sent: `body` if it goes in one piece, else `events`."""

    model: Model
    served: str
    usage: Usage
    cost: Cost
    stream: bool
    body: bytes = b""
    events: tuple[Event, ...] = ()
    joined: bytes = b""
    keep: bool = True
    finish: str = "stop"


@dataclass(frozen=True, slots=True)
class Draft:
    """Everything a wire format needs to write one answer."""

    provider: str
    ask: Ask
    model: Model
    served: str
    choices: tuple[Choice, ...]
    usage: Usage
    cost: Cost
    delta_tokens: int = 4
    twist: Twist = HONEST
    seed: int = 0
