"""Changes of keys that are saved, and the switches beside them: each form changes one thing, at once, and says who pays
from the next call on.
"""

from dataclasses import replace
from typing import Any

from ownkey.control.problems import Problem, ProblemCode
from ownkey.domain.portal import Page, Sight
from ownkey.domain.receipts import provider_name
from ownkey.pages.http import Answer
from ownkey.portal.credential_cards import PATH, Ask, foresee
from ownkey.portal.credentials import News, Switches, current_switches, page, provider_of, stale, version_of
from ownkey.portal.visit import PortalRoute, Visit

MAX_LIMIT = 1_000_000_000


async def enable(visit: Visit) -> Answer:
    provider = provider_of(visit)
    if visit.is_stale(version_of(visit, provider)):
        return await _stale_key(visit, provider)
    await visit.desk.credentials.set_enabled(visit.workspace, provider, True, visit.actor)
    return visit.go(f"{PATH}?done=enabled&provider={provider}")


async def disable(visit: Visit) -> Answer:
    provider = provider_of(visit)
    if visit.is_stale(version_of(visit, provider)):
        return await _stale_key(visit, provider)
    await visit.desk.credentials.set_enabled(
        visit.workspace, provider, False, visit.actor, also_turn_off_always=_also(visit)
    )
    return visit.go(f"{PATH}?done=disabled&provider={provider}")


async def disconnect(visit: Visit) -> Answer:
    """The confirmation has said that AI may stop: sending it is the acknowledgement."""
    provider = provider_of(visit)
    if visit.is_stale(version_of(visit, provider)):
        return await _stale_key(visit, provider)
    await visit.desk.credentials.disconnect(
        visit.workspace, provider, True, visit.actor, also_turn_off_always=_also(visit)
    )
    return visit.go(f"{PATH}?done=disconnected&provider={provider}")


async def always(visit: Visit) -> Answer:
    on = visit.request.field("always_use_key") == "on"
    return await _switch(visit, {"always_use_key": on}, "always_on" if on else "always_off")


async def if_key_fails(visit: Visit) -> Answer:
    on = visit.request.field("credits_if_key_fails") == "on"
    if visit.workspace.always_use_key:
        return await _inert(visit)
    return await _switch(visit, {"credits_if_key_fails": on}, "fails_on" if on else "fails_off")


async def credits_limit(visit: Visit) -> Answer:
    """Empty: no limit. Whole credits."""
    typed = visit.request.field("limit")
    if visit.workspace.always_use_key:
        return await _inert(visit)
    digits = typed.replace(",", "").replace(" ", "")
    if digits and (not (digits.isascii() and digits.isdigit()) or len(digits) > 10 or int(digits) > MAX_LIMIT):
        problem = Problem(
            ProblemCode.INVALID, visit.say("The limit is a whole number of credits, from 0 to one billion."),
            visit.say("Write digits only; leave it empty for no limit."), param="limit",
        )
        switches = replace(current_switches(visit.workspace), limit=typed[:40], limit_problem=problem)
        return await page(visit, switches=switches, status=422)
    if visit.is_stale(visit.workspace.settings_version):
        return await _stale_limit(visit, typed)
    return await _switch(visit, {"credits_if_key_fails_limit": int(digits) if digits else None}, "limit")


async def on_rejection(visit: Visit) -> Answer:
    chosen = visit.request.field("on_direct_auth_failure")
    if chosen not in ("fallback", "fail"):
        raise Problem(
            ProblemCode.INVALID, visit.say("Choose one of the two answers."), visit.say("Go back and choose."),
            param="on_direct_auth_failure",
        )
    return await _switch(visit, {"on_direct_auth_failure": chosen}, "rejection")


# --- the steps


async def _switch(visit: Visit, changes: dict[str, Any], done: str) -> Answer:
    workspace = visit.workspace
    if visit.is_stale(workspace.settings_version):
        return await _stale_switches(visit, current_switches(workspace))
    await visit.desk.workspaces.change(workspace, changes, visit.actor)
    return visit.go(f"{PATH}?done={done}")


async def _stale_switches(visit: Visit, switches: Switches) -> Answer:
    return await page(
        visit, switches=switches, news=News(problem=stale(visit, visit.say("these settings"))), status=409
    )


async def _stale_limit(visit: Visit, typed: str) -> Answer:
    """What was typed stays in its field; the limit of now is told beside it, where it is another."""
    now = current_switches(visit.workspace)
    if "limit" not in visit.request.form or typed == now.limit:
        return await _stale_switches(visit, now)
    told = visit.say("The limit is {limit} now; the field holds what you typed.", limit=now.limit) if now.limit else (
        visit.say("There is no limit now; the field holds what you typed.")
    )
    problem = Problem(ProblemCode.CONFLICT, told, visit.say("Save again to replace it."), param="limit")
    return await _stale_switches(visit, replace(now, limit=typed[:40], limit_problem=problem))


async def _stale_key(visit: Visit, provider: str) -> Answer:
    """The confirmation again, for the key as it is now; the page alone where none is left."""
    problem = stale(visit, visit.say("the {provider} key", provider=provider_name(provider)))
    act = visit.request.path.rpartition("/")[2]
    ask = Ask()
    if provider in visit.workspace.credentials and act in ("disable", "disconnect"):
        ask = Ask(provider, act, coming=await foresee(visit, provider, act))  # type: ignore[arg-type]
    return await page(visit, ask, news=News(problem=problem), status=409)


async def _inert(visit: Visit) -> Answer:
    problem = Problem(
        ProblemCode.CONFLICT, visit.say("Always use this key is on: credits are never used, whatever happens."),
        visit.say("Switch Always use this key off first."),
    )
    return await page(visit, news=News(problem=problem), status=409)


def _also(visit: Visit) -> bool:
    return visit.request.field("also_turn_off_always") == "on"


_CARD = PATH + "/{provider}"

ROUTES: tuple[PortalRoute, ...] = (
    PortalRoute("POST", f"{_CARD}/enable", Page.CREDENTIALS, Sight.MANAGE, enable),
    PortalRoute("POST", f"{_CARD}/disable", Page.CREDENTIALS, Sight.MANAGE, disable),
    PortalRoute("POST", f"{_CARD}/disconnect", Page.CREDENTIALS, Sight.MANAGE, disconnect),
    PortalRoute("POST", f"{PATH}/always", Page.CREDENTIALS, Sight.MANAGE, always),
    PortalRoute("POST", f"{PATH}/if-key-fails", Page.CREDENTIALS, Sight.MANAGE, if_key_fails),
    PortalRoute("POST", f"{PATH}/credits-limit", Page.CREDENTIALS, Sight.MANAGE, credits_limit),
    PortalRoute("POST", f"{PATH}/on-rejection", Page.CREDENTIALS, Sight.MANAGE, on_rejection),
)
