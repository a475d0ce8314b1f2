"""The console's pages about the deployment itself: health, prices, payments, tokens, events, work, audit, staff."""

import re
import sqlite3
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from urllib.parse import quote

import pytest
from tests.console.console_pages import Console, open_console
from tests.console.made_calls import write
from tests.control.house import ACTOR, KEYS
from tests.control.stripe_script import ScriptedStripe
from tests.control.test_billing_control import BILLING
from tests.portal.receipts_made import attempt

from ownkey.console.app import ConsoleApp
from ownkey.console.machine import Machine
from ownkey.control.tokens import NewToken
from ownkey.domain.notices import Kind
from ownkey.domain.work import WorkKind, WorkState
from ownkey.domain.workspace import Role, TokenKind

_AUDIT_TRIGGERS = "SELECT name FROM sqlite_master WHERE type = 'trigger' AND tbl_name = 'audit'"


@pytest.fixture
async def console(tmp_path: Path) -> AsyncIterator[Console]:
    async with open_console(tmp_path, "app-builder") as opened:
        yield opened


@pytest.fixture
async def support_desk(tmp_path: Path) -> AsyncIterator[Console]:
    async with open_console(tmp_path) as opened:
        yield opened


def health(html: str) -> list[str]:
    return re.findall(r'<li data-state="(\w+)"', html)


# --- home


async def test_the_first_page_counts_what_happened_today(console: Console) -> None:
    """X9: calls, refusals and failures of today, and what each payer bore, from the daily totals."""
    workspace = await console.control.with_key()
    await write(console, workspace, attempt())
    await write(console, workspace, status=402, code="ai_paused")
    seen = await console.get("/console", "support")
    today = await console.control.desk.overview.calls_today()

    assert (today.calls, today.refused, today.failed) == (2, 1, 0)
    assert {line.funding: line.cost_nusd for line in today.lines} == {"byok": 3_400_000, "": 0}
    assert "2 Calls 0 Failed 1 Refused" in seen.text
    assert "Own keys 1 < US$0.01" in seen.text


async def test_the_first_run_list_ticks_itself_off(console: Console) -> None:
    """What a new deployment needs, each with how; what nothing here can see is never ticked."""
    before = (await console.get("/console")).html
    await console.control.desk.tokens.create(None, NewToken("backend"), ACTOR)
    await write(console, await console.control.with_key(), attempt())
    platform = await console.control.desk.workspaces.platform(ACTOR)
    await console.control.desk.credentials.save(
        platform, "openrouter", KEYS["openrouter"], label="", save_anyway=False, address="", actor=ACTOR
    )
    after = (await console.get("/console")).html

    assert re.findall(r'data-done="(\w+)"', before) == ["no", "yes", "no", "no", "no", "yes", "unknown"]
    assert 'data-done="no"' not in after


async def test_health_tells_what_is_broken(console: Console) -> None:
    """A database that cannot be written and a provider that is left out are red; a full disk and failed jobs amber."""
    well = health((await console.get("/console")).html)

    async def unwritable() -> bool:
        return False

    house = replace(console.app._house, machine=Machine(
        writable=unwritable, disk=lambda: (1024**3, 100 * 1024**3), providers_down=lambda: {"anthropic": 7.5},
    ))
    console.app = ConsoleApp(house)
    seen = await console.get("/console")

    assert well == ["ok", "ok", "ok", "warning", "ok", "ok", "ok", "unknown"]
    assert health(seen.html)[:3] == ["danger", "warning", "danger"]
    assert "Anthropic: left out for everybody now." in seen.text
    assert "1.0 GB of 100.0 GB are free." in seen.text


# --- models


async def test_only_what_is_left_out_is_told(console: Console) -> None:
    """No provider is said to be called when nothing is known of that, and no count of nothing; the first page's list of
    what needs a look holds nothing else."""
    well = await console.get("/console/models")
    console.app = ConsoleApp(replace(console.app._house, machine=Machine(routes_down=lambda: 2)))
    some = await console.get("/console/models")
    needs = (await console.get("/console")).html.partition('id="needs"')[2].partition("</section>")[0]

    assert "In use" in well.text
    assert "left out for a moment" not in well.text
    assert "2 single routes (a key's model) are left out for a moment." in some.text
    assert re.findall(r'<p class="quiet">([^<]+)</p>', needs)[0] == "Paused by their cap"
    assert "0 workspaces in all" in needs


