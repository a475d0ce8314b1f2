"""What Anthropic's and Google's failures have in common: tables without gaps, and readers that nothing breaks."""

from typing import Any

import pytest
from anthropic_google_wire import read_streamed
from hypothesis import given
from hypothesis import strategies as st
from test_anthropic_failures import ROWS as ANTHROPIC_ROWS
from test_google_failures import ROWS as GOOGLE_ROWS

from ownkey.providers import sse
from ownkey.providers.anthropic.codec import MessagesCodec
from ownkey.providers.anthropic.failures import FAILURES as ANTHROPIC
from ownkey.providers.classify import ANY_RULES, FailureTable, match_rule, read_error_object
from ownkey.providers.google.codec import GenerateCodec
from ownkey.providers.google.failures import FAILURES as GOOGLE

TABLES = [(ANTHROPIC, ANTHROPIC_ROWS), (GOOGLE, GOOGLE_ROWS)]


@pytest.mark.parametrize(
    ("table", "rule", "status", "body", "cls"),
    [
        pytest.param(table, *row, id=f"reconstructed-{row[0]}-{row[1]}-{at}")
        for table, rows in TABLES
        for at, row in enumerate(rows)
    ],
)
def test_a_rebuilt_refusal_has_its_class(table: FailureTable, rule: str, status: int, body: bytes, cls: str) -> None:
    """One answer for each row of the tables, made from documentation and public reports."""
    facts = table.read(status, {}, (read_error_object(body) or {}).get("error"))
    failure = table.judge_refusal(status, {}, body)

    assert match_rule(facts, table.rules).id == rule
    assert failure.cls.value == cls
    assert failure.unbilled is (status not in (408, 504, 524))


@pytest.mark.parametrize(("table", "rows"), TABLES, ids=["anthropic", "google"])
def test_every_row_of_the_table_has_an_answer(table: FailureTable, rows: list[Any]) -> None:
    """A row without a test is a guess."""
    assert {rule.id for rule in table.rules} == {row[0] for row in rows} - {rule.id for rule in ANY_RULES}


@pytest.mark.parametrize("table", [ANTHROPIC, GOOGLE], ids=["anthropic", "google"])
@given(status=st.integers(300, 599), body=st.binary(max_size=200))
def test_no_body_breaks_the_classifier(table: FailureTable, status: int, body: bytes) -> None:
    """Edge errors are HTML, and worse."""
    assert table.judge_refusal(status, {}, body).status == status


@pytest.mark.parametrize("codec", [MessagesCodec(), GenerateCodec()], ids=lambda codec: f"reconstructed-{codec.wire}")
def test_an_endless_event_fails_the_answer(codec: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A frame beyond every size that a provider sends, read and relayed."""
    monkeypatch.setattr(sse, "MAX_FRAME_BYTES", 100)
    reader, relay = codec.events(), codec.passthrough(None)

    events = read_streamed(reader, [b"data: " + b"x" * 60, b"x" * 60, b"\n\n"])
    relayed = [*relay.feed(b"data: " + b"x" * 120), *relay.eof()]

    assert reader.seen.failure is not None
    assert reader.seen.failure.signal == "event too large"
    assert len(events) == 1
    assert relayed == []
    assert relay.seen.failure == reader.seen.failure
