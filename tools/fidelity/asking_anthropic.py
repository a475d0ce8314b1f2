"""Anthropic's requests said in the chat dialect, with a note for each thing it has no word for."""

import json
from collections.abc import Iterable, Mapping
from typing import Any

REASONING_FORMAT = "anthropic-claude-v1"

Message = dict[str, Any]


def from_anthropic(request: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """The body without model and stream, and the notes."""
    notes: list[str] = []
    messages: list[Message] = []
    system = _system(request.get("system"))
    if system:
        messages.append({"role": "system", "content": system})
    for turn in request.get("messages") or []:
        messages += _turn(turn, notes)
    body: dict[str, Any] = {"messages": messages}
    for name in ("max_tokens", "temperature", "top_p", "top_k"):
        if request.get(name) is not None:
            body[name] = request[name]
    if request.get("stop_sequences"):
        body["stop"] = request["stop_sequences"]
    body |= _tools(request, notes)
    body |= _thinking(request, notes)
    body |= _format(request)
    for name in ("mcp_servers", "container", "context_management", "betas", "inference_geo", "speed"):
        if request.get(name):
            notes.append(f"left out: {name}")
    return body, notes


def _system(system: Any) -> Any:
    if isinstance(system, list):
        return [_text_part(block) for block in system if block.get("text")]
    return system


def _text_part(block: Mapping[str, Any]) -> dict[str, Any]:
    part = {"type": "text", "text": block.get("text") or ""}
    return {**part, "cache_control": block["cache_control"]} if block.get("cache_control") else part


def _turn(turn: Mapping[str, Any], notes: list[str]) -> list[Message]:
    content = turn.get("content")
    blocks = [{"type": "text", "text": content}] if isinstance(content, str) else list(content or [])
    if turn.get("role") == "assistant":
        return _assistant(blocks, notes)
    return _user(blocks, notes)


def _user(blocks: Iterable[Mapping[str, Any]], notes: list[str]) -> list[Message]:
    messages: list[Message] = []
    parts: list[dict[str, Any]] = []
    for block in blocks:
        if block.get("type") != "tool_result":
            part = _part(block, notes)
            parts += [part] if part else []
            continue
        inner = block.get("content")
        if isinstance(inner, list):
            inner = [part for item in inner if (part := _part(item, notes))]
        if block.get("is_error"):
            notes.append("left out: tool_result.is_error")
        messages.append({"role": "tool", "tool_call_id": block.get("tool_use_id"), "content": inner or ""})
    if parts:
        messages.append({"role": "user", "content": parts})
    return messages


def _part(block: Mapping[str, Any], notes: list[str]) -> dict[str, Any] | None:
    source = block.get("source") or {}
    match block.get("type"), source.get("type"):
        case "text", _:
            return _text_part(block)
        case "image", "base64":
            url = f"data:{source.get('media_type')};base64,{source.get('data')}"
            return {"type": "image_url", "image_url": {"url": url}}
        case "image", "url":
            return {"type": "image_url", "image_url": {"url": source.get("url")}}
        case "document", "base64":
            data = f"data:{source.get('media_type')};base64,{source.get('data')}"
            return {"type": "file", "file": {"filename": block.get("title") or "document", "file_data": data}}
        case kind, how:
            notes.append(f"left out: {kind}{f' by {how}' if how else ''}")
            return None


def _assistant(blocks: Iterable[Mapping[str, Any]], notes: list[str]) -> list[Message]:
    text: list[str] = []
    calls: list[dict[str, Any]] = []
    details: list[dict[str, Any]] = []
    for index, block in enumerate(blocks):
        mark = {"format": REASONING_FORMAT, "index": index}
        match block.get("type"):
            case "text":
                text.append(block.get("text") or "")
            case "tool_use":
                function = {"name": block.get("name"), "arguments": json.dumps(block.get("input") or {})}
                calls.append({"id": block.get("id"), "type": "function", "function": function})
            case "thinking":
                thought = {"text": block.get("thinking"), "signature": block.get("signature")}
                details.append({"type": "reasoning.text", **thought, **mark})
            case "redacted_thinking":
                details.append({"type": "reasoning.encrypted", "data": block.get("data"), **mark})
            case kind:
                notes.append(f"left out: {kind} in the history")
    if not text and not calls:
        return []
    message: Message = {"role": "assistant", "content": "".join(text) or None}
    if calls:
        message["tool_calls"] = calls
    if details:
        message["reasoning_details"] = details
    return [message]


def _tools(request: Mapping[str, Any], notes: list[str]) -> dict[str, Any]:
    tools = []
    for tool in request.get("tools") or []:
        if tool.get("type") not in (None, "custom"):
            notes.append(f"left out: the server tool {tool.get('name')}")
            continue
        function = {"name": tool.get("name"), "description": tool.get("description"),
                    "parameters": tool.get("input_schema"), "strict": tool.get("strict")}
        tools.append({"type": "function", "function": {k: v for k, v in function.items() if v is not None}})
    if not tools:
        return {}
    fields: dict[str, Any] = {"tools": tools}
    choice = request.get("tool_choice") or {}
    match choice.get("type"):
        case "auto" | "none" as word:
            fields["tool_choice"] = word
        case "any":
            fields["tool_choice"] = "required"
        case "tool":
            fields["tool_choice"] = {"type": "function", "function": {"name": choice.get("name")}}
    if choice.get("disable_parallel_tool_use"):
        fields["parallel_tool_calls"] = False
    return fields


def _thinking(request: Mapping[str, Any], notes: list[str]) -> dict[str, Any]:
    thinking = request.get("thinking") or {}
    effort = (request.get("output_config") or {}).get("effort")
    match thinking.get("type"):
        case "enabled":
            if effort:
                notes.append("left out: effort beside a budget")
            return {"reasoning": {"max_tokens": thinking.get("budget_tokens")}}
        case "adaptive":
            return {"reasoning_effort": effort or "high"}
        case _:
            if effort:
                notes.append("left out: effort without thinking")
            return {}


def _format(request: Mapping[str, Any]) -> dict[str, Any]:
    wanted = request.get("output_format") or (request.get("output_config") or {}).get("format") or {}
    if wanted.get("type") != "json_schema":
        return {}
    described = {"name": "answer", "strict": True, "schema": wanted.get("schema")}
    return {"response_format": {"type": "json_schema", "json_schema": described}}
