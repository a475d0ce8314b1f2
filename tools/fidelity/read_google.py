"""Gemini's answers read straight from their JSON, in the words of the chat dialect.

The types of the official package refuse fields that the service has added since, so they read nothing here.
"""

import json
from collections.abc import Mapping
from itertools import pairwise
from typing import Any

from tools.fidelity.answers import Answer, Call, Choice, Tokens, payloads

_REFUSED = frozenset({
    "SAFETY", "RECITATION", "LANGUAGE", "OTHER", "BLOCKLIST", "PROHIBITED_CONTENT", "SPII", "IMAGE_SAFETY",
    "IMAGE_PROHIBITED_CONTENT", "IMAGE_RECITATION", "IMAGE_OTHER",
})
UNUSABLE = frozenset({
    "MALFORMED_FUNCTION_CALL", "UNEXPECTED_TOOL_CALL", "TOO_MANY_TOOL_CALLS", "MISSING_THOUGHT_SIGNATURE",
    "MALFORMED_RESPONSE", "NO_IMAGE",
})


def read_google(body: bytes, streamed: bool) -> Answer:
    """A 200 body of generateContent, or of streamGenerateContent as server-sent events."""
    answer = Answer()
    said = answer.choice(0)
    native, blocked = "", ""
    counts: dict[str, Any] = {}
    for text in payloads(body) if streamed else [body.decode("utf-8", "replace")]:
        try:
            value = json.loads(text)
        except ValueError:
            answer.error = "not JSON"
            break
        if not isinstance(value, dict):
            answer.error = "not an object"
            break
        if value.get("error"):
            answer.error, answer.error_body = "an error inside a 200", value["error"]
            break
        answer.id = answer.id or value.get("responseId") or ""
        answer.model = answer.model or value.get("modelVersion") or ""
        counts |= {name: count for name, count in (value.get("usageMetadata") or {}).items() if count is not None}
        for candidate in value.get("candidates") or []:
            if not candidate.get("index"):
                _take_parts(said, candidate.get("content") or {})
                native = candidate.get("finishReason") or native
        feedback = value.get("promptFeedback") or {}
        if feedback.get("blockReason"):
            blocked, said.refusal = feedback["blockReason"], feedback.get("blockReasonMessage") or ""
    _finish(answer, native, blocked)
    if any(name.endswith("TokenCount") for name in counts):
        answer.tokens = tokens_of(counts)
        answer.report = {"modelVersion": answer.model, "usageMetadata": counts}
    return answer


def _take_parts(said: Choice, content: Mapping[str, Any]) -> None:
    for part in content.get("parts") or []:
        if part.get("thoughtSignature"):
            said.signatures.append(part["thoughtSignature"])
        if "functionCall" in part:
            _take_call(said, part["functionCall"])
        elif part.get("thought"):
            said.reasoning += part.get("text") or ""
        else:
            said.text += part.get("text") or ""


def _take_call(said: Choice, call: Mapping[str, Any]) -> None:
    """A named call is a new one; what has no name continues the one before, piece by piece."""
    if call.get("name"):
        said.calls.append(Call(call.get("id") or "", call["name"], "{}"))
    if not said.calls:
        return
    arguments = json.loads(said.calls[-1].arguments) | (call.get("args") or {})
    for piece in call.get("partialArgs") or []:
        _put(arguments, _steps(piece.get("jsonPath") or "$"), piece)
    said.calls[-1].arguments = json.dumps(arguments)


def _steps(path: str) -> list[str | int]:
    """`$.a.b[0].c` as ["a", "b", 0, "c"]."""
    steps: list[str | int] = []
    for name in path.removeprefix("$").strip(".").split("."):
        head, *indices = name.replace("]", "").split("[")
        steps += [head] if head else []
        steps += [int(index) for index in indices]
    return steps


def _put(target: Any, steps: list[str | int], piece: Mapping[str, Any]) -> None:
    """Set the value at a path, making objects and lists on the way; texts grow."""
    for step, following in pairwise(steps):
        empty: Any = [] if isinstance(following, int) else {}
        target = _at(target, step, empty)
    last = steps[-1]
    if "stringValue" in piece:
        before = _at(target, last, "")
        target[last] = (before if isinstance(before, str) else "") + piece["stringValue"]
        return
    _at(target, last, None)
    target[last] = piece.get("numberValue", piece.get("boolValue"))


def _at(target: Any, step: str | int, empty: Any) -> Any:
    if isinstance(step, int):
        while len(target) <= step:
            target.append(None)
        if target[step] is None:
            target[step] = empty
    elif target.get(step) is None:
        target[step] = empty
    return target[step]


def _finish(answer: Answer, native: str, blocked: str) -> None:
    said = answer.choice(0)
    if blocked and not native:
        said.finish = "content_filter"
    elif native in UNUSABLE:
        answer.error, answer.error_body = native, {"finishReason": native}
    elif native == "MAX_TOKENS":
        said.finish = "length"
    elif native in _REFUSED:
        said.finish = "content_filter"
    elif native:
        said.finish = "tool_calls" if said.calls else "stop"
    else:
        answer.cut = not answer.error


def tokens_of(counts: Mapping[str, Any]) -> Tokens:
    """The prompt includes the cached part; candidates exclude thoughts; what tools brought is read beside it."""
    prompt, read = counts.get("promptTokenCount") or 0, counts.get("cachedContentTokenCount") or 0
    output = counts.get("candidatesTokenCount") or 0
    heard = max(0, _of_kind(counts, "promptTokensDetails") - _of_kind(counts, "cacheTokensDetails"))
    spoken = _of_kind(counts, "candidatesTokensDetails")
    return Tokens(
        input=prompt - read - heard + (counts.get("toolUsePromptTokenCount") or 0), cache_read=read,
        output=output - spoken, reasoning=counts.get("thoughtsTokenCount") or 0, audio_input=heard,
        audio_output=spoken,
    )


def _of_kind(counts: Mapping[str, Any], name: str, kind: str = "AUDIO") -> int:
    rows = counts.get(name) or []
    return sum(row.get("tokenCount") or 0 for row in rows if row.get("modality") == kind)


def read_google_embeddings(body: bytes) -> Answer:
    """A 200 body of batchEmbedContents."""
    answer = Answer()
    try:
        value = json.loads(body)
        rows = value["embeddings"]
        answer.vectors = [[float(number) for number in row["values"]] for row in rows]
    except (ValueError, KeyError, TypeError):
        answer.error = "no vectors"
        return answer
    counts = value.get("usageMetadata") or {}
    if isinstance(counts.get("promptTokenCount"), int):
        answer.tokens = Tokens(input=counts["promptTokenCount"])
        answer.report = {"usageMetadata": counts}
    return answer
