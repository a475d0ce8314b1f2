"""Clumsy and hostile input: each gets its code, its sentence and its fix in the caller's dialect, and costs nothing."""

import json
from typing import Any

import httpx
import pytest
from tests.deployment import Deployment, TestWorkspace, deployed

CHAT = {"model": "openai/gpt-4.1-mini", "messages": [{"role": "user", "content": "hello"}]}


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A desk with a small body limit and little patience."""
    extra = (
        "[limits]\nbody_bytes = 65536\n"
        "[routing]\ndeadline_s = 4.0\nfirst_content_s = 1.0\nresponse_s = 1.0\nhidden_reasoning_s = 0.0\n"
        "stall_s = 1.0\n"
    )
    with deployed(tmp_path_factory.mktemp("small"), extra=extra) as deployment:
        yield deployment


@pytest.fixture
def workspace(small: Deployment) -> TestWorkspace:
    small.emulator.control("DELETE", "faults")
    return small.add_workspace(cap_usd="5")


def check(answer: httpx.Response, status: int, code: str) -> dict[str, Any]:
    """The envelope is OpenAI's, and says what happened and what to do."""
    assert answer.status_code == status, answer.text
    error: dict[str, Any] = answer.json()["error"]
    assert error["code"] == code
    assert error["message"].endswith((".", "?")) or len(error["message"]) > 20
    assert error["fix"]["text"]
    assert answer.headers["x-ownkey-funding"] in ("none", "byok")
    return error


def check_nothing_charged(workspace: TestWorkspace) -> None:
    cap = workspace.cap()
    assert (cap["spent_nusd"], cap["held_nusd"]) == ("0", "0")


def test_no_token_and_wrong_tokens(small: Deployment, workspace: TestWorkspace) -> None:
    """No token, nonsense, a provider's key, a wrong checksum, two headers: 401, and the token is not echoed."""
    url = small.url + "/v1/chat/completions"
    almost = workspace.token[:-1] + ("0" if workspace.token[-1] != "0" else "1")
    for value in (None, "Bearer", "Bearer nonsense", "Basic abc", "Bearer sk-or-v1-" + "ab" * 32, f"Bearer {almost}"):
        headers = {} if value is None else {"authorization": value}
        answer = httpx.post(url, json=CHAT, headers=headers, trust_env=False)
        check(answer, 401, "invalid_token")
        if value and " " in value:
            assert value.split(" ")[-1] not in answer.text


def test_a_foreign_workspace(small: Deployment, workspace: TestWorkspace) -> None:
    """A workspace's token names another workspace, existing or not: the same refusal."""
    other = small.add_workspace("other")
    texts = set()
    for name in (other.id, "ws_nowhere"):
        answer = workspace.post("/v1/chat/completions", CHAT, x_ownkey_workspace=name)
        check(answer, 403, "forbidden")
        texts.add(answer.json()["error"]["message"])
    assert len(texts) == 1


def test_a_service_token_must_name_a_workspace(small: Deployment, workspace: TestWorkspace) -> None:
    """A service token without a workspace, with an unknown one, and with the right one."""
    service = TestWorkspace(small, workspace.id, small.service)

    check(service.post("/v1/chat/completions", CHAT), 400, "bad_request")
    check(service.post("/v1/chat/completions", CHAT, x_ownkey_workspace="nope"), 400, "bad_request")
    assert service.post("/v1/chat/completions", CHAT, x_ownkey_workspace=workspace.id).status_code == 200


BODIES: list[tuple[str, bytes, str | None]] = [
    ("malformed", b'{"model": "openai/gpt-4.1-mini", "messages": [', None),
    ("empty", b"", None),
    ("a list", b"[]", None),
    ("not utf-8", b'{"model": "\xff"}', None),
    ("no model", b'{"messages": [{"role": "user", "content": "x"}]}', "model"),
    ("no messages", b'{"model": "openai/gpt-4.1-mini"}', "messages"),
    ("empty messages", b'{"model": "openai/gpt-4.1-mini", "messages": []}', "messages"),
    ("stream as text", json.dumps({**CHAT, "stream": "yes"}).encode(), "stream"),
    ("negative limit", json.dumps({**CHAT, "max_tokens": -1}).encode(), "max_tokens"),
    ("a steering field", json.dumps({**CHAT, "api_base": "http://169.254.169.254"}).encode(), "api_base"),
    ("a model twice", b'{"model": "a/b", "model": "c/d", "messages": [{"role":"user","content":"x"}]}', None),
    ("too deep", json.dumps({**CHAT, "metadata": None}).replace("null", "[" * 100 + "]" * 100).encode(), None),
]


@pytest.mark.parametrize(("name", "body", "param"), BODIES, ids=[b[0] for b in BODIES])
def test_bodies_that_cannot_be_read(workspace: TestWorkspace, name: str, body: bytes, param: str | None) -> None:
    """A body that is no request is refused by name, leaves a receipt, and costs nothing."""
    answer = workspace.post("/v1/chat/completions", content=body, content_type="application/json")

    error = check(answer, 400, "bad_request")
    if param is not None:
        assert error["param"] == param
    assert workspace.receipt(answer.headers["x-ownkey-receipt"])["code"] == "bad_request"
    check_nothing_charged(workspace)


