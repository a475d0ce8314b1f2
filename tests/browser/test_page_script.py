"""What our script adds to pages: each attribute's promise, in a real browser, under the real policy."""

from collections.abc import Iterator
from typing import Literal

import pytest
from playwright.sync_api import Browser, Page, expect
from tests.browser.script_site import ScriptSite, script_site
from tests.browser.watching import Watch

KEY_FORM = """
<section id="card" data-card><h2>OpenRouter</h2>
<form hx-post="/slow" hx-target="#result">
  <label for="key">OpenRouter API key</label><input id="key" name="key" type="password" data-secret>
  <button type="button" data-js hidden data-show="key" aria-pressed="false">Show</button>
  <button name="do" value="test" data-busy="Testing… {s} s">Test</button>
  <button type="button" data-cancel="Cancelled." hidden>Cancel</button>
</form><div id="result"></div></section>
"""


@pytest.fixture
def site() -> Iterator[ScriptSite]:
    with script_site() as started:
        yield started


@pytest.fixture
def tab(browser: Browser, site: ScriptSite) -> Iterator[Page]:
    """A watched tab; a console error or a violation of the policy fails the test."""
    context = browser.new_context(permissions=["clipboard-read", "clipboard-write"])
    watch = Watch({site.url}, excused=["net::ERR_", "Failed to fetch"])
    watch.follow(context)
    yield context.new_page()
    context.close()

    assert watch.problems() == []


def show(tab: Page, site: ScriptSite, body: str) -> None:
    site.body = body
    tab.goto(site.url)


def test_show_reveals_a_typed_key_and_hides_it_before_it_is_sent(tab: Page, site: ScriptSite) -> None:
    """The button says its state to screen readers, is not there without script, and never leaves a key in the open."""
    show(tab, site, KEY_FORM)
    button, field = tab.get_by_role("button", name="Show"), tab.locator("#key")
    field.fill("typed-by-somebody")
    button.click()
    shown = (field.get_attribute("type"), button.get_attribute("aria-pressed"), button.text_content())
    tab.get_by_role("button", name="Test").click()

    assert shown == ("text", "true", "Show")
    expect(field).to_have_attribute("type", "password")
    expect(button).to_have_attribute("aria-pressed", "false")


def test_a_test_counts_seconds_and_cancel_ends_the_request(tab: Page, site: ScriptSite) -> None:
    """The busy button counts, a second press sends nothing, Cancel closes the connection and gives the focus back."""
    show(tab, site, KEY_FORM)
    test, cancel = tab.locator("button[name=do]"), tab.get_by_role("button", name="Cancel")
    expect(cancel).to_be_hidden()
    test.click()
    expect(test).to_have_attribute("aria-busy", "true")
    expect(test).to_have_text("Testing… 1 s", timeout=4_000)
    test.click()
    cancel.click()

    assert site.hung_up.wait(5)
    expect(test).to_have_text("Test")
    expect(test).to_be_focused()
    expect(cancel).to_be_hidden()
    expect(tab.locator("#live")).to_have_text("Cancelled.")
    assert [path for path, _ in site.posts] == ["/slow"]


@pytest.mark.parametrize("motion", ["no-preference", "reduce"])
def test_a_page_that_takes_its_time_shows_the_shape_of_one(
    tab: Page, site: ScriptSite, motion: Literal["no-preference", "reduce"]
) -> None:
    """Section 4.9: a skeleton after 150 ms in the place of the page that is left, and it says that it is busy; whoever
    wants no motion gets one that stands still, and a form that is sent keeps what was typed in sight."""
    tab.emulate_media(reduced_motion=motion)
    show(tab, site, (
        '<link rel="stylesheet" href="/assets/ownkey.css"><a href="/later" hx-boost="true">Later</a>'
        '<form hx-post="/slow" hx-target="#result"><input name="text"><button>Send</button></form><p id="result"></p>'
    ))
    shape = "getComputedStyle(document.querySelector('main'), '::before')"
    tab.get_by_role("button", name="Send").click()
    expect(tab.locator("#result")).to_have_attribute("aria-busy", "true")
    kept = tab.evaluate(f"{shape}.content"), tab.locator("h1").evaluate("it => getComputedStyle(it).opacity")
    tab.get_by_role("link", name="Later").click()
    delay = tab.evaluate(f"{shape}.animationDelay")
    tab.wait_for_function("() => getComputedStyle(document.querySelector('h1')).opacity === '0'")
    seen = tab.evaluate(f"{shape}.opacity")
    expect(tab.locator("body")).to_have_attribute("aria-busy", "true")
    moving = tab.evaluate("() => document.getAnimations().some(it => it.effect.getTiming().iterations === Infinity)")
    site.answers.set()

    expect(tab.locator("#there")).to_be_visible()
    expect(tab.locator("h1")).to_have_css("opacity", "1")
    assert kept == ("none", "1")
    assert delay == "0.15s"
    assert float(seen) >= 0.5
    assert moving is (motion == "no-preference")


