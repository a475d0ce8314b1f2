"""Behind a one-time link: an operator chooses a password, adds the seed to an app, and proves it with a first code.

link ──► password ──► seed shown (text and QR code) ──► first code ──► recovery codes, shown once; signed in

Nothing is in force before the first code, and the link works until then: whoever is interrupted opens it again.
"""

import secrets
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from ownkey.control import ports
from ownkey.control.data_keys import with_data_key
from ownkey.control.operator_sessions import SessionControl
from ownkey.control.ports import Actor, Clock, Passwords, Safe
from ownkey.control.problems import Problem, ProblemCode, invalid
from ownkey.control.sign_in_pace import SignInPace, hash_password
from ownkey.domain import totp
from ownkey.domain.errors import DataKeyClosed
from ownkey.domain.operators import (
    RECOVERY_BYTES,
    RECOVERY_CODES,
    ConsoleRules,
    Operator,
    OperatorSession,
    SetUp,
    password_problem,
    recovery_code,
    recovery_digest,
    secret_digest,
)
from ownkey.domain.workspace import Sealed, WorkspaceState

CONSOLE = Actor("job", "console")
"""Who makes the platform's own workspace, where its data key is needed before anybody has saved a key in it."""

_ASK = "Ask whoever runs this deployment for a new link (`ownkey operator reset`)."


class Platform(Protocol):
    """Whose data key seals the deployment's own secrets."""

    async def platform(self, actor: Actor) -> WorkspaceState: ...


class Seeds:
    """TOTP seeds, sealed under the platform's data key and for one operator each."""

    def __init__(self, safe: Safe, platform: Platform) -> None:
        self._safe = safe
        self._platform = platform

    async def seal(self, operator_id: str, seed: bytes) -> Sealed:
        owner = await self._platform.platform(CONSOLE)
        with with_data_key(owner):
            return self._safe.seal_secret(owner.id, owner.dek, f"totp:{operator_id}", seed)

    async def open(self, operator_id: str, sealed: Sealed) -> bytes:
        """Raises Problem where the seed cannot be opened."""
        owner = await self._platform.platform(CONSOLE)
        with with_data_key(owner):
            try:
                return self._safe.open_secret(owner.id, owner.dek, f"totp:{operator_id}", sealed)
            except DataKeyClosed:
                # A new link would not help: its seed could not be sealed either.
                raise
            except ValueError as error:
                raise Problem(
                    ProblemCode.CONFLICT, "The seed of your authenticator app cannot be opened here: the master key "
                    "has changed.", _ASK,
                ) from error


@dataclass(frozen=True, slots=True)
class Enrolment:
    """What an authenticator app needs: the seed as text to type, and as an address for the QR code."""

    operator: Operator
    seed_text: str
    uri: str

    def __repr__(self) -> str:
        return f"Enrolment({self.operator.id})"


@dataclass(frozen=True, slots=True)
class Enrolled:
    """Set up and signed in. `recovery_codes` are shown this once."""

    session: OperatorSession
    secret: str
    recovery_codes: tuple[str, ...]

    def __repr__(self) -> str:
        return f"Enrolled({self.session.operator_id})"


