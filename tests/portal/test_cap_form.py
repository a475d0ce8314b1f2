"""The cap's form: every save counts at once, one that pauses AI asks first, and nothing typed is lost."""

import re
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import urlencode

import pytest
from tests.control.house import ACTOR
from tests.portal.visiting import Portal, Seen, open_portal
from tests.store.store_kit import finish, settle
from tests.store.store_kit import request as hold_request

from ownkey.control.verification import ASSUMPTIONS
from ownkey.domain.portal import Page
from ownkey.domain.records import CapSetting
from ownkey.domain.workspace import Role

SPEND, KEYS = "/portal/spend", "/portal/credentials"
USD = 10**9


@pytest.fixture
async def desk(tmp_path: Path) -> AsyncIterator[Portal]:
    async with open_portal(tmp_path) as portal:
        yield portal


async def spend(portal: Portal, cost_nusd: int) -> None:
    """A call that cost this, as the books know it."""
    now = portal.control.clock.now_ms()
    asked = hold_request(portal.workspace.id, cost_nusd, at_ms=now, expires_at_ms=now + 60_000)
    await portal.control.store.hold(asked)
    await finish(portal.control.store, asked, settle(asked, cost_nusd), task="auto_triage")


async def setting(portal: Portal) -> CapSetting:
    return await portal.control.desk.caps.show(portal.workspace)


def typed(seen: Seen, name: str) -> str:
    """What the form's field holds."""
    found = re.search(rf'<input[^>]* name="{name}"[^>]* value="([^"]*)"', seen.html)
    assert found is not None, name
    return found[1]


async def send(portal: Portal, cap: str, threshold: str = "80", zone: str = "UTC", **more: str) -> Seen:
    page = await portal.get(SPEND)
    form = {"cap_usd": cap, "threshold_percent": threshold, "timezone": zone, **more}
    return await portal.post(f"{SPEND}/cap", {"version": page.field("version", "cap_usd"), **form})


async def test_the_form_has_the_exact_labels_and_the_printed_assumptions(desk: Portal) -> None:
    """T21, T25: amount, threshold (80 unless changed), zone; and what the promise rests on."""
    seen = await desk.get(SPEND)

    assert '<label for="cap-amount">Monthly spend cap (USD)</label>' in seen.html
    assert '<label for="cap-threshold">Alert threshold (%)</label>' in seen.html
    assert 'name="threshold_percent" type="text" value="80"' in seen.html
    assert 'name="timezone" type="text" value="UTC"' in seen.html
    assert '<option value="Europe/Berlin">' in seen.html
    for assumption in ASSUMPTIONS:
        assert assumption in seen.text


@pytest.mark.parametrize(("typed", "cap_nusd"), [
    ("50", 50 * USD), ("US$49.90", 49_900_000_000), ("1,000.50", 1_000_500_000_000), ("", None),
    ("0.000000001", 1), (" 7 ", 7 * USD),
])
async def test_an_amount_is_read_as_people_type_it(desk: Portal, typed: str, cap_nusd: int | None) -> None:
    """Empty is no cap; every digit counts."""
    seen = await desk.follow(await send(desk, typed))

    assert (await setting(desk)).cap_nusd == cap_nusd
    assert "Saved." in seen.text


