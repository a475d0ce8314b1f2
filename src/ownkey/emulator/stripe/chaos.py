"""A hostile post office: brings an account's events duplicated, reordered, late, altered and forged.

The same seed and events make the same letters in the same order. Genuine letters must be taken (2xx) and change
nothing twice; every event arrives genuinely at least once. False letters must be refused (4xx) and change nothing.

    python -m ownkey.emulator.stripe.chaos --emulator URL --to URL --secret whsec_… --seed 7
"""

import argparse
import asyncio
import copy
import json
import random
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

import httpx

from .refusals import Json
from .webhooks import body_of, signed


class Kind(StrEnum):
    """What is done to an event."""

    PLAIN = "plain"
    DUPLICATED = "duplicated"
    TOGETHER = "together"  # the same letter several times at the same moment
    REORDERED = "reordered"
    DELAYED = "delayed"  # comes after everything else
    DROPPED_THEN_REPEATED = "dropped_then_repeated"  # the first try's connection is cut before it is read
    ALTERED = "altered"  # the payload was changed after signing
    REFORMATTED = "reformatted"  # the same JSON in other bytes than were signed
    WRONG_SECRET = "wrong_secret"  # noqa: S105 - a name
    EMPTY_SECRET = "empty_secret"  # noqa: S105 - a name
    UNSIGNED = "unsigned"
    OLD = "old"  # signed an hour ago: a letter somebody recorded
    WRONG_MODE = "wrong_mode"  # signed well, of the other mode
    WRONG_ACCOUNT = "wrong_account"  # signed well, of a connected account
    OTHER_SCHEME = "other_scheme"  # only a v0 signature
    GARBAGE = "garbage"  # a header that is none


GENUINE = frozenset(
    {Kind.PLAIN, Kind.DUPLICATED, Kind.TOGETHER, Kind.REORDERED, Kind.DELAYED, Kind.DROPPED_THEN_REPEATED}
)


@dataclass(frozen=True, slots=True)
class Plan:
    """Where to, signed with what, and which kinds."""

    url: str
    secret: str
    seed: int = 0
    kinds: tuple[Kind, ...] = tuple(Kind)
    timeout_s: float = 10.0


@dataclass(frozen=True, slots=True)
class Letter:
    """One delivery to make. `header` is None where there is no signature; `cut` hangs up before the body is whole."""

    kind: Kind
    event: str
    body: bytes
    header: str | None
    cut: bool = False
    copies: int = 1

    @property
    def genuine(self) -> bool:
        """Whether the receiver has to take it."""
        return self.kind in GENUINE and not self.cut


@dataclass(slots=True)
class Report:
    """How often each kind got each status. Status 0 is no answer."""

    seed: int
    statuses: dict[Kind, Counter[int]] = field(default_factory=dict)

    def count(self, kind: Kind, status: int) -> None:
        """One more answer."""
        self.statuses.setdefault(kind, Counter())[status] += 1

    def wrong(self) -> list[str]:
        """Kinds that were not treated as they must be, in words."""
        found = []
        for kind, counted in self.statuses.items():
            for status, times in counted.items():
                good = 200 <= status < 300 if kind in GENUINE else 400 <= status < 500
                if not good:
                    found.append(f"{kind.value}: {times} × {status}")
        return found

    def as_json(self) -> Json:
        """The report for the control API."""
        kinds = {
            kind.value: {str(status): times for status, times in sorted(counted.items())}
            for kind, counted in sorted(self.statuses.items())
        }
        return {"seed": self.seed, "kinds": kinds, "wrong": self.wrong()}


def letters(events: Sequence[Json], plan: Plan, now: int) -> list[Letter]:
    """All letters in the order they are posted. Every event is in it genuinely at least once."""
    dice = random.Random(plan.seed)  # noqa: S311 - chance that repeats, not a secret
    genuine = [kind for kind in plan.kinds if kind in GENUINE] or [Kind.PLAIN]
    false = [kind for kind in plan.kinds if kind not in GENUINE]
    made: list[tuple[float, Letter]] = []
    for place, event in enumerate(events):
        for at, letter in _genuine(event, dice.choice(genuine), float(place), plan, now, dice):
            made.append((at, letter))
        for kind in false:
            made.append((place + dice.uniform(-3, 3), _false(event, kind, plan, now, dice)))
    made.sort(key=lambda pair: pair[0])
    return [letter for _, letter in made]


def _genuine(
    event: Json, kind: Kind, place: float, plan: Plan, now: int, dice: random.Random
) -> list[tuple[float, Letter]]:
    body = body_of(event)
    letter = Letter(kind, event["id"], body, signed(body, plan.secret, now))
    match kind:
        case Kind.DUPLICATED:
            return [(place, letter), *((place + dice.uniform(0, 5), letter) for _ in range(dice.randint(1, 3)))]
        case Kind.TOGETHER:
            return [(place, Letter(kind, event["id"], body, letter.header, copies=dice.randint(2, 5)))]
        case Kind.REORDERED:
            return [(place + dice.uniform(-8, 8), letter)]
        case Kind.DELAYED:
            return [(place + 1_000_000, letter)]
        case Kind.DROPPED_THEN_REPEATED:
            cut = Letter(kind, event["id"], body, letter.header, cut=True)
            return [(place, cut), (place + dice.uniform(1, 6), letter)]
        case _:
            return [(place, letter)]


