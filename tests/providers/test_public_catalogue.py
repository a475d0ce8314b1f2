"""OpenRouter's public lists: read once an hour, by one request, with no key; silence is survived."""

import asyncio
import json
from dataclasses import dataclass, field
from typing import Any

import pytest

from ownkey.domain.exchange import Origin, UpstreamRequest
from ownkey.domain.failures import UpstreamError
from ownkey.providers.catalogue import PublicCatalogue

ORIGIN = Origin("https", "openrouter.test", 443, "/api/v1")
MODELS = {"data": [{"id": "a/b", "name": "B"}, {"id": 7}, "odd", {"name": "no id"}]}


@dataclass
class Answer:
    status: int
    body: bytes
    headers: dict[str, str] = field(default_factory=dict)

    async def read_all(self, timeout_s: float, limit_bytes: int) -> bytes:
        return self.body

    def close(self) -> None:
        pass


@dataclass
class FakeUpstream:
    answers: dict[str, Any] = field(default_factory=dict)
    sent: list[UpstreamRequest] = field(default_factory=list)

    async def send(self, request: UpstreamRequest, *, head_timeout_s: float) -> Any:
        self.sent.append(request)
        await asyncio.sleep(0)
        found = self.answers.get(request.path, (404, {}))
        if isinstance(found, Exception):
            raise found
        status, body = found
        return Answer(status, body if isinstance(body, bytes) else json.dumps(body).encode())


class Time:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def catalogue(upstream: FakeUpstream, time: Time, **more: Any) -> PublicCatalogue:
    return PublicCatalogue(upstream, ORIGIN, time, **more)  # type: ignore[arg-type]


async def test_the_lists_are_joined_and_kept_for_an_hour() -> None:
    """Chat and embeddings in one mapping; entries without an id are left out; no credential is sent."""
    vectors = {"data": [{"id": "e/v"}]}
    time, upstream = Time(), FakeUpstream({"/models": (200, MODELS), "/embeddings/models": (200, vectors)})
    lists = catalogue(upstream, time)
    first = await lists.models()
    time.now = 3_599
    await lists.models()

    assert set(first) == {"a/b", "e/v"}
    assert [request.path for request in upstream.sent] == ["/models", "/embeddings/models"]
    assert all(request.credential is None and request.method == "GET" for request in upstream.sent)
    time.now = 3_601
    await lists.models()
    assert len(upstream.sent) == 4


async def test_many_who_ask_at_once_cause_one_request() -> None:
    """A busy moment is no load on OpenRouter."""
    upstream = FakeUpstream({"/models/a/b/endpoints": (200, {"data": {"endpoints": []}})})
    lists = catalogue(upstream, Time())

    assert await asyncio.gather(*(lists.endpoints("a/b") for _ in range(20))) == [{"endpoints": []}] * 20
    assert len(upstream.sent) == 1


@pytest.mark.parametrize("broken", [
    (500, b""), (200, b"<html>"), (200, b"[]"), (200, b'{"data": 7}'), (200, b"[" * 100_000),
    UpstreamError("reset", sent=True, received=False), (302, b""),
], ids=str)
async def test_silence_leaves_what_was_known(broken: Any) -> None:
    """Nothing at first; later the older list, asked for again a minute after."""
    time, upstream = Time(), FakeUpstream({"/models": broken})
    lists = catalogue(upstream, time)
    assert await lists.models() == {}
    upstream.answers["/models"] = (200, MODELS)
    time.now = 4_000
    assert set(await lists.models()) == {"a/b"}
    upstream.answers["/models"] = broken if broken != (200, b'{"data": 7}') else (500, b"")
    time.now = 9_000
    assert set(await lists.models()) == {"a/b"}
    asked = len(upstream.sent)
    time.now = 9_030
    await lists.models()
    assert len(upstream.sent) == asked


async def test_a_house_without_a_network_asks_nobody() -> None:
    """`prices.sync = false`: no request leaves."""
    upstream = FakeUpstream({"/models": (200, MODELS)})
    lists = catalogue(upstream, Time(), fetch=False)

    assert (await lists.models(), await lists.endpoints("a/b"), await lists.providers()) == ({}, None, None)
    assert upstream.sent == []


async def test_a_slug_stays_one_path() -> None:
    """Whatever a list calls a model, its page is below /models."""
    upstream = FakeUpstream()
    await catalogue(upstream, Time()).endpoints("a/b?x=1#y")

    assert upstream.sent[0].path == "/models/a/b%3Fx%3D1%23y/endpoints"
