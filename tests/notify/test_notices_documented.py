"""The documentation of notices is what the rules say."""

from pathlib import Path

from tests.notify.notice_reference import render

ROOT = Path(__file__).resolve().parent.parent.parent


def test_the_page_of_notices_is_current() -> None:
    """docs/notices.md names every kind, its event, its fields and its subject, as they are now."""
    assert (ROOT / "docs" / "notices.md").read_text("utf-8") == render()
