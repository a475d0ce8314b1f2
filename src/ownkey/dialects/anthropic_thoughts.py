"""Reasoning of other makers inside Anthropic's blocks, through clients that only send back what they were given.

Anthropic's clients return `thinking` and `redacted_thinking` blocks untouched, so Gemini's thought signatures travel
there: as a block's signature (visible thoughts) or as its data (opaque ones, a tool call's among them). Both are
MARK, then base64 of one entry of `reasoning_details` in OpenRouter's shape, which names its maker. On the next turn
the entry goes back to its maker alone: a translated route finds it in the neutral form, which refuses what is another
maker's; from a body that passes through it is taken out, because no upstream knows our mark.

OpenRouter does the same under its own mark: what came through it is understood here, and what is of the maker who is
asked through OpenRouter goes back in OpenRouter's envelope. (Seen in clients' reports; documented nowhere.)
"""

import base64
import binascii
from collections.abc import Mapping
from typing import Any

import msgspec

from ownkey.dialects.splice import ObjectSpans, Splicer
from ownkey.domain.wire import BadRequest

MARK = "ownkey.reasoning.v1:"
OPENROUTER_MARK = "openrouter.reasoning:"
CITATION_MARK = "ownkey.citation"
"""Stands where Anthropic's citations have their encrypted index: it would refuse one that it has not made."""

ANTHROPIC_FORMAT = "anthropic-claude-v1"

_FAMILY = "ownkey.reasoning."
_WORDS = (_FAMILY.encode(), OPENROUTER_MARK.encode(), CITATION_MARK.encode())
_MAKERS = {"google-gemini-v1": "google/", "openai-responses-v1": "openai/", "xai-responses-v1": "x-ai/"}
_TEXTS = {"reasoning.text": "text", "reasoning.summary": "summary"}

_decode_list = msgspec.json.Decoder(list[msgspec.Raw]).decode


def text_key(detail: Mapping[str, Any]) -> str | None:
    """Where a detail of this type has its visible text; None for one that has none."""
    return _TEXTS.get(str(detail.get("type")))


def seal(detail: Mapping[str, Any]) -> str:
    """A detail as a signature, or as a redacted block's data."""
    return MARK + _encode(detail)


def _encode(detail: Mapping[str, Any]) -> str:
    return base64.b64encode(msgspec.json.encode(detail)).decode("ascii")


class Unreadable(BadRequest):
    """A block bears our mark, but what follows is damaged, or of a version that this code does not know."""


def unseal(text: str, where: str) -> dict[str, Any] | None:
    """The detail behind a mark; None for what has none, and so is Anthropic's own. Raises Unreadable."""
    if text.startswith(OPENROUTER_MARK):
        return _decode(text.removeprefix(OPENROUTER_MARK))
    if not text.startswith(_FAMILY):
        return None
    detail = _decode(text.removeprefix(MARK)) if text.startswith(MARK) else None
    if detail is None:
        raise Unreadable(f"`{where}` is not what an earlier answer held: send blocks back unchanged.", where)
    return detail


def _decode(text: str) -> dict[str, Any] | None:
    try:
        value = msgspec.json.decode(base64.b64decode(text, validate=True))
    except (binascii.Error, ValueError, RecursionError):  # msgspec's DecodeError is a ValueError
        return None
    return value if isinstance(value, dict) else None


def read_thought(block: Mapping[str, Any], where: str, index: int) -> dict[str, Any] | None:
    """A `thinking` or `redacted_thinking` block as a reasoning detail; None for one that holds nothing."""
    field = "data" if block.get("type") == "redacted_thinking" else "signature"
    seal_text = _text(block, field, where)
    detail = unseal(seal_text, f"{where}.{field}")
    if field == "data":
        if detail is None:
            detail = {"type": "reasoning.encrypted", "data": seal_text, "format": ANTHROPIC_FORMAT}
        return {**detail, "index": index} if seal_text else None
    text = _text(block, "thinking", where)
    if detail is not None:
        key = text_key(detail)
        return {**detail, **({key: text} if key else {}), "index": index}
    signed = {"signature": seal_text, "format": ANTHROPIC_FORMAT} if seal_text else {}
    return {"type": "reasoning.text", "text": text, **signed, "index": index} if text or seal_text else None


