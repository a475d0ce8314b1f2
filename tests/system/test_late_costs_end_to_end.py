"""Costs that were lost with a cut answer, over real sockets: afterwards the receipt is the emulator's bill.

One deployment lives through all of it: answers are cut, the process is killed before anybody asked OpenRouter, and
the next process asks. The tests look at what was before and what is then.
"""

import itertools
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import httpx
import pytest
from tests.deployment import Deployment, TestWorkspace, deployed

MODEL = "openai/gpt-4.1-mini"
PROMPT = [{"role": "user", "content": "Tell me about pelicans and invoices. " * 10}]
WAIT_S = 40.0


@dataclass
class Story:
    """One workspace whose key nobody else has, its cut call, and its figures before OpenRouter was asked."""

    workspace: TestWorkspace
    key: str
    receipt_id: str = ""
    before: Any = None
    cap_before: Any = None
    alerts_before: Any = None
    billed: int = -1
    refused: httpx.Response | None = None

    def receipt(self) -> Any:
        return self.workspace.receipt(self.receipt_id)

    def alerts(self) -> Any:
        return self.workspace.deployment.manage("GET", f"workspaces/{self.workspace.id}/alerts")

    def look(self) -> None:
        """Wait for the call's receipt and note how things stand."""
        wait_for(lambda: [r for r in self.workspace.receipts() if r["id"] == self.receipt_id], 10)
        self.before, self.cap_before, self.alerts_before = self.receipt(), self.workspace.cap(), self.alerts()


@dataclass
class Scene:
    home: Deployment
    stories: dict[str, Story]


def ask(max_tokens: int = 3_000, stream: bool = True) -> dict[str, Any]:
    return {"model": MODEL, "messages": PROMPT, "stream": stream, "max_tokens": max_tokens}


def hang_up_after(workspace: TestWorkspace, frames: int) -> str:
    """Read a few frames of a long stream and leave; returns the receipt's id."""
    headers = {"authorization": f"Bearer {workspace.token}"}
    with httpx.Client(trust_env=False, timeout=20) as client, client.stream(
        "POST", workspace.deployment.url + "/v1/chat/completions", json=ask(), headers=headers
    ) as answer:
        assert answer.status_code == 200
        lines = (line for line in answer.iter_lines() if line.startswith("data: {"))
        for _ in itertools.islice(lines, frames):
            pass
        return answer.headers["x-ownkey-receipt"]


def wait_for(ready: Callable[[], Any], seconds: float) -> Any:
    until = time.monotonic() + seconds
    while not (found := ready()) and time.monotonic() < until:
        time.sleep(0.1)
    assert found
    return found


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    with deployed(tmp_path_factory.mktemp("late")) as home:
        stories = {}
        caps = {"hung_up": "0.02", "cut": "5", "paused": "0.0015", "disconnected": "5"}
        for n, (name, cap_usd) in enumerate(caps.items()):
            key = "sk-or-v1-" + f"{n + 1:04x}" * 16
            stories[name] = Story(home.add_workspace(name, keys={"openrouter": key}, cap_usd=cap_usd), key)
        home.emulator.set({"output_tokens": 2_000, "gap_s": 0.01, "first_content_s": 0.02}, provider="openrouter")
        stories["hung_up"].receipt_id = hang_up_after(stories["hung_up"].workspace, 30)
        stories["disconnected"].receipt_id = hang_up_after(stories["disconnected"].workspace, 12)
        for name, events in (("cut", 40), ("paused", 120)):
            fault = {"name": "cut_after", "events": events}
            home.emulator.add_fault(fault, provider="openrouter", key=stories[name].key, method="POST")
            answer = stories[name].workspace.post("/v1/chat/completions", ask())
            stories[name].receipt_id = answer.headers["x-ownkey-receipt"]
        stories["paused"].refused = stories["paused"].workspace.post("/v1/chat/completions", ask(200, False))
        for story in stories.values():
            story.look()
        home.manage("DELETE", f"workspaces/{stories['disconnected'].workspace.id}/credentials/openrouter")
        home.kill()
        home.start_again()
        for name in ("hung_up", "cut", "paused"):
            wait_for(lambda name=name: stories[name].receipt()["basis"] == "actual", WAIT_S)
        wait_for(lambda: stories["disconnected"].receipt()["notes"], WAIT_S)
        for story in stories.values():
            story.billed = home.emulator.total_nusd(story.key)
        yield Scene(home, stories)


@pytest.mark.parametrize("name", ["hung_up", "cut", "paused"])
def test_the_receipt_is_the_bill_to_the_nano_dollar(scene: Scene, name: str) -> None:
    """Receipt and cap say what OpenRouter billed; the estimate, which was no less, is kept beside it."""
    story = scene.stories[name]
    estimated, told, cap = int(story.before["cost_nusd"]), story.receipt(), story.workspace.cap()

    assert story.before["basis"] == "estimated"
    assert 0 < story.billed <= estimated
    assert int(told["cost_nusd"]) == story.billed
    assert (int(story.cap_before["spent_nusd"]), int(cap["spent_nusd"])) == (estimated, story.billed)
    assert cap["held_nusd"] == "0"
    attempt = told["attempts"][0]
    assert attempt["request_id"].startswith("gen-")
    assert (attempt["basis"], attempt["maybe_billed"], int(attempt["cost_nusd"])) == ("actual", False, story.billed)
    correction = attempt["correction"]
    assert (correction["origin"], correction["estimated_basis"]) == ("openrouter_generation", "estimated")
    assert (int(correction["estimated_nusd"]), int(correction["reported_nusd"])) == (estimated, story.billed)


def test_a_pause_that_only_the_estimate_caused_is_over(scene: Scene) -> None:
    """The high estimate of a cut answer filled the cap, and AI was paused; then the bill was known."""
    story = scene.stories["paused"]
    refused = story.refused
    assert refused is not None
    assert (refused.status_code, refused.json()["error"]["code"]) == (402, "ai_paused")
    assert story.cap_before["state"] == "paused"
    assert story.workspace.cap()["state"] == "active"

    again = story.workspace.post("/v1/chat/completions", ask(50, False))

    assert again.status_code == 200, again.text
    assert story.alerts() == story.alerts_before != {"rows": []}


def test_a_cost_that_nobody_can_tell_stays_an_estimate_in_words(scene: Scene) -> None:
    """The key was disconnected in the meantime: the receipt says why nobody was asked."""
    told = scene.stories["disconnected"].receipt()

    assert (told["basis"], told["attempts"][0]["maybe_billed"]) == ("estimated", True)
    assert told["notes"] == ["The cost stays an estimate: the key that paid is not stored any more."]


def test_a_cost_is_booked_once(scene: Scene) -> None:
    """More rounds of the job and another process change nothing; the books agree with their rows."""
    before = {name: (story.receipt(), story.workspace.cap()) for name, story in scene.stories.items()}
    scene.home.stop()
    scene.home.start_again()
    time.sleep(2.5)

    assert {name: (story.receipt(), story.workspace.cap()) for name, story in scene.stories.items()} == before
    assert scene.home.manage("POST", "verify", {}, token=scene.home.operator)["findings"] == []
    assert not any(story.key in scene.home.log() for story in scene.stories.values())
