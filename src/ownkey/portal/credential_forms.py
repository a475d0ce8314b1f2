"""A typed key on its way in: Test, Save, the move to the field where it belongs, and the sign-in at OpenRouter.

What was typed is never shown again. Between a Test and its Save it waits sealed in the page (`control.candidates`), so
that nobody has to paste twice.
"""

from collections.abc import Mapping
from typing import Final

from ownkey.control.connect import ConnectWish
from ownkey.control.credentials import Saved
from ownkey.control.key_test import KeyTestResult, Outcome
from ownkey.control.problems import Problem, ProblemCode
from ownkey.domain.connect import APPROVE_PATH, PENDING_MS
from ownkey.domain.credentials import Wrapping
from ownkey.domain.errors import Conflict
from ownkey.domain.portal import Page, Sight
from ownkey.domain.receipts import provider_name
from ownkey.pages.http import Answer
from ownkey.pages.statuses import PROBLEM_STATUSES
from ownkey.portal.credential_cards import PATH, Act, Ask, Found, return_page
from ownkey.portal.credentials import News, page, provider_of, stale, version_of
from ownkey.portal.visit import TICKET, PortalRoute, Visit, fresh

SAVEABLE: Final = frozenset({
    Outcome.WORKS, Outcome.WORKS_NO_BALANCE, Outcome.RESTRICTED, Outcome.UNREACHABLE,
})

_REFUSED: Final[Mapping[ProblemCode, str]] = {
    ProblemCode.CREDENTIAL_WRONG_KIND: "wrong_kind", ProblemCode.CREDENTIAL_NOT_ACCEPTED: "rejected",
    ProblemCode.CREDENTIAL_UNREACHABLE: "unreachable",
}
"""What a refused Save means for its card; anything else is no finding about the key."""


async def test(visit: Visit) -> Answer:
    """The typed key, else the one that was tested before in this page, else the saved one."""
    if "key" not in visit.request.form and not visit.request.field("candidate"):
        return await _test_saved(visit)
    provider, typed = provider_of(visit), ""
    label = visit.request.field("label")
    try:
        typed = _typed(visit, provider)
        result = await visit.desk.key_test.run(
            visit.workspace, provider, typed or None, address=visit.request.address, actor=visit.actor,
            token_id=visit.session.id,
        )
    except Problem as problem:
        if problem.code is ProblemCode.NOT_FOUND:
            problem = _nothing_typed(visit)
        return await _refused(visit, provider, typed, label, problem)
    visit = await fresh(visit)
    return await page(visit, Ask(provider, "edit", found=_found(visit, provider, typed, result), label=label))


async def _test_saved(visit: Visit) -> Answer:
    """From the card of a saved key, which has no field: whatever comes of it stands on the card as it is."""
    provider = provider_of(visit)
    try:
        result = await visit.desk.key_test.run(
            visit.workspace, provider, None, address=visit.request.address, actor=visit.actor,
            token_id=visit.session.id,
        )
    except Problem as problem:
        visit = await fresh(visit)
        if problem.code is ProblemCode.NOT_FOUND:
            return await _stale(visit, provider, "", act="")
        return await page(
            visit, Ask(provider, "tested", found=Found("refused", problem=problem)),
            status=PROBLEM_STATUSES[problem.code],
        )
    visit = await fresh(visit)
    return await page(visit, Ask(provider, "tested", found=_found(visit, provider, "", result)))


async def save(visit: Visit) -> Answer:
    """Checked once more, then sealed and stored; a key that serves until now does so until this is done."""
    provider, typed, label = provider_of(visit), "", visit.request.field("label")
    if visit.is_stale(version_of(visit, provider)):
        return await _stale(visit, provider, label)
    try:
        typed = _typed(visit, provider)
        saved = await visit.desk.credentials.save(
            visit.workspace, provider, typed, label=label, save_anyway=visit.request.field("save_anyway") == "1",
            address=visit.request.address, actor=visit.actor,
        )
    except Problem as problem:
        return await _refused(visit, provider, typed, label, problem)
    except Conflict:
        return await _stale(await fresh(visit), provider, label)
    return visit.go(f"{PATH}?saved={provider}{_cleaned(saved)}")


async def paste(visit: Visit) -> Answer:
    """A key that was typed into another provider's field, moved here without a second paste."""
    provider, candidate = provider_of(visit), visit.request.field("moved")
    try:
        visit.desk.candidates.open(visit.workspace, visit.session.id, provider, candidate)
    except Problem as problem:
        return await _refused(visit, provider, "", "", problem)
    return await page(visit, Ask(provider, "edit", found=Found("moved", candidate=candidate)))


async def sign_in(visit: Visit) -> Answer:
    """To OpenRouter's own page: by a link, since no form may lead to another site; out of a frame to a page of ours
    first, since a frame has no cookie by which its browser would be known when it comes back."""
    provider = provider_of(visit)
    if provider != "openrouter":
        return visit.go(PATH)
    label = visit.request.field("label")
    if visit.is_stale(version_of(visit, provider)):
        return await _stale(visit, provider, label)
    if visit.session.mode == "frame":
        return await _leave_frame(visit)
    try:
        started = await visit.desk.connect.start(
            visit.workspace, ConnectWish(label=label, return_url=return_page(visit)), visit.actor
        )
    except Problem as problem:
        return await _refused(visit, provider, "", label, problem)
    return visit.show(
        "credentials_sign_in.html", title=visit.say("Sign in with OpenRouter"), leaves=False,
        url=started.authorization_url, until_ms=started.expires_at_ms, path=PATH,
    )


