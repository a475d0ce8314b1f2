"""What the callers ask: the recorded request in its own dialect, and as near to it as another dialect can say it.

A recorded body of an endpoint that Ownkey offers itself is the caller's own. Others are converted, by code of this
harness; what the caller's dialect cannot say is left out with a note, because answers are what is compared.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from tools.fidelity.answers import exact_json
from tools.fidelity.asking_anthropic import from_anthropic
from tools.fidelity.asking_google import embeddings_from_google, from_google
from tools.fidelity.asking_messages import messages_from_chat
from tools.fidelity.bodies import Kind, Recording

DIRECT = ("openai", "anthropic", "google")
Speaks = Literal["chat", "embeddings", "responses", "messages", "count_tokens"]


@dataclass(frozen=True, slots=True)
class Door:
    """Where a caller comes in: the endpoint that it speaks, below `/v1` or `/api/v1`."""

    speaks: Speaks
    base: str = "/v1"

    def __str__(self) -> str:
        words = {"chat": "/chat/completions", "count_tokens": "/messages/count_tokens"}
        return self.base + words.get(self.speaks, f"/{self.speaks}")


# Each offered endpoint's callers. At OpenRouter nothing is translated: /messages there is its own endpoint.
DOORS: Mapping[tuple[str, Kind], tuple[Door, ...]] = {
    ("openai", "chat"): (Door("chat"), Door("messages")),
    ("openai", "embeddings"): (Door("embeddings"),),
    ("openai", "responses"): (Door("responses"),),
    ("openrouter", "chat"): (Door("chat"), Door("chat", "/api/v1")),
    ("openrouter", "embeddings"): (Door("embeddings"), Door("embeddings", "/api/v1")),
    ("openrouter", "responses"): (Door("responses"), Door("responses", "/api/v1")),
    ("openrouter", "messages"): (Door("messages"), Door("messages", "/api/v1")),
    ("anthropic", "messages"): (Door("messages"), Door("chat")),
    ("anthropic", "count_tokens"): (Door("count_tokens"),),
    ("google", "generate"): (Door("chat"), Door("messages")),
    ("google", "embed"): (Door("embeddings"),),
    ("google", "batch_embed"): (Door("embeddings"),),
}
# What a body must have to be a request at all.
_TURNS: Mapping[Kind, str] = {
    "chat": "messages", "embeddings": "input", "messages": "messages", "count_tokens": "messages",
    "generate": "contents",
}


@dataclass(frozen=True, slots=True)
class Asked:
    """One request of the caller. `notes` say what was left out or put plainly; `betas` is Anthropic's header."""

    door: Door
    body: Mapping[str, Any]
    notes: tuple[str, ...] = field(default=())
    betas: str = ""

    @property
    def streamed(self) -> bool:
        return self.body.get("stream") is True

    @property
    def wants_usage(self) -> bool:
        """Whether usage belongs into the stream: in chat only where it was asked for, or behind OpenRouter's door."""
        options = self.body.get("stream_options")
        asked = isinstance(options, Mapping) and options.get("include_usage") is True
        return asked or self.door.speaks != "chat" or self.door.base.startswith("/api")


def is_own(recording: Recording, door: Door) -> bool:
    """Whether the caller speaks what the provider speaks, so that nothing is translated."""
    return recording.kind == door.speaks


def slug_of(recording: Recording) -> str:
    """The model's name for the caller. A direct provider's own id becomes a slug that the configuration maps back."""
    if recording.provider in DIRECT:
        return f"{recording.provider}/{recording.model.removeprefix('models/')}"
    return recording.model


def native_of(recording: Recording) -> str:
    """The id that the provider must be asked for."""
    return recording.model.removeprefix("models/") if recording.provider == "google" else recording.model


def ask_all(recording: Recording) -> tuple[Asked, ...]:
    """The caller's requests for a recording, each to be replayed by itself."""
    return tuple(ask(recording, door) for door in DOORS[recording.provider, recording.kind])


def ask(recording: Recording, door: Door) -> Asked:
    request = recording.request
    if request is None:
        return ask_plainly(recording, "", door)
    try:
        return _ask_as_recorded(recording, request, door)
    except (AttributeError, KeyError, TypeError, ValueError):
        return ask_plainly(recording, "the recorded request is malformed", door)


def _ask_as_recorded(recording: Recording, request: Mapping[str, Any], door: Door) -> Asked:
    """Raises what reading a malformed body raises."""
    turns = _TURNS.get(recording.kind)
    if turns is not None and not isinstance(request[turns], list | str):
        raise TypeError
    if is_own(recording, door):
        stream = {"stream": True} if recording.streamed else {}
        return Asked(door, {**request, "model": slug_of(recording), **stream}, betas=recording.betas)
    notes: list[str] = []
    if door.speaks == "embeddings":
        return Asked(door, {"model": slug_of(recording), **embeddings_from_google(request, notes)}, tuple(notes))
    match recording.kind:
        case "messages":
            body, notes = from_anthropic(request)
        case "generate":
            body, notes = from_google(request)
        case _:
            body = {name: value for name, value in request.items() if name not in ("model", "stream")}
    if door.speaks == "messages":
        body, more = messages_from_chat(body)
        notes += more
    if not body["messages"]:
        return ask_plainly(recording, "nothing that the caller's dialect can say", door)
    return Asked(door, {"model": slug_of(recording), **body, **_stream(recording, door)}, tuple(notes))


def ask_plainly(recording: Recording, why: str, door: Door) -> Asked:
    """A request that says no more than which route to take, and how the answer is to come."""
    notes = (f"asked plainly: {why}",) if why else ()
    body: dict[str, Any] = {"model": slug_of(recording)}
    message = {"role": "user", "content": "Hello"}
    match door.speaks:
        case "embeddings":
            body |= {"input": ["Hello"] * _vectors(recording) if recording.provider == "google" else "Hello"}
        case "responses":
            body |= {"input": "Hello"} | ({"stream": True} if recording.streamed else {})
        case "messages":
            body |= {"max_tokens": 1024, "messages": [message], **_stream(recording, door)}
        case "count_tokens":
            body |= {"messages": [message]}
        case "chat":
            body |= {"messages": [message], **_stream(recording, door)}
    return Asked(door, body, notes)


def _vectors(recording: Recording) -> int:
    """How many vectors the recorded answer has: as many texts must have been asked for."""
    value = exact_json(recording.body.decode("utf-8", "replace"))
    rows = value.get("embeddings") if isinstance(value, dict) else None
    return len(rows) if isinstance(rows, list) and rows else 1


def _stream(recording: Recording, door: Door) -> dict[str, Any]:
    if not recording.streamed:
        return {}
    return {"stream": True, "stream_options": {"include_usage": True}} if door.speaks == "chat" else {"stream": True}

