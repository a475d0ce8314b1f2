"""A neutral conversation as the body of Gemini's generateContent: carried whole, or refused by name.

Sources: the schemas of generateContent, google-genai 3.4, ai.google.dev, and recorded requests.
"""

import re
from collections.abc import Iterable, Mapping
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
    ToolCall,
    ToolChoice,
    Untranslatable,
)
from ownkey.providers.google.models import Generation, generation_of
from ownkey.providers.google.schema import reduce_schema
from ownkey.providers.translation import (
    EFFORT_SHARE,
    Reasoning,
    all_parts,
    collect_reasoning,
    hints_left_behind,
    is_cache_marked,
    parse_arguments,
    refuse_choice_of_nothing,
    refuse_unknown,
    split_system,
)

REASONING_FORMAT = "google-gemini-v1"
MAX_STOPS = 5

_CARRIED = frozenset({"seed", "frequency_penalty", "presence_penalty", "cache_control"})
_FUNCTION_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.:-]{0,63}")
_IMAGE_TYPES = frozenset({"image/png", "image/jpeg", "image/webp", "image/heic", "image/heif"})
_AUDIO_TYPES = {name: f"audio/{name}" for name in ("wav", "mp3", "aiff", "aac", "ogg", "flac")}

GooglePart = dict[str, Any]


def encode_chat(model: str, request: ChatRequest, output_limit: int) -> bytes:
    """The request's body. Raises Untranslatable, naming what Gemini cannot be asked."""
    generation = generation_of(model)
    if not generation.only_text:
        raise Untranslatable("model", "it answers with more than text")
    refuse_unknown(request.rest, _CARRIED)
    system, turns = split_system(request.messages)
    body: dict[str, Any] = {"contents": _contents(turns, generation)}
    if system:
        if not generation.instructs:
            raise Untranslatable("messages", "the model takes no system instruction")
        body["systemInstruction"] = {"parts": [{"text": text.text} for text in system]}
    body |= _tools(request, generation)
    body["generationConfig"] = _generation_config(request, generation, output_limit)
    return msgspec.json.encode(body)


def dropped_hints(request: ChatRequest) -> tuple[str, ...]:
    """What a translation of this request leaves behind, because no answer depends on it."""
    left = hints_left_behind(request)
    if any(isinstance(part, Document) and part.filename for part in all_parts(request)):
        left.append("messages[].content[].file.filename")
    if is_cache_marked(request) or request.rest.get("cache_control") is not None:
        left.append("cache_control")
    return tuple(left)


def _generation_config(request: ChatRequest, generation: Generation, output_limit: int) -> dict[str, Any]:
    config: dict[str, Any] = {"maxOutputTokens": output_limit}
    for name, value in (
        ("temperature", request.temperature),
        ("topP", request.top_p),
        ("topK", request.top_k or None),
        ("frequencyPenalty", _number(request, "frequency_penalty")),
        ("presencePenalty", _number(request, "presence_penalty")),
    ):
        if value is not None:
            config[name] = value
    seed = _number(request, "seed")
    if seed is not None:
        if not isinstance(seed, int) or not -(2**31) <= seed < 2**31:
            raise Untranslatable("seed", "Gemini's seeds are integers of 32 bits")
        config["seed"] = seed
    if request.stop:
        if len(request.stop) > MAX_STOPS:
            raise Untranslatable("stop", f"at most {MAX_STOPS} stop sequences")
        config["stopSequences"] = list(request.stop)
    if request.json_format is not None:
        if not generation.instructs or (request.tools and not generation.json_with_tools):
            raise Untranslatable("response_format", "the model does not know it, or not together with tools")
        config["responseMimeType"] = "application/json"
        if request.json_format.schema is not None:
            schema = reduce_schema(request.json_format.schema, "response_format", exact=True)
            config["responseJsonSchema"] = schema
    thinking = _thinking(request, generation, output_limit)
    if thinking:
        config["thinkingConfig"] = thinking
    return config


def _number(request: ChatRequest, name: str) -> int | float | None:
    value = request.rest.get(name)
    if value is not None and (isinstance(value, bool) or not isinstance(value, int | float)):
        raise Untranslatable(name, "not a number")
    return value


