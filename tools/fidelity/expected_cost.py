"""What a call must cost by the genai-prices package alone: its own reading of the usage, its own arithmetic.

Two things that the package leaves to its caller are added from the providers' documents: Anthropic counts work of
another model, and compactions, beside the totals; OpenAI's answers show by their items how often the web was
searched, or a store of files.
"""

from collections.abc import Mapping
from decimal import ROUND_CEILING, Decimal
from typing import Any

import genai_prices
from genai_prices.data_snapshot import get_snapshot

from tools.fidelity.answers import NUSD_PER_USD, Answer
from tools.fidelity.asking import native_of
from tools.fidelity.bodies import Kind, Recording

_FLAVOURS: Mapping[Kind, str] = {
    "chat": "chat", "embeddings": "embeddings", "responses": "responses", "messages": "default", "generate": "default",
    "embed": "default", "batch_embed": "default",
}
_STANDARD = ("", "auto", "default", "standard")
_PIECES_USD = {"file_search": Decimal("0.0025")}  # OpenAI's price list; the package's has no such thing.
_APART = ("compaction", "advisor_message")


def list_price_nusd(recording: Recording, answer: Answer) -> int | None:
    """Nano-USD, rounded up, for one answer's usage report; None where the list does not know the model, or has no
    price for something that is billed by the piece."""
    if answer.report is None or set(answer.pieces) - {"web_search", *_PIECES_USD}:
        return None
    total = _first_price(recording, (answer.model, native_of(recording)), answer.report, answer)
    if total is not None:
        total += sum(count * _PIECES_USD.get(piece, Decimal(0)) for piece, count in answer.pieces.items())
    for iteration in answer.report["usage"].get("iterations") or [] if recording.kind == "messages" else []:
        if total is None:
            return None
        if iteration.get("type") in _APART:
            models = (iteration.get("model") or answer.model, native_of(recording))
            apart = _first_price(recording, models, {"model": models[0], "usage": iteration}, Answer())
            total = None if apart is None else total + apart
    return None if total is None else int((total * NUSD_PER_USD).to_integral_value(ROUND_CEILING))


def _first_price(
    recording: Recording, models: tuple[str, ...], report: Mapping[str, Any], answer: Answer
) -> Decimal | None:
    prices = (_price(recording, model, report, answer) for model in models if model)
    return next((price for price in prices if price is not None), None)


def _price(recording: Recording, model: str, report: Mapping[str, Any], answer: Answer) -> Decimal | None:
    """In USD, for the service tier that answered."""
    try:
        source = get_snapshot().find_provider(None, recording.provider, None)
        _, usage = source.extract_usage(_plain(report), api_flavor=_FLAVOURS[recording.kind])
        if "web_search" in answer.pieces:
            usage.web_searches = answer.pieces["web_search"]
        context = None if answer.tier in _STANDARD else {"service_tier": answer.tier}
        return genai_prices.calc_price(
            usage, model, provider_id=recording.provider, price_context=context
        ).total_price
    except (LookupError, ValueError):
        return None


def _plain(value: Any) -> Any:
    """The report with ordinary numbers: the package knows no decimals in it."""
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    return float(value) if isinstance(value, Decimal) else value
