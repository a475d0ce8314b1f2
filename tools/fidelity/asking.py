"""What the caller asks, in OpenAI's dialect: the recorded request, or as near to it as that dialect can say.

A recorded chat or embeddings body is the caller's own. Anthropic's and Google's are converted, by code of this
harness; what the chat dialect cannot say is left out with a note, because answers are what is compared.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from tools.fidelity.asking_anthropic import from_anthropic
from tools.fidelity.asking_google import from_google
from tools.fidelity.recordings import Recording

DIRECT = ("openai", "anthropic", "google")
_TURNS = {"openai": "messages", "openrouter": "messages", "anthropic": "messages", "google": "contents"}


@dataclass(frozen=True, slots=True)
class Asked:
    """One request of the caller. `base` is the door (`/v1` or `/api/v1`), `notes` what was left out or put plainly."""

    base: str
    body: Mapping[str, Any]
    notes: tuple[str, ...] = field(default=())

    @property
    def streamed(self) -> bool:
        return self.body.get("stream") is True

    @property
    def wants_usage(self) -> bool:
        """Whether usage belongs into the stream: always behind OpenRouter's door, else where it was asked for."""
        options = self.body.get("stream_options")
        return self.base.startswith("/api") or (isinstance(options, Mapping) and options.get("include_usage") is True)


def slug_of(recording: Recording) -> str:
    """The model's name for the caller. A direct provider's own id becomes a slug that the configuration maps back."""
    if recording.provider in DIRECT:
        return f"{recording.provider}/{recording.model.removeprefix('models/')}"
    return recording.model


def native_of(recording: Recording) -> str:
    """The id that the provider must be asked for."""
    return recording.model.removeprefix("models/") if recording.provider == "google" else recording.model


def ask(recording: Recording) -> tuple[Asked, ...]:
    """The caller's requests for a recording, each to be replayed: OpenRouter's go through both doors."""
    first = _ask(recording)
    return (first, replace(first, base="/v1")) if recording.provider == "openrouter" else (first,)


def _ask(recording: Recording) -> Asked:
    request = recording.request
    if request is None:
        return ask_plainly(recording, "")
    try:
        return _ask_as_recorded(recording, request)
    except (AttributeError, KeyError, TypeError, ValueError):
        return ask_plainly(recording, "the recorded request is malformed")


def _ask_as_recorded(recording: Recording, request: Mapping[str, Any]) -> Asked:
    """Raises what reading a malformed body raises."""
    if not isinstance(request["input" if recording.kind == "embeddings" else _TURNS[recording.provider]], list | str):
        raise TypeError
    match recording.provider:
        case "openai":
            return Asked("/v1", {**request, "model": slug_of(recording), **_own_stream(recording)})
        case "openrouter":
            return Asked("/api/v1", {**request, **_own_stream(recording)})
        case "anthropic":
            body, notes = from_anthropic(request)
        case _:
            body, notes = from_google(request)
    if not body["messages"]:
        return ask_plainly(recording, "nothing that the chat dialect can say")
    return Asked("/v1", {"model": slug_of(recording), **body, **_stream(recording)}, tuple(notes))


def ask_plainly(recording: Recording, why: str, base: str = "") -> Asked:
    """A request that says no more than which route to take, and how the answer is to come."""
    base = base or ("/api/v1" if recording.provider == "openrouter" else "/v1")
    notes = (f"asked plainly: {why}",) if why else ()
    if recording.kind == "embeddings":
        return Asked(base, {"model": slug_of(recording), "input": "Hello"}, notes)
    message = {"role": "user", "content": "Hello"}
    return Asked(base, {"model": slug_of(recording), "messages": [message], **_stream(recording)}, notes)


def _own_stream(recording: Recording) -> dict[str, Any]:
    return {"stream": True} if recording.streamed else {}


def _stream(recording: Recording) -> dict[str, Any]:
    return {"stream": True, "stream_options": {"include_usage": True}} if recording.streamed else {}
