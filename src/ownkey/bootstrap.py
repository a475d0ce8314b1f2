"""Where the rooms meet: adapters are built here and handed to the use cases that asked for them. No rule lives here.

`build` puts one process together on one data directory; `serve` runs it behind uvicorn; `build_app` lends it to a
command that found no server running.
"""

import asyncio
import base64
import contextlib
import gc
import logging
import os
import secrets
import shutil
import signal
import socket
import time
from collections.abc import Callable, Mapping, MutableMapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import msgspec
import uvicorn

from ownkey import __version__
from ownkey.api.app import FrontDoor
from ownkey.api.authentication import BearerAuthentication
from ownkey.api.connect import ConnectDoor
from ownkey.api.dataplane import DataPlane, DataPlaneApp, DataPlaneLimits
from ownkey.api.manage import manage_app
from ownkey.api.openrouter_surface import OpenRouterSurface
from ownkey.api.statuses import STATUSES
from ownkey.api.stripe_door import StripeDoor
from ownkey.api.upgrading import UpgradingDoor
from ownkey.console.app import ConsoleApp
from ownkey.console.machine import Machine
from ownkey.console.visit import ConsoleHouse
from ownkey.control.backups import BackupWorker
from ownkey.control.desk import Desk, make_desk
from ownkey.control.export_work import ExportAllWorker, ExportWorker
from ownkey.control.health import HealthKeeper
from ownkey.control.late_costs import LateCosts
from ownkey.control.master_key import KeyKeeper
from ownkey.control.master_key_check import KeyAuditor, KeyCheck
from ownkey.control.master_key_work import RewrapWorker
from ownkey.control.notice_calls import NoticeCalls
from ownkey.control.notices import EMAIL, EVENT, NO_EVENTS, NO_MAIL, EventDelivery, MailDelivery
from ownkey.control.own_address import OwnAddress
from ownkey.control.price_refresh import ModelPriceRefresh
from ownkey.control.price_sync import sync_prices
from ownkey.control.probes import AuthProber
from ownkey.control.receipts import ReceiptControl
from ownkey.control.replay import ReplayWorker
from ownkey.control.staff import make_staff
from ownkey.control.status import StatusControl
from ownkey.control.upkeep_work import LedgerCheckWorker, PriceSyncWorker, ReconcileWorker
from ownkey.control.work import Worker, WorkRunner
from ownkey.dialects.anthropic_messages import AnthropicDialect, OpenRouterMessagesDialect
from ownkey.dialects.openai_chat import OpenAIDialect, OpenRouterDialect
from ownkey.domain import tokens
from ownkey.domain.backups import BackupTrouble, outdated
from ownkey.domain.errors import StoreError
from ownkey.domain.exchange import Origin
from ownkey.domain.oidc import OidcRules
from ownkey.domain.operators import ConsoleRules
from ownkey.domain.secret import Secret
from ownkey.domain.upgrades import Told, UpgradeStep
from ownkey.domain.work import WorkKind
from ownkey.domain.workspace import Credential, Principal, TokenKind, WorkspaceState
from ownkey.gateway.attempt import Runner
from ownkey.gateway.circuits import Circuits
from ownkey.gateway.codecs import Provider
from ownkey.gateway.complete import Gateway, House
from ownkey.gateway.explain import Explainer
from ownkey.jobs.rounds import (
    backup_job,
    billing_job,
    calendar_job,
    deliver_job,
    expire_credits_job,
    expire_holds_job,
    forget_answers_job,
    forget_connects_job,
    forget_operators_job,
    forget_portal_sessions_job,
    keyset_job,
    late_costs_job,
    open_all_job,
    payments_job,
    price_sync_job,
    probe_keys_job,
    read_keys_job,
    reconcile_job,
    tell_sign_ins_job,
    verify_job,
    work_jobs,
)
from ownkey.jobs.scheduler import Scheduler
from ownkey.notify.events import EventSender, read_secret
from ownkey.notify.smtp import SmtpMailer
from ownkey.pages.site import Site, theme_sheet
from ownkey.pages.words import Words, check_words, known_texts
from ownkey.portal.app import PortalApp
from ownkey.portal.sessions import SessionDoor
from ownkey.portal.visit import House as PortalHouse
from ownkey.providers.anthropic import AnthropicProvider
from ownkey.providers.catalogue import PublicCatalogue
from ownkey.providers.egress import parse_origin
from ownkey.providers.google import GoogleProvider
from ownkey.providers.openai import OpenAIProvider
from ownkey.providers.openrouter import OpenRouterProvider
from ownkey.providers.prices import ListedPrices
from ownkey.providers.upstream import Upstream
from ownkey.settings.folder import AUDIT_KEY_NAME, DATABASE_NAME, EXPORTS_NAME, MASTER_KEY_NAME, RUN_FILE_NAME
from ownkey.settings.product import Settings
from ownkey.settings.tables import SettingsError
from ownkey.store.backup import BackupFolder, read_instance
from ownkey.store.export_files import ExportFiles
from ownkey.store.failpoints import load_failpoint
from ownkey.store.restore import STAGING
from ownkey.store.schema import COPYING, HEAD, REVISIONS
from ownkey.store.sqlite import SQLiteStore
from ownkey.vault.audit_key import AuditKeyFile, write_private
from ownkey.vault.envelope import Vault
from ownkey.vault.id_tokens import SignedTokens
from ownkey.vault.keyring import Keyring, check_keyset
from ownkey.vault.keyset import FILE_VARIABLE, Keyset, load_keyset
from ownkey.vault.passwords import PasswordHashes
from ownkey.vault.process import harden_process
from ownkey.vault.sealed_file import FileSealer, read_facts

