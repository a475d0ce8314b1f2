"""The management API: its envelope, its amounts, its mistakes, its idempotency, its description."""

import asyncio
import json
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from tests.api.management import Management, open_management
from tests.api.test_manage_authorisation import BODIES
from tests.control.house import KEYS

from ownkey.api.manage_routes import PREFIX, ROUTES
from ownkey.api.openapi import describe_api
from ownkey.api.statuses import STATUSES
from ownkey.control.pace import PaceLimits
from ownkey.control.problems import ProblemCode
from ownkey.domain.failures import UpstreamError
from ownkey.domain.refusals import Code
from ownkey.pages.statuses import PROBLEM_STATUSES

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
async def api(tmp_path: Path) -> AsyncIterator[Management]:
    async with open_management(tmp_path) as opened:
        yield opened


@pytest.fixture
async def builder(tmp_path: Path) -> AsyncIterator[Management]:
    async with open_management(tmp_path, "app-builder") as opened:
        yield opened


async def test_a_host_connects_a_customer(api: Management) -> None:
    """T1, T3, T8–T12, T21, T24, T29: the whole set-up over HTTP, by the host's own id."""
    made = await api.good("POST", "/workspaces", {"name": "Acme", "external_id": "acme-7"})
    base = "/workspaces/acme-7"
    off = await api.good("GET", f"{base}/status")
    saved = await api.good("PUT", f"{base}/credentials/openrouter", {"key": f"  Bearer {KEYS['openrouter']}\n"})
    cap = await api.good("PUT", f"{base}/cap", {"cap_usd": "50.00"})
    token = await api.good("POST", f"{base}/tokens", {"label": "app"})
    test = await api.good("POST", f"{base}/credentials/openrouter/test", {})
    on = await api.good("GET", f"/workspaces/{made['id']}/status", token=token["token"])
    receipts = (await api.good("GET", f"{base}/receipts"))["receipts"]
    why = await api.good("GET", f"{base}/receipts/{test['receipt']}/why")

    assert (off["state"], off["code"]) == ("off", "openrouter_key_required")
    assert off["fix"]["url"]
    assert saved["message"] == "OpenRouter API key saved successfully."
    assert "Bearer" in saved["cleaned"]
    assert (cap["cap_usd"], cap["cap_nusd"], cap["threshold_percent"]) == ("50.00", "50000000000", 80)
    assert (on["state"], on["payer"]) == ("on", "your_key")
    assert test["outcome"] == "works"
    assert receipts[0]["cost_nusd"] == test["cost_nusd"] == "4220"
    assert receipts[0]["cost_usd"] == "0.00000422"
    assert why["why"].startswith("A Test of the OpenRouter key sk-or-…5a7e made 2 small calls: ")


async def test_no_answer_contains_a_key(api: Management) -> None:
    """T28, S4: whatever is asked after saving, testing and failing, no part of a key comes back."""
    base = f"/workspaces/{api.own.id}"
    seen = []
    for provider, key in KEYS.items():
        seen.append(await api.ask("PUT", f"{base}/credentials/{provider}", {"key": key, "label": "mine"}))
        seen.append(await api.ask("POST", f"{base}/credentials/{provider}/test", {"key": key}))
        wrong = "google" if provider != "google" else "openai"
        seen.append(await api.ask("PUT", f"{base}/credentials/{wrong}", {"key": key}))
        seen.append(await api.ask("PUT", f"{base}/credentials/{key}", {"key": key}))
        seen.append(await api.ask("PUT", f"{base}/features/{key}", {"on": True}))
        seen.append(await api.ask("PUT", f"{base}/cap", {"cap_usd": key}))
        seen.append(await api.ask("PATCH", base, {"plan": key}))
        seen.append(await api.ask("PATCH", base, {key: 1}))
        seen.append(await api.ask("GET", f"{base}/receipts?{key}=1"))
        seen.append(await api.ask("GET", f"{base}/receipts/{key}"))
    for route in ROUTES:
        if route.method == "GET":
            path = re.sub(r"\{(\w+)\}", lambda m: api.own.id if m[1] == "workspace" else "x", route.path)
            seen.append(await api.ask("GET", path, who="operator"))
    text = "\n".join(f"{a.text} {dict(a.headers)}" for a in seen)

    assert not [a.text for a in seen if a.status_code >= 500]
    for key in KEYS.values():
        for part in (key, key[:24], key[-16:]):
            assert part not in text


