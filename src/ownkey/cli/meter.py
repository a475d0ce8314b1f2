"""How far something is that this process does itself: a bar on a terminal, one JSON object a line where it is piped."""

import json
import sys
import time
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

LINE_S = 1.0


class Meter:
    """Of `total` bytes. On stderr, and only from the first second on. Use as a context manager."""

    def __init__(self, what: str, total: int) -> None:
        self._what = what
        self._total = total
        self._began_s = self._told_s = time.monotonic()
        self._bar: Progress | None = None
        self._task: TaskID | None = None

    def __enter__(self) -> Self:
        console = Console(stderr=True)
        if console.is_terminal:
            self._bar = Progress(
                TextColumn("{task.description}"), BarColumn(), TextColumn("{task.percentage:>3.0f}%"),
                TimeElapsedColumn(), console=console, transient=True,
            )
            self._task = self._bar.add_task(self._what, total=self._total)
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

    def tell(self, done: int) -> None:
        now_s = time.monotonic()
        if self._bar is not None and self._task is not None:
            self._bar.update(self._task, completed=done)
        elif now_s - self._told_s >= LINE_S:
            self._told_s = now_s
            sys.stderr.write(json.dumps({
                "step": self._what, "done": done, "total": self._total, "elapsed_s": round(now_s - self._began_s, 1),
            }) + "\n")
            sys.stderr.flush()