if TYPE_CHECKING:
    from ownkey.payments.stripe_payments import StripePayments

logger = logging.getLogger("ownkey")

ID_BLOCK_BYTES = 4_000
# Longer than any client's own idle time: the side that closes first must not be the one a call is just sent to.
KEEP_ALIVE_S = 75
COPYING_TOLD_S = 2.0


class SystemClock:
    """The machine's clock and its randomness."""

    def now_ms(self) -> int:
        return time.time_ns() // 1_000_000

    def monotonic(self) -> float:
        return time.monotonic()

    def chance(self) -> float:
        return secrets.randbelow(1 << 32) / (1 << 32)

    def __init__(self) -> None:
        self._random = ""
        self._used = 0

    def new_id(self, prefix: str) -> str:
        """Time-sortable: 12 hex digits of milliseconds, then 80 random bits, taken from the system in larger blocks."""
        at = self._used
        if at >= len(self._random):
            self._random, at = os.urandom(ID_BLOCK_BYTES).hex(), 0
        self._used = at + 20
        return f"{prefix}_{time.time_ns() // 1_000_000:012x}{self._random[at:at + 20]}"


class VaultOpener:
    """Opens a credential for one send. The workspace's own id goes in, so that a swapped row fails."""

    def __init__(self, vault: Vault) -> None:
        self._vault = vault

    def open(self, workspace: WorkspaceState, credential: Credential) -> Secret:
        c = credential
        return self._vault.open(workspace.id, workspace.dek, c.provider, c.id, c.version, c.origin, c.sealed)


class BootDirectory:
    """The store's directory, and one more principal: this process's own operator."""

    def __init__(self, store: SQLiteStore, operator_digest: bytes) -> None:
        self._store = store
        self._digest = operator_digest
        self._operator = Principal("operator", TokenKind.OPERATOR, None, frozenset({"call", "manage"}), "this process")

    async def load_principal(self, token_digest: bytes) -> Principal | None:
        if token_digest == self._digest:
            return self._operator
        return await self._store.load_principal(token_digest)

    async def load_workspace(self, workspace_id: str) -> WorkspaceState | None:
        return await self._store.load_workspace(workspace_id)

    async def load_platform(self) -> WorkspaceState | None:
        return await self._store.load_platform()


