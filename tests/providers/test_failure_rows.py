"""Every line of the failure contract, one test an answer; every rule has an answer, every answer its class."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from anthropic_google_wire import read_streamed
from failure_page import CLASSES, render
from failure_rows import ABSENT, LINES, WIRE, Recorded, Row, Shape, _recorded, _shapes

from ownkey.domain.bounds import RequestShape
from ownkey.domain.failures import Failure, FailureClass, UpstreamError
from ownkey.domain.wire import Seen
from ownkey.gateway.attempt import failure_of
from ownkey.providers.anthropic import AnthropicProvider
from ownkey.providers.anthropic.failures import FAILURES as ANTHROPIC
from ownkey.providers.classify import ANY_RULES, Evidence, FailureTable, innermost_error, match_rule, read_error_object
from ownkey.providers.google import GoogleProvider
from ownkey.providers.google.failures import FAILURES as GOOGLE
from ownkey.providers.openai import OpenAIProvider
from ownkey.providers.openai.failures import FAILURES as OPENAI
from ownkey.providers.openrouter import OpenRouterProvider
from ownkey.providers.openrouter.failures import FAILURES as OPENROUTER

TABLES: dict[str, FailureTable] = {
    "openai": OPENAI, "anthropic": ANTHROPIC, "google": GOOGLE, "openrouter": OPENROUTER,
}
PROVIDERS: dict[str, Any] = {
    "openai": OpenAIProvider(), "anthropic": AnthropicProvider(), "google": GoogleProvider(),
    "openrouter": OpenRouterProvider(),
}
ROWS = [row for line in LINES for row in line.rows]
PAGE = Path(__file__).resolve().parents[2] / "docs" / "failures.md"


def _param(row: Row, n: int) -> Any:
    marks = [pytest.mark.recorded] if row.evidence == "recorded" else []
    if row.body() is None:
        marks.append(pytest.mark.skip(reason=ABSENT))
    name = row.rule or f"{row.provider}.{row.at}"
    return pytest.param(row, id=f"{row.evidence}-{name}-{row.status}-{n}", marks=marks)


def judge(row: Row) -> Failure:
    """The row's answer as its provider's own reader judges it; a dialect's refusal inside a 200 counts as POLICY."""
    body = row.body()
    assert body is not None
    if row.at == "refusal":
        return PROVIDERS[row.provider].decode_failure(row.status, row.headers, body)
    if row.at == "error":
        return TABLES[row.provider].judge_error(json.loads(body))
    seen = _read(row, body)
    if seen.refused:
        return Failure(FailureClass.POLICY, "refused")
    assert seen.failure is not None
    return seen.failure


def _read(row: Row, body: bytes) -> Seen:
    codec, mode = PROVIDERS[row.provider].codec("openai", "chat")
    if row.at == "whole":
        return codec.observe_whole(body) if mode == "passthrough" else codec.decode_whole(body)[0]
    if mode == "passthrough":
        reader = codec.passthrough(SimpleNamespace(include_usage=True, shape=RequestShape(0)))
    else:
        reader = codec.events()
    read_streamed(reader, [body])
    return reader.seen


@pytest.mark.parametrize("row", [_param(row, n) for n, row in enumerate(ROWS)])
def test_an_answer_has_its_class(row: Row) -> None:
    """What the contract says of this answer, and the rule that says it."""
    failure = judge(row)

    assert failure.cls.value == row.cls
    if row.rule:
        body = row.body()
        facts = TABLES[row.provider].read(
            row.status, {name.lower(): value for name, value in row.headers.items()},
            innermost_error(read_error_object(body or b"")),
        )
        assert match_rule(facts, TABLES[row.provider].rules).id == row.rule
    if row.at == "refusal":
        assert failure.unbilled is (row.status >= 400 and row.status not in (408, 504, 524))
    for name, value in row.expect.items():
        assert getattr(failure, name) == value, name


@pytest.mark.parametrize(("timeout", "cls"), [(False, "network"), (True, "timeout")], ids=[
    "reconstructed-no-connection", "reconstructed-no-head",
])
def test_a_broken_exchange_has_its_class(timeout: bool, cls: str) -> None:
    """DNS, connect, TLS, reset: network; no head in time: timeout. Unbilled only if nothing was sent."""
    for sent in (False, True):
        failure = failure_of(UpstreamError("broke", sent=sent, received=False, timeout=timeout))

        assert (failure.cls.value, failure.unbilled) == (cls, not sent)


