"""A credential appears nowhere: not in logs, files, answers, headers or the process list."""

import base64
import binascii
import urllib.parse
from pathlib import Path

import httpx
from tests.deployment import KEYS, Deployment, TestWorkspace, deployed

CHAT = {"model": "openai/gpt-4.1-mini", "messages": [{"role": "user", "content": "hello"}]}
CANARIES = {
    "openrouter": "sk-or-v1-" + "canary7c0ffee" * 5, "openai": "sk-proj-" + "canary7openai" * 4,
    "anthropic": "sk-ant-api03-" + "canary7anthropic" * 3, "google": "AQ.Ab8" + "canary7google" * 3,
}


def forms(secret: str) -> list[bytes]:
    """The secret as it might leak: raw, base64 (any alignment), hex, URL-encoded, and its ends."""
    raw = secret.encode()
    aligned = [base64.b64encode(b"x" * n + raw)[4 * (n > 0) + 2:-4] for n in range(3)]
    return [raw, *aligned, binascii.hexlify(raw), urllib.parse.quote(secret, safe="").encode(), raw[-20:], raw[9:29]]


def test_a_canary_key_is_found_nowhere(tmp_path: Path) -> None:
    """S1, T28, X10: after calls, tests, failures that echo the key, a kill and a restart, no byte of it is anywhere."""
    answers: list[bytes] = []

    def keep(answer: httpx.Response) -> None:
        answers.append(answer.content)
        answers.append(repr(answer.headers.raw).encode())

    with deployed(tmp_path / "home") as desk:
        workspace = desk.add_workspace("canary", providers=tuple(CANARIES), keys=CANARIES, cap_usd="10")
        _use_it(desk, workspace, keep)
        process = Path(f"/proc/{desk.process.pid}")
        command_line = (process / "cmdline").read_bytes()
        desk.kill()
        desk.start_again()
        keep(desk.try_manage("GET", f"workspaces/{workspace.id}/credentials", token=desk.operator))
        keep(desk.try_manage("GET", f"workspaces/{workspace.id}/audit", token=desk.operator))
        desk.stop()
        files = {p: p.read_bytes() for p in desk.home.rglob("*") if p.is_file()}

    assert any(b"x-ownkey-receipt" in a for a in answers)
    for provider, secret in CANARIES.items():
        for form in forms(secret):
            assert not [path for path, data in files.items() if form in data], (provider, form)
            assert not [a for a in answers if form in a], (provider, form)
            assert form not in command_line


def _use_it(desk: Deployment, workspace: TestWorkspace, keep) -> None:  # type: ignore[no-untyped-def]
    models = ("openai/gpt-4.1-mini", "anthropic/claude-haiku-4.5", "google/gemini-2.5-flash",
              "meta-llama/llama-3.3-70b-instruct")
    for stream in (False, True):
        for model in models:
            keep(workspace.post("/v1/chat/completions", {**CHAT, "model": model, "stream": stream}))
    for where in ("error", "header", "event"):
        for model in models:
            for stream in (False, True):
                desk.emulator.add_fault({"name": "echo_key", "where": where}, times=1)
                keep(workspace.post("/v1/chat/completions", {**CHAT, "model": model, "stream": stream}))
                desk.emulator.control("DELETE", "faults")
    for provider in CANARIES:
        keep(desk.try_manage("POST", f"workspaces/{workspace.id}/credentials/{provider}/test", {}))
        keep(desk.try_manage("POST", f"workspaces/{workspace.id}/credentials/{provider}/test",
                             {"key": CANARIES[provider]}))
        keep(desk.try_manage("PUT", f"workspaces/{workspace.id}/credentials/{provider}", {"key": CANARIES[provider]}))
        keep(desk.try_manage("PUT", f"workspaces/{workspace.id}/credentials/openrouter",
                             {"key": CANARIES[provider], "label": 5}))
    keep(workspace.post("/v1/chat/completions", CHAT, authorization=f"Bearer {CANARIES['openrouter']}"))
    keep(desk.try_manage("DELETE", f"workspaces/{workspace.id}/credentials/google"))
    for path in ("credentials", "receipts", "audit", "status", "outbox", "alerts", "cap"):
        keep(desk.try_manage("GET", f"workspaces/{workspace.id}/{path}"))
    made = desk.cli("credential", "add", "openrouter", "--workspace", workspace.id, stdin=CANARIES["openrouter"] + "\n")
    keep_text = (made.stdout + made.stderr).encode()
    assert CANARIES["openrouter"].encode() not in keep_text
    wrong = desk.cli("credential", "add", "openrouter", CANARIES["openrouter"], "--workspace", workspace.id)
    assert wrong.returncode != 0
    assert CANARIES["openrouter"] not in wrong.stdout + wrong.stderr


def test_a_disconnected_key_is_gone(tmp_path: Path) -> None:
    """T28: after disconnecting there is no key: calls are refused, and no card has a hint."""
    with deployed(tmp_path / "home") as desk:
        workspace = desk.add_workspace(keys=KEYS)
        desk.manage("DELETE", f"workspaces/{workspace.id}/credentials/openrouter")

        answer = workspace.post("/v1/chat/completions", CHAT)

        assert answer.json()["error"]["code"] == "openrouter_key_required"
        cards = desk.manage("GET", f"workspaces/{workspace.id}/credentials")["credentials"]
        assert {card["hint"] for card in cards} == {None}
