"""Operators' visits: opened after a proof of identity, found by their secret, ended by time, by hand, or by a change.

A session is looked up in the database by each request, by the digest of its secret: whatever ends one counts from the
next request on. Nothing is remembered in between.
"""

import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Protocol

from ownkey.control import ports
from ownkey.control.ports import Actor, Clock
from ownkey.control.problems import Problem, ProblemCode, invalid, not_found
from ownkey.control.workspaces import check_name
from ownkey.domain.connect import web_safe
from ownkey.domain.operators import (
    FRESH_MS,
    MAX_FILTERS,
    SECRET_BYTES,
    TOUCH_MS,
    ConsoleRules,
    Operator,
    OperatorRole,
    OperatorSession,
    SessionRow,
    Via,
    secret_digest,
)

MAX_QUERY_CHARS = 1_000


class _Store(ports.OperatorSessions, ports.OperatorWishes, Protocol):
    async def save_audit(
        self, workspace_id: str | None, action: str, target: str, before: Mapping[str, Any] | None,
        after: Mapping[str, Any] | None, *, at_ms: int, actor: Actor
    ) -> None: ...


class SessionControl:
    def __init__(
        self, store: _Store, clock: Clock, rules: ConsoleRules, entropy: Callable[[int], bytes] = secrets.token_bytes
    ) -> None:
        self._store = store
        self._clock = clock
        self._rules = rules
        self._entropy = entropy

    async def find(self, secret: str, *, passive: bool = False) -> OperatorSession | None:
        """The live session of a cookie's value. `passive`: a page asks by itself, so idle time goes on counting."""
        digest = secret_digest(secret)
        found = None if digest is None else await self._store.find_operator_session(digest)
        now = self._clock.now_ms()
        if found is None or not found.is_live(now):
            return None
        session = self._as_configured(found)
        if session is None or passive:
            return session
        idle_until = min(now + self._rules.idle_ms, session.absolute_until_ms)
        if idle_until - session.idle_until_ms < TOUCH_MS:
            return session
        self._store.touch_operator_session(session.id, idle_until, now)
        return replace(session, idle_until_ms=idle_until)

    async def open(
        self, operator: Operator, via: Via, address: str, *, replaces: str, proved_at_ms: int | None
    ) -> tuple[OperatorSession, str]:
        """A new session and its secret, which is stored nowhere. `replaces` is the value of the browser's older cookie,
        whose session ends: no secret survives a sign-in. Raises Problem."""
        now, secret = self._clock.now_ms(), web_safe(self._entropy(SECRET_BYTES))
        session = OperatorSession(
            id=self._clock.new_id("vis"), operator_id=operator.id, email=operator.email, name=operator.name,
            role=operator.role, created_at_ms=now, idle_until_ms=now + self._rules.idle_ms,
            absolute_until_ms=now + self._rules.absolute_ms,
            fresh_until_ms=0 if proved_at_ms is None else proved_at_ms + FRESH_MS, via=via,
            shortcuts=operator.shortcuts,
        )
        digest = secret_digest(secret)
        assert digest is not None, "a secret that we made has a secret's form"
        if not await self._store.open_operator_session(
            session, digest, address[:64], replaces=secret_digest(replaces), at_ms=now
        ):
            raise Problem(ProblemCode.SIGN_IN_REFUSED, "You may not sign in here any more.",
                          "Ask whoever runs this deployment.")
        return self._as_configured(session) or session, secret

    async def list(self, session: OperatorSession) -> Sequence[SessionRow]:
        """The operator's own live sessions, newest first."""
        return await self._store.load_operator_sessions(session.operator_id, self._clock.now_ms())

    async def sign_out(self, session: OperatorSession) -> None:
        await self._end(session, "signed_out", session.id)

    async def end(self, session: OperatorSession, session_id: str) -> None:
        """Another of the operator's own. Raises Problem(NOT_FOUND)."""
        if await self._end(session, "ended_by_hand", session_id) == 0:
            raise not_found("session", session_id, "among yours")

    async def sign_out_everywhere(self, session: OperatorSession) -> int:
        """This one too. How many ended."""
        return await self._end(session, "signed_out_everywhere", None)

    def require_fresh(self, session: OperatorSession) -> None:
        """For money actions and for changes of one's own factors. Raises Problem(REAUTHENTICATION_REQUIRED)."""
        if not session.is_fresh(self._clock.now_ms()):
            raise Problem(
                ProblemCode.REAUTHENTICATION_REQUIRED,
                "This needs a proof that it is you, given within the last ten minutes.",
                "Confirm who you are, then do it again.", flow="reauthenticate",
            )

    def require_ops(self, session: OperatorSession) -> None:
        """For everything that changes something. Raises Problem(ROLE_REQUIRED)."""
        if session.role is not OperatorRole.OPS:
            raise Problem(ProblemCode.ROLE_REQUIRED, "Your role, support, reads and explains; it changes nothing.",
                          "Ask an operator with the role ops.")

    async def note_view_as(self, session: OperatorSession, workspace_id: str) -> None:
        """Somebody of staff looks at a workspace as its people do: the deployment's log has it too; the workspace's own
        has it from the link."""
        await self._store.save_audit(
            None, "operator.view_as", workspace_id, None, {"session": session.id}, at_ms=self._clock.now_ms(),
            actor=Actor("operator", session.operator_id),
        )

    # --- what operators keep for themselves

    async def set_shortcuts(self, session: OperatorSession, on: bool) -> None:
        await self._store.save_shortcuts(session.operator_id, on)

    async def filters(self, session: OperatorSession) -> Sequence[tuple[str, str]]:
        """(name, query string) of saved filters, by name."""
        return await self._store.load_filters(session.operator_id)

    async def save_filter(self, session: OperatorSession, name: str, query: str) -> None:
        """The same name again replaces it. Raises Problem."""
        shown = check_name("name", name)
        text = query.removeprefix("?")
        if not text or len(text) > MAX_QUERY_CHARS or not text.isascii() or not text.isprintable() or "#" in text:
            raise invalid("query", "There is no filter to save.", "Choose one first, then save it.")
        if not await self._store.save_filter(
            session.operator_id, shown, text, most=MAX_FILTERS, at_ms=self._clock.now_ms()
        ):
            raise invalid("name", f"You have {MAX_FILTERS} saved filters, which is the most.", "Delete one first.")

    async def delete_filter(self, session: OperatorSession, name: str) -> None:
        """Raises Problem(NOT_FOUND)."""
        if not await self._store.delete_filter(session.operator_id, name):
            raise not_found("filter", name, "among yours")

    # --- parts

    async def _end(self, session: OperatorSession, reason: str, session_id: str | None) -> int:
        return await self._store.end_operator_sessions(
            session.operator_id, reason, session_id=session_id, at_ms=self._clock.now_ms(),
            actor=Actor("operator", session.operator_id),
        )

    def _as_configured(self, session: OperatorSession) -> OperatorSession | None:
        """A way in that was switched off, and a person who was taken off the list, are out with the next start."""
        rules = self._rules
        if not rules.on:
            return None
        if session.via == "password":
            return session if rules.passwords else None
        role = None if rules.oidc is None else rules.oidc.role_of(session.email)
        return None if role is None else replace(session, role=OperatorRole(role))
