"""Chat and embeddings bodies read into the neutral form, for routes that speak another wire format.

Nothing is dropped silently: what has no neutral form is kept in `rest` under its name, and the route's codec
decides whether it can carry it. Only null is left out: it says nothing.
"""

from collections.abc import Mapping
from typing import Any, Literal, cast

from ownkey.domain.conversation import (
    Audio,
    ChatRequest,
    Document,
    Image,
    JsonFormat,
    Message,
    Part,
    Refusal,
    Text,
    Tool,
    ToolCall,
    ToolChoice,
)
from ownkey.domain.wire import BadRequest, EmbeddingsRequest

_ROLES: Mapping[str, Literal["system", "user", "assistant", "tool"]] = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "assistant": "assistant",
    "tool": "tool",
}
_READ = frozenset(
    {
        "model", "messages", "stream", "max_completion_tokens", "max_tokens", "temperature", "top_p",
        "top_k", "stop", "tools", "tool_choice", "parallel_tool_calls", "response_format",
        "reasoning_effort", "reasoning", "stream_options",
    }
)

_MESSAGE_FIELDS = frozenset(
    {
        "role", "content", "name", "tool_calls", "tool_call_id", "refusal", "reasoning", "reasoning_content",
        "reasoning_details", "audio", "images", "function_call", "cache_control",
    }
)
_PART_FIELDS: Mapping[str, frozenset[str]] = {
    "text": frozenset({"type", "text", "cache_control"}),
    "refusal": frozenset({"type", "refusal"}),
    "image_url": frozenset({"type", "image_url", "cache_control"}),
    "input_audio": frozenset({"type", "input_audio"}),
    "file": frozenset({"type", "file", "cache_control"}),
}
_FUNCTION_FIELDS = frozenset({"name", "description", "parameters", "strict"})


def read_chat(body: dict[str, Any]) -> ChatRequest:
    """The conversation to continue. Raises BadRequest where a message, tool or format cannot be read."""
    rest: dict[str, Any] = {
        name: value for name, value in body.items() if name not in _READ and value is not None
    }
    messages = tuple(
        _message(message, f"messages[{index}]", rest) for index, message in enumerate(body["messages"])
    )
    limit = body.get("max_completion_tokens")
    effort, reasoning_tokens = _reasoning(body, rest)
    options = body.get("stream_options") or {}
    if other := {name: value for name, value in options.items() if name != "include_usage"}:
        rest["stream_options"] = other
    return ChatRequest(
        messages=messages,
        stream=body.get("stream") is True,
        max_output_tokens=body.get("max_tokens") if limit is None else limit,
        temperature=_number(body, "temperature"),
        top_p=_number(body, "top_p"),
        top_k=_typed(body, "top_k", int, "a whole number"),
        stop=_stop(body.get("stop")),
        tools=_tools(body.get("tools"), rest),
        tool_choice=_tool_choice(body.get("tool_choice"), rest),
        parallel_tool_calls=_typed(body, "parallel_tool_calls", bool, "true or false"),
        json_format=_json_format(body.get("response_format"), rest),
        reasoning_effort=effort,
        reasoning_max_tokens=reasoning_tokens,
        rest=rest,
    )


def _keep_others(fields: Mapping[str, Any], known: frozenset[str], where: str, rest: dict[str, Any]) -> None:
    """Keep under their names the fields that are not read and do say something."""
    for name, value in fields.items():
        if name not in known and value not in (None, [], {}, ""):
            rest[f"{where}.{name[:80]}"] = value


def _typed(body: Mapping[str, Any], name: str, kind: type, words: str, where: str = "") -> Any:
    """A value of exactly one JSON type; None where it is missing or null."""
    value = body.get(name)
    if value is not None and type(value) is not kind:
        raise BadRequest(f"`{where}{name}` must be {words}.", f"{where}{name}")
    return value


def _number(body: Mapping[str, Any], name: str) -> float | None:
    value = body.get(name)
    if value is not None and type(value) not in (int, float):
        raise BadRequest(f"`{name}` must be a number.", name)
    return cast(float | None, value)


def _stop(value: Any) -> tuple[str, ...]:
    if value is None:
        return ()
    stops = [value] if isinstance(value, str) else value
    if not isinstance(stops, list) or not all(isinstance(stop, str) for stop in stops):
        raise BadRequest("`stop` must be a text or a list of texts.", "stop")
    return tuple(stops)


def _reasoning(body: Mapping[str, Any], rest: dict[str, Any]) -> tuple[str | None, int | None]:
    """Effort and token budget from `reasoning_effort` (OpenAI) and `reasoning` (OpenRouter)."""
    effort = _typed(body, "reasoning_effort", str, "a text")
    options = dict(body.get("reasoning") or {})
    enabled = options.pop("enabled", None)
    inner = _typed(options, "effort", str, "a text", "reasoning.")
    tokens = _typed(options, "max_tokens", int, "a whole number", "reasoning.")
    options.pop("effort", None)
    options.pop("max_tokens", None)
    if left := {name: value for name, value in options.items() if value not in (None, False)}:
        rest["reasoning"] = left
    effort = inner if inner is not None else effort
    if enabled is False:
        effort = "none"
    elif enabled is True and effort is None and tokens is None:
        effort = "medium"  # OpenRouter's meaning of "enabled" alone (docs, "Reasoning tokens").
    return effort, tokens


