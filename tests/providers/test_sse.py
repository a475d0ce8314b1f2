"""Frames keep the stream's bytes, and do not depend on how it was cut."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ownkey.providers import sse
from ownkey.providers.sse import FrameTooLarge, SseFrame, SseParser


def frames_of(*chunks: bytes) -> list[SseFrame]:
    parser = SseParser()
    frames = [frame for chunk in chunks for frame in parser.feed(chunk)]
    return frames + parser.eof()


def test_a_data_line_is_a_frame_with_its_bytes() -> None:
    """The plain case: one JSON object a frame."""
    frames = frames_of(b'data: {"a":1}\n\ndata: [DONE]\n\n')

    assert frames == [
        SseFrame(b'data: {"a":1}\n\n', None, b'{"a":1}'),
        SseFrame(b"data: [DONE]\n\n", None, b"[DONE]"),
    ]


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r"], ids=["LF", "CRLF", "CR"])
def test_fields_under_every_line_end(end: bytes) -> None:
    """Events, several data lines, values with and without a space, and comments are read alike."""
    lines = [b"event: a", b"data: one", b"data:two", b"", b": note", b"", b"id: 7", b"data", b""]
    frames = frames_of(end.join(lines) + end)

    assert [(frame.event, frame.data) for frame in frames] == [(b"a", b"one\ntwo"), (None, None), (None, b"")]
    assert b"".join(frame.raw for frame in frames) == end.join(lines) + end


def test_a_byte_order_mark_is_no_part_of_the_first_field() -> None:
    """The standard allows one at the start."""
    assert frames_of(b"\xef\xbb\xbfdata: x\n\n")[0].data == b"x"


def test_an_end_without_a_blank_line_is_partial() -> None:
    """A cut stream's last frame says that it was cut."""
    assert frames_of(b"data: x\n\ndata: y")[-1] == SseFrame(b"data: y", None, b"y", partial=True)


def test_a_lone_cr_at_the_very_end_closes_the_frame() -> None:
    """Only the stream's end shows that no LF follows."""
    assert frames_of(b"data: x\r\n\r")[-1] == SseFrame(b"data: x\r\n\r", None, b"x", partial=False)


@pytest.mark.parametrize("pieces", [1, 3], ids=["at-once", "in-pieces"])
@pytest.mark.parametrize("end", [b"\n\n", b"\r\n\r\n", b""], ids=["LF", "CRLF", "open"])
def test_a_frame_beyond_the_limit_is_refused(
    monkeypatch: pytest.MonkeyPatch, pieces: int, end: bytes
) -> None:
    """No event is so long; buffering it would be the memory of someone else's calls."""
    monkeypatch.setattr(sse, "MAX_FRAME_BYTES", 100)
    data = b"data: " + b"x" * 200 + end
    size = len(data) // pieces + 1

    with pytest.raises(FrameTooLarge):
        frames_of(*(data[at : at + size] for at in range(0, len(data), size)))


def test_many_small_frames_in_one_large_chunk_are_fine(monkeypatch: pytest.MonkeyPatch) -> None:
    """The limit is the frame's, not the chunk's."""
    monkeypatch.setattr(sse, "MAX_FRAME_BYTES", 100)

    assert len(frames_of(b"data: x\n\n" * 50)) == 50
    assert len(frames_of(b"data: x\r\n\r\n" * 50)) == 50


ALPHABET = st.sampled_from([b"\n", b"\r", b"\r\n", b"data: ", b"event:", b":", b"x", b"\xe2\x82\xac", b" "])


@given(st.lists(ALPHABET, max_size=40).map(b"".join), st.data())
def test_any_cut_gives_the_same_frames(stream: bytes, data: st.DataObject) -> None:
    """Whatever the bytes: joined they are the stream again, and chunks do not show."""
    whole = frames_of(stream)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=6)))
    edges = [0, *cuts, len(stream)]

    assert b"".join(frame.raw for frame in whole) == stream
    assert frames_of(*(stream[a:b] for a, b in itertools.pairwise(edges))) == whole
