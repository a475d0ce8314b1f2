"""Messages bodies read into the neutral form, for routes that speak another wire format.

Nothing is dropped silently: what has no neutral form is kept in `rest` under the name that the caller gave it, and the
route's codec decides whether it can carry it. Only null is left out, and what asks for what happens anyway.
"""

import base64
import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import msgspec

from ownkey.dialects.anthropic_fields import CUSTOM_TOOL
from ownkey.dialects.anthropic_thoughts import Unreadable, is_our_citation, read_thought
from ownkey.domain.conversation import (
    ChatRequest,
    Document,
    Image,
    JsonFormat,
    Message,
    Part,
    Text,
    Tool,
    ToolCall,
    ToolChoice,
)
from ownkey.domain.wire import BadRequest

_READ = frozenset(
    {
        "model", "messages", "stream", "max_tokens", "system", "temperature", "top_p", "top_k", "stop_sequences",
        "tools", "tool_choice", "thinking", "output_config", "output_format", "metadata", "service_tier",
        "cache_control",
    }
)

# The neutral form has OpenAI's words for the tiers.
_SERVICE_TIERS = {"standard_only": "default"}
_DEFAULT_EFFORT = "high"  # What adaptive thinking does unless told otherwise (platform.claude.com, "Effort").
_MAX_USER_ID = 64  # OpenAI takes no longer one.

# What a block's or tool's field may say without asking for anything.
_NO_EFFECT: Mapping[str, tuple[Any, ...]] = {
    "allowed_callers": (["direct"],),
    "defer_loading": (False,),
    "caller": ({"type": "direct"},),
    "citations": ({"enabled": False},),
    "input_examples": ([],),
    "clear_at": ("never",),
    "output_config": ({},),
}
# How a tool's input is streamed is the dialect's business, not the provider's.
_TOOL_FIELDS = frozenset(
    {"type", "name", "description", "input_schema", "strict", "cache_control", "eager_input_streaming"}
)
_BLOCK_FIELDS: Mapping[str, frozenset[str]] = {
    "text": frozenset({"type", "text", "cache_control", "citations"}),
    "image": frozenset({"type", "source", "cache_control"}),
    "document": frozenset({"type", "source", "title", "cache_control"}),
    "tool_use": frozenset({"type", "id", "name", "input", "cache_control"}),
    "tool_result": frozenset({"type", "tool_use_id", "content", "is_error", "cache_control"}),
    "thinking": frozenset({"type", "thinking", "signature"}),
    "redacted_thinking": frozenset({"type", "data"}),
}

Rest = dict[str, Any]


def read_messages(body: dict[str, Any]) -> ChatRequest:
    """The conversation to continue. Raises BadRequest where a message, tool or format cannot be read."""
    rest: Rest = {name: value for name, value in body.items() if name not in _READ and value is not None}
    messages = [*_system(body.get("system"), rest)]
    for index, message in enumerate(body["messages"]):
        messages += _messages(message, f"messages[{index}]", rest)
    _read_cache_control(body.get("cache_control"), messages, rest)
    _read_account(body, rest)
    if body.get("max_tokens") == 0:
        rest["max_tokens"] = 0  # Filling the prompt cache without an answer; no other provider can be asked for that.
    effort, budget = _reasoning(body, rest)
    choice, parallel = _tool_choice(body.get("tool_choice"))
    return ChatRequest(
        messages=tuple(messages),
        stream=body.get("stream") is True,
        max_output_tokens=body.get("max_tokens"),
        temperature=_number(body, "temperature"),
        top_p=_number(body, "top_p"),
        top_k=_typed(body, "top_k", int, "a whole number"),
        stop=_stop(body.get("stop_sequences")),
        tools=_tools(body.get("tools"), rest),
        tool_choice=choice,
        parallel_tool_calls=parallel,
        json_format=_json_format(body, rest),
        reasoning_effort=effort,
        reasoning_max_tokens=budget,
        rest=rest,
    )


# --- parameters


def _typed(fields: Mapping[str, Any], name: str, kind: type, words: str, where: str = "") -> Any:
    """A value of exactly one JSON type; None where it is missing or null."""
    value = fields.get(name)
    if value is not None and type(value) is not kind:
        raise BadRequest(f"`{where}{name}` must be {words}.", f"{where}{name}")
    return value


