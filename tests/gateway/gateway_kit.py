"""A gateway for tests: the real door, books, providers and dialects; a scripted upstream and a caller by hand."""

import asyncio
import contextlib
import json
import time
from collections import deque
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from tests.store.store_kit import ACTOR, NOV, add_workspace, credential, open_store

from ownkey.api.dataplane import DataPlane, DataPlaneApp, DataPlaneLimits
from ownkey.api.openrouter_surface import OpenRouterSurface
from ownkey.api.statuses import STATUSES
from ownkey.control.status import StatusControl
from ownkey.dialects.anthropic_messages import AnthropicDialect, OpenRouterMessagesDialect
from ownkey.dialects.openai_chat import OpenAIDialect, OpenRouterDialect
from ownkey.domain.exchange import UpstreamRequest
from ownkey.domain.failures import UpstreamError
from ownkey.domain.pricing import ModelPrice, Rate
from ownkey.domain.product import Product
from ownkey.domain.records import ReceiptFilter
from ownkey.domain.secret import Secret
from ownkey.domain.workspace import Credential, Principal, TokenKind, WorkspaceState
from ownkey.gateway.attempt import Runner
from ownkey.gateway.circuits import Circuits
from ownkey.gateway.complete import Gateway, House
from ownkey.gateway.explain import Explainer
from ownkey.providers.anthropic import AnthropicProvider
from ownkey.providers.catalogue import PublicCatalogue
from ownkey.providers.egress import parse_origin
from ownkey.providers.google import GoogleProvider
from ownkey.providers.openai import OpenAIProvider
from ownkey.providers.openrouter import OpenRouterProvider
from ownkey.settings.product import ORIGINS, load_settings
from ownkey.store.sqlite import SQLiteStore

MINI = "openai/gpt-4.1-mini"
GEMINI = "google/gemini-2.0-flash"
CLAUDE = "anthropic/claude-haiku-4.5"
INPUT_NPM, OUTPUT_NPM = 100_000_000, 400_000_000
CHAT = {"model": MINI, "max_tokens": 100, "messages": [{"role": "user", "content": "hello"}]}
STALL = object()
"""In a script: nothing comes any more."""


class Clock:
    """Real seconds since the start, so that waits are real; the wall clock stands beside the store's tests'."""

    def __init__(self) -> None:
        self._start = time.monotonic()
        self._ids = 0
        self.ahead_s = 0.0

    def now_ms(self) -> int:
        return NOV + int((self.monotonic() - 1_000) * 1_000)

    def monotonic(self) -> float:
        return 1_000 + self.ahead_s + time.monotonic() - self._start

    def chance(self) -> float:
        return 0.5

    def new_id(self, prefix: str) -> str:
        self._ids += 1
        return f"{prefix}_{self._ids:08}"


@dataclass
class Exchange:
    """One scripted answer. `parts`: bytes that arrive, a number of seconds to wait, an event to wait for, an error to
    raise, or STALL. `before_head` is the same before the head."""

    parts: Sequence[Any] = ()
    status: int = 200
    headers: dict[str, str] = field(default_factory=lambda: {"content-type": "text/event-stream"})
    before_head: Sequence[Any] = ()


class Response:
    def __init__(self, upstream: "FakeUpstream", exchange: Exchange) -> None:
        self.status, self.headers = exchange.status, exchange.headers
        self._parts = deque(exchange.parts)
        self._upstream = upstream
        self._open = True
        upstream.open += 1

    async def read_chunk(self, timeout_s: float) -> bytes:
        try:
            async with asyncio.timeout(timeout_s):
                return await self._next()
        except TimeoutError:
            raise UpstreamError("no answer bytes in time", sent=True, received=True, timeout=True) from None

    async def _next(self) -> bytes:
        while self._parts:
            part = self._parts[0]
            if isinstance(part, bytes):
                self._parts.popleft()
                return part
            await wait_for(part)
            self._parts.popleft()
        return b""

    async def read_all(self, timeout_s: float, limit_bytes: int) -> bytes:
        parts = []
        try:
            while part := await self.read_chunk(timeout_s):
                parts.append(part)
        except UpstreamError:
            self.close()
            raise
        return b"".join(parts)

    def discard(self) -> None:
        self.close()

    def close(self) -> None:
        if self._open:
            self._open = False
            self._upstream.open -= 1


async def wait_for(part: Any) -> None:
    if part is STALL:
        await asyncio.Event().wait()
    elif isinstance(part, asyncio.Event):
        await part.wait()
    elif isinstance(part, UpstreamError):
        raise part
    else:
        await asyncio.sleep(part)