@pytest.mark.parametrize(("method", "path", "body", "status", "code", "param"), [
    ("PUT", "/cap", {"cap_usd": "abc"}, 400, "invalid_value", "cap_usd"),
    ("PUT", "/cap", {"cap_usd": "-5"}, 400, "invalid_value", "cap_usd"),
    ("PUT", "/cap", {"cap_usd": 50}, 400, "invalid_value", "cap_usd"),
    ("PUT", "/cap", {"cap_usd": "5", "treshold": 80}, 400, "invalid_value", "treshold"),
    ("PUT", "/cap", {"cap_usd": "5", "threshold_percent": 0}, 400, "invalid_value", "threshold_percent"),
    ("PUT", "/cap", {}, 400, "invalid_value", "cap_usd"),
    ("PUT", "/cap", [], 400, "invalid_value", None),
    ("PUT", "/features/auto_repli", {"on": True}, 404, "not_found", "task"),
    ("PUT", "/credentials/opnrouter", {"key": "x"}, 404, "unknown_provider", "provider"),
    ("PUT", "/credentials/openrouter", {"key": "sk-or-v1-a b"}, 422, "credential_malformed", "key"),
    ("PUT", "/credentials/openrouter", {"key": KEYS["anthropic"]}, 422, "credential_wrong_kind", "key"),
    ("PUT", "/credentials/openrouter", {"key": ""}, 400, "invalid_value", "key"),
    ("POST", "/credentials/openrouter/test", {}, 404, "not_found", "key"),
    ("POST", "/credentials/openrouter/enable", {}, 404, "not_found", "provider"),
    ("DELETE", "/credentials/openrouter", None, 404, "not_found", "provider"),
    ("PATCH", "", {"always_use_key": True}, 400, "invalid_value", "always_use_key"),
    ("PATCH", "", {"entitlement": "active"}, 400, "invalid_value", "entitlement"),
    ("PATCH", "", {"timezone": "Berlin"}, 400, "invalid_value", "timezone"),
    ("PUT", "/members/u1", {"email": "nobody"}, 400, "invalid_value", "email"),
    ("PUT", "/members/u1", {"email": "a@b.c", "role": "boss"}, 400, "invalid_value", "role"),
    ("POST", "/tokens", {"label": "x", "tasks": ["drft"]}, 400, "invalid_value", "tasks"),
    ("POST", "/tokens", {"label": "x", "expires_at": "tomorrow"}, 400, "invalid_value", "expires_at"),
    ("DELETE", "/tokens/tok_none", None, 404, "not_found", None),
    ("GET", "/receipts?tsk=1", None, 400, "invalid_value", "tsk"),
    ("GET", "/receipts?limit=1000", None, 400, "invalid_value", "limit"),
    ("GET", "/receipts?limit=1&limit=2", None, 400, "invalid_value", "query"),
    ("GET", "/receipts?since=yesterday", None, 400, "invalid_value", "since"),
    ("GET", "/receipts/none", None, 404, "not_found", None),
    ("GET", "/spend?by=tsk", None, 400, "invalid_value", "by"),
    ("GET", "/spend?month=11-2026", None, 400, "invalid_value", "month"),
    ("GET", "/nothing", None, 404, "not_found", None),
    ("POST", "/cap", {"cap_usd": "5"}, 405, "method_not_allowed", None),
    ("DELETE", "/members/u1", {"force": True}, 400, "invalid_value", "body"),
])
async def test_a_clumsy_request_gets_a_sentence_and_a_fix(
    api: Management, method: str, path: str, body: Any, status: int, code: str, param: str | None
) -> None:
    """One envelope for every mistake, with the field at fault."""
    error = await api.bad(status, method, f"/workspaces/{api.own.id}{path}", body)

    assert (error["code"], error.get("param")) == (code, param)


async def test_broken_bodies(api: Management) -> None:
    """Not JSON, too large, compressed, not UTF-8: each is told, none is a 500."""
    url, head = f"/manage/v1/workspaces/{api.own.id}/cap", {"authorization": f"Bearer {api.tokens['service']}"}
    for content, more, status in (
        (b"{", {}, 400), (b"\xff\xfe", {}, 400), (b'{"cap_usd": "\xff"}', {}, 400), (b"[" * 100_000, {}, 400),
        (b" " * 300_000, {}, 413), (b"{}", {"content-encoding": "gzip"}, 400),
    ):
        answer = await api.client.put(url, content=content, headers={**head, **more})
        assert answer.status_code == status, (content[:20], answer.text)
        assert answer.json()["error"]["fix"]["text"]


