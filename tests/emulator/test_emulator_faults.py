"""Every scripted fault does what its name says, to every provider that has it."""

import gzip
import json
import re
import socket
import time
from collections.abc import Callable
from functools import cache
from typing import Any
from urllib.parse import urlsplit

import anthropic
import httpx
import openai
import pytest
from emulator_wire import KEYS, PROVIDERS, ask, frames, headers, request_of, streamed_text_of, text_of
from google import genai
from google.genai import errors as google_errors
from google.genai import types as google_types
from openrouter import OpenRouter
from openrouter import errors as openrouter_errors

from emulator_process import ControlError, EmulatorHandle
from ownkey.emulator import errors, faults
from ownkey.emulator.plan import Event

STATUS_FAULTS = [(provider, name) for provider in PROVIDERS for name in errors.names(provider)]
# What the openrouter SDK cannot read, by its own models: `code` that is absent or a string.
UNREADABLE = {name for name in errors.names("openrouter") if "restricted" in name or "filtered" in name} | {
    "capacity_exhausted_429",
    "model_deprecated_404",
    "model_missing_404",
    "string_code_400",
}


def raw_exchange(emulator: EmulatorHandle, provider: str, **more: Any) -> tuple[bytes, BaseException | None]:
    """Everything the emulator sends on a plain socket, and how the connection ended."""
    request = request_of(emulator, provider, **more)
    parts = urlsplit(request["url"])
    body = json.dumps(request["json"]).encode()
    target = parts.path + (f"?{parts.query}" if parts.query else "")
    lines = [f"POST {target} HTTP/1.1", f"host: {parts.netloc}", f"content-length: {len(body)}", "connection: close"]
    lines += [f"{name}: {value}" for name, value in request["headers"].items()]
    received = b""
    with socket.create_connection((parts.hostname or "", parts.port or 0), timeout=5) as connection:
        connection.sendall("\r\n".join(lines).encode() + b"\r\n\r\n" + body)
        try:
            while data := connection.recv(65536):
                received += data
        except OSError as error:
            return received, error
    return received, None


@cache
def sdk_call(url: str, provider: str) -> Callable[[], object]:
    """One call with the provider's own SDK, which is made only once."""
    prompt: Any = [{"role": "user", "content": "hi"}]
    key = KEYS[provider]
    match provider:
        case "openai":
            client = openai.OpenAI(api_key=key, base_url=f"{url}/openai/v1", max_retries=0)
            return lambda: client.chat.completions.create(model="gpt-4.1-mini", messages=prompt)
        case "anthropic":
            claude = anthropic.Anthropic(api_key=key, base_url=f"{url}/anthropic", max_retries=0)
            return lambda: claude.messages.create(model="claude-haiku-4-5", max_tokens=9, messages=prompt)
        case "google":
            gemini = genai.Client(api_key=key, http_options=google_types.HttpOptions(base_url=f"{url}/google"))
            return lambda: gemini.models.generate_content(model="gemini-2.5-flash", contents="hi")
        case _:
            router = OpenRouter(api_key=key, server_url=f"{url}/openrouter/api/v1", retry_config=None)
            return lambda: router.chat.send(model="openai/gpt-4.1-mini", messages=prompt, retries=None)


def typed_error(emulator: EmulatorHandle, provider: str) -> Exception:
    """What the provider's own SDK raises for the next call."""
    try:
        sdk_call(emulator.url, provider)()
    except Exception as error:  # noqa: BLE001 - which one it is, is the question
        return error
    raise AssertionError("no error")


@pytest.mark.parametrize(("provider", "name"), STATUS_FAULTS)
def test_refusals_raise_typed_errors(emulator: EmulatorHandle, provider: str, name: str) -> None:
    """The SDK raises its own error with the status that is in the table, and nothing is billed."""
    emulator.add_fault(name, times=None, provider=provider)
    expected = errors.failure(provider, name, errors.Scene()).status
    error: Any = typed_error(emulator, provider)

    match provider:
        case "openai":
            assert isinstance(error, openai.APIStatusError)
            assert error.status_code == expected
        case "anthropic":
            assert isinstance(error, anthropic.APIStatusError)
            assert error.status_code == expected
        case "google":
            assert isinstance(error, google_errors.APIError)
            assert error.code == expected
        case _:
            assert type(error).__module__.startswith(openrouter_errors.__name__)
            assert error.status_code == expected
            if name not in UNREADABLE and "html" not in name:
                assert type(error).__name__ != "ResponseValidationError"
    assert emulator.bills() == []


