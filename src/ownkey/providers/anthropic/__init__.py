"""Anthropic: its address, its headers, and which dialects it serves."""

from collections.abc import Mapping
from typing import Literal, Protocol

from ownkey.domain.exchange import Origin, UpstreamRequest
from ownkey.domain.failures import Failure
from ownkey.domain.secret import Secret
from ownkey.domain.wire import Endpoint
from ownkey.providers.anthropic.codec import MessagesCodec
from ownkey.providers.anthropic.count_tokens import CountTokensCodec
from ownkey.providers.anthropic.failures import FAILURES
from ownkey.providers.json_post import json_post

API_VERSION = "2023-06-01"

_PATHS = {MessagesCodec.wire: "/messages", CountTokensCodec.wire: "/messages/count_tokens"}
_PASSED_HEADERS = frozenset({"anthropic-beta", "anthropic-version"})


class _Wired(Protocol):
    wire: str


class AnthropicProvider:
    """The Messages API at api.anthropic.com. It has no embeddings."""

    id = "anthropic"
    origin = Origin("https", "api.anthropic.com", 443, "/v1")
    auth_probe_path = "/models"
    models_path = "/models"
    request_id_header = "request-id"

    def __init__(self) -> None:
        self._messages = MessagesCodec()
        self._count_tokens = CountTokensCodec()

    def stops_billing(self, model: str) -> bool:
        """Anthropic stops generating when the connection closes (OpenRouter docs, "Streaming")."""
        return True

    def codec(
        self, dialect: str, endpoint: Endpoint
    ) -> tuple[MessagesCodec | CountTokensCodec, Literal["passthrough", "translated"]] | None:
        """Both chat dialects are translated; a caller who speaks Messages passes through."""
        match endpoint:
            case "chat" if dialect in ("openai", "openrouter"):
                return self._messages, "translated"
            case "messages":
                return self._messages, "passthrough"
            case "count_tokens":
                return self._count_tokens, "passthrough"
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
        """One call of the Messages API; a caller's own `anthropic-version` stands, and of the rest only its betas."""
        passed = {name.lower(): value for name, value in headers.items() if name.lower() in _PASSED_HEADERS}
        sent = {"anthropic-version": API_VERSION, **passed}
        return json_post(origin, _PATHS[codec.wire], body, stream, credential, sent, "x-api-key")

    def decode_failure(self, status: int, headers: Mapping[str, str], body: bytes) -> Failure:
        """Classify an answer whose status is not 200. Never raises."""
        return FAILURES.judge_refusal(status, headers, body)
