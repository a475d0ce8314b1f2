"""Connect with OpenRouter: the customer signs in there, and the key comes to us without passing through their hands.

start ──► OpenRouter's page ──► callback with a code ──► exchange ──► checked, sealed, tested like a pasted key

A sign-in works once, for ten minutes, for the workspace and the principal that began it. Whatever goes wrong behind
the first step ends it: the way back is always to start again.
"""

import hmac
import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from types import MappingProxyType
from typing import Any, Literal, Protocol

from ownkey.control import ports
from ownkey.control.credentials import CredentialControl, Saved
from ownkey.control.data_keys import with_data_key
from ownkey.control.key_test import KeyTest, KeyTestResult
from ownkey.control.own_address import OwnAddress
from ownkey.control.ports import Actor, Clock, Safe, Upstream
from ownkey.control.problems import Problem, ProblemCode, invalid, suggest
from ownkey.control.workspaces import check_name
from ownkey.domain.connect import (
    CALLBACK_PATH,
    LIMIT_RESETS,
    MAX_CODE_CHARS,
    MAX_LABEL_CHARS,
    OWN_RETURN_PATH,
    PENDING_MS,
    RESULT_PARAMETERS,
    STATE_BYTES,
    VERIFIER_BYTES,
    ConnectRules,
    KeyWish,
    PendingConnect,
    authorization_url,
    browser_proof,
    is_listed,
    is_loopback,
    s256,
    state_digest,
    web_safe,
    with_query,
)
from ownkey.domain.errors import DataKeyClosed
from ownkey.domain.exchange import Origin, UpstreamRequest
from ownkey.domain.failures import UpstreamError
from ownkey.domain.phrases import Phrase
from ownkey.domain.portal import PortalSession
from ownkey.domain.product import Product
from ownkey.domain.workspace import Sealed, WorkspaceState

PROVIDER = "openrouter"
EXCHANGE_S = 15.0
ANSWER_BYTES = 64 * 1024
MAX_LIMIT_USD = Decimal(1_000_000)

_AGAIN = "Start connecting again."
_FLOW = "credential:openrouter"
_NONE: Mapping[str, str] = MappingProxyType({})


class _Store(ports.Connects, ports.Credentials, Protocol):
    async def load_workspace(self, workspace_id: str) -> WorkspaceState | None: ...


@dataclass(frozen=True, slots=True)
class ConnectWish:
    """What the person who connects asks for. Empty texts: not asked for.

    `callback_url` "": this server's own door. `return_url` is where that door sends the browser in the end.
    """

    label: str = ""
    limit_usd: str = ""
    limit_reset: str = ""
    expires_at: str = ""
    callback_url: str = ""
    return_url: str = ""


@dataclass(frozen=True, slots=True)
class Started:
    """`authorization_url` holds the state: whoever has it can end this sign-in, so it is shown once. `proof` is the
    cookie, name and value, that a page sets which binds the sign-in to its browser."""

    authorization_url: str
    callback_url: str
    expires_at_ms: int
    proof: tuple[str, str]

    def __repr__(self) -> str:
        return f"Started(authorization_url=***, callback_url={self.callback_url!r})"


@dataclass(frozen=True, slots=True)
class Connected:
    """The key is saved. `test` is None where a Test could not be run now; `test_problem` then says why."""

    workspace: WorkspaceState
    saved: Saved
    test: KeyTestResult | None
    test_problem: str = ""


@dataclass(frozen=True, slots=True)
class BrowserEnd:
    """How the browser's visit ends. `return_url` None: show a page. Either `connected` or `problem` is set."""

    connected: Connected | None
    problem: Problem | None
    return_url: str | None


