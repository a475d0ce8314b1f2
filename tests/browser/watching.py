"""What a browser did that it should not have: errors on its console, policy violations, foreign requests, typed keys.

Every context of the tests is watched from its first page to its end, so that a journey need not ask.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from playwright.sync_api import BrowserContext, ConsoleMessage, Error, Page, Request, Response, WebError

_REPORT = """
addEventListener("securitypolicyviolation", event => console.error(
  `policy violated: ${event.effectiveDirective} blocks ${event.blockedURI} ${event.sourceFile}:${event.lineNumber}`));
"""
_STATUS_WORDS = "Failed to load resource: the server responded with a status of"
_EXPECTED = frozenset({400, 401, 403, 404, 405, 409, 410, 413, 422, 429, 503})
"""Statuses that pages of ours answer by design; a 500 is never one of them."""


@dataclass
class Watch:
    """`secrets` are typed keys and anything else that no page may ever show. `allowed` are origins."""

    allowed: set[str]
    secrets: set[str] = field(default_factory=set)
    excused: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    urls: list[str] = field(default_factory=list)
    _responses: list[Response] = field(default_factory=list)

    def follow(self, context: BrowserContext) -> None:
        context.add_init_script(_REPORT)
        context.on("console", self._console)
        context.on("weberror", self._weberror)
        context.on("request", self._request)
        context.on("response", self._response)

    def excuse(self, *texts: str) -> None:
        """Errors that contain one of these texts are what the test provokes."""
        self.excused += texts

    def look(self, pages: Iterable[Page]) -> None:
        """Search what is open now, and what was sent, for secrets."""
        for page in pages:
            for frame in page.frames:
                self._search(f"the document {frame.url[:100]}", frame.content())
        for response in self._responses:
            if not response.headers.get("content-type", "").startswith(("text/html", "application/json")):
                continue
            try:
                self._search(f"the answer of {response.url[:100]}", response.text())
            except Error:
                continue  # the browser has let go of it, as it does after some navigations
        self._responses.clear()
        for url in self.urls:
            self._search("an address", url)

    def problems(self) -> list[str]:
        return [error for error in self.errors if not any(text in error for text in self.excused)]

    def _search(self, where: str, text: str) -> None:
        for secret in self.secrets:
            if secret in text:
                self.errors.append(f"a typed key stands in {where}")

    def _console(self, message: ConsoleMessage) -> None:
        if message.type == "error" and not message.text.startswith(_STATUS_WORDS):
            self.errors.append(f"console: {message.text[:400]}")

    def _weberror(self, error: WebError) -> None:
        self.errors.append(f"script: {error.error}")

    def _request(self, request: Request) -> None:
        self.urls.append(request.url)
        parts = urlsplit(request.url)
        if parts.scheme in ("http", "https") and f"{parts.scheme}://{parts.netloc}" not in self.allowed:
            self.errors.append(f"foreign request: {request.url[:200]}")

    def _response(self, response: Response) -> None:
        self._responses.append(response)
        path = urlsplit(response.url).path
        if response.status >= 400 and (response.status not in _EXPECTED or "/assets/" in path):
            self.errors.append(f"{response.status} from {path}")
