"""The browser's way back from OpenRouter's sign-in page: one address, one answer, nothing to click.

Nobody is authenticated here: the state in the address works once and acts for whoever began. What was begun on our own
pages counts only in the browser that began it, by its cookie. The address holds a code, so no answer may be kept,
framed, or named to another site.
"""

from collections.abc import Awaitable, Callable, Mapping
from html import escape
from urllib.parse import parse_qsl

from ownkey.api.http import Receive, Scope, Send
from ownkey.control.connect import BrowserEnd, ConnectControl
from ownkey.control.problems import Problem, ProblemCode
from ownkey.domain.connect import CALLBACK_PATH, browser_proof
from ownkey.domain.errors import StoreError
from ownkey.domain.portal import PortalSession
from ownkey.domain.product import Product
from ownkey.domain.scrub import scrub
from ownkey.pages.http import BadForm, PageRequest, read_request
from ownkey.pages.statuses import PROBLEM_STATUSES

_HEADERS = [
    (b"content-type", b"text/html; charset=utf-8"), (b"cache-control", b"no-store"),
    (b"referrer-policy", b"no-referrer"), (b"x-content-type-options", b"nosniff"),
    (b"content-security-policy",
     b"default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"),
    (b"strict-transport-security", b"max-age=31536000"),
]
_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title} · {product}</title></head>
<body><main><h1>{title}</h1>{paragraphs}</main></body></html>
"""


Whose = Callable[[PageRequest], Awaitable[PortalSession | None]]
"""Whose visit of our pages a browser is in, by its own cookie; None for nobody's."""


class ConnectDoor:
    """The ASGI callable for every path under `/connect/`. `whose` None: this deployment has no pages."""

    def __init__(self, connect: ConnectControl, product: Product, whose: Whose | None = None) -> None:
        self._connect = connect
        self._product = product
        self._whose = whose

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["path"] != CALLBACK_PATH:
            await self._page(send, 404, "Nothing here", ["There is nothing at this address."])
        elif scope["method"] != "GET":
            # A HEAD is a link checker or a preview: it must not use the sign-in up.
            await self._page(send, 405, "Not this way", ["Open this address in a browser."], [(b"allow", b"GET")])
        else:
            await self._come_back(scope, receive, send)

    async def _come_back(self, scope: Scope, receive: Receive, send: Send) -> None:
        read = _read(scope.get("query_string", b""))
        cookies: Mapping[str, str] = {}
        try:
            if read is None:
                end = BrowserEnd(None, _not_ours(), None)
            else:
                visit, cookies = await self._browser(scope, receive)
                end = await self._connect.finish_in_browser(*read, visit, cookies)
        except StoreError:
            end = BrowserEnd(None, Problem(
                ProblemCode.STORE_UNAVAILABLE, "Nothing can be saved at the moment, so nothing was changed.",
                "Start connecting again in a minute.",
            ), None)
        over = _forget_proof(read, cookies)
        if end.return_url is not None:
            location = [(b"location", end.return_url.encode("ascii")), (b"content-length", b"0"), *over]
            await send({"type": "http.response.start", "status": 303, "headers": [*_HEADERS, *location]})
            await send({"type": "http.response.body", "body": b""})
        elif end.connected is not None:
            saved, test = end.connected.saved, end.connected.test
            told = [saved.message, *saved.warnings, "" if test is None else test.sentence, "You can close this page."]
            await self._page(send, 200, "OpenRouter is connected", told, over)
        else:
            assert end.problem is not None
            status = PROBLEM_STATUSES[end.problem.code]
            await self._page(
                send, status, "OpenRouter is not connected", [end.problem.message, end.problem.fix], over
            )

    async def _browser(self, scope: Scope, receive: Receive) -> tuple[PortalSession | None, Mapping[str, str]]:
        """Whose visit the browser is in, and its cookies."""
        try:
            request = await read_request(scope, receive)
        except BadForm:
            return None, {}
        return None if self._whose is None else await self._whose(request), request.cookies

    async def _page(
        self, send: Send, status: int, title: str, sentences: list[str],
        more: list[tuple[bytes, bytes]] | None = None,
    ) -> None:
        shown = [escape(scrub(sentence)[0]) for sentence in dict.fromkeys(sentences) if sentence]
        body = _PAGE.format(
            title=escape(title), product=escape(self._product.name),
            paragraphs="".join(f"<p>{sentence}</p>" for sentence in shown),
        ).encode()
        length = (b"content-length", str(len(body)).encode())
        await send({"type": "http.response.start", "status": status, "headers": [*_HEADERS, length, *(more or [])]})
        await send({"type": "http.response.body", "body": body})


def _read(query: bytes) -> tuple[str, str] | None:
    """(state, code) of the address; the code is "" where the person did not approve. None: it is not from our page."""
    try:
        pairs = parse_qsl(query.decode("ascii"), keep_blank_values=True, max_num_fields=20)
    except ValueError:
        return None
    values = dict(pairs)
    if len(values) != len(pairs) or "state" not in values:
        return None
    return values["state"], "" if "error" in values else values.get("code", "")


def _forget_proof(read: tuple[str, str] | None, cookies: Mapping[str, str]) -> list[tuple[bytes, bytes]]:
    """The header that takes a sign-in's cookie away, which has done its work with the way back."""
    name = browser_proof(read[0])[0] if read is not None and read[0].isascii() else ""
    return [(b"set-cookie", f"{name}=; Path=/; Max-Age=0; Secure; HttpOnly".encode())] if name in cookies else []


def _not_ours() -> Problem:
    return Problem(
        ProblemCode.CONNECT_UNKNOWN, "This address does not come from a sign-in that was begun here.",
        "Start connecting again.",
    )