def test_a_body_over_the_limit(workspace: TestWorkspace) -> None:
    """A body above the limit is refused with 413 and a receipt."""
    answer = workspace.post("/v1/chat/completions", {**CHAT, "user": "x" * 70_000})

    check(answer, 413, "body_too_large")
    check_nothing_charged(workspace)


def test_unknown_model_task_and_endpoint(workspace: TestWorkspace) -> None:
    """Unknown names are refused with what would be known."""
    check(workspace.post("/v1/chat/completions", {**CHAT, "model": "no-such-model"}), 404, "unknown_model")
    check(workspace.post("/v1/chat/completions", {**CHAT, "model": "openai/gpt-17"}), 400, "unpriced_model")
    error = check(workspace.post("/v1/chat/completions", {**CHAT, "model": "task:cook"}), 400, "unknown_task")
    assert "draft_reply" in error["fix"]["text"]
    check(workspace.post("/v1/chat/completions", CHAT, x_ownkey_task="cook"), 400, "unknown_task")
    missing = check(workspace.post("/v1/completions", CHAT), 404, "unknown_endpoint")
    assert "/v1/chat/completions" in missing["fix"]["text"]
    check_nothing_charged(workspace)


def test_a_key_with_white_space_is_cleaned(small: Deployment) -> None:
    """A key pasted with spaces, quotes or `Bearer ` is saved without them."""
    workspace = small.add_workspace("pasted", providers=())
    key = "sk-or-v1-" + "5c" * 32
    small.emulator.add_key("openrouter", key)
    for pasted in (f"  {key}\n", f'"{key}"', f"Bearer {key}", f"export OPENROUTER_API_KEY={key}"):
        workspace.save_key("openrouter", pasted)
        assert workspace.post("/v1/chat/completions", CHAT).status_code == 200


@pytest.mark.parametrize(("field", "key"), [
    ("openrouter", "sk-ant-api03-" + "c3" * 24), ("anthropic", "sk-or-v1-" + "a1" * 32),
    ("openai", "sk-ant-api03-" + "c3" * 24), ("openai", "sk-admin-" + "e5" * 20),
])
def test_a_key_in_the_wrong_field(small: Deployment, field: str, key: str) -> None:
    """A key of another provider, or of the wrong kind, is refused with the right field's name, and not echoed."""
    workspace = small.add_workspace("wrong field", providers=())

    answer = small.try_manage("PUT", f"workspaces/{workspace.id}/credentials/{field}", {"key": key})

    assert answer.status_code == 422, answer.text
    assert answer.json()["error"]["code"] == "credential_wrong_kind"
    assert key not in answer.text


UPSTREAM = [
    ("html_login_200", 503, "provider_unavailable"),
    ("bad_gateway_html_502", 503, "provider_unavailable"),
    ("silence", 503, "provider_unavailable"),
    ("cut_before_headers", 503, "provider_unavailable"),
    ("wrong_content_length", 503, "provider_unavailable"),
    ("redirect_307", 503, "provider_unavailable"),
    ("auth_401", 502, "credential_rejected"),
    ("context_too_long", 400, "context_too_long"),
]


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(("fault", "status", "code"), UPSTREAM)
def test_an_upstream_that_misbehaves(
    small: Deployment, workspace: TestWorkspace, fault: str, status: int, code: str, stream: bool
) -> None:
    """HTML, silence, a closed connection, a redirect, an error: a clear refusal, within the deadline, nothing held."""
    if fault == "wrong_content_length" and stream:
        fault = "cut_before_headers"
    small.emulator.add_fault(fault, times=None, provider="openrouter")

    answer = workspace.post("/v1/chat/completions", {**CHAT, "stream": stream})

    error = check(answer, status, code) if fault != "redirect_307" else answer.json()["error"]
    assert answer.status_code >= 400
    assert error["attempts"] or error["details"]["attempts"]
    assert workspace.cap()["held_nusd"] == "0"
    receipt = workspace.receipt(answer.headers["x-ownkey-receipt"])
    assert receipt["attempts"]
    small.emulator.control("DELETE", "faults")


@pytest.mark.parametrize("fault", ["cut_after", "stall_after", "malformed_event", "missing_end"])
def test_a_stream_that_breaks_never_looks_whole(small: Deployment, workspace: TestWorkspace, fault: str) -> None:
    """X4: a stream that breaks after content ends in an error event and without `[DONE]`; what came is settled."""
    small.emulator.set({"output_tokens": 60, "gap_s": 0.02}, provider="openrouter")
    shape: dict[str, Any] = {"name": fault}
    if fault in ("cut_after", "stall_after"):
        shape["events"] = 5
    if fault == "malformed_event":
        shape["after"] = 5
    if fault == "missing_end":
        shape["finish"] = False
    small.emulator.add_fault(shape, times=None, provider="openrouter")
    billed_before = small.emulator.total_nusd()

    answer = workspace.post("/v1/chat/completions", {**CHAT, "stream": True})

    assert answer.status_code == 200
    assert "[DONE]" not in answer.text
    assert '"error"' in answer.text
    receipt = workspace.receipt(answer.headers["x-ownkey-receipt"])
    assert receipt["code"] == "provider_unavailable"
    billed = small.emulator.total_nusd() - billed_before
    cap = workspace.cap()
    assert cap["held_nusd"] == "0"
    assert int(cap["spent_nusd"]) >= billed > 0
    small.emulator.control("DELETE", "settings")
