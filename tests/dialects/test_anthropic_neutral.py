"""A Messages body becomes a neutral conversation that means the same, and what has no neutral form keeps its name."""

import base64
import contextlib
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.providers.anthropic_google_wire import json_values

from ownkey.dialects.anthropic_messages import AnthropicDialect
from ownkey.domain.conversation import (
    ChatRequest,
    Document,
    Image,
    JsonFormat,
    Message,
    Text,
    Tool,
    ToolCall,
    ToolChoice,
    Untranslatable,
)
from ownkey.domain.wire import BadRequest
from ownkey.providers.anthropic.encode import encode_chat as to_anthropic
from ownkey.providers.google.encode import dropped_hints as google_hints
from ownkey.providers.google.encode import encode_chat as to_google
from ownkey.providers.openai_requests import dropped_hints as openai_hints
from ownkey.providers.openai_requests import encode_chat as to_openai

MARK = {"type": "ephemeral"}
TOOL = {"name": "find", "description": "finds", "input_schema": {"type": "object", "properties": {"q": {}}}}
ASKED = {"role": "user", "content": "hi"}
ELSEWHERE = pytest.mark.parametrize(
    ("encode", "model"), [(to_openai, "gpt-4.1-mini"), (to_google, "gemini-2.5-flash")], ids=["openai", "google"]
)
CALLED = {"role": "assistant", "content": [{"type": "tool_use", "id": "t1", "name": "find", "input": {"q": 1}}]}


def neutral(*messages: Any, **fields: Any) -> ChatRequest:
    body = {"model": "m", "max_tokens": 100, "messages": list(messages) or [ASKED], **fields}
    return AnthropicDialect().decode("messages", json.dumps(body).encode()).neutral_chat()


def user(*blocks: Any) -> dict[str, Any]:
    return {"role": "user", "content": list(blocks)}


def assistant(*blocks: Any) -> dict[str, Any]:
    return {"role": "assistant", "content": list(blocks)}


# --- parameters


def test_parameters_have_their_neutral_names() -> None:
    """Whatever has one."""
    request = neutral(
        stream=True, temperature=0.5, top_p=0.9, top_k=7, stop_sequences=["a", "b"], system="be brief",
        tools=[TOOL], tool_choice={"type": "any"},
    )

    assert request == ChatRequest(
        messages=(Message("system", (Text("be brief"),)), Message("user", (Text("hi"),))),
        stream=True, max_output_tokens=100, temperature=0.5, top_p=0.9, top_k=7, stop=("a", "b"),
        tools=(Tool("find", "finds", TOOL["input_schema"]),), tool_choice=ToolChoice("required"),  # type: ignore[arg-type]
    )


@pytest.mark.parametrize(
    ("choice", "expected", "parallel"),
    [
        ({"type": "auto"}, ToolChoice("auto"), None),
        ({"type": "any", "disable_parallel_tool_use": True}, ToolChoice("required"), False),
        ({"type": "auto", "disable_parallel_tool_use": False}, ToolChoice("auto"), None),
        ({"type": "none"}, ToolChoice("none"), None),
        ({"type": "tool", "name": "find", "disable_parallel_tool_use": True}, ToolChoice("named", "find"), False),
    ],
    ids=str,
)
def test_tool_choice_is_split(choice: Any, expected: ToolChoice, parallel: bool | None) -> None:
    """Anthropic says in one place what others say in two."""
    request = neutral(tools=[TOOL], tool_choice=choice)

    assert (request.tool_choice, request.parallel_tool_calls) == (expected, parallel)


