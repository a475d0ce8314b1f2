"""Links and visits: one use, sixty seconds, a role and pages that nothing widens, and an end that counts at once."""

import asyncio
import re
from collections.abc import AsyncIterator, Awaitable
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from tests.control.house import ACTOR, PORTAL, RULES, House, open_house

from ownkey.control.own_address import OwnAddress
from ownkey.control.portal_sessions import Minted, PortalSessionControl, PortalWish, secret_digest
from ownkey.control.problems import Problem, ProblemCode
from ownkey.domain.connect import ConnectRules
from ownkey.domain.portal import LISTED, Page
from ownkey.domain.records import Actor
from ownkey.domain.workspace import Role, WorkspaceState

RETURN = "https://app.test/settings/ai"
REFRESH = "https://app.test/ownkey/session"
WISH = PortalWish(member_id="u1", email="ada@example.com", role=Role.OWNER, mode="page", name="Ada", return_url=RETURN)


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    async with open_house(tmp_path) as opened:
        yield opened


@pytest.fixture
async def workspace(house: House) -> WorkspaceState:
    return await house.workspace()


@pytest.fixture
def sessions(house: House) -> PortalSessionControl:
    return house.desk.portal_sessions


async def refused(call: Awaitable[Any]) -> Problem:
    with pytest.raises(Problem) as error:
        await call
    return error.value


async def audit(house: House, workspace: WorkspaceState) -> list[tuple[str, str, Any]]:
    """(action, actor, after) of what concerns visits and members, oldest first."""
    rows = await house.desk.audit.list(workspace, 200)
    return [
        (row["action"], f"{row['actor_kind']}:{row['actor_id']}", row["after"])
        for row in reversed(rows) if row["action"].startswith(("portal.", "member."))
    ]


async def test_from_link_to_session(house: House, sessions: PortalSessionControl, workspace: WorkspaceState) -> None:
    """X5: the host's word about a person becomes a link, the link a session with exactly that."""
    minted = await sessions.mint(
        workspace, replace(WISH, flow="cap", theme="dark", locale="pt-BR", pages=["spend", "credentials"]), ACTOR)
    now = house.clock.now_ms()
    entered = await sessions.enter(minted.code, mode="page")
    session = entered.session

    assert urlsplit(minted.url)._replace(query="").geturl() == "https://ownkey.test/portal/enter"
    assert parse_qs(urlsplit(minted.url).query) == {"code": [minted.code]}
    assert (minted.code_expires_at_ms - now, minted.session_expires_at_ms - now) == (60_000, 900_000)
    assert (session.id, session.workspace_id) == (minted.session_id, workspace.id)
    assert (session.member_id, session.member_name, session.member_email) == ("u1", "Ada", "ada@example.com")
    assert (session.role, session.mode, session.kind) == (Role.OWNER, "page", "member")
    assert session.pages == (Page.CREDENTIALS, Page.SPEND)
    assert (session.flow, session.theme, session.locale, session.return_url) == ("cap", "dark", "pt-BR", RETURN)
    assert await sessions.find(entered.secret) == session


async def test_codes_and_secrets_are_256_bits_and_never_printed(
    sessions: PortalSessionControl, workspace: WorkspaceState
) -> None:
    """Web-safe base64 of 32 bytes, different each time, absent from what a log or a debugger would show."""
    first, second = [await sessions.mint(workspace, WISH, ACTOR) for _ in range(2)]
    entered = await sessions.enter(first.code)

    assert len({first.code, second.code, entered.secret}) == 3
    assert all(re.fullmatch(r"[A-Za-z0-9_-]{43}", text) for text in (first.code, second.code, entered.secret))
    assert first.code not in f"{first!r}{first}"
    assert entered.secret not in f"{entered!r}{entered}"


@pytest.mark.parametrize("code", ["", "x", "A" * 43, "A" * 44, "é" * 43, "A" * 42 + "\n", "../" * 20, "A" * 100_000])
async def test_an_unknown_code(sessions: PortalSessionControl, code: str) -> None:
    """Whatever its form: one answer."""
    assert (await refused(sessions.enter(code))).code is ProblemCode.LINK_UNKNOWN


