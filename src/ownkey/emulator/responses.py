"""OpenAI's Responses, and OpenRouter's: data lines only, a cost in the usage, `[DONE]` at the end."""

from collections.abc import Iterator
from typing import Any

import msgspec

from .answers import deltas
from .catalogue import Model
from .chat import DONE, cost_details, digits
from .dice import count_tokens
from .errors import Scene, failure
from .plan import ID_MARK, TIME_MARK, Ask, Choice, Cost, Draft, Event, EventKind, Json, Part, Refused, Usage
from .reading import PromptReader, tool_list, whole_number

_encode = msgspec.json.encode
_STORED = ("previous_response_id", "conversation", "prompt")
_ECHOED = (
    "tools", "tool_choice", "parallel_tool_calls", "temperature", "top_p", "metadata", "instructions", "text",
    "store", "truncation", "user", "previous_response_id", "max_output_tokens", "reasoning", "service_tier",
)  # fmt: skip


def _refuse(provider: str, message: str) -> Refused:
    return Refused(failure(provider, "bad_request", Scene(detail=message)))


def read(body: Json, provider: str, model: Model) -> Ask:
    """The neutral form of a Responses request. Raises Refused."""
    asked = body.get("input")
    if provider == "openrouter" and body.get("previous_response_id") is not None:
        raise _refuse(provider, "previous_response_id is not supported: no responses are stored. Send the whole input.")
    reader = PromptReader(model)
    reader.add_schema_text(body.get("tools"))
    if isinstance(body.get("instructions"), str):
        reader.begin("system", is_user=False)
        reader.text(body["instructions"])
    if isinstance(asked, str):
        reader.begin("user", is_user=True)
        reader.text(asked)
    elif isinstance(asked, list) and asked:
        for item in asked:
            if isinstance(item, dict):
                _read_item(reader, item)
    elif provider == "openrouter" or not any(body.get(name) for name in _STORED):
        raise _refuse(provider, "Missing required parameter: 'input'.")
    tools = [tool for tool in body.get("tools") or () if isinstance(tool, dict) and tool.get("type") == "function"]
    ask = Ask(
        model=str(body.get("model", "")),
        stream=body.get("stream") is True,
        include_usage=True,
        tools=tool_list((tool.get("name"), tool.get("parameters")) for tool in tools),
        parallel=body.get("parallel_tool_calls") is not False,
        limit=whole_number(body.get("max_output_tokens")),
    )
    if provider == "openai" and ask.limit is not None and ask.limit < 16:
        raise _refuse(provider, "Invalid 'max_output_tokens': integer below minimum value. Expected a value >= 16.")
    match body.get("tool_choice"):
        case "none":
            ask.tool_mode = "none"
        case "required":
            ask.tool_mode = "required"
        case {"type": "function", "name": str(name)}:
            ask.tool_mode, ask.tool_name = "required", name
        case _:
            pass
    match body.get("text"):
        case {"format": {"type": "json_schema", "schema": dict(schema)}}:
            ask.schema = schema
        case {"format": {"type": "json_object"}}:
            ask.json_object = True
        case _:
            pass
    options = body.get("reasoning")
    effort = options.get("effort") if isinstance(options, dict) else None
    ask.thinks = model.thinks and effort not in {"none", "minimal"}
    ask.shows_thoughts = ask.thinks and isinstance(options, dict) and options.get("summary") is not None
    ask.extra = {name: body[name] for name in _ECHOED if name in body}
    # Not echoed: it decides what a reasoning item shows.
    ask.extra["include"] = body.get("include") or ()
    reader.fill(ask)
    return ask


def _read_item(reader: PromptReader, item: Json) -> None:
    match item.get("type", "message"):
        case "message":
            role = str(item.get("role", "user"))
            reader.begin(role, is_user=role == "user")
            content = item.get("content")
            if isinstance(content, str):
                reader.text(content)
            for part in content if isinstance(content, list) else ():
                if isinstance(part, dict) and isinstance(part.get("text"), str):
                    reader.text(part["text"])
                elif isinstance(part, dict):
                    reader.image()
        case "function_call_output":
            reader.begin("tool", is_user=False, is_tool=True)
            reader.text(str(item.get("output", "")), spoken=False)
        case "reasoning":
            pass
        case _:
            reader.text(_encode(item).decode(), spoken=False)


# writing


