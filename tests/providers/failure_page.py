"""docs/failures.md, written from the tables themselves: `python -m tests.providers.failure_page > docs/failures.md`."""

import sys
from collections.abc import Iterable, Iterator
from itertools import groupby

from ownkey.domain.failures import Failure, FailureClass
from ownkey.domain.routing import After, Mark, Route, Step, code_for, decide_after
from ownkey.providers.anthropic.failures import RULES as ANTHROPIC
from ownkey.providers.classify import ANY_RULES, Evidence, Rule
from ownkey.providers.google.events import _UNUSABLE, _WITHHELD
from ownkey.providers.google.failures import RULES as GOOGLE
from ownkey.providers.openai.failures import RULES as OPENAI
from ownkey.providers.openrouter.failures import RULES as OPENROUTER

HEAD = """# Why a call failed, and what followed

This page is generated from the tables that judge every failure (`python -m tests.providers.failure_page >
docs/failures.md`); a test keeps it current.

A receipt names the class and the signal of each failed attempt. One classifier judges refused requests, errors inside
an answer with status 200 and errors inside a stream. It asks the provider's own rows from top to bottom, then the rows
for any provider; the first that fits decides.

**Evidence.** *recorded*: seen in published traffic. Everything else is *reconstructed*: from the provider's
documentation, from its official SDK, from public reports, or inferred from the meaning of a status. No error of the
last four kinds is called real traffic anywhere in this project.

**Waits.** A provider's `retry-after-ms`, `retry-after` (seconds, or a date), Google's `RetryInfo` and OpenRouter's
`availability.retry_after` count with 402, 429 and 5xx only, inside streams too, and at most 24 hours.

**Lack of funds that ends by itself.** OpenRouter's `resets_at` and the date in Anthropic's sentence ("regain access
on …") are taken over; Google's quotas of a day end at midnight in Los Angeles.
"""

CLASSES = {
    "network": "The connection broke, or none came about.",
    "overload": "The provider is down or too busy.",
    "timeout": "Nothing, or nothing more, came in time.",
    "rate_limit": "Too many requests or tokens for now.",
    "auth": "The provider does not accept the key.",
    "scope": "The key may not use this model or endpoint.",
    "funds": "The key's money, limit or quota is used up.",
    "model_missing": "This route does not have the model.",
    "request": "The request itself is wrong.",
    "too_long": "The request is too long for the model.",
    "policy": "The content was refused.",
    "bad_output": "The model's output cannot be used, and was paid for.",
}
"""What each class means to an operator."""

STEPS = {
    Step.STOP: "stop", Step.NEXT_ROUTE: "next route", Step.RETRY: "once more, then next model",
    Step.NEXT_MODEL: "next model", Step.CREDITS: "credits",
}
MARKS = {
    Mark.NONE: "none", Mark.REJECTED: "unhealthy: rejected", Mark.NO_FUNDS: "unhealthy: out of funds",
    Mark.MODEL_OFF: "this model off for an hour", Mark.CIRCUIT: "circuit",
}
TITLES = {"openai": "OpenAI", "anthropic": "Anthropic", "google": "Google (Gemini)", "openrouter": "OpenRouter"}

# What is judged where it is seen, before or beside the tables: (provider, signal, class, evidence).
SEEN_BY_CODE = (
    ("any", "no address, no connection, TLS failed, reset, or the end before any event", "network", Evidence.INFERRED),
    ("any", "no head, no first content, or a stall before content, in time", "timeout", Evidence.INFERRED),
    ("openai", "200 whose message is a `refusal`, or finish `content_filter`", "policy", Evidence.DOCUMENTED),
    ("anthropic", "200 with stop_reason `refusal`", "policy", Evidence.RECORDED),
    ("google", "200 with `promptFeedback.blockReason`", "policy", Evidence.SDK),
    ("google", "200 with finishReason " + ", ".join(f"`{name}`" for name in sorted(_WITHHELD)), "policy", Evidence.SDK),
    ("google", "200 with finishReason " + ", ".join(f"`{name}`" for name in sorted(_UNUSABLE)), "bad_output",
     Evidence.SDK),
    ("openrouter", "200 with finish `error` and no code, or `native_finish_reason` `error`, `network_error` without "
     "content", "overload", Evidence.REPORTED),
)


