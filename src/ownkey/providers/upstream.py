"""The only module that opens sockets to providers, and the only one that reveals a secret.

A request leaves exactly as its `UpstreamRequest` says: no redirect is followed, no proxy or cookie is known,
and nothing is retried, with one exception. A pooled connection that dies before any byte of an answer is
replaced once by a fresh one: the peer has usually closed it while it was idle. That the peer could have begun
to work is accepted there and nowhere else.
"""

import asyncio
import re
import ssl
from collections.abc import Mapping
from functools import lru_cache

from ownkey import __version__
from ownkey.domain.exchange import Origin, UpstreamRequest
from ownkey.domain.failures import UpstreamError
from ownkey.domain.scrub import CredentialTail
from ownkey.providers.egress import Egress, RefusedAddress, Resolver, UnresolvedName
from ownkey.providers.http1 import Connection, Inflater

_METHODS = frozenset({"GET", "POST", "PUT", "PATCH", "DELETE"})
_OURS = frozenset(
    {"host", "content-length", "transfer-encoding", "connection", "accept-encoding", "user-agent", "expect",
     "upgrade", "te", "trailer", "proxy-authorization", "cookie"}
)  # fmt: skip
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+", re.ASCII)
_FIXED_LINES = f"user-agent: ownkey/{__version__}\r\naccept-encoding: identity"
_MIN_CONNECT_SHARE_S = 1.0


class Upstream:
    """Sends requests over pooled connections, one pool an origin. No connection holds a credential.

    `connect_s` bounds name resolution, connecting and TLS together. `allow_insecure_origins` admits loopback
    addresses and http to them, nothing else. `idle_s` is how long an unused connection stays open.
    """

    def __init__(
        self,
        *,
        connect_s: float = 3.0,
        allow_insecure_origins: bool = False,
        resolver: Resolver | None = None,
        ssl_context: ssl.SSLContext | None = None,
        max_idle_per_origin: int = 256,
        idle_s: float = 30.0,
        max_head_bytes: int = 65536,
    ) -> None:
        self._connect_s = connect_s
        self._egress = Egress(allow_loopback=allow_insecure_origins, resolver=resolver)
        self._ssl_context = ssl_context or _tls()
        self._max_idle = max_idle_per_origin
        self._idle_s = idle_s
        self._max_head_bytes = max_head_bytes
        self._pools: dict[tuple[str, str, int], list[Connection]] = {}
        self._open: set[Connection] = set()
        self._all_lost = asyncio.Event()
        self._closed = False

    @property
    def open_connections(self) -> int:
        """Sockets open now, idle and busy."""
        return len(self._open)

    async def send(self, request: UpstreamRequest, *, head_timeout_s: float) -> "UpstreamResponse":
        """Send a request and wait for the answer's head; connecting counts towards `head_timeout_s`.

        Raises UpstreamError. The caller must close the answer.
        """
        if self._closed:
            raise UpstreamError("upstream is closed", sent=False, received=False)
        if head_timeout_s <= 0:
            raise UpstreamError("no time left", sent=False, received=False, timeout=True)
        loop = asyncio.get_running_loop()
        deadline = loop.time() + head_timeout_s
        origin = request.origin
        pool = self._pool(origin)
        connection = self._begin_on_idle(pool, request)
        sent_before = False
        if connection is not None:
            try:
                return await self._answer(connection, pool, deadline, request)
            except UpstreamError as error:
                if error.received or error.timeout:
                    raise
                sent_before = error.sent
        try:
            connection = await self._connect(loop, origin, pool, deadline)
            try:
                connection.begin(_encode_head(request), request.body)
            except BaseException:
                connection.abort()
                raise
            return await self._answer(connection, pool, deadline, request)
        except UpstreamError as error:
            error.sent = error.sent or sent_before
            raise

    async def aclose(self) -> None:
        """Close every connection, idle or busy, and wait until the sockets are gone."""
        self._closed = True
        self._egress.close()
        for connection in tuple(self._open):
            connection.abort()
        if self._open:
            self._all_lost.clear()
            await self._all_lost.wait()

    def _pool(self, origin: Origin) -> list[Connection]:
        key = (origin.scheme, origin.host, origin.port)
        pool = self._pools.get(key)
        if pool is None:
            pool = self._pools[key] = []
        return pool

    def _begin_on_idle(self, pool: list[Connection], request: UpstreamRequest) -> Connection | None:
        """Start the exchange on the idle connection used last; None if there is none.

        Not a coroutine, so that no suspended frame holds the head's bytes with the credential.
        """
        head = _encode_head(request)
        while pool:
            connection = pool.pop()
            if connection.reusable:
                connection.begin(head, request.body)
                return connection
            connection.abort()
        return None

    async def _answer(
        self, connection: Connection, pool: list[Connection], deadline: float, request: UpstreamRequest
    ) -> "UpstreamResponse":
        try:
            await connection.head(deadline)
            return UpstreamResponse(connection, self, pool, _mask_for(request))
        except BaseException:  # also a cancelled caller: nobody will read this connection again
            connection.abort()
            raise

    def _release(self, connection: Connection, pool: list[Connection]) -> None:
        """Pool a connection whose exchange is over on both sides; close any other."""
        if connection.reusable and len(pool) < self._max_idle and not self._closed:
            connection.rest(self._idle_s)
            pool.append(connection)
        else:
            connection.abort()

    def _lost(self, connection: Connection, pool: list[Connection]) -> None:
        self._open.discard(connection)
        if not self._open:
            self._all_lost.set()
        if connection in pool:
            pool.remove(connection)

    async def _connect(
        self, loop: asyncio.AbstractEventLoop, origin: Origin, pool: list[Connection], deadline: float
    ) -> Connection:
        """A fresh connection to a checked address. Raises UpstreamError with nothing sent."""
        limit = min(deadline, loop.time() + self._connect_s)
        try:
            async with asyncio.timeout_at(limit):
                addresses = await self._egress.addresses(origin)
                connection = await self._connect_any(loop, origin, addresses, pool, limit)
        except (OSError, ValueError, RefusedAddress, UnresolvedName) as error:
            raise _connect_failure(error) from error
        if connection.alive:
            self._open.add(connection)
        if self._closed:
            connection.abort()
        return connection

    async def _connect_any(
        self,
        loop: asyncio.AbstractEventLoop,
        origin: Origin,
        addresses: tuple[str, ...],
        pool: list[Connection],
        limit: float,
    ) -> Connection:
        """Try each address with its share of the time. A failed certificate is final: the peer is not ours."""
        last = len(addresses) - 1
        for index, address in enumerate(addresses):
            left = limit - loop.time()
            share = left if index == last else max(left / (last + 1 - index), _MIN_CONNECT_SHARE_S)
            try:
                async with asyncio.timeout(share):
                    connection = await self._connect_to(loop, origin, address, pool)
            except ssl.SSLError:
                raise
            except OSError:
                if index == last:
                    raise
            else:
                if index > 0:
                    self._egress.prefer(origin.host, address)
                return connection
        raise AssertionError("egress never returns an empty list of addresses")

    async def _connect_to(
        self, loop: asyncio.AbstractEventLoop, origin: Origin, address: str, pool: list[Connection]
    ) -> Connection:
        def build() -> Connection:
            return Connection(loop, lambda lost: self._lost(lost, pool), max_head_bytes=self._max_head_bytes)

        tls = origin.scheme == "https"
        _, connection = await loop.create_connection(
            build,
            address,
            origin.port,
            ssl=self._ssl_context if tls else None,
            server_hostname=origin.host if tls else None,
        )
        return connection


