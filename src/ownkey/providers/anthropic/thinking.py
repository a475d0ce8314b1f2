"""How much Claude thinks: reasoning effort and budgets as each generation of models takes them."""

from dataclasses import dataclass, field
from typing import Any

from ownkey.domain.conversation import ChatRequest, Untranslatable
from ownkey.providers.anthropic.models import Generation
from ownkey.providers.translation import EFFORT_SHARE

MIN_BUDGET_TOKENS = 1_024


@dataclass(frozen=True, slots=True)
class Thinking:
    """`fields` of the body; `asked`: the caller wants thoughts, which restricts sampling and forced tools.

    `demands_signatures`: an open tool turn is refused unless it begins with its signed thoughts (budgets).
    """

    fields: dict[str, Any] = field(default_factory=dict)
    asked: bool = False
    demands_signatures: bool = False


def thinking_fields(request: ChatRequest, generation: Generation, output_limit: int) -> Thinking:
    """Decide `thinking` and `output_config.effort`. Raises Untranslatable where the model has no such dial."""
    effort, budget = request.reasoning_effort, request.reasoning_max_tokens
    if effort is None and budget is None:
        return Thinking()
    if budget == 0 or (effort == "none" and budget is None):
        return _off(generation)
    if generation.thinking == "none":
        raise Untranslatable("reasoning_effort" if budget is None else "reasoning.max_tokens", "no thinking here")
    if budget is not None:
        if effort is not None:
            raise Untranslatable("reasoning", "either an effort or a number of tokens")
        if generation.thinking == "adaptive":
            raise Untranslatable("reasoning.max_tokens", "the model takes an effort only")
        if not MIN_BUDGET_TOKENS <= budget < output_limit:
            raise Untranslatable("reasoning.max_tokens", f"from {MIN_BUDGET_TOKENS} to below the output limit")
        return _budget(budget)
    assert effort is not None
    if effort not in EFFORT_SHARE:
        raise Untranslatable("reasoning_effort", f"the level {effort}")
    if generation.thinking == "budget":
        share = int(output_limit * EFFORT_SHARE[effort])
        budget = max(share, MIN_BUDGET_TOKENS)
        if budget >= output_limit:
            raise Untranslatable("reasoning_effort", f"needs an output limit above {MIN_BUDGET_TOKENS} tokens")
        return _budget(budget)
    return _adaptive(effort, generation)


def _off(generation: Generation) -> Thinking:
    match generation.off:
        case "omit":
            return Thinking()
        case "never":
            raise Untranslatable("reasoning_effort", "the model cannot be told not to think")
        case kind:
            return Thinking({"thinking": {"type": kind}})


def _budget(tokens: int) -> Thinking:
    fields = {"thinking": {"type": "enabled", "budget_tokens": tokens}}
    return Thinking(fields, asked=True, demands_signatures=True)


def _adaptive(effort: str, generation: Generation) -> Thinking:
    # Claude's scale begins at low: the least it can be asked for is what "minimal" means.
    level = "low" if effort == "minimal" else effort
    if level not in generation.efforts:
        raise Untranslatable("reasoning_effort", f"the model has no level {effort}")
    thinking: dict[str, Any] = {"type": "adaptive"}
    if generation.hides_thinking:
        thinking["display"] = "summarized"
    return Thinking({"thinking": thinking, "output_config": {"effort": level}}, asked=True)