def _thinking(request: ChatRequest, generation: Generation, output_limit: int) -> dict[str, Any]:
    effort, budget = request.reasoning_effort, request.reasoning_max_tokens
    if effort is None and budget is None:
        return {}
    if effort is not None and budget is not None:
        raise Untranslatable("reasoning", "either an effort or a number of tokens")
    off = effort == "none" or budget == 0
    what = "reasoning_effort" if budget is None else "reasoning.max_tokens"
    match generation.thinking:
        case "none":
            if not off:
                raise Untranslatable(what, "the model does not think")
            return {}
        case "budget":
            if off:
                if not generation.off:
                    raise Untranslatable(what, "the model cannot be told not to think")
                return {"thinkingBudget": 0}
            if budget is None:
                if effort not in EFFORT_SHARE:
                    raise Untranslatable(what, f"the level {effort}")
                share = int(output_limit * EFFORT_SHARE[effort])
                budget = min(max(share, generation.min_budget), generation.max_budget)
            elif not generation.min_budget <= budget <= generation.max_budget:
                raise Untranslatable(what, f"from {generation.min_budget} to {generation.max_budget}")
            return {"thinkingBudget": budget, "includeThoughts": True}
        case "level":
            # A model's lowest level is the least it can be asked for, which is what "minimal" means.
            level = generation.levels[0] if effort == "minimal" else effort
            if level not in generation.levels:
                raise Untranslatable(what, f"the model knows only {', '.join(generation.levels)}")
            return {"thinkingLevel": level, "includeThoughts": True}


def _tools(request: ChatRequest, generation: Generation) -> dict[str, Any]:
    refuse_choice_of_nothing(request)
    if not request.tools:
        return {}
    if not generation.instructs:
        raise Untranslatable("tools", "the model calls no functions")
    if request.parallel_tool_calls is False:
        raise Untranslatable("parallel_tool_calls", "Gemini may always call several functions at once")
    fields: dict[str, Any] = {"tools": [{"functionDeclarations": [_declaration(tool) for tool in request.tools]}]}
    strict = any(tool.strict for tool in request.tools)
    choice = request.tool_choice
    if choice is not None or strict:
        fields["toolConfig"] = {"functionCallingConfig": _calling(choice or ToolChoice("auto"), strict)}
    return fields


def _calling(choice: ToolChoice, strict: bool) -> dict[str, Any]:
    match choice.mode:
        case "none":
            return {"mode": "NONE"}
        case "auto":
            return {"mode": "VALIDATED" if strict else "AUTO"}
        case "required":
            return {"mode": "ANY"}
        case "named":
            return {"mode": "ANY", "allowedFunctionNames": [choice.name]}


def _declaration(tool: Tool) -> dict[str, Any]:
    if not _FUNCTION_NAME.fullmatch(tool.name):
        raise Untranslatable("tools[].function.name", "not a name that Gemini accepts")
    declaration: dict[str, Any] = {"name": tool.name}
    if tool.description is not None:
        declaration["description"] = tool.description
    if tool.parameters:
        what = "tools[].function.parameters"
        declaration["parametersJsonSchema"] = reduce_schema(tool.parameters, what, exact=bool(tool.strict))
    return declaration


def _contents(turns: list[Message], generation: Generation) -> list[dict[str, Any]]:
    names: dict[str, str] = {}  # Grows along the way: some clients give calls of later turns the same ids again.
    if generation.demands_signatures:
        _check_signatures(turns)
    merged: list[tuple[str, list[GooglePart]]] = []
    for message in turns:
        if message.role == "assistant":
            role, parts = "model", _model_parts(message)
            names |= {call.id: call.name for call in message.tool_calls}
        elif message.role == "tool":
            role, parts = "user", [_function_response(message, names, generation)]
        else:
            role, parts = "user", list(_content(message.parts))
        if not parts:
            continue
        if merged and merged[-1][0] == role:
            merged[-1][1].extend(parts)
        else:
            merged.append((role, parts))
    if not merged:
        raise Untranslatable("messages", "no content")
    if merged[0][0] == "model" or merged[-1][0] == "model":
        raise Untranslatable("messages", "a conversation begins and ends with the user")
    return [{"role": role, "parts": _responses_first(parts)} for role, parts in merged]


def _responses_first(parts: list[GooglePart]) -> list[GooglePart]:
    """Gemini wants the responses to its calls at once; what the user says comes after them."""
    return sorted(parts, key=lambda part: "functionResponse" not in part)


