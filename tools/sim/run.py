"""One run: a seed becomes a world, a story of a few hundred steps, and a trace; the invariants are checked throughout.

`run_seed` is a pure function of its arguments. It returns the trace's hash and, if an invariant broke, which one.
"""

import contextlib
import gc
import logging
import os
import shutil
import sqlite3
import sys
import tempfile
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cache
from multiprocessing.util import Finalize
from pathlib import Path
from typing import Any

from ownkey.store import InUse
from tools.sim.checks import Broken, Watch
from tools.sim.network import Exchange, Network
from tools.sim.node import ACTOR, EPOCH_MS, Host, Node, SimVault, copy_template, product_of
from tools.sim.story import Story
from tools.sim.world import Loop, Stuck, World

STEPS = 80



@dataclass(slots=True)
class Result:
    """`broken` "" means that every invariant held."""

    seed: int
    trace: str
    broken: str
    counts: Counter[str] = field(default_factory=Counter)
    lines: tuple[str, ...] = ()


class Deployment:
    """One database file, the machines that may own it, and the one that does. `node` None: nobody, just now."""

    def __init__(self, run: "Run", name: str, preset: str, hosts: list[Host]) -> None:
        self.name = name
        self.preset = preset
        self.hosts = hosts
        self.path = run.folder / f"{name}.db"
        self.vault = SimVault()
        self.platform_key = f"sk-or-v1-{name.encode().hex():0<64}"
        product = product_of(preset)
        self.watch = Watch(self.path, product.credits, {self.platform_key})
        self.workspaces: list[str] = []
        self.keys: dict[tuple[str, str], str] = {}
        self.node: Node | None = None
        self.lives = 0
        self.graveyard: list[Node] = []
        self._run = run
        copy_template(template_folder(), self.path)

    def start(self) -> None:
        """Another life, on any of the machines; what the dead left open ends now."""
        assert self.node is None
        dice = self._run.world.dice
        self.lives += 1
        host = dice.choice(self.hosts)
        boot = f"{self.name}{self.lives:02d}"
        self.node = node = Node(
            self._run.world, self._run.network, self.path, host, boot=boot, preset=self.preset, vault=self.vault,
            on_send=self._on_send, after_commit=self._after_commit, deliver_mail=self._delivered,
        )
        self._run.world.note(f"start {node.loop.name} skew {host.skew_ms} recovered {node.store.recovered_calls}")
        node.loop.on_death = self._on_death(node)

    def _on_death(self, node: Node) -> Callable[[], None]:
        died = node._died

        def note() -> None:
            died()
            self._run.world.note(f"dead {node.loop.name}")
            self.bury(node)

        return note

    def bury(self, node: Node) -> None:
        """Kept, so that nothing of a dead process runs when Python frees it."""
        self.graveyard.append(node)
        if self.node is node:
            self.node = None

    # Raised inside the product these would look like somebody's failure: they are told to the run instead.

    def _on_send(self, node: Node, exchange: Exchange) -> None:
        exchange.owner = self.watch
        with self._run.remembering():
            self.watch.on_send(node, exchange)

    def _after_commit(self, node: Node) -> None:
        with self._run.remembering():
            self.watch.after_commit(node)

    def _delivered(self, boot: str, key: str) -> None:
        with self._run.remembering():
            self.watch.delivered(boot, key)

    def crowd(self) -> None:
        """A second owner is refused, whatever the first is doing."""
        try:
            self._run_second()
        except InUse:
            return
        raise Broken("two processes own one database")

    def _run_second(self) -> None:
        Node(
            self._run.world, self._run.network, self.path, self.hosts[0], boot="second", preset=self.preset,
            vault=self.vault, on_send=self._on_send, after_commit=self._after_commit, deliver_mail=self._delivered,
        )


