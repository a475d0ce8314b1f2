"""What `ownkey doctor` looks at, one check after the other; each says what is so and what to do."""

import asyncio
import shutil
import socket
from collections.abc import Mapping, MutableMapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, Literal

import httpx

from ownkey.bootstrap import build_app, find_master_key
from ownkey.cli.connection import named_place, read_settings, running_place
from ownkey.cli.problems import CliError
from ownkey.domain.errors import StoreError
from ownkey.domain.exchange import UpstreamRequest
from ownkey.domain.failures import UpstreamError
from ownkey.domain.receipts import provider_name
from ownkey.providers.egress import parse_origin
from ownkey.providers.upstream import Upstream
from ownkey.settings.product import Settings
from ownkey.vault.keyset import KeysetError, load_keyset

MIN_FREE_BYTES = 1 << 30
MAX_SKEW_S = 30
HEAD_S = 5.0

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
    try:
        place = named_place(environ)
        if place is not None:
            return [Check("server", *_answers(place.url))]
        settings = read_settings(environ)
    except CliError as error:
        return [Check("configuration", "fail", error.message, error.fix)]
    found = [Check("configuration", "ok", f"{settings.config_path}, preset {settings.product.preset}.")]
    running = running_place(settings.server.data_dir)
    serves = running is not None and _answers(running.url)[0] == "ok"
    key = _check_key(settings, dict(environ))
    found.append(key)
    if serves and running is not None:
        found.append(Check("server", "ok", f"Running at {running.url}."))
    elif key.state == "ok":
        found.append(_check_database(settings, environ))
    found.append(_check_disk(settings))
    if not serves:
        found.append(_check_port(settings))
    return [*found, *asyncio.run(_check_providers(settings))]


def _answers(url: str) -> tuple[State, str, str]:
    try:
        answer = httpx.get(f"{url}/readyz", timeout=HEAD_S, trust_env=False)
    except httpx.HTTPError as error:
        told = f"{url} does not answer ({type(error).__name__})."
        return "fail", told, "Start `ownkey serve`, or correct OWNKEY_URL."
    if answer.status_code == 200:
        return "ok", f"{url} is ready.", ""
    return "fail", f"{url} is not ready: {answer.text[:200]}", "See the server's log."


def _check_key(settings: Settings, environ: MutableMapping[str, str]) -> Check:
    find_master_key(settings, environ)
    try:
        keyset = load_keyset(environ)
    except KeysetError as error:
        return Check("master key", "fail", str(error), "Run `ownkey init`, or set OWNKEY_MASTER_KEY_FILE.")
    return Check("master key", "ok", f"Primary key {keyset.primary_id}.")


def _check_database(settings: Settings, environ: MutableMapping[str, str]) -> Check:
    async def look() -> None:
        built = await build_app(settings, environ)
        await built.aclose()

    try:
        asyncio.run(look())
    except (StoreError, KeysetError, ValueError, OSError) as error:
        return Check("database", "fail", str(error), "Only one process may own it; see the folder's permissions too.")
    return Check("database", "ok", f"Opens, and is current: {settings.server.data_dir}.")


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
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            return Check("port", "fail", f"{host}:{port} cannot be used: {error.strerror}.",
                         "Choose another with OWNKEY_PORT, or stop what listens there.")
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