async def test_a_price_by_hand_is_a_new_version_with_a_reason(console: Console) -> None:
    """P9: in force at once, marked as the operator's, and nothing typed is lost where it is wrong."""
    wish = {"provider": "openrouter", "model": "x/new-model", "input": "0.25", "output": "1",
            "reason": "Ticket 11 asks"}
    wrong = await console.post("/console/models/override", {**wish, "input": "cheap"})
    unsaid = await console.post("/console/models/override", {**wish, "reason": ""})
    before = console.control.desk.prices.current().version
    done = await console.post("/console/models/override", wish)
    book = console.control.desk.prices.current()
    price = book.find("openrouter", "x/new-model")

    assert (wrong.status, 'value="cheap"' in wrong.html, "x/new-model" in wrong.html) == (422, True, True)
    assert unsaid.status == 422
    assert done.status == 303
    assert book.version == before + 1
    assert price is not None
    assert (price.rate("input", 0), price.source) == (250_000_000, "operator")
    seen = await console.get("/console/models?q=new-model", "support")
    assert "x/new-model US$0.25 US$1.00 operator" in seen.text
    assert "override" not in seen.html
    assert ("operator.reason", "operator", {"for": "prices.activated", "reason": "Ticket 11 asks"}) in \
        await console.audit()


async def test_models_that_were_asked_for_without_a_price(console: Console) -> None:
    await write(console, await console.control.with_key(), status=400, code="unpriced_model",
                requested_model="who/knows-it", served_model=None)

    assert "who/knows-it" in (await console.get("/console/models")).text


# --- plans, billing


async def test_plans_say_how_many_workspaces_a_change_would_touch(console: Console) -> None:
    for number in range(3):
        await console.control.workspace(f"W {number}", external_id=f"w{number}")
    pro = await console.control.workspace("Pro", external_id="p")
    await console.control.desk.workspaces.change(pro, {"plan": "pro"}, ACTOR)
    seen = await console.get("/console/plans", "support")

    assert 'plan=free">3</a>' in seen.html
    assert 'plan=pro">1</a>' in seen.html
    assert "from preset" in seen.text
    assert seen.actions == set()


async def test_billing_without_cards_says_so_and_refuses_a_retry(console: Console) -> None:
    seen = await console.get("/console/billing")
    retried = await console.post("/console/billing/events/evt_1/retry")

    assert "nothing is paid by card here" in seen.text
    assert retried.status == 409
    assert not any(action == "billing.retried" for action, _, _ in await console.audit())


async def test_a_failed_event_is_shown_and_retried_with_one_effect(tmp_path: Path) -> None:
    """G23: ops retry what Stripe's silence left behind; support sees it; test mode is said on top."""
    stripe = ScriptedStripe()
    async with open_console(tmp_path, "app-builder", extra=BILLING, payments=stripe) as console:
        desk, workspace = console.control.desk, await console.control.workspace("Payer", external_id="p")
        await desk.billing.subscribe(workspace, "", ACTOR)
        stripe.pay(stripe.created[0])
        stripe.down = True
        for event in stripe.events:
            await desk.payment_events.receive(event.id.encode(), "")
        seen = await console.get("/console/billing?state=failed", "support")
        home = await console.get("/console")
        stripe.down = False
        path = f"/console/billing/events/{quote(stripe.events[0].id)}/retry"
        asked = await console.get(path)
        silent = await console.post(path)
        done = await console.post(path, {"reason": "Stripe was away, ticket 7"})
        after = await console.follow(done)
        compare = await console.get("/console/billing/reconcile")
        unsaid = await console.post("/console/billing/reconcile")
        run = await console.post("/console/billing/reconcile", {"reason": "Ticket 7"})
        unknown = await console.get("/console/billing/events/evt_none/retry")
        console.grow_old()
        old = [await console.get(path), await console.post(path, {"reason": "Ticket 7"}),
               await console.get("/console/billing/reconcile"),
               await console.post("/console/billing/reconcile", {"reason": "Ticket 7"})]
        found = await console.get(f"/console/search?q={next(iter(stripe.subscriptions))}")

        assert "Test mode." in seen.text
        assert "Stripe did not answer" in seen.text
        assert seen.actions == set()
        assert re.search(r"Stripe's events: [1-9]\d* failed, 0 quarantined\.", home.text)
        assert "worked on once more: processed." in after.text
        assert run.status == 303
        assert "It may grant credits" in asked.text
        assert "it may grant credits" in compare.text
        assert (silent.status, unsaid.status, unknown.status) == (422, 422, 404)
        assert [seen.status for seen in old] == [303, 403, 303, 403]
        assert old[0].headers["location"].startswith("/console/confirm?path=")
        reasons = [after["for"] for action, _, after in await console.audit() if action == "operator.reason"]
        assert reasons == ["billing.retried", "billing.reconciled"]
        assert "Waiting to begin." in (await console.get("/console/billing")).text
        assert found.headers["location"] == f"/console/workspaces/{workspace.id}#addon"
        assert ("billing.retried", "operator", None) in await console.audit()


