"""The emulator's own HTTP server: loopback only, in order, and on time."""

import json
import signal
import socket
import subprocess
import sys
import time
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
from emulator_wire import KEYS, PROVIDERS, ask, frames, request_of, streamed_text_of

from emulator_process import ControlError, EmulatorHandle, start_emulator


def raw_request(emulator: EmulatorHandle, text: str, **more: Any) -> bytes:
    """One request's bytes."""
    request = request_of(emulator, "openai", text, **more)
    parts = urlsplit(request["url"])
    body = json.dumps(request["json"]).encode()
    return (
        f"POST {parts.path} HTTP/1.1\r\nhost: {parts.netloc}\r\n"
        f"authorization: Bearer {KEYS['openai']}\r\ncontent-length: {len(body)}\r\n\r\n"
    ).encode() + body


def connect(emulator: EmulatorHandle) -> socket.socket:
    parts = urlsplit(emulator.url)
    return socket.create_connection((parts.hostname or "", parts.port or 0), timeout=5)


def read_answers(connection: socket.socket, count: int) -> list[dict[str, Any]]:
    """`count` whole answers off one connection."""
    received = b""
    found: list[dict[str, Any]] = []
    while len(found) < count:
        head, mark, rest = received.partition(b"\r\n\r\n")
        if mark:
            length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
            if len(rest) >= length:
                found.append(json.loads(rest[:length]))
                received = rest[length:]
                continue
        received += connection.recv(65536)
    return found


def test_pipelined_requests_are_answered_in_order(emulator: EmulatorHandle) -> None:
    """Requests sent together come back in their order, also when the first takes longest."""
    emulator.set({"latency_s": 0.05}, model="gpt-4.1-mini")
    with connect(emulator) as connection:
        connection.sendall(raw_request(emulator, "slow") + raw_request(emulator, "fast", model="gpt-4.1") * 2)
        answers = read_answers(connection, 3)

    assert [answer["model"][:13] for answer in answers] == ["gpt-4.1-mini-", "gpt-4.1-2025-", "gpt-4.1-2025-"]
    assert len({answer["id"] for answer in answers}) == 3


def test_a_request_in_single_bytes(emulator: EmulatorHandle) -> None:
    """A request may arrive in any pieces."""
    with connect(emulator) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for byte in raw_request(emulator, "tiny"):
            connection.sendall(bytes([byte]))
        (answer,) = read_answers(connection, 1)

    assert answer["object"] == "chat.completion"


def test_garbage_is_refused(emulator: EmulatorHandle, http: httpx.Client) -> None:
    """What is no HTTP gets 400 and a closed connection; others are not disturbed."""
    with connect(emulator) as connection:
        connection.sendall(b"\x16\x03\x01 hello\r\n\r\n")
        received = connection.recv(1000)

    assert received.startswith(b"HTTP/1.1 400 ")
    assert ask(http, emulator, "openai").status_code == 200


@pytest.mark.parametrize("host", ["0.0.0.0", "192.0.2.1", "example.com", "::"])
def test_only_loopback(host: str) -> None:
    """Any other address is refused before anything listens."""
    command = [sys.executable, "-m", "ownkey.emulator", "--host", host]
    done = subprocess.run(command, capture_output=True, text=True, timeout=20)

    assert done.returncode == 2
    assert "loopback only" in done.stderr
    assert done.stdout == ""


def test_sigterm_ends_it() -> None:
    """SIGTERM ends the process cleanly, open connections or not."""
    handle = start_emulator()
    with connect(handle):
        handle.process.send_signal(signal.SIGTERM)
        assert handle.process.wait(timeout=5) == 0
    handle.stop()


def test_control_is_not_for_web_pages(emulator: EmulatorHandle, http: httpx.Client) -> None:
    """Under a foreign host name the control API does not exist, nor under a provider's prefix."""
    foreign = http.get(f"{emulator.url}/_control/keys", headers={"host": "evil.example:80"})
    inside = [http.get(f"{emulator.base(provider)}/_control/keys") for provider in PROVIDERS]

    assert foreign.status_code == 404
    assert all(answer.status_code == 404 and "sha256" not in answer.text for answer in inside)
    with pytest.raises(ControlError):
        emulator.control("GET", "nothing")


def test_unknown_paths_are_the_providers(emulator: EmulatorHandle, http: httpx.Client) -> None:
    """An unknown path gets the provider's own 404."""
    answers = {provider: http.get(emulator.base(provider) + "/nothing") for provider in PROVIDERS}

    assert {answer.status_code for answer in answers.values()} == {404}
    assert answers["anthropic"].json()["type"] == "error"
    assert answers["google"].json()["error"]["status"] == "NOT_FOUND"
    assert answers["openrouter"].json()["error"]["code"] == 404


@pytest.mark.parametrize("provider", PROVIDERS)
def test_timing(emulator: EmulatorHandle, http: httpx.Client, provider: str) -> None:
    """Latency delays the head, first_content_s the first content, gap_s every piece after it."""
    emulator.set(
        {"latency_s": 0.1, "first_content_s": 0.1, "gap_s": 0.01, "output_tokens": 40, "comment_every_s": 0.03}
    )
    started = time.monotonic()
    with http.stream(**request_of(emulator, provider, stream=True)) as answer:
        head = time.monotonic() - started
        answer.read()
        whole = time.monotonic() - started

    assert 0.09 < head < 0.2
    assert whole > 0.25
    assert (answer.text.count(": OPENROUTER PROCESSING") >= 3) is (provider == "openrouter")


@pytest.mark.parametrize("provider", PROVIDERS)
def test_random_chunks(emulator: EmulatorHandle, http: httpx.Client, provider: str) -> None:
    """Split at random bytes, inside characters and frames, a stream says the same."""
    plain = ask(http, emulator, provider, stream=True)
    emulator.set({"split": True})
    split = ask(http, emulator, provider, stream=True)

    assert streamed_text_of(provider, frames(split)) == streamed_text_of(provider, frames(plain))


def test_openrouter_pads_a_slow_answer(emulator: EmulatorHandle, http: httpx.Client) -> None:
    """A whole answer that takes long begins with blank lines under an early head."""
    emulator.set({"first_content_s": 0.08, "comment_every_s": 0.02}, provider="openrouter")
    answer = ask(http, emulator, "openrouter")

    assert answer.text.startswith("\n         \n")
    assert answer.json()["object"] == "chat.completion"


def test_a_slow_reader_holds_the_writer(emulator: EmulatorHandle) -> None:
    """A stream waits for its reader, and hanging up ends it."""
    # Several times what the sockets' own buffers take (a sender's grows to 4 MiB and more).
    emulator.set({"output_tokens": 120_000, "gap_s": 0.000001}, model="gpt-4.1-mini")
    with connect(emulator) as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.sendall(raw_request(emulator, "much", stream=True, limit=128_000))
        time.sleep(0.3)
    for _ in range(300):
        if emulator.bills():
            break
        time.sleep(0.02)
    (bill,) = emulator.bills()

    assert bill["aborted"] is True
    assert bill["tokens"]["output"] < 100_000


def test_settings_are_checked(emulator: EmulatorHandle) -> None:
    """An unknown setting, or a wrong value, is refused by name."""
    for settings in ({"lateness": 1}, {"latency_s": "soon"}, {"split": "maybe"}, {"output_tokens": -1}):
        with pytest.raises(ControlError, match=next(iter(settings))):
            emulator.set(settings)
