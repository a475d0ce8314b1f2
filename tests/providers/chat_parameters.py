"""Each parameter of a chat request with a value that asks for something, as the neutral form holds it."""

from collections.abc import Callable, Collection, Mapping
from typing import Any

import pytest
from anthropic_google_wire import WIRE

from ownkey.domain.conversation import ChatRequest, JsonFormat, Message, Text, Tool, ToolChoice, Untranslatable

SCHEMA = {
    "type": "object",
    "properties": {"city": {"type": "string"}},
    "required": ["city"],
    "additionalProperties": False,
}
TOOL = Tool("get_weather", "Weather of a city", SCHEMA)
QUESTION = (Message(role="user", parts=(Text("What is the weather?"),)),)

# Fields of the neutral form.
TYPED: dict[str, dict[str, Any]] = {
    "max_completion_tokens": {"max_output_tokens": 100},
    "max_tokens": {"max_output_tokens": 100},
    "messages": {},
    "model": {},
    "stream": {"stream": True},
    "temperature": {"temperature": 0.3},
    "top_p": {"top_p": 0.5},
    "top_k": {"top_k": 7},
    "stop": {"stop": ("END",)},
    "tools": {"tools": (TOOL,)},
    "tool_choice": {"tools": (TOOL,), "tool_choice": ToolChoice("named", "get_weather")},
    "parallel_tool_calls": {"tools": (TOOL,), "parallel_tool_calls": False},
    "response_format": {"json_format": JsonFormat(SCHEMA, "answer", True)},
    "reasoning_effort": {"reasoning_effort": "medium"},
}

# Fields that have no neutral form: raw, in `rest`.
RAW: dict[str, Any] = {
    "audio": {"voice": "alloy", "format": "wav"},
    "frequency_penalty": 0.5,
    "function_call": "auto",
    "functions": [{"name": "f"}],
    "logit_bias": {"50256": -100},
    "logprobs": True,
    "metadata": {"a": "b"},
    "modalities": ["text", "audio"],
    "moderation": {"model": "omni"},
    "n": 2,
    "prediction": {"type": "content", "content": "x"},
    "presence_penalty": 0.5,
    "prompt_cache_key": "key",
    "prompt_cache_options": {"ttl": "1h"},
    "prompt_cache_retention": "24h",
    "safety_identifier": "user-hash",
    "seed": 7,
    "service_tier": "flex",
    "store": True,
    "stream_options": {"include_obfuscation": False},
    "top_logprobs": 3,
    "user": "user-1",
    "verbosity": "low",
    "web_search_options": {},
    # OpenRouter's own.
    "cache_control": {"type": "ephemeral"},
    "include_reasoning": False,
    "min_p": 0.1,
    "models": ["a/b"],
    "plugins": [{"id": "web"}],
    "provider": {"order": ["x"]},
    "reasoning": {"exclude": True},
    "repetition_penalty": 1.1,
    "route": "fallback",
    "session_id": "s",
    "top_a": 0.1,
    "trace": {"id": "t"},
    "transforms": ["middle-out"],
    "usage": {"include": True},
    "never_heard_of": 1,
}


def ask(**fields: Any) -> ChatRequest:
    """A request for one answer to the question, or with these fields."""
    return ChatRequest(**({"messages": QUESTION} | fields))


def refusal(encode: Callable[..., object], request: ChatRequest, *how: Any) -> str:
    """The name of the field for which the encoding is refused."""
    with pytest.raises(Untranslatable) as caught:
        encode(request, *how)
    return caught.value.what


def assert_placed(
    name: str,
    codec: Any,
    encode: Callable[[ChatRequest], Mapping[str, Any]],
    carried: Mapping[str, Mapping[str, Any]],
    left_behind: Collection[str],
    elsewhere: Collection[str],
) -> None:
    """A parameter is `carried` into fields of the body, named by dropped_hints, no matter of the body, or refused."""
    request = request_with(name)
    if name in carried:
        body = encode(request)
        assert {key: body.get(key) for key in carried[name]} == carried[name]
        assert codec.dropped_hints(request) == ()
    elif name in left_behind:
        assert encode(request) == encode(ask())
        assert codec.dropped_hints(request) == (name,)
    elif name in elsewhere:
        assert encode(request) == encode(ask())
    else:
        assert refusal(encode, request) == name


def request_with(name: str) -> ChatRequest:
    """A small request that asks for one parameter."""
    if name in TYPED:
        return ask(**TYPED[name])
    return ask(rest={name: RAW[name]})


def openai_parameters() -> set[str]:
    """The properties of OpenAI's CreateChatCompletionRequest, from its own document; empty where it is absent."""
    path = WIRE / "specs" / "openai.openapi.yaml"
    if not path.is_file():
        return set()
    return _properties(path.read_text(), "CreateChatCompletionRequest")


def _properties(text: str, schema: str) -> set[str]:
    """A property is what stands at the indentation of the first one; found without parsing three megabytes."""
    block = text.split(f"\n    {schema}:\n", 1)[1]
    found: set[str] = set()
    inside: int | None = None
    for line in block.splitlines():
        depth = len(line) - len(line.lstrip())
        if line.strip() and depth <= 4:
            break
        word = line.strip()
        if word == "properties:" and inside is None and depth <= 10:
            inside = depth + 2
        elif inside is not None and word and depth < inside:
            inside = None
        elif inside == depth and word.endswith(":") and not word.startswith(("-", "#")):
            found.add(word[:-1])
        if word.startswith("- $ref:") and depth <= 8:
            found |= _properties(text, word.rsplit("/", 1)[1].strip("'\""))
    return found
