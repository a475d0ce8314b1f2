"""Visits to the pages, by digest: the link's code and the session's secret are never here, and each code opens once."""

import sqlite3
from collections.abc import Sequence
from typing import Any

from ownkey.domain.portal import EndReason, LinkTrouble, ListedSession, Mode, Page, PortalSession
from ownkey.domain.records import Actor, Member
from ownkey.domain.workspace import Role
from ownkey.store.audit import save_audit
from ownkey.store.connection import Connection
from ownkey.store.core import Core
from ownkey.store.portal_ends import end_member_sessions, end_session
from ownkey.store.workspaces import put_member

KEPT_MS = 24 * 3_600_000
"""How long after its end a visit is remembered, so that whoever comes late is told so."""
LISTED_MOST = 500

_INSERT = """
INSERT INTO portal_session(id, workspace_id, kind, member_id, member_name, member_email, role, mode, pages, flow, theme,
  locale, return_url, refresh_url, origin, created_at_ms, expires_at_ms, minted_kind, minted_by, code_sha256,
  code_expires_at_ms) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
"""
_COLUMNS = """
SELECT id, workspace_id, kind, member_id, member_name, member_email, role, mode, pages, flow, theme, locale, return_url,
  refresh_url, origin, created_at_ms, expires_at_ms, entered_at_ms, minted_kind, minted_by
FROM portal_session
"""
_BY_CODE = _COLUMNS + "WHERE code_sha256 = ?"
_BY_SECRET = _COLUMNS + "WHERE secret_sha256 = ? AND ended_at_ms IS NULL AND expires_at_ms > ?"
_LIST = _COLUMNS + """
WHERE workspace_id = ? AND ended_at_ms IS NULL AND expires_at_ms > ?
  AND (entered_at_ms IS NOT NULL OR code_expires_at_ms > ?)
ORDER BY created_at_ms DESC, id DESC LIMIT ?
"""
_ENTER = """
UPDATE portal_session SET secret_sha256 = ?, entered_at_ms = ?
WHERE id = ? AND workspace_id = ? AND entered_at_ms IS NULL AND ended_at_ms IS NULL AND code_expires_at_ms > ?
"""
_FORGET = "DELETE FROM portal_session WHERE expires_at_ms <= ? OR ended_at_ms <= ?"
_SAME_MEMBER = "SELECT 1 FROM member WHERE workspace_id = ? AND id = ? AND email = ? AND name = ? AND role = ?"

_INSERT_TICKET = """
INSERT INTO portal_ticket(workspace_id, session_id, digest, path, expires_at_ms) VALUES (?, ?, ?, ?, ?)
"""
_TICKET = """
SELECT t.expires_at_ms, t.used_at_ms, s.secret_sha256 FROM portal_ticket t JOIN portal_session s ON s.id = t.session_id
WHERE t.digest = ? AND t.path = ?
"""
_TAKE_TICKET = """
UPDATE portal_ticket SET used_at_ms = ? WHERE workspace_id = ? AND digest = ? AND used_at_ms IS NULL
"""
_FORGET_TICKETS = "DELETE FROM portal_ticket WHERE expires_at_ms <= ?"