async def test_two_authorization_headers_are_refused(api: Management) -> None:
    """A proxy and we might read different ones."""
    token = f"Bearer {api.tokens['service']}"
    answer = await api.client.get("/manage/v1/product", headers=[("authorization", token), ("authorization", token)])

    assert answer.status_code == 401


async def test_an_expired_token_is_refused(api: Management) -> None:
    """From the moment it expires."""
    at = "2026-11-18T12:00:00Z"
    token = (await api.good("POST", f"/workspaces/{api.own.id}/tokens", {"label": "x", "expires_at": at}))["token"]
    await api.good("GET", f"/workspaces/{api.own.id}/status", token=token)
    api.house.clock.pass_s(86_400)

    await api.bad(401, "GET", f"/workspaces/{api.own.id}/status", token=token)


async def test_the_same_request_happens_once(builder: Management) -> None:
    """M17: one Idempotency-Key × 50 in parallel: one effect, and every answer is the first one or "in progress"."""
    path = f"/workspaces/{builder.own.id}/credits/grants"
    before = (await builder.good("GET", f"/workspaces/{builder.own.id}/credits"))["balance_credits"]
    answers = await asyncio.gather(*(
        builder.ask("POST", path, {"amount_credits": 7}, who="operator", idempotency_key="k1") for _ in range(50)
    ))
    again = await builder.ask("POST", path, {"amount_credits": 7}, who="operator", idempotency_key="k1")
    after = (await builder.good("GET", f"/workspaces/{builder.own.id}/credits"))["balance_credits"]

    bodies = {a.text for a in answers if a.status_code == 201}
    print(f"M17 key: asked {len(answers)}, bodies {len(bodies)}, effects {(after - before) // 7}")
    assert after == before + 7
    assert {a.status_code for a in answers} <= {201, 409}
    assert len({a.text for a in answers if a.status_code == 201}) == 1
    assert again.status_code == 201
    assert again.headers["idempotency-replayed"] == "true"


async def test_another_request_under_the_same_key_is_told(api: Management) -> None:
    """Different parameters: 422. Another principal's key: another key."""
    body = {"name": "One"}
    first = await api.good("POST", "/workspaces", body, idempotency_key="k")
    error = await api.bad(422, "POST", "/workspaces", {"name": "Two"}, idempotency_key="k")
    same = await api.good("POST", "/workspaces", body, idempotency_key="k")
    other = await api.good("POST", "/workspaces", body, who="operator", idempotency_key="k")

    assert error["code"] == "idempotency_mismatch"
    assert same["id"] == first["id"] != other["id"]


async def test_a_refused_request_may_be_tried_again_under_its_key(api: Management) -> None:
    """Nothing happened, so the key is free."""
    await api.bad(400, "POST", "/workspaces", {"name": "x", "timezone": "Nowhere"}, idempotency_key="k")

    await api.good("POST", "/workspaces", {"name": "x", "timezone": "UTC"}, idempotency_key="k")


async def test_a_token_is_shown_once_even_under_an_idempotency_key(api: Management) -> None:
    """The stored answer has no secret, so the second answer has none."""
    path = f"/workspaces/{api.own.id}/tokens"
    first = await api.good("POST", path, {"label": "x"}, idempotency_key="k")
    second = await api.good("POST", path, {"label": "x"}, idempotency_key="k")
    stored = (api.house.folder / "ownkey.db-wal").read_bytes() + (api.house.folder / "ownkey.db").read_bytes()

    assert second["token"] is None
    assert second["row"] == first["row"]
    assert first["token"].encode() not in stored


@pytest.mark.parametrize("key", ["", "x" * 201, "a\tb"])
async def test_an_unfit_idempotency_key_is_told(api: Management, key: str) -> None:
    """1 to 200 visible ASCII characters."""
    assert (await api.bad(400, "POST", "/workspaces", {"name": "x"}, idempotency_key=key))["param"] == "Idempotency-Key"


