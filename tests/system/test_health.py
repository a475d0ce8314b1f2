"""Key health from outside: a failing key is skipped at once, told once, and back as soon as it works."""

import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from tests.deployment import KEYS, Deployment, TestWorkspace

CLAUDE = {"model": "anthropic/claude-haiku-4.5", "max_tokens": 50, "messages": [{"role": "user", "content": "Hello"}]}
SONNET = {**CLAUDE, "model": "anthropic/claude-sonnet-4.5"}
GEMINI = {**CLAUDE, "model": "google/gemini-2.5-flash"}
MINI = {**CLAUDE, "model": "openai/gpt-4.1-mini"}

TOLD, BOTH = {"credential_unhealthy": 1}, {"credential_unhealthy": 1, "credential_recovered": 1}


def keys(tag: str) -> dict[str, str]:
    """Keys of one test: the emulator remembers each by its text."""
    return {provider: key[:-8] + f"{tag:0>8}" for provider, key in KEYS.items()}


def notices(workspace: TestWorkspace) -> dict[str, int]:
    """E-mails about keys, by kind."""
    rows = workspace.deployment.manage("GET", f"workspaces/{workspace.id}/outbox?limit=200")["rows"]
    return dict(Counter(r["kind"] for r in rows if r["channel"] == "email" and r["kind"].startswith("credential_")))


def card(workspace: TestWorkspace, provider: str) -> Any:
    cards = workspace.deployment.manage("GET", f"workspaces/{workspace.id}/credentials")["credentials"]
    return next(c for c in cards if c["provider"] == provider)


def incidents(workspace: TestWorkspace) -> list[Any]:
    found: list[Any] = workspace.deployment.manage("GET", f"workspaces/{workspace.id}/incidents")["incidents"]
    return found


def wait_for(what: Callable[[], bool], seconds: float = 5.0) -> None:
    """Until it is so; what a call learnt is written behind it."""
    until = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < until, "it did not come to that in time"
        time.sleep(0.02)


def ask(workspace: TestWorkspace, body: Any) -> Any:
    """One call: its answer, with `route` from the header and the receipt."""
    answer = workspace.post("/v1/chat/completions", body)
    answer.receipt = workspace.receipt(answer.headers["x-ownkey-receipt"])
    answer.route = answer.headers["x-ownkey-route"]
    return answer


def test_a_revoked_direct_key_is_skipped_told_once_and_restored_by_a_test(desk: Deployment) -> None:
    """X6: no call fails, the second does not even try, one e-mail; a good Test brings the key back at once."""
    mine = keys("01")
    workspace = desk.add_workspace("revoked", providers=("openrouter", "anthropic"), keys=mine)
    assert ask(workspace, CLAUDE).route == "direct:anthropic"
    desk.emulator.add_key("anthropic", mine["anthropic"], kind="revoked")

    first = ask(workspace, CLAUDE)
    assert (first.status_code, first.route) == (200, "openrouter:openrouter")
    assert [(a["provider"], a["failure"]) for a in first.receipt["attempts"]] == [
        ("anthropic", "auth"), ("openrouter", None)
    ]
    wait_for(lambda: notices(workspace) == TOLD)
    later = [ask(workspace, CLAUDE) for _ in range(3)]
    assert {a.route for a in later} == {"openrouter:openrouter"}
    assert all(len(a.receipt["attempts"]) == 1 for a in later)
    assert "rejected" in str(later[0].receipt["skips"])

    sick, incident = card(workspace, "anthropic"), incidents(workspace)[0]
    until = datetime.fromisoformat(sick["next_probe_at"]) - datetime.now(UTC)
    assert sick["state"] == "unhealthy"
    assert timedelta(minutes=4) < until < timedelta(minutes=6)
    assert (incident["provider"], incident["cause"], incident["closed_at"]) == ("anthropic", "rejected", None)
    listed = desk.cli("credential", "incidents", "--workspace", workspace.id)
    assert "Anthropic does not accept the saved key" in listed.stdout, listed.stderr
    status = desk.manage("GET", f"workspaces/{workspace.id}/status")
    assert status["attention"] == ["Anthropic does not accept the saved key."]
    assert "Claude" not in status["sentence"]

    desk.emulator.add_key("anthropic", mine["anthropic"])
    tested = desk.manage("POST", f"workspaces/{workspace.id}/credentials/anthropic/test", {})
    assert tested["outcome"] == "works"
    assert ask(workspace, CLAUDE).route == "direct:anthropic"
    assert notices(workspace) == BOTH
    assert incidents(workspace)[0]["closed_at"] is not None


