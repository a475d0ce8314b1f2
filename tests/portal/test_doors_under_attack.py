"""What is thrown at the portal's door and pages by those who mean harm, by chance, or by a machine that breaks."""

import csv
import io
import os
import re
import time
from collections.abc import AsyncIterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
from tests.portal.fuzzing import HOSTILE, Fuzzer, names_in
from tests.portal.real_doors import FORM, NOBODY, PEOPLE, Doors, enter, fill, furnish, links_of, open_doors
from tests.portal.versions import version_now
from tests.portal.visiting import Seen

from ownkey.domain.errors import Unavailable
from ownkey.domain.portal import LISTED
from ownkey.pages.http import Answer, see_other, send_answer
from ownkey.portal.routes import ROUTES

KEY = "sk-or-v1-" + "c0de" * 16
MIDDLE = "c0de" * 5
EVIL = "<img src=x onerror=alert(1)>\"'&{{7*7}}<script>=1+1"
GETS = [route for route in ROUTES if route.method == "GET"]
POSTS = [route for route in ROUTES if route.method == "POST" and route.path != "/portal/data/delete"]
FUZZ_S = float(os.environ.get("OWNKEY_FUZZ_S", "1.5"))
"""Seconds of fuzzing for each product; more on demand."""


@pytest.fixture(params=["support-desk", "app-builder"])
async def busy(tmp_path: Path, request: pytest.FixtureRequest) -> AsyncIterator[Doors]:
    async with open_doors(tmp_path, request.param) as opened:
        await furnish(opened.house, opened.own)
        yield opened


@pytest.fixture
async def doors(tmp_path: Path) -> AsyncIterator[Doors]:
    async with open_doors(tmp_path) as opened:
        await furnish(opened.house, opened.own)
        yield opened


# --- headers of every answer


def bad_headers(seen: Seen) -> str:
    """What is wrong with an answer's headers; "" for nothing."""
    policy = seen.headers.get("content-security-policy", "")
    for part in ("default-src 'none'", "script-src 'self'", "form-action 'self'", "base-uri 'none'", "frame-ancestors"):
        if part not in policy:
            return f"no {part}"
    if "unsafe" in policy or "*" in policy:
        return policy
    wanted = {"cache-control": "no-store", "x-content-type-options": "nosniff", "referrer-policy": "no-referrer"}
    wrong = [name for name, value in wanted.items() if seen.headers.get(name) != value]
    return ", ".join(wrong + ([] if "strict-transport-security" in seen.headers else ["hsts"]))


async def test_every_answer_carries_the_headers(doors: Doors) -> None:
    """Section 7: the policy, no-store, nosniff, no-referrer and HSTS on pages, files, redirects and refusals alike."""
    form = urlencode({"csrf": doors.token("owner")}).encode()
    seen = [await doors.get(fill(route.path, doors.own), who) for route in GETS for who in ("owner", "member", NOBODY)]
    seen += [await doors.ask("POST", fill(route.path, doors.own), headers=FORM, body=body)
             for route in POSTS for body in (b"", form)]
    seen += [await doors.ask("POST", "/portal/spend/cap", body=b"a=1&" * 300, headers=FORM)]
    seen += [await doors.ask(method, path) for method in ("GET", "HEAD", "PUT", "POST") for path in (
        "/portal", "/portal/nothing", "/portal/enter", "/portal/leave", "/portal/tickets")]

    assert {bad_headers(one) for one in seen} == {""}
    assert {200, 303, 400, 401, 403, 404, 405} <= {one.status for one in seen}


async def test_a_pages_visit_is_framed_nowhere(doors: Doors) -> None:
    """Clickjacking: not by the configured sites either, whatever a request asks for."""
    for path in ("/portal/credentials", "/portal/nothing", "/portal/credentials?mode=frame&origin=https://app.test"):
        seen = await doors.get(path, **{"sec-fetch-dest": "document", "referer": "https://app.test/"})
        assert seen.headers["content-security-policy"].endswith("frame-ancestors 'none'")
    framed = await doors.get("/portal/credentials", **{"sec-fetch-dest": "iframe"})
    assert framed.status == 401


