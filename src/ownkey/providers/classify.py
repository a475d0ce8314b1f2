"""One classifier for every way a provider says no: statuses, errors inside a 200 body, errors inside a stream.

A provider brings its failures as an ordered table of rules, data that can be read beside the provider's own
documentation; its codec turns an answer into ErrorFacts; the first rule that matches decides. What no rule of
the provider's matches is decided by status alone.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from enum import StrEnum
from typing import Any

import msgspec

from ownkey.domain.failures import Failure, FailureClass
from ownkey.domain.scrub import looks_like_secret, scrub_provider_text

MESSAGE_LIMIT = 300
MAX_RETRY_AFTER_MS = 24 * 3_600 * 1_000
# Statuses that come before any content and that providers do not bill, with three exceptions: a gateway's
# time-out does not tell whether the model went on and was paid for (OpenRouter docs, "Errors"; inferred).
MAYBE_BILLED_STATUSES = frozenset({408, 504, 524})

# What decoding JSON raises: no JSON or not the expected shape, no UTF-8, nested too deep.
UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)

_STABLE_WORD = re.compile(r"[A-Za-z][\w.\-]{0,63}\Z", re.ASCII)
_SECONDS = re.compile(r"\d{1,9}(?:\.\d{1,9})?\Z", re.ASCII)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
# A number of seconds of this century has 10 digits, one of milliseconds 13.
_EPOCH_MS_FROM = 10**11
_EPOCH_MS_TO = 10**14


class Evidence(StrEnum):
    """Where a row's signal comes from. Only `RECORDED` was ever seen in published traffic."""

    RECORDED = "recorded"
    DOCUMENTED = "documented"
    REPORTED = "reported"
    """In public issues."""
    SDK = "sdk"
    """In the sources of the official SDK."""
    INFERRED = "inferred"


@dataclass(frozen=True, slots=True)
class ErrorFacts:
    """What an error answer says, provider by provider, before anyone has judged it.

    `status` is the HTTP status (200 where the error came inside an answer); `stated` is the status that the
    error itself claims, if any. `codes` are all stable words it carries (code, error_type, Google's status and
    reasons …), `type` its type. `haystack` is lower-case text to search where `message` is not all there is.
    `marks` are findings that only the provider's codec can make ("retry_info", "limit_source"), as words that
    rules name. `retry_after_ms` is a wait stated in the body, `resets_at_ms` an end (Unix time) stated there.
    `headers` have lower-case names.
    """

    status: int
    message: str = ""
    codes: tuple[str, ...] = ()
    type: str = ""
    param: str | None = None
    stated: int | None = None
    haystack: str = ""
    marks: frozenset[str] = frozenset()
    retry_after_ms: int | None = None
    resets_at_ms: int | None = None
    headers: Mapping[str, str] = field(default_factory=dict)

    @property
    def effective_status(self) -> int:
        """The status that the failure would have had outside an answer; 0 if nothing says so."""
        if self.status >= 300:
            return self.status
        return self.stated or 0


@dataclass(frozen=True, slots=True)
class Rule:
    """One row of a failure table. Empty fields do not constrain; all others must hold.

    `id` names the row for tests and, where the answer has no stable word of its own, for signals. `statuses`
    are effective statuses; `types`, `codes` match if the facts have one of them; `phrases` if one of them is
    in the lower-case text (`prefixes`: begins it). `marks` must all be there, `lacks` must all be missing.
    `signal` and `text` replace the provider's own word and message. `resets_daily` is the zone at whose midnight
    the failure ends. `evidence` says how the signal became known.
    """

    id: str
    cls: FailureClass
    statuses: frozenset[int] = frozenset()
    codes: frozenset[str] = frozenset()
    types: frozenset[str] = frozenset()
    phrases: tuple[str, ...] = ()
    prefixes: tuple[str, ...] = ()
    marks: frozenset[str] = frozenset()
    lacks: frozenset[str] = frozenset()
    spares_credential: bool = False
    signal: str = ""
    text: str = ""
    resets_daily: str | None = None
    evidence: Evidence = Evidence.INFERRED

    def matches(self, facts: ErrorFacts, text: str) -> bool:
        """Whether the facts fulfil every constraint. `text` is the facts' searchable text in lower case."""
        return (
            (not self.statuses or facts.effective_status in self.statuses)
            and (not self.codes or not self.codes.isdisjoint(facts.codes))
            and (not self.types or facts.type in self.types)
            and (not self.phrases or any(phrase in text for phrase in self.phrases))
            and (not self.prefixes or text.startswith(self.prefixes))
            and self.marks <= facts.marks
            and self.lacks.isdisjoint(facts.marks)
        )


