"""Keys may do what their kind says, and every refusal is the provider's own."""

import base64
import hashlib
import time
from decimal import Decimal
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest
from emulator_wire import CHAT_MODELS, PROVIDERS, ask, headers, request_of

from emulator_process import ControlError, EmulatorHandle


def probe(http: httpx.Client, emulator: EmulatorHandle, provider: str, key: str) -> httpx.Response:
    """The free call that proves a key."""
    path = "/key" if provider == "openrouter" else "/models"
    return http.get(emulator.base(provider) + path, headers=headers(provider, key))


@pytest.mark.parametrize("provider", PROVIDERS)
def test_probe(emulator: EmulatorHandle, http: httpx.Client, provider: str) -> None:
    """A valid key passes the free probe, an unknown or revoked one does not."""
    emulator.add_key(provider, "good-key-0001")
    emulator.add_key(provider, "revoked-key-01", kind="revoked")
    revoked = probe(http, emulator, provider, "revoked-key-01")

    assert probe(http, emulator, provider, "good-key-0001").status_code == 200
    assert probe(http, emulator, provider, "unknown").status_code == (400 if provider == "google" else 401)
    assert revoked.status_code == (403 if provider == "google" else 401)


@pytest.mark.parametrize("provider", PROVIDERS)
def test_no_key(emulator: EmulatorHandle, http: httpx.Client, provider: str) -> None:
    """A request without a credential is refused as such."""
    path = "/key" if provider == "openrouter" else "/models"
    answer = http.get(emulator.base(provider) + path, headers={"anthropic-version": "2023-06-01"})

    assert answer.status_code == (403 if provider == "google" else 401)


def test_anthropic_wants_its_version(emulator: EmulatorHandle, http: httpx.Client) -> None:
    """Without anthropic-version: 400; with a Bearer token instead of x-api-key: fine."""
    emulator.add_key("anthropic", "sk-ant-x")
    url = emulator.base("anthropic") + "/models"

    assert http.get(url, headers={"x-api-key": "sk-ant-x"}).status_code == 400
    bearer = {"authorization": "Bearer sk-ant-x", "anthropic-version": "2023-06-01"}
    assert http.get(url, headers=bearer).status_code == 200


@pytest.mark.parametrize(
    ("provider", "status", "mark"),
    [
        ("openai", 429, "insufficient_quota"),
        ("anthropic", 400, "Your credit balance is too low"),
        ("google", 429, "PerDay"),
        ("openrouter", 402, "openrouter_credits"),
    ],
)
def test_no_balance(emulator: EmulatorHandle, http: httpx.Client, provider: str, status: int, mark: str) -> None:
    """A key without money passes the probe and fails the call, in the provider's words."""
    emulator.add_key(provider, "poor-key-0001", kind="no_balance")
    answer = ask(http, emulator, provider, key="poor-key-0001")

    assert probe(http, emulator, provider, "poor-key-0001").status_code == 200
    assert answer.status_code == status
    assert mark in answer.text


@pytest.mark.parametrize("provider", PROVIDERS)
def test_balance_runs_out(emulator: EmulatorHandle, http: httpx.Client, provider: str) -> None:
    """Bills are taken from the balance, and the call after the last nano-dollar is refused."""
    emulator.add_key(provider, "key-with-little", balance_nusd="100000")
    statuses = []
    for _ in range(60):
        statuses.append(ask(http, emulator, provider, key="key-with-little", limit=20).status_code)
        if statuses[-1] != 200:
            break
    (shown,) = [key for key in emulator.control("GET", "keys")["keys"] if key["last4"] == "ttle"]

    assert statuses[0] == 200
    assert statuses[-1] in {400, 402, 429}
    assert int(shown["balance_nusd"]) == 100_000 - emulator.total_nusd("key-with-little")


