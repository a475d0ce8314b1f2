"""A receipt's headline: in a breath, who paid how much, or why nobody did. Pages, command line and notices share it.

It only says what the receipt proves. `receipt_words.describe` tells the same at length.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Final

from ownkey.domain.caps import parse_timezone
from ownkey.domain.days import tell_day, tell_reset
from ownkey.domain.money import format_usd
from ownkey.domain.phrases import Phrase, in_turn, together
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

_STEPPED_IN: Final = Phrase('because "Use credits if my key fails" is on')
_COST_DECIMALS = 4
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Beside:
    """What a headline is told that no receipt holds: the workspace's zone, and when the pause began that refused the
    call (None: not known). `figures` False is for those who see no amounts, hints and caps. `with_credits`: the product
    has credits, so that it means something that none was used. `titles`: its tasks as people know them, by id."""

    timezone: str = "UTC"
    paused_at_ms: int | None = None
    figures: bool = True
    with_credits: bool = True
    titles: Mapping[str, str] = field(default_factory=dict)


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
        return _sentence(Phrase("The answer was cut after it began, so it was not restarted"), receipt, beside)
    if receipt.hung_up and receipt.finish_reason is None:
        return _tell_hung_up(receipt, beside)
    left = Phrase("The caller hung up before reading the end.") if receipt.hung_up else ""
    return together(_tell_answered(receipt, beside), left)


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
    hint = _tail(answered) if beside.figures else ""
    if not failed:
        return Phrase("Your {name} key{hint} {paid}. One attempt.", name=name, hint=hint, paid=paid)
    if all(_same_key(a, answered) for a in failed):
        lead = Phrase(
            "{failures}, then answered on the next try: your {name} key{hint} {paid}.", failures=_listed(failed),
            name=name, hint=hint, paid=paid,
        )
    else:
        what = paid if paid.startswith("answered") else Phrase("answered and {paid}", paid=paid)
        lead = Phrase("{failures}, so your {name} key {what}.", failures=_listed(failed), name=name, what=what)
    return together(lead, others, Phrase("Credits were not used.") if beside.with_credits else "")


def _tell_credits(receipt: Receipt, beside: Beside) -> str:
    """Credits paid: the first attempt's way there, then how many."""
    taken = _tell_taken(receipt, beside)
    on_credits = [a for a in receipt.attempts if a.route is Route.CREDITS]
    tries = "" if len(on_credits) == 1 else Phrase("It took {count} attempts.", count=len(receipt.attempts))
    way = _way_to_credits(receipt)
    if not way and receipt.row != "F10":
        return together(
            Phrase("{taken} because no key of yours is in force.", taken=taken), tries or Phrase("One attempt.")
        )
    paid = Phrase("{taken} {because}.", taken=taken, because=_STEPPED_IN)
    return together(way or Phrase("Your OpenRouter key failed."), paid, tries)


def _way_to_credits(receipt: Receipt) -> str:
    """What led from the customer's own keys to credits, as a sentence; "" where credits are the usual payer."""
    own = _failures(a for a in receipt.attempts if a.route is not Route.CREDITS)
    told = [_tell_failure(a) if a.route is Route.DIRECT else _tell_key_failure(a) for a in own]
    if receipt.row == "F10" and not any(a.route is Route.OPENROUTER for a in own):
        told += [_tell_skip(s.why) for s in receipt.skips if s.route is Route.OPENROUTER][:1]
    if receipt.row == "F13" and any(note.startswith(KEY_UNOPENABLE) for note in receipt.notes):
        told.append(Phrase("your OpenRouter key could not be opened"))
    return together(in_turn(told).capital(), ".", between="") if told else ""


def _tell_skip(why: str) -> str:
    if why == KEY_UNOPENABLE:
        return Phrase("your OpenRouter key could not be opened")
    reason = f"it{why.removeprefix('the key')}" if why.startswith("the key ") else why
    return Phrase("your OpenRouter key was left out: {reason}", reason=reason)


