"""API Keys / Integrations shows every state of every key in its own words, to those who may see it."""

import re
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.control.house import ACTOR, KEYS
from tests.portal.key_pages import PATH, REJECTED, card, entitle, every_key, fail, lose, save, save_platform_key
from tests.portal.visiting import Portal, open_portal

from ownkey.domain.health import Sign
from ownkey.domain.portal import Page
from ownkey.domain.receipts import Receipt
from ownkey.domain.records import Member
from ownkey.domain.routing import Funding
from ownkey.domain.workspace import EntitlementState, Role


@pytest.fixture
async def desk(tmp_path: Path) -> AsyncIterator[Portal]:
    async with open_portal(tmp_path) as portal:
        yield portal


@pytest.fixture
async def builder(tmp_path: Path) -> AsyncIterator[Portal]:
    async with open_portal(tmp_path, "app-builder") as portal:
        yield portal


async def test_an_empty_support_desk_shows_the_way_to_a_key(desk: Portal) -> None:
    """T2, T3, T7, T8: AI is off, OpenRouter is required, the steps lead to a key, and the field is open."""
    seen = await desk.get(PATH)
    first = card(seen)

    assert "<h1>API Keys</h1>" in seen.html
    assert "AI features are off until an OpenRouter API key is saved." in seen.text
    assert first.state == "empty"
    assert "Required" in first.text
    for step in ("Sign up at OpenRouter", "Open Keys", "Create key", "Set a credit limit", "Copy the key (sk-or-…)"):
        assert step in first.text
    assert first.buttons == ["Sign in with OpenRouter", "Test", "Save"]
    assert '<label for="key-openrouter">OpenRouter API key</label>' in first.html
    assert first.html.count('target="_blank" rel="noopener') == 2


async def test_direct_keys_stand_below_in_the_same_way(desk: Portal) -> None:
    """T12, T16: a field each, with Test and Save."""
    seen = await desk.get(PATH)

    assert "Direct provider keys (optional)" in seen.text
    for provider, name in (("anthropic", "Anthropic"), ("openai", "OpenAI"), ("google", "Google")):
        assert f">{name} API key</label>" in card(seen, provider).html
        assert card(seen, provider).buttons == ["Test", "Save"]


async def test_a_saved_key_is_told_and_never_shown(desk: Portal) -> None:
    """T28: hint, label, who saved it and when, use, Test, spend, health; the key itself nowhere."""
    await desk.control.store.save_member(
        Member(desk.workspace.id, "u_1", "ada@example.com", "Ada", Role.OWNER), at_ms=1, actor=ACTOR
    )
    await save(desk, label="Main")
    seen = await desk.get(PATH)
    first = card(seen)

    assert first.state == "connected"
    for words in ("sk-or-…5a7e", "Main", "just now by Ada", "Last used never", "month US$0.00", "Health Works"):
        assert words in first.text
    assert first.buttons == ["Test", "Replace", "Disable", "Disconnect"]
    assert "Your OpenRouter key (…5a7e) pays for every AI call." in seen.text
    assert every_key(seen.html) == []


async def test_a_tested_key_says_when_and_what_was_found(desk: Portal) -> None:
    """T10: the Test of the saved key changes its card, and its cost is this month's spend of that key."""
    await save(desk)
    desk.control.clock.pass_s(90)
    seen = await desk.post(f"{PATH}/openrouter/test")
    later = await desk.get(PATH)

    assert (seen.status, card(seen).state, card(seen).result) == (200, "connected", "works")
    assert "Last tested just now: works" in card(later).text
    assert "Last used just now" in card(later).text
    assert "Spend this month < US$0.01" in card(later).text
    assert '<data value="0.00000422"' in card(later).html


async def test_openrouters_own_limit_stands_on_the_card(desk: Portal) -> None:
    """O5: limit, what is left, when it begins anew, and as of when."""
    desk.control.upstream.script["/key"] = (200, {"data": {
        "usage": 1.5, "limit": 20, "limit_remaining": 18.5, "limit_reset": "monthly",
        "usage_daily": 0, "usage_weekly": 0, "usage_monthly": 1.5, "byok_usage": 0, "byok_usage_daily": 0,
        "byok_usage_weekly": 0, "byok_usage_monthly": 0,
    }})
    tested = await desk.post(f"{PATH}/openrouter/test", {"key": KEYS["openrouter"]})
    await save(desk)
    first = card(await desk.get(PATH))

    assert "US$18.50 of US$20.00 left, resets on the first of the month at 00:00 UTC" in card(tested).text
    assert "US$18.50 of US$20.00 left, resets on the first of the month at 00:00 UTC (as of just now)" in first.text


