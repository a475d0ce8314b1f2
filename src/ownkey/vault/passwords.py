"""Passwords as argon2id hashes: slow on purpose, never more than two at once, and as slow for a name nobody has.

A hash takes 19 MiB and about a thirtieth of a second of one core (OWASP's parameters), so whoever floods the sign-in
page could otherwise take the machine's memory. It runs on threads of its own: calls go on meanwhile.
"""

import asyncio
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Final, TypeVar

from argon2 import PasswordHasher, Type
from argon2.exceptions import InvalidHashError, VerificationError

from ownkey.domain.operators import PasswordsBusy

T = TypeVar("T")

AT_ONCE: Final = 2
MOST_WAITING: Final = 32
TIME_COST: Final = 2
MEMORY_KIB: Final = 19 * 1024
PARALLELISM: Final = 1


class PasswordHashes:
    """Satisfies `control.ports.Passwords`. Other costs are for tests, and for a later year."""

    def __init__(
        self, *, time_cost: int = TIME_COST, memory_kib: int = MEMORY_KIB, parallelism: int = PARALLELISM
    ) -> None:
        self._hasher = PasswordHasher(
            time_cost=time_cost, memory_cost=memory_kib, parallelism=parallelism, hash_len=32, salt_len=16, type=Type.ID
        )
        self._threads = ThreadPoolExecutor(AT_ONCE, "ownkey-password")
        self._waiting = 0
        self._nobody: str | None = None

    async def hash(self, password: str) -> str:
        return await self._run(lambda: self._hasher.hash(_bytes(password)))

    async def verify(self, password_hash: str | None, password: str) -> tuple[bool, bool]:
        # Made before the first comparison of any kind: otherwise the first unknown name alone would pay for it.
        if self._nobody is None:
            self._nobody = await self.hash(os.urandom(32).hex())
        nobody = self._nobody
        return await self._run(lambda: self._compare(password_hash, nobody, password))

    def close(self) -> None:
        """Wait for what runs; nothing that waits is begun."""
        self._threads.shutdown(wait=True, cancel_futures=True)

    def _compare(self, password_hash: str | None, nobody: str, password: str) -> tuple[bool, bool]:
        known = password_hash is not None
        try:
            self._hasher.verify(password_hash or nobody, _bytes(password))
        except (VerificationError, InvalidHashError):
            return False, False
        return known, known and self._hasher.check_needs_rehash(password_hash or nobody)

    async def _run(self, work: Callable[[], T]) -> T:
        """On one of the threads. A caller who goes away leaves the computation to its end: the thread stays taken."""
        if self._waiting >= MOST_WAITING:
            raise PasswordsBusy
        self._waiting += 1
        future = asyncio.get_running_loop().run_in_executor(self._threads, work)
        future.add_done_callback(lambda _: self._done())
        return await future

    def _done(self) -> None:
        self._waiting -= 1

    def __repr__(self) -> str:
        return "PasswordHashes()"


def _bytes(password: str) -> bytes:
    return password.encode("utf-8", "surrogatepass")
