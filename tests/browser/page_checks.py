"""What every page must be, whatever it shows: usable by everybody, within its width, with one heading and a title."""

import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from playwright.sync_api import Frame, Page

AXE = Path(__file__).resolve().parents[2] / "node_modules" / "axe-core" / "axe.min.js"
TAGS = ("wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa")
LEAST_TARGET_PX = 24
TITLE = re.compile(r"^[^·]+ · [^·]+( · [^·]+)?$")

_TARGETS = """
const targets = () => {
  const found = [];
  // A link inside a sentence is as tall as its line; links beside each other are no sentence.
  const inText = it => getComputedStyle(it).display.startsWith("inline") && it.tagName === "A" &&
    [...it.parentElement.childNodes].some(n => !/^(A|BUTTON)$/.test(n.nodeName) && n.textContent.trim().length > 1);
  for (const it of document.querySelectorAll("a[href],button,input,select,textarea,summary,[role=button]")) {
    if (it.type === "hidden" || !it.checkVisibility({visibilityProperty: true})) continue;
    if (it.closest(".visually-hidden,.skip") || inText(it)) continue;
    let {width, height} = it.getBoundingClientRect();
    if (/checkbox|radio/.test(it.type)) for (const label of it.labels) {
      width += label.getBoundingClientRect().width;
      height = Math.max(height, label.getBoundingClientRect().height);
    }
    found.push({it, width, height});
  }
  return found;
};
"""
_SIZES = "() => {" + _TARGETS + """
  const root = document.documentElement;
  return [root.scrollWidth - root.clientWidth, Math.min(...targets().map(it => Math.min(it.width, it.height)))];
}
"""
_LAYOUT = "([least]) => {" + _TARGETS + """
  const found = [], root = document.documentElement;
  const name = it => (it.getAttribute("aria-label") || it.innerText || it.name || it.id || it.className || it.tagName)
    .trim().replace(/\\s+/g, " ").slice(0, 60);
  if (root.scrollWidth > root.clientWidth) {
    const wide = [...document.body.querySelectorAll("*")].filter(it => {
      const box = it.getBoundingClientRect();
      return box.width && box.right > root.clientWidth + 0.5 && !it.closest("[data-scrolls]");
    }).slice(-3).map(it => `${it.tagName.toLowerCase()}.${it.className} "${name(it)}"`);
    found.push(`scrolls sideways: ${root.scrollWidth} of ${root.clientWidth} px; ${wide.join(", ")}`);
  }
  for (const {it, width, height} of targets()) {
    if (Math.min(width, height) < least - 0.5) {
      found.push(`target of ${Math.round(width)}×${Math.round(height)} px: ${it.tagName.toLowerCase()} "${name(it)}"`);
    }
  }
  const headings = [...document.querySelectorAll("h1")].filter(it => it.getClientRects().length);
  if (headings.length !== 1) found.push(`${headings.length} headings of level 1`);
  if (!root.lang) found.push("the page says no language");
  const styled = document.querySelector("[style]");
  if (styled) found.push(`a style attribute: ${styled.outerHTML.slice(0, 100)}`);
  if ([...document.scripts].some(it => !it.src)) found.push("an inline script");
  return found;
}
"""
_AXE_RUN = """
async tags => {
  const {violations} = await axe.run(document, {
    runOnly: tags, rules: {"target-size": {enabled: true}}, resultTypes: ["violations"],
  });
  return violations.map(it => `${it.id}: ${it.help}; ` + it.nodes.slice(0, 3).map(
    node => node.target.join(" ") + " (" + (node.any[0] || node.all[0] || node.none[0] || {message: ""}).message + ")"
  ).join("; "));
}
"""


@dataclass(frozen=True, slots=True)
class Findings:
    """What is wrong with a page as it stands, a sentence each."""

    where: str
    sentences: tuple[str, ...]

    def __str__(self) -> str:
        return "\n".join(f"{self.where}: {sentence}" for sentence in self.sentences)


@cache
def _axe() -> str:
    if not AXE.is_file():
        raise RuntimeError("axe-core is not installed: `make assets` fetches it (it needs npm)")
    return AXE.read_text()


def audit(frame: Frame) -> list[str]:
    """axe-core's violations of WCAG 2.2 AA."""
    if not frame.evaluate("() => 'axe' in window"):
        frame.evaluate(_axe())
    return list(frame.evaluate(_AXE_RUN, list(TAGS)))


def layout(frame: Frame) -> list[str]:
    """Width, targets, headings, and what our policy forbids."""
    found = list(frame.evaluate(_LAYOUT, [LEAST_TARGET_PX]))
    if not TITLE.match(frame.title()):
        found.append(f"the title {frame.title()!r} is not `page · workspace · product`")
    return found


def measure(shown: Page | Frame) -> tuple[float, float]:
    """(pixels by which a page is wider than its view, the smaller side of its smallest target)."""
    over, least = (shown.main_frame if isinstance(shown, Page) else shown).evaluate(_SIZES)
    return float(over), float("inf") if least is None else float(least)


def check_page(shown: Page | Frame, where: str = "", *, with_axe: bool = True) -> None:
    """Raises AssertionError with everything that is wrong."""
    found = find_problems(shown, where, with_axe=with_axe)

    assert not found.sentences, str(found)


def find_problems(shown: Page | Frame, where: str = "", *, with_axe: bool = True) -> Findings:
    frame = shown.main_frame if isinstance(shown, Page) else shown
    return Findings(where or frame.url, (*layout(frame), *(audit(frame) if with_axe else ())))


