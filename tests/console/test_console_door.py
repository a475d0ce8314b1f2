"""The console's door as a browser without a script meets it: in, out, and kept out."""

import re
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
from tests.console.console_browser import SESSION, Browser, browse, open_browser
from tests.control.house import ACTOR
from tests.control.staff_house import OWN_URL, PASSWORD, Person, seed_of
from tests.oidc_provider import CLIENT_ID, open_provider

from ownkey.console.routes import ROUTES
from ownkey.console.signin import OPEN_ROUTES
from ownkey.domain.oidc import OidcRules
from ownkey.domain.operators import ConsoleRules, OperatorRole, csrf_token
from ownkey.domain.totp import code_of, step_of
from ownkey.providers.egress import parse_origin
from ownkey.providers.upstream import Upstream


@pytest.fixture
async def browser(tmp_path: Path) -> AsyncIterator[Browser]:
    async with open_browser(tmp_path) as opened:
        yield opened


async def invite(browser: Browser, email: str = "ada@example.com", role: str = "ops") -> str:
    return (await browser.staff.staff.operators.add(email, "Ada", role, ACTOR)).url.removeprefix(OWN_URL)


# --- setting up


async def test_a_link_leads_to_the_console_without_a_script(browser: Browser) -> None:
    """Password, QR code, first code, recovery codes, signed in: plain forms all the way."""
    link = await invite(browser)
    await browser.go(link)
    assert browser.page.headers["location"] == "/console/set-up", "the code leaves the address bar"
    await browser.follow()
    await browser.send("/console/set-up", password=PASSWORD, again=PASSWORD)
    await browser.follow()
    seed = seed_of(re.search(r'id="seed">([A-Z2-7 ]+)<', browser.page.text)[1])  # type: ignore[index]
    assert '<img src="/console/set-up/qr.svg"' in browser.page.text
    wrong = await browser.send("/console/set-up/app", code="000000")
    assert wrong.status_code == 422
    done = await browser.send("/console/set-up/app", code=code_of(seed, step_of(browser.staff.house.clock.at_ms)))
    codes = re.findall(r"<li>([a-z2-7]{4}(?:-[a-z2-7]{4}){3})</li>", done.text)
    page = await browser.go("/console/account")

    assert len(codes) == 10
    assert SESSION in browser.client.cookies
    assert (page.status_code, "ada@example.com" in page.text) == (200, True)
    assert "10 recovery codes are left." in browser.text
    used = await browser.client.get(link, follow_redirects=True)
    assert used.status_code == 409
    assert "works once" in used.text


async def test_the_qr_code_is_a_picture_of_its_own_only_while_the_link_works(browser: Browser) -> None:
    """Same origin, kept by nobody, nothing inline; without the link's cookie there is none."""
    await browser.go(await invite(browser))
    early = await browser.client.get("/console/set-up/qr.svg")
    await browser.post("/console/set-up", {"password": PASSWORD, "again": PASSWORD})
    picture = await browser.go("/console/set-up/qr.svg")
    browser.client.cookies.clear()
    gone = await browser.go("/console/set-up/qr.svg")

    assert early.status_code == 400
    assert picture.headers["content-type"] == "image/svg+xml"
    assert picture.text.startswith("<svg")
    assert "style" not in picture.text
    assert "<script" not in picture.text
    assert gone.status_code == 404


async def test_a_link_checker_uses_nothing_up(browser: Browser) -> None:
    """HEAD and prefetch get nothing and take nothing; the person who comes then is let in."""
    link = await invite(browser)
    head = await browser.client.head(link)
    ahead = await browser.go(link, sec_purpose="prefetch;prerender")
    await browser.go(link)

    assert (head.status_code, "set-cookie" in head.headers) == (200, False)
    assert (ahead.status_code, ahead.text, "set-cookie" in ahead.headers) == (200, "", False)
    assert (await browser.follow()).status_code == 200


@pytest.mark.parametrize("query", ["?code=", "?code=x", "?code=" + "A" * 43, "?code=%0d%0aset-cookie:x=y", ""])
async def test_a_link_that_is_none_says_so(browser: Browser, query: str) -> None:
    await browser.go("/console/set-up" + query)
    await browser.follow()

    assert browser.page.status_code == 404
    assert "This link does not work" in browser.text


