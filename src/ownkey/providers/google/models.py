"""What each generation of Google's models accepts: data, because a setting it does not know is a refused call.

Sources: ai.google.dev, "Gemini thinking", "Thought signatures", "Function calling"; the developer's guides to
Gemini 3 and 3.5 (supported thinking levels). A model that no row names is taken for the newest generation.
"""

import re
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class Generation:
    """`thinking`: "none", "budget" (tokens, between the two bounds; `off` if 0 turns it off) or "level".

    `instructs`: system instructions, tools and JSON answers are known. `json_with_tools`: both at once.
    `demands_signatures`: an open tool turn without its thought signatures is refused. `media_results`: a
    function's response may hold images. `only_text`: false for models that answer with images or sound.
    """

    pattern: str
    thinking: Literal["none", "budget", "level"]
    levels: tuple[str, ...] = ()
    min_budget: int = 0
    max_budget: int = 0
    off: bool = False
    instructs: bool = True
    json_with_tools: bool = False
    demands_signatures: bool = False
    media_results: bool = False
    only_text: bool = True


_PRO_LEVELS = ("low", "medium", "high")
_FLASH_LEVELS = ("minimal", "low", "medium", "high")


def _third(pattern: str, levels: tuple[str, ...]) -> Generation:
    return Generation(pattern, "level", levels, json_with_tools=True, demands_signatures=True, media_results=True)


GENERATIONS = (
    Generation(r".*-(?:image|tts|audio|live|dialog)", "none", only_text=False),
    Generation(r"gemma", "none", instructs=False),
    Generation(r"gemini-(?:1|2\.0|pro$|pro-vision)", "none"),
    Generation(r"gemini-2\.5-flash-lite", "budget", min_budget=512, max_budget=24_576, off=True),
    Generation(r"gemini-2\.5-flash", "budget", min_budget=1, max_budget=24_576, off=True),
    Generation(r"gemini-2\.5", "budget", min_budget=128, max_budget=32_768),
    _third(r"gemini-3-pro", ("low", "high")),
    _third(r"gemini-[3-9](?:\.\d+)?-flash", _FLASH_LEVELS),
    _third(r"", _PRO_LEVELS),
)


def generation_of(model: str) -> Generation:
    """The first generation whose pattern begins the model's id (without "models/")."""
    name = model.removeprefix("models/")
    return next(row for row in GENERATIONS if re.match(row.pattern, name))