@pytest.mark.parametrize(
    ("provider", "name", "wanted"),
    [
        ("openai", "rate_limit_retry_after", {"retry-after": "9", "retry-after-ms": "9000"}),
        ("anthropic", "rate_limit_retry_after", {"retry-after": "9"}),
        ("openrouter", "rate_limit_retry_after", {"retry-after": "9"}),
        ("openrouter", "in_flight_402", {"retry-after": "9"}),
        ("openrouter", "capacity_exhausted_429", {"retry-after": "40"}),
        ("anthropic", "auth_401", {"x-should-retry": "false"}),
    ],
)
def test_refusals_carry_their_headers(
    emulator: EmulatorHandle, http: httpx.Client, provider: str, name: str, wanted: dict[str, str]
) -> None:
    """A stated wait is in the headers where the provider puts it."""
    params = {"wait_s": 8.4} if name in {"rate_limit_retry_after", "in_flight_402"} else {}
    emulator.add_fault({"name": name, **params}, provider=provider)
    answer = ask(http, emulator, provider)

    assert {header: answer.headers.get(header) for header in wanted} == wanted


def test_google_states_its_wait_in_the_body(emulator: EmulatorHandle, http: httpx.Client) -> None:
    """RetryInfo carries the delay, with its fraction."""
    emulator.add_fault({"name": "rate_limit", "wait_s": 34.4}, provider="google")
    details = ask(http, emulator, "google").json()["error"]["details"]

    assert [item["retryDelay"] for item in details if "retryDelay" in item] == ["34.4s"]


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("provider", PROVIDERS)
class TestConnections:
    def test_silence(self, emulator: EmulatorHandle, http: httpx.Client, provider: str, stream: bool) -> None:
        """Nothing comes, and nothing is billed."""
        emulator.add_fault("silence")
        with pytest.raises(httpx.ReadTimeout):
            http.request(**request_of(emulator, provider, stream=stream), timeout=0.2)

        assert emulator.bills() == []

    def test_silence_can_be_billed(
        self, emulator: EmulatorHandle, http: httpx.Client, provider: str, stream: bool
    ) -> None:
        """An answer that was made and lost is in the book when the script says so."""
        emulator.add_fault({"name": "silence", "bill": "whole"})
        with pytest.raises(httpx.ReadTimeout):
            http.request(**request_of(emulator, provider, stream=stream), timeout=0.2)
        (bill,) = emulator.bills()

        assert (bill["aborted"], bill["tokens"]["output"] > 0) == (True, True)

    @pytest.mark.parametrize("reset", [False, True])
    def test_cut_before_headers(self, emulator: EmulatorHandle, provider: str, stream: bool, reset: bool) -> None:
        """The connection ends without a byte: closed, or reset."""
        emulator.add_fault({"name": "cut_before_headers", "reset": reset})
        received, error = raw_exchange(emulator, provider, stream=stream)

        assert received == b""
        assert isinstance(error, ConnectionResetError) is reset

    def test_slow_head(self, emulator: EmulatorHandle, http: httpx.Client, provider: str, stream: bool) -> None:
        """The head waits."""
        emulator.add_fault({"name": "slow_head", "seconds": 0.15})
        started = time.monotonic()
        with http.stream(**request_of(emulator, provider, stream=stream)) as answer:
            waited = time.monotonic() - started
            answer.read()

        assert 0.14 < waited < 1
        assert answer.status_code == 200

    def test_slow_first_content(
        self, emulator: EmulatorHandle, http: httpx.Client, provider: str, stream: bool
    ) -> None:
        """A stream's head comes at once, its content later; OpenRouter comments meanwhile."""
        emulator.add_fault({"name": "slow_first_content", "seconds": 0.15})
        started = time.monotonic()
        with http.stream(**request_of(emulator, provider, stream=stream)) as answer:
            head_after = time.monotonic() - started
            text = answer.read().decode()
            whole_after = time.monotonic() - started

        assert whole_after > 0.14
        if stream:
            assert head_after < 0.1
            assert (": OPENROUTER PROCESSING" in text) is (provider == "openrouter")

    def test_cut_after(self, emulator: EmulatorHandle, provider: str, stream: bool) -> None:
        """The connection ends in the middle of the body, after exactly so many bytes."""
        emulator.add_fault({"name": "cut_after", "bytes": 400})
        received, error = raw_exchange(emulator, provider, stream=stream, text="[emulator output_tokens=150]")
        head, _, body = received.partition(b"\r\n\r\n")
        (bill,) = emulator.bills() or [None]

        assert error is None
        assert b" 200 " in head.split(b"\r\n")[0]
        if stream:
            assert not body.endswith(b"0\r\n\r\n")
            assert sum(len(chunk) for chunk in chunks_of(body)) == 400
        else:
            assert len(body) == 400
        assert bill is None or bill["aborted"] is True

    def test_wrong_key_echo(self, emulator: EmulatorHandle, http: httpx.Client, provider: str, stream: bool) -> None:
        """echo_key repeats the whole credential: in an error, in a header, or in a stream's event."""
        emulator.add_fault({"name": "echo_key", "where": "error"})
        emulator.add_fault({"name": "echo_key", "where": "header"})
        in_error, in_header = (ask(http, emulator, provider, stream=stream) for _ in range(2))

        assert in_error.status_code in {401, 403}
        assert KEYS[provider] in in_error.text
        assert in_header.headers["x-debug-credential"] == KEYS[provider]
        if stream:
            emulator.add_fault({"name": "echo_key", "where": "event"})
            assert KEYS[provider] in ask(http, emulator, provider, stream=True).text

    def test_odd_successes(self, emulator: EmulatorHandle, http: httpx.Client, provider: str, stream: bool) -> None:
        """A redirect, a login page, a cookie, a Retry-After and gzip nobody asked for."""
        faults_in_order = ["redirect_307", "html_login_200", "set_cookie", "retry_after_on_200", "gzip"]
        for name in faults_in_order:
            emulator.add_fault(name)
        request = request_of(emulator, provider, stream=stream)
        request["headers"] = {**request["headers"], "accept-encoding": "identity"}
        redirect, login, cookie, retry, zipped = (http.request(**request) for _ in faults_in_order)
        http.cookies.clear()

        assert (redirect.status_code, redirect.headers["location"][:8]) == (307, "https://")
        assert (login.status_code, login.headers["content-type"][:9]) == (200, "text/html")
        assert "set-cookie" in cookie.headers
        assert (retry.status_code, retry.headers["retry-after"]) == (200, "55")
        assert zipped.headers["content-encoding"] == "gzip"
        assert cookie.status_code == retry.status_code == zipped.status_code == 200
        assert len(zipped.text) > 200
        assert len(emulator.bills()) == 3


