"""Fetches htmx as the lock file pins it and lays it beside our own assets, with its licence.

htmx is never in the repository: npm brings it, by hash, and a wheel that is built afterwards ships it. Without npm the
pages work all the same, only less smoothly; so a missing npm is said in one line and is no failure.
"""

import argparse
import gzip
import json
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
VENDOR = ROOT / "src" / "ownkey" / "pages" / "assets" / "vendor"
HTMX = ROOT / "node_modules" / "htmx.org"
BUDGET_BYTES = 60 * 1024
"""The first load of a page, compressed: every script and style sheet together."""


def fetch(npm: str) -> None:
    """Install what the lock file says, by hash; no package runs a script of its own. Raises CalledProcessError."""
    subprocess.run([npm, "ci", "--ignore-scripts", "--loglevel=error"], cwd=ROOT, check=True, stdout=subprocess.DEVNULL)


def lay_out() -> str:
    """Copy htmx beside our own assets; says its version. Raises RuntimeError where it is not the pinned one."""
    pinned = json.loads((ROOT / "package.json").read_text())["dependencies"]["htmx.org"]
    found = json.loads((HTMX / "package.json").read_text())["version"]
    if found != pinned:
        raise RuntimeError(f"htmx.org {pinned} is pinned, {found} was installed")
    VENDOR.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(HTMX / "dist" / "htmx.min.js", VENDOR / "htmx.min.js")
    shutil.copyfile(HTMX / "LICENSE", VENDOR / "htmx.LICENSE.txt")
    return str(found)


def weights() -> dict[str, int]:
    """Compressed bytes of each script and style sheet that pages load, by name."""
    files = sorted(path for path in VENDOR.parent.rglob("*") if path.suffix in (".js", ".css"))
    return {str(path.relative_to(VENDOR.parent)): len(gzip.compress(path.read_bytes(), 9)) for path in files}


def main(given: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tools.assets", description="Builds the browser assets.")
    parser.add_argument("--weights", action="store_true", help="only say what each asset weighs, compressed")
    parser.add_argument("--optional", action="store_true", help="a failure is said, and is none")
    parser.add_argument("--stamp", type=Path, help="touched once the assets are in place")
    options = parser.parse_args(given)
    if options.weights:
        found = weights()
        for name, size in found.items():
            print(f"{size:>7} bytes gz  {name}")
        print(f"{sum(found.values()):>7} of {BUDGET_BYTES} bytes gz  all")
        return 0
    npm = shutil.which("npm")
    if npm is None:
        print("npm is not installed: the pages work without htmx, only less smoothly (`make assets` fetches it later)")
        return 0
    try:
        fetch(npm)
        version = lay_out()
    except (subprocess.CalledProcessError, OSError, RuntimeError, KeyError, ValueError) as error:
        print(f"the browser assets could not be built: {error}", file=sys.stderr)
        return 0 if options.optional else 1
    print(f"htmx {version} is in place")
    if options.stamp is not None:
        options.stamp.touch()
    return 0


if __name__ == "__main__":
    sys.exit(main())
