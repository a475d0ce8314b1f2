"""Events to the host, as Standard Webhooks says: a stable id, a time, and an HMAC that the host can check.

With two secrets every event carries two signatures, so that the host can change over without losing one.
"""

import base64
import binascii
import hashlib
import hmac
import json
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from ownkey.domain.errors import ChannelDown, Undeliverable
from ownkey.domain.exchange import Origin, UpstreamRequest
from ownkey.domain.failures import UpstreamError

SECRET_PREFIX = "whsec_"  # noqa: S105 - how a secret begins
MIN_SECRET_BYTES = 24
MAX_SECRET_BYTES = 64
ANSWER_BYTES = 4_096


class Response(Protocol):
    status: int

    def close(self) -> None: ...


class Upstream(Protocol):
    """The only way out, which checks where it leads. Raises domain.failures.UpstreamError."""

    async def send(self, request: UpstreamRequest, *, head_timeout_s: float) -> Response: ...


def read_secret(text: str) -> bytes:
    """"whsec_<base64>" → its bytes. Raises ValueError with a sentence that does not repeat it."""
    if not text.startswith(SECRET_PREFIX):
        raise ValueError("a secret for events starts with whsec_")
    try:
        secret = base64.b64decode(text.removeprefix(SECRET_PREFIX), validate=True)
    except (binascii.Error, ValueError) as error:
        raise ValueError("behind whsec_ a secret for events is base64") from error
    if not MIN_SECRET_BYTES <= len(secret) <= MAX_SECRET_BYTES:
        raise ValueError(f"a secret for events has {MIN_SECRET_BYTES} to {MAX_SECRET_BYTES} bytes")
    return secret


def event_id(key: str, instance: str) -> str:
    """Stable for one row of one deployment: a repeat is recognised by it."""
    return "msg_" + hashlib.sha256(f"{instance}\n{key}".encode()).hexdigest()[:32]


def sign(secret: bytes, ident: str, at_s: int, body: bytes) -> str:
    """"v1,<base64 of HMAC-SHA256 over id.timestamp.body>"."""
    mac = hmac.new(secret, f"{ident}.{at_s}.".encode() + body, hashlib.sha256).digest()
    return "v1," + base64.b64encode(mac).decode()


class EventSender:
    """Posts events to the one endpoint of ownkey.toml, over the upstream that checks every address."""

    def __init__(
        self, upstream: Upstream, origin: Origin, secrets: Sequence[bytes], *, instance: str, timeout_s: float = 15.0
    ) -> None:
        if not secrets:
            raise ValueError("events are signed: at least one secret is needed")
        self._upstream, self._origin, self._secrets = upstream, origin, tuple(secrets)
        self._instance, self._timeout_s = instance, timeout_s

    def __repr__(self) -> str:
        return f"EventSender({self._origin!r}, {len(self._secrets)} secrets)"

    async def send(
        self, key: str, event: str, data: Mapping[str, Any], *, happened_at: str, at_ms: int
    ) -> None:
        """Done at 2xx. Raises Undeliverable at 410 (the host wants no more of this), ChannelDown else."""
        ident, at_s = event_id(key, self._instance), at_ms // 1_000
        body = json.dumps(
            {"type": event, "timestamp": happened_at, "data": data}, ensure_ascii=False, separators=(",", ":")
        ).encode()
        headers = (
            ("content-type", "application/json"), ("webhook-id", ident), ("webhook-timestamp", str(at_s)),
            ("webhook-signature", " ".join(sign(secret, ident, at_s, body) for secret in self._secrets)),
        )
        # The origin's path is the endpoint's own: nothing is appended to it.
        request = UpstreamRequest(self._origin, "POST", "" if self._origin.base_path else "/", headers, body)
        try:
            response = await self._upstream.send(request, head_timeout_s=self._timeout_s)
        except UpstreamError as error:
            raise ChannelDown(f"the endpoint for events is not reachable: {error.signal}") from error
        status = response.status
        response.close()
        if status == 410:
            raise Undeliverable("the endpoint for events answered 410: gone")
        if not 200 <= status < 300:
            raise ChannelDown(f"the endpoint for events answered {status}", for_all=False)
