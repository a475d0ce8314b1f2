"""Anthropic's Messages: the whole answer, the event stream, token counts and the model list.

The same format serves OpenRouter's `/messages`.
"""

from collections.abc import Iterator
from typing import Any

import msgspec

from .answers import deltas
from .catalogue import Model
from .chat import cost_details, digits
from .dice import Dice, count_tokens
from .errors import Scene, anthropic_error, failure
from .plan import ID_MARK, Ask, Choice, Draft, Event, EventKind, Json, Part, Refused, Usage
from .reading import PromptReader, strings, tool_list, whole_number

_encode = msgspec.json.encode
PING = b'event: ping\ndata: {"type": "ping"}\n\n'

_STOP = {"stop": "end_turn", "length": "max_tokens", "tool_calls": "tool_use"}


def _refuse(provider: str, message: str) -> Refused:
    if provider == "anthropic":
        return Refused(failure("anthropic", "bad_request", Scene(detail=message, request_id=ID_MARK)))
    return Refused(anthropic_error(400, message, "invalid_request_error", ID_MARK))


def read(body: Json, provider: str, model: Model) -> Ask:
    """The neutral form of a Messages request. Raises Refused."""
    ask = read_prompt(body, provider, model)
    ask.limit = whole_number(body.get("max_tokens"))
    if ask.limit is None:
        raise _refuse(provider, "max_tokens: Field required")
    if ask.limit < 1:
        raise _refuse(provider, "max_tokens: Input should be greater than or equal to 1")
    if ask.limit > model.max_output and provider == "anthropic":
        raise _refuse(
            provider,
            f"max_tokens: {ask.limit} > {model.max_output}, which is the maximum allowed number of output tokens",
        )
    temperature = body.get("temperature")
    if isinstance(temperature, int | float) and not 0 <= temperature <= 1:
        raise _refuse(provider, "temperature: range: 0..1")
    return ask


def read_prompt(body: Json, provider: str, model: Model) -> Ask:
    """The prompt and what is wanted of it, without the limits: what counting tokens needs."""
    messages = body.get("messages")
    if not isinstance(messages, list) or not messages:
        raise _refuse(provider, "messages: Field required")
    reader = PromptReader(model)
    reader.add_schema_text(body.get("tools"))
    _read_system(reader, body.get("system"))
    for index, message in enumerate(messages):
        if not isinstance(message, dict) or message.get("role") not in {"user", "assistant", "system"}:
            raise _refuse(provider, f"messages.{index}: Input does not match the expected shape.")
        _read_message(reader, message)
    tools = [tool for tool in body.get("tools") or () if isinstance(tool, dict)]
    ask = Ask(
        model=str(body.get("model", "")),
        stream=body.get("stream") is True,
        include_usage=True,
        tools=tool_list((tool.get("name"), tool.get("input_schema")) for tool in tools if "input_schema" in tool),
        stop=strings(body.get("stop_sequences")),
    )
    _read_choice(ask, body.get("tool_choice"))
    config = body.get("output_config")
    form = config.get("format") if isinstance(config, dict) else body.get("output_format")
    if isinstance(form, dict) and isinstance(form.get("schema"), dict):
        ask.schema = form["schema"]
    thinking = body.get("thinking")
    if isinstance(thinking, dict) and thinking.get("type") in {"enabled", "adaptive"}:
        ask.thinks = ask.shows_thoughts = True
    reader.fill(ask)
    return ask


def _read_system(reader: PromptReader, system: Any) -> None:
    if isinstance(system, str):
        reader.begin("system", is_user=False)
        reader.text(system)
    elif isinstance(system, list):
        reader.begin("system", is_user=False)
        for block in system:
            if isinstance(block, dict):
                _read_block(reader, block)


def _read_message(reader: PromptReader, message: Json) -> None:
    reader.begin(message["role"], is_user=message["role"] == "user")
    content = message.get("content")
    if isinstance(content, str):
        reader.text(content)
    elif isinstance(content, list):
        for block in content:
            if isinstance(block, dict):
                _read_block(reader, block)


