"""A TOML table that is read key by key, and says in a sentence what is wrong with it.

Every key that nobody asked for is refused by name: a misspelt setting that is silently ignored is a setting that
someone believes in.
"""

import difflib
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from ownkey.domain.money import AmountError, parse_usd_nusd
from ownkey.domain.overview import SettingLine


class SettingsError(Exception):
    """A setting that cannot be used; the message is a sentence for the operator."""


_MISSING: Any = object()
_YEAR_S = 366 * 86_400


class Table:
    """One table of the file. `path` is its dotted name, "" at the top; `file` is for messages only. `own` is what the
    file itself says, where `values` lie over a preset; `lines` collects what was read, and where from."""

    def __init__(
        self, file: str, path: str, values: Mapping[str, Any], *, own: Mapping[str, Any] | None = None,
        lines: dict[str, SettingLine] | None = None,
    ) -> None:
        self.file = file
        self.path = path
        self.lines = {} if lines is None else lines
        self._values = values
        self._own = values if own is None else own
        self._asked: list[str] = []

    def text(self, key: str, default: str = _MISSING, *, choices: tuple[str, ...] = ()) -> str:
        value = self._take(key, default)
        if not isinstance(value, str):
            raise self.wrong(key, "text", value)
        if choices and value not in choices:
            near = difflib.get_close_matches(value, choices, n=1)
            hint = f" Did you mean {near[0]!r}?" if near else ""
            raise self.wrong(key, " or ".join(repr(str(choice)) for choice in choices), value, hint)
        return value

    def flag(self, key: str, default: bool = _MISSING) -> bool:
        value = self._take(key, default)
        if not isinstance(value, bool):
            raise self.wrong(key, "true or false", value)
        return value

    def whole(self, key: str, default: int = _MISSING, *, least: int = 0, most: int = 2**63 - 1) -> int:
        value = self._take(key, default)
        if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
            limit = f"from {least} to {most}" if most < 2**63 - 1 else f"of at least {least}"
            raise self.wrong(key, f"a whole number {limit}", value)
        return value

    def optional_whole(self, key: str, *, least: int = 0) -> int | None:
        return self.whole(key, least=least) if self.has(key) else None

    def seconds(self, key: str, default: float = _MISSING) -> float:
        value = self._take(key, default)
        number = isinstance(value, int | Decimal | float) and not isinstance(value, bool)
        if not number or not 0 <= (seconds := float(value)) <= _YEAR_S:
            raise self.wrong(key, "a number of seconds", value)
        return seconds

    def usd(self, key: str, default: str = _MISSING) -> int:
        """An amount written as text ("0.01", not 0.01), as nano-USD, rounded up."""
        value = self._take(key, default)
        if not isinstance(value, str):
            raise self.wrong(key, 'an amount in US dollars as text, such as "0.25"', value)
        try:
            return parse_usd_nusd(value)
        except AmountError as error:
            raise self.wrong(key, 'an amount in US dollars as text, such as "0.25"', value) from error

    def texts(self, key: str, default: tuple[str, ...] = _MISSING) -> tuple[str, ...]:
        value = self._take(key, default)
        if not isinstance(value, list | tuple) or not all(isinstance(item, str) for item in value):
            raise self.wrong(key, "a list of texts", value)
        return tuple(value)

    def table(self, key: str) -> "Table":
        """A table below this one; an absent one is empty."""
        value = self._take(key, {})
        if not isinstance(value, dict):
            raise self.wrong(key, "a table", value)
        own = self._own.get(key)
        return Table(self.file, self.name(key), value, own=own if isinstance(own, dict) else {}, lines=self.lines)

    def tables(self, key: str) -> dict[str, "Table"]:
        """A table of named tables, in the file's order."""
        holder = self.table(key)
        return {name: holder.table(name) for name in holder.names()}

    def rows(self, key: str) -> list["Table"]:
        """A list of tables ([[…]])."""
        value = self._take(key, [])
        if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
            raise self.wrong(key, "a list of tables", value)
        mine = key in self._own
        return [
            Table(self.file, f"{self.name(key)}[{index}]", item, own=item if mine else {}, lines=self.lines)
            for index, item in enumerate(value)
        ]

    def names(self) -> list[str]:
        return list(self._values)

    def has(self, key: str) -> bool:
        self._note(key)
        return key in self._values

    def name(self, key: str) -> str:
        return f"{self.path}.{key}" if self.path else key

    def done(self) -> None:
        """Refuse what was never asked for."""
        for key in self._values:
            if key not in self._asked:
                near = difflib.get_close_matches(key, self._asked, n=1)
                hint = f" Did you mean {near[0]!r}?" if near else f" Known here: {', '.join(self._asked)}."
                raise SettingsError(f"{self.file}: {self.name(key)!r} is unknown.{hint}")

    def wrong(self, key: str, expected: str, got: object, hint: str = "") -> SettingsError:
        shown = repr(str(got)) if isinstance(got, Decimal) else repr(got)
        return SettingsError(f"{self.file}: {self.name(key)} must be {expected}; got {shown[:80]}.{hint}")

    def _take(self, key: str, default: Any) -> Any:
        self._note(key)
        value = self._values.get(key, default)
        if value is _MISSING:
            raise SettingsError(f"{self.file}: {self.name(key)} is missing.")
        if not isinstance(value, dict) and not (isinstance(value, list) and any(isinstance(v, dict) for v in value)):
            self._tell(key, value)
        return value

    def _tell(self, key: str, value: Any) -> None:
        """As a file would say it. No secret is ever written in one."""
        name = self.name(key)
        told = ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
        told = told.lower() if isinstance(value, bool) else told
        origin = "file" if key in self._own else "preset" if key in self._values else "default"
        self.lines[name] = SettingLine(name, told, origin)  # type: ignore[arg-type]

    def _note(self, key: str) -> None:
        if key not in self._asked:
            self._asked.append(key)
