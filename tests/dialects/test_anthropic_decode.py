"""A Messages body is understood as far as money and routing need it, and the rest of its bytes is left alone."""

import json
import typing
from typing import Any

import pytest
import typing_extensions
from anthropic.types import content_block_param, message_create_params, tool_union_param
from anthropic.types.beta import beta_content_block_param, beta_tool_union_param
from anthropic.types.beta import message_count_tokens_params as beta_count_params
from anthropic.types.beta import message_create_params as beta_create_params

from ownkey.dialects import anthropic_fields as fields
from ownkey.dialects.anthropic_messages import AnthropicDialect, MessagesCall, OpenRouterMessagesDialect
from ownkey.dialects.openai_fields import STEERING
from ownkey.domain.wire import BadRequest, Edits, Endpoint

MINIMAL: dict[str, Any] = {
    "model": "anthropic/claude-haiku-4.5", "max_tokens": 100, "messages": [{"role": "user", "content": "hi"}],
}
# Parameters of the SDK's methods that it sends as headers.
HEADERS = {"betas", "user_profile_id", "workspace_id"}
SERVER_TOOLS = ("web_search_", "web_fetch_", "code_execution_", "advisor_", "tool_search_tool_", "mcp_toolset")


def decode(endpoint: Endpoint = "messages", **changes: Any) -> MessagesCall:
    body = {name: value for name, value in {**MINIMAL, **changes}.items() if value is not ...}
    return AnthropicDialect().decode(endpoint, json.dumps(body).encode())


def blocks(*content: Any) -> list[Any]:
    return [{"role": "user", "content": list(content)}]


def literals(union: Any) -> set[str]:
    """The `type` of every member of a union of the SDK's parameter types, the variants of one included."""
    found: set[str] = set()
    for member in typing.get_args(union):
        if hasattr(member, "model_fields"):
            found |= set(flatten(member.model_fields["type"].annotation))
        elif typing_extensions.is_typeddict(member):
            found |= set(flatten(typing.get_type_hints(member)["type"]))
        else:
            found |= literals(member)
    return {kind for kind in found if isinstance(kind, str)}


def flatten(hint: Any) -> list[Any]:
    found: list[Any] = []
    for part in typing.get_args(hint) or [hint]:
        found += flatten(part) if typing.get_args(part) else [part]
    return found


# --- the SDK's parameters


@pytest.mark.parametrize(
    "params",
    [
        message_create_params.MessageCreateParamsNonStreaming, message_create_params.MessageCreateParamsStreaming,
        beta_create_params.MessageCreateParamsStreaming, beta_count_params.MessageCountTokensParams,
    ],
    ids=lambda params: f"{params.__module__.split('.')[-2]}-{params.__name__}",
)
def test_every_parameter_of_the_sdk_is_known(params: Any) -> None:
    """A parameter that a newer SDK brings has to be sorted before it may pass under a cap."""
    assert set(params.__annotations__) - HEADERS - fields.ANTHROPIC == set()


def test_every_tool_of_the_sdk_is_run_by_the_caller_or_refused_under_a_cap() -> None:
    """A new type of tool shows up here, and until then counts as one that a server runs."""
    kinds = literals(tool_union_param.ToolUnionParam) | literals(beta_tool_union_param.BetaToolUnionParam)
    client = {kind for kind in kinds if kind.startswith(fields.TYPED_CLIENT_TOOLS)}

    assert {kind for kind in kinds - client if not kind.startswith(SERVER_TOOLS)} == {fields.CUSTOM_TOOL}
    for kind in kinds - client - {fields.CUSTOM_TOOL}:
        assert decode(tools=[{"type": kind, "name": "x"}]).shape.unboundable == (f"tools: {kind}",)
    for kind in client:
        shape = decode(tools=[{"type": kind, "name": "x"}]).shape
        assert (shape.unboundable, shape.beyond_text) == ((), (f"tools: {kind}",))


def test_every_block_of_the_sdk_is_text_an_image_or_beyond_text() -> None:
    """A block whose tokens cannot be told from its bytes is held at the whole window."""
    kinds = literals(content_block_param.ContentBlockParam)
    kinds |= literals(beta_content_block_param.BetaContentBlockParam)

    assert {"text", "image", "document", "tool_use", "tool_addition", "fallback", "compaction"} <= kinds
    for kind in kinds:
        shape = decode(messages=blocks({"type": kind})).shape
        if kind in fields.TOOL_BRINGING_BLOCKS:
            assert shape.unboundable == (f"messages: {kind}",)
        else:
            assert (shape.unboundable, shape.image_count) == ((), int(kind == "image"))
            assert shape.beyond_text == (() if kind in fields.TEXT_BLOCKS or kind == "image" else (kind,))


