"""<ownkey-portal> and the frame inside it: what each tells the other, and whom neither listens to."""

import re
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from playwright.sync_api import Browser, Frame, FrameLocator, Page, expect
from tests.browser.script_site import ScriptSite, script_site
from tests.browser.watching import Watch

CODE = "first-code-0123456789"


@dataclass
class Stage:
    """The host's page on `localhost`, the portal on `127.0.0.1`."""

    tab: Page
    host: ScriptSite
    portal: ScriptSite

    @property
    def host_url(self) -> str:
        return self.host.url.replace("127.0.0.1", "localhost")

    def open(self, attributes: str = 'refresh-url="/session"', session: str = "") -> None:
        self.portal.parent = self.host_url
        session = session or f"{self.portal.url}/portal/enter?code={CODE}"
        self.host.body = (
            '<!doctype html><html lang="en"><title>Host</title><body>'
            f'<ownkey-portal session="{session}" {attributes}><a href="/keys">AI keys</a></ownkey-portal>'
            f'<script src="{self.portal.url}/portal/embed/v1.js"></script>'
        )
        self.tab.add_init_script(
            "window.told = []; for (const name of ['ready', 'resize', 'navigate', 'credential-saved', 'cap-changed', "
            "'session-expired', 'error']) addEventListener('ownkey:' + name, e => told.push([name, e.detail]));"
        )
        self.tab.goto(self.host_url + "/host")

    def told(self, name: str) -> list[dict[str, object]]:
        return [detail for told, detail in self.tab.evaluate("told") if told == name]

    def wait_told(self, name: str) -> dict[str, object]:
        self.tab.wait_for_function("name => told.some(([told]) => told === name)", arg=name)
        return self.told(name)[0]

    @property
    def inside(self) -> FrameLocator:
        """Whatever frame is there when it is looked at."""
        return self.tab.frame_locator("ownkey-portal iframe")

    @property
    def frame(self) -> Frame:
        return next(frame for frame in self.tab.frames if frame.parent_frame)


@pytest.fixture
def stage(browser: Browser) -> Iterator[Stage]:
    context = browser.new_context()
    with script_site() as host, script_site() as portal:
        watch = Watch({host.url, host.url.replace("127.0.0.1", "localhost"), portal.url}, excused=["net::ERR_"])
        watch.follow(context)
        yield Stage(context.new_page(), host, portal)
        context.close()

    assert watch.problems() == []


def test_the_frame_opens_without_cookie_and_its_bearer_is_in_memory_only(stage: Stage) -> None:
    """The link of the light DOM steps back; the address is clean; no cookie, storage, or document holds the bearer."""
    link = stage.tab.get_by_role("link", name="AI keys")
    stage.open('page="" theme="dark" refresh-url="/session" label="Keys"')
    ready = stage.wait_told("ready")
    frame = stage.frame
    kept = frame.content()

    assert ready == {"page": "credentials", "path": "/portal/credentials"}
    assert frame.url == stage.portal.url + "/portal/credentials"
    assert "bearer-one" not in kept
    assert stage.tab.context.storage_state() == {"cookies": [], "origins": []}
    assert "Bearer bearer-one" in stage.portal.bearers
    assert set(stage.portal.cookies) == {""}
    assert frame.evaluate("document.documentElement.dataset.theme") == "dark"
    expect(link).to_be_hidden()
    iframe = stage.tab.locator("ownkey-portal iframe")
    expect(iframe).to_have_attribute("title", "Keys")
    expect(iframe).to_have_attribute("referrerpolicy", "no-referrer")


def test_the_frame_is_as_tall_as_its_page_and_links_stay_inside(stage: Stage) -> None:
    """Height follows content both ways; a link is followed with the bearer, told, and its heading has the focus."""
    stage.open()
    stage.wait_told("ready")
    iframe = stage.tab.locator("ownkey-portal iframe")
    before = iframe.bounding_box()
    stage.frame.evaluate("document.querySelector('main').insertAdjacentHTML('beforeend', '<p>x</p>'.repeat(40))")
    stage.tab.wait_for_function(
        "least => document.querySelector('ownkey-portal').shadowRoot.querySelector('iframe').clientHeight > least",
        arg=before["height"] + 500 if before else 0,
    )
    stage.frame.get_by_role("link", name="Spend").click()
    expect(stage.frame.locator("#path")).to_have_text("/portal/spend")

    assert stage.wait_told("navigate") == {"page": "spend", "path": "/portal/spend"}
    expect(stage.frame.get_by_role("heading", level=1)).to_be_focused()
    stage.tab.evaluate("history.back()")
    expect(stage.frame.locator("#path")).to_have_text("/portal/credentials")
    assert stage.portal.bearers[-1] == "Bearer bearer-one"


