"""The exact cap, judged by the emulator's own bill book."""

import asyncio
import json
from collections import Counter
from urllib.parse import urlsplit

from tests.deployment import Deployment, TestWorkspace, deployed

CHAT = {"model": "openai/gpt-4.1-mini", "max_tokens": 400,
        "messages": [{"role": "user", "content": "Write as much as you may about pelicans and invoices. " * 40}]}


async def call(workspace: TestWorkspace, body: bytes) -> tuple[int, str]:
    """One call over a raw socket, so that a thousand at once cost the tester little. Returns status and code."""
    parts = urlsplit(workspace.deployment.url)
    reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
    try:
        writer.write(
            b"POST /v1/chat/completions HTTP/1.1\r\nhost: ownkey\r\nconnection: close\r\n"
            b"content-type: application/json\r\nauthorization: Bearer " + workspace.token.encode()
            + b"\r\ncontent-length: " + str(len(body)).encode() + b"\r\n\r\n" + body
        )
        answer = await reader.read()
    finally:
        writer.close()
    head, _, text = answer.partition(b"\r\n\r\n")
    status = int(head.split(b" ", 2)[1])
    code = "" if status == 200 else json.loads(text)["error"]["code"]
    return status, code


async def test_a_thousand_calls_against_one_cap(desk: Deployment) -> None:
    """X1, M1, M10: a thousand calls at once, room for about three hundred: nothing over, at least 95% of what fits."""
    key = "sk-or-v1-" + "1c" * 32
    workspace = desk.add_workspace("burst", keys={"openrouter": key})
    desk.emulator.set({"output_tokens": 400, "latency_s": 0.02}, provider="openrouter")
    body = json.dumps(CHAT).encode()
    await call(workspace, body)
    each = desk.emulator.total_nusd(key)
    cap_nusd = 300 * each + each // 2
    workspace.set_cap(f"{cap_nusd / 1e9:.9f}")

    results = Counter(await asyncio.gather(*(call(workspace, body) for _ in range(1_000))))

    billed = desk.emulator.total_nusd(key)
    admitted = results[(200, "")]
    print(f"cap {cap_nusd} nUSD, billed {billed}, admitted {admitted} of 299 that fit, {dict(results)}")
    cap = workspace.cap()
    assert billed <= cap_nusd
    assert int(cap["spent_nusd"]) == billed
    assert cap["held_nusd"] == "0"
    assert admitted >= 0.95 * 299
    assert {code for _, code in results} <= {"", "ai_paused", "spend_cap_busy", "spend_cap_too_low"}
    assert desk.manage("POST", "verify", {}, token=desk.operator)["findings"] == []


def test_the_cap_pauses_alerts_once_and_resumes(desk: Deployment) -> None:
    """T21 to T25: the cap pauses AI with a reset time, alerts at 80% and 100% once each, and resumes when raised."""
    key = "sk-or-v1-" + "2c" * 32
    workspace = desk.add_workspace("pausing", keys={"openrouter": key})
    desk.emulator.set({"output_tokens": 400}, provider="openrouter")
    assert workspace.post("/v1/chat/completions", CHAT).status_code == 200
    each = desk.emulator.total_nusd(key)
    workspace.set_cap(f"{8 * each / 1e9:.9f}")

    codes = [workspace.post("/v1/chat/completions", CHAT) for _ in range(30)]
    refused = next(a for a in codes if a.status_code != 200)
    small = {**CHAT, "max_tokens": 1, "messages": [{"role": "user", "content": "x"}]}
    while (last := workspace.post("/v1/chat/completions", small)).status_code == 200:
        pass

    assert refused.status_code == 402
    error = last.json()["error"]
    assert error["code"] in ("ai_paused", "spend_cap_too_low")
    assert int(workspace.cap()["spent_nusd"]) <= 8 * each
    workspace.set_cap(f"{each / 1e9:.9f}")
    paused = workspace.post("/v1/chat/completions", CHAT)
    assert (paused.status_code, paused.json()["error"]["code"]) == (402, "ai_paused")
    assert paused.json()["error"]["resets_at"].endswith("Z")
    alerts = desk.manage("GET", f"workspaces/{workspace.id}/alerts")["rows"]
    seen = Counter((a["cap_version"], a["threshold"]) for a in alerts)
    assert set(seen.values()) == {1}
    assert {threshold for _, threshold in seen} == {80, 100}
    workspace.set_cap(None)
    assert workspace.post("/v1/chat/completions", CHAT).status_code == 200


def test_shrinking_lets_the_last_calls_in(desk: Deployment) -> None:
    """M9: where only a shorter answer fits, the output limit is lowered, and the receipt says so."""
    key = "sk-or-v1-" + "3c" * 32
    workspace = desk.add_workspace("shrinking", keys={"openrouter": key})
    body = {**CHAT, "max_tokens": 4_000, "messages": [{"role": "user", "content": "hello"}]}
    workspace.set_cap("0.004")

    answer = workspace.post("/v1/chat/completions", body)

    assert answer.status_code == 200
    attempt = workspace.receipt(answer.headers["x-ownkey-receipt"])["attempts"][0]
    assert attempt["shrunk"] is True
    assert 256 <= attempt["output_limit"] < 4_000
    sent = json.loads(desk.emulator.control("GET", "requests?limit=1")["requests"][0]["body"])
    assert attempt["output_limit"] in (sent.get("max_tokens"), sent.get("max_completion_tokens"))


def test_a_cap_survives_a_restart(tmp_path) -> None:  # type: ignore[no-untyped-def]
    """X1: spend, cap and pause are the same after the process was stopped and started again."""
    with deployed(tmp_path / "home") as desk:
        workspace = desk.add_workspace(cap_usd="1")
        assert workspace.post("/v1/chat/completions", CHAT).status_code == 200
        before = workspace.cap()
        desk.stop()
        desk.start_again()
        desk.service = desk.operator

        assert workspace.cap() == before
        assert workspace.post("/v1/chat/completions", CHAT).status_code == 200


def test_a_cap_of_zero_does_not_tell_anybody_to_wait(desk: Deployment) -> None:
    """T22: 0 means no AI. A new month changes nothing, so the only fix is a higher cap."""
    workspace = desk.add_workspace("zero", keys={"openrouter": "sk-or-v1-" + "4c" * 32}, cap_usd="0")

    answer = workspace.post("/v1/chat/completions", CHAT)

    error = answer.json()["error"]
    assert (answer.status_code, error["code"]) == (402, "ai_paused")
    assert error["message"].startswith("AI is off: the monthly spend cap is US$0.00.")
    assert "wait" not in error["message"] + error["fix"]["text"]