def test_openrouters_fields_are_those_of_its_document() -> None:
    """recorded: what OpenRouter's OpenAPI document lists for `/messages` is known, and OpenRouter's own are named."""
    yaml = pytest.importorskip("yaml")
    from tests.providers.anthropic_google_wire import ABSENT, WIRE

    document = WIRE / "specs" / "openrouter.openapi.yaml"
    if not document.is_file():
        pytest.skip(ABSENT)
    spec = yaml.load(document.read_text(), Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    listed = set(spec["components"]["schemas"]["MessagesRequest"]["properties"])

    assert listed - fields.ANTHROPIC == fields.OPENROUTER - {"preset"}


# --- refusals


@pytest.mark.parametrize(
    ("changes", "param"),
    [
        ({"model": ...}, "model"),
        ({"model": 3}, "model"),
        ({"messages": ...}, "messages"),
        ({"messages": []}, "messages"),
        ({"messages": "hi"}, "messages"),
        ({"messages": [3]}, "messages"),
        ({"max_tokens": ...}, "max_tokens"),
        ({"max_tokens": None}, "max_tokens"),
        ({"max_tokens": -1}, "max_tokens"),
        ({"max_tokens": 1.5}, "max_tokens"),
        ({"max_tokens": True}, "max_tokens"),
        ({"max_tokens": "100"}, "max_tokens"),
        ({"stream": "yes"}, "stream"),
        ({"system": 3}, "system"),
        ({"thinking": "on"}, "thinking"),
        ({"tool_choice": "auto"}, "tool_choice"),
        ({"tools": {"name": "x"}}, "tools"),
        ({"tools": ["x"]}, "tools"),
        ({"models": "x"}, "models"),
        ({"service_tier": 1}, "service_tier"),
        ({"base_url": "https://elsewhere"}, "base_url"),
        ({"aws_region": "x"}, "aws_region"),
    ],
    ids=str,
)
def test_what_cannot_be_understood_is_refused_by_name(changes: dict[str, Any], param: str) -> None:
    """A clear refusal that names the field, before anything is held or sent."""
    with pytest.raises(BadRequest) as refused:
        decode(**changes)

    assert refused.value.param == param


@pytest.mark.parametrize("body", [b"", b"[]", b"{", b'{"model": "x', b"\xff", b'{"model":"a","model":"b"}'])
def test_a_body_that_is_no_object_is_refused(body: bytes) -> None:
    """Not JSON, not UTF-8, not an object, or a field twice."""
    with pytest.raises(BadRequest):
        AnthropicDialect().decode("messages", body)


@pytest.mark.parametrize("number", [b"1e400", b"-1E+999", b"1" * 5_000], ids=["1e400", "-1E+999", "5000-digits"])
def test_a_number_that_nobody_can_read_is_refused(number: bytes) -> None:
    """Wherever it stands: when the body is decoded, or at the latest when it is translated."""
    for member in (b'"messages":[{"role":"user","content":[{"type":"text","text":"x","n":%s}]}]', b'"max_tokens":%s',
                   b'"messages":[{"role":"user","content":"x"}],"top_k":%s', b'"tools":[{"name":"x","n":%s}]'):
        body = b'{"model":"m",' + member % number
        for rest in (b'"max_tokens":5', b'"messages":[{"role":"user","content":"x"}]'):
            if rest.split(b":")[0] not in member:
                body += b"," + rest
        with pytest.raises(BadRequest):
            AnthropicDialect().decode("messages", body + b"}").neutral_chat()


def test_counting_needs_no_limit_and_never_streams() -> None:
    """`count_tokens` has no answer."""
    call = decode("count_tokens", max_tokens=..., stream=True)
    assert decode("count_tokens", tools=[{"type": "web_search_20250305"}]).shape.unboundable == ()

    assert (call.stream, call.shape.output_limit, call.endpoint) == (False, None, "count_tokens")
    assert json.loads(call.native_body(Edits("claude-haiku-4-5", output_limit=5))) == {
        "model": "claude-haiku-4-5", "messages": MINIMAL["messages"], "stream": True,
    }


def test_openrouters_callers_may_leave_the_limit_out() -> None:
    """Under /api/v1 `max_tokens` is optional, and what is sent upstream is added at the end."""
    body = json.dumps({name: value for name, value in MINIMAL.items() if name != "max_tokens"}).encode()
    call = OpenRouterMessagesDialect().decode("messages", body)

    assert call.shape.output_limit is None
    assert call.native_body(Edits(call.model, output_limit=77)) == body[:-1] + b',"max_tokens":77}'


def test_server_side_fallback_is_anthropics_and_no_steering() -> None:
    """`fallbacks` means another thing to other gateways; here it may only cost more than is known."""
    assert "fallbacks" in STEERING
    assert decode(fallbacks=[{"model": "claude-opus-4-8"}]).shape.unboundable == ("fallbacks",)
    assert decode(fallbacks=[]).shape.unboundable == ()


def test_a_limit_of_nothing_fills_the_cache() -> None:
    """Anthropic's documented way to warm it: passed on as it is."""
    call = decode(max_tokens=0)

    assert call.shape.output_limit == 0
    assert call.native_body(Edits(call.model, output_limit=1)) == call.body


# --- money


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"mcp_servers": [{"type": "url", "url": "https://x"}]}, ("mcp_servers",)),
        ({"plugins": [{"id": "web"}]}, ("plugins",)),
        ({"speed": "fast"}, ()),
        ({"speed": "standard"}, ()),
        ({"speed": None}, ()),
        ({"inference_geo": "us"}, ("inference_geo",)),
        ({"inference_geo": "global"}, ()),
        ({"container": {"skills": [{"type": "anthropic", "skill_id": "pdf"}]}}, ("container",)),
        ({"compaction": {"type": "summarize"}}, ("compaction",)),
        ({"context_management": {"edits": [{"type": "clear_tool_uses_20250919"}]}}, ()),
        ({"context_management": {"edits": [{"type": "compact_20260112"}]}}, ("context_management",)),
        ({"context_management": "x"}, ("context_management",)),
        ({"preset": "mine"}, ("preset",)),
        ({"model": "anthropic/claude-haiku-4.5:online"}, (":online",)),
        ({"models": ["a/b", "a/b:online"]}, (":online",)),
        ({"something_new": 1}, ("something_new",)),
        ({"something_new": None}, ("something_new",)),
        ({"metadata": {"user_id": "u"}, "thinking": {"type": "adaptive"}, "top_k": 5, "user": "x"}, ()),
    ],
    ids=str,
)
def test_what_has_no_priced_maximum_is_named(changes: dict[str, Any], named: tuple[str, ...]) -> None:
    """Under a cap or credits such a call is refused by this name."""
    assert decode(**changes).shape.unboundable == named


