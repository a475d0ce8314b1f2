"""A browser's request as pages need it, and the answer to it, with the headers that every page carries.

A body is read once, with a limit; a form's fields are text. Answers say what they are and nothing of how they travel.
"""

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl, quote, urlencode

from ownkey.domain.operators import client_address
from ownkey.domain.scrub import looks_like_secret
from ownkey.pages.wire import Receive, Scope, Send, read_body

FORM_BYTES = 64 * 1024
FORM_FIELDS = 200
BODY_IDLE_S = 30.0

HTML = "text/html; charset=utf-8"
_IN_ADDRESSES = "!#$%&'()*+,/:;=?@[]~"


@dataclass(frozen=True, slots=True)
class PageRequest:
    """`query` and `form` hold the last value of each name; `form` is empty but for a POST. `headers` are lower-case.

    `partial`: our script asks for a part of the page (the answer may be the whole page all the same). `origin` is this
    server as the browser addressed it. `address` is the browser's, as far as proxies can be believed; "" where unknown.
    """

    method: str
    path: str
    params: Mapping[str, str]
    query: Mapping[str, str]
    form: Mapping[str, str]
    headers: Mapping[str, str]
    origin: str
    address: str
    body: bytes = field(default=b"", repr=False)

    def __repr__(self) -> str:
        # A form may hold a typed key.
        return f"PageRequest({self.method} {self.path})"

    @property
    def partial(self) -> bool:
        return "hx-request" in self.headers

    @property
    def cookies(self) -> Mapping[str, str]:
        parts = (part.partition("=") for part in self.headers.get("cookie", "").split(";"))
        return {name.strip(): value.strip() for name, _, value in parts if name.strip()}

    def field(self, name: str) -> str:
        """A form's field without the blanks around it; "" where it is absent."""
        return self.form.get(name, "").strip()

    def asks(self, name: str) -> str:
        """A value of the address's query, without blanks; "" where it is absent."""
        return self.query.get(name, "").strip()

    def with_query(self, **changes: str | None) -> str:
        """This address with some values changed; None and "" take one away. A key that somebody has put into it is not
        repeated: addresses are kept in histories."""
        values = {**self.query, **{name: value or "" for name, value in changes.items()}}
        kept = urlencode([(name, value) for name, value in values.items() if value and not looks_like_secret(value)])
        return f"{self.path}?{kept}" if kept else self.path


class BadForm(Exception):
    """The body is no form of ours: too many fields, or not text."""


@dataclass(frozen=True, slots=True)
class Answer:
    """`body` is bytes, or text parts that are sent as they come. `headers` are added to those of every page."""

    status: int = 200
    body: bytes | AsyncIterator[bytes] = b""
    content_type: str = HTML
    headers: Sequence[tuple[str, str]] = ()


def html(text: str, status: int = 200, headers: Sequence[tuple[str, str]] = ()) -> Answer:
    return Answer(status, text.encode(), HTML, headers)


def see_other(url: str, headers: Sequence[tuple[str, str]] = ()) -> Answer:
    """After a POST: the page that shows what came of it. What no address has in it is written as its code."""
    return Answer(303, b"", HTML, [("location", quote(url, safe=_IN_ADDRESSES)), *headers])


async def read_request(scope: Scope, receive: Receive, proxies: Sequence[str] = ()) -> PageRequest:
    """`proxies` are the networks whose X-Forwarded-For is believed. Raises BadForm, and what reading a body raises
    (pages.wire)."""
    headers: dict[str, str] = {}
    for name, value in scope["headers"]:
        headers.setdefault(name.decode("latin-1"), value.decode("latin-1"))
    body, form = b"", {}
    if scope["method"] == "POST":
        body = await read_body(receive, FORM_BYTES, BODY_IDLE_S)
        if headers.get("content-type", "").partition(";")[0].strip() == "application/x-www-form-urlencoded":
            form = _pairs(body)
    client = scope.get("client")
    forwarded = [value.decode("latin-1") for name, value in scope["headers"] if name == b"x-forwarded-for"]
    return PageRequest(
        method=scope["method"], path=scope["path"], params={}, query=_pairs(scope.get("query_string", b"")),
        form=form, headers=headers, origin=f"{scope.get('scheme', 'http')}://{headers.get('host', '')}",
        address=client_address(client[0] if client else "", forwarded, proxies), body=body,
    )


def _pairs(data: bytes) -> dict[str, str]:
    try:
        pairs = parse_qsl(data.decode("ascii"), keep_blank_values=True, max_num_fields=FORM_FIELDS, errors="strict")
    except ValueError as error:
        raise BadForm from error
    return dict(pairs)


def content_policy(frame_ancestors: Sequence[str] = ()) -> str:
    """The content security policy of every page; only a framed visit may be framed, by the sites configured for it."""
    ancestors = " ".join(frame_ancestors) or "'none'"
    return (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; font-src 'self'; connect-src 'self'; "
        f"form-action 'self'; base-uri 'none'; frame-ancestors {ancestors}"
    )


def _header(value: str) -> bytes:
    """The last line: servers pass on what they are given, and a line break would begin a header of somebody else's."""
    if not (value.isascii() and value.isprintable()):
        raise ValueError("a header's value would be more than that")
    return value.encode("ascii")


async def send_answer(answer: Answer, send: Send, *, policy: str, head_only: bool = False) -> None:
    """Everything with data is kept by nobody; a header of the answer wins over the usual one."""
    headers = {
        "content-type": answer.content_type, "cache-control": "no-store", "content-security-policy": policy,
        "x-content-type-options": "nosniff", "referrer-policy": "no-referrer",
        "strict-transport-security": "max-age=31536000", "cross-origin-opener-policy": "same-origin",
    }
    repeated = []
    for name, value in answer.headers:
        if name == "set-cookie":
            repeated.append((name, value))
        else:
            headers[name] = value
    if isinstance(answer.body, bytes):
        headers["content-length"] = str(len(answer.body))
    message: dict[str, Any] = {
        "type": "http.response.start", "status": answer.status,
        "headers": [(name.encode("ascii"), _header(value)) for name, value in [*headers.items(), *repeated]],
    }
    await send(message)
    if isinstance(answer.body, bytes):
        await send({"type": "http.response.body", "body": b"" if head_only else answer.body})
        return
    if not head_only:
        async for part in answer.body:
            await send({"type": "http.response.body", "body": part, "more_body": True})
    await send({"type": "http.response.body", "body": b"", "more_body": False})
