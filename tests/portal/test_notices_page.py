"""E-mails: each owner and admin switches topics off for themselves, and nobody switches off what nobody may miss."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from tests.control.house import ACTOR
from tests.portal.visiting import SECRET, Portal, Seen, open_portal

from ownkey.control.notices import EMAIL, NO_MAIL
from ownkey.domain.notices import MUTEABLE, RULES, WITH_ADDON_ONLY, WITH_CREDITS_ONLY, WITHOUT_MAIL, Kind, Topic
from ownkey.domain.portal import LISTED
from ownkey.domain.workspace import Role
from ownkey.portal.visit import csrf_token

PATH = "/portal/notices"
ADA = "u_1"
"""Who visits, whatever the role."""


async def add(portal: Portal, member: str, role: Role, *, muted: frozenset[str] | None = None) -> None:
    await portal.control.desk.members.save(
        portal.workspace, member, f"{member}@example.com", member, role, ACTOR, muted=muted)


@pytest.fixture
async def desk(tmp_path: Path) -> AsyncIterator[Portal]:
    async with open_portal(tmp_path) as portal:
        await add(portal, ADA, Role.OWNER)
        yield portal


async def muted(portal: Portal, member: str = ADA) -> frozenset[str] | None:
    return next(row.muted for row in await portal.control.desk.members.list(portal.workspace)
                if row.member_id == member)


async def send(portal: Portal, topic: str, on: str, version: str, role: Role = Role.OWNER) -> Seen:
    """As a browser sends it: a checkbox that is off is not sent, and its hidden "off" is."""
    return await portal.send(f"{PATH}/{topic}", {"csrf": csrf_token(SECRET), "version": version, "on": on}, role)


def card(seen: Seen, ident: str) -> Seen:
    part = seen.html.partition(f'<section class="card" id="{ident}"')[2].partition("</section>")[0]
    assert part, ident
    return Seen(seen.status, seen.headers, f"<section {part}")


@pytest.mark.parametrize("role", [Role.OWNER, Role.ADMIN])
async def test_a_topic_is_switched_off_and_on_again(desk: Portal, role: Role) -> None:
    """The choice is what the delivery reads, and the page says what became of it."""
    await add(desk, ADA, role)
    off = await desk.follow(await send(desk, "spend", "off", "on", role), role)

    assert await muted(desk) == {"spend"}
    assert "You get no more e-mails about Spend." in off.text
    assert 'data-state="off"' in card(off, "spend").html
    assert 'data-state="on"' in card(off, "keys").html
    assert off.field("version", "/spend") == "off"

    back = await desk.follow(await send(desk, "spend", "on", "off", role), role)
    assert await muted(desk) == frozenset()
    assert "You get e-mails about Spend." in back.text


async def test_the_form_works_without_a_script(desk: Portal) -> None:
    """The hidden "off" stands before the checkbox, and Save is there."""
    form = card(await desk.get(PATH), "spend").html

    assert form.index('type="hidden" name="on" value="off"') < form.index('name="on" value="on"')
    assert "without-script" in form
    assert "data-submit-on-change" in form


async def test_each_chooses_for_themselves(desk: Portal) -> None:
    """Another's choice stays, and so do the host's own words about the person; the page counts, and names nobody."""
    await add(desk, "bob", Role.ADMIN, muted=frozenset({"keys"}))
    await add(desk, "cat", Role.MEMBER)
    await send(desk, "spend", "off", "on")
    seen = await desk.get(PATH)

    assert await muted(desk, "bob") == {"keys"}
    assert "1 other owner or admin gets them." in card(seen, "spend").text
    assert "Nobody else gets them." in card(seen, "keys").text
    assert "Yours go to u_1@example.com." in seen.text
    assert "bob" not in seen.html
    ada = next(m for m in await desk.control.desk.members.list(desk.workspace) if m.member_id == ADA)
    assert (ada.email, ada.name, ada.role) == ("u_1@example.com", ADA, Role.OWNER)
    await send(desk, "keys", "off", "on")
    assert "Nobody gets them now." in card(await desk.get(PATH), "keys").text


async def test_two_topics_at_once_are_both_kept(desk: Portal) -> None:
    """Two tabs, each with its own topic: neither takes the other's change back."""
    done = await asyncio.gather(send(desk, "spend", "off", "on"), send(desk, "keys", "off", "on"))

    assert [seen.status for seen in done] == [303, 303]
    assert await muted(desk) == {"spend", "keys"}


async def test_a_change_is_audited_with_its_person(desk: Portal) -> None:
    """Portal 1.6: who, when, before, after; a form that changes nothing writes nothing."""
    await send(desk, "keys", "off", "on", Role.OWNER)
    await send(desk, "keys", "off", "off", Role.OWNER)
    (first, second) = await desk.control.desk.audit.list(desk.workspace, 2)

    assert (first["action"], first["target"], first["actor_kind"], first["actor_id"]) == (
        "member.saved", ADA, "member", ADA)
    assert (first["before"]["muted"], first["after"]["muted"]) == ("", "keys")
    assert (second["actor_kind"], second["actor_id"]) == (ACTOR.kind, ACTOR.id)