class SetUpControl:
    def __init__(
        self, store: ports.SetUps, passwords: Passwords, seeds: Seeds, pace: SignInPace, sessions: SessionControl,
        clock: Clock, rules: ConsoleRules, product_name: str,
        entropy: Callable[[int], bytes] = secrets.token_bytes,
    ) -> None:
        self._store = store
        self._passwords = passwords
        self._seeds = seeds
        self._pace = pace
        self._sessions = sessions
        self._clock = clock
        self._rules = rules
        self._product = product_name
        self._entropy = entropy

    async def find(self, code: str) -> SetUp:
        """A link that works now. Looking at it uses nothing up. Raises Problem."""
        digest = secret_digest(code)
        found = None if digest is None or not self._rules.passwords else await self._store.find_set_up(digest)
        if found is None or found.operator.disabled:
            raise Problem(ProblemCode.LINK_UNKNOWN, "This link is not known here, or another took its place.", _ASK)
        if found.used_at_ms is not None:
            raise Problem(ProblemCode.LINK_USED, "This link was used; it works once.",
                          "Sign in with your password. If it was not you, tell whoever runs this deployment.")
        if found.expires_at_ms <= self._clock.now_ms():
            raise Problem(ProblemCode.LINK_EXPIRED, "This link was made more than 24 hours ago.", _ASK)
        return found

    async def choose_password(self, code: str, password: str, again: str) -> None:
        """The next step shows a new seed. Raises Problem."""
        found = await self.find(code)
        operator = found.operator
        check_password(password, again, operator, self._product)
        hashed = await hash_password(self._passwords, password)
        sealed = await self._seeds.seal(operator.id, self._entropy(totp.SEED_BYTES))
        if not await self._store.save_set_up(_digest(code), hashed, sealed, at_ms=self._clock.now_ms()):
            raise Problem(ProblemCode.LINK_USED, "This link was used meanwhile; it works once.", _ASK)

    async def enrolment(self, code: str) -> Enrolment:
        """Raises Problem; INVALID for `password` where none was chosen yet."""
        found = await self.find(code)
        if found.totp is None:
            raise invalid("password", "A password comes first.", "Choose one.")
        seed = await self._seeds.open(found.operator.id, found.totp)
        return Enrolment(
            found.operator, totp.seed_text(seed), totp.enrolment_uri(seed, found.operator.email, self._product)
        )

    async def finish(self, code: str, typed: str, address: str, *, replaces: str = "") -> Enrolled:
        """With the app's first code. Raises Problem. `replaces` is the browser's older session, if it has one."""
        found = await self.find(code)
        if found.totp is None:
            raise invalid("password", "A password comes first.", "Choose one.")
        operator = found.operator
        attempt = await self._pace.begin(operator.email, address)
        now = self._clock.now_ms()
        seed = await self._seeds.open(operator.id, found.totp)
        step = totp.matching_step(seed, _digits(typed), now, totp.NEVER)
        if step is None:
            await self._pace.fail(attempt, operator.id, "set-up code")
            raise invalid(
                "code", "This is not the app's code of this moment.",
                "Wait for the next one, and check that the clock of your telephone is right.",
            )
        await self._pace.succeed(attempt, whole=True)
        codes = make_recovery_codes(self._entropy)
        changed = await self._store.finish_set_up(_digest(code), step, digests_of(codes), at_ms=now)
        if changed is None:
            raise Problem(ProblemCode.LINK_USED, "This link was used meanwhile; it works once.", _ASK)
        session, secret = await self._sessions.open(
            changed, "password", address, replaces=replaces, proved_at_ms=now
        )
        return Enrolled(session, secret, codes)


def check_password(password: str, again: str, operator: Operator, product_name: str) -> None:
    """Raises Problem for `password` or `again`."""
    wrong = password_problem(password, email=operator.email, name=operator.name, product=product_name)
    if wrong is not None:
        raise invalid("password", wrong, "A few words that do not belong together make a good one.")
    if password != again:
        raise invalid("again", "The two passwords differ.", "Type the same one twice.")


def make_recovery_codes(entropy: Callable[[int], bytes]) -> tuple[str, ...]:
    return tuple(recovery_code(entropy(RECOVERY_BYTES)) for _ in range(RECOVERY_CODES))


def digests_of(codes: tuple[str, ...]) -> list[bytes]:
    return [digest for code in codes if (digest := recovery_digest(code)) is not None]


def _digest(code: str) -> bytes:
    digest = secret_digest(code)
    assert digest is not None, "the link was found"
    return digest


def _digits(typed: str) -> str:
    """As apps show it: "123 456"."""
    return "".join(typed.split())