def _tell_taken(receipt: Receipt, beside: Beside) -> Phrase:
    """Credits as the subject of a sentence that ends in "because …"."""
    if receipt.charge_credits:
        if not beside.figures:
            return Phrase("Credits paid")
        if receipt.charge_credits == 1:
            return Phrase("1 credit paid")
        return Phrase("{count} credits paid", count=f"{receipt.charge_credits:,}")
    if receipt.charge_nusd:
        return Phrase("The rest of an earlier credit paid") if beside.figures else Phrase("Credits paid")
    return Phrase("Credits were to pay, and none was taken,") if beside.figures else Phrase("Credits were to pay")


def _tell_key_paid(receipt: Receipt, answered: AttemptRecord, beside: Beside) -> str:
    """What the key that answered did: its attempts together."""
    mine = [a for a in receipt.attempts if _same_key(a, answered)]
    costs = [a.cost_nusd for a in mine]
    if None in costs:
        return Phrase("answered at a price that is not known") if beside.figures else Phrase("answered")
    cost = sum(c for c in costs if c is not None)
    if cost == 0:
        return Phrase("answered, and it cost nothing") if beside.figures else Phrase("answered")
    if not beside.figures:
        return Phrase("paid")
    if any(a.basis is Basis.ESTIMATED and a.cost_nusd for a in mine):
        return Phrase("paid {amount} (estimated)", amount=cost_text(cost))
    return Phrase("paid {amount}", amount=cost_text(cost))


def _tell_other_keys(receipt: Receipt, answered: AttemptRecord) -> str:
    """A failed attempt may have cost another key something."""
    others = [a for a in receipt.attempts if not _same_key(a, answered)]
    return together(*(
        Phrase("Your {name} key paid {amount} for an attempt that failed.", name=name, amount=amount)
        for name, amount in _bills(others)
    ))


def _bills(attempts: Iterable[AttemptRecord]) -> list[tuple[str, str]]:
    """(provider's name, amount in words) of each own key that a call cost something."""
    sums: dict[str, int | None] = {}
    for attempt in attempts:
        if attempt.route is Route.CREDITS or attempt.cost_nusd == 0:
            continue
        name = provider_name(attempt.provider)
        before = sums.get(name, 0)
        sums[name] = None if before is None or attempt.cost_nusd is None else before + attempt.cost_nusd
    return [(name, Phrase("an unknown amount") if cost is None else cost_text(cost)) for name, cost in sums.items()]


# --- not answered


def _tell_hung_up(receipt: Receipt, beside: Beside) -> str:
    answered = receipt.attempts[-1]
    name = provider_name(answered.provider)
    begun = answered.first_content_ms is not None
    when = Phrase("while {name} was answering", name=name) if begun else Phrase("before {name} answered", name=name)
    failed = _failures(receipt.attempts[:-1])
    lead = Phrase("The caller hung up {when}", when=when)
    if failed:
        lead = Phrase("{failures}, then the caller hung up {when}", failures=_listed(failed), when=when)
    told = ""
    if answered.route is Route.CREDITS:
        told = _tell_credits_left(receipt, beside)
    elif beside.figures:
        told = Phrase(
            "your {name} key{hint} {paid}", name=name, hint=_tail(answered), paid=_tell_left(receipt, answered, beside)
        )
    others = _tell_other_keys(receipt, answered) if beside.figures else ""
    return together(_with_end(lead, told), others)


def _tell_credits_left(receipt: Receipt, beside: Beside) -> str:
    """What credits paid for an answer that nobody waited for, as the end of a sentence."""
    if receipt.charge_credits or receipt.charge_nusd or not beside.figures:
        return _tell_taken(receipt, beside).small()
    return Phrase("credits were to pay, and none was taken")


def _tell_left(receipt: Receipt, answered: AttemptRecord, beside: Beside) -> str:
    """What a key paid for an answer that nobody waited for."""
    told = _tell_key_paid(receipt, answered, beside)
    return {
        "answered, and it cost nothing": Phrase("paid nothing"),
        "answered at a price that is not known": Phrase("paid an unknown amount"),
    }.get(told, told)


