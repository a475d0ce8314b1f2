"""The four official SDKs take the emulator for the real thing."""

import base64
import json
import math
import struct
from typing import Any

import anthropic
import openai
import pytest
from emulator_wire import KEYS
from google import genai
from google.genai import types as google_types
from openrouter import OpenRouter
from pydantic import BaseModel

from emulator_process import EmulatorHandle

WEATHER = {
    "type": "object",
    "properties": {"city": {"type": "string"}, "unit": {"type": "string", "enum": ["celsius", "fahrenheit"]}},
    "required": ["city", "unit"],
    "additionalProperties": False,
}


class Ticket(BaseModel):
    topic: str
    urgency: int
    tags: list[str]


def openai_client(emulator: EmulatorHandle, provider: str = "openai") -> openai.OpenAI:
    return openai.OpenAI(api_key=KEYS[provider], base_url=emulator.base(provider), max_retries=0)


def anthropic_client(emulator: EmulatorHandle) -> anthropic.Anthropic:
    return anthropic.Anthropic(api_key=KEYS["anthropic"], base_url=f"{emulator.url}/anthropic", max_retries=0)


def google_client(emulator: EmulatorHandle, version: str | None = None) -> genai.Client:
    options = google_types.HttpOptions(base_url=f"{emulator.url}/google", api_version=version)
    return genai.Client(api_key=KEYS["google"], http_options=options)


def router_client(emulator: EmulatorHandle) -> OpenRouter:
    return OpenRouter(api_key=KEYS["openrouter"], server_url=emulator.base("openrouter"), retry_config=None)


def openai_tool(name: str = "get_weather") -> Any:
    return {"type": "function", "function": {"name": name, "description": "Weather", "parameters": WEATHER}}


