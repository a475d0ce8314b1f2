"""Days that pass in a world within seconds: the payment site's account and the server live on at a later date.

The server is a process like any other, so its wall clock is moved where the interpreter starts: it is stopped and
started again, as it would have been in a month. The browser and the providers stay in the present.
"""

from tests.browser.portal_world import PortalWorld

DAY_S = 86_400
_CLOCK = """
import os, time
_ahead_s = int(os.environ.get("TEST_CLOCK_AHEAD_S", "0"))
_wall, _wall_ns = time.time, time.time_ns
time.time = lambda: _wall() + _ahead_s
time.time_ns = lambda: _wall_ns() + _ahead_s * 1_000_000_000
"""


class Calendar:
    """The date of one world. Nobody else may be in it: what is due on the way happens to everybody."""

    def __init__(self, world: PortalWorld) -> None:
        assert world.stripe is not None
        self._world = world
        self._stripe = world.stripe
        self._ahead_s = 0
        world.stripe.set(signature_time="virtual")  # its events are signed on the day that it has
        home = world.deployment.home
        (home / "clock").mkdir()
        (home / "clock" / "sitecustomize.py").write_text(_CLOCK)
        # The same address afterwards, or the browser would be somewhere else.
        settings, port = home / "ownkey.toml", world.url.rpartition(":")[2]
        settings.write_text(settings.read_text().replace("port = 0", f"port = {port}"))

    def pass_days(self, days: int) -> None:
        """What Stripe does in that time is done; the server wakes up on the later day and asks."""
        deployment = self._world.deployment
        deployment.stop()
        self._ahead_s += days * DAY_S
        self._stripe.control("POST", "clock", {"advance_s": days * DAY_S})
        deployment.env |= {
            "PYTHONPATH": str(deployment.home / "clock"), "TEST_CLOCK_AHEAD_S": str(self._ahead_s),
        }
        deployment.start_again()
