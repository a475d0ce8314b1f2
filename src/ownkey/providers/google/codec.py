"""generateContent as one codec: requests into it, answers out of it."""

from ownkey.domain.conversation import ChatRequest, Untranslatable
from ownkey.domain.wire import EmbeddingsRequest
from ownkey.providers.google import encode
from ownkey.providers.google.events import GenerateReader
from ownkey.providers.translated import TranslatedCodec


class GenerateCodec(TranslatedCodec):
    """`google.generate`: requests into it, candidates out of it. Its streams have no terminator."""

    wire = "google.generate"

    def encode_chat(self, model: str, request: ChatRequest, output_limit: int) -> bytes:
        """The provider's body. Raises Untranslatable for what it cannot carry."""
        return encode.encode_chat(model, request, output_limit)

    def encode_embeddings(self, model: str, request: EmbeddingsRequest) -> bytes:
        """Embeddings have a codec of their own."""
        raise Untranslatable("input", "embeddings are another endpoint")

    def dropped_hints(self, request: ChatRequest) -> tuple[str, ...]:
        """The hints that `encode_chat` leaves behind, for the receipt."""
        return encode.dropped_hints(request)

    def events(self) -> GenerateReader:
        """A reader for one answer."""
        return GenerateReader()
