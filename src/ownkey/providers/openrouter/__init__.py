"""OpenRouter: its address, its paths, its attribution, and its failures."""

from ownkey.domain.exchange import Origin
from ownkey.providers.openai_provider import OpenAIWireProvider
from ownkey.providers.openrouter.failures import FAILURES

# Whose generation ends, and is billed no further, when the connection closes (docs, "Streaming").
_STOPS_BILLING = ("openai/", "anthropic/")


class OpenRouterProvider(OpenAIWireProvider):
    """Chat completions and embeddings of every model at openrouter.ai, with the product's or caller's attribution."""

    id = "openrouter"
    origin = Origin("https", "openrouter.ai", 443, "/api/v1")
    auth_probe_path = "/key"
    models_path = "/models/user"
    request_id_header = "x-generation-id"
    failures = FAILURES
    passed_headers = frozenset(
        {"http-referer", "x-title", "x-openrouter-title", "x-openrouter-categories", "x-openrouter-metadata"}
    )

    def stops_billing(self, model: str) -> bool:
        """Whether this model's host is known to stop when the connection closes."""
        return model.startswith(_STOPS_BILLING)
