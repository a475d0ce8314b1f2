"""A receipt's headline: in a breath, who paid how much, or why nobody did. Pages, command line and notices share it.

It only says what the receipt proves. `receipt_words.describe` tells the same at length.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from ownkey.domain.caps import parse_timezone
from ownkey.domain.money import format_usd
from ownkey.domain.receipt_words import KEY_UNOPENABLE
from ownkey.domain.receipts import (
    KEY_TEST,
    PROCESS_STOPPED,
    AttemptRecord,
    Basis,
    CapView,
    Receipt,
    provider_name,
)
from ownkey.domain.refusals import KEY_STATE, Code
from ownkey.domain.routing import Funding, Route

_STEPPED_IN: Final = 'because "Use credits if my key fails" is on'
_COST_DECIMALS = 4
_NUMBERS = ("No", "One", "Two", "Three", "Four", "Five", "Six", "Seven", "Eight", "Nine")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Beside:
    """What a headline is told that no receipt holds: the workspace's zone, and when the pause began that refused the
    call (None: not known). `figures` False is for those who see no amounts, hints and caps."""

    timezone: str = "UTC"
    paused_at_ms: int | None = None
    figures: bool = True


def headline(receipt: Receipt, beside: Beside = Beside()) -> str:
    """One to three short sentences. Total: every receipt has one."""
    if receipt.message == PROCESS_STOPPED:
        return _tell_died(receipt, beside)
    if receipt.task == KEY_TEST and receipt.attempts:
        return _tell_test(receipt, beside)
    if not receipt.attempts:
        return _tell_refused(receipt, beside)
    if receipt.code is not None and receipt.served_model is None:
        return _tell_unanswered(receipt, beside)
    if receipt.code is not None:
        spent = _tell_spent(receipt, "; {}.") if beside.figures else "."
        return f"The answer was cut after it began, so it was not restarted{spent}"
    if receipt.hung_up and receipt.finish_reason is None:
        return _tell_hung_up(receipt, beside)
    left = " The caller hung up before reading the end." if receipt.hung_up else ""
    return f"{_tell_answered(receipt, beside)}{left}"


def cost_text(amount_nusd: int) -> str:
    """What a call cost: every digit, and at least four decimals, so that costs stand in line: `US$0.0100`."""
    whole, _, decimals = format_usd(amount_nusd).partition(".")
    return f"US${whole}.{decimals.ljust(_COST_DECIMALS, '0')}"


# --- answered


def _tell_answered(receipt: Receipt, beside: Beside) -> str:
    answered = receipt.attempts[-1]
    failed = _failures(receipt.attempts[:-1])
    if answered.route is Route.CREDITS:
        return _tell_credits(receipt, beside)
    name = provider_name(answered.provider)
    paid = _tell_key_paid(receipt, answered, beside)
    others = _tell_other_keys(receipt, answered) if beside.figures else ""
    if not failed:
        hint = _tail(answered) if beside.figures else ""
        return f"Your {name} key{hint} {paid}. {_NUMBERS[1]} attempt."
    if all(_same_key(a, answered) for a in failed):
        hint = _tail(answered) if beside.figures else ""
        return (
            f"{_listed(failed)}, then answered on the next try: your {name} key{hint} {paid}.{others} "
            "Credits were not used."
        )
    what = paid if paid.startswith("answered") else f"answered and {paid}"
    return f"{_listed(failed)}, so your {name} key {what}.{others} Credits were not used."


def _tell_credits(receipt: Receipt, beside: Beside) -> str:
    """Credits paid: the first attempt's way there, then how many."""
    taken = _tell_taken(receipt, beside)
    on_credits = [a for a in receipt.attempts if a.route is Route.CREDITS]
    tries = "" if len(on_credits) == 1 else f" It took {len(receipt.attempts)} attempts."
    way = _way_to_credits(receipt)
    if way:
        return f"{way} {taken} {_STEPPED_IN}.{tries}"
    if receipt.row == "F10":
        return f"Your OpenRouter key failed. {taken} {_STEPPED_IN}.{tries}"
    return f"{taken} because no key of yours is in force.{tries or ' One attempt.'}"


