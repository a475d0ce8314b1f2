"""Gemini's counters in disjoint classes."""

from collections.abc import Mapping
from typing import Any, TypeGuard

from ownkey.domain.usage import Usage

# No model reads or writes so much in one call: a larger count is a broken report, not a bill.
_MAX_TOKENS = 1_000_000_000


def usage_of(report: Mapping[str, Any]) -> Usage | None:
    """The prompt includes the cached part but not what tools brought; candidates exclude thoughts.

    Together the classes are `totalTokenCount`. A count that is left out is 0, but there is always a prompt: None
    without it, or where a count is negative or absurd. Unknown is not zero, and is estimated.
    """
    stated = [value for name, value in report.items() if name.endswith("TokenCount") and value is not None]
    if report.get("promptTokenCount") is None or not all(map(_is_count, stated)):
        return None
    prompt = _count(report, "promptTokenCount")
    cached = min(_count(report, "cachedContentTokenCount"), prompt)
    cached_audio = min(_modality(report, "cacheTokensDetails", "AUDIO"), cached)
    fresh_audio = _modality(report, "promptTokensDetails", "AUDIO") - cached_audio
    tools = _count(report, "toolUsePromptTokenCount")
    tools_audio = min(_modality(report, "toolUsePromptTokensDetails", "AUDIO"), tools)
    prompt_audio = min(max(fresh_audio, 0), prompt - cached)
    output = _count(report, "candidatesTokenCount")
    audio_output = min(_modality(report, "candidatesTokensDetails", "AUDIO"), output)
    return Usage(
        input=prompt - cached - prompt_audio + tools - tools_audio,
        cache_read=cached - cached_audio,
        output=output - audio_output,
        reasoning=_count(report, "thoughtsTokenCount"),
        audio_input=prompt_audio + tools_audio,
        audio_output=audio_output,
        audio_cache_read=cached_audio,
    )


def _count(counters: Mapping[str, Any], name: str) -> int:
    value = counters.get(name)
    return value if _is_count(value) else 0


def _is_count(value: object) -> TypeGuard[int]:
    return type(value) is int and 0 <= value <= _MAX_TOKENS


def _modality(report: Mapping[str, Any], name: str, modality: str) -> int:
    details = report.get(name)
    if not isinstance(details, list):
        return 0
    rows = (row for row in details if isinstance(row, dict) and row.get("modality") == modality)
    return sum(_count(row, "tokenCount") for row in rows)
