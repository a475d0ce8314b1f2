"""Events as Standard Webhooks says, checked by an implementation of its own, and sent over the checked way out."""

import base64
import hashlib
import hmac
import json
import time
from collections.abc import Iterator

import pytest
from tests.mailbox_process import SECRET, MailboxHandle, mailbox

from ownkey.domain.errors import ChannelDown, Undeliverable
from ownkey.domain.exchange import UpstreamRequest
from ownkey.notify.events import EventSender, event_id, read_secret, sign
from ownkey.providers.egress import parse_origin
from ownkey.providers.upstream import Upstream

OLD = "whsec_" + base64.b64encode(b"the old one, also thirty bytes").decode()


def is_signed(secret: str, headers: dict[str, str], body: bytes) -> bool:
    """From the specification's own words, sharing nothing with the product."""
    key = base64.b64decode(secret.split("_", 1)[1])
    content = b".".join([headers["webhook-id"].encode(), headers["webhook-timestamp"].encode(), body])
    wanted = base64.b64encode(hmac.digest(key, content, hashlib.sha256))
    versions = [part.split(",", 1) for part in headers["webhook-signature"].split(" ")]
    return any(version == "v1" and given.encode() == wanted for version, given in versions)


class Recorder:
    """An upstream that keeps the request and answers 204."""

    status = 204

    def __init__(self) -> None:
        self.requests: list[UpstreamRequest] = []

    async def send(self, request: UpstreamRequest, *, head_timeout_s: float) -> "Recorder":
        self.requests.append(request)
        return self

    def close(self) -> None:
        pass


async def post(secrets: list[str], body: dict[str, object], key: str = "alert:1:event") -> UpstreamRequest:
    upstream = Recorder()
    sender = EventSender(
        upstream, parse_origin("https://host.example/hooks"), [read_secret(text) for text in secrets], instance="i"
    )
    await sender.send(key, "ai.paused", body, happened_at="2026-11-17T00:00:00Z", at_ms=1_794_873_600_123)
    return upstream.requests[0]


@pytest.mark.parametrize("secrets", [[SECRET], [SECRET, OLD]])
async def test_every_secret_signs_what_is_sent(secrets: list[str]) -> None:
    request = await post(secrets, {"name": "Füße ✓ <b>"})
    headers = dict(request.headers)

    assert all(is_signed(secret, headers, request.body) for secret in secrets)
    assert not is_signed(OLD if len(secrets) == 1 else "whsec_" + "A" * 32, headers, request.body)
    assert not is_signed(SECRET, headers, request.body + b" ")
    assert not is_signed(SECRET, {**headers, "webhook-timestamp": "1"}, request.body)
    assert not is_signed(SECRET, {**headers, "webhook-id": "msg_other"}, request.body)
    assert headers["webhook-timestamp"] == "1794873600"
    assert json.loads(request.body) == {
        "type": "ai.paused", "timestamp": "2026-11-17T00:00:00Z", "data": {"name": "Füße ✓ <b>"},
    }


def test_the_scheme_gives_the_specifications_own_example() -> None:
    """The worked example of the Standard Webhooks reference."""
    secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
    body = b'{"test": 2432232314}'

    assert sign(read_secret(secret), "msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330, body) == (
        "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
    )


async def test_an_id_is_stable_and_each_rows_own() -> None:
    one, again, other = await post([SECRET], {}), await post([SECRET], {}), await post([SECRET], {}, "alert:2:event")

    assert dict(one.headers)["webhook-id"] == dict(again.headers)["webhook-id"] == event_id("alert:1:event", "i")
    assert dict(other.headers)["webhook-id"] != dict(one.headers)["webhook-id"]


@pytest.mark.parametrize("text", ["", "secret", "whsec_", "whsec_!!!", "whsec_" + base64.b64encode(b"short").decode(),
                                  "whsec_" + base64.b64encode(b"x" * 65).decode()])
def test_a_secret_that_is_none_is_refused_without_repeating_it(text: str) -> None:
    with pytest.raises(ValueError) as caught:
        read_secret(text)

    assert text.removeprefix("whsec_")[:8] not in str(caught.value) or len(text) < 8


def test_a_sender_without_a_secret_is_not_made() -> None:
    with pytest.raises(ValueError):
        EventSender(Recorder(), parse_origin("https://host.example/hooks"), [], instance="i")


@pytest.fixture(scope="module")
def box() -> Iterator[MailboxHandle]:
    with mailbox() as running:
        yield running


@pytest.mark.parametrize(("answer", "kind", "for_all"), [
    (None, None, None), (410, Undeliverable, None), (500, ChannelDown, False), (429, ChannelDown, False),
    (302, ChannelDown, False), ("reset", ChannelDown, True), ("stall", ChannelDown, True),
])
async def test_answers_of_the_endpoint(
    box: MailboxHandle, answer: int | str | None, kind: type[Exception] | None, for_all: bool | None
) -> None:
    box.clear()
    if answer is not None:
        box.add_fault("event", answer)
    upstream = Upstream(allow_insecure_origins=True)
    sender = EventSender(
        upstream, parse_origin(f"{box.url}/events"), [read_secret(SECRET)], instance="i", timeout_s=1.0
    )
    now_ms = time.time_ns() // 1_000_000
    try:
        if kind is None:
            await sender.send("k", "ai.paused", {"workspace": "w"}, happened_at="", at_ms=now_ms)
        else:
            with pytest.raises(kind) as caught:
                await sender.send("k", "ai.paused", {"workspace": "w"}, happened_at="", at_ms=now_ms)
            assert for_all is None or getattr(caught.value, "for_all", None) is for_all
    finally:
        await upstream.aclose()

    (event,) = box.events()
    assert event["verified"]
    assert "secret" not in repr(sender).replace("1 secrets", "")


@pytest.mark.parametrize("url", ["http://127.0.0.1:9/events", "https://10.0.0.8/hooks", "https://169.254.169.254/x"])
async def test_no_event_leaves_to_an_inner_address(url: str) -> None:
    """security.md section 9: the endpoint passes the same check as every upstream."""
    upstream = Upstream(allow_insecure_origins=False)
    try:
        try:
            origin = parse_origin(url)
        except ValueError:
            return  # refused where it is read
        sender = EventSender(upstream, origin, [read_secret(SECRET)], instance="i", timeout_s=1.0)
        with pytest.raises(ChannelDown):
            await sender.send("k", "ai.paused", {}, happened_at="", at_ms=0)
    finally:
        await upstream.aclose()
