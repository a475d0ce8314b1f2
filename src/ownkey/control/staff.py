"""Everything that lets operators in, side by side: what the console's door is given."""

import secrets
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from ownkey.control import ports
from ownkey.control.oidc import OidcControl
from ownkey.control.operator_sessions import SessionControl
from ownkey.control.operator_setup import Platform, Seeds, SetUpControl
from ownkey.control.operators import OperatorControl
from ownkey.control.own_address import OwnAddress
from ownkey.control.ports import Clock
from ownkey.control.sign_in import SignInControl
from ownkey.control.sign_in_pace import SignInPace
from ownkey.domain.operators import ConsoleRules
from ownkey.domain.secret import Secret


class StaffStore(
    ports.Operators, ports.SetUps, ports.OperatorFactors, ports.OperatorSessions, ports.SignInAttempts,
    ports.SignInSteps, ports.OidcOperators, ports.OperatorWishes, ports.Credentials, Protocol,
):
    """Everything of the store that operators need, as one object."""


@dataclass(frozen=True, slots=True)
class Staff:
    """`oidc` None: nobody signs in through a provider."""

    rules: ConsoleRules
    operators: OperatorControl
    sessions: SessionControl
    sign_in: SignInControl
    set_up: SetUpControl
    oidc: OidcControl | None


def make_staff(
    *,
    store: StaffStore,
    safe: ports.Safe,
    platform: Platform,
    passwords: ports.Passwords,
    tokens: ports.IdTokens,
    upstream: ports.Upstream,
    clock: Clock,
    rules: ConsoleRules,
    product_name: str,
    address: OwnAddress,
    client: Secret | None = None,
    entropy: Callable[[int], bytes] = secrets.token_bytes,
) -> Staff:
    """Wires the use cases to their ports. `client` is the OIDC client's secret for a header, if it has one."""
    seeds, pace = Seeds(safe, platform), SignInPace(store, clock)
    sessions = SessionControl(store, clock, rules, entropy)
    return Staff(
        rules=rules,
        operators=OperatorControl(store, clock, rules, address, entropy),
        sessions=sessions,
        sign_in=SignInControl(store, passwords, seeds, pace, sessions, clock, rules, product_name, entropy),
        set_up=SetUpControl(store, passwords, seeds, pace, sessions, clock, rules, product_name, entropy),
        oidc=None if rules.oidc is None else OidcControl(
            store, safe, platform, upstream, tokens, sessions, clock, rules, address, client, entropy
        ),
    )
