"""The host product of the demo: who may ask it for a session, and what it asks of Ownkey."""

import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import httpx
import pytest

from ownkey.emulator.host_site import COOKIE, PEOPLE, Host, Site
from ownkey.emulator.server import Server

CODE = "c" * 43


@dataclass
class Stage:
    """The host, a browser at it, and what its backend has asked of Ownkey."""

    site: Site
    http: httpx.AsyncClient
    asked: list[dict[str, Any]] = field(default_factory=list)
    answer: int = 201

    async def sign_in(self, person: str) -> httpx.Response:
        return await self.http.post("/sign-in", data={"person": person, "next": "/ai"})

    async def refresh(self, **headers: str) -> httpx.Response:
        kind = {"content-type": "application/json"}
        return await self.http.post("/ai/session", content="{}", headers={**kind, **headers})


@pytest.fixture
async def stage() -> AsyncIterator[Stage]:
    def ownkey(request: httpx.Request) -> httpx.Response:
        made.asked.append({"path": request.url.path, "token": request.headers["authorization"],
                           **json.loads(request.content)})
        if made.answer >= 300:
            return httpx.Response(made.answer, json={"error": {"message": "The role is unknown."}})
        return httpx.Response(201, json={"url": f"https://ownkey.test/portal/enter?code={CODE}", "code": CODE})

    site = Site(ownkey_url="https://ownkey.test", token="ok_secret", workspace="ws_1", company="<Acme>")
    async with httpx.AsyncClient(transport=httpx.MockTransport(ownkey)) as outward:
        server = Server(Host(site, outward).handle)
        site.url = f"http://127.0.0.1:{await server.listen('127.0.0.1', 0)}"
        async with httpx.AsyncClient(base_url=site.url, trust_env=False) as http:
            made = Stage(site, http)
            yield made
        await server.close()


@pytest.mark.parametrize("person", list(PEOPLE))
async def test_a_person_gets_the_frame_in_their_own_role(stage: Stage, person: str) -> None:
    """Role, name and address come from the host's own sign-in, never from the browser."""
    await stage.sign_in(person)
    page = await stage.http.get("/ai?role=owner&member=ada")
    [asked] = stage.asked

    assert asked["path"] == "/manage/v1/workspaces/ws_1/portal-sessions"
    assert (asked["role"], asked["member"]["email"]) == (PEOPLE[person].role, PEOPLE[person].email)
    assert (asked["mode"], asked["token"]) == ("frame", "Bearer ok_secret")
    assert f"code={CODE}" in page.text
    assert "ok_secret" not in page.text
    assert "&lt;Acme&gt;" in page.text
    assert "<Acme>" not in page.text


async def test_it_bears_the_names_that_it_is_told(stage: Stage) -> None:
    """The product's name and the customer's are those that Ownkey's own pages show beside it; nothing else is taken."""
    assert stage.site.tell({"product": "Forge & Sons", "company": "Greta's workshop", "preset": "app-builder"}) == ""
    refused = stage.site.tell({"product": 7})
    home = (await stage.http.get("/")).text
    signing_in = (await stage.http.get("/sign-in")).text

    assert "product" in refused
    assert "<h1>Forge &amp; Sons</h1>" in home
    assert "Pocket Forge" not in home + signing_in
    assert "Who are you at Greta&#x27;s workshop?" in signing_in


async def test_page_mode_goes_straight_to_the_link_with_its_flow(stage: Stage) -> None:
    """A fix in an error or an e-mail leads through the host, which knows who this is."""
    before = await stage.http.get("/ai/open?flow=credential:openrouter")
    await stage.sign_in("ben")
    sent = await stage.http.get("/ai/open?flow=credential:openrouter")

    assert before.headers["location"] == "/sign-in?next=%2Fai%2Fopen%3Fflow%3Dcredential%3Aopenrouter"
    assert sent.headers["location"] == f"https://ownkey.test/portal/enter?code={CODE}"
    assert (stage.asked[0]["mode"], stage.asked[0]["flow"]) == ("page", "credential:openrouter")


async def test_a_new_session_is_only_for_whoever_is_signed_in_here(stage: Stage) -> None:
    """No cookie, another site, or a plain form: no session is asked for."""
    nobody = await stage.refresh()
    await stage.sign_in("cho")
    foreign = await stage.refresh(origin="https://evil.example")
    form = await stage.http.post("/ai/session", data={"a": "b"})
    own = await stage.refresh(origin=stage.site.url)

    assert [nobody.status_code, foreign.status_code, form.status_code, own.status_code] == [401, 403, 403, 200]
    assert own.json() == {"code": CODE}
    assert len(stage.asked) == 1


async def test_a_refusal_of_ownkey_is_shown_and_its_words_are_escaped(stage: Stage) -> None:
    """A backend on a bad day shows a page, not a stack."""
    await stage.sign_in("ada")
    stage.answer = 400
    page = await stage.http.get("/ai")

    assert "The role is unknown." in page.text
    assert "<ownkey-portal" not in page.text
    stage.site.refusing = True
    assert (await stage.refresh()).status_code == 502


async def test_the_control_api_takes_what_it_knows_from_no_browser(stage: Stage) -> None:
    """Where Ownkey is can only be said by whoever started the site."""
    good = await stage.http.post("/_control", json={"workspace": "ws_2", "ttl_s": 90})
    bad: list[Any] = [{"workspace": 1}, {"url": "x"}, [], {"preset": "x"}]
    wrong = [await stage.http.post("/_control", json=body) for body in bad]
    foreign = await stage.http.post("/_control", json={"workspace": "ws_3"}, headers={"origin": "https://evil.example"})

    assert good.json()["workspace"] == "ws_2"
    assert "token" not in good.json()
    assert {answer.status_code for answer in wrong} == {400}
    assert (foreign.status_code, stage.site.workspace) == (403, "ws_2")


async def test_signing_out_ends_the_visit(stage: Stage) -> None:
    """The cookie alone opens nothing afterwards."""
    await stage.sign_in("dee")
    cookie = stage.http.cookies[COOKIE]
    await stage.http.post("/sign-out")
    again = await stage.http.get("/ai", headers={"cookie": f"{COOKIE}={cookie}"})

    assert again.status_code == 303
    assert stage.site.visits == {}
