"""What `ownkey doctor` looks at, one check after the other; each says what is so and what to do."""

import asyncio
import shutil
from collections.abc import Mapping, MutableMapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from difflib import get_close_matches
from email.utils import parsedate_to_datetime
from typing import Any, Literal

import httpx

from ownkey.cli.connection import Connection, named_place, read_settings
from ownkey.cli.problems import CliError
from ownkey.cli.run_file import read_run_file
from ownkey.cli.start import START_ERRORS, address_problem, key_problem, start_problem
from ownkey.domain.errors import DeliveryError
from ownkey.domain.exchange import UpstreamRequest
from ownkey.domain.failures import UpstreamError
from ownkey.domain.product import Payers
from ownkey.domain.receipts import provider_name
from ownkey.providers.egress import parse_origin
from ownkey.providers.upstream import Upstream
from ownkey.settings.folder import AUDIT_KEY_NAME
from ownkey.settings.product import Settings
from ownkey.settings.tables import SettingsError
from ownkey.vault.keyset import KeysetError, load_keyset

MIN_FREE_BYTES = 1 << 30
MAX_SKEW_S = 30
HEAD_S = 5.0
MASTER_KEY = "master key"

State = Literal["ok", "warn", "fail"]


@dataclass(frozen=True, slots=True)
class Check:
    name: str
    state: State
    sentence: str
    fix: str = ""

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def run_checks(environ: MutableMapping[str, str]) -> list[Check]:
    """All checks. `environ` is a copy: reading the master key takes it out of its mapping."""
    from ownkey.bootstrap import check_own_words

    try:
        place = named_place(environ)
        if place is not None:
            return [Check("server", *ask_ready(place.url))]
        settings = read_settings(environ)
    except CliError as error:
        return [Check("configuration", "fail", error.message, error.fix)]
    try:
        # A server that runs has read the file as it was: the next one starts with what stands there now.
        check_own_words(settings)
    except SettingsError as error:
        problem = start_problem(error, settings)
        return [Check("configuration", "fail", problem.message, problem.fix)]
    found = [Check("configuration", "ok", f"{settings.config_path}, preset {settings.product.preset}.")]
    note = read_run_file(settings.server.data_dir)
    serves = note is not None and ask_ready(note.url)[0] == "ok"
    key = _check_key(settings, dict(environ))
    found.append(key)
    if settings.product.billing.uses_stripe:
        found.append(_check_billing(settings))
    if serves and note is not None:
        found.append(Check("server", "ok", f"Running at {note.url}."))
    if serves or key.state == "ok":
        inside = _check_inside(settings, environ, serves)
        # The database knows which master keys it needs: what it says about them is the last word.
        if any(check.name == MASTER_KEY for check in inside):
            found.remove(key)
        found += inside
    found += check_channels(settings)
    if settings.portal.theme.warnings:
        told = " ".join(settings.portal.theme.warnings)
        found.append(Check("theme", "warn", told, f"Correct [portal.theme] in {settings.config_path.name}."))
    found.append(_check_disk(settings))
    if not serves:
        found.append(_check_port(settings))
    return [*found, *asyncio.run(_check_providers(settings))]


def ask_ready(url: str) -> tuple[State, str, str]:
    """Whether the server there is ready: a check's state, sentence and fix."""
    try:
        answer = httpx.get(f"{url}/readyz", timeout=HEAD_S, trust_env=False)
    except httpx.HTTPError as error:
        told = f"{url} does not answer ({type(error).__name__})."
        return "fail", told, "Start `ownkey serve`, or correct OWNKEY_URL."
    if answer.status_code == 200:
        return "ok", f"{url} is ready.", ""
    return "fail", f"{url} is not ready: {answer.text[:200]}", "See the server's log."


def _check_key(settings: Settings, environ: MutableMapping[str, str]) -> Check:
    """The keyset by itself, and against what it sealed first: the audit log's key lies beside the database."""
    from ownkey.bootstrap import find_master_key, open_audit_key

    find_master_key(settings, environ)
    try:
        keyset = load_keyset(environ)
    except KeysetError as error:
        problem = key_problem(error, settings)
        return Check(MASTER_KEY, "fail", problem.message, problem.fix)
    if (settings.server.data_dir / AUDIT_KEY_NAME).exists():
        try:
            open_audit_key(settings.server.data_dir, keyset)
        except START_ERRORS as error:
            problem = start_problem(error, settings)
            if problem.code == "master_key":
                return Check(MASTER_KEY, "fail", problem.message, problem.fix)
    return Check(MASTER_KEY, "ok", f"Primary key {keyset.primary_id}.")