def _tell_unanswered(receipt: Receipt, beside: Beside) -> str:
    """Something was sent, and nothing came of it."""
    failed = _failures(receipt.attempts)
    told = [_tell_key_failure(a) if _blames_key(a, receipt) else _tell_failure(a) for a in failed]
    if receipt.status == 499 or receipt.message.startswith("The caller hung up"):
        head = Phrase("The caller hung up before an answer")
        if told:
            head = Phrase("The caller hung up before an answer: {failures}", failures=in_turn(told))
    else:
        told += [clause for clause in (_last_clause(receipt, beside),) if clause]
        head = Phrase("Nobody answered: {failures}", failures=in_turn(told or [Phrase("the call was refused")]))
    if receipt.row == "F10" and any(s.route is Route.CREDITS for s in receipt.skips):
        head = Phrase("{failures}, and credits could not step in", failures=head)
    return together(_with_end(head), _tell_costs(receipt) if beside.figures else "")


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
        return Phrase("this server was stopping") if stopping else ""
    return _why_refused(receipt, beside)


def _tell_costs(receipt: Receipt) -> str:
    """What a call cost that brought nothing; nothing is said where it cost nothing."""
    paid = [Phrase("Your {name} key paid {amount}.", name=name, amount=amount)
            for name, amount in _bills(receipt.attempts)]
    if receipt.funding is Funding.CREDITS and receipt.charge_credits:
        paid.append(_with_end(_credits_taken(receipt.charge_credits).capital()))
    return together(*paid)


def _tell_refused(receipt: Receipt, beside: Beside) -> str:
    """Nothing was sent."""
    if receipt.code == Code.AI_PAUSED:
        return together(_tell_nobody(receipt, beside), _tell_resume(receipt.cap, beside))
    if receipt.status == 499:
        return Phrase("Nobody paid: the caller hung up before any provider was called.")
    return together(_tell_nobody(receipt, beside), Phrase("No provider was called."))


def _tell_nobody(receipt: Receipt, beside: Beside) -> str:
    return Phrase("Nobody paid: {reason}.", reason=_why_refused(receipt, beside))


def _tell_resume(cap: CapView | None, beside: Beside) -> str:
    if cap is None or cap.cap_nusd == 0:
        return Phrase("AI resumes when the cap is raised.")
    return Phrase("AI resumes {at} or when the cap is raised.", at=_reset_text(cap.resets_at, beside.timezone))


def _tell_died(receipt: Receipt, beside: Beside) -> str:
    lead = Phrase("The call ended without a report")
    return _with_end(lead, _tell_booked(receipt) if beside.figures else "")


def _tell_booked(receipt: Receipt) -> str:
    if receipt.funding is Funding.CREDITS:
        return _credits_taken(receipt.charge_credits)
    if receipt.cost_nusd is None:
        return Phrase("what it cost is not known")
    if receipt.cost_nusd == 0:
        return Phrase("nothing is booked for it")
    if receipt.basis is Basis.ESTIMATED:
        return Phrase("{amount} is booked as estimated", amount=cost_text(receipt.cost_nusd))
    return Phrase("{amount} is booked as the provider reported it afterwards", amount=cost_text(receipt.cost_nusd))


def _tell_test(receipt: Receipt, beside: Beside) -> str:
    """A Test is about one key, which pays for its small calls."""
    first, calls = receipt.attempts[0], len(receipt.attempts)
    good = sum(a.failure is None for a in receipt.attempts)
    key = Phrase(
        "your {name} key{hint}", name=provider_name(first.provider), hint=_tail(first) if beside.figures else ""
    )
    if calls > 1:
        came = Phrase("{answered} of {count} small calls were answered", answered=good, count=calls)
    else:
        came = Phrase("its small call was answered") if good else Phrase("its small call was not answered")
    return _sentence(Phrase("A Test of {key}: {outcome}", key=key, outcome=came), receipt, beside)


