"""The network between a process and the emulated providers: slow, lossy, and honest only in the providers' bill book.

The emulator is the real one. Its answers travel as what its server would have written; what a connection can do to
them (be refused, break, fall silent, lose the request or the answer) happens here, at instants that the seed draws.
"""

import asyncio
import re
from asyncio import events
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from ownkey.domain.exchange import UpstreamRequest
from ownkey.domain.failures import UpstreamError
from ownkey.emulator.app import Emulator
from ownkey.emulator.book import Bill, Book
from ownkey.emulator.server import Hangup
from tools.sim.world import Loop, World

_PROVIDER_OF_HOST = {
    "openrouter.ai": "openrouter", "api.openai.com": "openai", "api.anthropic.com": "anthropic",
    "generativelanguage.googleapis.com": "google",
}
_RAW_HEAD = re.compile(rb"HTTP/1\.[01] (\d+)[^\r]*\r\n")

Noted = Callable[["Exchange", Bill], None]


@dataclass(slots=True)
class Weather:
    """How likely a connection is refused, loses the request, loses the answer, breaks at a random time, or is slow."""

    refused: float = 0.0
    request_lost: float = 0.0
    answer_lost: float = 0.0
    broken: float = 0.0
    slow: float = 0.0


class Exchange:
    """One request at a provider: the part of the emulator server's `Exchange` that its answers use."""

    def __init__(self, network: "Network", request: UpstreamRequest, line: "Line") -> None:
        provider = _PROVIDER_OF_HOST[request.origin.host]
        headers = {name.lower().encode(): value.encode("latin-1") for name, value in request.headers}
        self.key = ""
        if request.credential is not None:
            self.key = request.credential.reveal()
            headers[request.credential_header.lower().encode()] = (request.credential_prefix + self.key).encode()
        self.provider = provider
        self.method = request.method.encode()
        self.target = f"/{provider}{request.origin.base_path}{request.path}".encode()
        self.headers = headers
        self.body = request.body
        self.keep_alive = True
        self.started = False
        self.status = 0
        self.lost = False
        self.done = False
        self.connection = self
        self.last = False
        self.hold_id: str | None = None
        self.owner: Any = None
        self._network = network
        self._line = line
        self._waiter: asyncio.Future[None] | None = None
        self._expired = False

    @property
    def gone(self) -> bool:
        return self.lost

    @property
    def unread(self) -> bool:
        """Whether the provider has written bytes that its client never read: no books can know of them."""
        return self._line.written > self._line.read

    @property
    def peer(self) -> str:
        return "127.0.0.1"

    # --- answers

    def respond(self, status: int, headers: bytes, body: bytes) -> None:
        self.status = status
        self._line.head(status, headers)
        self._line.data(body)
        self._line.end()
        self.done = True

    def start(self, status: int, headers: bytes) -> None:
        self.started, self.status = True, status
        self._line.head(status, headers)

    def write(self, data: bytes) -> None:
        if self.lost:
            raise Hangup
        if data:
            self._line.data(data)

    async def drain(self) -> None:
        if self.lost:
            raise Hangup

    def finish(self) -> None:
        self._line.end()
        self.done = True

    def raw(self, data: bytes) -> None:
        """A head and a part of a body that will never be whole."""
        if self.started:
            # Where the client expects a chunk's size: it gives the connection up.
            self._line.cut(False)
            return
        found = _RAW_HEAD.match(data)
        if found is None or b"\r\n\r\n" not in data:
            raise ValueError("the simulated network carries no such framing")
        head, _, body = data[found.end():].partition(b"\r\n\r\n")
        self._line.head(int(found[1]), head + b"\r\n")
        if body:
            self._line.data(body)

    def cut(self, *, reset: bool) -> None:
        self._line.cut(reset)
        self.done = True

    # --- time

    def monotonic(self) -> float:
        return self._network.world.now

    async def sleep(self, seconds: float) -> None:
        if self.lost:
            raise Hangup
        if seconds <= 0:
            return
        self._expired = False
        loop = asyncio.get_running_loop()
        timer = loop.call_later(seconds, self._wake, True)
        try:
            while not self._expired:
                self._waiter = loop.create_future()
                await self._waiter
                if self.lost:
                    raise Hangup
        finally:
            timer.cancel()

    async def forever(self) -> None:
        while True:
            await self.sleep(3_600.0)

    def _wake(self, expired: bool = False) -> None:
        self._expired = self._expired or expired
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def hang_up(self) -> None:
        """The client's close has arrived."""
        if not self.lost:
            self.lost = True
            self._wake()


