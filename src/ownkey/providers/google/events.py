"""Gemini's answers, streamed or whole, as neutral events: a whole answer is a stream of one chunk."""

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from ownkey.domain.conversation import (
    Annotations,
    Event,
    FinishReason,
    ReasoningDelta,
    RefusalDelta,
    Started,
    TextDelta,
    ToolCallDelta,
    ToolCallStart,
    UsageReport,
)
from ownkey.domain.failures import Failure, FailureClass
from ownkey.providers.classify import UNREADABLE, read_error_object
from ownkey.providers.google.encode import REASONING_FORMAT
from ownkey.providers.google.failures import FAILURES
from ownkey.providers.google.partial_args import BadPath, PartialArgs
from ownkey.providers.google.usage import usage_of
from ownkey.providers.sse import SseFrame
from ownkey.providers.translated import AnswerReader, broken

# Reasons that end an answer because of what it would have said (google-genai 3.4, FinishReason).
_WITHHELD = frozenset(
    {
        "SAFETY",
        "RECITATION",
        "LANGUAGE",
        "OTHER",
        "BLOCKLIST",
        "PROHIBITED_CONTENT",
        "SPII",
        "IMAGE_SAFETY",
        "IMAGE_PROHIBITED_CONTENT",
        "IMAGE_RECITATION",
        "IMAGE_OTHER",
        "ESCALATION",
        "PUP_LIMITED_DISABLED",
        "MODEL_ARMOR",
    }
)
# Reasons that end an answer at a limit of tokens, its own or the request's.
_CUT_OFF = frozenset({"MAX_TOKENS", "CONTINUATION"})
# Reasons that end an answer because the model's output cannot be used.
_UNUSABLE = frozenset(
    {
        "MALFORMED_FUNCTION_CALL",
        "UNEXPECTED_TOOL_CALL",
        "TOO_MANY_TOOL_CALLS",
        "MISSING_THOUGHT_SIGNATURE",
        "MALFORMED_RESPONSE",
        "NO_IMAGE",
    }
)


_NOTHING = msgspec.Raw()


class _Call(msgspec.Struct, rename="camel"):
    id: str | None = None
    name: str | None = None
    args: dict[str, Any] | None = None
    partial_args: list[dict[str, Any]] | None = None
    will_continue: bool = False


class _Part(msgspec.Struct, rename="camel"):
    text: str | None = None
    thought: bool = False
    thought_signature: str | None = None
    function_call: _Call | None = None
    inline_data: msgspec.Raw = _NOTHING
    file_data: msgspec.Raw = _NOTHING

    @property
    def holds_media(self) -> bool:
        """Whether the part is an image, sound or a file."""
        return any(data is not _NOTHING and bytes(data) != b"null" for data in (self.inline_data, self.file_data))


class _Content(msgspec.Struct):
    parts: list[_Part] | None = None


class _Candidate(msgspec.Struct, rename="camel"):
    content: _Content | None = None
    finish_reason: str | None = None
    finish_message: str | None = None
    index: int = 0
    grounding_metadata: dict[str, Any] | None = None


class _Chunk(msgspec.Struct, rename="camel"):
    candidates: list[_Candidate] | None = None
    prompt_feedback: dict[str, Any] | None = None
    usage_metadata: dict[str, Any] | None = None
    model_version: str = ""
    response_id: str = ""
    error: Any = None


_CHUNKS = msgspec.json.Decoder(_Chunk)
_BLANK = b" \t\r\n"


