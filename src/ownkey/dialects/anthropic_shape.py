"""Reads from a Messages body what its greatest cost depends on; every doubt is resolved upwards."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec

from ownkey.dialects import anthropic_fields as fields
from ownkey.dialects.openai_shape import cache_writes, optional_str, silent_bytes, text_bytes
from ownkey.domain.bounds import RequestShape
from ownkey.domain.wire import BadRequest

_NOTHING = (b"null", b"[]", b"{}")
_NO_CONTENT = msgspec.Raw()
_LIST = ord("[")
_NAME_LENGTH = 80


class _Message(msgspec.Struct, gc=False):
    content: msgspec.Raw = _NO_CONTENT


_decode_messages = msgspec.json.Decoder(list[_Message]).decode


@dataclass(frozen=True, slots=True)
class ReadShape:
    """A body's shape, and the names of what points at something that one provider has stored."""

    shape: RequestShape
    stateful: tuple[str, ...]


@dataclass(slots=True)
class _Found:
    """What the blocks of a body hold besides text; dictionaries are ordered sets."""

    image_count: int = 0
    image_bytes: int = 0
    beyond_text: dict[str, None] = field(default_factory=dict)
    unboundable: dict[str, None] = field(default_factory=dict)
    stateful: dict[str, None] = field(default_factory=dict)


def read_shape(body: bytes, values: Mapping[str, bytes]) -> ReadShape:
    """The shape of a body whose top-level values are `values`. Raises BadRequest for wrong types."""
    found = _Found()
    models = _models(values)
    for name, value in values.items():
        _look_at_field(name, value, found)
    if any(model.endswith(":online") for model in (optional_str(values, "model") or "", *models)):
        found.unboundable[":online"] = None
    _look_at_tools(values.get("tools", b"null"), found)
    _look_at_messages(values["messages"], found)
    shape = RequestShape(
        text_bytes=text_bytes(body),
        image_count=found.image_count,
        image_bytes=found.image_bytes,
        beyond_text=tuple(found.beyond_text),
        output_limit=_limit(values),
        unboundable=tuple(found.unboundable),
        fallback_models=models,
        service_tier=_priced_tier(values),
        cache_writes=cache_writes(body),
        silent_bytes=silent_bytes(body, values, fields.SILENT),
    )
    return ReadShape(shape, tuple(found.stateful))


def _priced_tier(values: Mapping[str, bytes]) -> str | None:
    """What decides which of the model's prices holds: a surcharge, else the service tier."""
    for name in fields.SURCHARGES:
        tier = _surcharge(name, values.get(name, b"null"))
        if tier is not None:
            return tier
    return optional_str(values, "service_tier")


def _surcharge(name: str, value: bytes) -> str | None:
    """The tier that a field like `speed` asks for; None where it says what happens anyway. Raises BadRequest."""
    said = optional_str({name: value}, name)
    return None if said is None or said in fields.SURCHARGES[name] else said


def _limit(values: Mapping[str, bytes]) -> int | None:
    """The most tokens that the answer may have; 0 only fills the cache (the official SDK, `max_tokens`)."""
    limit = msgspec.json.decode(values.get("max_tokens", b"null"))
    if limit is None or (type(limit) is int and limit >= 0):
        return limit
    raise BadRequest("`max_tokens` must be a whole number, and not negative.", "max_tokens")


def _look_at_field(name: str, value: bytes, found: _Found) -> None:
    if value in _NOTHING:
        if name not in fields.ANTHROPIC and name not in fields.OPENROUTER:
            found.unboundable[name] = None
        return
    if name in fields.STATEFUL:
        found.stateful[name] = None
    if name == "thread":
        found.beyond_text[name] = None  # The turns that the server keeps are read, and billed, again.
    if (
        name in fields.UNBOUNDABLE
        or (name == "inference_geo" and _surcharge(name, value) is not None)
        or (name == "context_management" and not _only_removes(msgspec.json.decode(value)))
        or (name not in fields.ANTHROPIC and name not in fields.OPENROUTER)
    ):
        found.unboundable[name] = None
    elif name == "container":
        _look_at_container(msgspec.json.decode(value), found)


def _look_at_container(container: Any, found: _Found) -> None:
    """A container runs code for as long as the model likes; one that is named was made by an earlier call."""
    found.unboundable["container"] = None
    if isinstance(container, str) or (isinstance(container, dict) and container.get("id") is not None):
        found.stateful["container"] = None


def _only_removes(management: Any) -> bool:
    if not isinstance(management, dict):
        return False
    edits = management.get("edits") or []
    return isinstance(edits, list) and all(
        isinstance(edit, dict) and str(edit.get("type")) in fields.FREE_CONTEXT_EDITS for edit in edits
    )


def _models(values: Mapping[str, bytes]) -> tuple[str, ...]:
    models = msgspec.json.decode(values.get("models", b"null"))
    if models is None:
        return ()
    if not isinstance(models, list) or not all(isinstance(model, str) and model for model in models):
        raise BadRequest("`models` must be a list of model names.", "models")
    return tuple(models)


def _look_at_tools(raw: bytes, found: _Found) -> None:
    if raw in _NOTHING:
        return
    tools = msgspec.json.decode(raw)
    if not isinstance(tools, list) or not all(isinstance(tool, dict) for tool in tools):
        raise BadRequest("`tools` must be a list of tools, each an object.", "tools")
    for tool in tools:
        kind = tool.get("type")
        if kind is None or kind == fields.CUSTOM_TOOL:
            continue
        name = f"tools: {str(kind)[:_NAME_LENGTH]}"
        if isinstance(kind, str) and kind.startswith(fields.TYPED_CLIENT_TOOLS):
            found.beyond_text[name] = None
        else:
            found.unboundable[name] = None


def _look_at_messages(raw: bytes, found: _Found) -> None:
    try:
        messages = _decode_messages(raw)
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise BadRequest("`messages` must be a list of messages, each an object.", "messages") from None
    for message in messages:
        content = message.content
        if content is not _NO_CONTENT and memoryview(content)[0] == _LIST:
            for block in _blocks(msgspec.json.decode(content)):
                _look_at_block(block, found)


def _blocks(content: Any) -> Iterator[dict[str, Any]]:
    """The blocks of a list, and those inside tool results."""
    for block in content if isinstance(content, list) else ():
        if isinstance(block, dict):
            yield block
            if block.get("type") == "tool_result":
                yield from _blocks(block.get("content"))


def _look_at_block(block: Mapping[str, Any], found: _Found) -> None:
    kind = str(block.get("type"))[:_NAME_LENGTH]  # It may be any JSON, and a list could not be looked up.
    source = block.get("source")
    source = source if isinstance(source, dict) else {}
    if source.get("type") == "file" or kind == "container_upload":
        found.stateful[f"messages[].content[].{kind}"] = None
    if kind == "image":
        found.image_count += 1
        data = source.get("data")
        if isinstance(data, str):
            found.image_bytes += len(data)
    elif kind in fields.TOOL_BRINGING_BLOCKS:
        found.unboundable[f"messages: {kind}"] = None
    elif kind not in fields.TEXT_BLOCKS:
        found.beyond_text[kind] = None