def _way_to_credits(receipt: Receipt) -> str:
    """What led from the customer's own keys to credits, as a sentence; "" where credits are the usual payer."""
    own = _failures(a for a in receipt.attempts if a.route is not Route.CREDITS)
    told = [_tell_failure(a) if a.route is Route.DIRECT else _tell_key_failure(a) for a in own]
    if receipt.row == "F10" and not any(a.route is Route.OPENROUTER for a in own):
        told += [_tell_skip(s.why) for s in receipt.skips if s.route is Route.OPENROUTER][:1]
    if receipt.row == "F13" and any(note.startswith(KEY_UNOPENABLE) for note in receipt.notes):
        told.append("your OpenRouter key could not be opened")
    told = list(dict.fromkeys(told))
    return f"{_capital(', then '.join(told))}." if told else ""


def _tell_skip(why: str) -> str:
    if why == KEY_UNOPENABLE:
        return "your OpenRouter key could not be opened"
    reason = f"it{why.removeprefix('the key')}" if why.startswith("the key ") else why
    return f"your OpenRouter key was left out: {reason}"


def _tell_taken(receipt: Receipt, beside: Beside) -> str:
    """Credits as the subject of a sentence that ends in "because …"."""
    if receipt.charge_credits:
        if not beside.figures:
            return "Credits paid"
        return f"{receipt.charge_credits:,} credit{'' if receipt.charge_credits == 1 else 's'} paid"
    if receipt.charge_nusd:
        return "The rest of an earlier credit paid" if beside.figures else "Credits paid"
    return "Credits were to pay, and none was taken," if beside.figures else "Credits were to pay"


def _tell_key_paid(receipt: Receipt, answered: AttemptRecord, beside: Beside) -> str:
    """What the key that answered did: its attempts together."""
    mine = [a for a in receipt.attempts if _same_key(a, answered)]
    costs = [a.cost_nusd for a in mine]
    if None in costs:
        return "answered at a price that is not known" if beside.figures else "answered"
    cost = sum(c for c in costs if c is not None)
    if cost == 0:
        return "answered, and it cost nothing" if beside.figures else "answered"
    if not beside.figures:
        return "paid"
    estimated = " (estimated)" if any(a.basis is Basis.ESTIMATED and a.cost_nusd for a in mine) else ""
    return f"paid {cost_text(cost)}{estimated}"


def _tell_other_keys(receipt: Receipt, answered: AttemptRecord) -> str:
    """A failed attempt may have cost another key something."""
    others = [a for a in receipt.attempts if not _same_key(a, answered)]
    return "".join(
        f" Your {name} key paid {amount} for an attempt that failed." for name, amount in _bills(others)
    )


def _bills(attempts: Iterable[AttemptRecord]) -> list[tuple[str, str]]:
    """(provider's name, amount in words) of each own key that a call cost something."""
    sums: dict[str, int | None] = {}
    for attempt in attempts:
        if attempt.route is Route.CREDITS or attempt.cost_nusd == 0:
            continue
        name = provider_name(attempt.provider)
        before = sums.get(name, 0)
        sums[name] = None if before is None or attempt.cost_nusd is None else before + attempt.cost_nusd
    return [(name, "an unknown amount" if cost is None else cost_text(cost)) for name, cost in sums.items()]


# --- not answered


def _tell_hung_up(receipt: Receipt, beside: Beside) -> str:
    answered = receipt.attempts[-1]
    name = provider_name(answered.provider)
    when = f"while {name} was answering" if answered.first_content_ms is not None else f"before {name} answered"
    failed = _failures(receipt.attempts[:-1])
    lead = f"{_listed(failed)}, then the caller" if failed else "The caller"
    if answered.route is Route.CREDITS:
        paid = f"; {_lower(_tell_taken(receipt, beside)).rstrip(',')}"
    elif beside.figures:
        paid = f"; your {name} key{_tail(answered)} {_tell_left(receipt, answered, beside)}"
    else:
        paid = ""
    others = _tell_other_keys(receipt, answered) if beside.figures else ""
    return f"{lead} hung up {when}{paid}.{others}"


def _tell_left(receipt: Receipt, answered: AttemptRecord, beside: Beside) -> str:
    """What a key paid for an answer that nobody waited for."""
    told = _tell_key_paid(receipt, answered, beside)
    return {
        "answered, and it cost nothing": "paid nothing",
        "answered at a price that is not known": "paid an unknown amount",
    }.get(told, told)