class ConnectControl:
    def __init__(
        self, store: _Store, safe: Safe, credentials: CredentialControl, key_test: KeyTest, upstream: Upstream,
        origin: Origin, clock: Clock, product: Product, rules: ConnectRules, address: OwnAddress,
        entropy: Callable[[int], bytes] = os.urandom, pages: Sequence[str] = (),
    ) -> None:
        """`pages` are more addresses of the product that a browser may return to, but no code may be sent to."""
        self._store = store
        self._safe = safe
        self._credentials = credentials
        self._key_test = key_test
        self._upstream = upstream
        self._origin = origin
        self._clock = clock
        self._product = product
        self._rules = rules
        self._address = address
        self._pages = tuple(pages)
        self._entropy = entropy

    async def start(self, workspace: WorkspaceState, wish: ConnectWish, actor: Actor) -> Started:
        """The address that the person opens. Raises Problem."""
        if not self._rules.auth_url:
            raise invalid(
                "connect", "The address of OpenRouter's sign-in page is not known here.",
                "Set auth_url in [connect] of ownkey.toml, or paste a key.",
            )
        key, callback = self._key_wish(workspace, wish), self._callback(wish)
        if wish.return_url and not self.may_return(wish.return_url):
            raise invalid(
                "return_url", "This address is not one that browsers may be sent back to.",
                "Add it to return_urls in [connect] of ownkey.toml (its query may differ), or leave it out.",
            )
        now = self._clock.now_ms()
        state, verifier = web_safe(self._entropy(STATE_BYTES)), web_safe(self._entropy(VERIFIER_BYTES))
        digest = state_digest(state)
        assert digest is not None, "a state that we made has a state's form"
        pending = PendingConnect(
            id=self._clock.new_id("con"), workspace_id=workspace.id, actor_kind=actor.kind, actor_id=actor.id,
            label=wish.label, return_url=wish.return_url, expires_at_ms=now + PENDING_MS,
        )
        with with_data_key(workspace, _FLOW):
            sealed = self._safe.seal_secret(workspace.id, workspace.dek, _purpose(pending), verifier.encode("ascii"))
        await self._store.save_connect(pending, digest, sealed, at_ms=now, actor=actor)
        return Started(
            authorization_url(self._rules, callback, state, s256(verifier), key), callback, pending.expires_at_ms,
            browser_proof(state),
        )

    async def finish(
        self, workspace: WorkspaceState, state: str, code: str, *, address: str, actor: Actor
    ) -> Connected:
        """Over the API: by the principal that began it, for the same workspace. `code` "": the person cancelled.

        Raises Problem; another workspace's or principal's sign-in is unknown here.
        """
        pending = await self._find(state)
        if (
            pending is None or pending.workspace_id != workspace.id
            or (pending.actor_kind, pending.actor_id) != (actor.kind, actor.id)
        ):
            raise _unknown()
        return await self._finish(workspace, pending, code, address, actor)

    @property
    def own_page(self) -> str:
        """Where a sign-in returns that was begun on our own page; "" while this server's address is unknown."""
        return self._address.url + OWN_RETURN_PATH if self._address.url else ""

    async def finish_in_browser(
        self, state: str, code: str, visit: PortalSession | None = None, cookies: Mapping[str, str] = _NONE
    ) -> BrowserEnd:
        """At our own door: acts for whoever began. Raises nothing that the person caused.

        What was begun on our own pages is finished in the browser that began it only: else somebody who is sent an
        address would hand their key to a stranger's workspace by approving it. On a page that is the same person's
        visit (`visit`: the browser's own); out of a frame, which has no cookie, the one of `Started.proof` (among the
        browser's `cookies`), and a browser without it ends the sign-in. What was begun over the API and returns here
        is proved by its state alone: who hands out its address answers for that.
        """
        pending = await self._find(state)
        workspace = None if pending is None else await self._store.load_workspace(pending.workspace_id)
        if pending is None or workspace is None:
            return BrowserEnd(None, _unknown(), None)
        if pending.return_url and pending.return_url == self.own_page and not _is_theirs(pending, visit):
            return BrowserEnd(None, _elsewhere(), None)
        if _leaves_a_frame(pending, self.own_page) and not _is_proved(state, cookies):
            await self._burn(pending)
            return BrowserEnd(None, _another_browser(), None)
        try:
            actor = Actor(pending.actor_kind, pending.actor_id)
            connected = await self._finish(workspace, pending, code, "", actor)
        except Problem as problem:
            return BrowserEnd(None, problem, self._way_back(pending, "failed", problem.code.value))
        return BrowserEnd(connected, None, self._way_back(pending, "saved", ""))

    # --- the steps

    def _callback(self, wish: ConnectWish) -> str:
        url = wish.callback_url
        if url:
            if is_loopback(url) or is_listed(url, self._rules.return_urls):
                return url
            raise invalid(
                "callback_url", "OpenRouter's answer may not be sent to this address.",
                "Use a page that return_urls in [connect] of ownkey.toml lists, or http://localhost with a port.",
            )
        if not self._address.url:
            raise invalid(
                "callback_url", "Browsers cannot come back to this server: its own address is not configured.",
                "Set public_url in [connect] of ownkey.toml, or name a callback_url.",
            )
        return self._address.url + CALLBACK_PATH

    def _key_wish(self, workspace: WorkspaceState, wish: ConnectWish) -> KeyWish:
        label = check_name("label", wish.label) if wish.label else f"{self._product.name}: {workspace.name}"
        if wish.limit_reset and wish.limit_reset not in LIMIT_RESETS:
            raise invalid("limit_reset", f"A limit cannot be reset {wish.limit_reset[:20]!r}.",
                          suggest(wish.limit_reset, LIMIT_RESETS))
        if wish.limit_reset and not wish.limit_usd:
            raise invalid("limit_reset", "There is no limit to reset.", "Give limit_usd too.")
        return KeyWish(
            label[:MAX_LABEL_CHARS], _limit(wish.limit_usd), wish.limit_reset, self._expiry(wish.expires_at)
        )

    def _expiry(self, text: str) -> str:
        if not text:
            return ""
        try:
            at = datetime.fromisoformat(text)
        except ValueError:
            at = None
        if at is None or at.tzinfo is None or at.timestamp() * 1_000 <= self._clock.now_ms():
            raise invalid(
                "expires_at", "The key's end must be a time in the future.", "Write it as 2027-12-31T23:59:59Z."
            )
        return at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")

    async def _find(self, state: str) -> PendingConnect | None:
        digest = state_digest(state)
        return None if digest is None else await self._store.find_connect(digest)

    async def _finish(
        self, workspace: WorkspaceState, pending: PendingConnect, code: str, address: str, actor: Actor
    ) -> Connected:
        now = self._clock.now_ms()
        if pending.used_at_ms is not None:
            raise _used()
        if pending.expires_at_ms <= now:
            raise Problem(
                ProblemCode.CONNECT_EXPIRED, Phrase("This sign-in was begun more than ten minutes ago."), _AGAIN,
                flow=_FLOW
            )
        sealed = await self._store.take_connect(workspace.id, pending.id, at_ms=now)
        if sealed is None:
            raise _used()
        try:
            verifier = self._open(workspace, pending, sealed)
            key = await self._exchange(code, verifier)
            # A key that was made a moment ago is lost if it is not saved now, so an unreachable check keeps it.
            saved = await self._credentials.save(
                workspace, PROVIDER, key, label=pending.label, save_anyway=True, address=address, actor=actor,
                fetched=True,
            )
        except Problem as problem:
            await self._store.save_audit(
                workspace.id, "connect.failed", pending.id, None, {"code": problem.code.value},
                at_ms=self._clock.now_ms(), actor=actor,
            )
            raise
        return await self._test(workspace, saved, address, actor)

    def _open(self, workspace: WorkspaceState, pending: PendingConnect, sealed: Sealed) -> str:
        """The verifier. Raises Problem; nothing has been asked of OpenRouter then, so no key was made."""
        with with_data_key(workspace, _FLOW):
            try:
                return self._safe.open_secret(workspace.id, workspace.dek, _purpose(pending), sealed).decode("ascii")
            except DataKeyClosed:
                raise
            except ValueError as error:
                raise _refused(Phrase("what was kept for it cannot be read: our fault")) from error

    async def _exchange(self, code: str, verifier: str) -> str:
        """The key for the code. The answer goes nowhere but into the return value."""
        if not code:
            raise Problem(
                ProblemCode.CONNECT_CANCELLED, Phrase("Nobody approved at OpenRouter, so no key was made."),
                Phrase("Start again whenever you like, or paste a key."), flow=_FLOW,
            )
        if len(code) > MAX_CODE_CHARS or not code.isascii() or not code.isprintable():
            raise _refused(Phrase("what came back is no code"))
        body = {"code": code, "code_verifier": verifier, "code_challenge_method": "S256"}
        request = UpstreamRequest(
            self._origin, "POST", "/auth/keys",
            (("content-type", "application/json"), ("accept", "application/json")), json.dumps(body).encode(),
        )
        deadline = self._clock.monotonic() + EXCHANGE_S
        try:
            response = await self._upstream.send(request, head_timeout_s=EXCHANGE_S)
            try:
                answer = await response.read_all(max(0.1, deadline - self._clock.monotonic()), ANSWER_BYTES)
            finally:
                response.close()
        except UpstreamError as error:
            raise _unreachable(
                Phrase("it took too long") if error.timeout else Phrase("the connection failed")
            ) from error
        if response.status in (408, 429) or response.status >= 500 or response.status < 200:
            raise _unreachable(Phrase("it answered {status}", status=response.status))
        if response.status != 200:
            raise _refused(Phrase("it answered {status}", status=response.status))
        key = _key_of(answer)
        if key is None:
            raise _unreachable(Phrase("its answer has no key"))
        return key

    async def _test(self, before: WorkspaceState, saved: Saved, address: str, actor: Actor) -> Connected:
        workspace = await self._store.load_workspace(before.id)
        assert workspace is not None, Phrase("the key was saved in it a moment ago")
        try:
            test = await self._key_test.run(
                workspace, PROVIDER, None, address=address, actor=actor, token_id=actor.id
            )
        except Problem as problem:
            return Connected(workspace, saved, None, problem.message)
        again = await self._store.load_workspace(before.id)
        return Connected(again or workspace, saved, test)

    async def _burn(self, pending: PendingConnect) -> None:
        """What came back in a browser that did not begin it is over, for everybody."""
        now = self._clock.now_ms()
        if await self._store.take_connect(pending.workspace_id, pending.id, at_ms=now) is not None:
            await self._store.save_audit(
                pending.workspace_id, "connect.failed", pending.id, None, {"code": "another_browser"}, at_ms=now,
                actor=Actor(pending.actor_kind, pending.actor_id),
            )

    def may_return(self, url: str) -> bool:
        """Whether a browser may be sent there after a sign-in."""
        return url == self.own_page or is_listed(url, (*self._rules.return_urls, *self._pages))

    def _way_back(self, pending: PendingConnect, result: Literal["saved", "failed"], code: str) -> str | None:
        """The product's page, if it still is on the list, or our own."""
        if not pending.return_url or not self.may_return(pending.return_url):
            return None
        told = dict(zip(RESULT_PARAMETERS, (result, code), strict=True))
        return with_query(pending.return_url, {name: value for name, value in told.items() if value})