@pytest.mark.parametrize(
    ("fields", "effort", "budget", "rest"),
    [
        ({}, None, None, {}),
        ({"thinking": {"type": "enabled", "budget_tokens": 2048}}, None, 2048, {}),
        ({"thinking": {"type": "enabled", "budget_tokens": 2048, "display": "summarized"}}, None, 2048, {}),
        ({"thinking": {"type": "disabled"}}, "none", None, {}),
        ({"thinking": {"type": "adaptive"}}, "high", None, {}),
        ({"thinking": {"type": "adaptive"}, "output_config": {"effort": "low"}}, "low", None, {}),
        ({"output_config": {"effort": "max"}}, "max", None, {}),
        ({"thinking": {"type": "disabled"}, "output_config": {"effort": "low"}}, "none", None,
         {"output_config.effort": "low"}),
        ({"thinking": {"type": "adaptive", "display": "omitted"}}, "high", None, {"thinking.display": "omitted"}),
        ({"thinking": {"type": "between_tools"}}, None, None, {"thinking.type": "between_tools"}),
        ({"output_config": {"task_budget": {"type": "tokens", "total": 5}}}, None, None,
         {"output_config.task_budget": {"type": "tokens", "total": 5}}),
    ],
    ids=str,
)
def test_thinking_is_an_effort_or_a_budget(
    fields: dict[str, Any], effort: str | None, budget: int | None, rest: dict[str, Any]
) -> None:
    """What is asked for beside them keeps its name."""
    request = neutral(**fields)

    assert (request.reasoning_effort, request.reasoning_max_tokens, request.rest) == (effort, budget, rest)


@pytest.mark.parametrize("where", ["output_format", "output_config"])
def test_a_schema_is_read_by_either_name_and_enforced(where: str) -> None:
    """Anthropic enforces every schema, so no other provider may take it as a suggestion."""
    schema = {"type": "object", "properties": {}, "additionalProperties": False}
    wanted = {"type": "json_schema", "schema": schema}
    request = neutral(**({where: wanted} if where == "output_format" else {where: {"format": wanted}}))

    assert request.json_format == JsonFormat(schema, strict=True)
    assert json.loads(to_openai("gpt-4.1-mini", request, 9))["response_format"]["json_schema"] == {
        "name": "answer", "schema": schema, "strict": True,
    }


def test_the_users_id_is_what_others_call_a_safety_identifier() -> None:
    """At most as long as OpenAI takes one; a longer one stays stable and opaque."""
    long = "user_" + "x" * 200

    assert neutral(metadata={"user_id": "u1", "more": 1}).rest == {"safety_identifier": "u1", "metadata": {"more": 1}}
    digest = neutral(metadata={"user_id": long}).rest["safety_identifier"]
    assert len(digest) == 64
    assert neutral(metadata={"user_id": long}).rest["safety_identifier"] == digest
    assert google_hints(neutral(metadata={"user_id": "u1"})) == ("safety_identifier",)


@pytest.mark.parametrize(("tier", "sent"), [("auto", "auto"), ("standard_only", "default")])
def test_the_service_tier_is_translated(tier: str, sent: str) -> None:
    """The neutral form has OpenAI's words, which the encoders know."""
    assert json.loads(to_openai("gpt-4.1-mini", neutral(service_tier=tier), 9))["service_tier"] == sent


def test_a_mark_on_the_request_is_one_on_its_last_block() -> None:
    """That is what it means at Anthropic; a block's own mark stands."""
    own = {"type": "ephemeral", "ttl": "1h"}

    assert neutral(cache_control=MARK).messages[-1].parts == (Text("hi", MARK),)
    marked = neutral(user({"type": "text", "text": "hi", "cache_control": own}), cache_control=MARK)
    assert marked.messages[-1].parts == (Text("hi", own),)
    assert neutral(ASKED, CALLED, cache_control=MARK).rest == {"cache_control": MARK}


# --- what has no neutral form

UNCARRIED = [
    ({"container": "c"}, "container"),
    ({"mcp_servers": [{"type": "url"}]}, "mcp_servers"),
    ({"context_management": {"edits": []}}, "context_management"),
    ({"inference_geo": "us"}, "inference_geo"),
    ({"speed": "fast"}, "speed"),
    ({"thinking": {"type": "between_tools"}}, "thinking.type"),
    ({"output_config": {"format": {"type": "grammar"}}}, "output_config.format"),
    ({"tools": [{"type": "bash_20250124", "name": "bash"}]}, "tools"),
    ({"tools": [{**TOOL, "defer_loading": True}]}, "tools[].defer_loading"),
    ({"tools": [{**TOOL, "input_examples": [{"q": 1}]}]}, "tools[].input_examples"),
    ({"tools": [{**TOOL, "allowed_callers": ["code_execution_20250825"]}]}, "tools[].allowed_callers"),
    ({"messages": [user({"type": "search_result", "source": "s", "title": "t", "content": []})]},
     "messages[].content[].search_result"),
    ({"messages": [user({"type": "container_upload", "file_id": "f"})]}, "messages[].content[].container_upload"),
    ({"messages": [user({"type": "image", "source": {"type": "file", "file_id": "f"}})]},
     "messages[].content[].image.source.file"),
    ({"messages": [user({"type": "document", "source": {"type": "url", "url": "https://x"}})]},
     "messages[].content[].document.source.url"),
    ({"messages": [user({"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": "x"},
                         "citations": {"enabled": True}})]}, "messages[].content[].document.citations"),
    ({"messages": [ASKED, assistant({"type": "server_tool_use", "id": "s", "name": "web_search", "input": {}})]},
     "messages[].content[].server_tool_use"),
    ({"messages": [ASKED, {"role": "system", "content": "x", "clear_at": "next_user_message"}]},
     "messages[].clear_at"),
    ({"max_tokens": 0}, "max_tokens"),
    ({"brand_new": 1}, "brand_new"),
]