def _tell_unanswered(receipt: Receipt, beside: Beside) -> str:
    """Something was sent, and nothing came of it."""
    failed = _failures(receipt.attempts)
    told = [_tell_key_failure(a) if _blames_key(a, receipt) else _tell_failure(a) for a in failed]
    if receipt.status == 499 or receipt.message.startswith("The caller hung up"):
        before = f": {', then '.join(dict.fromkeys(told))}" if told else ""
        head = f"The caller hung up before an answer{before}"
    else:
        told += [clause for clause in (_last_clause(receipt, beside),) if clause]
        head = f"Nobody answered: {', then '.join(dict.fromkeys(told)) or 'the call was refused'}"
    if receipt.row == "F10" and any(s.route is Route.CREDITS for s in receipt.skips):
        head += ", and credits could not step in"
    return f"{head}.{_tell_costs(receipt) if beside.figures else ''}"


def _blames_key(attempt: AttemptRecord, receipt: Receipt) -> bool:
    return attempt.failure in ("auth", "funds") and attempt.route is not Route.CREDITS and receipt.code in (
        Code.CREDENTIAL_REJECTED, Code.CREDENTIAL_OUT_OF_FUNDS
    )


def _last_clause(receipt: Receipt, beside: Beside) -> str:
    """What ended the call beside its attempts: a hold that was refused, or we ourselves; "" where they say it all."""
    told_by_attempts = (
        Code.CREDENTIAL_REJECTED, Code.CREDENTIAL_OUT_OF_FUNDS, Code.UNKNOWN_MODEL, Code.BAD_REQUEST,
        Code.CONTEXT_TOO_LONG, Code.CONTENT_REFUSED,
    )
    if receipt.code in told_by_attempts or any(a.signal == _INTERNAL for a in receipt.attempts):
        return ""
    if receipt.code == Code.PROVIDER_UNAVAILABLE:
        last = receipt.attempts[-1]
        stopping = receipt.message.startswith(_STOPPING) and last.signal != _STOPPING_SIGNAL
        return "this server was stopping" if stopping else ""
    return _why_refused(receipt, beside)


def _tell_costs(receipt: Receipt) -> str:
    """What a call cost that brought nothing; nothing is said where it cost nothing."""
    paid = "".join(f" Your {name} key paid {amount}." for name, amount in _bills(receipt.attempts))
    if receipt.funding is Funding.CREDITS and receipt.charge_credits:
        paid += f" {_credits(receipt.charge_credits)} taken."
    return paid


def _tell_refused(receipt: Receipt, beside: Beside) -> str:
    """Nothing was sent."""
    if receipt.code == Code.AI_PAUSED:
        return f"Nobody paid: {_why_refused(receipt, beside)}. {_tell_resume(receipt.cap, beside)}"
    if receipt.status == 499:
        return "Nobody paid: the caller hung up before any provider was called."
    return f"Nobody paid: {_why_refused(receipt, beside)}. No provider was called."


def _tell_resume(cap: CapView | None, beside: Beside) -> str:
    if cap is None or cap.cap_nusd == 0:
        return "AI resumes when the cap is raised."
    return f"AI resumes {_reset_text(cap.resets_at, beside.timezone)} or when the cap is raised."


def _tell_died(receipt: Receipt, beside: Beside) -> str:
    lead = "The call ended without a report"
    if not beside.figures:
        return f"{lead}."
    if receipt.funding is Funding.CREDITS:
        return f"{lead}; {_credits(receipt.charge_credits)} taken."
    if receipt.cost_nusd is None:
        return f"{lead}; what it cost is not known."
    if receipt.cost_nusd == 0:
        return f"{lead}; nothing is booked for it."
    how = "as estimated" if receipt.basis is Basis.ESTIMATED else "as the provider reported it afterwards"
    return f"{lead}; {cost_text(receipt.cost_nusd)} is booked {how}."


def _tell_test(receipt: Receipt, beside: Beside) -> str:
    """A Test is about one key, which pays for its small calls."""
    first, calls = receipt.attempts[0], len(receipt.attempts)
    good = sum(a.failure is None for a in receipt.attempts)
    key = f"your {provider_name(first.provider)} key{_tail(first) if beside.figures else ''}"
    small = "its small call" if calls == 1 else f"{good} of {calls} small calls"
    came = "was answered" if good == 1 and calls == 1 else "was not answered" if calls == 1 else "were answered"
    spent = _tell_spent(receipt, "; {}.") if beside.figures else "."
    return f"A Test of {key}: {small} {came}{spent}"