def chunks_of(body: bytes) -> list[bytes]:
    """The pieces of a chunked body, as far as it goes."""
    found = []
    while b"\r\n" in body:
        size, _, body = body.partition(b"\r\n")
        found.append(body[: int(size, 16)])
        body = body[int(size, 16) + 2 :]
    return found


@pytest.mark.parametrize("provider", PROVIDERS)
class TestStreams:
    def test_cut_and_stall_after_events(self, emulator: EmulatorHandle, http: httpx.Client, provider: str) -> None:
        """Three events come, then the end or nothing; what was said is billed (Google: everything)."""
        emulator.set({"output_tokens": 100})
        emulator.add_fault({"name": "cut_after", "events": 4})
        emulator.add_fault({"name": "stall_after", "events": 4})
        request = request_of(emulator, provider, stream=True)
        with pytest.raises(httpx.RemoteProtocolError):
            http.request(**request)
        with pytest.raises(httpx.ReadTimeout):
            http.request(**request, timeout=0.2)
        for _ in range(100):
            if len(bills := emulator.bills()) == 2:
                break
            time.sleep(0.01)

        for bill in bills:
            assert bill["aborted"] is True
            assert bill["tokens"]["output"] > 90 if provider == "google" else bill["tokens"]["output"] < 30

    def test_malformed_event(self, emulator: EmulatorHandle, http: httpx.Client, provider: str) -> None:
        """One event is no JSON."""
        emulator.add_fault("malformed_event")

        with pytest.raises(json.JSONDecodeError):
            frames(ask(http, emulator, provider, stream=True))

    @pytest.mark.parametrize("finish", [True, False])
    def test_missing_end(self, emulator: EmulatorHandle, http: httpx.Client, provider: str, finish: bool) -> None:
        """No [DONE] or message_stop; without `finish` no finish reason either. The answer is billed whole."""
        emulator.add_fault({"name": "missing_end", "finish": finish})
        text = ask(http, emulator, provider, stream=True).text
        endings = ("[DONE]", '"message_stop"')
        reasons = ('"finish_reason":"stop"', '"stop_reason":"end_turn"', '"finishReason":"STOP"')
        (bill,) = emulator.bills()

        assert not any(ending in text for ending in endings)
        assert any(reason in text for reason in reasons) is finish
        assert bill["tokens"]["output"] > 0

    @pytest.mark.parametrize("stream", [True, False])
    def test_usage_faults_never_bend_the_bill(
        self, emulator: EmulatorHandle, http: httpx.Client, provider: str, stream: bool
    ) -> None:
        """Missing, zero and null reports come as such; the book has the truth each time."""
        ask(http, emulator, provider, stream=stream)
        for name in ("missing_usage", "zero_usage", "null_usage"):
            emulator.add_fault(name)
        missing, zero, null = (ask(http, emulator, provider, stream=stream).text for _ in range(3))
        costs = {bill["cost_nusd"] for bill in emulator.bills()}
        counters = ('"completion_tokens":', '"output_tokens":', '"totalTokenCount":', '"totalTokenCount": ')

        assert len(costs) == 1
        if not (provider == "anthropic" and stream):
            assert not any(counter in missing for counter in counters)
        assert any(f"{counter}0" in zero for counter in counters)
        assert null != zero

    def test_usage_twice(self, emulator: EmulatorHandle, http: httpx.Client, provider: str) -> None:
        """The final report comes twice: adding instead of taking the last doubles the bill."""
        mark = {"anthropic": "message_delta", "google": "finishReason"}.get(provider, '"usage":{')
        once = ask(http, emulator, provider, stream=True).text.count(mark)
        emulator.add_fault("usage_twice")
        twice = ask(http, emulator, provider, stream=True).text.count(mark)

        assert twice > once

    def test_errors_in_streams(self, emulator: EmulatorHandle, http: httpx.Client, provider: str) -> None:
        """The error comes as the first event, or after content, in the provider's frame, under a 200."""
        emulator.add_fault({"name": "error_in_first_event", "error": "rate_limit"})
        emulator.add_fault({"name": "error_mid_stream", "error": "overloaded", "after": 3})
        first = ask(http, emulator, provider, stream=True)
        middle = ask(http, emulator, provider, stream=True)
        first_frames, middle_frames = frames(first), frames(middle)
        bills = emulator.bills()

        assert first.status_code == middle.status_code == 200
        assert len(first_frames) == 1
        assert "error" in first_frames[0]
        assert "error" in middle_frames[-1]
        assert streamed_text_of(provider, middle_frames[:-1])
        assert [bill["aborted"] for bill in bills] == [True]

    def test_huge_event_and_crlf(self, emulator: EmulatorHandle, http: httpx.Client, provider: str) -> None:
        """A megabyte in one event, and the other line ending, change no word."""
        plain = streamed_text_of(provider, frames(ask(http, emulator, provider, stream=True)))
        emulator.add_fault({"name": "huge_event", "bytes": 1_000_000})
        emulator.add_fault("crlf")
        huge, crlf = (ask(http, emulator, provider, stream=True) for _ in range(2))

        assert len(huge.content) > 1_000_000
        assert "\r\n\r\n" in crlf.text
        assert streamed_text_of(provider, frames(huge)) == streamed_text_of(provider, frames(crlf)) == plain


