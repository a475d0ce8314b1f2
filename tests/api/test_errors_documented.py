"""docs/errors.md has every code with its status, its sentence and its fix."""

import re
from pathlib import Path

import pytest

from ownkey.api.statuses import STATUSES
from ownkey.control.problems import ProblemCode
from ownkey.domain.refusals import Code, refusal_for
from ownkey.pages.statuses import PROBLEM_STATUSES

DOCUMENT = (Path(__file__).resolve().parents[2] / "docs" / "errors.md").read_text("utf-8")
ROWS = {m[1]: (int(m[2]), m[3].strip(), m[4].strip())
        for m in re.finditer(r"^\| `(\w+)` \| (\d{3}) \| (.+?) \| (.+?) \|$", DOCUMENT, re.MULTILINE)}


def test_every_code_is_there_with_its_status() -> None:
    """No code without a line, no line without a code, and the status that the door really uses."""
    expected = {code.value: STATUSES[code] for code in Code}
    expected |= {code.value: PROBLEM_STATUSES[code] for code in ProblemCode}

    assert {code: row[0] for code, row in ROWS.items()} == expected


@pytest.mark.parametrize("code", [
    Code.OPENROUTER_KEY_REQUIRED, Code.ALWAYS_USE_KEY_UNAVAILABLE, Code.ADDON_REQUIRED, Code.ADDON_INACTIVE,
    Code.MINIMUM_BALANCE_REQUIRED, Code.INSUFFICIENT_CREDITS, Code.AI_PAUSED,
])
def test_the_sentences_of_the_payer_decision_are_word_for_word(code: Code) -> None:
    """What the document says is what callers read."""
    refusal = refusal_for(code)

    assert ROWS[code.value][1:] == (refusal.message, refusal.fix)
