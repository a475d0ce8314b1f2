"""Recorded Responses traffic of OpenAI and OpenRouter, read where it lies and never copied."""

import json
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

from openai_recordings import RECORDINGS, Exchange, load

# Cassettes that hold a part of the answer, in another language's notation: no provider's bytes.
_CUT_BODY = "{'"


def _is_responses(path: Path) -> bool:
    return json.loads(path.read_text())["request"]["url"].split("?")[0].endswith("/v1/responses")


def _body_only(path: Path) -> list[Exchange]:
    """A fixture without head and request; one file may hold the streams of several turns, one after the other."""
    text = path.read_text()
    if path.name.endswith(".chunks.txt"):
        turns: list[list[str]] = []
        for line in text.split("\n"):
            if '"response.created"' in line[:40] or line.endswith('"type":"response.created"}') or not turns:
                turns.append([])
            if line.strip():
                turns[-1].append(f"event: {_type(line)}\ndata: {line}\n\n")
        bodies = ["".join(turn) for turn in turns if turn]
    else:
        bodies = [text]
    status = 200
    if "error" in path.name and path.suffix == ".json":
        status = 429 if "insufficient_quota" in text else 400  # The status is inferred.
    return [
        Exchange(f"bodyonly-{path.name}-{turn}", "openai", "responses", status, {}, b"", body.encode())
        for turn, body in enumerate(bodies)
    ]


def _type(event: str) -> str:
    try:
        return str(json.loads(event)["type"])
    except ValueError:
        return "unreadable"


def responses() -> list[Exchange]:
    """Every exchange with /responses, whole and streamed, of any status."""
    found = []
    for provider in ("openai", "openrouter"):
        for path in sorted(RECORDINGS.glob(f"*/{provider}/*")):
            if path.parts[-3] == "vercel+ai":
                if "__responses__" in path.name:
                    found += _body_only(path)
            elif path.suffix == ".json" and _is_responses(path):
                found.append(replace(load(path), endpoint="responses"))
    return found


def is_cut(item: Exchange) -> bool:
    return item.body.startswith(_CUT_BODY.encode())


def is_stream(item: Exchange) -> bool:
    return item.body.lstrip().startswith((b"data:", b"event:", b":"))


def events(body: bytes) -> Iterable[dict[str, Any]]:
    """The JSON of each `data:` line but the terminator, costs as Decimal-ready text."""
    for line in body.decode().split("\n"):
        line = line.rstrip("\r")
        if line.startswith("data:") and line != "data: [DONE]":
            yield json.loads(line[5:], parse_float=str)
