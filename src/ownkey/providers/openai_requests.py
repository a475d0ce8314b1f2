"""The neutral form written as chat-completions and embeddings bodies, for callers of another dialect."""

import base64
import binascii
import hashlib
import re
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
from ownkey.providers.openai_models import Generation, generation_of
from ownkey.providers.openai_schema import strict_schema
from ownkey.providers.translation import (
    TOOL_ERROR_MARK,
    hints_left_behind,
    is_cache_marked,
    refuse_choice_of_nothing,
    refuse_unknown,
)

# Parameters of OpenAI's own that have no neutral form; `n` and `logprobs` would be lost in the answer.
_CARRIED = frozenset(
    {
        "frequency_penalty", "logit_bias", "metadata", "presence_penalty", "prompt_cache_key",
        "prompt_cache_retention", "safety_identifier", "seed", "service_tier", "store", "user",
        "verbosity",
    }
)
_MAX_STOPS = 4
_MAX_CALL_ID = 40
_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")
_IMAGE_TYPES = frozenset({"image/png", "image/jpeg", "image/gif", "image/webp"})


def encode_chat(model: str, request: ChatRequest, output_limit: int) -> bytes:
    """A chat-completions body. Raises Untranslatable for what it cannot carry."""
    generation = generation_of(model)
    refuse_unknown(request.rest, _CARRIED)
    refuse_choice_of_nothing(request)
    if request.messages and request.messages[-1].role == "assistant":
        raise Untranslatable("messages", "the model does not continue an assistant's turn")
    effort = _effort(request, generation)
    reasons = effort != "none" if effort is not None else generation.reasons
    if request.tools and reasons and not generation.thinks_with_tools:
        raise Untranslatable("tools", f"{model} takes them in chat completions only while it does not reason")
    body: dict[str, Any] = {
        "model": model,
        "messages": [_message(message) for message in request.messages],
        "max_completion_tokens": output_limit,
        **_sampling(request, generation, reasons),
        "tools": _tools(request) or None,
        "tool_choice": _tool_choice(request.tool_choice) if request.tools else None,
        "parallel_tool_calls": _parallel(request, generation),
        "response_format": _response_format(request),
        "reasoning_effort": effort,
        **{name: value for name, value in request.rest.items() if name in _CARRIED},
    }
    if request.stream:
        body |= {"stream": True, "stream_options": {"include_usage": True}}
    return msgspec.json.encode({name: value for name, value in body.items() if value is not None})


def _effort(request: ChatRequest, generation: Generation) -> str | None:
    """How much to reason, in the model's own words; None: as it likes, or not at all. Raises Untranslatable."""
    effort = request.reasoning_effort
    if request.reasoning_max_tokens is not None:
        if request.reasoning_max_tokens > 0 or effort not in (None, "none"):
            raise Untranslatable("reasoning.max_tokens", "OpenAI takes an effort, not a number of tokens")
        effort = "none"
    if effort is None:
        return None
    if not generation.efforts:
        if effort != "none":
            raise Untranslatable("reasoning_effort", "the model does not reason")
        return None
    if effort == "minimal" and effort not in generation.efforts:
        # Their scale begins at low: the least they can be asked for is what "minimal" means.
        effort = "low"
    if effort not in generation.efforts:
        raise Untranslatable("reasoning_effort", f"the model knows only {', '.join(generation.efforts)}")
    return effort


def _sampling(request: ChatRequest, generation: Generation, reasons: bool) -> dict[str, Any]:
    if request.top_k:
        raise Untranslatable("top_k", "OpenAI has no such parameter")
    if len(request.stop) > _MAX_STOPS:
        raise Untranslatable("stop", "OpenAI takes at most four stop sequences")
    fields: dict[str, Any] = {}
    if request.temperature is not None and request.temperature != 1:
        fields["temperature"] = request.temperature
    if request.top_p is not None and request.top_p != 1:
        fields["top_p"] = request.top_p
    if request.stop:
        fields["stop"] = list(request.stop)
    if fields and (reasons or not generation.samples):
        raise Untranslatable(next(iter(fields)), "the model does not take it while it reasons")
    return fields