def test_a_refused_form_focuses_its_first_wrong_field_with_its_text(tab: Page, site: ScriptSite) -> None:
    """422: what was typed is there, and the focus on the field that has to change."""
    show(tab, site, (
        '<section id="card" data-card><h2>Card</h2><form hx-post="/wrong" hx-target="#card" hx-swap="outerHTML" '
        'hx-select="#card"><input name="text"><button>Save</button></form></section>'
    ))
    tab.locator("input").fill("seven")
    tab.get_by_role("button", name="Save").click()

    expect(tab.locator("#kept")).to_be_focused()
    expect(tab.locator("#kept")).to_have_value("seven")
    expect(tab.locator("h1")).to_have_count(1)


def test_when_the_pressed_button_is_gone_its_card_heading_has_the_focus(tab: Page, site: ScriptSite) -> None:
    """And the result is said by the one live region, which outlives swaps."""
    show(tab, site, (
        '<section id="card" data-card><h2>Card</h2><form hx-post="/saved" hx-target="#card" hx-swap="outerHTML">'
        "<button>Save</button></form></section>"
    ))
    tab.get_by_role("button", name="Save").click()

    expect(tab.get_by_role("heading", name="Card")).to_be_focused()
    expect(tab.locator("#live")).to_have_text("OpenRouter API key saved successfully.")


@pytest.mark.parametrize(("to", "id_"), [("/forbidden", "refused"), ("/nowhere", "result")])
def test_an_answer_without_the_part_that_was_asked_for_is_shown_whole(
    tab: Page, site: ScriptSite, to: str, id_: str
) -> None:
    """A refusal is never swapped away into nothing."""
    wanted = ' hx-select="#result"' if to == "/forbidden" else ""
    show(tab, site, f'<form hx-post="{to}" hx-target="#result"{wanted}><button>Go</button></form><p id="result"></p>')
    tab.get_by_role("button", name="Go").click()

    expect(tab.locator(f"#{id_}").first).to_be_visible()
    expect(tab.locator("h1")).to_have_count(1)


def test_a_switch_is_sent_when_it_changes(tab: Page, site: ScriptSite) -> None:
    """Without a press of Save, once a change."""
    show(tab, site, (
        '<form hx-post="/switch" hx-target="#result" data-submit-on-change>'
        '<label><input type="checkbox" role="switch" name="on" value="on"> On</label></form><p id="result"></p>'
    ))
    tab.get_by_role("switch").check()
    expect(tab.locator("#sent")).to_contain_text("on")

    assert site.posts == [("/switch", {"on": "on"})]


def test_copy_puts_the_text_on_the_clipboard_and_says_so(tab: Page, site: ScriptSite) -> None:
    """The button tells that it was done, then reads as before."""
    show(tab, site, '<pre id="id">rcp_12</pre><button data-js hidden data-copy="#id" data-done="Copied">Copy</button>')
    tab.get_by_role("button", name="Copy").click()

    expect(tab.locator("#live")).to_have_text("Copied")
    assert tab.evaluate("navigator.clipboard.readText()") == "rcp_12"
    expect(tab.get_by_role("button", name="Copy", exact=True)).to_be_visible(timeout=4_000)


def test_a_poll_rests_while_somebody_reads(tab: Page, site: ScriptSite) -> None:
    """Hovered or focused, a list announces nothing; afterwards it goes on."""
    show(tab, site, (
        '<section data-pause><button id="in">In</button><p hx-get="/news" hx-trigger="every 200ms"></p></section>'
        '<button id="out">Out</button>'
    ))
    expect(tab.locator("#news")).to_contain_text("new", timeout=4_000)
    tab.locator("#in").focus()
    tab.wait_for_timeout(300)
    before = site.polls
    tab.wait_for_timeout(700)
    resting = site.polls
    tab.locator("#out").focus()
    tab.wait_for_timeout(700)

    assert resting == before
    assert site.polls > resting


AGAIN = '<noscript data-again="3"></noscript><p id="progress" data-say="10">{} of 9</p><input id="typed">'


