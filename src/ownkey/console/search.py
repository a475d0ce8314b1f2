"""One field for everything: a workspace, a receipt, the end of a key, a subscription. What is unique is gone to."""

from urllib.parse import quote

from ownkey.console.visit import ConsoleRoute, ConsoleVisit, status_of
from ownkey.control.problems import Problem
from ownkey.domain.overview import Hit
from ownkey.pages.http import Answer


async def show(visit: ConsoleVisit) -> Answer:
    wanted = visit.request.asks("q")
    try:
        hits = await visit.desk.overview.search(wanted)
    except Problem as problem:
        return visit.page("console/search.html", "Search", problem=problem, hits=(), searched="", url_of=url_of,
                          status=status_of(problem))
    if len(hits) == 1:
        return visit.go(url_of(hits[0]))
    return visit.page("console/search.html", "Search", hits=hits, searched=wanted[:200], url_of=url_of)


def url_of(hit: Hit) -> str:
    """Where a find is looked at."""
    if hit.kind == "receipt":
        return f"/console/calls/{quote(hit.ident, safe='')}"
    place = f"/console/workspaces/{quote(hit.workspace_id, safe='')}"
    return f"{place}#keys" if hit.kind == "key" else f"{place}#addon" if hit.kind == "subscription" else place


ROUTES: tuple[ConsoleRoute, ...] = (ConsoleRoute("GET", "/console/search", show),)
