"""What the gateway needs of dialects and providers, in its own words.

A dialect is what a caller speaks; a provider is an upstream. Where both speak the same wire format the bytes
pass through and are only observed; elsewhere a request goes through the neutral form and the answer comes
back as neutral events. All of it is pure: no codec touches the network or the clock.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Literal, Protocol

from ownkey.domain.bounds import RequestShape
from ownkey.domain.conversation import ChatRequest, Event
from ownkey.domain.exchange import Origin, UpstreamRequest
from ownkey.domain.failures import Failure
from ownkey.domain.secret import Secret
from ownkey.domain.wire import BadRequest, Edits, EmbeddingsRequest, Endpoint, ErrorFields, Seen

__all__ = [
    "BadRequest",
    "Call",
    "Codec",
    "Dialect",
    "Edits",
    "EmbeddingsRequest",
    "Endpoint",
    "ErrorFields",
    "EventEncoder",
    "EventReader",
    "Passthrough",
    "Provider",
    "Seen",
]


class Call(Protocol):
    """One decoded call. `include_usage` says whether the caller asked for usage in its stream.

    `router_fields` names fields only OpenRouter understands (models, provider, plugins, route, preset …): they
    skip direct routes, but for the `translatable_fields` among them, which a translated route can carry.
    `stateful` names fields that point at what one provider has stored (previous_response_id, conversation …): such
    a call has one possible route, or is refused.
    """

    endpoint: Endpoint
    model: str
    stream: bool
    include_usage: bool
    shape: RequestShape
    router_fields: tuple[str, ...]
    translatable_fields: tuple[str, ...]
    stateful: tuple[str, ...]

    def native_body(self, edits: Edits) -> bytes:
        """The caller's bytes with only `edits` spliced in; everything else keeps its bytes and order."""
        ...

    def left_out(self, model: str) -> tuple[str, ...]:
        """What `native_body` takes out for this upstream model, named for the receipt: another maker's thoughts."""
        ...

    def neutral_chat(self) -> ChatRequest:
        """The request in the neutral form. Raises BadRequest for a body that no route could read."""
        ...

    def neutral_embeddings(self) -> EmbeddingsRequest: ...


class EventEncoder(Protocol):
    """Neutral events → the caller's bytes, for one answer."""

    def encode(self, events: Iterable[Event]) -> bytes:
        """Streamed: the frames for these events (maybe none)."""
        ...

    def end(self) -> bytes:
        """Streamed: the frames that close a complete answer (usage where asked, terminator)."""
        ...

    def whole(self, events: Iterable[Event]) -> bytes:
        """Not streamed: the whole answer's body."""
        ...


class Dialect(Protocol):
    """`name` is "openai", "openrouter" or "anthropic"; a provider says by it whether it passes through or translates.

    `keepalive` is the comment frame that keeps a silent stream's connection open; `request_id_header` the answer's
    header that the dialect's SDKs show in their errors.
    """

    name: str
    keepalive: bytes
    request_id_header: str

    def decode(self, endpoint: Endpoint, body: bytes) -> Call:
        """Raises BadRequest."""
        ...

    def encoder(self, call: Call, created_s: int, answer_id: str) -> EventEncoder:
        """`answer_id` is used where the provider gave no id; `created_s` is Unix time."""
        ...

    def encode_error(self, error: ErrorFields) -> bytes:
        """The envelope's body."""
        ...

    def encode_stream_error(self, error: ErrorFields, call: Call | None, seen: Seen | None) -> bytes:
        """The frames that end a stream whose answer failed after it began, in the form of `call`'s endpoint; `seen`
        is what the caller got of the answer. Never followed by a terminator."""
        ...


class Passthrough(Protocol):
    """Relays a stream of the caller's own wire format and observes it."""

    seen: Seen

    def feed(self, data: bytes) -> Sequence[bytes]:
        """Whole frames to relay, as received. After `seen.failure` is set, no further frame comes out."""
        ...

    def eof(self) -> Sequence[bytes]:
        """The upstream closed. Supplies a missing terminator after a complete answer; sets `seen.ended`."""
        ...


class EventReader(Protocol):
    """Turns a provider's stream into neutral events and observes it."""

    seen: Seen

    def feed(self, data: bytes) -> Sequence[Event]: ...

    def eof(self) -> Sequence[Event]: ...


class Codec(Protocol):
    """One provider's wire format for one endpoint. `wire` names the format ("openai.chat", "openai.embeddings",
    "openai.responses", "anthropic.messages", "anthropic.count_tokens", "google.generate", "google.embeddings").
    """

    wire: str
    interim_usage: bool
    """Whether usage is reported before the answer's end too: then a cut stream's last report is not the bill."""

    def encode_chat(self, model: str, request: ChatRequest, output_limit: int) -> bytes:
        """The provider's body. Raises Untranslatable for what it cannot carry."""
        ...

    def encode_embeddings(self, model: str, request: EmbeddingsRequest) -> bytes:
        """The same for embeddings."""
        ...

    def dropped_hints(self, request: ChatRequest) -> tuple[str, ...]:
        """Hints of the request that this format has no place for; they are named on the receipt."""
        ...

    def passthrough(self, call: Call) -> Passthrough: ...

    def events(self) -> EventReader: ...

    def observe_whole(self, body: bytes) -> Seen:
        """A whole 200 body of the caller's own wire format. A broken or empty body sets `failure`."""
        ...

    def decode_whole(self, body: bytes) -> tuple[Seen, Sequence[Event]]:
        """The same for translation, as neutral events."""
        ...


class Provider(Protocol):
    """One upstream: data and pure codecs."""

    id: str

    @property
    def request_id_header(self) -> str | None:
        """The answer's header with the provider's id of the exchange, for its support desk; in lower case."""
        ...

    def stops_billing(self, model: str) -> bool:
        """Whether closing the connection ends the generation, and so the bill, of this model."""
        ...

    def codec(
        self, dialect: str, endpoint: Endpoint
    ) -> tuple[Codec, Literal["passthrough", "translated"]] | None:
        """How this provider serves a dialect's endpoint; None if it does not."""
        ...

    def request(
        self, origin: Origin, codec: Codec, model: str, body: bytes, stream: bool, credential: Secret,
        headers: Mapping[str, str],
    ) -> UpstreamRequest:
        """`headers` are the caller's that may pass plus the product's attribution."""
        ...

    def decode_failure(self, status: int, headers: Mapping[str, str], body: bytes) -> Failure:
        """Classify an answer whose status is not 200. Never raises, whatever the body holds."""
        ...
