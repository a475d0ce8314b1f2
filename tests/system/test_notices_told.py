"""Notices end to end: a deployment, the providers, and a mailbox that is also the host's endpoint for events."""

import base64
import hashlib
import json
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.deployment import Deployment, TestWorkspace, deployed
from tests.mailbox_process import SECRET, MailboxHandle, mailbox

CHAT = {"model": "openai/gpt-4.1-mini", "messages": [{"role": "user", "content": "hello"}], "max_tokens": 60}
CANARY = "sk-or-v1-" + "canary9notices" * 4


def config(box: MailboxHandle) -> str:
    return '[product]\nentry_url = "https://app.example.com/ai?open={flow}"\n' + box.config()


@pytest.fixture(scope="module")
def box() -> Iterator[MailboxHandle]:
    with mailbox() as running:
        yield running


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory, box: MailboxHandle) -> Iterator[Deployment]:
    home: Path = tmp_path_factory.mktemp("notices")
    with deployed(home, "app-builder", extra=config(box), env={"OWNKEY_EVENT_SECRETS": SECRET}) as running:
        yield running


def add_people(place: Deployment, workspace: TestWorkspace, **muted: list[str]) -> None:
    for who, role in (("ada", "owner"), ("bob", "admin"), ("cem", "member"), ("dee", "viewer")):
        place.manage("PUT", f"workspaces/{workspace.id}/members/{who}", {
            "email": f"{who}-{workspace.id}@example.com", "name": who, "role": role, "muted": muted.get(who, []),
        })


def mails_to(box: MailboxHandle, workspace: TestWorkspace, who: str = "ada") -> list[dict[str, Any]]:
    return [m for m in box.mails() if m["recipients"] == [f"{who}-{workspace.id}@example.com"]]


def events_of(box: MailboxHandle, workspace: TestWorkspace) -> list[dict[str, Any]]:
    return [e for e in box.events() if e["body"]["data"]["workspace"] == workspace.id]


def settled(place: Deployment, workspace: TestWorkspace) -> bool:
    rows = place.manage("GET", f"workspaces/{workspace.id}/outbox?state=waiting")["rows"]
    return not rows


def enterprise(place: Deployment, name: str, **fields: Any) -> TestWorkspace:
    return place.add_workspace(name, plan="enterprise", keys={"openrouter": "sk-or-v1-" + hashlib.sha256(
        name.encode()).hexdigest()}, **fields)


def test_the_cap_is_told_at_80_then_at_100_and_when_it_ends(place: Deployment, box: MailboxHandle) -> None:
    """T22, T23: one call crosses both; both e-mails, 80 first, once each; raising the cap says that AI is back."""
    workspace = enterprise(place, "cap")
    add_people(place, workspace, bob=["spend"])
    place.emulator.set({"output_tokens": 60}, provider="openrouter")
    assert workspace.post("/v1/chat/completions", CHAT).status_code == 200
    spent = int(workspace.cap()["spent_nusd"])
    workspace.set_cap(f"{(2 * spent - 1) / 1e9:.9f}")
    assert workspace.post("/v1/chat/completions", {**CHAT, "max_tokens": 60}).status_code in (200, 402)
    workspace.set_cap(f"{int(workspace.cap()['spent_nusd']) / 1e9:.9f}")
    workspace.set_cap("25")
    box.wait(lambda _: settled(place, workspace))

    subjects = [m["subject"] for m in mails_to(box, workspace) if "settings" not in m["subject"]]
    assert subjects[-1] == "cap: AI resumed"
    assert "cap: AI paused, spend cap reached" in subjects
    alerts = place.manage("GET", f"workspaces/{workspace.id}/alerts")["rows"]
    due = [f"{a['cap_version']}:{a['threshold']}" for a in alerts if a["state"] == "due"]
    told = [
        f"{e['body']['data']['cap_version']}:{e['body']['data']['threshold']}" for e in events_of(box, workspace)
        if e["body"]["type"] in ("spend.threshold", "ai.paused")
    ]
    assert told == due
    assert len(subjects) == len(due) + 1
    muted = [m["subject"] for m in mails_to(box, workspace, "bob")]
    assert all("settings" in subject for subject in muted), muted
    assert mails_to(box, workspace, "cem") == mails_to(box, workspace, "dee") == []


