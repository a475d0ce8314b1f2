"""Chat completions and embeddings read by the official openai package: recordings, and what the gateway answers.

The package is pointed at the bytes, so its own parser, stream decoder and error rules do the reading. Only the
billed cost is read from the JSON, because the package would make a float of it.
"""

import base64
import struct
from decimal import Decimal
from typing import Any

import httpx2
import openai
from openai.types.chat import ChatCompletion, ChatCompletionChunk

from tools.fidelity.answers import Answer, Call, Tokens, exact_json, payloads


class OpenAIReader:
    """Reads bodies. One instance for a whole run: its client never touches the network."""

    def __init__(self) -> None:
        self._body = b""
        self._type = ""
        self._client = openai.OpenAI(
            api_key="none", base_url="http://recording.invalid/v1", max_retries=0,
            http_client=httpx2.Client(transport=httpx2.MockTransport(self._answer)),
        )

    def _answer(self, _: httpx2.Request) -> httpx2.Response:
        return httpx2.Response(200, headers={"content-type": self._type}, content=self._body)

    def read_chat(self, body: bytes, streamed: bool) -> Answer:
        """A 200 body of chat completions."""
        self._body, self._type = body, "text/event-stream" if streamed else "application/json"
        return self._stream(body) if streamed else self._whole(body)

    def read_embeddings(self, body: bytes) -> Answer:
        """A 200 body of embeddings; vectors as the floats that a caller gets, base64 or not."""
        self._body, self._type = body, "application/json"
        answer = Answer()
        value = exact_json(body.decode("utf-8", "replace"))
        if _error_inside(answer, value):
            return answer
        parsed = self._client.embeddings.create(model="any", input="any", encoding_format="float")
        answer.model = parsed.model or ""
        answer.vectors = [_floats(item.embedding) for item in sorted(parsed.data or [], key=lambda item: item.index)]
        answer.cut = not answer.vectors
        _take_usage(answer, value)
        return answer

    def _whole(self, body: bytes) -> Answer:
        answer = Answer()
        value = exact_json(body.decode("utf-8", "replace"))
        if _error_inside(answer, value):
            return answer
        completion: ChatCompletion = self._client.chat.completions.create(model="any", messages=[])
        answer.id, answer.model = completion.id or "", completion.model or ""
        for choice in completion.choices or []:
            _add(answer, choice, choice.message)
        _take_usage(answer, value)
        _judge_end(answer)
        return answer

    def _stream(self, body: bytes) -> Answer:
        answer = Answer()
        try:
            chunks = self._client.chat.completions.create(model="any", messages=[], stream=True)
            for chunk in chunks:
                _take_chunk(answer, chunk)
        except openai.APIError as error:
            answer.error, answer.error_body = error.message or "error", error.body
        except ValueError as error:
            answer.error = f"not JSON: {error}"
        for payload in payloads(body):
            if payload != "[DONE]":
                _take_usage(answer, exact_json(payload))
        _judge_end(answer)
        return answer


def _take_chunk(answer: Answer, chunk: ChatCompletionChunk) -> None:
    answer.id = answer.id or chunk.id or ""
    answer.model = answer.model or chunk.model or ""
    for choice in chunk.choices or []:
        if choice.delta is not None:
            _add(answer, choice, choice.delta)


def _add(answer: Answer, choice: Any, part: Any) -> None:
    """Add a delta, or a whole message, to a choice."""
    said = answer.choice(choice.index or 0)
    said.text += _text(part.content)
    said.refusal += part.refusal or ""
    said.reasoning += _text(getattr(part, "reasoning", None)) or _text(getattr(part, "reasoning_content", None))
    for detail in getattr(part, "reasoning_details", None) or []:
        mark = detail.get("signature") or detail.get("data") if isinstance(detail, dict) else None
        said.signatures += [mark] if mark else []
    for position, call in enumerate(part.tool_calls or []):
        index = getattr(call, "index", None)
        index = position if index is None else index
        while len(said.calls) <= index:
            said.calls.append(Call())
        known, function = said.calls[index], getattr(call, "function", None)
        known.id = known.id or call.id or ""
        known.name += (function.name if function else None) or ""
        known.arguments += (function.arguments if function else None) or ""
        custom = getattr(call, "custom", None)
        known.name += (custom.name if custom else None) or ""
        known.arguments += (custom.input if custom else None) or ""
    if part.function_call is not None:
        if not said.calls:
            said.calls.append(Call())
        said.calls[0].name += part.function_call.name or ""
        said.calls[0].arguments += part.function_call.arguments or ""
    finish = choice.finish_reason or _early_finish(getattr(choice, "finish_details", None))
    if finish is not None:
        said.finish = finish
    failed = getattr(choice, "error", None)
    if finish == "error" or failed:
        answer.error = answer.error or "an error inside a choice"
        answer.error_body = answer.error_body or failed


