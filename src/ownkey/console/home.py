"""The console's first page: is everything well, what happened today, what needs a look, and what is not set up yet."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from ownkey.console.visit import ConsoleRoute, ConsoleVisit
from ownkey.domain.overview import Counts
from ownkey.domain.product import Payers
from ownkey.domain.receipts import provider_name
from ownkey.pages import figures
from ownkey.pages.http import Answer

LEAST_DISK_BYTES = 2 * 1024**3
LEAST_DISK_PERCENT = 10
OLD_PRICES_MS = 3 * 86_400_000

State = Literal["ok", "warning", "danger", "unknown"]
WORDS: Mapping[State, str] = {"ok": "Well", "warning": "Look", "danger": "Broken", "unknown": "Unknown"}


@dataclass(frozen=True, slots=True)
class Check:
    """One line of health. `sentence` is said already; `url` leads to where more is told."""

    name: str
    state: State
    sentence: str
    url: str


@dataclass(frozen=True, slots=True)
class Step:
    """One thing that a new deployment needs. `done` None: nothing here can tell."""

    text: str
    done: bool | None
    how: str
    url: str = ""


async def show(visit: ConsoleVisit) -> Answer:
    desk = visit.desk
    counts, today = await desk.overview.counts(), await desk.overview.calls_today()
    health = [
        await _database(visit), _disk(visit), _providers(visit), _jobs(visit), await _outbox(visit),
        await _billing(visit), await _prices(visit),
        await _master_key(visit, counts),
    ]
    steps = await _steps(visit, counts)
    return visit.page(
        "console/home.html", "Home", counts=counts, today=today, day=desk.overview.today, health=health, steps=steps,
        open_steps=[step for step in steps if step.done is False], words=WORDS, needs=_needs(visit, counts),
    )


# --- health


async def _database(visit: ConsoleVisit) -> Check:
    writable = await visit.house.machine.writable()
    say, url = visit.say, "/console/system"
    if writable is None:
        return Check(say("Database"), "unknown", say("Not asked."), url)
    if writable:
        return Check(say("Database"), "ok", say("A commit was written just now."), url)
    return Check(say("Database"), "danger", say("It cannot be written: calls that need a hold are refused."), url)


async def _master_key(visit: ConsoleVisit, counts: Counts) -> Check:
    """Never well over a row that does not open."""
    say, url = visit.say, "/console/system#keys"
    view = await visit.desk.master_key.show()
    closed = max(view.undecryptable, counts.undecryptable)
    if closed:
        told = say.plural("{count} sealed row does not open.", "{count} sealed rows do not open.", closed)
        return Check(say("Master key"), "danger", told, url)
    if view.problems:
        return Check(say("Master key"), "danger", say("A changed keyset was refused; the old one is in force."), url)
    if any(key.differs for key in view.keys):
        return Check(say("Master key"), "danger", say("Two processes know different keys by one name."), url)
    if view.left:
        told = say.plural("{count} data key is left under an older key.", "{count} data keys are left under older "
                          "keys.", view.left)
        return Check(say("Master key"), "warning", told, url)
    if view.swept is None:
        return Check(say("Master key"), "unknown", say("Not every sealed row has been looked at yet."), url)
    return Check(say("Master key"), "ok", say("Every sealed row opens."), url)


def _disk(visit: ConsoleVisit) -> Check:
    say, found = visit.say, visit.house.machine.disk()
    if found is None:
        return Check(say("Disk"), "unknown", say("Its free space is not known."), "/console/system")
    free, whole = found
    low = free < LEAST_DISK_BYTES or free * 100 < whole * LEAST_DISK_PERCENT
    told = say("{free} of {whole} are free.", free=bytes_text(free), whole=bytes_text(whole))
    return Check(say("Disk"), "warning" if low else "ok", told, "/console/system")


def _providers(visit: ConsoleVisit) -> Check:
    say, machine = visit.say, visit.house.machine
    down, routes = machine.providers_down(), machine.routes_down()
    if down:
        names = ", ".join(provider_name(name) for name in sorted(down))
        return Check(say("Providers"), "danger", say("{names}: left out for everybody now.", names=names),
                     "/console/models")
    if routes:
        told = say.plural("{count} single route is left out for a moment.", "{count} single routes are left out for a "
                          "moment.", routes)
        return Check(say("Providers"), "warning", told, "/console/models")
    return Check(say("Providers"), "ok", say("No circuit is open."), "/console/models")


def _jobs(visit: ConsoleVisit) -> Check:
    say, lines = visit.say, visit.house.machine.jobs()
    failing = [line.name for line in lines if line.error]
    if failing:
        return Check(say("Jobs"), "warning", say("Last round failed: {names}.", names=", ".join(failing)),
                     "/console/system#jobs")
    if not lines:
        return Check(say("Jobs"), "unknown", say("None run in this process."), "/console/system#jobs")
    return Check(say("Jobs"), "ok", say.plural("{count} runs.", "{count} run.", len(lines)), "/console/system#jobs")


async def _outbox(visit: ConsoleVisit) -> Check:
    say, url = visit.say, "/console/developers#events"
    counts = await visit.desk.overview.outbox()
    failed = sum(states.get("failed", 0) for states in counts.values())
    waiting = sum(states.get("waiting", 0) for states in counts.values())
    told = say("Last 7 days: {waiting} waiting, {failed} failed.", waiting=figures.count(waiting),
               failed=figures.count(failed))
    return Check(say("Outbox"), "warning" if failed else "ok", told, url)


async def _billing(visit: ConsoleVisit) -> Check:
    say, url = visit.say, "/console/billing"
    if not visit.desk.payment_events.on:
        return Check(say("Billing"), "ok", say("Nothing is paid by card here."), url)
    counts = await visit.desk.payment_events.counts()
    failed, quarantined = counts.get("failed", 0), counts.get("quarantined", 0)
    if failed or quarantined:
        told = say("Stripe's events: {failed} failed, {quarantined} quarantined.", failed=figures.count(failed),
                   quarantined=figures.count(quarantined))
        return Check(say("Billing"), "danger" if quarantined else "warning", told, url)
    return Check(say("Billing"), "ok", say("Every event of Stripe's has been worked on."), url)


async def _prices(visit: ConsoleVisit) -> Check:
    say, url = visit.say, "/console/models"
    state = await visit.desk.overview.prices()
    if not state.versions:
        return Check(say("Prices"), "danger", say("There is no price list: no cap can be kept."), url)
    newest = state.versions[0]
    sync = next((job for job in visit.house.machine.jobs() if job.name == "price_sync"), None)
    read_at = newest.created_at_ms if sync is None or sync.started_at_ms is None else sync.started_at_ms
    told = say("Version {version} since {when}; looked up {read}.", version=newest.version,
               when=figures.day(newest.created_at_ms, "UTC"), read=figures.ago(read_at, visit.now_ms))
    if state.unpriced:
        told += " " + say.plural(
            "{count} model that was asked for has none.", "{count} models that were asked for have none.",
            len(state.unpriced),
        )
    old = visit.now_ms - read_at > OLD_PRICES_MS
    return Check(say("Prices"), "warning" if old or state.unpriced else "ok", told, url)


def bytes_text(size: int) -> str:
    """`1.4 GB`: powers of 1024, one digit behind the point, without a float."""
    for unit, power in (("TB", 40), ("GB", 30), ("MB", 20)):
        if size >= 1 << power:
            return f"{size >> power}.{(size * 10 >> power) % 10} {unit}"
    return f"{size >> 10} kB"


# --- what needs a look


def _needs(visit: ConsoleVisit, counts: Counts) -> Sequence[tuple[str, int, str]]:
    """(label, how many, where they are listed)."""
    say, of = visit.say, "/console/workspaces?trouble="
    return (
        (say("Paused by their cap"), counts.paused, f"{of}paused"),
        (say("Unhealthy key"), counts.unhealthy, f"{of}unhealthy"),
        (say("Key that cannot be opened"), counts.undecryptable, f"{of}undecryptable"),
        (say("Past due"), counts.past_due, f"{of}past_due"),
        (say("Suspended"), counts.suspended, f"{of}suspended"),
        (say("Expired holds, 24 h"), counts.expired_holds, "/console/calls?outcome=failed"),
    )


# --- first run


async def _steps(visit: ConsoleVisit, counts: Counts) -> Sequence[Step]:
    say, desk = visit.say, visit.desk
    steps = []
    if visit.product.payers is Payers.WITH_CREDITS:
        platform = await desk.overview.has_platform_key()
        steps.append(Step(say("The platform's own OpenRouter key, which credits are spent with"), platform,
                          "ownkey credential add openrouter --platform"))
    steps += [
        Step(say("E-mail, so that owners hear of caps, keys and payments"), not desk.outbox.channels().get("email"),
             say("Configure [mail] in ownkey.toml."), "/console/system/mail"),
        Step(say("A service token for the product's backend"), counts.service_tokens > 0,
             say("Make one under Developers."), "/console/developers#tokens"),
        Step(say("The first workspace"), counts.workspaces > 0,
             say("The product's backend makes them; see the snippets."), "/console/developers#snippets"),
        Step(say("The first call"), await desk.overview.has_calls(), say("Send one with a workspace's token."),
             "/console/developers#snippets"),
        Step(say("The address at which browsers reach these pages"), bool(visit.house.address.url),
             say("Set public_url in [connect] of ownkey.toml.")),
    ]
    rules = visit.product.billing
    if rules.uses_stripe:
        steps.append(Step(say("Card payments"), desk.payment_events.on, say("Set Stripe's key and webhook secret."),
                          "/console/billing"))
    steps.append(Step(
        say("A copy of the master key, apart from the backups"), None,
        say("Nothing here can see it: without it a backup reads nothing."), "/console/system#backup",
    ))
    return steps


ROUTES: tuple[ConsoleRoute, ...] = (ConsoleRoute("GET", "/console", show),)