def test_attributes_that_change_reach_the_frame(stage: Stage) -> None:
    """The host's own navigation and theme switch drive the frame, without a new session."""
    stage.open()
    stage.wait_told("ready")
    stage.tab.evaluate("document.querySelector('ownkey-portal').setAttribute('theme', 'light')")
    stage.tab.evaluate("document.querySelector('ownkey-portal').setAttribute('page', 'spend')")

    expect(stage.frame.locator("#path")).to_have_text("/portal/spend")
    assert stage.frame.evaluate("document.documentElement.dataset.theme") == "light"


def test_saved_credentials_are_told_without_their_content(stage: Stage) -> None:
    """One event for one saving, with the provider's name and nothing else."""
    stage.portal.body = '<p data-event="credential-saved" data-provider="openrouter" data-other="x">Saved</p>'
    stage.open()
    stage.wait_told("ready")
    stage.wait_told("credential-saved")

    assert stage.told("credential-saved") == [{"provider": "openrouter"}]


def test_the_element_hears_only_its_own_frame_from_its_exact_origin_in_the_right_shape(stage: Stage) -> None:
    """Another window, another origin, another shape: nothing happens, and nothing is passed on."""
    stage.open()
    stage.wait_told("ready")
    before = len(stage.tab.evaluate("told"))
    stage.tab.evaluate("postMessage({type: 'ownkey:session-expired'}, '*')")
    for shape in (
        "null", "'ownkey:cap-changed'", "{type: 'cap-changed'}", "{type: 'ownkey:constructor'}",
        "{type: 'ownkey:resize', height: '9999'}", "{type: 'ownkey:resize', height: -1}",
        "{type: 'ownkey:navigate', page: 'spend', path: 'https://evil.example'}",
        "{type: 'ownkey:credential-saved', provider: '<img>'}", "{type: 'ownkey:error', code: {}}",
    ):
        stage.frame.evaluate(f"parent.postMessage({shape}, '*')")
    stage.tab.evaluate("""() => new Promise(done => {
      const other = document.createElement("iframe");
      other.onload = done;
      other.srcdoc = "<p>Another frame</p>";
      document.body.append(other);
    })""")
    other = stage.tab.frames[-1]
    other.evaluate("parent.postMessage({type: 'ownkey:cap-changed'}, '*')")
    stage.tab.wait_for_timeout(200)

    assert [t for t in stage.tab.evaluate("told")[before:] if t[0] != "resize"] == []
    stage.frame.evaluate("parent.postMessage({type: 'ownkey:cap-changed', bearer: 'x'}, '*')")
    assert stage.wait_told("cap-changed") == {}


def test_the_frame_hears_only_its_parent_from_the_configured_origin(stage: Stage) -> None:
    """A document whose parent is not the one that the session names tells it nothing and obeys nothing."""
    stage.open()
    stage.wait_told("ready")
    frame = stage.frame
    frame.evaluate("postMessage({type: 'ownkey:set-theme', theme: 'dark'}, '*')")
    stage.tab.evaluate("""() => document.querySelector("ownkey-portal").shadowRoot.querySelector("iframe")
      .contentWindow.postMessage({type: "ownkey:set-theme", theme: "evil"}, "*")""")
    stage.tab.wait_for_timeout(150)

    assert frame.evaluate("document.documentElement.dataset.theme") == "light"


def test_two_minutes_before_the_end_the_host_is_asked_and_typed_text_stays(stage: Stage) -> None:
    """The element POSTs to the host's own address, hands the code in, and the frame goes on with a new bearer."""
    stage.portal.body = '<input type="password" id="key">'
    stage.tab.clock.install()
    stage.open()
    stage.wait_told("ready")
    stage.frame.locator("#key").fill("half a key")
    stage.tab.clock.fast_forward(1_000 * (900 - 110))
    stage.tab.wait_for_timeout(300)
    asked = [sent for path, sent in stage.portal.posts if path == "/portal/enter"]
    stage.frame.get_by_role("link", name="Spend").click()
    expect(stage.frame.locator("#path")).to_have_text("/portal/spend")

    assert [path for path, _ in stage.host.posts] == ["/session"]
    assert asked == [{"code": "second-code-0123456789"}]
    assert stage.portal.bearers[-1] == "Bearer bearer-two"
    assert stage.told("error") == []