async def test_a_refused_password_comes_back_with_its_reason_and_without_itself(browser: Browser) -> None:
    await browser.go(await invite(browser))
    await browser.follow()
    page = await browser.send("/console/set-up", password="ada@example.com", again="ada@example.com")

    assert page.status_code == 422
    assert 'aria-invalid="true"' in page.text
    assert "little more than your name" in browser.text
    assert page.text.count("ada@example.com") == 2, "who it is for, and the field for password managers"


# --- in


async def test_two_plain_forms_lead_back_to_where_one_was_going(browser: Browser) -> None:
    """Asked to sign in, then taken to the page that was asked for."""
    person = await browser.staff.enrol()
    await browser.go("/console/account?done=ended")
    assert browser.page.headers["location"] == "/console/sign-in?path=%2Fconsole%2Faccount%3Fdone%3Dended"
    await browser.follow()
    await browser.send("/console/sign-in", email="  ADA@example.com ", password=PASSWORD)
    await browser.follow()
    code = browser.staff.code(person)
    await browser.send("/console/sign-in/code", code=f"{code[:3]} {code[3:]}")
    await browser.follow()

    assert str(browser.page.url) == f"{OWN_URL}/console/account?done=ended"
    assert "The session has ended." in browser.text


async def test_the_first_page_needs_no_detour_for_who_is_signed_in(browser: Browser) -> None:
    person = await browser.staff.enrol()
    await browser.sign_in(person)
    assert browser.page.headers["location"] == "/console"
    again = await browser.go("/console/sign-in?path=/console/account")

    assert again.headers["location"] == "/console/account"


async def test_what_is_wrong_is_one_answer(browser: Browser) -> None:
    """Unknown and known: the same page to the last byte but the typed address; the address stays in its field."""
    await browser.staff.enrol("known@example.com")
    pages = {}
    for name in ("known", "other"):
        await browser.go("/console/sign-in")
        page = await browser.send("/console/sign-in", email=f"{name}@example.com", password="wrong wrong wrong")
        assert page.status_code == 401
        assert f'value="{name}@example.com"' in page.text
        assert "wrong wrong wrong" not in page.text
        pages[name] = (page.text.replace(name, "x"), sorted(page.headers.keys()), page.headers["content-length"])

    assert pages["known"] == pages["other"]


async def test_a_locked_door_says_how_long(browser: Browser) -> None:
    for _ in range(10):
        await browser.post("/console/sign-in", {"email": "ada@example.com", "password": "wrong"})
    page = await browser.post("/console/sign-in", {"email": "ada@example.com", "password": "wrong"})

    assert (page.status_code, page.headers["retry-after"]) == (429, "900")
    assert "Try again in 15 minutes." in browser.text


async def test_proxies_are_believed_only_if_configured(tmp_path: Path) -> None:
    """A caller's own X-Forwarded-For neither escapes a lock nor locks others out."""
    for folder in ("plain", "behind"):
        (tmp_path / folder).mkdir()
    async with open_browser(tmp_path / "plain") as browser:
        for n in range(10):
            await browser.post("/console/sign-in", {"email": f"n{n}@x.com", "password": "w"},
                               x_forwarded_for=f"198.51.100.{n}")
        assert (await browser.post("/console/sign-in", {"email": "n@x.com", "password": "w"},
                                   x_forwarded_for="203.0.113.1")).status_code == 429
    async with open_browser(tmp_path / "behind", ConsoleRules(proxies=("192.0.2.0/24",))) as browser:
        person = await browser.staff.enrol("bob@example.com")
        for n in range(10):
            await browser.post("/console/sign-in", {"email": f"m{n}@x.com", "password": "w"},
                               x_forwarded_for="1.2.3.4, 198.51.100.77")
        page = await browser.post("/console/sign-in", {"email": "m@x.com", "password": "w"},
                                  x_forwarded_for="5.6.7.8, 198.51.100.77")
        assert page.status_code == 429
        step = await browser.post("/console/sign-in", {"email": person.email, "password": PASSWORD},
                                  x_forwarded_for="203.0.113.9")
        assert step.status_code == 303


