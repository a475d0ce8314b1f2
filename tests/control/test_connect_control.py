"""Connect with OpenRouter, from the first address to the saved key: on the real store and vault."""

import asyncio
import base64
import hashlib
import json
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from tests.control.house import ACTOR, House, open_house

from ownkey.control.connect import ConnectWish, Started
from ownkey.control.key_test import Outcome
from ownkey.control.pace import PaceLimits
from ownkey.control.problems import Problem, ProblemCode
from ownkey.domain.connect import ConnectRules
from ownkey.domain.failures import UpstreamError
from ownkey.domain.records import Actor
from ownkey.domain.workspace import CredentialStatus, WorkspaceState

NEW_KEY = "sk-or-v1-" + "c0ffee11" * 8
OTHER = Actor("service", "tok_other")
CODE = "auth_code_0123456789"


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    async with open_house(tmp_path) as opened:
        opened.upstream.script["/auth/keys"] = (200, {"key": NEW_KEY, "user_id": "user_1"})
        yield opened


async def begin(house: House, workspace: WorkspaceState, **wish: Any) -> tuple[Started, str]:
    """A sign-in and its state, as the browser would carry it."""
    started = await house.desk.connect.start(workspace, ConnectWish(**wish), ACTOR)
    back = parse_qs(urlsplit(started.authorization_url).query)["callback_url"][0]
    return started, parse_qs(urlsplit(back).query)["state"][0]


async def finish(house: House, workspace: WorkspaceState, state: str, code: str = CODE, actor: Actor = ACTOR) -> Any:
    return await house.desk.connect.finish(
        await house.again(workspace), state, code, address="192.0.2.1", actor=actor
    )


async def refused(work: Any) -> Problem:
    with pytest.raises(Problem) as caught:
        await work
    return caught.value


async def test_a_sign_in_ends_with_a_saved_and_tested_key(house: House) -> None:
    """O2, T7: the code becomes a key that is sealed, checked, live-tested, audited, and in force for the next call."""
    workspace = await house.workspace()
    started, state = await begin(house, workspace, label="Acme's account", limit_usd="25", limit_reset="monthly")
    asked = parse_qs(urlsplit(started.authorization_url).query)

    connected = await finish(house, workspace, state)

    sent = next(request for request in house.upstream.sent if request.path == "/auth/keys")
    body = json.loads(sent.body)
    challenge = base64.urlsafe_b64encode(hashlib.sha256(body["code_verifier"].encode()).digest()).rstrip(b"=").decode()
    after = await house.again(workspace)
    audit = await house.store.load_audit(workspace.id, limit=20)
    assert started.authorization_url.startswith("https://openrouter.test/auth?")
    assert asked["callback_url"] == [f"https://ownkey.test/connect/openrouter/callback?state={state}"]
    assert asked["code_challenge"] == [challenge]
    assert asked["code_challenge_method"] == ["S256"]
    assert (asked["key_label"], asked["limit"], asked["usage_limit_type"]) == (["Acme's account"], ["25"], ["monthly"])
    assert body == {"code": CODE, "code_verifier": body["code_verifier"], "code_challenge_method": "S256"}
    assert sent.credential is None
    assert connected.saved.message == "OpenRouter API key saved successfully."
    assert connected.test.outcome is Outcome.WORKS
    assert connected.test.receipt is not None
    assert after.credentials["openrouter"].hint == "sk-or-…ee11"
    assert after.credentials["openrouter"].label == "Acme's account"
    assert {"connect.started", "credential.saved"} <= {row["action"] for row in audit}


async def test_nothing_secret_is_in_the_database(house: House) -> None:
    """Neither state, verifier, code nor key is there in plain, before and after; the verifier leaves with its use."""
    workspace = await house.workspace()
    _, state = await begin(house, workspace)
    before = _stored(house)
    await finish(house, workspace, state)
    verifier = json.loads(next(r for r in house.upstream.sent if r.path == "/auth/keys").body)["code_verifier"]
    await house.store._scrub()

    for text in (state, verifier, CODE, NEW_KEY, NEW_KEY[20:50]):
        assert text.encode() not in before
        assert text.encode() not in _stored(house)
    assert house.store._near.execute(
        "SELECT length(salt) + length(nonce) + length(ciphertext) FROM pending_connect").fetchone() == (0,)


def _stored(house: House) -> bytes:
    return b"".join(path.read_bytes() for path in house.folder.glob("ownkey.db*"))


