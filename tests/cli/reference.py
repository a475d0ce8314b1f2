"""docs/cli.md, written from the commands themselves: `python -m tests.cli.reference > docs/cli.md`."""

import sys
from typing import Any

import typer

from ownkey.cli.main import make_app
from ownkey.settings.environment import VARIABLES

HEAD = """# The command line

This page is generated from the commands' own help texts (`python -m tests.cli.reference > docs/cli.md`); a test
keeps it current.

**Where a command goes.** Every command uses the HTTP API. If `OWNKEY_URL` and `OWNKEY_TOKEN` are set, it talks to
that server. Otherwise, if `ownkey serve` runs on this data folder, it finds the address and this boot's operator
token in `run.json` there. Otherwise it opens the database itself for as long as the command takes; only one process
can have it open.

**Results.** `--json` prints exactly one JSON document on standard output, and errors as JSON on standard error.
Exit codes: 0 done; 1 refused, or something was found (`verify`: drift, `doctor`: a failed check, `credential test`:
the key does not work); 2 not possible (a typo, no configuration, no master key, no server); 70 a bug.

**Keys** are read from a hidden prompt, or from standard input: `ownkey credential add openrouter < key.txt`. A key
given as an argument is refused, because the shell's history and the process list would keep it.

**One workspace?** Then `--workspace` can be left out.
"""


def render() -> str:
    """The whole page."""
    root: Any = typer.main.get_command(make_app())
    lines = [HEAD]
    for name, command in root.commands.items():
        if hasattr(command, "commands"):
            # A group that is a command by itself has options of its own.
            lines.append(_command(f"ownkey {name}", command, "##"))
            for sub, leaf in command.commands.items():
                lines.append(_command(f"ownkey {name} {sub}", leaf, "###"))
        else:
            lines.append(_command(f"ownkey {name}", command, "##"))
    lines.append("\n## Environment variables\n\n| variable | meaning | without it |\n|---|---|---|")
    lines += [f"| `{v.name}` | {v.meaning} | {v.default} |" for v in VARIABLES]
    return "\n".join(lines) + "\n"


def _command(path: str, command: Any, marks: str) -> str:
    shown = [p for p in command.params if not p.hidden and p.name != "help"]
    rows = [_row(parameter) for parameter in shown]
    table = "" if not rows else "\n\n| option | meaning |\n|---|---|\n" + "\n".join(rows)
    return f"\n{marks} {path}\n\n{_sentence(command)}{table}"


def _sentence(command: Any) -> str:
    return " ".join((command.help or "").split())


def _row(parameter: Any) -> str:
    if parameter.param_type_name == "argument":
        name = f"`{parameter.name.upper()}`" if parameter.required else f"`[{parameter.name.upper()}]`"
    else:
        name = ", ".join(f"`{text}`" for text in (*parameter.opts, *parameter.secondary_opts))
    meaning = " ".join((getattr(parameter, "help", None) or "").split()).replace("|", "\\|")
    return f"| {name} | {meaning} |"


if __name__ == "__main__":
    sys.stdout.write(render())
