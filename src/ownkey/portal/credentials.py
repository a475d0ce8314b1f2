"""API Keys / Integrations: who pays, one card per provider, and the switches that decide. This module shows the page;
what its forms do is beside it, in `credential_forms` and `credential_changes`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from ownkey.control.billing import BillingView
from ownkey.control.key_past import OpenIncident
from ownkey.control.problems import Problem, ProblemCode
from ownkey.control.status import is_usable, key_trouble
from ownkey.domain.credentials import Wrapping
from ownkey.domain.health import is_unhealthy
from ownkey.domain.portal import Page, Sight
from ownkey.domain.product import PROVIDERS
from ownkey.domain.receipts import provider_name
from ownkey.domain.refusals import Refusal
from ownkey.domain.workspace import Credential, WorkspaceState
from ownkey.pages.http import Answer
from ownkey.portal.cap import cap_form
from ownkey.portal.credential_cards import (
    NOT_ENTITLED,
    PATH,
    Act,
    Ask,
    base_state,
    foresee,
    form_version,
    is_entitled,
    make_cards,
    named_provider,
    state_word,
    subscribe_url,
)
from ownkey.portal.visit import PortalRoute, Visit, flow_url, page_label

FRESH_MS: Final = 2 * 60_000
"""How long after a Save its page says so: an address alone must not claim one."""

STALE: Final = "stale"
DONE: Final = frozenset({
    "disabled", "enabled", "disconnected", "always_on", "always_off", "fails_on", "fails_off", "limit", "rejection",
})
"""The words in `?done=` that the page has a sentence for."""

_FAILED: Final = frozenset(
    code.value for code in ProblemCode if code.value.startswith(("connect_", "credential_", "data_key_"))
)


@dataclass(frozen=True, slots=True)
class News:
    """What happened on the way here. `saved` is a provider whose key was saved a moment ago; `done` one of DONE;
    `failed` the code of a sign-in that came to nothing; `cleaned` what was around the key."""

    saved: str = ""
    done: str = ""
    provider: str = ""
    failed: str = ""
    cleaned: tuple[str, ...] = ()
    problem: Problem | None = None


@dataclass(frozen=True, slots=True)
class Switches:
    """What the switches' forms show. `limit` is text as typed."""

    always: bool
    if_fails: bool
    limit: str
    on_rejection: str
    limit_problem: Problem | None = None


async def show(visit: Visit) -> Answer:
    flow = named_provider(visit.request.asks("flow"))
    ask = Ask()
    if flow and visit.manages and flow in _providers(visit):
        empty = base_state(visit.workspace, visit.desk.credentials.view(visit.workspace, flow)) == "empty"
        ask = Ask(flow, "edit" if empty else "")
    return await page(visit, ask, news=_news(visit))


async def page(
    visit: Visit, ask: Ask | None = None, *, news: News | None = None, switches: Switches | None = None,
    status: int = 200,
) -> Answer:
    """The whole page, as this visit may see it."""
    title = visit.say(page_label(visit.product, Page.CREDENTIALS))
    if not visit.sees_figures:
        return _states(visit, title, status)
    desk, workspace = visit.desk, visit.workspace
    incidents = await desk.key_past.open_incidents(workspace)
    cards = await make_cards(visit, ask or Ask(), incidents)
    billing: BillingView | None = None
    if any(card.state == NOT_ENTITLED for card in cards) or visit.product.plans:
        billing = await desk.billing.show(workspace)
    refusal, support_desk = visit.status.refusal, visit.product.preset == "support-desk"
    with_cap = visit.manages and (support_desk or not visit.may_see(Page.SPEND))
    key = workspace.credentials.get("openrouter")
    return visit.show(
        "credentials.html", title=title, status=status, cards=cards, ask=ask or Ask(), news=news or News(),
        incidents=incidents, attention=_attention(visit, incidents), billing=billing,
        subscribe_url=subscribe_url(billing), path=PATH,
        fix_url=_fix_url(visit, refusal, with_cap),
        switches=switches or current_switches(workspace),
        with_switches=visit.house.with_credits and (cards[0].state != NOT_ENTITLED or workspace.always_use_key),
        key_usable=is_entitled(workspace) and is_usable(key), carries=_carries(visit, key),
        support_desk=support_desk, cap=await cap_form(visit) if with_cap else None,
        has_direct=any(card.direct and card.credential is not None for card in cards),
    )


def current_switches(workspace: WorkspaceState) -> Switches:
    limit = workspace.credits_if_key_fails_limit
    return Switches(
        workspace.always_use_key, workspace.credits_if_key_fails, "" if limit is None else str(limit),
        workspace.on_direct_auth_failure,
    )


def provider_of(visit: Visit) -> str:
    """The provider in the address. Raises Problem for one that this product does not use."""
    return visit.desk.credentials.view(visit.workspace, visit.request.params["provider"]).provider


def version_of(visit: Visit, provider: str) -> str:
    """What a card's forms are made for now."""
    return form_version(visit.workspace.credentials.get(provider))


def stale(visit: Visit, what: str) -> Problem:
    return Problem(
        ProblemCode.CONFLICT,
        visit.say("Somebody has changed {what} meanwhile, so nothing was changed now.", what=what),
        visit.say("The page shows what is so now: look at it and repeat, if it still is meant."), param=STALE,
    )


# --- the ways to the page