async def test_without_the_first_step_there_is_no_second(browser: Browser) -> None:
    await browser.go("/console/sign-in/code")
    assert browser.page.headers["location"] == "/console/sign-in"
    page = await browser.post("/console/sign-in/code", {"code": "123456"})

    assert page.status_code == 401
    assert "Begin again." in browser.text


@pytest.mark.parametrize("path", ["https://evil.test", "//evil.test", "/\\evil.test", "/portal"])
async def test_a_sign_in_leads_nowhere_else(browser: Browser, path: str) -> None:
    person = await browser.staff.enrol()
    await browser.sign_in(person, f"/console/sign-in?path={path}")

    assert browser.page.headers["location"] == "/console"


async def test_hostile_text_is_shown_as_text(browser: Browser) -> None:
    """An address and a name that would be markup; the page shows them escaped."""
    hostile = '"><script>alert(1)</script>@example.com'
    page = await browser.post("/console/sign-in", {"email": hostile, "password": "w", "path": hostile})
    await browser.staff.staff.operators.add("eve@example.com", "<b>Eve</b>", "ops", ACTOR)

    assert "<script>alert" not in page.text
    assert page.status_code == 401


# --- out


@pytest.fixture
async def signed_in(browser: Browser) -> tuple[Browser, Person]:
    person = await browser.staff.enrol()
    await browser.sign_in(person)
    return browser, person


async def test_signing_out_ends_the_session_here_and_in_the_database(signed_in: tuple[Browser, Person]) -> None:
    browser, _ = signed_in
    secret = browser.client.cookies[SESSION]
    await browser.go("/console/account")
    await browser.send("/console/leave")
    await browser.follow()
    assert "You are signed out." in browser.text
    assert SESSION not in browser.client.cookies
    browser.client.cookies.set(SESSION, secret, domain="ownkey.test")
    await browser.go("/console/account")

    assert browser.page.status_code == 303


async def test_sign_out_everywhere_ends_the_others_too(signed_in: tuple[Browser, Person]) -> None:
    browser, person = signed_in
    async with browse(browser.app, browser.staff) as other:
        await other.sign_in(person)
        await browser.go("/console/account")
        assert "192.0.2.44" in browser.text
        await browser.send("/console/leave/everywhere")
        await other.go("/console/account")

        assert other.page.status_code == 303


async def test_one_other_session_can_be_ended(signed_in: tuple[Browser, Person]) -> None:
    browser, person = signed_in
    async with browse(browser.app, browser.staff) as other:
        await other.sign_in(person)
        await browser.go("/console/account")
        ends = [form for form in browser.forms if form.action == "/console/account/session"]
        assert len(ends) == 2, "the set-up's own session, and the other browser's"
        for form in ends:
            await browser.post(form.action, form.fields)
        await browser.follow()
        assert "The session has ended." in browser.text
        assert (await other.go("/console/account")).status_code == 303
        assert (await browser.go("/console/account")).status_code == 200


async def test_a_role_change_ends_the_session_within_the_next_request(signed_in: tuple[Browser, Person]) -> None:
    """S7: no cache stands between the change and the page."""
    browser, person = signed_in
    assert (await browser.go("/console/account")).status_code == 200
    await browser.staff.staff.operators.set_role(person.email, "support", ACTOR)

    assert (await browser.go("/console/account")).status_code == 303


# --- not from here


@pytest.mark.parametrize("headers", [
    {"sec_fetch_site": "cross-site"}, {"sec_fetch_site": "same-site"}, {"origin": "https://evil.test"},
    {"sec_fetch_site": "cross-site", "origin": "null"}, {"sec_fetch_site": "none", "origin": "null"},
    {"sec_fetch_site": "same-origin", "origin": "https://evil.test"},
    {"sec_fetch_site": "same-origin", "origin": "http://ownkey.test"},
])
@pytest.mark.parametrize("path", ["/console/sign-in", "/console/set-up", "/console/leave"])
async def test_a_form_of_another_site_changes_nothing(
    signed_in: tuple[Browser, Person], headers: dict[str, str], path: str
) -> None:
    """Sign-in included: nobody can sign somebody else in to a foreign account."""
    browser, _ = signed_in
    token = csrf_token(browser.client.cookies[SESSION])
    page = await browser.post(path, {"email": "a@b.c", "password": "w", "csrf": token}, **headers)

    assert page.status_code == 403
    assert (await browser.go("/console/account")).status_code == 200