async def approve(visit: Visit) -> Answer:
    """The page that a frame is left by: it says whose key this will be, and binds the sign-in to this browser. It is
    opened with a ticket of its own; a visit that has a cookie needs it not."""
    if visit.session.mode != "frame":
        return visit.go(PATH)
    started = await visit.desk.connect.start(
        visit.workspace, ConnectWish(return_url=return_page(visit)), visit.actor
    )
    name, value = started.proof
    cookie = f"{name}={value}; Path=/; Max-Age={PENDING_MS // 1_000}; Secure; HttpOnly; SameSite=Lax"
    return visit.show(
        "credentials_approve.html", title=visit.say("Sign in with OpenRouter"), url=started.authorization_url,
        until_ms=started.expires_at_ms, back=return_page(visit) or visit.house.reopen_url,
        headers=[("set-cookie", cookie)],
    )


# --- the steps


async def _leave_frame(visit: Visit) -> Answer:
    ticket = await visit.desk.portal_sessions.make_ticket(visit.session, APPROVE_PATH, PENDING_MS // 1_000)
    return visit.show(
        "credentials_sign_in.html", title=visit.say("Sign in with OpenRouter"), leaves=True,
        url=f"{APPROVE_PATH}?{TICKET}={ticket}", until_ms=visit.now_ms + PENDING_MS, path=PATH,
    )


def _typed(visit: Visit, provider: str) -> str:
    """"" where nothing was typed and nothing waits. Raises Problem."""
    typed = visit.request.form.get("key", "")
    if typed.strip():
        return typed
    candidate = visit.request.field("candidate")
    if not candidate:
        return ""
    return visit.desk.candidates.open(visit.workspace, visit.session.id, provider, candidate)


def _found(visit: Visit, provider: str, typed: str, result: KeyTestResult) -> Found:
    sealed = _seal(visit, provider, typed) if typed and result.outcome in SAVEABLE else ""
    return _with_move(visit, Found(result.outcome.value, test=result, candidate=sealed), result.belongs_to or "", typed)


async def _refused(visit: Visit, provider: str, typed: str, label: str, problem: Problem) -> Answer:
    """The form again, with what is wrong; the key stays only where it can still be saved."""
    status = PROBLEM_STATUSES[problem.code]
    status = 422 if status in (400, 404) else status
    if problem.param == "label":
        return await page(visit, Ask(
            provider, "edit", label=label, label_problem=problem,
            found=Found("refused", problem=problem, candidate=_seal(visit, provider, typed)),
        ), status=status)
    state = _REFUSED.get(problem.code, "refused")
    keeps = state == "unreachable" or problem.code is ProblemCode.TOO_MANY_TESTS
    found = Found(state, problem=problem, candidate=_seal(visit, provider, typed) if keeps else "")
    found = _with_move(visit, found, (problem.flow or "").partition(":")[2], typed)
    return await page(visit, Ask(provider, "edit", found=found, label=label), status=status)


def _with_move(visit: Visit, found: Found, belongs_to: str, typed: str) -> Found:
    """Sealed for the field where it belongs, if this product has that field."""
    if found.state != "wrong_kind" or belongs_to not in ("openrouter", *visit.product.direct_providers):
        return found
    moved = _seal(visit, belongs_to, typed)
    if not moved:
        return found
    return Found(found.state, found.test, found.problem, moved=moved, moved_to=belongs_to)


def _seal(visit: Visit, provider: str, typed: str) -> str:
    return visit.desk.candidates.seal(visit.workspace, visit.session.id, provider, typed) if typed else ""


async def _stale(visit: Visit, provider: str, label: str, act: Act = "edit") -> Answer:
    problem = stale(visit, visit.say("the {provider} key", provider=provider_name(provider)))
    return await page(visit, Ask(provider, act, label=label), news=News(problem=problem), status=409)


def _nothing_typed(visit: Visit) -> Problem:
    return Problem(
        ProblemCode.CREDENTIAL_MALFORMED, visit.say("There is no key in the field."),
        visit.say("Paste the key and try again."), param="key",
    )


def _cleaned(saved: Saved) -> str:
    names = {str(wrapping): wrapping.name.lower() for wrapping in Wrapping}
    words = [names[text] for text in saved.cleaned if text in names]
    return f"&cleaned={'.'.join(words)}" if words else ""


_CARD = PATH + "/{provider}"

ROUTES: tuple[PortalRoute, ...] = (
    PortalRoute("POST", f"{_CARD}/test", Page.CREDENTIALS, Sight.MANAGE, test),
    PortalRoute("POST", f"{_CARD}/save", Page.CREDENTIALS, Sight.MANAGE, save),
    PortalRoute("POST", f"{_CARD}/paste", Page.CREDENTIALS, Sight.MANAGE, paste),
    PortalRoute("POST", f"{_CARD}/sign-in", Page.CREDENTIALS, Sight.MANAGE, sign_in),
    PortalRoute("GET", APPROVE_PATH, Page.CREDENTIALS, Sight.MANAGE, approve),
)