@pytest.mark.parametrize("version", ["off", "", "no-version", "é\x00"])
async def test_a_stale_form_changes_nothing(desk: Portal, version: str) -> None:
    """Portal 1.6: 409 with the state of now, and a form that can be sent again."""
    seen = await send(desk, "spend", "off", version)

    assert seen.status == 409
    assert await muted(desk) == frozenset()
    assert "your change was not made" in card(seen, "spend").text
    assert "your change was not made" not in card(seen, "keys").text
    again = await send(desk, "spend", "off", seen.field("version", "/spend"))
    assert again.status == 303
    assert await muted(desk) == {"spend"}


@pytest.mark.parametrize("topic", ["security", "payment"])
async def test_what_nobody_may_miss_cannot_be_switched_off(desk: Portal, topic: str) -> None:
    """Not on the page, and not by a form that somebody makes up."""
    assert f"{PATH}/{topic}" not in (await desk.get(PATH)).html
    seen = await send(desk, topic, "off", "on")

    assert 400 <= seen.status < 500
    assert "These e-mails cannot be muted." in seen.text
    assert await muted(desk) == frozenset()


async def test_a_topic_that_there_is_not(desk: Portal) -> None:
    """Told escaped, and nothing is written."""
    seen = await send(desk, "<b>spam", "off", "on")

    assert seen.status == 404
    assert "<b>spam" not in seen.html
    assert await muted(desk) == frozenset()


@pytest.mark.parametrize("role", [Role.MEMBER, Role.VIEWER])
async def test_the_others_are_told_whom_to_ask(desk: Portal, role: Role) -> None:
    """403 for page and form, and no link that would lead there."""
    for seen in (await desk.get(PATH, role), await send(desk, "spend", "off", "on", role)):
        assert seen.status == 403
        assert "Ask an owner or an admin of this workspace." in seen.text
    for page in ("credentials", "spend"):
        assert PATH not in (await desk.get(f"/portal/{page}", role)).html
    assert await muted(desk) == frozenset()


async def test_an_operator_looks_and_changes_nothing(desk: Portal) -> None:
    """How many get what; no switch, and no choice of anybody, not even of a member with the operator's id."""
    await add(desk, "bob", Role.ADMIN, muted=frozenset({"spend"}))
    desk.more = {"kind": "view_as"}
    seen = await desk.get(PATH)

    assert seen.status == 200
    assert "1 owner or admin gets them." in card(seen, "spend").text
    assert "2 owners and admins get them." in card(seen, "keys").text
    assert "<form" not in seen.html.partition("<main")[2].partition("</main>")[0]
    assert "@example.com" not in seen.html
    assert (await send(desk, "keys", "off", "on")).status == 403
    assert await muted(desk) == frozenset()


async def test_pages_lead_there(desk: Portal) -> None:
    """From the keys and from the spend, calmly, at the foot."""
    for page in ("credentials", "spend"):
        assert f'href="{PATH}"' in (await desk.get(f"/portal/{page}")).html


@pytest.mark.parametrize("pages", [(page,) for page in LISTED], ids=lambda pages: str(pages[0]))
async def test_it_is_there_whichever_pages_a_visit_has(desk: Portal, pages: Any) -> None:
    """E-mails link to it from outside."""
    desk.pages = pages
    assert (await desk.get(PATH)).status == 200


@pytest.mark.parametrize("preset", ["support-desk", "app-builder"])
async def test_every_kind_that_is_sent_is_named_once(tmp_path: Path, preset: str) -> None:
    """With a name and a sentence of when; what this product never sends is not promised."""
    async with open_portal(tmp_path, preset) as portal:
        await add(portal, ADA, Role.OWNER)
        seen = await portal.get(PATH)
        never = WITHOUT_MAIL
        if preset == "support-desk":
            never |= WITH_CREDITS_ONLY | WITH_ADDON_ONLY | {Kind.PAYMENT_QUARANTINED}

    for kind in Kind:
        assert seen.html.count(f'data-kind="{kind}"') == (kind not in never), kind
        assert (f"When {RULES[kind].when}." in seen.text) is (kind not in never), kind
    assert ("Plan and payments" in seen.text) is (preset == "app-builder")
    for topic in Topic:
        assert (f'data-topic="{topic}"' in seen.html) is (topic in MUTEABLE)


async def test_without_a_mail_server_it_says_so(tmp_path: Path) -> None:
    """The choice is kept for when there is one."""
    async with open_portal(tmp_path, channels={EMAIL: NO_MAIL}) as portal:
        await add(portal, ADA, Role.OWNER)
        seen = await portal.get(PATH)
        assert "sends no e-mails now" in seen.text
        await send(portal, "spend", "off", "on")
        assert await muted(portal) == {"spend"}


async def test_a_role_that_the_host_changes_meanwhile_stays(desk: Portal) -> None:
    """Muting writes one topic and nothing else of the person; a person who is gone is not made again."""
    await add(desk, ADA, Role.ADMIN)
    await send(desk, "spend", "off", "on")
    assert [m.role for m in await desk.control.desk.members.list(desk.workspace)] == [Role.ADMIN]

    await desk.control.desk.members.delete(desk.workspace, ADA, ACTOR)
    gone = await send(desk, "keys", "off", "on")
    assert gone.status == 404
    assert not await desk.control.desk.members.list(desk.workspace)
