"""What the official anthropic package makes of our bytes, and what it sends back."""

import json
import warnings
from collections.abc import Iterable
from typing import Any

import anthropic
import httpx2

from ownkey.dialects.anthropic_answer import MessagesEncoder
from ownkey.domain.conversation import Event

ASKED: dict[str, Any] = {"max_tokens": 1, "model": "m", "messages": [{"role": "user", "content": "q"}]}


def client_for(body: bytes, streamed: bool, status: int = 200, sent: list[Any] | None = None) -> anthropic.Anthropic:
    """A client whose every request is answered with these bytes; `sent` collects the requests' bodies."""
    kind = "text/event-stream" if streamed else "application/json"

    def answer(request: httpx2.Request) -> httpx2.Response:
        if sent is not None:
            sent.append(json.loads(request.content))
        return httpx2.Response(status, headers={"content-type": kind}, content=body)

    return anthropic.Anthropic(
        api_key="k", max_retries=0, http_client=httpx2.Client(transport=httpx2.MockTransport(answer))
    )


def streamed_bytes(events: Iterable[Event]) -> bytes:
    """An answer as our encoder streams it, event by event."""
    encoder = MessagesEncoder("asked-model", "call_1")
    return b"".join(encoder.encode([event]) for event in events) + encoder.end()


def whole_bytes(events: Iterable[Event]) -> bytes:
    """The same as one body."""
    return MessagesEncoder("asked-model", "call_1").whole(events)


def parse(body: bytes, streamed: bool) -> Any:
    """The SDK's final message, its helpers for streams included."""
    client = client_for(body, streamed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if not streamed:
            return client.messages.create(**ASKED)
        with client.messages.stream(**ASKED) as stream:
            return stream.get_final_message()


def resend(content: Any) -> list[dict[str, Any]]:
    """An answer's content as the SDK sends it back in the next request."""
    sent: list[Any] = []
    client_for(whole_bytes([]), False, sent=sent).messages.create(
        max_tokens=1, model="m", messages=[{"role": "assistant", "content": content}]
    )
    blocks: list[dict[str, Any]] = sent[0]["messages"][0]["content"]
    return blocks