def _is_theirs(pending: PendingConnect, visit: PortalSession | None) -> bool:
    return (
        visit is not None and visit.workspace_id == pending.workspace_id and visit.kind == "member"
        and (pending.actor_kind, pending.actor_id) == (visit.actor.kind, visit.actor.id)
    )


def _leaves_a_frame(pending: PendingConnect, own_page: str) -> bool:
    """Whether a sign-in was begun by a person on our pages, but not on a page that has a cookie."""
    return pending.actor_kind == "member" and not (own_page and pending.return_url == own_page)


def _is_proved(state: str, cookies: Mapping[str, str]) -> bool:
    name, value = browser_proof(state)
    return hmac.compare_digest(cookies.get(name, "").encode(), value.encode())


def _purpose(pending: PendingConnect) -> str:
    return f"connect:{pending.id}"


def _limit(text: str) -> str:
    """USD as plain digits; "" for none."""
    if not text:
        return ""
    try:
        amount = Decimal(text)
    except InvalidOperation:
        amount = Decimal(-1)
    if not amount.is_finite() or not 0 < amount <= MAX_LIMIT_USD or amount != amount.quantize(Decimal("0.01")):
        raise invalid("limit_usd",
                      Phrase("The key's limit must be an amount in US dollars, with at most two decimals."),
                      Phrase('Write it as text, such as "25" or "12.50"; leave it out for no limit.'))
    return f"{amount:f}"


