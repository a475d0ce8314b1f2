"""A selection of the fault table (`make faults`), and proof that its rules can be broken."""

import asyncio
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tools.faults.__main__ import main, play, select
from tools.faults.callers import Heard, Wire
from tools.faults.catalogue import NAMED, faults
from tools.faults.judge import Evidence, judge, wanted_of
from tools.faults.kinds import LANES, Case, Mode, Where
from tools.faults.page import last_line, problems, told, write_page
from tools.faults.run import Leaks, Result, cases_of, choose

SELECTION = (
    "reset before the head,length too short,closed inside a character,ends without finish,"
    "malformed after content,an empty stream,error after content,key echoed,307 elsewhere,"
    "429 empty,500 empty,gzip unasked,a login page"
)
LANE_OF = {lane.name: lane for lane in LANES}
FAULT_OF = {fault.name: fault for fault in faults()}


def test_a_selection_of_the_table() -> None:
    """No hang, no part presented as a whole, nothing left over; what another route can heal is healed."""
    lanes = {"chat", "router chat", "embeddings", "responses", "messages", "chat → google"}
    cases = [
        case for case in select(SELECTION, "")
        if case.lane.name in lanes and (case.where == "direct" or case.lane.name in {"chat", "messages"})
        and (case.where in {"direct", "once"} or case.mode == "live")
    ]
    assert len(cases) > 100

    result = asyncio.run(play(cases, 16, lambda *_: None, patient=False))

    assert problems(result.verdicts) == []
    assert result.good, list(told(result))
    healed = [verdict for verdict in result.verdicts if verdict.heals]
    assert len(healed) > 70
    assert all(verdict.healed for verdict in healed)


def test_the_table_is_long_and_every_refusal_is_in_it() -> None:
    """More than sixty faults, in every dialect, mode and place; every refusal that the emulator knows has a class."""
    cases = cases_of(faults())

    assert len(faults()) > 60
    assert {(case.lane.name, case.mode) for case in cases} == {(lane.name, m) for lane in LANES for m in lane.modes}
    assert {case.where for case in cases} == {"direct", "router", "both", "once"}
    assert {name for table in NAMED.values() for name in table} <= set(FAULT_OF)


# --- the rules can be broken


def case_of(
    fault: str = "closed after content", lane: str = "chat", mode: Mode = "live", where: Where = "direct"
) -> Case:
    return Case(1, FAULT_OF[fault], LANE_OF[lane], mode, where)


def evidence_of(case: Case, **changes: Any) -> Evidence:
    """A case that went well: an answer over the other route, paid for and settled."""
    body = b'data: {"choices":[{"delta":{"content":"All of it."},"finish_reason":"stop"}]}\n\ndata: [DONE]\n\n'
    heard = Heard(Wire(200, {"x-ownkey-receipt": "call_1"}, bytearray(body)), text="All of it.", finish="stop")
    attempts = [
        {"provider": "openai", "failure": "network", "signal": "connection closed"}, {"provider": "openrouter"},
    ]
    usual = Evidence(
        case, "All of it.", {"openai": "sk-proj-0123456789"}, heard, {"id": "call_1", "attempts": attempts}, spent=70,
        bound=100, billed=70,
    )
    return replace(usual, **changes)


def broken(evidence: Evidence) -> set[str]:
    return {rule for rule, _ in judge(evidence).broken}


def heard_of(evidence: Evidence, **changes: Any) -> Evidence:
    return replace(evidence, heard=replace(evidence.heard, **changes))


def test_a_case_that_went_well_breaks_no_rule() -> None:
    """The evidence that all others are changed from."""
    verdict = judge(evidence_of(case_of(mode="whole")))

    assert (verdict.broken, verdict.word, verdict.heals, verdict.healed) == ([], "other route", True, True)


@pytest.mark.parametrize(("changes", "rule"), [
    ({"seconds": 5.5}, "hang"),
    ({"hung": True, "raised": "nothing in time"}, "hang"),
    ({"text": "All of"}, "truncated"),
    ({"finish": None}, "truncated"),
    ({"finish": "length"}, "truncated"),
    ({"wire": Wire(200, {}, bytearray(b"data: {}\n\n"))}, "truncated"),
    ({"raised": "APIError", "wire": Wire(200, {}, bytearray(b'data: {"error":{"message":"x"}}\n\n'))}, "unclear"),
    ({"raised": "InternalServerError", "wire": Wire(503, {}, bytearray(b"no JSON"))}, "unclear"),
    ({"raised": "APIError", "wire": Wire(200, {}, bytearray(b"data: {}\n\ndata: [DONE]\n\n"))}, "truncated"),
    ({"wire": Wire(200, {"x-debug": "sk-proj-0123456789"}, bytearray(b"data: [DONE]\n\n"))}, "leaked"),
    ({"wire": Wire(200, {}, bytearray(b"data: [DONE]\n\n"), broken="ReadError: ")}, "broken"),
])
def test_what_the_caller_got_can_break_a_rule(changes: dict[str, Any], rule: str) -> None:
    """One rule after the other."""
    assert rule in broken(heard_of(evidence_of(case_of(mode="whole")), **changes))


