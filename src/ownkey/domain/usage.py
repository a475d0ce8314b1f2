"""Token usage in disjoint classes: no token is counted in two of them.

Providers nest their counters differently (OpenAI's prompt tokens include the cached ones, Anthropic's do not;
Google's candidate tokens exclude thoughts, OpenAI's completion tokens include them). Codecs undo that once, here
is the common shape.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Usage:
    """Counts of one attempt. `reasoning` is disjoint from `output`; `input` is fresh input only, `cache_read` what was
    read from a cache but for sound, which is `audio_cache_read`.

    `cost_nusd` is what the provider says it bills (OpenRouter), None where it says nothing; `is_byok` is
    OpenRouter's flag for the customer's provider key kept inside OpenRouter. `units` counts named fees
    (("web_search", 2),) that are billed per piece. `others` is billed work inside the same call that the provider
    counts apart, and is in no other class: by the provider's id of the model that did it (Anthropic's advisor, a model
    that declined half-way), "" for the answering model itself (a compaction of the context).
    """

    input: int = 0
    cache_read: int = 0
    cache_write_5m: int = 0
    cache_write_1h: int = 0
    output: int = 0
    reasoning: int = 0
    audio_input: int = 0
    audio_output: int = 0
    audio_cache_read: int = 0
    units: tuple[tuple[str, int], ...] = ()
    cost_nusd: int | None = None
    is_byok: bool = False
    others: tuple[tuple[str, "Usage"], ...] = ()

    @property
    def total_input(self) -> int:
        """Everything the provider read: fresh, cached and audio."""
        written = self.cache_write_5m + self.cache_write_1h
        return self.input + self.cache_read + written + self.audio_input + self.audio_cache_read

    @property
    def total_output(self) -> int:
        """Everything the provider wrote, reasoning and audio included."""
        return self.output + self.reasoning + self.audio_output
