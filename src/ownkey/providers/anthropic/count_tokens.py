"""The counting of a request's tokens: a whole answer of one number, which costs nothing."""

from collections.abc import Sequence

import msgspec

from ownkey.domain.conversation import ChatRequest, Event, Failed, Started, Untranslatable, UsageReport
from ownkey.domain.usage import Usage
from ownkey.domain.wire import EmbeddingsRequest, Seen
from ownkey.providers.anthropic.events import MessagesReader
from ownkey.providers.anthropic.failures import FAILURES
from ownkey.providers.classify import UNREADABLE, read_error_object
from ownkey.providers.translated import TranslatedCodec, broken


class _Count(msgspec.Struct):
    input_tokens: int


_COUNTS = msgspec.json.Decoder(_Count)


class CountTokensCodec(TranslatedCodec):
    """`anthropic.count_tokens`: it only passes through, because every model counts with its own tokenizer."""

    wire = "anthropic.count_tokens"
    interim_usage = False

    def encode_chat(self, model: str, request: ChatRequest, output_limit: int) -> bytes:
        """Nothing is translated into it."""
        raise Untranslatable("messages", "counting is another endpoint")

    def encode_embeddings(self, model: str, request: EmbeddingsRequest) -> bytes:
        """Nothing is translated into it."""
        raise Untranslatable("input", "counting is another endpoint")

    def dropped_hints(self, request: ChatRequest) -> tuple[str, ...]:
        """None: nothing is translated."""
        return ()

    def events(self) -> MessagesReader:
        """A reader for a stream that is never sent."""
        return MessagesReader(FAILURES.judge_error)

    def decode_whole(self, body: bytes) -> tuple[Seen, Sequence[Event]]:
        """The number stays in the caller's bytes. Counting is free (platform.claude.com, "Token counting")."""
        seen = Seen(ended=True)
        try:
            count = _COUNTS.decode(body)
        except UNREADABLE:
            count = None
        if count is None or count.input_tokens < 0:
            document = read_error_object(body) or {}
            told = document.get("error")
            seen.failure = FAILURES.judge_error(document) if told else broken("body without a count")
            return seen, (Failed(seen.failure),)
        seen.complete = seen.content = True
        seen.usage = Usage(cost_nusd=0)
        return seen, (Started("", ""), UsageReport(seen.usage))