@pytest.mark.parametrize(("provider", "fault", "body"), [
    ("anthropic", "auth_401", CLAUDE), ("google", "auth_400", GEMINI), ("openai", "auth_401", MINI),
])
def test_an_outage_that_answers_401_is_no_revocation(
    desk: Deployment, provider: str, fault: str, body: dict[str, Any]
) -> None:
    """X6: a free probe clears the key within seconds, nobody is told; a second rejection speaks of that model."""
    mine = keys(f"2{provider[0]}{provider[1]}")
    workspace = desk.add_workspace(f"outage-{provider}", providers=("openrouter", provider), keys=mine)
    desk.emulator.add_fault(fault, 1, provider=provider, key=mine[provider], method="POST")

    first = ask(workspace, body)
    assert (first.status_code, first.route) == (200, "openrouter:openrouter")
    assert first.receipt["attempts"][0]["failure"] == "auth"
    wait_for(lambda: card(workspace, provider)["health"] == "ok")
    assert ask(workspace, body).route == f"direct:{provider}"
    assert (notices(workspace), incidents(workspace)) == ({}, [])

    desk.emulator.add_fault(fault, 1, provider=provider, key=mine[provider], method="POST")
    second = ask(workspace, body)
    assert (second.status_code, second.receipt["attempts"][0]["failure"]) == (200, "scope")
    assert card(workspace, provider)["health"] == "ok"
    third = ask(workspace, body)
    assert third.route == "openrouter:openrouter"
    assert len(third.receipt["attempts"]) == 1
    assert notices(workspace) == {}


def test_the_other_models_of_a_good_key_stay_direct(desk: Deployment) -> None:
    """A second rejection switches one model off for this key, and no other."""
    mine = keys("03")
    workspace = desk.add_workspace("scope", providers=("openrouter", "anthropic"), keys=mine)
    for _ in range(2):
        desk.emulator.add_fault("auth_401", 1, provider="anthropic", key=mine["anthropic"], method="POST")
        ask(workspace, CLAUDE)
        wait_for(lambda: card(workspace, "anthropic")["health"] == "ok")

    assert ask(workspace, CLAUDE).route == "openrouter:openrouter"
    assert ask(workspace, SONNET).route == "direct:anthropic"


def test_an_empty_account_is_told_once_and_its_refill_once(desk: Deployment) -> None:
    """X6: no money behind the key: one e-mail. One call is let through; when it is answered, one more."""
    mine = keys("04")
    workspace = desk.add_workspace("empty", keys=mine)
    desk.emulator.add_key("openrouter", mine["openrouter"], kind="no_balance")
    refused = ask(workspace, MINI)
    assert (refused.status_code, refused.json()["error"]["code"]) == (502, "credential_out_of_funds")
    wait_for(lambda: notices(workspace) == TOLD)
    assert card(workspace, "openrouter")["state"] == "unhealthy"

    desk.emulator.add_key("openrouter", mine["openrouter"])
    assert ask(workspace, MINI).status_code == 200
    wait_for(lambda: notices(workspace) == BOTH)
    assert card(workspace, "openrouter")["health"] == "ok"
    assert ask(workspace, MINI).status_code == 200
    assert notices(workspace) == BOTH


def test_forty_calls_at_once_are_one_incident(desk: Deployment) -> None:
    """X6: one e-mail however many calls fail together; then all but one in 30 s are told without a try."""
    mine = keys("0c")
    workspace = desk.add_workspace("burst", keys=mine)
    desk.emulator.add_key("openrouter", mine["openrouter"], kind="no_balance")
    with ThreadPoolExecutor(40) as pool:
        answers = list(pool.map(lambda _: workspace.post("/v1/chat/completions", MINI), range(40)))
    assert {(a.status_code, a.json()["error"]["code"]) for a in answers} == {(502, "credential_out_of_funds")}
    wait_for(lambda: notices(workspace) == TOLD)
    tries = [len(ask(workspace, MINI).receipt["attempts"]) for _ in range(5)]

    assert sum(tries) <= 1
    assert notices(workspace) == TOLD
    assert len(incidents(workspace)) == 1


def test_a_daily_quota_waits_for_midnight_in_california(desk: Deployment) -> None:
    """X6: Gemini's day ends there; until then OpenRouter answers."""
    mine = keys("05")
    workspace = desk.add_workspace("daily", providers=("openrouter", "google"), keys=mine)
    desk.emulator.add_fault("daily_quota_429", 1, provider="google", key=mine["google"], method="POST")

    assert ask(workspace, GEMINI).route == "openrouter:openrouter"
    wait_for(lambda: notices(workspace) == TOLD)
    assert ask(workspace, GEMINI).route == "openrouter:openrouter"

    again = datetime.fromisoformat(card(workspace, "google")["next_probe_at"])
    there = datetime.now(ZoneInfo("America/Los_Angeles"))
    midnight = datetime.combine(there.date() + timedelta(days=1), datetime.min.time(), there.tzinfo)
    assert midnight <= again <= midnight + timedelta(minutes=1)
    assert incidents(workspace)[0]["cause"] == "no_funds"