def _message(message: Any, where: str, rest: dict[str, Any]) -> Message:
    if not isinstance(message, dict):
        raise BadRequest(f"`{where}` must be an object.", where)
    role = message.get("role")
    if role == "function" or message.get("function_call") is not None:
        rest["function_call"] = True
        role = "assistant" if role == "assistant" else "tool"
    if not isinstance(role, str) or role not in _ROLES:
        raise BadRequest(f"`{where}.role` is not a role.", f"{where}.role")
    _keep_others(message, _MESSAGE_FIELDS, "messages[]", rest)
    if message.get("audio") is not None:
        rest["messages.audio"] = True
    if message.get("images"):
        rest["messages.images"] = True
    return Message(
        role=_ROLES[role],
        parts=_parts(message, where, rest),
        tool_calls=_tool_calls(message.get("tool_calls"), where, rest),
        tool_call_id=_typed(message, "tool_call_id", str, "a text", f"{where}."),
        name=_typed(message, "name", str, "a text", f"{where}."),
        reasoning_details=_reasoning_details(message, where),
    )


def _reasoning_details(message: Mapping[str, Any], where: str) -> tuple[Mapping[str, Any], ...]:
    details = message.get("reasoning_details")
    if details:
        if not isinstance(details, list) or not all(isinstance(detail, dict) for detail in details):
            where = f"{where}.reasoning_details"
            raise BadRequest(f"`{where}` must be a list of objects.", where)
        return tuple(details)
    text = message.get("reasoning") or message.get("reasoning_content")
    return ({"type": "reasoning.text", "text": text},) if isinstance(text, str) else ()


def _parts(message: Mapping[str, Any], where: str, rest: dict[str, Any]) -> tuple[Part, ...]:
    content = message.get("content")
    where = f"{where}.content"
    parts: list[Part] = []
    if isinstance(content, str):
        parts.append(Text(content, message.get("cache_control")))
    elif isinstance(content, list):
        for index, part in enumerate(content):
            read = _part(part, f"{where}[{index}]", rest)
            if read is not None:
                parts.append(read)
    elif content is not None:
        raise BadRequest(f"`{where}` must be a text or a list of parts.", where)
    refusal = message.get("refusal")
    if isinstance(refusal, str) and refusal:
        parts.append(Refusal(refusal))
    return tuple(parts)


def _part(part: Any, where: str, rest: dict[str, Any]) -> Part | None:
    """One content part; None for one that went to `rest`."""
    if isinstance(part, str):
        return Text(part)
    if not isinstance(part, dict):
        raise BadRequest(f"`{where}` must be an object.", where)
    cache_control = part.get("cache_control")
    kind = part.get("type")
    if isinstance(kind, str) and kind in _PART_FIELDS:
        _keep_others(part, _PART_FIELDS[kind], "messages[].content[]", rest)
    match kind:
        case "text":
            return Text(_needed(part, "text", where), cache_control)
        case "refusal":
            return Refusal(_needed(part, "refusal", where))
        case "image_url":
            image = part.get("image_url")
            image = {"url": image} if isinstance(image, str) else _needed_object(image, f"{where}.image_url")
            _keep_others(image, frozenset({"url", "detail"}), "messages[].content[].image_url", rest)
            url = _needed(image, "url", f"{where}.image_url")
            detail = image.get("detail")
            if not url.startswith("data:"):
                return Image(url=url, detail=detail, cache_control=cache_control)
            media_type, data = _data_url(url, f"{where}.image_url.url")
            return Image(media_type, data, detail=detail, cache_control=cache_control)
        case "input_audio":
            audio = _needed_object(part.get("input_audio"), f"{where}.input_audio")
            place = f"{where}.input_audio"
            return Audio(_needed(audio, "format", place), _needed(audio, "data", place))
        case "file":
            return _file(_needed_object(part.get("file"), f"{where}.file"), cache_control, where, rest)
        case other:
            rest[f"content.{str(other)[:80]}"] = True
            return None


def _file(
    file: Mapping[str, Any], cache_control: Mapping[str, Any] | None, where: str, rest: dict[str, Any]
) -> Document | None:
    data = file.get("file_data")
    if not isinstance(data, str) or data.startswith(("http://", "https://")):
        rest["content.file"] = True
        return None
    filename = file.get("filename")
    media_type = "application/pdf"
    if data.startswith("data:"):
        media_type, data = _data_url(data, f"{where}.file.file_data")
    return Document(media_type, data, filename if isinstance(filename, str) else None, cache_control)