@dataclass(slots=True)
class BuiltApp:
    """`asgi` serves everything; `operator_token` is valid for this process only."""

    asgi: FrontDoor
    operator_token: str
    scheduler: Scheduler
    _calls: DataPlaneApp
    _keeper: HealthKeeper
    _refresh: ModelPriceRefresh
    _store: SQLiteStore
    _upstream: Upstream
    _payments: "StripePayments | None" = None
    address: OwnAddress = field(default_factory=OwnAddress)
    _passwords: PasswordHashes = field(default_factory=PasswordHashes)
    work: WorkRunner | None = None
    keeper: KeyKeeper | None = None

    async def aclose(self) -> None:
        """Stop the jobs, settle what is in flight, close the sockets, commit what waits."""
        await self.scheduler.stop()
        await self._calls.stop()
        await self._keeper.stop()
        await self._refresh.stop()
        await self._upstream.aclose()
        if self._payments is not None:
            await self._payments.aclose()
        self._passwords.close()
        if self.keeper is not None:
            with contextlib.suppress(StoreError):
                await self.keeper.leave()
        await self._store.close()


def find_master_key(settings: Settings, environ: MutableMapping[str, str]) -> None:
    """Where the environment names no keyset, the one that `ownkey init` put beside the configuration is used."""
    beside = settings.config_path.parent / MASTER_KEY_NAME
    if not environ.get("OWNKEY_MASTER_KEY") and not environ.get("OWNKEY_MASTER_KEY_FILE") and beside.exists():
        environ["OWNKEY_MASTER_KEY_FILE"] = str(beside)


async def build_app(
    settings: Settings, environ: MutableMapping[str, str], told: Told | None = None
) -> BuiltApp:
    """Put the process together. Raises KeysetError, StoreError or ValueError with a sentence for the operator. `told`
    hears of a database that is brought to a newer schema; that is done beside the event loop."""
    find_master_key(settings, environ)
    keyset, keyset_file = load_keyset(environ), environ.get(FILE_VARIABLE, "").strip()
    clock = SystemClock()
    settings.server.data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    failpoint, boot_id, audit = load_failpoint(environ), clock.new_id("boot"), _audit_key_file(settings)
    store = await asyncio.to_thread(
        SQLiteStore.open, settings.server.data_dir / DATABASE_NAME, clock_ms=clock.now_ms, boot_id=boot_id, told=told,
        before_upgrade=copy_first(settings, keyset, clock, told),
        audit_key=partial(open_audit_key, settings.server.data_dir, keyset),
        **({} if failpoint is None else failpoint.hooks()),
    )
    try:
        check_keyset(keyset, store.keks_in_use(), store.retired_kek_ids())
        vault = Vault(keyset, store.instance_id)
        ring = Keyring(keyset, vault, Path(keyset_file) if keyset_file else None, audit)
        keeper = KeyKeeper(ring, store, clock, boot_id=boot_id, host=socket.gethostname(), pid=os.getpid())
        return await _build(settings, store, vault, ring, keeper, clock)
    except BaseException:
        await store.close()
        raise


def _audit_key_file(settings: Settings) -> AuditKeyFile:
    return AuditKeyFile(settings.server.data_dir / AUDIT_KEY_NAME)


def open_audit_key(data_dir: Path, keyset: Keyset) -> bytes:
    """The key of the audit chains, sealed under the master key in a file of its own beside the database; made with
    it. A database whose file is lost is refused: a new key would make every old entry look forged. Called by whoever
    owns the database: of two starts, or a start beside a restore, only one may make or read it."""
    file, is_new = AuditKeyFile(data_dir / AUDIT_KEY_NAME), not (data_dir / DATABASE_NAME).exists()
    if is_new and (data_dir / STAGING).exists():
        # An empty database would be served to everybody, and would be in the way of the next restore.
        raise StoreError(
            f"A restore into {data_dir} was interrupted, and put nothing in place. Run `ownkey restore` again; or "
            f"remove {data_dir / STAGING} to begin with an empty database."
        )
    if not file.path.exists():
        if not is_new:
            raise StoreError(f"{file.path} is missing. Restore it from the same backup as the database.")
        file.make(keyset)
    return file.open(keyset)