def _usage(draft: Draft) -> Json | None:
    usage, cost = draft.usage, draft.cost
    match draft.twist.usage:
        case "missing" | "null":
            return None
        case "zero":
            usage, cost = Usage(), Cost(0, 0, 0, 0)
        case "true":
            pass
    router = draft.provider == "openrouter"
    report: Json = {
        "input_tokens": usage.prompt,
        "input_tokens_details": {"cached_tokens": usage.cache_read, "cache_write_tokens": usage.cache_write},
        "output_tokens": usage.output,
        "output_tokens_details": {"reasoning_tokens": usage.reasoning},
        "total_tokens": usage.prompt + usage.output,
    }
    if router:
        report["cost"] = digits(cost.fee_nusd if cost.is_byok else cost.nusd)
        report["is_byok"] = cost.is_byok
        report["cost_details"] = cost_details(cost, responses=True)
    return report


def _shell(draft: Draft, status: str, output: list[Json], usage: Json | None) -> Json:
    extra = draft.ask.extra
    done = status != "in_progress"
    too_long = bool(draft.choices) and draft.choices[0].finish == "length"
    cut = {"reason": "max_output_tokens"} if too_long else {"reason": "content_filter"}
    options = extra.get("reasoning")
    reasoning = options if isinstance(options, dict) else {}
    shell: Json = {
        "id": ID_MARK,
        "object": "response",
        "created_at": TIME_MARK,
        "status": status,
        "completed_at": TIME_MARK if status == "completed" else None,
        "background": False,
        "error": None,
        "frequency_penalty": 0,
        "incomplete_details": cut if status == "incomplete" else None,
        "instructions": extra.get("instructions"),
        "max_output_tokens": extra.get("max_output_tokens"),
        "max_tool_calls": None,
        "model": draft.served,
        "output": output,
        "parallel_tool_calls": extra.get("parallel_tool_calls", True),
        "presence_penalty": 0,
        "previous_response_id": extra.get("previous_response_id"),
        "prompt_cache_key": None,
        "reasoning": {"effort": reasoning.get("effort"), "summary": reasoning.get("summary")},
        "safety_identifier": None,
        "service_tier": "default" if done else "auto",
        "store": extra.get("store", True),
        "temperature": extra.get("temperature", 1),
        "text": extra.get("text", {"format": {"type": "text"}}),
        "tool_choice": extra.get("tool_choice", "auto"),
        "tools": [_tool(tool) for tool in extra.get("tools") or ()],
        "top_logprobs": 0,
        "top_p": extra.get("top_p", 1),
        "truncation": extra.get("truncation", "disabled"),
        "usage": usage,
        "metadata": extra.get("metadata") or {},
    }
    if "user" in extra:
        shell["user"] = extra["user"]
    return shell


def _tool(tool: Any) -> Any:
    return {"strict": True, **tool} if isinstance(tool, dict) and tool.get("type") == "function" else tool


def _item(draft: Draft, part: Part, index: int, *, status: str = "completed", empty: bool = False) -> Json:
    mark = f"{ID_MARK}_{index}"
    match part.kind:
        case "reasoning":
            summary = [] if empty else [{"type": "summary_text", "text": part.text}]
            made: Json = {"id": f"rs_{mark}", "type": "reasoning", "summary": summary}
            sealed = draft.provider == "openrouter" or "reasoning.encrypted_content" in draft.ask.extra["include"]
            return {**made, "encrypted_content": part.signature} if sealed and not empty else made
        case "tool":
            return {
                "id": f"fc_{mark}",
                "type": "function_call",
                "status": status,
                "arguments": "" if empty else part.text,
                "call_id": f"call_{part.id}",
                "name": part.name,
            }
        case _:
            content = [] if empty else [_content(part, part.text)]
            return {"id": f"msg_{mark}", "type": "message", "status": status, "role": "assistant", "content": content}


def _content(part: Part, text: str) -> Json:
    if part.kind == "refusal":
        return {"type": "refusal", "refusal": text}
    return {"type": "output_text", "annotations": [], "logprobs": [], "text": text}


def _status(choice: Choice) -> str:
    return "incomplete" if choice.finish in {"length", "content_filter", "blocked"} else "completed"


def _output(draft: Draft, status: str = "completed") -> list[Json]:
    return [_item(draft, part, index, status=status) for index, part in enumerate(draft.choices[0].parts)]


def whole(draft: Draft) -> bytes:
    """The response in one piece."""
    status = _status(draft.choices[0])
    answer = _shell(draft, status, _output(draft, status), _usage(draft))
    if answer["usage"] is None:
        del answer["usage"]
    return _encode(answer)


