"""OpenAI's Responses as a codec of OpenAI and of OpenRouter. It only passes through: there is no neutral form of it."""

from collections.abc import Sequence

from ownkey.domain.conversation import ChatRequest, Event, Failed, Started, Untranslatable, UsageReport
from ownkey.domain.wire import EmbeddingsRequest, Seen
from ownkey.providers.openai_events import ChatEvents
from ownkey.providers.openai_wire import Judge, WatchedCall
from ownkey.providers.responses_wire import ResponsesPassthrough, observe_response


class ResponsesCodec:
    """`judge` is the provider's way of reading an error inside an answer; `terminated` says whether its streams end
    with `[DONE]`."""

    def __init__(self, judge: Judge, terminated: bool) -> None:
        self.wire = "openai.responses"
        self.interim_usage = False
        self._judge = judge
        self._terminated = terminated

    def encode_chat(self, model: str, request: ChatRequest, output_limit: int) -> bytes:
        """Chat has a codec of its own."""
        raise Untranslatable("messages", "chat is another endpoint")

    def encode_embeddings(self, model: str, request: EmbeddingsRequest) -> bytes:
        """Embeddings have a codec of their own."""
        raise Untranslatable("input", "embeddings are another endpoint")

    def dropped_hints(self, request: ChatRequest) -> tuple[str, ...]:
        """None: nothing is translated into this format."""
        return ()

    def passthrough(self, call: WatchedCall) -> ResponsesPassthrough:
        """A reader that relays one stream."""
        return ResponsesPassthrough(self._judge, self._terminated)

    def events(self) -> ChatEvents:
        """A reader for a translation that no caller asks for."""
        return ChatEvents(self._judge)

    def observe_whole(self, body: bytes) -> Seen:
        """What a whole 200 body shows."""
        return observe_response(body, self._judge)

    def decode_whole(self, body: bytes) -> tuple[Seen, Sequence[Event]]:
        """Who answered and what it used: a response passes as bytes, never as events."""
        seen = observe_response(body, self._judge)
        if seen.failure is not None:
            return seen, (Failed(seen.failure),)
        events: list[Event] = [Started(seen.response_id or "", seen.model or "")]
        if seen.usage is not None:
            events.append(UsageReport(seen.usage))
        return seen, events
