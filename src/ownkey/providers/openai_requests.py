"""The neutral form written as chat-completions and embeddings bodies, for callers of another dialect."""

from collections.abc import Mapping, Sequence
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
    ToolChoice,
    Untranslatable,
)
from ownkey.domain.wire import EmbeddingsRequest
from ownkey.providers.translation import all_parts, hints_left_behind, refuse_unknown

# Parameters of OpenAI's own that have no neutral form; `n` and `logprobs` would be lost in the answer.
_CARRIED = frozenset(
    {
        "frequency_penalty", "logit_bias", "metadata", "presence_penalty", "prompt_cache_key",
        "prompt_cache_retention", "safety_identifier", "seed", "service_tier", "store", "user",
        "verbosity",
    }
)
_MAX_STOPS = 4


def encode_chat(model: str, request: ChatRequest, output_limit: int) -> bytes:
    """A chat-completions body. Raises Untranslatable for what it cannot carry."""
    refuse_unknown(request.rest, _CARRIED)
    if request.top_k is not None:
        raise Untranslatable("top_k", "OpenAI has no such parameter")
    if request.reasoning_max_tokens is not None:
        raise Untranslatable("reasoning.max_tokens", "OpenAI takes an effort, not a number of tokens")
    if len(request.stop) > _MAX_STOPS:
        raise Untranslatable("stop", "OpenAI takes at most four stop sequences")
    body: dict[str, Any] = {
        "model": model,
        "messages": [_message(message) for message in request.messages],
        "max_completion_tokens": output_limit,
        "temperature": request.temperature,
        "top_p": request.top_p,
        "stop": list(request.stop) or None,
        "tools": _tools(request) or None,
        "tool_choice": _tool_choice(request.tool_choice),
        "parallel_tool_calls": request.parallel_tool_calls if request.tools else None,
        "response_format": _response_format(request),
        "reasoning_effort": request.reasoning_effort,
        **{name: value for name, value in request.rest.items() if name in _CARRIED},
    }
    if request.stream:
        body |= {"stream": True, "stream_options": {"include_usage": True}}
    return msgspec.json.encode({name: value for name, value in body.items() if value is not None})


def dropped_hints(request: ChatRequest) -> tuple[str, ...]:
    """Hints that OpenAI's format has no place for."""
    kept = {"messages[].name", "messages[].content[].image_url.detail"}
    left = [hint for hint in hints_left_behind(request, _CARRIED) if hint not in kept]
    marked = (*all_parts(request), *request.tools)
    if any(getattr(part, "cache_control", None) is not None for part in marked):
        left.append("cache_control")
    if any(message.reasoning_details for message in request.messages):
        left.append("messages[].reasoning")
    return tuple(left)


def _message(message: Message) -> dict[str, Any]:
    if any(_is_signed(detail) for detail in message.reasoning_details):
        raise Untranslatable("messages[].reasoning_details", "OpenAI's chat completions take no reasoning back")
    fields: dict[str, Any] = {"role": message.role}
    refusals = [part.text for part in message.parts if isinstance(part, Refusal)]
    parts = [part for part in message.parts if not isinstance(part, Refusal)]
    fields["content"] = _content(parts)
    if refusals:
        fields["refusal"] = "".join(refusals)
    if message.name is not None:
        fields["name"] = message.name
    if message.tool_call_id is not None:
        fields["tool_call_id"] = message.tool_call_id
    if message.tool_calls:
        fields["tool_calls"] = [
            {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}
            for call in message.tool_calls
        ]
    return fields


def _is_signed(detail: Mapping[str, Any]) -> bool:
    """Whether a piece of reasoning means something to the model; plain text of it does not."""
    return detail.get("type") != "reasoning.text" or bool(detail.get("signature"))


def _content(parts: Sequence[Part]) -> str | list[dict[str, Any]] | None:
    match parts:
        case []:
            return None
        case [Text(text=text)]:
            return text
        case _:
            return [_part(part) for part in parts]


def _part(part: Part) -> dict[str, Any]:
    match part:
        case Text():
            return {"type": "text", "text": part.text}
        case Refusal():
            return {"type": "refusal", "refusal": part.text}
        case Image():
            image = {"url": part.url or f"data:{part.media_type};base64,{part.data}"}
            if part.detail is not None:
                image["detail"] = part.detail
            return {"type": "image_url", "image_url": image}
        case Audio():
            return {"type": "input_audio", "input_audio": {"format": part.format, "data": part.data}}
        case Document():
            file = {"file_data": f"data:{part.media_type};base64,{part.data}"}
            return {"type": "file", "file": {"filename": part.filename or "document", **file}}


def _tools(request: ChatRequest) -> list[dict[str, Any]]:
    tools = []
    for tool in request.tools:
        function = {
            "name": tool.name,
            "description": tool.description,
            "parameters": tool.parameters,
            "strict": tool.strict,
        }
        stated = {name: value for name, value in function.items() if value is not None}
        tools.append({"type": "function", "function": stated})
    return tools


def _tool_choice(choice: ToolChoice | None) -> str | dict[str, Any] | None:
    if choice is None:
        return None
    if choice.mode == "named":
        return {"type": "function", "function": {"name": choice.name}}
    return choice.mode


def _response_format(request: ChatRequest) -> dict[str, Any] | None:
    wanted = request.json_format
    if wanted is None:
        return None
    if wanted.schema is None:
        return {"type": "json_object"}
    described: dict[str, Any] = {"name": wanted.name or "answer", "schema": wanted.schema}
    if wanted.strict is not None:
        described["strict"] = wanted.strict
    return {"type": "json_schema", "json_schema": described}


def encode_embeddings(model: str, request: EmbeddingsRequest) -> bytes:
    """An embeddings body."""
    body: dict[str, Any] = {
        "model": model,
        "input": request.inputs[0] if request.single else list(request.inputs),
        "encoding_format": request.encoding,
    }
    if request.dimensions is not None:
        body["dimensions"] = request.dimensions
    return msgspec.json.encode(body)