@pytest.mark.parametrize("provider", [*TABLES, "any"], ids=lambda name: f"reconstructed-{name}")
def test_every_rule_has_an_answer(provider: str) -> None:
    """A rule without an answer is a guess; an answer under another class than its rule's is a mistake here."""
    rules = {rule.id: rule for rule in (ANY_RULES if provider == "any" else TABLES[provider].rules)}
    shown = {row.rule: row.cls for row in ROWS if row.rule.startswith(f"{provider}.")}

    assert set(shown) == set(rules)
    assert {name: cls for name, cls in shown.items() if rules[name].cls.value != cls} == {}


def test_every_line_has_an_answer_reconstructed() -> None:
    """Each line of the contract ends in its class at least once."""
    assert [line.signal for line in LINES if line.cls not in {row.cls for row in line.rows}] == []
    assert {line.cls for line in LINES} | {"network", "timeout"} == {cls.value for cls in FailureClass}


@pytest.mark.skipif(not WIRE.is_dir(), reason=ABSENT)
def test_only_what_was_recorded_is_called_recorded() -> None:
    """recorded: a rule says RECORDED if, and only if, a recording shows it."""
    shown = {row.rule for row in ROWS if isinstance(row.given, Recorded) and not row.rule.startswith("any.")}
    said = {rule.id for table in TABLES.values() for rule in table.rules if rule.evidence is Evidence.RECORDED}

    assert shown == said


@pytest.mark.recorded
@pytest.mark.skipif(not WIRE.is_dir(), reason=ABSENT)
@pytest.mark.parametrize("provider", [pytest.param(name, id=f"recorded-{name}") for name in TABLES])
def test_no_recorded_refusal_falls_to_an_unrecorded_rule(provider: str) -> None:
    """Every recorded refusal is judged by a rule that was shown by a recording, or by its status alone."""
    recorded = {rule.id for rule in TABLES[provider].rules if rule.evidence is Evidence.RECORDED}
    any_rules = {rule.id for rule in ANY_RULES}
    used = set()
    for path in sorted((WIRE / "recordings").glob(f"*/{provider}/*")):
        found = _recorded(path)
        if found is not None and found[0] >= 400:
            error = innermost_error(read_error_object(found[1].encode()))
            used.add(match_rule(TABLES[provider].read(found[0], {}, error), TABLES[provider].rules).id)

    assert used
    assert used <= recorded | any_rules | {"openai.insufficient_quota"}


@pytest.mark.skipif(not WIRE.is_dir(), reason=ABSENT)
def test_every_rebuilt_shape_is_used_reconstructed() -> None:
    """No shape of the collection stays untested."""
    used = {(row.given.provider, row.given.classification, row.given.n) for row in ROWS if isinstance(row.given, Shape)}
    counted: dict[tuple[str, str], int] = {}
    there = set()
    for shape in _shapes():
        key = (shape["provider"], shape["classification"])
        there.add((*key, counted.get(key, 0)))
        counted[key] = counted.get(key, 0) + 1

    assert there - used == EXPLAINED


# The Responses event of an overloaded server is read by the codec of /responses, which is tested with its dialect.
EXPLAINED = {("openai", "mid-stream overloaded (Responses)", 0)}

# Rules may stand before their turn if they only refine what the rules between say: same class, more detail.
REFINES = {"openrouter.can_only_afford"}


@pytest.mark.parametrize("provider", TABLES, ids=lambda name: f"reconstructed-{name}")
def test_rules_stand_in_the_contracts_order(provider: str) -> None:
    """Stable codes (and the words of OpenRouter's metadata) first, then types, then texts, then statuses alone."""

    def stage(rule: Any) -> int:
        if rule.codes or rule.marks:
            return 0
        return 1 if rule.types else 2 if rule.phrases or rule.prefixes else 3

    stages = [stage(rule) for rule in TABLES[provider].rules if rule.id not in REFINES]

    assert stages == sorted(stages)


def test_the_page_is_current() -> None:
    """docs/failures.md says what the tables say: `python -m tests.providers.failure_page > docs/failures.md`."""
    assert PAGE.read_text() == render()
    assert set(CLASSES) == {cls.value for cls in FailureClass}