@pytest.mark.parametrize(("form", "fields"), [
    ({"cap": "-5"}, ["cap-amount"]), ({"cap": "fifty <b>"}, ["cap-amount"]), ({"cap": "1e3"}, ["cap-amount"]),
    ({"cap": "9" * 20}, ["cap-amount"]), ({"cap": "5", "threshold": "0"}, ["cap-threshold"]),
    ({"cap": "5", "threshold": "100"}, ["cap-threshold"]), ({"cap": "5", "threshold": "x"}, ["cap-threshold"]),
    ({"cap": "5", "zone": "Mars/Base"}, ["cap-zone"]), ({"cap": "5", "zone": "../etc/passwd"}, ["cap-zone"]),
    ({"cap": "no", "threshold": "no", "zone": "no"}, ["cap-amount", "cap-threshold", "cap-zone"]),
])
async def test_wrong_fields_come_back_together_as_typed(desk: Portal, form: dict[str, str], fields: list[str]) -> None:
    """422: every mistake at once, each tied to its field, nothing saved, everything typed kept."""
    seen = await send(desk, **form)

    assert seen.status == 422
    for ident in ("cap-amount", "cap-threshold", "cap-zone"):
        assert (f'href="#{ident}"' in seen.html) is (ident in fields)
        assert (f'id="{ident}-error"' in seen.html) is (ident in fields)
    assert seen.html.count('aria-invalid="true"') == len(fields)
    assert "<b>" not in seen.html
    if form["cap"] == "fifty <b>":
        assert 'value="fifty &lt;b&gt;"' in seen.html
    assert (await setting(desk)).version == 1


async def test_raising_above_spend_resumes_at_once(desk: Portal) -> None:
    """T25: paused at the cap, raised, AI goes on; the page says so."""
    await desk.control.desk.caps.save(desk.workspace, "10", 80, ACTOR)
    await spend(desk, 10 * USD)
    assert (await setting(desk)).state == "paused"
    after = await desk.follow(await send(desk, "20"))

    assert (await setting(desk)).state == "active"
    assert "Saved. AI has resumed." in after.text
    assert 'data-event="cap-changed"' in after.html


@pytest.mark.parametrize(("cap", "says"), [
    ("5", "US$7.50 is spent in November, and the new cap is US$5.00. Calls are refused from now on, until 1 Dec 00:00 "
          "UTC or until the cap is raised"),
    ("7.5", "the new cap is US$7.50"), ("0", "A cap of US$0 means no AI"),
])
async def test_a_cap_at_or_below_spend_asks_first(desk: Portal, cap: str, says: str) -> None:
    """T22: AI would pause now; the panel has an address of its own, and only its button saves."""
    await spend(desk, 7_500_000_000)
    seen = await send(desk, cap)
    panel = await desk.follow(seen)

    assert seen.headers["location"].startswith(f"{SPEND}/cap/confirm?")
    assert says in panel.text
    assert (await setting(desk)).version == 1
    names = ("version", "cap_usd", "threshold_percent", "timezone", "confirmed")
    done = await desk.post(f"{SPEND}/cap", {name: panel.field(name, "confirmed") for name in names})
    after = await desk.follow(done)
    assert (await setting(desk)).state == "paused"
    assert "AI is paused now: the cap is reached." in after.text


async def test_a_confirm_address_that_asks_nothing_sensible_shows_the_form(desk: Portal) -> None:
    """A cap above spend pauses nothing; a wrong one is told; an old one too."""
    async def ask(**values: str) -> Seen:
        known = {"cap_usd": "5", "threshold_percent": "80", "timezone": "UTC", "version": "1.UTC"}
        return await desk.get(f"{SPEND}/cap/confirm?{urlencode({**known, **values})}")

    assert "AI pauses now" not in (await ask()).text
    assert (await ask(cap_usd="x")).status == 422
    await spend(desk, 9 * USD)
    assert (await ask(version="0.UTC")).status == 409
    assert "AI pauses now" in (await ask()).text


async def test_a_stale_form_keeps_what_was_typed_beside_the_present_values(desk: Portal) -> None:
    """Portal 1.6, 409: somebody else has changed the cap; their value is told, and stays, and nothing typed is lost."""
    page = await desk.get(SPEND)
    await desk.control.desk.caps.save(desk.workspace, "33", 70, ACTOR)
    seen = await desk.post(f"{SPEND}/cap", {
        "cap_usd": "44", "threshold_percent": "80", "timezone": "UTC", "version": page.field("version", "cap_usd"),
    })

    assert seen.status == 409
    assert "changed in the meantime" in seen.text
    now = seen.html.partition("data-now")[2].partition("</dl>")[0]
    assert "<dd>33.00</dd>" in now
    assert "<dd>70</dd>" in now
    assert typed(seen, "cap_usd") == "44"
    assert typed(seen, "threshold_percent") == "80"
    again = {"version": seen.field("version", "cap_usd"),
             **{name: typed(seen, name) for name in ("cap_usd", "threshold_percent", "timezone")}}
    assert (await setting(desk)).cap_nusd == 33 * USD
    await desk.post(f"{SPEND}/cap", again)
    assert (await setting(desk)).cap_nusd == 44 * USD


