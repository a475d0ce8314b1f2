"""Token usage in disjoint classes: no token is counted in two of them.

Providers nest their counters differently (OpenAI's prompt tokens include the cached ones, Anthropic's do not;
Google's candidate tokens exclude thoughts, OpenAI's completion tokens include them). Codecs undo that once, here
is the common shape.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Usage:
    """Counts of one attempt. `reasoning` is disjoint from `output`; `input` is fresh input only.

    `cost_nusd` is what the provider says it bills (OpenRouter), None where it says nothing; `is_byok` is
    OpenRouter's flag for the customer's provider key kept inside OpenRouter. `units` counts named fees
    (("web_search", 2),) that are billed per piece.
    """

    input: int = 0
    cache_read: int = 0
    cache_write_5m: int = 0
    cache_write_1h: int = 0
    output: int = 0
    reasoning: int = 0
    audio_input: int = 0
    audio_output: int = 0
    units: tuple[tuple[str, int], ...] = ()
    cost_nusd: int | None = None
    is_byok: bool = False

    @property
    def total_input(self) -> int:
        """Everything the provider read: fresh, cached and audio."""
        return self.input + self.cache_read + self.cache_write_5m + self.cache_write_1h + self.audio_input

    @property
    def total_output(self) -> int:
        """Everything the provider wrote, reasoning and audio included."""
        return self.output + self.reasoning + self.audio_output
