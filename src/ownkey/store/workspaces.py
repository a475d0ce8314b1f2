"""Workspaces, their people and switches: read whole into one frozen value, changed in audited transactions."""

import sqlite3
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import msgspec

from ownkey.domain.billing import PlanTerms
from ownkey.domain.caps import parse_timezone
from ownkey.domain.errors import Conflict, StoreError
from ownkey.domain.portal import EndReason
from ownkey.domain.records import Actor, Member
from ownkey.domain.workspace import EntitlementState, Role, WorkspaceState, WrappedDek
from ownkey.store.addons import arrive_at_plan
from ownkey.store.audit import save_audit
from ownkey.store.connection import Connection, snapshot
from ownkey.store.core import Core
from ownkey.store.credentials import read_credentials
from ownkey.store.notices import announce_change, load_standing
from ownkey.store.portal_ends import end_member_sessions, end_workspace_sessions

_SELECT = """
SELECT w.id, w.name, w.external_id, w.plan, w.status, w.timezone, w.entitlement, w.always_use_key,
  w.credits_if_key_fails, w.credits_if_key_fails_limit, w.on_direct_auth_failure, w.created_at_ms,
  w.settings_version, w.grace_until_ms, w.paid_until_ms, d.dek_id, d.kek_id, d.nonce, d.ciphertext
FROM workspace w JOIN dek d ON d.workspace_id = w.id
"""
_BY_ID = _SELECT + "WHERE w.id = ? AND w.status <> 'deleted'"
_BY_EXTERNAL = _SELECT + "WHERE w.external_id = ? AND w.status <> 'deleted'"
_KEK_IDS = "SELECT DISTINCT kek_id FROM dek"
_PLATFORM = "SELECT id FROM workspace WHERE kind = 'platform' AND status <> 'deleted'"
_PAGE = """
SELECT id FROM workspace WHERE kind = 'tenant' AND status <> 'deleted' AND (? IS NULL OR id > ?) ORDER BY id LIMIT ?
"""
_FEATURES = "SELECT task, switched_on, settings FROM feature WHERE workspace_id = ?"
_PROJECTS = "SELECT id, name FROM project WHERE workspace_id = ? ORDER BY id"
_INSERT = """
INSERT INTO workspace(id, kind, name, external_id, plan, status, timezone, entitlement, credits_if_key_fails,
  credits_if_key_fails_limit, created_at_ms) VALUES (?, ?, ?, ?, ?, 'active', ?, ?, ?, ?, ?)
"""
# Ids and external ids are looked up by one name: neither may ever be taken for the other.
_TAKEN = """
SELECT 1 FROM workspace
WHERE (external_id IN (:external, :id) AND status <> 'deleted') OR id IN (:id, :external)
"""
_SECOND_PLATFORM = "SELECT 1 FROM workspace WHERE kind = 'platform' AND ? = 'platform' AND status <> 'deleted'"
_INSERT_DEK = "INSERT INTO dek(workspace_id, dek_id, kek_id, nonce, ciphertext) VALUES (?, ?, ?, ?, ?)"
_INSERT_WALLET = "INSERT INTO wallet(workspace_id) VALUES (?)"
_INSERT_CAP = """
INSERT INTO cap_version(workspace_id, version, cap_nusd, threshold, actor, at_ms) VALUES (?, 1, NULL, ?, ?, ?)
"""
_SAVE_FEATURE = """
INSERT INTO feature(workspace_id, task, switched_on, settings) VALUES (?, ?, ?, ?)
ON CONFLICT DO UPDATE SET switched_on = excluded.switched_on, settings = excluded.settings
"""
_VERSION_UP = "UPDATE workspace SET settings_version = settings_version + 1 WHERE id = ?"
_SET = {
    "name": "UPDATE workspace SET name = ? WHERE id = ?",
    "plan": "UPDATE workspace SET plan = ? WHERE id = ?",
    "entitlement": "UPDATE workspace SET entitlement = ? WHERE id = ?",
    "grace_until_ms": "UPDATE workspace SET grace_until_ms = ? WHERE id = ?",
    "paid_until_ms": "UPDATE workspace SET paid_until_ms = ? WHERE id = ?",
    "timezone": "UPDATE workspace SET timezone = ? WHERE id = ?",
    "always_use_key": "UPDATE workspace SET always_use_key = ? WHERE id = ?",
    "credits_if_key_fails": "UPDATE workspace SET credits_if_key_fails = ? WHERE id = ?",
    "credits_if_key_fails_limit": "UPDATE workspace SET credits_if_key_fails_limit = ? WHERE id = ?",
    "on_direct_auth_failure": "UPDATE workspace SET on_direct_auth_failure = ? WHERE id = ?",
    "status": "UPDATE workspace SET status = ? WHERE id = ?",
}
# What decides who pays, and is told to owners and admins when it changes.
_SWITCHES = ("always_use_key", "credits_if_key_fails", "credits_if_key_fails_limit", "on_direct_auth_failure")
_BY_OPERATOR = "UPDATE workspace SET entitlement_by = 'operator' WHERE id = ?"
_DELETE = "UPDATE workspace SET status = 'deleted', settings_version = settings_version + 1 WHERE id = ?"
_DELETE_DEK = "DELETE FROM dek WHERE workspace_id = ?"
_DELETE_CREDENTIALS = "DELETE FROM credential WHERE workspace_id = ?"
_DELETE_CONNECTS = "DELETE FROM pending_connect WHERE workspace_id = ?"
_REVOKE_ALL = "UPDATE access_token SET revoked_at_ms = ? WHERE workspace_id = ? AND revoked_at_ms IS NULL"
_CLOSE_INCIDENTS = "UPDATE incident SET closed_at_ms = ? WHERE workspace_id = ? AND closed_at_ms IS NULL"
_SAVE_MEMBER = """
INSERT INTO member(workspace_id, id, email, name, role, muted)
VALUES (:workspace, :id, :email, :name, :role, coalesce(:muted, ''))
ON CONFLICT DO UPDATE SET email = excluded.email, name = excluded.name, role = excluded.role,
  muted = coalesce(:muted, muted)
"""
_MEMBERS = "SELECT workspace_id, id, email, name, role, muted FROM member WHERE workspace_id = ? ORDER BY id"
_MEMBER = "SELECT role, muted FROM member WHERE workspace_id = ? AND id = ?"
_WHOLE_MEMBER = """
SELECT workspace_id, id, email, name, role, muted FROM member WHERE workspace_id = ? AND id = ?
"""
_DELETE_MEMBER = "DELETE FROM member WHERE workspace_id = ? AND id = ?"
_SAVE_PROJECT = """
INSERT INTO project(workspace_id, id, name, created_at_ms) VALUES (?, ?, ?, ?)
ON CONFLICT DO UPDATE SET name = excluded.name
"""
_EXISTS = "SELECT 1 FROM workspace WHERE id = ? AND status <> 'deleted'"