def test_both_thresholds_of_one_call_leave_in_order(place: Deployment, box: MailboxHandle) -> None:
    """M11: a call that jumps over both sends 80 before 100, even where the mail server was away at first."""
    workspace = enterprise(place, "jump")
    add_people(place, workspace)
    box.wait(lambda _: settled(place, workspace))
    before = len(mails_to(box, workspace))
    assert workspace.post("/v1/chat/completions", CHAT).status_code == 200
    one = int(workspace.cap()["spent_nusd"])
    bound = int(workspace.receipts()[0]["attempts"][0]["bound_nusd"])
    place.emulator.set({"output_tokens": 60}, provider="openrouter")
    # Room for exactly one more call by its bound; what it then costs may or may not reach the cap: lower it to that.
    workspace.set_cap(f"{(one + bound) / 1e9:.9f}")
    assert workspace.post("/v1/chat/completions", CHAT).status_code == 200
    box.add_fault("rcpt", 451, times=2)
    workspace.set_cap(f"{int(workspace.cap()['spent_nusd']) / 1e9:.9f}")
    box.wait(lambda _: settled(place, workspace), 40)

    subjects = [m["subject"] for m in mails_to(box, workspace)[before:]]
    numbers = [n for n, subject in enumerate(subjects) if "AI spend at 80%" in subject]
    paused = [n for n, subject in enumerate(subjects) if "AI paused" in subject]
    assert len(paused) == 1
    assert all(n < paused[0] for n in numbers)
    assert max(Counter(m["message_id"] for m in box.mails()).values()) == 1


def test_an_incident_is_told_once_and_its_end_once(place: Deployment, box: MailboxHandle) -> None:
    """X6: a key out of funds is one e-mail, credits stepping in are another, and so is the recovery: once each."""
    place.emulator.add_key("openrouter", "sk-or-v1-" + "5f" * 32)
    place.manage("PUT", "platform/credentials/openrouter", {"key": "sk-or-v1-" + "5f" * 32}, token=place.operator)
    workspace = enterprise(place, "incident")
    add_people(place, workspace)
    key = "sk-or-v1-" + hashlib.sha256(b"incident").hexdigest()
    place.manage("POST", f"workspaces/{workspace.id}/credits/grants", {"amount_credits": 500, "origin": "operator"},
                 token=place.operator)
    place.emulator.add_fault("insufficient_quota", times=1, provider="openrouter", key=key)
    for _ in range(4):
        assert workspace.post("/v1/chat/completions", CHAT).status_code == 200
    place.manage("POST", f"workspaces/{workspace.id}/credentials/openrouter/test", {})
    box.wait(lambda _: settled(place, workspace))

    told = Counter(m["subject"] for m in mails_to(box, workspace))
    assert told["incident: your OpenRouter key stopped working"] == 1
    assert told["incident: AI calls now use credits"] == 1
    assert told["incident: your OpenRouter key works again"] == 1
    types = Counter(e["body"]["type"] for e in events_of(box, workspace))
    assert (types["credential.unhealthy"], types["payer.credits_step_in"], types["credential.recovered"]) == (1, 1, 1)


def test_every_change_of_the_payer_is_a_notice(place: Deployment, box: MailboxHandle) -> None:
    """G29: connecting, Always, disabling and disconnecting are told, each with who pays from then on."""
    workspace = enterprise(place, "payer")
    add_people(place, workspace, ada=["spend", "keys"])
    box.wait(lambda _: settled(place, workspace))
    base = f"workspaces/{workspace.id}/credentials/openrouter"
    workspace.settings(always_use_key=True)
    place.manage("POST", f"{base}/disable", {})
    workspace.settings(always_use_key=False)
    place.manage("POST", f"{base}/enable", {})
    place.manage("DELETE", base)
    workspace.settings(name="payer")  # no change, no notice
    box.wait(lambda _: settled(place, workspace))

    wanted = ("payer.changed", "settings.changed")
    changes = [e["body"] for e in events_of(box, workspace) if e["body"]["type"] in wanted]
    assert [(c["type"], c["data"]["payer_after"]) for c in changes] == [
        ("payer.changed", "your_key"), ("settings.changed", "your_key"), ("payer.changed", "nobody"),
        ("payer.changed", "credits"), ("payer.changed", "your_key"), ("payer.changed", "credits"),
    ]
    assert len(mails_to(box, workspace)) == len(changes), "nobody can mute who pays"


def test_events_are_signed_as_standard_webhooks_says(place: Deployment, box: MailboxHandle) -> None:
    """Every event that arrived had a fresh time and a signature of the shared secret; a 503 repeats the same id."""
    box.add_fault("event", 503)
    workspace = enterprise(place, "signed")
    box.wait(lambda _: settled(place, workspace), 30)

    found = events_of(box, workspace)
    assert [e["answered"] for e in found] == [503, 204]
    assert found[0]["id"] == found[1]["id"]
    assert all(e["verified"] for e in box.events())