async def test_a_sign_in_works_once(house: House) -> None:
    """A replay does nothing: no request, no new version, a code of its own; also when both come at once."""
    workspace = await house.workspace()
    _, state = await begin(house, workspace)
    both = await asyncio.gather(
        finish(house, workspace, state), finish(house, workspace, state), return_exceptions=True
    )
    again = await refused(finish(house, workspace, state))
    shown = await house.desk.connect.finish_in_browser(state, CODE)

    losers = [one for one in both if isinstance(one, Problem)]
    assert [one.code for one in losers] == [ProblemCode.CONNECT_USED]
    assert again.code is ProblemCode.CONNECT_USED
    assert shown.problem is not None
    assert shown.problem.code is ProblemCode.CONNECT_USED
    assert sum(request.path == "/auth/keys" for request in house.upstream.sent) == 1
    assert (await house.again(workspace)).credentials["openrouter"].version == 1


async def test_ten_minutes_are_the_end_of_it(house: House) -> None:
    """A moment before they are over it works; then it has expired and the code is not sent anywhere."""
    workspace = await house.workspace()
    _, in_time = await begin(house, workspace)
    house.clock.pass_s(599)
    await finish(house, workspace, in_time)
    _, late = await begin(house, workspace)
    house.clock.pass_s(600)

    assert (await refused(finish(house, workspace, late))).code is ProblemCode.CONNECT_EXPIRED
    assert sum(request.path == "/auth/keys" for request in house.upstream.sent) == 1


async def test_a_state_is_bound_to_its_workspace_and_its_principal(house: House) -> None:
    """Another workspace, another token, an invented state and none: one answer, and the sign-in stays usable."""
    workspace, other = await house.workspace(), await house.workspace("Other")
    _, state = await begin(house, workspace)

    problems = [
        await refused(finish(house, other, state)), await refused(finish(house, workspace, state, actor=OTHER)),
        await refused(finish(house, workspace, "A" * 43)), await refused(finish(house, workspace, "")),
        await refused(finish(house, workspace, "' OR 1=1 --")),
    ]
    assert {(p.code, p.message, p.fix) for p in problems} == {
        (ProblemCode.CONNECT_UNKNOWN, "This sign-in was not begun here.", "Start connecting again.")}
    assert (await finish(house, workspace, state)).saved.view.provider == "openrouter"


async def test_a_revoked_token_takes_its_sign_ins_along(house: House) -> None:
    """Whoever lost the right to save keys cannot have one saved by a browser that comes back later."""
    from ownkey.control.tokens import NewToken

    workspace = await house.workspace()
    made = await house.desk.tokens.create(None, NewToken("host", frozenset({"manage"})), ACTOR)
    actor = Actor("service", made.row.token_id)
    started = await house.desk.connect.start(workspace, ConnectWish(), actor)
    back = parse_qs(urlsplit(started.authorization_url).query)["callback_url"][0]
    await house.desk.tokens.revoke(None, made.row.token_id, ACTOR)

    end = await house.desk.connect.finish_in_browser(parse_qs(urlsplit(back).query)["state"][0], CODE)

    assert end.connected is None
    assert "openrouter" not in (await house.again(workspace)).credentials