def _sentence(lead: str, receipt: Receipt, beside: Beside) -> str:
    """`lead`, what the call cost in all, whoever paid it, and a full stop."""
    return _with_end(lead, _tell_spent(receipt) if beside.figures else "")


def _with_end(lead: str, end: str = "") -> Phrase:
    return together(together(lead, end, between="; "), ".", between="")


def _tell_spent(receipt: Receipt) -> str:
    if receipt.funding is Funding.CREDITS:
        return _credits_taken(receipt.charge_credits)
    if receipt.cost_nusd is None:
        return Phrase("what it cost is not known")
    if receipt.cost_nusd == 0:
        return Phrase("nothing was billed")
    return Phrase("{amount} was spent", amount=cost_text(receipt.cost_nusd))


def _credits_taken(count: int) -> Phrase:
    if count == 0:
        return Phrase("no credit was taken")
    return Phrase("1 credit was taken") if count == 1 else Phrase("{count} credits were taken", count=f"{count:,}")


# --- why


def _why_refused(receipt: Receipt, beside: Beside) -> str:
    """The reason of a refusal as a clause. Amounts only for those who see them."""
    try:
        code = Code(receipt.code or "")
    except ValueError:
        return Phrase("the call was refused")
    key = str(receipt.details.get(KEY_STATE, ""))
    cap = _cap_text(receipt.cap, beside)
    match code:
        case Code.AI_PAUSED:
            return _why_paused(receipt.cap, beside)
        case Code.SPEND_CAP_BUSY:
            return Phrase("other calls in flight held what was left under the {cap}", cap=cap)
        case Code.SPEND_CAP_TOO_LOW:
            return Phrase("this call could cost more than what was left under the {cap}", cap=cap)
        case Code.FEATURE_DISABLED:
            if not receipt.task:
                return Phrase("the task is switched off")
            return Phrase('the task "{task}" is switched off', task=beside.titles.get(receipt.task, receipt.task))
        case Code.OPENROUTER_KEY_REQUIRED:
            return _NO_KEY.get(key, Phrase("an OpenRouter key is required and there is no usable one"))
        case Code.ALWAYS_USE_KEY_UNAVAILABLE:
            if receipt.row not in (None, "F5"):
                return Phrase("Always use this key was switched on in the meantime, so credits may not pay")
            return _ALWAYS.get(key, Phrase("Always use this key is on and the key cannot be used"))
        case _:
            return _plain_why(code, receipt)


_NO_KEY: Mapping[str, Phrase] = {
    "missing": Phrase("an OpenRouter key is required and none is saved"),
    "disabled": Phrase("an OpenRouter key is required and the saved one is disabled"),
    "undecryptable": Phrase("an OpenRouter key is required and the saved one cannot be opened"),
}
_ALWAYS: Mapping[str, Phrase] = {
    "missing": Phrase("Always use this key is on and no key is saved"),
    "disabled": Phrase("Always use this key is on and the key is disabled"),
    "undecryptable": Phrase("Always use this key is on and the key cannot be opened"),
}


def _plain_why(code: Code, receipt: Receipt) -> str:
    """Reasons without figures."""
    told = _REASONS.get(code)
    if told is not None:
        return told
    match code:
        case Code.PROVIDER_UNAVAILABLE if receipt.message.startswith(_STOPPING):
            return Phrase("this server was stopping")
        case Code.PROVIDER_UNAVAILABLE if receipt.message.startswith("Credits cannot pay"):
            return Phrase("credits are the payer and the platform's own key is not set up")
        case Code.FORBIDDEN if "suspended" in receipt.message:
            return Phrase("this workspace is suspended")
        case Code.FORBIDDEN:
            return Phrase("the access token may not make this call")
        case _:
            return Phrase("no route could take the call")


