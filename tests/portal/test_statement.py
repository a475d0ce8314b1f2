"""Credits as people see them: the balance, its grants with their ends, every movement, and the same as CSV."""

import csv
import io
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from tests.portal.visiting import Portal, Seen, open_portal
from tests.store.store_kit import USD, credits_request, finish, settle, take

from ownkey.control.ports import Actor
from ownkey.domain.routing import Funding, Route
from ownkey.domain.workspace import Role

OPERATOR = Actor("operator", "op")
DAY_MS = 86_400_000


@pytest.fixture
async def portal(tmp_path: Path) -> AsyncIterator[Portal]:
    async with open_portal(tmp_path, "app-builder") as opened:
        yield opened
        assert list(await opened.control.store.verify(opened.control.clock.at_ms)) == []


async def grant(portal: Portal, credits: int, origin: Any = "operator", days: int | None = None) -> None:
    control = portal.control
    expires = None if days is None else control.clock.at_ms + days * DAY_MS
    await control.desk.credits.grant(portal.workspace, credits, origin, expires, None, OPERATOR)


async def charge(portal: Portal, cost_nusd: int) -> str:
    """One call that credits paid; its receipt."""
    control = portal.control
    request = credits_request(
        portal.workspace.id, cost_nusd, at_ms=control.clock.at_ms, expires_at_ms=control.clock.at_ms + 180_000
    )
    await take(control.store, request)
    await finish(control.store, request, settle(request, cost_nusd), funding=Funding.CREDITS, route=Route.CREDITS)
    return request.call_id


def rows(seen: Seen, table: int) -> list[list[str]]:
    """A table's cells as text."""
    body = re.findall(r"<tbody>(.*?)</tbody>", seen.html, re.S)[table]
    cells = [re.findall(r"<t[hd]\b[^>]*>(.*?)</t[hd]>", row, re.S) for row in re.findall(r"<tr>(.*?)</tr>", body, re.S)]
    return [[" ".join(re.sub(r"<[^>]*>", " ", cell).split()) for cell in row] for row in cells]


async def test_grants_stand_in_the_order_in_which_calls_use_them(portal: Portal) -> None:
    """G30: some credits expire, those of the plan and top-ups do not; what ends first is used first."""
    await grant(portal, 30, "promo", days=60)
    await grant(portal, 20, "promo", days=3)
    seen = await portal.get("/portal/plans/credits")
    grants = rows(seen, 0)

    assert "100 credits" in seen.text
    assert [(row[0], row[2]) for row in grants] == [
        ("Promotional credits", "20 credits"), ("Promotional credits", "30 credits"),
        ("Credits of the plan", "50 credits"),
    ]
    assert [row[4].endswith("soon") for row in grants] == [True, False, False]
    assert grants[2][4] == "never"


