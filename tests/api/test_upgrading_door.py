"""The door of a server that is starting: everybody is told, nobody is served, and the same port serves afterwards."""

from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.control.house import product_of

from ownkey.api.http import Receive, Scope, Send
from ownkey.api.upgrading import UpgradingDoor
from ownkey.domain.errors import StoreError
from ownkey.domain.upgrades import UpgradeStep
from ownkey.pages.site import Site
from ownkey.pages.words import Words

STEP = UpgradeStep("0030", "0035", 2, 5, "0032_work")
WORDS = "Bringing the database from schema 0030 to 0035: step 2 of 5 (0032_work)"
FRAME = "https://app.example.com"


class HandClock:
    seconds = 100.0

    def __call__(self) -> float:
        return self.seconds


@pytest.fixture
def clock() -> HandClock:
    return HandClock()


@pytest.fixture
def door(tmp_path: Path, clock: HandClock) -> UpgradingDoor:
    product, _ = product_of(tmp_path, "support-desk")
    return UpgradingDoor(product, Site(Words()), clock, (FRAME,))


def client(door: Any) -> httpx.AsyncClient:
    return httpx.AsyncClient(transport=httpx.ASGITransport(app=door), base_url="http://ownkey.test")


async def test_the_process_lives_and_is_not_ready(door: UpgradingDoor) -> None:
    """/healthz 200, so that nobody kills it in the middle; /readyz 503 with the step."""
    async with client(door) as browser:
        starting = await browser.get("/readyz")
        door.told(STEP)
        health, ready = await browser.get("/healthz"), await browser.get("/readyz")

    assert (health.status_code, health.json()) == (200, {"status": "ok"})
    assert (starting.status_code, starting.json()) == (503, {"status": "Ownkey is starting"})
    assert (ready.status_code, ready.json()) == (503, {"status": WORDS})


@pytest.mark.parametrize(("path", "where"), [
    ("/v1/chat/completions", ("error", "code")), ("/v1/responses", ("error", "code")),
    ("/v1/models", ("error", "code")), ("/v1/messages", ("error", "code")), ("/api/v1/messages", ("error", "code")),
    ("/api/v1/chat/completions", ("error", "metadata", "code")), ("/api/v1/key", ("error", "metadata", "code")),
])
async def test_a_call_is_refused_in_its_own_dialect(door: UpgradingDoor, path: str, where: tuple[str, ...]) -> None:
    """503 `provider_unavailable` with Retry-After: SDKs come back by themselves, whatever token they show."""
    door.told(STEP)
    async with client(door) as caller:
        answer = await caller.post(path, json={"model": "m"}, headers={"authorization": "Bearer ok_x"})

    assert answer.status_code == 503
    assert answer.headers["retry-after"] == "5"
    assert answer.headers["x-ownkey-funding"] == "none"
    assert WORDS in answer.text
    assert "provider_unavailable" in answer.text
    assert "error" in answer.json()
    assert ("type" in answer.json()) is (path.endswith("/v1/messages"))


async def test_management_and_stripe_are_told_to_come_again(door: UpgradingDoor) -> None:
    """Nothing is changed; Stripe sends its events again after a 503."""
    door.told(STEP)
    async with client(door) as caller:
        for path in ("/manage/v1/workspaces", "/stripe/webhook", "/elsewhere"):
            answer = await caller.post(path, json={})
            assert (answer.status_code, answer.headers["retry-after"]) == (503, "5"), path
            assert answer.json()["error"]["code"] == "store_unavailable"
            assert answer.json()["error"]["fix"]["text"]


@pytest.mark.parametrize("path", ["/portal", "/portal/credentials?x=<script>", "/console/system", "/connect/return"])
async def test_people_see_how_far_it_is(door: UpgradingDoor, clock: HandClock, path: str) -> None:
    """A page of ours: heading, bar and words, the seconds so far; it comes again by itself, without a script, and
    holds nothing of what was asked for."""
    door.told(STEP)
    clock.seconds += 12
    async with client(door) as browser:
        page = await browser.get(path)
        sheet = page.text.partition('rel="stylesheet" href="')[2].partition('"')[0]
        style = await browser.get(sheet)

    assert page.status_code == 503
    assert page.headers["retry-after"] == "5"
    assert page.headers["cache-control"] == "no-store"
    assert "default-src 'none'" in page.headers["content-security-policy"]
    assert "frame-ancestors 'none'" in page.headers["content-security-policy"]
    assert page.text.count("<h1>") == 1
    assert "Ownkey is being upgraded" in page.text
    assert 'http-equiv="refresh"' in page.text
    assert '<progress value="1" max="5"' in page.text
    assert "Step 2 of 5. 12 s so far." in page.text
    assert "<script>" not in page.text
    assert "style=" not in page.text
    assert (style.status_code, style.headers["content-type"]) == (200, "text/css; charset=utf-8")


async def test_a_start_without_an_upgrade_says_only_that(door: UpgradingDoor) -> None:
    """A new database's steps are nobody's business."""
    door.told(UpgradeStep("", "0035", 3, 11, "0003_late_costs"))
    async with client(door) as browser:
        page = await browser.get("/portal")
    assert "Ownkey is starting" in page.text
    assert "<progress" not in page.text


async def test_what_was_sent_is_not_taken(door: UpgradingDoor) -> None:
    """A form gets the same page, which says so; a page that asks by itself is left as it is."""
    door.told(STEP)
    async with client(door) as browser:
        form = await browser.post("/portal/cap", data={"cap": "100"})
        passive = await browser.get("/console/system", headers={"x-ownkey-passive": "1"})
        head = await browser.head("/portal")

    assert (form.status_code, "was not taken" in form.text) == (503, True)
    assert "100" not in form.text.replace("100%", "")
    assert (passive.status_code, passive.content) == (204, b"")
    assert (head.status_code, head.content) == (503, b"")


async def test_a_framed_page_is_shown_where_it_was_framed(door: UpgradingDoor) -> None:
    """Only by the sites that may frame the portal."""
    async with client(door) as browser:
        page = await browser.get("/portal", headers={"sec-fetch-dest": "iframe"})
        element = await browser.get("/portal/embed/v1.js")
    assert f"frame-ancestors {FRAME}" in page.headers["content-security-policy"]
    assert element.status_code == 200


async def test_then_it_is_the_door_behind(door: UpgradingDoor) -> None:
    """From one request to the next, on the same client."""
    async def behind(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": scope["path"].encode(), "more_body": False})

    async with client(door) as caller:
        before = await caller.get("/v1/models")
        door.open(behind)
        after = await caller.get("/v1/models")
    assert (before.status_code, after.status_code, after.text) == (503, 200, "/v1/models")


def test_who_stops_the_server_stops_the_upgrade(door: UpgradingDoor) -> None:
    """At its next step; the transaction around all steps undoes what was begun."""
    door.told(STEP)
    door.stop()
    with pytest.raises(StoreError, match="as it was"):
        door.told(STEP)
    # What is committed is not undone, and is finished.
    door.told(UpgradeStep("0030", "0035", 6, 5, "filling in what is new"))
