"""Calls of OpenAI's wire formats as HTTP requests."""

from collections.abc import Mapping
from typing import Protocol

from ownkey.domain.exchange import Origin, UpstreamRequest
from ownkey.domain.secret import Secret

PATHS = {"openai.chat": "/chat/completions", "openai.embeddings": "/embeddings"}


class HasWire(Protocol):
    """What a request needs of a codec."""

    wire: str


def json_request(
    origin: Origin,
    codec: HasWire,
    body: bytes,
    stream: bool,
    credential: Secret,
    headers: Mapping[str, str],
) -> UpstreamRequest:
    """A POST with the credential as bearer token; `headers` cannot replace the content's own."""
    fixed = {
        "content-type": "application/json",
        "accept": "text/event-stream" if stream else "application/json",
    }
    passed = {name.lower(): value for name, value in headers.items()}
    return UpstreamRequest(
        origin=origin,
        method="POST",
        path=PATHS[codec.wire],
        headers=tuple((passed | fixed).items()),
        body=body,
        credential=credential,
    )
