"""Loaded by the process under test at its start: on SIGUSR1 it writes down its asyncio tasks, and changes nothing.

From outside a process its sockets and memory can be counted, its tasks cannot.
"""

import asyncio
import json
import os
import signal
from collections import Counter
from pathlib import Path
from types import FrameType

_FILE = os.environ.get("FAULTS_TASKS_FILE")


def _write(_number: int, _frame: FrameType | None) -> None:
    try:
        tasks = asyncio.all_tasks()
    except RuntimeError:  # no loop runs yet
        return
    names = Counter(getattr(task.get_coro(), "__qualname__", "?") for task in tasks)
    written = Path(f"{_FILE}.new")
    written.write_text(json.dumps(names))
    written.replace(str(_FILE))


if _FILE:
    signal.signal(signal.SIGUSR1, _write)