async def test_every_movement_has_its_balance_and_a_charge_its_receipt(portal: Portal) -> None:
    """X9: the statement adds up to the wallet, newest first, and leads from a charge to its receipt."""
    receipt = await charge(portal, USD // 10)
    await grant(portal, 5)
    seen = await portal.get("/portal/plans/credits")
    lines = rows(seen, 1)
    wallet = await portal.control.desk.credits.show(portal.workspace)

    assert [row[3] for row in lines] == [str(wallet.balance_credits), str(wallet.balance_credits - 5), "50"]
    assert [row[2] for row in lines] == ["+5", f"−{50 + 5 - wallet.balance_credits}", "+50"]
    assert f'href="/portal/calls/{receipt}"' in seen.html


async def test_what_calls_hold_is_not_free(portal: Portal) -> None:
    """A balance of which a running call has reserved a part says so."""
    control = portal.control
    request = credits_request(
        portal.workspace.id, USD // 10, at_ms=control.clock.at_ms, expires_at_ms=control.clock.at_ms + 180_000
    )
    await take(control.store, request)
    seen = await portal.get("/portal/plans/credits")
    held = (await control.desk.credits.show(portal.workspace)).held_credits
    await control.store.end_attempt(settle(request, 0))

    assert held > 0
    assert f"{held} of them held for calls under way, {50 - held} free" in seen.text


async def test_pages_follow_each_other_without_a_gap(portal: Portal) -> None:
    """Keyset pages: newer movements shift nothing, and the last page has no next."""
    for credits in range(1, 121):
        await grant(portal, credits)
    found: list[str] = []
    path: str | None = "/portal/plans/credits"
    while path:
        seen = await portal.get(path)
        found += [row[2] for row in rows(seen, 1)]
        if len(found) == 50:
            await grant(portal, 999)
        older = re.search(r'href="([^"]+)" rel="next"', seen.html)
        path = older[1].replace("&amp;", "&") if older else None

    assert found == [f"+{credits}" for credits in range(120, 0, -1)] + ["+50"]


@pytest.mark.parametrize(("kind", "count"), [("calls", 1), ("arrivals", 2), ("addon", 0), ("", 3), ("nonsense", 3)])
async def test_a_kind_is_a_filter_of_page_and_file_alike(portal: Portal, kind: str, count: int) -> None:
    """The same rows in both; no match is said, with a way back."""
    await charge(portal, USD // 10)
    await grant(portal, 5)
    seen = await portal.get(f"/portal/plans/credits?kind={kind}")
    data = await portal.get(f"/portal/plans/credits.csv?kind={kind}")
    listed = list(csv.DictReader(io.StringIO(data.html)))

    assert len(listed) == count
    if count:
        assert len(rows(seen, 1)) == count
    else:
        assert "Nothing of this kind" in seen.text


async def test_the_file_is_csv_and_agrees_with_the_wallet(portal: Portal) -> None:
    """RFC 4180, named after the workspace, in the browser's download; its sum is the balance."""
    await charge(portal, USD // 10)
    data = await portal.get("/portal/plans/credits.csv")
    listed = list(csv.DictReader(io.StringIO(data.html)))
    wallet = await portal.control.desk.credits.show(portal.workspace)

    assert data.headers["content-type"].startswith("text/csv")
    assert re.fullmatch(r'attachment; filename="ownkey-credits-[\w-]+\.csv"', data.headers["content-disposition"])
    assert data.headers["cache-control"] == "no-store"
    assert sum(int(row["credits"]) for row in listed) == wallet.balance_credits
    assert int(listed[0]["balance_credits"]) == wallet.balance_credits


async def test_a_low_balance_stands_on_top(tmp_path: Path) -> None:
    """G8: below the plan's minimum."""
    async with open_portal(tmp_path, "app-builder") as opened:
        opened.workspace = await opened.control.workspace("Poor", external_id="poor", plan="starter")
        seen = await opened.get("/portal/plans/credits")

    assert "The balance is low" in seen.text
    assert "There are no credits" in seen.text
    assert "No credits have moved yet" in seen.text


async def test_a_product_without_credits_has_no_such_page(tmp_path: Path) -> None:
    """T2: nothing about credits where there are none."""
    async with open_portal(tmp_path) as opened:
        assert (await opened.get("/portal/plans/credits")).status == 404
        assert (await opened.get("/portal/plans/credits.csv")).status == 404


@pytest.mark.parametrize("role", Role)
async def test_members_see_no_credits(portal: Portal, role: Role) -> None:
    """Section 2: neither as a page nor as a file."""
    expected = 403 if role is Role.MEMBER else 200
    found = [(await portal.get(f"/portal/plans/credits{end}", role)).status for end in ("", ".csv")]

    assert found == [expected, expected]


@pytest.mark.parametrize("before", ["x", "-1", "9" * 30, "%D9%A3", "1e3"])
async def test_a_broken_place_shows_the_newest(portal: Portal, before: str) -> None:
    """An address that somebody has changed by hand is no error."""
    seen = await portal.get(f"/portal/plans/credits?before={before}")

    assert seen.status == 200
    assert len(rows(seen, 1)) == 1