async def test_a_disabled_key_is_stored_and_not_used(desk: Portal) -> None:
    """G20, G26: what that means for calls, and Enable."""
    await save(desk)
    await desk.post(f"{PATH}/openrouter/disable")
    first = card(await desk.get(PATH))

    assert first.state == "disabled"
    assert "Stored and not used" in first.text
    assert "AI calls are stopped meanwhile." in first.text
    assert first.buttons == ["Enable", "Disconnect"]


async def test_a_failing_key_says_what_where_and_what_calls_do(desk: Portal) -> None:
    """X6: cause, since when, what calls do meanwhile, the next probe, and what it has met so far."""
    await save(desk)
    await fail(desk, Sign.REJECTED)
    seen = await desk.get(PATH)
    first = card(seen)

    assert first.state == "unhealthy"
    assert "OpenRouter has refused this key since" in first.text
    assert "It is checked again at" in first.text
    assert "Calls that need it fail meanwhile." in first.text
    assert "AI calls fail until it works again or is replaced." in seen.text
    assert first.buttons == ["Test", "Replace", "Disable", "Disconnect"]
    assert 'href="/portal/activity?credential=' in first.html
    assert 'data-incident="openrouter"' in seen.html
    assert "Since then no call has needed this key." in seen.text


async def test_a_banner_counts_calls_and_credits_and_closes_on_recovery(builder: Portal) -> None:
    """G19–G22: credits pay because the key fails, which is said with figures until the key works again."""
    await entitle(builder)
    await save(builder)
    await fail(builder, Sign.NO_FUNDS, signal="402 payment required")
    builder.control.clock.pass_s(60)
    await _receipts(builder)
    failing = await builder.get(PATH)
    await fail(builder, Sign.ANSWERED, signal="200")
    well = await builder.get(PATH)

    assert "Since then 3 calls have needed it: 1 failed, 2 were paid with 7 credits." in failing.text
    assert "data-incident" not in well.html
    assert card(well).state == "connected"


async def test_other_problems_stand_beside_a_banner(builder: Portal) -> None:
    """A failing key hides no unpaid add-on; what the banner says is not said twice."""
    await entitle(builder)
    await save(builder)
    await entitle(builder, EntitlementState.GRACE)
    await fail(builder, Sign.REJECTED)
    seen = await builder.get(PATH)

    assert "The OpenRouter add-on is past due" in seen.text
    assert "OpenRouter does not accept the saved key." not in seen.text
    assert 'data-incident="openrouter"' in seen.html


async def _receipts(portal: Portal) -> None:
    """Two calls that credits paid, one that failed for the key's sake, and two that the key has nothing to do with."""
    now = portal.control.clock.now_ms()
    rows = [("credits", None, 3), ("credits", None, 4), ("byok", "credential_out_of_funds", 0),
            ("byok", None, 0), (None, "ai_paused", 0)]
    for n, (funding, code, charged) in enumerate(rows):
        await portal.control.store.end_call(None, Receipt(
            id=f"rcpt_{n}", workspace_id=portal.workspace.id, at_ms=now + n, token_id="t", endpoint="chat",
            dialect="openai", task="plan_app", requested_model="openai/gpt-5", served_model=None, stream=False,
            project=None, conversation=None, member=None, row=None,
            funding=None if funding is None else Funding(funding), route=None, provider="openrouter",
            status=200 if code is None else 402, code=code, message="", charge_credits=charged,
        ))


async def test_a_key_that_cannot_be_opened_is_our_fault(desk: Portal) -> None:
    """The page stays up, says who pays, and takes a new key."""
    await save(desk)
    await lose(desk)
    seen = await desk.get(PATH)
    first = card(seen)

    assert first.state == "undecryptable"
    assert "We cannot open the saved key: our fault." in first.text
    assert "AI calls are stopped meanwhile." in first.text
    assert seen.text.count("the saved OpenRouter API key cannot be opened.") == 1
    assert "The saved OpenRouter key cannot be opened." not in seen.text
    assert first.buttons == ["Replace", "Disconnect"]


async def test_a_direct_key_waits_for_openrouter(desk: Portal) -> None:
    """T5, T17: saved before OpenRouter, it is kept and shown as waiting."""
    await save(desk, "anthropic")
    waiting = card(await desk.get(PATH), "anthropic")
    await save(desk)
    seen = await desk.get(PATH)

    assert waiting.state == "waiting_for_openrouter"
    assert "Waiting for your OpenRouter key" in waiting.text
    assert card(seen, "anthropic").state == "connected"
    assert "Claude calls use your Anthropic key first; if it fails, your OpenRouter key answers." in seen.text