# --- developers


async def test_a_service_token_is_shown_once(console: Console) -> None:
    """S6: in the answer that made it and nowhere else, with the scopes that were ticked."""
    made = await console.post("/console/developers/tokens", {
        "label": "backend", "call": "on", "manage": "on", "expires": "90",
    })
    token = re.search(r'id="new-token"[^>]*>(ok_[A-Za-z0-9]{36})<', made.html)
    assert token is not None
    again = await console.get("/console/developers")
    [row] = await console.control.desk.tokens.list(None)
    bad = await console.post("/console/developers/tokens", {"label": "", "call": "on", "expires": "never"})
    none = await console.post("/console/developers/tokens", {"label": "x", "expires": "never"})

    assert token[1] not in again.html
    assert (row.kind, row.scopes, row.last4) == (TokenKind.SERVICE, {"call", "manage"}, token[1][-4:])
    assert row.expires_at_ms == console.control.clock.now_ms() + 90 * 86_400_000
    assert bad.status == none.status == 422
    revoked = await console.post(f"/console/developers/tokens/{row.token_id}/revoke")
    assert revoked.status == 303
    assert "revoked" in (await console.get("/console/developers")).text


async def test_a_message_that_failed_is_sent_again(console: Console) -> None:
    """G23: by the row's number, once; one that waits says so."""
    store = console.control.store
    await console.control.with_key()
    await store.skip_outbox("event", "no endpoint for events is configured", console.control.clock.now_ms())
    [row] = [row for row in await store.load_outbox(None, limit=50) if row["channel"] == "event"]
    seen = await console.get("/console/developers?state=skipped")
    done = await console.post(f"/console/outbox/{row['id']}/retry", {"back": "developers"})
    twice = await console.post(f"/console/outbox/{row['id']}/retry")
    unknown = [await console.post(f"/console/outbox/{what}/retry") for what in ("999", "x")]

    assert f"/console/outbox/{row['id']}/retry" in seen.actions
    assert (done.status, done.headers["location"]) == (303, "/console/developers?done=again")
    assert twice.status == 400
    assert [answer.status for answer in unknown] == [404, 404]


async def test_a_theme_is_tried_with_its_contrasts_and_cannot_smuggle_a_style(console: Console) -> None:
    """G31: colours come as a style sheet of their own; what the grammar refuses never gets into it."""
    light = ":root { --primary: #777777; --primary-foreground: #888888; --radius: 8px; }"
    seen = await console.get(f"/console/developers/theme?light={quote(light)}")
    sheet = re.search(r'href="(/console/developers/theme\.css[^"]*)"', seen.html)
    assert sheet is not None
    css = await console.get(sheet[1].replace("&amp;", "&"))
    evil = quote("--primary: red;} body{background:url(//evil.test)")
    refused, empty = await console.get(f"/console/developers/theme?light={evil}"), \
        await console.get(f"/console/developers/theme.css?light={evil}")

    assert "too low" in seen.text
    assert "primary-foreground on primary has a contrast of" in seen.text
    assert "[portal.theme.light]" in seen.text
    assert css.headers["content-type"].startswith("text/css")
    assert "--primary: #777777;" in css.html
    assert refused.status == 422
    assert "evil" not in empty.html


# --- system