def _text(block: Mapping[str, Any], name: str, where: str) -> str:
    value = block.get(name)
    if value is not None and not isinstance(value, str):
        raise BadRequest(f"`{where}.{name}` must be a text.", f"{where}.{name}")
    return value or ""


def unmark_messages(splicer: Splicer, members: ObjectSpans, model: str) -> tuple[str, ...]:
    """Take out of a body that passes through what only we, or only OpenRouter, can read. Returns its names.

    `model` is the upstream's id: OpenRouter's have their maker in front, Anthropic's own have none.
    """
    raw = members.values["messages"]
    if not any(word in raw for word in _WORDS):
        return ()
    left_out: set[str] = set()
    messages = [bytes(message) for message in _decode_list(raw)]
    kept = [new for message in messages if (new := _unmarked_message(message, model, left_out)) is not None]
    if kept != messages:
        splicer.replace(members.spans["messages"], _list(kept))
    return tuple(sorted(left_out))


def _unmarked_message(text: bytes, model: str, left_out: set[str]) -> bytes | None:
    """A message without what bears a mark; None for one that held nothing else, which nobody accepts."""
    spans = ObjectSpans(text, what="A message")
    content = spans.values.get("content", b"null")
    if content[:1] != b"[":
        return text
    blocks = [bytes(block) for block in _decode_list(content)]
    kept = [new for block in blocks if (new := _unmarked(block, model, left_out)) is not None]
    if kept == blocks:
        return text
    splicer = Splicer(text)
    splicer.replace(spans.spans["content"], _list(kept))
    return splicer.result() if kept else None


def _list(values: list[bytes]) -> bytes:
    return b"[" + b",".join(values) + b"]"


def _unmarked(raw: bytes, model: str, left_out: set[str]) -> bytes | None:
    """A block as the upstream may see it; None: not at all. What is lost is added to `left_out`."""
    block = msgspec.json.decode(raw)
    if not isinstance(block, dict):
        return raw
    match block.get("type"):
        case "thinking" | "redacted_thinking":
            passed = _for_upstream(block, raw, model)
            if passed is None:
                left_out.add("messages[].content[].thinking")
            return passed
        case "text" if block.get("citations"):
            passed = _without_our_citations(block, raw)
            if passed is not raw:
                left_out.add("messages[].content[].citations")
            return passed
        case _:
            return raw


def _for_upstream(block: Mapping[str, Any], raw: bytes, model: str) -> bytes | None:
    own = block.get("signature") if block.get("type") == "thinking" else block.get("data")
    routed = "/" in model
    if not isinstance(own, str) or not own.startswith((_FAMILY, OPENROUTER_MARK)):
        return raw
    if own.startswith(OPENROUTER_MARK):
        return raw if routed else None
    try:
        detail = read_thought(block, "messages[].content[]", 0) or {}
    except Unreadable:
        return None
    maker = _MAKERS.get(str(detail.get("format")))
    if maker is None or not model.startswith(maker):
        return None
    del detail["index"]
    return msgspec.json.encode({"type": "redacted_thinking", "data": OPENROUTER_MARK + _encode(detail)})


def _without_our_citations(block: dict[str, Any], raw: bytes) -> bytes:
    citations = block["citations"]
    if not isinstance(citations, list):
        return raw
    kept = [citation for citation in citations if not is_our_citation(citation)]
    if len(kept) == len(citations):
        return raw
    left = {name: value for name, value in block.items() if name != "citations"}
    return msgspec.json.encode({**left, "citations": kept} if kept else left)


def is_our_citation(citation: Any) -> bool:
    """Whether a citation was written by us, from what another provider said."""
    index = citation.get("encrypted_index") if isinstance(citation, dict) else None
    return isinstance(index, str) and index.startswith(CITATION_MARK)
