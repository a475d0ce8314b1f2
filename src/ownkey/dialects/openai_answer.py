"""Neutral events written as a chat completion: chunks of a stream, or one body. And vectors as embeddings."""

import base64
import struct
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec

from ownkey.domain.conversation import (
    Annotations,
    Embedded,
    Event,
    Failed,
    Finished,
    ReasoningDelta,
    RefusalDelta,
    Started,
    TextDelta,
    ToolCallDelta,
    ToolCallStart,
    UsageReport,
)
from ownkey.domain.money import format_usd
from ownkey.domain.usage import Usage
from ownkey.domain.wire import EmbeddingsRequest

_DONE = b"data: [DONE]\n\n"


def usage_fields(usage: Usage, with_cost: bool = False) -> dict[str, Any]:
    """Usage in the chat dialect's nested shape: cached tokens inside the prompt's, reasoning inside the answer's."""
    prompt_details: dict[str, Any] = {
        "cached_tokens": usage.cache_read + usage.audio_cache_read,
        "audio_tokens": usage.audio_input + usage.audio_cache_read,
    }
    if usage.audio_cache_read:
        prompt_details["cached_tokens_details"] = {"audio_tokens": usage.audio_cache_read}
    written = usage.cache_write_5m + usage.cache_write_1h
    if written:
        prompt_details["cache_write_tokens"] = written
    fields: dict[str, Any] = {
        "prompt_tokens": usage.total_input,
        "completion_tokens": usage.total_output,
        "total_tokens": usage.total_input + usage.total_output,
        "prompt_tokens_details": prompt_details,
        "completion_tokens_details": {
            "reasoning_tokens": usage.reasoning,
            "audio_tokens": usage.audio_output,
        },
    }
    if with_cost and usage.cost_nusd is not None:
        fields["cost"] = msgspec.Raw(format_usd(usage.cost_nusd).encode())
        fields["is_byok"] = usage.is_byok
    return fields


class ChatEncoder:
    """Writes one answer. What the provider does not say (id, model) is taken from the call."""

    def __init__(
        self, model: str, created_s: int, answer_id: str, usage_in_stream: bool, openrouter: bool
    ) -> None:
        self._id = answer_id
        self._model = model
        self._created_s = created_s
        self._usage_in_stream = usage_in_stream
        self._openrouter = openrouter
        self._usage: Usage | None = None
        self._role_sent = False

    def encode(self, events: Iterable[Event]) -> bytes:
        """The frames for these events; none for events that a caller does not see by themselves."""
        frames = []
        for event in events:
            match event:
                case Started():
                    self._id, self._model = event.id or self._id, event.model or self._model
                case UsageReport():
                    self._usage = event.usage
                case Finished():
                    frames.append(self._finish_frame(event))
                case Failed() | Embedded():
                    pass
                case _:
                    frames.append(self._delta_frame(_delta(event)))
        return b"".join(frames)

    def end(self) -> bytes:
        """Usage, where it was asked for and is known, and the terminator."""
        frame = b""
        if self._usage_in_stream and self._usage is not None:
            frame = self._frame([], usage_fields(self._usage, with_cost=self._openrouter))
        return frame + _DONE

    def whole(self, events: Iterable[Event]) -> bytes:
        """The complete body for a whole answer's events."""
        message = _Message()
        finish: Finished | None = None
        for event in events:
            match event:
                case Started():
                    self._id, self._model = event.id or self._id, event.model or self._model
                case UsageReport():
                    self._usage = event.usage
                case Finished():
                    finish = event
                case Failed() | Embedded():
                    pass
                case _:
                    message.take(event)
        choice: dict[str, Any] = {
            "index": 0,
            "message": message.fields(self._openrouter),
            "logprobs": None,
            "finish_reason": finish.reason.value if finish else None,
        }
        if self._openrouter and finish:
            choice["native_finish_reason"] = finish.native_reason
        body: dict[str, Any] = {
            "id": self._id,
            "object": "chat.completion",
            "created": self._created_s,
            "model": self._model,
            "choices": [choice],
        }
        if self._openrouter:
            body["system_fingerprint"] = None
        if self._usage is not None:
            body["usage"] = usage_fields(self._usage, with_cost=self._openrouter)
        return msgspec.json.encode(body)

    def _delta_frame(self, delta: dict[str, Any]) -> bytes:
        if not self._role_sent:
            self._role_sent = True
            delta = {"role": "assistant", **delta}
        return self._frame([{"index": 0, "delta": delta, "logprobs": None, "finish_reason": None}])

    def _finish_frame(self, event: Finished) -> bytes:
        delta: dict[str, Any] = {}
        if not self._role_sent:
            self._role_sent = True
            delta = {"role": "assistant", "content": ""}
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": event.reason.value}
        if self._openrouter:
            choice["native_finish_reason"] = event.native_reason
        return self._frame([choice])

    def _frame(self, choices: list[dict[str, Any]], usage: dict[str, Any] | None = None) -> bytes:
        chunk: dict[str, Any] = {
            "id": self._id,
            "object": "chat.completion.chunk",
            "created": self._created_s,
            "model": self._model,
            "choices": choices,
        }
        if usage is not None or (self._usage_in_stream and not self._openrouter):
            chunk["usage"] = usage
        return b"data: " + msgspec.json.encode(chunk) + b"\n\n"


