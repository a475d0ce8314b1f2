"""The configuration file, read once: everything that makes this Ownkey serve this product.

The file is laid over a preset of the same shape, key by key; lists are replaced whole. A change needs a restart,
so that no two calls of one process ever disagree about the rules.
"""

import difflib
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from decimal import Decimal
from importlib import resources
from ipaddress import ip_network
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

from ownkey.domain.connect import ConnectRules, address_problem
from ownkey.domain.overview import SettingLine
from ownkey.domain.portal import PortalRules
from ownkey.domain.pricing import CONFIGURED, DIMENSIONS, ModelPrice, Rate, check_price
from ownkey.domain.product import (
    DIRECT_PROVIDERS,
    PROVIDERS,
    CreditRules,
    Payers,
    Plan,
    Product,
    RoutingLimits,
    Task,
)
from ownkey.settings.backups import BackupSettings, read_backup
from ownkey.settings.billing import StripeSecrets, read_billing, read_stripe_secrets
from ownkey.settings.channels import EventSettings, MailSettings, read_events, read_mail
from ownkey.settings.console import ConsoleSettings, read_console
from ownkey.settings.environment import VARIABLES, read_environment
from ownkey.settings.portal import read_portal
from ownkey.settings.tables import SettingsError, Table

__all__ = [
    "PRESETS", "HttpLimits", "PriceSync", "ServerSettings", "Settings", "SettingsError", "load_settings",
    "preset_models", "preset_pages", "preset_text",
]  # fmt: skip

PRESETS = ("support-desk", "app-builder")

ORIGINS: Mapping[str, str] = {
    "openrouter": "https://openrouter.ai/api/v1",
    "openai": "https://api.openai.com/v1",
    "anthropic": "https://api.anthropic.com/v1",
    "google": "https://generativelanguage.googleapis.com/v1beta",
}
"""Where credentials may be sent unless the file says otherwise."""

_LOOPBACK = ("localhost", "127.0.0.1", "::1")


@dataclass(frozen=True, slots=True)
class ServerSettings:
    """`data_dir` is absolute. `allowed_hosts` empty: any Host header. `shutdown_s`: how long calls in flight may go
    on after a SIGTERM. `proxies` are the networks whose X-Forwarded-For is believed. SQLite belongs to one process, so
    there is no number of workers."""

    host: str
    port: int
    data_dir: Path
    allowed_hosts: tuple[str, ...]
    shutdown_s: float
    proxies: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class HttpLimits:
    """What one caller, and all of them, may ask of this process. Bytes, counts and seconds."""

    body_bytes: int = 32 * 2**20
    header_bytes: int = 32 * 2**10
    header_fields: int = 100
    body_idle_s: float = 60.0
    response_bytes: int = 64 * 2**20
    in_flight: int = 2_000
    in_flight_per_workspace: int = 1_000
    client_stall_s: float = 60.0


@dataclass(frozen=True, slots=True)
class PriceSync:
    """Whether OpenRouter's public price list is fetched at start and every `interval_s`."""

    on: bool
    interval_s: float


@dataclass(frozen=True, slots=True)
class Settings:
    """`origins` maps every provider to its base URL. `price_overrides` are the operator's own prices: they win."""

    product: Product
    server: ServerSettings
    origins: Mapping[str, str]
    allow_insecure_origins: bool
    limits: HttpLimits
    price_overrides: tuple[ModelPrice, ...]
    price_sync: PriceSync
    connect: ConnectRules
    config_path: Path
    mail: MailSettings | None = None
    events: EventSettings | None = None
    portal: PortalRules = PortalRules()  # noqa: RUF009 - a frozen value
    console: ConsoleSettings = ConsoleSettings()  # noqa: RUF009 - a frozen value
    stripe: StripeSecrets = StripeSecrets()  # noqa: RUF009 - a frozen value
    backup: BackupSettings = BackupSettings()  # noqa: RUF009 - a frozen value
    testing: bool = False
    failpoint: str | None = None
    lines: tuple[SettingLine, ...] = ()
    """Every setting in force with where it comes from, for people; nothing secret."""