def _read_block(reader: PromptReader, block: Json) -> None:
    match block.get("type"):
        case "text":
            reader.text(str(block.get("text", "")))
        case "image" | "document":
            reader.image()
        case "tool_result":
            reader.tool_result()
            inner = block.get("content")
            reader.text(inner if isinstance(inner, str) else _encode(inner).decode(), spoken=False)
        case "thinking" | "redacted_thinking":
            pass
        case _:
            reader.text(_encode(block).decode(), spoken=False)
    control = block.get("cache_control")
    if isinstance(control, dict):
        reader.cache_point(hour=control.get("ttl") == "1h")


def _read_choice(ask: Ask, choice: Any) -> None:
    if not isinstance(choice, dict):
        return
    ask.parallel = choice.get("disable_parallel_tool_use") is not True
    match choice.get("type"):
        case "any":
            ask.tool_mode = "required"
        case "none":
            ask.tool_mode = "none"
        case "tool":
            ask.tool_mode, ask.tool_name = "required", str(choice.get("name"))
        case _:
            pass


# writing


def _usage(usage: Usage, output: int) -> Json:
    return {
        "input_tokens": usage.input,
        "cache_creation_input_tokens": usage.cache_write,
        "cache_read_input_tokens": usage.cache_read,
        "cache_creation": {
            "ephemeral_5m_input_tokens": usage.cache_write_5m,
            "ephemeral_1h_input_tokens": usage.cache_write_1h,
        },
        "output_tokens": output,
        "service_tier": "standard",
        "inference_geo": "not_available",
    }


def _reported(draft: Draft) -> Usage | None:
    match draft.twist.usage:
        case "missing" | "null":
            return None
        case "zero":
            return Usage()
        case "true":
            return draft.usage


def _stop(choice: Choice) -> tuple[str, str | None]:
    if choice.stop_sequence is not None:
        return "stop_sequence", choice.stop_sequence
    return _STOP.get(choice.finish, "refusal"), None


def _blocks(choice: Choice) -> list[Json]:
    made: list[Json] = []
    for part in choice.parts:
        match part.kind:
            case "reasoning":
                made.append({"type": "thinking", "thinking": part.text, "signature": part.signature})
            case "tool":
                block = {"type": "tool_use", "id": f"toolu_{part.id}", "name": part.name}
                made.append({**block, "input": msgspec.Raw(part.text.encode())})
            case _:
                made.append({"type": "text", "text": part.text})
    return made


def whole(draft: Draft) -> bytes:
    """The message in one piece."""
    choice = draft.choices[0]
    reason, sequence = _stop(choice)
    answer: Json = {
        "model": draft.served,
        "id": ID_MARK,
        "type": "message",
        "role": "assistant",
        "content": _blocks(choice),
        "stop_reason": reason,
        "stop_sequence": sequence,
    }
    if (usage := _reported(draft)) is not None:
        answer["usage"] = _usage(usage, usage.output)
        if draft.provider == "openrouter":
            answer["usage"].update(_router_cost(draft))
    return _encode(answer)


def _router_cost(draft: Draft) -> Json:

    cost = draft.cost
    return {
        "cost": digits(cost.fee_nusd if cost.is_byok else cost.nusd),
        "is_byok": cost.is_byok,
        "cost_details": cost_details(cost),
    }


def events(draft: Draft) -> list[Event]:
    """The message as server-sent events."""
    return list(_Frames(draft).all())


