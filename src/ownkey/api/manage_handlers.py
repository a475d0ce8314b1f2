"""What each route does: unpack the request, call one use case, show the answer. Workspaces, people, tokens, keys."""

from msgspec import UNSET, structs

from ownkey.api import manage_schemas as out
from ownkey.api import manage_views as show
from ownkey.api.authorisation import WORKSPACE_FIELDS, Right, Subject, forbidden, may
from ownkey.api.manage_call import Call
from ownkey.control.connect import ConnectWish
from ownkey.control.credentials import CredentialView
from ownkey.control.problems import Problem, ProblemCode
from ownkey.control.tokens import NewToken, ShownToken
from ownkey.control.workspaces import NewWorkspace
from ownkey.domain.product import Payers
from ownkey.domain.workspace import EntitlementState, Role, WorkspaceState

# --- workspaces


async def create_workspace(call: Call) -> out.WorkspaceOut:
    body: out.WorkspaceNew = call.body
    new = NewWorkspace(body.name, body.external_id, body.plan, body.timezone)
    return show.workspace(await call.desk.workspaces.create(new, call.actor))


async def list_workspaces(call: Call) -> out.WorkspacesOut:
    query: out.PageQuery = call.query
    found = await call.desk.workspaces.list(query.after, query.limit)
    return out.WorkspacesOut(
        workspaces=[show.workspace(state) for state in found],
        next_after=found[-1].id if len(found) >= query.limit else None,
    )


async def read_workspace(call: Call) -> out.WorkspaceOut:
    return show.workspace(call.own)


async def change_workspace(call: Call) -> out.WorkspaceOut:
    """Each field asks for its own right: a host may not lift a suspension, an operator may not switch Always."""
    changes = {name: value for name, value in structs.asdict(call.body).items() if value is not UNSET}
    for name in changes:
        subject = WORKSPACE_FIELDS[name]
        if not may(call.principal, subject, Right.MANAGE):
            raise forbidden(call.principal, subject, Right.MANAGE)
    return show.workspace(await call.desk.workspaces.change(call.own, changes, call.actor))


async def delete_workspace(call: Call) -> out.Done:
    await call.desk.workspaces.delete(call.own, call.actor)
    return out.Done(message="The workspace, its data key and its credentials are destroyed; receipts and ledger stay.")


async def put_entitlement(call: Call) -> out.EntitlementOut:
    body: out.EntitlementPut = call.body
    changed = await call.desk.workspaces.set_entitlement(
        call.own, EntitlementState(body.entitlement), call.actor
    )
    return out.EntitlementOut(entitlement=changed.entitlement)


# --- people and projects


async def list_members(call: Call) -> out.MembersOut:
    return out.MembersOut(members=[show.member(row) for row in await call.desk.members.list(call.own)])


async def put_member(call: Call) -> out.MemberOut:
    body: out.MemberPut = call.body
    saved = await call.desk.members.save(
        call.own, call.path["member"], body.email, body.name, Role(body.role), call.actor,
        muted=None if body.muted is UNSET else frozenset(body.muted),
    )
    return show.member(saved)


async def delete_member(call: Call) -> out.Done:
    await call.desk.members.delete(call.own, call.path["member"], call.actor)
    return out.Done(message="The member is removed and gets no more e-mail.")


async def list_projects(call: Call) -> out.ProjectsOut:
    found = await call.desk.projects.list(call.own)
    return out.ProjectsOut(projects=[out.ProjectOut(project=key, name=name) for key, name in found.items()])


async def put_project(call: Call) -> out.ProjectOut:
    body: out.ProjectPut = call.body
    await call.desk.projects.save(call.own, call.path["project"], body.name, call.actor)
    return out.ProjectOut(project=call.path["project"], name=body.name)


# --- tokens


