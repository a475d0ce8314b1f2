"""The door of a server that is starting: it listens at once, says how far the database's upgrade is, and then becomes
the door behind it.

Nothing here knows a token, a workspace or a session: no data is shown, and nothing that is sent is taken.
"""

from collections.abc import Awaitable, Callable, Sequence

import msgspec

from ownkey.api.app import App
from ownkey.api.http import Receive, Scope, Send
from ownkey.api.manage_errors import ErrorEnvelope
from ownkey.api.statuses import STATUSES
from ownkey.control.problems import Problem, ProblemCode
from ownkey.dialects.anthropic_messages import AnthropicDialect, OpenRouterMessagesDialect
from ownkey.dialects.openai_chat import OpenAIDialect, OpenRouterDialect
from ownkey.domain.errors import StoreError
from ownkey.domain.phrases import Phrase
from ownkey.domain.product import Product
from ownkey.domain.refusals import Code
from ownkey.domain.upgrades import UpgradeStep
from ownkey.domain.wire import ErrorFields
from ownkey.pages.http import Answer, content_policy, html, send_answer
from ownkey.pages.site import Site

STARTING = Phrase("Ownkey is starting")
UPGRADING = Phrase("Ownkey is being upgraded")
RETRY_S = 5
REFRESH_S = 3
_ASSETS = "/portal/assets/"
_EMBED = "/portal/embed/v1.js"
_PAGES = ("/portal", "/console", "/connect")
_FRAMES = ("iframe", "frame")
_WAIT = "Try again shortly."
_DIALECTS = (
    ("/api/v1/messages", OpenRouterMessagesDialect), ("/v1/messages", AnthropicDialect), ("/api/", OpenRouterDialect),
    ("", OpenAIDialect),
)
"""The envelope of a refusal, by the beginning of the path."""


class UpgradingDoor:
    """`frames`: the sites that may frame pages. `monotonic` is a clock in seconds."""

    def __init__(
        self, product: Product, site: Site, monotonic: Callable[[], float], frames: Sequence[str] = ()
    ) -> None:
        self._product = product
        self._site = site
        self._monotonic = monotonic
        self._frames = frames
        self._step: UpgradeStep | None = None
        self._began_s = 0.0
        self._stopped = False
        self._app: App = self._answer

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        return self._app(scope, receive, send)

    def open(self, app: App) -> None:
        """From the next request on, this is the door."""
        self._app = app

    def told(self, step: UpgradeStep) -> None:
        """Called on the thread that upgrades. Raises StoreError once the server was told to stop, before the last step
        of the schema has begun: what was begun is undone then."""
        if self._stopped and step.n <= step.of:
            raise StoreError("The upgrade was stopped. The database is as it was.")
        if self._step is None:
            self._began_s = self._monotonic()
        self._step = None if step.is_done or step.is_new else step

    def stop(self) -> None:
        self._stopped = True

    @property
    def _words(self) -> str:
        return STARTING if self._step is None else self._step.words

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        path: str = scope["path"]
        headers = {name: value.decode("latin-1") for name, value in scope["headers"]}
        if path == "/healthz":
            await _json(send, 200, msgspec.json.encode({"status": "ok"}))
        elif path == "/readyz":
            await _json(send, 503, msgspec.json.encode({"status": str(self._words)}))
        elif path.startswith(("/v1/", "/api/")):
            await self._refuse(path, send)
        elif path.startswith((_ASSETS, _EMBED)):
            await self._file(path, headers.get(b"accept-encoding", ""), send)
        elif path.startswith(_PAGES):
            await self._page(scope, headers, send)
        else:
            await self._manage(send)

    async def _refuse(self, path: str, send: Send) -> None:
        dialect = next(made for beginning, made in _DIALECTS if path.startswith(beginning))()
        code = Code.PROVIDER_UNAVAILABLE
        body = dialect.encode_error(ErrorFields(
            status=STATUSES[code], code=code.value, message=f"{self._words}. No call was sent.", fix=_WAIT,
            fix_url=None, receipt=None, retry_after_s=RETRY_S,
        ))
        await _json(send, STATUSES[code], body, [(b"x-ownkey-funding", b"none"), (b"x-ownkey-route", b"none")])

    async def _manage(self, send: Send) -> None:
        status, body, _ = ErrorEnvelope(self._product).encode(Problem(
            ProblemCode.STORE_UNAVAILABLE, f"{self._words}. Nothing was changed.", _WAIT, retry_after_s=RETRY_S
        ))
        await _json(send, status, body)

    async def _file(self, path: str, encoding: str, send: Send) -> None:
        answer = self._site.serve_embed(encoding) if path == _EMBED else (
            self._site.serve(path.removeprefix(_ASSETS), encoding)
        )
        await send_answer(answer, send, policy=content_policy())

    async def _page(self, scope: Scope, headers: dict[bytes, str], send: Send) -> None:
        framed = headers.get(b"sec-fetch-dest", "") in _FRAMES
        await send_answer(
            self._made(scope["method"], b"x-ownkey-passive" in headers), send,
            policy=content_policy(self._frames if framed else ()), head_only=scope["method"] == "HEAD",
        )

    def _made(self, method: str, passive: bool) -> Answer:
        if passive:
            # A page that looks for news by itself stays as it is, and asks again.
            return Answer(204)
        step = self._step
        text = self._site.render(
            "portal/upgrading.html", product=self._product, theme="auto", refresh_s=REFRESH_S, step=step,
            seconds=0 if step is None else int(self._monotonic() - self._began_s), sent=method == "POST",
            title=STARTING if step is None else UPGRADING,
        )
        return html(text, 503, [("retry-after", str(RETRY_S))])


async def _json(send: Send, status: int, body: bytes, more: Sequence[tuple[bytes, bytes]] = ()) -> None:
    headers = [
        (b"content-type", b"application/json"), (b"cache-control", b"no-store"),
        (b"content-length", str(len(body)).encode()), *more,
    ]
    if status == 503:
        headers.append((b"retry-after", str(RETRY_S).encode()))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body, "more_body": False})