def _tell_spent(receipt: Receipt, frame: str) -> str:
    """What a call cost in all, whoever paid it, put into `frame`."""
    if receipt.funding is Funding.CREDITS:
        return frame.format(f"{_credits(receipt.charge_credits)} taken")
    if receipt.cost_nusd is None:
        return frame.format("what it cost is not known")
    if receipt.cost_nusd == 0:
        return frame.format("nothing was billed")
    return frame.format(f"{cost_text(receipt.cost_nusd)} was spent")


def _credits(count: int) -> str:
    if count == 0:
        return "no credit was"
    return f"{count:,} credit was" if count == 1 else f"{count:,} credits were"


# --- why


def _why_refused(receipt: Receipt, beside: Beside) -> str:
    """The reason of a refusal as a clause. Amounts only for those who see them."""
    try:
        code = Code(receipt.code or "")
    except ValueError:
        return "the call was refused"
    key = str(receipt.details.get(KEY_STATE, ""))
    cap = _cap_text(receipt.cap, beside)
    match code:
        case Code.AI_PAUSED:
            return _why_paused(receipt.cap, beside)
        case Code.SPEND_CAP_BUSY:
            return f"other calls in flight held what was left under the {cap}"
        case Code.SPEND_CAP_TOO_LOW:
            return f"this call could cost more than what was left under the {cap}"
        case Code.FEATURE_DISABLED:
            return f"the task {receipt.task or ''} is switched off".replace("  ", " ")
        case Code.OPENROUTER_KEY_REQUIRED:
            none = {"missing": "none is saved", "disabled": "the saved one is disabled",
                    "undecryptable": "the saved one cannot be opened"}
            return f"an OpenRouter key is required and {none.get(key, 'there is no usable one')}"
        case Code.ALWAYS_USE_KEY_UNAVAILABLE:
            states = {"missing": "no key is saved", "disabled": "the key is disabled",
                      "undecryptable": "the key cannot be opened"}
            if receipt.row not in (None, "F5"):
                return "Always use this key was switched on in the meantime, so credits may not pay"
            return f"Always use this key is on and {states.get(key, 'the key cannot be used')}"
        case _:
            return _plain_why(code, receipt)


def _plain_why(code: Code, receipt: Receipt) -> str:
    """Reasons without figures."""
    told = _REASONS.get(code)
    if told is not None:
        return told
    match code:
        case Code.PROVIDER_UNAVAILABLE if receipt.message.startswith(_STOPPING):
            return "this server was stopping"
        case Code.PROVIDER_UNAVAILABLE if receipt.message.startswith("Credits cannot pay"):
            return "credits are the payer and the platform's own key is not set up"
        case Code.FORBIDDEN if "suspended" in receipt.message:
            return "this workspace is suspended"
        case Code.FORBIDDEN:
            return "the access token may not make this call"
        case _:
            return "no route could take the call"


_REASONS: Mapping[Code, str] = {
    Code.ADDON_REQUIRED: "OpenRouter is not enabled for this plan",
    Code.ADDON_INACTIVE: "the OpenRouter add-on is not paid",
    Code.MINIMUM_BALANCE_REQUIRED: "the credit balance was below the minimum for calls with your own key",
    Code.INSUFFICIENT_CREDITS: "credits were to pay and did not suffice",
    Code.CREDENTIAL_REJECTED: "OpenRouter rejects your key",
    Code.CREDENTIAL_OUT_OF_FUNDS: "there are no funds behind your OpenRouter key",
    Code.UNPRICED_MODEL: "the model has no known price, and a spend cap or credits apply",
    Code.UNKNOWN_MODEL: "the model is not known",
    Code.UNKNOWN_TASK: "the task is not known",
    Code.UNKNOWN_GENERATION: "the generation is not known",
    Code.UNKNOWN_ENDPOINT: "the address is not known",
    Code.BAD_REQUEST: "the request cannot be taken as it is",
    Code.CONTEXT_TOO_LONG: "the request is too long",
    Code.CONTENT_REFUSED: "the content was refused",
    Code.BODY_TOO_LARGE: "the request is too large",
    Code.INVALID_TOKEN: "the access token is not known",
    Code.INTERNAL: "something broke on our side",
}