def make_backups(settings: Settings, vault: Vault, instance_id: str) -> BackupFolder:
    """Where backups lie, and what seals them."""
    data_dir = settings.server.data_dir
    return BackupFolder(
        settings.backup.folder_in(data_dir), data_dir, instance_id, FileSealer(vault), read_facts, __version__
    )


def copy_first(
    settings: Settings, keyset: Keyset, clock: SystemClock, told: Told | None = None
) -> Callable[[str, str], None] | None:
    """What is done before a database is brought to a newer schema: the way back, because no step is ever undone. `told`
    hears now and then that it goes on; what it raises ends it, and leaves nothing."""
    if not settings.backup.rules.before_upgrade:
        return None

    def copy(old_schema: str, new_schema: str) -> None:
        step = UpgradeStep(old_schema, new_schema, 0, len(REVISIONS) - 1 - REVISIONS.index(old_schema), COPYING)
        told_s = clock.monotonic()

        def go_on(*_: object) -> None:
            nonlocal told_s
            if told is not None and clock.monotonic() - told_s >= COPYING_TOLD_S:
                told_s = clock.monotonic()
                told(step)

        instance_id = read_instance(settings.server.data_dir / DATABASE_NAME)
        if instance_id is None:
            return
        folder = make_backups(settings, Vault(keyset, instance_id), instance_id)
        try:
            made = folder.make_now(clock.now_ms(), go_on, before_schema=new_schema)
        except BackupTrouble as error:
            raise StoreError(
                f"It must be upgraded, and could not be copied first: {error.sentence} {error.fix} "
                "Or upgrade without a copy: [backup] before_upgrade = false."
            ) from error
        for name in outdated(folder.list_now(), settings.backup.rules, made.facts.made_at_ms):
            folder.drop_now(name)
        logger.info("the database before the upgrade is kept as %s", made.name)

    return copy