def _false(event: Json, kind: Kind, plan: Plan, now: int, dice: random.Random) -> Letter:
    body = body_of(event)
    good = signed(body, plan.secret, now)
    make: dict[Kind, Callable[[], tuple[bytes, str | None]]] = {
        Kind.ALTERED: lambda: (_altered(event, dice), good),
        Kind.REFORMATTED: lambda: (json.dumps(event, separators=(",", ":")).encode(), good),
        Kind.WRONG_SECRET: lambda: (body, signed(body, f"whsec_{dice.getrandbits(128):032x}", now)),
        Kind.EMPTY_SECRET: lambda: (body, signed(body, "", now)),
        Kind.UNSIGNED: lambda: (body, None),
        Kind.OLD: lambda: (body, signed(body, plan.secret, now - 3600)),
        Kind.WRONG_MODE: lambda: _signed_variant(event, plan, now, livemode=not event["livemode"]),
        Kind.WRONG_ACCOUNT: lambda: _signed_variant(event, plan, now, account="acct_1SomebodyElse"),
        Kind.OTHER_SCHEME: lambda: (body, signed(body, plan.secret, now, "v0")),
        Kind.GARBAGE: lambda: (body, dice.choice(("t=,v1=", "v1", f"t={now}", "t=now,v1=00", ","))),
    }
    payload, header = make[kind]()
    return Letter(kind, event["id"], payload, header)


def _altered(event: Json, dice: random.Random) -> bytes:
    """An event that claims something else: another id, so that no memory of ids refuses it instead of the signature."""
    changed = copy.deepcopy(event)
    changed["id"] = f"evt_1forged{dice.getrandbits(64):016x}"
    thing = changed["data"]["object"]
    for name in ("amount_total", "amount_paid", "amount", "amount_refunded"):
        if isinstance(thing.get(name), int):
            thing[name] += 100_000
    return body_of(changed)


def _signed_variant(event: Json, plan: Plan, now: int, **changes: object) -> tuple[bytes, str]:
    """A well-signed event of another mode or account, again with an id of its own."""
    body = body_of({**event, **changes, "id": f"{event['id']}x"})
    return body, signed(body, plan.secret, now)


async def send(events: Sequence[Json], plan: Plan, now: Callable[[], float] = time.time) -> Report:
    """Post everything, in the letters' order, and report what each kind was answered."""
    report = Report(plan.seed)
    async with httpx.AsyncClient(trust_env=False, follow_redirects=False, timeout=plan.timeout_s) as client:
        for letter in letters(events, plan, int(now())):
            if letter.cut:
                await _hang_up(plan.url, letter)
                continue
            posts = (_post(client, plan.url, letter) for _ in range(letter.copies))
            for status in await asyncio.gather(*posts):
                report.count(letter.kind, status)
    return report


async def _post(client: httpx.AsyncClient, url: str, letter: Letter) -> int:
    headers = {"content-type": "application/json; charset=utf-8"}
    if letter.header is not None:
        headers["stripe-signature"] = letter.header
    try:
        answer = await client.post(url, content=letter.body, headers=headers)
    except httpx.HTTPError:
        return 0
    return answer.status_code


async def _hang_up(url: str, letter: Letter) -> None:
    """Send the head and half of the body, then leave: the receiver must not act on half a letter."""
    parts = httpx.URL(url)
    try:
        _, writer = await asyncio.open_connection(parts.host, parts.port or 80)
    except OSError:
        return
    head = (
        f"POST {parts.raw_path.decode()} HTTP/1.1\r\nhost: {parts.netloc.decode()}\r\n"
        f"content-type: application/json\r\nstripe-signature: {letter.header}\r\n"
        f"content-length: {len(letter.body)}\r\n\r\n"
    )
    writer.write(head.encode() + letter.body[: len(letter.body) // 2])
    try:
        await writer.drain()
        writer.close()
        await writer.wait_closed()
    except OSError:
        return


async def _events(emulator: str) -> list[Json]:
    async with httpx.AsyncClient(trust_env=False) as client:
        answer = await client.get(f"{emulator}/_control/objects", params={"kind": "event"})
        return list(answer.raise_for_status().json()["objects"])


def main(given: list[str] | None = None) -> int:
    """Fetch an emulator's events and send them. Exit 1 where a kind was treated wrongly."""
    parser = argparse.ArgumentParser(prog="python -m ownkey.emulator.stripe.chaos", description=__doc__)
    parser.add_argument("--emulator", required=True, help="the emulator's URL")
    parser.add_argument("--to", required=True, help="the webhook endpoint")
    parser.add_argument("--secret", required=True, help="its signing secret")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--kinds", nargs="*", default=[kind.value for kind in Kind], choices=[k.value for k in Kind])
    options = parser.parse_args(given)
    plan = Plan(options.to, options.secret, options.seed, tuple(Kind(kind) for kind in options.kinds))

    async def work() -> Report:
        return await send(await _events(options.emulator.rstrip("/")), plan)

    report = asyncio.run(work())
    sys.stdout.write(json.dumps(report.as_json(), indent=2) + "\n")
    return 1 if report.wrong() else 0


if __name__ == "__main__":
    sys.exit(main())
