"""Compares what came out of the gateway with what the recording says, field by field."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from tools.fidelity.answers import Answer, Choice, Tokens, exact_json, payloads
from tools.fidelity.asking import DIRECT, Asked, native_of
from tools.fidelity.caller import Reply
from tools.fidelity.classes import CODES, STOPS, class_of_answer, class_of_error
from tools.fidelity.expected_cost import list_price_nusd
from tools.fidelity.read_anthropic import AnthropicReader
from tools.fidelity.read_google import read_google
from tools.fidelity.read_openai import OpenAIReader
from tools.fidelity.recordings import Recording
from tools.fidelity.replay import Seat

SHOWN = 160
COST_TOLERANCE = 0.01
# What the gateway may change in a body that passes through (docs: "Passthrough edits").
_EDITED = ("model", "stream_options", "max_completion_tokens", "max_tokens", "provider")


@dataclass(frozen=True, slots=True)
class Difference:
    """One field that is not as recorded."""

    field: str
    recorded: Any
    got: Any

    def __str__(self) -> str:
        return f"{self.field}: recorded {_short(self.recorded)}, got {_short(self.got)}"


@dataclass(frozen=True, slots=True)
class Case:
    """Everything one replayed exchange left behind."""

    recording: Recording
    asked: Asked
    seat: Seat
    reply: Reply
    receipt: Mapping[str, Any]

    @property
    def attempts(self) -> list[Mapping[str, Any]]:
        """The attempts on the recorded route."""
        return [a for a in self.receipt.get("attempts") or [] if a.get("provider") == self.recording.provider]

    @property
    def passes_through(self) -> bool:
        return self.recording.provider in ("openai", "openrouter")


class Comparer:
    """Holds the readers, which are costly to make."""

    def __init__(self) -> None:
        self._openai = OpenAIReader()
        self._anthropic = AnthropicReader()

    def compare(self, case: Case) -> list[Difference]:
        """Every difference; none means agreement."""
        if not case.attempts:
            skips = [skip.get("why") for skip in case.receipt.get("skips") or []]
            said = case.reply.body[:200].decode("utf-8", "replace")
            return [Difference("route", case.recording.provider, {"skipped": skips, "said": said})]
        if case.recording.status != 200:
            cls = class_of_answer(case.recording.provider, case.recording.status, case.recording.body)
            return list(_compare_error(case, cls, case.recording.status))
        recorded = self.read_recorded(case.recording)
        if recorded.failed:
            return list(self._compare_failure(case, recorded))
        return list(self._compare_answer(case, recorded))

    def read_recorded(self, recording: Recording) -> Answer:
        """The recorded 200, read by the provider's own package or from its JSON."""
        if recording.streamed and recording.body.lstrip().startswith((b"{", b"[")):
            value = exact_json(recording.body.decode("utf-8", "replace"))
            error = value.get("error") if isinstance(value, dict) else None
            return Answer(error="JSON where a stream was asked for", error_body=error)
        match recording.provider:
            case "anthropic":
                return self._anthropic.read(recording.body, recording.streamed)
            case "google":
                return read_google(recording.body, recording.streamed)
            case _:
                return self._read(recording, recording.body)

    def read_reply(self, case: Case) -> Answer:
        """The gateway's 200 in OpenAI's dialect."""
        return self._read(case.recording, case.reply.body)

    def _read(self, recording: Recording, body: bytes) -> Answer:
        if recording.kind == "embeddings":
            return self._openai.read_embeddings(body)
        return self._openai.read_chat(body, recording.streamed)

    # --- answers

    def _compare_answer(self, case: Case, recorded: Answer) -> Iterator[Difference]:
        reply, attempt = case.reply, case.attempts[-1]
        yield from _equal("status", 200, reply.status)
        yield from _equal("receipt.attempts", [None], [a.get("failure") for a in case.attempts])
        if reply.status != 200:
            yield Difference("answer", "a good one", reply.body)
            return
        yield from _equal("connection", "", reply.broken)
        got = self.read_reply(case)
        yield from _equal("error", "", got.error)
        yield from _equal("cut", False, got.cut)
        yield from _equal("id", recorded.id or got.id, got.id)
        yield from _equal("model", recorded.model or got.model, got.model)
        yield from _compare_choices(case, recorded, got)
        if case.recording.kind == "embeddings":
            yield from _equal("vectors", recorded.vectors, got.vectors)
        yield from _compare_usage(case, recorded, got, attempt)
        yield from _compare_cost(case, recorded, attempt)
        if case.passes_through:
            yield from _compare_bytes(case)
        yield from _compare_request(case)

    # --- failures

    def _compare_failure(self, case: Case, recorded: Answer) -> Iterator[Difference]:
        """A 200 that says inside that it failed, or that ends too early."""
        unreadable = recorded.cut or recorded.error_body is None
        cls = "network" if unreadable else class_of_error(case.recording.provider, 200, recorded.error_body)
        if not case.recording.streamed or case.reply.status != 200:
            # Also where content came before the failure, in one piece with it: nothing was delivered yet.
            yield from _compare_error(case, cls, 200)
            return
        yield from _equal("receipt.class", cls, case.attempts[-1].get("failure"))
        got = self.read_reply(case)
        yield from _equal("error in the stream", True, bool(got.error))
        for index, choice in recorded.choices.items():
            said = got.choices.get(index, Choice())
            if not choice.text.startswith(said.text):
                yield Difference(f"choices[{index}].text begins", choice.text, said.text)


