"""A model that has become dearer at OpenRouter than its listed price, over real sockets."""

from collections.abc import Iterator
from typing import Any

import pytest
from tests.deployment import Deployment, deployed

MODEL = "openai/gpt-4.1-mini"
BODY = {"model": MODEL, "messages": [{"role": "user", "content": "Say hello."}], "max_tokens": 100}
KEY = "sk-or-v1-" + "00c5" * 16


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    with deployed(tmp_path_factory.mktemp("refresh")) as deployment:
        yield deployment


def set_price(home: Deployment, **usd_per_million: str) -> None:
    home.emulator.control("POST", "prices", {"provider": "openrouter", "model": MODEL, **usd_per_million})


def endpoint_requests(home: Deployment) -> list[Any]:
    seen = home.emulator.control("GET", "requests?limit=1000")["requests"]
    return [request for request in seen if request["path"].endswith(f"/models/{MODEL}/endpoints")]


def test_a_dearer_model_answers_at_its_new_price(home: Deployment) -> None:
    """Our own price limit made OpenRouter say "no endpoints": the price is looked up, a new version holds it, and the
    call is answered within its cap; the next ones ask nobody. Dearer again within the minute: refused, without a
    second look."""
    workspace = home.add_workspace("dear", keys={"openrouter": KEY}, cap_usd="5")
    assert workspace.post("/v1/chat/completions", BODY).status_code == 200
    assert endpoint_requests(home) == []
    set_price(home, input="0.9", output="3.2")

    answers = [workspace.post("/v1/chat/completions", BODY) for _ in range(3)]

    assert [answer.status_code for answer in answers] == [200, 200, 200], answers[0].text
    (asked,) = endpoint_requests(home)
    assert "authorization" not in asked["headers"]
    first, *others = (workspace.receipt(answer.headers["x-ownkey-receipt"]) for answer in answers)
    assert first["attempts"][0]["signal"] == "404 no_endpoints"
    assert [attempt["failure"] for attempt in first["attempts"]][-1] is None
    assert [len(receipt["attempts"]) for receipt in others] == [1, 1]
    assert int(first["cost_nusd"]) <= int(first["attempts"][-1]["bound_nusd"])
    assert int(workspace.cap()["spent_nusd"]) == home.emulator.total_nusd(KEY) > 0

    set_price(home, input="9", output="32")
    refused = workspace.post("/v1/chat/completions", BODY)

    assert refused.status_code == 404
    assert refused.json()["error"]["code"] == "unknown_model"
    assert len(endpoint_requests(home)) == 1
    assert int(workspace.cap()["spent_nusd"]) == home.emulator.total_nusd(KEY)
    assert home.manage("POST", "verify", {}, token=home.operator)["findings"] == []
