"""What the run found, as a person reads it and as JSON."""

import json
from collections import Counter
from collections.abc import Iterator

from tools.fidelity.recordings import PROVIDERS
from tools.fidelity.run import LARGEST_SHARE, Outcome, Result


def told(result: Result, verbose: bool) -> Iterator[str]:
    """The report's lines, the figures last."""
    if verbose:
        for outcome in sorted(result.outcomes, key=lambda o: o.recording.name):
            yield f"{outcome.verdict:<9} {outcome.recording.name}{_because(outcome)}"
        yield ""
    yield from _groups("Skipped", [o.reasons[0] for o in result.of("skipped")])
    yield from _groups("Asked otherwise than recorded", [note for o in result.outcomes for note in o.notes])
    disagreed = result.of("disagreed")
    if disagreed:
        yield f"Disagreed: {len(disagreed)}"
        for outcome in disagreed:
            yield f"  {outcome.recording.name}"
            yield from (f"      {reason}" for reason in outcome.reasons)
        yield ""
    yield f"{'provider':<12}{'replayed':>9}{'agreed':>8}{'disagreed':>11}{'skipped':>9}"
    names = [*PROVIDERS, *sorted({o.recording.provider for o in result.outcomes} - set(PROVIDERS))]
    for name in names:
        counts = Counter(o.verdict for o in result.outcomes if o.recording.provider == name)
        replayed = counts["agreed"] + counts["disagreed"]
        yield f"{name:<12}{replayed:>9}{counts['agreed']:>8}{counts['disagreed']:>11}{counts['skipped']:>9}"
    share = len(disagreed) / result.replayed if result.replayed else 0.0
    yield f"disagreements: {share:.2%} of replayed (must stay below {LARGEST_SHARE:.0%})"
    yield result.last_line


def as_json(result: Result) -> str:
    """The same as one JSON document."""
    return json.dumps({
        "replayed": result.replayed, "agreed": len(result.of("agreed")), "skipped": len(result.of("skipped")),
        "disagreed": len(result.of("disagreed")),
        "exchanges": [
            {"name": o.recording.name, "provider": o.recording.provider, "kind": o.recording.kind,
             "streamed": o.recording.streamed, "status": o.recording.status, "outcome": o.verdict,
             "reasons": list(o.reasons), "notes": list(o.notes)}
            for o in result.outcomes
        ],
    }, ensure_ascii=True, indent=1)


def _because(outcome: Outcome) -> str:
    said = [*outcome.reasons[:1], *outcome.notes]
    return f" ({'; '.join(said)})" if said else ""


def _groups(title: str, reasons: list[str]) -> Iterator[str]:
    if not reasons:
        return
    yield f"{title}: {len(reasons)}"
    for reason, count in Counter(reasons).most_common():
        yield f"  {count:>4}  {reason}"
    yield ""