class TestOpenAI:
    def test_whole_answer(self, emulator: EmulatorHandle) -> None:
        """A whole chat answer has text, a finish and usage that adds up."""
        answer = openai_client(emulator).chat.completions.create(
            model="gpt-4.1-mini", messages=[{"role": "user", "content": "hi"}]
        )

        assert answer.choices[0].message.content
        assert answer.choices[0].finish_reason == "stop"
        assert answer.usage is not None
        assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens
        assert answer._request_id is not None
        assert answer._request_id.startswith("req_")

    def test_stream_says_what_the_whole_answer_says(self, emulator: EmulatorHandle) -> None:
        """The same prompt gives the same text and usage, streamed or not."""
        client = openai_client(emulator)
        prompt: Any = [{"role": "user", "content": "tell me something"}]
        whole = client.chat.completions.create(model="gpt-4.1-mini", messages=prompt)
        chunks = list(
            client.chat.completions.create(
                model="gpt-4.1-mini", messages=prompt, stream=True, stream_options={"include_usage": True}
            )
        )

        assert (
            "".join(c.choices[0].delta.content or "" for c in chunks if c.choices) == whole.choices[0].message.content
        )
        assert chunks[-1].choices == []
        assert chunks[-1].usage == whole.usage

    def test_usage_is_not_streamed_unasked(self, emulator: EmulatorHandle) -> None:
        """Without include_usage no chunk has usage."""
        stream = openai_client(emulator).chat.completions.create(
            model="gpt-4.1-mini", messages=[{"role": "user", "content": "hi"}], stream=True
        )

        assert all(chunk.usage is None and chunk.choices for chunk in stream)

    def test_tools_whole_and_streamed(self, emulator: EmulatorHandle) -> None:
        """Parallel calls arrive with valid arguments, and the same in fragments."""
        client = openai_client(emulator)
        prompt: Any = [{"role": "user", "content": "use get_weather and get_time in parallel"}]
        tools = [openai_tool(), openai_tool("get_time")]
        whole = client.chat.completions.create(model="gpt-4.1-mini", messages=prompt, tools=tools)
        fragments: dict[int, dict[str, str]] = {}
        finish = None
        for chunk in client.chat.completions.create(model="gpt-4.1-mini", messages=prompt, tools=tools, stream=True):
            for call in chunk.choices[0].delta.tool_calls or []:
                entry = fragments.setdefault(call.index, {"name": "", "arguments": ""})
                assert call.function is not None
                entry["name"] += call.function.name or ""
                entry["arguments"] += call.function.arguments or ""
            finish = chunk.choices[0].finish_reason or finish
        calls = whole.choices[0].message.tool_calls or []

        assert [call.function.name for call in calls] == ["get_weather", "get_time"]  # type: ignore[union-attr]
        assert [call.function.arguments for call in calls] == [  # type: ignore[union-attr]
            entry["arguments"] for entry in fragments.values()
        ]
        assert json.loads(fragments[0]["arguments"])["unit"] in {"celsius", "fahrenheit"}
        assert finish == "tool_calls"

    def test_structured_output(self, emulator: EmulatorHandle) -> None:
        """`parse` gets an instance of the wanted class."""
        answer = openai_client(emulator).chat.completions.parse(
            model="gpt-4.1-mini", messages=[{"role": "user", "content": "a ticket"}], response_format=Ticket
        )

        assert isinstance(answer.choices[0].message.parsed, Ticket)

    def test_refusal_and_filter(self, emulator: EmulatorHandle) -> None:
        """A refusal is a refusal, a filtered answer has its own finish."""
        client = openai_client(emulator)
        refused = client.chat.completions.create(
            model="gpt-4.1-mini", messages=[{"role": "user", "content": "[emulator refuse=refusal] hi"}]
        )
        filtered = client.chat.completions.create(
            model="gpt-4.1-mini", messages=[{"role": "user", "content": "[emulator refuse=content_filter] hi"}]
        )

        assert refused.choices[0].message.refusal
        assert refused.choices[0].message.content is None
        assert filtered.choices[0].finish_reason == "content_filter"

    def test_reasoning_is_hidden_but_counted(self, emulator: EmulatorHandle) -> None:
        """gpt-5 reports reasoning tokens inside its output; minimal effort has none."""
        client = openai_client(emulator)
        prompt: Any = [{"role": "user", "content": "think"}]
        thought = client.chat.completions.create(model="gpt-5-mini", messages=prompt)
        quick = client.chat.completions.create(model="gpt-5-mini", messages=prompt, reasoning_effort="minimal")

        assert thought.usage is not None
        assert thought.usage.completion_tokens_details is not None
        assert 0 < (thought.usage.completion_tokens_details.reasoning_tokens or 0) < thought.usage.completion_tokens
        assert quick.usage is not None
        assert quick.usage.completion_tokens_details is not None
        assert quick.usage.completion_tokens_details.reasoning_tokens == 0

    def test_embeddings_in_both_encodings(self, emulator: EmulatorHandle) -> None:
        """Floats and base64 hold the same unit vector, of the wanted length."""
        client = openai_client(emulator)
        floats = client.embeddings.create(
            model="text-embedding-3-small", input=["a cat", "a dog"], dimensions=64, encoding_format="float"
        )
        packed = client.embeddings.create(
            model="text-embedding-3-small", input=["a cat", "a dog"], dimensions=64, encoding_format="base64"
        )
        raw: Any = packed.data[1].embedding
        unpacked = struct.unpack("<64f", base64.b64decode(raw))

        assert len(floats.data[0].embedding) == 64
        assert math.isclose(math.fsum(x * x for x in floats.data[0].embedding), 1, abs_tol=1e-6)
        assert unpacked == pytest.approx(floats.data[1].embedding, abs=1e-7)

    def test_embeddings_of_tokens(self, emulator: EmulatorHandle) -> None:
        """Token arrays are counted as they are."""
        answer = openai_client(emulator).embeddings.create(model="text-embedding-3-large", input=[[1, 2, 3], [4]])

        assert [len(item.embedding) for item in answer.data] == [3072, 3072]
        assert answer.usage.prompt_tokens == 4

    def test_models(self, emulator: EmulatorHandle) -> None:
        """The list and one model of it."""
        client = openai_client(emulator)

        assert "gpt-4.1-mini" in [model.id for model in client.models.list()]
        assert client.models.retrieve("gpt-5").id == "gpt-5"

    def test_several_choices(self, emulator: EmulatorHandle) -> None:
        """`n` gives as many different answers, in a stream too."""
        client = openai_client(emulator)
        prompt: Any = [{"role": "user", "content": "many"}]
        whole = client.chat.completions.create(model="gpt-4.1-mini", messages=prompt, n=3)
        streamed = dict.fromkeys(range(3), "")
        for chunk in client.chat.completions.create(model="gpt-4.1-mini", messages=prompt, n=3, stream=True):
            for choice in chunk.choices:
                streamed[choice.index] += choice.delta.content or ""

        assert [choice.message.content for choice in whole.choices] == list(streamed.values())
        assert len(set(streamed.values())) == 3

    @pytest.mark.parametrize("provider", ["openai", "openrouter"])
    def test_responses(self, emulator: EmulatorHandle, provider: str) -> None:
        """The Responses API answers whole and streamed, with text, a tool call and a parsed object."""
        client = openai_client(emulator, provider)
        model = "gpt-4.1-mini" if provider == "openai" else "openai/gpt-4.1-mini"
        whole = client.responses.create(model=model, input="hi")
        events = list(client.responses.create(model=model, input="hi", stream=True))
        called = client.responses.create(
            model=model,
            input="get_weather",
            tools=[{"type": "function", "name": "get_weather", "parameters": WEATHER, "strict": True}],
        )
        parsed = client.responses.parse(model=model, input="a ticket", text_format=Ticket)

        assert whole.output_text
        assert "".join(e.delta for e in events if e.type == "response.output_text.delta") == whole.output_text
        assert events[-1].type == "response.completed"
        assert whole.usage is not None
        assert events[-1].response.usage == whole.usage
        assert [item.type for item in called.output] == ["function_call"]
        assert isinstance(parsed.output_parsed, Ticket)

    def test_responses_cut_by_the_limit(self, emulator: EmulatorHandle) -> None:
        """A response that reaches its limit is incomplete and says why."""
        client = openai_client(emulator)
        events = list(
            client.responses.create(
                model="gpt-4.1-mini", input="[emulator output_tokens=99]", max_output_tokens=16, stream=True
            )
        )

        assert events[-1].type == "response.incomplete"
        assert events[-1].response.incomplete_details is not None
        assert events[-1].response.incomplete_details.reason == "max_output_tokens"
        assert events[-1].response.usage is not None
        assert events[-1].response.usage.output_tokens == 16


