"""A neutral conversation as the body of Anthropic's Messages API: carried whole, or refused by name.

Source: the parameter types of the official SDK (anthropic 2.12) and recorded requests.
"""

import base64
import binascii
import hashlib
import re
from collections.abc import Iterable
from typing import Any

import msgspec

from ownkey.domain.conversation import (
    Audio,
    ChatRequest,
    Document,
    Image,
    Message,
    Part,
    Refusal,
    Text,
    Tool,
    ToolChoice,
    Untranslatable,
)
from ownkey.providers.anthropic.models import Generation, generation_of
from ownkey.providers.anthropic.schema import reduce_schema
from ownkey.providers.anthropic.thinking import thinking_fields
from ownkey.providers.translation import (
    collect_reasoning,
    hints_left_behind,
    parse_arguments,
    refuse_choice_of_nothing,
    refuse_unknown,
    split_system,
)

REASONING_FORMAT = "anthropic-claude-v1"

_IMAGE_TYPES = frozenset({"image/jpeg", "image/png", "image/gif", "image/webp"})
_TOOL_ID = re.compile(r"[A-Za-z0-9_-]+")
_SERVICE_TIERS = {"auto": "auto", "default": "standard_only"}
_CARRIED = frozenset({"user", "safety_identifier", "cache_control", "service_tier"})
_MAX_USER_ID = 256

Block = dict[str, Any]


def encode_chat(model: str, request: ChatRequest, output_limit: int) -> bytes:
    """The request's body. Raises Untranslatable, naming what Anthropic cannot be asked."""
    generation = generation_of(model)
    refuse_unknown(request.rest, _CARRIED - {"service_tier"})
    system, turns = split_system(request.messages)
    body: dict[str, Any] = {"model": model, "max_tokens": output_limit}
    if system:
        body["system"] = [_text_block(text) for text in system]
    thinking = thinking_fields(request, generation, output_limit)
    body |= thinking.fields
    body["messages"] = _messages(turns, generation, thinking.demands_signatures)
    body |= _tools(request, generation, thinking.asked)
    body |= _sampling(request, generation, thinking.asked)
    if request.stop:
        if any(not stop.strip() for stop in request.stop):
            raise Untranslatable("stop", "a stop sequence of white space only")
        body["stop_sequences"] = list(request.stop)
    if request.json_format is not None:
        if request.json_format.schema is None:
            raise Untranslatable("response_format", "JSON without a schema cannot be enforced")
        if not generation.structured:
            raise Untranslatable("response_format", f"{model} has no structured outputs")
        schema = reduce_schema(request.json_format.schema, "response_format")
        body.setdefault("output_config", {})["format"] = {"type": "json_schema", "schema": schema}
    body |= _account(request)
    if request.stream:
        body["stream"] = True
    return msgspec.json.encode(body)


def dropped_hints(request: ChatRequest) -> tuple[str, ...]:
    """What a translation of this request leaves behind, because no answer depends on it."""
    left = hints_left_behind(request, carried=("user", "safety_identifier"))
    if _user_id(request) is None:
        left += [name for name in ("user", "safety_identifier") if request.rest.get(name) is not None]
    elif request.rest.get("user") is not None and request.rest.get("safety_identifier") is not None:
        left.append("user")
    return tuple(left)


def _account(request: ChatRequest) -> dict[str, Any]:
    fields: dict[str, Any] = {}
    user_id = _user_id(request)
    if user_id is not None:
        fields["metadata"] = {"user_id": user_id}
    cache_control = request.rest.get("cache_control")
    if cache_control is not None:
        if not isinstance(cache_control, dict):
            raise Untranslatable("cache_control", "not an object")
        fields["cache_control"] = cache_control
    tier = request.rest.get("service_tier")
    if tier is not None:
        fields["service_tier"] = _SERVICE_TIERS[tier]
    return fields


def _user_id(request: ChatRequest) -> str | None:
    """Anthropic knows one opaque id of the end user; the newer of OpenAI's two parameters wins."""
    for name in ("safety_identifier", "user"):
        value = request.rest.get(name)
        if isinstance(value, str) and 0 < len(value) <= _MAX_USER_ID:
            return value
    return None