@pytest.mark.parametrize("route", [r for r in ROUTES if r.method == "POST"], ids=lambda r: r.path)
@pytest.mark.parametrize("token", ["", "A" * 43, "é"])
async def test_a_form_without_its_token_changes_nothing(
    signed_in: tuple[Browser, Person], route: object, token: str
) -> None:
    browser, _ = signed_in
    path = route.path  # type: ignore[attr-defined]
    actions = await browser.staff.actions()
    page = await browser.post(path.replace("{", "").replace("}", ""), {"csrf": token})

    assert page.status_code == 403
    assert await browser.staff.actions() == actions


async def test_two_cookies_of_one_name_are_none(signed_in: tuple[Browser, Person]) -> None:
    """A neighbour on the same host could have put one there."""
    browser, _ = signed_in
    secret = browser.client.cookies[SESSION]
    page = await browser.go("/console/account", cookie=f"{SESSION}={secret}; {SESSION}={'A' * 43}")

    assert page.status_code == 303


def test_the_addresses_that_need_no_session_are_these() -> None:
    """S11: the ways in, and nothing else."""
    assert {(route.method, route.path) for route in OPEN_ROUTES} == {
        ("GET", "/console/sign-in"), ("POST", "/console/sign-in"), ("GET", "/console/sign-in/code"),
        ("POST", "/console/sign-in/code"), ("GET", "/console/set-up"), ("POST", "/console/set-up"),
        ("GET", "/console/set-up/app"), ("POST", "/console/set-up/app"), ("GET", "/console/set-up/qr.svg"),
        ("GET", "/console/oidc/start"), ("GET", "/console/oidc/return"),
    }


@pytest.mark.parametrize("route", ROUTES, ids=lambda r: f"{r.method} {r.path}")
async def test_every_page_leads_strangers_to_the_door(browser: Browser, route: object) -> None:
    """S11: a page answers with the way to sign in, a form with 401; neither with anything else."""
    path = re.sub(r"\{[^}]*\}", "x", route.path)  # type: ignore[attr-defined]
    if route.method == "GET":  # type: ignore[attr-defined]
        page = await browser.go(path)
        assert page.status_code == 303
        assert page.headers["location"].startswith("/console/sign-in")
    else:
        assert (await browser.post(path, {"csrf": "x"})).status_code == 401


@pytest.mark.parametrize("method", ["PUT", "DELETE", "PATCH", "OPTIONS", "TRACE"])
async def test_other_methods_are_refused(browser: Browser, method: str) -> None:
    page = await browser.client.request(method, "/console/sign-in")

    assert (page.status_code, page.headers["allow"]) == (405, "GET, HEAD, POST")


async def test_forms_that_are_none_are_refused(browser: Browser) -> None:
    """Too large, too many fields, not text: a page that says so."""
    for content in (b"a=" + b"x" * 70_000, b"&".join(b"a%d=1" % n for n in range(300)), b"email=\xff&password=%ff"):
        page = await browser.client.post("/console/sign-in", content=content, headers={
            "content-type": "application/x-www-form-urlencoded"})
        assert page.status_code == 400


# --- again


async def test_a_stale_proof_leads_to_the_page_that_asks_for_one(signed_in: tuple[Browser, Person]) -> None:
    """The account page offers it; after both factors the forms are there, and a new password is taken."""
    browser, person = signed_in
    await browser.go("/console/account")
    assert any(form.action == "/console/account/password" for form in browser.forms)
    browser.staff.house.clock.pass_s(600)
    await browser.go("/console/account")
    assert not any(form.action == "/console/account/password" for form in browser.forms)
    token = csrf_token(browser.client.cookies[SESSION])
    stale = await browser.post("/console/account/password", {"csrf": token, "password": "x", "again": "x"})
    assert stale.status_code == 403
    assert "Confirm who you are" in browser.text
    await browser.go("/console/confirm?path=/console/account")
    wrong = await browser.send("/console/confirm", password="wrong", code=browser.staff.code(person))
    assert wrong.status_code == 401
    await browser.send("/console/confirm", password=PASSWORD, code=browser.staff.code(person))
    await browser.follow()
    short = await browser.send("/console/account/password", password="short", again="short")
    assert short.status_code == 422
    await browser.send("/console/account/password", password="three green umbrellas", again="three green umbrellas")
    await browser.follow()

    assert "Your password is changed" in browser.text
    codes = await browser.send("/console/account/recovery")
    assert len(re.findall(r"<li>[a-z2-7-]{19}</li>", codes.text)) == 10