async def test_a_header_is_never_split() -> None:
    """A line break in an address is written as its code; in any other header it is refused, not sent."""
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    await send_answer(see_other("/portal/a\r\nset-cookie: x=y\u20ac"), send, policy="none")
    assert dict(sent[0]["headers"])[b"location"] == b"/portal/a%0D%0Aset-cookie:%20x=y%E2%82%AC"
    for value in ("a\r\nb: c", "a\nb", "a\x00", "\u20ac", "a\x7f"):
        with pytest.raises(ValueError, match="header"):
            await send_answer(Answer(200, b"", headers=[("x-thing", value)]), send, policy="none")
    assert len(sent) == 2


async def test_a_head_gets_the_headers_alone(doors: Doors) -> None:
    """Also of files that are streamed: their rows are not even read."""
    for path in ("/portal/credentials", "/portal/activity/calls.csv", fill("/portal/exports/{work}/file", doors.own)):
        seen = await doors.ask("HEAD", path)
        assert (seen.status, seen.html) == (200, "")


# --- a machine that fails below


@pytest.mark.parametrize("where", ["find_portal_session", "load_workspace", "save_cap"])
async def test_a_database_that_is_away_is_told(doors: Doors, monkeypatch: pytest.MonkeyPatch, where: str) -> None:
    """503 with a sentence and a fix, also where it is away before anybody is known; styles are served all the same."""
    async def away(*_: Any, **__: Any) -> Any:
        raise Unavailable("the database is locked")

    sources = {"find_portal_session": doors.house.desk.portal_sessions._store,
               "load_workspace": doors.house.desk.workspaces._store, "save_cap": doors.house.desk.caps._store}
    monkeypatch.setattr(sources[where], where, away)
    seen = await doors.post("/portal/spend/cap", {"cap_usd": "9", "threshold_percent": "80"})
    style = await doors.get(doors.pages.site.url("ownkey.css") or "")

    assert seen.status == 503
    assert "Try again in a minute" in seen.text
    assert "locked" not in seen.html
    assert bad_headers(seen) == ""
    assert style.status == 200


# --- keys in wrong places


async def test_a_key_in_a_wrong_field_never_comes_back(busy: Doors) -> None:
    """Section 1: whichever field of whichever form or address somebody pastes a key into, no page, header or stored
    piece of work has it afterwards."""
    shown = []
    for route in (*GETS, *POSTS):
        path = fill(route.path, busy.own)
        extra = names_in("ownkey.portal.activity") if "/exports" in path else ()
        for name in (*names_in(route.handler.__module__), *extra):
            if name in ("csrf", "version"):
                continue
            seen = await (busy.get(f"{path}?{name}={KEY}") if route.method == "GET" else busy.post(path, {name: KEY}))
            if MIDDLE in seen.html or MIDDLE in str(seen.headers):
                shown.append((route.method, route.path, name))
    for path in ("calls", "exports", "explain/replay", "data/export", "credentials", "features"):
        for seen in (await busy.get(f"/portal/{path}/{KEY}"), await busy.post(f"/portal/{path}/{KEY}")):
            shown += [("", path, "path")] if MIDDLE in seen.html + str(seen.headers) else []
    named = await busy.post("/portal/data/delete", {"name": KEY})
    work = [view.work.wish for view in await busy.house.desk.work.list(busy.own.workspace, 50)]

    assert shown == []
    assert named.status == 422
    assert MIDDLE not in named.html + repr(work)


# --- hostile texts


