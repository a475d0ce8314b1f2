"""A theme, pasted as shadcn writes it, shown on parts of our pages, with every contrast that is too low to read."""

import re
from collections.abc import Mapping
from typing import Final
from urllib.parse import urlencode

from ownkey.console.visit import ConsoleRoute, ConsoleVisit
from ownkey.domain.theme import PAIRS, Theme, ThemeError, contrast, make_theme, read_colour
from ownkey.pages.http import Answer

PATH: Final = "/console/developers/theme"
MAX_CHARS: Final = 6_000

_DECLARATION: Final = re.compile(r"--?([a-z0-9-]{1,40})\s*:\s*([^;{}\n]{1,120})\s*;?", re.IGNORECASE)


async def show(visit: ConsoleVisit) -> Answer:
    asked = {name: visit.request.query.get(name, "")[:MAX_CHARS].strip() for name in ("light", "dark")}
    own = visit.desk.portal_sessions.rules.theme
    problem, theme = "", own
    if any(asked.values()):
        try:
            theme = _read(asked)
        except ThemeError as error:
            problem = f"{error.name}: {error}"
    query = urlencode([(name, value) for name, value in asked.items() if value])
    return visit.page(
        "console/theme.html", "Theme preview", status=422 if problem else 200, asked=asked, wrong=problem, tried=theme,
        sheet=f"{PATH}.css?{query}" if not problem else "", contrasts=_contrasts(theme), given=any(asked.values()),
        configured=bool(own.light or own.dark), toml=_toml(theme) if any(asked.values()) and not problem else "",
    )


async def sheet(visit: ConsoleVisit) -> Answer:
    """The colours as a style sheet for the two samples; what the grammar does not take never gets here."""
    asked = {name: visit.request.query.get(name, "")[:MAX_CHARS] for name in ("light", "dark")}
    try:
        theme = _read(asked) if any(asked.values()) else visit.desk.portal_sessions.rules.theme
    except ThemeError:
        theme = Theme()
    rules = [
        _rule('.theme-sample[data-look="light"]', theme.light), _rule('.theme-sample[data-look="dark"]', theme.dark),
    ]
    return Answer(200, "\n".join(rule for rule in rules if rule).encode(), "text/css; charset=utf-8")


def _read(asked: Mapping[str, str]) -> Theme:
    """Raises ThemeError."""
    found = {}
    for mode, text in asked.items():
        found[mode] = {name.lower(): value.strip() for name, value in _DECLARATION.findall(text)}
        if text.strip() and not found[mode]:
            raise ThemeError(mode, "nothing here is written like --primary: oklch(0.55 0.2 260);")
    return make_theme(found.get("light", {}), found.get("dark", {}))


def _contrasts(theme: Theme) -> list[tuple[str, str, str, str, bool]]:
    """(mode, text, surface, ratio, enough) of every pair that the theme sets whole."""
    found = []
    for mode, values in (("light", theme.light), ("dark", theme.dark)):
        for text, surface in PAIRS:
            if text in values and surface in values:
                ratio = contrast(read_colour(text, values[text])[1], read_colour(surface, values[surface])[1])
                tenths = int(ratio * 10)
                found.append((mode, text, surface, f"{tenths // 10}.{tenths % 10}", ratio >= 4.5))
    return found


def _rule(selector: str, values: Mapping[str, str]) -> str:
    if not values:
        return ""
    return selector + " {" + " ".join(f"--{name}: {value};" for name, value in values.items()) + "}"


def _toml(theme: Theme) -> str:
    """As it is written into ownkey.toml."""
    parts = []
    for mode, values in (("light", theme.light), ("dark", theme.dark)):
        colours = {name: value for name, value in values.items() if name != "radius"}
        if colours:
            parts.append(f"[portal.theme.{mode}]\n" + "\n".join(f'{name} = "{v}"' for name, v in colours.items()))
    if "radius" in theme.light:
        parts.insert(0, f'[portal.theme]\nradius = "{theme.light["radius"]}"')
    return "\n\n".join(parts)


ROUTES: tuple[ConsoleRoute, ...] = (
    ConsoleRoute("GET", PATH, show),
    ConsoleRoute("GET", f"{PATH}.css", sheet),
)
