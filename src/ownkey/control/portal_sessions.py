"""Visits to the pages: the host mints a link for a person whom it knows, the browser turns it into a session, once.

mint ──► link (60 s, one use) ──► enter ──► session (15 minutes, never extended) ──► end

Who somebody is, in which role and workspace, is the host's word alone. A new link is the only way to go on.
"""

import hashlib
import re
import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NoReturn, Protocol

from ownkey.control import ports
from ownkey.control.own_address import OwnAddress, origin_of
from ownkey.control.people import checked_member
from ownkey.control.ports import Actor, Clock
from ownkey.control.problems import Problem, ProblemCode, invalid, not_found, suggest
from ownkey.domain.connect import is_listed, web_safe
from ownkey.domain.phrases import Phrase
from ownkey.domain.portal import (
    CODE_S,
    ENTER_PATH,
    FLOW_PAGES,
    SECRET_BYTES,
    SESSION_LEAST_S,
    TICKET_S,
    EndReason,
    LinkTrouble,
    ListedSession,
    Look,
    Mode,
    Page,
    PortalRules,
    PortalSession,
    Sight,
    is_flow,
)
from ownkey.domain.product import Product
from ownkey.domain.workspace import Role, WorkspaceState

_SECRET = re.compile(r"[A-Za-z0-9_-]{43}\Z", re.ASCII)
_LOCALE = re.compile(r"[A-Za-z]{2,3}(?:-[A-Za-z0-9]{2,8}){0,4}\Z", re.ASCII)
_PATH = re.compile(r"/portal/[A-Za-z0-9._~/-]*(?:\?[A-Za-z0-9._~!$'()*+,;=:@%/?&-]*)?\Z", re.ASCII)
MAX_PATH_CHARS = 2_000


class _Store(ports.PortalSessions, ports.PortalTickets, Protocol):
    pass


@dataclass(frozen=True, slots=True)
class PortalWish:
    """What the host says of a visit. `pages` None: all of the product's. Empty texts: not asked for. `ttl_s` None: the
    product's usual time. `refresh_url` is for frames."""

    member_id: str
    email: str
    role: Role
    mode: Mode
    name: str = ""
    pages: Sequence[str] | None = None
    flow: str = ""
    theme: Look = "auto"
    locale: str = "en"
    return_url: str = ""
    refresh_url: str = ""
    ttl_s: int | None = None


@dataclass(frozen=True, slots=True)
class Minted:
    """A link on the only occasion that it can be read: whoever opens it is that person. It never prints."""

    url: str
    code: str
    session_id: str
    code_expires_at_ms: int
    session_expires_at_ms: int

    def __repr__(self) -> str:
        return f"Minted(session_id={self.session_id!r}, url=***, code=***)"


@dataclass(frozen=True, slots=True)
class Entered:
    """A visit that has begun, and the secret that the browser shows from now on. It never prints."""

    session: PortalSession
    secret: str

    def __repr__(self) -> str:
        return f"Entered(session={self.session.id!r}, secret=***)"