def _data_url(url: str, where: str) -> tuple[str, str]:
    head, comma, data = url.partition(",")
    media_type, *options = head.removeprefix("data:").split(";")
    if not comma or "base64" not in options or not media_type:
        raise BadRequest(f"`{where}` must be an http URL or a data URL in base64.", where)
    return media_type, data


def _needed(value: Mapping[str, Any], name: str, where: str) -> str:
    text = value.get(name)
    if not isinstance(text, str):
        raise BadRequest(f"`{where}.{name}` must be a text.", f"{where}.{name}")
    return text


def _needed_object(value: Any, where: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise BadRequest(f"`{where}` must be an object.", where)
    return value


def _tool_calls(value: Any, where: str, rest: dict[str, Any]) -> tuple[ToolCall, ...]:
    calls = []
    where = f"{where}.tool_calls"
    if value is not None and not isinstance(value, list):
        raise BadRequest(f"`{where}` must be a list.", where)
    for index, call in enumerate(value or ()):
        place = f"{where}[{index}]"
        call = _needed_object(call, place)
        if call.get("type", "function") != "function":
            rest["messages.tool_calls"] = True
            continue
        function = _needed_object(call.get("function"), f"{place}.function")
        arguments = function.get("arguments")
        calls.append(
            ToolCall(
                _needed(call, "id", place),
                _needed(function, "name", f"{place}.function"),
                arguments if isinstance(arguments, str) else "",
            )
        )
    return tuple(calls)


def _tools(value: Any, rest: dict[str, Any]) -> tuple[Tool, ...]:
    if value is None:
        return ()
    if not isinstance(value, list):
        raise BadRequest("`tools` must be a list.", "tools")
    tools = []
    others = []
    for index, tool in enumerate(value):
        tool = _needed_object(tool, f"tools[{index}]")
        if tool.get("type") != "function":
            others.append(tool)
            continue
        place = f"tools[{index}].function"
        function = _needed_object(tool.get("function"), place)
        _keep_others(tool, frozenset({"type", "function", "cache_control"}), "tools[]", rest)
        _keep_others(function, _FUNCTION_FIELDS, "tools[].function", rest)
        tools.append(
            Tool(
                name=_needed(function, "name", place),
                description=_typed(function, "description", str, "a text", f"{place}."),
                parameters=_typed(function, "parameters", dict, "an object", f"{place}."),
                strict=_typed(function, "strict", bool, "true or false", f"{place}."),
                cache_control=tool.get("cache_control"),
            )
        )
    if others:
        rest["tools"] = others
    return tuple(tools)


def _tool_choice(value: Any, rest: dict[str, Any]) -> ToolChoice | None:
    match value:
        case None:
            return None
        case "auto" | "none" | "required":
            return ToolChoice(value)
        case {"type": "function", "function": {"name": str(name)}}:
            return ToolChoice("named", name)
        case dict():
            rest["tool_choice"] = value
            return None
        case _:
            raise BadRequest('`tool_choice` must be "auto", "none", "required" or an object.', "tool_choice")


def _json_format(value: Any, rest: dict[str, Any]) -> JsonFormat | None:
    match value:
        case None | {"type": "text"}:
            return None
        case {"type": "json_object"}:
            return JsonFormat()
        case {"type": "json_schema", "json_schema": {"schema": dict(schema)} as described}:
            where = "response_format.json_schema."
            description = _typed(described, "description", str, "a text", where)
            if description and "description" not in schema:
                schema = {**schema, "description": description}  # What the model is told of the format as a whole.
            elif description:
                rest[f"{where}description"] = description
            _keep_others(described, frozenset({"schema", "name", "strict", "description"}), where[:-1], rest)
            return JsonFormat(
                schema=schema,
                name=_typed(described, "name", str, "a text", where),
                strict=_typed(described, "strict", bool, "true or false", where),
            )
        case {"type": "json_schema"}:
            raise BadRequest("`response_format.json_schema.schema` is missing.", "response_format")
        case _:
            rest["response_format"] = value
            return None


def read_embeddings(body: dict[str, Any]) -> EmbeddingsRequest:
    """Texts or token lists. Raises BadRequest for other inputs (OpenRouter's with images, for instance)."""
    given = body["input"]
    single = isinstance(given, str) or _is_tokens(given)
    inputs = [given] if single else given
    if not all((isinstance(item, str) and item) or _is_tokens(item) for item in inputs):
        raise BadRequest("`input` must hold texts or lists of tokens, none of them empty.", "input")
    return EmbeddingsRequest(
        inputs=tuple(item if isinstance(item, str) else tuple(item) for item in inputs),
        dimensions=body.get("dimensions"),
        encoding=body.get("encoding_format") or "float",
        single=single,
    )


def _is_tokens(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(type(token) is int for token in value)