def load_settings(config_path: Path | None, environ: Mapping[str, str]) -> Settings:
    """Read the file (None: the environment's OWNKEY_CONFIG) over its preset. Raises SettingsError."""
    environment = read_environment(environ)
    path = (config_path or environment.config_path).absolute()
    values = _read_file(path)
    preset = Table(str(path), "", values).text("preset", choices=PRESETS)
    root = Table(str(path), "", _merged(preset, values, path), own=values)
    settings = _read_settings(root, preset, path, environ)
    server = replace(
        settings.server,
        host=environment.host or settings.server.host,
        port=environment.port if environment.port is not None else settings.server.port,
        data_dir=environment.data_dir.absolute() if environment.data_dir else settings.server.data_dir,
    )
    return replace(
        settings, server=server, testing=environment.testing, failpoint=environment.failpoint,
        lines=_list_lines(root.lines, environ),
    )


def _list_lines(read: Mapping[str, SettingLine], environ: Mapping[str, str]) -> tuple[SettingLine, ...]:
    """The file's settings by name, then the environment's; of a secret only that it is set."""
    over = {"server.host": "OWNKEY_HOST", "server.port": "OWNKEY_PORT", "server.data_dir": "OWNKEY_DATA_DIR"}
    read = {**read, **{
        name: SettingLine(name, environ[variable], "environment") for name, variable in over.items()
        if environ.get(variable)
    }}
    told = [
        SettingLine(v.name, "set" if v.secret else environ[v.name], "environment") for v in VARIABLES
        if environ.get(v.name)
    ]
    return (*(read[name] for name in sorted(read)), *told)


def preset_text(preset: str) -> str:
    """A preset as it is shipped."""
    return resources.files("ownkey.settings").joinpath("presets", f"{preset}.toml").read_text("utf-8")


def _read_file(path: Path) -> dict[str, Any]:
    try:
        text = path.read_text("utf-8")
    except FileNotFoundError:
        raise SettingsError(
            f"There is no configuration file {path}. "
            f"Make one with `ownkey init --preset {PRESETS[0]}` (or {PRESETS[1]})."
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"The configuration file {path} cannot be read: {error}.") from None
    return _parse(text, str(path))


def _parse(text: str, file: str) -> dict[str, Any]:
    try:
        return tomllib.loads(text, parse_float=Decimal)
    except tomllib.TOMLDecodeError as error:
        raise SettingsError(f"{file}: not valid TOML: {error}.") from None


def _merged(preset: str, values: Mapping[str, Any], path: Path) -> dict[str, Any]:
    base = _parse(preset_text(preset), f"preset {preset}")
    product = Table(str(path), "", values).table("product")
    for keep, section in (("keep_preset_tasks", "tasks"), ("keep_preset_plans", "plans")):
        if not product.flag(keep, True):
            base.pop(section, None)
    return _overlay(base, values)


