"""TLS to providers: the name is verified and announced, and a failed handshake has sent nothing."""

import asyncio
import datetime
import ssl
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import uvloop
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from ownkey.domain.exchange import Origin, UpstreamRequest
from ownkey.domain.failures import UpstreamError
from ownkey.providers.upstream import Upstream

Run = Callable[[Coroutine[Any, Any, None]], None]
NAME = "provider.example.com"
OK = b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello"
NOW = datetime.datetime.now(datetime.UTC)


@pytest.fixture(params=[asyncio.run, uvloop.run], ids=["asyncio", "uvloop"])
def run(request: pytest.FixtureRequest) -> Run:
    """Runs a promise to its end on one of the two event loops."""
    runner: Run = request.param
    return runner


def self_signed(folder: Path, *, name: str = NAME, days: int = 1) -> Path:
    """A certificate with its key in one PEM file, valid until `days` from now."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(NOW - datetime.timedelta(days=9))
        .not_valid_after(NOW + datetime.timedelta(days=days))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    path = folder / f"{name}.{days}.pem"
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    path.write_bytes(private + certificate.public_bytes(serialization.Encoding.PEM))
    return path


@pytest.fixture
def pem(tmp_path: Path) -> Path:
    return self_signed(tmp_path)


class Seen:
    """What the server learned: announced names, chosen protocols, requests, open connections."""

    def __init__(self) -> None:
        self.port = 0
        self.names: list[str | None] = []
        self.protocols: list[str | None] = []
        self.requests = 0
        self.bytes = 0
        self.open = 0


@asynccontextmanager
async def tls_peer(pem: Path, answer: bytes = OK, *, then_close: bool = False) -> AsyncIterator[Seen]:
    seen = Seen()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pem)
    context.set_alpn_protocols(["h2", "http/1.1"])
    context.sni_callback = lambda connection, name, context: seen.names.append(name)
    tasks: set[asyncio.Task[Any] | None] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        tasks.add(asyncio.current_task())
        seen.open += 1
        seen.protocols.append(writer.get_extra_info("ssl_object").selected_alpn_protocol())
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                size = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0] or 0)
                body = await reader.readexactly(size)
                seen.requests += 1
                seen.bytes += len(body)
                writer.write(answer)
                await writer.drain()
                if then_close:
                    return
        except (ConnectionError, asyncio.IncompleteReadError, ssl.SSLError, asyncio.CancelledError):
            pass
        finally:
            writer.close()
            seen.open -= 1

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context, limit=1 << 22)
    seen.port = server.sockets[0].getsockname()[1]
    try:
        yield seen
    finally:
        server.close()
        running = [task for task in tasks if task is not None]
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)


@asynccontextmanager
async def tcp_peer(
    script: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]],
) -> AsyncIterator[int]:
    """A peer that speaks no TLS."""
    tasks: set[asyncio.Task[Any] | None] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        tasks.add(asyncio.current_task())
        try:
            await script(reader, writer)
        except (ConnectionError, asyncio.CancelledError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        running = [task for task in tasks if task is not None]
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)


async def to_loopback(host: str, port: int) -> list[str]:
    return ["127.0.0.1"]


@asynccontextmanager
async def client(trusted: Path | None = None, *, connect_s: float = 3.0) -> AsyncIterator[Upstream]:
    """A client that finds every name on loopback and trusts one certificate more than the system's."""
    context = None
    if trusted is not None:
        context = ssl.create_default_context(cafile=str(trusted))
        context.set_alpn_protocols(["http/1.1"])
    upstream = Upstream(allow_insecure_origins=True, resolver=to_loopback, ssl_context=context, connect_s=connect_s)
    yield upstream
    await upstream.aclose()

    assert upstream.open_connections == 0


def request(port: int, *, body: bytes = b"{}", host: str = NAME) -> UpstreamRequest:
    return UpstreamRequest(Origin("https", host, port, "/v1"), "POST", "/chat", (), body)


async def get(upstream: Upstream, port: int, *, body: bytes = b"{}") -> tuple[int, bytes]:
    response = await upstream.send(request(port, body=body), head_timeout_s=9)
    return response.status, await response.read_all(5, 1 << 20)


async def refusal(upstream: Upstream, port: int, *, host: str = NAME) -> UpstreamError:
    with pytest.raises(UpstreamError) as caught:
        await upstream.send(request(port, host=host), head_timeout_s=5)
    assert (caught.value.sent, caught.value.received) == (False, False)
    return caught.value


def test_a_trusted_certificate_is_accepted_and_the_connection_reused(run: Run, pem: Path) -> None:
    """The name goes out as SNI, the protocol is HTTP/1.1, and the next call needs no handshake."""

    async def promise() -> None:
        async with tls_peer(pem) as seen, client(pem) as upstream:
            for _ in range(5):
                assert await get(upstream, seen.port) == (200, b"hello")

            assert (seen.names, seen.protocols, seen.requests) == ([NAME], ["http/1.1"], 5)

    run(promise())


def test_an_untrusted_certificate_sends_nothing(run: Run, pem: Path) -> None:
    """A self-signed certificate is refused before a byte of the request leaves."""

    async def promise() -> None:
        async with tls_peer(pem) as seen, client() as upstream:
            error = await refusal(upstream, seen.port)

            assert error.signal.startswith("tls certificate refused: self-signed certificate")
            assert (seen.requests, upstream.open_connections) == (0, 0)

    run(promise())


