"""What OpenRouter tells everybody about its models and hosts, kept for an hour, so that its clients read it here too.

The lists are public: no credential goes with a request, and no caller's text gets into a path. What cannot be read is
None, and whoever asks makes do with the price book.
"""

import asyncio
from collections.abc import Callable, Mapping
from typing import Any, Protocol
from urllib.parse import quote

import msgspec

from ownkey.domain.exchange import Origin, UpstreamRequest
from ownkey.domain.failures import UpstreamError
from ownkey.providers.upstream import UpstreamResponse

KEPT_S = 3_600.0
RETRY_S = 60.0
FETCH_S = 5.0
LIST_BYTES = 32 * 2**20
MAX_KEPT = 512


class Upstream(Protocol):
    async def send(self, request: UpstreamRequest, *, head_timeout_s: float) -> UpstreamResponse: ...


class PublicCatalogue:
    """OpenRouter's public lists. `fetch` false: none is ever read. Many who ask at once cause one request."""

    def __init__(
        self, upstream: Upstream, openrouter: Origin, monotonic: Callable[[], float], *, fetch: bool = True
    ) -> None:
        self._upstream = upstream
        self._origin = openrouter
        self._monotonic = monotonic
        self._fetches = fetch
        self._kept: dict[str, tuple[float, Any]] = {}
        self._turns: dict[str, asyncio.Lock] = {}

    async def models(self) -> Mapping[str, Mapping[str, Any]]:
        """Slug → entry, as OpenRouter describes it: what answers in text, and what makes vectors."""
        found: dict[str, Mapping[str, Any]] = {}
        for path in ("/models", "/embeddings/models"):
            data = await self._read(path)
            for entry in data if isinstance(data, list) else ():
                if isinstance(entry, dict) and isinstance(entry.get("id"), str):
                    found.setdefault(entry["id"], entry)
        return found

    async def endpoints(self, slug: str) -> Mapping[str, Any] | None:
        """The hosts of a model that the caller's side knows already. `slug` is "author/name"."""
        data = await self._read(f"/models/{quote(slug, safe='/:')}/endpoints")
        return data if isinstance(data, dict) and isinstance(data.get("endpoints"), list) else None

    async def providers(self) -> list[Any] | None:
        data = await self._read("/providers")
        return data if isinstance(data, list) else None

    async def _read(self, path: str) -> Any:
        """The answer's `data`; an older one where OpenRouter is silent; None where there never was one."""
        kept = self._kept.get(path)
        if not self._fetches or (kept is not None and self._monotonic() < kept[0]):
            return None if kept is None else kept[1]
        async with self._turns.setdefault(path, asyncio.Lock()):
            kept = self._kept.get(path)
            if kept is not None and self._monotonic() < kept[0]:
                return kept[1]
            data = await self._fetch(path)
            if len(self._kept) >= MAX_KEPT:
                self._kept.pop(next(iter(self._kept)))
            if data is None:
                data = None if kept is None else kept[1]
                self._kept[path] = (self._monotonic() + RETRY_S, data)
            else:
                self._kept[path] = (self._monotonic() + KEPT_S, data)
            self._turns.pop(path, None)
            return data

    async def _fetch(self, path: str) -> Any:
        request = UpstreamRequest(self._origin, "GET", path, (("accept", "application/json"),), b"")
        try:
            response = await self._upstream.send(request, head_timeout_s=FETCH_S)
            try:
                if response.status != 200:
                    return None
                answer = msgspec.json.decode(await response.read_all(FETCH_S, LIST_BYTES))
            finally:
                response.close()
        except (UpstreamError, msgspec.DecodeError, RecursionError):
            return None
        return answer.get("data") if isinstance(answer, dict) else None
