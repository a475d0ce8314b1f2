"""What the product's engineers need: service tokens, sites that may embed, events with replay, and snippets."""

from collections.abc import Mapping
from typing import Final

from ownkey.console.visit import ConsoleRoute, ConsoleVisit, status_of
from ownkey.console.workspaces import token_state
from ownkey.control.notices import EVENT
from ownkey.control.problems import Problem, ProblemCode, invalid
from ownkey.control.tokens import NewToken, ShownToken
from ownkey.domain.operators import OperatorRole
from ownkey.pages.http import Answer

PATH: Final = "/console/developers"
DAY_MS: Final = 86_400_000
LIFETIMES: Final[Mapping[str, tuple[str, int | None]]] = {
    "never": ("never", None), "90": ("after 90 days", 90), "365": ("after a year", 365),
}
SHOWN: Final = 50
LOOKED_THROUGH: Final = 500


async def show(visit: ConsoleVisit) -> Answer:
    return await _page(visit)


async def create_token(visit: ConsoleVisit) -> Answer:
    """The token is in the answer itself, this once: only its digest is kept."""
    form = visit.request.form
    lasts = LIFETIMES.get(visit.request.field("expires"))
    scopes = frozenset(name for name in ("call", "manage") if form.get(name) == "on")
    try:
        if lasts is None:
            raise invalid("expires", "There is no such end.", "Choose one of the list.")
        expires = None if lasts[1] is None else visit.now_ms + lasts[1] * DAY_MS
        made = await visit.desk.tokens.create(
            None, NewToken(visit.request.field("label"), scopes, expires_at_ms=expires), visit.actor
        )
    except Problem as problem:
        if problem.code is not ProblemCode.INVALID:
            raise
        return await _page(visit, form, problem)
    return await _page(visit, made=made)


async def ask_revoke(visit: ConsoleVisit) -> Answer:
    return await _page(visit, revoking=visit.request.params["token"])


async def revoke_token(visit: ConsoleVisit) -> Answer:
    await visit.desk.tokens.revoke(None, visit.request.params["token"], visit.actor)
    return visit.go(f"{PATH}?done=revoked#tokens")


async def retry_event(visit: ConsoleVisit) -> Answer:
    """Events and e-mails alike; the list that it was sent from comes back."""
    number = visit.request.params["row"]
    if not (number.isascii() and number.isdigit() and len(number) < 18):
        raise Problem(ProblemCode.NOT_FOUND, "There is no such message.", "Reload the list.")
    await visit.desk.outbox.retry(int(number), visit.actor)
    back = "/console/system/mail" if visit.request.field("back") == "mail" else PATH
    return visit.go(f"{back}?done=again")


async def _page(
    visit: ConsoleVisit, typed: Mapping[str, str] | None = None, problem: Problem | None = None,
    made: ShownToken | None = None, revoking: str = "",
) -> Answer:
    desk = visit.desk
    rows = await desk.tokens.list(None)
    state = visit.request.asks("state")
    messages = await desk.outbox.list(None, state if state in ("failed", "waiting", "sent", "skipped") else None,
                                      LOOKED_THROUGH)
    return visit.page(
        "console/developers.html", "Developers", status=status_of(problem), problem=problem, typed=typed or {},
        made=made, tokens=list(reversed(rows)), token_state=lambda row: token_state(visit, row),
        rules=desk.portal_sessions.rules,
        revoking=next((row for row in rows if row.token_id == revoking), None),
        lifetimes=[(key, visit.say(name)) for key, (name, _) in LIFETIMES.items()], state=state,
        events=[row for row in messages if row["channel"] == EVENT][:SHOWN],
        no_events=desk.outbox.channels().get(EVENT),
        base_url=visit.house.address.url or visit.request.origin,
        model=next((task.models[0] for task in visit.product.tasks.values() if task.endpoint == "chat"), ""),
        task=next((task.name for task in visit.product.tasks.values() if task.endpoint == "chat"), ""),
    )


_OPS = OperatorRole.OPS

ROUTES: tuple[ConsoleRoute, ...] = (
    ConsoleRoute("GET", PATH, show),
    ConsoleRoute("POST", f"{PATH}/tokens", create_token, _OPS, fresh=True),
    ConsoleRoute("GET", f"{PATH}/tokens/{{token}}/revoke", ask_revoke, _OPS),
    ConsoleRoute("POST", f"{PATH}/tokens/{{token}}/revoke", revoke_token, _OPS),
    ConsoleRoute("POST", "/console/outbox/{row}/retry", retry_event, _OPS),
)