def _new_token(call: Call) -> NewToken:
    body: out.TokenNew = call.body
    return NewToken(
        body.label, frozenset(body.scopes), frozenset(body.tasks), frozenset(body.projects),
        show.parse_time("expires_at", body.expires_at),
    )


def _shown(shown: ShownToken) -> out.TokenShown:
    return out.TokenShown(token=shown.token, row=show.token(shown.row))


async def create_token(call: Call) -> out.TokenShown:
    return _shown(await call.desk.tokens.create(call.own, _new_token(call), call.actor))


async def list_tokens(call: Call) -> out.TokensOut:
    return out.TokensOut(tokens=[show.token(row) for row in await call.desk.tokens.list(call.own)])


async def revoke_token(call: Call) -> out.Done:
    await call.desk.tokens.revoke(call.own, call.path["token"], call.actor)
    return out.Done(message="The token is revoked; calls with it are refused from now on.")


async def create_service_token(call: Call) -> out.TokenShown:
    return _shown(await call.desk.tokens.create(None, _new_token(call), call.actor))


async def list_service_tokens(call: Call) -> out.TokensOut:
    return out.TokensOut(tokens=[show.token(row) for row in await call.desk.tokens.list(None)])


async def revoke_service_token(call: Call) -> out.Done:
    await call.desk.tokens.revoke(None, call.path["token"], call.actor)
    return out.Done(message="The service token is revoked; calls with it are refused from now on.")


# --- credentials (a workspace's own, and the platform's)


async def _sentence(call: Call, workspace: WorkspaceState) -> str:
    """Who pays from the next call on."""
    if call.on_platform:
        return "The platform's own key serves calls that credits pay for."
    return (await call.desk.status.show(workspace)).sentence


async def list_credentials(call: Call) -> out.CredentialsOut:
    _check_platform(call)
    return out.CredentialsOut(
        payer_sentence=await _sentence(call, call.own),
        credentials=[show.credential(view) for view in call.desk.credentials.list(
            call.own, tenant=not call.on_platform
        )],
    )


async def list_incidents(call: Call) -> out.IncidentsOut:
    _check_platform(call)
    query: out.LimitQuery = call.query
    found = await call.desk.incidents.list(call.own, query.limit)
    return out.IncidentsOut(incidents=[show.incident(view) for view in found])


async def reconcile_key(call: Call) -> out.KeyReadingOut:
    _check_platform(call)
    return show.key_reading(await call.desk.key_readings.read_now(call.own))


async def list_key_readings(call: Call) -> out.KeyReadingsOut:
    _check_platform(call)
    query: out.LimitQuery = call.query
    found = await call.desk.key_readings.list(call.own, query.limit)
    return out.KeyReadingsOut(readings=[show.key_reading(view) for view in found])


async def accept_key_reading(call: Call) -> out.KeyReadingOut:
    _check_platform(call)
    body: out.ReadingAccepted = call.body
    return show.key_reading(
        await call.desk.key_readings.accept(call.own, call.path["reading"], body.reason, call.actor)
    )


async def put_credential(call: Call) -> out.CredentialSaved:
    _check_platform(call)
    body: out.CredentialPut = call.body
    saved = await call.desk.credentials.save(
        call.own, call.path["provider"], body.key, label=body.label, save_anyway=body.save_anyway,
        address=call.address, actor=call.actor,
    )
    return out.CredentialSaved(
        message=saved.message, payer_sentence=await _sentence(call, await _reload(call)), replaced=saved.replaced,
        cleaned=list(saved.cleaned), warning=" ".join(saved.warnings) or None,
        credential=show.credential(saved.view),
    )


async def start_connect(call: Call) -> out.ConnectStarted:
    _check_platform(call)
    body: out.ConnectStart = call.body
    started = await call.desk.connect.start(call.own, ConnectWish(
        body.label, body.limit_usd, body.limit_reset or "", body.expires_at, body.callback_url, body.return_url,
    ), call.actor)
    return out.ConnectStarted(
        authorization_url=started.authorization_url, callback_url=started.callback_url,
        expires_at=show.iso(started.expires_at_ms),
    )