async def test_work_is_started_once_shown_and_cancelled(console: Console) -> None:
    """Long work is rows: a second click finds the first, the bar's words are the ones that everybody sees."""
    first = await console.post("/console/system/work", {"kind": "ledger_check"})
    await console.post("/console/system/work", {"kind": "ledger_check"})
    [view] = await console.control.desk.work.list(None)
    seen = await console.get("/console/system", "support")
    unknown = await console.post("/console/system/work", {"kind": "export"})
    await console.post(f"/console/system/work/{view.work.id}/cancel", {"workspace": ""})
    [after] = await console.control.desk.work.list(None)
    ended = await console.get("/console/system")

    assert first.status == 303
    assert view.progress.words in seen.text
    assert '<noscript><meta http-equiv="refresh"' in seen.html
    assert 'id="work"' in seen.html
    assert 'hx-select="#work"' in seen.html
    assert unknown.status == 400
    assert after.work.state is WorkState.CANCELLED
    assert "http-equiv" not in ended.html


async def test_the_audit_log_is_filtered_and_a_break_is_found(console: Console) -> None:
    """S9: a row that something else than Ownkey changed breaks its chain, and the page says where."""
    workspace = await console.control.with_key()
    whole = await console.get("/console/system/audit?check=1", "support")
    mine = await console.get(f"/console/system/audit?workspace={workspace.id}&action=credential.")
    ada = console.people["ops"].session.operator_id
    deployment = await console.get(f"/console/system/audit?workspace=deployment&actor={ada}")
    unknown = await console.get("/console/system/audit?workspace=nobody")
    with sqlite3.connect(console.control.folder / "ownkey.db") as conn:
        for (name,) in conn.execute(_AUDIT_TRIGGERS).fetchall():
            conn.execute(f"DROP TRIGGER {name}")
        conn.execute("UPDATE audit SET target = 'anthropic' WHERE action = 'credential.saved'")
    broken = await console.get("/console/system/audit?check=1")

    assert "Every chain is whole" in whole.text
    assert set(re.findall(r"<code>([\w.]+)</code>", mine.html)) == {"credential.saved"}
    assert all(row.startswith("operator.") for row in re.findall(r"<code>([\w.]+)</code>", deployment.html))
    assert "ada operator" in deployment.text
    assert unknown.status == 404
    assert "was found" in broken.text
    assert workspace.id in broken.text


async def test_the_audit_log_says_what_a_wish_was_and_nothing_for_nothing(console: Console) -> None:
    """A piece of work's wish by its fields; what is empty is a dash."""
    workspace = await console.control.with_key()
    await console.control.desk.members.save(workspace, "u_1", "ada@example.com", "Ada", Role.OWNER, ACTOR)
    await console.control.desk.work.start(workspace, WorkKind.EXPORT, {"task": "chat", "outcome": "ok"}, ACTOR, "u_1")
    seen = await console.get(f"/console/system/audit?workspace={workspace.id}")

    assert "muted: –" in seen.text
    assert re.search(r"wish: (outcome ok, task chat|task chat, outcome ok)", seen.text)


async def test_configuration_shows_where_each_setting_comes_from(console: Console) -> None:
    seen = await console.get("/console/system/configuration", "support")
    some = await console.get("/console/system/configuration?origin=preset")

    assert "product.name App builder ownkey.toml" in seen.text
    assert "server.port 8787 default" in seen.text
    assert "OWNKEY_STRIPE_KEY set environment" in seen.text
    assert "plans.free.byok" in some.text
    assert "server.port" not in some.text


async def test_every_email_is_shown_as_text_and_as_a_document_of_its_own(console: Console) -> None:
    """The page's own policy stays without inline styles; the e-mail's document may have them, and may run nothing."""
    page = await console.get("/console/system/mail?kind=ai_paused", "support")
    for kind in Kind:
        seen = await console.get(f"/console/system/mail/{kind.value}.html", "support")
        policy = seen.headers["content-security-policy"]

        assert seen.status == 200, kind
        assert "default-src 'none'; style-src 'unsafe-inline'" in policy
        assert "frame-ancestors 'self'; sandbox" in policy
        assert "<script" not in seen.html
        assert (await console.get(f"/console/system/mail?kind={kind.value}")).status == 200
    assert '<iframe class="mail-preview" src="/console/system/mail/ai_paused.html" sandbox' in page.html
    assert "frame-src 'self'" in page.headers["content-security-policy"]
    assert "unsafe-inline" not in page.headers["content-security-policy"]
    assert (await console.get("/console/system/mail/nothing.html")).status == 404