def _key_of(answer: bytes) -> str | None:
    try:
        value: Any = json.loads(answer)
    except (ValueError, RecursionError):
        return None
    key = value.get("key") if isinstance(value, dict) else None
    return key if isinstance(key, str) and key else None


def _unknown() -> Problem:
    return Problem(
        ProblemCode.CONNECT_UNKNOWN, Phrase("This sign-in was not begun here."), _AGAIN, param="state", flow=_FLOW
    )


def _elsewhere() -> Problem:
    return Problem(
        ProblemCode.CONNECT_UNKNOWN,
        Phrase("This sign-in was begun in another visit, or that visit is over; nothing was saved."),
        Phrase("Open the settings of your AI keys and start connecting there, in this browser."), param="state",
        flow=_FLOW,
    )


def _another_browser() -> Problem:
    return Problem(
        ProblemCode.CONNECT_UNKNOWN,
        Phrase("This sign-in was begun in another browser, so no key was made, nothing was saved, and it is over."),
        Phrase("Open the settings of your own AI keys and connect there. If somebody sent you here, close this "
               "page."),
        param="state", flow=_FLOW,
    )


def _used() -> Problem:
    return Problem(
        ProblemCode.CONNECT_USED,
        Phrase("This sign-in was finished or tried before; it works once, and nothing was done now."),
        Phrase("Look whether the key is saved; if not, start again."), param="state", flow=_FLOW,
    )


def _refused(why: str) -> Problem:
    return Problem(
        ProblemCode.CONNECT_REFUSED, Phrase("OpenRouter did not take the code ({why}).", why=why), _AGAIN,
        param="code", flow=_FLOW
    )


def _unreachable(why: str) -> Problem:
    return Problem(
        ProblemCode.CONNECT_UNREACHABLE,
        Phrase("OpenRouter could not be reached to fetch the key ({why}); nothing was saved.", why=why),
        Phrase("Start again in a minute, or paste a key."), flow=_FLOW,
    )