async def test_a_code_opens_once(sessions: PortalSessionControl, workspace: WorkspaceState) -> None:
    """The second use is refused, and the session of the first goes on."""
    minted = await sessions.mint(workspace, WISH, ACTOR)
    entered = await sessions.enter(minted.code)

    assert (await refused(sessions.enter(minted.code))).code is ProblemCode.LINK_USED
    assert await sessions.find(entered.secret) is not None


async def test_fifty_at_once_and_one_gets_in(
    house: House, sessions: PortalSessionControl, workspace: WorkspaceState
) -> None:
    """A race over one code has one winner, and one row in the audit log."""
    minted = await sessions.mint(workspace, WISH, ACTOR)
    ends = await asyncio.gather(*(sessions.enter(minted.code) for _ in range(50)), return_exceptions=True)
    problems = [end for end in ends if isinstance(end, Problem)]

    assert len(problems) == 49
    assert {problem.code for problem in problems} == {ProblemCode.LINK_USED}
    assert [action for action, _, _ in await audit(house, workspace)].count("portal.entered") == 1


@pytest.mark.parametrize(("seconds", "opens"), [(59.9, True), (60, False), (3_600, False)])
async def test_a_code_lives_for_a_minute(
    house: House, sessions: PortalSessionControl, workspace: WorkspaceState, seconds: float, opens: bool
) -> None:
    """Not a millisecond longer."""
    minted = await sessions.mint(workspace, replace(WISH, ttl_s=3_600), ACTOR)
    house.clock.pass_s(seconds)

    if opens:
        assert (await sessions.enter(minted.code)).session.id == minted.session_id
    else:
        assert (await refused(sessions.enter(minted.code))).code is ProblemCode.LINK_EXPIRED


@pytest.mark.parametrize(("made", "came"), [("page", "frame"), ("frame", "page")])
async def test_the_wrong_way_in_uses_nothing_up(
    sessions: PortalSessionControl, workspace: WorkspaceState, made: Any, came: Any
) -> None:
    """A link for a frame that is opened as a page, and the other way round, still opens where it should."""
    minted = await sessions.mint(workspace, replace(WISH, mode=made), ACTOR)
    problem = await refused(sessions.enter(minted.code, mode=came))

    assert problem.code is ProblemCode.LINK_WRONG_MODE
    assert "not used up" in problem.message
    assert (await sessions.enter(minted.code, mode=made)).session.mode == made


async def test_a_session_has_an_end_that_nothing_moves(
    house: House, sessions: PortalSessionControl, workspace: WorkspaceState
) -> None:
    """Counted from the mint; being used does not extend it, a new link is another session."""
    minted = await sessions.mint(workspace, replace(WISH, ttl_s=120), ACTOR)
    house.clock.pass_s(50)
    entered = await sessions.enter(minted.code)
    house.clock.pass_s(69.9)
    last = await sessions.find(entered.secret)
    again = await sessions.enter((await sessions.mint(workspace, WISH, ACTOR)).code)
    house.clock.pass_s(0.1)

    assert last is not None
    assert await sessions.find(entered.secret) is None
    assert await sessions.find(again.secret) is not None


@pytest.mark.parametrize(("ttl_s", "good"), [(59, False), (60, True), (3_600, True), (3_601, False), (-1, False)])
async def test_how_long_a_host_may_ask_for(
    sessions: PortalSessionControl, workspace: WorkspaceState, ttl_s: int, good: bool
) -> None:
    """An hour at most, whatever is asked for."""
    if good:
        await sessions.mint(workspace, replace(WISH, ttl_s=ttl_s), ACTOR)
    else:
        assert (await refused(sessions.mint(workspace, replace(WISH, ttl_s=ttl_s), ACTOR))).param == "ttl_s"


async def test_a_code_never_outlives_its_session(tmp_path: Path) -> None:
    """Even where the product's sessions are as short as links."""
    async with open_house(tmp_path, portal=replace(PORTAL, session_s=60)) as house:
        minted = await house.desk.portal_sessions.mint(await house.workspace(), WISH, ACTOR)

        assert minted.code_expires_at_ms <= minted.session_expires_at_ms


