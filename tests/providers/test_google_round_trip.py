"""What Gemini says comes back to it unchanged through a client that keeps nothing but messages: properties."""

import base64
import json
from typing import Any

from anthropic_google_wire import WORDS, fold, history_of, json_values, read_streamed
from chat_parameters import QUESTION, TOOL, ask
from hypothesis import given, settings
from hypothesis import strategies as st
from test_google_requests import CODEC, THIRD, encode

from ownkey.domain.conversation import Message, Text

NAMES = st.from_regex(r"\A[a-z_][a-z0-9_]{0,8}\Z")
SIGNATURES = st.binary(min_size=3, max_size=9).map(lambda raw: base64.b64encode(raw).decode())
JSON = json_values(st.integers(-(2**53), 2**53))
CALLS = st.lists(
    st.fixed_dictionaries({"name": NAMES, "args": st.dictionaries(st.text(max_size=6), JSON, max_size=3)}),
    min_size=1,
    max_size=3,
)


@settings(max_examples=150)
@given(st.lists(WORDS, max_size=1), st.lists(WORDS, max_size=1), CALLS, SIGNATURES, st.text(max_size=8))
def test_an_answer_comes_back_as_it_was(
    thoughts: list[str], texts: list[str], calls: list[dict[str, Any]], signature: str, answer_id: str
) -> None:
    """Whole or in one part a chunk, through a client that keeps nothing but messages: the same parts."""
    parts: list[dict[str, Any]] = [{"text": thought, "thought": True} for thought in thoughts]
    parts += [{"text": text} for text in texts]
    parts += [{"functionCall": dict(call)} for call in calls]
    next(part for part in parts if "functionCall" in part)["thoughtSignature"] = signature

    def chunk(some: list[dict[str, Any]], last: bool) -> bytes:
        candidate = {"content": {"parts": some, "role": "model"}} | ({"finishReason": "STOP"} if last else {})
        return json.dumps({"candidates": [candidate], "responseId": answer_id, "modelVersion": "g"}).encode()

    whole = CODEC.decode_whole(chunk(parts, last=True))[1]
    body = b"".join(b"data: " + chunk([part], part is parts[-1]) + b"\n\n" for part in parts)
    streamed = read_streamed(CODEC.events(), [body])

    assert fold(whole).calls == fold(streamed).calls
    for events in (whole, streamed):
        read = fold(events)
        assert read.finish == "tool_calls"
        assert len({call.id for call in read.calls}) == len(calls)
        contents = encode(ask(messages=tuple(history_of(read)), tools=(TOOL,)), THIRD)["contents"]
        sent = contents[1]["parts"]
        ids = [part["functionCall"].pop("id") for part in sent if "functionCall" in part]
        assert sent == parts
        assert ids == [part["functionResponse"]["id"] for part in contents[2]["parts"]]


@given(WORDS, SIGNATURES)
def test_the_signature_of_a_text_comes_back_on_it(text: str, signature: str) -> None:
    """Gemini 3 signs its last, often empty, text part."""
    candidate = {
        "content": {"parts": [{"text": text}, {"text": "", "thoughtSignature": signature}]},
        "finishReason": "STOP",
    }
    read = fold(CODEC.decode_whole(json.dumps({"candidates": [candidate]}).encode())[1])
    answer = Message("assistant", (Text(read.text),), reasoning_details=read.details)

    sent = encode(ask(messages=(*QUESTION, answer, *QUESTION)), THIRD)["contents"][1]["parts"]

    assert sent == [{"text": text, "thoughtSignature": signature}]