class TestAnthropic:
    def test_whole_and_streamed(self, emulator: EmulatorHandle) -> None:
        """The stream accumulates to the whole message, usage included."""
        client = anthropic_client(emulator)
        prompt: Any = {"model": "claude-haiku-4-5", "max_tokens": 300, "messages": [{"role": "user", "content": "hi"}]}
        whole = client.messages.create(**prompt)
        with client.messages.stream(**prompt) as stream:
            final = stream.get_final_message()

        assert whole.stop_reason == "end_turn"
        assert whole.model == "claude-haiku-4-5-20251001"
        assert [block.to_dict() for block in final.content] == [block.to_dict() for block in whole.content]
        assert (final.usage.input_tokens, final.usage.output_tokens) == (
            whole.usage.input_tokens,
            whole.usage.output_tokens,
        )
        assert whole._request_id is not None

    def test_thinking_is_signed(self, emulator: EmulatorHandle) -> None:
        """Thinking comes first and carries a signature, in a stream too."""
        client = anthropic_client(emulator)
        prompt: Any = {
            "model": "claude-sonnet-4-5",
            "max_tokens": 2000,
            "thinking": {"type": "enabled", "budget_tokens": 1024},
            "messages": [{"role": "user", "content": "think"}],
        }
        whole = client.messages.create(**prompt)
        with client.messages.stream(**prompt) as stream:
            final = stream.get_final_message()

        assert [block.type for block in whole.content] == ["thinking", "text"]
        assert whole.content[0].type == "thinking"
        assert whole.content[0].signature
        assert [block.to_dict() for block in final.content] == [block.to_dict() for block in whole.content]

    def test_tools(self, emulator: EmulatorHandle) -> None:
        """A forced tool is called with an input that fits; a result ends the calling."""
        client = anthropic_client(emulator)
        tools: Any = [{"name": "get_weather", "description": "Weather", "input_schema": WEATHER}]
        prompt: Any = [{"role": "user", "content": "what now"}]
        called = client.messages.create(
            model="claude-haiku-4-5", max_tokens=300, messages=prompt, tools=tools, tool_choice={"type": "any"}
        )
        block = called.content[0]
        assert block.type == "tool_use"
        with client.messages.stream(
            model="claude-haiku-4-5", max_tokens=300, messages=prompt, tools=tools, tool_choice={"type": "any"}
        ) as stream:
            streamed = stream.get_final_message().content[0]
        result: Any = {"type": "tool_result", "tool_use_id": block.id, "content": "12 degrees"}
        after = client.messages.create(
            model="claude-haiku-4-5",
            max_tokens=300,
            tools=tools,
            messages=[
                *prompt,
                {"role": "assistant", "content": [block.to_dict()]},  # type: ignore[typeddict-item]
                {"role": "user", "content": [result]},
            ],
        )

        assert called.stop_reason == "tool_use"
        assert set(block.input) == {"city", "unit"}  # type: ignore[call-overload]
        assert streamed.to_dict() == block.to_dict()
        assert after.stop_reason == "end_turn"

    def test_structured_output_and_refusal(self, emulator: EmulatorHandle) -> None:
        """An output schema is obeyed; a refusal has its stop reason."""
        client = anthropic_client(emulator)
        form: Any = {"format": {"type": "json_schema", "schema": Ticket.model_json_schema()}}
        answer = client.messages.create(
            model="claude-haiku-4-5",
            max_tokens=500,
            messages=[{"role": "user", "content": "a ticket"}],
            output_config=form,
        )
        refused = client.messages.create(
            model="claude-haiku-4-5",
            max_tokens=500,
            messages=[{"role": "user", "content": "[emulator refuse=refusal]"}],
        )

        assert answer.content[0].type == "text"
        assert Ticket.model_validate_json(answer.content[0].text)
        assert refused.stop_reason == "refusal"

    def test_prompt_cache(self, emulator: EmulatorHandle) -> None:
        """The first call writes the marked prefix, the second reads it; an hour's cache is told apart."""
        client = anthropic_client(emulator)

        def call(ttl: str) -> Any:
            mark: Any = {"type": "ephemeral", "ttl": ttl}
            return client.messages.create(
                model="claude-haiku-4-5",
                max_tokens=50,
                system=[{"type": "text", "text": f"{ttl} rules " * 50, "cache_control": mark}],
                messages=[{"role": "user", "content": "hi"}],
            ).usage

        first, second, hour = call("5m"), call("5m"), call("1h")

        assert first.cache_creation_input_tokens
        assert first.cache_read_input_tokens == 0
        assert second.cache_read_input_tokens == first.cache_creation_input_tokens
        assert second.cache_creation_input_tokens == 0
        assert hour.cache_creation is not None
        assert hour.cache_creation.ephemeral_1h_input_tokens == hour.cache_creation_input_tokens
        assert hour.cache_creation.ephemeral_5m_input_tokens == 0

    def test_counting_and_models(self, emulator: EmulatorHandle) -> None:
        """count_tokens agrees with what the message is then billed; models are listed under dated ids."""
        client = anthropic_client(emulator)
        prompt: Any = [{"role": "user", "content": "count me please"}]
        counted = client.messages.count_tokens(model="claude-haiku-4-5", messages=prompt)
        sent = client.messages.create(model="claude-haiku-4-5", max_tokens=10, messages=prompt)

        assert counted.input_tokens == sent.usage.input_tokens
        assert "claude-haiku-4-5-20251001" in [model.id for model in client.models.list()]


