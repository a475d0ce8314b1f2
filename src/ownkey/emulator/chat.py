"""Chat completions as OpenAI and OpenRouter write them.

OpenRouter's answers differ where its recordings do: `provider`, native finish reasons, reasoning with its details,
a cost, and a usage chunk that repeats `choices`.
"""

from collections.abc import Iterator
from typing import Any

import msgspec

from .answers import deltas
from .catalogue import Model
from .dice import Dice, count_tokens
from .errors import Scene, failure, openai_error
from .plan import ID_MARK, TIME_MARK, Ask, Choice, Cost, Draft, Event, Json, Part, Refused, Usage
from .reading import PromptReader, strings, tool_list, whole_number

_encode = msgspec.json.encode
DONE = b"data: [DONE]\n\n"

_NATIVE_FINISH = {
    "openai": {"stop": "completed", "length": "max_output_tokens", "tool_calls": "completed"},
    "anthropic": {"stop": "end_turn", "length": "max_tokens", "tool_calls": "tool_use", "refusal": "refusal"},
    "google": {"stop": "STOP", "length": "MAX_TOKENS", "tool_calls": "STOP", "content_filter": "SAFETY"},
}
_REASONING_FORMAT = {
    "openai": "openai-responses-v1",
    "anthropic": "anthropic-claude-v1",
    "google": "google-gemini-v1",
}


# reading


def read(body: Json, provider: str, model: Model) -> Ask:
    """The neutral form of a chat request. Raises Refused with the provider's own answer."""

    def refuse(message: str) -> Refused:
        return Refused(failure(provider, "bad_request", Scene(detail=message)))

    messages = body.get("messages")
    if not isinstance(messages, list) or not messages:
        raise refuse("Missing required parameter: 'messages'.")
    reader = PromptReader(model)
    for index, message in enumerate(messages):
        if not isinstance(message, dict) or not isinstance(message.get("role"), str):
            raise refuse(f"Invalid type for 'messages[{index}]': expected an object with a role.")
        _read_message(reader, message)
    tools = tool_list(
        (tool["function"].get("name"), tool["function"].get("parameters"))
        for tool in body.get("tools") or ()
        if isinstance(tool, dict) and isinstance(tool.get("function"), dict)
    )
    reader.add_schema_text(body.get("tools"))
    ask = Ask(
        model=str(body.get("model", "")),
        n=whole_number(body.get("n")) or 1,
        stream=body.get("stream") is True,
        tools=tools,
        parallel=body.get("parallel_tool_calls") is not False,
        stop=strings(body.get("stop")),
    )
    if provider == "openai" and model.thinks and body.get("max_tokens") is not None:
        message = "'max_tokens' is not supported with this model. Use 'max_completion_tokens' instead."
        raise Refused(
            openai_error(
                400, f"Unsupported parameter: {message}", "invalid_request_error", "unsupported_parameter", "max_tokens"
            )
        )
    limit = whole_number(body.get("max_completion_tokens"))
    ask.limit = limit if limit is not None else whole_number(body.get("max_tokens"))
    if ask.limit is not None and ask.limit < 1:
        raise refuse("Invalid 'max_completion_tokens': integer below minimum value. Expected a value >= 1.")
    options = body.get("stream_options")
    ask.include_usage = provider == "openrouter" or (isinstance(options, dict) and options.get("include_usage") is True)
    _read_choice(ask, body.get("tool_choice"))
    _read_format(ask, body.get("response_format"))
    _read_reasoning(ask, body, provider, model)
    reader.fill(ask)
    return ask


def _read_message(reader: PromptReader, message: Json) -> None:
    role = message["role"]
    reader.begin(role, is_user=role == "user", is_tool=role in {"tool", "function"})
    content = message.get("content")
    if isinstance(content, str):
        reader.text(content)
    elif isinstance(content, list):
        for part in content:
            if isinstance(part, dict):
                _read_part(reader, part)
    if message.get("tool_calls"):
        reader.text(_encode(message["tool_calls"]).decode(), spoken=False)


def _read_part(reader: PromptReader, part: Json) -> None:
    if isinstance(part.get("text"), str):
        reader.text(part["text"])
    elif part.get("type") in {"image_url", "input_audio", "file"}:
        reader.image()
    control = part.get("cache_control")
    if isinstance(control, dict):
        reader.cache_point(hour=control.get("ttl") == "1h")