async def test_the_preview_speaks_in_the_hosts_own_words(console: Console) -> None:
    """What an operator looks at is what customers get: `[portal.words]` counts for e-mails too."""
    said = "AI is paused: this month's spend cap of {cap} is reached."
    before = await console.get("/console/system/mail/ai_paused.html")
    machine = replace(console.app._house.machine, mail_words={said: "The robots rest at {cap}."})
    console.app = ConsoleApp(replace(console.app._house, machine=machine))
    seen = await console.get("/console/system/mail/ai_paused.html")

    assert ("The robots rest" in before.text, "The robots rest at US$50.00." in seen.text) == (False, True)


async def test_the_system_page_tells_of_jobs_and_master_keys(console: Console) -> None:
    workspace = await console.control.with_key()
    seen = await console.get("/console/system", "support")

    assert "9.9.9" in seen.text
    assert f"{workspace.dek.kek_id} primary 3" in seen.text, "the workspace's, the platform's and the audit key's"
    assert "TimeoutError" in seen.text
    assert "expire_holds 5.0 s" in seen.text


# --- staff


async def test_an_operators_link_is_shown_once(console: Console) -> None:
    made = await console.post("/console/operators", {"email": "Eve@Example.com", "name": "Eve", "role": "support"})
    link = re.search(r'id="set-up-link"[^>]*>(https://ownkey\.test/console/set-up\?code=[\w-]{43})<', made.html)
    again = await console.get("/console/operators")
    taken = await console.post("/console/operators", {"email": "eve@example.com", "name": "", "role": "support"})

    assert link is not None
    assert link[1] not in again.html
    assert "eve@example.com" in again.text
    assert (taken.status, 'value="eve@example.com"' in taken.html) == (409, True)
    assert "with the buttons beside them" in taken.text
    assert "ownkey operator" not in taken.text


async def test_roles_change_and_nobody_changes_themselves(console: Console) -> None:
    """A changed role ends sessions; one's own role, state and factors are another operator's to change."""
    ada, sam = (console.people[role].session.operator_id for role in ("ops", "support"))
    own = [await console.post(f"/console/operators/{ada}/{what}", {"role": "support"})
           for what in ("role", "disable", "reset")]
    asked = await console.get(f"/console/operators/{sam}/reset")
    changed = await console.post(f"/console/operators/{sam}/role", {"role": "ops"})
    out = await console.get("/console", "support")
    disabled = await console.post(f"/console/operators/{sam}/disable")
    reset = await console.post(f"/console/operators/{sam}/reset")

    assert {answer.status for answer in own} == {409}
    assert "A new link for sam@example.com?" in asked.text
    assert f"/console/operators/{sam}/reset" in asked.actions
    assert changed.status == disabled.status == 303
    assert out.headers["location"].startswith("/console/sign-in")
    assert (reset.status, "This operator is disabled." in reset.text) == (409, True)


async def test_old_proofs_hide_forms_that_would_be_refused(console: Console) -> None:
    """Nobody fills in a form that cannot be sent: the page offers to confirm first."""
    console.grow_old()
    developers, operators = await console.get("/console/developers"), await console.get("/console/operators")

    assert "/console/developers/tokens" not in developers.actions
    assert "Confirm who you are to make a token" in developers.text
    assert not any(action.endswith(("/role", "/reset")) for action in operators.actions)


async def test_pages_have_one_heading_and_no_inline_code(support_desk: Console) -> None:
    """Every page: one h1, unique ids, no inline style or handler, tables with a name."""
    workspace = await support_desk.control.with_key()
    receipt = await write(support_desk, workspace, attempt())
    for path in (
        "/console", "/console/workspaces", f"/console/workspaces/{workspace.id}", "/console/why",
        f"/console/why?workspace={workspace.id}", "/console/calls", f"/console/calls/{receipt.id}", "/console/models",
        "/console/models/override", "/console/plans", "/console/billing", "/console/developers",
        "/console/developers/theme", "/console/system", "/console/system/audit", "/console/system/configuration",
        "/console/system/mail", "/console/operators", "/console/search", "/console/account",
    ):
        seen = await support_desk.get(path)
        ids = re.findall(r'\bid="([^"]+)"', seen.html)

        assert seen.status == 200, path
        assert len(re.findall(r"<h1\b", seen.html)) == 1, path
        assert len(ids) == len(set(ids)), (path, sorted(i for i in ids if ids.count(i) > 1))
        assert not re.search(r'\sstyle="|<style|\son\w+="|javascript:', seen.html), path
