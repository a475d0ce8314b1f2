"""The two sides of an exchange, in the spellings that recorders use for them."""

import base64
import binascii
import gzip
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Asking:
    """The recorded request. `body` is as it was kept: text, or JSON that was parsed."""

    method: str
    url: str
    headers: Mapping[str, str] = field(default_factory=dict)
    body: Any = None


@dataclass(frozen=True, slots=True)
class Answering:
    """The recorded answer; `status` and `body` are None where they were not kept."""

    status: int | None
    headers: Mapping[str, str] = field(default_factory=dict)
    body: Any = None


def is_exchange(value: Any) -> bool:
    """Whether a JSON value has both sides. (An answer of OpenAI's may have a `response` in it, never a `request`.)"""
    return isinstance(value, dict) and all(isinstance(value.get(side), dict) for side in ("request", "response"))


def request_of(value: Mapping[str, Any]) -> Asking:
    side = value["request"]
    return Asking(
        str(side.get("method") or "POST").upper(), str(side.get("url") or side.get("uri") or ""),
        _headers(side.get("headers")), _body(side, "postData"),
    )


def answer_of(value: Mapping[str, Any]) -> Answering:
    side = value["response"]
    status = side.get("status", side.get("status_code"))
    if isinstance(status, dict):
        status = status.get("code")
    if isinstance(status, str) and status.isdigit():
        status = int(status)
    known = isinstance(status, int) and not isinstance(status, bool) and 100 <= status <= 599
    return Answering(status if known else None, _headers(side.get("headers")), _body(side, "content"))


def body_text(body: Any) -> str:
    """A kept body as the text that it was."""
    if isinstance(body, str):
        return _unzipped(body)
    return "" if body is None else json.dumps(body, ensure_ascii=False)


def parsed_body(body: Any) -> Any:
    """A kept body as JSON; None for what is none."""
    if isinstance(body, str):
        try:
            return json.loads(_unzipped(body))
        except ValueError:
            return None
    return body


def _body(side: Mapping[str, Any], wrapper: str) -> Any:
    """`body`, or what cassettes and HAR files call it; text in base64 is decoded."""
    body = side.get("body", side.get(wrapper, side.get("parsed_body")))
    if not isinstance(body, dict):
        return body
    for key in ("string", "text", "base64", "base64_string"):
        text = body.get(key)
        if isinstance(text, str) and set(body) <= {key, "encoding", "mimeType", "size", "params", "compression"}:
            coded = "base64" in key or body.get("encoding") == "base64"
            return _decoded(text) if coded else text
    return body


def _unzipped(text: str) -> str:
    """Compressed bodies were sometimes kept as base64: gzip's first bytes show it."""
    return _decoded(text) if text.startswith("H4sI") else text


def _decoded(text: str) -> str:
    try:
        data = base64.b64decode(text, validate=False)
        data = gzip.decompress(data) if data.startswith(b"\x1f\x8b") else data
    except (binascii.Error, OSError, EOFError):
        return text
    return data.decode("utf-8", "surrogateescape")


def _headers(kept: Any) -> dict[str, str]:
    """Headers from an object or from a list of pairs; of several values the first."""
    if isinstance(kept, list):
        rows = [(row.get("name"), row.get("value")) if isinstance(row, dict) else tuple(row)[:2] for row in kept]
        kept = {str(name): value for name, value in reversed(rows)}
    if not isinstance(kept, dict):
        return {}
    return {str(name).lower(): _first(value) for name, value in kept.items()}


def _first(value: Any) -> str:
    return str(value[0]) if isinstance(value, list) and value else str(value)