async def test_switching_payers_over_http(builder: Management) -> None:
    """G17–G22, G25: Always, if-key-fails, disable, disconnect; each answer says who pays from now on."""
    base = f"/workspaces/{builder.own.id}"
    included = next(p.name for p in builder.house.product.plans.values() if p.byok == "included")
    await builder.good("PATCH", base, {"plan": included})
    nobody = await builder.good("GET", f"{base}/status")
    await builder.good("PUT", "/platform/credentials/openrouter", {"key": KEYS["openrouter"]}, who="operator")
    credits = await builder.good("GET", f"{base}/status")
    await builder.good("PUT", f"{base}/credentials/openrouter", {"key": KEYS["openrouter"]})
    await builder.good("PATCH", base, {"always_use_key": True})
    always = await builder.good("GET", f"{base}/status")
    error = await builder.bad(409, "DELETE", f"{base}/credentials/openrouter")
    stopped = await builder.good("POST", f"{base}/credentials/openrouter/disable", {})
    gone = await builder.good("DELETE", f"{base}/credentials/openrouter?acknowledge_ai_stops=true")
    off = await builder.good("GET", f"{base}/status")

    assert (nobody["state"], nobody["payer"]) == ("off", "nobody")
    assert "own OpenRouter key is not set up" in nobody["sentence"]
    assert "--platform" in nobody["fix"]["text"]
    assert (credits["state"], credits["payer"]) == ("on", "credits")
    assert (always["payer"], always["row"]) == ("your_key", "F9")
    assert error["code"] == "acknowledgement_required"
    assert stopped["payer_sentence"].startswith("AI calls are stopped")
    assert gone["credential"]["state"] == "empty"
    assert (off["payer"], off["code"]) == ("nobody", "always_use_key_unavailable")


async def test_the_platforms_key_belongs_to_the_operator(builder: Management) -> None:
    """No host, no workspace; and a product without credits has none."""
    await builder.bad(403, "PUT", "/platform/credentials/openrouter", {"key": KEYS["openrouter"]})
    saved = await builder.good("PUT", "/platform/credentials/openrouter", {"key": KEYS["openrouter"]}, who="operator")
    listed = await builder.good("GET", "/platform/credentials", who="operator")

    assert saved["credential"]["state"] == "connected"
    assert [c["state"] for c in listed["credentials"] if c["provider"] == "openrouter"] == ["connected"]


async def test_support_desk_has_no_platform_key(api: Management) -> None:
    """T2: no managed key ships."""
    await api.bad(400, "PUT", "/platform/credentials/openrouter", {"key": KEYS["openrouter"]}, who="operator")


async def test_an_outage_while_saving_offers_save_anyway(api: Management) -> None:
    """Portal, 4.1."""
    path = f"/workspaces/{api.own.id}/credentials/openrouter"
    api.house.upstream.script["/key"] = UpstreamError("connect refused", sent=False, received=False)
    error = await api.bad(422, "PUT", path, {"key": KEYS["openrouter"]})
    saved = await api.good("PUT", path, {"key": KEYS["openrouter"], "save_anyway": True})

    assert error["code"] == "credential_unreachable"
    assert "save_anyway" in error["fix"]["text"]
    assert saved["warning"]


async def test_too_many_tests_wait(tmp_path: Path) -> None:
    """429 with Retry-After."""
    async with open_management(tmp_path, pace=PaceLimits(per_minute=1)) as api:
        path = f"/workspaces/{api.own.id}/credentials/openrouter/test"
        await api.good("POST", path, {"key": KEYS["openrouter"]})
        answer = await api.ask("POST", path, {"key": KEYS["openrouter"]})

        assert answer.status_code == 429
        assert int(answer.headers["retry-after"]) == answer.json()["error"]["retry_after_s"] == 60


async def test_a_limited_token_reads_its_own(api: Management) -> None:
    """A token for one task: its receipts only, and no sums."""
    base = f"/workspaces/{api.own.id}"
    await api.good("POST", f"{base}/credentials/openrouter/test", {"key": KEYS["openrouter"]})
    token = (await api.good("POST", f"{base}/tokens", {"label": "x", "tasks": ["draft_reply"]}))["token"]

    assert len((await api.good("GET", f"{base}/receipts", who="workspace"))["receipts"]) == 1
    assert not (await api.good("GET", f"{base}/receipts", token=token))["receipts"]
    await api.bad(404, "GET", f"{base}/spend", token=token)