# --- what is asked for


@pytest.mark.parametrize(("wrong", "param"), [
    ({"member_id": ""}, "member.id"),
    ({"member_id": "a b"}, "member.id"),
    ({"email": "ada"}, "member.email"),
    ({"email": "ada@example.com, eve@example.com"}, "member.email"),
    ({"email": "sk-or-v1-0123456789abcdef@example.com"}, "member.email"),
    ({"name": "sk-ant-api03-0123456789abcdef"}, "member.name"),
    ({"name": "a\x07b"}, "member.name"),
    ({"pages": ["plans"]}, "pages"),
    ({"pages": ["credentials", "calls"]}, "pages"),
    ({"flow": "keys"}, "flow"),
    ({"flow": "receipt:../console"}, "flow"),
    ({"locale": "en_US"}, "locale"),
    ({"return_url": "https://evil.test/"}, "return_url"),
    ({"return_url": "https://app.test.evil.test/settings/ai"}, "return_url"),
    ({"return_url": "javascript:alert(1)"}, "return_url"),
    ({"refresh_url": RETURN}, "refresh_url"),
    ({"refresh_url": "http://app.test/ownkey/session"}, "refresh_url"),
])
async def test_what_a_host_may_not_say(tmp_path: Path, wrong: dict[str, Any], param: str) -> None:
    """Each with the field at fault, and nothing is made."""
    rules = replace(PORTAL, pages=(Page.CREDENTIALS, Page.SPEND))
    async with open_house(tmp_path, portal=rules) as house:
        workspace, sessions = await house.workspace(), house.desk.portal_sessions
        problem = await refused(sessions.mint(workspace, replace(WISH, **wrong), ACTOR))

        assert (problem.code, problem.param) == (ProblemCode.INVALID, param)
        assert problem.fix
        assert not await sessions.list(workspace)
        assert not await house.desk.members.list(workspace)


async def test_pages_are_only_ever_fewer(tmp_path: Path) -> None:
    """A session asks for less than the product lists, in the product's order; none of its own is no session."""
    async with open_house(tmp_path, portal=replace(PORTAL, pages=LISTED)) as house:
        workspace, sessions = await house.workspace(), house.desk.portal_sessions
        usual = await sessions.enter((await sessions.mint(workspace, WISH, ACTOR)).code)
        few = await sessions.enter((await sessions.mint(
            workspace, replace(WISH, pages=["activity", "spend", "activity"]), ACTOR)).code)
        nothing = await refused(sessions.mint(workspace, replace(WISH, role=Role.MEMBER, pages=["plans"]), ACTOR))

        assert usual.session.pages == LISTED
        assert few.session.pages == (Page.SPEND, Page.ACTIVITY)
        assert nothing.param == "pages"


async def test_a_frame_needs_a_site_that_may_frame(tmp_path: Path) -> None:
    """The origin is the one that the person goes back to; it is never guessed among several."""
    two = replace(PORTAL, origins=("https://app.test", "https://eu.app.test"))
    (tmp_path / "two").mkdir()
    async with open_house(tmp_path, portal=replace(PORTAL, origins=())) as house:
        none = await refused(house.desk.portal_sessions.mint(
            await house.workspace(), replace(WISH, mode="frame"), ACTOR))
    async with open_house(tmp_path / "two", portal=two) as house:
        workspace, sessions = await house.workspace(), house.desk.portal_sessions
        framed = replace(WISH, mode="frame")
        named = await sessions.enter((await sessions.mint(workspace, framed, ACTOR)).code)
        open_ = await refused(sessions.mint(workspace, replace(framed, return_url=""), ACTOR))
        by_refresh = await sessions.enter((await sessions.mint(
            workspace, replace(framed, return_url="", refresh_url=REFRESH), ACTOR)).code)
        page = await sessions.enter((await sessions.mint(workspace, WISH, ACTOR)).code)

    assert none.param == "mode"
    assert "[portal]" in none.fix
    assert named.session.origin == by_refresh.session.origin == "https://app.test"
    assert open_.param == "return_url"
    assert page.session.origin == ""