def _compare_error(case: Case, cls: str, status: int) -> Iterator[Difference]:
    """An error before any content: its class and status on the receipt, and what the caller hears."""
    for attempt in case.attempts:
        yield from _equal("receipt.class", cls, attempt.get("failure"))
        yield from _equal("receipt.status", status, attempt.get("status"))
    reply = case.reply
    if reply.status < 400 or not reply.raised:
        yield Difference("answer", "an error that the SDK raises", f"{reply.status} {reply.body[:SHOWN]!r}")
        return
    if case.recording.provider in DIRECT and cls not in STOPS:
        return  # The other route was tried and is replayed as down: the answer speaks of that one.
    yield from _equal("error.code", CODES[cls], _own_code(reply.body))
    if cls in STOPS and status >= 400:
        yield from _equal("status", status, reply.status)


def _own_code(body: bytes) -> Any:
    try:
        error = json.loads(body)["error"]
    except (ValueError, KeyError, TypeError):
        return body[:SHOWN]
    return (error.get("metadata") or {}).get("ownkey_code") or error.get("code")


def _compare_choices(case: Case, recorded: Answer, got: Answer) -> Iterator[Difference]:
    yield from _equal("choices", sorted(recorded.choices), sorted(got.choices))
    for index, choice in recorded.choices.items():
        said = got.choices.get(index, Choice())
        for name in ("text", "refusal", "reasoning", "finish"):
            yield from _equal(f"choices[{index}].{name}", getattr(choice, name), getattr(said, name))
        yield from _equal(
            f"choices[{index}].calls", [c.value() for c in choice.calls], [c.value() for c in said.calls]
        )
        ids = [(a.id, b.id) for a, b in zip(choice.calls, said.calls, strict=False) if a.id]
        yield from _equal(f"choices[{index}].call ids", [a for a, _ in ids], [b for _, b in ids])
    if recorded.choices:
        first = recorded.choices[min(recorded.choices)]
        yield from _equal("receipt.finish_reason", first.finish, case.receipt.get("finish_reason"))


# --- usage and cost


def _compare_usage(
    case: Case, recorded: Answer, got: Answer, attempt: Mapping[str, Any]
) -> Iterator[Difference]:
    shown = recorded.tokens if not case.recording.streamed or case.asked.wants_usage else None
    yield from _equal("usage for the caller", shown, got.tokens)
    if recorded.tokens is None:
        if attempt.get("basis") not in ("estimated", "unknown", "none"):
            yield Difference("receipt.basis", "no usage was reported", attempt.get("basis"))
        return
    yield from _equal("receipt.usage", recorded.tokens, tokens_of_receipt(attempt.get("usage") or {}))