def _overlay(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for key, value in over.items():
        below = merged.get(key)
        merged[key] = _overlay(below, value) if isinstance(below, dict) and isinstance(value, dict) else value
    return merged


def _read_settings(root: Table, preset: str, path: Path, environ: Mapping[str, str]) -> Settings:
    root.text("preset")
    origins, insecure = _read_origins(root.table("origins"))
    overrides, sync = _read_prices(root.table("prices"))
    product = _read_product(root, preset)
    billing = root.table("billing")
    connect = _read_connect(root.table("connect"), origins["openrouter"])
    server = _read_server(root.table("server"), path)
    product = replace(product, billing=read_billing(
        billing, insecure=insecure, entry_url=product.entry_url, payers=product.payers, plans=product.plans
    ))
    settings = Settings(
        product=product,
        server=server,
        origins=origins,
        allow_insecure_origins=insecure,
        limits=_read_limits(root.table("limits")),
        price_overrides=overrides,
        price_sync=sync,
        connect=connect,
        config_path=path,
        mail=read_mail(root.table("mail"), product.entry_url, environ),
        events=read_events(root.table("events"), insecure, environ),
        portal=read_portal(root.table("portal"), connect.return_urls),
        console=read_console(
            root.table("console"), public_url=connect.public_url, insecure=insecure, environ=environ,
            proxies=server.proxies,
        ),
        stripe=read_stripe_secrets(billing, product.billing, environ),
        backup=read_backup(root.table("backup"), path.parent),
    )
    root.done()
    return settings


def _read_server(table: Table, path: Path) -> ServerSettings:
    server = ServerSettings(
        host=table.text("host", "127.0.0.1"),
        port=table.whole("port", 8787, most=65_535),
        data_dir=(path.parent / table.text("data_dir", "data")).absolute(),
        allowed_hosts=table.texts("allowed_hosts", ()),
        shutdown_s=table.seconds("shutdown_s", 300.0),
        proxies=_read_proxies(table),
    )
    table.done()
    return server


def _read_proxies(table: Table) -> tuple[str, ...]:
    networks = []
    for text in table.texts("proxies", ()):
        try:
            networks.append(str(ip_network(text)))
        except ValueError:
            raise table.wrong("proxies", 'a list of addresses or networks, such as ["10.0.0.0/8"]', text) from None
    return tuple(networks)


def _read_origins(table: Table) -> tuple[dict[str, str], bool]:
    insecure = table.flag("allow_insecure", False)
    origins = {provider: table.text(provider, ORIGINS[provider]).rstrip("/") for provider in PROVIDERS}
    for provider, origin in origins.items():
        try:
            parts = urlsplit(origin)
            parts.port  # noqa: B018 - reading it checks it
        except ValueError:
            raise table.wrong(provider, "a base URL", origin) from None
        if parts.scheme not in ("https", "http") or not parts.hostname or parts.query or parts.fragment:
            raise table.wrong(provider, "a base URL such as " + ORIGINS[provider], origin)
        if parts.username is not None or parts.password is not None:
            raise SettingsError(f"{table.file}: {table.name(provider)} must not hold a user name or a password.")
        if (parts.scheme == "http" or parts.hostname in _LOOPBACK) and not insecure:
            raise SettingsError(
                f"{table.file}: {table.name(provider)} is {origin}: plain http and loopback need "
                f"{table.name('allow_insecure')} = true; it is meant for the demo and for tests."
            )
        if parts.scheme == "http" and parts.hostname not in _LOOPBACK:
            raise SettingsError(
                f"{table.file}: {table.name(provider)} is {origin}: plain http is only possible on loopback."
            )
    table.done()
    return origins, insecure


def _read_connect(table: Table, origin: str) -> ConnectRules:
    """[connect]: where browsers reach this server, and the pages of the product that they may be sent to."""
    beside = f"{origin.removesuffix('/api/v1')}/auth" if origin.endswith("/api/v1") else ""
    rules = ConnectRules(
        public_url=table.text("public_url", "").rstrip("/"),
        return_urls=table.texts("return_urls", ()),
        auth_url=table.text("auth_url", beside),
    )
    table.done()
    named = {"public_url": rules.public_url, "auth_url": rules.auth_url}
    for key, url in [*named.items(), *(("return_urls", url) for url in rules.return_urls)]:
        if url and (problem := address_problem(url)) is not None:
            raise SettingsError(f"{table.file}: {table.name(key)}: {url[:200]!r} {problem}.")
    if "?" in rules.public_url:
        raise table.wrong("public_url", "an address without a query", rules.public_url)
    return rules


def _read_limits(table: Table) -> HttpLimits:
    usual = HttpLimits()
    limits = HttpLimits(
        body_bytes=table.whole("body_bytes", usual.body_bytes, least=1_024),
        header_bytes=table.whole("header_bytes", usual.header_bytes, least=1_024),
        header_fields=table.whole("header_fields", usual.header_fields, least=10),
        body_idle_s=table.seconds("body_idle_s", usual.body_idle_s),
        response_bytes=table.whole("response_bytes", usual.response_bytes, least=65_536),
        in_flight=table.whole("in_flight", usual.in_flight, least=1),
        in_flight_per_workspace=table.whole("in_flight_per_workspace", usual.in_flight_per_workspace, least=1),
        client_stall_s=table.seconds("client_stall_s", usual.client_stall_s),
    )
    table.done()
    return limits


def _read_prices(table: Table) -> tuple[tuple[ModelPrice, ...], PriceSync]:
    sync = PriceSync(table.flag("sync", True), table.seconds("sync_interval_s", 86_400.0))
    if sync.interval_s < 60:
        raise table.wrong("sync_interval_s", "at least 60 seconds", sync.interval_s)
    overrides = tuple(_read_override(row) for row in table.rows("override"))
    table.done()
    return overrides, sync


def _read_override(row: Table) -> ModelPrice:
    """One [[prices.override]]: amounts in USD per million tokens, or per piece for `request` and `image`."""
    price = ModelPrice(
        provider=row.text("provider", choices=PROVIDERS),
        model=row.text("model"),
        rates={name: (Rate(0, row.usd(f"{name}_usd")),) for name in DIMENSIONS if row.has(f"{name}_usd")},
        units={name: row.usd(f"{name}_usd") for name in ("request", "image") if row.has(f"{name}_usd")},
        free=row.flag("free", False),
        context_window=row.optional_whole("context_window", least=1),
        max_output_tokens=row.optional_whole("max_output_tokens", least=1),
        source=CONFIGURED,
    )
    row.done()
    if not price.free and "input" not in price.rates:
        raise SettingsError(f"{row.file}: {row.path} needs input_usd, or free = true.")
    wrong = check_price(price)
    if wrong:
        raise SettingsError(f"{row.file}: {row.path}: {wrong}.")
    return price


def _read_product(root: Table, preset: str) -> Product:
    table, spend = root.table("product"), root.table("spend")
    table.flag("keep_preset_tasks", True)
    table.flag("keep_preset_plans", True)
    tasks = {name: _read_task(name, row, preset) for name, row in root.tables("tasks").items()}
    plans = {name: _read_plan(name, row) for name, row in root.tables("plans").items()}
    if not plans:
        raise SettingsError(f"{root.file}: [plans] needs at least one plan.")
    rules, if_key_fails, if_key_fails_limit = _read_credits(root.table("credits"))
    product = Product(
        name=table.text("name"),
        preset=preset,
        payers=Payers(table.text("payers", choices=tuple(Payers))),
        tasks=tasks,
        plans=plans,
        default_plan=table.text("default_plan", choices=tuple(plans)),
        direct_providers=_read_direct(table, "direct_providers", ()),
        routing=_read_routing(root.table("routing")),
        credits=rules,
        entry_url=_read_entry_url(table),
        busy_wait_s=spend.seconds("busy_wait_s", 2.0),
        shrink_to_fit=spend.flag("shrink_to_fit", True),
        min_output_tokens=spend.whole("min_output_tokens", 256, least=1),
        grace_days=table.whole("grace_days", 3, most=365),
        default_threshold=spend.whole("default_threshold", 80, least=1, most=99),
        credits_if_key_fails_default=if_key_fails,
        credits_if_key_fails_limit=if_key_fails_limit,
        strict_parameters=table.flag("strict_parameters", False),
        model_ids=_read_model_ids(root.table("model_ids")),
        attribution=_read_attribution(root.table("attribution")),
        openrouter_fee_bps=table.whole("openrouter_fee_bps", 550, most=10_000),
        direct_embeddings=_read_direct(table, "direct_embeddings", ("openai",)),
    )
    table.done()
    spend.done()
    return product


def _read_direct(table: Table, name: str, usual: tuple[str, ...]) -> tuple[str, ...]:
    named = table.texts(name, usual)
    for provider in named:
        if provider not in DIRECT_PROVIDERS:
            raise table.wrong(name, f"a list out of {', '.join(DIRECT_PROVIDERS)}", provider)
    return tuple(provider for provider in DIRECT_PROVIDERS if provider in named)


def _read_entry_url(table: Table) -> str:
    url = table.text("entry_url")
    if not url.startswith(("https://", "http://", "/")):
        raise table.wrong("entry_url", "a URL or a path, with {flow} where the page's name goes", url)
    return url


def _read_task(name: str, table: Table, preset: str) -> Task:
    if not table.has("models"):
        # The preset's own tasks bring theirs along: this is a new task, or one of them misspelt.
        others = [task for task in _parse(preset_text(preset), preset).get("tasks", {}) if task != name]
        near = difflib.get_close_matches(name, others, n=1, cutoff=0.8)
        hint = f" Did you mean [tasks.{near[0]}]?" if near else ""
        raise SettingsError(
            f'{table.file}: the new task [{table.path}] needs models, such as models = ["openai/gpt-4.1-mini"].{hint}'
        )
    kind = table.text("endpoint", "chat", choices=("chat", "embeddings"))
    endpoint: Literal["chat", "embeddings"] = "embeddings" if kind == "embeddings" else "chat"
    knobs = table.table("settings")
    task = Task(
        name=name,
        title=table.text("title", name.replace("_", " ").capitalize()),
        endpoint=endpoint,
        models=table.texts("models"),
        default_on=table.flag("default_on", True),
        max_output_tokens=table.optional_whole("max_output_tokens", least=1),
        deadline_s=table.optional_whole("deadline_s", least=1),
        stream="whole" if table.text("stream", "live", choices=("live", "whole")) == "whole" else "live",
        settings={key: knobs.whole(key) for key in knobs.names()},
    )
    table.done()
    if not task.models or any("/" not in model for model in task.models):
        raise table.wrong("models", 'a list of OpenRouter slugs such as "openai/gpt-4.1-mini"', list(task.models))
    if endpoint == "embeddings" and len(task.models) > 1:
        raise SettingsError(
            f"{table.file}: {table.name('models')} must name one model: vectors of two models cannot be compared."
        )
    return task


def _read_plan(name: str, table: Table) -> Plan:
    byok = table.text("byok", choices=("included", "addon"))
    plan = Plan(
        name=name,
        title=table.text("title", name.capitalize()),
        byok="included" if byok == "included" else "addon",
        grant_credits=table.whole("grant_credits", 0),
        minimum_balance_credits=table.whole("minimum_balance_credits", 0),
        cycle_credits=table.whole("cycle_credits", 0, most=1_000_000_000),
        cycle_rollover=table.flag("cycle_rollover", True),
    )
    table.done()
    return plan


def _read_credits(table: Table) -> tuple[CreditRules, bool, int | None]:
    rules = CreditRules(
        price_nusd=table.usd("price_usd", "0.01"), markup_bps=table.whole("markup_bps", 0, most=1_000_000)
    )
    if rules.price_nusd <= 0:
        raise table.wrong("price_usd", "above 0", "0")
    if_key_fails = table.flag("if_key_fails", False)
    limit = table.optional_whole("if_key_fails_limit")
    table.done()
    return rules, if_key_fails, limit


def _read_routing(table: Table) -> RoutingLimits:
    usual = RoutingLimits()
    limits = RoutingLimits(
        deadline_s=table.seconds("deadline_s", usual.deadline_s),
        max_attempts=table.whole("max_attempts", usual.max_attempts, least=1, most=20),
        connect_s=table.seconds("connect_s", usual.connect_s),
        first_content_s=table.seconds("first_content_s", usual.first_content_s),
        response_s=table.seconds("response_s", usual.response_s),
        stall_s=table.seconds("stall_s", usual.stall_s),
        tail_s=table.seconds("tail_s", usual.tail_s),
        drain_s=table.seconds("drain_s", usual.drain_s),
        retry_wait_max_s=table.seconds("retry_wait_max_s", usual.retry_wait_max_s),
        retry_wait_with_route_s=table.seconds("retry_wait_with_route_s", usual.retry_wait_with_route_s),
        direct_retries=table.whole("direct_retries", usual.direct_retries, most=5),
        last_route_retries=table.whole("last_route_retries", usual.last_route_retries, most=5),
        keepalive_after_s=table.seconds("keepalive_after_s", usual.keepalive_after_s),
        keepalive_every_s=table.seconds("keepalive_every_s", usual.keepalive_every_s),
        whole_bytes=table.whole("whole_bytes", usual.whole_bytes, least=65_536),
        hidden_reasoning_s=table.seconds("hidden_reasoning_s", usual.hidden_reasoning_s),
        provider_circuit=table.flag("provider_circuit", usual.provider_circuit),
    )
    table.done()
    return limits


def _read_model_ids(table: Table) -> dict[str, dict[str, str]]:
    ids: dict[str, dict[str, str]] = {}
    for provider in DIRECT_PROVIDERS:
        below = table.table(provider)
        ids[provider] = {slug: below.text(slug) for slug in below.names()}
    table.done()
    return {provider: slugs for provider, slugs in ids.items() if slugs}


def _read_attribution(table: Table) -> dict[str, str]:
    """OpenRouter's attribution headers, by their own names."""
    headers = {
        "HTTP-Referer": table.text("url", ""),
        "X-OpenRouter-Title": table.text("title", ""),
        "X-OpenRouter-Categories": ",".join(table.texts("categories", ())),
    }
    table.done()
    for name, value in headers.items():
        if not value.isprintable() or not value.isascii():
            raise SettingsError(f"{table.file}: [{table.path}] {name} must be printable ASCII.")
    return {name: value for name, value in headers.items() if value}


def preset_models(preset: str) -> tuple[str, ...]:
    """Every model that a preset's tasks name, once."""
    tasks = _parse(preset_text(preset), f"preset {preset}").get("tasks", {})
    return tuple(dict.fromkeys(model for task in tasks.values() for model in task["models"]))


def preset_pages(preset: str) -> tuple[str, ...]:
    """The portal's pages that a preset lists."""
    return tuple(_parse(preset_text(preset), f"preset {preset}")["portal"]["pages"])