def _sampling(request: ChatRequest, generation: Generation, thinking: bool) -> dict[str, Any]:
    fields: dict[str, Any] = {}
    if request.temperature is not None:
        if not 0 <= request.temperature <= 1:
            raise Untranslatable("temperature", "Anthropic's scale ends at 1")
        if request.temperature != 1:
            if not generation.samples:
                raise Untranslatable("temperature", "the model accepts no sampling parameters")
            if thinking:
                raise Untranslatable("temperature", "thinking allows only 1")
            fields["temperature"] = request.temperature
    if request.top_p is not None and request.top_p != 1:
        if not generation.samples:
            raise Untranslatable("top_p", "the model accepts no sampling parameters")
        if thinking and request.top_p < 0.95:
            raise Untranslatable("top_p", "thinking allows only 0.95 to 1")
        if generation.one_sampler and "temperature" in fields:
            raise Untranslatable("top_p", "the model accepts temperature or top_p, not both")
        fields["top_p"] = request.top_p
    if request.top_k is not None and request.top_k != 0:
        if not generation.samples or thinking:
            raise Untranslatable("top_k", "the model accepts no top_k here")
        fields["top_k"] = request.top_k
    return fields


def _tools(request: ChatRequest, generation: Generation, thinking: bool) -> dict[str, Any]:
    refuse_choice_of_nothing(request)
    if not request.tools:
        if any(message.tool_calls or message.role == "tool" for message in request.messages):
            raise Untranslatable("tools", "a history with tool calls needs the tools' definitions")
        return {}
    fields: dict[str, Any] = {"tools": [_tool(tool, generation) for tool in request.tools]}
    choice = request.tool_choice
    if choice is not None and choice.mode in ("required", "named") and thinking:
        raise Untranslatable("tool_choice", "thinking does not go together with a forced tool")
    single = request.parallel_tool_calls is False
    if choice is not None or single:
        fields["tool_choice"] = _tool_choice(choice or ToolChoice("auto"), single)
    return fields


def _tool_choice(choice: ToolChoice, single: bool) -> dict[str, Any]:
    match choice.mode:
        case "none":
            return {"type": "none"}
        case "auto":
            field: dict[str, Any] = {"type": "auto"}
        case "required":
            field = {"type": "any"}
        case "named":
            field = {"type": "tool", "name": choice.name}
    if single:
        field["disable_parallel_tool_use"] = True
    return field


def _tool(tool: Tool, generation: Generation) -> dict[str, Any]:
    schema: dict[str, Any] = dict(tool.parameters or {})
    if tool.strict and not generation.structured:
        raise Untranslatable("tools[].function.strict", "the model has no strict tools")
    if "type" not in schema:
        schema["type"] = "object"
    if schema["type"] != "object":
        raise Untranslatable("tools[].function.parameters", "a tool's input must be an object")
    if tool.strict:
        schema.setdefault("properties", {})
        schema.setdefault("additionalProperties", False)
        schema = reduce_schema(schema, "tools[].function.parameters")
    field: dict[str, Any] = {"name": tool.name, "input_schema": schema}
    if tool.description is not None:
        field["description"] = tool.description
    if tool.strict:
        field["strict"] = True
    return _cached(field, tool.cache_control)


def _messages(turns: list[Message], generation: Generation, demands_signatures: bool) -> list[dict[str, Any]]:
    """Turns merged into alternating roles; tool results lead a user turn, as Anthropic demands."""
    merged: list[tuple[str, list[Block]]] = []
    for message in turns:
        role = "assistant" if message.role == "assistant" else "user"
        blocks = _assistant_blocks(message) if role == "assistant" else _user_blocks(message)
        if not blocks:
            continue
        if merged and merged[-1][0] == role:
            merged[-1][1].extend(blocks)
        else:
            merged.append((role, blocks))
    if not merged:
        raise Untranslatable("messages", "no content")
    if merged[0][0] == "assistant":
        raise Untranslatable("messages", "the conversation begins with the assistant")
    if merged[-1][0] == "assistant" and (not generation.prefill or demands_signatures):
        raise Untranslatable("messages", "the model does not continue an assistant's turn")
    if demands_signatures:
        _check_signatures(merged)
    return [
        {"role": role, "content": sorted(blocks, key=lambda block: block["type"] != "tool_result")}
        if role == "user"
        else {"role": role, "content": blocks}
        for role, blocks in merged
    ]