class _Strict(HTMLParser):
    """What would be wrong in a page whatever stands in it: scripts, handlers, styles and foreign addresses."""

    def __init__(self) -> None:
        super().__init__()
        self.wrong: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        if tag in ("img", "iframe", "object", "embed", "base", "style") or (tag == "script" and not values.get("src")):
            self.wrong.append(f"<{tag}>")
        for name, value in attrs:
            if name.startswith("on") or name == "style" or not re.fullmatch(r"[a-zA-Z][\w:.-]*", name):
                self.wrong.append(f"{tag} {name}")
            if name in ("href", "src", "action", "formaction") and not re.match(r"/(?!/)|#|https://|$", value or ""):
                self.wrong.append(f"{tag} {name}={value}")


@pytest.mark.parametrize("preset", ["support-desk", "app-builder"])
async def test_hostile_texts_are_only_ever_text(tmp_path: Path, preset: str) -> None:
    """Section 1: labels, projects, conversations, models and providers' words that are markup, on every page of every
    role, in attributes and pictures too; and in no file as a formula."""
    async with open_doors(tmp_path, preset) as doors:
        await furnish(doors.house, doors.own, EVIL)
        wrong, files, evil = [], 0, 0
        for who in PEOPLE:
            todo, seen = [*(f"/portal/{page}" for page in LISTED), "/portal/why", "/portal/exports"], set[str]()
            while todo and len(seen) < 60:
                path = todo.pop()
                if path in seen:
                    continue
                seen.add(path)
                answer = await doors.get(path, who)
                if answer.headers["content-type"].startswith("text/html"):
                    reader = _Strict()
                    reader.feed(answer.html)
                    wrong += [(path, one) for one in reader.wrong]
                    evil += "&lt;img src=x" in answer.html
                    todo += sorted(links_of(answer) - seen)
                else:
                    files += 1
                    assert answer.headers["content-disposition"].startswith("attachment; filename=")
                    assert re.fullmatch(r'attachment; filename="[\w.-]+"', answer.headers["content-disposition"])
                    if answer.headers["content-type"].startswith("text/csv"):
                        rows = csv.reader(io.StringIO(answer.html))
                        wrong += [(path, cell) for row in rows for cell in row if cell[:1] in "=+-@\t\r" and cell]

    assert wrong == []
    assert files > 3
    assert evil > 10


async def test_a_search_takes_wildcards_by_the_letter(doors: Doors) -> None:
    """CVE-2026-25591: no pattern finds what only its letters would."""
    for value in ("%", "_", "ticket%", "ticket-acm_", "*", "ticket-acme' OR '1'='1", "\\"):
        for name in ("trace", "project", "model", "receipt", "task", "credential", "code"):
            seen = await doors.get(f"/portal/activity?{urlencode({name: value})}")
            assert (seen.status, "No calls match" in seen.text) == (200, True), (name, value)
    assert "No calls match" not in (await doors.get("/portal/activity?trace=ticket-acme")).text


# --- candidates