@pytest.mark.parametrize(
    ("provider", "mark"),
    [
        ("openai", "project_spend_limit_exceeded"),
        ("anthropic", "You have reached your specified"),
        ("google", "PerDay"),
        ("openrouter", "openrouter_key_limit"),
    ],
)
def test_limit_is_reached(emulator: EmulatorHandle, http: httpx.Client, provider: str, mark: str) -> None:
    """A key's own limit stops it."""
    emulator.add_key(provider, "limited-key-01", kind="limited", limit_nusd="1")

    assert ask(http, emulator, provider, key="limited-key-01").status_code == 200
    assert mark in ask(http, emulator, provider, key="limited-key-01").text


def test_openrouter_tells_what_is_left(emulator: EmulatorHandle, http: httpx.Client) -> None:
    """GET /key shows limit, remainder and use, to the digit."""
    emulator.add_key("openrouter", "limited-key-01", kind="limited", limit_nusd="1000000000", limit_reset="monthly")
    ask(http, emulator, "openrouter", key="limited-key-01")
    spent = emulator.total_nusd("limited-key-01")
    text = http.get(emulator.base("openrouter") + "/key", headers=headers("openrouter", "limited-key-01")).text
    data = {name: Decimal(text.split(f'"{name}":')[1].split(",")[0]) for name in ("limit", "limit_remaining", "usage")}

    assert data == {
        "limit": Decimal(1),
        "limit_remaining": Decimal(10**9 - spent) / 10**9,
        "usage": Decimal(spent) / 10**9,
    }
    assert '"limit_reset":"monthly"' in text


def test_openrouter_checks_what_is_affordable(emulator: EmulatorHandle, http: httpx.Client) -> None:
    """The whole output limit must be payable; without one the model's maximum is assumed."""
    emulator.add_key("openrouter", "key-0001", balance_nusd="200000")
    unlimited = ask(http, emulator, "openrouter", key="key-0001", limit=None)
    small = ask(http, emulator, "openrouter", key="key-0001", limit=50)

    assert unlimited.status_code == 402
    assert "can only afford" in unlimited.text
    assert small.status_code == 200


@pytest.mark.parametrize("provider", PROVIDERS)
def test_allowed_models(emulator: EmulatorHandle, http: httpx.Client, provider: str) -> None:
    """A restricted key reaches its models and no others, and lists only them."""
    allowed = CHAT_MODELS[provider]
    other = {
        "openai": "gpt-5",
        "anthropic": "claude-opus-4-5",
        "google": "gemini-2.5-pro",
        "openrouter": "openai/gpt-5",
    }
    emulator.add_key(provider, "restricted-key", kind="restricted", models=[allowed])
    path = "/models/user" if provider == "openrouter" else "/models"
    listed = http.get(emulator.base(provider) + path, headers=headers(provider, "restricted-key")).json()
    entries = listed.get("data") or listed["models"]

    assert ask(http, emulator, provider, key="restricted-key").status_code == 200
    assert ask(http, emulator, provider, key="restricted-key", model=other[provider]).status_code in {403, 404}
    assert len(entries) == 1


def test_restricted_openai_keys_lack_scopes(emulator: EmulatorHandle, http: httpx.Client) -> None:
    """A restricted key may call a model though listing them says 401 Missing scopes."""
    emulator.add_key("openai", "sk-restricted", kind="restricted")
    listed = probe(http, emulator, "openai", "sk-restricted")

    assert listed.status_code == 401
    assert "Missing scopes: api.model.read" in listed.text
    assert ask(http, emulator, "openai", key="sk-restricted").status_code == 200


def test_management_keys(emulator: EmulatorHandle, http: httpx.Client) -> None:
    """OpenRouter's management key says what it is, may see credits, and may not talk; other keys the reverse."""
    emulator.add_key("openrouter", "sk-or-management", kind="management", balance_nusd="5000000000")
    emulator.add_key("openrouter", "sk-or-ordinary")
    url = emulator.base("openrouter") + "/credits"

    assert probe(http, emulator, "openrouter", "sk-or-management").json()["data"]["is_management_key"] is True
    assert ask(http, emulator, "openrouter", key="sk-or-management").status_code == 401
    assert http.get(url, headers=headers("openrouter", "sk-or-management")).json()["data"]["total_credits"] == 5
    assert http.get(url, headers=headers("openrouter", "sk-or-ordinary")).status_code == 403


