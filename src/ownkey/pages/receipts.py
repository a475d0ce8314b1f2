"""What portal and console both tell of a stored receipt: an attempt's result, and the document for machines."""

from collections.abc import Mapping
from typing import Any

import msgspec

from ownkey.domain.phrases import Phrase
from ownkey.domain.receipts import AttemptRecord
from ownkey.domain.scrub import scrub


def result_of(attempt: AttemptRecord) -> str:
    """Status and class of an attempt: `429 rate_limit`, `200`, `no answer, network`."""
    if attempt.failure is None:
        return str(attempt.status or "–") if attempt.signal == "" else attempt.signal
    if attempt.status is None:
        return Phrase("no answer, {failure}", failure=attempt.failure)
    return f"{attempt.status} {attempt.failure}"


def own_words(attempt: AttemptRecord) -> str:
    """What the provider itself said of a failure, without the status that stands beside it: `overloaded_error`."""
    if attempt.failure is None:
        return ""
    words = attempt.signal.removeprefix(str(attempt.status or "")).strip()
    return "" if words == attempt.failure else words


def json_text(stored: Mapping[str, Any]) -> str:
    """The receipt as stored, amounts as decimal strings of nano-USD, indented; no text of it can hold a credential."""
    return msgspec.json.format(msgspec.json.encode(_plain(stored)), indent=2).decode()


def _plain(value: Any, name: str = "") -> Any:
    if isinstance(value, Mapping):
        return {key: _plain(part, key) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(part, name) for part in value]
    if isinstance(value, str):
        return scrub(value)[0]
    return str(value) if name.endswith("_nusd") and isinstance(value, int) else value