@pytest.mark.parametrize(("fields", "name"), UNCARRIED, ids=[name for _, name in UNCARRIED])
@ELSEWHERE
def test_what_cannot_be_carried_is_refused_by_the_callers_name(
    fields: dict[str, Any], name: str, encode: Any, model: str
) -> None:
    """No route takes it, and the refusal says what."""
    body = {"model": "m", "max_tokens": 9, "messages": [ASKED], **fields}
    request = AnthropicDialect().decode("messages", json.dumps(body).encode()).neutral_chat()

    with pytest.raises(Untranslatable) as refused:
        encode(model, request, 9)
    assert refused.value.what == name


@pytest.mark.parametrize(
    "fields",
    [
        {"tools": [{**TOOL, "defer_loading": False, "allowed_callers": ["direct"], "eager_input_streaming": True,
                    "input_examples": [], "type": "custom"}]},
        {"context_management": None, "container": None},
        {"messages": [ASKED, assistant({"type": "tool_use", "id": "t", "name": "find", "input": {},
                                        "caller": {"type": "direct"}}),
                      user({"type": "tool_result", "tool_use_id": "t", "content": "x"})], "tools": [TOOL]},
    ],
    ids=["tool", "null", "caller"],
)
@ELSEWHERE
def test_what_asks_for_nothing_is_no_obstacle(fields: dict[str, Any], encode: Any, model: str) -> None:
    """Defaults that an SDK writes out must not cost a route."""
    body = {"model": "m", "max_tokens": 9, "messages": [ASKED], **fields}
    request = AnthropicDialect().decode("messages", json.dumps(body).encode()).neutral_chat()

    assert json.loads(encode(model, request, 9))


def test_hints_are_named_not_refused() -> None:
    """Diagnostics of the cache, cache marks and citations change no answer."""
    cited = {"type": "text", "text": "x", "citations": [
        {"type": "char_location", "cited_text": "y", "document_index": 0, "start_char_index": 0, "end_char_index": 1}]}
    called = assistant(cited, {**CALLED["content"][0], "cache_control": MARK})  # type: ignore[dict-item]
    request = neutral(
        ASKED, called, user({"type": "tool_result", "tool_use_id": "t1", "content": "z"}), tools=[TOOL],
        diagnostics={"previous_message_id": "msg_1"},
    )
    hints = {"diagnostics", "messages[].content[].citations", "cache_control"}

    assert set(google_hints(request)) == hints
    assert set(openai_hints(request)) == hints
    assert json.loads(to_openai("gpt-4.1-mini", request, 9))


# --- the conversation


def test_blocks_become_parts() -> None:
    """Text, images and documents, with their cache marks."""
    pdf = {"type": "base64", "media_type": "application/pdf", "data": "QUJD"}
    request = neutral(user(
        {"type": "text", "text": "a", "cache_control": MARK},
        {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "QUJD"}},
        {"type": "image", "source": {"type": "url", "url": "https://x/y.png"}, "cache_control": MARK},
        {"type": "document", "source": pdf, "title": "t", "citations": {"enabled": False}},
        {"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": "héllo"}},
    ))

    assert request.rest == {}
    assert request.messages[0].parts == (
        Text("a", MARK),
        Image("image/png", "QUJD"),
        Image(url="https://x/y.png", cache_control=MARK),
        Document("application/pdf", "QUJD", "t"),
        Document("text/plain", base64.b64encode("héllo".encode()).decode()),
    )


