"""The client that talks to providers, against peers that behave well, badly and with malice."""

import asyncio
import gc
import gzip
import socket
import struct
import time
import weakref
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from types import CoroutineType

import pytest
import uvloop

import ownkey
from ownkey.domain.exchange import Origin, UpstreamRequest
from ownkey.domain.failures import UpstreamError
from ownkey.domain.secret import Secret
from ownkey.providers.http1 import HIGH_WATER, MAX_INFLATED, Connection
from ownkey.providers.upstream import Upstream

Script = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
KEY = "sk-canary-0123456789abcdef"
OK = b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello"


@dataclass
class Peer:
    """What a fake provider saw."""

    port: int = 0
    connections: int = 0
    open: int = 0
    requests: list[bytes] = field(default_factory=list)


@asynccontextmanager
async def peer(*scripts: Script) -> AsyncIterator[Peer]:
    """A fake provider: the nth connection runs the nth script, later ones the last."""
    seen = Peer()
    tasks: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        seen.open += 1
        script = scripts[min(seen.connections, len(scripts) - 1)]
        seen.connections += 1
        writer.seen = seen  # type: ignore[attr-defined]
        try:
            await script(reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        finally:
            writer.close()
            seen.open -= 1
            tasks.discard(task)

    server = await asyncio.start_server(serve, "127.0.0.1", 0, limit=1 << 20)
    seen.port = server.sockets[0].getsockname()[1]
    try:
        yield seen
    finally:
        server.close()
        for task in tuple(tasks):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def take_request(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes:
    """Read one request, head and body."""
    head = await reader.readuntil(b"\r\n\r\n")
    body = b""
    for line in head.lower().split(b"\r\n"):
        if line.startswith(b"content-length:"):
            body = await reader.readexactly(int(line.split(b":")[1]))
    writer.seen.requests.append(head + body)  # type: ignore[attr-defined]
    return head + body


def answers(*pieces: bytes, then_close: bool = False, pause_s: float = 0.0) -> Script:
    """Answer every request with these pieces."""

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            await take_request(reader, writer)
            for piece in pieces:
                writer.write(piece)
                await writer.drain()
                await asyncio.sleep(pause_s)
            if then_close:
                return

    return script


def answers_then_resets(*pieces: bytes) -> Script:
    """Answer the first request with these pieces, then send RST."""

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await take_request(reader, writer)
        for piece in pieces:
            writer.write(piece)
        await asyncio.sleep(0.02)
        reset(writer)

    return script


def reset(writer: asyncio.StreamWriter) -> None:
    sock = writer.get_extra_info("socket")
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Read everything, say nothing."""
    while await reader.read(65536):
        pass


def request(
    port: int,
    *,
    body: bytes = b'{"model":"m"}',
    headers: tuple[tuple[str, str], ...] = (("content-type", "application/json"),),
    path: str = "/chat/completions",
    method: str = "POST",
    credential: Secret | None = None,
    credential_header: str = "authorization",
    credential_prefix: str = "Bearer ",
) -> UpstreamRequest:
    origin = Origin("http", "127.0.0.1", port, "/v1")
    return UpstreamRequest(origin, method, path, headers, body, credential, credential_header, credential_prefix)


@pytest.fixture
async def upstream() -> AsyncIterator[Upstream]:
    client = Upstream(allow_insecure_origins=True)
    yield client
    await client.aclose()

    assert client.open_connections == 0


async def get(client: Upstream, port: int, *, head_timeout_s: float = 5.0) -> tuple[int, bytes]:
    """One whole exchange."""
    response = await client.send(request(port), head_timeout_s=head_timeout_s)
    body = await response.read_all(5.0, 1 << 27)
    response.close()
    return response.status, body


async def fails(client: Upstream, port: int, *, head_timeout_s: float = 5.0) -> UpstreamError:
    """One exchange that must fail, in the head or in the body."""
    with pytest.raises(UpstreamError) as caught:
        await get(client, port, head_timeout_s=head_timeout_s)
    return caught.value


async def until(condition: Callable[[], bool]) -> None:
    """Wait for what the event loop still has to do, at most 2 s."""
    for _ in range(400):
        if condition():
            return
        await asyncio.sleep(0.005)
    raise AssertionError("it never happened")


def chunked(*chunks: bytes) -> bytes:
    framed = b"".join(b"%x\r\n%s\r\n" % (len(chunk), chunk) for chunk in chunks)
    return b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n" + framed + b"0\r\n\r\n"


def gzipped(body: bytes) -> bytes:
    return gzip.compress(body, mtime=0)  # the same bytes, and so the same test names, at any time


def sized(body: bytes, *headers: bytes) -> bytes:
    extra = b"".join(header + b"\r\n" for header in headers)
    return b"HTTP/1.1 200 OK\r\n%scontent-length: %d\r\n\r\n%s" % (extra, len(body), body)


# What is sent


async def test_a_request_is_sent_exactly_as_described(upstream: Upstream) -> None:
    """Nothing is in a request but what its value says, our five lines, and the credential in its header."""
    async with peer(answers(OK)) as seen:
        sent = request(seen.port, headers=(("X-Title", "demo"),), body=b"body", credential=Secret(KEY))
        (await upstream.send(sent, head_timeout_s=5)).close()

        assert seen.requests == [
            (
                "POST /v1/chat/completions HTTP/1.1\r\n"
                f"host: 127.0.0.1:{seen.port}\r\n"
                f"user-agent: ownkey/{ownkey.__version__}\r\n"
                "accept-encoding: identity\r\n"
                "content-length: 4\r\n"
                "X-Title: demo\r\n"
                f"authorization: Bearer {KEY}\r\n"
                "\r\n"
                "body"
            ).encode()
        ]


async def test_the_credential_is_only_in_its_header(upstream: Upstream) -> None:
    """Whatever header it has, a key appears once in what a capture server sees, and not in the next call."""
    async with peer(answers(OK)) as seen:
        for header, prefix in (("authorization", "Bearer "), ("x-api-key", ""), ("x-goog-api-key", "")):
            sent = request(seen.port, credential=Secret(KEY), credential_header=header, credential_prefix=prefix)
            response = await upstream.send(sent, head_timeout_s=5)
            await response.read_all(5, 100)
            await get(upstream, seen.port)

            with_key, without = seen.requests[-2:]
            assert with_key.count(KEY.encode()) == 1
            assert f"\r\n{header}: {prefix}{KEY}\r\n".encode() in with_key
            assert KEY.encode() not in without
        assert seen.connections == 1


async def test_nothing_keeps_the_credential_after_sending(upstream: Upstream) -> None:
    """While a provider thinks and afterwards, no suspended frame and no connection of ours holds the key."""
    think = asyncio.Event()

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await take_request(reader, writer)
        await think.wait()
        writer.write(OK)
        await reader.read()

    async with peer(script) as seen:
        sent = request(seen.port, credential=Secret(KEY))
        call = upstream.send(sent, head_timeout_s=5)
        task = asyncio.create_task(call)
        await until(lambda: len(seen.requests) == 1)
        frames = []
        suspended: object = call
        while isinstance(suspended, CoroutineType):
            assert suspended.cr_frame is not None
            frames.append(repr(suspended.cr_frame.f_locals))
            suspended = suspended.cr_await
        (connection,) = upstream._open

        assert KEY.encode() in seen.requests[0]
        assert len(frames) == 4
        assert KEY not in repr(frames) + repr(vars(connection))
        think.set()
        response = await task
        await response.read_all(5, 100)
        assert KEY not in repr(vars(connection)) + repr(vars(upstream))


async def test_a_get_has_no_body_and_a_query_passes(upstream: Upstream) -> None:
    """A GET without a body declares none; the path's query is sent as it is."""
    async with peer(answers(OK)) as seen:
        sent = request(seen.port, method="GET", path="/models?limit=1", body=b"", headers=())
        (await upstream.send(sent, head_timeout_s=5)).close()

        assert seen.requests[0].startswith(b"GET /v1/models?limit=1 HTTP/1.1\r\n")
        assert b"content-length" not in seen.requests[0]


@pytest.mark.parametrize(
    "headers",
    [
        (("x", "a\r\nevil: 1"),),
        (("x", "a\nevil: 1"),),
        (("x", "a\rb"),),
        (("x", "a\0b"),),
        (("x", "caf\u00e9"),),
        (("x\r\nevil", "a"),),
        (("x y", "a"),),
        (("x:", "a"),),
        (("", "a"),),
        (("Host", "evil"),),
        (("Content-Length", "3"),),
        (("transfer-encoding", "chunked"),),
        (("Connection", "close"),),
        (("cookie", "a=b"),),
        (("Authorization", "Bearer other"),),
    ],
)
async def test_a_header_that_could_change_the_request_is_refused(
    upstream: Upstream, headers: tuple[tuple[str, str], ...]
) -> None:
    """Line ends, NUL, foreign letters, broken names, framing headers, a second credential: no connection."""
    async with peer(answers(OK)) as seen:
        with pytest.raises(UpstreamError) as caught:
            await upstream.send(request(seen.port, headers=headers, credential=Secret(KEY)), head_timeout_s=5)

        assert caught.value.signal.startswith("refused header")
        assert (caught.value.sent, caught.value.received) == (False, False)
        assert seen.connections == 0


@pytest.mark.parametrize("bad", ["a\r\nx: 1", "a\nb", "a\0b", "ä"])
async def test_a_credential_that_could_change_the_request_is_refused(upstream: Upstream, bad: str) -> None:
    """A stored credential with a line end is not sent, and the error does not repeat it or hold it."""
    async with peer(answers(OK)) as seen:
        with pytest.raises(UpstreamError) as caught:
            await upstream.send(request(seen.port, credential=Secret(KEY + bad)), head_timeout_s=5)

        trace = caught.value.__traceback__
        while trace is not None:
            if "upstream.py" in trace.tb_frame.f_code.co_filename and "test_" not in trace.tb_frame.f_code.co_filename:
                assert KEY not in repr(trace.tb_frame.f_locals)
            trace = trace.tb_next
        assert KEY not in str(caught.value)
        assert seen.connections == 0


@pytest.mark.parametrize(
    ("method", "path"),
    [("POST", "/a b"), ("POST", "/a\r\nb"), ("HEAD", "/a"), ("CONNECT", "/a"), ("get", "/a"), ("POST\r\n", "/a")],
)
async def test_a_broken_request_line_is_refused(upstream: Upstream, method: str, path: str) -> None:
    """A method we do not speak and a path that could split the request line never leave."""
    async with peer(answers(OK)) as seen:
        with pytest.raises(UpstreamError) as caught:
            await upstream.send(request(seen.port, method=method, path=path), head_timeout_s=5)

        assert not caught.value.sent
        assert seen.connections == 0


# Answers


@pytest.mark.parametrize(
    ("answer", "then_close"),
    [
        (OK, False),
        (chunked(b"he", b"l", b"lo"), False),
        (b"HTTP/1.1 200 OK\r\n\r\nhello", True),
        (b"HTTP/1.0 200 OK\r\ncontent-length: 5\r\n\r\nhello", True),
        (b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5;a=b\r\nhello\r\n0\r\nx-trailer: 1\r\n\r\n", False),
    ],
)
async def test_a_body_is_the_same_however_it_is_framed(upstream: Upstream, answer: bytes, then_close: bool) -> None:
    """Content-length, chunks, until close, HTTP/1.0 and trailers all give the same body."""
    async with peer(answers(answer, then_close=then_close)) as seen:
        response = await upstream.send(request(seen.port), head_timeout_s=5)
        body = await response.read_all(5, 100)

        assert (response.status, body, response.bytes_received) == (200, b"hello", 5)
        assert await response.read_chunk(1) == b""
        assert "x-trailer" not in response.headers


@pytest.mark.parametrize(
    "answer", [OK, chunked(b"he", b"l", b"lo"), sized(gzipped(b"hello"), b"content-encoding: gzip")]
)
async def test_an_answer_may_be_split_at_every_byte(upstream: Upstream, answer: bytes) -> None:
    """Wherever the network cuts an answer in two, and if each byte comes alone, it reads the same."""
    results = set()
    for cut in range(1, len(answer)):
        async with peer(answers(answer[:cut], answer[cut:], pause_s=0.001)) as seen:
            results.add(await get(upstream, seen.port))
    async with peer(answers(*[bytes([byte]) for byte in answer], pause_s=0.0001)) as seen:
        results.add(await get(upstream, seen.port))

    assert results == {(200, b"hello")}


async def test_chunks_come_as_they_arrive(upstream: Upstream) -> None:
    """A stream's bytes are handed out when they come, not when the stream ends."""
    proceed = asyncio.Event()

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await take_request(reader, writer)
        writer.write(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nfirst\r\n")
        await proceed.wait()
        writer.write(b"6\r\nsecond\r\n0\r\n\r\n")
        await reader.read()

    async with peer(script) as seen:
        response = await upstream.send(request(seen.port), head_timeout_s=5)
        assert await response.read_chunk(5) == b"first"
        proceed.set()
        assert await response.read_chunk(5) == b"second"
        assert await response.read_chunk(5) == b""
        assert response.bytes_received == 11


async def test_headers_are_lower_case_joined_and_without_cookies(upstream: Upstream) -> None:
    """Names are lower-case, duplicates are joined with a comma, Set-Cookie never gets out."""
    answer = sized(b"", b"X-A: 1 \t", b"x-a: 2", b"Set-Cookie: a=b", b"set-cookie: c=d", b"X-Empty:", b"X-L: \xe9")
    async with peer(answers(answer)) as seen:
        response = await upstream.send(request(seen.port), head_timeout_s=5)
        response.close()

        expected = {"x-a": "1, 2", "x-empty": "", "x-l": "\u00e9", "content-length": "0"}
        assert dict(response.headers) == expected


async def test_interim_answers_are_skipped(upstream: Upstream) -> None:
    """100 and 103 are not the answer, together with it or before it."""
    interim = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\n"
    async with peer(answers(interim + OK)) as seen, peer(answers(interim, OK, pause_s=0.01)) as slow:
        response = await upstream.send(request(seen.port), head_timeout_s=5)
        response.close()

        assert "link" not in response.headers
        assert await get(upstream, seen.port) == (200, b"hello")
        assert await get(upstream, slow.port) == (200, b"hello")


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_redirects_are_returned_not_followed(upstream: Upstream, status: int) -> None:
    """A 3xx is an answer like any other; the other host hears nothing."""
    async with peer(answers(OK)) as other:
        location = f"location: http://127.0.0.1:{other.port}/".encode()
        redirect = b"HTTP/1.1 %d Go\r\n%s\r\ncontent-length: 0\r\n\r\n" % (status, location)
        async with peer(answers(redirect)) as seen:
            assert await get(upstream, seen.port) == (status, b"")
            assert (seen.connections, other.connections) == (1, 0)


@pytest.mark.parametrize("head", [b"HTTP/1.1 204 No\r\n\r\n", b"HTTP/1.1 304 No\r\ncontent-length: 9\r\n\r\n"])
async def test_answers_without_a_body_end_with_their_head(upstream: Upstream, head: bytes) -> None:
    """204 and 304 have no body, and the connection stays usable."""
    async with peer(answers(head)) as seen:
        await get(upstream, seen.port)
        await get(upstream, seen.port)

        assert seen.connections == 1


async def test_read_all_stops_at_its_limit(upstream: Upstream) -> None:
    """A body above the limit is an error and its connection is closed."""
    async with peer(answers(sized(b"x" * 1000)[:-800])) as seen:
        response = await upstream.send(request(seen.port), head_timeout_s=5)
        with pytest.raises(UpstreamError, match="answer above 100 bytes"):
            await response.read_all(5, 100)
        await until(lambda: upstream.open_connections == 0)


# Compression nobody asked for


@pytest.mark.parametrize(
    ("encoding", "body"),
    [
        (b"gzip", gzipped(b"hello" * 99)),
        (b"X-GZIP", gzipped(b"hello" * 99)),
        (b"deflate", zlib.compress(b"hello" * 99)),
        (b"deflate", zlib.compress(b"hello" * 99)[2:-4]),
        (b"identity", b"hello" * 99),
    ],
)
async def test_unasked_compression_is_undone(upstream: Upstream, encoding: bytes, body: bytes) -> None:
    """gzip, deflate and bare deflate come out plain, and no header says otherwise any more."""
    async with peer(answers(sized(body, b"content-encoding: " + encoding))) as seen:
        response = await upstream.send(request(seen.port), head_timeout_s=5)

        assert await response.read_all(5, 1000) == b"hello" * 99
        assert response.headers.get("content-encoding", "identity") == "identity"
        assert response.bytes_received == len(body)


async def test_a_compressed_stream_is_relayed_as_it_comes(upstream: Upstream) -> None:
    """A flushed gzip piece is readable before the stream ends."""
    packer = zlib.compressobj(wbits=31)
    pieces = [packer.compress(b"one") + packer.flush(zlib.Z_SYNC_FLUSH), packer.compress(b"two") + packer.flush()]
    framed = [b"%x\r\n%s\r\n" % (len(piece), piece) for piece in pieces]
    head = b"HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ntransfer-encoding: chunked\r\n\r\n"
    async with peer(answers(head + framed[0], framed[1], b"0\r\n\r\n", pause_s=0.02)) as seen:
        response = await upstream.send(request(seen.port), head_timeout_s=5)

        assert [await response.read_chunk(5) for _ in range(3)] == [b"one", b"two", b""]


@pytest.mark.parametrize("encoding", [b"br", b"zstd", b"gzip, gzip", b"compress"])
async def test_compression_we_cannot_undo_is_an_error(upstream: Upstream, encoding: bytes) -> None:
    """brotli, zstd and layers of encodings fail at the head; the connection is closed."""
    async with peer(answers(sized(b"xxxx", b"content-encoding: " + encoding))) as seen:
        error = await fails(upstream, seen.port)

        assert (error.signal, error.sent, error.received) == ("unasked content-encoding", True, True)
        await until(lambda: upstream.open_connections == 0)


async def test_a_compression_bomb_is_defused(upstream: Upstream) -> None:
    """A body that inflates past 64 MiB stops there, however small it was; pieces stay small."""
    bomb = gzipped(b"\0" * (MAX_INFLATED + 1))
    async with peer(answers(sized(bomb, b"content-encoding: gzip"))) as seen:
        response = await upstream.send(request(seen.port), head_timeout_s=5)
        total = largest = 0
        error = None
        while error is None:
            try:
                data = await response.read_chunk(5)
            except UpstreamError as caught:
                error = caught
            else:
                assert data
                total += len(data)
                largest = max(largest, len(data))

        assert error.signal == "decompressed answer too large"
        assert len(bomb) < 100_000
        assert largest <= 65536
        assert total <= MAX_INFLATED


async def test_a_body_of_exactly_the_limit_passes(upstream: Upstream) -> None:
    """The limit itself is allowed, and what zlib held back comes out."""
    body = gzipped(b"\0" * MAX_INFLATED)
    async with peer(answers(sized(body, b"content-encoding: gzip"))) as seen:
        assert len((await get(upstream, seen.port))[1]) == MAX_INFLATED


@pytest.mark.parametrize("extra", [0, 1, 2, 3, 257, 258, 259, 65536, 65537])
async def test_what_the_decompressor_holds_back_comes_out(upstream: Upstream, extra: int) -> None:
    """A body that ends just after a piece boundary is whole, though its last input was taken before."""
    body = b"\0" * (65536 + extra)
    async with peer(answers(sized(zlib.compress(body)[2:-4], b"content-encoding: deflate"))) as seen:
        assert await get(upstream, seen.port) == (200, body)


@pytest.mark.parametrize(
    ("body", "signal"),
    [
        (gzipped(b"hello")[:-1], "cut compressed answer"),
        (gzipped(b"hello") + b"!", "bytes after the compressed answer's end"),
        (b"not gzip at all", "broken compressed answer"),
        (gzipped(b"hello" * 50)[:-8] + b"12345678", "broken compressed answer"),
    ],
)
async def test_a_broken_compressed_body_is_an_error(upstream: Upstream, body: bytes, signal: str) -> None:
    """Cut, continued, wrong or with a bad checksum: the answer is not taken as whole."""
    async with peer(answers(sized(body, b"content-encoding: gzip"))) as seen:
        assert (await fails(upstream, seen.port)).signal == signal


async def test_an_empty_compressed_body_is_empty(upstream: Upstream) -> None:
    """An error answer that claims gzip and has no byte is an empty body."""
    async with peer(answers(sized(b"", b"content-encoding: gzip"))) as seen:
        assert await get(upstream, seen.port) == (200, b"")


# Framing that lies


@pytest.mark.parametrize(
    ("answer", "signal"),
    [
        (b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhello", "before the answer's end"),
        (b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n", "before the answer's end"),
        (b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n9\r\nhello", "before the answer's end"),
        (b"HTTP/1.1 200 OK\r\ncontent-len", "inside the answer's head"),
        (b"HTTP/1.1 100 Continue\r\n\r\n", "inside the answer's head"),
        (b"", "before any answer"),
    ],
)  # fmt: skip
async def test_an_answer_that_ends_early_is_an_error(upstream: Upstream, answer: bytes, signal: str) -> None:
    """EOF before the declared end is never taken for the end; the signal says where it happened."""
    async with peer(answers(answer, then_close=True)) as seen:
        error = await fails(upstream, seen.port)

        assert (error.signal, error.sent, error.received) == (f"connection closed {signal}", True, bool(answer))
        assert not error.timeout
        assert seen.connections == 1


@pytest.mark.parametrize(
    "head",
    [
        b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ncontent-length: 5\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\ncontent-length: 6\r\n\r\nhello",
        b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\ncontent-length: 5\r\n\r\nhello",
        b"HTTP/1.1 200 OK\r\ncontent-length: -5\r\n\r\nhello",
        b"HTTP/1.1 200 OK\r\ncontent-length: 5, 5\r\n\r\nhello",
        b"HTTP/1.1 200 OK\r\ncontent-length: 99999999999999999999999\r\n\r\nhello",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: gzip\r\n\r\nhello",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked, identity\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\nhello\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n4\r\nhello\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nx: a\r\n folded\r\ncontent-length: 5\r\n\r\nhello",
        b"HTTP/1.1 200 OK\r\nx: a\0b\r\ncontent-length: 5\r\n\r\nhello",
        b"HTTP/1.1 200 OK\r\nx: a\rb\r\ncontent-length: 5\r\n\r\nhello",
        b"HTTP/1.1 200 OK\ncontent-length: 5\n\nhello",
        b"HTTP/1.1 200 OK\r\nx : a\r\ncontent-length: 5\r\n\r\nhello",
        b"HTTP/1.1 101 Switching\r\nupgrade: x\r\nconnection: upgrade\r\n\r\nhello",
        b"HTTP/1.1 099 What\r\ncontent-length: 5\r\n\r\nhello",
        b"HTTP/1.1 600 What\r\ncontent-length: 5\r\n\r\nhello",
        b"<html>please log in</html>",
        b"\x16\x03\x01 tls?",
    ],
)
async def test_malformed_framing_is_an_error(upstream: Upstream, head: bytes) -> None:
    """An answer that two parsers could read in two ways is not read at all."""
    async with peer(answers(head)) as seen:
        error = await fails(upstream, seen.port)

        assert (error.sent, error.received, error.timeout) == (True, True, False)
        assert seen.connections == 1
        await until(lambda: upstream.open_connections == 0)


@pytest.mark.parametrize(
    "head",
    [
        b"HTTP/1.1 200 OK\r\nx: " + b"a" * 70_000 + b"\r\ncontent-length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"x: y\r\n" * 1001 + b"content-length: 0\r\n\r\n",
        b"HTTP/1.1 100 Continue\r\n\r\n" * 4000,
        b"HTTP/1.1 200 " + b"OK" * 40_000,
    ],
)
async def test_a_huge_head_is_an_error(upstream: Upstream, head: bytes) -> None:
    """More than 64 KiB or 1,000 fields of head are not collected, at once or in pieces."""
    pieces = [head[i : i + 9000] for i in range(0, len(head), 9000)]
    for script in (answers(head), answers(*pieces, pause_s=0.001)):
        async with peer(script) as seen:
            error = await fails(upstream, seen.port)

            assert error.signal in ("answer head too large", "too many answer headers")


async def test_a_thousand_headers_pass(upstream: Upstream) -> None:
    """The limits are for the absurd: 999 short fields and 60 KiB in two pieces still pass."""
    many = b"HTTP/1.1 200 OK\r\n" + b"x: y\r\n" * 999 + b"content-length: 0\r\n\r\n"
    long = b"HTTP/1.1 200 OK\r\nx: " + b"a" * 60_000 + b"\r\ncontent-length: 0\r\n\r\n"
    async with peer(answers(many)) as first, peer(answers(long[:40_000], long[40_000:], pause_s=0.02)) as second:
        assert (await get(upstream, first.port))[0] == 200
        assert (await get(upstream, second.port))[0] == 200


async def test_endless_trailers_are_an_error(upstream: Upstream) -> None:
    """Framing without body does not go on forever."""
    start = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nx-trailer: "
    async with peer(answers(start, *[b"a" * 9000] * 20, pause_s=0.001)) as seen:
        assert (await fails(upstream, seen.port)).signal == "too much chunk framing"


@pytest.mark.parametrize("garbage", [b"garbage", OK, b"\0", b"\r\n\r\nHTTP/1.1 500 No\r\n\r\n"])
@pytest.mark.parametrize("pause_s", [0.0, 0.02])
async def test_bytes_after_an_answer_close_the_connection(upstream: Upstream, garbage: bytes, pause_s: float) -> None:
    """What a peer sends beyond its declared length is never part of an answer, this call's or the next one's."""
    pieces = (OK, garbage) if pause_s else (OK + garbage,)
    async with peer(answers(*pieces, pause_s=pause_s), answers(sized(b"clean"))) as seen:
        assert await get(upstream, seen.port) == (200, b"hello")
        await asyncio.sleep(0.05)

        assert upstream.open_connections == 0
        assert await get(upstream, seen.port) == (200, b"clean")


@pytest.mark.parametrize("discarded", [True, False])
async def test_a_discarded_answer_takes_its_connection_along(upstream: Upstream, discarded: bool) -> None:
    """An answer cut off by too short a length looks whole; its rest must not become the head of the next one."""
    async with peer(answers(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n{\"a\":", b"1}", pause_s=0.05)) as seen:
        response = await upstream.send(request(seen.port), head_timeout_s=5)
        assert await response.read_all(5, 100) == b'{"a":'
        if discarded:
            response.discard()
        response.close()
        await asyncio.sleep(0.02)  # the rest has not come yet: nothing tells the connection from a good one

        assert upstream.open_connections == (0 if discarded else 1)


async def test_discarding_late_takes_nobody_elses_connection(upstream: Upstream) -> None:
    """Once another exchange has the connection, the answer before it has no say in it any more."""
    async with peer(answers(OK)) as seen:
        first = await upstream.send(request(seen.port), head_timeout_s=5)
        await first.read_all(5, 100)
        second = await upstream.send(request(seen.port), head_timeout_s=5)
        first.discard()

        assert await second.read_all(5, 100) == b"hello"
        assert seen.connections == 1


async def test_a_peer_that_speaks_first_is_not_believed(upstream: Upstream) -> None:
    """An answer that arrived before its question is nobody's."""

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(OK)
        await reader.read()

    async with peer(script) as seen:
        await upstream._connect(asyncio.get_running_loop(), request(seen.port).origin, [], 1e9)
        await until(lambda: upstream.open_connections == 0)


# Reuse


async def test_connections_are_reused(upstream: Upstream) -> None:
    """Calls one after the other share one connection, with either framing and with small errors between."""
    script = answers(chunked(b"hello"))
    async with peer(script) as seen:
        for _ in range(20):
            assert await get(upstream, seen.port) == (200, b"hello")

        assert (seen.connections, upstream.open_connections) == (1, 1)


async def test_origins_do_not_share_connections(upstream: Upstream) -> None:
    """A connection belongs to a scheme, host and port."""
    async with peer(answers(sized(b"one"))) as one, peer(answers(sized(b"two"))) as two:
        for _ in range(3):
            assert await get(upstream, one.port) == (200, b"one")
            assert await get(upstream, two.port) == (200, b"two")

        assert (one.connections, two.connections) == (1, 1)


@pytest.mark.parametrize(
    "start", [b"HTTP/1.1 200 OK\r\nconnection: close\r\n", b"HTTP/1.0 200 OK\r\n"], ids=["close", "1.0"]
)
async def test_a_peer_that_wants_to_close_is_obeyed(upstream: Upstream, start: bytes) -> None:
    """Connection: close and HTTP/1.0 end the connection after the answer."""
    async with peer(answers(start + b"content-length: 5\r\n\r\nhello")) as seen:
        await get(upstream, seen.port)
        await get(upstream, seen.port)

        assert seen.connections == 2


async def test_an_unread_body_closes_its_connection(upstream: Upstream) -> None:
    """Closing an answer that was not read to its end drops the connection; closing twice is harmless."""
    async with peer(answers(OK)) as seen:
        response = await upstream.send(request(seen.port), head_timeout_s=5)
        response.close()
        response.close()
        await until(lambda: upstream.open_connections == 0 and seen.open == 0)

        with pytest.raises(UpstreamError, match="answer was closed"):
            await response.read_chunk(1)


async def test_idle_connections_are_bounded_in_number_and_time() -> None:
    """At most so many connections stay idle, and none longer than it may."""
    client = Upstream(allow_insecure_origins=True, max_idle_per_origin=3, idle_s=0.15)
    async with peer(answers(OK)) as seen:
        responses = [await client.send(request(seen.port), head_timeout_s=5) for _ in range(8)]
        for response in responses:
            await response.read_all(5, 100)
        await until(lambda: client.open_connections == 3)
        await asyncio.sleep(0.05)
        await get(client, seen.port)

        assert client.open_connections == 3
        await until(lambda: client.open_connections == 0)
        assert seen.connections == 8
    await client.aclose()


async def test_a_dead_idle_connection_leaves_the_pool_by_itself(upstream: Upstream) -> None:
    """A peer's close of an idle connection is seen when it happens, and costs the next call nothing."""
    async with peer(answers(OK, then_close=True)) as seen:
        for _ in range(3):
            await get(upstream, seen.port)
            await until(lambda: upstream.open_connections == 0)
            assert list(upstream._pools.values()) == [[]]

        assert (seen.connections, len(seen.requests)) == (3, 3)


def dies_on_second_request(*, by_reset: bool, partial: bytes = b"") -> Script:
    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await take_request(reader, writer)
        writer.write(OK)
        await take_request(reader, writer)
        writer.write(partial)
        await writer.drain()
        if by_reset:
            await asyncio.sleep(0.01)
            reset(writer)

    return script


@pytest.mark.parametrize("by_reset", [False, True])
async def test_a_stale_pooled_connection_is_replaced_once(upstream: Upstream, by_reset: bool) -> None:
    """A pooled connection that dies before any byte of an answer gives way to a fresh one."""
    async with peer(dies_on_second_request(by_reset=by_reset), answers(sized(b"fresh"))) as seen:
        assert await get(upstream, seen.port) == (200, b"hello")
        assert await get(upstream, seen.port) == (200, b"fresh")
        assert seen.connections == 2


async def test_a_stale_pooled_connection_is_replaced_only_once(upstream: Upstream) -> None:
    """If the replacement dies too, that is the answer: other pooled connections are not tried in turn."""

    async def dies(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await take_request(reader, writer)

    stale = dies_on_second_request(by_reset=False)
    async with peer(stale, stale, stale, dies) as seen:
        responses = [await upstream.send(request(seen.port), head_timeout_s=5) for _ in range(3)]
        for response in responses:
            await response.read_all(5, 100)
        assert upstream.open_connections == 3
        error = await fails(upstream, seen.port)

        assert (error.sent, error.received) == (True, False)
        assert (seen.connections, len(seen.requests)) == (4, 5)


async def test_a_replacement_that_cannot_connect_still_says_sent(upstream: Upstream) -> None:
    """The dead connection may have carried the request: the error does not claim that nothing was sent."""
    async with peer(dies_on_second_request(by_reset=False)) as seen:
        await get(upstream, seen.port)
        origin = request(seen.port).origin
        upstream._egress._allow_loopback = False
        error = await fails(upstream, seen.port)

        assert origin.host == "127.0.0.1"
        assert (error.signal, error.sent) == ("refused origin: http needs allow_insecure_origins", True)


async def test_a_pooled_connection_that_began_to_answer_is_not_replaced(upstream: Upstream) -> None:
    """After one byte of an answer the request was processed: no second one."""
    script = dies_on_second_request(by_reset=True, partial=b"H")
    async with peer(script, answers(OK)) as seen:
        await get(upstream, seen.port)
        error = await fails(upstream, seen.port)

        assert (error.signal, error.received) == ("connection reset inside the answer's head", True)
        assert seen.connections == 1


async def test_a_slow_pooled_connection_is_not_replaced(upstream: Upstream) -> None:
    """A timeout on a pooled connection is a timeout: the request is not sent again."""

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await take_request(reader, writer)
        writer.write(OK)
        await silent(reader, writer)

    async with peer(script, answers(OK)) as seen:
        await get(upstream, seen.port)
        error = await fails(upstream, seen.port, head_timeout_s=0.1)

        assert (error.signal, error.timeout, error.sent) == ("no answer head in time", True, True)
        assert seen.connections == 1


# Broken connections


async def test_a_fresh_connection_that_dies_is_an_error(upstream: Upstream) -> None:
    """Closed or reset before an answer: sent, nothing received, not tried again."""

    async def closes(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await take_request(reader, writer)

    async with peer(closes) as closing, peer(answers_then_resets()) as resetting:
        closed = await fails(upstream, closing.port)
        broken = await fails(upstream, resetting.port)

        assert (closed.signal, closed.sent, closed.received) == ("connection closed before any answer", True, False)
        assert (broken.signal, broken.sent, broken.received) == ("connection reset before any answer", True, False)
        assert (closing.connections, resetting.connections) == (1, 1)


async def test_a_reset_after_the_head_still_gives_what_arrived(upstream: Upstream) -> None:
    """Bytes that came before a reset are handed out, then the reset is told."""
    head = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n"
    async with peer(answers_then_resets(head)) as seen:
        response = await upstream.send(request(seen.port), head_timeout_s=5)
        await asyncio.sleep(0.05)

        assert await response.read_chunk(1) == b"hello"
        with pytest.raises(UpstreamError) as caught:
            await response.read_chunk(1)
        assert caught.value.signal == "connection reset before the answer's end"
        assert (caught.value.sent, caught.value.received) == (True, True)


async def test_until_close_a_reset_is_not_an_end(upstream: Upstream) -> None:
    """A body that lasts until the close is whole only after a proper close."""
    async with peer(answers_then_resets(b"HTTP/1.1 200 OK\r\n\r\nhello")) as seen:
        assert (await fails(upstream, seen.port)).signal == "connection reset before the answer's end"


async def test_a_refused_connection_sent_nothing(upstream: Upstream) -> None:
    """Nobody listens: sent is false."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        error = await fails(upstream, sock.getsockname()[1])

    assert (error.signal, error.sent, error.received) == ("connection refused", False, False)


async def test_a_name_that_does_not_resolve_sent_nothing() -> None:
    """DNS failure is told apart; it is not remembered."""
    asked = []

    async def resolver(host: str, port: int) -> list[str]:
        asked.append(host)
        raise socket.gaierror(socket.EAI_NONAME, "no such name")

    client = Upstream(resolver=resolver)
    sent = UpstreamRequest(Origin("https", "api.example.com", 443, ""), "GET", "/", (), b"")
    for _ in range(2):
        with pytest.raises(UpstreamError) as caught:
            await client.send(sent, head_timeout_s=5)
        assert (caught.value.signal, caught.value.sent) == ("name not resolved", False)

    assert asked == ["api.example.com"] * 2
    await client.aclose()


async def test_closing_while_a_name_is_asked_fails_the_call() -> None:
    """A call in the middle of name resolution ends with an error, not with a cancellation of its own."""

    async def resolver(host: str, port: int) -> list[str]:
        await asyncio.sleep(60)
        return []

    client = Upstream(resolver=resolver)
    sent = UpstreamRequest(Origin("https", "api.example.com", 443, ""), "GET", "/", (), b"")
    call = asyncio.create_task(client.send(sent, head_timeout_s=5))
    await asyncio.sleep(0.02)
    await client.aclose()
    with pytest.raises(UpstreamError, match="name not resolved"):
        await call


async def test_a_resolver_that_hangs_is_bounded() -> None:
    """Name resolution counts towards the connect time, which counts towards the head's."""

    async def resolver(host: str, port: int) -> list[str]:
        await asyncio.sleep(60)
        return []

    for connect_s, head_timeout_s in ((0.1, 5.0), (5.0, 0.1)):
        client = Upstream(resolver=resolver, connect_s=connect_s)
        sent = UpstreamRequest(Origin("https", "api.example.com", 443, ""), "GET", "/", (), b"")
        started = time.monotonic()
        with pytest.raises(UpstreamError) as caught:
            await client.send(sent, head_timeout_s=head_timeout_s)
        await client.aclose()

        assert (caught.value.signal, caught.value.timeout) == ("connect timed out", True)
        assert time.monotonic() - started < 1


async def test_the_next_address_is_tried_and_remembered() -> None:
    """An address that does not connect costs one try; the one that works comes first afterwards."""

    async def resolver(host: str, port: int) -> list[str]:
        return ["127.0.0.77", "127.0.0.1"]

    client = Upstream(resolver=resolver, allow_insecure_origins=True)
    async with peer(answers(OK)) as seen:
        origin = Origin("http", "localhost", seen.port, "")
        sent = UpstreamRequest(origin, "GET", "/", (), b"")
        response = await client.send(sent, head_timeout_s=5)

        assert await response.read_all(5, 100) == b"hello"
        assert await client._egress.addresses(origin) == ("127.0.0.1", "127.0.0.77")
    await client.aclose()


# Slow peers


async def test_a_silent_peer_times_out_in_time(upstream: Upstream) -> None:
    """Accepted and then silent: a timeout at the head's deadline, and the connection is closed."""
    async with peer(silent) as seen:
        started = time.monotonic()
        error = await fails(upstream, seen.port, head_timeout_s=0.2)

        assert 0.19 <= time.monotonic() - started < 0.7
        assert (error.signal, error.sent, error.received) == ("no answer head in time", True, False)
        assert error.timeout
        await until(lambda: upstream.open_connections == 0)


async def test_without_time_nothing_is_sent(upstream: Upstream) -> None:
    """A deadline that has passed is told before the request leaves, also where a connection waits."""
    async with peer(answers(OK)) as seen:
        await get(upstream, seen.port)
        for head_timeout_s in (0.0, -1.0):
            error = await fails(upstream, seen.port, head_timeout_s=head_timeout_s)
            assert (error.signal, error.sent, error.timeout) == ("no time left", False, True)

        assert (len(seen.requests), upstream.open_connections) == (1, 1)


async def test_a_head_byte_by_byte_times_out_in_time(upstream: Upstream) -> None:
    """Progress inside the head does not extend its deadline."""
    async with peer(answers(*[bytes([byte]) for byte in OK], pause_s=0.05)) as seen:
        error = await fails(upstream, seen.port, head_timeout_s=0.2)

        assert (error.signal, error.received, error.timeout) == ("no answer head in time", True, True)


async def test_a_trickling_body_is_bounded_by_read_all(upstream: Upstream) -> None:
    """Each byte resets the stall of read_chunk; the time of read_all is one for all."""
    head = b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n"
    async with peer(answers(head, *[b"x"] * 100, pause_s=0.05)) as seen:
        response = await upstream.send(request(seen.port), head_timeout_s=5)
        with pytest.raises(UpstreamError) as caught:
            await response.read_all(0.2, 1000)

        assert (caught.value.signal, caught.value.timeout) == ("no answer bytes in time", True)
        await until(lambda: upstream.open_connections == 0)


async def test_a_stalled_stream_times_out_and_may_be_waited_for_again(upstream: Upstream) -> None:
    """A stall is told in time; a caller who has time left may go on waiting on the same answer."""
    first = b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nfirst"
    async with peer(answers(first, b"later", pause_s=0.25)) as seen:
        response = await upstream.send(request(seen.port), head_timeout_s=5)
        assert await response.read_chunk(1) == b"first"
        with pytest.raises(UpstreamError) as caught:
            await response.read_chunk(0.05)

        assert (caught.value.timeout, caught.value.received) == (True, True)
        assert await response.read_chunk(2) == b"later"
        assert await response.read_chunk(2) == b""


async def test_a_shorter_deadline_after_a_longer_one_is_kept(upstream: Upstream) -> None:
    """The connection's lazy timer never rings later than the wait it is for."""
    head = b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nfirst"
    async with peer(answers(head, pause_s=9)) as seen:
        response = await upstream.send(request(seen.port), head_timeout_s=9)
        await response.read_chunk(9)
        for timeout_s in (0.2, 0.1, 0.02):
            started = time.monotonic()
            with pytest.raises(UpstreamError):
                await response.read_chunk(timeout_s)
            assert timeout_s - 0.01 <= time.monotonic() - started < timeout_s + 0.3
        response.close()


# Back-pressure


async def test_a_fast_peer_waits_for_a_slow_reader(upstream: Upstream) -> None:
    """Unread bytes stop at about 256 KiB; everything arrives once it is read."""
    total = 8 << 20
    written = 0

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal written
        await take_request(reader, writer)
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % total)
        while written < total:
            writer.write(b"x" * 65536)
            await writer.drain()
            written += 65536
        await reader.read()

    async with peer(script) as seen:
        response = await upstream.send(request(seen.port), head_timeout_s=5)
        await asyncio.sleep(0.2)
        connection = response._connection
        assert connection is not None
        assert HIGH_WATER < connection._buffered <= 2 * HIGH_WATER + 65536
        assert written < total
        assert len(await response.read_all(10, total)) == total
        assert upstream.open_connections == 1


async def test_a_large_body_is_sent_with_flow_control(upstream: Upstream) -> None:
    """32 MiB go out in pieces; little of it waits in our memory while the peer is slow."""
    body = bytes(32 << 20)
    received = 0
    go = asyncio.Event()

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal received
        await reader.readuntil(b"\r\n\r\n")
        await go.wait()
        while received < len(body):
            received += len(await reader.read(1 << 20))
        writer.write(OK)
        await reader.read()

    async with peer(script) as seen:
        task = asyncio.create_task(upstream.send(request(seen.port, body=body), head_timeout_s=20))
        await asyncio.sleep(0.2)
        (connection,) = upstream._open
        assert connection._transport is not None
        assert connection._transport.get_write_buffer_size() < 1 << 20
        go.set()
        response = await task

        assert await response.read_all(5, 100) == b"hello"
        assert received == len(body)
        assert upstream.open_connections == 1


async def test_a_body_nobody_reads_times_out(upstream: Upstream) -> None:
    """Sending counts towards the head's deadline."""

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(60)

    async with peer(script) as seen:
        started = time.monotonic()
        with pytest.raises(UpstreamError) as caught:
            await upstream.send(request(seen.port, body=bytes(32 << 20)), head_timeout_s=0.3)

        assert (caught.value.timeout, caught.value.sent) == (True, True)
        assert time.monotonic() - started < 1.5


@pytest.mark.parametrize("then_reset", [None, "at once", "soon"])
async def test_an_early_refusal_is_delivered_while_the_body_is_sent(upstream: Upstream, then_reset: str | None) -> None:
    """A 413 in the middle of a large body is the answer; that connection is not used again."""

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 413 Too Large\r\ncontent-length: 3\r\n\r\nbig")
        await writer.drain()
        if then_reset == "at once":
            return  # the kernel answers the rest of the body with RST
        await asyncio.sleep(0.05)
        if then_reset == "soon":
            reset(writer)
        else:
            await asyncio.sleep(60)

    async with peer(script) as seen:
        response = await upstream.send(request(seen.port, body=bytes(32 << 20)), head_timeout_s=5)

        assert (response.status, await response.read_all(5, 100)) == (413, b"big")
        await until(lambda: upstream.open_connections == 0)


async def test_a_half_sent_body_is_never_followed_by_another_request(upstream: Upstream) -> None:
    """After an early answer the connection is closed, though the peer has read on and nothing waits to be sent."""

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 413 Too Large\r\ncontent-length: 3\r\n\r\nbig")
        await asyncio.sleep(0.05)
        await silent(reader, writer)

    async with peer(script) as seen:
        response = await upstream.send(request(seen.port, body=bytes(32 << 20)), head_timeout_s=5)
        (connection,) = upstream._open
        assert connection._transport is not None
        transport = connection._transport
        await until(lambda: transport.get_write_buffer_size() == 0)

        assert await response.read_all(5, 100) == b"big"
        await until(lambda: upstream.open_connections == 0)


async def test_unsent_bytes_keep_a_connection_out_of_the_pool() -> None:
    """An answer to a request that still waits in the transport's buffer ends the connection's use."""

    class Transport(asyncio.Transport):
        waiting = 0

        def write(self, data: bytes | bytearray | memoryview) -> None: ...

        def is_closing(self) -> bool:
            return False

        def get_write_buffer_size(self) -> int:
            return self.waiting

    transport = Transport()
    connection = Connection(asyncio.get_running_loop(), lambda lost: None, max_head_bytes=65536)
    connection.connection_made(transport)
    connection.begin(b"GET / HTTP/1.1\r\n\r\n", b"")
    connection.data_received(OK)
    assert await connection.read(1e9) == b"hello"

    assert connection.reusable
    transport.waiting = 1
    assert not connection.reusable


# Many at once, and giving up


async def test_two_hundred_calls_at_once_keep_their_own_answers(upstream: Upstream) -> None:
    """Concurrent calls never get each other's bytes, over fresh and over pooled connections."""

    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            sent = await take_request(reader, writer)
            body = sent.partition(b"\r\n\r\n")[2]
            await asyncio.sleep(int(body) % 7 / 1000)
            writer.write(sized(body))

    async def call(number: int) -> bool:
        body = str(number).encode()
        response = await upstream.send(request(seen.port, body=body), head_timeout_s=5)
        return await response.read_all(5, 100) == body

    async with peer(echo) as seen:
        for _ in range(3):
            assert all(await asyncio.gather(*[call(number) for number in range(200)]))
        assert seen.connections == 200
        assert upstream.open_connections == 200


@pytest.mark.parametrize("rounds", range(12))
async def test_a_cancelled_call_leaves_nothing_open(upstream: Upstream, rounds: int) -> None:
    """Cancelled while connecting, sending, waiting or reading: no socket, task or waiter is left."""

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await take_request(reader, writer)
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nfirst")
        await silent(reader, writer)

    async with peer(script) as seen:
        tasks_before = asyncio.all_tasks()

        async def call() -> None:
            response = await upstream.send(request(seen.port), head_timeout_s=5)
            while True:
                await response.read_chunk(5)

        calls = [asyncio.create_task(call()) for _ in range(10)]
        for _ in range(rounds):
            await asyncio.sleep(0)
        if rounds == 11:
            await asyncio.sleep(0.05)
        for task in calls:
            task.cancel()
        results = await asyncio.gather(*calls, return_exceptions=True)

        assert all(isinstance(result, asyncio.CancelledError) for result in results)
        await until(lambda: upstream.open_connections == 0 and seen.open == 0)
        await until(lambda: asyncio.all_tasks() == tasks_before)


async def test_a_lost_connection_is_freed_at_once(upstream: Upstream) -> None:
    """A connection and its parser refer to each other; the loop of references is cut when the socket goes."""
    async with peer(answers(OK)) as seen:
        await get(upstream, seen.port)
        lost = weakref.ref(next(iter(upstream._open)))
        gc.disable()
        try:
            await upstream.aclose()
            await asyncio.sleep(0)
            assert lost() is None
        finally:
            gc.enable()


async def test_aclose_closes_everything(upstream: Upstream) -> None:
    """Idle and busy connections end, waiting calls fail, later calls are refused."""
    async with peer(answers(OK), silent) as seen:
        await get(upstream, seen.port)
        idle = await upstream.send(request(seen.port), head_timeout_s=5)
        waiting = asyncio.create_task(upstream.send(request(seen.port), head_timeout_s=5))
        await until(lambda: seen.connections == 2)
        await idle.read_all(5, 100)
        await upstream.aclose()

        assert upstream.open_connections == 0
        with pytest.raises(UpstreamError):
            await waiting
        assert (await fails(upstream, seen.port)).signal == "upstream is closed"
        await until(lambda: seen.open == 0)


async def test_the_environment_names_no_proxy(upstream: Upstream, monkeypatch: pytest.MonkeyPatch) -> None:
    """Proxy variables are not read."""
    for name in ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    async with peer(answers(OK)) as seen:
        assert await get(upstream, seen.port) == (200, b"hello")


# The same on uvloop, which serves in production

ON_UVLOOP = [
    test_a_request_is_sent_exactly_as_described,
    test_chunks_come_as_they_arrive,
    test_interim_answers_are_skipped,
    test_connections_are_reused,
    test_a_dead_idle_connection_leaves_the_pool_by_itself,
    test_an_unread_body_closes_its_connection,
    test_a_stale_pooled_connection_is_replaced_only_once,
    test_a_replacement_that_cannot_connect_still_says_sent,
    test_a_pooled_connection_that_began_to_answer_is_not_replaced,
    test_a_fresh_connection_that_dies_is_an_error,
    test_a_reset_after_the_head_still_gives_what_arrived,
    test_until_close_a_reset_is_not_an_end,
    test_a_refused_connection_sent_nothing,
    test_a_silent_peer_times_out_in_time,
    test_a_head_byte_by_byte_times_out_in_time,
    test_a_stalled_stream_times_out_and_may_be_waited_for_again,
    test_a_shorter_deadline_after_a_longer_one_is_kept,
    test_a_fast_peer_waits_for_a_slow_reader,
    test_a_large_body_is_sent_with_flow_control,
    test_a_body_nobody_reads_times_out,
    test_two_hundred_calls_at_once_keep_their_own_answers,
    test_aclose_closes_everything,
]


@pytest.mark.parametrize("promise", ON_UVLOOP, ids=lambda promise: promise.__name__)
def test_uvloop_keeps_the_same_promises(promise: Callable[[Upstream], Awaitable[None]]) -> None:
    """uvloop's transports differ in small ways: what matters is tested on both loops."""

    async def run() -> None:
        client = Upstream(allow_insecure_origins=True)
        await promise(client)
        await client.aclose()
        assert client.open_connections == 0

    uvloop.run(run())


@pytest.mark.parametrize("rounds", range(12))
def test_uvloop_leaves_nothing_open_after_cancellation(rounds: int) -> None:
    """Cancellation on uvloop: no socket is left either."""

    async def run() -> None:
        client = Upstream(allow_insecure_origins=True)
        await test_a_cancelled_call_leaves_nothing_open(client, rounds)
        await test_an_early_refusal_is_delivered_while_the_body_is_sent(client, (None, "at once", "soon")[rounds % 3])
        await client.aclose()

    uvloop.run(run())
