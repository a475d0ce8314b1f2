"""How often a sign-in may fail: ten times in fifteen minutes, then account and address wait for fifteen.

An attempt is counted before it is checked and taken back if it passes, so attempts side by side cannot outrun the
count. Names that nobody has are counted and locked alike.
"""

from ownkey.control.ports import Clock, Passwords, SignInAttempts
from ownkey.control.problems import Problem, ProblemCode
from ownkey.domain.operators import (
    LOCK_MS,
    MOST_FAILURES,
    WINDOW_MS,
    Attempt,
    PasswordsBusy,
    account_key,
    address_key,
    normal_password,
)


class SignInPace:
    """What an attempt writes is the same whoever it is for. The audit log gets its rows from a job, a few seconds later
    (`store.operator_sessions.tell_sign_ins`)."""

    def __init__(self, store: SignInAttempts, clock: Clock) -> None:
        self._store = store
        self._clock = clock

    async def begin(self, email: str, address: str) -> Attempt:
        """Raises Problem(SIGN_IN_LOCKED)."""
        now = self._clock.now_ms()
        attempt = Attempt(self._clock.new_id("try"), account_key(email), address_key(address), address[:64], now)
        until = await self._store.begin_attempt(attempt, window_ms=WINDOW_MS, most=MOST_FAILURES)
        if until is None:
            return attempt
        wait_s = max(1, -(-(until - now) // 1_000))
        minutes = -(-wait_s // 60)
        raise Problem(
            ProblemCode.SIGN_IN_LOCKED, "There were too many failed sign-ins from here, or to this account.",
            f"Try again in {minutes} {'minute' if minutes == 1 else 'minutes'}.", retry_after_s=wait_s,
        )

    async def fail(self, attempt: Attempt, operator_id: str | None, stage: str) -> None:
        """`operator_id` None: nobody has that name."""
        now = self._clock.now_ms()
        await self._store.fail_attempt(
            attempt, operator_id, stage, window_ms=WINDOW_MS, most=MOST_FAILURES, lock_ms=LOCK_MS, at_ms=now
        )

    async def succeed(self, attempt: Attempt, *, whole: bool) -> None:
        """`whole`: both factors; a right password alone takes back its own attempt only."""
        await self._store.pass_attempt(attempt, whole=whole)


async def hash_password(passwords: Passwords, password: str) -> str:
    """Raises Problem(SIGN_IN_BUSY)."""
    try:
        return await passwords.hash(normal_password(password))
    except PasswordsBusy as error:
        raise busy() from error


def busy() -> Problem:
    return Problem(ProblemCode.SIGN_IN_BUSY, "Too many sign-ins are being checked at this moment.",
                   "Try again in a few seconds.", retry_after_s=3)
