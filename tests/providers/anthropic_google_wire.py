"""Recorded traffic of Anthropic and Google for the tests beside it, read where it lies and never copied."""

import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import pytest
from hypothesis import strategies as st

from ownkey.domain.conversation import (
    Annotations,
    Event,
    Failed,
    Finished,
    Message,
    ReasoningDelta,
    RefusalDelta,
    Started,
    Text,
    TextDelta,
    ToolCall,
    ToolCallDelta,
    ToolCallStart,
    UsageReport,
)
from ownkey.domain.failures import Failure
from ownkey.domain.usage import Usage
from ownkey.domain.wire import Seen

WIRE = Path(__file__).resolve().parents[2].parent / "shared" / "wire"
RECORDINGS = WIRE / "recordings"
ABSENT = f"recorded traffic is absent: {WIRE}"

WORDS = st.text(min_size=1, max_size=12).filter(lambda text: text.isprintable() and bool(text.strip()))


def json_values(integers: st.SearchStrategy[int]) -> st.SearchStrategy[Any]:
    """Small JSON documents; providers keep integers exactly only up to 2**53."""
    return st.recursive(
        st.none() | st.booleans() | integers | st.text(max_size=6),
        lambda child: st.lists(child, max_size=3) | st.dictionaries(st.text(max_size=6), child, max_size=3),
        max_leaves=8,
    )


@dataclass(frozen=True)
class Exchange:
    """One recorded answer. `streamed` bodies are SSE; `request` is None where only the body was kept."""

    name: str
    status: int
    url: str
    headers: dict[str, str]
    body: bytes
    streamed: bool
    request: Any = None


def exchanges(provider: str) -> list[Exchange]:
    """All recorded exchanges of a provider, body-only fixtures included (as status 200 unless named an error)."""
    if not RECORDINGS.is_dir():
        return []
    found = []
    for path in sorted(RECORDINGS.glob(f"*/{provider}/*")):
        if path.parts[-3] == "vercel+ai":
            found += _body_only(path, provider)
        elif path.suffix == ".json":
            found.append(_exchange(path))
    return found


def _exchange(path: Path) -> Exchange:
    data = json.loads(path.read_text())
    response = data["response"]
    headers = response.get("headers") or {}
    body = response["body"]
    request = data["request"].get("body")
    if isinstance(request, str):
        try:
            request = json.loads(request)
        except ValueError:
            request = None
    return Exchange(
        name=f"{path.parts[-3].split('+')[0]}-{path.stem}",
        status=int(path.stem[:3]),
        url=data["request"]["url"],
        headers={name.lower(): value for name, value in dict(headers).items()},
        body=body.encode(),
        streamed=not body.lstrip().startswith(("{", "[")),
        request=request,
    )


def _body_only(path: Path, provider: str) -> list[Exchange]:
    """A fixture of lines may hold several answers, one after the other: each is a stream of its own."""
    name = path.name.removeprefix(f"{provider}__")
    if not path.name.endswith(".chunks.txt"):
        status = 429 if "429" in name else 200
        return [Exchange(f"bodyonly-{name}", status, "", {}, path.read_text().encode(), False)]
    streams: list[list[str]] = [[]]
    for line in path.read_text().splitlines():
        if not line.strip():
            continue
        event = json.loads(line).get("type") if provider == "anthropic" else None
        if event == "message_start" and streams[-1] and "message_stop" in streams[-1][-1]:
            streams.append([])
        streams[-1].append((f"event: {event}\n" if event else "") + f"data: {line}\n\n")
    return [
        Exchange(f"bodyonly-{name}" + (f"-{at}" if at else ""), 200, "", {}, "".join(frames).encode(), True)
        for at, frames in enumerate(streams)
    ]


def data_events(body: bytes) -> Iterator[Any]:
    """The JSON of each `data:` line, read without the parser under test."""
    for line in body.decode().splitlines():
        if line.startswith("data:"):
            yield json.loads(line[5:])


def params(found: list[Exchange]) -> list[Any]:
    """Parametrisation with **recorded** in each id; one skip where the recordings are absent."""
    if not RECORDINGS.is_dir():
        return [pytest.param(None, id="recorded-absent", marks=pytest.mark.skip(reason=ABSENT))]
    return [pytest.param(item, id=f"recorded-{item.name}", marks=pytest.mark.recorded) for item in found]


def not_recorded(provider: str) -> list[dict[str, Any]]:
    """Error answers rebuilt from documentation: never real traffic."""
    path = WIRE / "error-shapes.not-recorded.json"
    if not path.is_file():
        return []
    return [shape for shape in json.loads(path.read_text()) if shape["provider"] == provider]