@pytest.mark.parametrize("provider", PROVIDERS)
def test_error_in_200(emulator: EmulatorHandle, http: httpx.Client, provider: str) -> None:
    """A whole 200 that is an error, and costs nothing."""
    emulator.add_fault("error_in_200")
    answer = ask(http, emulator, provider)

    assert answer.status_code == 200
    assert "error" in answer.json()
    assert emulator.bills() == []


@pytest.mark.parametrize("provider", PROVIDERS)
def test_wrong_content_length(emulator: EmulatorHandle, provider: str) -> None:
    """The head promises ten bytes more than come."""
    emulator.add_fault("wrong_content_length")
    received, _ = raw_exchange(emulator, provider)
    head, _, body = received.partition(b"\r\n\r\n")

    assert f"content-length: {len(body) + 10}".encode() in head


def test_error_inside_a_choice(emulator: EmulatorHandle, http: httpx.Client) -> None:
    """OpenRouter's choice carries the error, with null usage."""
    emulator.add_fault({"name": "error_in_200", "error": "upstream_502", "where": "choice"}, provider="openrouter")
    answer = ask(http, emulator, "openrouter").json()

    assert answer["choices"][0]["error"]["code"] == 502
    assert answer["usage"]["prompt_tokens"] is None


def test_finish_error(emulator: EmulatorHandle, http: httpx.Client) -> None:
    """OpenRouter finishes with `error`, Google with a broken call; `native_finish_error` hides it one level down."""
    emulator.add_fault("finish_error", provider="openrouter")
    emulator.add_fault("finish_error", provider="google")
    emulator.add_fault("native_finish_error", provider="openrouter")
    finished, native = (ask(http, emulator, "openrouter").json()["choices"][0] for _ in range(2))

    assert finished["finish_reason"] == "error"
    assert (native["finish_reason"], native["native_finish_reason"]) == ("stop", "error")
    assert native["message"]["content"] == ""
    assert ask(http, emulator, "google").json()["candidates"][0]["finishReason"] == "MALFORMED_FUNCTION_CALL"