def _why_paused(cap: CapView | None, beside: Beside) -> str:
    if cap is None:
        return "the spend cap was reached"
    if cap.cap_nusd == 0:
        return "the spend cap is US$0, which means no AI" if beside.figures else "the spend cap allows no AI"
    on = "" if beside.paused_at_ms is None else f" on {_day_text(beside.paused_at_ms, beside.timezone)}"
    if cap.cap_nusd is not None and cap.spent_before_nusd < cap.cap_nusd:
        return f"what was left under the {_cap_text(cap, beside)}{on} was too little for a call"
    return f"the {_cap_text(cap, beside)} was reached{on}"


def _cap_text(cap: CapView | None, beside: Beside) -> str:
    if cap is None or cap.cap_nusd is None or not beside.figures:
        return "spend cap"
    return f"US${format_usd(cap.cap_nusd)} cap"


# --- failures in a few words

_STOPPING: Final = "This server is stopping"
_STOPPING_SIGNAL: Final = "this server is stopping"
_INTERNAL: Final = "internal error"

_STATUS_WORDS: Mapping[str, str] = {
    "rate_limit": "rate limit", "auth": "key rejected", "funds": "no money", "scope": "not for this key",
    "model_missing": "no such model", "timeout": "too slow", "request": "request refused", "too_long": "too long",
    "policy": "content refused",
}
_KEY_WORDS: Mapping[str, str] = {"auth": "rejected", "funds": "no money"}
_SILENT: Mapping[str, str] = {"network": "was unreachable", "timeout": "did not answer in time"}
_IN_ANSWER: Mapping[str, str] = {
    "network": "broke off its answer", "timeout": "stopped in the middle of its answer",
    "rate_limit": "was rate limiting", "overload": "was overloaded", "bad_output": "gave an answer that cannot be used",
    "policy": "refused the content", "request": "refused the request", "too_long": "found the request too long",
    "model_missing": "does not have the model", "scope": "does not serve the model to this key",
    "auth": "rejected the key", "funds": "has no money behind the key",
}


def _failures(attempts: Iterable[AttemptRecord]) -> list[AttemptRecord]:
    return [attempt for attempt in attempts if attempt.failure is not None]


def _tell_failure(attempt: AttemptRecord) -> str:
    """Who failed how: "Anthropic answered 429 (rate limit)"."""
    name, cls = provider_name(attempt.provider), attempt.failure or ""
    if attempt.signal == KEY_UNOPENABLE:
        whose = "the platform's" if attempt.route is Route.CREDITS else "your"
        return f"{whose} {name} key could not be opened"
    if attempt.signal == _STOPPING_SIGNAL:
        return "this server was stopping"
    if attempt.signal == _INTERNAL:
        return "something broke on our side"
    if attempt.status is None:
        return f"{name} {_SILENT.get(cls, 'failed')}"
    if attempt.status == 200:
        if cls == "timeout" and attempt.first_content_ms is None:
            return f"{name} {_SILENT[cls]}"
        return f"{name} {_IN_ANSWER.get(cls, 'failed')}"
    words = f" ({_STATUS_WORDS[cls]})" if cls in _STATUS_WORDS else ""
    return f"{name} answered {attempt.status}{words}"


def _tell_key_failure(attempt: AttemptRecord) -> str:
    """The same where the key itself is to blame: "your OpenRouter key failed (402, no money)"."""
    words = _KEY_WORDS.get(attempt.failure or "")
    if words is None or attempt.signal == KEY_UNOPENABLE:
        return _tell_failure(attempt)
    status = f"{attempt.status}, " if attempt.status not in (None, 200) else ""
    return f"your {provider_name(attempt.provider)} key failed ({status}{words})"


def _listed(failed: Sequence[AttemptRecord]) -> str:
    return _capital(", then ".join(dict.fromkeys(map(_tell_failure, failed))))


def _same_key(one: AttemptRecord, other: AttemptRecord) -> bool:
    return (one.route, one.provider, one.credential_id) == (other.route, other.provider, other.credential_id)


def _tail(attempt: AttemptRecord) -> str:
    last = attempt.credential_hint.partition("…")[2]
    return f" (…{last})" if last else ""


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def _lower(text: str) -> str:
    return text[:1].lower() + text[1:]


# --- times


def _day_text(at_ms: int, timezone: str) -> str:
    at = (_EPOCH + timedelta(milliseconds=at_ms)).astimezone(parse_timezone(timezone))
    return f"{at.day} {at:%b}"


def _reset_text(utc_text: str, timezone: str) -> str:
    at = datetime.fromisoformat(utc_text).astimezone(parse_timezone(timezone))
    return f"{at.day} {at:%b %H:%M} {at.tzname()}"