@pytest.mark.parametrize("provider", PROVIDERS)
def test_expiry(emulator: EmulatorHandle, http: httpx.Client, provider: str) -> None:
    """A key works until its time and not after."""
    emulator.add_key(provider, "soon-gone-0001", kind="expiring", expires_at=time.time() + 60)
    emulator.add_key(provider, "gone-key-00001", kind="expiring", expires_at=time.time() - 1)

    assert ask(http, emulator, provider, key="soon-gone-0001").status_code == 200
    assert ask(http, emulator, provider, key="gone-key-00001").status_code in {400, 401}


@pytest.mark.parametrize("provider", PROVIDERS)
def test_rate_limit(emulator: EmulatorHandle, http: httpx.Client, provider: str) -> None:
    """More calls a minute than allowed get the provider's 429 with a wait."""
    emulator.add_key(provider, "eager-key-0001", rate_limit_per_minute=2)
    answers = [ask(http, emulator, provider, key="eager-key-0001") for _ in range(3)]

    assert [answer.status_code for answer in answers] == [200, 200, 429]
    if provider == "google":
        assert "retryDelay" in answers[2].text
    else:
        assert 1 <= int(answers[2].headers["retry-after"]) <= 60


def test_max_price(emulator: EmulatorHandle, http: httpx.Client) -> None:
    """A ceiling below the price finds no endpoint; at the price it does; a fallback within it answers."""

    def status(limit: dict[str, Any], **more: Any) -> int:
        request = request_of(emulator, "openrouter", **more)
        request["json"]["provider"] = {"max_price": limit}
        return http.request(**request).status_code

    assert status({"prompt": 0.4, "completion": "1.6"}) == 200
    assert status({"prompt": 0.39}) == 404
    assert status({"completion": "1.59"}) == 404
    assert status({"prompt": 0.2}, models=["google/gemini-2.5-flash-lite"]) == 200


def sign_in(emulator: EmulatorHandle, http: httpx.Client, verifier: str, **more: str) -> str:
    """The code that the sign-in page sends back."""
    digest = hashlib.sha256(verifier.encode()).digest()
    challenge = base64.urlsafe_b64encode(digest).rstrip(b"=").decode()
    query = {
        "callback_url": "http://127.0.0.1:9/back?state=s1",
        "code_challenge": challenge,
        "code_challenge_method": "S256",
        **more,
    }
    answer = http.get(f"{emulator.url}/openrouter/auth", params=query, follow_redirects=False)
    target = urlsplit(answer.headers["location"])
    found = parse_qs(target.query)
    assert (answer.status_code, target.path, found["state"]) == (302, "/back", ["s1"])
    return found["code"][0]


def exchange(emulator: EmulatorHandle, http: httpx.Client, code: str, verifier: str) -> httpx.Response:
    body = {"code": code, "code_verifier": verifier, "code_challenge_method": "S256"}
    return http.post(emulator.base("openrouter") + "/auth/keys", json=body)


def test_sign_in(emulator: EmulatorHandle, http: httpx.Client) -> None:
    """A code buys one working key, once, and only with the right verifier; its limit is the wanted one."""
    code = sign_in(emulator, http, "v" * 43, limit="2.5")
    key = exchange(emulator, http, code, "v" * 43).json()["key"]
    shown = probe(http, emulator, "openrouter", key).json()["data"]

    assert key.startswith("sk-or-v1-")
    assert len(key) == 9 + 64
    assert shown["limit"] == 2.5
    assert ask(http, emulator, "openrouter", key=key).status_code == 200
    assert exchange(emulator, http, code, "v" * 43).status_code == 403
    assert exchange(emulator, http, sign_in(emulator, http, "v" * 43), "w" * 43).status_code == 403