def _check_signatures(merged: list[tuple[str, list[Block]]]) -> None:
    """With a thinking budget, an open tool turn must begin with its signed thoughts."""
    for role, blocks in reversed(merged):
        if role == "user":
            if not any(block["type"] == "tool_result" for block in blocks):
                return
        elif blocks[0]["type"] not in ("thinking", "redacted_thinking"):
            raise Untranslatable("messages[].reasoning_details", "the thoughts before a tool call were lost")


def _user_blocks(message: Message) -> list[Block]:
    if message.role != "tool":
        return list(_content(message.parts))
    block: Block = {"type": "tool_result", "tool_use_id": _tool_id(message.tool_call_id or "")}
    if message.is_error:
        block["is_error"] = True
    content = list(_content(message.parts))
    for inner in content:
        # A cache mark inside a result is the result's own: the block is what is cached.
        mark = inner.pop("cache_control", None)
        if mark is not None:
            block["cache_control"] = mark
    if content:
        block["content"] = content
    return [block]


def _assistant_blocks(message: Message) -> list[Block]:
    blocks: list[Block] = []
    for piece in collect_reasoning(message.reasoning_details, REASONING_FORMAT):
        if piece.data is not None:
            blocks.append({"type": "redacted_thinking", "data": piece.data})
        elif piece.signature is None:
            raise Untranslatable("messages[].reasoning_details", "a thought without its signature")
        else:
            blocks.append({"type": "thinking", "thinking": piece.text, "signature": piece.signature})
    blocks += _content(message.parts)
    for call in message.tool_calls:
        arguments = parse_arguments(call.arguments)
        used = {"type": "tool_use", "id": _tool_id(call.id), "name": call.name, "input": arguments}
        blocks.append(_cached(used, call.cache_control))
    return blocks


def _content(parts: Iterable[Part]) -> Iterable[Block]:
    for part in parts:
        match part:
            case Text(text=text):
                # Anthropic refuses empty text; it says nothing, so nothing is lost.
                if text:
                    yield _text_block(part)
            case Refusal(text=text):
                if text:
                    yield {"type": "text", "text": text}
            case Image():
                yield _image(part)
            case Document():
                yield _document(part)
            case Audio():
                raise Untranslatable("messages[].content[].input_audio", "Anthropic reads no audio")


def _text_block(text: Text) -> Block:
    return _cached({"type": "text", "text": text.text}, text.cache_control)


def _image(image: Image) -> Block:
    if image.url is not None:
        if not image.url.startswith("https://"):
            raise Untranslatable("messages[].content[].image_url", "Anthropic fetches https only")
        return _cached({"type": "image", "source": {"type": "url", "url": image.url}}, image.cache_control)
    if image.media_type not in _IMAGE_TYPES:
        raise Untranslatable("messages[].content[].image_url", f"the type {image.media_type}")
    source = {"type": "base64", "media_type": image.media_type, "data": image.data}
    return _cached({"type": "image", "source": source}, image.cache_control)


def _document(document: Document) -> Block:
    match document.media_type.partition(";")[0].strip():
        case "application/pdf":
            source = {"type": "base64", "media_type": "application/pdf", "data": document.data}
        case "text/plain":
            try:
                text = base64.b64decode(document.data, validate=True).decode()
            except (binascii.Error, ValueError):
                raise Untranslatable("messages[].content[].file", "not UTF-8 text in base64") from None
            source = {"type": "text", "media_type": "text/plain", "data": text}
        case other:
            raise Untranslatable("messages[].content[].file", f"the type {other}")
    block: Block = {"type": "document", "source": source}
    if document.filename:
        block["title"] = document.filename
    return _cached(block, document.cache_control)


def _cached(block: Block, mark: Any) -> Block:
    if mark is not None:
        block["cache_control"] = mark
    return block


def _tool_id(call_id: str) -> str:
    """Ids made elsewhere may hold characters that Anthropic refuses: such an id becomes its digest, the same
    in the call and in its result."""
    if _TOOL_ID.fullmatch(call_id):
        return call_id
    return "toolu_" + hashlib.sha256(call_id.encode()).hexdigest()[:24]