async def _build(
    settings: Settings, store: SQLiteStore, vault: Vault, ring: Keyring, keeper_of_keys: KeyKeeper, clock: SystemClock
) -> BuiltApp:
    product = settings.product
    origins: Mapping[str, Origin] = {name: parse_origin(url) for name, url in settings.origins.items()}
    upstream = Upstream(
        connect_s=product.routing.connect_s, allow_insecure_origins=settings.allow_insecure_origins
    )
    all_providers: tuple[Provider, ...] = (
        OpenRouterProvider(), OpenAIProvider(), AnthropicProvider(), GoogleProvider()
    )
    providers = {provider.id: provider for provider in all_providers}
    listed = ListedPrices(upstream, origins["openrouter"])
    if store.current().version == 0:
        await sync_prices(listed, store, settings.price_overrides, at_ms=clock.now_ms(), fetch=False)
    opener = VaultOpener(vault)
    prober = AuthProber(upstream, providers, origins, clock)
    keeper = HealthKeeper(store, opener, prober, clock)
    refresh = ModelPriceRefresh(listed, store, clock)
    await store.save_minimums({name: plan.minimum_balance_credits for name, plan in product.plans.items()})
    mailer, sender = make_channels(settings, store.instance_id, upstream)
    payments = make_payments(settings, store.instance_id)
    key_check = KeyCheck(ring, store, clock)
    scheduler = Scheduler([
        keyset_job(keeper_of_keys),
        open_all_job(key_check),
        calendar_job(store, clock.now_ms),
        deliver_job(EMAIL, MailDelivery(
            store, mailer, clock, product, words=settings.portal.words,
            calls=NoticeCalls(store, ReceiptControl(store, clock, product), clock, settings.portal.words),
        )),
        deliver_job(EVENT, EventDelivery(store, sender, clock, product)),
        billing_job(store, clock.now_ms),
        expire_holds_job(store, clock.now_ms),
        expire_credits_job(store, clock.now_ms),
        forget_answers_job(store, clock.now_ms),
        forget_connects_job(store, clock.now_ms),
        tell_sign_ins_job(store, clock.now_ms),
        forget_operators_job(store, clock.now_ms),
        forget_portal_sessions_job(store, clock.now_ms),
        probe_keys_job(keeper),
        late_costs_job(LateCosts(store, opener, prober, clock)),
        verify_job(store, clock.now_ms),
        price_sync_job(listed, store, settings.price_overrides, clock.now_ms, fetch=settings.price_sync.on,
                       interval_s=settings.price_sync.interval_s),
    ])
    circuits = Circuits(per_provider=product.routing.provider_circuit)
    operator_token = tokens.make_token(os.urandom(40))
    directory = BootDirectory(store, tokens.digest(operator_token))
    limits = settings.limits
    runner = Runner(
        product=product, origins=origins, opener=opener, upstream=upstream, clock=clock, journal=store,
        response_limit_bytes=limits.response_bytes,
    )
    house = House(
        product=product, providers=providers, directory=directory, books=store, prices=store, health=keeper,
        clock=clock, circuits=circuits, runner=runner, statuses=STATUSES,
        price_refresh=refresh if settings.price_sync.on else None,
    )
    gateway = Gateway(house)
    explainer = Explainer(gateway, house)
    authentication = BearerAuthentication(directory, clock)
    surface = OpenRouterSurface(
        books=store, prices=store, payer=StatusControl(store, directory, clock, product),
        catalogue=PublicCatalogue(
            upstream, origins["openrouter"], clock.monotonic, fetch=settings.price_sync.on
        ),
        product=product, now_ms=clock.now_ms,
    )
    calls = DataPlaneApp(DataPlane(
        gateway=gateway, explainer=explainer, authentication=authentication, directory=directory,
        prices=store, product=product, openai=OpenAIDialect(), openrouter=OpenRouterDialect(),
        anthropic=AnthropicDialect(), openrouter_messages=OpenRouterMessagesDialect(), surface=surface,
        limits=DataPlaneLimits(
            limits.body_bytes, limits.body_idle_s, limits.in_flight, limits.in_flight_per_workspace,
            limits.client_stall_s,
        ),
    ))
    address = OwnAddress(settings.connect.public_url)
    files = ExportFiles(settings.server.data_dir / EXPORTS_NAME)
    backups = make_backups(settings, vault, store.instance_id)
    desk = make_desk(
        store=store, directory=directory, books=store, prices=store,
        auditor=KeyAuditor(store, key_check), sealer=vault, safe=vault, opener=opener, upstream=upstream,
        providers=providers, origins=origins, clock=clock, product=product,
        connect=settings.connect, payments=payments, portal=settings.portal, console=make_console_rules(settings),
        address=address,
        channels={EMAIL: "" if mailer else NO_MAIL, EVENT: "" if sender else NO_EVENTS}, files=files,
        backup_files=backups, backup_rules=settings.backup.rules,
        ring=ring, keeper=keeper_of_keys, key_check=key_check,
    )
    work = make_work(settings, desk, store, listed, files, backups, ring, key_check, clock)
    scheduler.add(*work_jobs(work), backup_job(desk.backups))
    scheduler.add(read_keys_job(desk.key_readings))
    if payments is not None:
        scheduler.add(payments_job(desk.payment_events), reconcile_job(desk.payment_events, clock.now_ms))
    manage = manage_app(desk, authentication, store, clock)
    passwords = PasswordHashes()
    machine = make_machine(settings, store, scheduler, circuits, clock)
    console = make_console(settings, desk, store, vault, passwords, upstream, clock, address, explainer, machine,
                           test_mode=payments is not None and not payments.livemode)

    portal = make_portal(settings, desk, vault, clock, explainer)

    async def ready() -> str | None:
        if not await asyncio.to_thread(ring.opens_audit_key):
            return "the master keys do not open the audit key beside the database"
        return None if await store.check_writable() else "the database cannot be written"

    door = FrontDoor(
        data_plane=calls, manage=manage, connect=ConnectDoor(desk.connect, product, portal.whose),
        stripe=StripeDoor(desk.payment_events), ready=ready, console=console,
        portal=portal,
        allowed_hosts=settings.server.allowed_hosts,
        header_fields=limits.header_fields, header_bytes=limits.header_bytes,
    )
    return BuiltApp(
        door, operator_token, scheduler, calls, keeper, refresh, store, upstream, payments, address, passwords, work,
        keeper_of_keys,
    )