def test_google_error_without_framing(emulator: EmulatorHandle, http: httpx.Client) -> None:
    """Google's raw JSON in the middle of a stream has no `data:`."""
    emulator.add_fault({"name": "error_mid_stream", "shape": "bare"}, provider="google")
    text = ask(http, emulator, "google", stream=True).text
    tail = text[text.index('{\n  "error"') :]

    assert json.loads(tail)["error"]["status"] == "UNAVAILABLE"


def test_custom_answer(emulator: EmulatorHandle, http: httpx.Client) -> None:
    """Any status, headers and body."""
    emulator.add_fault({"name": "custom", "status": 418, "headers": {"X-Odd": "1"}, "body": {"tea": True}})
    answer = ask(http, emulator, "openai")

    assert (answer.status_code, answer.headers["x-odd"], answer.json()) == (418, "1", {"tea": True})


def test_rules_match_count_and_skip(emulator: EmulatorHandle, http: httpx.Client) -> None:
    """A rule hits only what it names, so many times, after so many were let through."""
    rule = {
        "match": {"provider": "openai", "path": "chat", "stream": False},
        "times": 2,
        "skip": 1,
        "fault": "overloaded",
    }
    emulator.control("POST", "faults", rule)
    statuses = [ask(http, emulator, "openai").status_code for _ in range(4)]
    shown = emulator.control("GET", "faults")["faults"][0]

    assert statuses == [200, 503, 503, 200]
    assert (shown["hits"], shown["left"]) == (2, 0)
    assert ask(http, emulator, "anthropic").status_code == 200


def test_model_and_key_rules(emulator: EmulatorHandle, http: httpx.Client) -> None:
    """A rule may name a model by any of its ids, or a key."""
    emulator.add_key("openai", "sk-other")
    emulator.add_fault("overloaded", times=None, model="openai/gpt-4.1")
    emulator.add_fault("server_500", times=None, key="sk-other")

    assert ask(http, emulator, "openai", model="gpt-4.1").status_code == 503
    assert ask(http, emulator, "openai", key="sk-other").status_code == 500
    assert ask(http, emulator, "openai").status_code == 200


def test_probability_is_seeded(emulator: EmulatorHandle, http: httpx.Client) -> None:
    """Half of the requests fail, the same ones after every reset."""
    runs = []
    for _ in range(2):
        emulator.reset()
        emulator.add_key("openai", KEYS["openai"])
        rule = {"match": {}, "times": None, "probability": 0.5, "fault": "overloaded"}
        emulator.control("POST", "faults", rule)
        runs.append([ask(http, emulator, "openai").status_code for _ in range(30)])

    assert runs[0] == runs[1]
    assert 5 < runs[0].count(503) < 25


@pytest.mark.parametrize(
    "asked",
    [
        {"fault": "no_such_fault"},
        {"fault": {"name": "silence", "seconds": 3}},
        {"fault": "in_flight_402", "match": {"provider": "openai"}},
        {"fault": "overloaded", "match": {"colour": "red"}},
        {"fault": {"name": "silence", "bill": "twice"}},
        {"fault": {"name": "error_mid_stream", "error": "nothing"}},
    ],
)
def test_mistaken_faults_are_refused(emulator: EmulatorHandle, asked: dict[str, Any]) -> None:
    """A fault that cannot be played is refused when it is scripted, not when it is due."""
    with pytest.raises(ControlError):
        emulator.control("POST", "faults", asked)