async def test_verify_over_http(api: Management) -> None:
    """Clean, with the assumptions it rests on."""
    found = await api.good("POST", "/verify", {}, who="operator")

    assert found["clean"] is True
    assert found["assumptions"]


def test_every_code_has_its_status() -> None:
    """The doors' tables are complete."""
    assert set(STATUSES) == set(Code)
    assert set(PROBLEM_STATUSES) == set(ProblemCode)


async def test_the_description_is_complete_and_valid(api: Management) -> None:
    """Every route is in it, every reference leads somewhere, and only a token may read it."""
    document = await api.good("GET", "/openapi.json")
    told = {(method.upper(), path) for path, methods in document["paths"].items() for method in methods}
    references = set(re.findall(r'"#/components/schemas/(\w+)"', json.dumps(document)))

    assert told == {(r.method, PREFIX + r.path) for r in ROUTES}
    assert references <= set(document["components"]["schemas"])
    for name, schema in document["components"]["schemas"].items():
        jsonschema.Draft202012Validator.check_schema(schema)
        assert schema["type"] == "object", name


def test_the_written_description_is_current() -> None:
    """docs/openapi.json is what `ownkey openapi` prints."""
    written = json.loads((ROOT / "docs" / "openapi.json").read_text("utf-8"))

    assert written == describe_api(ROUTES, PREFIX)


async def test_answers_keep_to_their_schemas(builder: Management) -> None:
    """What is described is what comes: answers validate against the document."""
    document = describe_api(ROUTES, PREFIX)
    base = f"/workspaces/{builder.own.id}"
    await builder.good("PUT", f"{base}/credentials/openrouter", {"key": KEYS["openrouter"]})
    for route in ROUTES:
        if route.method != "GET" or re.search(r"\{(?!workspace)", route.path) or route.media != "application/json":
            continue
        answer = await builder.good("GET", route.path.replace("{workspace}", builder.own.id), who="operator")
        told = document["paths"][PREFIX + route.path]["get"]["responses"]["200"]
        schema = told["content"]["application/json"]["schema"]

        jsonschema.validate(answer, {**schema, "components": document["components"]})


NASTY: tuple[Any, ...] = (
    None, True, -1, 2**63, 10**40, 1.5, "", " ", "\x00", "\ud800", "‮", "x" * 5_000, "9" * 400, "1e400", "'; DROP TABLE",
    "../../etc", [], {}, [[]], {"a": {}}, "0001-01-01T00:00:00Z", "9999-12-31T23:59:59Z", "2026-01-01T00:00:00+23:59",
)


@pytest.mark.parametrize("route", [r for r in ROUTES if r.body is not None], ids=lambda r: r.name)
async def test_no_value_breaks_a_route(builder: Management, route: Any) -> None:
    """S12: whatever stands in a field, the answer is ours and never a 5xx."""
    path = re.sub(r"\{(\w+)\}", lambda m: builder.own.id if m[1] == "workspace" else "openrouter", route.path)
    good = BODIES.get(route.name, {})
    for field in route.body.__struct_encode_fields__:
        for value in NASTY:
            raw = json.dumps({**good, field: value}).encode()
            answer = await builder.client.request(
                route.method, PREFIX + path, content=raw,
                headers={"authorization": f"Bearer {builder.tokens['operator']}", "content-type": "application/json"},
            )
            assert answer.status_code < 500, (route.name, field, value, answer.text)
    assert (await builder.good("POST", "/verify", {}, who="operator"))["clean"]


@pytest.mark.parametrize("route", [r for r in ROUTES if "{" in r.path or r.query.__struct_encode_fields__],
                         ids=lambda r: r.name)
async def test_no_address_breaks_a_route(builder: Management, route: Any) -> None:
    """The same for path and query."""
    head = {"authorization": f"Bearer {builder.tokens['operator']}"}
    for odd in ("%00", "%ED%A0%80", "%FF", "x" * 3_000, "%2F", "..", "'", "%E2%80%AE", "ws_", "-1", "9" * 40):
        path = PREFIX + re.sub(r"\{(\w+)\}", lambda m, odd=odd: odd, route.path)
        half = PREFIX + re.sub(r"\{(\w+)\}", lambda m, odd=odd: "own" if m[1] == "workspace" else odd, route.path)
        query = "&".join(f"{field}={odd}" for field in route.query.__struct_encode_fields__)
        for url in (path, half, f"{half}?{query}"):
            answer = await builder.client.request(route.method, url, headers=head)
            assert answer.status_code < 500, (url, answer.text)