def make_work(
    settings: Settings, desk: Desk, store: SQLiteStore, listed: ListedPrices, files: ExportFiles,
    backups: BackupFolder, ring: Keyring, key_check: KeyCheck, clock: SystemClock,
) -> WorkRunner:
    """Who does which long work; what is not configured is refused by its row."""
    workers: dict[WorkKind, Worker] = {
        WorkKind.EXPORT: ExportWorker(store, desk.exports, files),
        WorkKind.EXPORT_ALL: ExportAllWorker(store, desk.exports, files),
        WorkKind.REPLAY: ReplayWorker(store, store, store, clock, settings.product),
        WorkKind.LEDGER_CHECK: LedgerCheckWorker(KeyAuditor(store, key_check), clock),
        WorkKind.PRICE_SYNC: PriceSyncWorker(
            listed, store, settings.price_overrides, clock, fetch=settings.price_sync.on
        ),
        WorkKind.REWRAP: RewrapWorker(ring, store, key_check, clock),
        WorkKind.BACKUP: BackupWorker(backups, clock, settings.backup.rules),
    }
    if settings.product.billing.uses_stripe:
        workers[WorkKind.RECONCILE] = ReconcileWorker(desk.payment_events)
    return WorkRunner(store, workers, files, clock)


def make_console_rules(settings: Settings) -> ConsoleRules:
    """[console], with the provider's addresses as origins that egress knows. Raises ValueError."""
    rules, oidc = settings.console.rules, settings.console.oidc
    if oidc is None:
        return rules
    return replace(rules, oidc=OidcRules(
        oidc.issuer, oidc.client_id, oidc.ops, oidc.support, tuple(parse_origin(url) for url in oidc.origins),
        oidc.public_client,
    ))


def make_console(
    settings: Settings, desk: Desk, store: SQLiteStore, vault: Vault, passwords: PasswordHashes, upstream: Upstream,
    clock: SystemClock, address: OwnAddress, explainer: Explainer, machine: Machine, *, test_mode: bool,
) -> ConsoleApp | None:
    """The operators' pages; None where they are switched off."""
    rules, oidc = make_console_rules(settings), settings.console.oidc
    if not rules.on:
        return None
    client = None
    if oidc is not None and oidc.secret:
        pair = f"{quote(oidc.client_id, safe='')}:{quote(oidc.secret, safe='')}"
        client = Secret(base64.b64encode(pair.encode()).decode("ascii"))
    staff = make_staff(
        store=store, safe=vault, platform=desk.workspaces, passwords=passwords, tokens=SignedTokens(),
        upstream=upstream, clock=clock, rules=rules, product_name=settings.product.name, address=address, client=client,
    )
    return ConsoleApp(ConsoleHouse(
        staff, desk, Site(Words()), settings.product, clock, address, test_mode, settings.allow_insecure_origins,
        explainer, machine,
    ))


def make_machine(
    settings: Settings, store: SQLiteStore, scheduler: Scheduler, circuits: Circuits, clock: SystemClock
) -> Machine:
    """What the console tells of this process."""
    folder = settings.server.data_dir

    def disk() -> tuple[int, int] | None:
        try:
            found = shutil.disk_usage(folder)
        except OSError:
            return None
        return found.free, found.total

    return Machine(
        version=__version__, schema=HEAD, data_dir=str(folder), config_path=str(settings.config_path),
        started_at_ms=clock.now_ms(), configuration=settings.lines, mail_words=settings.portal.words,
        writable=store.check_writable, disk=disk, jobs=scheduler.lines,
        providers_down=lambda: circuits.providers_down(clock.monotonic()),
        routes_down=lambda: circuits.routes_down(clock.monotonic()),
    )


