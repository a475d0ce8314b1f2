"""Recorded bodies without a request, a status or headers: the body says by itself what it is."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from tools.fidelity.answers import frames

Kind = Literal["chat", "embeddings", "responses", "messages", "count_tokens", "generate", "embed", "batch_embed"]
"""The provider's endpoint: OpenAI's and OpenRouter's first three, Anthropic's two (`messages` at OpenRouter too),
Google's last three."""

PROVIDERS = ("openai", "openrouter", "anthropic", "google")
_FIRST_KIND: Mapping[str, Kind] = {
    "openai": "chat", "openrouter": "chat", "anthropic": "messages", "google": "generate",
}
# The status that a provider documents for an error's type (Anthropic) or status (Google), or sends with it (OpenAI).
_STATUSES = {
    "authentication_error": 401, "billing_error": 402, "permission_error": 403, "not_found_error": 404,
    "request_too_large": 413, "rate_limit_error": 429, "api_error": 500, "timeout_error": 504,
    "overloaded_error": 529, "insufficient_quota": 429, "rate_limit_exceeded": 429, "invalid_api_key": 401,
    "model_not_found": 404, "server_error": 500, "UNAUTHENTICATED": 401, "PERMISSION_DENIED": 403, "NOT_FOUND": 404,
    "RESOURCE_EXHAUSTED": 429, "INTERNAL": 500, "UNAVAILABLE": 503, "DEADLINE_EXCEEDED": 504,
}


@dataclass(frozen=True, slots=True)
class Recording:
    """One recorded exchange. `skip` says why it cannot be replayed, "" if it can.

    `streamed` is what the caller asked for; `body` the recorded bytes (a whole stream is one body). `request` is
    None where only the answer was kept. `model` is the provider's own id of the model, as the request named it.
    `betas` is what the caller said in Anthropic's header. `supposed` says what was not recorded and had to be guessed.
    """

    name: str
    provider: str
    kind: Kind = "chat"
    skip: str = ""
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    streamed: bool = False
    request: Mapping[str, Any] | None = None
    model: str = ""
    betas: str = ""
    supposed: str = ""


def read_body(name: str, provider: str, value: Any, text: str) -> Iterator[Recording]:
    """A whole answer, or a stream that was kept as an array."""
    if isinstance(value, list):
        if value and all(isinstance(item, dict) and kind_of_body(provider, item) for item in value):
            yield from read_events(name, provider, "\n".join(map(_dumped, value)), framed=False)
        return
    provider = provider if provider in PROVIDERS else provider_of_body(value) or provider
    read = Recording(name, provider)
    if provider not in PROVIDERS:
        yield replace(read, skip=f"provider not offered: {provider}" if provider else "a body of no known kind")
        return
    kind, status, supposed = kind_of_body(provider, value), 200, ""
    if value.get("error") is not None and kind is None:
        status, kind = status_of_error(provider, value), _FIRST_KIND[provider]
        supposed = "status and endpoint of an error body"
    if kind is None:
        yield replace(read, skip=f"endpoint not offered: a body of {provider}'s {_sort_of(value)}")
        return
    yield replace(
        read, kind=kind, status=status, body=fitting_answer(kind, status, False, text), supposed=supposed,
        model=body_model(value) or plain_model(provider),
    )


def read_events(name: str, provider: str, text: str, *, framed: bool) -> Iterator[Recording]:
    """A stream, as it came (`framed`) or as its events, one JSON value after the other. Several answers in one file
    are several streams."""
    events = [data for _, data in frames(text.encode("utf-8", "surrogateescape"))] if framed else list(_values(text))
    values = [(value, event) for event in events if isinstance(value := _loaded(event), dict)]
    provider = provider if provider in PROVIDERS else _first(provider_of_body(value) for value, _ in values) or provider
    read = Recording(name, provider, streamed=True)
    if provider not in PROVIDERS:
        yield replace(read, skip=f"provider not offered: {provider}" if provider else "a stream of no known kind")
        return
    realtime = any(str(value.get("type")).startswith(("session.", "conversation.")) for value, _ in values)
    kind = None if realtime else _first(kind_of_body(provider, value) for value, _ in values)
    if kind is None:
        sort = _sort_of(values[0][0] if values else {})
        yield replace(read, skip=f"endpoint not offered: a stream of {provider}'s {sort}")
        return
    read = replace(read, kind=kind, model=_first(body_model(value) for value, _ in values) or plain_model(provider))
    if framed:
        yield replace(read, body=text.encode("utf-8", "surrogateescape"))
        return
    end = "data: [DONE]\n\n" if kind == "chat" or (provider, kind) == ("openrouter", "responses") else ""
    for answer in _answers(provider, events):
        model = _first(body_model(_loaded(event)) for event in answer) or read.model
        stream = "".join(_frame(kind, provider, event) for event in answer) + end
        yield replace(read, body=stream.encode("utf-8", "surrogateescape"), model=model)


