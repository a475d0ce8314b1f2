"""What each generation of OpenAI's models accepts in chat completions: data, because a setting that it does not know is
a refused call, and a refused call is not tried elsewhere.

Sources: OpenAI's OpenAPI description (`reasoning_effort`, `stop`), its guide to reasoning, and the refusals quoted in
public issues ("Function tools with reasoning_effort are not supported …", "Unsupported value: 'temperature' …"). A
newer GPT is taken for the newest generation; of a model by another name nothing is known, and nothing refused.
"""

import re
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Generation:
    """`efforts` it can be asked for, from the least; empty: it does not reason. `reasons`: it does unless told not to.

    `samples`: temperature, top_p and stop sequences are accepted, at least while it does not reason.
    `thinks_with_tools`: tools are accepted while it reasons. `one_call`: it can be told to call one tool at a time.
    """

    pattern: str
    efforts: tuple[str, ...] = ()
    reasons: bool = False
    samples: bool = True
    thinks_with_tools: bool = True
    one_call: bool = True


_FROM_NONE = ("none", "low", "medium", "high", "xhigh")

GENERATIONS = (
    Generation(r"(?:ft:)?(?:gpt-3|gpt-4|chatgpt-4)"),
    Generation(r"o\d", ("low", "medium", "high"), reasons=True, samples=False, one_call=False),
    Generation(r"gpt-5(?:\.\d+)?-chat"),
    Generation(r"gpt-5(?!\.)", ("minimal", "low", "medium", "high"), reasons=True, samples=False),
    Generation(r"gpt-5\.1(?!\d)", ("none", "low", "medium", "high")),
    Generation(r"gpt-5\.[2-4](?!\d)", _FROM_NONE, thinks_with_tools=False),
    Generation(r"gpt-", (*_FROM_NONE, "max"), reasons=True, thinks_with_tools=False),
    Generation(r"", ("minimal", *_FROM_NONE, "max")),
)


def generation_of(model: str) -> Generation:
    """The first generation whose pattern begins the model's id."""
    return next(row for row in GENERATIONS if re.match(row.pattern, model))
