"""What happens in a run: who calls, who changes what, what breaks, and when; every choice is one of the seed's dice.

A step starts something and lets a little time pass; nothing waits for the calls that are under way. After every step
all invariants are checked. At the end the weather clears, what is open comes to its end, and the sums are compared.
"""

import asyncio
import contextlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ownkey.control.problems import Problem
from ownkey.control.workspaces import NewWorkspace
from ownkey.domain.errors import StoreError
from ownkey.domain.workspace import EntitlementState, Role
from ownkey.emulator.app import SettingRule
from ownkey.emulator.keys import Key
from tools.sim.caller import Caller
from tools.sim.checks import Broken
from tools.sim.network import Weather
from tools.sim.node import ACTOR, MODELS_USED, Node

if TYPE_CHECKING:
    from tools.sim.run import Deployment, Run

ZONES = ("UTC", "America/New_York", "Asia/Kolkata", "Pacific/Kiritimati", "Europe/Berlin")
KEY_STYLE = {
    "openrouter": "sk-or-v1-{:064x}", "openai": "sk-proj-{:048x}", "anthropic": "sk-ant-api03-{:048x}",
    "google": "AQ.Ab8{:040x}",
}
REFUSALS = ("rate_limit", "rate_limit_retry_after", "overloaded", "server_500", "timeout_504", "no_money")
NO_MONEY = {"anthropic": "credit_balance_low_400"}
BENT: tuple[tuple[str, dict[str, Any]], ...] = (
    ("silence", {}), ("silence", {"bill": "whole"}), ("cut_before_headers", {"reset": True}),
    ("cut_before_headers", {"bill": "whole"}), ("slow_head", {"seconds": 12.0}),
    ("slow_first_content", {"seconds": 9.0}), ("stall_after", {"content": 2}), ("stall_after", {"events": 0}),
    ("cut_after", {"content": 2}),
    ("cut_after", {"content": 3, "reset": True}), ("cut_inside", {"what": "frame", "after": 1}), ("no_finish", {}),
    ("missing_end", {}), ("missing_usage", {}), ("usage_twice", {}), ("malformed_event", {"after": 1}),
    ("repeat", {"kind": "usage"}), ("repeat", {"kind": "end"}),
    ("error_mid_stream", {"error": "overloaded", "after": 2}), ("error_in_first_event", {"error": "overloaded"}),
    ("error_in_200", {"error": "overloaded"}), ("html_login_200", {}),
)
CLEAR = Weather()


@dataclass(slots=True)
class Chance:
    """A kind of step and how often it comes."""

    weight: int
    take: Callable[["Deployment"], None]


