"""Delivers events to the webhook endpoints, signed, and again until somebody answers 2xx.

Each delivery is a task of its own: like Stripe's, they keep no order and a slow endpoint holds up nothing.
"""

import asyncio
import time
from dataclasses import asdict, dataclass

import httpx

from .refusals import Json
from .webhooks import body_of, signed_by_all, wants
from .world import World

_KEPT = 5000


@dataclass(slots=True)
class Delivery:
    """One try. `status` 0 means no answer; `error` says why."""

    event: str
    type: str
    endpoint: str
    attempt: int
    status: int
    error: str
    at: float


class Postman:
    """Brings every event to the endpoints that want it."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._tasks: set[asyncio.Task[None]] = set()
        self._client: httpx.AsyncClient | None = None
        self.log: list[Delivery] = []
        world.listeners.append(self.take)

    @property
    def waiting(self) -> int:
        """How many deliveries are under way or will be tried again."""
        return len(self._tasks)

    def take(self, event: Json) -> None:
        """A new event: one task for each endpoint that wants it."""
        if not self._world.settings.webhooks_on:
            return
        endpoints = [e for e in self._world.every("webhook_endpoint") if wants(e, event["type"])]
        event["pending_webhooks"] = len(endpoints)
        for endpoint in endpoints:
            self.send(event, endpoint)

    def send(self, event: Json, endpoint: Json) -> None:
        """Start a delivery."""
        task = asyncio.get_running_loop().create_task(self._deliver(event, endpoint, body_of(event)))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _deliver(self, event: Json, endpoint: Json, body: bytes) -> None:
        world = self._world
        for attempt, wait in enumerate([0.0, *world.settings.webhook_retry_s], 1):
            await asyncio.sleep(wait)
            if world.find("webhook_endpoint", endpoint["id"]) is not endpoint or endpoint["status"] != "enabled":
                return
            moment = world.now() if world.settings.signature_time == "virtual" else int(time.time())
            headers = {
                "content-type": "application/json; charset=utf-8", "user-agent": "Stripe/1.0 (emulated)",
                "stripe-signature": signed_by_all(body, world.hidden(endpoint["id"])["secrets"], moment),
            }  # fmt: skip
            status, error = await self.post(endpoint["url"], body, headers)
            self.log.append(Delivery(event["id"], event["type"], endpoint["id"], attempt, status, error, time.time()))
            del self.log[:-_KEPT]
            if 200 <= status < 300:
                event["pending_webhooks"] = max(0, event["pending_webhooks"] - 1)
                return

    async def post(self, url: str, body: bytes, headers: dict[str, str]) -> tuple[int, str]:
        """One POST. Redirects are not followed: they count as failures, as Stripe counts them."""
        if self._client is None:
            self._client = httpx.AsyncClient(trust_env=False, follow_redirects=False)
        try:
            answer = await self._client.post(
                url, content=body, headers=headers, timeout=self._world.settings.webhook_timeout_s
            )
        except httpx.HTTPError as error:
            return 0, f"{type(error).__name__}: {error}"
        return answer.status_code, "" if answer.is_success else answer.text[:300]

    def shown(self) -> list[Json]:
        """The log, oldest first."""
        return [asdict(entry) for entry in self.log]

    def forget(self) -> None:
        """Drop what waits, and the log."""
        for task in list(self._tasks):
            task.cancel()
        self.log.clear()

    async def close(self) -> None:
        """Stop."""
        self.forget()
        if self._client is not None:
            await self._client.aclose()
