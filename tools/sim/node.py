"""One process of a deployment, put together as `bootstrap` does it, with time, network, disk and vault of the world's.

A deployment is one database file. SQLite has one owner, so its nodes own it one after another: a crash, a stop or a
handover ends one life, and the next begins on another machine, whose wall clock says something else.
"""

import asyncio
import hashlib
import shutil
import tempfile
from asyncio import events
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

from ownkey.api.dataplane import DataPlane, DataPlaneApp, DataPlaneLimits
from ownkey.api.openrouter_surface import OpenRouterSurface
from ownkey.api.statuses import STATUSES
from ownkey.control.desk import Desk, make_desk
from ownkey.control.health import HealthKeeper
from ownkey.control.late_costs import LateCosts
from ownkey.control.master_key import KeyKeeper
from ownkey.control.master_key_check import KeyCheck
from ownkey.control.notices import EMAIL, EVENT, EventDelivery, MailDelivery
from ownkey.control.pace import KeyTestPace
from ownkey.control.probes import AuthProber
from ownkey.control.status import StatusControl
from ownkey.dialects.anthropic_messages import AnthropicDialect, OpenRouterMessagesDialect
from ownkey.dialects.openai_chat import OpenAIDialect, OpenRouterDialect
from ownkey.domain.credentials import AcceptedCredential
from ownkey.domain.errors import ChannelDown
from ownkey.domain.exchange import Origin
from ownkey.domain.notices import Notice
from ownkey.domain.pricing import ModelPrice, Rate
from ownkey.domain.product import Product
from ownkey.domain.records import Actor, Due, Member
from ownkey.domain.secret import Secret
from ownkey.domain.workspace import Credential, Principal, Sealed, TokenKind, WorkspaceState, WrappedDek
from ownkey.emulator.catalogue import MODELS
from ownkey.gateway.attempt import Runner
from ownkey.gateway.circuits import Circuits
from ownkey.gateway.complete import Gateway, House
from ownkey.gateway.explain import Explainer
from ownkey.jobs.rounds import (
    billing_job,
    calendar_job,
    deliver_job,
    expire_credits_job,
    expire_holds_job,
    late_costs_job,
    probe_keys_job,
    verify_job,
)
from ownkey.jobs.scheduler import Scheduler
from ownkey.providers.anthropic import AnthropicProvider
from ownkey.providers.catalogue import PublicCatalogue
from ownkey.providers.egress import parse_origin
from ownkey.providers.google import GoogleProvider
from ownkey.providers.openai import OpenAIProvider
from ownkey.providers.openrouter import OpenRouterProvider
from ownkey.settings.product import ORIGINS, load_settings
from ownkey.store.backup import BackupFolder
from ownkey.store.connection import Connection
from ownkey.store.export_files import ExportFiles
from ownkey.store.sqlite import SQLiteStore
from ownkey.store.writer import Writer
from ownkey.vault.envelope import Vault
from ownkey.vault.keyring import Keyring
from ownkey.vault.keyset import generate_keyset_text, parse_keyset
from ownkey.vault.sealed_file import FileSealer, read_facts
from tools.sim.network import Exchange, Network, SimUpstream
from tools.sim.world import Loop, World

ACTOR = Actor("operator", "sim")
AUDIT_KEY = b"k" * 32
EPOCH_MS = 1_794_873_600_000  # 2026-11-17T00:00:00Z

MODELS_USED = (
    "openai/gpt-4.1-mini", "openai/gpt-4o-mini", "anthropic/claude-haiku-4.5", "anthropic/claude-sonnet-4.5",
    "google/gemini-2.5-flash",
)
_ROUTING = {"deadline_s": 90.0, "first_content_s": 8.0, "response_s": 20.0, "stall_s": 10.0, "drain_s": 15.0}
_CONFIG = """
preset = "{preset}"
[product]
direct_providers = ["anthropic", "openai", "google"]
{credits}
"""
_CREDITS = """
[credits]
price_usd = "0.0005"
[billing]
rail = "credits"
addon_credits = 60
"""