class UpstreamResponse:
    """An answer whose head has arrived. Whoever holds it must close it.

    `headers` has lower-case names; duplicates are joined by ", ", set-cookie is dropped. A body that came
    compressed is decompressed, and content-encoding and content-length are dropped with it. The credential that was
    sent is masked wherever it comes back: a provider may echo it in an error, and nobody may see it then.
    """

    __slots__ = (
        "_bytes", "_connection", "_ended", "_given_back", "_inflater", "_mask", "_pool", "_upstream", "headers",
        "status",
    )  # fmt: skip

    def __init__(
        self, connection: Connection, upstream: Upstream, pool: list[Connection], mask: CredentialTail | None
    ) -> None:
        headers = connection.headers
        self._mask = mask
        if mask is not None:
            headers = mask_headers(headers, mask)
        self._inflater: Inflater | None = None
        encoding = headers.get("content-encoding")
        if encoding is not None and encoding.lower() not in ("", "identity"):
            if encoding.lower() not in ("gzip", "x-gzip", "deflate"):
                raise connection.error("unasked content-encoding")
            self._inflater = Inflater(encoding.lower())
            headers = {k: v for k, v in headers.items() if k not in ("content-encoding", "content-length")}
        self.status: int = connection.status
        self.headers: Mapping[str, str] = headers
        self._connection: Connection | None = connection
        self._given_back: Connection | None = None
        self._upstream = upstream
        self._pool = pool
        self._bytes = 0
        self._ended = False

    @property
    def bytes_received(self) -> int:
        """Body bytes that arrived so far, without chunk framing and before decompression."""
        return self._bytes if self._connection is None else self._connection.body_bytes

    async def read_chunk(self, timeout_s: float) -> bytes:
        """The next body bytes, b"" at a proper end.

        Raises UpstreamError. After a timeout the answer is still open and may be read again; after any other
        error, and after cancellation, it is closed.
        """
        return await self._next(asyncio.get_running_loop().time() + timeout_s)

    async def read_all(self, timeout_s: float, limit_bytes: int) -> bytes:
        """The whole rest of the body, within `timeout_s` in all. Raises UpstreamError, also above the limit."""
        deadline = asyncio.get_running_loop().time() + timeout_s
        parts: list[bytes] = []
        size = 0
        try:
            while data := await self._next(deadline):
                parts.append(data)
                size += len(data)
                if size > limit_bytes:
                    raise UpstreamError(f"answer above {limit_bytes} bytes", sent=True, received=True)
        except UpstreamError:
            self.close()
            raise
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def discard(self) -> None:
        """Close, and never use the connection again: what it brought makes no sense, so what follows may not either.

        An answer longer than its stated length ends like a good one; its rest would be read as the next one's head.
        Only useful before anything else was awaited: afterwards another exchange may have the connection.
        """
        connection = self._connection or self._given_back
        if connection is not None and (connection is self._connection or connection in self._pool):
            connection.abort()
        self.close()

    def close(self) -> None:
        """Give the connection back if the body was read to its end, else close it. Idempotent."""
        connection = self._connection
        if connection is not None:
            self._bytes = connection.body_bytes
            self._connection, self._given_back = None, connection
            self._upstream._release(connection, self._pool)

    async def _next(self, deadline: float) -> bytes:
        mask = self._mask
        while True:
            data = await self._next_unmasked(deadline)
            if mask is None:
                return data
            if not data:
                return mask.flush()
            data = mask.feed(data)
            if data:
                return data

    async def _next_unmasked(self, deadline: float) -> bytes:
        connection = self._connection
        if connection is None:
            if self._ended:
                return b""
            raise UpstreamError("answer was closed", sent=True, received=True)
        try:
            if self._inflater is None:
                data = await connection.read(deadline)
            else:
                data = await _inflate(connection, self._inflater, deadline)
        except BaseException as error:
            if not (isinstance(error, UpstreamError) and error.timeout):
                self.close()
            raise
        if not data:
            self._ended = True
            self.close()
        return data


