"""Start the emulator: `python -m ownkey.emulator --port 0` prints its address as one line of JSON."""

import argparse
import asyncio
import contextlib
import signal
import sys
from ipaddress import ip_address
from pathlib import Path

import msgspec

from .app import Emulator
from .server import Server


def _loopback(host: str) -> str:
    try:
        inside = host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        inside = False
    if not inside:
        raise argparse.ArgumentTypeError(f"{host}: the emulator listens on loopback only")
    return host


def _arguments(given: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m ownkey.emulator", description="Emulated AI providers on loopback.")
    parser.add_argument("--host", type=_loopback, default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0, help="0 takes a free one")
    parser.add_argument("--seed", type=int, default=0, help="the same seed gives the same answers")
    parser.add_argument("--bill-file", type=Path, default=None, help="append every bill to this file as a JSON line")
    return parser.parse_args(given)


async def serve(host: str, port: int, seed: int, bill_file: Path | None) -> None:
    """Serve until SIGTERM or SIGINT."""
    server = Server(Emulator(seed, bill_file).handle)
    bound = await server.listen(host, port)
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopped.set)
    shown = f"[{host}]" if ":" in host else host
    url = f"http://{shown}:{bound}"
    sys.stdout.write(msgspec.json.encode({"url": url, "control": f"{url}/_control"}).decode() + "\n")
    sys.stdout.flush()
    await stopped.wait()
    await server.close()


def main(given: list[str] | None = None) -> None:
    """Parse the command line and run."""
    options = _arguments(given)
    work = serve(options.host, options.port, options.seed, options.bill_file)
    try:
        import uvloop
    except ImportError:
        runner = asyncio.run
    else:
        runner = uvloop.run
    with contextlib.suppress(KeyboardInterrupt):
        runner(work)


if __name__ == "__main__":
    main()