_REASONS: Mapping[Code, str] = {
    Code.ADDON_REQUIRED: Phrase("OpenRouter is not enabled for this plan"),
    Code.ADDON_INACTIVE: Phrase("the OpenRouter add-on is not paid"),
    Code.MINIMUM_BALANCE_REQUIRED: Phrase("the credit balance was below the minimum for calls with your own key"),
    Code.INSUFFICIENT_CREDITS: Phrase("credits were to pay and did not suffice"),
    Code.CREDENTIAL_REJECTED: Phrase("OpenRouter rejects your key"),
    Code.CREDENTIAL_OUT_OF_FUNDS: Phrase("there are no funds behind your OpenRouter key"),
    Code.UNPRICED_MODEL: Phrase("the model has no known price, and a spend cap or credits apply"),
    Code.UNKNOWN_MODEL: Phrase("the model is not known"),
    Code.UNKNOWN_TASK: Phrase("the task is not known"),
    Code.UNKNOWN_GENERATION: Phrase("the generation is not known"),
    Code.UNKNOWN_ENDPOINT: Phrase("the address is not known"),
    Code.BAD_REQUEST: Phrase("the request cannot be taken as it is"),
    Code.CONTEXT_TOO_LONG: Phrase("the request is too long"),
    Code.CONTENT_REFUSED: Phrase("the content was refused"),
    Code.BODY_TOO_LARGE: Phrase("the request is too large"),
    Code.INVALID_TOKEN: Phrase("the access token is not known"),
    Code.INTERNAL: Phrase("something broke on our side"),
}


def _why_paused(cap: CapView | None, beside: Beside) -> str:
    if cap is None:
        return Phrase("the spend cap was reached")
    if cap.cap_nusd == 0:
        if not beside.figures:
            return Phrase("the spend cap allows no AI")
        return Phrase("the spend cap is US$0, which means no AI")
    day = None if beside.paused_at_ms is None else _day_text(beside.paused_at_ms, beside.timezone)
    name = _cap_text(cap, beside)
    if cap.cap_nusd is not None and cap.spent_before_nusd < cap.cap_nusd:
        if day is None:
            return Phrase("what was left under the {cap} was too little for a call", cap=name)
        return Phrase("what was left under the {cap} on {day} was too little for a call", cap=name, day=day)
    if day is None:
        return Phrase("the {cap} was reached", cap=name)
    return Phrase("the {cap} was reached on {day}", cap=name, day=day)


def _cap_text(cap: CapView | None, beside: Beside) -> str:
    if cap is None or cap.cap_nusd is None or not beside.figures:
        return Phrase("spend cap")
    return Phrase("{amount} cap", amount=f"US${format_usd(cap.cap_nusd)}")


# --- failures in a few words

_STOPPING: Final = "This server is stopping"
_STOPPING_SIGNAL: Final = "this server is stopping"
_INTERNAL: Final = "internal error"
_REDIRECTS, _REFUSALS, _SERVER_ERRORS = 300, 400, 500

_STATUS_WORDS: Mapping[str, Phrase] = {
    "rate_limit": Phrase("rate limit"),
    "auth": Phrase("key rejected"),
    "funds": Phrase("no money"),
    "scope": Phrase("not for this key"),
    "model_missing": Phrase("no such model"),
    "timeout": Phrase("too slow"),
    "request": Phrase("request refused"),
    "too_long": Phrase("too long"),
    "policy": Phrase("content refused"),
    "network": Phrase("answer broken off"),
    "bad_output": Phrase("unusable answer"),
}
_OVERLOAD_WORDS: Mapping[int, Phrase] = {
    408: Phrase("too slow"), 409: Phrase("busy"), 500: Phrase("internal error"), 502: Phrase("bad gateway"),
    504: Phrase("too slow"), 524: Phrase("too slow"), 529: Phrase("overloaded"),
}
_UNAVAILABLE: Final = 503
"""The one status that is told by its number alone: it means just what a headline says, that nobody was there."""
_KEY_WORDS: Mapping[str, Phrase] = {"auth": Phrase("rejected"), "funds": Phrase("no money")}
_SILENT: Mapping[str, Phrase] = {"network": Phrase("was unreachable"), "timeout": Phrase("did not answer in time")}
_BROKE: Final = Phrase("failed")
_IN_ANSWER: Mapping[str, Phrase] = {
    "network": Phrase("broke off its answer"), "timeout": Phrase("stopped in the middle of its answer"),
    "rate_limit": Phrase("was rate limiting"),
    "overload": Phrase("was overloaded"),
    "bad_output": Phrase("gave an answer that cannot be used"),
    "policy": Phrase("refused the content"),
    "request": Phrase("refused the request"),
    "too_long": Phrase("found the request too long"),
    "model_missing": Phrase("does not have the model"), "scope": Phrase("does not serve the model to this key"),
    "auth": Phrase("rejected the key"), "funds": Phrase("has no money behind the key"),
}