def _check_billing(settings: Settings) -> Check:
    """Stripe's secrets by their form: `serve` refuses to start without proper ones."""
    problem = settings.stripe.problem
    if problem:
        told, _, fix = problem.partition(": ")
        return Check("billing", "fail", f"{told}.", f"{fix[:1].upper()}{fix[1:]}.")
    mode = "live" if "_live_" in settings.stripe.key else "test"
    secrets = len(settings.stripe.webhook_secrets)
    return Check("billing", "ok", f"Payments by card, {mode} mode, {secrets} webhook secret{'s' * (secrets != 1)}.")


def _check_inside(settings: Settings, environ: MutableMapping[str, str], serves: bool) -> list[Check]:
    """What only the product itself can tell, asked over its API: of the running server, else of one built here."""
    try:
        with Connection(environ) as api:
            told = f"Opens, and is current: {settings.server.data_dir}."
            found = [] if serves else [Check("database", "ok", told)]
            if settings.product.payers is Payers.WITH_CREDITS:
                found.append(_check_platform_key(api))
            return [*found, _check_prices(settings, api), _check_backups(api)]
    except CliError as error:
        name = MASTER_KEY if error.code == "master_key" else "database"
        return [Check(name, "fail", error.message, error.fix)]


def _check_platform_key(api: Connection) -> Check:
    """Credits are spent on the platform's own account: without its key they pay for nothing."""
    cards = api.manage("GET", "/platform/credentials")["credentials"]
    card = next((row for row in cards if row["provider"] == "openrouter"), None)
    fix = "ownkey credential add openrouter --platform"
    if card is None or card["state"] == "empty":
        return Check("platform key", "warn", "The platform's own OpenRouter key is not set up, so credits cannot pay "
                     "for any call.", fix)
    if card["state"] == "connected":
        return Check("platform key", "ok", f"OpenRouter {card['hint']}.")
    return Check("platform key", "warn", f"The platform's own OpenRouter key: {card['sentence']}", fix)


def _check_prices(settings: Settings, api: Connection) -> Check:
    """Every model that a task names should have a price: without one a spend cap refuses it, and so do credits."""
    page = api.manage("GET", "/prices")
    if not page["unpriced"]:
        return Check("prices", "ok", "Every model of every task has a price.")
    first, more = page["unpriced"][0], len(page["unpriced"]) - 1
    task, slug = first["task"], first["model"]
    near = get_close_matches(slug, [row["model"] for row in page["prices"] if row["provider"] == "openrouter"], n=1)
    guess = f"Did you mean {near[0]}? " if near else ""
    return Check(
        "prices", "warn", f"The task {task} names {slug}, which has no price{f' (and {more} more)' if more else ''}.",
        f"{guess}Correct models of [tasks.{task}] in {settings.config_path.name}, or set a price: "
        f'ownkey prices --set "openrouter {slug} input=0.50 output=1.50".',
    )


def _check_backups(api: Connection) -> Check:
    """What would be left if this disk were lost now. Backups that were fetched and taken away are not known of."""
    page = api.manage("GET", "/backups")
    newest = next(iter(page["backups"]), None)
    if newest is None:
        return Check("backups", "warn", "There is no backup in the server's folder.",
                     "ownkey backup --out FILE, or set [backup] every_hours.")
    told = f"The newest is of {newest['made_at']} and opens with master key {newest['master_key']}."
    if page["late"]:
        return Check("backups", "warn", f"{told} One is made every {page['every_hours']} hours: this one is late.",
                     "`ownkey work list` says why the last one failed.")
    return Check("backups", "ok", told)


def check_channels(settings: Settings) -> list[Check]:
    """The ways out for notices: the mail server is asked for TLS and login, the endpoint is only looked up."""
    return asyncio.run(_check_channels(settings))