def test_a_page_that_comes_again_is_swapped_and_told_rarely(tab: Page, site: ScriptSite) -> None:
    """No reload under a reader's eyes: what changes is shown every few seconds, and said at most every ten."""
    tab.clock.install()
    show(tab, site, AGAIN.format(1))
    tab.evaluate("window.same = true")
    tab.clock.run_for(100)
    expect(tab.locator("#live")).to_have_text("1 of 9")
    said = []
    for step in range(2, 6):
        site.body = AGAIN.format(step)
        tab.clock.run_for(3_000)
        expect(tab.locator("#progress")).to_have_text(f"{step} of 9")
        tab.clock.run_for(100)
        said.append(tab.locator("#live").text_content())

    assert tab.evaluate("window.same") is True
    assert said == ["1 of 9", "1 of 9", "1 of 9", "5 of 9"]


def test_a_page_does_not_come_again_while_somebody_types(tab: Page, site: ScriptSite) -> None:
    """What is half typed is never swapped away; afterwards the page goes on."""
    tab.clock.install()
    show(tab, site, AGAIN.format(1))
    tab.locator("#typed").fill("half")
    site.body = AGAIN.format(2)
    tab.clock.run_for(10_000)
    expect(tab.locator("#typed")).to_have_value("half")
    expect(tab.locator("#progress")).to_have_text("1 of 9")
    tab.locator("#typed").blur()
    tab.clock.run_for(3_000)

    expect(tab.locator("#progress")).to_have_text("2 of 9")


def test_a_view_says_its_age_once_it_is_half_a_minute_old(tab: Page, site: ScriptSite) -> None:
    """Nothing ticks under a fresh page; an old one says how old it is, and offers a new one."""
    tab.clock.install()
    show(tab, site, '<p id="old" hidden><span data-age="{s} s ago"></span> · <a href="/">Refresh</a></p>')
    tab.clock.run_for(20_000)
    expect(tab.locator("#old")).to_be_hidden()
    tab.clock.run_for(21_000)

    expect(tab.locator("#old")).to_be_visible()
    expect(tab.locator("#old")).to_contain_text("40 s ago · Refresh")


def test_a_slash_focuses_search_unless_it_is_typed_or_switched_off(tab: Page, site: ScriptSite) -> None:
    """A shortcut of one character can be turned off (WCAG 2.1.4)."""
    show(tab, site, '<input id="other"><input id="search" data-search type="search">')
    tab.locator("#other").focus()
    tab.keyboard.press("/")
    typed = tab.locator("#other").input_value()
    tab.locator("#other").blur()
    tab.keyboard.press("/")
    focused = tab.evaluate("document.activeElement.id")
    tab.locator("#search").blur()
    tab.evaluate("document.body.dataset.shortcuts = 'off'")
    tab.keyboard.press("/")

    assert (typed, focused) == ("/", "search")
    assert tab.evaluate("document.activeElement.id") != "search"


def test_the_end_of_a_session_is_warned_of_and_typed_text_stays(tab: Page, site: ScriptSite) -> None:
    """Two minutes before: a panel with the time left, said once; nothing that was typed is touched."""
    tab.clock.install()
    show(tab, site, KEY_FORM)
    tab.locator("#key").fill("half a key")
    tab.clock.fast_forward(1_000 * (900 - 100))
    panel = tab.locator("#session-end")

    expect(panel).to_be_visible()
    expect(panel).to_contain_text("1:")
    expect(tab.locator("#live")).to_contain_text("This session ends")
    expect(tab.locator("#key")).to_have_value("half a key")


def test_without_a_connection_the_page_says_so_and_keeps_what_was_typed(tab: Page, site: ScriptSite) -> None:
    """Offline is a state, not a dead button."""
    show(tab, site, '<form hx-post="/any" hx-target="#result"><input id="t" name="t"><button>Go</button></form>'
                    '<p id="result"></p>')
    tab.locator("#t").fill("words")
    tab.route("**/any", lambda route: route.abort())
    tab.get_by_role("button", name="Go").click()

    expect(tab.locator("#offline")).to_be_visible()
    expect(tab.locator("#t")).to_have_value("words")
    expect(tab.get_by_role("button", name="Go")).not_to_have_attribute("aria-busy", "true")


def test_a_double_click_sends_one_form(tab: Page, site: ScriptSite) -> None:
    """A busy form takes no second press."""
    show(tab, site, '<form hx-post="/slow" hx-target="#result"><button>Pay</button></form><p id="result"></p>')
    tab.get_by_role("button", name="Pay").dblclick()
    tab.wait_for_timeout(300)

    assert [path for path, _ in site.posts] == ["/slow"]
