"""What pages load: how much of it, from whom, and that nothing in it evaluates text."""

import gzip
import json
import re
import tomllib
import zipfile
from pathlib import Path

import pytest
from hatchling.builders.wheel import WheelBuilder

ROOT = Path(__file__).resolve().parents[2]
PAGES = ROOT / "src" / "ownkey" / "pages"
ASSETS = PAGES / "assets"
OURS = ("pages.js", "embed.js")


def weight(name: str) -> int:
    return len(gzip.compress((ASSETS / name).read_bytes(), 9))


@pytest.mark.parametrize(("names", "most_kib"), [
    (("pages.js",), 6), (("embed.js",), 5), (("pages.js", "ownkey.css", "vendor/htmx.min.js"), 60),
])  # fmt: skip
def test_the_first_load_is_small(names: tuple[str, ...], most_kib: int) -> None:
    """X5: at most 60 KiB compressed for a page, 5 for the embedding element."""
    assert sum(weight(name) for name in names) <= most_kib * 1024


@pytest.mark.parametrize("name", OURS)
def test_our_scripts_evaluate_no_text_and_write_no_html(name: str) -> None:
    """What a model, a label or a provider says can never become code or markup here."""
    text = (ASSETS / name).read_text()

    for word in ("eval(", "Function(", "innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "import(",
                 "localStorage", "sessionStorage", "document.cookie", "setTimeout(\"", "http://"):
        assert word not in text, f"{word} in {name}"
    assert max(map(len, text.splitlines())) <= 120


def test_templates_leave_htmx_nothing_to_evaluate() -> None:
    """S: no hx-on, no js: values, no filters in triggers, no inline script, style element or style attribute."""
    bad = re.compile(r"hx-on\b|=[\"']\s*(js|javascript):|hx-trigger=\"[^\"]*\[|<style\b|\sstyle=|\son[a-z]+=")
    for template in sorted(PAGES.rglob("*.html")):
        text = template.read_text()

        assert not bad.search(text), f"{template.name}: {bad.search(text)}"
        assert not re.search(r"<script(?![^>]*\ssrc=)", text), template.name


def test_htmx_is_pinned_by_hash_and_no_part_of_the_repository() -> None:
    """The lock file says which bytes, and names no address; git ignores what the build lays out."""
    lock = json.loads((ROOT / "package-lock.json").read_text())
    wanted = json.loads((ROOT / "package.json").read_text())
    package = lock["packages"]["node_modules/htmx.org"]

    assert wanted["dependencies"] == {"htmx.org": package["version"]}
    assert package["integrity"].startswith("sha512-")
    assert "://" not in json.dumps([p for name, p in lock["packages"].items() if name])
    assert "/src/ownkey/pages/assets/vendor/" in (ROOT / ".gitignore").read_text().splitlines()


def test_the_wheel_ships_pages_and_htmx_with_its_licence(tmp_path: Path) -> None:
    """Users need no Node: what the build fetched is in the wheel, although git ignores it."""
    [wheel] = WheelBuilder(str(ROOT)).build(directory=str(tmp_path), versions=["standard"])
    names = set(zipfile.ZipFile(wheel).namelist())
    found = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]["artifacts"]

    assert found == ["src/ownkey/pages/assets/vendor/*"]
    for name in ("assets/pages.js", "assets/embed.js", "assets/ownkey.css", "assets/vendor/htmx.min.js",
                 "assets/vendor/htmx.LICENSE.txt", "templates/base.html", "templates/portal/shell.html"):
        assert f"ownkey/pages/{name}" in names
    assert not any("node_modules" in name for name in names)
