"""A link that is to put something right is never empty and never leads to a page that is not there, whichever pages a
host lists; where it names a place on a page, that place is there.
"""

import html
import itertools
import re
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.control.house import ACTOR
from tests.portal.key_pages import entitle, save
from tests.portal.receipts_made import write
from tests.portal.visiting import Portal, Seen, open_portal

from ownkey.domain.portal import Page
from ownkey.domain.workspace import EntitlementState, Role

LISTS: tuple[tuple[Page, ...], ...] = (
    (Page.CREDENTIALS,), (Page.SPEND,), (Page.ACTIVITY,), (Page.FEATURES, Page.PROJECTS),
    (Page.CREDENTIALS, Page.PLANS),
)
"""Every combination is gone through by the rules' own test; these are rendered."""
MANAGERS = (Role.OWNER, Role.ADMIN)


@pytest.fixture(params=["support-desk", "app-builder"])
async def portal(tmp_path: Path, request: pytest.FixtureRequest) -> AsyncIterator[Portal]:
    async with open_portal(tmp_path, request.param) as opened:
        yield opened


async def without_key(portal: Portal) -> None:
    """Nobody can pay: no key, or no add-on and no credits."""


async def paused(portal: Portal) -> None:
    await entitle(portal)
    await save(portal)
    await portal.control.desk.caps.save(await portal.control.again(portal.workspace), "0", 80, ACTOR)


async def unpaid(portal: Portal) -> None:
    await entitle(portal)
    await save(portal)
    await entitle(portal, EntitlementState.INACTIVE)


async def past_due(portal: Portal) -> None:
    await entitle(portal)
    await save(portal)
    await entitle(portal, EntitlementState.GRACE)


async def suspended(portal: Portal) -> None:
    await portal.control.desk.workspaces.change(portal.workspace, {"status": "suspended"}, ACTOR)


STATES = {"without key": without_key, "paused": paused, "unpaid": unpaid, "past due": past_due, "suspended": suspended}


@pytest.mark.parametrize("state", list(STATES))
async def test_a_fix_leads_to_a_place_that_is_there(portal: Portal, state: str) -> None:
    """Portal 2: the header's pill and the fixes of the keys' page, of Why and of a receipt, × pages × roles."""
    await STATES[state](portal)
    task = next(iter(portal.control.product.tasks))
    refused = await write(portal, status=402, code="ai_paused", task="auto_triage", message="The cap was reached.")
    off = await write(portal, status=403, code="feature_disabled", task=task, message="Switched off.")
    seen_links = 0
    for pages, role in itertools.product(LISTS, Role):
        portal.pages = pages
        if all(portal.session(role).sight(page).value == "none" for page in pages):
            continue
        paths = ["/portal/credentials", "/portal/why", f"/portal/calls/{refused.id}", f"/portal/calls/{off.id}"]
        shown = {path: await portal.get(path, role) for path in paths}
        for path, seen in list(shown.items()):
            if seen.status != 200:
                continue
            told = 'class="pill ' in seen.html and "AI on" not in seen.text
            for url in fixes(seen):
                seen_links += 1
                where, _, place = url.partition("#")
                if (where or path) not in shown:
                    shown[where] = await portal.get(where, role)
                found = shown[where or path]
                assert found.status == 200, (pages, role, path, url)
                assert not place or f'id="{place}"' in found.html, (pages, role, path, url)
            assert not told or pill(seen), (pages, role, path)
            if path.startswith("/portal/calls/") and role in MANAGERS:
                assert "Put it right" in seen.text
    assert seen_links > 10


def pill(seen: Seen) -> str:
    found = re.search(r'<a class="pill [^"]*" href="([^"]+)"', seen.html)
    return html.unescape(found[1]) if found else ""


def fixes(seen: Seen) -> list[str]:
    """The pill, the primary links, and the link in the sentence of who pays; of these pages only."""
    found = [pill(seen), *re.findall(r'<a class="button primary" href="([^"]*)"', seen.html)]
    payer = re.search(r'id="payer"[^>]*>.*?</p>', seen.html, flags=re.S)
    found += re.findall(r'href="([^"]*)"', payer[0]) if payer else []
    assert "" not in found[1:]
    return [html.unescape(url) for url in found if url.startswith(("/", "#"))]