def events(draft: Draft) -> list[Event]:
    """The response as server-sent events."""
    return list(_Frames(draft).all())


class _Frames:
    def __init__(self, draft: Draft) -> None:
        self._draft = draft
        self._number = 0
        self._done = 0

    def all(self) -> Iterator[Event]:
        draft = self._draft
        choice = draft.choices[0]
        opening = _shell(draft, "in_progress", [], None)
        yield self._event("head", "response.created", response=opening)
        yield self._event("head", "response.in_progress", response=opening)
        self._done += choice.hidden_tokens
        for index, part in enumerate(choice.parts):
            yield from self._part(index, part)
        status = _status(choice)
        closing = _shell(draft, status, _output(draft, status), _usage(draft))
        yield self._event("finish", f"response.{status}", response=closing)
        if draft.provider == "openrouter":
            yield Event(DONE, "end", self._done)

    def _part(self, index: int, part: Part) -> Iterator[Event]:
        draft = self._draft
        place: Json = {"output_index": index}
        opening = _item(draft, part, index, status="in_progress", empty=True)
        kind: EventKind = "content" if part.kind == "tool" else "head"
        yield self._event(kind, "response.output_item.added", **place, item=opening)
        place["item_id"] = opening["id"]
        match part.kind:
            case "reasoning":
                place["summary_index"] = 0
                name, field = "response.reasoning_summary_text", "text"
                blank = {"type": "summary_text", "text": ""}
                yield self._event("head", "response.reasoning_summary_part.added", **place, part=blank)
            case "tool":
                name, field = "response.function_call_arguments", "arguments"
            case "refusal":
                place["content_index"] = 0
                name, field = "response.refusal", "refusal"
                yield self._event("head", "response.content_part.added", **place, part=_content(part, ""))
            case _:
                place["content_index"] = 0
                name, field = "response.output_text", "text"
                yield self._event("head", "response.content_part.added", **place, part=_content(part, ""))
        more: Json = {"logprobs": []} if part.kind == "text" else {}
        before = self._done + (count_tokens(part.name) if part.kind == "tool" else 0)
        sent = ""
        for piece in deltas(part.text, draft.delta_tokens):
            sent += piece
            self._done = before + count_tokens(sent)
            yield self._event("content", f"{name}.delta", **place, delta=piece, **more)
        called: Json = {"name": part.name} if part.kind == "tool" else {}
        yield self._event("head", f"{name}.done", **place, **{field: part.text}, **called, **more)
        if part.kind == "reasoning":
            full = {"type": "summary_text", "text": part.text}
            yield self._event("head", "response.reasoning_summary_part.done", **place, part=full)
        elif part.kind != "tool":
            yield self._event("head", "response.content_part.done", **place, part=_content(part, part.text))
        yield self._event("head", "response.output_item.done", output_index=index, item=_item(draft, part, index))

    def _event(self, kind: EventKind, name: str, /, **fields: Any) -> Event:
        data = _encode({"type": name, **fields, "sequence_number": self._number})
        self._number += 1
        if self._draft.provider == "openrouter":
            return Event(b"data: " + data + b"\n\n", kind, self._done)
        return Event(_named(name, data), kind, self._done)


def error_frame(draft: Draft, body: bytes) -> bytes:
    """An error in the middle of a stream: `error`, then `response.failed`, from the body of the same error."""
    found = msgspec.json.decode(body)
    error = found.get("error", {}) if isinstance(found, dict) else {}
    code = error.get("code") if draft.provider == "openai" else _router_code(error.get("code"))
    failed = _shell(draft, "failed", [], None)
    failed["error"] = {"code": code or "server_error", "message": error.get("message")}
    told: Json
    if draft.provider == "openai":
        kind = error.get("type")
        told = {"error": {"type": kind, "code": code, "message": error.get("message"), "param": error.get("param")}}
    else:
        told = {"code": code, "message": error.get("message"), "param": None}
    number = 1_000
    frames = b""
    for name, fields in (("error", told), ("response.failed", {"response": failed})):
        data = _encode({"type": name, "sequence_number": number, **fields})
        number += 1
        frames += b"data: %s\n\n" % data if draft.provider == "openrouter" else _named(name, data)
    return frames


def _router_code(status: Any) -> str:
    return {429: "rate_limit_exceeded", 400: "invalid_prompt"}.get(status, "server_error")


def _named(name: str, data: bytes) -> bytes:
    return b"event: %s\ndata: %s\n\n" % (name.encode(), data)
