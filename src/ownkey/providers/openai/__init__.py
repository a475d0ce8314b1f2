"""OpenAI: its address, its paths, and which dialects it serves."""

from collections.abc import Mapping
from typing import Any, Literal

from ownkey.domain.exchange import Origin, UpstreamRequest
from ownkey.domain.failures import Failure
from ownkey.domain.secret import Secret
from ownkey.domain.wire import Endpoint
from ownkey.providers.classify import classify, read_error_object
from ownkey.providers.openai.failures import RULES, read_facts
from ownkey.providers.openai_codec import ChatCodec, EmbeddingsCodec
from ownkey.providers.openai_http import HasWire, json_request


def _judge(answer: Mapping[str, Any]) -> Failure:
    return classify(read_facts(200, {}, answer), RULES)


class OpenAIProvider:
    """Chat completions and embeddings at api.openai.com."""

    id = "openai"
    origin = Origin("https", "api.openai.com", 443, "/v1")
    auth_probe_path = "/models"
    models_path = "/models"
    request_id_header = "x-request-id"

    def __init__(self) -> None:
        self._chat = ChatCodec(_judge)
        self._embeddings = EmbeddingsCodec(_judge)

    def stops_billing(self, model: str) -> bool:
        """OpenAI stops generating when the connection closes (OpenRouter docs, "Streaming")."""
        return True

    def codec(
        self, dialect: str, endpoint: Endpoint
    ) -> tuple[ChatCodec | EmbeddingsCodec, Literal["passthrough", "translated"]] | None:
        """OpenAI's and OpenRouter's callers pass through; Anthropic's are translated and have no embeddings."""
        if dialect in ("openai", "openrouter"):
            return self._chat if endpoint == "chat" else self._embeddings, "passthrough"
        if dialect == "anthropic" and endpoint == "chat":
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
        """One call; OpenRouter's attribution headers mean nothing here and stay behind."""
        return json_request(origin, codec, body, stream, credential, {})

    def decode_failure(self, status: int, headers: Mapping[str, str], body: bytes) -> Failure:
        """Classify an answer whose status is not 200. Never raises, whatever the body holds."""
        return classify(read_facts(status, headers, read_error_object(body)), RULES)
