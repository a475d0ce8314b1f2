"""A host that has replaced every text reads none of ours on any page: the catalogue leaves nothing out."""

import re
from collections.abc import AsyncIterator
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest
from tests.control.house import ACTOR, KEYS
from tests.domain.marked import MARKED, outside
from tests.portal.key_pages import BROKEN, PATH, REJECTED, entitle, fail, lose, save
from tests.portal.real_doors import FORM, NOBODY, Doors, furnish, open_doors
from tests.portal.receipts_made import attempt, failed, write
from tests.portal.test_every_route import troubled, walk
from tests.portal.visiting import Portal, Seen, open_portal

from ownkey.domain.failures import FailureClass
from ownkey.domain.health import Sign
from ownkey.domain.product import Product
from ownkey.domain.routing import Route
from ownkey.domain.workspace import EntitlementState, Role
from ownkey.pages.words import FIXED

DATA = {
    # What people and the host call things.
    "Acme", "Bolt", "Ada", "Team key", "Main", "Standard", "Free", "Starter", "Pro", "Enterprise", "Support desk",
    "App builder", "Project of acme", "Main key", "The owner", "The admin", "The member", "The viewer", "Otto",
    "Anthropic", "OpenAI", "Google", "OpenRouter", "UTC",
    # What is kept as it was said: to a caller, by a provider, about a key.
    "The cap of US$47.13 was reached.", "Slow down.", "User not found.", "chat", "openai", "down",
    *(str(cls) for cls in FailureClass),
}
"""Names, and what was said elsewhere: no wording of these pages. Codes, ids, models and figures are none either."""

_SPOKEN = ("title", "aria-label", "placeholder", "alt", "data-label", "aria-valuetext")
_CODE = re.compile(r"[\d.,]+ (ms|s|min|h|kB|MB)\b|\S*[\d_/@…$%]\S*|\b[a-z]+-[a-z-]+\b")
_SAVED = re.compile(r"\w+ API key saved successfully\.")


class Texts(HTMLParser):
    """What a page says: its text, and the attributes that are read out."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []
        self._silent = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._silent += tag in ("script", "style", "pre", "code")
        self.found += [value for name, value in attrs if name in _SPOKEN and value]

    def handle_endtag(self, tag: str) -> None:
        self._silent -= tag in ("script", "style", "pre", "code")

    def handle_data(self, data: str) -> None:
        if not self._silent:
            self.found.append(" ".join(data.split()))


def ours(seen: Seen, product: Product) -> list[str]:
    """The lines of a page in which something of ours is left: whole words outside of every mark, without names and the
    labels that the contract fixes."""
    page = Texts()
    page.feed(seen.html)
    titles = {text for task in product.tasks.values() for text in (task.title, task.name)}
    left = []
    for line in outside("\n".join(page.found)).split("\n"):
        text = _SAVED.sub("", line)
        for name in sorted({*DATA, *FIXED, *titles, product.billing.product_name}, key=len, reverse=True):
            text = text.replace(name, "")
        if re.search(r"[A-Za-z]{2,}", _CODE.sub("", text)):
            left.append(line.strip())
    return left


@pytest.fixture(params=["support-desk", "app-builder"])
async def doors(tmp_path: Path, request: pytest.FixtureRequest) -> AsyncIterator[Doors]:
    async with open_doors(tmp_path, request.param, words=MARKED) as opened:
        for things in (opened.own, opened.other):
            await furnish(opened.house, things)
        yield opened


@pytest.mark.parametrize("who", ["owner", "member"])
async def test_no_page_that_a_walk_reaches_has_a_word_of_ours(doors: Doors, who: str) -> None:
    """Section 3: every listed page, what it links to and each form, before and after the cap is reached."""
    before = await walk(doors, who)
    await troubled(doors)
    wrong = [
        (path, line) for pages in (before, await walk(doors, who)) for path, seen in pages.items()
        if seen.headers.get("content-type", "").startswith("text/html") for line in ours(seen, doors.house.product)
    ]

    assert wrong == []
    assert len(before) >= 10


async def keys_in_every_state(portal: Portal) -> AsyncIterator[Seen]:
    """API Keys as a person meets it: empty, each outcome of a Test, saved, off, sick, sealed for ever, gone."""
    script = portal.control.upstream.script
    yield await portal.get(PATH)
    yield await portal.get(f"{PATH}/openrouter/connect")
    for answers in (
        {}, {"/key": REJECTED}, {"/key": BROKEN},
        {"/chat/completions": (402, {"error": {"code": 402, "message": "n"}})},
        {"/models/user": (200, {"data": [{"id": "openai/gpt-4.1-mini"}]})},
    ):
        script.update(answers)
        yield await portal.post(f"{PATH}/openrouter/test", {"key": KEYS["openrouter"], "label": "", "version": "0"})
        if set(answers) == {"/key"}:
            yield await save(portal)
        for name in answers:
            del script[name]
    for typed in ("", "nothing like it", KEYS["anthropic"], "sk_live_" + "a1" * 20, "ok_" + "a" * 40):
        yield await portal.post(f"{PATH}/openrouter/test", {"key": typed, "label": "", "version": "0"})
    yield await portal.follow(await save(portal))
    for way in ("replace", "disable", "disconnect"):
        yield await portal.get(f"{PATH}/openrouter/{way}")
    yield await portal.follow(await portal.post(f"{PATH}/openrouter/disable", {"version": "1"}))
    version = (await portal.get(PATH)).field("version", near="openrouter/enable")
    yield await portal.follow(await portal.post(f"{PATH}/openrouter/enable", {"version": version}))
    for provider in portal.control.product.direct_providers:
        yield await portal.follow(await save(portal, provider))
    for sign, signal in ((Sign.REJECTED, "401 auth"), (Sign.NO_FUNDS, "402 funds")):
        await fail(portal, sign, signal=signal)
        for role in Role:
            yield await portal.get(PATH, role)
            yield await portal.get("/portal/why", role)
    await lose(portal)
    yield await portal.get(PATH)
    yield await portal.get("/portal/why")
    yield await portal.follow(await portal.post(f"{PATH}/openrouter/disconnect", {
        "version": (await portal.get(f"{PATH}/openrouter/disconnect")).field("version", near="disconnect"),
    }))


@pytest.mark.parametrize("preset", ["support-desk", "app-builder"])
async def test_no_state_of_a_key_has_a_word_of_ours(tmp_path: Path, preset: str) -> None:
    """Section 4.1: the payer sentence, cards, outcomes of a Test, incidents and every confirmation."""
    async with open_portal(tmp_path, preset, words=MARKED) as portal:
        if preset == "app-builder":
            await entitle(portal)
        wrong = {
            line: seen.status async for seen in keys_in_every_state(portal)
            for line in ours(seen, portal.control.product)
        }

    assert wrong == {}


async def test_no_receipt_has_a_word_of_ours(tmp_path: Path) -> None:
    """Section 4.5: each case's headline and reason, for those who see figures and those who do not."""
    cut = {"served_model": None, "finish_reason": None}
    async with open_portal(tmp_path, "app-builder", words=MARKED) as portal:
        receipts = [
            await write(portal, attempt()), await write(portal, failed(), attempt(2)),
            await write(portal, failed(1, Route.OPENROUTER, "openrouter", failure="funds", status=402, signal="402"),
                        attempt(2, Route.CREDITS), row="F10", charge_credits=3, charge_nusd=30_000_000),
            await write(portal, failed(), status=503, code="provider_unavailable", **cut),
            await write(portal, status=402, code="always_use_key_unavailable", row="F5", **cut),
            await write(portal, replace(attempt(), cost_nusd=None)), await write(portal, attempt(), hung_up=True),
        ]
        wrong = {
            line for receipt in receipts for role in (Role.OWNER, Role.MEMBER)
            for line in ours(await portal.get(f"/portal/calls/{receipt.id}", role), portal.control.product)
        }

    assert wrong == set()


