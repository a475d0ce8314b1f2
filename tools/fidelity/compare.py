"""Compares what came out of the gateway with what the recording says, field by field."""

import json
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import anthropic
import openai

from tools.fidelity.answers import Answer, Choice, Tokens, exact_json, payloads
from tools.fidelity.asking import Asked, Door, is_own
from tools.fidelity.bodies import Recording
from tools.fidelity.caller import Reply
from tools.fidelity.classes import ANTHROPIC_TYPES, CODES, STOPS, class_of_answer, class_of_error
from tools.fidelity.expected_cost import list_price_nusd
from tools.fidelity.passed_through import differing_bytes, differing_request, disorder, ends_well
from tools.fidelity.read_anthropic import AnthropicReader, read_count
from tools.fidelity.read_google import read_google, read_google_embeddings
from tools.fidelity.read_openai import OpenAIReader
from tools.fidelity.read_responses import ResponsesReader
from tools.fidelity.replay import Seat

SHOWN = 160
COST_TOLERANCE = 0.01


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
    def own(self) -> bool:
        return is_own(self.recording, self.asked.door)


class Comparer:
    """Holds the readers, which are costly to make."""

    def __init__(self) -> None:
        self._openai = OpenAIReader()
        self._anthropic = AnthropicReader()
        self._responses = ResponsesReader()
        self._read_before: dict[int, tuple[Recording, Answer]] = {}

    def compare(self, case: Case) -> list[Difference]:
        """Every difference; none means agreement."""
        if not case.attempts:
            if self.class_of(case.recording) == "model_missing" and own_code(case.reply.body) == CODES["model_missing"]:
                return []  # The gateway knows as well that there is no such model.
            skips = [skip.get("why") for skip in case.receipt.get("skips") or []]
            said = case.reply.body[:200].decode("utf-8", "replace")
            return [Difference("route", case.recording.provider, {"skipped": skips, "said": said})]
        if case.recording.status != 200:
            return list(_compare_error(case, self.class_of(case.recording), case.recording.status))
        recorded = self.recorded(case.recording)
        if recorded.failed:
            return list(self._compare_failure(case, recorded))
        return list(self._compare_answer(case, recorded))

    def class_of(self, recording: Recording) -> str:
        """The failure class that a recording must end in; "" for a good answer."""
        if recording.status != 200:
            return class_of_answer(recording.provider, recording.status, recording.body)
        answer = self.recorded(recording)
        if not answer.failed:
            return ""
        unreadable = answer.cut or answer.error_body is None
        return "network" if unreadable else class_of_error(recording.provider, 200, answer.error_body)

    def recorded(self, recording: Recording) -> Answer:
        """The recorded 200, read once for all its callers."""
        if id(recording) not in self._read_before:
            self._read_before[id(recording)] = recording, self.read_recorded(recording)
        return self._read_before[id(recording)][1]

    def read_recorded(self, recording: Recording) -> Answer:
        """The recorded 200, read by the provider's own package or from its JSON."""
        if recording.streamed and recording.body.lstrip().startswith((b"{", b"[")):
            value = exact_json(recording.body.decode("utf-8", "replace"))
            error = value.get("error") if isinstance(value, dict) else None
            return Answer(error="JSON where a stream was asked for", error_body=error)
        match recording.kind:
            case "generate":
                return read_google(recording.body, recording.streamed)
            case "embed" | "batch_embed":
                return read_google_embeddings(recording.body)
            case kind:
                return self._read(kind, recording.body + _missing_end(recording), recording.streamed)

    def read_reply(self, case: Case) -> Answer:
        """The gateway's 200 in the caller's dialect."""
        return self._read(case.asked.door.speaks, case.reply.body, case.recording.streamed)

    def _read(self, kind: str, body: bytes, streamed: bool) -> Answer:
        match kind:
            case "embeddings":
                return self._openai.read_embeddings(body)
            case "responses":
                return self._responses.read(body, streamed)
            case "messages":
                return self._anthropic.read(body, streamed)
            case "count_tokens":
                return read_count(body)
            case _:
                return self._openai.read_chat(body, streamed)

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
        if case.recording.streamed:
            yield from _equal("a good end", True, ends_well(reply.body))
            yield from _equal("order of events", "", "" if case.own else disorder(case.asked.door, reply.body))
        yield from _equal("id", recorded.id or got.id, got.id)
        yield from _equal("model", recorded.model or got.model, got.model)
        yield from _compare_choices(case, recorded, got)
        yield from _equal("vectors", _singles(recorded.vectors), _singles(got.vectors))
        yield from _equal("count", recorded.counted, got.counted)
        if recorded.counted is None:
            yield from _compare_usage(case, recorded, got, attempt)
            yield from _compare_cost(case, recorded, attempt)
        else:
            yield from _equal("receipt.cost_nusd", 0, int(attempt.get("cost_nusd") or 0))
        if case.own:
            for found in differing_bytes(case.recording, case.asked, case.reply.body):
                yield Difference(*found)
        for found in differing_request(case.recording, case.asked, case.seat, case.reply.sent):
            yield Difference(*found)

    # --- failures

    def _compare_failure(self, case: Case, recorded: Answer) -> Iterator[Difference]:
        """A 200 that says inside that it failed, or that ends too early."""
        cls = self.class_of(case.recording)
        if not case.recording.streamed or case.reply.status != 200:
            # Also where content came before the failure, in one piece with it: nothing was delivered yet.
            yield from _compare_error(case, cls, 200)
            return
        yield from _equal("receipt.class", cls, case.attempts[-1].get("failure"))
        got = self.read_reply(case)
        yield from _equal("error in the stream", True, bool(got.error))
        yield from _equal("a good end", False, ends_well(case.reply.body))
        for index, choice in _comparable(case, recorded).items():
            said = got.choices.get(index, Choice())
            if not choice.text.startswith(said.text):
                yield Difference(f"choices[{index}].text begins", choice.text, said.text)


