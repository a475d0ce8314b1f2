"""Reads a folder of recorded provider traffic into values, or says why an exchange cannot be replayed.

Written for the wire formats, never for single files: what an exchange is follows from its URL, or from the body where
nothing else was kept. `<project>/<provider>/…` is the usual layout, not a condition; whatever holds no exchange
(indexes, notes, schemas) is passed over.
"""

import gzip
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from tools.fidelity.answers import exact_json
from tools.fidelity.bodies import (
    PROVIDERS,
    Kind,
    Recording,
    body_model,
    fitting_answer,
    plain_model,
    provider_of_body,
    read_body,
    read_events,
    status_of_error,
)
from tools.fidelity.sides import answer_of, body_text, is_exchange, parsed_body, request_of

# What Ownkey offers of each provider, by the end of the URL's path.
_OFFERED: Mapping[str, tuple[tuple[re.Pattern[str], Kind], ...]] = {
    "openai": (
        (re.compile(r"/chat/completions$"), "chat"), (re.compile(r"/embeddings$"), "embeddings"),
        (re.compile(r"/responses$"), "responses"),
    ),
    "openrouter": (
        (re.compile(r"/chat/completions$"), "chat"), (re.compile(r"/embeddings$"), "embeddings"),
        (re.compile(r"/responses$"), "responses"), (re.compile(r"/messages$"), "messages"),
    ),
    "anthropic": (
        (re.compile(r"/messages$"), "messages"), (re.compile(r"/messages/count_tokens$"), "count_tokens"),
    ),
    "google": (
        (re.compile(r"/models/[^/]+:(?:stream)?[gG]enerateContent$"), "generate"),
        (re.compile(r"/models/[^/]+:embedContent$"), "embed"),
        (re.compile(r"/models/[^/]+:batchEmbedContents$"), "batch_embed"),
    ),
}
_HOSTS = {
    "api.openai.com": "openai", "openrouter.ai": "openrouter", "api.anthropic.com": "anthropic",
    "generativelanguage.googleapis.com": "google",
}
_IDS = re.compile(r"(?<=/models/)[^/]+|(?<=/)(?!v\d)[\w-]*\d[\w.-]*(?=/|$)")
_TEXTS = (".json", ".jsonl", ".ndjson", ".txt", ".sse", ".har", ".gz")
_LARGEST = 64 << 20


def load_recordings(folder: Path) -> list[Recording]:
    """Every exchange below `folder`, in a stable order. Raises OSError where the folder cannot be read."""
    if not folder.is_dir():
        raise NotADirectoryError(f"There is no folder {folder}.")
    found: list[Recording] = []
    for path in sorted(folder.rglob("*")):
        if path.is_file() and path.name.lower().endswith(_TEXTS):
            parts = path.relative_to(folder).parts
            name = "/".join(parts)
            for index, recording in enumerate(_read_file(path, name, _provider_in(parts))):
                found.append(recording if index == 0 else replace(recording, name=f"{name}#{index + 1}"))
    return found


def _provider_in(parts: tuple[str, ...]) -> str:
    """The provider that a path speaks of: the nearest folder's name that is one, else the nearest folder's."""
    folders = parts[-2::-1]
    return next((part for part in folders if part in PROVIDERS), folders[0] if folders else "")


def _read_file(path: Path, name: str, provider: str) -> Iterator[Recording]:
    try:
        data = path.read_bytes()[:_LARGEST]
        data = gzip.decompress(data) if data.startswith(b"\x1f\x8b") else data
    except (OSError, EOFError, gzip.BadGzipFile) as error:
        yield Recording(name, provider, skip=f"cannot be read ({type(error).__name__})")
        return
    text = data.decode("utf-8-sig", errors="surrogateescape").lstrip()
    if text.startswith(("data:", "event:", ": ")):
        yield from read_events(name, provider, text, framed=True)
    elif text.startswith(("{", "[")):
        yield from _read_json(path, name, provider, text)


def _read_json(path: Path, name: str, provider: str, text: str) -> Iterator[Recording]:
    """One value, or several one after the other: exchanges, a body, or a stream's events."""
    try:
        value = json.loads(text)
    except ValueError:
        if path.name.removesuffix(".gz").endswith((".jsonl", ".ndjson")):
            yield from _read_lines(name, provider, text)
        elif "\n" in text.strip():
            yield from read_events(name, provider, text, framed=False)
        else:
            yield Recording(name, provider, skip="not JSON")
        return
    exchanges = _exchanges(value)
    if exchanges is not None:
        for exchange in exchanges:
            yield _read_exchange(name, provider, exchange)
    elif ".jsonl" not in path.name:
        yield from read_body(name, provider, value, text)


def _read_lines(name: str, provider: str, text: str) -> Iterator[Recording]:
    """Exchanges, one a line; the lines of an index are none. A stream's events may also be kept like this."""
    values = [exact_json(line) for line in text.splitlines() if line.strip()]
    exchanges = [value for value in values if is_exchange(value)]
    if exchanges:
        for value in exchanges:
            yield _read_exchange(name, provider, json.loads(json.dumps(value, default=float)))
    elif values and isinstance(values[0], dict) and provider_of_body(values[0]):
        yield from read_events(name, provider, text, framed=False)


def _exchanges(value: Any) -> list[Mapping[str, Any]] | None:
    """The exchanges that a JSON value holds: itself, a list of them, or a cassette's; None for something else."""
    if is_exchange(value):
        return [value]
    if isinstance(value, dict):
        log = value.get("log")
        value = value.get("interactions") or (log.get("entries") if isinstance(log, dict) else None)
    if isinstance(value, list) and value and all(map(is_exchange, value)):
        return value
    return None


def _read_exchange(name: str, provider: str, value: Mapping[str, Any]) -> Recording:
    request, response = request_of(value), answer_of(value)
    url = urlsplit(request.url)
    stated = value.get("provider")
    host = url.hostname or ""
    provider = str(stated or _HOSTS.get(host) or (provider if provider in PROVIDERS else host))
    read = Recording(name, provider, status=response.status or 200)
    if provider not in PROVIDERS:
        return replace(read, skip=f"provider not offered: {provider or 'unknown'}")
    path = url.path.rstrip("/")
    kind = next((kind for pattern, kind in _OFFERED[provider] if pattern.search(path)), None)
    if kind is None or request.method != "POST":
        return replace(read, skip=f"endpoint not offered: {request.method} {provider} {_endpoint(path)}")
    if response.body is None:
        return replace(read, skip="the answer was not recorded")
    answer = body_text(response.body)
    body = parsed_body(request.body)
    asked = body if isinstance(body, dict) else None
    status = response.status if response.status is not None else status_of_error(provider, exact_json(answer))
    model = _google_model(path) if provider == "google" else (asked or {}).get("model")
    if not isinstance(model, str) or not model:
        model = body_model(exact_json(answer)) or plain_model(provider)
    streamed = ":streamGenerateContent" in path if provider == "google" else (asked or {}).get("stream") is True
    streamed = streamed or (status == 200 and answer.startswith(("data:", "event:", ":")))
    return replace(
        read, kind=kind, status=status, headers=response.headers, streamed=streamed and kind != "count_tokens",
        request=asked, model=model, body=fitting_answer(kind, status, streamed, answer),
        betas=request.headers.get("anthropic-beta", ""),
    )


def _endpoint(path: str) -> str:
    """A path with its ids taken out, so that like is counted with like."""
    act = re.search(r":[a-zA-Z]+$", path)
    return _IDS.sub("*", path) + (act.group() if act else "")


def _google_model(path: str) -> str:
    return path.rpartition("/models/")[2].partition(":")[0]
