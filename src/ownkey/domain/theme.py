"""A host's colours: the tokens that a theme may set, the few ways to write a value, and how well it can be read.

Values end up in a style sheet, so nothing passes that is not a colour or a length made of plain numbers: what is not
matched here whole is refused. Contrast is WCAG 2.2's; a low one is told and not refused.
"""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Final

SURFACES: Final = ("background", "card", "popover", "primary", "secondary", "muted", "accent")
"""Each has a colour for the text on it: `foreground` for the background, else `…-foreground`."""

COLOURS: Final = (
    "background", "foreground",
    *(name for surface in SURFACES[1:] for name in (surface, f"{surface}-foreground")),
    "destructive", "border", "input", "ring", "chart-1", "chart-2", "chart-3", "chart-4", "chart-5", "success",
    "warning",
)
RADIUS: Final = "radius"
TOKENS: Final = (*COLOURS, RADIUS)

PAIRS: Final = (
    ("foreground", "background"),
    *((f"{surface}-foreground", surface) for surface in SURFACES[1:]),
    ("muted-foreground", "background"),
)
"""Text and what it stands on."""

LEAST_CONTRAST: Final = 4.5
MAX_VALUE_CHARS: Final = 80

# Tokens of common themes that no part of our pages has: a pasted theme is not refused for them.
_UNUSED: Final = re.compile(r"(?:sidebar|font|shadow|tracking|letter-spacing|spacing|destructive-foreground)(?:-.*)?\Z")

_NUMBER: Final = r"[+-]?(?:\d{1,6}(?:\.\d{1,12})?|\.\d{1,12})"
_PART: Final = rf"{_NUMBER}%?"
_HEX: Final = re.compile(r"#(?:[0-9a-f]{3,4}|[0-9a-f]{6}|[0-9a-f]{8})\Z")
_FUNCTION: Final = re.compile(
    rf"(rgb|rgba|hsl|hsla|oklch)\(\s*({_PART})(?:deg)?(?:\s*,\s*|\s+)({_PART})(?:\s*,\s*|\s+)({_PART})(?:deg)?"
    rf"(?:\s*[,/]\s*({_PART}))?\s*\)\Z"
)
# How older themes write hsl(): its three numbers alone.
_BARE: Final = re.compile(rf"({_NUMBER})\s+({_NUMBER}%)\s+({_NUMBER}%)\Z")
_LENGTH: Final = re.compile(r"(?:0|(\d{1,3}(?:\.\d{1,4})?|\.\d{1,4})(px|rem|em))\Z")


class ThemeError(ValueError):
    """A token or a value that cannot be taken; the text says so of `name`, and what to write."""

    def __init__(self, name: str, problem: str) -> None:
        super().__init__(problem)
        self.name = name


@dataclass(frozen=True, slots=True)
class Theme:
    """Tokens (without the dashes) → values as CSS. `light` holds the radius too. `warnings` are sentences."""

    light: Mapping[str, str] = field(default_factory=dict)
    dark: Mapping[str, str] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Colour:
    """Linear light, 0 to 1 each; `alpha` 1 is opaque."""

    red: float
    green: float
    blue: float
    alpha: float = 1.0

    def over(self, below: "Colour") -> "Colour":
        """What is seen where this lies on an opaque colour. Browsers blend the encoded values, so this does too."""
        if self.alpha >= 1:
            return self
        mixed = [
            _linear(_encoded(top) * self.alpha + _encoded(under) * (1 - self.alpha))
            for top, under in ((self.red, below.red), (self.green, below.green), (self.blue, below.blue))
        ]
        return _colour(mixed, 1.0)

    @property
    def luminance(self) -> float:
        """WCAG's relative luminance."""
        return 0.2126 * self.red + 0.7152 * self.green + 0.0722 * self.blue


WHITE: Final = Colour(1.0, 1.0, 1.0)


def make_theme(light: Mapping[str, str], dark: Mapping[str, str], radius: str = "") -> Theme:
    """A theme out of what a host wrote; leading dashes of a name do not matter. Raises ThemeError."""
    warnings: list[str] = []
    read = {mode: _read_mode(mode, values, warnings) for mode, values in (("light", light), ("dark", dark))}
    for mode, values in read.items():
        warnings += _judge(mode, values)
    shown = {mode: {name: text for name, (text, _) in values.items()} for mode, values in read.items()}
    lengths = [radius, *(values.get(f"{dashes}{RADIUS}", "") for values in (light, dark) for dashes in ("", "--"))]
    if length := next((text for text in lengths if text), ""):
        shown["light"][RADIUS] = read_length(RADIUS, length)
    return Theme(shown["light"], shown["dark"], tuple(warnings))


def read_colour(name: str, text: str) -> tuple[str, Colour]:
    """(the value as CSS, the colour). Raises ThemeError."""
    value = " ".join(text.lower().split())
    if len(value) <= MAX_VALUE_CHARS and value.isascii():
        if _HEX.match(value):
            return value, _from_hex(value)
        if bare := _BARE.match(value):
            value = f"hsl({' '.join(bare.groups())})"
        if (found := _FUNCTION.match(value)) and (colour := _from_function(found)) is not None:
            kind, *parts, alpha = found.groups()
            return f"{kind}({' '.join(parts)}{'' if alpha is None else f' / {alpha}'})", colour
    raise ThemeError(
        name, f"{text[:60]!r} is no colour that can be taken: write #rrggbb, or rgb(), hsl() or oklch() with plain "
        "numbers, such as oklch(0.55 0.2 260)"
    )


