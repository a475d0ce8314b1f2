"""The deployment's staff, as its operator manages them: added with a one-time link, given a role, disabled, reset.

Nobody is deleted: the audit log names them. Whatever takes a right away ends the sessions that had it.
"""

import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from ownkey.control import ports
from ownkey.control.own_address import OwnAddress
from ownkey.control.ports import Actor, Clock
from ownkey.control.problems import Problem, ProblemCode, invalid, not_found, suggest
from ownkey.control.workspaces import check_name
from ownkey.domain.connect import web_safe
from ownkey.domain.errors import Conflict
from ownkey.domain.operators import (
    LINK_MS,
    SECRET_BYTES,
    SET_UP_PATH,
    ConsoleRules,
    Operator,
    OperatorRole,
    normal_email,
    secret_digest,
)


class _Store(ports.Operators, Protocol):
    pass


@dataclass(frozen=True, slots=True)
class Invited:
    """An operator, and the link that lets them in: shown this once. `url` "" where people sign in through a provider;
    it begins with a slash where nobody has said at which address browsers reach this server."""

    operator: Operator
    url: str
    expires_at_ms: int | None

    def __repr__(self) -> str:
        return f"Invited({self.operator.id}, url=***)"


class OperatorControl:
    """Adds, lists, changes."""

    def __init__(
        self, store: _Store, clock: Clock, rules: ConsoleRules, address: OwnAddress,
        entropy: Callable[[int], bytes] = secrets.token_bytes,
    ) -> None:
        self._address = address
        self._store = store
        self._clock = clock
        self._rules = rules
        self._entropy = entropy

    async def list(self) -> Sequence[Operator]:
        return await self._store.load_operators()

    async def find(self, reference: str) -> Operator:
        """By id or e-mail address. Raises Problem(NOT_FOUND)."""
        found = await self._store.find_operator(normal_email(reference) or reference)
        if found is None:
            raise not_found("operator", reference, "here")
        return found

    async def add(self, email: str, name: str, role: str, actor: Actor) -> Invited:
        """Raises Problem."""
        self._check_passwords()
        address = normal_email(email)
        if address is None:
            raise invalid("email", "This is not an e-mail address.", "Use an address such as ada@example.com.")
        shown = check_name("name", name) if name.strip() else address.partition("@")[0]
        now = self._clock.now_ms()
        operator = Operator(
            self._clock.new_id("op"), address, shown, check_role(role), disabled=False, has_password=False,
            oidc_issuer="", oidc_subject="", shortcuts=True, created_at_ms=now, last_sign_in_at_ms=None,
        )
        code, link = self._make_link(now)
        try:
            added = await self._store.add_operator(operator, link, at_ms=now, actor=actor)
        except Conflict as error:
            raise Problem(
                ProblemCode.CONFLICT, f"There is already an operator {address[:80]}.",
                "Change the role with `ownkey operator role`, or make a new link with `ownkey operator reset`.",
                param="email",
            ) from error
        return self._invited(added, code, link[1])

    async def set_role(self, reference: str, role: str, actor: Actor) -> Operator:
        """Sessions end, so that no page goes on with the old role. Raises Problem."""
        operator = await self.find(reference)
        wanted = check_role(role)
        oidc = self._rules.oidc
        if operator.oidc_subject and not operator.has_password and oidc is not None:
            raise invalid("role", "This operator signs in through a provider, and the configuration gives the role.",
                          "Change ops and support in [console.oidc] of ownkey.toml.")
        return await self._store.change_operator(
            operator.id, role=wanted, at_ms=self._clock.now_ms(), actor=actor
        )

    async def disable(self, reference: str, actor: Actor) -> Operator:
        """Sessions end, and an open link is void. Raises Problem."""
        return await self._switch(reference, True, actor)

    async def enable(self, reference: str, actor: Actor) -> Operator:
        """Password and app are as they were. Raises Problem."""
        return await self._switch(reference, False, actor)

    async def reset(self, reference: str, actor: Actor) -> Invited:
        """A new link; password, app, recovery codes and sessions are gone. Raises Problem."""
        operator = await self.find(reference)
        if operator.disabled:
            raise Problem(ProblemCode.CONFLICT, "This operator is disabled.",
                          f"Enable them first: ownkey operator enable {operator.email}.")
        now = self._clock.now_ms()
        # Who comes through a provider is only cut loose from the person there: the next sign-in binds anew.
        through_provider = not self._rules.passwords
        code, link = ("", None) if through_provider else self._make_link(now)
        changed = await self._store.reset_operator(operator.id, link, at_ms=now, actor=actor)
        if link is None:
            return Invited(changed, "", None)
        return self._invited(changed, code, link[1])

    async def _switch(self, reference: str, disabled: bool, actor: Actor) -> Operator:
        operator = await self.find(reference)
        return await self._store.change_operator(
            operator.id, disabled=disabled, at_ms=self._clock.now_ms(), actor=actor
        )

    def _check_passwords(self) -> None:
        if not self._rules.on:
            raise Problem(ProblemCode.CONFLICT, "The console is switched off here, so nobody could sign in.",
                          "Set on = true in [console] of ownkey.toml, and restart.")
        if not self._rules.passwords:
            raise Problem(
                ProblemCode.CONFLICT,
                "Operators sign in through the provider in [console.oidc]; they are added when they first do.",
                "Add the address to ops or support in [console.oidc] of ownkey.toml, or set passwords = true in "
                "[console] for a second way in.",
            )

    def _make_link(self, now: int) -> tuple[str, tuple[bytes, int]]:
        code = web_safe(self._entropy(SECRET_BYTES))
        digest = secret_digest(code)
        assert digest is not None, "a code that we made has a code's form"
        return code, (digest, now + LINK_MS)

    def _invited(self, operator: Operator, code: str, expires_at_ms: int) -> Invited:
        return Invited(operator, f"{self._address.url}{SET_UP_PATH}?code={code}", expires_at_ms)


def check_role(role: str) -> OperatorRole:
    """Raises Problem."""
    try:
        return OperatorRole(role)
    except ValueError:
        raise invalid("role", f"There is no role {role[:40]!r} among operators.", suggest(role, OperatorRole)) from None
