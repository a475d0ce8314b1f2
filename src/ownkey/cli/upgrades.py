"""An upgrade of the database as a terminal shows it: a bar, or one JSON object a line where it is piped."""

import json
import sys
import threading
import time
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from ownkey.domain.upgrades import UpgradeStep

QUIET_S = 1.0
BEAT_S = 5.0


class UpgradeShown:
    """Is told of each step; use as a context manager. A new database is quiet unless it takes longer than a second.
    Everything goes to stderr: stdout is the command's own."""

    def __init__(self, quiet_s: float = QUIET_S, beat_s: float = BEAT_S) -> None:
        self._quiet_s = quiet_s
        self._beat_s = beat_s
        self._began_s: float | None = None
        self._step: UpgradeStep | None = None
        self._bar: Progress | None = None
        self._beats: threading.Thread | None = None
        self._over = threading.Event()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop()

    def __call__(self, step: UpgradeStep) -> None:
        now_s = time.monotonic()
        if self._began_s is None:
            self._began_s = now_s
        if step.is_new and now_s - self._began_s < self._quiet_s:
            return
        self._step = step
        console = Console(stderr=True)
        if console.is_terminal:
            self._draw(console, step)
        else:
            self._write_line()
        if step.is_done:
            self._stop()
        elif not console.is_terminal and self._beats is None:
            self._beats = threading.Thread(target=self._beat, name="ownkey-upgrade-shown", daemon=True)
            self._beats.start()

    def _draw(self, console: Console, step: UpgradeStep) -> None:
        if self._bar is None:
            self._bar = Progress(
                TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn(), console=console
            )
            self._bar.add_task("")
            self._bar.start()
        for task in self._bar.task_ids:
            done = step.of if step.is_done else step.finished
            self._bar.update(task, description=step.words, completed=done, total=step.of)

    def _beat(self) -> None:
        """A long step is told again, with the seconds that it has taken."""
        while not self._over.wait(self._beat_s):
            self._write_line()

    def _write_line(self) -> None:
        step = self._step
        if step is None or self._began_s is None:
            return
        sys.stderr.write(json.dumps({
            "upgrade": step.words, "from": step.from_schema or None, "to": step.to_schema, "step": step.n,
            "of": step.of, "name": step.name, "done": step.is_done,
            "elapsed_s": round(time.monotonic() - self._began_s, 1),
        }) + "\n")
        sys.stderr.flush()

    def _stop(self) -> None:
        self._over.set()
        if self._bar is not None:
            self._bar.stop()
            self._bar = None