async def test_what_a_missing_direct_key_means_is_true(desk: Portal) -> None:
    """Its calls go through OpenRouter only while that key can carry them."""
    await save(desk, "anthropic")
    await desk.post(f"{PATH}/anthropic/disable")
    alone = card(await desk.get(PATH), "anthropic")
    await save(desk)
    carried = card(await desk.get(PATH), "anthropic")
    await fail(desk, Sign.NO_FUNDS)
    empty = card(await desk.get(PATH), "anthropic")

    assert "AI features are off until an OpenRouter API key is saved." in alone.text
    assert "Claude calls go through your OpenRouter key." in carried.text
    assert "go through your OpenRouter key" not in alone.text + empty.text


async def test_an_unverified_key_wears_a_badge(desk: Portal) -> None:
    """Saved anyway: it says so until the first answer."""
    desk.control.upstream.script["/key"] = (503, {"error": {"code": 503, "message": "down"}})
    saved = await desk.follow(await save(desk, save_anyway="1"))

    assert "OpenRouter API key saved, unverified." in saved.text
    assert "saved successfully" not in saved.text
    assert card(saved).state == "connected"
    assert "Not verified" in card(saved).text


async def test_openrouter_is_not_enabled(builder: Portal) -> None:
    """G6, G8, G12: the words, the minimum balance against yours, and Subscribe, which leads to Plans & Pricing."""
    seen = await builder.get(PATH)
    first = card(seen)

    assert "<h1>Integrations</h1>" in seen.html
    assert first.state == "not_entitled"
    assert "OpenRouter is not enabled" in first.text
    assert "10 credits; yours: 50 credits" in first.text
    assert first.buttons == ["Subscribe"]
    assert 'action="/portal/plans"' in first.html
    assert "Always use this key" not in seen.text


async def test_subscribe_leads_nowhere_where_nothing_is_sold(builder: Portal) -> None:
    """A visit without Plans & Pricing is told whom to ask."""
    builder.pages = (Page.CREDENTIALS,)
    first = card(await builder.get(PATH))

    assert first.buttons == []
    assert "App builder sells the add-on; ask there." in first.text


async def test_an_entitled_builder_connects(builder: Portal) -> None:
    """G5, G10, G15: Connect opens the field."""
    await entitle(builder, EntitlementState.INCLUDED)
    closed = card(await builder.get(PATH))
    opened = card(await builder.get(f"{PATH}/openrouter/connect"))
    linked = card(await builder.get(f"{PATH}?flow=credential%3Aopenrouter"))

    assert (closed.state, closed.buttons) == ("empty", ["Connect"])
    assert (opened.state, linked.state) == ("editing", "editing")
    assert opened.buttons == ["Sign in with OpenRouter", "Test", "Save"]
    assert "Cancel" in opened.text
    assert "Required" not in opened.text


async def test_a_parked_key_is_kept(builder: Portal) -> None:
    """G7, G26: the add-on lapsed; nothing is lost, credits pay, and it works again when it is paid."""
    await save_platform_key(builder)
    await entitle(builder)
    await save(builder)
    await entitle(builder, EntitlementState.INACTIVE)
    seen = await builder.get(PATH)
    await builder.post(f"{PATH}/always", {"always_use_key": "on"})
    stopped = card(await builder.get(PATH))

    assert card(seen).state == "parked"
    assert "Kept encrypted and not used" in card(seen).text
    assert "works again when it is paid" in card(seen).text
    assert "App builder credits pay meanwhile." in card(seen).text
    assert card(seen).buttons == ["Renew", "Disconnect"]
    assert "AI calls are stopped meanwhile." in stopped.text


async def test_the_payer_is_always_in_sight(builder: Portal) -> None:
    """G17–G22, G29: one sentence on top for every position of the switches and the key; always true, also where the
    platform has no key that credits could be spent with."""
    await entitle(builder)
    await save(builder)
    without_platform = (await builder.get(PATH)).text
    await save_platform_key(builder)
    key_then_credits = (await builder.get(PATH)).text
    await builder.post(f"{PATH}/if-key-fails", {"credits_if_key_fails": "off"})
    key_alone = (await builder.get(PATH)).text
    await builder.post(f"{PATH}/always", {"always_use_key": "on"})
    always = (await builder.get(PATH)).text
    await builder.post(f"{PATH}/openrouter/disable")
    stopped = (await builder.get(PATH)).text

    assert "Your key pays. If it fails, the call fails; credits are not used." in without_platform
    assert "The platform's own OpenRouter key is not set up" in without_platform
    assert "Your key pays. If it fails, App builder credits pay, up to 500 this month." in key_then_credits
    assert "Your key pays. If it fails, the call fails; credits are not used." in key_alone
    assert "Your key (…5a7e) pays for every AI call. App builder credits are never used." in always
    assert "AI calls are stopped: Always use this key is on and the key cannot be used." in stopped
    assert "Credits are not touched." in stopped


