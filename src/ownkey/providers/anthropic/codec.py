"""The Messages API as one codec: requests into it, answers out of it."""

from ownkey.domain.conversation import ChatRequest, Untranslatable
from ownkey.domain.wire import EmbeddingsRequest
from ownkey.providers.anthropic import encode
from ownkey.providers.anthropic.events import MessagesReader
from ownkey.providers.anthropic.failures import FAILURES
from ownkey.providers.translated import Judge, TranslatedCodec


class MessagesCodec(TranslatedCodec):
    """`anthropic.messages`: requests into it, messages out of it. `judge` is the provider's way of reading an error."""

    wire = "anthropic.messages"
    terminator = b'event: message_stop\ndata: {"type":"message_stop"}\n\n'

    def __init__(self, judge: Judge = FAILURES.judge_error) -> None:
        self._judge = judge

    def encode_chat(self, model: str, request: ChatRequest, output_limit: int) -> bytes:
        """The provider's body. Raises Untranslatable for what it cannot carry."""
        return encode.encode_chat(model, request, output_limit)

    def encode_embeddings(self, model: str, request: EmbeddingsRequest) -> bytes:
        """Anthropic has no embeddings."""
        raise Untranslatable("input", "the provider has no embeddings")

    def dropped_hints(self, request: ChatRequest) -> tuple[str, ...]:
        """The hints that `encode_chat` leaves behind, for the receipt."""
        return encode.dropped_hints(request)

    def events(self) -> MessagesReader:
        """A reader for one answer."""
        return MessagesReader(self._judge)