class Story:
    """Plays one run."""

    def __init__(self, run: "Run", steps: int) -> None:
        self.run = run
        self.world = run.world
        self.dice = run.world.dice
        self.steps = steps
        self._restart_at: dict[str, float] = {}
        self._keys = 0
        self._grants = 0
        self._chances = (
            Chance(30, self._calls), Chance(9, self._change_cap), Chance(5, self._switch_always),
            Chance(4, self._switch_key), Chance(3, self._save_key), Chance(4, self._grant), Chance(3, self._plan),
            Chance(3, self._key_failure_credits), Chance(7, self._fault), Chance(4, self._change_weather),
            Chance(3, self._change_mood), Chance(4, self._spoil_key), Chance(5, self._crash),
            Chance(3, self._light_fuse), Chance(2, self._stop), Chance(3, self._freeze), Chance(4, self._jump),
            Chance(2, self._slow_disk),
            Chance(1, self._crowd), Chance(2, self._break_vault), Chance(1, self._long_wait), Chance(1, self._zone),
            Chance(1, self._test_key), Chance(4, self._addon),
        )
        self._weights = [chance.weight for chance in self._chances]

    def play(self) -> None:
        self._set_up()
        for _ in range(self.steps):
            deployment = self.dice.choice(self.run.deployments)
            self._revive()
            chance = self.dice.choices(self._chances, self._weights)[0]
            self.world.note(f"step {deployment.name} {chance.take.__name__}")
            with contextlib.suppress(Problem, StoreError):
                chance.take(deployment)
            self._let_time_pass()
            self.run.check()
        self._come_to_an_end()

    # --- the frame

    def _set_up(self) -> None:
        self._change_mood(self.run.deployments[0])
        for deployment in self.run.deployments:
            node = deployment.node
            assert node is not None
            if deployment.preset == "app-builder":
                self.run.network.emulator.keys.add(Key("openrouter", deployment.platform_key))
                platform = self.run.perform(node, node.desk.workspaces.platform(ACTOR))
                self.run.perform(node, node.desk.credentials.save(
                    platform, "openrouter", deployment.platform_key, label="", save_anyway=True, address="",
                    actor=ACTOR,
                ))
            for n in range(self.dice.randrange(1, 4)):
                made = self.run.perform(node, node.desk.workspaces.create(NewWorkspace(
                    f"Customer {n}", f"customer-{n}", "", self.dice.choice(ZONES),
                ), ACTOR))
                if made is None:
                    raise Broken("a workspace could not be created in fair weather")
                deployment.workspaces.append(made.id)
                self.run.perform(node, node.desk.members.save(
                    made, f"member-{n}", f"owner{n}@example.com", "Owner", Role.OWNER, ACTOR
                ))
                if deployment.preset == "app-builder":
                    self.run.perform(node, node.desk.workspaces.change(
                        made, {"plan": self.dice.choice(["enterprise", "free", "pro"])}, ACTOR
                    ))
                    self._give(deployment, node, made.id)
                for provider in ("openrouter", "openai", "anthropic", "google"):
                    if provider == "openrouter" or self.dice.random() < 0.35:
                        self._put_key(deployment, node, made.id, provider)
                self._put_cap(deployment, node, made.id)
        self.run.check()

    def _let_time_pass(self) -> None:
        mean_s = self.dice.choice([0.02, 0.05, 0.3, 0.3, 1.0, 4.0, 12.0])
        self.world.run_until(self.world.now + min(60.0, self.dice.expovariate(1 / mean_s)))

    def _revive(self) -> None:
        for deployment in self.run.deployments:
            if deployment.node is None:
                at = self._restart_at.setdefault(
                    deployment.name, self.world.now + self.dice.choice([0.0, 0.2, 2.0, 30.0]) * self.dice.random()
                )
                if at <= self.world.now:
                    del self._restart_at[deployment.name]
                    deployment.start()

    def _come_to_an_end(self) -> None:
        network = self.run.network
        network.weather = CLEAR
        network.emulator.faults.rules.clear()
        self._restart_at = {deployment.name: 0.0 for deployment in self.run.deployments}
        self.world.note("the end begins")
        for _ in range(240):  # a wall clock may have been an hour ahead, and what it put off waits for the next one
            self._revive()
            for deployment in self.run.deployments:
                if deployment.node is not None:
                    deployment.node.loop.fuse = None
            self.world.run_until(self.world.now + 20.0)
            if all(self._is_over(deployment) for deployment in self.run.deployments):
                break
        self.run.check()
        for deployment in self.run.deployments:
            deployment.watch.check_end()
            node = deployment.node
            assert node is not None
            if node.upstream.open or node.runner.drains or node.app._in_flight:
                raise Broken(
                    f"left over: {node.upstream.open} connections, {node.runner.drains} drains, "
                    f"{node.app._in_flight} calls in flight"
                )
            self._end_life(deployment, node)
        self.run.check()

    def _is_over(self, deployment: "Deployment") -> bool:
        node = deployment.node
        if node is None or node.tasks or node.loop.frozen_until > self.world.now:
            return False
        try:
            deployment.watch.check_end()
        except Broken:
            return False
        return True

    # --- who

    def _alive(self, deployment: "Deployment") -> Node | None:
        node = deployment.node
        return node if node is not None and node.alive and not node.stopping else None

    def _start(self, node: Node, work: Any) -> None:
        """A management request that nobody waits for."""
        async def go() -> None:
            with contextlib.suppress(Problem, StoreError, ValueError):
                await work

        task = node.loop.create_task(go())
        node.tasks.add(task)
        task.add_done_callback(node.tasks.discard)

    def _workspace(self, deployment: "Deployment", node: Node) -> Any:
        return self.run.perform(node, node.store.load_workspace(self.dice.choice(deployment.workspaces)))

    # --- calls

    def _calls(self, deployment: "Deployment") -> None:
        """One call or a burst, some with impatient callers."""
        node = self._alive(deployment)
        if node is None:
            return
        for _ in range(self.dice.choice([1, 1, 2, 3, 6, 12])):
            workspace = self.dice.choice(deployment.workspaces)
            path, body = self._body()
            caller = Caller(body, self.dice.choice([0.0, 0.0, 0.0, 0.01, 0.3]))
            scope = {
                "type": "http", "path": path, "method": "POST", "headers": [(b"authorization", workspace.encode())],
            }
            deployment.watch.callers.append(caller)
            task = node.loop.create_task(node.app(scope, caller.receive, caller.send))
            node.tasks.add(task)
            task.add_done_callback(lambda done, node=node: self._done(node, done))
            deployment.watch.counts["calls"] += 1
            if self.dice.random() < 0.2:
                self.world.post(self.dice.expovariate(1 / 0.7), node.loop, caller.hang_up)

    def _done(self, node: Node, task: "asyncio.Task[Any]") -> None:
        node.tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            self.world.complaints.append(f"a call ended with {task.exception()!r}")

    def _body(self) -> tuple[str, dict[str, Any]]:
        text = "Tell me about pelicans. " * self.dice.choice([1, 5, 40])
        stream = self.dice.random() < 0.6
        limit = self.dice.choice([20, 100, 300, 300, 900])
        match self.dice.choice(["chat", "chat", "chat", "messages", "responses", "router"]):
            case "messages":
                return "/v1/messages", {
                    "model": "anthropic/claude-haiku-4.5", "max_tokens": limit, "stream": stream,
                    "messages": [{"role": "user", "content": text}],
                }
            case "responses":
                return "/v1/responses", {
                    "model": "openai/gpt-4.1-mini", "max_output_tokens": limit, "stream": stream, "input": text,
                }
            case kind:
                body: dict[str, Any] = {
                    "model": self.dice.choice(MODELS_USED), "stream": stream,
                    "messages": [{"role": "user", "content": text}],
                }
                if self.dice.random() < 0.8:
                    body["max_tokens"] = limit
                return ("/v1" if kind == "chat" else "/api/v1") + "/chat/completions", body

    # --- settings

    def _change_cap(self, deployment: "Deployment") -> None:
        node = self._alive(deployment)
        if node is not None:
            self._put_cap(deployment, node, self.dice.choice(deployment.workspaces), wait=False)

    def _put_cap(self, deployment: "Deployment", node: Node, workspace_id: str, *, wait: bool = True) -> None:
        """None, 0, a figure near what is spent, or something roomy; sometimes the same again."""
        workspace = self.run.perform(node, node.store.load_workspace(workspace_id))
        if workspace is None:
            return
        spent = self.run.perform(node, node.desk.caps.show(workspace))
        near = 0 if spent is None else spent.spent_nusd + spent.held_nusd
        cap = self.dice.choice([
            None, 0, near, near + 1, near + self.dice.randrange(1, 4_000_000), near + 10_000_000, 5_000_000, 40_000_000,
            max(0, near - self.dice.randrange(1, 2_000_000)), None if spent is None else spent.cap_nusd,
        ])
        threshold = self.dice.choice([None, None, 50, 80, 99])
        text = None if cap is None else f"{cap // 10**9}.{cap % 10**9:09d}"
        work = node.desk.caps.save(workspace, text, threshold, ACTOR)
        if wait:
            self.run.perform(node, work)
        else:
            self._start(node, work)

    def _change(self, deployment: "Deployment", **changes: Any) -> None:
        node = self._alive(deployment)
        if node is not None:
            workspace = self._workspace(deployment, node)
            if workspace is not None:
                self._start(node, node.desk.workspaces.change(workspace, changes, ACTOR))

    def _switch_always(self, deployment: "Deployment") -> None:
        self._change(deployment, always_use_key=self.dice.random() < 0.5)

    def _zone(self, deployment: "Deployment") -> None:
        self._change(deployment, timezone=self.dice.choice(ZONES))

    def _key_failure_credits(self, deployment: "Deployment") -> None:
        if self.dice.random() < 0.5:
            self._change(deployment, credits_if_key_fails=self.dice.random() < 0.7)
        else:
            self._change(deployment, credits_if_key_fails_limit=self.dice.choice([None, 0, 3, 50]))

    def _plan(self, deployment: "Deployment") -> None:
        node = self._alive(deployment)
        if node is None or deployment.preset != "app-builder":
            return
        if self.dice.random() < 0.6:
            self._change(deployment, plan=self.dice.choice(["free", "starter", "pro", "enterprise"]))
            return
        workspace = self._workspace(deployment, node)
        state = self.dice.choice([EntitlementState.ACTIVE, EntitlementState.INACTIVE, EntitlementState.GRACE,
                                  EntitlementState.NONE, EntitlementState.CANCELLING])
        if workspace is not None:
            self._start(node, node.desk.workspaces.set_entitlement(workspace, state, ACTOR))

    def _addon(self, deployment: "Deployment") -> None:
        """Bought with credits, cancelled, kept, or none of it because there are too few."""
        node = self._alive(deployment)
        if node is None or deployment.preset != "app-builder":
            return
        workspace = self._workspace(deployment, node)
        if workspace is None:
            return
        billing = node.desk.billing
        match self.dice.choice(["subscribe", "subscribe", "cancel", "keep"]):
            case "subscribe":
                self._start(node, billing.subscribe(workspace, "", ACTOR))
            case "cancel":
                self._start(node, billing.cancel(workspace, ACTOR))
            case _:
                self._start(node, billing.keep(workspace, ACTOR))

    def _grant(self, deployment: "Deployment") -> None:
        node = self._alive(deployment)
        if node is not None and deployment.preset == "app-builder":
            self._give(deployment, node, self.dice.choice(deployment.workspaces))

    def _give(self, deployment: "Deployment", node: Node, workspace_id: str) -> None:
        """Credits, asked for once, twice, or again after the first answer was lost; some end soon."""
        workspace = self.run.perform(node, node.store.load_workspace(workspace_id))
        if workspace is None:
            return
        self._grants += 1
        key = f"g{self._grants:04d}"
        amount = self.dice.choice([5, 40, 200, 1_000])
        ends = None if self.dice.random() < 0.5 else node.clock.now_ms() + self.dice.choice([5_000, 60_000, 900_000])
        for _ in range(self.dice.choice([1, 1, 2])):
            granted = self.run.perform(node, node.desk.credits.grant(workspace, amount, "topup", ends, key, ACTOR))
            if granted is not None:
                deployment.watch.granted[key] = amount
            if not node.alive:
                return

    # --- keys

    def _new_key(self, provider: str) -> str:
        self._keys += 1
        return KEY_STYLE[provider].format(self.world.seed * 1_000 + self._keys + 2**120)

    def _put_key(self, deployment: "Deployment", node: Node, workspace_id: str, provider: str) -> None:
        if provider != "openrouter" and provider not in node.product.direct_providers:
            return
        key = self._new_key(provider)
        self.run.network.emulator.keys.add(Key(provider, key))
        deployment.keys[workspace_id, provider] = key
        workspace = self.run.perform(node, node.store.load_workspace(workspace_id))
        if workspace is not None:
            with contextlib.suppress(Problem):
                self.run.perform(node, node.desk.credentials.save(
                    workspace, provider, key, label="", save_anyway=True, address="", actor=ACTOR
                ))

    def _save_key(self, deployment: "Deployment") -> None:
        node = self._alive(deployment)
        if node is None:
            return
        workspace_id = self.dice.choice(deployment.workspaces)
        provider = self.dice.choice(["openrouter", "openrouter", "openai", "anthropic", "google"])
        self._put_key(deployment, node, workspace_id, provider)

    def _switch_key(self, deployment: "Deployment") -> None:
        """Disabled, enabled, or disconnected."""
        node = self._alive(deployment)
        if node is None:
            return
        workspace = self._workspace(deployment, node)
        if workspace is None or not workspace.credentials:
            return
        provider = self.dice.choice(sorted(workspace.credentials))
        if self.dice.random() < 0.25:
            self._start(node, node.desk.credentials.disconnect(workspace, provider, self.dice.random() < 0.5, ACTOR))
        else:
            self._start(node, node.desk.credentials.set_enabled(workspace, provider, self.dice.random() < 0.6, ACTOR))

    def _test_key(self, deployment: "Deployment") -> None:
        node = self._alive(deployment)
        if node is None:
            return
        workspace = self._workspace(deployment, node)
        if workspace is not None and "openrouter" in workspace.credentials:
            self._start(node, node.desk.key_test.run(
                workspace, "openrouter", None, address="", actor=ACTOR, token_id="tok_sim"
            ))

    def _spoil_key(self, deployment: "Deployment") -> None:
        """At the provider: revoked, out of money, nearly out of money, or good again."""
        keys = sorted(deployment.keys.items())
        if deployment.preset == "app-builder" and self.dice.random() < 0.15:
            keys = [(("platform", "openrouter"), deployment.platform_key)]
        (_, provider), text = self.dice.choice(keys)
        key = Key(provider, text)
        match self.dice.choice(["revoked", "empty", "low", "good", "good"]):
            case "revoked":
                key = Key(provider, text, kind="revoked")
            case "empty":
                key = Key(provider, text, balance_nusd=0)
            case "low":
                key = Key(provider, text, balance_nusd=self.dice.randrange(1_000_000))
        self.run.network.emulator.keys.add(key)

    def _break_vault(self, deployment: "Deployment") -> None:
        """A credential that cannot be opened any more; later it can."""
        node = self._alive(deployment)
        if deployment.vault.broken:
            deployment.vault.broken.clear()
        elif node is not None:
            workspace = self._workspace(deployment, node)
            if workspace is not None and workspace.credentials:
                provider = self.dice.choice(sorted(workspace.credentials))
                deployment.vault.broken.add(workspace.credentials[provider].id)

    # --- what breaks

    def _fault(self, deployment: "Deployment") -> None:
        provider = self.dice.choice(["openrouter", "openrouter", "openai", "anthropic", "google"])
        if self.dice.random() < 0.4:
            name, params = self.dice.choice(REFUSALS), {}
            name = NO_MONEY.get(provider, "insufficient_quota") if name == "no_money" else name
        else:
            name, params = self.dice.choice(BENT)
        match = {"provider": provider, "method": "POST"}
        if name == "missing_usage":
            # In Anthropic's format every report carries figures: what is left out there reads as a reported 0.
            match["path"] = "chat/completions"
        self.world.note(f"fault {provider} {name} {params}")
        self.run.network.emulator.faults.add({
            "match": match, "times": self.dice.choice([1, 1, 2, 5]),
            "probability": self.dice.choice([1, 0.5]), "fault": {"name": name, **params},
        })

    def _change_weather(self, deployment: "Deployment") -> None:
        dice = self.dice
        self.run.network.weather = dice.choice([
            CLEAR, CLEAR, Weather(refused=0.3), Weather(request_lost=0.2), Weather(answer_lost=0.2),
            Weather(broken=0.3), Weather(slow=0.5), Weather(0.1, 0.05, 0.05, 0.1, 0.2), Weather(refused=1.0),
        ])

    def _change_mood(self, deployment: "Deployment") -> None:
        """How fast the models answer, and at what length."""
        dice = self.dice
        emulator = self.run.network.emulator
        emulator.rules[:] = [SettingRule({}, {
            "latency_s": dice.choice([0.0, 0.02, 0.3]), "first_content_s": dice.choice([0.0, 0.05, 0.6]),
            "gap_s": dice.choice([0.0, 0.01, 0.08, 0.5]), "delta_tokens": dice.choice([4, 12]),
            "output_tokens": dice.choice([3, 20, 60, 150]), "is_byok": dice.random() < 0.1,
        })]
        emulator.settings_changed()

    def _crash(self, deployment: "Deployment") -> None:
        if deployment.node is not None:
            deployment.node.kill()

    def _light_fuse(self, deployment: "Deployment") -> None:
        """Dead after so many callbacks more: in the middle of whatever that is."""
        node = self._alive(deployment)
        if node is not None:
            node.loop.fuse = self.dice.randrange(1, 120)

    def _stop(self, deployment: "Deployment") -> None:
        """A proper stop: calls in flight are ended and settled."""
        node = self._alive(deployment)
        if node is not None:
            self._end_life(deployment, node)

    def _end_life(self, deployment: "Deployment", node: Node) -> None:
        stopping = node.loop.create_task(node.stop())
        stands_s = max(0.0, node.loop.frozen_until - self.world.now)
        if not self.world.finish(stopping, stands_s + 60.0) and node.alive:
            raise Broken("a stop took longer than a minute")
        if node.alive:
            stopping.result()
            node.kill()

    def _freeze(self, deployment: "Deployment") -> None:
        """The process stands still: a paused container, a stuck disk. It does not know."""
        node = self._alive(deployment)
        if node is not None:
            for_s = self.dice.choice([0.5, 5.0, 40.0, 200.0]) * self.dice.random()
            node.loop.frozen_until = max(node.loop.frozen_until, self.world.now + for_s)
            node.unsure_until = max(node.unsure_until, node.loop.frozen_until + 12.0)

    def _jump(self, deployment: "Deployment") -> None:
        node = self._alive(deployment)
        if node is not None:
            node.jump(self.dice.choice([-5_000, -700, 700, 5_000, 5_000, 160_000, 600_000]))

    def _slow_disk(self, deployment: "Deployment") -> None:
        node = self._alive(deployment)
        if node is not None:
            node.writer.slow_s = self.dice.choice([0.0, 0.0, 0.03, 0.4])

    def _crowd(self, deployment: "Deployment") -> None:
        if self._alive(deployment) is not None:
            deployment.crowd()

    def _long_wait(self, deployment: "Deployment") -> None:
        """Nobody at work for hours or days: across a month's end perhaps. What is in flight ends first."""
        for other in self.run.deployments:
            node = self._alive(other)
            if node is not None:
                self._end_life(other, node)
        if any(other.node is not None for other in self.run.deployments):
            return
        self.world.run_until(self.world.now + self.dice.choice([3_600.0, 86_400.0, 9 * 86_400.0, 31 * 86_400.0]))