def _read_choice(ask: Ask, choice: Any) -> None:
    match choice:
        case "none":
            ask.tool_mode = "none"
        case "required":
            ask.tool_mode = "required"
        case {"function": {"name": str(name)}}:
            ask.tool_mode, ask.tool_name = "required", name
        case _:
            pass


def _read_format(ask: Ask, wanted: Any) -> None:
    match wanted:
        case {"type": "json_schema", "json_schema": {"schema": dict(schema)}}:
            ask.schema = schema
        case {"type": "json_object"}:
            ask.json_object = True
        case _:
            pass


def _read_reasoning(ask: Ask, body: Json, provider: str, model: Model) -> None:
    effort = body.get("reasoning_effort")
    if provider == "openai":
        ask.thinks = model.thinks and effort not in {"minimal", "none"}
        return
    wanted = body.get("reasoning")
    options: Json = wanted if isinstance(wanted, dict) else {}
    asked = bool(options) or effort is not None or body.get("include_reasoning") is True
    off = options.get("enabled") is False or options.get("effort", effort) in {"none", "minimal"}
    always = model.native in {"gpt-5", "gpt-5-mini", "gemini-2.5-pro"}
    ask.thinks = model.thinks and not off and (asked or always)
    ask.shows_thoughts = ask.thinks and asked and options.get("exclude") is not True


# writing


def digits(nusd: int) -> msgspec.Raw:
    """An amount in USD as a JSON number with all its digits, never a float."""
    whole, rest = divmod(nusd, 1_000_000_000)
    fraction = f"{rest:09d}".rstrip("0")
    return msgspec.Raw(f"{whole}.{fraction}".encode() if fraction else str(whole).encode())


def cost_details(cost: Cost, *, responses: bool = False) -> Json:
    """OpenRouter's shares of a cost; they add up."""
    share = ("input", "output") if responses else ("prompt", "completions")
    return {
        "upstream_inference_cost": digits(cost.upstream_nusd),
        f"upstream_inference_{share[0]}_cost": digits(cost.upstream_nusd - cost.completions_nusd - cost.extra_nusd),
        f"upstream_inference_{share[1]}_cost": digits(cost.completions_nusd),
    }


def usage_json(draft: Draft) -> Json | None:
    """The usage report, bent where a fault says so."""
    usage, twist = draft.usage, draft.twist
    router = draft.provider == "openrouter"
    cost = draft.cost
    match twist.usage:
        case "missing":
            return None
        case "null":
            return {"prompt_tokens": None, "completion_tokens": None, "total_tokens": 0}
        case "zero":
            usage, cost = Usage(), Cost(0, 0, 0, 0)
        case "true":
            pass
    report: Json = {
        "prompt_tokens": usage.prompt,
        "completion_tokens": usage.output,
        "total_tokens": usage.prompt + usage.output,
    }
    if router:
        report["cost"] = digits(cost.fee_nusd if cost.is_byok else cost.nusd)
        report["is_byok"] = cost.is_byok
        report["prompt_tokens_details"] = {
            "cached_tokens": usage.cache_read,
            "cache_write_tokens": usage.cache_write,
            "audio_tokens": 0,
            "video_tokens": 0,
        }
        report["cost_details"] = cost_details(cost)
        report["completion_tokens_details"] = {
            "reasoning_tokens": usage.reasoning,
            "image_tokens": 0,
            "audio_tokens": 0,
        }
        if cost.extra_nusd:
            report["server_tool_use_details"] = {"web_search_requests": 1}
    else:
        report["prompt_tokens_details"] = {"cached_tokens": usage.cache_read, "audio_tokens": 0}
        report["completion_tokens_details"] = {
            "reasoning_tokens": usage.reasoning,
            "audio_tokens": 0,
            "accepted_prediction_tokens": 0,
            "rejected_prediction_tokens": 0,
        }
    return report


def _finish(choice: Choice) -> str:
    match choice.finish:
        case "refusal":
            return "stop"
        case "blocked":
            return "content_filter"
        case other:
            return other


def _native(draft: Draft, choice: Choice) -> str:
    if draft.twist.finish_error or draft.twist.native_error:
        return "error"
    return _NATIVE_FINISH.get(draft.model.maker, {}).get(choice.finish, _finish(choice))


