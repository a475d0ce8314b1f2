"""Figures of one and of none, as pages tell them: "1 call", "0 calls", on every page that has an address of its own."""

import re
from pathlib import Path

import pytest
from tests.console.console_pages import open_console
from tests.console.made_calls import write as write_in_console
from tests.control.house import ACTOR
from tests.portal.receipts_made import attempt, write
from tests.portal.visiting import open_portal

from ownkey.console.routes import ROUTES as CONSOLE_ROUTES
from ownkey.domain.routing import Route
from ownkey.domain.work import WorkKind
from ownkey.domain.workspace import Role
from ownkey.portal.routes import ROUTES

_COUNTED = (
    "attempt|call|candidate|conversation|credit|day|event|file|finding|hour|key|line|member|minute|model|month|"
    "operator|page|payment|person|process|project|receipt|row|route|run|second|session|task|token|week|workspace"
)
WRONG = re.compile(
    rf"(?<![\w.,:…/–-])(?:1 (?:\w+ )?(?:(?:{_COUNTED})e?s|are|were|have|wait|people)|0 (?:{_COUNTED}|is|was|has))\b"
    r"(?!['’-])"
)
"""A figure of one with a plural behind it, and one of none with a singular."""


def wrong_counts(html: str) -> list[str]:
    """A drawing's numbers stand beside its words by chance, and so do two blocks: neither is a sentence."""
    bare = re.sub(r"<text\b.*?</text>|<script\b.*?</script>", "|", html, flags=re.S)
    bare = re.sub(r"</?(?:a|b|code|data|em|span|strong)\b[^>]*>", "", bare)
    words = " ".join(re.sub(r"<[^>]*>", "|", bare).split())
    return [found[0] for found in WRONG.finditer(words)]


@pytest.mark.parametrize(("text", "found"), [
    ("1 calls · US$0.01", ["1 calls"]), ("21 calls, 1.1 calls", []), ("1 are quarantined", ["1 are"]),
    ("1 data keys", ["1 data keys"]), ("1 call, 0 calls, 1 key's limit", []), ("0 call", ["0 call"]),
    ("<p>Step 1</p><p>are you sure?</p><text>1</text><text>calls a day</text>", []),
    ("<svg><title>1 calls</title></svg> <strong>1</strong> rows", ["1 calls", "1 rows"]),
])
def test_what_is_looked_for(text: str, found: list[str]) -> None:
    """The search below finds what it is for, and nothing in what is right."""
    assert wrong_counts(text) == found


@pytest.mark.parametrize("preset", ["support-desk", "app-builder"])
@pytest.mark.parametrize("how_many", [0, 1])
async def test_every_page_of_a_workspace_counts_rightly(tmp_path: Path, preset: str, how_many: int) -> None:
    """Section 1.4: one call, project, conversation and export, or none of them."""
    async with open_portal(tmp_path, preset) as portal:
        if how_many:
            credits = preset == "app-builder"
            await portal.control.save_key(portal.workspace)
            await portal.control.desk.projects.save(portal.workspace, "p_1", "Website", ACTOR)
            made = await write(
                portal, attempt(1, Route.CREDITS if credits else Route.OPENROUTER), project="p_1",
                charge_credits=int(credits), charge_nusd=10_000_000 * credits,
            )
            await portal.control.desk.work.start(
                portal.workspace, WorkKind.EXPORT, {}, portal.session(Role.OWNER).actor, "u_1"
            )
        paths = [r.path for r in ROUTES if r.method == "GET" and "{" not in r.path and not r.path.endswith(".csv")]
        paths += ["/portal/activity?group=trace", "/portal/activity?outcome=failed", "/portal/exports?outcome=ok"]
        paths += [f"/portal/spend?by={by}" for by in ("task", "model", "provider", "project", "funding")]
        paths += [f"/portal/calls/{made.id}"] if how_many else []
        texts = {path: (await portal.get(path)).html for path in paths}

    assert len(texts) > 20
    assert {path: found for path, text in texts.items() if (found := wrong_counts(text))} == {}


@pytest.mark.parametrize("how_many", [0, 1])
async def test_every_page_of_the_console_counts_rightly(tmp_path: Path, how_many: int) -> None:
    """Section 5: one workspace, call and piece of work, or none."""
    async with open_console(tmp_path, "app-builder") as console:
        paths = [r.path for r in CONSOLE_ROUTES if r.method == "GET" and "{" not in r.path]
        if how_many:
            workspace = await console.control.with_key(external_id="a")
            call = await write_in_console(console, workspace, attempt(1, Route.CREDITS), charge_credits=1)
            await console.control.desk.work.start(None, WorkKind.LEDGER_CHECK, {}, ACTOR)
            paths += [f"/console/workspaces/{workspace.id}", f"/console/calls/{call.id}", "/console/calls?outcome=ok"]
        texts = {path: (await console.get(path)).html for path in paths}

    assert len(texts) > 15
    assert {path: found for path, text in texts.items() if (found := wrong_counts(text))} == {}
