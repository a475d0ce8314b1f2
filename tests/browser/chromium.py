"""The browser of the tests: Debian's Chromium, driven by Playwright. Knows no pytest.

Nothing is downloaded from a browser's maker: the binary is the one that `OWNKEY_CHROMIUM` names, else the one in PATH,
else it is installed from the distribution, where we may.
"""

import contextlib
import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

from playwright.sync_api import Browser, BrowserContext, BrowserType, Playwright, sync_playwright

FLAGS = (
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage",
)
INSTALL = ("apt-get", "install", "-y", "--no-install-recommends", "chromium", "fonts-dejavu-core")
INSTALL_S = 600


class NoChromium(RuntimeError):
    """There is no browser; the text says what to run."""


def find_chromium() -> str:
    """The browser's path. Raises NoChromium."""
    named = os.environ.get("OWNKEY_CHROMIUM")
    if named:
        if not os.access(named, os.X_OK):
            raise NoChromium(f"OWNKEY_CHROMIUM is {named}, which cannot be executed")
        return named
    found = shutil.which("chromium") or shutil.which("chromium-browser")
    if found is None and os.geteuid() == 0 and shutil.which("apt-get"):
        subprocess.run(INSTALL, timeout=INSTALL_S, check=False, stdout=subprocess.DEVNULL,
                       env={**os.environ, "DEBIAN_FRONTEND": "noninteractive"})
        found = shutil.which("chromium")
    if found is None:
        raise NoChromium(f"The browser tests need Chromium: `{' '.join(INSTALL)}`, or set OWNKEY_CHROMIUM")
    return found


@contextlib.contextmanager
def chromium() -> Iterator[Browser]:
    """A browser with a profile of its own, gone afterwards."""
    with sync_playwright() as playwright:
        browser = launch(playwright)
        try:
            yield browser
        finally:
            browser.close()


def launch(playwright: Playwright) -> Browser:
    return playwright.chromium.launch(executable_path=find_chromium(), args=list(FLAGS))


@contextlib.contextmanager
def chromium_without_foreign_cookies(kind: BrowserType) -> Iterator[BrowserContext]:
    """A browser that blocks cookies of other sites than the one in its address bar. `kind` is a running one's."""
    with tempfile.TemporaryDirectory(prefix="ownkey-profile-") as profile:
        settings = Path(profile, "Default", "Preferences")
        settings.parent.mkdir()
        settings.write_text(json.dumps({"profile": {"block_third_party_cookies": True, "cookie_controls_mode": 1}}))
        context = kind.launch_persistent_context(
            profile, executable_path=find_chromium(), args=list(FLAGS)
        )
        try:
            yield context
        finally:
            context.close()