def _call_id(draft: Draft, part: Part) -> str:
    prefix = {"anthropic": "toolu_", "google": f"tool_{part.name}_"}.get(draft.model.maker, "call_")
    return (prefix if draft.provider == "openrouter" else "call_") + part.id


def reasoning_detail(draft: Draft, text: str | None, mark: str | None) -> list[Json]:
    """OpenRouter's `reasoning_details` for a stretch of reasoning, its signature, or both."""
    maker = draft.model.maker
    form = _REASONING_FORMAT.get(maker, "unknown")
    found: list[Json] = []
    if maker == "anthropic":
        detail: Json = {"type": "reasoning.text"}
        if text is not None:
            detail["text"] = text
        if mark is not None:
            detail["signature"] = mark
        return [{**detail, "format": form, "index": 0}]
    if text is not None:
        kind = "summary" if maker == "openai" else "text"
        found.append({"type": f"reasoning.{kind}", kind: text, "format": form, "index": 0})
    if mark is not None and maker in {"openai", "google"}:
        found.append({"type": "reasoning.encrypted", "data": mark, "format": form, "index": 1 if found else 0})
    return found


def whole(draft: Draft) -> bytes:
    """The answer in one piece."""
    router = draft.provider == "openrouter"
    choices = [_whole_choice(draft, choice, index) for index, choice in enumerate(draft.choices)]
    answer: Json = {"id": ID_MARK, "object": "chat.completion", "created": TIME_MARK, "model": draft.served}
    if router:
        answer["provider"] = draft.model.host
        answer["system_fingerprint"] = None
        answer["service_tier"] = None
    answer["choices"] = choices
    if (usage := usage_json(draft)) is not None:
        answer["usage"] = usage
    if not router:
        answer["service_tier"] = "default"
        answer["system_fingerprint"] = "fp_emulator"
    return _encode(answer)


def _whole_choice(draft: Draft, choice: Choice, index: int) -> Json:
    router = draft.provider == "openrouter"
    text = choice.text_of("text")
    refusal = choice.text_of("refusal")
    silent = not text and (choice.calls or refusal)
    message: Json = {"role": "assistant", "content": None if silent else text, "refusal": refusal or None}
    if router:
        thoughts = [part for part in choice.parts if part.kind == "reasoning"]
        message["reasoning"] = choice.text_of("reasoning") or None
        if thoughts:
            details = [item for part in thoughts for item in reasoning_detail(draft, part.text, part.signature)]
            message["reasoning_details"] = details
    else:
        message["annotations"] = []
    if choice.calls:
        message["tool_calls"] = [
            {
                **({"index": place} if router else {}),
                "id": _call_id(draft, part),
                "type": "function",
                "function": {"name": part.name, "arguments": part.text},
            }
            for place, part in enumerate(choice.calls)
        ]
    finish = "error" if draft.twist.finish_error else _finish(choice)
    if router:
        native = _native(draft, choice)
        return {
            "index": index,
            "logprobs": None,
            "finish_reason": finish,
            "native_finish_reason": native,
            "message": message,
        }
    return {"index": index, "message": message, "logprobs": None, "finish_reason": finish}


def events(draft: Draft) -> list[Event]:
    """The answer as server-sent events."""
    return list(_Frames(draft).all())


