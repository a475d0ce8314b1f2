"""Reads a folder of recorded provider traffic into values, or says why an exchange cannot be replayed.

Written for the layout (`<project>/<provider>/…`) and the wire formats, never for single files: what an exchange is
follows from its URL, or from the body where nothing else was kept.
"""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

from tools.fidelity.answers import exact_json

Kind = Literal["chat", "embeddings"]

PROVIDERS = ("openai", "openrouter", "anthropic", "google")
CHUNKS_SUFFIX = ".chunks.txt"

# What Ownkey offers of each provider, by the end of the URL's path.
_OFFERED: Mapping[str, tuple[tuple[re.Pattern[str], Kind], ...]] = {
    "openai": ((re.compile(r"/chat/completions$"), "chat"), (re.compile(r"/embeddings$"), "embeddings")),
    "openrouter": ((re.compile(r"/chat/completions$"), "chat"), (re.compile(r"/embeddings$"), "embeddings")),
    "anthropic": ((re.compile(r"/messages$"), "chat"),),
    "google": ((re.compile(r"/models/[^/]+:(?:stream)?[gG]enerateContent$"), "chat"),),
}
_IDS = re.compile(r"(?<=/models/)[^/]+|(?<=/)(?!v\d)[\w-]*\d[\w.-]*(?=/|$)")