async def test_what_went_wrong_is_said_in_the_hosts_words(tmp_path: Path) -> None:
    """Forms with nonsense in them, addresses of nothing, pages for others."""
    async with open_portal(tmp_path, words=MARKED) as portal:
        await save(portal)
        asked = [
            await portal.post("/portal/spend/cap", {"cap_usd": text, "threshold_percent": "80"})
            for text in ("-1", "many", "9" * 30)
        ]
        asked += [
            await portal.post("/portal/spend/cap", {"cap_usd": "5", "threshold_percent": "800", "timezone": "Mars"}),
            await portal.get("/portal/activity?since=2026-13-01"),
            await portal.get("/portal/activity?outcome=none_such"),
            await portal.get("/portal/activity?since=2026-11-02&until=2026-11-01"),
            await portal.get("/portal/spend?month=2026-99"), await portal.get("/portal/calls/call_none"),
            await portal.get("/portal/nothing"), await portal.get("/portal/explain?size=many"),
            await portal.get("/portal/data", Role.VIEWER), await portal.get("/portal/explain/replay?month=1999-01"),
            await portal.post("/portal/explain/replay", {"month": "1999-01", "fee": "many"}),
            await portal.post("/portal/features/none", {"on": "on"}),
        ]
        wrong = {line for seen in asked for line in ours(seen, portal.control.product)}

    assert wrong == set()
    assert {seen.status for seen in asked} >= {403, 404, 422}


async def test_no_standing_has_a_word_of_ours(tmp_path: Path) -> None:
    """Sections 4.1, 4.6 and 4.7: add-on × switches × key: the payer sentence, gates, cards and plans of each."""
    async with open_portal(tmp_path, "app-builder", words=MARKED) as portal:
        desk = portal.control.desk
        await entitle(portal)
        await save(portal)
        wrong: dict[str, str] = {}
        for standing in EntitlementState:
            await entitle(portal, standing)
            for switches in ({"always_use_key": True}, {"always_use_key": False, "credits_if_key_fails": True},
                             {"credits_if_key_fails": False}):
                await desk.workspaces.change(await portal.control.again(portal.workspace), switches, ACTOR)
                for path in (PATH, "/portal/why", "/portal/plans", "/portal/explain?task=plan_app"):
                    wrong |= dict.fromkeys(ours(await portal.get(path), portal.control.product), f"{path} {standing}")

    assert wrong == {}


async def test_nobody_at_the_door_reads_a_word_of_ours(tmp_path: Path) -> None:
    """Session ended, a link that opens nothing, a form from elsewhere: pages for those whom we do not know."""
    async with open_doors(tmp_path, words=MARKED) as doors:
        asked = [
            await doors.get("/portal/spend", NOBODY), await doors.get("/portal/enter?code=x", NOBODY),
            await doors.ask("POST", "/portal/spend/cap", body=b"cap_usd=5", headers=FORM),
            await doors.ask("POST", "/portal/spend/cap", body=b"csrf=x", headers={**FORM, "origin": "https://evil.test"}),
            await doors.ask("POST", "/portal/spend/cap", body=b"x" * 70_000, headers=FORM),
            await doors.ask("PUT", "/portal/spend"), await doors.get("/portal/plans/pay"),
        ]
        wrong = {line for seen in asked for line in ours(seen, doors.house.product)}

    assert wrong == set()
    assert {seen.status for seen in asked} >= {400, 401, 403, 404, 405}