def _early_finish(details: Any) -> str | None:
    """The first vision models (2023) said why they ended in an object of its own."""
    if not isinstance(details, dict):
        return None
    return "length" if details.get("type") == "max_tokens" else "stop"


def _text(content: Any) -> str:
    """Text, also where a host sends it as parts."""
    if isinstance(content, list):
        return "".join(str(part.get("text") or "") for part in content if isinstance(part, dict))
    return content if isinstance(content, str) else ""


def _judge_end(answer: Answer) -> None:
    answer.cut = not answer.error and (
        not answer.choices or any(choice.finish is None for choice in answer.choices.values())
    )


def _error_inside(answer: Answer, value: Any) -> bool:
    if not isinstance(value, dict):
        answer.error = "not a JSON object"
    elif value.get("error"):
        answer.error, answer.error_body = "an error inside a 200", value["error"]
    return bool(answer.error)


def _floats(vector: Any) -> list[float]:
    if isinstance(vector, str):
        raw = base64.b64decode(vector)
        return list(struct.unpack(f"<{len(raw) // 4}f", raw))
    return [float(number) for number in vector]


def _take_usage(answer: Answer, value: Any) -> None:
    """Take the usage object of a body or chunk in: the last one counts."""
    usage = value.get("usage") if isinstance(value, dict) else None
    if not isinstance(usage, dict) or not isinstance(usage.get("prompt_tokens"), int):
        return
    answer.tokens = tokens_of(usage)
    answer.cost_usd = cost_of(usage)
    answer.report = {"model": value.get("model"), "usage": usage}
    answer.tier = str(value.get("service_tier") or answer.tier)


def tokens_of(usage: Any) -> Tokens:
    """OpenAI's nested counters taken apart: cached tokens are inside the prompt's, reasoning inside the answer's.

    Where a host counts reasoning beside the answer, its own total says so. Some of OpenRouter's hosts report the same
    tokens as read and as written: read counts first, and the classes never sum to more than the prompt.
    """
    prompt = usage["prompt_tokens"]
    given = usage.get("prompt_tokens_details") or {}
    made = usage.get("completion_tokens_details") or {}
    read = min(given.get("cached_tokens") or 0, prompt)
    written = min(given.get("cache_write_tokens") or 0, prompt - read)
    heard, spoken = given.get("audio_tokens") or 0, made.get("audio_tokens") or 0
    heard -= (given.get("cached_tokens_details") or {}).get("audio_tokens") or 0
    completion = usage.get("completion_tokens") or 0
    reasoning = made.get("reasoning_tokens") or 0
    if reasoning and usage.get("total_tokens") == prompt + completion + reasoning:
        completion += reasoning
    reasoning = min(reasoning, completion)
    return Tokens(
        input=prompt - read - written - heard, cache_read=read, written=written, audio_input=heard,
        output=completion - reasoning - spoken, reasoning=reasoning, audio_output=spoken,
    )


def cost_of(usage: Any) -> Decimal | None:
    """OpenRouter's bill: `cost`, and what the customer's own provider bills where its key is used there."""
    cost = usage.get("cost")
    if cost is None:
        return None
    total = Decimal(cost)
    if usage.get("is_byok") is True:
        details = usage.get("cost_details") or {}
        upstream = details.get("upstream_inference_cost")
        if upstream is None:
            return None
        total += Decimal(upstream)
    return total