class StepWriter(Writer):
    """The store's writer without its thread: what waits is committed at an instant that the dice draw, and its
    callers hear of it a moment later; between the two a crash loses the word, not the commit."""

    def __init__(self, conn: Connection, loop: Loop, after: Callable[[], None]) -> None:
        self._sim_loop = loop
        self._after = after
        self.slow_s = 0.0
        super().__init__(conn)

    def _start(self) -> None:
        """No thread."""

    def _signal(self) -> None:
        if not self._signalled:
            self._signalled = True
            dice = self._sim_loop.world.dice
            fsync_s = 0.0002 + dice.random() * 0.002 + (dice.random() * self.slow_s if self.slow_s else 0.0)
            self._sim_loop.call_later(fsync_s, self._step)

    def _step(self) -> None:
        before = self._conn.total_changes
        self._empty()
        if self._conn.total_changes != before:
            self._after()

    def close(self) -> None:
        self._closing = True
        self._step()


class SimClock:
    """A machine's clocks: a wall clock that is wrong by `skew_ms` and may jump, and the world's own seconds.

    It also remembers which hold each task took last: the bill of a request is compared with that hold.
    """

    def __init__(self, world: World, skew_ms: int, boot: str) -> None:
        self._world = world
        self._boot = boot
        self._ids = 0
        self.skew_ms = skew_ms
        self.holds: dict[Any, str] = {}

    def now_ms(self) -> int:
        return EPOCH_MS + self.skew_ms + int(self._world.now * 1_000)

    def monotonic(self) -> float:
        return self._world.now

    def chance(self) -> float:
        return self._world.dice.random()

    def new_id(self, prefix: str) -> str:
        self._ids += 1
        made = f"{prefix}_{self.now_ms():012x}{self._boot}{self._ids:06x}"
        if prefix == "hold":
            self.holds[asyncio.current_task()] = made
        return made


class SimVault:
    """Seals nothing: what the real vault promises has tests of its own. `broken` credentials cannot be opened."""

    def __init__(self) -> None:
        self.broken: set[str] = set()

    def new_dek(self, workspace_id: str) -> WrappedDek:
        return WrappedDek("dek", "kek-1", b"n" * 12, b"c" * 48)

    def seal(
        self, workspace_id: str, wrapped_dek: WrappedDek, provider: str, credential_id: str, version: int,
        origin: str, plaintext: AcceptedCredential,
    ) -> Sealed:
        return Sealed(b"s" * 32, b"k" * 32, b"n" * 12, plaintext.bytes_to_seal(), 1)

    def fingerprint(self, workspace_id: str, wrapped_dek: WrappedDek, plaintext: AcceptedCredential) -> bytes:
        return hashlib.sha256(plaintext.bytes_to_seal()).digest()[:8]

    def open(self, workspace: WorkspaceState, credential: Credential) -> Secret:
        if credential.id in self.broken:
            raise ValueError("undecryptable")
        return Secret(credential.sealed.ciphertext.decode())

    def seal_secret(self, workspace_id: str, wrapped_dek: WrappedDek, purpose: str, plaintext: bytes) -> Sealed:
        return Sealed(b"s" * 32, b"k" * 32, b"n" * 12, plaintext, 1)

    def open_secret(self, workspace_id: str, wrapped_dek: WrappedDek, purpose: str, sealed: Sealed) -> bytes:
        return sealed.ciphertext


class Post:
    """A mail server and the host's endpoint for events; away when the weather is bad. `deliver` hears what arrived."""

    def __init__(self, network: Network, deliver: Callable[[str], None]) -> None:
        self._network = network
        self._deliver = deliver

    async def _carry(self, key: str) -> None:
        dice = self._network.world.dice
        await asyncio.sleep(0.002 + dice.random() * 0.03)
        if dice.random() < self._network.weather.refused:
            raise ChannelDown("the connection was refused", for_all=dice.random() < 0.5)
        self._deliver(key)
        await asyncio.sleep(0.002)

    async def close(self) -> None:
        """Nothing is kept open."""


class Mail(Post):
    """Satisfies `control.ports.Mailer`."""

    async def send(self, due: Due, member: Member, notice: Notice, created_at_ms: int) -> None:
        await self._carry(f"{due.key} to {member.member_id}")