def tokens_of_receipt(usage: Mapping[str, Any]) -> Tokens:
    return Tokens(
        input=usage.get("input", 0), cache_read=usage.get("cache_read", 0),
        written=usage.get("cache_write_5m", 0) + usage.get("cache_write_1h", 0), output=usage.get("output", 0),
        reasoning=usage.get("reasoning", 0), audio_input=usage.get("audio_input", 0),
        audio_output=usage.get("audio_output", 0),
    )


def _compare_cost(case: Case, recorded: Answer, attempt: Mapping[str, Any]) -> Iterator[Difference]:
    if recorded.tokens is None or recorded.report is None:
        return
    stated = attempt.get("cost_nusd")
    got = None if stated is None else int(stated)
    recording = case.recording
    if recorded.cost_nusd is not None:
        yield from _equal("receipt.cost_nusd", recorded.cost_nusd, got)
        yield from _equal("receipt.basis", "actual", attempt.get("basis"))
        return
    if recording.provider == "openrouter":
        return
    prices = (
        list_price_nusd(recording.provider, recording.kind, model, recorded.report)
        for model in (recorded.model, native_of(recording)) if model
    )
    listed = next((price for price in prices if price is not None), None)
    if listed is None or got is None:
        yield from _equal("receipt.cost_nusd (list price)", listed, got)
    elif abs(listed - got) > max(1, listed * COST_TOLERANCE):
        yield Difference("receipt.cost_nusd (list price, 1%)", listed, got)


# --- what passes through


def _compare_bytes(case: Case) -> Iterator[Difference]:
    if not case.recording.streamed:
        yield from _equal("bytes", case.recording.body, case.reply.body)
        return
    recorded, got = payloads(case.recording.body), payloads(case.reply.body)
    if recorded and recorded[-1] != "[DONE]":
        # The end was supplied; an event that broke off after a whole answer goes to nobody.
        recorded = [*recorded[:-1], *recorded[-1:][: exact_json(recorded[-1]) is not None], "[DONE]"]
    if case.asked.wants_usage:
        yield from _equal("events", recorded, got)
        return
    left = list(got)
    for payload in recorded:
        if left and left[0] == payload:
            left.pop(0)
        elif not _reports_usage(payload):
            yield Difference("events", payload, left[:1])
            return
    yield from _equal("events", [], left)


def _reports_usage(payload: str) -> bool:
    try:
        return bool(json.loads(payload).get("usage"))
    except (ValueError, AttributeError):
        return False


def _compare_request(case: Case) -> Iterator[Difference]:
    """What the upstream was asked: the recorded endpoint and model; the caller's own body where it passes through."""
    if not case.seat.requests:
        yield Difference("request", "one", "none")
        return
    recording, (target, got) = case.recording, case.seat.requests[-1]
    body = got if isinstance(got, dict) else {}
    if recording.provider == "google":
        act = "streamGenerateContent?alt=sse" if recording.streamed else "generateContent"
        yield from _equal("request.target", f"/models/{native_of(recording)}:{act}", target)
        return
    own = "/messages" if recording.provider == "anthropic" else "/chat/completions"
    yield from _equal("request.target", "/embeddings" if recording.kind == "embeddings" else own, target)
    yield from _equal("request.model", native_of(recording), body.get("model"))
    yield from _equal("request.stream", recording.streamed, body.get("stream", False) is True)
    if case.passes_through and isinstance(case.reply.sent, dict):
        yield from _equal("request", _without_edits(case.reply.sent), _without_edits(body))


def _without_edits(body: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in body.items() if name not in _EDITED}


def _equal(field: str, recorded: Any, got: Any) -> Iterator[Difference]:
    if recorded != got:
        yield Difference(field, recorded, got)


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}… ({len(text)} characters)"