class GenerateReader(AnswerReader):
    """Reads one answer of generateContent or streamGenerateContent."""

    def __init__(self) -> None:
        super().__init__(FAILURES.judge_error)
        self._started = False
        self._usage: dict[str, Any] = {}
        self._calls = 0
        self._open_call: PartialArgs | None = None
        self._piece = -1
        self._in_thought = False
        self._text = ""

    def read_frame(self, frame: SseFrame) -> Sequence[Event]:
        """The events of one frame."""
        if frame.data is None or frame.raw.lstrip(_BLANK)[:1] in (b"{", b"["):
            # An overloaded model has answered with bare, pretty-printed JSON in the middle of a stream.
            return self._read_bare(frame)
        return self._read_json(frame.data, frame.partial)

    def read_whole(self, body: bytes) -> Sequence[Event]:
        """The events of a whole answer."""
        events = [*self._read_json(body, partial=False), *self._fail_unless_complete("body without an answer")]
        self.seen.ended = True
        return events

    def _read_json(self, data: bytes, partial: bool) -> Sequence[Event]:
        try:
            chunk = _CHUNKS.decode(data)
        except UNREADABLE:
            document = read_error_object(data)
            if document is not None and "error" in document:
                return self._fail(self._judge(document["error"]))
            return self._fail_or_ignore(broken("stream cut" if partial else "malformed event"))
        if chunk.error is not None:
            return self._fail(self._judge(chunk.error))
        return self._read(chunk)

    def _read(self, chunk: _Chunk) -> Sequence[Event]:
        events: list[Event] = []
        if not self._started:
            self._started = True
            self.seen.response_id = chunk.response_id or None
            self.seen.model = chunk.model_version or None
            events.append(Started(chunk.response_id, chunk.model_version))
        reported = self._report(chunk.usage_metadata)
        was_complete = self.seen.complete
        for candidate in chunk.candidates or ():
            if candidate.index == 0:
                events += self._candidate(candidate)
        blocked = (chunk.prompt_feedback or {}).get("blockReason")
        if isinstance(blocked, str) and not self.seen.complete:
            said = (chunk.prompt_feedback or {}).get("blockReasonMessage")
            text = said if isinstance(said, str) and said else f"The provider blocked the prompt ({blocked})."
            events += (RefusalDelta(text), self._finished(FinishReason.CONTENT_FILTER, blocked))
        if self.seen.usage is not None and self.seen.complete and (reported or not was_complete):
            events.append(UsageReport(self.seen.usage))
        return events

    def _candidate(self, candidate: _Candidate) -> Sequence[Event]:
        events: list[Event] = []
        try:
            for part in (candidate.content and candidate.content.parts) or ():
                if part.holds_media:
                    # Nobody asked for it, and no event could carry it: without it the answer would only look whole.
                    said = "The answer holds media that cannot be carried."
                    return (*events, *self._fail(Failure(FailureClass.BAD_OUTPUT, "200 inlineData", said, 200)))
                events += self._part(part)
        except BadPath:
            return (*events, *self._fail(broken("malformed function arguments")))
        events += self._citations(candidate.grounding_metadata)
        native = candidate.finish_reason
        if not native:
            return events
        events += self._close_call()
        if native in _UNUSABLE:
            self.seen.complete = True  # What it used is told with it, and is billed.
            said = candidate.finish_message or "The model's output could not be used."
            return (*events, *self._fail(Failure(FailureClass.BAD_OUTPUT, f"200 {native}", said, 200)))
        if native in _CUT_OFF:
            reason = FinishReason.LENGTH
        elif native in _WITHHELD:
            reason = FinishReason.CONTENT_FILTER
            if not self.seen.content and candidate.finish_message:
                events.append(RefusalDelta(candidate.finish_message))
        else:
            reason = FinishReason.TOOL_CALLS if self._calls else FinishReason.STOP
        if self.seen.finish_reason == reason.value:
            return events  # Some models repeat it on every chunk; an answer finishes once.
        return (*events, self._finished(reason, native))

    def _part(self, part: _Part) -> Sequence[Event]:
        if part.function_call is not None:
            return self._call(part.function_call, part.thought_signature)
        if part.thought:
            return self._thought(part.text or "", part.thought_signature)
        events: list[Event] = []
        if part.text:
            self._in_thought = False
            self._saw(part.text)
            self._text += part.text
            events.append(TextDelta(part.text))
        if part.thought_signature:
            events.append(self._encrypted(part.thought_signature))
        return events

    def _thought(self, text: str, signature: str | None) -> Sequence[Event]:
        if not self._in_thought:
            self._in_thought = True
            self._piece += 1
        detail: dict[str, Any] = {"type": "reasoning.text", "format": REASONING_FORMAT, "index": self._piece}
        if text:
            self._saw(text)
            detail["text"] = text
        if signature:
            detail["signature"] = signature
        return (ReasoningDelta(text, (detail,)),) if text or signature else ()

    def _encrypted(self, signature: str) -> Event:
        """The opaque signature of a text, in the shape in which OpenRouter carries Gemini's."""
        self._in_thought = False
        self._piece += 1
        detail = {"type": "reasoning.encrypted", "data": signature, "format": REASONING_FORMAT}
        return ReasoningDelta("", (detail | {"index": self._piece},))

    def _call(self, call: _Call, signature: str | None) -> Sequence[Event]:
        events: list[Event] = []
        if call.name:
            events += self._close_call()
            self._in_thought = False
            call_id = call.id or self._make_id(call.name)
            events.append(ToolCallStart(self._calls, call_id, call.name, signature or None))
            self._calls += 1
            self.seen.content = True
            self._open_call = PartialArgs()
        if self._open_call is None:
            return events
        if call.args:
            self._open_call.value |= call.args
        for piece in call.partial_args or ():
            self._open_call.add(piece)
        if not call.will_continue:
            events += self._close_call()
        return events

    def _close_call(self) -> Sequence[Event]:
        if self._open_call is None:
            return ()
        text = msgspec.json.encode(self._open_call.value).decode()
        self._open_call = None
        self._saw(text)
        return (ToolCallDelta(self._calls - 1, text),)

    def _make_id(self, name: str) -> str:
        """Gemini mostly names no calls: an id from what the answer itself says is the same on every reading."""
        basis = f"{self.seen.response_id or ''}\n{self._calls}\n{name}"
        return "call_" + hashlib.sha256(basis.encode()).hexdigest()[:24]

    def _citations(self, grounding: dict[str, Any] | None) -> Sequence[Event]:
        """Web sources of the text so far; Gemini counts bytes, the chat dialect characters."""
        if not grounding:
            return ()
        sources = _dicts(grounding.get("groundingChunks"))
        raw = self._text.encode("utf-8", "surrogatepass")
        items = []
        for support in _dicts(grounding.get("groundingSupports")):
            segment = support.get("segment")
            start, end = (_characters(raw, segment, name) for name in ("startIndex", "endIndex"))
            indices = support.get("groundingChunkIndices")
            for index in indices if isinstance(indices, list) else ():
                web = sources[index].get("web") if isinstance(index, int) and 0 <= index < len(sources) else None
                if isinstance(web, dict) and isinstance(web.get("uri"), str):
                    citation = {"url": web["uri"], "title": web.get("title") or ""}
                    span = {"start_index": start, "end_index": end}
                    items.append({"type": "url_citation", "url_citation": citation | span})
        return (Annotations(tuple(items)),) if items else ()

    def _report(self, usage: Mapping[str, Any] | None) -> bool:
        """Reports are cumulative: the last value of each counter holds. False if this one counts nothing."""
        if not usage or not any(name.endswith("TokenCount") for name in usage):
            return False
        self._usage |= {name: value for name, value in usage.items() if value is not None}
        self.seen.usage = usage_of(self._usage)
        return True


def _dicts(value: object) -> list[dict[str, Any]]:
    """The entries of a list, each as an object (an empty one for what is none): positions are references."""
    return [entry if isinstance(entry, dict) else {} for entry in value] if isinstance(value, list) else []


def _characters(raw: bytes, segment: object, name: str) -> int:
    offset = segment.get(name) if isinstance(segment, dict) else None
    return len(raw[:offset].decode(errors="ignore")) if isinstance(offset, int) and offset > 0 else 0