def _number(body: Mapping[str, Any], name: str) -> float | None:
    value = body.get(name)
    if value is not None and type(value) not in (int, float):
        raise BadRequest(f"`{name}` must be a number.", name)
    return value


def _needed(fields: Mapping[str, Any], name: str, where: str) -> str:
    text = fields.get(name)
    if not isinstance(text, str):
        raise BadRequest(f"`{where}.{name}` must be a text.", f"{where}.{name}")
    return text


def _object(value: Any, where: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise BadRequest(f"`{where}` must be an object.", where)
    return value


def _keep_others(fields: Mapping[str, Any], known: frozenset[str], where: str, rest: Rest) -> None:
    """Keep under their names the fields that are not read and do say something."""
    for name, value in fields.items():
        if name not in known and value is not None and value not in _NO_EFFECT.get(name, ()):
            rest[f"{where}.{name}"] = value


def _stop(value: Any) -> tuple[str, ...]:
    if value is None:
        return ()
    if not isinstance(value, list) or not all(isinstance(stop, str) for stop in value):
        raise BadRequest("`stop_sequences` must be a list of texts.", "stop_sequences")
    return tuple(value)


def _read_account(body: Mapping[str, Any], rest: Rest) -> None:
    """Anthropic's opaque id of the end user is what OpenAI calls a safety identifier: a longer one as its digest."""
    metadata = dict(body.get("metadata") or {})
    user_id = metadata.pop("user_id", None)
    if isinstance(user_id, str) and user_id:
        digest = hashlib.sha256(user_id.encode("utf-8", "surrogatepass")).hexdigest()
        rest["safety_identifier"] = user_id if len(user_id) <= _MAX_USER_ID else digest
    if metadata:
        rest["metadata"] = metadata
    tier = _typed(body, "service_tier", str, "a text")
    if tier is not None:
        rest["service_tier"] = _SERVICE_TIERS.get(tier, tier)


def _read_cache_control(mark: Any, messages: list[Message], rest: Rest) -> None:
    """A mark on the whole request is one on its last block."""
    if mark is None:
        return
    last = messages[-1] if messages else None
    part = last.parts[-1] if last is not None and last.parts and not last.tool_calls else None
    if last is None or not isinstance(part, Text | Image | Document):
        rest["cache_control"] = mark
    elif part.cache_control is None:
        messages[-1] = replace(last, parts=(*last.parts[:-1], replace(part, cache_control=mark)))


def _reasoning(body: Mapping[str, Any], rest: Rest) -> tuple[str | None, int | None]:
    """Effort and token budget from `thinking` and `output_config`, which Anthropic states apart."""
    thinking = dict(body.get("thinking") or {})
    config = dict(body.get("output_config") or {})
    effort = _typed(config, "effort", str, "a text", "output_config.")
    for name in ("effort", "format"):
        config.pop(name, None)
    _keep_others(config, frozenset(), "output_config", rest)
    if not thinking:
        return effort, None
    kind = thinking.pop("type", None)
    budget = _typed(thinking, "budget_tokens", int, "a whole number", "thinking.")
    thinking.pop("budget_tokens", None)
    if thinking.get("display") == "summarized":
        del thinking["display"]
    _keep_others(thinking, frozenset(), "thinking", rest)
    match kind:
        case "enabled":
            if budget is None:
                raise BadRequest("`thinking.budget_tokens` is missing.", "thinking.budget_tokens")
            return effort, budget
        case "disabled":
            if effort is not None:
                rest["output_config.effort"] = effort
            return "none", None
        case "adaptive":
            return effort or _DEFAULT_EFFORT, None
        case str():
            rest["thinking.type"] = kind
            return effort, None
        case _:
            raise BadRequest("`thinking.type` must be a text.", "thinking.type")


def _json_format(body: Mapping[str, Any], rest: Rest) -> JsonFormat | None:
    """A schema, by its newer or its older name. Anthropic enforces it, so every other provider must, too."""
    config = body.get("output_config") or {}
    newer, older = config.get("format"), body.get("output_format")
    if newer is not None and older is not None:
        raise BadRequest("`output_format` is the older name of `output_config.format`: send one.", "output_format")
    wanted, where = (older, "output_format") if newer is None else (newer, "output_config.format")
    match wanted:
        case None:
            return None
        case {"type": "json_schema", "schema": dict(schema)}:
            _keep_others(wanted, frozenset({"type", "schema", "name"}), where, rest)
            return JsonFormat(schema, _typed(wanted, "name", str, "a text", f"{where}."), strict=True)
        case {"type": "json_schema"}:
            raise BadRequest(f"`{where}.schema` must be an object.", f"{where}.schema")
        case _:
            rest[where] = wanted
            return None


# --- tools


def _tools(value: Any, rest: Rest) -> tuple[Tool, ...]:
    tools, others = [], []
    for index, tool in enumerate(value or ()):
        place = f"tools[{index}]"
        tool = _object(tool, place)
        if tool.get("type") not in (None, CUSTOM_TOOL):
            others.append(tool)
            continue
        _keep_others(tool, _TOOL_FIELDS, "tools[]", rest)
        tools.append(
            Tool(
                name=_needed(tool, "name", place),
                description=_typed(tool, "description", str, "a text", f"{place}."),
                parameters=_object(tool.get("input_schema"), f"{place}.input_schema"),
                strict=_typed(tool, "strict", bool, "true or false", f"{place}."),
                cache_control=_cache_control(tool, place),
            )
        )
    if others:
        rest["tools"] = others
    return tuple(tools)


def _tool_choice(value: Any) -> tuple[ToolChoice | None, bool | None]:
    if value is None:
        return None, None
    single = _typed(value, "disable_parallel_tool_use", bool, "true or false", "tool_choice.")
    parallel = False if single else None
    match value.get("type"):
        case "auto":
            return ToolChoice("auto"), parallel
        case "any":
            return ToolChoice("required"), parallel
        case "none":
            return ToolChoice("none"), parallel
        case "tool":
            return ToolChoice("named", _needed(value, "name", "tool_choice")), parallel
        case _:
            raise BadRequest('`tool_choice.type` must be "auto", "any", "tool" or "none".', "tool_choice.type")


# --- conversation


def _system(value: Any, rest: Rest) -> Iterator[Message]:
    if value is None:
        return
    blocks = [{"type": "text", "text": value}] if isinstance(value, str) else value
    parts = []
    for index, block in enumerate(blocks):
        block = _object(block, f"system[{index}]")
        if block.get("type") != "text":
            raise BadRequest(f"`system[{index}]` must be a text block.", f"system[{index}]")
        parts.append(_text(block, f"system[{index}]", rest))
    if parts:
        yield Message("system", tuple(parts))


def _messages(message: Any, where: str, rest: Rest) -> Iterator[Message]:
    """One message of the caller's; each tool result becomes a message of its own, in its place."""
    message = _object(message, where)
    _keep_others(message, frozenset({"role", "content"}), "messages[]", rest)
    role = message.get("role")
    if role not in ("user", "assistant", "system"):
        raise BadRequest(f"`{where}.role` must be \"user\", \"assistant\" or \"system\".", f"{where}.role")
    content = message.get("content")
    if isinstance(content, str):
        content = [{"type": "text", "text": content}]
    if not isinstance(content, list):
        raise BadRequest(f"`{where}.content` must be a text or a list of blocks.", f"{where}.content")
    blocks = [(_object(block, f"{where}.content[{i}]"), f"{where}.content[{i}]") for i, block in enumerate(content)]
    if role == "assistant":
        yield _assistant(blocks, rest)
        return
    parts: list[Part] = []
    for block, place in blocks:
        if block.get("type") == "tool_result":
            if parts:
                yield Message(role, tuple(parts))
                parts = []
            yield _tool_result(block, place, rest)
        else:
            parts += _part(block, place, rest)
    if parts:
        yield Message(role, tuple(parts))


def _assistant(blocks: list[tuple[dict[str, Any], str]], rest: Rest) -> Message:
    parts: list[Part] = []
    calls: list[ToolCall] = []
    thoughts: list[Mapping[str, Any]] = []
    for block, place in blocks:
        match block.get("type"):
            case "thinking" | "redacted_thinking" as kind:
                _keep_others(block, _BLOCK_FIELDS[kind], f"messages[].content[].{kind}", rest)
                try:
                    thought = read_thought(block, place, len(thoughts))
                except Unreadable as lost:
                    # Dropped, it would be missed by its maker only; refused by name, another route may do without.
                    rest[str(lost.param)] = True
                    continue
                if thought is not None:
                    thoughts.append(thought)
            case "tool_use":
                calls.append(_tool_call(block, place, rest))
            case _:
                parts += _part(block, place, rest)
    return Message("assistant", tuple(parts), tuple(calls), reasoning_details=tuple(thoughts))


def _tool_call(block: Mapping[str, Any], where: str, rest: Rest) -> ToolCall:
    _keep_others(block, _BLOCK_FIELDS["tool_use"], "messages[].content[].tool_use", rest)
    arguments = _object(block.get("input"), f"{where}.input")
    return ToolCall(
        _needed(block, "id", where), _needed(block, "name", where), msgspec.json.encode(arguments).decode(),
        _cache_control(block, where),
    )


def _tool_result(block: Mapping[str, Any], where: str, rest: Rest) -> Message:
    _keep_others(block, _BLOCK_FIELDS["tool_result"], "messages[].content[].tool_result", rest)
    content = block.get("content")
    parts: list[Part] = []
    if isinstance(content, list):
        for index, inner in enumerate(content):
            place = f"{where}.content[{index}]"
            parts += _part(_object(inner, place), place, rest)
    elif isinstance(content, str):
        parts.append(Text(content))
    elif content is not None:
        raise BadRequest(f"`{where}.content` must be a text or a list of blocks.", f"{where}.content")
    mark = _cache_control(block, where)
    if mark is not None:
        parts = _marked(parts, mark)
    return Message(
        "tool", tuple(parts), tool_call_id=_needed(block, "tool_use_id", where),
        is_error=_typed(block, "is_error", bool, "true or false", f"{where}.") is True,
    )


def _marked(parts: list[Part], mark: Mapping[str, Any]) -> list[Part]:
    """A result's cache mark on its last part, which is where the neutral form has it."""
    last = parts[-1] if parts else Text("")
    assert isinstance(last, Text | Image | Document)
    return [*parts[:-1], replace(last, cache_control=mark)]


def _part(block: Mapping[str, Any], where: str, rest: Rest) -> list[Part]:
    """A block of a user's, an assistant's or a tool's content; none for one that went to `rest`."""
    kind = block.get("type")
    if not isinstance(kind, str):
        raise BadRequest(f"`{where}.type` must be a text.", f"{where}.type")
    match kind:
        case "text":
            return [_text(block, where, rest)]
        case "image":
            _keep_others(block, _BLOCK_FIELDS[kind], "messages[].content[].image", rest)
            return _image(block, where, rest)
        case "document":
            _keep_others(block, _BLOCK_FIELDS[kind], "messages[].content[].document", rest)
            return _document(block, where, rest)
        case _:
            rest[f"messages[].content[].{kind[:80]}"] = True
            return []


def _text(block: Mapping[str, Any], where: str, rest: Rest) -> Text:
    _keep_others(block, _BLOCK_FIELDS["text"], "messages[].content[].text", rest)
    citations = block.get("citations")
    if isinstance(citations, list) and not all(is_our_citation(citation) for citation in citations):
        rest["messages[].content[].citations"] = True
    return Text(_needed(block, "text", where), _cache_control(block, where))


def _image(block: Mapping[str, Any], where: str, rest: Rest) -> list[Part]:
    source = _object(block.get("source"), f"{where}.source")
    mark = _cache_control(block, where)
    match source.get("type"):
        case "base64":
            media_type = _needed(source, "media_type", f"{where}.source")
            return [Image(media_type, _needed(source, "data", f"{where}.source"), cache_control=mark)]
        case "url":
            return [Image(url=_needed(source, "url", f"{where}.source"), cache_control=mark)]
        case other:
            rest[f"messages[].content[].image.source.{str(other)[:80]}"] = True
            return []


def _document(block: Mapping[str, Any], where: str, rest: Rest) -> list[Part]:
    source = _object(block.get("source"), f"{where}.source")
    title = _typed(block, "title", str, "a text", f"{where}.")
    mark = _cache_control(block, where)
    match source.get("type"):
        case "base64":
            media_type = _needed(source, "media_type", f"{where}.source")
            return [Document(media_type, _needed(source, "data", f"{where}.source"), title, mark)]
        case "text":
            text = _needed(source, "data", f"{where}.source").encode("utf-8", "surrogatepass")
            return [Document("text/plain", base64.b64encode(text).decode("ascii"), title, mark)]
        case other:
            rest[f"messages[].content[].document.source.{str(other)[:80]}"] = True
            return []


def _cache_control(fields: Mapping[str, Any], where: str) -> Mapping[str, Any] | None:
    mark: Mapping[str, Any] | None = _typed(fields, "cache_control", dict, "an object", f"{where}.")
    return mark
