"""What each generation of Claude accepts: data, because a parameter it does not know is a refused call.

Sources: platform.claude.com, "Thinking", "Effort", "Structured outputs" and the migration guides for 4.7 and 5.5;
recorded refusals. A model that no row names is taken for the newest generation.
"""

import re
from dataclasses import dataclass
from typing import Literal

_ADAPTIVE_EFFORTS = frozenset({"low", "medium", "high", "xhigh", "max"})


@dataclass(frozen=True, slots=True)
class Generation:
    """`thinking`: "none"; "budget" (enabled with budget_tokens); "both"; "adaptive" (with effort).

    `off`: how thinking is turned off: "omit" the field (it is off by default), "disabled" or "between_tools"
    (types to send), or "never". `samples`: temperature, top_p and top_k are accepted. `one_sampler`: not
    temperature and top_p together. `prefill`: the conversation may end with the assistant's words.
    `hides_thinking`: thoughts come without text unless asked for.
    """

    pattern: str
    thinking: Literal["none", "budget", "both", "adaptive"]
    off: Literal["omit", "disabled", "between_tools", "never"]
    efforts: frozenset[str] = frozenset()
    structured: bool = True
    samples: bool = True
    one_sampler: bool = False
    prefill: bool = True
    hides_thinking: bool = False


_NEWEST = Generation(r"", "adaptive", "never", _ADAPTIVE_EFFORTS, samples=False, prefill=False, hides_thinking=True)

GENERATIONS = (
    Generation(r"claude-(?:instant|2|3)(?!-7)", "none", "omit", structured=False),
    Generation(r"claude-3-7", "budget", "omit", structured=False),
    Generation(r"claude-[a-z]+-4(?:-0|-\d{8}|$)", "budget", "omit", structured=False),
    Generation(r"claude-[a-z]+-4-1", "budget", "omit", structured=False, one_sampler=True),
    Generation(r"claude-[a-z]+-4-5", "budget", "omit", one_sampler=True),
    Generation(r"claude-[a-z]+-4-6", "both", "omit", _ADAPTIVE_EFFORTS - {"xhigh"}, one_sampler=True, prefill=False),
    Generation(
        r"claude-(?:opus|sonnet|haiku)-4-",
        "adaptive",
        "omit",
        _ADAPTIVE_EFFORTS,
        samples=False,
        prefill=False,
        hides_thinking=True,
    ),
    Generation(
        r"claude-sonnet-5-5",
        "adaptive",
        "between_tools",
        _ADAPTIVE_EFFORTS,
        samples=False,
        prefill=False,
        hides_thinking=True,
    ),
    Generation(
        r"claude-(?:haiku-5|(?:opus|sonnet)-5(?:-\d{8}|$))",
        "adaptive",
        "disabled",
        _ADAPTIVE_EFFORTS,
        samples=False,
        prefill=False,
        hides_thinking=True,
    ),
    _NEWEST,
)


def generation_of(model: str) -> Generation:
    """The first generation whose pattern begins the model's id."""
    return next(row for row in GENERATIONS if re.match(row.pattern, model))
