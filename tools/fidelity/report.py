"""What the run found, as a person reads it and as JSON."""

import json
from collections import Counter
from collections.abc import Iterator

from tools.fidelity.asking import DOORS
from tools.fidelity.bodies import PROVIDERS, Recording
from tools.fidelity.run import LEAST_OWN, LEAST_TRANSLATED, Outcome, Result, counted


def told(result: Result, verbose: bool) -> Iterator[str]:
    """The report's lines, the figures last."""
    if verbose:
        for outcome in sorted(result.outcomes, key=lambda o: (o.recording.name, o.door)):
            yield f"{outcome.verdict:<9} {outcome.recording.name} {outcome.door}{_because(outcome)}"
        yield ""
    yield from _groups("Skipped", [o.reasons[0] for o in result.of("skipped")])
    yield from _groups("Not recorded, so supposed", [r.supposed for r in _recordings(result) if r.supposed])
    yield from _groups("Asked otherwise than recorded", [note for o in result.outcomes for note in o.notes])
    disagreed = result.of("disagreed")
    if disagreed:
        yield f"Disagreed: {len(disagreed)}"
        for outcome in disagreed:
            yield f"  {outcome.recording.name} at {outcome.door}"
            yield from (f"      {reason}" for reason in outcome.reasons)
        yield ""
    yield from _table(result)
    yield ""
    for own, title, least in ((True, "own dialect", LEAST_OWN), (False, "translated", LEAST_TRANSLATED)):
        agreed, replayed = counted(o for o in result.outcomes if o.own == own)
        share = f"{result.share(own):.2%}" if replayed else "none"
        yield f"{title}: replayed {replayed}, agreed {agreed}, {share} (at least {least:.0%})"
    yield result.last_line


def _table(result: Result) -> Iterator[str]:
    """A line for each provider's endpoint and caller's door, and the skips by provider."""
    yield f"{'provider':<12}{'recorded':<13}{'asked at':<28}{'replayed':>9}{'agreed':>8}{'disagreed':>11}"
    for (provider, kind), doors in DOORS.items():
        for door in doors:
            agreed, replayed = counted(
                o for o in result.outcomes
                if (o.recording.provider, o.recording.kind, o.door) == (provider, kind, str(door))
            )
            if replayed:
                yield f"{provider:<12}{kind:<13}{door!s:<28}{replayed:>9}{agreed:>8}{replayed - agreed:>11}"
    skipped = Counter(o.recording.provider for o in result.of("skipped"))
    names = sorted(skipped, key=lambda name: (name not in PROVIDERS, name))
    if skipped:
        yield "skipped: " + ", ".join(f"{name or 'unknown'} {skipped[name]}" for name in names)


def as_json(result: Result) -> str:
    """The same as one JSON document."""
    sorts = {}
    for own, title in ((True, "own"), (False, "translated")):
        agreed, replayed = counted(o for o in result.outcomes if o.own == own)
        sorts[title] = {"replayed": replayed, "agreed": agreed}
    return json.dumps({
        "replayed": result.replayed, "agreed": len(result.of("agreed")), "skipped": len(result.of("skipped")),
        "disagreed": len(result.of("disagreed")), **sorts,
        "exchanges": [
            {"name": o.recording.name, "provider": o.recording.provider, "kind": o.recording.kind,
             "streamed": o.recording.streamed, "status": o.recording.status, "door": o.door, "own": o.own,
             "outcome": o.verdict, "reasons": list(o.reasons), "notes": list(o.notes)}
            for o in result.outcomes
        ],
    }, ensure_ascii=True, indent=1)


def _recordings(result: Result) -> list[Recording]:
    return list({o.recording.name: o.recording for o in result.outcomes}.values())


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