class Events(Post):
    """Satisfies `control.ports.EventSender`."""

    async def send(self, key: str, event: str, data: Mapping[str, Any], *, happened_at: str, at_ms: int) -> None:
        await self._carry(key)


class Door:
    """Says who asks: the workspace's id stands where a token would."""

    async def check(self, header: bytes | None, *, twice: bool, api_key: bytes | None = None) -> Principal:
        assert header is not None
        return Principal("tok_sim", TokenKind.WORKSPACE, header.decode(), frozenset({"call"}))


@cache
def product_of(preset: str) -> Product:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "ownkey.toml")
        credits = _CREDITS if preset == "app-builder" else ""
        path.write_text(_CONFIG.format(preset=preset, credits=credits))
        product = load_settings(path, {}).product
    return replace(product, routing=replace(product.routing, **_ROUTING))


@cache
def template(folder: Path) -> Path:
    """A database with the emulator's own list prices: made once a process, copied for every run."""
    path = folder / "template.db"
    world = World(0)
    loop = Loop(world, "template")
    store = SQLiteStore.open(
        path, clock_ms=lambda: EPOCH_MS, boot_id="template", audit_key=AUDIT_KEY,
        make_writer=lambda conn: StepWriter(conn, loop, lambda: None),
    )
    made = loop.create_task(store.activate_prices(list_prices(), {}, author="sim", at_ms=EPOCH_MS))
    world.finish(made, 60)
    made.result()
    closed = loop.create_task(store.close())
    world.finish(closed, 60)
    closed.result()
    return path


def list_prices() -> list[ModelPrice]:
    listed = []
    for model in MODELS:
        if model.slug not in MODELS_USED:
            continue
        rates = {
            name: (Rate(0, getattr(model.price.rates, name)),)
            for name in ("input", "cache_read", "cache_write_5m", "cache_write_1h", "output")
        }
        limits = {"context_window": model.context, "max_output_tokens": model.max_output}
        listed.append(ModelPrice("openrouter", model.slug, rates, source="sim", **limits))
        assert model.native is not None
        listed.append(ModelPrice(model.maker, model.native, rates, source="sim", **limits))
    return listed


@dataclass(slots=True)
class Host:
    """A machine: how wrong its wall clock is."""

    name: str
    skew_ms: int