def fitting_answer(kind: Kind, status: int, streamed: bool, text: str) -> bytes:
    """The bytes to answer with. Two of Google's answers are kept in a form that Ownkey does not ask for: an array
    instead of events, and one vector instead of a list of them; they say the same in the other form."""
    if status == 200 and kind == "generate" and streamed and text.lstrip().startswith("["):
        items = _loaded(text)
        text = "".join(f"data: {_dumped(item)}\r\n\r\n" for item in items) if isinstance(items, list) else text
    if status == 200 and kind == "embed":
        value = _loaded(text)
        if isinstance(value, dict) and "embedding" in value:
            text = _dumped({**{k: v for k, v in value.items() if k != "embedding"}, "embeddings": [value["embedding"]]})
    return text.encode("utf-8", "surrogateescape")


def provider_of_body(value: Any) -> str:
    """Whose an answer is, by its shape; "" for what looks like nobody's."""
    if not isinstance(value, dict):
        return ""
    if value.get("type") in ("message", "message_start"):
        return "anthropic"
    if "candidates" in value or "promptFeedback" in value or "embeddings" in value or "embedding" in value:
        return "google"
    if value.get("object") in ("chat.completion", "chat.completion.chunk", "response") or kind_of_body("openai", value):
        return "openrouter" if str(value.get("id")).startswith("gen-") else "openai"
    return ""


def kind_of_body(provider: str, value: Mapping[str, Any]) -> Kind | None:
    """What an answer, or an event of its stream, answers."""
    sort = str(value.get("type") or "")
    match provider:
        case "anthropic":
            if sort in ("message", "message_start"):
                return "messages"
            return "count_tokens" if isinstance(value.get("input_tokens"), int) and not sort else None
        case "google":
            if "candidates" in value or "promptFeedback" in value:
                return "generate"
            return "batch_embed" if "embeddings" in value else "embed" if "embedding" in value else None
    if (sort.startswith("response.") and sort != "response.done") or value.get("object") == "response":
        return "responses"
    if provider == "openrouter" and sort in ("message", "message_start"):
        return "messages"
    if isinstance(value.get("choices"), list) and value.get("object") != "text_completion":
        return "chat"
    data = value.get("data")
    listed = isinstance(data, list) and bool(data) and isinstance(data[0], dict) and "embedding" in data[0]
    return "embeddings" if listed else None


def body_model(value: Any) -> str:
    """The model that an answer names; "" if none."""
    if not isinstance(value, dict):
        return ""
    inner = [value.get("message"), value.get("response")]
    for holder in (value, *(item for item in inner if isinstance(item, dict))):
        for key in ("model", "modelVersion"):
            if isinstance(holder.get(key), str) and holder[key]:
                return str(holder[key])
    return ""


def plain_model(provider: str) -> str:
    """A model to name where the recording names none; only the route depends on it."""
    return {
        "openai": "gpt-4.1", "openrouter": "openai/gpt-4.1", "anthropic": "claude-sonnet-4-5",
        "google": "gemini-2.5-flash",
    }[provider]


def status_of_error(provider: str, value: Any) -> int:
    """The status that belongs to a body whose status was not kept."""
    error = value.get("error") if isinstance(value, dict) else None
    if error is None:
        return 200
    if not isinstance(error, dict):
        return 500
    code = error.get("code")
    if isinstance(code, int) and 400 <= code <= 599:
        return code
    words = (code, error.get("status"), error.get("type"))
    return next((_STATUSES[word] for word in words if isinstance(word, str) and word in _STATUSES), 400)


def _values(text: str) -> Iterator[str]:
    """Each JSON value's own text on one line; from where it is none, each line."""
    decoder, at = json.JSONDecoder(), 0
    while True:
        while at < len(text) and text[at].isspace():
            at += 1
        if at == len(text):
            return
        try:
            value, end = decoder.raw_decode(text, at)
        except ValueError:
            yield from (line for line in text[at:].splitlines() if line.strip())
            return
        raw = text[at:end]
        yield _dumped(value) if "\n" in raw else raw
        at = end


def _answers(provider: str, events: list[str]) -> list[list[str]]:
    answers: list[list[str]] = [[]]
    ended = False
    for event in events:
        value = _loaded(event)
        kind = value.get("type") if isinstance(value, dict) else None
        if ended and kind in ("message_start", "response.created"):
            answers.append([])
        answers[-1].append(event)
        ended = kind in ("message_stop", "response.completed", "response.incomplete", "response.failed")
    return answers


def _frame(kind: Kind, provider: str, event: str) -> str:
    value = _loaded(event)
    named = kind == "messages" or (kind == "responses" and provider == "openai")
    name = f"event: {value['type']}\n" if named and isinstance(value, dict) and "type" in value else ""
    return f"{name}data: {event}\n\n"


def _sort_of(value: Mapping[str, Any]) -> str:
    for key in ("object", "type", "event_type"):
        if isinstance(value.get(key), str) and value[key]:
            return str(value[key]).split(".")[0]
    return f"{{{', '.join(list(value)[:3])}}}"


def _first(found: Iterator[Any]) -> Any:
    return next((item for item in found if item), None)


def _dumped(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def _loaded(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return None
