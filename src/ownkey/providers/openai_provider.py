"""A provider that speaks OpenAI's wire formats: what OpenAI and OpenRouter share, over the data in their folders."""

from collections.abc import Mapping
from typing import Literal, Protocol

from ownkey.domain.exchange import Origin, UpstreamRequest
from ownkey.domain.failures import Failure
from ownkey.domain.secret import Secret
from ownkey.domain.wire import Endpoint
from ownkey.providers.anthropic.codec import MessagesCodec
from ownkey.providers.classify import FailureTable
from ownkey.providers.json_post import json_post
from ownkey.providers.openai_codec import ChatCodec, EmbeddingsCodec
from ownkey.providers.responses_codec import ResponsesCodec

_PATHS = {
    "openai.chat": "/chat/completions",
    "openai.embeddings": "/embeddings",
    "openai.responses": "/responses",
}


WireCodec = ChatCodec | EmbeddingsCodec | ResponsesCodec | MessagesCodec


class HasWire(Protocol):
    """What a request needs of a codec."""

    wire: str


class OpenAIWireProvider:
    """Chat completions, embeddings and responses. `passed_headers` are the caller's that mean something to this
    provider; `terminated_responses` says whether its streams of responses end with `[DONE]`."""

    id: str
    origin: Origin
    auth_probe_path: str
    models_path: str
    request_id_header: str
    failures: FailureTable
    passed_headers: frozenset[str] = frozenset()
    terminated_responses: bool = False

    def __init__(self) -> None:
        judge = self.failures.judge_error
        self._chat = ChatCodec(judge)
        self._native: dict[Endpoint, ChatCodec | EmbeddingsCodec | ResponsesCodec] = {
            "chat": self._chat,
            "embeddings": EmbeddingsCodec(judge),
            "responses": ResponsesCodec(judge, self.terminated_responses),
        }

    def codec(
        self, dialect: str, endpoint: Endpoint
    ) -> tuple[WireCodec, Literal["passthrough", "translated"]] | None:
        """OpenAI's and OpenRouter's callers pass through; Anthropic's messages are translated."""
        if dialect in ("openai", "openrouter"):
            native = self._native.get(endpoint)
            return None if native is None else (native, "passthrough")
        if endpoint == "messages":
            return self._chat, "translated"
        return None

    def request(
        self,
        origin: Origin,
        codec: HasWire,
        model: str,
        body: bytes,
        stream: bool,
        credential: Secret,
        headers: Mapping[str, str],
    ) -> UpstreamRequest:
        """One call; what is no `passed_headers` stays behind."""
        passed = {name: value for name, value in headers.items() if name.lower() in self.passed_headers}
        return json_post(origin, _PATHS[codec.wire], body, stream, credential, passed)

    def decode_failure(self, status: int, headers: Mapping[str, str], body: bytes) -> Failure:
        """Classify an answer whose status is not 200. Never raises, whatever the body holds."""
        return self.failures.judge_refusal(status, headers, body)