async def test_a_server_without_an_address_says_so(tmp_path: Path) -> None:
    """Nothing is made that nobody could open; from the moment it listens, its own address on loopback will do."""
    async with open_house(tmp_path, rules=replace(RULES, public_url="")) as house:
        workspace, sessions = await house.workspace(), house.desk.portal_sessions
        problem = await refused(sessions.mint(workspace, WISH, ACTOR))
        before = await sessions.list(workspace)
        sessions.address.listens_at("http://127.0.0.1:8787")
        minted = await sessions.mint(workspace, WISH, ACTOR)

        assert "public_url" in problem.fix
        assert not before
        assert minted.url.startswith("http://127.0.0.1:8787/portal/enter?code=")


@pytest.mark.parametrize(("public", "listening", "origins"), [
    ("", "", set()),
    ("https://Own.example.com:443/ai", "", {"https://own.example.com"}),
    ("", "http://127.0.0.1:8787", {"http://127.0.0.1:8787", "http://localhost:8787"}),
    ("https://own.example.com", "http://127.0.0.1:80",
     {"https://own.example.com", "http://127.0.0.1", "http://localhost"}),
    ("", "http://[::1]:8787", {"http://[::1]:8787"}),
])
def test_the_origins_of_this_server(public: str, listening: str, origins: set[str]) -> None:
    """What a request from these pages may call itself; a Host header has no say."""
    address = OwnAddress(ConnectRules(public_url=public).public_url)
    if listening:
        address.listens_at(listening)

    assert address.origins == origins
    assert address.url == (public or listening)


# --- ends


async def test_revoking_counts_at_once(house: House, sessions: PortalSessionControl, workspace: WorkspaceState) -> None:
    """S7: one session, by its id; others of the same person go on. A second time there is nothing to end."""
    first, second = [await sessions.enter((await sessions.mint(workspace, WISH, ACTOR)).code) for _ in range(2)]
    assert await sessions.find(first.secret) is not None
    await sessions.revoke(workspace, first.session.id, ACTOR)

    assert await sessions.find(first.secret) is None
    assert await sessions.find(second.secret) is not None
    assert (await refused(sessions.revoke(workspace, first.session.id, ACTOR))).code is ProblemCode.NOT_FOUND
    assert (await audit(house, workspace))[-1] == (
        "portal.ended", "service:tok_test", {"reason": "revoked", "count": 1, "sessions": [first.session.id]})


async def test_revoking_a_link_that_nobody_opened(sessions: PortalSessionControl, workspace: WorkspaceState) -> None:
    """It opens nothing any more."""
    minted = await sessions.mint(workspace, WISH, ACTOR)
    await sessions.revoke(workspace, minted.session_id, ACTOR)

    assert (await refused(sessions.enter(minted.code))).code is ProblemCode.LINK_EXPIRED


async def test_revoking_a_person(sessions: PortalSessionControl, workspace: WorkspaceState) -> None:
    """All of theirs, links included, and nobody else's: not another's, nor an operator's of the same id."""
    mine = [await sessions.enter((await sessions.mint(workspace, WISH, ACTOR)).code) for _ in range(2)]
    waiting = await sessions.mint(workspace, WISH, ACTOR)
    other = await sessions.enter((await sessions.mint(
        workspace, replace(WISH, member_id="u2", email="bo@example.com"), ACTOR)).code)
    operator = await sessions.enter((await sessions.view_as(workspace, Actor("operator", "u1"))).code)

    assert await sessions.revoke_member(workspace, "u1", ACTOR) == 3
    assert [await sessions.find(one.secret) for one in mine] == [None, None]
    assert (await refused(sessions.enter(waiting.code))).code is ProblemCode.LINK_EXPIRED
    assert await sessions.find(other.secret) is not None
    assert await sessions.find(operator.secret) is not None
    assert await sessions.revoke_member(workspace, "u1", ACTOR) == 0


