"""Signing in with a password and a code: two steps, each a plain form, with one answer for everything that is wrong.

e-mail and password ──► a step, five minutes ──► code of the app, or a recovery code ──► session

Whether an address is known, has no password, or is disabled changes neither the answer nor its time: a name that nobody
has is compared with a hash that nothing matches.
"""

import secrets
from collections.abc import Callable
from typing import Protocol

from ownkey.control import ports
from ownkey.control.operator_sessions import SessionControl
from ownkey.control.operator_setup import Seeds, check_password, digests_of, make_recovery_codes
from ownkey.control.ports import Clock, Passwords
from ownkey.control.problems import Problem, ProblemCode
from ownkey.control.sign_in_pace import SignInPace, busy, hash_password
from ownkey.domain import totp
from ownkey.domain.connect import web_safe
from ownkey.domain.operators import (
    FRESH_MS,
    MAX_PASSWORD,
    SECRET_BYTES,
    STEP_MS,
    Attempt,
    ConsoleRules,
    Factors,
    Operator,
    OperatorSession,
    PasswordsBusy,
    normal_email,
    normal_password,
    recovery_digest,
    secret_digest,
)


class _Store(ports.OperatorFactors, ports.SignInSteps, Protocol):
    async def find_operator(self, reference: str) -> Operator | None: ...