class FakeUpstream:
    """Answers in the order of the script; the last exchange is repeated."""

    def __init__(self) -> None:
        self.script: deque[Exchange | UpstreamError | Exception] = deque()
        self.sent: list[UpstreamRequest] = []
        self.open = 0
        self.begun = asyncio.Event()

    async def send(self, request: UpstreamRequest, *, head_timeout_s: float) -> Response:
        self.sent.append(request)
        self.begun.set()
        found = self.script.popleft() if len(self.script) > 1 else self.script[0]
        if isinstance(found, Exception):
            raise found
        try:
            async with asyncio.timeout(head_timeout_s):
                for part in found.before_head:
                    await wait_for(part)
        except TimeoutError:
            raise UpstreamError("no answer head in time", sent=True, received=False, timeout=True) from None
        return Response(self, found)

    @property
    def hosts(self) -> list[str]:
        return [request.origin.host.split(".")[-2] for request in self.sent]


class Opener:
    """Opens everything but the credentials named in `broken`."""

    def __init__(self) -> None:
        self.broken: set[str] = set()

    def open(self, workspace: WorkspaceState, credential: Credential) -> Secret:
        if credential.id in self.broken:
            raise ValueError("undecryptable")
        return Secret("sk-" + "k" * 40)


class Door:
    """Says who asks: the workspace whose id stands where a token would."""

    async def check(self, header: bytes | None, *, twice: bool, api_key: bytes | None = None) -> Principal:
        assert header is not None
        return Principal("tok_1", TokenKind.WORKSPACE, header.decode(), frozenset({"call"}))


class Caller:
    """One request as a server hands it to the door. `slow`: takes nothing until the event is set."""

    def __init__(self, body: bytes, headers: Sequence[tuple[bytes, bytes]] = ()) -> None:
        self._body: bytes | None = body
        self.headers = headers
        self.status = 0
        self.head: dict[str, str] = {}
        self.body = b""
        self.ended = False
        self.slow: asyncio.Event | None = None
        self.started = asyncio.Event()
        self._left = asyncio.Event()

    async def receive(self) -> dict[str, Any]:
        if self._body is not None:
            body, self._body = self._body, None
            return {"type": "http.request", "body": body, "more_body": False}
        await self._left.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: Any) -> None:
        if self._left.is_set():
            return
        if message["type"] == "http.response.start":
            self.status = message["status"]
            self.head = {name.decode(): value.decode() for name, value in message["headers"]}
            return
        self.body += message["body"]
        self.started.set()
        self.ended = not message["more_body"]
        if self.slow is not None:
            await self.slow.wait()

    def hang_up(self) -> None:
        self._left.set()
        if self.slow is not None:
            self.slow.set()

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def error(self) -> Any:
        return self.json["error"]


@dataclass
class Rig:
    """One process: `app` is the door."""

    app: DataPlaneApp
    gateway: Gateway
    house: House
    explainer: Explainer
    store: SQLiteStore
    upstream: FakeUpstream
    opener: Opener
    clock: Clock
    product: Product

    def script(self, *exchanges: Exchange | Exception) -> None:
        self.upstream.script = deque(exchanges)
        self.upstream.sent.clear()
        self.upstream.begun.clear()

    def begin(
        self, workspace: str, body: Any = CHAT, *, path: str = "/v1/chat/completions",
        headers: Sequence[tuple[bytes, bytes]] = (), **changes: Any,
    ) -> tuple["asyncio.Task[None]", Caller]:
        """A call on its way: its task and its caller."""
        raw = body if isinstance(body, bytes) else json.dumps({**body, **changes}).encode()
        caller = Caller(raw)
        scope = {
            "type": "http", "path": path, "method": "POST",
            "headers": [(b"authorization", workspace.encode()), *headers],
        }
        return asyncio.ensure_future(self.app(scope, caller.receive, caller.send)), caller

    async def call(self, workspace: str, body: Any = CHAT, **changes: Any) -> Caller:
        task, caller = self.begin(workspace, body, **changes)
        await task
        return caller

    async def workspace(self, name: str, *providers: str, **changes: Any) -> str:
        """A workspace with a key of each provider."""
        made = await add_workspace(self.store, name, **{"features": {}, "credits_if_key_fails": False, **changes})
        for provider in providers:
            saved = credential(made.id, provider, id=f"cred_{name}_{provider}", origin=ORIGINS[provider])
            await self.store.save_credential(saved, at_ms=NOV, actor=ACTOR)
        return made.id

    async def cap(self, workspace: str, cap_nusd: int | None) -> None:
        await self.store.save_cap(workspace, cap_nusd, 80, at_ms=NOV, actor=ACTOR)

    async def spent(self, workspace: str) -> int:
        found = await self.store.load_cap(workspace, NOV)
        assert found is not None
        return found.spent_nusd

    async def receipt(self, workspace: str) -> Any:
        """The only receipt, or the newest."""
        return (await self.store.load_receipts(workspace, ReceiptFilter()))[0]

    async def check(self) -> None:
        """Nothing is left: no hold, no connection, no counter, and the books balance."""
        assert self.app._in_flight == 0
        assert self.app._by_workspace == {}
        assert self.upstream.open == 0
        assert self.house.runner.drains == 0
        held = self.store._near.execute("SELECT count(*) FROM hold WHERE state = 'held'").fetchone()[0]
        assert held == 0
        without_receipt = self.store._near.execute(
            "SELECT call_id FROM hold WHERE call_id NOT IN (SELECT id FROM receipt) OR context IS NOT NULL"
        ).fetchall()
        assert without_receipt == []
        assert await self.store.verify(self.clock.now_ms()) == []


