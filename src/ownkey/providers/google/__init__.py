"""Google's Gemini API: its address, its headers, and which dialects it serves."""

from collections.abc import Mapping
from typing import Literal, Protocol
from urllib.parse import quote

from ownkey.domain.exchange import Origin, UpstreamRequest
from ownkey.domain.failures import Failure
from ownkey.domain.secret import Secret
from ownkey.domain.wire import Endpoint
from ownkey.providers.google.codec import GenerateCodec
from ownkey.providers.google.embeddings import EmbeddingsCodec
from ownkey.providers.google.failures import FAILURES
from ownkey.providers.json_post import json_post


class _Wired(Protocol):
    wire: str


class GoogleProvider:
    """The Gemini API at generativelanguage.googleapis.com. Everything that it serves is translated.

    Whether embeddings may go here is the product's decision (`direct_embeddings`), not this codec's.
    """

    id = "google"
    origin = Origin("https", "generativelanguage.googleapis.com", 443, "/v1beta")
    auth_probe_path = "/models"
    models_path = "/models"
    request_id_header = None

    def __init__(self) -> None:
        self._generate = GenerateCodec()
        self._embeddings = EmbeddingsCodec()

    def stops_billing(self, model: str) -> bool:
        """Google goes on, and bills (OpenRouter docs, "Streaming")."""
        return False

    def codec(
        self, dialect: str, endpoint: Endpoint
    ) -> tuple[GenerateCodec | EmbeddingsCodec, Literal["passthrough", "translated"]] | None:
        """Every dialect's conversations are translated, and OpenAI's embeddings; responses are not."""
        match endpoint:
            case "chat" | "messages":
                return self._generate, "translated"
            case "embeddings":
                return self._embeddings, "translated"
            case _:
                return None

    def request(
        self,
        origin: Origin,
        codec: _Wired,
        model: str,
        body: bytes,
        stream: bool,
        credential: Secret,
        headers: Mapping[str, str],
    ) -> UpstreamRequest:
        """One call. The key goes into a header, never into the URL, which errors quote; no header of a caller's or
        of the product's means anything here."""
        if codec.wire == EmbeddingsCodec.wire:
            action = "batchEmbedContents"
        else:
            action = "streamGenerateContent?alt=sse" if stream else "generateContent"
        path = f"/models/{quote(model.removeprefix('models/'), safe='')}:{action}"
        return json_post(origin, path, body, stream, credential, {}, "x-goog-api-key")

    def decode_failure(self, status: int, headers: Mapping[str, str], body: bytes) -> Failure:
        """Classify an answer whose status is not 200. Never raises."""
        return FAILURES.judge_refusal(status, headers, body)
