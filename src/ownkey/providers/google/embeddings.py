"""Google's batchEmbedContents: texts in, vectors out."""

from collections.abc import Sequence
from typing import Any

import msgspec

from ownkey.domain.conversation import ChatRequest, Embedded, Event, Failed, Started, Untranslatable, UsageReport
from ownkey.domain.wire import EmbeddingsRequest, Seen
from ownkey.providers.classify import UNREADABLE, read_error_object
from ownkey.providers.google.events import GenerateReader
from ownkey.providers.google.failures import FAILURES
from ownkey.providers.google.usage import usage_of
from ownkey.providers.translated import TranslatedCodec, broken

MAX_TEXTS = 100


class _Vector(msgspec.Struct):
    values: tuple[float, ...]


class _Answer(msgspec.Struct, rename="camel"):
    embeddings: list[_Vector]
    usage_metadata: dict[str, Any] | None = None


_ANSWERS = msgspec.json.Decoder(_Answer)


class EmbeddingsCodec(TranslatedCodec):
    """`google.embeddings`: requests into it, vectors out of it."""

    wire = "google.embeddings"
    interim_usage = False

    def encode_embeddings(self, model: str, request: EmbeddingsRequest) -> bytes:
        """The provider's body. Raises Untranslatable for token lists, which only OpenAI's tokenizer could read."""
        name = model if model.startswith("models/") else f"models/{model}"
        if len(request.inputs) > MAX_TEXTS:
            raise Untranslatable("input", f"Gemini embeds at most {MAX_TEXTS} texts at once")
        requests = []
        for text in request.inputs:
            if not isinstance(text, str):
                raise Untranslatable("input", "Gemini embeds texts, not tokens")
            if not text:
                raise Untranslatable("input", "Gemini embeds no empty text")
            entry: dict[str, Any] = {"model": name, "content": {"parts": [{"text": text}]}}
            if request.dimensions is not None:
                entry["outputDimensionality"] = request.dimensions
            requests.append(entry)
        return msgspec.json.encode({"requests": requests})

    def encode_chat(self, model: str, request: ChatRequest, output_limit: int) -> bytes:
        """Chat has a codec of its own."""
        raise Untranslatable("messages", "chat is another endpoint")

    def dropped_hints(self, request: ChatRequest) -> tuple[str, ...]:
        """None: an embeddings request has no hints."""
        return ()

    def events(self) -> GenerateReader:
        """A reader for a stream that is never sent."""
        return GenerateReader()

    def decode_whole(self, body: bytes) -> tuple[Seen, Sequence[Event]]:
        """The vectors in the order of the texts. Usage is not always told (recorded): then it is None."""
        seen = Seen(ended=True)
        try:
            answer = _ANSWERS.decode(body)
        except UNREADABLE:
            document = read_error_object(body)
            if document is not None and "error" in document:
                seen.failure = FAILURES.judge_error(document["error"])
            else:
                seen.failure = broken("malformed body")
            return seen, (Failed(seen.failure),)
        if not answer.embeddings:
            seen.failure = broken("answer without embeddings")
            return seen, (Failed(seen.failure),)
        seen.complete = seen.content = True
        if answer.usage_metadata is not None:
            seen.usage = usage_of(answer.usage_metadata)
        vectors = Embedded(tuple(vector.values for vector in answer.embeddings))
        usage = () if seen.usage is None else (UsageReport(seen.usage),)
        return seen, (Started("", ""), vectors, *usage)
