"""Every page and state as a picture, in every look, and a contact sheet of each page.

    python -m tools.screenshots                                 everything (some minutes)
    python -m tools.screenshots --only spend                    one page; --only spend-paused: one state
    python -m tools.screenshots --preset app-builder --look 375-dark --look frame-light

Pictures are in screenshots/<preset>/<page>/<state>-<look>.png, sheets in screenshots/<preset>/<page>.png. What the
checks of the matrix find is printed as well, but a picture is drawn whatever they say: it is there to be looked at. At
the end stand the figures of widths and targets.
"""

import argparse
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path

from playwright.sync_api import Browser, Error
from tests.browser.chromium import chromium
from tests.browser.looks import HEIGHT, WHOLE, WIDTHS, Look, looking
from tests.browser.page_checks import LEAST_TARGET_PX, find_problems, measure
from tests.browser.portal_world import HOSTED_TABLES, PRESETS, PortalWorld, Preset, Visitor, portal_world
from tests.browser.state import State
from tests.browser.states import HOSTED, NEW, states_of

ROOT = Path(__file__).resolve().parents[2] / "screenshots"
ROWS_A_SHEET = 2
NARROW_PX = 320
SCALE = 0.36
"""How large a picture is on a sheet: large enough to see what stands over what, small enough for a row of looks."""
_SHEET = """<!doctype html><meta charset="utf-8"><title>{title}</title><style>
body {{ margin: 16px; font: 14px/1.4 sans-serif; background: #777; color: #fff; }}
h1 {{ font-size: 20px; }} h2 {{ font-size: 15px; margin: 16px 0 4px; }}
div {{ display: flex; gap: 10px; align-items: flex-start; }}
figure {{ margin: 0; flex: none; }} img {{ display: block; width: 100%; box-shadow: 0 0 3px #000; }}
</style><h1>{title}</h1>{rows}"""


class Sizes:
    """Of all pages at one width: how many, how far the widest goes beyond its view, the smallest target."""

    def __init__(self) -> None:
        self.pages, self.over_px, self.least_px = 0, 0.0, float("inf")

    def add(self, measured: tuple[float, float]) -> None:
        over, least = measured
        self.pages, self.over_px, self.least_px = self.pages + 1, max(self.over_px, over), min(self.least_px, least)


def draw(
    browser: Browser, world: PortalWorld, state: State, looks: Sequence[Look], sizes: defaultdict[str, Sizes]
) -> list[str]:
    """The state's pictures; returns what is wrong with them, a sentence each."""
    wrong = []
    folder = ROOT / world.preset / state.page
    failed = folder / f"{state.name}-FAILED.png"
    failed.unlink(missing_ok=True)
    try:
        for look, visitor in looking(browser, world, state, looks, failed):
            look.draw(visitor, folder / f"{state.name}-{look}.png")
            wrong += [f"{look}: {sentence}" for sentence in find_problems(visitor.shown).sentences]
            sizes[f"{look.width} px{' in a frame' if look.framed else ''}"].add(measure(visitor.shown))
            if look.width == min(WIDTHS) and not look.framed:
                wrong += measure_narrow(visitor, sizes)
    except (AssertionError, Error, OSError, StopIteration) as error:
        wrong.append(f"{type(error).__name__}: {str(error)[:600]}")
    return wrong


def measure_narrow(visitor: Visitor, sizes: defaultdict[str, Sizes]) -> list[str]:
    """The narrowest width that must do without scrolling sideways, which no picture is made of."""
    before = visitor.page.viewport_size
    visitor.page.set_viewport_size({"width": NARROW_PX, "height": HEIGHT})
    over, least = measure(visitor.shown)
    sizes[f"{NARROW_PX} px"].add((over, least))
    if before is not None:
        visitor.page.set_viewport_size(before)
    return [f"{NARROW_PX} px: scrolls sideways by {over:.0f} px"] if over > 0 else []


def show_sizes(sizes: Mapping[str, Sizes]) -> None:
    for width, found in sorted(sizes.items(), key=lambda item: int(item[0].split()[0])):
        print(f"{width}: {found.pages} pages, {found.over_px:.0f} px beyond the view at most, smallest target "
              f"{found.least_px:.0f} px of {LEAST_TARGET_PX}")