def read_length(name: str, text: str) -> str:
    """A length as CSS. Raises ThemeError."""
    value = text.strip().lower()
    if not _LENGTH.match(value):
        raise ThemeError(name, f"{text[:60]!r} is no length that can be taken: write 0.625rem, 8px or 0")
    return value


def contrast(text: Colour, surface: Colour) -> float:
    """WCAG's contrast ratio, 1 to 21, of a text on a surface that lies on white."""
    ground = surface.over(WHITE)
    high, low = sorted((text.over(ground).luminance, ground.luminance), reverse=True)
    return (high + 0.05) / (low + 0.05)


def _read_mode(mode: str, values: Mapping[str, str], warnings: list[str]) -> dict[str, tuple[str, Colour]]:
    read = {}
    for written, text in values.items():
        name = written.removeprefix("--")
        if name in COLOURS:
            read[name] = read_colour(f"{mode}.{written}", text)
        elif name == RADIUS:
            continue  # one for both
        elif _UNUSED.match(name):
            warnings.append(f"{mode}: {name} has no use here and is left out.")
        else:
            near = get_close_matches(name, COLOURS, n=1)
            hint = f"did you mean {near[0]}" if near else f"known are {', '.join(COLOURS)}"
            raise ThemeError(f"{mode}.{written}", f"there is no token {name[:60]!r}; {hint}")
    return read


def _judge(mode: str, values: Mapping[str, tuple[str, Colour]]) -> list[str]:
    found = []
    for text, surface in PAIRS:
        if text in values and surface in values:
            ratio = contrast(values[text][1], values[surface][1])
            if ratio < LEAST_CONTRAST:
                found.append(
                    f"{mode}: {text} on {surface} has a contrast of {math.floor(ratio * 10) / 10:.1f}; "
                    f"{LEAST_CONTRAST} is the least that everybody can read."
                )
        elif surface in values and text.removesuffix("-foreground") in (surface, "foreground"):
            found.append(f"{mode}: {surface} is set without {text}; set both, so that the text on it can be read.")
    return found


def _from_hex(value: str) -> Colour:
    digits = value[1:]
    if len(digits) <= 4:
        digits = "".join(digit * 2 for digit in digits)
    red, green, blue, *alpha = (int(digits[at : at + 2], 16) / 255 for at in range(0, len(digits), 2))
    return Colour(_linear(red), _linear(green), _linear(blue), alpha[0] if alpha else 1.0)


def _from_function(found: re.Match[str]) -> Colour | None:
    """None: a part has a form or a size that this function does not take."""
    kind, first, second, third, last = found.groups()
    alpha = 1.0 if last is None else _share(last, 1.0)
    if not 0 <= alpha <= 1:
        return None
    if kind.startswith("rgb"):
        parts = [_share(part, 255.0) / 255 for part in (first, second, third)]
        if not all(0 <= part <= 1 for part in parts):
            return None
        return _colour([_linear(part) for part in parts], alpha)
    if kind.startswith("hsl"):
        if first.endswith("%") or not (second.endswith("%") and third.endswith("%")):
            return None
        return _from_hsl(float(first), _share(second, 1.0), _share(third, 1.0), alpha)
    if third.endswith("%"):
        return None
    return _from_oklch(_share(first, 1.0), _share(second, 0.4), float(third), alpha)


def _colour(light: Sequence[float], alpha: float) -> Colour:
    red, green, blue = light
    return Colour(red, green, blue, alpha)


def _share(part: str, whole: float) -> float:
    """A percentage of `whole`, or the number itself."""
    return float(part[:-1]) / 100 * whole if part.endswith("%") else float(part)


def _from_hsl(hue: float, saturation: float, lightness: float, alpha: float) -> Colour | None:
    if not (0 <= saturation <= 1 and 0 <= lightness <= 1):
        return None
    reach = saturation * min(lightness, 1 - lightness)

    def channel(offset: int) -> float:
        place = (offset + hue / 30) % 12
        return lightness - reach * max(-1.0, min(place - 3, 9 - place, 1.0))

    return _colour([_linear(channel(offset)) for offset in (0, 8, 4)], alpha)


def _from_oklch(lightness: float, chroma: float, hue: float, alpha: float) -> Colour | None:
    """By the matrices of Björn Ottosson's Oklab (2020); what no screen can show is cut to what it can."""
    if not (0 <= lightness <= 1 and 0 <= chroma <= 1):
        return None
    a, b = chroma * math.cos(math.radians(hue)), chroma * math.sin(math.radians(hue))
    long = (lightness + 0.3963377774 * a + 0.2158037573 * b) ** 3
    medium = (lightness - 0.1055613458 * a - 0.0638541728 * b) ** 3
    short = (lightness - 0.0894841775 * a - 1.2914855480 * b) ** 3
    light = (
        4.0767416621 * long - 3.3077115913 * medium + 0.2309699292 * short,
        -1.2684380046 * long + 2.6097574011 * medium - 0.3413193965 * short,
        -0.0041960863 * long - 0.7034186147 * medium + 1.7076147010 * short,
    )
    return _colour([min(1.0, max(0.0, part)) for part in light], alpha)


def _linear(encoded: float) -> float:
    return float(encoded / 12.92 if encoded <= 0.04045 else ((encoded + 0.055) / 1.055) ** 2.4)


def _encoded(linear: float) -> float:
    return float(linear * 12.92 if linear <= 0.0031308 else 1.055 * linear ** (1 / 2.4) - 0.055)
