"""Splicing changes what it is told to and not one byte more."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ownkey.dialects.openai_chat import OpenAIDialect
from ownkey.dialects.splice import MAX_DEPTH, ObjectSpans, Splicer, is_too_deep
from ownkey.domain.wire import BadRequest, Edits

SPACE = st.text(" \t\n\r", max_size=3)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8) | st.floats(allow_nan=False, allow_infinity=False),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=8,
)


@st.composite
def spelled(draw: st.DrawFn, members: dict[str, Any]) -> bytes:
    """One of the many spellings of an object: white space, escapes and number forms as they come."""
    pieces = []
    for key, value in members.items():
        name = json.dumps(key, ensure_ascii=draw(st.booleans()))
        if key and draw(st.booleans()) and key[0].isalpha() and ord(key[0]) < 128:
            name = f'"\\u{ord(key[0]):04x}' + name[2:]
        text = json.dumps(value, ensure_ascii=draw(st.booleans()), indent=draw(st.sampled_from([None, 1])))
        pieces.append(f"{draw(SPACE)}{name}{draw(SPACE)}:{draw(SPACE)}{text}{draw(SPACE)}")
    return f"{draw(SPACE)}{{{','.join(pieces) or draw(SPACE)}}}{draw(SPACE)}".encode()


OBJECTS = st.dictionaries(st.text(st.characters(exclude_categories=["Cs"]), max_size=8), VALUES, max_size=6)


@given(OBJECTS.flatmap(lambda members: st.tuples(st.just(members), spelled(members))))
def test_every_value_is_found_where_it_stands(given_: tuple[dict[str, Any], bytes]) -> None:
    """Spans hold exactly the values' bytes, in order, whatever the spelling."""
    members, text = given_
    spans = ObjectSpans(text)

    assert list(spans.spans) == list(members)
    for key, (start, end) in spans.spans.items():
        assert text[start:end] == spans.values[key]
        assert json.loads(text[start:end]) == members[key]


@given(OBJECTS.flatmap(lambda members: st.tuples(st.just(members), spelled(members))), st.data())
def test_set_and_add(given_: tuple[dict[str, Any], bytes], data: st.DataObject) -> None:
    """The result reads as the edited object; outside the edited values every byte is the original's."""
    members, text = given_
    spans = ObjectSpans(text)
    keys = data.draw(st.lists(st.sampled_from([*members, "new", "other"]), unique=True))
    splicer = Splicer(text)
    for key in keys:
        splicer.set(spans, key, b'{"edited":1}')

    result = splicer.result()
    assert json.loads(result) == members | {key: {"edited": 1} for key in keys}
    kept = result
    for key, (start, end) in reversed(spans.spans.items()):
        if key in keys:
            at = start + sum(
                len(b'{"edited":1}') - (e - s) for k, (s, e) in spans.spans.items() if k in keys and s < start
            )
            kept = kept[:at] + text[start:end] + kept[at + len(b'{"edited":1}') :]
    for key in keys:
        if key not in members:
            added = json.dumps(key).encode() + b':{"edited":1}'
            kept = kept.replace(b"," + added, b"").replace(added, b"")
    assert kept == text


@pytest.mark.parametrize(
    "text",
    [
        b'{"a":1,"a":1}', b'{"a":1,"b":2,"a":1}', b'{"a":1,"\\u0061":2}', b'{"a":12,"a":1}', b'{"a":1,"a":12}',
        b'{"a":{"x":1},"b":"","a":{"x":1}}', b'{"":1,"":1}',
    ],
)
def test_a_field_named_twice_is_refused(text: bytes) -> None:
    """Readers disagree about which one counts."""
    with pytest.raises(BadRequest, match="twice"):
        ObjectSpans(text)


@given(OBJECTS.filter(bool).flatmap(lambda m: st.tuples(spelled(m), st.just(m))), st.data())
def test_any_repeated_member_is_refused(given_: tuple[bytes, dict[str, Any]], data: st.DataObject) -> None:
    """Wherever the second one stands and whatever its value."""
    text, members = given_
    key = data.draw(st.sampled_from(list(members)))
    again = json.dumps(key).encode() + b":" + json.dumps(data.draw(VALUES | st.just(members[key]))).encode()
    front, _, back = text.partition(b"{")
    twice = data.draw(
        st.sampled_from([front + b"{" + again + b"," + back, text.rstrip()[:-1].rstrip() + b"," + again + b"}"])
    )

    with pytest.raises(BadRequest):
        ObjectSpans(twice)