def test_nothing_secret_is_ever_told(place: Deployment, box: MailboxHandle) -> None:
    """X10: a key that fails, is echoed by its provider, replaced and removed: no message holds a part of it."""
    workspace = place.add_workspace("<img src=x onerror=alert(1)> & Co", plan="enterprise", keys={"openrouter": CANARY})
    add_people(place, workspace)
    place.emulator.add_fault({"name": "echo_key", "where": "error"}, times=2, provider="openrouter", key=CANARY)
    workspace.post("/v1/chat/completions", CHAT)
    workspace.post("/v1/chat/completions", CHAT)
    place.emulator.add_fault("insufficient_quota", times=2, provider="openrouter", key=CANARY)
    workspace.post("/v1/chat/completions", CHAT)
    place.manage("DELETE", f"workspaces/{workspace.id}/credentials/openrouter")
    box.wait(lambda _: settled(place, workspace))

    everything = json.dumps(box.mails()) + json.dumps(box.events())
    for part in (CANARY, CANARY[9:29], base64.b64encode(CANARY.encode()).decode()[4:-4], "hello"):
        assert part not in everything
    shown = mails_to(box, workspace)
    assert shown
    for mail in shown:
        assert mail["subject"].startswith("<img src=x onerror=alert(1)> & Co: ")
        assert "<img" not in mail["html"]
        assert "&lt;img src=x onerror=alert(1)&gt; &amp; Co" in mail["html"]
        assert "http" not in mail["html"].replace("https://app.example.com/", "")


def test_a_kill_in_the_middle_of_delivery_repeats_at_most_the_same_message(tmp_path: Path) -> None:
    """M11: killed with -9 while the mail server holds a message; afterwards everybody has each notice, and what came
    twice came under one Message-ID."""
    with mailbox() as box, deployed(
        tmp_path / "home", extra=config(box), env={"OWNKEY_EVENT_SECRETS": SECRET}
    ) as place:
        workspace = place.add_workspace("killed")
        add_people(place, workspace)
        box.wait(lambda _: settled(place, workspace))
        sent = {m["message_id"] for m in box.mails()}
        for stage in ("body", "rcpt", "connect"):
            box.add_fault(stage, "stall")
            workspace.set_cap("0", threshold_percent=80)
            workspace.set_cap("9")
            time.sleep(1.5)
            place.kill()
            place.start_again()
            place.service = place.operator
            box.wait(lambda _: settled(place, workspace), 40)

        rows = place.manage("GET", f"workspaces/{workspace.id}/outbox?limit=200")["rows"]
        assert {row["state"] for row in rows} == {"sent"}
        mails = [m for m in box.mails() if m["message_id"] not in sent]
        for who in ("ada", "bob"):
            mine = [m for m in mails if m["to"].startswith(who)]
            kinds = Counter(m["subject"].partition(": ")[2] for m in {m["message_id"]: m for m in mine}.values())
            assert kinds["AI resumed"] == 3
            assert kinds["AI is off, the spend cap is US$0"] == 3
        assert place.manage("POST", "verify", {}, token=place.operator)["findings"] == []


def test_without_a_mail_server_messages_are_kept_as_skipped_and_can_be_sent_later(tmp_path: Path) -> None:
    """They are visible, calls go on, and nothing is sent by itself once a server is configured."""
    with mailbox() as box, deployed(tmp_path / "home") as place:
        workspace = place.add_workspace("quiet", cap_usd="0")
        add_people(place, workspace)
        box.wait(lambda _: settled(place, workspace))
        skipped = place.manage("GET", f"workspaces/{workspace.id}/outbox")["rows"]
        assert {(row["state"], row["channel"], row["reason"]) for row in skipped} == {
            ("skipped", "email", "no mail server is configured"),
            ("skipped", "event", "no endpoint for events is configured"),
        }
        assert "no [mail] is configured" in place.log()
        place.stop()
        with (place.home / "ownkey.toml").open("a") as file:
            file.write(config(box))
        place.env["OWNKEY_EVENT_SECRETS"] = SECRET
        place.start_again()
        place.service = place.operator
        mail = next(row for row in skipped if row["channel"] == "email")
        again = place.cli("outbox", "retry", str(mail["id"]))
        assert again.returncode == 0, again.stderr
        box.wait(lambda b: len(b.mails()) == 2)

        assert {m["recipients"][0].partition("-")[0] for m in box.mails()} == {"ada", "bob"}
        shown = json.loads(place.cli("outbox", "--json").stdout)
        assert shown["channels"] == {"email": "", "event": ""}
        twice = place.cli("outbox", "retry", str(mail["id"]))
        assert twice.returncode == 2
        assert "was sent" in twice.stderr


