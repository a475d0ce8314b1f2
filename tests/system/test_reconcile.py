"""`ownkey reconcile` over real processes: OpenRouter's figures as the emulator tells them, beside our receipts."""

import json
from typing import Any

import httpx
from tests.deployment import KEYS, Deployment

MODEL = "openai/gpt-4.1-mini"
ASK = {"model": MODEL, "messages": [{"role": "user", "content": "Pelicans?"}], "max_tokens": 40}


def key_of(n: int) -> dict[str, str]:
    return {**KEYS, "openrouter": "sk-or-v1-" + f"{n:04x}" * 16}


def reconcile(desk: Deployment, *arguments: str) -> tuple[int, Any]:
    done = desk.cli("reconcile", *arguments, "--json")
    return done.returncode, json.loads(done.stdout)["keys"] if done.stdout else done.stderr


def test_calls_and_use_outside_are_told_apart(desk: Deployment) -> None:
    """O5, X9: our calls never count as use elsewhere; somebody else's do, to the nano-dollar but two."""
    keys = key_of(0xA1)
    workspace = desk.add_workspace("Reconciled", keys=keys)
    for _ in range(2):
        assert workspace.post("/v1/chat/completions", ASK).status_code == 200
    code, (ours,) = reconcile(desk, workspace.id)
    before = desk.emulator.total_nusd(keys["openrouter"])
    for _ in range(9):
        httpx.post(
            desk.emulator.base("openrouter") + "/chat/completions", json=ASK, trust_env=False, timeout=20,
            headers={"authorization": f"Bearer {keys['openrouter']}"},
        ).raise_for_status()
    foreign = desk.emulator.total_nusd(keys["openrouter"]) - before

    again, (others,) = reconcile(desk, workspace.id)

    assert (code, ours["reading"]["verdict"]) == (0, "agrees")
    assert (again, others["reading"]["verdict"]) == (0, "elsewhere")
    grown, unsure, off = (nusd(others["reading"][name]) for name in ("grown_usd", "unsure_usd", "off_usd"))
    assert grown == foreign
    # Our two calls ended within the last minute: they may stand on either side of both readings.
    assert off == foreign - unsure - 2 > 0
    page = desk.manage("GET", f"workspaces/{workspace.id}/key-readings?limit=2")["readings"]
    assert [row["id"] for row in page] == [others["reading"]["id"], ours["reading"]["id"]]


def nusd(usd: str) -> int:
    whole, _, rest = usd.partition(".")
    return int(whole) * 10**9 + int(rest.ljust(9, "0"))


def test_all_workspaces_are_read_at_once_and_those_without_a_key_are_left_out(desk: Deployment) -> None:
    desk.manage("POST", "workspaces", {"name": "No key"})
    keyed = desk.add_workspace("Keyed", keys=key_of(0xA2))

    code, rows = reconcile(desk)

    assert code == 0
    assert keyed.id in {row["workspace"] for row in rows}
    assert all(row["reading"] is not None for row in rows)


def test_a_key_that_cannot_be_read_is_said(desk: Deployment) -> None:
    """Exit 2: nothing was compared, which is not the same as nothing missing."""
    bare = desk.manage("POST", "workspaces", {"name": "Bare"})["id"]
    keys = key_of(0xA3)
    workspace = desk.add_workspace("Down", keys=keys)
    desk.emulator.add_fault("overloaded", None, provider="openrouter", key=keys["openrouter"], method="GET")

    none, down = desk.cli("reconcile", bare), desk.cli("reconcile", workspace.id)

    assert (none.returncode, down.returncode) == (2, 2)
    assert "No OpenRouter API key is saved here" in none.stderr
    assert "OpenRouter does not tell the key's figures now" in down.stderr


def test_who_may_ask_and_who_may_accept(desk: Deployment) -> None:
    """The host and operators ask; only an operator says that a drift stands; a workspace's own token does neither."""
    workspace = desk.add_workspace("Rights", keys=key_of(0xA4))
    path = f"workspaces/{workspace.id}"

    assert desk.try_manage("POST", f"{path}/reconcile", {}).status_code == 200
    assert desk.try_manage("POST", f"{path}/reconcile", {}, token=desk.operator).status_code == 200
    assert desk.try_manage("POST", f"{path}/reconcile", {}, token=workspace.token).status_code == 403
    assert desk.try_manage("GET", f"{path}/key-readings", token=workspace.token).status_code == 403
    accept = f"{path}/key-readings/1/accept"
    assert desk.try_manage("POST", accept, {"reason": "seen"}).status_code == 403
    answer = desk.try_manage("POST", accept, {"reason": "seen"}, token=desk.operator)
    assert (answer.status_code, answer.json()["error"]["code"]) in ((404, "not_found"), (409, "conflict"))
    typed = desk.cli("reconcile", workspace.id, "--accept", "999999", "--reason", "seen")
    assert typed.returncode != 0
    assert "There is no reading 999999" in typed.stderr
    assert desk.cli("reconcile", workspace.id, "--accept", "1").returncode == 2
