"""Gemini's requests said in the chat dialect, with a note for each thing it has no word for."""

import json
from collections.abc import Mapping
from typing import Any

_SETTINGS = {
    "temperature": "temperature", "topP": "top_p", "topK": "top_k", "maxOutputTokens": "max_tokens",
    "stopSequences": "stop",
}
_FORMAT = ("responseMimeType", "responseSchema", "responseJsonSchema")
_CHOICES = {"AUTO": "auto", "ANY": "required", "NONE": "none"}


def from_google(request: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """The body without model and stream, and the notes."""
    notes: list[str] = []
    messages: list[dict[str, Any]] = []
    told = _either(request, "systemInstruction") or {}
    system = "".join(part.get("text") or "" for part in _parts(told))
    if system:
        messages.append({"role": "system", "content": system})
    names: dict[str, int] = {}
    for content in request.get("contents") or []:
        messages += _turn(content, names, notes)
    settings = _either(request, "generationConfig") or {}
    body: dict[str, Any] = {"messages": messages}
    body |= {ours: settings[theirs] for theirs, ours in _SETTINGS.items() if settings.get(theirs) is not None}
    body |= _format(settings)
    for name in settings:
        if name not in _SETTINGS and name not in _FORMAT and settings[name] != ["TEXT"]:
            notes.append(f"left out: generationConfig.{name}")
    tools = [_tool(row) for tool in request.get("tools") or [] for row in _either(tool, "functionDeclarations") or []]
    if tools:
        body["tools"] = tools
        mode = ((_either(request, "toolConfig") or {}).get("functionCallingConfig") or {}).get("mode")
        if mode in _CHOICES:
            body["tool_choice"] = _CHOICES[mode]
    if any(name != "functionDeclarations" for tool in request.get("tools") or [] for name in tool):
        notes.append("left out: server tools")
    return body, notes


def _format(settings: Mapping[str, Any]) -> dict[str, Any]:
    schema = settings.get("responseJsonSchema") or _lower_types(settings.get("responseSchema"))
    if schema:
        described = {"name": "answer", "schema": schema}
        return {"response_format": {"type": "json_schema", "json_schema": described}}
    return {"response_format": {"type": "json_object"}} if "json" in str(settings.get("responseMimeType")) else {}


def _either(holder: Mapping[str, Any], name: str) -> Any:
    """Google takes both spellings of its names."""
    snake = "".join(f"_{letter.lower()}" if letter.isupper() else letter for letter in name)
    return holder.get(name, holder.get(snake))


def _parts(content: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    return [part for part in content.get("parts") or [] if isinstance(part, Mapping)]


def _turn(content: Mapping[str, Any], names: dict[str, int], notes: list[str]) -> list[dict[str, Any]]:
    """One turn. Gemini names no calls: they are numbered, and results are matched by name, in their order."""
    said: list[dict[str, Any]] = []
    calls: list[dict[str, Any]] = []
    results: list[dict[str, Any]] = []
    for part in _parts(content):
        data = _either(part, "inlineData")
        if part.get("thought"):
            notes.append("left out: thoughts in the history")
        elif isinstance(part.get("text"), str):
            said.append({"type": "text", "text": part["text"]})
        elif data and str(_either(data, "mimeType")).startswith("image/"):
            url = f"data:{_either(data, 'mimeType')};base64,{data.get('data')}"
            said.append({"type": "image_url", "image_url": {"url": url}})
        elif call := _either(part, "functionCall"):
            names[call["name"]] = names.get(call["name"], 0) + 1
            function = {"name": call["name"], "arguments": json.dumps(call.get("args") or {})}
            calls.append({"id": f"call_{call['name']}_{names[call['name']]}", "type": "function", "function": function})
        elif result := _either(part, "functionResponse"):
            text = json.dumps(result.get("response"))
            call_id = f"call_{result.get('name')}_{names.get(str(result.get('name')), 1)}"
            results.append({"role": "tool", "tool_call_id": call_id, "content": text})
        else:
            notes.append(f"left out: {next(iter(part), 'an empty part')}")
    if content.get("role") == "model":
        if not said and not calls:
            return []
        message: dict[str, Any] = {"role": "assistant", "content": "".join(p.get("text", "") for p in said) or None}
        return [{**message, "tool_calls": calls} if calls else message]
    return [*results, {"role": "user", "content": said}] if said else results


def _tool(row: Mapping[str, Any]) -> dict[str, Any]:
    function = {"name": row.get("name"), "description": row.get("description"),
                "parameters": _either(row, "parametersJsonSchema") or _lower_types(row.get("parameters"))}
    return {"type": "function", "function": {key: value for key, value in function.items() if value is not None}}


def _lower_types(schema: Any) -> Any:
    """Gemini writes OBJECT and STRING where JSON schema has object and string."""
    if isinstance(schema, list):
        return [_lower_types(item) for item in schema]
    if not isinstance(schema, Mapping):
        return schema
    lowered = {key: _lower_types(value) for key, value in schema.items()}
    if isinstance(schema.get("type"), str):
        lowered["type"] = schema["type"].lower()
    return lowered


def embeddings_from_google(request: Mapping[str, Any], notes: list[str]) -> dict[str, Any]:
    """Google's request for embeddings, one or a batch of them, said in OpenAI's dialect. Raises KeyError."""
    rows = _either(request, "requests") or [request]
    texts = ["".join(str(part.get("text") or "") for part in _parts(row["content"])) for row in rows]
    body: dict[str, Any] = {"input": texts, "encoding_format": "float"}
    first = rows[0]
    if _either(first, "outputDimensionality") is not None:
        body["dimensions"] = _either(first, "outputDimensionality")
    for name in ("taskType", "title"):
        if _either(first, name):
            notes.append(f"left out: {name}")
    if not all(texts):
        raise KeyError("text")
    return body
