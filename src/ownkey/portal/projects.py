"""Projects: names that the host groups calls by. They hold no credential and no rule, and the page says so."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from ownkey.control.totals import UseRow
from ownkey.domain.activity import Amounts
from ownkey.domain.portal import Page, Sight
from ownkey.pages.http import Answer
from ownkey.portal.links import activity_url
from ownkey.portal.visit import PortalRoute, Visit, page_label

PATH: Final = "/portal/projects"
MOST: Final = 500


@dataclass(frozen=True, slots=True)
class Line:
    """One project; `id` "" are the calls that name none. `url` leads to its calls, "" where there is no such page."""

    id: str
    name: str
    use: UseRow
    url: str


async def show(visit: Visit) -> Answer:
    uses = await visit.desk.totals.by_project(visit.workspace)
    lines = _lines(visit, uses)
    return visit.show(
        "projects.html", title=visit.say("Projects"), lines=lines[:MOST], hidden=max(0, len(lines) - MOST),
        full=visit.sees_figures, period=visit.desk.totals.period(visit.workspace),
        keys_page=visit.say(page_label(visit.product, Page.CREDENTIALS)),
    )


def _lines(visit: Visit, uses: Mapping[str, UseRow]) -> list[Line]:
    """The host's projects and those that only calls have named: dearest first, for those who see that, then by name."""
    known = visit.workspace.projects
    idents = [*(ident for ident in uses if ident), *(ident for ident in known if ident not in uses)]
    if "" in uses:
        idents.append("")
    found = [
        Line(
            ident, known.get(ident, ident), uses.get(ident) or UseRow(ident, Amounts(), 0, None),
            activity_url(visit, project=ident or "none"),
        )
        for ident in idents
    ]
    found.sort(key=lambda line: (line.id == "", line.name.lower(), line.id))
    if visit.sees_figures:  # the order of costs is a figure too
        found.sort(key=lambda line: (line.id == "", -line.use.amounts.cost_nusd))
    return found


ROUTES: tuple[PortalRoute, ...] = (PortalRoute("GET", PATH, Page.PROJECTS, Sight.PARTLY, show),)