@dataclass(frozen=True, slots=True)
class Recording:
    """One recorded exchange. `skip` says why it cannot be replayed, "" if it can.

    `streamed` is what the caller asked for; `body` the recorded bytes (a whole stream is one body). `request` is
    None where only the answer was kept. `model` is the provider's own id of the model, as the request named it.
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


def load_recordings(folder: Path) -> list[Recording]:
    """Every exchange below `folder`, in a stable order. Raises OSError where the folder cannot be read."""
    if not folder.is_dir():
        raise NotADirectoryError(f"There is no folder {folder}.")
    found: list[Recording] = []
    for path in sorted(folder.rglob("*")):
        parts = path.relative_to(folder).parts
        if not path.is_file() or len(parts) < 2 or not path.name.endswith((".json", CHUNKS_SUFFIX)):
            continue
        name = "/".join(parts)
        text = path.read_text("utf-8", errors="surrogateescape")
        if path.name.endswith(CHUNKS_SUFFIX):
            found += _read_chunks(name, parts[-2], text)
        else:
            found.append(_read_json(name, parts[-2], text))
    return found


def _read_json(name: str, provider: str, text: str) -> Recording:
    try:
        value = json.loads(text)
    except ValueError:
        return Recording(name, provider, skip="not JSON")
    if isinstance(value, dict) and isinstance(value.get("request"), dict) and isinstance(value.get("response"), dict):
        return _read_exchange(name, str(value.get("provider") or provider), value)
    return _read_body(name, provider, value, text)


# --- whole exchanges


def _read_exchange(name: str, provider: str, value: Mapping[str, Any]) -> Recording:
    request, response = value["request"], value["response"]
    url = urlsplit(str(request.get("url", "")))
    method = str(request.get("method", "")).upper()
    status = response.get("status")
    read = Recording(name, provider)
    if provider not in PROVIDERS:
        return replace(read, skip=f"provider not offered: {provider}")
    kind = next((kind for pattern, kind in _OFFERED[provider] if pattern.search(url.path)), None)
    if kind is None or method != "POST":
        return replace(read, skip=f"endpoint not offered: {method} {provider} {_endpoint(url.path)}")
    body = _parsed(request.get("body"))
    if not isinstance(body, dict):
        return replace(read, skip="the request's body was not recorded as JSON")
    if not isinstance(status, int) or "body" not in response:
        return replace(read, skip="the answer was not recorded")
    answer = _as_text(response["body"])
    model = _google_model(url.path) if provider == "google" else body.get("model")
    if not isinstance(model, str) or not model:
        model = _model_of(exact_json(answer)) or _plain_model(provider)
    streamed = ":streamGenerateContent" in url.path if provider == "google" else body.get("stream") is True
    streamed = streamed or (status == 200 and answer.startswith(("data:", "event:", ":")))
    if provider == "google" and streamed and answer.lstrip().startswith("[") and status == 200:
        answer = _frames_of_array(answer)
    if status == 200 and not streamed and exact_json(answer) is None:
        return replace(read, skip="the recorded answer is not what the provider sent (no JSON)")
    headers = {str(key).lower(): _first(text) for key, text in dict(response.get("headers") or {}).items()}
    return Recording(
        name, provider, kind, status=status, headers=headers, streamed=streamed, request=body, model=model,
        body=answer.encode("utf-8", "surrogateescape"),
    )


def _endpoint(path: str) -> str:
    """A path with its ids taken out, so that like is counted with like."""
    act = re.search(r":[a-zA-Z]+$", path)
    return _IDS.sub("*", path) + (act.group() if act else "")


def _google_model(path: str) -> str:
    return path.rpartition("/models/")[2].partition(":")[0]


def _first(value: Any) -> str:
    return str(value[0]) if isinstance(value, list) and value else str(value)


def _parsed(value: Any) -> Any:
    if isinstance(value, str):
        try:
            return json.loads(value)
        except ValueError:
            return None
    return value


def _as_text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _frames_of_array(text: str) -> str:
    """Google streams an array where `alt=sse` was not asked for; Ownkey always asks, so it is served as events."""
    try:
        return "".join(f"data: {json.dumps(item, ensure_ascii=False)}\r\n\r\n" for item in json.loads(text))
    except ValueError:
        return text


# --- bodies without a request, a status or headers


def _read_body(name: str, provider: str, value: Any, text: str) -> Recording:
    read = Recording(name, provider)
    if provider not in PROVIDERS:
        return replace(read, skip=f"provider not offered: {provider}")
    if not isinstance(value, dict):
        return replace(read, skip="a body of no known kind")
    status = 200
    if value.get("error") is not None:
        stated = value["error"].get("code") if isinstance(value["error"], dict) else None
        if provider != "google" or not isinstance(stated, int):
            return replace(read, skip="an error body without its status")
        status = stated
    kind = _kind_of_body(provider, value)
    if kind is None and status == 200:
        return replace(read, skip=f"endpoint not offered: a body of {provider}'s {_sort_of(value)}")
    return replace(
        read, kind=kind or "chat", status=status, body=text.encode("utf-8", "surrogateescape"),
        model=_model_of(value) or _plain_model(provider),
    )


def _read_chunks(name: str, provider: str, text: str) -> Iterator[Recording]:
    """A fixture of events, one JSON value after the other; several answers in one file are several streams."""
    read = Recording(name, provider, streamed=True)
    if provider not in PROVIDERS:
        yield replace(read, skip=f"provider not offered: {provider}")
        return
    try:
        values = list(_json_values(text))
    except ValueError:
        yield replace(read, skip="not JSON")
        return
    if not values or not isinstance(values[0][0], dict) or _kind_of_body(provider, values[0][0]) != "chat":
        sort = _sort_of(values[0][0]) if values and isinstance(values[0][0], dict) else "nothing"
        yield replace(read, skip=f"endpoint not offered: a stream of {provider}'s {sort}")
        return
    for index, answer in enumerate(_answers(provider, values)):
        model = next((found for value, _ in answer if (found := _model_of(value))), "") or _plain_model(provider)
        yield replace(
            read, name=name if index == 0 else f"{name}#{index + 1}", model=model,
            body="".join(_frame(provider, value, raw) for value, raw in answer).encode("utf-8", "surrogateescape")
            + (b"data: [DONE]\n\n" if provider in ("openai", "openrouter") else b""),
        )


def _json_values(text: str) -> Iterator[tuple[Any, str]]:
    """Each value with its own text on one line."""
    decoder, at = json.JSONDecoder(), 0
    while True:
        while at < len(text) and text[at].isspace():
            at += 1
        if at == len(text):
            return
        value, end = decoder.raw_decode(text, at)
        raw = text[at:end]
        yield value, json.dumps(value, ensure_ascii=False) if "\n" in raw else raw
        at = end


def _answers(provider: str, values: list[tuple[Any, str]]) -> list[list[tuple[Any, str]]]:
    answers: list[list[tuple[Any, str]]] = [[]]
    for value, raw in values:
        ended = bool(answers[-1]) and provider == "anthropic" and answers[-1][-1][0].get("type") == "message_stop"
        if ended and value.get("type") == "message_start":
            answers.append([])
        answers[-1].append((value, raw))
    return answers


def _frame(provider: str, value: Any, raw: str) -> str:
    event = f"event: {value.get('type')}\n" if provider == "anthropic" else ""
    return f"{event}data: {raw}\n\n"


def _kind_of_body(provider: str, value: Mapping[str, Any]) -> Kind | None:
    match provider:
        case "anthropic":
            return "chat" if value.get("type") in ("message", "message_start") else None
        case "google":
            return "chat" if "candidates" in value or "promptFeedback" in value else None
        case _:
            if isinstance(value.get("choices"), list) and value.get("object") != "text_completion":
                return "chat"
            data = value.get("data")
            if isinstance(data, list) and data and isinstance(data[0], dict) and "embedding" in data[0]:
                return "embeddings"
            return None


def _sort_of(value: Mapping[str, Any]) -> str:
    for key in ("object", "type", "event_type"):
        if isinstance(value.get(key), str) and value[key]:
            return str(value[key]).split(".")[0]
    return f"{{{', '.join(list(value)[:3])}}}"


def _model_of(value: Any) -> str:
    if not isinstance(value, dict):
        return ""
    message = value.get("message")
    for holder in (value, message if isinstance(message, dict) else {}):
        for key in ("model", "modelVersion"):
            if isinstance(holder.get(key), str) and holder[key]:
                return str(holder[key])
    return ""


def _plain_model(provider: str) -> str:
    """A model to name where the recording names none; only the route depends on it."""
    return {
        "openai": "gpt-4.1", "openrouter": "openai/gpt-4.1", "anthropic": "claude-sonnet-4-5",
        "google": "gemini-2.5-flash",
    }[provider]
