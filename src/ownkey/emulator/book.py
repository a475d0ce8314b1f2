"""The bill book: what every request really cost, whatever the usage report said.

A request is billed once, in whole nano-dollars rounded up once. With a file the book is also appended to disk, one
JSON line a bill, so that the truth survives the process.
"""

import time
from collections import deque
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import IO, Any

import msgspec

from .keys import Key
from .plan import Usage

_SECRET_HEADERS = {b"authorization", b"x-api-key", b"x-goog-api-key", b"cookie", b"proxy-authorization"}


@dataclass(frozen=True, slots=True)
class Bill:
    n: int
    at: float
    provider: str
    key_last4: str
    key_sha256: str
    model: str
    endpoint: str
    stream: bool
    request_id: str
    usage: Usage
    cost_nusd: int
    is_byok: bool
    aborted: bool

    def as_json(self) -> dict[str, Any]:
        """The bill as the control API shows it; amounts are strings."""
        return {
            "n": self.n,
            "at": self.at,
            "provider": self.provider,
            "key_last4": self.key_last4,
            "key_sha256": self.key_sha256,
            "model": self.model,
            "endpoint": self.endpoint,
            "stream": self.stream,
            "request_id": self.request_id,
            "tokens": {
                "input": self.usage.input,
                "cache_read": self.usage.cache_read,
                "cache_write_5m": self.usage.cache_write_5m,
                "cache_write_1h": self.usage.cache_write_1h,
                "output": self.usage.output,
                "reasoning": self.usage.reasoning,
            },
            "cost_nusd": str(self.cost_nusd),
            "is_byok": self.is_byok,
            "aborted": self.aborted,
        }


class Book:
    """All bills since the last reset."""

    def __init__(self, path: Path | None = None) -> None:
        self.bills: list[Bill] = []
        self._next = 1
        self._file: IO[bytes] | None = path.open("ab", buffering=0) if path is not None else None
        self._by_request: dict[str, Bill] = {}

    def add(
        self,
        key: Key,
        model: str,
        endpoint: str,
        stream: bool,
        request_id: str,
        usage: Usage,
        cost_nusd: int,
        is_byok: bool,
        aborted: bool,
    ) -> Bill:
        """Write one bill and charge the key."""
        bill = Bill(
            self._next, time.time(), key.provider, key.last4, key.sha256, model, endpoint, stream, request_id, usage,
            cost_nusd, is_byok, aborted,
        )  # fmt: skip
        self._next += 1
        self.bills.append(bill)
        self._by_request[request_id] = bill
        if is_byok:
            key.byok_used_nusd += cost_nusd
        else:
            key.used_nusd += cost_nusd
            if key.balance_nusd is not None:
                key.balance_nusd -= cost_nusd
        if self._file is not None:
            self._file.write(msgspec.json.encode(bill.as_json()) + b"\n")
        return bill

    def find(self, request_id: str) -> Bill | None:
        return self._by_request.get(request_id)

    def select(self, *, key_sha256: str | None = None, since: int = 0) -> list[Bill]:
        """The bills numbered above `since`, of one key or of all."""
        return [bill for bill in self.bills if bill.n > since and (key_sha256 is None or bill.key_sha256 == key_sha256)]

    def reset(self) -> None:
        """Forget all bills. Numbers go on, so that `since` stays true."""
        self.bills.clear()
        self._by_request.clear()


@dataclass(slots=True)
class Seen:
    """One request as it arrived; credentials are hidden only when it is shown."""

    n: int
    at: float
    method: bytes
    target: bytes
    headers: dict[bytes, bytes]
    body: bytes
    status: int = 0
    fault: str | None = None

    def as_json(self) -> dict[str, Any]:
        """The request with credentials replaced by their sha256."""
        return {
            "n": self.n,
            "at": self.at,
            "method": self.method.decode("latin-1"),
            "path": _without_key(self.target.decode("latin-1")),
            "headers": {
                name.decode("latin-1"): _redacted(value) if name in _SECRET_HEADERS else value.decode("latin-1")
                for name, value in self.headers.items()
            },
            "body": self.body.decode("utf-8", "replace"),
            "status": self.status,
            "fault": self.fault,
        }


def _redacted(value: bytes) -> str:
    text = value.decode("latin-1")
    scheme, space, rest = text.partition(" ")
    secret = rest if space and scheme.lower() in {"bearer", "basic"} else text
    return f"sha256:{sha256(secret.strip().encode('latin-1')).hexdigest()}"


def _without_key(target: str) -> str:
    path, mark, query = target.partition("?")
    pairs = [
        f"key={_redacted(pair[4:].encode('latin-1'))}" if pair.startswith("key=") else pair for pair in query.split("&")
    ]
    return path + mark + "&".join(pairs) if mark else path


class Log:
    """How many requests came, and the last of them."""

    def __init__(self, size: int = 1000) -> None:
        self.count = 0
        self._ring: deque[Seen] = deque(maxlen=size)

    def add(self, method: bytes, target: bytes, headers: dict[bytes, bytes], body: bytes) -> Seen:
        self.count += 1
        seen = Seen(self.count, time.time(), method, target, headers, body)
        self._ring.append(seen)
        return seen

    def last(self, limit: int) -> list[Seen]:
        """At most `limit` requests, oldest first."""
        return list(self._ring)[-limit:] if limit > 0 else []

    def reset(self) -> None:
        self.count = 0
        self._ring.clear()