class SignInControl:
    def __init__(
        self, store: _Store, passwords: Passwords, seeds: Seeds, pace: SignInPace, sessions: SessionControl,
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

    async def check_password(self, email: str, password: str, address: str) -> str:
        """The secret of the step that waits for a code. Raises Problem: REFUSED, LOCKED or BUSY."""
        if not self._rules.passwords:
            raise Problem(ProblemCode.SIGN_IN_REFUSED, "Nobody signs in with a password here.",
                          "Sign in through your provider.")
        attempt = await self._pace.begin(email, address)
        known = await self._find(email)
        operator, factors = known if known is not None else (None, None)
        right = await self._verify(attempt, operator, factors, password)
        if operator is None or factors is None or not right or operator.disabled:
            await self._pace.fail(attempt, None if operator is None else operator.id, "password")
            raise Problem(
                ProblemCode.SIGN_IN_REFUSED, "The e-mail address or the password is wrong.",
                "Type both again; an operator of the deployment can make you a new link.",
            )
        await self._pace.succeed(attempt, whole=False)
        secret = web_safe(self._entropy(SECRET_BYTES))
        await self._store.save_step(_digest(secret), operator.id, self._clock.now_ms() + STEP_MS)
        return secret

    async def is_waiting(self, step: str) -> bool:
        """Whether this step still waits for its code."""
        digest = secret_digest(step)
        return digest is not None and await self._store.find_step(digest, self._clock.now_ms()) is not None

    async def check_code(
        self, step: str, code: str, address: str, *, replaces: str = ""
    ) -> tuple[OperatorSession, str]:
        """The session and its secret. Raises Problem; SIGN_IN_EXPIRED: begin again with the password."""
        digest = secret_digest(step)
        operator_id = None if digest is None else await self._store.find_step(digest, self._clock.now_ms())
        operator = None if operator_id is None else await self._store.find_operator(operator_id)
        factors = None if operator is None else await self._store.load_factors(operator.id)
        if operator is None or factors is None or operator.disabled or not self._rules.passwords:
            raise Problem(ProblemCode.SIGN_IN_EXPIRED, "The password was typed too long ago.", "Begin again.")
        attempt = await self._pace.begin(operator.email, address)
        if not await self._proves(operator, factors, code):
            await self._pace.fail(attempt, operator.id, "code")
            raise _wrong_code()
        await self._pace.succeed(attempt, whole=True)
        return await self._sessions.open(
            operator, "password", address, replaces=replaces, proved_at_ms=self._clock.now_ms()
        )

    async def reauthenticate(self, session: OperatorSession, password: str, code: str, address: str) -> None:
        """Both factors again: the session is fresh for ten minutes. Raises Problem."""
        if session.via != "password":
            raise Problem(ProblemCode.SIGN_IN_REFUSED, "You did not sign in with a password.",
                          "Confirm who you are through your provider.")
        attempt = await self._pace.begin(session.email, address)
        operator = await self._store.find_operator(session.operator_id)
        factors = await self._store.load_factors(session.operator_id)
        right = await self._verify(attempt, operator, factors, password)
        # One answer for both: the code of a wrong password is not used up, and nothing says which of them was wrong.
        if operator is None or factors is None or not right or not await self._proves(operator, factors, code):
            await self._pace.fail(attempt, session.operator_id, "reauthentication")
            raise Problem(ProblemCode.SIGN_IN_REFUSED, "The password or the code is wrong.",
                          "Type your password again, with the app's next code.")
        await self._pace.succeed(attempt, whole=True)
        now = self._clock.now_ms()
        if not await self._store.freshen_operator_session(session, now + FRESH_MS, at_ms=now):
            raise Problem(ProblemCode.SESSION_ENDED, "Your session has ended meanwhile.", "Sign in again.")

    async def change_password(self, session: OperatorSession, password: str, again: str) -> None:
        """All other sessions end. Raises Problem; the session must be fresh."""
        self._sessions.require_fresh(session)
        operator = await self._own(session)
        check_password(password, again, operator, self._product)
        hashed = await hash_password(self._passwords, password)
        await self._store.save_password(
            operator.id, hashed, replaces=None, keep_session=session.id, at_ms=self._clock.now_ms()
        )

    async def new_recovery_codes(self, session: OperatorSession) -> tuple[str, ...]:
        """Shown this once; the older ones are void. Raises Problem; the session must be fresh."""
        self._sessions.require_fresh(session)
        operator = await self._own(session)
        codes = make_recovery_codes(self._entropy)
        await self._store.save_recovery_codes(operator.id, digests_of(codes), at_ms=self._clock.now_ms())
        return codes

    async def recovery_codes_left(self, session: OperatorSession) -> int:
        operator = await self._store.find_operator(session.operator_id)
        return 0 if operator is None else operator.recovery_codes_left

    # --- parts

    async def _find(self, email: str) -> tuple[Operator, Factors | None] | None:
        """The same two look-ups whoever is asked for."""
        operator = await self._store.find_operator(normal_email(email) or "")
        factors = await self._store.load_factors("" if operator is None else operator.id)
        return None if operator is None else (operator, factors)

    async def _verify(
        self, attempt: Attempt, operator: Operator | None, factors: Factors | None, password: str
    ) -> bool:
        """Always one computation of the same cost; one more, after a right password, where parameters have changed."""
        kept = None if factors is None else factors.password_hash
        typed = normal_password(password[:MAX_PASSWORD])
        try:
            right, outdated = await self._passwords.verify(kept, typed)
            if right and outdated and operator is not None and kept is not None:
                await self._store.save_password(
                    operator.id, await self._passwords.hash(typed), replaces=kept, keep_session=None,
                    at_ms=self._clock.now_ms(),
                )
        except PasswordsBusy as error:
            await self._pace.succeed(attempt, whole=False)  # nothing was checked, so nothing has failed
            raise busy() from error
        return right and len(password) <= MAX_PASSWORD

    async def _proves(self, operator: Operator, factors: Factors, code: str) -> bool:
        """Whether this is the app's code, or a recovery code; either is used up by it."""
        recovery = recovery_digest(code)
        if recovery is not None:
            return await self._store.use_recovery_code(operator.id, recovery, at_ms=self._clock.now_ms())
        seed = await self._seeds.open(operator.id, factors.totp)
        typed = "".join(code.split())
        step = totp.matching_step(seed, typed, self._clock.now_ms(), factors.totp_last_step)
        return step is not None and await self._store.use_totp_step(operator.id, step)

    async def _own(self, session: OperatorSession) -> Operator:
        operator = await self._store.find_operator(session.operator_id)
        if operator is None or not operator.has_password:
            raise Problem(ProblemCode.CONFLICT, "You sign in through a provider and have no password here.",
                          "Change it there.")
        return operator


def _wrong_code() -> Problem:
    return Problem(
        ProblemCode.SIGN_IN_REFUSED, "This code is wrong, or was used before.",
        "Wait for the app's next code. A recovery code works once.", param="code",
    )


def _digest(secret: str) -> bytes:
    digest = secret_digest(secret)
    assert digest is not None, "a secret that we made has a secret's form"
    return digest