AUTH_TEXT = "The provider did not accept the credential."
SCOPE_TEXT = "The credential may not use this model or endpoint."

_SERVER_ERRORS = frozenset(range(500, 600))

ANY_RULES = (
    Rule("any.overload", FailureClass.OVERLOAD, statuses=_SERVER_ERRORS | {408, 409}, evidence=Evidence.SDK),
    Rule("any.auth", FailureClass.AUTH, statuses=frozenset({401, 403})),
    Rule("any.funds", FailureClass.FUNDS, statuses=frozenset({402})),
    Rule("any.rate_limit", FailureClass.RATE_LIMIT, statuses=frozenset({429})),
    Rule("any.request", FailureClass.REQUEST, statuses=frozenset(range(400, 500))),
    Rule("any.in_answer_request", FailureClass.REQUEST, types=frozenset({"invalid_request_error"})),
    Rule("any.else", FailureClass.OVERLOAD),
)
"""What no row of the provider's own table decides: by status, and an answer that broke for no stated reason."""


def match_rule(facts: ErrorFacts, rules: Sequence[Rule]) -> Rule:
    """The first rule of `rules`, then of ANY_RULES, that the facts fulfil."""
    text = (facts.haystack or facts.message).lower()
    for rule in (*rules, *ANY_RULES):
        if rule.matches(facts, text):
            return rule
    raise AssertionError("the last rule matches everything")


def classify(facts: ErrorFacts, rules: Sequence[Rule]) -> Failure:
    """Judge one error answer by a provider's table."""
    rule = match_rule(facts, rules)
    code = next((code for code in facts.codes if _is_stable(code)), None)
    word = rule.signal or code or (facts.type if _is_stable(facts.type) else rule.id.partition(".")[2])
    return Failure(
        cls=rule.cls,
        signal=f"{facts.status} {word}",
        message=_message(rule, facts.message),
        status=facts.status,
        retry_after_ms=retry_after_ms(facts),
        unbilled=facts.status >= 400 and facts.status not in MAYBE_BILLED_STATUSES,
        spares_credential=rule.spares_credential,
        param=scrub_provider_text(facts.param, MESSAGE_LIMIT)[0] if facts.param else None,
        provider_code=code,
        resets_at_ms=facts.resets_at_ms if rule.cls is FailureClass.FUNDS else None,
        resets_daily=rule.resets_daily,
    )


@dataclass(frozen=True, slots=True)
class FailureTable:
    """A provider's failures: its way of wording an error, and its rules in their order.

    `read` takes the HTTP status, headers with lower-case names, and whatever the answer holds as its `error`.
    """

    read: Callable[[int, Mapping[str, str], object], ErrorFacts]
    rules: Sequence[Rule]

    def judge_refusal(self, status: int, headers: Mapping[str, str], body: bytes) -> Failure:
        """Judge an answer whose status is not 200. Never raises, whatever the body holds."""
        lowered = {name.lower(): value for name, value in headers.items()}
        return classify(self.read(status, lowered, innermost_error(read_error_object(body))), self.rules)

    def judge_error(self, error: object) -> Failure:
        """Judge an error that came inside a 200 answer: its `error`, or the whole event or answer around it.

        Never raises, whatever it holds.
        """
        return classify(self.read(200, {}, innermost_error(error)), self.rules)


def _is_stable(word: str) -> bool:
    """Whether a provider's code is a word to show and compare, and not something it echoed."""
    return _STABLE_WORD.match(word) is not None and not looks_like_secret(word)


def _message(rule: Rule, text: str) -> str:
    """What may be shown: never a provider's own words about a credential, which quote parts of it."""
    if rule.text:
        return rule.text
    if rule.cls is FailureClass.AUTH:
        return AUTH_TEXT
    if rule.cls is FailureClass.SCOPE:
        return SCOPE_TEXT
    return scrub_provider_text(text, MESSAGE_LIMIT)[0]


