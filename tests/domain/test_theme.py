"""A host's theme: what passes the grammar comes out as CSS, what does not is named, and low contrast is told."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ownkey.domain.theme import LEAST_CONTRAST, Theme, ThemeError, contrast, make_theme, read_colour, read_length

SAFE = re.compile(r"#[0-9a-f]{3,8}|(?:rgba?|hsla?|oklch)\([0-9.+% /-]+\)")


@pytest.mark.parametrize(("written", "css", "srgb"), [
    ("#fff", "#fff", (255, 255, 255)),
    ("#0A7F", "#0a7f", (0, 170, 119)),
    ("#336699cc", "#336699cc", (51, 102, 153)),
    ("rgb(51, 102, 153)", "rgb(51 102 153)", (51, 102, 153)),
    ("rgb(20% 40% 60% / 50%)", "rgb(20% 40% 60% / 50%)", (51, 102, 153)),
    ("hsl(210 50% 40%)", "hsl(210 50% 40%)", (51, 102, 153)),
    ("hsl(210deg, 50%, 40%)", "hsl(210 50% 40%)", (51, 102, 153)),
    ("210 50% 40%", "hsl(210 50% 40%)", (51, 102, 153)),
    ("oklch(0.627966 0.257704 29.2346)", "oklch(0.627966 0.257704 29.2346)", (255, 0, 0)),
    ("oklch(86.644% 0.294827 142.4953)", "oklch(86.644% 0.294827 142.4953)", (0, 255, 0)),
    ("oklch(0.452014 0.313214 264.052)", "oklch(0.452014 0.313214 264.052)", (0, 0, 255)),
])
def test_colours_are_read_as_browsers_read_them(written: str, css: str, srgb: tuple[int, int, int]) -> None:
    """Every way to write a colour, by its known sRGB bytes."""
    shown, colour = read_colour("primary", written)
    encoded = [
        round(255 * (12.92 * part if part <= 0.0031308 else 1.055 * part ** (1 / 2.4) - 0.055))
        for part in (colour.red, colour.green, colour.blue)
    ]

    assert shown == css
    assert all(abs(found - wanted) <= 1 for found, wanted in zip(encoded, srgb, strict=True)), encoded


@pytest.mark.parametrize("written", [
    "", "red", "#12", "#12345", "#ggg", "var(--x)", "url(https://evil.test)", "rgb(1,2)", "rgb(256 0 0)", "rgb(1 2 3",
    "hsl(10 20 30)", "hsl(10 120% 30%)", "oklch(2 0 0)", "oklch(0.5 0.1 20%)", "#fff; } body { display: none",
    "#fff/**/",
    "expression(1)", "rgb(1 2 3 / 2)", "oklch(calc(1) 0 0)", "#fff\n}", "１２３ 4% 5%", "rgb(" + "1" * 90 + " 0 0)",
    "\\23 fff", "color(srgb 1 1 1)", "rgb(from red r g b)", "currentcolor", "#FFF\x00",
])
def test_what_is_no_plain_colour_is_refused(written: str) -> None:
    """A style sheet never carries a host's text, only numbers that were understood."""
    with pytest.raises(ThemeError, match="no colour"):
        read_colour("primary", written)


@given(st.text(max_size=40))
def test_nothing_gets_through_but_the_grammar(text: str) -> None:
    """Whatever is typed, what comes out is a colour of the plain forms."""
    try:
        shown, _ = read_colour("primary", text)
    except ThemeError:
        return
    assert SAFE.fullmatch(shown)


@pytest.mark.parametrize("written", ["0", "8px", ".5rem", "0.625rem", "1.25em"])
def test_lengths(written: str) -> None:
    """The radius, in the units of themes."""
    assert read_length("radius", written) == written


@pytest.mark.parametrize("written", ["", "8", "8 px", "-1px", "calc(1px)", "1e3px", "10000px", "8px;", "5%"])
def test_what_is_no_length_is_refused(written: str) -> None:
    """No arithmetic, no negative, nothing behind it."""
    with pytest.raises(ThemeError, match="no length"):
        read_length("radius", written)


def test_contrast_is_wcags() -> None:
    """Black on white is 21; a grey that just passes, and one that just does not; a half-seen text is what is seen."""
    white, black = read_colour("a", "#fff")[1], read_colour("a", "#000")[1]

    assert round(contrast(black, white), 2) == 21
    assert contrast(read_colour("a", "#767676")[1], white) >= LEAST_CONTRAST > contrast(
        read_colour("a", "#777777")[1], white)
    assert contrast(read_colour("a", "#00000080")[1], white) == pytest.approx(
        contrast(read_colour("a", "#7f7f7f")[1], white), rel=0.01)


def test_a_pasted_theme() -> None:
    """Dashes do not matter, tokens that we have no use for are told, the radius is found where themes put it."""
    theme = make_theme(
        {"--background": "oklch(1 0 0)", "--foreground": "oklch(0.145 0 0)", "--radius": "0.625rem",
         "--sidebar-primary": "oklch(0.2 0 0)", "--font-sans": "Inter"},
        {"background": "oklch(0.145 0 0)", "foreground": "oklch(0.985 0 0)"},
    )

    assert theme.light == {"background": "oklch(1 0 0)", "foreground": "oklch(0.145 0 0)", "radius": "0.625rem"}
    assert theme.dark["foreground"] == "oklch(0.985 0 0)"
    assert [warning.partition(" has no use")[0] for warning in theme.warnings] == [
        "light: sidebar-primary", "light: font-sans"]


def test_low_contrast_is_told_and_not_refused() -> None:
    """By mode, pair and figure; a surface without its text colour cannot be judged, which is told too."""
    theme = make_theme(
        {"primary": "#ffff00", "primary-foreground": "#ffffff", "accent": "#eee"},
        {"muted": "#222", "muted-foreground": "#bbb"},
    )

    assert len(theme.warnings) == 2
    assert theme.warnings[0].startswith("light: primary-foreground on primary has a contrast of 1.0;")
    assert "accent is set without accent-foreground" in theme.warnings[1]


def test_an_unknown_token_is_named_with_the_nearest() -> None:
    """A misspelt colour would silently not be one."""
    with pytest.raises(ThemeError, match="did you mean primary-foreground") as error:
        make_theme({}, {"primary-forground": "#fff"})

    assert error.value.name == "dark.primary-forground"
    assert make_theme({}, {}) == Theme()