class _Frames:
    def __init__(self, draft: Draft) -> None:
        self._draft = draft
        self._router = draft.provider == "openrouter"
        self._dice = Dice(draft.seed, draft.served, draft.ask.text, "frames")
        self._done = 0

    def all(self) -> Iterator[Event]:
        draft = self._draft
        for index, choice in enumerate(draft.choices):
            if not self._router:
                opening = {"role": "assistant", "content": None if choice.calls else "", "refusal": None}
                yield self._event("head", self._chunk([self._choice(index, opening)]))
            self._done += choice.hidden_tokens
            for part in choice.parts:
                yield from self._part(index, choice, part)
        for index, choice in enumerate(draft.choices):
            delta: Json = {"content": "", "role": "assistant"} if self._router else {}
            finish = "error" if draft.twist.finish_error else _finish(choice)
            entry = self._choice(index, delta, finish, _native(draft, choice))
            yield self._event("finish", self._chunk([entry]))
        if draft.ask.include_usage and (usage := usage_json(draft)) is not None:
            yield self._event("usage", self._usage_chunk(usage))
        yield Event(DONE, "end", self._done)

    def _part(self, index: int, choice: Choice, part: Part) -> Iterator[Event]:
        if part.kind == "tool":
            yield from self._call(index, choice, part)
            return
        before = self._done
        sent = ""
        for piece in deltas(part.text, self._draft.delta_tokens):
            sent += piece
            self._done = before + count_tokens(sent)
            yield self._event("content", self._chunk([self._choice(index, self._delta(part, piece))]))
        if part.kind == "reasoning" and self._router and part.signature:
            details = reasoning_detail(self._draft, None, part.signature)
            if details:
                delta = {"content": "", "role": "assistant", "reasoning": None, "reasoning_details": details}
                yield self._event("content", self._chunk([self._choice(index, delta)]))

    def _delta(self, part: Part, piece: str) -> Json:
        match part.kind:
            case "reasoning":
                details = reasoning_detail(self._draft, piece, None)
                return {"content": "", "role": "assistant", "reasoning": piece, "reasoning_details": details}
            case "refusal":
                return {"refusal": piece}
            case _:
                return {"content": piece, "role": "assistant"} if self._router else {"content": piece}

    def _call(self, index: int, choice: Choice, part: Part) -> Iterator[Event]:
        place = choice.calls.index(part)
        lead: Json = {"content": None, "role": "assistant"} if self._router else {}
        first = {
            "index": place,
            "id": _call_id(self._draft, part),
            "type": "function",
            "function": {"name": part.name, "arguments": ""},
        }
        before = self._done
        self._done = before + count_tokens(part.name)
        yield self._event("content", self._chunk([self._choice(index, {**lead, "tool_calls": [first]})]))
        sent = ""
        for piece in deltas(part.text, max(1, self._draft.delta_tokens // 2)):
            sent += piece
            self._done = before + count_tokens(part.name) + count_tokens(sent)
            more = {"index": place, "function": {"arguments": piece}}
            yield self._event("content", self._chunk([self._choice(index, {**lead, "tool_calls": [more]})]))

    def _choice(self, index: int, delta: Json, finish: str | None = None, native: str | None = None) -> Json:
        made: Json = {"index": index, "delta": delta}
        if self._router:
            return {**made, "finish_reason": finish, "native_finish_reason": native}
        return {**made, "logprobs": None, "finish_reason": finish}

    def _chunk(self, choices: list[Json]) -> Json:
        draft = self._draft
        chunk: Json = {
            "id": ID_MARK,
            "object": "chat.completion.chunk",
            "created": TIME_MARK,
            "model": draft.served,
        }
        if self._router:
            return {**chunk, "provider": draft.model.host, "choices": choices}
        chunk = {**chunk, "service_tier": "default", "system_fingerprint": "fp_emulator", "choices": choices}
        if draft.ask.include_usage:
            chunk["usage"] = None
        chunk["obfuscation"] = self._dice.token(self._dice.between(1, 16))
        return chunk

    def _usage_chunk(self, usage: Json) -> Json:
        if not self._router or self._dice.below(48) == 0:
            return {**self._chunk([]), "usage": usage}
        choices = [
            self._choice(index, {"content": "", "role": "assistant"}, _finish(choice), _native(self._draft, choice))
            for index, choice in enumerate(self._draft.choices)
        ]
        return {**self._chunk(choices), "usage": usage}

    def _event(self, kind: Any, chunk: Json) -> Event:
        return Event(b"data: " + _encode(chunk) + b"\n\n", kind, self._done)


def error_frame(draft: Draft, body: bytes) -> bytes:
    """An error in the middle of a stream, from the body of the same error as an answer."""
    found = msgspec.json.decode(body)
    error = found.get("error", {}) if isinstance(found, dict) else {}
    if draft.provider == "openai":
        return b"data: " + _encode({"error": error}) + b"\n\n"
    chunk = {
        "id": ID_MARK,
        "object": "chat.completion.chunk",
        "created": TIME_MARK,
        "model": draft.served,
        "provider": draft.model.host,
        "error": error,
        "choices": [
            {"index": 0, "delta": {"content": "", "role": "assistant"}, "finish_reason": "error",
             "native_finish_reason": "error"}
        ],
    }  # fmt: skip
    return b"data: " + _encode(chunk) + b"\n\n"