def _failures(attempts: Iterable[AttemptRecord]) -> list[AttemptRecord]:
    return [attempt for attempt in attempts if attempt.failure is not None]


def _tell_failure(attempt: AttemptRecord) -> str:
    """Who failed how: "Anthropic answered 429 (rate limit)"."""
    name, cls = provider_name(attempt.provider), attempt.failure or ""
    if attempt.signal == KEY_UNOPENABLE:
        if attempt.route is Route.CREDITS:
            return Phrase("the platform's {name} key could not be opened", name=name)
        return Phrase("your {name} key could not be opened", name=name)
    if attempt.signal == _STOPPING_SIGNAL:
        return Phrase("this server was stopping")
    if attempt.signal == _INTERNAL:
        return Phrase("something broke on our side")
    if attempt.status is None or attempt.status < _REDIRECTS:
        silent = attempt.status is None or (cls == "timeout" and attempt.first_content_ms is None)
        failed = (_SILENT.get(cls) if silent else None) or _IN_ANSWER.get(cls, _BROKE)
        return Phrase("{name} {failed}", name=name, failed=failed)
    if cls == "overload" and attempt.status == _UNAVAILABLE:
        return Phrase("{name} answered {status}", name=name, status=attempt.status)
    reason = _STATUS_WORDS.get(cls) or _tell_overload(attempt.status)
    return Phrase("{name} answered {status} ({reason})", name=name, status=attempt.status, reason=reason)


def _tell_overload(status: int) -> Phrase:
    """What a provider's own trouble is called, by the status that it gave it."""
    if status in _OVERLOAD_WORDS:
        return _OVERLOAD_WORDS[status]
    if status < _REFUSALS:
        return Phrase("a redirect, which is not followed")
    return Phrase("server error") if status >= _SERVER_ERRORS else Phrase("overloaded")


def _tell_key_failure(attempt: AttemptRecord) -> str:
    """The same where the key itself is to blame: "your OpenRouter key failed (402, no money)"."""
    words = _KEY_WORDS.get(attempt.failure or "")
    if words is None or attempt.signal == KEY_UNOPENABLE:
        return _tell_failure(attempt)
    name = provider_name(attempt.provider)
    if attempt.status in (None, 200):
        return Phrase("your {name} key failed ({reason})", name=name, reason=words)
    return Phrase("your {name} key failed ({status}, {reason})", name=name, status=attempt.status, reason=words)


def _listed(failed: Sequence[AttemptRecord]) -> str:
    return in_turn([_tell_failure(attempt) for attempt in failed]).capital()


def _same_key(one: AttemptRecord, other: AttemptRecord) -> bool:
    return (one.route, one.provider, one.credential_id) == (other.route, other.provider, other.credential_id)


def _tail(attempt: AttemptRecord) -> str:
    last = attempt.credential_hint.partition("…")[2]
    return f" (…{last})" if last else ""


# --- times


def _day_text(at_ms: int, timezone: str) -> str:
    at = (_EPOCH + timedelta(milliseconds=at_ms)).astimezone(parse_timezone(timezone))
    return tell_day(at.day, at.month)


def _reset_text(utc_text: str, timezone: str) -> str:
    at = datetime.fromisoformat(utc_text).astimezone(parse_timezone(timezone))
    return tell_reset(at)


