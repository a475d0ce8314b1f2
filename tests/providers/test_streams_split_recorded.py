"""Every recorded stream of every provider and endpoint, split at every byte: what it says and what is relayed of it
never depends on how the network cut it, on its line ends, or on comments.

Three ways that together reach every byte boundary of every stream:

- a byte at a time, through everything that reads or relays: all boundaries at once, the middle of characters and of
  line ends among them;
- in two pieces at every byte of each frame, through the parser, with the frame that follows (it keeps nothing from
  before a frame). Of frames beyond LONG_FRAME, and under CRLF, at the bytes around line ends and at chosen ones;
- in two pieces at every byte, through everything, for streams up to WHOLE_BYTES; for longer ones around the edges of
  frames, inside characters, and at bytes chosen by a seed.
"""

import json
import random
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import pytest
from anthropic_google_wire import ABSENT, RECORDINGS
from anthropic_google_wire import exchanges as foreign_exchanges
from openai_recordings import exchanges as openai_exchanges
from openai_recordings import responses_of

from ownkey.domain.bounds import RequestShape
from ownkey.providers.anthropic import AnthropicProvider
from ownkey.providers.google import GoogleProvider
from ownkey.providers.openai import OpenAIProvider
from ownkey.providers.openrouter import OpenRouterProvider
from ownkey.providers.sse import SseFrame, SseParser

PROVIDERS: dict[str, Any] = {
    "anthropic": AnthropicProvider(), "google": GoogleProvider(), "openai": OpenAIProvider(),
    "openrouter": OpenRouterProvider(),
}  # fmt: skip
DONE = b"data: [DONE]\n\n"
LONG_FRAME = 1_500
WHOLE_BYTES = 1_000
CHOSEN = 30
NEAR = 3


@dataclass(frozen=True)
class Stream:
    """One recorded stream. `endpoint` "" is one that no codec of ours reads: only its frames are tested."""

    name: str
    provider: str
    endpoint: str
    body: bytes

    def readers(self) -> Iterator[tuple[str, Any]]:
        """Everything that reads or relays it, each fresh."""
        if not self.endpoint:
            return
        pair = PROVIDERS[self.provider].codec("openai", self.endpoint)
        if self.endpoint == "messages":
            for provider in ("anthropic", "openrouter"):
                yield f"{provider} relay", PROVIDERS[provider].codec("anthropic", "messages")[0].passthrough(None)
            yield "events", pair[0].events()
            return
        if pair[1] == "translated":
            yield "events", pair[0].events()
            return
        for asked in (True, False):
            yield f"relay, usage {asked}", pair[0].passthrough(Watched(asked))
        if self.endpoint == "chat":
            yield "events", pair[0].events()


@dataclass(frozen=True)
class Watched:
    """A call that asks for one answer, and maybe for its usage."""

    include_usage: bool
    shape: RequestShape = field(default_factory=lambda: RequestShape(0))


def recorded() -> Iterator[Stream]:
    for provider, endpoint in (("anthropic", "messages"), ("google", "chat")):
        for item in foreign_exchanges(provider):
            if item.streamed and item.status == 200:
                other = any(name in item.name for name in ("interactions__", "speech-translation"))
                yield Stream(item.name, provider, "" if other else endpoint, item.body)
    for found in openai_exchanges():
        if found.status == 200 and (found.streamed or found.body.startswith(b"event:")):
            endpoint = found.endpoint or ("responses" if b'"response.' in found.body else "")
            bodies = [found.body]
            if found.name.startswith("bodyonly-") and endpoint == "responses":
                # A fixture of lines has no end of its own: OpenAI's responses end without a terminator.
                bodies = responses_of(found.body.removesuffix(DONE))
            for at, body in enumerate(bodies):
                yield Stream(f"{found.name}-{at}" if at else found.name, found.provider, endpoint, body)


STREAMS = list(recorded()) if RECORDINGS.is_dir() else []


def params(streams: list[Stream]) -> list[Any]:
    if not RECORDINGS.is_dir():
        return [pytest.param(None, id="recorded-absent", marks=pytest.mark.skip(reason=ABSENT))]
    return [
        pytest.param(item, id=f"recorded-{item.provider}-{item.endpoint}-{item.name}", marks=pytest.mark.recorded)
        for item in streams
    ]


def lf(body: bytes) -> bytes:
    return body.replace(b"\r\n", b"\n")


def crlf(body: bytes) -> bytes:
    return lf(body).replace(b"\n", b"\r\n")


def commented(body: bytes) -> bytes:
    """A comment before every frame, and one inside it; in more than ASCII."""
    frames = re.sub(rb"(?m)^(?=data:)", ": hält, \U0001d11e\n".encode(), lf(body))
    return re.sub(rb"(?<=\n\n)(?=.)", b": OPENROUTER PROCESSING\n\n", frames)


def beyond_ascii(body: bytes) -> bytes:
    """The same events, their texts in characters of two, three and four bytes."""
    return re.sub(rb'("(?:text|content|delta|thinking|reasoning)":\s*")(?=[^"])', "\\1é€\U0001d11e".encode(), lf(body))


VARIANTS = {"lf": lf, "crlf": crlf, "comments": commented, "beyond-ascii": beyond_ascii}


def read(reader: Any, pieces: Iterator[bytes] | list[bytes]) -> tuple[list[Any], Any]:
    """What a reader says or relays of these pieces, and what it has seen."""
    said: list[Any] = []
    for piece in pieces:
        said += reader.feed(piece)
    said += reader.eof()
    return said, reader.seen


def read_all(stream: Stream, pieces: list[bytes]) -> dict[str, tuple[Any, Any]]:
    told = {name: read(reader, pieces) for name, reader in stream.readers()}
    # What is relayed is one text: comments and withheld frames may be handed on with their neighbours.
    return {name: (b"".join(said) if "relay" in name else said, seen) for name, (said, seen) in told.items()}


