"""Settings that no model reads are no tokens: their bytes leave the bound, and nothing else of a body does."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ownkey.dialects import anthropic_fields, openai_fields
from ownkey.dialects.anthropic_messages import AnthropicDialect
from ownkey.dialects.openai_chat import OpenAIDialect
from ownkey.dialects.openai_shape import silent_bytes, text_bytes
from ownkey.domain.bounds import EMBEDDING_MARGIN_TOKENS, INPUT_MARGIN_TOKENS, ModelLimits, estimate_input_tokens

LIMITS = ModelLimits(200_000, 8_192, True, 1_600)
MESSAGES = [{"role": "user", "content": "Why is the sky blue?"}]


def chat(**fields: Any) -> Any:
    body = json.dumps({"model": "openai/gpt-4.1-mini", "messages": MESSAGES, **fields}).encode()
    return OpenAIDialect().decode("chat", body).shape


def tokens(shape: Any) -> int:
    return estimate_input_tokens(shape, LIMITS)


def test_a_setting_costs_no_headroom() -> None:
    """Sampling, limits and labels: the bound of the input is what it is without them, but for the commas between."""
    bare = tokens(chat())
    many = {"temperature": 0.5, "max_tokens": 30, "stream": True, "user": "u" * 500, "metadata": {"a": "b" * 400}}

    assert 0 <= tokens(chat(**many)) - bare <= 3 * len(many)


@pytest.mark.parametrize("field", [
    {"tools": [{"type": "function", "function": {"name": "f", "description": "d" * 300, "parameters": {}}}]},
    {"response_format": {"type": "json_schema", "json_schema": {"name": "x" * 300, "schema": {}}}},
    {"reasoning_effort": "high"}, {"verbosity": "low"}, {"tool_choice": "auto"},
    {"messages": [*MESSAGES, {"role": "assistant", "content": "x" * 300}]},
], ids=lambda field: next(iter(field)))
def test_what_a_template_may_repeat_still_counts(field: dict[str, Any]) -> None:
    """The model may see it, so every byte of it may be a token."""
    (value,) = field.values()

    grown = tokens(chat(**field)) - tokens(chat())

    assert grown >= len(json.dumps(value)) - (len(json.dumps(MESSAGES)) if "messages" in field else 0)


def test_the_two_lists_hold_no_field_with_a_prompt_in_it() -> None:
    """A field that carries text for the model, or asks for more than text, may never join them."""
    prompts = {
        "messages", "input", "instructions", "system", "tools", "tool_choice", "functions", "function_call", "text",
        "response_format", "reasoning", "reasoning_effort", "thinking", "verbosity", "prediction", "prompt", "suffix",
        "output_config", "output_format", "modalities", "plugins", "web_search_options", "include_reasoning",
        "cache_control", "context_management", "parallel_tool_calls", "logit_bias", "input_type", "preset",
    }

    assert not (openai_fields.SILENT | anthropic_fields.SILENT) & prompts
    assert set() == openai_fields.SILENT & openai_fields.UNBOUNDABLE
    assert set() == anthropic_fields.SILENT & anthropic_fields.UNBOUNDABLE


@given(st.dictionaries(st.sampled_from(sorted(openai_fields.SILENT - {"n", "best_of"})), st.text(max_size=40)),
       st.text(max_size=60))
def test_never_more_is_left_out_than_the_settings_take(settings: dict[str, str], said: str) -> None:
    """Whatever is written into them, escaped or not: what remains is at least the body without them."""
    messages = json.dumps([{"role": "user", "content": said}], ensure_ascii=False)
    values = {name: json.dumps(value, ensure_ascii=False).encode() for name, value in settings.items()}
    values["messages"] = messages.encode()
    body = (" {" + " , ".join(f'"{name}" : {raw.decode()}' for name, raw in values.items()) + "} ").encode()

    left = text_bytes(body) - silent_bytes(body, values, openai_fields.SILENT)

    assert left >= text_bytes(messages.encode())


def test_escapes_leave_nothing_out() -> None:
    """`\\ufdfa` is six bytes in the body and thirty-three for the tokenizer; spaces elsewhere must not pay for them."""
    spaces = b" " * 4_000
    body = (b'{"model":' + spaces + b'"m","metadata":{"a":' + spaces + b'"b"},"messages":[{"role":"user","content":"'
            + b"\\ufdfa" * 200 + b'"}]}')
    shape = OpenAIDialect().decode("chat", body).shape

    assert tokens(shape) >= 200 * 33 + INPUT_MARGIN_TOKENS


def test_an_embedding_is_not_wrapped_into_a_conversation() -> None:
    """Its margin is for the marks at a text's ends; a chat keeps the margin for what providers add."""
    body = json.dumps({"model": "openai/text-embedding-3-small", "input": ["a", "b"]}).encode()
    embeds = OpenAIDialect().decode("embeddings", body).shape

    assert tokens(embeds) <= len(body) + EMBEDDING_MARGIN_TOKENS < INPUT_MARGIN_TOKENS
    assert tokens(chat()) > INPUT_MARGIN_TOKENS
    assert tokens(embeds) >= 2 * 3 + EMBEDDING_MARGIN_TOKENS


def test_messages_leave_their_settings_out_too() -> None:
    def shape(**fields: Any) -> Any:
        body = {"model": "claude-haiku-4-5", "max_tokens": 30, "messages": MESSAGES, **fields}
        return AnthropicDialect().decode("messages", json.dumps(body).encode()).shape

    assert tokens(shape(metadata={"user_id": "u" * 300})) - tokens(shape()) <= 3
    assert tokens(shape(system="s" * 300)) - tokens(shape()) >= 300
