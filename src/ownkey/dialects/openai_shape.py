"""Reads from a body what its greatest cost depends on; every doubt is resolved upwards."""

import unicodedata
from collections.abc import Mapping
from typing import Any, Literal

import msgspec

from ownkey.dialects import openai_fields as fields
from ownkey.dialects.openai_responses import InputSeen, Media, has_dear_lifetime, server_tools
from ownkey.domain.bounds import RequestShape
from ownkey.domain.wire import BadRequest, Endpoint

_KNOWN = {
    "chat": fields.OPENAI_CHAT | fields.OPENROUTER_CHAT,
    "embeddings": fields.OPENAI_EMBEDDINGS | fields.OPENROUTER_EMBEDDINGS,
    "responses": fields.OPENAI_RESPONSES | fields.OPENROUTER_RESPONSES,
}
_BOUNDABLE = {endpoint: names - fields.UNBOUNDABLE for endpoint, names in _KNOWN.items()}
_TEXT_PARTS = frozenset({"text", "refusal"})
_LIST = ord("[")
MAX_ANSWERS = 128
"""OpenAI's limit of `n` (its API reference)."""


_NOTHING = msgspec.Raw()


class _Message(msgspec.Struct, gc=False):
    """The parts of a message that may hold more than text."""

    content: msgspec.Raw = _NOTHING
    images: msgspec.Raw = _NOTHING
    audio: Any = None


_decode_messages = msgspec.json.Decoder(list[_Message]).decode


LIMIT_FIELDS: Mapping[Endpoint, tuple[str, ...]] = {
    "chat": ("max_completion_tokens", "max_tokens"),
    "embeddings": ("max_completion_tokens", "max_tokens"),
    "responses": ("max_output_tokens",),
}
"""Where a caller says how much an answer may hold; the first is the one to set where none is there."""


def text_bytes(body: bytes) -> int:
    """How many bytes a tokenizer can see at most: raw, or decoded and in NFKC where that is longer.

    Some tokenizers normalise first, and NFKC can turn one character into eighteen. Raises BadRequest for a
    body that is not UTF-8.
    """
    escaped = b"\\" in body and b"\\u" in body
    if body.isascii() and not escaped:
        return len(body)
    try:
        text = (msgspec.json.encode(msgspec.json.decode(body)) if escaped else body).decode()
    except (UnicodeDecodeError, UnicodeEncodeError, msgspec.DecodeError):
        raise BadRequest("The body is not valid UTF-8.") from None
    if unicodedata.is_normalized("NFKC", text):
        return max(len(body), len(text.encode()))
    return max(len(body), len(unicodedata.normalize("NFKC", text).encode()))


def silent_bytes(body: bytes, values: Mapping[str, bytes], names: frozenset[str]) -> int:
    """How many of the body's bytes no model reads: the fields `names`, and the object around the others' values.

    With escapes in it a body is measured as it reads without them, where these bytes may be fewer: then none is left
    out. What is not ASCII stays, for the same reason.
    """
    if b"\\u" in body:
        return 0
    kept = sum(len(value) for name, value in values.items() if name not in names or not value.isascii())
    return len(body) - kept


def read_shape(
    endpoint: Endpoint, body: bytes, values: Mapping[str, bytes], given: InputSeen | None = None
) -> RequestShape:
    """The shape of a body whose top-level values are `values`; `given` is the input of a responses call.

    Raises BadRequest for wrong types.
    """
    model = optional_str(values, "model") or ""
    models = read_models(values)
    unboundable = _unboundable(endpoint, values, (model, *models))
    media: Media = Media()
    if given is not None:
        media = given
        unboundable += tuple(given.server_tools)
    elif endpoint == "chat":
        _look_at_messages(values["messages"], media)
    elif b"{" in values["input"]:
        _look_at_inputs(msgspec.json.decode(values["input"]), media)
    unboundable += tuple(media.unboundable)
    limits = [optional_count(values, name) for name in LIMIT_FIELDS[endpoint]]
    return RequestShape(
        text_bytes=text_bytes(body),
        image_count=media.image_count,
        image_bytes=media.image_bytes,
        beyond_text=tuple(media.beyond_text),
        output_limit=max((limit for limit in limits if limit is not None), default=None),
        answers=_answers(values),
        unboundable=unboundable,
        fallback_models=models,
        service_tier=optional_str(values, "service_tier"),
        cache_writes=cache_writes(body),
        silent_bytes=silent_bytes(body, values, fields.SILENT),
        embeds=endpoint == "embeddings",
    )