@pytest.mark.parametrize(("answer", "code"), [
    ((400, {"error": {"code": 400, "message": "Invalid code_challenge_method"}}), ProblemCode.CONNECT_REFUSED),
    ((403, {"error": {"code": 403, "message": "Invalid code or code_verifier"}}), ProblemCode.CONNECT_REFUSED),
    ((404, b"not here"), ProblemCode.CONNECT_REFUSED),
    ((405, {}), ProblemCode.CONNECT_REFUSED),
    ((429, {}), ProblemCode.CONNECT_UNREACHABLE),
    ((500, b"<html>"), ProblemCode.CONNECT_UNREACHABLE),
    ((302, b""), ProblemCode.CONNECT_REFUSED),
    ((200, b"<html>"), ProblemCode.CONNECT_UNREACHABLE),
    ((200, b"[" * 5_000), ProblemCode.CONNECT_UNREACHABLE),
    ((200, {"key": 7}), ProblemCode.CONNECT_UNREACHABLE),
    ((200, {"key": ""}), ProblemCode.CONNECT_UNREACHABLE),
    ((200, ["sk-or-v1-x"]), ProblemCode.CONNECT_UNREACHABLE),
    ((200, {"key": "sk-ant-api03-" + "q" * 40}), ProblemCode.CREDENTIAL_WRONG_KIND),
    (UpstreamError("refused", sent=False, received=False), ProblemCode.CONNECT_UNREACHABLE),
    (UpstreamError("no head", sent=True, received=False, timeout=True), ProblemCode.CONNECT_UNREACHABLE),
], ids=lambda value: str(value)[:40])
async def test_an_exchange_that_fails_saves_nothing_and_is_over(house: House, answer: Any, code: ProblemCode) -> None:
    """Every failure has a code, a sentence and a fix, leaves an older key in service, and is audited by its code."""
    workspace = await house.with_key()
    _, state = await begin(house, workspace)
    house.upstream.script["/auth/keys"] = answer

    problem = await refused(finish(house, workspace, state))
    again = await refused(finish(house, workspace, state))

    audit = await house.store.load_audit(workspace.id, limit=20)
    failed = [row["after"] for row in audit if row["action"] == "connect.failed"]
    assert problem.code is code
    assert problem.fix
    assert CODE not in problem.message + problem.fix
    assert again.code is ProblemCode.CONNECT_USED
    assert (await house.again(workspace)).credentials["openrouter"].version == 1
    assert len(failed) == 1
    assert code.value in str(failed[0])


async def test_a_person_may_change_their_mind(house: House) -> None:
    """No code came back: nothing was sent, nothing saved, and that sign-in is over."""
    workspace = await house.workspace()
    _, state = await begin(house, workspace)

    assert (await refused(finish(house, workspace, state, ""))).code is ProblemCode.CONNECT_CANCELLED
    assert (await refused(finish(house, workspace, state))).code is ProblemCode.CONNECT_USED
    assert [request.path for request in house.upstream.sent] == []


@pytest.mark.parametrize("code", ["x" * 1_025, "kök", "a\nb", "a\x00b"])
async def test_a_code_that_is_none_is_sent_nowhere(house: House, code: str) -> None:
    """What a browser brings is not trusted to be a code."""
    workspace = await house.workspace()
    _, state = await begin(house, workspace)

    assert (await refused(finish(house, workspace, state, code))).code is ProblemCode.CONNECT_REFUSED
    assert house.upstream.sent == []


async def test_a_disabled_key_comes_back_into_service(house: House) -> None:
    """G25-G27: connecting again after a switch-off is the way back, and counts the version up."""
    workspace = await house.with_key()
    await house.desk.credentials.set_enabled(workspace, "openrouter", False, ACTOR)
    _, state = await begin(house, workspace)

    connected = await finish(house, workspace, state)

    credential = (await house.again(workspace)).credentials["openrouter"]
    assert connected.saved.replaced
    assert (credential.status, credential.version) == (CredentialStatus.ENABLED, 2)


async def test_a_key_is_kept_when_the_provider_falls_silent_behind_the_exchange(house: House) -> None:
    """OpenRouter shows a key once: unverified and saved is better than lost."""
    workspace = await house.workspace()
    _, state = await begin(house, workspace)
    house.upstream.script["/key"] = UpstreamError("reset", sent=True, received=False)

    connected = await finish(house, workspace, state)

    assert connected.saved.message == "OpenRouter API key saved, unverified."
    assert connected.test.outcome is Outcome.UNREACHABLE


async def test_connecting_tries_out_no_keys(tmp_path: Path) -> None:
    """The limits of Test do not lose a key that was made a moment ago; only its Test waits then."""
    async with open_house(tmp_path, pace=PaceLimits(per_minute=1, per_day=30, keys_per_day=10)) as house:
        house.upstream.script["/auth/keys"] = (200, {"key": NEW_KEY})
        workspace = await house.with_key()
        _, state = await begin(house, workspace)

        connected = await finish(house, workspace, state)

        assert connected.test is None
        assert connected.test_problem
        assert (await house.again(workspace)).credentials["openrouter"].version == 2