async def test_names_and_labels_are_no_place_for_a_key(api: Management) -> None:
    """T28: a key pasted into the label would be shown for ever."""
    base = f"/workspaces/{api.own.id}"
    for method, path, body in (
        ("PUT", f"{base}/credentials/openrouter", {"key": KEYS["openrouter"], "label": KEYS["openrouter"]}),
        ("POST", "/workspaces", {"name": KEYS["openrouter"]}), ("PATCH", base, {"name": KEYS["anthropic"]}),
        ("POST", "/workspaces", {"name": "x", "external_id": KEYS["openrouter"]}),
        ("PUT", f"{base}/projects/{KEYS['openai']}", {"name": "p"}),
        ("POST", f"{base}/tokens", {"label": KEYS["openai"]}),
    ):
        await api.bad(400, method, path, body)


async def test_a_conversation_may_have_a_slash(api: Management) -> None:
    """Its id is the host's own."""
    found = await api.good("GET", f"/workspaces/{api.own.id}/conversations/ticket%2F7/meter")

    assert found["conversation"] == "ticket/7"


@pytest.mark.parametrize(("method", "path", "body", "message", "fix"), [
    ("POST", "/tokens", {"label": "x", "scopes": ["cal"]}, "'cal' is not a value of `scopes[0]`.",
     "Did you mean call? Use one of: call, manage."),
    ("PUT", "/members/u1", {"email": "a@b.c", "role": "boss"}, "'boss' is not a value of `role`.",
     "Use one of: admin, member, owner, viewer."),
    ("GET", "/receipts?funding=foo", None, "'foo' is not a value of `funding`.", "Use one of: byok, credits."),
    ("PUT", "/cap", {"cap_usd": "5", "threshold_percent": 150}, "`threshold_percent` cannot be taken",
     "Use a whole number from 1 to 99."),
    ("PUT", "/cap", {"cap_usd": "5", "threshold_percent": 100}, "`threshold_percent` cannot be taken",
     "Use a whole number from 1 to 99."),
    ("PATCH", "", {"always_use_key": "yes"}, "`always_use_key` cannot be taken", "Use true or false."),
    ("GET", "/receipts?limit=1000", None, "`limit` cannot be taken", "Use a whole number from 1 to 200."),
    ("PUT", "/features/auto_reply", {"settings": {"threshold": "x"}}, "cannot be taken", "Use a whole number."),
    ("PUT", "/cap", {"cap_usd": "5", "treshold": 80}, "`treshold`", "Known: cap_usd, threshold_percent."),
])
async def test_a_wrong_value_is_answered_with_the_right_ones(
    api: Management, method: str, path: str, body: Any, message: str, fix: str
) -> None:
    """The fix lists what that field may hold, not which fields there are."""
    error = await api.bad(400, method, f"/workspaces/{api.own.id}{path}", body)

    assert message in error["message"]
    assert error["fix"]["text"] == fix


@pytest.mark.parametrize(("method", "path", "message"), [
    ("GET", "/workspaces/nobody", "There is no workspace nobody here."),
    ("GET", "/workspaces/own/receipts/call_x", "There is no receipt call_x in this workspace."),
    ("DELETE", "/workspaces/own/tokens/tok_x", "There is no token tok_x in this workspace."),
    ("DELETE", "/workspaces/own/members/u9", "There is no member u9 in this workspace."),
])
async def test_what_is_missing_is_named_as_it_was_asked_for(
    api: Management, method: str, path: str, message: str
) -> None:
    """Kind and id; nothing that the asker did not say."""
    assert (await api.bad(404, method, path))["message"] == message


async def test_a_suspended_workspace_names_its_way_back(api: Management) -> None:
    """The sentence says who can, the fix says how."""
    await api.good("PATCH", "/workspaces/own", {"status": "suspended"}, who="ops")
    status = await api.good("GET", "/workspaces/own/status")

    assert status["sentence"] == "This workspace is suspended by the operator."
    assert "ownkey workspace set own --status active" in status["fix"]["text"]