def retry_after_ms(facts: ErrorFacts) -> int | None:
    """The wait the provider stated, in milliseconds and at most a day; None if it stated none that counts.

    Only 402, 429 and 5xx can ask for a wait: Anthropic sends Retry-After with good answers too. A date needs
    the answer's own Date header to become a wait; this code has no clock.
    """
    status = facts.effective_status
    if status not in (402, 429) and not 500 <= status < 600:
        return None
    wait = _header_wait_ms(facts.headers) if facts.headers else None
    if wait is None:
        wait = facts.retry_after_ms
    return None if wait is None else min(max(wait, 0), MAX_RETRY_AFTER_MS)


def _header_wait_ms(headers: Mapping[str, str]) -> int | None:
    milliseconds = headers.get("retry-after-ms", "").strip()
    if _SECONDS.match(milliseconds):
        return _ceil_decimal(milliseconds, 0)
    stated = headers.get("retry-after", "").strip()
    if _SECONDS.match(stated):
        return _ceil_decimal(stated, 3)
    if not stated or "date" not in headers:
        return None
    try:
        wait = parsedate_to_datetime(stated) - parsedate_to_datetime(headers["date"])
    except (ValueError, TypeError, OverflowError):
        return None
    return int(wait.total_seconds() * 1_000)


def seconds_ms(value: object) -> int | None:
    """A wait in seconds as providers put it into bodies (34, 34.4, "34", "34.4s") in milliseconds."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    text = str(value).strip().removesuffix("s")
    return _ceil_decimal(text, 3) if _SECONDS.match(text) else None


def stated_time_ms(value: object) -> int | None:
    """A moment as providers put it into bodies (ISO 8601, or Unix time in seconds or milliseconds) in Unix
    milliseconds. A time without a zone is UTC."""
    if isinstance(value, str) and value.isdecimal() and len(value) < 16:
        value = int(value)
    if isinstance(value, int) and not isinstance(value, bool):
        moment = value if value >= _EPOCH_MS_FROM else value * 1_000
        return moment if _EPOCH_MS_FROM <= moment < _EPOCH_MS_TO else None
    if not isinstance(value, str):
        return None
    try:
        found = datetime.fromisoformat(value)
        return ((found if found.tzinfo else found.replace(tzinfo=UTC)) - _EPOCH) // timedelta(milliseconds=1)
    except (ValueError, OverflowError):
        return None


def _ceil_decimal(text: str, shift: int) -> int:
    """The digits of a decimal times 10^shift, rounded up."""
    whole, _, fraction = text.partition(".")
    kept, lost = fraction[:shift].ljust(shift, "0"), fraction[shift:]
    return int(whole + kept) + (1 if lost.strip("0") else 0)


def read_error_object(body: bytes) -> dict[str, Any] | None:
    """An error body as a JSON object; None for HTML, text, nothing or anything else. Never raises.

    A list of one object is unwrapped: Google answers so on some paths.
    """
    try:
        value = msgspec.json.decode(body)
    except UNREADABLE:
        return None
    if isinstance(value, list) and len(value) == 1:
        value = value[0]
    return value if isinstance(value, dict) else None


def innermost_error(value: object) -> object:
    """The error object inside an answer, an event (`error`, `response.failed`) or a list of one; others as they are.

    OpenRouter puts its stable `error_type` beside the error of a response, and `metadata` beside that of a message.
    """
    if isinstance(value, list) and len(value) == 1:
        value = value[0]
    if not isinstance(value, dict):
        return value
    outer = value["response"] if isinstance(value.get("response"), dict) else value
    error = outer.get("error")
    if isinstance(error, str) and error:
        return error
    if not isinstance(error, dict):
        return outer
    # A response's own `metadata` is the caller's; only an error's envelope speaks for the provider.
    beside = ("error_type", "metadata", "openrouter_metadata") if outer.get("type") == "error" else ("error_type",)
    return {name: outer[name] for name in beside if name in outer} | error


def text_of(value: object) -> str:
    """A field that should be text: "" for null and everything else that is not."""
    return value if isinstance(value, str) else ""