@pytest.mark.parametrize(("wish", "param"), [
    ({"limit_usd": "a lot"}, "limit_usd"), ({"limit_usd": "0"}, "limit_usd"), ({"limit_usd": "-1"}, "limit_usd"),
    ({"limit_usd": "NaN"}, "limit_usd"), ({"limit_usd": "1.005"}, "limit_usd"), ({"limit_usd": "1e9"}, "limit_usd"),
    ({"limit_usd": "1e-999999"}, "limit_usd"), ({"limit_usd": "1e999999"}, "limit_usd"),
    ({"limit_reset": "monthly"}, "limit_reset"), ({"limit_usd": "1", "limit_reset": "yearly"}, "limit_reset"),
    ({"expires_at": "soon"}, "expires_at"), ({"expires_at": "2020-01-01T00:00:00Z"}, "expires_at"),
    ({"expires_at": "2030-01-01T00:00:00"}, "expires_at"),
    ({"callback_url": "https://evil.test/back"}, "callback_url"),
    ({"callback_url": "http://10.0.0.1/back"}, "callback_url"),
    ({"return_url": "https://evil.test/"}, "return_url"),
    ({"return_url": "https://app.test/settings/ai#x"}, "return_url"),
    ({"label": NEW_KEY}, "label"),
], ids=str)
async def test_a_wish_that_cannot_be_kept_is_refused_by_name(house: House, wish: Any, param: str) -> None:
    """Nothing is begun with a bad address, amount or time."""
    problem = await refused(house.desk.connect.start(await house.workspace(), ConnectWish(**wish), ACTOR))

    assert (problem.code, problem.param) == (ProblemCode.INVALID, param)
    assert house.store._near.execute("SELECT count(*) FROM pending_connect").fetchone() == (0,)


@pytest.mark.parametrize(("url", "kept"), [
    ("http://localhost:51234/callback", True), ("http://127.0.0.1:1/cb", True),
    ("https://app.test/settings/ai?tab=1", True),
])
async def test_the_callback_may_be_a_listener_or_the_products_own_page(house: House, url: str, kept: bool) -> None:
    """A command line listens on this machine; a product may want to check its own session first."""
    started = await house.desk.connect.start(await house.workspace(), ConnectWish(callback_url=url), ACTOR)

    assert (started.callback_url == url) is kept


async def test_a_server_without_an_address_says_so(tmp_path: Path) -> None:
    """No public_url: a callback must be named."""
    rules = ConnectRules(auth_url="https://openrouter.test/auth")
    async with open_house(tmp_path, rules=rules) as house:
        problem = await refused(house.desk.connect.start(await house.workspace(), ConnectWish(), ACTOR))

        assert problem.param == "callback_url"
        assert "public_url" in problem.fix


RETURN = "https://app.test/settings/ai?tab=keys"


@pytest.mark.parametrize(("prepare", "way_back"), [
    (lambda house: None, RETURN + "&ownkey_connect=saved"),
    (lambda house: house.clock.pass_s(601), RETURN + "&ownkey_connect=failed&ownkey_code=connect_expired"),
    (lambda house: house.upstream.script.update({"/auth/keys": (403, {})}),
     RETURN + "&ownkey_connect=failed&ownkey_code=connect_refused"),
], ids=["saved", "expired", "refused"])
async def test_the_browser_goes_back_to_the_product(
    house: House, prepare: Callable[[House], None], way_back: str
) -> None:
    """The product's page learns how it ended, by a code, and nothing else."""
    workspace = await house.workspace()
    _, state = await begin(house, workspace, return_url=RETURN)
    prepare(house)

    end = await house.desk.connect.finish_in_browser(state, CODE)

    assert end.return_url == way_back


async def test_a_page_that_was_taken_off_the_list_is_not_returned_to(house: House) -> None:
    """The list counts when the browser is sent, not when the sign-in began: the operator may have restarted."""
    workspace = await house.workspace()
    _, state = await begin(house, workspace, return_url=RETURN)
    house.desk.connect._rules = ConnectRules("https://ownkey.test", (), "https://openrouter.test/auth")
    house.desk.connect._pages = ()

    end = await house.desk.connect.finish_in_browser(state, CODE)

    assert end.connected is not None
    assert end.return_url is None


async def test_old_sign_ins_are_forgotten_and_go_with_their_workspace(house: House) -> None:
    """A day after their end there is no row left; a deleted workspace leaves none at once."""
    workspace, other = await house.workspace(), await house.workspace("Other")
    await begin(house, workspace)
    await begin(house, other)
    await house.desk.workspaces.delete(other, ACTOR)
    kept = house.store._near.execute("SELECT count(*) FROM pending_connect").fetchone()
    house.clock.pass_s(86_400 + 601)
    await house.store.forget_connects(house.clock.now_ms())

    assert kept == (1,)
    assert house.store._near.execute("SELECT count(*) FROM pending_connect").fetchone() == (0,)