def check_own_words(settings: Settings) -> None:
    """Raises SettingsError where the host's own texts stand for none of ours, or have other gaps."""
    own = settings.portal.words
    if wrong := check_words(own, known_texts()) if own else []:
        raise SettingsError(f"{settings.config_path}: [portal.words]: {' '.join(wrong)}")


def make_site(settings: Settings) -> Site:
    """Templates and assets in the host's words and colours. Raises SettingsError for words of no page."""
    check_own_words(settings)
    rules = settings.portal
    return Site(Words(rules.words), theme=theme_sheet(rules.theme.light, rules.theme.dark))


def make_portal(
    settings: Settings, desk: Desk, vault: Vault, clock: SystemClock, explainer: Explainer
) -> PortalApp:
    """The pages of workspaces' people, in the host's words and colours. Raises SettingsError for words of no page."""
    rules, site = settings.portal, make_site(settings)
    house = PortalHouse(
        desk, site, settings.product, rules, clock, vault, explainer, proxies=settings.server.proxies
    )
    return PortalApp(house, SessionDoor(desk.portal_sessions, site, settings.product, clock))


def make_channels(
    settings: Settings, instance: str, upstream: Upstream
) -> tuple[SmtpMailer | None, EventSender | None]:
    """The ways out for notices; None where one is not configured, or lacks its secret (`serve` refuses that)."""
    mail, events = settings.mail, settings.events
    mailer = sender = None
    if mail is not None and not mail.problem:
        mailer = SmtpMailer(
            host=mail.host, port=mail.port, tls=mail.tls, user=mail.user, password=mail.password, sender=mail.sender,
            instance=instance,
        )
    if events is not None and not events.problem:
        sender = EventSender(
            upstream, parse_origin(events.url), [read_secret(text) for text in events.secrets], instance=instance
        )
    return mailer, sender


def make_payments(settings: Settings, instance: str) -> "StripePayments | None":
    """None where nothing is paid by card, or Stripe's secrets are missing (`serve` refuses that)."""
    rules, secrets = settings.product.billing, settings.stripe
    if not rules.uses_stripe or secrets.problem:
        return None
    # Stripe's library is large: a product that sells nothing by card does not load it.
    from ownkey.payments.stripe_payments import StripePayments

    return StripePayments(
        api_key=secrets.key, secrets=secrets.webhook_secrets, instance=instance, api_url=rules.api_url,
        account=rules.account, product_name=rules.product_name, price_id=rules.price_id,
    )


def check_console(settings: Settings) -> None:
    """A provider without our client's secret would let nobody in. Raises ValueError with its sentence."""
    console = settings.console
    if console.rules.on and console.oidc is not None and console.oidc.problem:
        raise ValueError(console.oidc.problem)


def check_payments(settings: Settings) -> None:
    """Payments without a proper secret would believe anybody. Raises ValueError with its sentence."""
    if settings.stripe.problem:
        raise ValueError(settings.stripe.problem)


def check_channels(settings: Settings) -> None:
    """A channel that is configured by half would swallow messages. Raises ValueError with its sentence."""
    for channel in (settings.mail, settings.events):
        if channel is not None and channel.problem:
            raise ValueError(channel.problem)


def serve(settings: Settings, environ: MutableMapping[str, str], told: Told | None = None) -> None:
    """Run until SIGTERM or SIGINT: stop listening, let calls in flight end, settle, exit. `told` hears of an upgrade of
    the database, on another thread."""
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    logging.getLogger("ownkey").setLevel(logging.INFO)
    harden_process()
    check_channels(settings)
    check_payments(settings)
    check_console(settings)
    with asyncio.Runner(loop_factory=_new_loop) as runner:
        runner.run(_serve(settings, environ, told))


