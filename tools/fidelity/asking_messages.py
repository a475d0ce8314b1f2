"""Requests of the chat dialect said in Anthropic's, with a note for each thing it has no word for."""

import json
from collections.abc import Mapping
from typing import Any

import anthropic

ENOUGH_TOKENS = 1024
"""Anthropic's callers must name a limit; where the chat caller named none, this one."""

_KEPT = ("top_p", "top_k")
_READ = frozenset({
    *_KEPT, "messages", "max_tokens", "max_completion_tokens", "temperature", "stop", "tools", "tool_choice",
    "parallel_tool_calls", "response_format", "reasoning_effort", "reasoning", "stream_options", "n",
})


def messages_from_chat(request: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """The body without model and stream, and the notes."""
    notes: list[str] = []
    system: list[dict[str, Any]] = []
    turns: list[dict[str, Any]] = []
    for message in request.get("messages") or []:
        role = message.get("role")
        if role in ("system", "developer"):
            system += _parts(message.get("content"), notes)
            continue
        speaker = "assistant" if role == "assistant" else "user"
        blocks = _blocks(message, notes)
        if blocks and turns and turns[-1]["role"] == speaker:
            turns[-1]["content"] += blocks
        elif blocks:
            turns.append({"role": speaker, "content": blocks})
    body: dict[str, Any] = {"max_tokens": _limit(request), "messages": turns}
    if texts := [block for block in system if block["type"] == "text"]:
        body["system"] = texts
    body |= {name: request[name] for name in _KEPT if request.get(name) is not None}
    body |= _temperature(request, notes)
    if request.get("stop"):
        body["stop_sequences"] = [request["stop"]] if isinstance(request["stop"], str) else list(request["stop"])
    body |= _tools(request, notes)
    body |= _output(request, notes)
    if (request.get("n") or 1) > 1:
        notes.append("left out: n")
    notes += [f"left out: {name}" for name in request if name not in _READ and request[name] is not None]
    return body, notes


def _limit(request: Mapping[str, Any]) -> int:
    return request.get("max_completion_tokens") or request.get("max_tokens") or ENOUGH_TOKENS


def _temperature(request: Mapping[str, Any], notes: list[str]) -> dict[str, Any]:
    wanted = request.get("temperature")
    if wanted is None:
        return {}
    if wanted > 1:
        notes.append("left out: temperature above 1")
        return {}
    return {"temperature": wanted}


def _blocks(message: Mapping[str, Any], notes: list[str]) -> list[dict[str, Any]]:
    content = message.get("content")
    if message.get("role") in ("tool", "function"):
        named = message.get("tool_call_id") or message.get("name")
        inner = content if isinstance(content, str) else _parts(content, notes)
        return [{"type": "tool_result", "tool_use_id": named, "content": inner or ""}]
    blocks = _thoughts(message) + _parts(content, notes)
    for call in message.get("tool_calls") or []:
        function = call.get("function")
        if not isinstance(function, Mapping):
            notes.append(f"left out: a {call.get('type')} call in the history")
            continue
        blocks.append({
            "type": "tool_use", "id": call.get("id"), "name": function.get("name"),
            "input": _object(function.get("arguments")),
        })
    if message.get("function_call"):
        notes.append("left out: function_call in the history")
    return blocks


def _thoughts(message: Mapping[str, Any]) -> list[dict[str, Any]]:
    blocks: list[dict[str, Any]] = []
    for detail in message.get("reasoning_details") or []:
        if detail.get("data"):
            blocks.append({"type": "redacted_thinking", "data": detail["data"]})
        elif detail.get("signature"):
            blocks.append(
                {"type": "thinking", "thinking": detail.get("text") or "", "signature": detail["signature"]}
            )
    return blocks


def _object(arguments: Any) -> dict[str, Any]:
    try:
        value = json.loads(arguments or "{}")
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}


def _parts(content: Any, notes: list[str]) -> list[dict[str, Any]]:
    if isinstance(content, str):
        return [{"type": "text", "text": content}] if content else []
    return [block for part in content or [] if (block := _part(part, notes))]


def _part(part: Mapping[str, Any], notes: list[str]) -> dict[str, Any] | None:
    match part.get("type"):
        case "text":
            block = {"type": "text", "text": part.get("text") or ""}
            return {**block, "cache_control": part["cache_control"]} if part.get("cache_control") else block
        case "image_url":
            return {"type": "image", "source": _source(_url(part.get("image_url")))}
        case "file" if _url((part.get("file") or {}).get("file_data")).startswith("data:application/pdf"):
            return {"type": "document", "source": _source(part["file"]["file_data"])}
        case kind:
            notes.append(f"left out: {kind}")
            return None


def _url(image: Any) -> str:
    return str(image.get("url") or "") if isinstance(image, Mapping) else str(image or "")


def _source(url: str) -> dict[str, Any]:
    if not url.startswith("data:"):
        return {"type": "url", "url": url}
    kind, _, data = url.removeprefix("data:").partition(";base64,")
    return {"type": "base64", "media_type": kind, "data": data}


def _tools(request: Mapping[str, Any], notes: list[str]) -> dict[str, Any]:
    tools = []
    for tool in request.get("tools") or []:
        function = tool.get("function") if tool.get("type") in (None, "function") else None
        if not isinstance(function, Mapping):
            notes.append(f"left out: a {tool.get('type')} tool")
            continue
        described = {
            "name": function.get("name"), "description": function.get("description"),
            "input_schema": function.get("parameters") or {"type": "object", "properties": {}},
            "strict": function.get("strict"),
        }
        tools.append({name: value for name, value in described.items() if value is not None})
    if not tools:
        return {}
    fields: dict[str, Any] = {"tools": tools}
    wanted = request.get("tool_choice")
    if isinstance(wanted, Mapping) and isinstance(wanted.get("function"), Mapping):
        fields["tool_choice"] = {"type": "tool", "name": wanted["function"].get("name")}
    elif wanted in ("auto", "none", "required"):
        fields["tool_choice"] = {"type": "any" if wanted == "required" else wanted}
    elif wanted is not None:
        notes.append("left out: tool_choice")
    if request.get("parallel_tool_calls") is False and wanted != "none":
        fields.setdefault("tool_choice", {"type": "auto"})["disable_parallel_tool_use"] = True
    return fields


def _output(request: Mapping[str, Any], notes: list[str]) -> dict[str, Any]:
    """The format and the effort, which share an object; the package makes the schema one that Anthropic takes."""
    wanted: dict[str, Any] = {}
    shape = request.get("response_format")
    shape = shape if isinstance(shape, Mapping) else {}
    schema = (shape.get("json_schema") or {}).get("schema")
    if shape.get("type") == "json_schema" and isinstance(schema, Mapping):
        wanted["format"] = {"type": "json_schema", "schema": anthropic.transform_schema(dict(schema))}
    elif shape.get("type") not in (None, "text"):
        notes.append(f"left out: response_format {shape.get('type')}")
    reasoning = request.get("reasoning")
    reasoning = reasoning if isinstance(reasoning, Mapping) else {}
    effort = request.get("reasoning_effort") or reasoning.get("effort")
    fields: dict[str, Any] = {}
    if effort in ("low", "medium", "high", "xhigh", "max"):
        wanted["effort"] = effort
        fields["thinking"] = {"type": "adaptive"}
    elif effort:
        notes.append(f"left out: effort {effort}")
    elif reasoning.get("max_tokens"):
        fields["thinking"] = {"type": "enabled", "budget_tokens": reasoning["max_tokens"]}
    return {**fields, "output_config": wanted} if wanted else fields