def test_every_fault_is_listed(emulator: EmulatorHandle) -> None:
    """The control API names all faults and their parameters."""
    listed = emulator.control("GET", "faults/names")

    assert set(listed["faults"]) == set(faults.PARAMETERS)
    assert {provider: set(names) for provider, names in listed["errors"].items()} == {
        provider: set(errors.names(provider)) for provider in PROVIDERS
    }


def test_cut_at_every_byte() -> None:
    """Cutting a stream after N bytes leaves exactly the first N."""
    events = [Event(b"abc", "content", 1), Event(b"", "ping", 1), Event(b"defg", "finish", 2)]
    for size in range(7):
        rule = faults.Rule(1, {}, "cut_after", {"events": None, "bytes": size, "reset": False})
        kept = faults.bend(rule, events, b"")

        assert b"".join(event.data for event in kept) == b"abcdefg"[:size]
        assert kept[-1].kind == "cut"


def test_gzip_can_be_read_piece_by_piece(emulator: EmulatorHandle, http: httpx.Client) -> None:
    """Every compressed event can be decoded when it arrives."""
    emulator.add_fault("gzip")
    request = request_of(emulator, "openai", stream=True)
    with http.stream(**request) as answer:
        raw = b"".join(answer.iter_raw())

    assert gzip.decompress(raw).endswith(b"data: [DONE]\n\n")


def test_fallback_of_openrouter(emulator: EmulatorHandle, http: httpx.Client) -> None:
    """A fault on the first of `models` lets the second answer; its price is billed."""
    emulator.add_fault("overloaded", provider="openrouter", model="openai/gpt-4.1-mini")
    answer = ask(http, emulator, "openrouter", models=["anthropic/claude-haiku-4.5"]).json()

    assert answer["model"] == "anthropic/claude-4.5-haiku-20251001"
    assert text_of("openrouter", answer)
    assert emulator.bills()[0]["model"] == "anthropic/claude-4.5-haiku-20251001"


def test_error_in_the_usage_chunk(emulator: EmulatorHandle, http: httpx.Client) -> None:
    """OpenRouter's recorded failure: an error beside usage and a null finish, then [DONE]. It is billed."""
    emulator.add_fault({"name": "error_mid_stream", "shape": "final", "error": "upstream_502"}, provider="openrouter")
    *_, last, done = frames(ask(http, emulator, "openrouter", stream=True))

    assert done == "[DONE]"
    assert last["error"]["code"] == 502
    assert last["choices"][0]["finish_reason"] is None
    assert round(last["usage"]["cost"] * 10**9) == emulator.total_nusd() > 0


@pytest.mark.parametrize("provider", PROVIDERS)
def test_probes_can_be_slow_or_strange(emulator: EmulatorHandle, http: httpx.Client, provider: str) -> None:
    """The free calls know refusals, silence, a slow head and a login page, too."""
    url = emulator.base(provider) + ("/key" if provider == "openrouter" else "/models")
    for fault in ({"name": "slow_head", "seconds": 0.1}, "html_login_200", "overloaded"):
        emulator.add_fault(fault, method="GET")
    started = time.monotonic()
    slow, login, refused = (http.get(url, headers=headers(provider)) for _ in range(3))

    assert time.monotonic() - started > 0.09
    assert slow.status_code == 200
    assert "<html" in login.text
    assert refused.status_code in {503, 529}


def test_errors_of_routed_messages(emulator: EmulatorHandle, http: httpx.Client) -> None:
    """OpenRouter's /messages refuses in Anthropic's envelope, also in the middle of a stream."""
    url = emulator.base("openrouter") + "/messages"
    prompt = [{"role": "user", "content": "hi"}]
    body = {"model": "anthropic/claude-haiku-4.5", "max_tokens": 50, "messages": prompt}
    emulator.add_fault("rate_limit", stream=False)
    emulator.add_fault({"name": "error_mid_stream", "error": "overloaded"}, stream=True)
    refused = http.post(url, json=body, headers=headers("openrouter"))
    broken = frames(http.post(url, json={**body, "stream": True}, headers=headers("openrouter")))

    assert refused.status_code == 429
    assert (refused.json()["type"], refused.json()["error"]["type"]) == ("error", "rate_limit_error")
    assert (broken[-1]["type"], broken[-1]["error"]["type"]) == ("error", "overloaded_error")