def test_images_are_counted_with_their_bytes() -> None:
    """Inline or by address, at the top or inside a tool's result."""
    inline = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "QUJD" * 50}}
    linked = {"type": "image", "source": {"type": "url", "url": "https://example.com/a.png"}}
    result = {"type": "tool_result", "tool_use_id": "t", "content": [inline, {"type": "text", "text": "x"}]}
    shape = decode(messages=blocks(inline, linked, result)).shape

    assert (shape.image_count, shape.image_bytes, shape.beyond_text) == (3, 400, ())


@pytest.mark.parametrize(
    ("changes", "writes"),
    [
        ({}, "none"),
        ({"cache_control": {"type": "ephemeral"}}, "5m"),
        ({"system": [{"type": "text", "text": "x", "cache_control": {"type": "ephemeral"}}]}, "5m"),
        ({"messages": blocks({"type": "text", "text": "x", "cache_control": {"ttl": "1h"}})}, "1h"),
    ],
    ids=["none", "top", "system", "message-1h"],
)
def test_cache_writes_are_seen_wherever_they_are_asked_for(changes: dict[str, Any], writes: str) -> None:
    """Their price is in the bound only then."""
    assert decode(**changes).shape.cache_writes == writes


# --- routes


def test_openrouters_own_fields_skip_direct_routes() -> None:
    """Anthropic refuses them; a label may still go over a translated route, which names it as left behind."""
    call = decode(provider={"sort": "price"}, models=["a/b"], user="u", session_id="s", route=None)

    assert set(call.router_fields) == {"provider", "models", "user", "session_id"}
    assert set(call.translatable_fields) == {"user", "session_id"}
    assert call.shape.fallback_models == ("a/b",)


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"container": "container_01"}, ("container",)),
        ({"container": {"id": "container_01"}}, ("container",)),
        ({"container": {"skills": []}}, ()),
        ({"thread": {"type": "continue", "id": "thr_1"}}, ("thread",)),
        ({"fallback_credit_token": "fct_1"}, ("fallback_credit_token",)),
        ({"messages": blocks({"type": "document", "source": {"type": "file", "file_id": "f"}})},
         ("messages[].content[].document",)),
        ({"messages": blocks({"type": "container_upload", "file_id": "f"})},
         ("messages[].content[].container_upload",)),
        ({"diagnostics": {"previous_message_id": "msg_1"}}, ()),
    ],
    ids=str,
)
def test_what_a_provider_has_stored_is_named(changes: dict[str, Any], named: tuple[str, ...]) -> None:
    """Such a call has one possible route, or is refused."""
    assert decode(**changes).stateful == named