_CACHE_LIMIT = 10_000


def read_workspace(conn: sqlite3.Connection, ident: str) -> WorkspaceState | None:
    """By id, else by the host's external id; None if there is none or it was deleted."""
    row = conn.execute(_BY_ID, (ident,)).fetchone() or conn.execute(_BY_EXTERNAL, (ident,)).fetchone()
    if row is None:
        return None
    (workspace_id, name, external_id, plan, status, timezone, entitlement, always, if_fails, fails_limit, on_auth,
     created, version, grace_until, paid_until, *dek) = row
    features = conn.execute(_FEATURES, (workspace_id,)).fetchall()
    return WorkspaceState(
        id=workspace_id, name=name, external_id=external_id, plan=plan, status=status, timezone=timezone,
        entitlement=EntitlementState(entitlement), always_use_key=bool(always), credits_if_key_fails=bool(if_fails),
        credits_if_key_fails_limit=fails_limit, on_direct_auth_failure=on_auth,
        features={task: bool(on) for task, on, _ in features},
        feature_settings={task: msgspec.json.decode(settings) for task, _, settings in features},
        credentials=read_credentials(conn, workspace_id), dek=WrappedDek(*dek), created_at_ms=created,
        settings_version=version, grace_until_ms=grace_until, paid_until_ms=paid_until,
        projects=dict(conn.execute(_PROJECTS, (workspace_id,)).fetchall()),
    )


def touch(conn: Connection, workspace_id: str) -> None:
    """Every change of settings counts."""
    conn.execute(_VERSION_UP, (workspace_id,))


def put_member(conn: Connection, member: Member, *, at_ms: int, actor: Actor) -> Member:
    """Add or change a member; visits to the pages in another role end with the change."""
    before = conn.execute(_MEMBER, (member.workspace_id, member.member_id)).fetchone()
    conn.execute(_SAVE_MEMBER, {
        "workspace": member.workspace_id, "id": member.member_id, "email": member.email, "name": member.name,
        "role": member.role, "muted": None if member.muted is None else " ".join(sorted(member.muted)),
    })
    role, muted = conn.execute(_MEMBER, (member.workspace_id, member.member_id)).fetchone()
    save_audit(
        conn, member.workspace_id, "member.saved", member.member_id,
        None if before is None else {"role": before[0], "muted": before[1]}, {"role": role, "muted": muted},
        at_ms=at_ms, actor=actor,
    )
    if before is not None and before[0] != role:
        end_member_sessions(
            conn, member.workspace_id, member.member_id, EndReason.ROLE_CHANGED, at_ms=at_ms, actor=actor
        )
    return replace(member, muted=frozenset(muted.split()))


