"""The staff's use cases on the real store and vault, with hashes that cost little and a clock that a test turns."""

import contextlib
from base64 import b32decode
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from tests.control.house import ACTOR, House, open_house

from ownkey.control.own_address import OwnAddress
from ownkey.control.ports import Upstream
from ownkey.control.problems import Problem
from ownkey.control.staff import Staff, make_staff
from ownkey.domain.operators import ConsoleRules, OperatorSession
from ownkey.domain.secret import Secret
from ownkey.domain.totp import code_of, step_of
from ownkey.jobs.rounds import tell_sign_ins_job
from ownkey.vault.id_tokens import SignedTokens
from ownkey.vault.passwords import PasswordHashes

PASSWORD = "violet canoe under tuesday"
ADDRESS = "192.0.2.7"
OWN_URL = "https://ownkey.test"


@dataclass
class Person:
    """An operator who has set everything up, as they would hold it themselves."""

    email: str
    seed: bytes
    recovery_codes: tuple[str, ...]
    session: OperatorSession
    secret: str
    password: str = PASSWORD


@dataclass
class StaffHouse:
    house: House
    staff: Staff
    passwords: PasswordHashes

    def code(self, person: Person) -> str:
        """What the app shows now."""
        return code_of(person.seed, step_of(self.house.clock.at_ms))

    async def invite(self, email: str = "ada@example.com", role: str = "ops") -> str:
        """A new operator's one-time code."""
        made = await self.staff.operators.add(email, "", role, ACTOR)
        return parse_qs(urlsplit(made.url).query)["code"][0]

    async def enrol(self, email: str = "ada@example.com", role: str = "ops", code: str = "") -> Person:
        """An operator with password and app, signed in. The clock has moved on, so that the next code is a new one."""
        code = code or await self.invite(email, role)
        await self.staff.set_up.choose_password(code, PASSWORD, PASSWORD)
        seed = seed_of((await self.staff.set_up.enrolment(code)).seed_text)
        shown = code_of(seed, step_of(self.house.clock.at_ms))
        done = await self.staff.set_up.finish(code, shown, ADDRESS)
        self.house.clock.pass_s(60)
        return Person(email, seed, done.recovery_codes, done.session, done.secret)

    async def sign_in(self, person: Person, *, address: str = ADDRESS, replaces: str = "") -> tuple[Any, str]:
        step = await self.staff.sign_in.check_password(person.email, person.password, address)
        found = await self.staff.sign_in.check_code(step, self.code(person), address, replaces=replaces)
        self.house.clock.pass_s(60)
        return found

    async def tell(self) -> None:
        """What the clock's job does a few seconds later."""
        await tell_sign_ins_job(self.house.store, self.house.clock.now_ms).run()

    async def audit(self) -> Sequence[Mapping[str, Any]]:
        """The deployment's log, oldest first."""
        return list(reversed(await self.house.desk.audit.list(None, 500)))

    async def actions(self) -> list[str]:
        return [row["action"] for row in await self.audit() if row["action"].startswith("operator.")]


def seed_of(shown: str) -> bytes:
    text = shown.replace(" ", "")
    return b32decode(text + "=" * (-len(text) % 8))


async def refused(work: Any) -> Problem:
    try:
        await work
    except Problem as problem:
        return problem
    raise AssertionError("it was not refused")


@contextlib.asynccontextmanager
async def open_staff(
    folder: Path, rules: ConsoleRules = ConsoleRules(), *, upstream: Upstream | None = None,  # noqa: B008
    client: Secret | None = None, passwords: PasswordHashes | None = None,
) -> AsyncIterator[StaffHouse]:
    hashes = passwords or PasswordHashes(time_cost=1, memory_kib=8)
    async with open_house(folder) as house:
        staff = make_staff(
            store=house.store, safe=house.vault, platform=house.desk.workspaces, passwords=hashes,
            tokens=SignedTokens(), upstream=upstream or house.upstream, clock=house.clock, rules=rules,
            product_name=house.product.name, address=OwnAddress(OWN_URL), client=client,
        )
        yield StaffHouse(house, staff, hashes)
        hashes.close()
