"""Links to the pages, and the visits that they open: what each route does."""

from ownkey.api import manage_schemas as out
from ownkey.api import manage_views as show
from ownkey.api.manage_call import Call
from ownkey.control.portal_sessions import Minted, PortalWish
from ownkey.domain.portal import ListedSession
from ownkey.domain.workspace import Role


async def mint_session(call: Call) -> out.PortalLink:
    body: out.PortalSessionNew = call.body
    return _link(await call.desk.portal_sessions.mint(call.own, PortalWish(
        member_id=body.member.id, email=body.member.email, role=Role(body.role), mode=body.mode, name=body.member.name,
        pages=body.pages, flow=body.flow, theme=body.theme, locale=body.locale, return_url=body.return_url,
        refresh_url=body.refresh_url, ttl_s=body.ttl_s,
    ), call.actor))


async def view_as(call: Call) -> out.PortalLink:
    return _link(await call.desk.portal_sessions.view_as(call.own, call.actor, call.principal.label))


async def list_sessions(call: Call) -> out.PortalSessionsOut:
    found = await call.desk.portal_sessions.list(call.own)
    return out.PortalSessionsOut(sessions=[_listed(row) for row in found])


async def revoke_session(call: Call) -> out.Done:
    await call.desk.portal_sessions.revoke(call.own, call.path["session"], call.actor)
    return out.Done(message="The session has ended.")


async def revoke_member(call: Call) -> out.SessionsEnded:
    """None at all is no error: a host revokes whenever it takes a right away."""
    query: out.MemberQuery = call.query
    ended = await call.desk.portal_sessions.revoke_member(call.own, query.member, call.actor)
    many = "1 session has" if ended == 1 else f"{ended} sessions have"
    return out.SessionsEnded(message=f"{many} ended.", ended=ended)


def _link(minted: Minted) -> out.PortalLink:
    return out.PortalLink(
        url=minted.url, code=minted.code, session=minted.session_id,
        code_expires_at=show.iso(minted.code_expires_at_ms), session_expires_at=show.iso(minted.session_expires_at_ms),
    )


def _listed(row: ListedSession) -> out.PortalSessionOut:
    session = row.session
    return out.PortalSessionOut(
        session=session.id, kind=session.kind, member=session.member_id, name=session.member_name,
        email=session.member_email, role=session.role, mode=session.mode, pages=list(session.pages),
        minted_by=f"{row.minted_by.kind}:{row.minted_by.id}", created_at=show.iso(session.created_at_ms),
        entered_at=show.iso_or_none(row.entered_at_ms), expires_at=show.iso(session.expires_at_ms),
    )