@dataclass(slots=True)
class Line:
    """The way back, in order: heads, bytes, the end, or an error; each arrives after its own delay, never overtaking.

    `inbox` is the client's end.
    """

    world: World
    client: Loop
    slow: float
    mute: bool = False
    closed: bool = False
    received: bool = False
    written: int = 0
    read: int = 0
    inbox: deque[Any] = field(default_factory=deque)
    waiter: "asyncio.Future[None] | None" = None
    _last: float = 0.0

    def head(self, status: int, lines: bytes) -> None:
        headers: dict[str, str] = {}
        for line in lines.decode("latin-1").split("\r\n"):
            name, mark, value = line.partition(":")
            if mark:
                headers[name.strip().lower()] = value.strip()
        self._send((status, headers))

    def data(self, data: bytes) -> None:
        self.written += len(data)
        self._send(data)

    def end(self) -> None:
        self._send(None)

    def cut(self, reset: bool) -> None:
        """A reset overtakes what is on its way."""
        error = UpstreamError(
            "the connection was reset" if reset else "the answer ended early", sent=True, received=self.received
        )
        if reset and not self.mute:
            self.world.post(0.001 + self.world.dice.random() * 0.01, self.client, self._arrive, error)
        else:
            self._send(error)

    def _send(self, item: Any) -> None:
        if self.mute:
            return
        delay = 0.0005 + self.world.dice.random() * (0.004 + self.slow)
        # Strictly later than what went before: events of one instant come in any order.
        self._last = max(self._last + 1e-6, self.world.now + delay)
        self.world.push(self._last, self.client, events.Handle(self._arrive, (item,), self.client))

    def _arrive(self, item: Any) -> None:
        if self.closed or (self.inbox and isinstance(self.inbox[-1], UpstreamError)):
            return
        self.received = True
        self.inbox.append(item)
        if self.waiter is not None and not self.waiter.done():
            self.waiter.set_result(None)

    async def next(self, timeout_s: float) -> Any:
        """The next thing that arrives. Raises TimeoutError."""
        if not self.inbox:
            async with asyncio.timeout(timeout_s):
                while not self.inbox:
                    self.waiter = asyncio.get_running_loop().create_future()
                    await self.waiter
        return self.inbox.popleft()


class Response:
    """An answer at the client."""

    def __init__(
        self, upstream: "SimUpstream", line: Line, exchange: Exchange, status: int, headers: Mapping[str, str]
    ) -> None:
        self.status = status
        self.headers = headers
        self._upstream = upstream
        self._line = line
        self._exchange = exchange
        self._ended = False
        upstream.open += 1

    async def read_chunk(self, timeout_s: float) -> bytes:
        if self._ended:
            return b""
        try:
            item = await self._line.next(timeout_s)
        except TimeoutError:
            raise UpstreamError("no answer bytes in time", sent=True, received=True, timeout=True) from None
        if isinstance(item, UpstreamError):
            self._line.inbox.append(item)
            raise UpstreamError(item.signal, sent=True, received=True)
        if item is None:
            self._ended = True
            return b""
        data = [item]
        while self._line.inbox and isinstance(self._line.inbox[0], bytes):
            data.append(self._line.inbox.popleft())
        found = b"".join(data)
        self._line.read += len(found)
        return found

    async def read_all(self, timeout_s: float, limit_bytes: int) -> bytes:
        parts = []
        until = self._upstream.world.now + timeout_s
        try:
            while part := await self.read_chunk(max(0.0, until - self._upstream.world.now)):
                parts.append(part)
        except UpstreamError:
            self.close()
            raise
        return b"".join(parts)

    def discard(self) -> None:
        self.close()

    def close(self) -> None:
        if not self._line.closed:
            self._upstream.open -= 1
            self._upstream.leave(self._line, self._exchange)