def test_tool_results_are_messages_of_their_own() -> None:
    """In their place among what the user says, with their failure and their images."""
    image = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "QUJD"}}
    request = neutral(ASKED, CALLED, user(
        {"type": "tool_result", "tool_use_id": "t1", "content": [{"type": "text", "text": "r"}, image],
         "cache_control": MARK},
        {"type": "tool_result", "tool_use_id": "t2", "content": "broke", "is_error": True},
        {"type": "tool_result", "tool_use_id": "t3"},
        {"type": "text", "text": "go on"},
    ))

    assert request.messages[1] == Message("assistant", tool_calls=(ToolCall("t1", "find", '{"q":1}'),))
    assert request.messages[2:] == (
        Message("tool", (Text("r"), Image("image/png", "QUJD", cache_control=MARK)), tool_call_id="t1"),
        Message("tool", (Text("broke"),), tool_call_id="t2", is_error=True),
        Message("tool", (), tool_call_id="t3"),
        Message("user", (Text("go on"),)),
    )


def test_a_failed_tool_is_told_to_every_provider() -> None:
    """Gemini has a field for it; OpenAI reads it in the text."""
    request = neutral(
        ASKED, CALLED, user({"type": "tool_result", "tool_use_id": "t1", "content": "broke", "is_error": True}),
        tools=[TOOL],
    )
    google = json.loads(to_google("gemini-2.5-flash", request, 9))["contents"][-1]["parts"][0]["functionResponse"]
    openai = json.loads(to_openai("gpt-4.1-mini", request, 9))["messages"][-1]
    anthropic = json.loads(to_anthropic("claude-haiku-4-5", request, 9))["messages"][-1]["content"][0]

    assert google["response"] == {"error": "broke"}
    assert "tool error" in json.dumps(openai)
    assert "broke" in json.dumps(openai)
    assert anthropic["is_error"] is True


def test_a_later_system_message_stays_in_its_place() -> None:
    """Some models take instructions in the middle of a conversation."""
    request = neutral(ASKED, {"role": "system", "content": [{"type": "text", "text": "now in French"}]})

    assert request.messages[1] == Message("system", (Text("now in French"),))


@pytest.mark.parametrize(
    ("messages", "param"),
    [
        ([{"role": "tool", "content": "x"}], "messages[0].role"),
        ([{"role": "user"}], "messages[0].content"),
        ([{"role": "user", "content": 3}], "messages[0].content"),
        ([{"role": "user", "content": ["x"]}], "messages[0].content[0]"),
        ([user({"text": "x"})], "messages[0].content[0].type"),
        ([user({"type": "text"})], "messages[0].content[0].text"),
        ([user({"type": "image"})], "messages[0].content[0].source"),
        ([user({"type": "image", "source": {"type": "base64"}})], "messages[0].content[0].source.media_type"),
        ([user({"type": "tool_result"})], "messages[0].content[0].tool_use_id"),
        ([user({"type": "tool_result", "tool_use_id": "t", "content": 3})], "messages[0].content[0].content"),
        ([user({"type": "tool_result", "tool_use_id": "t", "is_error": 1})], "messages[0].content[0].is_error"),
        ([user({"type": "text", "text": "x", "cache_control": "yes"})], "messages[0].content[0].cache_control"),
        ([assistant({"type": "tool_use", "id": "t", "name": "n"})], "messages[0].content[0].input"),
        ([assistant({"type": "tool_use", "name": "n", "input": {}})], "messages[0].content[0].id"),
        ([assistant({"type": "thinking", "thinking": 3})], "messages[0].content[0].thinking"),
    ],
    ids=str,
)
def test_a_conversation_that_cannot_be_read_is_refused_by_place(messages: Any, param: str) -> None:
    """The place is named as the caller wrote it."""
    with pytest.raises(BadRequest) as refused:
        neutral(*messages)
    assert refused.value.param == param


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"temperature": "hot"}, "temperature"),
        ({"top_k": 1.5}, "top_k"),
        ({"stop_sequences": "x"}, "stop_sequences"),
        ({"tools": [{"name": "x"}]}, "tools[0].input_schema"),
        ({"tools": [{"input_schema": {}}]}, "tools[0].name"),
        ({"tool_choice": {"type": "tool"}}, "tool_choice.name"),
        ({"tool_choice": {"type": "some"}}, "tool_choice.type"),
        ({"thinking": {"type": "enabled"}}, "thinking.budget_tokens"),
        ({"thinking": {"budget_tokens": 3}}, "thinking.type"),
        ({"output_config": {"effort": 3}}, "output_config.effort"),
        ({"output_format": {"type": "json_schema"}}, "output_format.schema"),
        ({"output_format": {"type": "json_schema", "schema": {}},
          "output_config": {"format": {"type": "json_schema", "schema": {}}}}, "output_format"),
        ({"system": [{"type": "image"}]}, "system[0]"),
        ({"system": ["x"]}, "system[0]"),
    ],
    ids=str,
)
def test_parameters_that_cannot_be_read_are_refused_by_name(fields: dict[str, Any], param: str) -> None:
    """The same for parameters."""
    with pytest.raises(BadRequest) as refused:
        neutral(**fields)
    assert refused.value.param == param