class Node:
    """One life of a deployment's process."""

    def __init__(
        self, world: World, network: Network, path: Path, host: Host, *, boot: str, preset: str, vault: SimVault,
        on_send: Callable[["Node", Exchange], None], after_commit: Callable[["Node"], None],
        deliver_mail: Callable[[str, str], None],
    ) -> None:
        self.world = world
        self.host = host
        self.boot = boot
        self.loop = Loop(world, f"{host.name}/{boot}")
        self.clock = SimClock(world, host.skew_ms, boot)
        self.product = product_of(preset)
        self.upstream = SimUpstream(network, self.loop, lambda exchange: on_send(self, exchange))
        self.stopping = self.closed = False
        self.tasks: set[asyncio.Task[Any]] = set()
        self.unsure_until = world.now + 12.0
        """Until then the clock has just moved: what is past its time may still stand open."""
        self._after_commit = after_commit
        self.store = SQLiteStore.open(
            path, clock_ms=self.clock.now_ms, boot_id=boot, audit_key=AUDIT_KEY, make_writer=self._make_writer,
        )
        # A process dies here, never the machine: the page cache survives, and the runs need no real fsync.
        self.store._writing.execute("PRAGMA synchronous = OFF")
        self.loop.on_death = self._died
        self._folder, self._files = path.parent, ExportFiles(path.parent / "exports")
        self._build(vault, network, lambda key: deliver_mail(boot, key))
        # At once: a stop that comes at the same instant must find the jobs running.
        self.loop.run(events.Handle(self.scheduler.start, (), self.loop))

    def _make_writer(self, conn: Connection) -> StepWriter:
        self.writer = StepWriter(conn, self.loop, lambda: self._after_commit(self))
        return self.writer

    def _build(self, vault: SimVault, network: Network, deliver: Callable[[str], None]) -> None:
        store, clock, product, upstream = self.store, self.clock, self.product, self.upstream
        origins: dict[str, Origin] = {name: parse_origin(url) for name, url in ORIGINS.items()}
        providers: dict[str, Any] = {
            p.id: p for p in (OpenRouterProvider(), OpenAIProvider(), AnthropicProvider(), GoogleProvider())
        }
        prober = AuthProber(upstream, providers, origins, clock)
        self.keeper = HealthKeeper(store, vault, prober, clock)
        self.scheduler = Scheduler([
            expire_holds_job(store, clock.now_ms), expire_credits_job(store, clock.now_ms, interval_s=7.0),
            probe_keys_job(self.keeper), late_costs_job(LateCosts(store, vault, prober, clock)),
            verify_job(store, clock.now_ms, interval_s=600.0), calendar_job(store, clock.now_ms),
            billing_job(store, clock.now_ms, interval_s=11.0),
            deliver_job(EMAIL, MailDelivery(store, Mail(network, deliver), clock, product), interval_s=3.0),
            deliver_job(EVENT, EventDelivery(store, Events(network, deliver), clock, product), interval_s=3.0),
        ], monotonic=clock.monotonic)
        runner = Runner(
            product=product, origins=origins, opener=vault, upstream=upstream, clock=clock, journal=store,
        )
        house = House(
            product=product, providers=providers, directory=store, books=store, prices=store, health=self.keeper,
            clock=clock, circuits=Circuits(per_provider=product.routing.provider_circuit), runner=runner,
            statuses=STATUSES,
        )
        gateway = Gateway(house)
        self.runner = runner
        self.app = DataPlaneApp(DataPlane(
            gateway=gateway, explainer=Explainer(gateway, house), authentication=Door(),  # type: ignore[arg-type]
            directory=store, prices=store, product=product, openai=OpenAIDialect(), openrouter=OpenRouterDialect(),
            anthropic=AnthropicDialect(), openrouter_messages=OpenRouterMessagesDialect(),
            surface=OpenRouterSurface(
                books=store, prices=store, payer=StatusControl(store, store, clock, product),
                catalogue=PublicCatalogue(
                    upstream, origins["openrouter"], clock.monotonic, fetch=False,  # type: ignore[arg-type]
                ),
                product=product, now_ms=clock.now_ms,
            ),
            limits=DataPlaneLimits(client_stall_s=5.0),
        ))
        keyset = parse_keyset(generate_keyset_text())
        own_vault = Vault(keyset, store.instance_id)
        ring = Keyring(keyset, own_vault, None, None)
        self.desk: Desk = make_desk(
            store=store, directory=store, books=store, prices=store, auditor=store, sealer=vault, safe=vault,
            opener=vault, upstream=upstream, providers=providers, origins=origins, clock=clock, product=product,
            pace=KeyTestPace(), files=self._files,
            backup_files=BackupFolder(
                self._folder / "backups", self._folder, store.instance_id, FileSealer(own_vault), read_facts, "sim"
            ), ring=ring, keeper=KeyKeeper(
                ring, store, clock, boot_id="boot", host="simulated", pid=1
            ), key_check=KeyCheck(ring, store, clock),
        )

    @property
    def alive(self) -> bool:
        return not self.loop.dead

    def jump(self, by_ms: int) -> None:
        """The wall clock is set."""
        self.clock.skew_ms += by_ms
        self.unsure_until = max(self.unsure_until, self.world.now + 12.0)

    def _died(self) -> None:
        self.upstream.drop_all()
        if self.closed:
            return
        for connection in (self.store._near, self.store._far, self.store._writing):
            connection.close()
        self.store._lock.release()

    def kill(self) -> None:
        self.loop.die()

    async def stop(self) -> None:
        """What `BuiltApp.aclose` does."""
        self.stopping = True
        await self.scheduler.stop()
        await self.app.stop()
        await self.keeper.stop()
        await self.store.close()
        self.closed = True


def copy_template(folder: Path, path: Path) -> None:
    shutil.copyfile(template(folder), path)