def _missing_end(recording: Recording) -> bytes:
    """The blank line that a stream's last event lacks, if the event is whole: the packages would leave it out, the
    gateway does not."""
    if not recording.streamed or recording.body.endswith(b"\n\n"):
        return b""
    last = payloads(recording.body)[-1:]
    return b"\n\n" if last and exact_json(last[0]) is not None else b""


def _compare_error(case: Case, cls: str, status: int) -> Iterator[Difference]:
    """An error before any content: its class and status on the receipt, and what the caller hears."""
    for attempt in case.attempts:
        yield from _equal("receipt.class", cls, attempt.get("failure"))
        yield from _equal("receipt.status", status, attempt.get("status"))
    reply = case.reply
    if reply.status < 400 or not reply.raised:
        yield Difference("answer", "an error that the SDK raises", f"{reply.status} {reply.body[:SHOWN]!r}")
        return
    if not _is_typed(case.asked.door, reply):
        yield Difference("raised", f"the package's error for {reply.status}", reply.raised)
    yield from _compare_envelope(case)
    if case.seat.fallbacks and cls not in STOPS:
        return  # The other route was tried and is replayed as down: the answer speaks of that one.
    yield from _equal("error.code", CODES[cls], own_code(reply.body))
    if cls in STOPS and status >= 400:
        yield from _equal("status", status, reply.status)


# Names of the packages' errors; what a package has no name for is its InternalServerError or APIStatusError.
_TYPED = {
    400: "BadRequestError", 401: "AuthenticationError", 402: "PaymentRequiredError", 403: "PermissionDeniedError",
    404: "NotFoundError", 409: "ConflictError", 413: "ContentTooLargeError", 422: "UnprocessableEntityError",
    429: "RateLimitError", 503: "ServiceUnavailableError", 504: "GatewayTimeoutError", 529: "OverloadedError",
}


def _is_typed(door: Door, reply: Reply) -> bool:
    """Whether the caller's package raised the error that it has for the status."""
    package = anthropic if door.speaks in ("messages", "count_tokens") else openai
    usual = "InternalServerError" if reply.status >= 500 else "APIStatusError"
    wanted = getattr(package, _TYPED.get(reply.status, usual), getattr(package, usual))
    raised = getattr(package, reply.raised, None)
    return isinstance(raised, type) and issubclass(raised, wanted)


def _compare_envelope(case: Case) -> Iterator[Difference]:
    """The form in which the caller's dialect says that it failed."""
    value = exact_json(case.reply.body.decode("utf-8", "replace"))
    error = value.get("error") if isinstance(value, dict) else None
    if not isinstance(error, dict) or not isinstance(error.get("message"), str):
        yield Difference("error envelope", "an error object with a message", case.reply.body)
        return
    if case.asked.door.speaks in ("messages", "count_tokens"):
        yield from _equal("error envelope.type", "error", value.get("type"))
        if error.get("type") not in ANTHROPIC_TYPES:
            yield Difference("error.type", "one of Anthropic's", error.get("type"))
    elif case.asked.door.base.startswith("/api"):
        yield from _equal("error.code", case.reply.status, error.get("code"))


def own_code(body: bytes) -> Any:
    """Ownkey's code in an error's body, where the dialect keeps it."""
    try:
        error = json.loads(body)["error"]
    except (ValueError, KeyError, TypeError):
        return body[:SHOWN]
    return (error.get("metadata") or {}).get("ownkey_code") or error.get("ownkey_code") or error.get("code")


