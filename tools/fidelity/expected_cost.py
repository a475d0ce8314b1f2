"""What a call must cost by the genai-prices package alone: its own reading of the usage, its own arithmetic."""

from collections.abc import Mapping
from decimal import ROUND_CEILING, Decimal
from typing import Any

import genai_prices
from genai_prices.data_snapshot import get_snapshot

from tools.fidelity.answers import NUSD_PER_USD

_FLAVOURS = {
    ("openai", "chat"): "chat", ("openai", "embeddings"): "embeddings", ("anthropic", "chat"): "default",
    ("google", "chat"): "default",
}


def list_price_nusd(provider: str, kind: str, model: str, report: Mapping[str, Any]) -> int | None:
    """Nano-USD, rounded up, for one answer's usage report; None where the list does not know the model."""
    snapshot = get_snapshot()
    try:
        source = snapshot.find_provider(None, provider, None)
        _, usage = source.extract_usage(_plain(report), api_flavor=_FLAVOURS[provider, kind])
        total = genai_prices.calc_price(usage, model, provider_id=provider).total_price
    except (LookupError, ValueError):
        return None
    return int((total * NUSD_PER_USD).to_integral_value(ROUND_CEILING))


def _plain(value: Any) -> Any:
    """The report with ordinary numbers: the package knows no decimals in it."""
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    return float(value) if isinstance(value, Decimal) else value