async def test_shortcuts_can_be_turned_off(signed_in: tuple[Browser, Person]) -> None:
    browser, _ = signed_in
    await browser.go("/console/account")
    assert 'data-shortcuts="off"' not in browser.page.text
    await browser.send("/console/account/shortcuts")
    await browser.follow()

    assert 'data-shortcuts="off"' in browser.page.text


# --- through a provider


async def test_the_provider_lets_in_and_proves_again(tmp_path: Path) -> None:
    """The link on the page, the provider, the way back, the session; later a fresh proof where one is needed."""
    async with open_provider(public_client=True) as provider:
        upstream = Upstream(allow_insecure_origins=True)
        rules = ConsoleRules(passwords=False, oidc=OidcRules(
            provider.url, CLIENT_ID, ("ada@example.com",), (), (parse_origin(provider.url),), True))
        async with open_browser(tmp_path, rules, upstream=upstream) as browser:
            clock = browser.staff.house.clock
            provider.now_ms = clock.now_ms
            await browser.go("/console/sign-in?path=/console/account")
            assert not any(form.method == "post" for form in browser.forms)
            start = await browser.go("/console/oidc/start?path=/console/account")
            back = provider.approve(start.headers["location"]).removeprefix(OWN_URL)
            assert (await browser.client.head(back)).status_code == 503, "a link checker uses nothing up"
            await browser.go(back)
            assert browser.page.headers["location"] == "/console/account"
            await browser.follow()
            assert "your provider" in browser.text
            replay = await browser.go(back)
            assert replay.status_code == 403
            assert "this browser did not begin it" in browser.text
            await browser.go("/console/confirm?path=/console/billing")
            again = await browser.go("/console/oidc/start?path=/console/billing&fresh=1")
            unproved = await browser.go(provider.approve(again.headers["location"]).removeprefix(OWN_URL))
            assert unproved.status_code == 403
            assert "your provider does not say when you proved who you are" in browser.text
            assert "OpenID Connect then requires auth_time in the ID token" in browser.text
            assert "do this with the command line beside the server." in browser.text
            assert "You are still signed in, and nothing was changed." in browser.text
            assert "/console/oidc/start?path=%2Fconsole%2Fbilling&amp;fresh=1" in unproved.text
            assert (await browser.go("/console/account")).status_code == 200
            provider.auth_time = clock.at_ms // 1_000
            await browser.go("/console/confirm?path=/console/account")
            again = await browser.go("/console/oidc/start?path=/console/account&fresh=1")
            assert parse_qs(urlsplit(again.headers["location"]).query)["max_age"] == ["600"]
            await browser.go(provider.approve(again.headers["location"]).removeprefix(OWN_URL))
            [session] = await browser.staff.staff.sessions.list(
                await browser.staff.staff.sessions.find(browser.client.cookies[SESSION]))  # type: ignore[arg-type]
            found = await browser.staff.staff.sessions.find(browser.client.cookies[SESSION])

            assert found is not None
            assert found.id == session.id
            assert found.is_fresh(clock.at_ms)
            assert (await browser.post("/console/sign-in", {"email": "a@b.c", "password": "w"})).status_code == 401
        await upstream.aclose()


async def test_without_a_provider_its_addresses_lead_nowhere(browser: Browser) -> None:
    for path in ("/console/oidc/start", "/console/oidc/return?code=x&state=" + "A" * 43):
        assert (await browser.go(path)).status_code == 404


async def test_support_may_look_and_no_more(browser: Browser) -> None:
    """A route that needs ops answers support with whom to ask."""
    person = await browser.staff.enrol("sam@example.com", "support")
    await browser.sign_in(person)
    browser.app._routes = [
        (pattern, route.__class__(route.method, route.path, route.handler, OperatorRole.OPS))
        for pattern, route in browser.app._routes
    ]
    page = await browser.go("/console/account")

    assert page.status_code == 403
    assert "role ops" in browser.text