@pytest.mark.parametrize("role", [Role.MEMBER, Role.VIEWER])
async def test_members_and_viewers_learn_one_word(desk: Portal, role: Role) -> None:
    """T27: Connected, Paused or Not connected, and nothing else: no hint, label, sentence, figure or form."""
    await save(desk, label="Payroll key")
    await save(desk, "anthropic")
    await fail(desk, Sign.REJECTED, "anthropic")
    seen = await desk.get(PATH, role)

    assert [card(seen, name).text for name in ("openrouter", "anthropic", "openai")] == [
        "OpenRouter Connected", "Anthropic Paused", "OpenAI Not connected",
    ]
    assert [card(seen, name).state for name in ("openrouter", "anthropic", "openai")] == [
        "connected", "paused", "not_connected",
    ]
    main = seen.html.partition('<main id="main"')[2]
    for secret in ("5a7e", "9b1c", "Payroll", "pays for", "<form", "/test", "US$", "refused", "Workspace data"):
        assert secret not in main


@pytest.mark.parametrize("role", [Role.MEMBER, Role.VIEWER])
@pytest.mark.parametrize("path", [
    "openrouter/connect", "openrouter/replace", "openrouter/disable", "openrouter/disconnect",
])
async def test_pages_of_a_change_are_for_owners_and_admins(desk: Portal, role: Role, path: str) -> None:
    """T27: 403, with whom to ask."""
    await save(desk)
    seen = await desk.get(f"{PATH}/{path}", role)

    assert seen.status == 403
    assert "Ask an owner or an admin" in seen.text


@pytest.mark.parametrize("role", [Role.MEMBER, Role.VIEWER])
@pytest.mark.parametrize("path", [
    "openrouter/test", "openrouter/save", "openrouter/paste", "openrouter/sign-in", "openrouter/enable",
    "openrouter/disable", "openrouter/disconnect", "always", "if-key-fails", "credits-limit", "on-rejection",
])
async def test_forms_are_for_owners_and_admins(desk: Portal, role: Role, path: str) -> None:
    """T27: every form, and nothing is sent to any provider."""
    await save(desk)
    sent = len(desk.control.upstream.sent)
    before = await desk.control.again(desk.workspace)
    seen = await desk.post(f"{PATH}/{path}", {"key": KEYS["openrouter"]}, role)

    assert seen.status == 403
    assert len(desk.control.upstream.sent) == sent
    assert await desk.control.again(desk.workspace) == before


async def test_an_admin_manages_as_an_owner_does(desk: Portal) -> None:
    """All but the workspace's data."""
    saved = await desk.post(f"{PATH}/openrouter/save", {"key": KEYS["openrouter"]}, Role.ADMIN)
    owner, admin = await desk.get(PATH), await desk.get(PATH, Role.ADMIN)

    assert saved.status == 303
    assert card(admin).buttons == card(owner).buttons
    assert "/portal/data" in owner.html
    assert "/portal/data" not in admin.html


async def test_an_operator_who_looks_changes_nothing(desk: Portal) -> None:
    """View as workspace: the owner's facts, without a form; a form sent all the same is refused."""
    await save(desk, label="Main")
    desk.more = {"kind": "view_as", "member_id": "op_1"}
    seen = await desk.get(PATH)
    sent = await desk.post(f"{PATH}/openrouter/disable")

    assert "sk-or-…5a7e" in card(seen).text
    assert card(seen).buttons == []
    assert sent.status == 403


async def test_hostile_labels_are_text(desk: Portal) -> None:
    """A label is somebody's text: escaped, without control characters, and never a key."""
    await save(desk, label="<script>alert(1)</script>")
    seen = await desk.get(PATH)
    refused = await desk.post(f"{PATH}/openrouter/save", {"key": KEYS["openrouter"], "label": KEYS["openai"]})

    assert "<script>alert" not in seen.html
    assert "&lt;script&gt;alert(1)" in seen.html
    assert refused.status == 422
    assert "looks like a key" in refused.text


