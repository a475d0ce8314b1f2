"""Results for people (words and tables) or for machines (`--json`: exactly one JSON document on stdout)."""

import json
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

JsonFlag = Annotated[bool, typer.Option("--json", help="Print the result as JSON on stdout, errors as JSON on stderr.")]
WorkspaceOption = Annotated[
    str | None,
    typer.Option(
        "--workspace", "-w", help="The workspace's id, your own id or its name. Not needed if there is only one."
    ),
]


def emit(value: Any, as_json: bool, human: Callable[[Any], None]) -> None:
    """Show a result: as JSON, or by its own words."""
    if as_json:
        sys.stdout.write(json.dumps(value, ensure_ascii=False, indent=2) + "\n")
        return
    human(value)


def say(text: str) -> None:
    """One line for people. Server text is shown as it is, never as markup."""
    _console().print(escape(text), highlight=False, soft_wrap=True)


def table(headings: Sequence[str], rows: Iterable[Sequence[object]], *, empty: str) -> None:
    """A table, or a sentence where there are no rows."""
    filled = [[_cell(value) for value in row] for row in rows]
    if not filled:
        say(empty)
        return
    shown = Table(*headings, box=None, header_style="bold", pad_edge=False)
    for row in filled:
        shown.add_row(*row)
    _console().print(shown, highlight=False)


def fields(values: Mapping[str, object]) -> None:
    """Names and values, one a line; what is None is left out."""
    width = max((len(name) for name in values), default=0)
    for name, value in values.items():
        if value is not None:
            say(f"{name:<{width}}  {value}")


def _cell(value: object) -> str:
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list | tuple):
        return escape(", ".join(str(item) for item in value) or "–")
    return escape(str(value))


def _console() -> Console:
    # Made anew each time: stdout may have been replaced since the import (tests, pipes).
    console = Console(file=sys.stdout, emoji=False)
    if not console.is_terminal:
        console.width = 200
    return console