class TestGoogle:
    @pytest.mark.parametrize("version", [None, "v1", "v1beta"])
    def test_whole_and_streamed(self, emulator: EmulatorHandle, version: str | None) -> None:
        """Both API versions answer; the last chunk of a stream has the whole answer's usage."""
        client = google_client(emulator, version)
        whole = client.models.generate_content(model="gemini-2.5-flash", contents="hi")
        chunks = list(client.models.generate_content_stream(model="gemini-2.5-flash", contents="hi"))

        assert whole.text
        assert "".join(chunk.text or "" for chunk in chunks) == whole.text
        assert chunks[-1].usage_metadata == whole.usage_metadata
        assert whole.usage_metadata is not None
        assert whole.usage_metadata.thoughts_token_count
        assert all(chunk.usage_metadata is not None for chunk in chunks)

    def test_thoughts_are_shown_when_asked(self, emulator: EmulatorHandle) -> None:
        """includeThoughts shows a thought part; a budget of 0 switches thinking off."""
        client = google_client(emulator)
        shown = client.models.generate_content(
            model="gemini-2.5-flash",
            contents="think",
            config=google_types.GenerateContentConfig(
                thinking_config=google_types.ThinkingConfig(include_thoughts=True)
            ),
        )
        off = client.models.generate_content(
            model="gemini-2.5-flash",
            contents="think",
            config=google_types.GenerateContentConfig(thinking_config=google_types.ThinkingConfig(thinking_budget=0)),
        )

        assert shown.candidates is not None
        assert shown.candidates[0].content is not None
        assert shown.candidates[0].content.parts is not None
        assert [bool(part.thought) for part in shown.candidates[0].content.parts] == [True, False]
        assert off.usage_metadata is not None
        assert not off.usage_metadata.thoughts_token_count

    def test_function_calls_are_signed(self, emulator: EmulatorHandle) -> None:
        """Calls have arguments that fit; of parallel calls the first carries the thought's signature."""
        declared = [
            google_types.FunctionDeclaration(name=name, parameters_json_schema=WEATHER)
            for name in ("get_weather", "get_time")
        ]
        config = google_types.GenerateContentConfig(tools=[google_types.Tool(function_declarations=declared)])
        client = google_client(emulator)
        answer = client.models.generate_content(
            model="gemini-2.5-flash", contents="get_weather and get_time in parallel", config=config
        )

        assert answer.function_calls is not None
        assert [call.name for call in answer.function_calls] == ["get_weather", "get_time"]
        assert answer.candidates is not None
        assert answer.candidates[0].content is not None
        assert answer.candidates[0].content.parts is not None
        assert [bool(part.thought_signature) for part in answer.candidates[0].content.parts] == [True, False]

    def test_structured_output(self, emulator: EmulatorHandle) -> None:
        """A response schema in Google's dialect is obeyed."""
        config = google_types.GenerateContentConfig(response_mime_type="application/json", response_schema=Ticket)
        client = google_client(emulator)
        answer = client.models.generate_content(model="gemini-2.5-flash", contents="a ticket", config=config)

        assert isinstance(answer.parsed, Ticket)

    def test_refusals(self, emulator: EmulatorHandle) -> None:
        """A blocked prompt has no candidate; a filtered answer has a finish reason and no text."""
        client = google_client(emulator)
        blocked = client.models.generate_content(model="gemini-2.5-flash", contents="[emulator refuse=blocked]")
        filtered = client.models.generate_content(model="gemini-2.5-flash", contents="[emulator refuse=content_filter]")

        assert not blocked.candidates
        assert blocked.prompt_feedback is not None
        assert blocked.prompt_feedback.block_reason
        assert filtered.candidates is not None
        assert filtered.candidates[0].finish_reason == google_types.FinishReason.SAFETY

    def test_embeddings_models_and_counting(self, emulator: EmulatorHandle) -> None:
        """Embeddings of the wanted size, the model list, and a token count equal to the usage."""
        client = google_client(emulator)
        answer = client.models.embed_content(
            model="gemini-embedding-001",
            contents=["a cat", "a dog"],
            config=google_types.EmbedContentConfig(output_dimensionality=32),
        )
        counted = client.models.count_tokens(model="gemini-2.5-flash", contents="count me")
        sent = client.models.generate_content(model="gemini-2.5-flash", contents="count me")

        assert answer.embeddings is not None
        assert [len(item.values or []) for item in answer.embeddings] == [32, 32]
        assert "models/gemini-2.5-flash" in [model.name for model in client.models.list()]
        assert sent.usage_metadata is not None
        assert counted.total_tokens == sent.usage_metadata.prompt_token_count


