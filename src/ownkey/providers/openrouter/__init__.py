"""OpenRouter: its address, its paths, its attribution, and which dialects it serves."""

from collections.abc import Mapping
from typing import Any, Literal

from ownkey.domain.exchange import Origin, UpstreamRequest
from ownkey.domain.failures import Failure
from ownkey.domain.secret import Secret
from ownkey.domain.wire import Endpoint
from ownkey.providers.classify import classify, read_error_object
from ownkey.providers.openai_codec import ChatCodec, EmbeddingsCodec
from ownkey.providers.openai_http import HasWire, json_request
from ownkey.providers.openrouter.failures import RULES, read_facts

# Whose generation ends, and is billed no further, when the connection closes (docs, "Streaming").
_STOPS_BILLING = ("openai/", "anthropic/")
_PASSED_HEADERS = frozenset(
    {"http-referer", "x-title", "x-openrouter-title", "x-openrouter-categories", "x-openrouter-metadata"}
)


def _judge(answer: Mapping[str, Any]) -> Failure:
    return classify(read_facts(200, {}, answer), RULES)


class OpenRouterProvider:
    """Chat completions and embeddings of every model at openrouter.ai."""

    id = "openrouter"
    origin = Origin("https", "openrouter.ai", 443, "/api/v1")
    auth_probe_path = "/key"
    models_path = "/models/user"
    request_id_header = "x-generation-id"

    def __init__(self) -> None:
        self._chat = ChatCodec(_judge)
        self._embeddings = EmbeddingsCodec(_judge)

    def stops_billing(self, model: str) -> bool:
        """Whether this model's host is known to stop when the connection closes."""
        return model.startswith(_STOPS_BILLING)

    def codec(
        self, dialect: str, endpoint: Endpoint
    ) -> tuple[ChatCodec | EmbeddingsCodec, Literal["passthrough", "translated"]] | None:
        """OpenAI's and OpenRouter's callers pass through."""
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
        """One call, with the product's or the caller's attribution."""
        passed = {name: value for name, value in headers.items() if name.lower() in _PASSED_HEADERS}
        return json_request(origin, codec, body, stream, credential, passed)

    def decode_failure(self, status: int, headers: Mapping[str, str], body: bytes) -> Failure:
        """Classify an answer whose status is not 200. Never raises, whatever the body holds."""
        return classify(read_facts(status, headers, read_error_object(body)), RULES)