def _answers(values: Mapping[str, bytes]) -> int:
    """How many answers are made and billed."""
    count = 1
    for name in ("n", "best_of"):
        wanted = optional_count(values, name) or 1
        if wanted > MAX_ANSWERS:
            raise BadRequest(f"`{name}` is at most {MAX_ANSWERS}.", name)
        count *= wanted
    return count


def cache_writes(body: bytes) -> Literal["none", "5m", "1h"]:
    """The longest cache lifetime that the body can ask for; an escape could hide the word, so it counts as one."""
    if b"cache_control" not in body and b"cache_breakpoint" not in body and b"\\u" not in body:
        return "none"
    return "1h" if b'"1h"' in body or b"\\u" in body else "5m"


def _unboundable(endpoint: Endpoint, values: Mapping[str, bytes], models: tuple[str, ...]) -> tuple[str, ...]:
    found: list[str] = []
    if not values.keys() <= _BOUNDABLE[endpoint]:
        known = _KNOWN[endpoint]
        found = [
            name
            for name, value in values.items()
            if name not in known or (name in fields.UNBOUNDABLE and value not in fields.SAYS_NOTHING)
        ]
    if endpoint != "embeddings":
        found += server_tools(values.get("tools", b"null"))
        found += _cache_lifetime(values.get("prompt_cache_options", b"null"))
        if _is_more_than_text(values.get("modalities", b"null")):
            found.append("modalities")
    if any(model.endswith(":online") for model in models):
        found.append(":online")
    return tuple(found)


def _cache_lifetime(raw: bytes) -> list[str]:
    """Only the standard lifetime of a cache entry is written at a price that is listed."""
    return ["prompt_cache_options.ttl"] if has_dear_lifetime(msgspec.json.decode(raw)) else []


def _is_more_than_text(raw: bytes) -> bool:
    """Whether an answer may hold audio or images, whose tokens have other prices than the model's text."""
    if raw == b"null":
        return False
    modalities = msgspec.json.decode(raw)
    return not isinstance(modalities, list) or any(kind != "text" for kind in modalities)


def read_models(values: Mapping[str, bytes]) -> tuple[str, ...]:
    """The names in OpenRouter's `models`. Raises BadRequest."""
    if values.get("models", b"null") == b"null":
        return ()
    models = msgspec.json.decode(values["models"])
    if not isinstance(models, list) or not all(isinstance(model, str) and model for model in models):
        raise BadRequest("`models` must be a list of model names.", "models")
    return tuple(models)


def _look_at_messages(raw: bytes, media: Media) -> None:
    try:
        messages = _decode_messages(raw)
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise BadRequest("`messages` must be a list of messages, each an object.", "messages") from None
    for message in messages:
        for parts in (message.content, message.images):
            if parts is not _NOTHING and memoryview(parts)[0] == _LIST:
                _look_at_parts(parts, media)
        if message.audio is not None:
            media.beyond_text["audio"] = None


def _look_at_parts(raw: msgspec.Raw, media: Media) -> None:
    for part in msgspec.json.decode(raw):
        _look_at_part(part, media)


def _look_at_inputs(inputs: Any, media: Media) -> None:
    for item in inputs if isinstance(inputs, list) else ():
        parts = item.get("content") if isinstance(item, dict) else None
        for part in parts if isinstance(parts, list) else ():
            _look_at_part(part, media)


def _look_at_part(part: Any, media: Media) -> None:
    if not isinstance(part, dict):
        return
    media.look_at_breakpoint(part)
    kind = str(part.get("type"))
    if kind == "image_url":
        media.look_at_image(part)
    elif kind not in _TEXT_PARTS:
        media.beyond_text[kind[:80]] = None


def optional_count(values: Mapping[str, bytes], name: str) -> int | None:
    """A positive whole number; None where it is missing or null. Raises BadRequest."""
    value = _decoded(values, name)
    if value is None or (type(value) is int and value > 0):
        return value
    raise BadRequest(f"`{name}` must be a positive whole number.", name)


def optional_bool(values: Mapping[str, bytes], name: str) -> bool | None:
    """A boolean; None where it is missing or null. Raises BadRequest."""
    value = _decoded(values, name)
    if value is None or isinstance(value, bool):
        return value
    raise BadRequest(f"`{name}` must be true or false.", name)


def optional_str(values: Mapping[str, bytes], name: str) -> str | None:
    """A text; None where it is missing or null. Raises BadRequest."""
    value = _decoded(values, name)
    if value is None or isinstance(value, str):
        return value
    raise BadRequest(f"`{name}` must be a text.", name)


def _decoded(values: Mapping[str, bytes], name: str) -> Any:
    raw = values.get(name)
    return None if raw is None else msgspec.json.decode(raw)