async def edit(visit: Visit) -> Answer:
    """The field of a card, opened on purpose: Connect or Replace."""
    return await page(visit, Ask(provider_of(visit), "edit"))


async def _confirm(visit: Visit, act: Act) -> Answer:
    """A confirmation in its card, with who will pay. For what is not there, the page as it is."""
    provider = provider_of(visit)
    if provider not in visit.workspace.credentials:
        return visit.go(PATH)
    return await page(visit, Ask(provider, act, coming=await foresee(visit, provider, act)))


async def confirm_disable(visit: Visit) -> Answer:
    return await _confirm(visit, "disable")


async def confirm_disconnect(visit: Visit) -> Answer:
    return await _confirm(visit, "disconnect")


async def back(visit: Visit) -> Answer:
    """The address of a form, opened as a page (a reload, or Back): the page itself."""
    return visit.go(PATH)


def _states(visit: Visit, title: str, status: int) -> Answer:
    """For those who do not see keys: one word a provider, and nothing that could be told from."""
    rows = [
        (view.provider, provider_name(view.provider), base, state_word(base))
        for view in visit.desk.credentials.list(visit.workspace)
        for base in (base_state(visit.workspace, view),)
    ]
    return visit.show("credentials_states.html", title=title, status=status, rows=rows)


def _news(visit: Visit) -> News:
    """What the address says of the way here, as far as it is true."""
    request = visit.request
    saved = request.asks("saved")
    if request.asks("ownkey_connect") == "saved":
        saved = "openrouter"
    if not _was_just_saved(visit, saved):
        saved = ""
    done, provider = request.asks("done"), request.asks("provider")
    failed = request.asks("ownkey_code") if request.asks("ownkey_connect") == "failed" else ""
    removed = request.asks("cleaned").split(".")
    return News(
        saved=saved, done=done if done in DONE and _is_true(visit.workspace, done, provider) else "",
        provider=provider_name(provider) if provider in PROVIDERS else "",
        failed=failed if failed in _FAILED else "",
        cleaned=tuple(wrapping.value for wrapping in Wrapping if wrapping.name.lower() in removed),
    )


def _carries(visit: Visit, key: Credential | None) -> bool:
    """Whether the OpenRouter key answers for a direct key that does not."""
    return visit.status.payer == "your_key" and is_usable(key) and key is not None and not is_unhealthy(key)


def _attention(visit: Visit, incidents: Sequence[OpenIncident]) -> list[str]:
    """What needs somebody, but for what a banner, or the sentence on top, says already."""
    keys = visit.workspace.credentials
    told = {key_trouble(keys[one.incident.provider]) for one in incidents if one.incident.provider in keys}
    if visit.status.refusal is not None and "openrouter" in keys and keys["openrouter"].undecryptable:
        told.add(key_trouble(keys["openrouter"]))
    return [sentence for sentence in visit.status.attention if sentence not in told]


def _was_just_saved(visit: Visit, provider: str) -> bool:
    credential = visit.workspace.credentials.get(provider)
    return credential is not None and 0 <= visit.now_ms - credential.created_at_ms <= FRESH_MS


def _is_true(workspace: WorkspaceState, done: str, provider: str) -> bool:
    """Whether what was done is still so."""
    credential = workspace.credentials.get(provider)
    facts: Mapping[str, bool] = {
        "disabled": credential is not None and credential.status == "disabled",
        "enabled": credential is not None and credential.status == "enabled",
        "disconnected": credential is None and provider in PROVIDERS,
        "always_on": workspace.always_use_key, "always_off": not workspace.always_use_key,
        "fails_on": workspace.credits_if_key_fails, "fails_off": not workspace.credits_if_key_fails,
    }
    return facts.get(done, True)


def _providers(visit: Visit) -> tuple[str, ...]:
    return ("openrouter", *visit.product.direct_providers)


def _fix_url(visit: Visit, refusal: Refusal | None, with_cap: bool) -> str:
    """A fix that is in sight needs no link; the cap's card further down on this page has a mark of its own."""
    if refusal is None or not refusal.flow:
        return ""
    if refusal.flow == "cap" and with_cap:
        return "#cap"
    url = flow_url(visit, refusal.flow)
    return "" if url.startswith(PATH) else url


_CARD = PATH + "/{provider}"
_FORMS = ("test", "save", "paste", "sign-in", "enable")

ROUTES: tuple[PortalRoute, ...] = (
    PortalRoute("GET", PATH, Page.CREDENTIALS, Sight.PARTLY, show),
    PortalRoute("GET", f"{_CARD}/connect", Page.CREDENTIALS, Sight.MANAGE, edit),
    PortalRoute("GET", f"{_CARD}/replace", Page.CREDENTIALS, Sight.MANAGE, edit),
    PortalRoute("GET", f"{_CARD}/disable", Page.CREDENTIALS, Sight.MANAGE, confirm_disable),
    PortalRoute("GET", f"{_CARD}/disconnect", Page.CREDENTIALS, Sight.MANAGE, confirm_disconnect),
    *(PortalRoute("GET", f"{_CARD}/{form}", Page.CREDENTIALS, Sight.MANAGE, back) for form in _FORMS),
    *(
        PortalRoute("GET", f"{PATH}/{form}", Page.CREDENTIALS, Sight.MANAGE, back)
        for form in ("always", "if-key-fails", "credits-limit", "on-rejection")
    ),
)
