"""Who may do what in the management API: one table, deny by default.

The columns are kinds of principal. A service token needs the scope `manage` for everything here. An operator is
the deployment's staff; the local process's own door (the CLI on the same machine) carries the scope `manage` too
and then also acts for the host: whoever holds the data directory could mint a service token anyway.
"""

from collections.abc import Mapping
from enum import StrEnum

from ownkey.domain.refusals import Code, Refusal, Refused
from ownkey.domain.workspace import Principal, TokenKind


class Subject(StrEnum):
    """What a route is about: the rows of the table."""

    AI_STATE = "AI on, paused, reset time"
    PROFILE = "workspaces, members, projects"
    TASK_SWITCHES = "task switches"
    CREDENTIALS = "credentials (hint, health)"
    PAYER_SWITCHES = "Always, if-key-fails, direct failure"
    CAP = "cap, threshold, zone"
    RECEIPTS = "receipts, usage"
    CREDITS = "credit balance and ledger"
    ADDON = "add-on"
    PAYING = "paying: payment pages, cancelling, buying credits"
    AUDIT = "audit log"
    WHOLE_WORKSPACE = "export all, delete workspace"
    WORKSPACE_TOKENS = "workspace tokens"
    PORTAL_SESSIONS = "portal sessions"
    DEPLOYMENT = "service tokens, plans, prices, credits, corrections, suspension, rotation"
    PRODUCT = "the product's rules and this API's description"


class Right(StrEnum):
    READ = "read"
    MANAGE = "manage"
    DISABLE = "disable"
    REVOKE = "revoke"
    COMP = "comp"
    VIEW_AS = "view as"


_NONE: frozenset[Right] = frozenset()
_READ = frozenset({Right.READ})
_ALL = frozenset({Right.READ, Right.MANAGE, Right.DISABLE, Right.REVOKE})

SERVICE, WORKSPACE, OPERATOR = TokenKind.SERVICE, TokenKind.WORKSPACE, TokenKind.OPERATOR

GRANTS: Mapping[Subject, Mapping[TokenKind, frozenset[Right]]] = {
    Subject.AI_STATE: {SERVICE: _READ, WORKSPACE: _READ, OPERATOR: _READ},
    Subject.PROFILE: {SERVICE: _ALL, WORKSPACE: _NONE, OPERATOR: _READ},
    Subject.TASK_SWITCHES: {SERVICE: _ALL, WORKSPACE: _NONE, OPERATOR: _READ},
    Subject.CREDENTIALS: {SERVICE: _ALL, WORKSPACE: _NONE, OPERATOR: frozenset({Right.READ, Right.DISABLE})},
    Subject.PAYER_SWITCHES: {SERVICE: _ALL, WORKSPACE: _NONE, OPERATOR: _READ},
    Subject.CAP: {SERVICE: _ALL, WORKSPACE: _NONE, OPERATOR: _READ},
    Subject.RECEIPTS: {SERVICE: _READ, WORKSPACE: _READ, OPERATOR: _READ},
    Subject.CREDITS: {SERVICE: _READ, WORKSPACE: _NONE, OPERATOR: _READ},
    Subject.ADDON: {SERVICE: _READ, WORKSPACE: _NONE, OPERATOR: frozenset({Right.READ, Right.COMP})},
    # The host acts for its customer's owners and admins; who pays does so on Stripe's page.
    Subject.PAYING: {SERVICE: _ALL, WORKSPACE: _NONE, OPERATOR: _READ},
    Subject.AUDIT: {SERVICE: _READ, WORKSPACE: _NONE, OPERATOR: _READ},
    Subject.WHOLE_WORKSPACE: {SERVICE: _ALL, WORKSPACE: _NONE, OPERATOR: _NONE},
    Subject.WORKSPACE_TOKENS: {
        SERVICE: _ALL, WORKSPACE: _NONE, OPERATOR: frozenset({Right.READ, Right.REVOKE}),
    },
    # The host says who its people are; staff look as an owner does, read-only.
    Subject.PORTAL_SESSIONS: {SERVICE: _ALL, WORKSPACE: _NONE, OPERATOR: frozenset({Right.READ, Right.VIEW_AS})},
    Subject.DEPLOYMENT: {SERVICE: _NONE, WORKSPACE: _NONE, OPERATOR: _ALL},
    Subject.PRODUCT: {SERVICE: _READ, WORKSPACE: _READ, OPERATOR: _READ},
}

WORKSPACE_FIELDS: Mapping[str, Subject] = {
    "name": Subject.PROFILE,
    "plan": Subject.PROFILE,
    "timezone": Subject.CAP,
    "always_use_key": Subject.PAYER_SWITCHES,
    "credits_if_key_fails": Subject.PAYER_SWITCHES,
    "credits_if_key_fails_limit": Subject.PAYER_SWITCHES,
    "on_direct_auth_failure": Subject.PAYER_SWITCHES,
    "status": Subject.DEPLOYMENT,
}
"""What the right to change each field of a workspace belongs to."""


def may(principal: Principal, subject: Subject, right: Right) -> bool:
    """Whether this principal has this right at all; which workspace it may use it on is another question."""
    row = GRANTS[subject]
    match principal.kind:
        case TokenKind.WORKSPACE:
            return right in row[WORKSPACE]
        case TokenKind.SERVICE:
            return "manage" in principal.scopes and right in row[SERVICE]
        case TokenKind.OPERATOR:
            acts_for_host = "manage" in principal.scopes and right in row[SERVICE]
            return right in row[OPERATOR] or acts_for_host


def forbidden(principal: Principal, subject: Subject, right: Right) -> Refused:
    """The refusal, which names who can help."""
    who = {
        TokenKind.WORKSPACE: "A workspace token may call, and read its own receipts and status.",
        TokenKind.SERVICE: "A service token needs the scope manage, and leaves the deployment to its operator.",
        TokenKind.OPERATOR: "An operator reads workspaces and manages the deployment; the host manages workspaces.",
    }[principal.kind]
    for_operators = subject is Subject.DEPLOYMENT or right is Right.COMP
    needed = (
        "An operator can: run the command beside the server, where `ownkey` finds the boot's operator token."
        if for_operators else
        "Use a service token with the scope manage; an operator makes one with `ownkey token add --service`."
    )
    # A workspace token's own workspace is no news to it, and lets a client leave the name out.
    details = {} if principal.workspace_id is None else {"workspace": principal.workspace_id}
    return Refused(Refusal(
        Code.FORBIDDEN, f"This token may not {right} here ({subject}). {who}", needed, details=details,
    ))