@pytest.mark.parametrize("text", [b"", b"[]", b"1", b'{"a":}', b'{"a":1', b'{"a":1}x', b"\xff", b"{", b'{"a":"\x01"}'])
def test_what_is_no_object_is_refused(text: bytes) -> None:
    """Never an exception of another kind."""
    with pytest.raises(BadRequest):
        ObjectSpans(text)


@given(st.integers(1, 80), st.sampled_from([b"[", b'{"a":']), st.integers(0, 30))
def test_depth(depth: int, opening: bytes, siblings: int) -> None:
    """Counted exactly, without building anything; brackets in strings do not count."""
    closing = b"]" if opening == b"[" else b"}"
    deep = opening * depth + b"1" + closing * depth
    text = b"[" + b",".join([rb'"[{\"[["', b"[[1],[]]"] * siblings + [deep]) + b"]"

    assert is_too_deep(text) == (depth + 1 > MAX_DEPTH)


def test_a_very_deep_body_is_refused() -> None:
    """Far beyond what the parser itself would stand."""
    with pytest.raises(BadRequest):
        OpenAIDialect().decode("chat", b'{"model":"m","messages":' + b"[" * 100_000 + b"]" * 100_000 + b"}")


BODY: dict[str, Any] = {"model": "openai/gpt-x", "messages": [{"role": "user", "content": "é\n"}]}
EXTRAS = st.fixed_dictionaries(
    {},
    optional={
        "stream": st.booleans() | st.none(),
        "max_tokens": st.integers(1, 9_000) | st.none(),
        "max_completion_tokens": st.integers(1, 9_000) | st.none(),
        "stream_options": st.none() | st.fixed_dictionaries({}, optional={
            "include_usage": st.booleans(), "include_obfuscation": st.booleans()}),
        "provider": st.none() | st.fixed_dictionaries({}, optional={
            "order": st.just(["a"]), "require_parameters": st.booleans(),
            "max_price": st.none() | st.fixed_dictionaries({}, optional={
                "prompt": st.sampled_from([1, "0.5", 2.5, "99", None, "x"]), "image": st.just("3")}),
        }),
        "zzz_unknown": VALUES,
        "temperature": st.just(0.70),
    },
)
EDITS = st.builds(
    Edits,
    model=st.sampled_from(["openai/gpt-x", "gpt-x", 'odd"model\\']),
    output_limit=st.none() | st.integers(1, 9_000),
    include_usage=st.booleans(),
    max_price=st.none() | st.just({"prompt": "2", "completion": "8"}),
    require_parameters=st.booleans(),
)


def edited(body: dict[str, Any], edits: Edits) -> dict[str, Any]:
    """The same edits on the decoded body, by the letter of the contract."""
    body = json.loads(json.dumps(body)) | {"model": edits.model}
    if edits.output_limit is not None:
        stated = [name for name in ("max_completion_tokens", "max_tokens") if body.get(name) is not None]
        for name in stated:
            body[name] = min(body[name], edits.output_limit)
        if not stated:
            body["max_completion_tokens"] = edits.output_limit
    if edits.include_usage and body.get("stream"):
        body["stream_options"] = (body.get("stream_options") or {}) | {"include_usage": True}
    if edits.max_price or edits.require_parameters:
        provider = body.get("provider") or {}
        if edits.max_price:
            own = provider.get("max_price") or {}
            for kind, ours in edits.max_price.items():
                mine = own.get(kind)
                if mine in (None, "x") or float(mine) > float(ours):
                    own[kind] = ours
            provider["max_price"] = own
        if edits.require_parameters:
            provider["require_parameters"] = True
        body["provider"] = provider
    return body


@given(EXTRAS.map(lambda extra: BODY | extra).flatmap(lambda body: st.tuples(st.just(body), spelled(body))), EDITS)
def test_native_bodies(given_: tuple[dict[str, Any], bytes], edits: Edits) -> None:
    """The spliced body reads as the edited one; fields that no edit names keep their bytes."""
    body, text = given_
    call = OpenAIDialect().decode("chat", text)
    result = call.native_body(edits)

    assert json.loads(result) == edited(body, edits)
    after = ObjectSpans(result)
    for name in set(body) - {"model", "max_tokens", "max_completion_tokens", "stream_options", "provider"}:
        assert after.values[name] == call.members.values[name]


def test_nothing_to_change_is_the_same_object() -> None:
    """The fast path copies nothing."""
    text = b'{ "model" : "m", "messages":[{}] }'

    assert OpenAIDialect().decode("chat", text).native_body(Edits("m")) is text
