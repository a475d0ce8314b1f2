"""kill -9 in the middle of calls: the books never know less than the provider bills, and no call is lost."""

import json
import random
import threading
import time
from pathlib import Path

import httpx
import pytest
from tests.deployment import Deployment, TestWorkspace, deployed

CHAT = {"model": "openai/gpt-4.1-mini", "max_tokens": 200,
        "messages": [{"role": "user", "content": "Tell me about pelicans. " * 20}]}


def keep_calling(workspace: TestWorkspace, url: str, stop: threading.Event, seen: list[str], stream: bool) -> None:
    """Calls until stopped, remembering the receipt of every answer whose head arrived."""
    with httpx.Client(trust_env=False, timeout=10) as client:
        while not stop.is_set():
            try:
                with client.stream(
                    "POST", url + "/v1/chat/completions", json={**CHAT, "stream": stream},
                    headers={"authorization": f"Bearer {workspace.token}"},
                ) as answer:
                    if answer.status_code == 200:
                        seen.append(answer.headers["x-ownkey-receipt"])
                    for _ in answer.iter_raw():
                        pass
            except httpx.HTTPError:
                time.sleep(0.01)


def check_books(deployment: Deployment, workspace: TestWorkspace, key: str, seen: list[str]) -> tuple[int, int]:
    """After a restart: verify is clean, nothing is held, every answered call has its receipt, and the books know at
    least what was billed. Returns (spent, billed)."""
    verified = deployment.manage("POST", "verify", {}, token=deployment.operator)
    assert verified["findings"] == []
    cap = workspace.cap()
    assert cap["held_nusd"] == "0"
    receipts = {r["id"]: r for r in workspace.receipts()}
    missing = [receipt for receipt in seen if receipt not in receipts]
    assert missing == []
    bills = deployment.emulator.bills(key)
    attempts = [a for r in receipts.values() for a in r["attempts"]]
    assert len({a["hold_id"] for a in attempts}) == len(attempts)
    assert len(attempts) >= len(bills)
    booked = sum(int(a["cost_nusd"] or 0) for a in attempts)
    spent = int(cap["spent_nusd"])
    billed = sum(int(b["cost_nusd"]) for b in bills)
    assert spent == booked
    assert spent >= billed
    return spent, billed


def test_killed_in_the_middle_of_calls(tmp_path: Path, request: pytest.FixtureRequest) -> None:
    """X1, M2: killed twenty times at random points under load: no call lost, none counted twice, spend >= bill."""
    rounds = request.config.getoption("--crash-rounds")
    dice = random.Random(20_261_121)
    key = "sk-or-v1-" + "4c" * 32
    with deployed(tmp_path / "home") as desk:
        workspace = desk.add_workspace("crashing", cap_usd="1000", keys={"openrouter": key})
        desk.emulator.set({"first_content_s": 0.01, "gap_s": 0.002, "output_tokens": 80}, provider="openrouter")
        seen: list[str] = []
        for _ in range(rounds):
            stop = threading.Event()
            threads = [
                threading.Thread(target=keep_calling, args=(workspace, desk.url, stop, seen, n % 2 == 0))
                for n in range(6)
            ]
            for thread in threads:
                thread.start()
            time.sleep(0.15 + dice.random() * 0.5)
            desk.kill()
            stop.set()
            for thread in threads:
                thread.join()
            desk.start_again()
            desk.service = desk.operator
            spent, billed = check_books(desk, workspace, key, seen)
        print(json.dumps({"kills": rounds, "answered": len(seen), "spent_nusd": spent, "billed_nusd": billed}))
        assert len(seen) > rounds