class PortalSessionControl:
    """Mints links, lets browsers in, finds and ends sessions. `rules` and `address` are the pages' to read too."""

    def __init__(
        self, store: _Store, clock: Clock, product: Product, rules: PortalRules, address: OwnAddress,
        entropy: Callable[[int], bytes] = secrets.token_bytes,
    ) -> None:
        self.rules = rules
        self.address = address
        self._store = store
        self._clock = clock
        self._product = product
        self._entropy = entropy

    # --- links

    async def mint(self, workspace: WorkspaceState, wish: PortalWish, actor: Actor) -> Minted:
        """A link for a person, who is a member from then on, with this role and no other. Raises Problem."""
        member = checked_member(workspace.id, wish.member_id, wish.email, wish.name, wish.role, place="member.")
        self._check_urls(wish)
        if wish.flow and not is_flow(wish.flow):
            raise invalid("flow", f"There is no flow {wish.flow[:60]!r}.",
                          f"{suggest(wish.flow.partition(':')[0], FLOW_PAGES)} credential, feature and receipt name "
                          "theirs behind a colon, such as credential:openrouter.")
        if not _LOCALE.match(wish.locale):
            raise invalid("locale", f"{wish.locale[:40]!r} is no language tag.", "Use one such as en or pt-BR.")
        now = self._clock.now_ms()
        session = PortalSession(
            id=self._clock.new_id("ses"), workspace_id=workspace.id, member_id=member.member_id,
            member_name=member.name, member_email=member.email, role=wish.role, mode=wish.mode,
            pages=self._pages(wish), flow=wish.flow, theme=wish.theme, locale=wish.locale, return_url=wish.return_url,
            refresh_url=wish.refresh_url, origin=self._origin(wish), created_at_ms=now,
            expires_at_ms=now + self._lifetime_s(wish) * 1_000,
        )
        return await self._mint(session, member, actor)

    async def view_as(self, workspace: WorkspaceState, operator: Actor, name: str = "") -> Minted:
        """A link for an operator to look as the owner does, and to change nothing. No host is involved, and nobody
        becomes a member. Raises Problem."""
        now = self._clock.now_ms()
        session = PortalSession(
            id=self._clock.new_id("ses"), workspace_id=workspace.id, member_id=operator.id, member_name=name,
            member_email="", role=Role.OWNER, mode="page", pages=self.rules.pages, flow="", theme="auto", locale="en",
            return_url="", refresh_url="", origin="", created_at_ms=now,
            expires_at_ms=now + self.rules.session_s * 1_000, kind="view_as",
        )
        return await self._mint(session, None, operator)

    async def enter(self, code: str, *, mode: Mode | None = None, replaces: str = "") -> Entered:
        """Opens the visit that a link was made for, once. `mode` is how the browser came (None: it does not say): a
        link that came the wrong way stays unused. `replaces` is the secret in the browser's cookie,
        which a page's visit takes over.

        Raises Problem.
        """
        secret = web_safe(self._entropy(SECRET_BYTES))
        found: PortalSession | LinkTrouble = LinkTrouble.UNKNOWN
        digest = secret_digest(code)
        if digest is not None:
            own = secret_digest(secret)
            assert own is not None, "a secret that we made has a secret's form"
            found = await self._store.enter_portal_session(
                digest, mode, own, replaces=secret_digest(replaces), at_ms=self._clock.now_ms()
            )
        if isinstance(found, LinkTrouble):
            self._refuse(found, mode)
        return Entered(found, secret)

    # --- sessions

    async def find(self, secret: str) -> PortalSession | None:
        """The visit of whoever shows this secret; None if there is none, or it is over. It is read anew each time,
        so that an end counts at once."""
        digest = secret_digest(secret)
        return None if digest is None else await self._store.find_portal_session(digest, at_ms=self._clock.now_ms())

    async def list(self, workspace: WorkspaceState) -> Sequence[ListedSession]:
        """Visits that live and links that can still be opened, newest first."""
        return await self._store.load_portal_sessions(workspace.id, at_ms=self._clock.now_ms())

    async def revoke(self, workspace: WorkspaceState, session_id: str, actor: Actor) -> None:
        """Raises Problem(NOT_FOUND), also for a visit that is over."""
        if not await self._end(workspace.id, EndReason.REVOKED, actor, session_id=session_id):
            raise not_found("portal session", session_id)

    async def revoke_member(self, workspace: WorkspaceState, member_id: str, actor: Actor) -> int:
        """All visits and open links of a person: how many there were."""
        return await self._end(workspace.id, EndReason.REVOKED, actor, member_id=member_id)

    async def end(self, session: PortalSession) -> None:
        """The person leaves."""
        await self._end(session.workspace_id, EndReason.LOGOUT, session.actor, session_id=session.id)

    # --- downloads of frames

    async def make_ticket(self, session: PortalSession, path: str, seconds: int = TICKET_S) -> str:
        """What opens one download, or one page, for a framed visit, whose browser cannot show its bearer there: once,
        within `seconds`, at `path` (with its query) alone. Raises Problem."""
        if len(path) > MAX_PATH_CHARS or not _PATH.match(path):
            raise invalid("path", "This is no address of these pages.", "Name a path that begins with /portal/.")
        ticket = web_safe(self._entropy(SECRET_BYTES))
        digest = secret_digest(ticket)
        assert digest is not None, "a ticket that we made has a ticket's form"
        await self._store.save_portal_ticket(session, digest, path, self._clock.now_ms() + seconds * 1_000)
        return ticket

    async def use_ticket(self, path: str, ticket: str) -> PortalSession:
        """The visit that a ticket belongs to. Raises Problem."""
        digest = secret_digest(ticket)
        found: PortalSession | LinkTrouble = LinkTrouble.UNKNOWN
        if digest is not None:
            found = await self._store.take_portal_ticket(digest, path, at_ms=self._clock.now_ms())
        if isinstance(found, LinkTrouble):
            self._refuse(found, None)
        return found

    # --- the steps

    async def _mint(self, session: PortalSession, member: ports.Member | None, actor: Actor) -> Minted:
        if not self.address.url:
            raise invalid(
                "url", "The address at which browsers reach this server is not known.",
                "Start `ownkey serve`, or set public_url in [connect] of ownkey.toml.",
            )
        code = web_safe(self._entropy(SECRET_BYTES))
        digest = secret_digest(code)
        assert digest is not None, "a code that we made has a code's form"
        code_expires_at_ms = min(session.created_at_ms + CODE_S * 1_000, session.expires_at_ms)
        await self._store.save_portal_session(
            session, digest, code_expires_at_ms, member, at_ms=session.created_at_ms, actor=actor
        )
        return Minted(
            f"{self.address.url}{ENTER_PATH}?code={code}", code, session.id, code_expires_at_ms, session.expires_at_ms
        )

    async def _end(
        self, workspace_id: str, reason: EndReason, actor: Actor, *, session_id: str | None = None,
        member_id: str | None = None,
    ) -> int:
        return await self._store.end_portal_sessions(
            workspace_id, reason, session_id=session_id, member_id=member_id, at_ms=self._clock.now_ms(), actor=actor
        )

    def _check_urls(self, wish: PortalWish) -> None:
        for name, url, listed, where in (
            ("return_url", wish.return_url, self.rules.return_urls, "return_urls in [connect] or [portal]"),
            ("refresh_url", wish.refresh_url, self.rules.refresh_urls, "refresh_urls in [portal]"),
        ):
            if url and not is_listed(url, listed):
                raise invalid(
                    name, "This address is not one of the product's that are configured for this.",
                    f"Add it to {where} of ownkey.toml (its query may differ).",
                )

    def _origin(self, wish: PortalWish) -> str:
        """The site that frames this visit: the one that the person goes back to. "" for a page of its own."""
        if wish.mode == "page":
            return ""
        origins = self.rules.origins
        if not origins:
            raise invalid("mode", "No site may frame these pages.",
                          "List your site under origins in [portal] of ownkey.toml, or use the mode page.")
        for url in (wish.return_url, wish.refresh_url):
            if url and origin_of(url) in origins:
                return origin_of(url)
        if len(origins) == 1:
            return origins[0]
        raise invalid("return_url", "Several sites may frame these pages, and this address is on none of them.",
                      f"Name a page on the site that frames them: {', '.join(origins)}.")

    def _pages(self, wish: PortalWish) -> tuple[Page, ...]:
        """In the product's order; only fewer, never more."""
        listed = self.rules.pages
        for name in wish.pages or ():
            if name not in tuple(listed):
                raise invalid("pages", f"{name[:60]!r} is not one of {self._product.name}'s pages.",
                              suggest(name, listed))
        pages = listed if wish.pages is None else tuple(page for page in listed if page in wish.pages)
        probe = PortalSession("", "", "", "", "", wish.role, wish.mode, pages, "", "auto", "", "", "", "", 0, 0)
        if all(probe.sight(page) is Sight.NONE for page in pages):
            raise invalid("pages", f"A {wish.role} sees none of these pages.", "Name others, or leave pages out.")
        return pages

    def _lifetime_s(self, wish: PortalWish) -> int:
        if wish.ttl_s is None:
            return self.rules.session_s
        most = self.rules.session_most_s
        if not SESSION_LEAST_S <= wish.ttl_s <= most:
            raise invalid("ttl_s", f"A session lasts {SESSION_LEAST_S} to {most} seconds.",
                          Phrase("Ask for less; your backend can mint the next one in time."))
        return wish.ttl_s

    def _refuse(self, trouble: LinkTrouble, mode: Mode | None) -> NoReturn:
        again = Phrase("Open these pages again from {name}.", name=self._product.name)
        match trouble:
            case LinkTrouble.UNKNOWN:
                raise Problem(ProblemCode.LINK_UNKNOWN, Phrase("This link was not made here, or long ago."), again)
            case LinkTrouble.USED:
                raise Problem(ProblemCode.LINK_USED, Phrase("This link was opened before; each one works once."), again)
            case LinkTrouble.EXPIRED:
                raise Problem(
                    ProblemCode.LINK_EXPIRED, Phrase("This link was not opened within a minute, or it was withdrawn."),
                    again
                )
            case LinkTrouble.MODE:
                place = Phrase("a page of its own") if mode == "frame" else Phrase(
                    "a frame inside {name}", name=self._product.name
                )
                raise Problem(
                    ProblemCode.LINK_WRONG_MODE, Phrase("This link is for {place}. It was not used up.", place=place),
                    again
                )


def secret_digest(secret: str) -> bytes | None:
    """What is stored of a code, a session's secret or a ticket; None for a text that is none, which is looked up
    nowhere."""
    return hashlib.sha256(secret.encode("ascii")).digest() if _SECRET.match(secret) else None