@settings(deadline=None)
@given(st.dictionaries(st.text(max_size=12), json_values(st.integers(-10, 10)), max_size=4), json_values(st.integers()))
def test_whatever_a_body_holds_it_is_read_or_refused(fields: dict[str, Any], content: Any) -> None:
    """Never an exception that would become a 500."""
    body = {**fields, "model": "m", "max_tokens": 5, "messages": [{"role": "user", "content": content}]}
    for name in ("tools", "system", "thinking", "metadata", "output_config", "context_management"):
        if name not in body:
            body[name] = content
    with contextlib.suppress(BadRequest):
        AnthropicDialect().decode("messages", json.dumps(body).encode()).neutral_chat()


# --- back to Anthropic

blocks_of_users = st.one_of(
    st.builds(lambda text: {"type": "text", "text": text}, st.text(min_size=1, max_size=9).filter(str.strip)),
    st.just({"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "QUJD"}}),
    st.just({"type": "image", "source": {"type": "url", "url": "https://x/y.png"}}),
    st.just({"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": "d"}, "title": "t"}),
    st.just({"type": "text", "text": "cached", "cache_control": {"type": "ephemeral", "ttl": "1h"}}),
)
thoughts = st.one_of(
    st.builds(lambda n: {"type": "thinking", "thinking": f"hm {n}", "signature": f"s{n}"}, st.integers(0, 9)),
    st.builds(lambda n: {"type": "redacted_thinking", "data": f"d{n}"}, st.integers(0, 9)),
)


@st.composite
def conversations(draw: st.DrawFn) -> list[Any]:
    messages: list[Any] = []
    for turn in range(draw(st.integers(1, 3))):
        messages.append(user(*draw(st.lists(blocks_of_users, min_size=1, max_size=3))))
        calls = [
            {"type": "tool_use", "id": f"t{turn}_{n}", "name": "find", "input": draw(
                st.dictionaries(st.text(max_size=4), json_values(st.integers(-5, 5)), max_size=2))}
            for n in range(draw(st.integers(0, 2)))
        ]
        said = [{"type": "text", "text": "so"}] if not calls or draw(st.booleans()) else []
        messages.append(assistant(*draw(st.lists(thoughts, max_size=2)), *said, *calls))
        if calls:
            messages.append(user(*(
                {"type": "tool_result", "tool_use_id": call["id"], "content": [{"type": "text", "text": "r"}],
                 **({"is_error": True} if draw(st.booleans()) else {})}
                for call in calls
            )))
            messages.append(assistant({"type": "text", "text": "done"}))
    return [*messages, user({"type": "text", "text": "go"})]


@settings(deadline=None)
@given(conversations(), st.booleans())
def test_what_is_read_and_written_for_anthropic_means_the_same(messages: list[Any], streamed: bool) -> None:
    """The neutral form loses nothing that both sides know."""
    system, tools = [{"type": "text", "text": "s", "cache_control": MARK}], [{**TOOL, "cache_control": MARK}]
    request = neutral(
        *messages, system=system, tools=tools,
        tool_choice={"type": "auto", "disable_parallel_tool_use": True}, stop_sequences=["x"], stream=streamed,
    )
    written = json.loads(to_anthropic("claude-haiku-4-5", request, 100))

    assert written.pop("stream", False) is streamed
    assert written == {
        "model": "claude-haiku-4-5", "max_tokens": 100, "messages": messages, "stop_sequences": ["x"],
        "system": system, "tools": tools,
        "tool_choice": {"type": "auto", "disable_parallel_tool_use": True},
    }
