"""Anthropic's answers read by the official anthropic package, in the words of the chat dialect: what the provider
recorded, and what the gateway answers in that dialect.

The package accumulates streams; the mapping of stop reasons is the table of the product's documentation
(docs/dialects, "stop"), written down here a second time on purpose.
"""

import base64
import json
from decimal import Decimal
from typing import Any

import anthropic
import httpx2

from tools.fidelity.answers import Answer, Call, Tokens, exact_json, payloads
from tools.fidelity.read_openai import cost_of

FINISH = {
    "end_turn": "stop", "stop_sequence": "stop", "pause_turn": "stop", "max_tokens": "length",
    "model_context_window_exceeded": "length", "tool_use": "tool_calls", "refusal": "content_filter",
}


MARK = "ownkey.reasoning.v1:"


class AnthropicReader:
    """Reads bodies. One instance for a whole run: its client never touches the network."""

    def __init__(self) -> None:
        self._body = b""
        self._type = ""
        self._client = anthropic.Anthropic(
            api_key="none", base_url="http://recording.invalid", max_retries=0,
            http_client=httpx2.Client(transport=httpx2.MockTransport(self._answer)),
        )

    def _answer(self, _: httpx2.Request) -> httpx2.Response:
        return httpx2.Response(200, headers={"content-type": self._type}, content=self._body)

    def read(self, body: bytes, streamed: bool) -> Answer:
        """A 200 body of the Messages API."""
        self._body, self._type = body, "text/event-stream" if streamed else "application/json"
        if not streamed:
            value = exact_json(body.decode("utf-8", "replace"))
            if not isinstance(value, dict) or value.get("type") != "message":
                error = value.get("error") if isinstance(value, dict) else None
                return Answer(error="not a message", error_body=error)
            answer = _from_message(self._client.beta.messages.create(model="any", max_tokens=1, messages=[]))
            answer.cost_usd = _billed([body.decode("utf-8", "replace")])
            return answer
        if starts := _second_start(body):
            return Answer(error=starts)
        snapshot: Any = None
        error, error_body = "", None
        try:
            with self._client.beta.messages.stream(model="any", max_tokens=1, messages=[]) as stream:
                for _ in stream:
                    snapshot = stream.current_message_snapshot
        except anthropic.APIError as raised:
            error, error_body = raised.message or "error", raised.body
        except (ValueError, RuntimeError) as raised:
            error = f"{type(raised).__name__}: {raised}"
        answer = Answer(cut=True) if snapshot is None else _from_message(snapshot)
        answer.error, answer.error_body = error, _inner(error_body)
        answer.cut = answer.cut and not error
        answer.cost_usd = _billed(payloads(body))
        return answer


def _inner(body: Any) -> Any:
    return body.get("error", body) if isinstance(body, dict) else body


def _second_start(body: bytes) -> str:
    """Why a stream is no single answer: another one begins after content (the package would mix the two)."""
    begun = False
    for payload in payloads(body):
        value = exact_json(payload)
        kind = value.get("type") if isinstance(value, dict) else None
        if kind == "message_start" and begun:
            return "a second answer begins inside the first"
        begun = begun or kind == "content_block_start"
    return ""


def _from_message(message: Any) -> Answer:
    answer = Answer(id=message.id or "", model=message.model or "", cut=message.stop_reason is None)
    said = answer.choice(0)
    for block in message.content:
        match block.type:
            case "text":
                said.text += block.text or ""
            case "thinking":
                said.reasoning += block.thinking or ""
                said.signatures += _opened(block.signature)
            case "redacted_thinking":
                said.signatures += _opened(block.data)
            case "tool_use":
                said.calls.append(Call(block.id, block.name, json.dumps(block.input)))
    said.finish = FINISH.get(message.stop_reason, "stop") if message.stop_reason else None
    details = message.stop_details
    if message.stop_reason == "refusal" and details is not None:
        said.refusal = getattr(details, "explanation", None) or ""
    usage = message.usage
    thinking = usage.output_tokens_details.thinking_tokens if usage.output_tokens_details else 0
    answer.tokens = Tokens(
        input=usage.input_tokens or 0, cache_read=usage.cache_read_input_tokens or 0,
        written=usage.cache_creation_input_tokens or 0, output=(usage.output_tokens or 0) - (thinking or 0),
        reasoning=thinking or 0,
    )
    answer.report = {"model": message.model, "usage": usage.to_dict(mode="json")}
    answer.tier = str(usage.service_tier or "")
    return answer


def _opened(signature: str | None) -> list[str]:
    """What another maker signed, out of Ownkey's envelope for it: a mark, then base64 of an entry of
    `reasoning_details`, which may hold no signature. Anthropic's own are as they are."""
    if not signature or not signature.startswith(MARK):
        return [signature] if signature else []
    entry = json.loads(base64.b64decode(signature.removeprefix(MARK), validate=True))
    inside = entry.get("signature") or entry.get("data")
    return [inside] if inside else []


def _billed(texts: list[str]) -> Decimal | None:
    """OpenRouter's bill, which it adds to the last usage object; from the JSON, where it is exact."""
    billed = None
    for value in map(exact_json, texts):
        usage = value.get("usage") if isinstance(value, dict) else None
        billed = (cost_of(usage) if isinstance(usage, dict) else None) or billed
    return billed


def read_count(body: bytes) -> Answer:
    """A 200 body of count_tokens."""
    value = exact_json(body.decode("utf-8", "replace"))
    counted = value.get("input_tokens") if isinstance(value, dict) else None
    return Answer(counted=counted) if isinstance(counted, int) else Answer(error="no count")