def test_a_refused_refresh_ends_the_session_wipes_keys_and_reopens_on_request(stage: Stage) -> None:
    """At the end: said to the host, typed keys gone, the server's own page; Reopen asks the host once more."""
    stage.portal.body = '<input type="password" id="key">'
    stage.host.code = ""
    stage.tab.clock.install()
    stage.open()
    stage.wait_told("ready")
    stage.frame.locator("#key").fill("half a key")
    field = stage.frame.locator("#key").element_handle()
    stage.tab.clock.fast_forward(1_000 * (900 - 110))
    stage.wait_told("error")
    stage.tab.clock.fast_forward(1_000 * 115)
    stage.wait_told("session-expired")
    expect(stage.frame.get_by_text("Session ended")).to_be_visible()

    assert stage.told("error")[0] == {"code": "refresh_failed"}
    assert field is not None
    assert field.evaluate("field => field.value") == ""
    assert stage.portal.bearers[-1] == ""
    stage.host.code = "third-code-0123456789"
    stage.frame.get_by_role("link", name="Reopen").click()
    expect(stage.inside.locator("#path")).to_have_text("/portal/credentials")


def test_a_reload_of_the_frame_asks_for_a_new_session(stage: Stage) -> None:
    """The bearer is gone with the document; the host is asked, and the person goes on."""
    stage.open()
    stage.wait_told("ready")
    stage.frame.evaluate("location.reload()")
    stage.tab.wait_for_function("() => told.filter(([name]) => name === 'ready').length === 2")

    assert [path for path, _ in stage.host.posts] == ["/session"]


def test_a_reload_of_the_frame_opens_where_one_was(stage: Stage) -> None:
    """Not at the element's `page`, unless the host has changed it since; nothing is stored, so that a reload of the
    host's page begins at `page`."""
    stage.portal.body = '<a href="/portal/receipts/r_1-2">Receipt</a>'
    stage.open('page="credentials" refresh-url="/session"')
    stage.wait_told("ready")
    stage.tab.evaluate("document.querySelector('ownkey-portal').setAttribute('page', 'spend')")
    stage.tab.wait_for_function("() => told.some(([name, it]) => name === 'navigate' && it.path === '/portal/spend')")
    stage.tab.evaluate("document.querySelector('ownkey-portal').setAttribute('page', '')")
    stage.frame.evaluate("location.reload()")
    stage.tab.wait_for_function("() => told.filter(([name]) => name === 'ready').length === 2")
    cleared = stage.told("ready")[1]["path"]
    stage.inside.get_by_role("link", name="Receipt").click()
    stage.tab.wait_for_function("() => told.some(([name, it]) => it.path === '/portal/receipts/r_1-2')")
    stage.frame.evaluate("location.reload()")
    stage.tab.wait_for_function("() => told.filter(([name]) => name === 'ready').length === 3")

    assert cleared == "/portal/credentials"
    assert stage.told("ready")[2]["path"] == "/portal/receipts/r_1-2"
    assert stage.tab.evaluate("[localStorage.length, sessionStorage.length, document.cookie]") == [0, 0, ""]


@pytest.mark.parametrize("session", ["javascript:alert(1)", "https://portal.example/other?code=x", "short"])
def test_a_session_that_is_none_opens_nothing_and_leaves_the_link(stage: Stage, session: str) -> None:
    """What no portal gave is no address to open."""
    stage.open(session=session)

    assert stage.wait_told("error") == {"code": "session_invalid"}
    expect(stage.tab.get_by_role("link", name="AI keys")).to_be_visible()
    expect(stage.tab.locator("ownkey-portal iframe")).to_have_count(0)


def test_without_htmx_a_frame_shows_what_the_document_says(stage: Stage) -> None:
    """The pages work without htmx, a frame does not: it stays on its first document, which links to page mode."""
    stage.tab.route(re.compile("htmx"), lambda route: route.fulfill(body="", content_type="text/javascript"))
    stage.open()
    stage.wait_told("ready")

    expect(stage.frame.get_by_role("heading", name="Loading")).to_be_visible()