def draw_all(
    browser: Browser, preset: Preset, states: Sequence[State], looks: Sequence[Look], sizes: defaultdict[str, Sizes],
    *, by_host: bool = False,
) -> int:
    """Prints a line a state; returns how many have something wrong."""
    bad, tables = 0, HOSTED_TABLES if by_host else ""
    with (
        tempfile.TemporaryDirectory(prefix="ownkey-pictures-") as home,
        portal_world(Path(home), preset, tables, by_host=by_host) as world,
    ):
        for state in states:
            wrong = draw(browser, world, state, looks, sizes)
            bad += bool(wrong)
            print(f"{preset} {state.key}: {'; '.join(wrong) or 'fine'}", flush=True)
    return bad


def sheet(browser: Browser, preset: Preset, page: str, states: Sequence[State], looks: Sequence[Look]) -> list[Path]:
    """Contact sheets of one page: a row a state, a column a look, all to one scale."""
    made = []
    folder = ROOT / preset / page
    states = [state for state in states if any(folder.glob(f"{state.name}-*.png"))]
    for number in range(0, len(states), ROWS_A_SHEET):
        rows = "".join(_row(folder, state, looks) for state in states[number:number + ROWS_A_SHEET])
        text = _SHEET.format(title=escape(f"{preset}: {page}"), rows=rows)
        file = folder.parent / f"{page}{'' if number == 0 else f'-{number // ROWS_A_SHEET + 1}'}.png"
        source = file.with_suffix(".html")
        source.write_text(text)
        width = sum(round(look.width * SCALE) + 10 for look in looks) + 32
        tab = browser.new_page(viewport={"width": max(width, 600), "height": 800})
        tab.goto(source.as_uri())
        tab.screenshot(path=file, full_page=True)
        tab.close()
        source.unlink()
        made.append(file)
    return made


def _row(folder: Path, state: State, looks: Sequence[Look]) -> str:
    pictures = "".join(
        f'<figure style="width:{round(look.width * SCALE)}px"><img src="{escape(file.as_uri())}" alt="">{look}</figure>'
        for look in looks if (file := folder / f"{state.name}-{look}.png").is_file()
    )
    return f"<h2>{escape(state.name)}</h2><div>{pictures}</div>"


def main(given: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tools.screenshots", description="Pictures of every page.")
    parser.add_argument("--only", default="", help="a page, or the beginning of `page-state`")
    parser.add_argument("--preset", choices=PRESETS, action="append", help="one preset; repeat it for more")
    parser.add_argument("--look", choices=[str(look) for look in WHOLE], action="append", help="repeat it for more")
    options = parser.parse_args(given)
    looks = [look for look in WHOLE if options.look is None or str(look) in options.look]
    bad = count = 0
    sizes: defaultdict[str, Sizes] = defaultdict(Sizes)
    started = time.monotonic()
    with chromium() as browser:
        for preset in options.preset or PRESETS:
            states = states_of(preset, only=options.only)
            if not states:
                continue
            count += len(states)
            bad += draw_all(browser, preset, states, looks, sizes)
            for page in dict.fromkeys(state.page for state in states):
                for file in sheet(browser, preset, page, states_of(preset, only=f"{page}-"), looks):
                    print(f"sheet: {file}", flush=True)
        first_day = [state for state in NEW if state.key.startswith(options.only)]
        if first_day and "support-desk" in (options.preset or PRESETS):
            count += len(first_day)
            bad += draw_all(browser, "support-desk", first_day, looks, sizes)
            for file in sheet(browser, "support-desk", "new", NEW, looks):
                print(f"sheet: {file}", flush=True)
        hosted = [state for state in HOSTED if state.key.startswith(options.only)]
        if hosted and "app-builder" in (options.preset or PRESETS):
            count += len(hosted)
            bad += draw_all(browser, "app-builder", hosted, looks, sizes, by_host=True)
            for file in sheet(browser, "app-builder", "hosted", HOSTED, looks):
                print(f"sheet: {file}", flush=True)
    show_sizes(sizes)
    print(f"{count} states, {bad} with something to look into, {time.monotonic() - started:.0f} s")
    return 0 if count else 2


if __name__ == "__main__":
    sys.exit(main())