async def test_another_workspaces_session_is_not_there(
    house: House, sessions: PortalSessionControl, workspace: WorkspaceState
) -> None:
    """Neither listed nor ended from elsewhere; the same person in two workspaces is two."""
    other = await house.workspace("Other")
    here = await sessions.enter((await sessions.mint(workspace, WISH, ACTOR)).code)
    there = await sessions.enter((await sessions.mint(other, WISH, ACTOR)).code)

    assert (await refused(sessions.revoke(other, here.session.id, ACTOR))).code is ProblemCode.NOT_FOUND
    assert await sessions.revoke_member(other, "u1", ACTOR) == 1
    assert await sessions.find(here.secret) is not None
    assert await sessions.find(there.secret) is None
    assert [row.session.id for row in await sessions.list(workspace)] == [here.session.id]


@pytest.mark.parametrize("how", ["mint", "save", "delete"])
async def test_another_role_ends_the_sessions_of_the_old_one(
    house: House, sessions: PortalSessionControl, workspace: WorkspaceState, how: str
) -> None:
    """S7: an owner who is a viewer from now on is one at once, in every tab; so is a member who was removed."""
    old = await sessions.enter((await sessions.mint(workspace, WISH, ACTOR)).code)
    waiting = await sessions.mint(workspace, WISH, ACTOR)
    match how:
        case "mint":
            await sessions.mint(workspace, replace(WISH, role=Role.VIEWER), ACTOR)
        case "save":
            await house.desk.members.save(workspace, "u1", "ada@example.com", "Ada", Role.VIEWER, ACTOR)
        case "delete":
            await house.desk.members.delete(workspace, "u1", ACTOR)

    assert await sessions.find(old.secret) is None
    assert (await refused(sessions.enter(waiting.code))).code is ProblemCode.LINK_EXPIRED
    reason = "member removed" if how == "delete" else "role changed"
    assert [after for action, _, after in await audit(house, workspace) if action == "portal.ended"] == [
        {"reason": reason, "count": 2, "sessions": sorted([old.session.id, waiting.session_id])}]


async def test_the_same_role_ends_nothing(
    house: House, sessions: PortalSessionControl, workspace: WorkspaceState
) -> None:
    """A second tab, or a new name, is no change of role."""
    old = await sessions.enter((await sessions.mint(workspace, WISH, ACTOR)).code)
    await sessions.mint(workspace, replace(WISH, name="Ada L."), ACTOR)
    await house.desk.members.save(workspace, "u1", "ada@new.example.com", "Ada", Role.OWNER, ACTOR)

    assert await sessions.find(old.secret) is not None


async def test_leaving(house: House, sessions: PortalSessionControl, workspace: WorkspaceState) -> None:
    """The person's own end, in their own name."""
    entered = await sessions.enter((await sessions.mint(workspace, WISH, ACTOR)).code)
    await sessions.end(entered.session)

    assert await sessions.find(entered.secret) is None
    assert (await audit(house, workspace))[-1] == (
        "portal.ended", "member:u1", {"reason": "logout", "count": 1, "sessions": [entered.session.id]})


async def test_a_page_takes_over_the_browsers_older_visit(
    sessions: PortalSessionControl, workspace: WorkspaceState
) -> None:
    """A new id at each entry: the cookie's old secret is dead. A frame beside it leaves the page's visit alone."""
    old = await sessions.enter((await sessions.mint(workspace, WISH, ACTOR)).code)
    frame = await sessions.mint(workspace, replace(WISH, mode="frame"), ACTOR)
    await sessions.enter(frame.code, replaces=old.secret)
    beside = await sessions.find(old.secret)
    new = await sessions.enter((await sessions.mint(workspace, WISH, ACTOR)).code, replaces=old.secret)

    assert beside is not None
    assert await sessions.find(old.secret) is None
    assert await sessions.find(new.secret) is not None


