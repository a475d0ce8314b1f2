"""OpenRouter: its address, its paths, its attribution, and its failures."""

from collections.abc import Mapping
from typing import Literal

from ownkey.domain.exchange import Origin, UpstreamRequest
from ownkey.domain.secret import Secret
from ownkey.domain.wire import Endpoint
from ownkey.providers.anthropic.codec import MessagesCodec
from ownkey.providers.json_post import json_post
from ownkey.providers.openai_provider import HasWire, OpenAIWireProvider, WireCodec
from ownkey.providers.openrouter.failures import FAILURES

# Whose generation ends, and is billed no further, when the connection closes (docs, "Streaming").
_STOPS_BILLING = ("openai/", "anthropic/")

# Claude's betas and version mean something only where OpenRouter speaks Anthropic's format.
_MESSAGES_HEADERS = frozenset({"anthropic-beta", "anthropic-version"})


class OpenRouterProvider(OpenAIWireProvider):
    """Every model at openrouter.ai, in OpenAI's and Anthropic's formats, with the product's or caller's attribution."""

    id = "openrouter"
    origin = Origin("https", "openrouter.ai", 443, "/api/v1")
    auth_probe_path = "/key"
    models_path = "/models/user"
    request_id_header = "x-generation-id"
    failures = FAILURES
    terminated_responses = True
    passed_headers = frozenset(
        {"http-referer", "x-title", "x-openrouter-title", "x-openrouter-categories", "x-openrouter-metadata"}
    )

    def __init__(self) -> None:
        super().__init__()
        self._messages = MessagesCodec(FAILURES.judge_error)

    def stops_billing(self, model: str) -> bool:
        """Whether this model's host is known to stop when the connection closes."""
        return model.startswith(_STOPS_BILLING)

    def codec(
        self, dialect: str, endpoint: Endpoint
    ) -> tuple[WireCodec, Literal["passthrough", "translated"]] | None:
        """Everything passes through: OpenRouter speaks its callers' formats, `/messages` for every model."""
        if endpoint == "messages":
            return self._messages, "passthrough"
        return super().codec(dialect, endpoint)

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
        """One call; what is neither attribution nor meant for this format stays behind."""
        if codec.wire != MessagesCodec.wire:
            return super().request(origin, codec, model, body, stream, credential, headers)
        allowed = self.passed_headers | _MESSAGES_HEADERS
        passed = {name: value for name, value in headers.items() if name.lower() in allowed}
        return json_post(origin, "/messages", body, stream, credential, passed)