def _delta(
    event: TextDelta | RefusalDelta | ReasoningDelta | ToolCallStart | ToolCallDelta | Annotations,
) -> dict[str, Any]:
    match event:
        case TextDelta():
            return {"content": event.text}
        case RefusalDelta():
            return {"refusal": event.text}
        case ReasoningDelta():
            delta: dict[str, Any] = {"reasoning": event.text} if event.text else {}
            if event.details:
                delta["reasoning_details"] = list(event.details)
            return delta
        case ToolCallStart():
            call = _tool_call(event.id, event.name, "")
            delta = {"tool_calls": [{"index": event.index, **call}]}
            if event.signature is not None:
                delta["reasoning_details"] = [signature_detail(event.id, event.signature, event.index)]
            return delta
        case ToolCallDelta():
            return {"tool_calls": [{"index": event.index, "function": {"arguments": event.arguments}}]}
        case Annotations():
            return {"annotations": list(event.items)}


def _tool_call(call_id: str, name: str, arguments: str) -> dict[str, Any]:
    return {"id": call_id, "type": "function", "function": {"name": name, "arguments": arguments}}


def signature_detail(call_id: str, signature: str, index: int) -> dict[str, Any]:
    """A tool call's thought signature in OpenRouter's shape: encrypted reasoning with the call's id."""
    return {
        "type": "reasoning.encrypted",
        "data": signature,
        "id": call_id,
        "format": "google-gemini-v1",
        "index": index,
    }


class _Message:
    """The pieces of a whole message while they are collected."""

    def __init__(self) -> None:
        self._text: list[str] = []
        self._refusal: list[str] = []
        self._reasoning: list[str] = []
        self._details: list[Mapping[str, Any]] = []
        self._annotations: list[Mapping[str, Any]] = []
        self._calls: dict[int, tuple[str, str, list[str]]] = {}

    def take(
        self, event: TextDelta | RefusalDelta | ReasoningDelta | ToolCallStart | ToolCallDelta | Annotations
    ) -> None:
        match event:
            case TextDelta():
                self._text.append(event.text)
            case RefusalDelta():
                self._refusal.append(event.text)
            case ReasoningDelta():
                self._reasoning.append(event.text)
                self._details += event.details
            case ToolCallStart():
                self._calls[event.index] = (event.id, event.name, [])
                if event.signature is not None:
                    self._details.append(signature_detail(event.id, event.signature, event.index))
            case ToolCallDelta():
                self._calls[event.index][2].append(event.arguments)
            case Annotations():
                self._annotations += event.items

    def fields(self, openrouter: bool) -> dict[str, Any]:
        message: dict[str, Any] = {
            "role": "assistant",
            "content": "".join(self._text) if self._text else None,
            "refusal": "".join(self._refusal) if self._refusal else None,
        }
        reasoning = "".join(self._reasoning)
        if reasoning or openrouter:
            message["reasoning"] = reasoning or None
        if self._details:
            message["reasoning_details"] = _joined(self._details)
        if self._calls:
            message["tool_calls"] = [
                _tool_call(call_id, name, "".join(arguments))
                for _, (call_id, name, arguments) in sorted(self._calls.items())
            ]
        if self._annotations:
            message["annotations"] = self._annotations
        return message


def _joined(details: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Fragments of one reasoning block as one: a client sends them back, and a signature covers the whole."""
    blocks: list[dict[str, Any]] = []
    for detail in details:
        last = blocks[-1] if blocks else {}
        same = all(last.get(key) == detail.get(key) for key in ("type", "index", "format"))
        text_key = {"reasoning.text": "text", "reasoning.summary": "summary"}.get(str(detail.get("type")))
        if not same or text_key is None or last.get("signature") is not None:
            blocks.append(dict(detail))
            continue
        added = {key: value for key, value in detail.items() if value is not None and key != text_key}
        last.update(added)
        pieces = (last.get(text_key), detail.get(text_key))
        last[text_key] = "".join(piece for piece in pieces if isinstance(piece, str))
    return blocks


class EmbeddingsEncoder:
    """Writes the vectors of one embeddings call. They do not stream."""

    def __init__(self, request: EmbeddingsRequest, model: str) -> None:
        self._request = request
        self._model = model

    def encode(self, events: Iterable[Event]) -> bytes:
        """Nothing: vectors come whole."""
        return b""

    def end(self) -> bytes:
        """Nothing: vectors come whole."""
        return b""

    def whole(self, events: Iterable[Event]) -> bytes:
        """The complete body."""
        vectors: Sequence[Sequence[float]] = ()
        usage: Usage | None = None
        for event in events:
            match event:
                case Started():
                    self._model = event.model or self._model
                case Embedded():
                    vectors = event.vectors
                case UsageReport():
                    usage = event.usage
                case _:
                    pass
        return encode_embeddings(self._request, self._model, vectors, usage)


def encode_embeddings(
    request: EmbeddingsRequest, model: str, vectors: Iterable[Sequence[float]], usage: Usage | None
) -> bytes:
    """A whole embeddings body; base64 is little-endian float32, the official SDK's default.

    A provider that counts no tokens leaves them to be estimated: the official SDK demands the fields.
    """
    data = [
        {"object": "embedding", "index": index, "embedding": _vector(vector, request.encoding)}
        for index, vector in enumerate(vectors)
    ]
    body: dict[str, Any] = {"object": "list", "data": data, "model": model}
    tokens = _estimate_tokens(request) if usage is None else usage.total_input
    body["usage"] = {"prompt_tokens": tokens, "total_tokens": tokens}
    return msgspec.json.encode(body)


def _estimate_tokens(request: EmbeddingsRequest) -> int:
    """Four bytes of text are about a token."""
    sizes = (len(item.encode("utf-8", "surrogatepass")) if isinstance(item, str) else 4 * len(item) for item in
             request.inputs)  # fmt: skip
    return -(-sum(sizes) // 4)


def _vector(vector: Sequence[float], encoding: str) -> str | list[float]:
    if encoding == "base64":
        return base64.b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode("ascii")
    return list(vector)