async def test_a_deleted_workspace_has_no_visitors(
    house: House, sessions: PortalSessionControl, workspace: WorkspaceState
) -> None:
    """Sessions and links end with it."""
    entered = await sessions.enter((await sessions.mint(workspace, WISH, ACTOR)).code)
    waiting = await sessions.mint(workspace, WISH, ACTOR)
    await house.desk.workspaces.delete(workspace, ACTOR)

    assert await sessions.find(entered.secret) is None
    assert (await refused(sessions.enter(waiting.code))).code is ProblemCode.LINK_EXPIRED


async def test_what_is_over_is_forgotten_after_a_day(
    house: House, sessions: PortalSessionControl, workspace: WorkspaceState
) -> None:
    """Until then whoever comes late is told why; afterwards there is no row left."""
    used = await sessions.mint(workspace, WISH, ACTOR)
    entered = await sessions.enter(used.code)
    await sessions.make_ticket(entered.session, "/portal/activity.csv")
    ended = await sessions.mint(workspace, WISH, ACTOR)
    await sessions.revoke(workspace, ended.session_id, ACTOR)

    def count() -> int:
        (rows,) = house.store._near.execute(
            "SELECT (SELECT count(*) FROM portal_session) + (SELECT count(*) FROM portal_ticket)").fetchone()
        return int(rows)

    house.clock.pass_s(86_400 - 1)
    await house.store.forget_portal_sessions(house.clock.now_ms())
    late = await refused(sessions.enter(used.code))
    kept = count()
    house.clock.pass_s(901)
    await house.store.forget_portal_sessions(house.clock.now_ms())

    assert late.code is ProblemCode.LINK_USED
    assert kept == 2
    assert count() == 0
    assert (await refused(sessions.enter(used.code))).code is ProblemCode.LINK_UNKNOWN


# --- who is who


async def test_a_mint_makes_the_member(house: House, sessions: PortalSessionControl, workspace: WorkspaceState) -> None:
    """Who opens the pages gets the alerts, as the host says; what they muted stays muted, and a visit that changes
    nothing writes no row of its own about the member."""
    await house.desk.members.save(
        workspace, "u1", "old@example.com", "", Role.OWNER, ACTOR, muted=frozenset({"spend"}))
    for _ in range(3):
        await sessions.mint(workspace, WISH, ACTOR)
    (member,) = await house.desk.members.list(workspace)

    assert (member.email, member.name, member.role, member.muted) == (
        "ada@example.com", "Ada", Role.OWNER, frozenset({"spend"}))
    assert [action for action, _, _ in await audit(house, workspace)] == [
        "member.saved", "member.saved", "portal.minted", "portal.minted", "portal.minted"]


async def test_an_operator_looks_as_the_owner_does(
    house: House, sessions: PortalSessionControl, workspace: WorkspaceState
) -> None:
    """Read-only, audited under the operator's name, and nobody becomes a member by it."""
    operator = Actor("operator", "op_7")
    entered = await sessions.enter((await sessions.view_as(workspace, operator, "Olga")).code, mode="page")
    session = entered.session

    assert (session.kind, session.role, session.mode, session.member_name) == ("view_as", Role.OWNER, "page", "Olga")
    assert session.pages == sessions.rules.pages
    assert not await house.desk.members.list(workspace)
    assert [(action, actor) for action, actor, _ in await audit(house, workspace)] == [
        ("portal.view_as", "operator:op_7"), ("portal.entered", "operator:op_7")]


async def test_the_list(house: House, sessions: PortalSessionControl, workspace: WorkspaceState) -> None:
    """What lives and what can still be opened, newest first, with who asked for it."""
    entered = await sessions.enter((await sessions.mint(workspace, WISH, ACTOR)).code)
    house.clock.pass_s(30)
    waiting = await sessions.mint(workspace, WISH, Actor("service", "tok_2"))
    both = await sessions.list(workspace)
    house.clock.pass_s(60)
    later = await sessions.list(workspace)

    assert [(row.session.id, row.entered_at_ms is None, row.minted_by.id) for row in both] == [
        (waiting.session_id, True, "tok_2"), (entered.session.id, False, "tok_test")]
    assert [row.session.id for row in later] == [entered.session.id]