def _mask_for(request: UpstreamRequest) -> CredentialTail | None:
    return None if request.credential is None else CredentialTail(request.credential.reveal().encode("ascii"))


def mask_headers(headers: dict[str, str], mask: CredentialTail) -> dict[str, str]:
    """The headers with the credential masked in their values; the same mapping if it is nowhere."""
    joined = "\n".join(headers.values()).encode("latin-1", "replace")
    hits = mask.hits
    mask.feed(joined + b"\n")
    if mask.hits == hits:
        return headers
    masked = {}
    for name, value in headers.items():
        masked[name] = (mask.feed(value.encode("latin-1", "replace")) + mask.flush()).decode("latin-1")
    return masked


async def _inflate(connection: Connection, inflater: Inflater, deadline: float) -> bytes:
    try:
        while not (data := inflater.take()):
            compressed = await connection.read(deadline)
            if not compressed:
                inflater.finish()
                return b""
            inflater.feed(compressed)
    except ValueError as error:
        raise connection.error(str(error)) from None
    return data


def _tls() -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.set_alpn_protocols(["http/1.1"])
    return context


def _connect_failure(error: Exception) -> UpstreamError:
    """What a failed connect is called. The order matters: a certificate error is a ValueError and an OSError."""
    match error:
        case ssl.SSLCertVerificationError():
            signal = f"tls certificate refused: {error.verify_message}"
        case ssl.SSLError():
            signal = f"tls failed: {error.reason or 'no reason given'}"
        case TimeoutError():
            return UpstreamError("connect timed out", sent=False, received=False, timeout=True)
        case UnresolvedName():
            signal = "name not resolved"
        case RefusedAddress():
            signal = "refused address"
        case ConnectionRefusedError():
            signal = "connection refused"
        case OSError():
            signal = "connect failed"
        case _:
            signal = f"refused origin: {error}"
    return UpstreamError(signal, sent=False, received=False)


def _encode_head(request: UpstreamRequest) -> bytes:
    """The request's head, with its credential. Raises UpstreamError rather than send anything ambiguous.

    Values are checked all at once: the head must have exactly the line ends that were put there.
    """
    origin = request.origin
    target = origin.base_path + request.path
    if request.method not in _METHODS or target[:1] != "/" or " " in target:
        raise _refused("request line")
    host = f"[{origin.host}]" if ":" in origin.host else origin.host
    if origin.port != (443 if origin.scheme == "https" else 80):
        host = f"{host}:{origin.port}"
    lines = [f"{request.method} {target} HTTP/1.1", f"host: {host}", _FIXED_LINES]
    if request.body or request.method != "GET":
        lines.append(f"content-length: {len(request.body)}")
    credential_name = _header_name(request.credential_header) if request.credential is not None else ""
    for name, value in request.headers:
        if _header_name(name) == credential_name:
            raise _refused("header beside the credential's")
        lines.append(f"{name}: {value}")
    if request.credential is not None:
        lines.append(f"{credential_name}: {request.credential_prefix}{request.credential.reveal()}")
    head = "\r\n".join(lines) + "\r\n\r\n"
    ends = len(lines) + 2  # the fixed lines are two
    if not head.isascii() or head.count("\r") != ends or head.count("\n") != ends or "\0" in head:
        del head, lines  # an exception keeps its frame: a reporter that prints locals must not find the key
        raise _refused("header value")
    return head.encode("ascii")


@lru_cache(maxsize=512)
def _header_name(name: str) -> str:
    lower = name.lower()
    if _TOKEN.fullmatch(name) is None or lower in _OURS:
        raise _refused("header name")
    return lower


def _refused(what: str) -> UpstreamError:
    return UpstreamError(f"refused {what}", sent=False, received=False)