def frames_of(*pieces: bytes) -> list[SseFrame]:
    parser = SseParser()
    frames = [frame for piece in pieces for frame in parser.feed(piece)]
    return frames + parser.eof()


def single_bytes(body: bytes) -> list[bytes]:
    return [body[at : at + 1] for at in range(len(body))]


def test_there_are_recorded_streams() -> None:
    """The recordings did not silently shrink, and cover what we speak."""
    if not RECORDINGS.is_dir():
        pytest.skip(ABSENT)

    assert len(STREAMS) >= 260
    assert {(item.provider, item.endpoint) for item in STREAMS} >= {
        ("anthropic", "messages"), ("google", "chat"), ("openai", "chat"), ("openai", "responses"),
        ("openrouter", "chat"), ("openrouter", "responses"),
    }  # fmt: skip
    assert sum(not item.body.isascii() for item in STREAMS) >= 30


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("item", params([item for item in STREAMS if item.endpoint]))
def test_a_byte_at_a_time(item: Stream, variant: str) -> None:
    """Every boundary at once: the same events, the same bytes relayed, the same seen."""
    body = VARIANTS[variant](item.body)

    assert read_all(item, single_bytes(body)) == read_all(item, [body])


@pytest.mark.parametrize("item", params([item for item in STREAMS if item.endpoint]))
def test_line_ends_and_comments_change_nothing(item: Stream) -> None:
    """The same events and the same seen under LF and CRLF, with comments and without."""
    expected = read_all(item, [lf(item.body)])

    for variant in (crlf, commented):
        actual = read_all(item, [variant(item.body)])
        for name, (_, seen) in expected.items():
            assert actual[name][1] == seen
        assert actual.get("events") == expected.get("events")


@pytest.mark.parametrize("variant", ["lf", "crlf", "comments"])
@pytest.mark.parametrize("item", params([item for item in STREAMS if item.endpoint not in ("", "chat")]))
def test_what_passes_through_keeps_every_byte(item: Stream, variant: str) -> None:
    """A whole answer reaches its caller as it came. (Chat: beside it, with the usage that nobody asked for.)"""
    body = VARIANTS[variant](item.body)
    for name, (relayed, seen) in read_all(item, [body]).items():
        if "relay" in name and seen.failure is None:
            assert relayed == body


def frame_cuts(raw: bytes) -> Iterator[int]:
    """Where a frame is cut in two."""
    if len(raw) <= LONG_FRAME and b"\r" not in raw:
        return iter(range(1, len(raw) + 1))
    ends = {at + off for at, byte in enumerate(raw) if byte in b"\r\n" for off in range(-NEAR, NEAR + 1)}
    some = random.Random(len(raw)).choices(range(1, len(raw) + 1), k=5)
    return iter(sorted(at for at in ends | {1, 2, *some} if 0 < at <= len(raw)))


@pytest.mark.parametrize("variant", ["lf", "crlf"])
@pytest.mark.parametrize("item", params(STREAMS))
def test_two_pieces_at_every_byte_through_the_parser(item: Stream, variant: str) -> None:
    """Each frame cut at each of its bytes, with the frame that follows."""
    body = VARIANTS[variant](item.body)
    whole = frames_of(body)

    assert b"".join(frame.raw for frame in whole) == body
    for at, frame in enumerate(whole):
        raw, following = frame.raw, whole[at + 1 : at + 2]
        rest = b"".join(one.raw for one in following)
        expected = [frame, *following]
        for cut in frame_cuts(raw):
            parser = SseParser()
            frames = parser.feed(raw[:cut]) + parser.feed(raw[cut:] + rest)
            if len(frames) != len(expected):
                frames += parser.eof()
            assert frames == expected


@cache
def cuts(body: bytes) -> list[int]:
    """Where a body is cut in two: everywhere, or where it could matter and at some places more."""
    if len(body) <= WHOLE_BYTES:
        return list(range(1, len(body)))
    edges = [match.end() for match in re.finditer(rb"\r?\n\r?\n", body)]
    chosen = random.Random(len(body))
    some = {at + off for at in chosen.sample(edges, min(len(edges), 12)) for off in range(-NEAR, NEAR + 1)}
    wide = [at for at in range(len(body)) if body[at] & 0xC0 == 0x80]
    some |= set(chosen.sample(wide, min(len(wide), 12)))
    some |= set(chosen.sample(range(1, len(body)), CHOSEN))
    return sorted(at for at in some if 0 < at < len(body))


@pytest.mark.parametrize("item", params([item for item in STREAMS if item.endpoint]))
def test_two_pieces_through_everything(item: Stream) -> None:
    """Short streams at every byte; long ones around the edges of frames, inside characters, and at random."""
    body = lf(item.body)
    expected = read_all(item, [body])

    for cut in cuts(body):
        assert read_all(item, [body[:cut], body[cut:]]) == expected


def test_the_variants_differ_in_what_they_should() -> None:
    """reconstructed: the transformations do what their names say, and keep the events' JSON whole."""
    body = b'event: a\ndata: {"text": "x"}\n\ndata: {"text":"y"}\n\n'

    assert crlf(body) == b'event: a\r\ndata: {"text": "x"}\r\n\r\ndata: {"text":"y"}\r\n\r\n'
    assert [frame.data for frame in frames_of(commented(body)) if frame.data] == [b'{"text": "x"}', b'{"text":"y"}']
    wide = [json.loads(frame.data or b"") for frame in frames_of(beyond_ascii(body))]
    assert [event["text"] for event in wide] == ["é€\U0001d11ex", "é€\U0001d11ey"]