class SimUpstream:
    """Satisfies the use cases' port `Upstream` for one process. `on_send` is told before a byte leaves."""

    def __init__(self, network: "Network", loop: Loop, on_send: Callable[[Exchange], None]) -> None:
        self.world = network.world
        self.open = 0
        self._network = network
        self._loop = loop
        self._on_send = on_send
        self._exchanges: dict[int, tuple[Line, Exchange]] = {}

    async def send(self, request: UpstreamRequest, *, head_timeout_s: float) -> Response:
        world, dice, weather = self.world, self.world.dice, self._network.weather
        if head_timeout_s <= 0:
            raise UpstreamError("no time left", sent=False, received=False, timeout=True)
        slow = dice.random() * 3 if dice.random() < weather.slow else 0.0
        line = Line(world, self._loop, slow)
        exchange = Exchange(self._network, request, line)
        self._on_send(exchange)
        if dice.random() < weather.refused:
            await asyncio.sleep(min(head_timeout_s, 0.001 + dice.random() * 0.2))
            raise UpstreamError("connection refused", sent=False, received=False)
        self._exchanges[id(line)] = (line, exchange)
        way_s = 0.0005 + dice.random() * (0.003 + slow)
        fate = dice.random()
        if fate < weather.request_lost:
            line.mute = True
        else:
            line.mute = fate < weather.request_lost + weather.answer_lost
            world.post(way_s, self._network.loop, self._network.arrive, exchange)
        if line.mute or dice.random() < weather.broken:
            break_s = dice.random() * (8.0 if line.mute else 1.5)
            if not line.mute or dice.random() < 0.5:
                world.post(way_s + break_s, self._loop, self._break, line, exchange)
        try:
            item = await line.next(head_timeout_s)
        except TimeoutError:
            self.leave(line, exchange)
            raise UpstreamError("no answer head in time", sent=True, received=False, timeout=True) from None
        except BaseException:
            self.leave(line, exchange)
            raise
        if isinstance(item, UpstreamError):
            self.leave(line, exchange)
            raise item
        status, headers = item
        return Response(self, line, exchange, status, headers)

    def _break(self, line: Line, exchange: Exchange) -> None:
        """The connection breaks under both: the provider hears of it as of a hang-up."""
        if not line.closed:
            line._arrive(UpstreamError("the connection was reset", sent=True, received=line.received))
            self.world.post(0.001, self._network.loop, exchange.hang_up)

    def leave(self, line: Line, exchange: Exchange) -> None:
        """The client closes."""
        if not line.closed:
            line.closed = True
            self._exchanges.pop(id(line), None)
            self.world.post(0.0005 + self.world.dice.random() * 0.01, self._network.loop, exchange.hang_up)

    def drop_all(self) -> None:
        """The process is dead: its kernel closes what was open."""
        for line, exchange in list(self._exchanges.values()):
            self.leave(line, exchange)


class _Book(Book):
    """The emulator's bill book, which tells whose exchange a bill was for."""

    def __init__(self, network: "Network") -> None:
        super().__init__()
        self._network = network

    def add(self, *args: Any, **kwargs: Any) -> Bill:
        bill = super().add(*args, **kwargs)
        self._network.billed(bill)
        return bill


class Network:
    """The providers' side of the world."""

    def __init__(self, world: World, on_bill: Noted) -> None:
        self.world = world
        self.loop = Loop(world, "providers")
        self.weather = Weather()
        self.emulator = Emulator(world.seed)
        self.emulator.book = _Book(self)
        self._on_bill = on_bill
        self._handling: Exchange | None = None
        self._tasks: dict[asyncio.Task[None], Exchange] = {}

    def arrive(self, exchange: Exchange) -> None:
        """A request is here."""
        self._handling = exchange
        try:
            work = self.emulator.handle(exchange)  # type: ignore[arg-type]
        except Hangup:
            return
        finally:
            self._handling = None
        if work is not None:
            task = self.loop.create_task(self._work(exchange, work))
            self._tasks[task] = exchange
            task.add_done_callback(lambda done: self._tasks.pop(done, None))

    async def _work(self, exchange: Exchange, work: Any) -> None:
        try:
            await work
        except Hangup:
            pass
        finally:
            exchange.done = True

    def billed(self, bill: Bill) -> None:
        exchange = self._handling
        if exchange is None:
            task = asyncio.current_task()
            assert task is not None
            exchange = self._tasks[task]
        self.world.note(f"bill {bill.provider} {bill.cost_nusd} {int(bill.aborted)} {exchange.hold_id}")
        self._on_bill(exchange, bill)