async def test_a_foreign_flow_or_provider_changes_nothing(desk: Portal) -> None:
    """Addresses that somebody made up: the page as it is, or none."""
    assert card(await desk.get(f"{PATH}?flow=credential%3Anobody")).state == "empty"
    assert (await desk.get(f"{PATH}/nobody/replace")).status == 404
    assert (await desk.get(f"{PATH}/openrouter/disconnect")).status == 303
    assert (await desk.get(f"{PATH}/openrouter/test")).status == 303


async def test_an_address_alone_claims_no_success(desk: Portal) -> None:
    """The words in the query speak only of what is so."""
    claimed = await desk.get(f"{PATH}?saved=openrouter")
    await save(desk)
    desk.control.clock.pass_s(600)
    old = await desk.get(f"{PATH}?saved=openrouter")
    false = await desk.get(f"{PATH}?done=disconnected&provider=openrouter")
    made_up = await desk.get(f"{PATH}?done=Your+account+is+closed&ownkey_connect=failed&ownkey_code=call+us")

    for seen in (claimed, old, false, made_up):
        assert 'id="news"' not in seen.html


async def test_a_rejected_replacement_is_shown_on_the_card(desk: Portal) -> None:
    """Replace: the old version stays in service."""
    await save(desk)
    desk.control.upstream.script["/key"] = REJECTED
    refused = await desk.post(f"{PATH}/openrouter/save", {"key": KEYS["openrouter"][:-4] + "beef", "version": "1"})

    assert (refused.status, card(refused).state) == (422, "rejected")
    assert "The saved key sk-or-…5a7e serves until the new one is saved." in card(refused).text
    assert (await desk.control.again(desk.workspace)).credentials["openrouter"].version == 1


async def test_a_pause_is_told_with_what_ends_it(desk: Portal) -> None:
    """F7: the fix leads to the cap's card on this page; a cap of 0 does not go away with the month, so nobody is told
    to wait for that."""
    await save(desk)
    await desk.control.desk.caps.save(await desk.control.again(desk.workspace), "0", 80, ACTOR)
    seen, why = await desk.get(PATH), await desk.get("/portal/why")

    assert "AI is paused: the spend cap allows no AI. Raise the spend cap." in seen.text
    assert '<a href="#cap">' in seen.html
    assert 'id="cap"' in seen.html
    assert "AI is paused: the spend cap allows no AI." in why.text
    for page in (seen, why):
        assert "wait until it resets" not in page.text


async def test_a_late_payment_is_a_link_away(desk: Portal) -> None:
    """Past due: the banner and the header lead to where it is paid."""
    await save(desk)
    await entitle(desk, EntitlementState.GRACE)
    seen = await desk.get(PATH)

    assert "The OpenRouter add-on is past due" in seen.text
    assert '<a href="/portal/plans">Put the payment right under Plans &amp; Pricing</a>' in seen.html
    assert re.search(r'class="pill [^"]*" href="/portal/plans"', seen.html)


async def test_an_operator_who_looks_reads_what_a_rejected_direct_key_does(desk: Portal) -> None:
    """Section 7 of security: operators read on_direct_auth_failure, and have no form for it."""
    await save(desk)
    await save(desk, "anthropic")
    await desk.post(f"{PATH}/on-rejection", {"on_direct_auth_failure": "fail"})
    desk.more = {"kind": "view_as", "member_id": "op_1"}
    shown = card(await desk.get(PATH), "anthropic")

    assert "If this key is rejected: fail the call." in shown.text
    assert "<form" not in shown.html


async def test_the_header_leads_to_the_key_that_fails(desk: Portal) -> None:
    """Portal 2: to its card, whichever provider's it is."""
    for provider in ("openrouter", "anthropic"):
        await save(desk, provider)
    await fail(desk, Sign.REJECTED, "anthropic")
    seen = await desk.get(PATH)

    assert re.search(r'class="pill [^"]*" href="/portal/credentials#anthropic"', seen.html)


async def test_the_header_leads_to_credits_that_run_low(builder: Portal) -> None:
    """Portal 2: credits pay, and fewer are left than the plan asks for."""
    await save_platform_key(builder)
    builder.workspace = poor = await builder.control.workspace("Poor", external_id="poor", plan="starter")
    await builder.control.desk.credits.grant(poor, 5, "operator", None, "few", ACTOR)
    seen = await builder.get(PATH)

    assert "The credit balance is below 10." in seen.text
    assert re.search(r'class="pill [^"]*" href="/portal/plans"', seen.html)