def test_a_keys_own_limit_is_told_by_openrouter_itself(desk: Deployment) -> None:
    """The free look at GET /key says that it is the limit, and that it can be looked at for free again."""
    mine = keys("06")
    workspace = desk.add_workspace("limited", keys=mine)
    desk.emulator.add_key("openrouter", mine["openrouter"], kind="limited", limit_nusd="0", limit_reset="monthly")

    assert ask(workspace, MINI).json()["error"]["code"] == "credential_out_of_funds"
    wait_for(lambda: "limit is used up" in (card(workspace, "openrouter")["health_signal"] or ""))
    assert notices(workspace) == TOLD


def test_what_cannot_be_confirmed_at_once_is_confirmed_by_the_clock(desk: Deployment) -> None:
    """The provider is down when the probe asks: skipped, nobody told; seconds later the job asks again."""
    mine = keys("07")
    workspace = desk.add_workspace("later", providers=("openrouter", "anthropic"), keys=mine)
    desk.emulator.add_key("anthropic", mine["anthropic"], kind="revoked")
    desk.emulator.add_fault("overloaded", 2, provider="anthropic", key=mine["anthropic"], method="GET")

    ask(workspace, CLAUDE)
    wait_for(lambda: "being checked" in card(workspace, "anthropic")["sentence"], 2)
    assert notices(workspace) == {}
    assert ask(workspace, CLAUDE).route == "openrouter:openrouter"
    wait_for(lambda: notices(workspace) == TOLD, 25)
    assert "being checked" not in card(workspace, "anthropic")["sentence"]


def test_a_kill_forgets_no_incident_and_repeats_no_notice(desk: Deployment) -> None:
    """kill -9 between the rejection and now: the same incident, one notice; the suspicion is settled after the
    start."""
    mine = keys("08")
    workspace = desk.add_workspace("killed", providers=("openrouter", "anthropic", "openai"), keys=mine)
    desk.emulator.add_key("anthropic", mine["anthropic"], kind="revoked")
    desk.emulator.add_fault("silence", 1, provider="openai", key=mine["openai"], method="GET")
    desk.emulator.add_fault("auth_401", 1, provider="openai", key=mine["openai"], method="POST")
    ask(workspace, CLAUDE)
    wait_for(lambda: notices(workspace) == TOLD)
    ask(workspace, MINI)
    wait_for(lambda: card(workspace, "openai")["state"] == "unhealthy")
    before = card(workspace, "anthropic")

    desk.kill()
    desk.start_again()
    assert card(workspace, "anthropic") == before
    assert ask(workspace, CLAUDE).route == "openrouter:openrouter"
    wait_for(lambda: card(workspace, "openai")["health"] == "ok", 25)
    assert ask(workspace, MINI).route == "direct:openai"
    assert notices(workspace) == TOLD
    assert len(incidents(workspace)) == 1


def test_a_workspace_token_reads_whether_ai_works_and_no_incident(desk: Deployment) -> None:
    """Keys are their owners' and admins' matter."""
    workspace = desk.add_workspace("token", keys=keys("09"))

    refused = desk.try_manage("GET", f"workspaces/{workspace.id}/incidents", token=workspace.token)

    assert (refused.status_code, refused.json()["error"]["code"]) == (403, "forbidden")
    assert desk.manage("GET", f"workspaces/{workspace.id}/status", token=workspace.token)["state"] == "on"


def test_with_credits_an_empty_key_is_stood_in_for_as_the_switches_say(builder: Deployment) -> None:
    """X6, T14: credits pay only where they may, the incident says since when, and a refilled key pays again."""
    platform, mine = keys("0a")["openrouter"], keys("0b")
    builder.emulator.add_key("openrouter", platform)
    builder.manage("PUT", "platform/credentials/openrouter", {"key": platform}, token=builder.operator)
    workspace = builder.add_workspace("stood-in", keys=mine, plan="enterprise")
    builder.manage(
        "POST", f"workspaces/{workspace.id}/credits/grants", {"amount_credits": 1_000}, token=builder.operator
    )
    workspace.settings(always_use_key=False, credits_if_key_fails=True)
    builder.emulator.add_key("openrouter", mine["openrouter"], kind="no_balance")

    paid = [ask(workspace, MINI) for _ in range(2)]
    assert [a.headers["x-ownkey-funding"] for a in paid] == ["credits", "credits"]
    wait_for(lambda: notices(workspace) == TOLD)
    status = builder.manage("GET", f"workspaces/{workspace.id}/status")
    assert status["payer"] == "credits"
    assert "credits pay for AI calls until it works again" in status["sentence"]

    builder.emulator.add_key("openrouter", mine["openrouter"])
    tested = builder.manage("POST", f"workspaces/{workspace.id}/credentials/openrouter/test", {})
    assert tested["outcome"] == "works"
    assert ask(workspace, MINI).headers["x-ownkey-funding"] == "byok"
    assert notices(workspace) == BOTH
    assert builder.manage("GET", "platform/incidents", token=builder.operator) == {"incidents": []}
    assert "No incidents." in builder.cli("credential", "incidents", "--platform").stdout
