"""`ownkey` as a person types it, in this process, on a home of its own beside the provider emulator."""

import contextlib
import io
import json
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.emulator_process import EmulatorHandle

from ownkey.cli.main import run

KEY = "sk-or-v1-" + "c0de" * 16
DIRECT_KEY = "sk-ant-api03-" + "f00d" * 10


@dataclass(frozen=True)
class Said:
    """What a command printed, and its exit code."""

    code: int
    out: str
    err: str

    @property
    def value(self) -> Any:
        return json.loads(self.out)

    @property
    def error(self) -> Any:
        return json.loads(self.err)["error"]


@dataclass
class Terminal:
    home: Path
    emulator: EmulatorHandle | None = None

    def type(self, *words: str, stdin: str = "", **environ: str) -> Said:
        """One command. The tester's own environment stays outside."""
        out, err = io.StringIO(), io.StringIO()
        kept = {name: value for name, value in os.environ.items() if not name.startswith("OWNKEY_")}
        with self._environment({**kept, "OWNKEY_CONFIG": str(self.home / "ownkey.toml"), **environ}):
            before = sys.stdin, sys.stdout, sys.stderr
            sys.stdin, sys.stdout, sys.stderr = io.StringIO(stdin), out, err
            try:
                code = run(words)
            finally:
                sys.stdin, sys.stdout, sys.stderr = before
        return Said(code, out.getvalue(), err.getvalue())

    def good(self, *words: str, **more: Any) -> Said:
        said = self.type(*words, **more)
        assert said.code == 0, said
        return said

    def json(self, *words: str, **more: Any) -> Any:
        return self.good(*words, "--json", **more).value

    @contextlib.contextmanager
    def _environment(self, environ: dict[str, str]) -> Iterator[None]:
        before = dict(os.environ)
        os.environ.clear()
        os.environ.update(environ)
        try:
            yield
        finally:
            os.environ.clear()
            os.environ.update(before)


def make_home(home: Path, emulator: EmulatorHandle, preset: str = "support-desk") -> Terminal:
    """`ownkey init`, pointed at the emulator."""
    terminal = Terminal(home, emulator)
    terminal.good("init", "--preset", preset, "--dir", str(home))
    origins = "\n".join(f'{p} = "{emulator.base(p)}"' for p in ("openrouter", "openai", "anthropic", "google"))
    (home / "ownkey.toml").write_text(
        f'preset = "{preset}"\n[server]\nport = 0\n[prices]\nsync = false\n'
        f"[origins]\nallow_insecure = true\n{origins}\n"
    )
    return terminal
