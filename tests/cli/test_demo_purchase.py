"""The demo's story of the add-on, as `make demo PRESET=app-builder ONCE=1` prints it."""

import os
import subprocess
import sys
import time

import pytest


@pytest.mark.timeout(120)
def test_the_demo_plays_a_purchase_and_a_missed_payment() -> None:
    """G6, G12 to G16, G7: not enabled → pay on the page → active → connect → call; declined → grace, a mail → paid;
    all of it within a minute, with books that balance."""
    started = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-m", "ownkey.cli.main", "demo", "--preset", "app-builder", "--once"], capture_output=True,
        text=True, timeout=110, check=False, env={**os.environ, "COLUMNS": "400"},
    )
    took = time.monotonic() - started

    assert done.returncode == 0, done.stdout[-2_000:] + done.stderr[-2_000:]
    story = " ".join(done.stdout.split())
    assert "The host product is Pocket Forge; its customer is Greta's workshop." in story
    assert "App builder" not in story
    for said in (
        "OpenRouter is not enabled for this workspace.", "pressed twice, the same one", "ownkey_checkout=paid",
        "e-mail to ada@example.com: Greta's workshop: the OpenRouter add-on is active",
        "OpenRouter API key saved successfully.",
        "e-mail to ada@example.com: Greta's workshop: payment for the OpenRouter add-on failed",
        "paid so far: US$5.00, US$5.00", "verify: clean", ": equal",
    ):
        position = story.find(said)
        assert position >= 0, f"{said!r} does not come, or not in this order"
        story = story[position:] if said.startswith(("OpenRouter is", "pressed", "paid so far")) else story
    assert took < 60