# --- the bytes that pass through

ODD = (
    b'{ "messages":[{"role":"user","content":"caf\\u00e9 \xc3\xa9"}],\n\t"max_tokens" : 1e3 , "zzz":[1.0,1E2], '
    b'"model":"task:x","stream":true}'
)


def test_nothing_else_changes_in_a_body_that_passes_through() -> None:
    """Order, white space, number spelling and unknown fields stay; only the model is another."""
    body = ODD.replace(b"1e3", b"1000")
    call = AnthropicDialect().decode("messages", body)

    assert call.native_body(Edits("task:x")) == body
    assert call.native_body(Edits("claude-x", output_limit=1000)) == body.replace(b'"task:x"', b'"claude-x"')
    assert call.native_body(Edits("task:x", output_limit=20, include_usage=True)) == body.replace(b"1000", b"20")


def test_a_limit_is_only_lowered() -> None:
    """The caller's own limit stays where it is lower."""
    assert json.loads(decode().native_body(Edits("m", output_limit=500)))["max_tokens"] == 100
    assert json.loads(decode().native_body(Edits("m", output_limit=50)))["max_tokens"] == 50


def test_a_thinking_budget_stays_below_a_lowered_limit() -> None:
    """Anthropic refuses a budget that is not below `max_tokens`; where it cannot be, nothing is touched."""
    call = decode(max_tokens=9_000, thinking={"type": "enabled", "budget_tokens": 8_000})

    lowered = json.loads(call.native_body(Edits("m", output_limit=5_000)))
    assert (lowered["max_tokens"], lowered["thinking"]["budget_tokens"]) == (5_000, 4_999)
    assert json.loads(call.native_body(Edits("m", output_limit=8_500)))["thinking"]["budget_tokens"] == 8_000
    assert json.loads(call.native_body(Edits("m", output_limit=1_000)))["thinking"]["budget_tokens"] == 8_000


def test_prices_and_parameters_are_demanded_of_openrouter() -> None:
    """As in the chat dialect: the caller's own ceiling stays where it is lower."""
    call = decode(provider={"order": ["x"], "max_price": {"prompt": "0.5"}})
    edits = Edits("m", max_price={"prompt": "1", "completion": "2"}, require_parameters=True)

    assert json.loads(call.native_body(edits))["provider"] == {
        "order": ["x"], "max_price": {"prompt": "0.5", "completion": "2"}, "require_parameters": True,
    }
    assert "provider" not in json.loads(decode().native_body(Edits("m")))


@pytest.mark.parametrize(
    ("asked", "tier"),
    [
        ({}, None), ({"service_tier": "standard_only"}, "standard_only"), ({"speed": "fast"}, "fast"),
        ({"speed": "standard", "service_tier": "auto"}, "auto"), ({"inference_geo": "us"}, "us"),
        ({"inference_geo": "us", "speed": "fast"}, "us"),
    ],
)
def test_what_raises_every_tokens_price_decides_the_price(asked: dict[str, str], tier: str | None) -> None:
    """T26: a surcharge has its own price, or none at all; it is never billed at the usual one."""
    body = {"model": "claude-haiku-4-5", "max_tokens": 9, "messages": [{"role": "user", "content": "x"}], **asked}

    assert AnthropicDialect().decode("messages", json.dumps(body).encode()).shape.service_tier == tier


@pytest.mark.parametrize("field", ["speed", "inference_geo"])
def test_a_surcharge_of_the_wrong_type_is_refused(field: str) -> None:
    """Bad input is named."""
    body = {"model": "claude-haiku-4-5", "max_tokens": 9, "messages": [{"role": "user", "content": "x"}], field: {}}
    with pytest.raises(BadRequest, match=field):
        AnthropicDialect().decode("messages", json.dumps(body).encode())