def _comparable(case: Case, recorded: Answer) -> dict[int, Choice]:
    """The recorded choices that the caller's dialect can say: Anthropic's answers are one."""
    if case.own or case.asked.door.speaks != "messages" or not recorded.choices:
        return recorded.choices
    first = min(recorded.choices)
    return {first: _as_message(recorded.choices[first])}


def _as_message(choice: Choice) -> Choice:
    """What Anthropic's dialect makes of a choice of another: a refusal is text under a stop reason of its own, which
    also explains itself with it, and a call's input is always an object."""
    calls = []
    for call in choice.calls:
        _, value = call.value()
        arguments = call.arguments if isinstance(value, dict) else json.dumps({"INVALID_JSON": call.arguments})
        calls.append(replace(call, arguments=arguments))
    finish = "content_filter" if choice.refusal else choice.finish
    if calls and finish in ("stop", "function_call"):  # OpenAI says stop where the caller forced a named tool.
        finish = "tool_calls"
    return replace(choice, text=choice.text + choice.refusal, calls=calls, finish=finish)


def _compare_choices(case: Case, recorded: Answer, got: Answer) -> Iterator[Difference]:
    choices = _comparable(case, recorded)
    yield from _equal("choices", sorted(choices), sorted(got.choices))
    for index, choice in choices.items():
        said = got.choices.get(index, Choice())
        if not case.own and choice.finish == "content_filter" and not choice.text + choice.refusal:
            choice = replace(choice, text=said.text, refusal=said.refusal)  # Blocked without a word: ours stand there.
        for name in ("text", "refusal", "reasoning", "finish"):
            yield from _equal(f"choices[{index}].{name}", getattr(choice, name), getattr(said, name))
        if case.recording.provider in ("anthropic", "google"):
            yield from _equal(f"choices[{index}].signatures", sorted(choice.signatures), sorted(said.signatures))
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
    if not case.own and case.asked.door.speaks == "embeddings" and shown is None:
        shown = got.tokens  # OpenAI's answers always have usage: where Google tells none, it is estimated.
    if not case.own and case.asked.door.speaks == "messages" and got.tokens is not None:
        yield from _equal("usage for the caller", _folded(shown or got.tokens), _folded(got.tokens))
    else:
        yield from _equal("usage for the caller", shown, got.tokens)
    if recorded.tokens is None:
        if attempt.get("basis") not in ("estimated", "unknown", "none"):
            yield Difference("receipt.basis", "no usage was reported", attempt.get("basis"))
        return
    yield from _equal("receipt.usage", recorded.tokens, tokens_of_receipt(attempt.get("usage") or {}))


def _singles(vectors: list[list[float]] | None) -> list[list[float]] | None:
    """Vectors as single floats, which base64 carries and which all models make."""
    return vectors and [list(struct.unpack(f"<{len(row)}f", struct.pack(f"<{len(row)}f", *row))) for row in vectors]


def _folded(tokens: Tokens) -> Tokens:
    """In Anthropic's classes: no sound, and thinking is told apart from the output by few answers only."""
    return replace(
        tokens, input=tokens.input + tokens.audio_input, output=tokens.output + tokens.reasoning + tokens.audio_output,
        reasoning=0, audio_input=0, audio_output=0,
    )


def tokens_of_receipt(usage: Mapping[str, Any]) -> Tokens:
    return Tokens(
        input=usage.get("input", 0), cache_read=usage.get("cache_read", 0) + usage.get("audio_cache_read", 0),
        written=usage.get("cache_write_5m", 0) + usage.get("cache_write_1h", 0), output=usage.get("output", 0),
        reasoning=usage.get("reasoning", 0), audio_input=usage.get("audio_input", 0),
        audio_output=usage.get("audio_output", 0),
    )


def _compare_cost(case: Case, recorded: Answer, attempt: Mapping[str, Any]) -> Iterator[Difference]:
    if recorded.tokens is None or recorded.report is None:
        return
    stated = attempt.get("cost_nusd")
    known = attempt.get("basis") != "unknown"  # What stands there otherwise is a bound, not a cost.
    got = int(stated) if stated is not None and known else None
    recording = case.recording
    if recorded.cost_nusd is not None:
        yield from _equal("receipt.cost_nusd", recorded.cost_nusd, got)
        yield from _equal("receipt.basis", "actual", attempt.get("basis"))
        return
    if recording.provider == "openrouter":
        return
    listed = list_price_nusd(recording, recorded)
    if listed is None or got is None:
        yield from _equal("receipt.cost_nusd (list price)", listed, got)
    elif abs(listed - got) > max(1, listed * COST_TOLERANCE):
        yield Difference("receipt.cost_nusd (list price, 1%)", listed, got)


def _equal(field: str, recorded: Any, got: Any) -> Iterator[Difference]:
    if recorded != got:
        yield Difference(field, recorded, got)


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}… ({len(text)} characters)"
