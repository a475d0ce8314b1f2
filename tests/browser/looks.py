"""How a state is looked at: widths, light and dark, on a page of its own and in a frame of the host's page."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Literal

from playwright.sync_api import Browser, Error
from tests.browser.portal_world import FRAME_WIDTH, HEIGHT, WIDTHS, PortalWorld, Visitor, visiting
from tests.browser.state import State, reach

Scheme = Literal["light", "dark"]
SCHEMES: tuple[Scheme, ...] = ("light", "dark")
HOST_MARGIN_PX = 42
"""What the host's page has left and right of its frame."""


@dataclass(frozen=True, slots=True)
class Look:
    """`width` is the document's own: of a frame, the frame's."""

    width: int
    scheme: Scheme
    framed: bool = False

    def __str__(self) -> str:
        return f"{'frame' if self.framed else self.width}-{self.scheme}"

    def take(self, visitor: Visitor) -> None:
        """Make the browser this wide, in this scheme; the state stays as it was reached."""
        width = self.width + HOST_MARGIN_PX if self.framed else self.width
        visitor.page.set_viewport_size({"width": width, "height": HEIGHT})
        visitor.page.emulate_media(color_scheme=self.scheme)
        # Two frames: what depends on the width has been laid out, and the host's page knows the new height.
        visitor.shown.evaluate("() => new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")

    def draw(self, visitor: Visitor, file: Path) -> None:
        """The whole page as a picture; of a framed one, the frame."""
        file.parent.mkdir(parents=True, exist_ok=True)
        if self.framed:
            # A frame of another site is painted only as far as it is in sight.
            tall = int(visitor.page.evaluate("document.documentElement.scrollHeight"))
            visitor.page.set_viewport_size({"width": self.width + HOST_MARGIN_PX, "height": max(tall, HEIGHT)})
            frame = visitor.page.locator("ownkey-portal iframe")
            frame.screenshot(path=file, animations="disabled", caret="initial")
        else:
            visitor.page.screenshot(path=file, full_page=True, animations="disabled", caret="initial")


WHOLE: tuple[Look, ...] = (
    *(Look(width, scheme) for width, scheme in product(WIDTHS, SCHEMES)),
    *(Look(FRAME_WIDTH, scheme, framed=True) for scheme in SCHEMES),
)
SHORT: tuple[Look, ...] = (Look(1280, "light"), Look(375, "dark"))


def looking(
    browser: Browser, world: PortalWorld, state: State, looks: Sequence[Look], failed: Path | None = None
) -> Iterator[tuple[Look, Visitor]]:
    """Reaches the state and yields it once for each look; what goes wrong on the way is raised, with a picture of how
    far it came in the file `failed`."""
    for framed in (False, True):
        wanted = [look for look in looks if look.framed is framed and (state.framed or not framed)]
        for group in [[look] for look in wanted] if state.passing else [wanted] if wanted else []:
            with visiting(browser, world, width=group[0].width, scheme=group[0].scheme) as visitor:
                try:
                    reach(visitor, state, framed=framed)
                except (AssertionError, Error):
                    if failed is not None:
                        failed.parent.mkdir(parents=True, exist_ok=True)
                        visitor.page.screenshot(path=failed, full_page=True)
                    raise
                for look in group:
                    look.take(visitor)
                    yield look, visitor
            if state.passing:
                world.forget(state.key)
