"""Task switches: off means that the next call of that task is refused, and the host product goes on."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from ownkey.control import ports
from ownkey.control.ports import Actor, Clock
from ownkey.control.problems import Problem, ProblemCode, invalid, suggest
from ownkey.domain.phrases import Phrase
from ownkey.domain.product import Product, Task
from ownkey.domain.workspace import WorkspaceState

MAX_KNOB = 1_000_000


class _Store(ports.Features, Protocol):
    pass


@dataclass(frozen=True, slots=True)
class FeatureView:
    """A task as this workspace has it set."""

    task: Task
    on: bool
    settings: Mapping[str, int]


class FeatureControl:
    def __init__(self, store: _Store, clock: Clock, product: Product) -> None:
        self._store = store
        self._clock = clock
        self._product = product

    def list(self, workspace: WorkspaceState) -> tuple[FeatureView, ...]:
        return tuple(self._view(workspace, task) for task in self._product.tasks.values())

    async def save(
        self, workspace: WorkspaceState, name: str, on: bool | None, settings: Mapping[str, int], actor: Actor
    ) -> FeatureView:
        """`on` None leaves the switch; `settings` are merged over the present ones. Raises Problem."""
        task = self._product.tasks.get(name)
        if task is None:
            raise Problem(
                ProblemCode.NOT_FOUND, Phrase("There is no task {name} in this product.", name=repr(name[:60])),
                suggest(name, sorted(self._product.tasks)), param="task",
            )
        before = self._view(workspace, task)
        for knob, value in settings.items():
            self._check_knob(task, knob, value)
        after = FeatureView(task, before.on if on is None else on, {**before.settings, **settings})
        await self._store.save_feature(
            workspace.id, task.name, after.on, after.settings, at_ms=self._clock.now_ms(), actor=actor
        )
        return after

    def _view(self, workspace: WorkspaceState, task: Task) -> FeatureView:
        settings = {**task.settings, **workspace.feature_settings.get(task.name, {})}
        return FeatureView(task, workspace.features.get(task.name, task.default_on), settings)

    def _check_knob(self, task: Task, knob: str, value: int) -> None:
        if knob not in task.settings:
            raise invalid(
                f"settings.{knob}",
                Phrase("The task {name} has no setting {knob}.", name=task.name, knob=repr(knob[:60])),
                suggest(knob, sorted(task.settings)),
            )
        top = 100 if "threshold" in knob else MAX_KNOB
        if not 0 <= value <= top:
            raise invalid(
                f"settings.{knob}", Phrase("The {knob} is a whole number from 0 to {top}.", knob=knob, top=top),
                Phrase("Correct the number.")
            )