def _member_of(row: Sequence[Any]) -> Member:
    workspace_id, member_id, email, name, role, muted = row
    return Member(workspace_id, member_id, email, name, Role(role), frozenset(muted.split()))


def read_kek_ids(conn: sqlite3.Connection) -> frozenset[str]:
    """Which master keys wrap the data keys that are stored."""
    return frozenset(row[0] for row in conn.execute(_KEK_IDS))


class WorkspacesPart(Core):
    """Satisfies `gateway.ports.Directory` and `control.ports.Workspaces`, `People`, `Mutes`, `Features`."""

    async def load_workspace(self, workspace_id: str) -> WorkspaceState | None:
        state = self._states.get(self._ids.get(workspace_id, workspace_id))
        if state is None:
            with snapshot(self._near):
                state = read_workspace(self._near, workspace_id)
            if state is not None:
                if len(self._states) >= _CACHE_LIMIT:
                    self._states.clear()
                    self._ids.clear()
                self._states[state.id] = state
                self._ids[state.external_id] = state.id
        return state

    def kek_ids(self) -> frozenset[str]:
        """The master keys that some workspace's data key is wrapped with: all of them must be at hand."""
        return read_kek_ids(self._near)

    async def load_platform(self) -> WorkspaceState | None:
        if self._platform_id is None:
            found = self._near.execute(_PLATFORM).fetchone()
            if found is None:
                return None
            self._platform_id = found[0]
        return await self.load_workspace(self._platform_id)

    async def load_workspaces(self, *, after: str | None, limit: int) -> Sequence[WorkspaceState]:
        def query(conn: sqlite3.Connection) -> list[WorkspaceState]:
            with snapshot(conn):
                ids = conn.execute(_PAGE, (after, after, max(0, min(limit, 1_000)))).fetchall()
                states = [read_workspace(conn, row[0]) for row in ids]
            return [state for state in states if state is not None]

        return await self._read(query)

    async def create_workspace(
        self, *, workspace_id: str, name: str, external_id: str, plan: str, timezone: str,
        entitlement: EntitlementState, credits_if_key_fails: bool, credits_if_key_fails_limit: int | None,
        dek: WrappedDek, features: Mapping[str, bool], at_ms: int, actor: Actor, kind: str = "tenant",
        threshold: int = 80, terms: PlanTerms | None = None,
    ) -> WorkspaceState:
        parse_timezone(timezone)

        def operation(conn: Connection) -> WorkspaceState | StoreError:
            if conn.execute(_TAKEN, {"external": external_id, "id": workspace_id}).fetchone():
                return Conflict(f"A workspace with the external id {external_id[:80]!r} exists.")
            if conn.execute(_SECOND_PLATFORM, (kind,)).fetchone():
                return Conflict("The platform's own workspace exists.")
            conn.execute(_INSERT, (
                workspace_id, kind, name, external_id, plan, timezone, entitlement, credits_if_key_fails,
                credits_if_key_fails_limit, at_ms,
            ))
            conn.execute(_INSERT_DEK, (workspace_id, dek.dek_id, dek.kek_id, dek.nonce, dek.ciphertext))
            conn.execute(_INSERT_WALLET, (workspace_id,))
            conn.execute(_INSERT_CAP, (workspace_id, threshold, f"{actor.kind}:{actor.id}", at_ms))
            for task, on in features.items():
                conn.execute(_SAVE_FEATURE, (workspace_id, task, on, "{}"))
            save_audit(conn, workspace_id, "workspace.created", workspace_id, None, {
                "name": name, "external_id": external_id, "plan": plan, "timezone": timezone,
                "entitlement": entitlement,
            }, at_ms=at_ms, actor=actor)
            if terms is not None:
                arrive_at_plan(conn, workspace_id, False, terms, at_ms, actor, tell=False)
            state = read_workspace(conn, workspace_id)
            assert state is not None
            return state

        return await self._write(operation, workspace_id)

    async def save_settings(
        self, workspace_id: str, changes: Mapping[str, Any], *, at_ms: int, actor: Actor,
        terms: PlanTerms | None = None,
    ) -> WorkspaceState | None:
        """`terms` come with a change of plan. Raises ValueError for a name that is no setting."""
        unknown = set(changes) - set(_SET)
        if unknown:
            raise ValueError(f"not a setting: {', '.join(sorted(unknown))}")
        if "timezone" in changes:
            parse_timezone(changes["timezone"])

        def operation(conn: Connection) -> WorkspaceState | None:
            before = read_workspace(conn, workspace_id)
            if before is None or before.id != workspace_id:
                return None
            standing = load_standing(conn, workspace_id, at_ms)
            for name, value in changes.items():
                conn.execute(_SET[name], (value, workspace_id))
            if "entitlement" in changes:
                conn.execute(_BY_OPERATOR, (workspace_id,))
            if terms is not None:
                included = before.entitlement is EntitlementState.INCLUDED
                arrive_at_plan(conn, workspace_id, included, terms, at_ms, actor, tell=False)
            touch(conn, workspace_id)
            save_audit(
                conn, workspace_id, "workspace.changed", workspace_id,
                {name: getattr(before, name) for name in changes}, changes, at_ms=at_ms, actor=actor,
            )
            announce_change(conn, workspace_id, standing, [
                {"what": name, "before": getattr(before, name), "after": changes[name]}
                for name in _SWITCHES if name in changes and changes[name] != getattr(before, name)
            ], at_ms, actor)
            return read_workspace(conn, workspace_id)

        return await self._write(operation, workspace_id)

    async def delete_workspace(self, workspace_id: str, *, at_ms: int, actor: Actor) -> bool:
        def operation(conn: Connection) -> bool:
            if not conn.execute(_EXISTS, (workspace_id,)).fetchone():
                return False
            conn.execute(_DELETE_CREDENTIALS, (workspace_id,))
            conn.execute(_DELETE_DEK, (workspace_id,))
            conn.execute(_DELETE_CONNECTS, (workspace_id,))
            conn.execute(_REVOKE_ALL, (at_ms, workspace_id))
            conn.execute(_CLOSE_INCIDENTS, (at_ms, workspace_id))
            end_workspace_sessions(conn, workspace_id, EndReason.WORKSPACE_DELETED, at_ms=at_ms, actor=actor)
            conn.execute(_DELETE, (workspace_id,))
            save_audit(conn, workspace_id, "workspace.deleted", workspace_id, None, None, at_ms=at_ms, actor=actor)
            return True

        deleted = await self._write(operation, workspace_id, principals=True)
        if deleted:
            await self._scrub()
        return deleted

    async def save_feature(
        self, workspace_id: str, task: str, on: bool, settings: Mapping[str, int], *, at_ms: int, actor: Actor
    ) -> None:
        def operation(conn: Connection) -> None:
            before = read_workspace(conn, workspace_id)
            if before is None:
                return
            conn.execute(_SAVE_FEATURE, (workspace_id, task, on, msgspec.json.encode(dict(settings)).decode()))
            touch(conn, workspace_id)
            save_audit(
                conn, workspace_id, "feature.changed", task,
                {"on": before.features.get(task), "settings": before.feature_settings.get(task, {})},
                {"on": on, "settings": dict(settings)}, at_ms=at_ms, actor=actor,
            )

        await self._write(operation, workspace_id)

    async def save_member(self, member: Member, *, at_ms: int, actor: Actor) -> Member:
        return await self._write(lambda conn: put_member(conn, member, at_ms=at_ms, actor=actor), member.workspace_id)

    async def load_members(self, workspace_id: str) -> Sequence[Member]:
        rows = self._near.execute(_MEMBERS, (workspace_id,)).fetchall()
        return [_member_of(row) for row in rows]

    async def save_mute(
        self, workspace_id: str, member_id: str, topic: str, muted: bool, *, at_ms: int, actor: Actor
    ) -> Member | None:
        """Read and written in one transaction: a role that the host changes meanwhile stays as the host says."""
        def operation(conn: Connection) -> Member | None:
            row = conn.execute(_WHOLE_MEMBER, (workspace_id, member_id)).fetchone()
            if row is None:
                return None
            member = _member_of(row)
            had = member.muted or frozenset()
            wanted = had | {topic} if muted else had - {topic}
            return member if wanted == had else put_member(
                conn, replace(member, muted=wanted), at_ms=at_ms, actor=actor
            )

        return await self._write(operation, workspace_id)

    async def delete_member(self, workspace_id: str, member_id: str, *, at_ms: int, actor: Actor) -> bool:
        def operation(conn: Connection) -> bool:
            if conn.execute(_DELETE_MEMBER, (workspace_id, member_id)).rowcount == 0:
                return False
            save_audit(conn, workspace_id, "member.removed", member_id, None, None, at_ms=at_ms, actor=actor)
            end_member_sessions(
                conn, workspace_id, member_id, EndReason.MEMBER_REMOVED, at_ms=at_ms, actor=actor
            )
            return True

        return await self._write(operation, workspace_id)

    async def save_project(
        self, workspace_id: str, project_id: str, name: str, *, at_ms: int, actor: Actor
    ) -> None:
        def operation(conn: Connection) -> None:
            conn.execute(_SAVE_PROJECT, (workspace_id, project_id, name, at_ms))
            save_audit(
                conn, workspace_id, "project.saved", project_id, None, {"name": name}, at_ms=at_ms, actor=actor
            )

        await self._write(operation, workspace_id)

    async def load_projects(self, workspace_id: str) -> Mapping[str, str]:
        return dict(self._near.execute(_PROJECTS, (workspace_id,)).fetchall())