@pytest.mark.parametrize(("changes", "rule"), [
    ({"receipt": {}}, "receipt"),
    ({"held": 5}, "hold"),
    ({"billed": 71}, "money"),
    ({"spent": 101}, "money"),
    ({"receipt": {"attempts": [{"provider": "openrouter"}]}}, "not struck"),
    ({"receipt": {"attempts": [{"provider": "openai", "failure": "auth", "signal": "401"}]}}, "class"),
    ({"receipt": {"attempts": [{"provider": "openai"}]}}, "unnoticed"),
    ({"receipt": {"attempts": [{"provider": "openai", "failure": "network", "signal": ""}], "x": "sk-proj-0123456789"}},
     "leaked"),
])
def test_what_the_books_say_can_break_a_rule(changes: dict[str, Any], rule: str) -> None:
    """One rule after the other."""
    assert rule in broken(evidence_of(case_of(mode="whole"), **changes))


def test_an_error_where_another_route_could_answer_is_a_broken_rule() -> None:
    """Clear as it may be."""
    error = {"error": {"message": "x", "code": "provider_unavailable", "receipt": "call_1"}}
    wire = Wire(503, {"x-ownkey-receipt": "call_1"}, bytearray(json.dumps(error).encode()))
    refused = heard_of(evidence_of(case_of(mode="whole")), raised="InternalServerError", wire=wire)
    last = heard_of(evidence_of(case_of(mode="whole", where="router")), raised="InternalServerError", wire=wire)
    last.receipt["attempts"] = [{"provider": "openrouter", "failure": "network", "signal": ""}]

    assert broken(refused) == {"not healed"}
    assert broken(last) == set()


@pytest.mark.parametrize(("case", "wanted"), [
    (case_of(mode="live"), "event"), (case_of(mode="whole"), "answer"), (case_of(mode="body"), "answer"),
    (case_of("405 empty"), "bad_request"), (case_of("401 empty"), "answer"),
    (case_of("401 empty", where="router"), "credential_rejected"), (case_of("500 empty", where="once"), "answer"),
    (case_of("429 empty", where="once"), "provider_unavailable"), (case_of("slow head", where="router"), "answer"),
    (case_of("gzip unasked"), "answer"), (case_of("402 empty", where="both"), "credential_out_of_funds"),
])
def test_what_a_fault_must_lead_to(case: Case, wanted: str) -> None:
    """The harness's own small table."""
    assert wanted_of(case) == wanted


def test_leftovers_make_a_run_bad() -> None:
    """However well its cases went."""
    good = Result([judge(evidence_of(case_of(mode="whole")))], [Leaks()])
    assert good.good

    leaks = (Leaks(sockets=1), Leaks(upstream=1), Leaks(tasks={"drain": 1}), Leaks(findings=[{}]), Leaks(log=["x"]))
    for leak in leaks:
        assert not replace(good, leaks=[leak]).good
    assert not Result().good


def test_the_page_shows_every_cell_and_the_totals() -> None:
    """What broke a rule stands out; the command's last line is on the page."""
    cases = cases_of(choose("closed after content,405 empty,406 empty"))
    verdicts = [judge(evidence_of(case)) for case in cases]
    page = write_page(Result(verdicts, [Leaks()]))

    assert last_line(Result(verdicts, [Leaks()])) in page
    assert "closed after content" in page
    assert "405 empty, 406 empty" in page
    assert "**" in page.partition("### ")[2]
    assert all(f"| {lane.name} |" in page or f" {lane.name} |" in page for lane in LANES)


def test_no_such_fault_could_not_be_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Exit code 2, and no page."""
    page = tmp_path / "page.md"

    assert main(["--only", "nothing like it", "--page", str(page)]) == 2
    assert "no such fault" in capsys.readouterr().err
    assert not page.exists()
