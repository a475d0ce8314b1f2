"""Start the emulated Stripe: `python -m ownkey.emulator.stripe --port 0` prints its address as one line of JSON."""

import argparse
import asyncio
import contextlib
import json
import signal
import sys

from ownkey.emulator.__main__ import _loopback as loopback
from ownkey.emulator.server import Server

from .app import Stripe


def _arguments(given: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m ownkey.emulator.stripe", description="An emulated Stripe.")
    parser.add_argument("--host", type=loopback, default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0, help="0 takes a free one")
    parser.add_argument("--seed", type=int, default=0, help="the same seed gives the same ids")
    return parser.parse_args(given)


async def serve(host: str, port: int, seed: int) -> None:
    """Serve until SIGTERM or SIGINT."""
    stripe = Stripe(seed)
    server = Server(stripe.handle)
    bound = await server.listen(host, port)
    shown = f"[{host}]" if ":" in host else host
    url = f"http://{shown}:{bound}"
    stripe.start(url)
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopped.set)
    sys.stdout.write(json.dumps({"url": url, "control": f"{url}/_control"}) + "\n")
    sys.stdout.flush()
    await stopped.wait()
    await stripe.close()
    await server.close()


def main(given: list[str] | None = None) -> None:
    """Parse the command line and run."""
    options = _arguments(given)
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(serve(options.host, options.port, options.seed))


if __name__ == "__main__":
    main()
