"""The Responses API read by the official openai package: recordings, and what the gateway answers.

The package decodes the stream and types every event; what a stream says is told by its events, and by its last
`response` where it reached one. Only the billed cost is read from the JSON.
"""

from collections import Counter
from collections.abc import Sequence
from typing import Any

import httpx2
import openai
from openai.types.responses import Response

from tools.fidelity.answers import Answer, Call, Choice, Tokens, exact_json, payloads
from tools.fidelity.read_openai import cost_of

# Calls that the caller answers, and calls that the provider runs and bills by the piece.
_CALLERS = frozenset({
    "function_call", "custom_tool_call", "computer_call", "local_shell_call", "shell_call", "apply_patch_call",
    "mcp_approval_request",
})
_BILLED = {
    "web_search_call": "web_search", "file_search_call": "file_search", "code_interpreter_call": "code_interpreter",
    "image_generation_call": "image_generation",
}
_LAST = ("response.completed", "response.incomplete", "response.failed")


class ResponsesReader:
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

    def read(self, body: bytes, streamed: bool) -> Answer:
        """A 200 body of the Responses API."""
        self._body, self._type = body, "text/event-stream" if streamed else "application/json"
        return self._stream(body) if streamed else self._whole(body)

    def _whole(self, body: bytes) -> Answer:
        answer = Answer()
        value = exact_json(body.decode("utf-8", "replace"))
        if not isinstance(value, dict) or (value.get("object") != "response" and "output" not in value):
            answer.error = "not a response"
            answer.error_body = value.get("error") if isinstance(value, dict) else None
            return answer
        _take_response(answer, self._client.responses.create(model="any", input="any"), value)
        return answer

    def _stream(self, body: bytes) -> Answer:
        answer = Answer(cut=True)
        partial = Choice()
        try:
            for event in self._client.responses.create(model="any", input="any", stream=True):
                _take_event(answer, partial, event)
        except openai.APIError as error:
            answer.error, answer.error_body = error.message or "error", error.body
        except ValueError as error:
            answer.error = answer.error or f"not JSON: {error}"
        for payload in payloads(body):
            value = exact_json(payload)
            if isinstance(value, dict) and value.get("type") in _LAST and isinstance(value.get("response"), dict):
                _take_usage(answer, value["response"])
        if not answer.choices or answer.failed:
            # What arrived before it broke off, or what the last event does not repeat.
            answer.choices = {0: partial}
        said = answer.choices[0]
        said.text, said.reasoning = said.text or partial.text, said.reasoning or partial.reasoning
        answer.cut = answer.cut and not answer.error
        return answer


def _take_event(answer: Answer, partial: Choice, event: Any) -> None:
    match event.type:
        case "response.created":
            answer.id, answer.model = event.response.id or "", event.response.model or ""
        case "response.output_text.delta":
            partial.text += event.delta or ""
        case "response.refusal.delta":
            partial.refusal += event.delta or ""
        case "response.reasoning_text.delta" | "response.reasoning_summary_text.delta":
            partial.reasoning += event.delta or ""
        case "error":
            body = event.to_dict(mode="json")
            answer.error, answer.error_body = event.message or "error", body.get("error") or body
        case kind if kind in _LAST:
            answer.cut = False
            _take_response(answer, event.response, {})


def _take_response(answer: Answer, response: Response, value: Any) -> None:
    answer.id, answer.model = response.id or answer.id, response.model or answer.model
    said = answer.choices[0] = Choice()
    items = response.output or []
    for item in items:
        _take_item(said, item)
    answer.pieces = _pieces(items)
    _take_usage(answer, value)
    reason = response.incomplete_details.reason if response.incomplete_details else None
    match response.status:
        case "queued" | "in_progress":
            answer.cut = True
        case "cancelled":
            answer.error, answer.error_body = "cancelled", {"message": "cancelled"}
        case "incomplete":
            said.finish = "content_filter" if reason == "content_filter" else "length"
        case "failed":
            answer.error = answer.error or (response.error.message if response.error else "") or "failed"
            answer.error_body = answer.error_body or (response.error.to_dict(mode="json") if response.error else None)
        case _:
            said.finish = "tool_calls" if _waits(items) else "stop"


def _take_item(said: Choice, item: Any) -> None:
    match item.type:
        case "message":
            for part in item.content or []:
                said.text += getattr(part, "text", None) or ""
                said.refusal += getattr(part, "refusal", None) or ""
        case "reasoning":
            pieces = [*(item.summary or []), *(getattr(item, "content", None) or [])]
            said.reasoning += "".join(getattr(piece, "text", None) or "" for piece in pieces)
        case "function_call":
            said.calls.append(Call(item.call_id or "", item.name or "", item.arguments or ""))
        case "custom_tool_call":
            said.calls.append(Call(item.call_id or "", item.name or "", item.input or ""))


def _waits(items: Sequence[Any]) -> bool:
    """Whether the caller has to do something before the conversation can go on: run a tool, or allow one."""
    done = {getattr(item, "call_id", None) for item in items if item.type.endswith("_output")}
    return any(
        (item.type in _CALLERS and getattr(item, "call_id", "") not in done)
        or (item.type == "tool_search_call" and getattr(item, "execution", "") == "client")
        for item in items
    )


def _pieces(items: Sequence[Any]) -> dict[str, int]:
    """Uses of the provider's own tools that it bills beside the tokens; opening a page is no search."""
    found = Counter(
        _BILLED[item.type] for item in items
        if item.type in _BILLED and getattr(getattr(item, "action", None), "type", "search") == "search"
    )
    return dict(found)


def _take_usage(answer: Answer, value: Any) -> None:
    usage = value.get("usage")
    if not isinstance(usage, dict) or not isinstance(usage.get("input_tokens"), int):
        return
    answer.tokens = tokens_of(usage)
    answer.cost_usd = cost_of(usage)
    answer.report = {"model": value.get("model"), "usage": usage}
    answer.tier = str(value.get("service_tier") or "")


def tokens_of(usage: Any) -> Tokens:
    """Cached tokens are inside the input's, reasoning inside the output's."""
    given = usage.get("input_tokens_details") or {}
    made = usage.get("output_tokens_details") or {}
    prompt, output = usage["input_tokens"], usage.get("output_tokens") or 0
    read = min(given.get("cached_tokens") or 0, prompt)
    written = min(given.get("cache_write_tokens") or 0, prompt - read)
    reasoning = min(made.get("reasoning_tokens") or 0, output)
    return Tokens(
        input=prompt - read - written, cache_read=read, written=written, output=output - reasoning,
        reasoning=reasoning,
    )