@pytest.mark.parametrize("provider", ["openai", "openrouter"])
def test_errors_of_responses(emulator: EmulatorHandle, http: httpx.Client, provider: str) -> None:
    """A Responses stream begins, says its error, and fails."""
    emulator.add_fault({"name": "error_in_first_event", "error": "insufficient_quota"})
    model = "gpt-4.1-mini" if provider == "openai" else "openai/gpt-4.1-mini"
    body = {"model": model, "input": "hi", "stream": True}
    answer = http.post(emulator.base(provider) + "/responses", json=body, headers=headers(provider))
    kinds = [frame["type"] for frame in frames(answer)]

    assert kinds == ["response.created", "response.in_progress", "error", "response.failed"]
    if provider == "openai":
        assert frames(answer)[2]["error"]["code"] == "insufficient_quota"


WORDS = "[emulator text=Grüße·an·alle·Wörter·dieser·Erde·~the-key~·und·an·alle·anderen]"


@pytest.mark.parametrize("provider", PROVIDERS)
@pytest.mark.parametrize("stream", [False, True])
class TestFramings:
    def plain(self, emulator: EmulatorHandle, http: httpx.Client, provider: str, stream: bool) -> bytes:
        """The honest answer, without what differs between any two: ids and times."""
        return unmarked(ask(http, emulator, provider, WORDS, stream=stream).content)

    @pytest.mark.parametrize("fault", [
        {"name": "until_close"}, {"name": "until_close", "version": "1.0"}, {"name": "slow_bytes"},
        {"name": "deflate"}, {"name": "gzip"},
        {"name": "raw", "data": "HTTP/1.1 103 Early Hints\r\n\r\n", "then": "answer"},
    ], ids=str)
    def test_odd_framings_carry_the_whole_answer(
        self, emulator: EmulatorHandle, http: httpx.Client, provider: str, stream: bool, fault: dict[str, Any]
    ) -> None:
        """However it is framed, a client that knows HTTP reads the same answer."""
        honest = self.plain(emulator, http, provider, stream)
        emulator.add_fault(fault)

        assert self.plain(emulator, http, provider, stream) == honest

    @pytest.mark.parametrize("fault", [
        {"name": "unfinished_chunks"}, {"name": "bad_chunk"}, {"name": "wrong_content_length", "delta": 50},
        {"name": "raw", "data": "SSH-2.0\r\n"}, {"name": "raw", "data": "", "then": "reset"},
    ], ids=str)
    def test_broken_framings_are_broken(
        self, emulator: EmulatorHandle, http: httpx.Client, provider: str, stream: bool, fault: dict[str, Any]
    ) -> None:
        """A client that knows HTTP refuses to take them for an answer."""
        emulator.add_fault(fault)
        with pytest.raises(httpx.TransportError):
            ask(http, emulator, provider, WORDS, stream=stream)

    @pytest.mark.parametrize("fault", [
        {"name": "until_close", "share": 0.5}, {"name": "wrong_content_length", "delta": 0, "share": 0.5},
    ], ids=str)
    def test_half_an_answer_looks_whole_to_http(
        self, emulator: EmulatorHandle, http: httpx.Client, provider: str, stream: bool, fault: dict[str, Any]
    ) -> None:
        """Only its content tells that something is missing."""
        honest = self.plain(emulator, http, provider, stream)
        emulator.add_fault(fault)
        with httpx.Client(trust_env=False, timeout=5) as client:  # its connection holds the rest: nobody else's may
            half = self.plain(emulator, client, provider, stream)

        assert 0 < len(half) < len(honest)
        assert honest.startswith(half[: len(half) - 40])

    def test_the_next_request_on_a_last_answer_is_reset(
        self, emulator: EmulatorHandle, provider: str, stream: bool
    ) -> None:
        """The first request is answered on a connection that stays open, and whose next request finds it dead."""
        emulator.add_fault("last_answer")
        request = request_of(emulator, provider, stream=stream)
        with httpx.Client(trust_env=False, timeout=5) as client:
            assert client.request(**request).status_code == 200
            with pytest.raises(httpx.ReadError):
                client.request(**request)

    def test_the_other_kind_of_answer(
        self, emulator: EmulatorHandle, http: httpx.Client, provider: str, stream: bool
    ) -> None:
        """A stream where JSON was asked, and the other way round; the next answer is honest again."""
        emulator.add_fault("swapped_kind")
        swapped, honest = (ask(http, emulator, provider, WORDS, stream=stream) for _ in range(2))

        assert swapped.headers["content-type"].startswith("text/event-stream") is not stream
        assert honest.headers["content-type"].startswith("text/event-stream") is stream

    def test_the_key_in_the_text_and_another_model(
        self, emulator: EmulatorHandle, http: httpx.Client, provider: str, stream: bool
    ) -> None:
        """The mark in the answer's words becomes the caller's key; the answer names a model nobody asked for."""
        emulator.add_fault({"name": "echo_key", "where": "text"})
        emulator.add_fault({"name": "other_model", "model": "nobody/asked"})
        echoed, other = (ask(http, emulator, provider, "[emulator text=~the-key~]", stream=stream) for _ in range(2))

        pieces = streamed_text_of(provider, frames(echoed)) if stream else text_of(provider, echoed.json())
        assert pieces == KEYS[provider]
        assert "nobody/asked" in other.text

    def test_invalid_utf8(self, emulator: EmulatorHandle, http: httpx.Client, provider: str, stream: bool) -> None:
        """The bytes are no text any more."""
        emulator.add_fault({"name": "invalid_utf8", "after": 0})
        with pytest.raises(UnicodeDecodeError):
            ask(http, emulator, provider, WORDS, stream=stream).content.decode()