def test_a_code_is_good_for_one_try_of_ten_minutes(emulator: EmulatorHandle, http: httpx.Client) -> None:
    """A wrong verifier uses the code up; another method is refused as documented; after ten minutes it is gone."""
    spoilt = sign_in(emulator, http, "v" * 43)
    assert exchange(emulator, http, spoilt, "w" * 43).status_code == 403
    assert exchange(emulator, http, spoilt, "v" * 43).status_code == 403

    body = {"code": sign_in(emulator, http, "v" * 43), "code_verifier": "v" * 43, "code_challenge_method": "plain"}
    assert http.post(emulator.base("openrouter") + "/auth/keys", json=body).status_code == 400

    young, old = sign_in(emulator, http, "v" * 43), sign_in(emulator, http, "v" * 43)
    emulator.control("POST", "sign-ins/age", {"seconds": 590})
    assert exchange(emulator, http, young, "v" * 43).status_code == 200
    emulator.control("POST", "sign-ins/age", {"seconds": 11})
    assert exchange(emulator, http, old, "v" * 43).status_code == 403


@pytest.mark.parametrize("query", [
    {"callback_url": "http://app.example.com/back"},
    {"callback_url": "ftp://localhost/back"},
    {"callback_url": "javascript:alert(1)"},
    {"callback_url": ""},
    {"code_challenge": "short"},
    {"code_challenge_method": "S512"},
    {"usage_limit_type": "yearly"},
    {"limit": "-1"},
    {"key_label": "x" * 101},
    {"expires_at": "tomorrow"},
], ids=lambda query: next(iter(query.items()))[0] + "=" + next(iter(query.values()))[:20])
def test_the_sign_in_page_refuses_what_is_not_documented(
    emulator: EmulatorHandle, http: httpx.Client, query: dict[str, str]
) -> None:
    """The sign-in page sends nobody to an address that is neither https nor localhost, nor makes an odd key."""
    good = {"callback_url": "http://localhost:5123/back", "code_challenge": "c" * 43, "code_challenge_method": "S256"}
    page = f"{emulator.url}/openrouter/auth"

    assert http.get(page, params=good, follow_redirects=False).status_code == 302
    assert http.get(page, params={**good, **query}, follow_redirects=False).status_code == 400


@pytest.mark.parametrize(
    "asked",
    [
        {"provider": "nobody", "key": "k"},
        {"provider": "openai", "key": ""},
        {"provider": "openai", "key": "k", "kind": "odd"},
        {"provider": "openai", "key": "k", "kind": "limited"},
        {"provider": "openai", "key": "k", "kind": "expiring"},
    ],
)
def test_mistaken_keys_are_refused(emulator: EmulatorHandle, asked: dict[str, Any]) -> None:
    """The control API says what is wrong with a key."""
    with pytest.raises(ControlError):
        emulator.control("POST", "keys", asked)


def test_models_can_be_added(emulator: EmulatorHandle, http: httpx.Client) -> None:
    """A new model answers on both routes at its price."""
    emulator.control(
        "POST", "models", {"slug": "openai/gpt-new", "native": "gpt-new", "input": "1", "output": "2", "context": 1000}
    )

    assert ask(http, emulator, "openai", model="gpt-new").json()["model"] == "gpt-new"
    assert ask(http, emulator, "openrouter", model="openai/gpt-new").status_code == 200
    assert "context_length_exceeded" in ask(http, emulator, "openai", "x" * 9000, model="gpt-new").text


def test_a_key_whose_allowance_changes_keeps_what_it_has_used() -> None:
    """Another kind, another limit: the running total goes on, also for a call that is in flight meanwhile."""
    from ownkey.emulator.keys import Key, Keyring

    ring = Keyring()
    ring.add(Key("openrouter", "sk-or-v1-x"))
    in_flight = ring.find("openrouter", "sk-or-v1-x")
    assert in_flight is not None
    in_flight.used_nusd = 700
    ring.add(Key("openrouter", "sk-or-v1-x", kind="revoked", limit_nusd=1_000))
    in_flight.used_nusd += 50

    found = ring.find("openrouter", "sk-or-v1-x")

    assert found is not None
    assert (found.used_nusd, found.kind, found.remaining_nusd, found.plain) == (750, "revoked", 250, False)
