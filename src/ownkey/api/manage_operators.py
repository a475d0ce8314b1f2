"""The deployment's staff over the management API: what each route takes, does and shows."""

from typing import Annotated, Literal

from msgspec import Meta

from ownkey.api import manage_views as show
from ownkey.api.authorisation import Right, Subject
from ownkey.api.manage_call import Call, ManageRoute
from ownkey.api.manage_schemas import Answer, Nothing, Request, Text, Time
from ownkey.control.operators import Invited
from ownkey.domain.operators import Operator

RoleName = Literal["support", "ops"]


class OperatorNew(Request):
    """Somebody of staff who shall sign in to the console."""

    email: Text
    name: Text = ""
    role: RoleName = "support"


class OperatorRolePut(Request):
    role: RoleName


class OperatorOut(Answer):
    """`signs_in_with`: "password" (and a code), "provider", both, or nothing yet."""

    id: str
    email: str
    name: str
    role: RoleName
    status: Literal["invited", "active", "disabled"]
    signs_in_with: list[Literal["password", "provider"]]
    recovery_codes_left: int
    created_at: Time
    last_sign_in_at: Time | None


class OperatorsOut(Answer):
    operators: list[OperatorOut]


class OperatorInvited(Answer):
    """`url` lets its opener in once, within 24 hours; null where people sign in through a provider."""

    operator: OperatorOut
    url: Annotated[str, Meta(description="Shown this once. Begins with a slash if this server's address is unknown.")] \
        | None
    expires_at: Time | None


async def list_operators(call: Call) -> OperatorsOut:
    return OperatorsOut(operators=[_shown(operator) for operator in await call.desk.operators.list()])


async def add_operator(call: Call) -> OperatorInvited:
    body: OperatorNew = call.body
    return _invited(await call.desk.operators.add(body.email, body.name, body.role, call.actor))


async def put_role(call: Call) -> OperatorOut:
    body: OperatorRolePut = call.body
    return _shown(await call.desk.operators.set_role(call.path["operator"], body.role, call.actor))


async def disable_operator(call: Call) -> OperatorOut:
    return _shown(await call.desk.operators.disable(call.path["operator"], call.actor))


async def enable_operator(call: Call) -> OperatorOut:
    return _shown(await call.desk.operators.enable(call.path["operator"], call.actor))


async def reset_operator(call: Call) -> OperatorInvited:
    return _invited(await call.desk.operators.reset(call.path["operator"], call.actor))


def _invited(invited: Invited) -> OperatorInvited:
    return OperatorInvited(
        operator=_shown(invited.operator), url=invited.url or None, expires_at=show.iso_or_none(invited.expires_at_ms)
    )


def _shown(operator: Operator) -> OperatorOut:
    ways: list[Literal["password", "provider"]] = []
    if operator.has_password:
        ways.append("password")
    if operator.oidc_subject:
        ways.append("provider")
    return OperatorOut(
        id=operator.id, email=operator.email, name=operator.name, role=operator.role.value,
        status=operator.status.value, signs_in_with=ways, recovery_codes_left=operator.recovery_codes_left,
        created_at=show.iso(operator.created_at_ms), last_sign_in_at=show.iso_or_none(operator.last_sign_in_at_ms),
    )


_ONE = "/operators/{operator}"
_READ, _MANAGE = Right.READ, Right.MANAGE

ROUTES: tuple[ManageRoute, ...] = (
    ManageRoute("GET", "/operators", "list_operators", Subject.DEPLOYMENT, _READ, list_operators,
                "Who may sign in to the console.", OperatorsOut),
    ManageRoute("POST", "/operators", "add_operator", Subject.DEPLOYMENT, _MANAGE, add_operator,
                "Add an operator: the one-time link to set a password and add an authenticator app.", OperatorInvited,
                OperatorNew, status=201, shows_once="url"),
    ManageRoute("PUT", f"{_ONE}/role", "put_operator_role", Subject.DEPLOYMENT, _MANAGE, put_role,
                "Change an operator's role; their sessions end.", OperatorOut, OperatorRolePut),
    ManageRoute("POST", f"{_ONE}/disable", "disable_operator", Subject.DEPLOYMENT, _MANAGE, disable_operator,
                "Keep an operator out; their sessions end.", OperatorOut, Nothing),
    ManageRoute("POST", f"{_ONE}/enable", "enable_operator", Subject.DEPLOYMENT, _MANAGE, enable_operator,
                "Let a disabled operator in again, with the password and app that they had.", OperatorOut, Nothing),
    ManageRoute("POST", f"{_ONE}/reset", "reset_operator", Subject.DEPLOYMENT, _MANAGE, reset_operator,
                "Forget an operator's password, app and recovery codes, end their sessions, and make a new link.",
                OperatorInvited, Nothing, shows_once="url"),
)