def unmarked(body: bytes) -> bytes:
    """A body without ids and times."""
    kept = re.sub(rb'"(created|created_at|completed_at)":\s*\d+', rb'"\1":0', body)
    return re.sub(rb'"(id|responseId|request_id)":\s*"[^"]*"', rb'"\1":"x"', kept)


@pytest.mark.parametrize("provider", PROVIDERS)
class TestBentStreams:
    @pytest.mark.parametrize("what", ["comment", "ping", "head", "blank"])
    def test_endless(self, emulator: EmulatorHandle, http: httpx.Client, provider: str, what: str) -> None:
        """The stream never stops, and never brings content."""
        emulator.add_fault({"name": "endless", "what": what, "every_s": 0.01})
        started, received = time.monotonic(), b""
        with http.stream(**request_of(emulator, provider, WORDS, stream=True)) as answer:
            for piece in answer.iter_raw():
                received += piece
                if time.monotonic() - started > 0.3:
                    break

        assert received.count(b"\n\n") > 5
        assert "Grüße".encode() not in received

    def test_cut_inside_a_character(self, emulator: EmulatorHandle, provider: str) -> None:
        """The last byte is the first of a character."""
        emulator.add_fault({"name": "cut_inside", "what": "character", "after": 0})
        received, error = raw_exchange(emulator, provider, stream=True, text=WORDS)

        assert error is None
        last = b"".join(chunks_of(received.partition(b"\r\n\r\n")[2]))[-1]
        assert last >= 0xC0

    def test_no_finish_and_late_content(self, emulator: EmulatorHandle, http: httpx.Client, provider: str) -> None:
        """A stream that never says that it is complete; and one that goes on after it said so."""
        emulator.add_fault("no_finish")
        emulator.add_fault("after_end")
        unfinished, late = (ask(http, emulator, provider, WORDS, stream=True).text for _ in range(2))

        reasons = ('"finish_reason":"stop"', '"stop_reason":"end_turn"', '"finishReason":"STOP"')
        assert not any(reason in unfinished for reason in reasons)
        assert late.rstrip().endswith('"late"}}]}')

    def test_malformed_before_any_content(self, emulator: EmulatorHandle, http: httpx.Client, provider: str) -> None:
        """After none: the broken event comes before the first word."""
        emulator.add_fault({"name": "malformed_event", "after": 0})
        text = ask(http, emulator, provider, WORDS, stream=True).text

        assert text.index('"broken') < text.index("Grüße")

    def test_an_error_in_the_middle_may_not_be_the_end(
        self, emulator: EmulatorHandle, http: httpx.Client, provider: str
    ) -> None:
        """Shape "continue": the stream goes on after its error."""
        emulator.add_fault({"name": "error_mid_stream", "after": 1, "shape": "continue"})
        text = ask(http, emulator, provider, WORDS, stream=True).text

        assert text.index('"error"') < text.rindex("anderen")
