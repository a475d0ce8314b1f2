"""The pages of a visit: what each role sees of each, where a flow leads, and what an operator's look may do."""

import itertools

import pytest

from ownkey.domain.portal import (
    LISTED,
    Page,
    PortalSession,
    Sight,
    fix_place,
    is_flow,
    landing,
    place_of,
)
from ownkey.domain.records import Actor
from ownkey.domain.workspace import Role

# Portal, section 2: owner, admin | member | viewer.
TABLE = """
credentials | manage | partly | partly
features    | manage | read   | read
spend       | manage | partly | read
activity    | read   | partly | read
calls       | read   | partly | read
why         | manage | read   | read
explain     | read   | none   | none
plans       | manage | none   | read
projects    | read   | partly | read
exports     | read   | none   | read
notices     | manage | none   | none
"""


def visit(
    role: Role = Role.OWNER, pages: tuple[Page, ...] = LISTED, flow: str = "", kind: str = "member"
) -> PortalSession:
    return PortalSession(
        "ses_1", "ws_1", "u1", "Ada", "ada@example.com", role, "page", pages, flow, "auto", "en", "", "", "", 0, 1,
        kind=kind,  # type: ignore[arg-type]
    )


@pytest.mark.parametrize("line", TABLE.strip().splitlines(), ids=lambda line: line.split()[0])
def test_the_table_in_code_is_the_table_of_the_rules(line: str) -> None:
    """Cell by cell; owner and admin are one column."""
    name, *cells = (cell.strip() for cell in line.split("|"))
    manage, member, viewer = cells

    assert [visit(role).sight(Page(name)) for role in (Role.OWNER, Role.ADMIN, Role.MEMBER, Role.VIEWER)] == [
        Sight(manage), Sight(manage), Sight(member), Sight(viewer)]


def test_a_workspaces_data_is_the_owners_alone() -> None:
    """Export all, and delete."""
    assert [visit(role).sight(Page.DATA) for role in Role] == [Sight.MANAGE, Sight.NONE, Sight.NONE, Sight.NONE]


def test_a_page_that_was_not_given_is_not_there() -> None:
    """Nor is one that only such pages lead to; e-mails lead to the page that mutes them, whatever a visit has."""
    narrow = visit(pages=(Page.FEATURES,))

    assert {page for page in Page if narrow.sight(page) is not Sight.NONE} == {Page.FEATURES, Page.NOTICES}


def test_an_operator_who_looks_changes_nothing() -> None:
    """Whatever an owner manages is read-only, and the audit log names the operator."""
    looking = visit(kind="view_as")

    assert all(looking.sight(page) is not Sight.MANAGE for page in Page)
    assert looking.sight(Page.CREDENTIALS) is Sight.READ
    assert looking.actor == Actor("operator", "u1")
    assert visit().actor == Actor("member", "u1")


@pytest.mark.parametrize(("flow", "known"), [
    ("cap", True), ("addon", True), ("credits", True), ("credential:openrouter", True), ("feature:draft_reply", True),
    ("receipt:rcpt_0a1b", True), ("credential", False), ("credential:", False), ("credential:other", False),
    ("cap:x", False), ("cap:", False), ("feature", False), ("receipt:../../x", False), ("receipt:a b", False),
    ("pages", False), ("", False), ("Cap", False), ("receipt:x\n", False),
])
def test_flows(flow: str, known: bool) -> None:
    """The words of a refusal's fix, and nothing that could become another address."""
    assert is_flow(flow) is known


@pytest.mark.parametrize(("role", "pages", "flow", "address"), [
    (Role.OWNER, LISTED, "", "/portal/credentials"),
    (Role.OWNER, LISTED, "credential:anthropic", "/portal/credentials#anthropic"),
    (Role.OWNER, LISTED, "cap", "/portal/spend#cap"),
    (Role.OWNER, LISTED, "addon", "/portal/plans"),
    (Role.OWNER, LISTED, "feature:draft_reply", "/portal/features#draft_reply"),
    (Role.OWNER, LISTED, "receipt:rcpt_1", "/portal/calls/rcpt_1"),
    (Role.ADMIN, (Page.FEATURES,), "notices", "/portal/notices"),
    (Role.VIEWER, LISTED, "notices", "/portal/credentials"),
    (Role.OWNER, (Page.FEATURES, Page.SPEND), "credential:openai", "/portal/features"),
    (Role.MEMBER, (Page.PLANS, Page.SPEND), "addon", "/portal/spend"),
    (Role.OWNER, (Page.FEATURES,), "receipt:rcpt_1", "/portal/features"),
])
def test_where_a_visit_begins(role: Role, pages: tuple[Page, ...], flow: str, address: str) -> None:
    """At its flow's place, or at the first page that this role has: a link that leads nowhere is no link."""
    assert landing(visit(role, pages, flow)) == address


FLOWS = ("credential:openrouter", "credential:google", "addon", "credits", "cap", "feature:draft_reply",
         "receipt:rcpt_1", "export:wrk_1", "notices", "", "unknown")


@pytest.mark.parametrize("role", list(Role))
def test_a_fix_is_on_a_page_that_the_visit_has(role: Role) -> None:
    """Every flow × every list of pages × every role, and an operator who looks: never empty, never a page that the
    visit has not got, and the flow's own place wherever that is there.
    """
    lists = [
        pages for n in range(1, len(LISTED) + 1) for pages in itertools.combinations(LISTED, n)
        if any(visit(role, pages).sight(page) is not Sight.NONE for page in pages)
    ]
    for pages, flow, kind in itertools.product(lists, FLOWS, ("member", "view_as")):
        who = visit(role, pages, flow, kind=kind)
        url = fix_place(who, flow)
        place = url.removeprefix("/portal/").partition("#")[0].partition("?")[0].partition("/")[0]
        assert url.startswith("/portal/"), (pages, flow)
        assert who.sight(Page(place)) is not Sight.NONE, (pages, flow, url)
        assert not place_of(who, flow) or url == place_of(who, flow)
        assert landing(who).startswith("/portal/")


@pytest.mark.parametrize(("role", "pages", "flow", "address"), [
    (Role.OWNER, (Page.CREDENTIALS, Page.FEATURES), "cap", "/portal/credentials#cap"),
    (Role.VIEWER, (Page.CREDENTIALS, Page.FEATURES), "cap", "/portal/why"),
    (Role.OWNER, (Page.CREDENTIALS,), "addon", "/portal/credentials#openrouter"),
    (Role.OWNER, (Page.SPEND,), "credits", "/portal/spend#credits"),
    (Role.MEMBER, (Page.SPEND,), "credits", "/portal/why"),
    (Role.OWNER, (Page.ACTIVITY,), "feature:draft_reply", "/portal/why?task=draft_reply"),
    (Role.OWNER, (Page.FEATURES,), "cap", "/portal/features"),
])
def test_the_next_best_place(role: Role, pages: tuple[Page, ...], flow: str, address: str) -> None:
    """Where the flow's own page is not listed: the cap's card beside the keys, the add-on's on the key's card, the
    credits' beside the spend; else why AI is silent; else the first page."""
    assert fix_place(visit(role, pages), flow) == address


def test_a_flow_that_this_visit_has_not_got() -> None:
    """No address at all, for whoever wants to offer it."""
    assert place_of(visit(Role.MEMBER), "addon") == ""
    assert place_of(visit(), "unknown") == ""
