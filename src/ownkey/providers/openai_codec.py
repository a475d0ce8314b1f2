"""OpenAI's wire formats as codecs, shared by OpenAI itself and by OpenRouter."""

from collections.abc import Sequence

from ownkey.domain.conversation import ChatRequest, Event, Failed, Started, Untranslatable, UsageReport
from ownkey.domain.wire import EmbeddingsRequest, Seen
from ownkey.providers import openai_requests
from ownkey.providers.openai_events import ChatEvents, decode_chat
from ownkey.providers.openai_wire import (
    ChatPassthrough,
    Judge,
    WatchedCall,
    observe_chat,
    observe_embeddings,
)


class ChatCodec:
    """Chat completions; `judge` is the provider's way of reading an error inside an answer."""

    def __init__(self, judge: Judge) -> None:
        self.wire = "openai.chat"
        self.interim_usage = False
        self._judge = judge

    def encode_chat(self, model: str, request: ChatRequest, output_limit: int) -> bytes:
        """The provider's body. Raises Untranslatable for what it cannot carry."""
        return openai_requests.encode_chat(model, request, output_limit)

    def encode_embeddings(self, model: str, request: EmbeddingsRequest) -> bytes:
        """Embeddings have a codec of their own."""
        raise Untranslatable("input", "embeddings are another endpoint")

    def dropped_hints(self, request: ChatRequest) -> tuple[str, ...]:
        """Hints that the format has no place for."""
        return openai_requests.dropped_hints(request)

    def passthrough(self, call: WatchedCall) -> ChatPassthrough:
        """A reader that relays one stream."""
        return ChatPassthrough(self._judge, call)

    def events(self) -> ChatEvents:
        """A reader that translates one stream."""
        return ChatEvents(self._judge)

    def observe_whole(self, body: bytes) -> Seen:
        """What a whole 200 body shows."""
        return observe_chat(body, self._judge)[0]

    def decode_whole(self, body: bytes) -> tuple[Seen, Sequence[Event]]:
        """A whole 200 body as neutral events."""
        return decode_chat(body, self._judge)


class EmbeddingsCodec:
    """Embeddings. They do not stream: a reader relays nothing that is no event stream."""

    def __init__(self, judge: Judge) -> None:
        self.wire = "openai.embeddings"
        self.interim_usage = False
        self._judge = judge

    def encode_chat(self, model: str, request: ChatRequest, output_limit: int) -> bytes:
        """Chat has a codec of its own."""
        raise Untranslatable("messages", "chat is another endpoint")

    def encode_embeddings(self, model: str, request: EmbeddingsRequest) -> bytes:
        """The provider's body."""
        return openai_requests.encode_embeddings(model, request)

    def dropped_hints(self, request: ChatRequest) -> tuple[str, ...]:
        """None: an embeddings request has no hints."""
        return ()

    def passthrough(self, call: WatchedCall) -> ChatPassthrough:
        """A reader for a stream that no provider sends."""
        return ChatPassthrough(self._judge, call)

    def events(self) -> ChatEvents:
        """A reader for a stream that no provider sends."""
        return ChatEvents(self._judge)

    def observe_whole(self, body: bytes) -> Seen:
        """What a whole 200 body shows; its vectors stay undecoded."""
        return observe_embeddings(body, self._judge)

    def decode_whole(self, body: bytes) -> tuple[Seen, Sequence[Event]]:
        """Who answered and what it used: vectors pass as bytes, never as events."""
        seen = observe_embeddings(body, self._judge)
        if seen.failure is not None:
            return seen, (Failed(seen.failure),)
        events: list[Event] = [Started(seen.response_id or "", seen.model or "")]
        if seen.usage is not None:
            events.append(UsageReport(seen.usage))
        return seen, events