class _Frames:
    def __init__(self, draft: Draft) -> None:
        self._draft = draft
        self._dice = Dice(draft.seed, draft.ask.text, "padding")
        self._done = 0

    def all(self) -> Iterator[Event]:
        draft = self._draft
        choice = draft.choices[0]
        usage = _reported(draft)
        message: Json = {
            "model": draft.served,
            "id": ID_MARK,
            "type": "message",
            "role": "assistant",
            "content": [],
            "stop_reason": None,
            "stop_sequence": None,
        }
        # message_start counts the token or so that exists by then; a report of more would bill what a cut never sent.
        # It is there whatever the last report is.
        first = Usage() if draft.twist.usage == "zero" else draft.usage
        message["usage"] = _usage(first, min(1, first.output))
        yield self._event("head", {"type": "message_start", "message": message})
        for index, part in enumerate(choice.parts):
            yield from self._part(index, part)
        reason, sequence = _stop(choice)
        delta: Json = {"type": "message_delta", "delta": {"stop_reason": reason, "stop_sequence": sequence}}
        if usage is not None:
            delta["usage"] = {
                "input_tokens": usage.input,
                "cache_creation_input_tokens": usage.cache_write,
                "cache_read_input_tokens": usage.cache_read,
                "output_tokens": usage.output,
            }
            if draft.provider == "openrouter":
                delta["usage"].update(_router_cost(draft))
        elif draft.twist.usage == "missing":
            delta["usage"] = {}
        yield self._event("finish", delta)
        yield self._event("end", {"type": "message_stop"})
        if draft.provider == "openrouter":
            yield Event(b"event: data\ndata: [DONE]\n\n", "end", self._done)

    def _part(self, index: int, part: Part) -> Iterator[Event]:
        start: Json
        match part.kind:
            case "reasoning":
                start = {"type": "thinking", "thinking": "", "signature": ""}
            case "tool":
                start = {"type": "tool_use", "id": f"toolu_{part.id}", "name": part.name, "input": {}}
            case _:
                start = {"type": "text", "text": ""}
        opening = {"type": "content_block_start", "index": index, "content_block": start}
        yield self._event("content" if part.kind == "tool" else "head", opening)
        if index == 0:
            yield Event(PING, "ping", self._done)
        if part.kind == "tool":
            yield self._delta(index, {"type": "input_json_delta", "partial_json": ""})
        before = self._done + (count_tokens(part.name) if part.kind == "tool" else 0)
        sent = ""
        for piece in deltas(part.text, self._draft.delta_tokens):
            sent += piece
            self._done = before + count_tokens(sent)
            match part.kind:
                case "reasoning":
                    yield self._delta(index, {"type": "thinking_delta", "thinking": piece})
                case "tool":
                    yield self._delta(index, {"type": "input_json_delta", "partial_json": piece})
                case _:
                    yield self._delta(index, {"type": "text_delta", "text": piece})
        if part.kind == "reasoning":
            yield self._delta(index, {"type": "signature_delta", "signature": part.signature})
        yield self._event("head", {"type": "content_block_stop", "index": index})

    def _delta(self, index: int, delta: Json) -> Event:
        return self._event("content", {"type": "content_block_delta", "index": index, "delta": delta})

    def _event(self, kind: EventKind, data: Json) -> Event:
        # The real stream pads its JSON with blanks inside the last brace's end; parsers must not mind.
        raw = _encode(data)
        pad = b" " * self._dice.below(16)
        return Event(b"event: %s\ndata: %s%s}\n\n" % (data["type"].encode(), raw[:-1], pad), kind, self._done)


def error_frame(body: bytes) -> bytes:
    """`event: error`, from the body of the same error as an answer."""
    found = msgspec.json.decode(body)
    error = found.get("error", {}) if isinstance(found, dict) else {}
    return b"event: error\ndata: " + _encode({"type": "error", "error": error}) + b"\n\n"


def model_json(model: Model) -> Json:
    """One entry of the model list."""
    return {
        "type": "model",
        "id": model.dated,
        "display_name": model.name.removeprefix("Anthropic: "),
        "created_at": "2025-10-01T00:00:00Z",
        "max_input_tokens": model.context,
        "max_tokens": model.max_output,
    }