def test_a_certificate_for_another_name_sends_nothing(run: Run, tmp_path: Path) -> None:
    """The certificate must be for the origin's name, not for the address or a neighbour."""

    async def promise() -> None:
        other = self_signed(tmp_path, name="other.example.com")
        async with tls_peer(other) as seen, client(other) as upstream:
            error = await refusal(upstream, seen.port)

            assert error.signal.startswith("tls certificate refused: Hostname mismatch")
            assert seen.requests == 0

    run(promise())


def test_a_certificate_without_the_address_does_not_serve_it(run: Run, pem: Path) -> None:
    """An origin that is an address is verified as an address."""

    async def promise() -> None:
        async with tls_peer(pem) as seen, client(pem) as upstream:
            error = await refusal(upstream, seen.port, host="127.0.0.1")

            assert error.signal.startswith("tls certificate refused: IP address mismatch")

    run(promise())


def test_a_refused_certificate_is_final(run: Run, pem: Path) -> None:
    """After a certificate that is not the name's, no other address of the name is tried."""

    async def two(host: str, port: int) -> list[str]:
        return ["127.0.0.1", "127.0.0.77"]

    async def promise() -> None:
        upstream = Upstream(allow_insecure_origins=True, resolver=two)
        async with tls_peer(pem) as seen:
            assert (await refusal(upstream, seen.port)).signal.startswith("tls certificate refused")
        await upstream.aclose()

    run(promise())


def test_the_default_context_verifies_and_speaks_http1(run: Run, pem: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a context of its own a client trusts what the system trusts, and offers HTTP/1.1 only."""

    async def promise() -> None:
        monkeypatch.setenv("SSL_CERT_FILE", str(pem))
        async with tls_peer(pem) as seen, client() as upstream:
            assert await get(upstream, seen.port) == (200, b"hello")
            assert seen.protocols == ["http/1.1"]

    run(promise())


def test_an_expired_certificate_sends_nothing(run: Run, tmp_path: Path) -> None:
    """A certificate past its time is refused."""

    async def promise() -> None:
        expired = self_signed(tmp_path, days=-1)
        async with tls_peer(expired) as seen, client(expired) as upstream:
            error = await refusal(upstream, seen.port)

            assert error.signal == "tls certificate refused: certificate has expired"

    run(promise())


def test_a_peer_without_tls_sends_nothing(run: Run) -> None:
    """Plain HTTP on a TLS port is a failed handshake."""

    async def plain(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        await writer.drain()

    async def promise() -> None:
        async with tcp_peer(plain) as port, client() as upstream:
            assert (await refusal(upstream, port)).signal.startswith("tls failed: ")

    run(promise())


def test_a_peer_that_closes_in_the_handshake_sends_nothing(run: Run) -> None:
    """A connection lost inside the handshake is a failed connect."""

    async def closes(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)

    async def promise() -> None:
        async with tcp_peer(closes) as port, client() as upstream:
            assert (await refusal(upstream, port)).signal in ("connect failed", "tls failed: no reason given")

    run(promise())


def test_a_silent_handshake_times_out(run: Run) -> None:
    """Connecting and TLS share one limit."""

    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(60)

    async def promise() -> None:
        async with tcp_peer(silent) as port, client(connect_s=0.2) as upstream:
            started = time.monotonic()
            error = await refusal(upstream, port)

            assert (error.signal, error.timeout) == ("connect timed out", True)
            assert time.monotonic() - started < 1

    run(promise())


@pytest.mark.parametrize("rounds", [0, 1, 2, 3, 5, 8, 13, 21])
def test_a_call_cancelled_in_the_handshake_leaves_no_socket(run: Run, pem: Path, rounds: int) -> None:
    """Whenever the caller gives up, the peer sees the connection close."""

    async def promise() -> None:
        async with tls_peer(pem, b"") as seen, client(pem) as upstream:
            calls = [asyncio.create_task(get(upstream, seen.port)) for _ in range(5)]
            for _ in range(rounds):
                await asyncio.sleep(0)
            for call in calls:
                call.cancel()
            await asyncio.gather(*calls, return_exceptions=True)
            for _ in range(200):
                if upstream.open_connections == 0 and seen.open == 0:
                    break
                await asyncio.sleep(0.01)

            assert (upstream.open_connections, seen.open) == (0, 0)

    run(promise())


def test_a_large_body_and_many_calls_go_over_tls(run: Run, pem: Path) -> None:
    """Flow control and pooling work the same under TLS."""

    async def promise() -> None:
        async with tls_peer(pem) as seen, client(pem) as upstream:
            assert await get(upstream, seen.port, body=bytes(8 << 20)) == (200, b"hello")
            answers = await asyncio.gather(*[get(upstream, seen.port) for _ in range(50)])

            assert answers == [(200, b"hello")] * 50
            assert seen.bytes == (8 << 20) + 100

    run(promise())


def test_a_body_until_close_ends_properly_over_tls(run: Run, pem: Path) -> None:
    """A proper TLS close is the end of such a body; the connection is gone afterwards."""

    async def promise() -> None:
        answer = b"HTTP/1.1 200 OK\r\n\r\nhello"
        async with tls_peer(pem, answer, then_close=True) as seen, client(pem) as upstream:
            assert await get(upstream, seen.port) == (200, b"hello")
            assert await get(upstream, seen.port) == (200, b"hello")
            assert seen.requests == 2

    run(promise())


def test_an_answer_cut_under_tls_is_an_error(run: Run, pem: Path) -> None:
    """A close before the declared end is never an end, with or without TLS."""

    async def promise() -> None:
        async with tls_peer(pem, OK[:-1], then_close=True) as seen, client(pem) as upstream:
            with pytest.raises(UpstreamError) as caught:
                await get(upstream, seen.port)

            assert caught.value.signal.endswith("before the answer's end")
            assert (caught.value.sent, caught.value.received) == (True, True)

    run(promise())