@contextlib.asynccontextmanager
async def open_rig(folder: Path, preset: str = "support-desk", **routing: Any) -> AsyncIterator[Rig]:
    """`routing` changes the product's times."""
    config = folder / "ownkey.toml"
    config.write_text(f'preset = "{preset}"\n')
    product = load_settings(config, {}).product
    product = replace(product, routing=replace(product.routing, **routing), busy_wait_s=0.3)
    clock = Clock()
    store = open_store(folder / "ownkey.db")
    try:
        await store.activate_prices(prices(), {}, author="test", at_ms=NOV)
        upstream, opener, circuits = FakeUpstream(), Opener(), Circuits(per_provider=product.routing.provider_circuit)
        runner = Runner(
            product=product, origins={name: parse_origin(url) for name, url in ORIGINS.items()}, opener=opener,
            upstream=upstream, clock=clock, journal=store,
        )
        found = (OpenRouterProvider(), OpenAIProvider(), AnthropicProvider(), GoogleProvider())
        house = House(
            product=product, providers={p.id: p for p in found}, directory=store, books=store, prices=store,
            health=store, clock=clock, circuits=circuits, runner=runner, statuses=STATUSES,
        )
        gateway = Gateway(house)
        explainer = Explainer(gateway, house)
        app = DataPlaneApp(DataPlane(
            gateway=gateway, explainer=explainer, authentication=Door(),  # type: ignore[arg-type]
            directory=store, prices=store, product=product, openai=OpenAIDialect(), openrouter=OpenRouterDialect(),
            anthropic=AnthropicDialect(), openrouter_messages=OpenRouterMessagesDialect(),
            surface=OpenRouterSurface(
                books=store, prices=store, payer=StatusControl(store, store, clock, product),
                catalogue=PublicCatalogue(
                    upstream, parse_origin(ORIGINS["openrouter"]), clock.monotonic, fetch=False,  # type: ignore[arg-type]
                ),
                product=product, now_ms=clock.now_ms,
            ),
            limits=DataPlaneLimits(client_stall_s=0.3, watch_after_s=0.0),
        ))
        yield Rig(app, gateway, house, explainer, store, upstream, opener, clock, product)
    finally:
        await store.close()


def prices() -> list[ModelPrice]:
    rates = {"input": (Rate(0, INPUT_NPM),), "output": (Rate(0, OUTPUT_NPM),)}
    slugs = (MINI, GEMINI, CLAUDE, "openai/o4-mini", "anthropic/claude-sonnet-4.5", "openai/gpt-4.1")
    listed = [ModelPrice("openrouter", slug, rates, source="test") for slug in slugs]
    for slug in slugs:
        provider, _, name = slug.partition("/")
        native = name.replace(".", "-") if provider == "anthropic" else name
        listed.append(ModelPrice(provider, native, rates, source="test"))
    return listed


def sse(*chunks: Any) -> list[bytes]:
    return [b"data: " + (c if isinstance(c, bytes) else json.dumps(c).encode()) + b"\n\n" for c in chunks]


def delta(text: str, **more: Any) -> dict[str, Any]:
    choice = {"index": 0, "delta": {"content": text}, "finish_reason": None, **more}
    return {"id": "gen-1", "model": "m", "choices": [choice]}


FINISH = delta("", finish_reason="stop")


def usage(prompt: int = 10, completion: int = 5, **more: Any) -> dict[str, Any]:
    return {"id": "gen-1", "model": "m", "choices": [], "usage": {
        "prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion, **more,
    }}


STREAM = sse(delta("pelicans "), delta("fly"), FINISH, usage(), b"[DONE]")
JSON_TYPE = {"content-type": "application/json"}


def body_of(text: str = "ok", finish: str | None = "stop", **more: Any) -> bytes:
    return json.dumps({
        "id": "gen-1", "object": "chat.completion", "created": 1, "model": "m",
        "choices": [{"index": 0, "finish_reason": finish, "message": {"role": "assistant", "content": text}}],
        "usage": usage()["usage"], **more,
    }).encode()


def whole_answer(**more: Any) -> Exchange:
    return Exchange([body_of(**more)], headers=JSON_TYPE)


def refusal(status: int, code: str = "", **headers: str) -> Exchange:
    body = json.dumps({"error": {"message": "no", "type": code, "code": code or status}}).encode()
    return Exchange([body], status=status, headers={**JSON_TYPE, **headers})


def cost(prompt: int, completion: int) -> int:
    return -(-(prompt * INPUT_NPM + completion * OUTPUT_NPM) // 1_000_000)


def broken(sent: bool = True, received: bool = True, timeout: bool = False) -> UpstreamError:
    return UpstreamError("connection reset", sent=sent, received=received, timeout=timeout)
