"""What Anthropic's and Google's failures have in common: readers that nothing breaks."""

from typing import Any

import pytest
from anthropic_google_wire import read_streamed
from hypothesis import given
from hypothesis import strategies as st

from ownkey.providers import sse
from ownkey.providers.anthropic.codec import MessagesCodec
from ownkey.providers.anthropic.failures import FAILURES as ANTHROPIC
from ownkey.providers.classify import FailureTable
from ownkey.providers.google.codec import GenerateCodec
from ownkey.providers.google.failures import FAILURES as GOOGLE


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