def _parallel(request: ChatRequest, generation: Generation) -> bool | None:
    if not request.tools or request.parallel_tool_calls is None:
        return None
    if not generation.one_call:
        if request.parallel_tool_calls is False:
            raise Untranslatable("parallel_tool_calls", "the model cannot be told to call one tool at a time")
        return None
    return request.parallel_tool_calls


def dropped_hints(request: ChatRequest) -> tuple[str, ...]:
    """Hints that OpenAI's format has no place for."""
    kept = {"messages[].name", "messages[].content[].image_url.detail"}
    left = [hint for hint in hints_left_behind(request, _CARRIED) if hint not in kept]
    if is_cache_marked(request):
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
    if message.is_error:
        # The format has no place for it but the words themselves.
        parts = [Text(TOOL_ERROR_MARK), *parts]
    fields["content"] = _result(parts) if message.role == "tool" else _content(parts)
    if refusals:
        fields["refusal"] = "".join(refusals)
    if message.name is not None:
        fields["name"] = message.name
    if message.tool_call_id is not None:
        fields["tool_call_id"] = _call_id(message.tool_call_id)
    if message.tool_calls:
        fields["tool_calls"] = [
            {"id": _call_id(call.id), "type": "function", "function": {"name": call.name, "arguments": call.arguments}}
            for call in message.tool_calls
        ]
    return fields


def _call_id(call_id: str) -> str:
    """Ids made elsewhere may be longer than OpenAI takes: such an id becomes its digest, in the call and its result."""
    if len(call_id) <= _MAX_CALL_ID:
        return call_id
    return "call_" + hashlib.sha256(call_id.encode("utf-8", "surrogatepass")).hexdigest()[:24]


def _result(parts: Sequence[Part]) -> str | list[dict[str, Any]]:
    """A tool's result: text is all that OpenAI reads there, and it must be said that there is none."""
    content = _content(parts)
    if isinstance(content, list) and any(part["type"] != "text" for part in content):
        raise Untranslatable("messages[].content", "OpenAI reads only text in a tool's result")
    return content or ""


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
            if part.url is None and part.media_type not in _IMAGE_TYPES:
                raise Untranslatable("messages[].content[].image_url", f"the type {part.media_type}")
            image = {"url": part.url or f"data:{part.media_type};base64,{part.data}"}
            if part.detail is not None:
                image["detail"] = part.detail
            return {"type": "image_url", "image_url": image}
        case Audio():
            return {"type": "input_audio", "input_audio": {"format": part.format, "data": part.data}}
        case Document() if part.media_type.partition(";")[0].strip() == "text/plain":
            return {"type": "text", "text": _plain_text(part)}
        case Document():
            if part.media_type != "application/pdf":
                raise Untranslatable("messages[].content[].file", f"the type {part.media_type}")
            file = {"file_data": f"data:{part.media_type};base64,{part.data}"}
            return {"type": "file", "file": {"filename": part.filename or "document", **file}}


def _plain_text(document: Document) -> str:
    """A text document's own words, under its title: OpenAI takes files of PDF only."""
    try:
        text = base64.b64decode(document.data, validate=True).decode()
    except (binascii.Error, ValueError):
        raise Untranslatable("messages[].content[].file", "not UTF-8 text in base64") from None
    return f"[{document.filename}]\n{text}" if document.filename else text


def _tools(request: ChatRequest) -> list[dict[str, Any]]:
    tools = []
    for tool in request.tools:
        if not _NAME.fullmatch(tool.name):
            raise Untranslatable("tools[].function.name", "not a name that OpenAI accepts")
        parameters = tool.parameters
        if tool.strict:
            parameters = strict_schema(parameters or {}, "tools[].function.parameters")
        function = {
            "name": tool.name,
            "description": tool.description,
            "parameters": parameters,
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
    name = wanted.name if wanted.name and _NAME.fullmatch(wanted.name) else "answer"
    schema = strict_schema(wanted.schema, "response_format") if wanted.strict else wanted.schema
    described: dict[str, Any] = {"name": name, "schema": schema}
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