def _check_signatures(turns: list[Message]) -> None:
    """Each step of the open tool turn must bring back the signature of its first call, or Gemini refuses."""
    for message in reversed(turns):
        if message.role == "user":
            return
        if message.tool_calls and message.tool_calls[0].id not in _signatures(message):
            raise Untranslatable("messages[].reasoning_details", "the thought signature of a tool call was lost")


def _signatures(message: Message) -> dict[str, str]:
    """Tool call id → thought signature. One that names no call belongs to the first call, as Gemini sends it."""
    found: dict[str, str] = {}
    unnamed: str | None = None
    for piece in collect_reasoning(message.reasoning_details, REASONING_FORMAT):
        signature = piece.data or piece.signature
        if piece.call_id is not None and signature is not None:
            found[piece.call_id] = signature
        elif signature is not None:
            unnamed = unnamed or signature
    if message.tool_calls and unnamed is not None:
        found.setdefault(message.tool_calls[0].id, unnamed)
    return found


def _model_parts(message: Message) -> list[GooglePart]:
    pieces = collect_reasoning(message.reasoning_details, REASONING_FORMAT)
    parts: list[GooglePart] = [_thought(piece, bool(message.tool_calls)) for piece in pieces if piece.text]
    texts = list(_content(message.parts))
    if not message.tool_calls:
        loose = next((piece.data for piece in pieces if piece.data and piece.call_id is None), None)
        if loose is not None:
            if not texts:
                texts.append({"text": ""})
            texts[-1]["thoughtSignature"] = loose
    parts += texts
    signatures = _signatures(message)
    for call in message.tool_calls:
        parts.append(_function_call(call, signatures.get(call.id)))
    return parts


def _thought(piece: Reasoning, before_calls: bool) -> GooglePart:
    part: GooglePart = {"text": piece.text, "thought": True}
    if piece.signature is not None and not before_calls:
        part["thoughtSignature"] = piece.signature
    return part


def _function_call(call: ToolCall, signature: str | None) -> GooglePart:
    function: dict[str, Any] = {"name": call.name, "args": parse_arguments(call.arguments)}
    if call.id:
        function["id"] = call.id
    part: GooglePart = {"functionCall": function}
    if signature is not None:
        part["thoughtSignature"] = signature
    return part


def _function_response(message: Message, names: Mapping[str, str], generation: Generation) -> GooglePart:
    """The result of a call; Gemini asks for the function's name, which the history knows."""
    call_id = message.tool_call_id or ""
    name = names.get(call_id) or message.name
    if not name:
        raise Untranslatable("messages[].tool_call_id", "the history has no such call")
    text = "".join(part.text for part in message.parts if isinstance(part, Text))
    response: dict[str, Any] = {"name": name, "response": {"error" if message.is_error else "output": text}}
    if call_id:
        response["id"] = call_id
    media = [part for part in _content(message.parts) if "text" not in part]
    if media:
        if not generation.media_results:
            raise Untranslatable("messages[].content", "the model reads no images in tool results")
        response["parts"] = media
    return {"functionResponse": response}


def _content(parts: Iterable[Part]) -> Iterable[GooglePart]:
    for part in parts:
        match part:
            case Text(text=text) | Refusal(text=text):
                if text:
                    yield {"text": text}
            case Image():
                yield _image(part)
            case Document(media_type=media_type, data=data):
                if media_type != "application/pdf" and not media_type.startswith("text/"):
                    raise Untranslatable("messages[].content[].file", f"the type {media_type}")
                yield {"inlineData": {"mimeType": media_type, "data": data}}
            case Audio(format=name, data=data):
                if name not in _AUDIO_TYPES:
                    raise Untranslatable("messages[].content[].input_audio", f"the format {name}")
                yield {"inlineData": {"mimeType": _AUDIO_TYPES[name], "data": data}}


def _image(image: Image) -> GooglePart:
    if image.url is not None:
        raise Untranslatable("messages[].content[].image_url", "Gemini fetches no images from the web")
    if image.media_type not in _IMAGE_TYPES:
        raise Untranslatable("messages[].content[].image_url", f"the type {image.media_type}")
    return {"inlineData": {"mimeType": image.media_type, "data": image.data}}
