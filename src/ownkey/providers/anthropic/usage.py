"""The Messages API's counters in disjoint classes, for Anthropic itself and for OpenRouter's form of it.

Sources: the usage types of the official SDK (anthropic 2.12), OpenRouter's OpenAPI (MessagesResult), recorded answers.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from decimal import Decimal, InvalidOperation
from typing import Any

import msgspec

from ownkey.domain.receipts import add_usage
from ownkey.domain.usage import Usage
from ownkey.providers.reported_cost import reported_cost_nusd

# Server tools without a fee of their own: what they bring is billed as input (platform.claude.com, "Web fetch tool").
_FREE_TOOLS = frozenset({"web_fetch_requests"})
_COST_FIELDS = ("cost", "cost_details", "is_byok")
# No model reads or writes so much in one call: a larger count is a broken report, not a bill.
_MAX_TOKENS = 1_000_000_000

_COUNTERS = ("input_tokens", "output_tokens", "cache_read_input_tokens", "cache_creation_input_tokens")


def _exact(digits: str) -> Decimal | None:
    try:
        return Decimal(digits)
    except InvalidOperation:  # An exponent beyond any amount: a cost that is not known.
        return None


_REPORTS = msgspec.json.Decoder(dict[str, Any], float_hook=_exact)


def read_report(raw: msgspec.Raw, *, final: bool) -> dict[str, Any] | None:
    """The counters that a report states, costs as exact decimals; None where there is one that cannot be read.

    An answer's first report cannot know its cost: unless `final`, one that is stated there is not taken.
    """
    if bytes(raw) in (b"", b"null"):
        return {}
    try:
        report = _REPORTS.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
    return {name: value for name, value in report.items() if value is not None and (final or name not in _COST_FIELDS)}


def usage_of(report: Mapping[str, Any]) -> Usage | None:
    """Anthropic's input excludes the cache, its output includes thinking.

    What is billed besides, and counted apart, is in `others`. None where a counter is missing, negative or absurd:
    unknown is not zero, and is estimated.
    """
    if any(report.get(name) is None for name in _COUNTERS[:2]) or not all(
        map(_is_usable, (report, *_iterations(report)))
    ):
        return None
    usage = _classes(report)
    others: dict[str, list[Usage]] = {}
    for entry, part in _uncounted(report, usage):
        others.setdefault(_string(entry, "model"), []).append(part)
    added = ((model, add_usage(parts)) for model, parts in sorted(others.items()))
    return replace(
        usage, cost_nusd=_cost_nusd(report), is_byok=report.get("is_byok") is True,
        others=tuple((model, part) for model, part in added if part is not None),
    )


def took_over(report: Mapping[str, Any]) -> str | None:
    """The model that answered in the place of the one that was asked, if the report names one."""
    served = [entry for entry in _iterations(report) if entry.get("type") == "fallback_message"]
    return _string(served[-1], "model") or None if served else None


def _classes(report: Mapping[str, Any]) -> Usage:
    split = report.get("cache_creation")
    split = split if isinstance(split, dict) else {}
    hour = _count(split, "ephemeral_1h_input_tokens")
    written = _count(split, "ephemeral_5m_input_tokens") + hour
    if isinstance(report.get("cache_creation_input_tokens"), int):
        written = _count(report, "cache_creation_input_tokens")
    hour = min(hour, written)
    output = _count(report, "output_tokens")
    details = report.get("output_tokens_details")
    thinking = min(_count(details, "thinking_tokens"), output) if isinstance(details, dict) else 0
    tools = report.get("server_tool_use")
    tools = tools if isinstance(tools, dict) else {}
    return Usage(
        input=_count(report, "input_tokens"),
        cache_read=_count(report, "cache_read_input_tokens"),
        cache_write_5m=written - hour,
        cache_write_1h=hour,
        output=output - thinking,
        reasoning=thinking,
        units=tuple(
            (name.removesuffix("_requests"), _count(tools, name))
            for name in sorted(tools)
            if name.endswith("_requests") and name not in _FREE_TOOLS and _count(tools, name)
        ),
    )


def _uncounted(report: Mapping[str, Any], usage: Usage) -> list[tuple[Mapping[str, Any], Usage]]:
    """The iterations whose tokens are billed and are not in the top-level counters (recorded): compactions, what an
    advisor read and wrote, and what a model wrote before it declined and another took over.

    A model that declines before it wrote anything is not billed (platform.claude.com, release notes).
    """
    parts = [(entry, _classes(entry)) for entry in _iterations(report)]
    apart = [(entry, part) for entry, part in parts if entry.get("type") in ("compaction", "advisor_message")]
    turns = [(entry, part) for entry, part in parts if entry.get("type") in ("message", "fallback_message")]
    if not any(entry.get("type") == "fallback_message" for entry, _ in turns):
        return apart
    answered_by = _string(turns[-1][0], "model")
    declined = [
        (entry, part) for entry, part in turns if _string(entry, "model") not in ("", answered_by) and part.total_output
    ]
    if sum(part.total_output for _, part in turns) == usage.total_output:
        declined = []  # The counters on top hold every turn already.
    return apart + declined


def _iterations(report: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
    found = report.get("iterations")
    return [entry for entry in found if isinstance(entry, dict)] if isinstance(found, list) else []


def _cost_nusd(report: Mapping[str, Any]) -> int | None:
    details = report.get("cost_details")
    upstream = details.get("upstream_inference_cost") if isinstance(details, dict) else None
    return reported_cost_nusd(
        _decimal(report.get("cost")), is_byok=report.get("is_byok") is True, upstream=_decimal(upstream)
    )


def _decimal(value: object) -> Decimal | None:
    if isinstance(value, Decimal):
        return value
    return Decimal(value) if isinstance(value, int) and not isinstance(value, bool) else None


def _is_usable(counters: Mapping[str, Any]) -> bool:
    values = (counters.get(name) for name in _COUNTERS)
    return all(value is None or (type(value) is int and 0 <= value <= _MAX_TOKENS) for value in values)


def _count(counters: Mapping[str, Any], name: str) -> int:
    value = counters.get(name)
    return value if type(value) is int and 0 < value <= _MAX_TOKENS else 0


def _string(fields: Mapping[str, Any], name: str) -> str:
    value = fields.get(name)
    return value if isinstance(value, str) else ""