async def test_a_field_that_was_not_sent_is_no_empty_one(desk: Portal) -> None:
    """An empty cap means none: a stale form without the field shows the cap of now."""
    await desk.control.desk.caps.save(desk.workspace, "33", 70, ACTOR)
    seen = await desk.post(f"{SPEND}/cap", {"version": "0.UTC", "timezone": "Europe/Berlin"})

    assert seen.status == 409
    assert typed(seen, "cap_usd") == "33.00"
    assert typed(seen, "timezone") == "Europe/Berlin"


async def test_the_zone_changes_with_the_next_month(desk: Portal) -> None:
    """The present month keeps its own end."""
    await spend(desk, USD)
    await desk.follow(await send(desk, "50", zone="America/Los_Angeles"))
    now = await setting(desk)

    assert (await desk.control.again(desk.workspace)).timezone == "America/Los_Angeles"
    assert now.timezone == "UTC"
    assert (now.cap_nusd, now.spent_nusd) == (50 * USD, USD)


async def test_saving_nothing_new_writes_nothing(desk: Portal) -> None:
    """The same values again make no version and no audit row."""
    await desk.follow(await send(desk, "50"))
    before = await setting(desk)
    rows = len(await desk.control.desk.audit.list(desk.workspace, 100))
    await desk.follow(await send(desk, "50.00"))

    assert await setting(desk) == before
    assert len(await desk.control.desk.audit.list(desk.workspace, 100)) == rows


async def test_a_change_is_audited_with_its_person(desk: Portal) -> None:
    """Who, before and after."""
    await desk.follow(await send(desk, "50"))
    row = (await desk.control.desk.audit.list(desk.workspace, 1))[0]

    assert (row["action"], row["actor_kind"], row["actor_id"]) == ("cap.changed", "member", "u_1")
    assert (row["before"]["cap_nusd"], row["after"]["cap_nusd"]) == (None, 50 * USD)


async def test_the_form_also_stands_beside_the_keys(desk: Portal) -> None:
    """T21: the AI settings page of the help desk has the cap, also where Spend is not given."""
    desk.pages = (Page.CREDENTIALS,)
    page = await desk.get(KEYS)
    seen = await desk.post(f"{KEYS}/cap", {
        "cap_usd": "25", "threshold_percent": "80", "timezone": "UTC", "version": page.field("version", "cap_usd"),
    })

    assert seen.headers["location"] == f"{KEYS}?cap=saved#cap"
    assert "Saved." in (await desk.follow(seen)).text
    assert (await setting(desk)).cap_nusd == 25 * USD
    assert (await desk.post(f"{SPEND}/cap", {"cap_usd": "1"})).status == 404


@pytest.mark.parametrize("role", [Role.MEMBER, Role.VIEWER])
@pytest.mark.parametrize("path", [f"{SPEND}/cap", f"{KEYS}/cap"])
async def test_only_owners_and_admins_change_it(desk: Portal, role: Role, path: str) -> None:
    """The server enforces it: neither form nor panel."""
    form = {"cap_usd": "0", "threshold_percent": "80", "timezone": "UTC", "confirmed": "yes"}

    assert (await desk.post(path, form, role)).status == 403
    assert (await desk.get(f"{path}/confirm?cap_usd=0", role)).status == 403
    assert (await setting(desk)).version == 1


async def test_an_address_alone_claims_no_save(desk: Portal) -> None:
    """`?cap=paused` says so only where AI is paused."""
    assert "AI is paused now" not in (await desk.get(f"{SPEND}?cap=paused")).text
