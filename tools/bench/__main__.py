"""`python -m tools.bench`: the emulator directly, then Ownkey without and with a cap, whole and streamed.

The process under test runs on core 0, everything else on core 1. CPU is user and system time of the process under
test, divided by its answers. Absolute figures move with the machine; the ratios are what to compare.
"""

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import uvloop
from tests.deployment import Deployment, deployed
from tests.emulator_process import start_emulator

from tools.bench.load import run_load

MODEL = "openai/gpt-4.1-mini"
KEY = "sk-or-v1-" + "be" * 32
PROMPT = "Please answer this support ticket in a friendly tone. " * 12
TICKS = os.sysconf("SC_CLK_TCK")


@dataclass
class Row:
    name: str
    calls_per_s: float
    cpu_us: float
    p50_ms: float
    p99_ms: float
    answers: int


def cpu_seconds(pid: int) -> float:
    """User and system time of a process with all its threads."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def pin(pid: int, core: int) -> None:
    """Every thread of a process onto one core; where the machine has one core only, nothing changes."""
    if (os.cpu_count() or 1) < 2:
        return
    for task in os.listdir(f"/proc/{pid}/task"):
        os.sched_setaffinity(int(task), {core})


def make_request(url: str, path: str, token: str, *, stream: bool) -> tuple[str, int, bytes]:
    parts = urlsplit(url)
    assert parts.hostname is not None
    assert parts.port is not None
    body = json.dumps({
        "model": MODEL, "max_tokens": 64, "stream": stream, "temperature": 0.2,
        "messages": [{"role": "system", "content": "You are a helpful agent."}, {"role": "user", "content": PROMPT}],
    }).encode()
    head = (
        f"POST {path} HTTP/1.1\r\nhost: bench\r\ncontent-type: application/json\r\n"
        f"authorization: Bearer {token}\r\ncontent-length: {len(body)}\r\n\r\n"
    ).encode()
    return parts.hostname, parts.port, head + body


def measure(name: str, pid: int, request: tuple[str, int, bytes], options: argparse.Namespace) -> Row:
    """The median of several runs, by CPU per call."""
    rows = []
    uvloop.run(run_load(*request, options.connections, 0.5))
    for _ in range(options.runs):
        before = cpu_seconds(pid)
        load, took = uvloop.run(run_load(*request, options.connections, options.seconds))
        used = cpu_seconds(pid) - before
        if load.errors or not load.answers:
            raise SystemExit(f"{name}: {load.errors} errors, first: {load.first_error.decode(errors='replace')}")
        cuts = statistics.quantiles(load.latencies, n=100)
        rows.append(Row(name, load.answers / took, used / load.answers * 1e6, cuts[49] * 1e3, cuts[98] * 1e3,
                        load.answers))
    return sorted(rows, key=lambda row: row.cpu_us)[len(rows) // 2]


def run(options: argparse.Namespace) -> list[Row]:
    rows = []
    emulator = start_emulator()
    try:
        emulator.add_key("openrouter", KEY)
        emulator.set({"output_tokens": 48})
        with tempfile.TemporaryDirectory() as folder, deployed(Path(folder) / "home", emulator=emulator) as desk:
            free = desk.add_workspace("no cap", keys={"openrouter": KEY})
            capped = desk.add_workspace("cap", keys={"openrouter": KEY}, cap_usd="1000000")
            _pin_all(desk, emulator.process.pid, emulator_under_test=True)
            for stream in (False, True):
                words = "streamed" if stream else "whole"
                rows.append(measure(
                    f"emulator directly, {words}", emulator.process.pid,
                    make_request(emulator.url, "/openrouter/api/v1/chat/completions", KEY, stream=stream), options,
                ))
            _pin_all(desk, emulator.process.pid, emulator_under_test=False)
            for stream in (False, True):
                words = "streamed" if stream else "whole"
                for workspace, cap in ((free, "without a cap"), (capped, "with a cap")):
                    rows.append(measure(
                        f"Ownkey {cap}, {words}", desk.process.pid,
                        make_request(desk.url, "/v1/chat/completions", workspace.token, stream=stream), options,
                    ))
            _check(desk)
    finally:
        emulator.stop()
    return rows


def _pin_all(desk: Deployment, emulator_pid: int, *, emulator_under_test: bool) -> None:
    pin(emulator_pid, 0 if emulator_under_test else 1)
    pin(desk.process.pid, 1 if emulator_under_test else 0)
    pin(os.getpid(), 1)


def _check(desk: Deployment) -> None:
    """A fast run that lost money would be worth nothing."""
    verified: Any = desk.manage("POST", "verify", {}, token=desk.operator)
    if not verified["clean"]:
        raise SystemExit(f"the books do not balance after the run: {verified['findings']}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=4.0)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--connections", type=int, default=32)
    options = parser.parse_args()
    begun = time.time()
    rows = run(options)
    base = {"whole": rows[0], "streamed": rows[1]}
    print(f"{os.cpu_count()} cores, Python {sys.version.split()[0]}, {_fsync_words()}; {options.connections} "
          f"connections, median of {options.runs} runs of {options.seconds:.0f} s; {time.time() - begun:.0f} s in all")
    print(f"{'what':32} {'calls/s':>9} {'CPU/call':>10} {'x emulator':>11} {'p50 ms':>8} {'p99 ms':>8}")
    for row in rows:
        ratio = row.cpu_us / base[row.name.rpartition(", ")[2]].cpu_us
        print(f"{row.name:32} {row.calls_per_s:9.0f} {row.cpu_us:7.0f} µs {ratio:11.2f} "
              f"{row.p50_ms:8.2f} {row.p99_ms:8.2f}")


def _fsync_words() -> str:
    """How long this disk takes for what a durable commit needs: it explains latencies, not CPU."""
    times = []
    with tempfile.NamedTemporaryFile() as file:
        for _ in range(50):
            file.write(b"x" * 4096)
            file.flush()
            begun = time.perf_counter()
            os.fsync(file.fileno())
            times.append(time.perf_counter() - begun)
    return f"fsync median {statistics.median(times) * 1e6:.0f} µs"


if __name__ == "__main__":
    sys.exit(main())