@dataclass
class Reading:
    """An answer as a caller would see it, put together from neutral events."""

    text: str = ""
    reasoning: str = ""
    details: tuple[Any, ...] = ()
    calls: tuple[ToolCall, ...] = ()
    annotations: tuple[Any, ...] = ()
    refusal: str = ""
    finish: str | None = None
    native: str | None = None
    usage: Usage | None = None
    failure: Failure | None = None
    started: Started | None = None


def fold(events: Iterable[Event]) -> Reading:
    """What a chat client accumulates from a stream of events."""
    read = Reading()
    calls: dict[int, ToolCall] = {}
    for event in events:
        match event:
            case Started():
                assert read.started is None, "an answer starts once"
                read.started = event
            case TextDelta(text=text):
                read.text += text
            case RefusalDelta(text=text):
                read.refusal += text
            case ReasoningDelta(text=text, details=details):
                read.reasoning += text
                read.details += details
            case ToolCallStart(index=index, id=call_id, name=name, signature=signature):
                assert index == len(calls), "calls are numbered from zero in their order"
                if signature is not None:
                    # As the chat dialect carries it to the caller and back.
                    detail = {"type": "reasoning.encrypted", "data": signature, "id": call_id}
                    read.details += (detail | {"format": "google-gemini-v1", "index": index},)
                calls[index] = ToolCall(call_id, name, "")
            case ToolCallDelta(index=index, arguments=arguments):
                call = calls[index]
                calls[index] = ToolCall(call.id, call.name, call.arguments + arguments)
            case Annotations(items=items):
                read.annotations += items
            case UsageReport(usage=usage):
                read.usage = usage
            case Finished(reason=reason, native_reason=native):
                assert read.finish is None, "an answer finishes once"
                read.finish, read.native = reason.value, native
            case Failed(failure=failure):
                read.failure = failure
    read.calls = tuple(calls[index] for index in sorted(calls))
    return read


def history_of(read: Reading) -> list[Message]:
    """The turns that a stateless client sends back after a tool call: the answer, then a result of each call."""
    parts = (Text(read.text),) if read.text else ()
    answer = Message(role="assistant", parts=parts, tool_calls=read.calls, reasoning_details=read.details)
    results = [
        Message(role="tool", parts=(Text(f"result {index}"),), tool_call_id=call.id)
        for index, call in enumerate(read.calls)
    ]
    return [Message(role="user", parts=(Text("Question"),)), answer, *results]


def read_streamed(reader: Any, pieces: Iterable[bytes]) -> list[Event]:
    """All events of a stream that arrives in these pieces."""
    events: list[Event] = []
    for piece in pieces:
        events += reader.feed(piece)
    return [*events, *reader.eof()]


def read_exchange(codec: Any, item: Exchange) -> tuple[Seen, list[Event]]:
    """A recorded answer as our codec reads it."""
    if item.streamed:
        reader = codec.events()
        return reader.seen, read_streamed(reader, [item.body])
    seen, events = codec.decode_whole(item.body)
    return seen, list(events)


def answering(item: Exchange) -> httpx2.Client:
    """A client for an official SDK, whose every request is answered with the recorded bytes."""
    kind = "text/event-stream" if item.streamed else "application/json"
    response = httpx2.Response(200, headers={"content-type": kind}, content=item.body)
    return httpx2.Client(transport=httpx2.MockTransport(lambda request: response))


def assert_cut_short_is_no_answer(codec: Any, body: bytes, finishes: Callable[[bytes], object]) -> None:
    """Without the frame that `finishes` the answer, a failure of the network; with it, complete."""
    frames = [frame + b"\n\n" for frame in body.replace(b"\r\n", b"\n").split(b"\n\n") if frame.strip()]
    done = next(at for at, frame in enumerate(frames) if finishes(frame))
    for kept in range(len(frames) + 1):
        reader = codec.events()
        read = fold(read_streamed(reader, frames[:kept]))

        assert reader.seen.complete is (kept > done)
        assert (read.failure is None) is (kept > done)
        assert read.failure is None or read.failure.cls.value == "network"


def exhaust(value: Any) -> Any:
    """Walk a value that pydantic validated: its iterables check their items only when they are read."""
    if isinstance(value, dict):
        return {key: exhaust(child) for key, child in value.items()}
    if isinstance(value, Iterable) and not isinstance(value, str | bytes):
        return [exhaust(child) for child in value]
    return value