async def test_everything_is_in_the_audit_log(
    house: House, sessions: PortalSessionControl, workspace: WorkspaceState
) -> None:
    """Minted by whom for whom, entered, ended; and the chain still verifies."""
    minted = await sessions.mint(workspace, WISH, ACTOR)
    await sessions.enter(minted.code)
    await sessions.revoke_member(workspace, "u1", ACTOR)

    assert [(action, actor) for action, actor, _ in await audit(house, workspace)] == [
        ("member.saved", "service:tok_test"), ("portal.minted", "service:tok_test"), ("portal.entered", "member:u1"),
        ("portal.ended", "service:tok_test")]
    assert list(await house.store.verify(house.clock.now_ms())) == []


async def test_nothing_secret_is_in_the_database(
    house: House, sessions: PortalSessionControl, workspace: WorkspaceState
) -> None:
    """S1: neither codes nor secrets nor tickets, in any file of the store, whole or in their middle."""
    shown: list[str] = []
    for mode in ("page", "frame"):
        minted = await sessions.mint(workspace, replace(WISH, mode=mode), ACTOR)
        entered = await sessions.enter(minted.code)
        ticket = await sessions.make_ticket(entered.session, "/portal/activity.csv?period=2026-11")
        await sessions.use_ticket("/portal/activity.csv?period=2026-11", ticket)
        shown += [minted.code, entered.secret, ticket]
    stored = b"".join(path.read_bytes() for path in house.folder.glob("ownkey.db*"))

    assert b"ada@example.com" in stored, "the search looks at what was written"
    for secret in shown:
        assert secret[8:24].encode() not in stored
        digest = secret_digest(secret)
        assert digest is not None
        assert digest in stored


# --- tickets


async def test_a_ticket_opens_one_download_once(
    house: House, sessions: PortalSessionControl, workspace: WorkspaceState
) -> None:
    """For its own address and nothing else, and only once."""
    entered = await sessions.enter((await sessions.mint(workspace, replace(WISH, mode="frame"), ACTOR)).code)
    path = "/portal/activity.csv?period=2026-11"
    ticket = await sessions.make_ticket(entered.session, path)

    assert (await refused(sessions.use_ticket("/portal/activity.csv", ticket))).code is ProblemCode.LINK_UNKNOWN
    assert (await refused(sessions.use_ticket(path, "A" * 43))).code is ProblemCode.LINK_UNKNOWN
    ends = await asyncio.gather(*(sessions.use_ticket(path, ticket) for _ in range(20)), return_exceptions=True)
    assert [end for end in ends if not isinstance(end, Problem)] == [entered.session]
    assert {end.code for end in ends if isinstance(end, Problem)} == {ProblemCode.LINK_USED}


@pytest.mark.parametrize("end", ["time", "revoked"])
async def test_a_ticket_ends_with_its_minute_and_its_visit(
    house: House, sessions: PortalSessionControl, workspace: WorkspaceState, end: str
) -> None:
    """Whichever comes first."""
    entered = await sessions.enter((await sessions.mint(workspace, replace(WISH, mode="frame"), ACTOR)).code)
    ticket = await sessions.make_ticket(entered.session, "/portal/activity.csv")
    if end == "time":
        house.clock.pass_s(60)
    else:
        await sessions.revoke(workspace, entered.session.id, ACTOR)

    assert (await refused(sessions.use_ticket("/portal/activity.csv", ticket))).code is ProblemCode.LINK_EXPIRED


@pytest.mark.parametrize("path", [
    "", "/", "/manage/v1/workspaces", "https://evil.test/portal/x", "//evil.test/portal/", "/portal", "/portal/a b",
    "/portal/%2e%2e/manage", "/portal/x\r\nset-cookie: a=b", "/portal/" + "x" * 2_000, "portal/x",
])
async def test_tickets_are_for_these_pages_only(
    sessions: PortalSessionControl, workspace: WorkspaceState, path: str
) -> None:
    """No other address of this server or another's."""
    minted: Minted = await sessions.mint(workspace, replace(WISH, mode="frame"), ACTOR)
    entered = await sessions.enter(minted.code)

    assert (await refused(sessions.make_ticket(entered.session, path))).param == "path"