def render() -> str:
    """The whole page."""
    lines = [HEAD, "## The classes", "", *_classes(), ""]
    lines += [
        "**Unhealthy** keys are skipped until a probe, a Test or a good answer restores them. A 402 that a smaller",
        'call may pass ("can only afford") leaves the key as it is.', "",
    ]
    for provider, rules in (("openai", OPENAI), ("anthropic", ANTHROPIC), ("google", GOOGLE),
                            ("openrouter", OPENROUTER), ("any", ANY_RULES)):
        lines += [f"## {TITLES.get(provider, 'Any provider, where nothing above decides')}", "",
                  *_table(provider, rules), ""]
    return "\n".join(lines)


def _classes() -> Iterator[str]:
    yield "| class | meaning | after a direct route | after OpenRouter | effect on the key | caller's code |"
    yield "|---|---|---|---|---|---|"
    for cls, meaning in CLASSES.items():
        failure = Failure(FailureClass(cls), "", retry_after_ms=1)
        direct, routed = (_after(failure, route) for route in (Route.DIRECT, Route.OPENROUTER))
        wait = " (if the stated wait is short)" if cls == "rate_limit" else ""
        yield (
            f"| `{cls}` | {meaning} | {STEPS[direct.step]} | {STEPS[routed.step]}{wait} | {MARKS[direct.mark]} "
            f"| `{code_for(failure.cls).value}` |"
        )


def _after(failure: Failure, route: Route) -> After:
    """As shipped: a direct route is not tried again, OpenRouter once."""
    return decide_after(
        failure, route, answer_started=False, retried=route is Route.DIRECT, fail_on_direct_auth=False,
        credits_on_key_failure=False,
    )


def _table(provider: str, rules: Iterable[Rule]) -> Iterator[str]:
    yield "| row | signal | class | what follows | evidence |"
    yield "|---|---|---|---|---|"
    for rule in rules:
        yield _row(rule.id.partition(".")[2], _words(rule), rule.cls, provider, rule.evidence, rule.spares_credential)
    for where, signal, cls, evidence in SEEN_BY_CODE:
        if where == provider:
            yield _row("", signal, FailureClass(cls), provider, evidence, False)


def _row(name: str, words: str, cls: FailureClass, provider: str, evidence: Evidence, spares: bool) -> str:
    after = _after(
        Failure(cls, "", spares_credential=spares), Route.OPENROUTER if provider == "openrouter" else Route.DIRECT
    )
    effect = "" if after.mark is Mark.NONE else f"; {MARKS[after.mark]}"
    proof = "recorded" if evidence is Evidence.RECORDED else f"reconstructed ({evidence.value})"
    return f"| {name} | {words} | `{cls.value}` | {STEPS[after.step]}{effect} | {proof} |"


def _words(rule: Rule) -> str:
    """A rule's constraints as a phrase."""
    parts = []
    if rule.statuses:
        parts.append(_statuses(rule.statuses))
    for word, names in (("code", rule.codes), ("type", rule.types)):
        if names:
            parts.append(f"{word} " + ", ".join(f"`{name}`" for name in sorted(names)))
    if rule.marks:
        parts.append("with " + ", ".join(f"`{mark}`" for mark in sorted(rule.marks)))
    if rule.phrases:
        parts.append("text contains " + " or ".join(f'"{phrase}"' for phrase in rule.phrases))
    if rule.prefixes:
        parts.append("text begins " + " or ".join(f'"{prefix}"' for prefix in rule.prefixes))
    return "; ".join(parts) or "anything else"


def _statuses(statuses: frozenset[int]) -> str:
    """500-599 rather than a hundred numbers."""
    runs = []
    for _, group in groupby(enumerate(sorted(statuses)), lambda pair: pair[1] - pair[0]):
        run = [status for _, status in group]
        runs.append(str(run[0]) if len(run) == 1 else f"{run[0]}-{run[-1]}")
    return ", ".join(runs)


if __name__ == "__main__":
    sys.stdout.write(render())