async def finish_connect(call: Call) -> out.ConnectFinished:
    _check_platform(call)
    body: out.ConnectFinish = call.body
    found = await call.desk.connect.finish(
        call.own, body.state, body.code, address=call.address, actor=call.actor
    )
    saved = found.saved
    return out.ConnectFinished(
        message=saved.message, payer_sentence=await _sentence(call, found.workspace), replaced=saved.replaced,
        warning=" ".join(saved.warnings) or None, credential=show.credential(saved.view),
        test=None if found.test is None else show.key_test(found.test), test_problem=found.test_problem or None,
    )


async def run_key_test(call: Call) -> out.TestOut:
    _check_platform(call)
    body: out.CredentialTest = call.body
    call.desk.credentials.view(call.own, call.path["provider"])
    return show.key_test(await call.desk.key_test.run(
        call.own, call.path["provider"], body.key, address=call.address, actor=call.actor,
        token_id=call.principal.token_id,
    ))


async def enable_credential(call: Call) -> out.CredentialChanged:
    return await _switch(call, True, "The key is enabled and used from the next call on.")


async def disable_credential(call: Call) -> out.CredentialChanged:
    body: out.CredentialDisable = call.body
    also = _also_off(call, body.also_turn_off_always)
    message = "The key is disabled: kept encrypted and not used until it is enabled again."
    return await _switch(call, False, message + (_ALWAYS_OFF if also else ""), also)


async def delete_credential(call: Call) -> out.CredentialChanged:
    _check_platform(call)
    query: out.DisconnectQuery = call.query
    provider, also = call.path["provider"], _also_off(call, query.also_turn_off_always)
    await call.desk.credentials.disconnect(
        call.own, provider, query.acknowledge_ai_stops, call.actor, also_turn_off_always=also
    )
    after = await _reload(call)
    return _changed("The key is disconnected and destroyed." + (_ALWAYS_OFF if also else ""),
                    await _sentence(call, after),
                    call.desk.credentials.view(after, provider))


_ALWAYS_OFF = " Always use this key is off."


def _also_off(call: Call, wanted: bool) -> bool:
    """Whether Always use this key goes off with the key: a switch of its own, which needs its own right."""
    if not wanted:
        return False
    if call.on_platform or call.path["provider"] != "openrouter":
        raise Problem(
            ProblemCode.INVALID, "Always use this key speaks of the workspace's OpenRouter key and of no other.",
            "Leave also_turn_off_always out.", param="also_turn_off_always",
        )
    if not may(call.principal, Subject.PAYER_SWITCHES, Right.MANAGE):
        raise forbidden(call.principal, Subject.PAYER_SWITCHES, Right.MANAGE)
    return True


async def _switch(call: Call, enabled: bool, message: str, also_off: bool = False) -> out.CredentialChanged:
    _check_platform(call)
    view = await call.desk.credentials.set_enabled(
        call.own, call.path["provider"], enabled, call.actor, also_turn_off_always=also_off
    )
    return _changed(message, await _sentence(call, await _reload(call)), view)


def _changed(message: str, sentence: str, view: CredentialView) -> out.CredentialChanged:
    return out.CredentialChanged(message=message, payer_sentence=sentence, credential=show.credential(view))


async def _reload(call: Call) -> WorkspaceState:
    if call.on_platform:
        return await call.desk.workspaces.platform(call.actor)
    return await call.desk.workspaces.find(call.own.id)


def _check_platform(call: Call) -> None:
    """A product without credits ships no key of its own."""
    if call.on_platform and call.desk.product.payers is Payers.BYOK_ONLY:
        raise Problem(
            ProblemCode.INVALID, f"{call.desk.product.name} has no platform key: the customer's own key always pays.",
            "Save the key in the customer's workspace.", param="provider",
        )