class PortalSessionsPart(Core):
    """Satisfies `control.ports.PortalSessions` and `PortalTickets`."""

    async def save_portal_session(
        self, session: PortalSession, code_sha256: bytes, code_expires_at_ms: int, member: Member | None,
        *, at_ms: int, actor: Actor,
    ) -> None:
        def operation(conn: Connection) -> None:
            if member is not None:
                _keep_member(conn, member, at_ms, actor)
            s = session
            conn.execute(_INSERT, (
                s.id, s.workspace_id, s.kind, s.member_id, s.member_name, s.member_email, s.role, s.mode,
                " ".join(s.pages), s.flow, s.theme, s.locale, s.return_url, s.refresh_url, s.origin, s.created_at_ms,
                s.expires_at_ms, actor.kind, actor.id, code_sha256, code_expires_at_ms,
            ))
            action = "portal.view_as" if s.kind == "view_as" else "portal.minted"
            save_audit(conn, s.workspace_id, action, s.id, None, {
                "member": s.member_id, "role": s.role, "mode": s.mode, "pages": list(s.pages), "flow": s.flow,
                "expires_at_ms": s.expires_at_ms,
            }, at_ms=at_ms, actor=actor)

        await self._write(operation)

    async def enter_portal_session(
        self, code_sha256: bytes, mode: Mode | None, secret_sha256: bytes, *, replaces: bytes | None, at_ms: int
    ) -> PortalSession | LinkTrouble:
        def operation(conn: Connection) -> PortalSession | LinkTrouble:
            row = conn.execute(_BY_CODE, (code_sha256,)).fetchone()
            if row is None:
                return LinkTrouble.UNKNOWN
            listed = _listed(row)
            session = listed.session
            if mode is not None and session.mode != mode:
                return LinkTrouble.MODE
            if listed.entered_at_ms is not None:
                return LinkTrouble.USED
            entering = (secret_sha256, at_ms, session.id, session.workspace_id, at_ms)
            if conn.execute(_ENTER, entering).rowcount == 0:
                return LinkTrouble.EXPIRED
            save_audit(
                conn, session.workspace_id, "portal.entered", session.id, None,
                {"member": session.member_id, "role": session.role, "mode": session.mode},
                at_ms=at_ms, actor=session.actor,
            )
            if replaces is not None and session.mode == "page":
                _replace(conn, replaces, session, at_ms)
            return session

        return await self._write(operation)

    async def find_portal_session(self, secret_sha256: bytes, *, at_ms: int) -> PortalSession | None:
        row = self._near.execute(_BY_SECRET, (secret_sha256, at_ms)).fetchone()
        return None if row is None else _listed(row).session

    async def load_portal_sessions(self, workspace_id: str, *, at_ms: int) -> Sequence[ListedSession]:
        rows = self._near.execute(_LIST, (workspace_id, at_ms, at_ms, LISTED_MOST)).fetchall()
        return [_listed(row) for row in rows]

    async def end_portal_sessions(
        self, workspace_id: str, reason: EndReason, *, session_id: str | None = None, member_id: str | None = None,
        at_ms: int, actor: Actor,
    ) -> int:
        def operation(conn: Connection) -> int:
            if session_id is not None:
                return end_session(conn, workspace_id, session_id, reason, at_ms=at_ms, actor=actor)
            assert member_id is not None, "whose sessions end must be named"
            return end_member_sessions(conn, workspace_id, member_id, reason, at_ms=at_ms, actor=actor)

        return await self._write(operation)

    async def save_portal_ticket(self, session: PortalSession, digest: bytes, path: str, expires_at_ms: int) -> None:
        values = (session.workspace_id, session.id, digest, path, expires_at_ms)
        await self.writer.submit(lambda conn: conn.execute(_INSERT_TICKET, values).rowcount)

    async def take_portal_ticket(self, digest: bytes, path: str, *, at_ms: int) -> PortalSession | LinkTrouble:
        def operation(conn: Connection) -> PortalSession | LinkTrouble:
            row = conn.execute(_TICKET, (digest, path)).fetchone()
            if row is None:
                return LinkTrouble.UNKNOWN
            expires_at_ms, used_at_ms, secret_sha256 = row
            if used_at_ms is not None:
                return LinkTrouble.USED
            visit = conn.execute(_BY_SECRET, (secret_sha256, at_ms)).fetchone()
            if expires_at_ms <= at_ms or visit is None:
                return LinkTrouble.EXPIRED
            session = _listed(visit).session
            if conn.execute(_TAKE_TICKET, (at_ms, session.workspace_id, digest)).rowcount == 0:
                return LinkTrouble.USED
            return session

        return await self._write(operation)

    async def forget_portal_sessions(self, at_ms: int) -> int:
        """A job: drop visits that ended more than a day ago, and tickets that nobody can use any more."""
        def operation(conn: Connection) -> int:
            conn.execute(_FORGET_TICKETS, (at_ms,))
            return conn.execute(_FORGET, (at_ms - KEPT_MS, at_ms - KEPT_MS)).rowcount

        return await self.writer.submit(operation)


def _keep_member(conn: Connection, member: Member, at_ms: int, actor: Actor) -> None:
    """The host's word on who this is. A visit that changes nothing leaves no row in the audit log but its own."""
    same = (member.workspace_id, member.member_id, member.email, member.name, member.role)
    if conn.execute(_SAME_MEMBER, same).fetchone() is None:
        put_member(conn, member, at_ms=at_ms, actor=actor)


def _replace(conn: Connection, secret_sha256: bytes, by: PortalSession, at_ms: int) -> None:
    """The browser's cookie names the new visit from now on: nobody can leave the old one any more."""
    row = conn.execute(_BY_SECRET, (secret_sha256, at_ms)).fetchone()
    if row is not None:
        old = _listed(row).session
        end_session(conn, old.workspace_id, old.id, EndReason.REPLACED, at_ms=at_ms, actor=by.actor)


def _listed(row: sqlite3.Row | tuple[Any, ...]) -> ListedSession:
    (session_id, workspace_id, kind, member_id, name, email, role, mode, pages, flow, theme, locale, return_url,
     refresh_url, origin, created, expires, entered, minted_kind, minted_by) = row
    session = PortalSession(
        id=session_id, workspace_id=workspace_id, member_id=member_id, member_name=name, member_email=email,
        role=Role(role), mode=mode, pages=tuple(Page(page) for page in pages.split()), flow=flow, theme=theme,
        locale=locale, return_url=return_url, refresh_url=refresh_url, origin=origin, created_at_ms=created,
        expires_at_ms=expires, kind=kind,
    )
    return ListedSession(session, entered, Actor(minted_kind, minted_by))