async def test_a_tested_key_stays_where_it_was_tested(doors: Doors) -> None:
    """A sealed key from another visit, field or workspace, one that is too old or changed by a letter: all refused
    alike, and the key that serves goes on."""
    seen = await doors.post("/portal/credentials/openrouter/test", {"key": "sk-or-v1-" + "ab12" * 16})
    sealed = seen.field("candidate", 'name="candidate"')
    assert "ab12ab12" not in seen.html
    before = (await doors.house.again(doors.own.workspace)).credentials["openrouter"].version

    async def save(who: str = "owner", provider: str = "openrouter", text: str = sealed, **more: str) -> int:
        return (await doors.post(f"/portal/credentials/{provider}/save", {"candidate": text, **more}, who)).status

    tries = [await save("admin"), await save(provider="anthropic"), await save(text=sealed[:-6] + "AAAAAA"),
             await save(text="A" * 5_000), await save(text="é"), await save(text=sealed[: len(sealed) // 2])]
    mine = doors.own.secrets["owner"]
    doors.own.secrets["owner"] = doors.other.secrets["owner"]
    tries.append(await save(version="0"))
    doors.own.secrets["owner"] = await enter(doors, doors.own.workspace, "owner")
    tries.append(await save())
    doors.own.secrets["owner"] = mine
    after = (await doors.house.again(doors.own.workspace)).credentials["openrouter"].version
    doors.house.clock.pass_s(601)
    late = await save()

    assert set(tries) == {422}
    assert late == 422
    assert before == after


# --- sizes, and whatever else comes


async def test_requests_out_of_all_proportion(doors: Doors) -> None:
    """Oversized, overlong and broken ones get 400 in words, and change nothing."""
    token = doors.token("owner")
    bodies = [
        b"cap_usd=" + b"9" * 70_000, f"csrf={token}&".encode() + b"a=1&" * 250, f"csrf={token}&cap_usd=%ff".encode(),
        f"csrf={token}&cap_usd=\xff".encode("latin-1"), f"csrf={token}&cap_usd=%ed%a0%80".encode(),
    ]
    seen = [await doors.ask("POST", "/portal/spend/cap", body=body, headers=FORM) for body in bodies]
    seen += [await doors.ask("GET", "/portal/activity", query=query) for query in (
        b"a=1&" * 250, b"task=%ff", b"task=\xff", b"%ed%a0%80=1")]

    assert {one.status for one in seen} == {400}
    assert all("cannot be read" in one.text for one in seen)
    assert (await doors.house.desk.caps.show(doors.own.workspace)).cap_nusd is None


async def test_no_value_of_any_filter_breaks_a_page(doors: Doors) -> None:
    """Each hostile value in each parameter of the pages with filters: an answer in words, never a 500."""
    wrong = []
    names = {"/portal/activity": ("since", "until", "month", "before", "cursor", "receipt", "task", "model", "group"),
             "/portal/activity/calls.csv": ("since", "until", "month"), "/portal/exports": ("since", "until", "month"),
             "/portal/spend": ("month", "by"), "/portal/explain": ("size", "tokens", "model"),
             "/portal/plans": ("since", "returned"), "/portal/why": ("task",)}
    for path, parameters in names.items():
        for name in parameters:
            for value in HOSTILE:
                more = {"returned": "paid"} if path == "/portal/plans" else {}
                seen = await doors.ask("GET", path, query=urlencode({**more, name: value}).encode())
                wrong += [(path, name, value[:40], seen.status)] if seen.status >= 500 else []

    assert wrong == []


async def test_nothing_that_is_sent_ends_in_a_500(busy: Doors) -> None:
    """S12: seeded random queries and forms to every route, as everybody. OWNKEY_FUZZ_S makes it longer."""
    own = (busy.own.receipt, busy.own.project, busy.own.credential, *busy.own.work.values())
    seed = int(os.environ.get("OWNKEY_FUZZ_SEED", "20261122"))
    fuzzer, wrong, asked = Fuzzer(seed, own), [], 0
    until = time.monotonic() + FUZZ_S
    while time.monotonic() < until:
        for route in (*GETS, *POSTS):
            who, names = fuzzer.choice(PEOPLE), names_in(route.handler.__module__)
            path = fill(route.path, busy.own, work=fuzzer.choice(list(busy.own.work)))
            if fuzzer.value()[:1] in "0-9ae.":
                path = re.sub(r"\{\w+\}", lambda _: fuzzer.segment(), route.path)
            query = fuzzer.encoded(names)
            version = await version_now(busy.house, busy.own.workspace, path) or ""
            body = fuzzer.encoded(names, csrf=busy.token(who), version=version)
            seen = await busy.ask(route.method, path, who, body, headers=FORM, query=query)
            asked += 1
            if seen.status >= 500:
                wrong.append((route.method, path, who, query, body, seen.status))

    assert wrong == [], f"seed {seed}"
    assert asked >= len(GETS) + len(POSTS)