class Run:
    """The world of one seed."""

    def __init__(self, seed: int, folder: Path) -> None:
        self.folder = folder
        self.world = World(seed)
        self.broken = ""
        self.network = Network(self.world, self._on_bill)
        self.outside = Loop(self.world, "outside")
        self.deployments: list[Deployment] = []

    @contextlib.contextmanager
    def remembering(self) -> Iterator[None]:
        """The first thing that broke is told at the next check."""
        try:
            yield
        except Broken as broken:
            self.broken = self.broken or str(broken)

    def _on_bill(self, exchange: Exchange, bill: Any) -> None:
        with self.remembering():
            exchange.owner.on_bill(exchange, bill)

    def build(self) -> None:
        """Two to eight machines, one or two deployments."""
        dice = self.world.dice
        count = dice.randrange(2, 9)
        hosts = [Host(f"m{n}", dice.randrange(-5_000, 5_001)) for n in range(count)]
        presets = ["app-builder"] if count < 4 or dice.random() < 0.6 else ["app-builder", "support-desk"]
        for n, preset in enumerate(presets):
            deployment = Deployment(self, "ab"[n], preset, hosts[n::len(presets)])
            self.deployments.append(deployment)
        # The story begins somewhere before the end of a month, so that some of its calls cross it.
        self.world.now = dice.choice([0.0, 5_000.0, 13 * 86_400 + 86_000.0 + dice.random() * 400, 1_198_000.0])
        for deployment in self.deployments:
            deployment.start()

    def perform(self, node: Node, work: Any, limit_s: float = 30.0) -> Any:
        """A management request that is waited for; None if its process died, or took too long, meanwhile."""
        task = node.loop.create_task(work)
        if not self.world.finish(task, limit_s) or not task.done() or task.cancelled():
            return None
        return task.result()

    def check(self) -> None:
        for deployment in self.deployments:
            node = deployment.node
            now_ms = EPOCH_MS + int(self.world.now * 1_000) if node is None else node.clock.now_ms()
            deployment.watch.check(node, now_ms)
            self.world.note(f"{deployment.name} {deployment.watch.figures()}")
        if self.broken:
            raise Broken(self.broken)
        if self.world.complaints:
            raise Broken("an error inside the product: " + self.world.complaints[0])


@cache
def template_folder() -> Path:
    base = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    folder = Path(tempfile.mkdtemp(prefix="ownkey-sim-", dir=base))
    # Also in the processes of a pool, which never come to `atexit`.
    Finalize(None, shutil.rmtree, (folder, True), exitpriority=10)
    return folder


class _Ear(logging.Handler):
    """Whatever the product logs as an error is a complaint: a simulation must not pass over it."""

    def __init__(self, world: World) -> None:
        super().__init__(logging.ERROR)
        self._world = world

    def emit(self, record: logging.LogRecord) -> None:
        what = "" if record.exc_info is None else "\n" + "".join(traceback.format_exception(*record.exc_info)[-3:])
        self._world.complaints.append(record.getMessage() + what)


@contextlib.contextmanager
def listening(world: World) -> Iterator[None]:
    logger = logging.getLogger("ownkey")
    ear, propagate, hook = _Ear(world), logger.propagate, sys.unraisablehook
    logger.addHandler(ear)
    logger.propagate = False
    try:
        yield
    finally:
        logger.removeHandler(ear)
        logger.propagate = propagate
        # What the dead left suspended is freed now; its last words are nobody's business.
        sys.unraisablehook = lambda _: None
        asyncio_log = logging.getLogger("asyncio")
        disabled, asyncio_log.disabled = asyncio_log.disabled, True
        gc.collect()
        gc.unfreeze()
        asyncio_log.disabled = disabled
        sys.unraisablehook = hook


def run_seed(seed: int, steps: int = STEPS) -> Result:
    """Play one seed to its end."""
    folder = template_folder() / f"run-{os.getpid()}-{seed}"
    folder.mkdir()
    gc.freeze()  # the product's modules are no garbage: the round at the end looks at this run's only
    run = Run(seed, folder)
    broken = ""
    try:
        with listening(run.world):
            try:
                run.build()
                Story(run, steps).play()
            except (Broken, Stuck) as error:
                broken = str(error)
            result = Result(
                seed, run.world.trace, broken, sum((d.watch.counts for d in run.deployments), Counter()),
                tuple(run.world.lines) if broken else (),
            )
            result.counts["crashes"] = sum(len(d.graveyard) for d in run.deployments)
            result.counts["events"] = run.world.events
            _put_away(run)
            del run
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return result


def _put_away(run: Run) -> None:
    for deployment in run.deployments:
        deployment.watch.close()
        if deployment.node is not None:
            with contextlib.suppress(sqlite3.Error):
                deployment.node.kill()
    run.network.loop.dead = run.outside.dead = True
    # What the dead left suspended hangs on the queue: it is freed here, where nobody hears its last words.
    run.world.forget()


__all__ = ["ACTOR", "STEPS", "Result", "Run", "run_seed"]