def settle_heap() -> None:
    """What lives as long as the process (modules, price lists) is no business of the garbage collector: a full round
    over it costs tens of milliseconds, in the middle of somebody's call."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 50)


def _new_loop() -> asyncio.AbstractEventLoop:
    import uvloop

    return uvloop.new_event_loop()


async def _serve(settings: Settings, environ: MutableMapping[str, str], told: Told | None) -> None:
    """The port is listened on first: while the database is upgraded, every door says so (`UpgradingDoor`)."""
    door = UpgradingDoor(settings.product, make_site(settings), time.monotonic, settings.portal.origins)
    # No websockets: nothing here speaks them, and a request for one is answered as any other, not with a 500.
    server = uvicorn.Server(uvicorn.Config(
        door, ws="none", host=settings.server.host, port=settings.server.port, http="httptools", lifespan="off",
        access_log=False, proxy_headers=False, log_config=None, server_header=False, interface="asgi3",
        timeout_keep_alive=KEEP_ALIVE_S, timeout_graceful_shutdown=int(settings.server.shutdown_s), backlog=4096,
    ))

    def stop(*_: object) -> None:
        server.should_exit = True

    # uvicorn stops at a signal and then raises it again: it must not end the process before the books are closed. One
    # that comes before uvicorn listens for signals counts as well.
    for wanted in (signal.SIGTERM, signal.SIGINT):
        signal.signal(wanted, stop)
    serving = asyncio.ensure_future(server.serve())
    while not server.started and not serving.done():  # noqa: ASYNC110 - uvicorn has no event for this
        await asyncio.sleep(0.01)
    if serving.done():
        await serving
        return
    try:
        built = await _build_behind(door, serving, settings, environ, told)
    except BaseException:
        server.should_exit = True
        await serving
        raise
    if built is not None:
        await _serve_built(built, door, server, serving, settings)


async def _build_behind(
    door: UpgradingDoor, serving: "asyncio.Future[None]", settings: Settings, environ: MutableMapping[str, str],
    told: Told | None,
) -> BuiltApp | None:
    """The process behind its door; None where it was told to stop meanwhile."""

    def heard(step: UpgradeStep) -> None:
        door.told(step)
        if told is not None:
            told(step)

    building = asyncio.ensure_future(build_app(settings, environ, heard))
    both: list[asyncio.Future[Any]] = [building, serving]
    await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
    if not serving.done():
        return await building
    # What is in the middle of a step ends it first; the transaction around all steps is then undone.
    door.stop()
    with contextlib.suppress(StoreError):
        await (await building).aclose()
    return None


async def _serve_built(
    built: BuiltApp, door: UpgradingDoor, server: uvicorn.Server, serving: "asyncio.Future[None]", settings: Settings
) -> None:
    run_file = settings.server.data_dir / RUN_FILE_NAME
    try:
        settle_heap()
        door.open(built.asgi)
        built.scheduler.start()
        url = _announce(server, run_file, built.operator_token)
        built.address.listens_at(url)
        logger.info("ownkey %s serves %s at %s", __version__, settings.product.name, url)
        for warning in settings.portal.theme.warnings:
            logger.warning("ownkey: [portal.theme] %s", warning)
        if settings.mail is None:
            logger.warning("ownkey: no [mail] is configured, so nobody is e-mailed about caps, keys and payments")
        await serving
    finally:
        with contextlib.suppress(FileNotFoundError):
            run_file.unlink()
        await built.aclose()


def _announce(server: uvicorn.Server, run_file: Path, token: str) -> str:
    """Leave the address and this boot's operator token for the command line, readable by the owner only."""
    host, port = server.servers[0].sockets[0].getsockname()[:2]
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 - read, not bound
    url = f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
    write_private(run_file, msgspec.json.encode({"url": url, "pid": os.getpid(), "token": token}))
    return url