async def _check_channels(settings: Settings) -> list[Check]:
    from ownkey.bootstrap import make_channels

    mail, events = settings.mail, settings.events
    upstream = Upstream(connect_s=HEAD_S, allow_insecure_origins=settings.allow_insecure_origins)
    try:
        mailer, sender = make_channels(settings, "doctor", upstream)
    except ValueError as error:
        return [Check("events", "fail", f"{error}".capitalize() + ".", "Correct OWNKEY_EVENT_SECRETS or events.url.")]
    finally:
        await upstream.aclose()
    found = []
    if mail is None:
        found.append(Check("mail", "warn", "No [mail] is configured: alerts about caps, keys and payments reach nobody "
                           "by e-mail.", f"Add [mail] to {settings.config_path.name}."))
    elif mailer is None:
        found.append(Check("mail", "fail", mail.problem, "`ownkey serve` refuses to start until then."))
    else:
        try:
            await mailer.check()
            found.append(Check("mail", "ok", f"{mail.host}:{mail.port} takes mail from {mail.sender.addr_spec}."))
        except DeliveryError as error:
            found.append(Check("mail", "warn", f"{mail.host}:{mail.port}: {error}.", "E-mails wait for up to 24 hours; "
                               "correct [mail], then `ownkey mail test <address>`."))
    if events is None:
        found.append(Check("events", "ok", "No [events] is configured: the host is told nothing."))
    elif sender is None:
        found.append(Check("events", "fail", events.problem, "`ownkey serve` refuses to start until then."))
    else:
        found.append(Check("events", "ok", f"Signed with {len(events.secrets)} secret(s), to {events.url}."))
    return found


def _check_disk(settings: Settings) -> Check:
    folder = settings.server.data_dir
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    free = shutil.disk_usage(folder).free
    told = f"{free // (1 << 20):,} MiB free in {folder}."
    if free < MIN_FREE_BYTES:
        return Check("disk", "warn", told, "Make room: without it no call can be booked, so none is sent.")
    return Check("disk", "ok", told)


def _check_port(settings: Settings) -> Check:
    host, port = settings.server.host, settings.server.port
    problem = address_problem(host, port)
    if problem is not None:
        return Check("port", "fail", problem.message, problem.fix)
    return Check("port", "ok", f"{host}:{port} is free.")


async def _check_providers(settings: Settings) -> list[Check]:
    """One request without a key each: any answer means that the provider is reachable, and none costs anything."""
    upstream = Upstream(connect_s=HEAD_S, allow_insecure_origins=settings.allow_insecure_origins)
    providers = ("openrouter", *settings.product.direct_providers)
    try:
        heads = await asyncio.gather(*(_head(upstream, settings.origins[p]) for p in providers))
    finally:
        await upstream.aclose()
    found = []
    dates = []
    for provider, head in zip(providers, heads, strict=True):
        if isinstance(head, str):
            found.append(Check(provider, "warn", f"{provider_name(provider)} is not reachable: {head}.",
                               "Check the network, and the egress rules of this machine."))
        else:
            found.append(Check(provider, "ok", f"{provider_name(provider)} is reachable."))
            dates.append(head.get("date", ""))
    return [*found, _check_clock(dates)]


async def _head(upstream: Upstream, url: str) -> Mapping[str, str] | str:
    try:
        request = UpstreamRequest(parse_origin(url), "GET", "/models", (("accept", "application/json"),), b"")
        response = await upstream.send(request, head_timeout_s=HEAD_S)
        response.close()
    except UpstreamError as error:
        return error.signal
    except ValueError as error:
        return str(error)
    return response.headers


def _check_clock(dates: list[str]) -> Check:
    now = datetime.now(UTC)
    for text in dates:
        try:
            skew = abs((parsedate_to_datetime(text) - now).total_seconds())
        except (ValueError, TypeError):
            continue
        if skew > MAX_SKEW_S:
            return Check("clock", "warn", f"This machine's clock is {skew:.0f} s off.",
                         "Turn on NTP: months, expiries and receipts depend on the clock.")
        return Check("clock", "ok", f"Within {max(1, round(skew))} s of the providers'.")
    return Check("clock", "warn", f"It says {now:%Y-%m-%d %H:%M:%S} UTC; nobody was reachable to compare with.")
