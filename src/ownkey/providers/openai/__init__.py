"""OpenAI: its address, its paths, and its failures."""

from ownkey.domain.exchange import Origin
from ownkey.providers.openai.failures import FAILURES
from ownkey.providers.openai_provider import OpenAIWireProvider


class OpenAIProvider(OpenAIWireProvider):
    """Chat completions and embeddings at api.openai.com."""

    id = "openai"
    origin = Origin("https", "api.openai.com", 443, "/v1")
    auth_probe_path = "/models"
    models_path = "/models"
    request_id_header = "x-request-id"
    failures = FAILURES

    def stops_billing(self, model: str) -> bool:
        """OpenAI stops generating when the connection closes (OpenRouter docs, "Streaming")."""
        return True