class TestOpenRouter:
    def test_whole_and_streamed(self, emulator: EmulatorHandle) -> None:
        """Text, usage and cost, whole and streamed; the generation is found afterwards with the same cost."""
        client = router_client(emulator)
        prompt: Any = [{"role": "user", "content": "hi"}]
        whole: Any = client.chat.send(model="openai/gpt-4.1-mini", messages=prompt)
        chunks: list[Any] = list(client.chat.send(model="openai/gpt-4.1-mini", messages=prompt, stream=True))  # type: ignore[arg-type]
        found = client.generations.get_generation(id=whole.id)

        assert whole.choices[0].message.content
        assert (
            "".join(c.choices[0].delta.content or "" for c in chunks if c.choices) == whole.choices[0].message.content
        )
        assert chunks[-1].usage.cost == whole.usage.cost > 0
        assert found.data.total_cost == whole.usage.cost

    @pytest.mark.parametrize("model", ["anthropic/claude-sonnet-4.5", "google/gemini-2.5-flash", "openai/gpt-5-mini"])
    def test_reasoning_details(self, emulator: EmulatorHandle, model: str) -> None:
        """Reasoning asked for comes with details the SDK understands, whole and streamed."""
        client = router_client(emulator)
        prompt: Any = [{"role": "user", "content": "think"}]
        whole: Any = client.chat.send(model=model, messages=prompt, reasoning={"effort": "low"})
        chunks: list[Any] = list(
            client.chat.send(model=model, messages=prompt, reasoning={"effort": "low"}, stream=True)  # type: ignore[arg-type]
        )
        streamed = "".join(c.choices[0].delta.reasoning or "" for c in chunks if c.choices)

        assert whole.choices[0].message.reasoning == streamed
        assert whole.choices[0].message.reasoning_details
        assert whole.usage.completion_tokens_details.reasoning_tokens > 0

    def test_tools_and_schema(self, emulator: EmulatorHandle) -> None:
        """A tool call and a structured answer."""
        client = router_client(emulator)
        called: Any = client.chat.send(
            model="anthropic/claude-haiku-4.5",
            messages=[{"role": "user", "content": "call the tool"}],
            tools=[openai_tool()],
        )
        answer: Any = client.chat.send(
            model="openai/gpt-4.1-mini",
            messages=[{"role": "user", "content": "a ticket"}],
            response_format={
                "type": "json_schema",
                "json_schema": {"name": "ticket", "schema": Ticket.model_json_schema()},
            },
        )

        assert called.choices[0].finish_reason == "tool_calls"
        assert json.loads(called.choices[0].message.tool_calls[0].function.arguments)
        assert Ticket.model_validate_json(answer.choices[0].message.content)

    def test_embeddings_are_openais(self, emulator: EmulatorHandle) -> None:
        """The vectors are those of OpenAI's own route."""
        routed: Any = router_client(emulator).embeddings.generate(model="openai/text-embedding-3-small", input="a cat")
        direct = openai_client(emulator).embeddings.create(
            model="text-embedding-3-small", input="a cat", encoding_format="float"
        )

        assert routed.data[0].embedding == pytest.approx(direct.data[0].embedding)

    def test_key_models_and_endpoints(self, emulator: EmulatorHandle) -> None:
        """What the gateway asks about a key and about models parses with the SDK."""
        client = router_client(emulator)
        emulator.add_key("openrouter", "sk-or-v1-limited", kind="limited", limit_nusd="5000000000")
        limited = OpenRouter(api_key="sk-or-v1-limited", server_url=emulator.base("openrouter"), retry_config=None)
        key = limited.api_keys.get_current_key_metadata()
        listed: Any = client.models.list()
        endpoints = client.endpoints.list(author="openai", slug="gpt-4.1-mini")

        assert (key.data.limit, key.data.limit_remaining) == (5, 5)
        entry = next(model for model in listed.result.data if model.id == "openai/gpt-4.1-mini")
        assert entry.pricing.prompt == "0.0000004"
        assert endpoints.data.endpoints[0].pricing.completion == "0.0000016"
