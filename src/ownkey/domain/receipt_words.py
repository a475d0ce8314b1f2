"""A receipt in words: what happened, who paid, and why. Doors, the command line and explain share these sentences."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from ownkey.domain.money import format_usd
from ownkey.domain.receipts import KEY_TEST, AttemptRecord, Basis, Receipt, Skip, provider_name
from ownkey.domain.routing import Funding, Route

KEY_UNOPENABLE: Final = "the saved key cannot be opened"
"""How an attempt, a skip and a note begin that tell of ciphertext that does not open."""

_CREDITS_STEP_IN = "Use credits if my key fails is on"

_ROW_WHY: Final = {
    "F1": "the plan does not include calls with your own key and the add-on was not bought",
    "F2": "the add-on is not paid",
    "F3": "the credit balance was below the minimum for calls with your own key",
    "F4": "this product works with your own OpenRouter key only, and there is no usable one",
    "F5": "Always use this key is on and the key could not be used; credits are never a substitute then",
    "F6": "the saved key cannot be opened and credits are not allowed to step in",
    "F7": "the spend cap is reached",
    "F8": "this product always uses your own keys",
    "F9": "Always use this key is on",
    "F10": "your own key is connected and enabled",
    "F11": "your own key is connected and enabled",
    "F12": "credits are the payer and do not suffice",
    "F13": "no own key is in force, so the platform's AI and credits were used",
}

_FAILED: Final[Mapping[str, str]] = {
    "auth": "rejected {key}",
    "funds": "says that there are no funds behind {key}",
    "scope": "does not serve the model to {key}",
    "model_missing": "does not have the model",
    "rate_limit": "was rate limiting",
    "overload": "was overloaded or broken",
    "network": "could not be reached, or broke off",
    "timeout": "did not answer in time",
    "request": "refused the request",
    "too_long": "found the request too long",
    "policy": "refused the content",
    "bad_output": "gave an answer that cannot be used",
}

_BASIS: Final = {
    Basis.ACTUAL: "as the provider reported it",
    Basis.COMPUTED: "computed from reported tokens and list prices",
    Basis.ESTIMATED: "estimated, because the provider's report is missing",
    Basis.NONE: "nothing was billed",
    Basis.UNKNOWN: "price unknown",
}


def explain_row(row: str) -> str:
    """Why a row of the payer decision applies, as the end of a sentence."""
    return _ROW_WHY[row]


def explain_route(
    row: str, route: Route, model: str, skips: Iterable[Skip], attempts: Sequence[AttemptRecord] = (),
    notes: Iterable[str] = (),
) -> str:
    """Why this route carries a call for `model`, as the end of a sentence: the row, or what became of the route that
    stands before it."""
    match route:
        case Route.CREDITS if row == "F10":
            causes = _why_key_failed(skips, attempts)
            told = f": {'; '.join(causes)}" if causes else ""
            return f"your own key failed and {_CREDITS_STEP_IN}{told}"
        case Route.CREDITS if row == "F13" and any(note.startswith(KEY_UNOPENABLE) for note in notes):
            return f"{KEY_UNOPENABLE} and {_CREDITS_STEP_IN}"
        case Route.OPENROUTER if row in ("F8", "F10", "F11"):
            causes = _why_not_direct(model, skips, attempts)
            if causes:
                return "; ".join(causes)
            if row == "F8":
                return f"{_ROW_WHY[row]} and no direct key is in force for this model"
        case Route.DIRECT:
            return f"{_ROW_WHY[row]}, direct keys first"
        case _:
            pass
    return _ROW_WHY[row]


def describe(receipt: Receipt) -> str:
    """A few plain sentences: what happened, who paid, and why."""
    if receipt.task == KEY_TEST and receipt.attempts:
        return _describe_key_test(receipt)
    if receipt.code is not None and receipt.served_model is None:
        return _describe_refusal(receipt)
    answered = receipt.attempts[-1]
    name, payer, why = provider_name(answered.provider), _payer(receipt, answered), _because(receipt, answered)
    tried, money = _tried(receipt, why), f"{_describe_money(receipt)}{_other_payers(receipt, answered)}"
    if receipt.code is not None:
        return (
            f"{name} began to answer with {answered.model}, {payer}{why}, and the answer broke off ({receipt.code}): "
            f"{receipt.message}{tried} {money}"
        )
    if receipt.hung_up and receipt.finish_reason is None:
        begun = answered.first_content_ms is not None
        what = f"while {name} was answering with" if begun else f"before {name} answered with"
        return f"The caller hung up {what} {answered.model}, {payer}{why}.{tried} {money}"
    cut = " The caller hung up before reading the end." if receipt.hung_up else ""
    return f"{name} answered with {answered.model}{_again(receipt, answered)}, {payer}{why}.{tried}{cut} {money}"


def _describe_refusal(receipt: Receipt) -> str:
    """The caller got nothing of an answer."""
    lead = f"No answer ({receipt.code})" if receipt.attempts else f"Refused with {receipt.code}"
    row = f" ({receipt.row}: {_ROW_WHY[receipt.row]})" if receipt.row and not receipt.attempts else ""
    told = [f"{name_skip(skip)}: {skip.why}" for skip in receipt.skips if skip.why not in receipt.message]
    left = f" Not used: {'; '.join(dict.fromkeys(told))}." if told else ""
    money = "Nothing was sent and nothing was paid."
    if receipt.attempts:
        money = f"{_describe_money(receipt)}{_payers(receipt)}"
    head = receipt.message if receipt.status == 499 else f"{lead}{row}: {receipt.message}"
    return f"{head}{_tried(receipt, '')}{left} {money}"


def _describe_key_test(receipt: Receipt) -> str:
    """A Test calls every kind of model once with the one key that is tested, so its attempts are told one by one."""
    first = receipt.attempts[0]
    name, calls = provider_name(first.provider), len(receipt.attempts)
    told = ", ".join(
        f"{attempt.model} answered" if attempt.failure is None
        else f"{attempt.model} failed ({attempt.failure}: {attempt.signal})"
        for attempt in receipt.attempts
    )
    key = f"the {name} key {first.credential_hint}".rstrip()
    return (
        f"A Test of {key} made {calls} small call{'' if calls == 1 else 's'}: {told}. Paid by that key, because a Test "
        f"is about the key and not about who pays for the product's calls. {_describe_money(receipt)}"
    )


# --- why


def _because(receipt: Receipt, answered: AttemptRecord) -> str:
    if not receipt.row:
        return ""
    why = explain_route(
        receipt.row, answered.route, answered.model, receipt.skips, receipt.attempts[:-1], receipt.notes
    )
    return f", because {why}"


def _why_key_failed(skips: Iterable[Skip], attempts: Sequence[AttemptRecord]) -> list[str]:
    """What led from the OpenRouter key to credits: its failure in this call, else why it was left out."""
    told = [describe_failure(a) for a in attempts if a.route is Route.OPENROUTER and a.failure in ("auth", "funds")]
    told = told or [f"{name_skip(s)} was skipped: {s.why}" for s in skips if s.route is Route.OPENROUTER]
    return list(dict.fromkeys(told))


def _why_not_direct(model: str, skips: Iterable[Skip], attempts: Sequence[AttemptRecord]) -> list[str]:
    """What became of the direct route of this model's maker."""
    maker = _maker(model)
    told = [
        describe_failure(a) for a in attempts
        if a.route is Route.DIRECT and a.failure is not None and a.provider == maker
    ]
    told += [
        f"{name_skip(s)} was not used: {s.why}" for s in skips if s.route is Route.DIRECT and _maker(s.model) == maker
    ]
    return list(dict.fromkeys(told))


def _maker(slug: str) -> str:
    return slug.lstrip("~").partition("/")[0]


def name_skip(skip: Skip) -> str:
    """The route that was left out, as people call it."""
    match skip.route:
        case Route.DIRECT:
            return f"the direct {provider_name(skip.provider or _maker(skip.model))} key"
        case Route.OPENROUTER:
            return "the OpenRouter key"
        case _:
            return "credits"


def describe_failure(attempt: AttemptRecord) -> str:
    """What went wrong in a failed attempt: who, what, and in brackets the class and the signal."""
    if attempt.failure is None:
        return ""
    key = f"the key {attempt.credential_hint}".rstrip() if attempt.route is not Route.CREDITS else "the platform's key"
    if attempt.signal == KEY_UNOPENABLE:
        return f"{key} of {provider_name(attempt.provider)} could not be opened ({attempt.failure})"
    where = "on the direct route " if attempt.route is Route.DIRECT else ""
    what = _FAILED.get(attempt.failure, "failed").format(key=key)
    return f"{where}{provider_name(attempt.provider)} {what} ({attempt.failure}: {attempt.signal})"


def _tried(receipt: Receipt, why: str) -> str:
    """The failed attempts that the reason does not tell already."""
    told = [describe_failure(a) for a in receipt.attempts if a.failure is not None]
    told = [text for text in dict.fromkeys(told) if text not in why and text != receipt.message]
    return f" Tried: {'; '.join(told)}." if told else ""


def _again(receipt: Receipt, answered: AttemptRecord) -> str:
    before = [(a.route, a.model) for a in receipt.attempts[:-1] if a.failure is not None]
    if not before:
        return ""
    return " on another try" if set(before) == {(answered.route, answered.model)} else " after a failover"


# --- money


def _own_key(attempt: AttemptRecord) -> str:
    return f"{provider_name(attempt.provider)} key {attempt.credential_hint}".rstrip()


def _payer(receipt: Receipt, answered: AttemptRecord) -> str:
    if answered.route is Route.CREDITS:
        return _describe_credits(receipt)
    when = "to be paid" if answered.cost_nusd == 0 and answered.basis is Basis.NONE else "paid"
    return f"{when} by the workspace's own {_own_key(answered)}"


def _describe_credits(receipt: Receipt) -> str:
    if receipt.charge_credits == 0 and receipt.charge_nusd > 0:
        return "paid from a credit that an earlier call began"
    if receipt.charge_credits == 0:
        return "with credits as the payer, of which none was taken"
    return f"paid with {receipt.charge_credits} credit{'' if receipt.charge_credits == 1 else 's'}"


def _bills(attempts: Iterable[AttemptRecord]) -> dict[str, int | None]:
    """What each of the workspace's own keys was billed, in nano-USD; keys that cost nothing are left out."""
    bills: dict[str, int | None] = {}
    for attempt in attempts:
        if attempt.route is not Route.CREDITS and attempt.cost_nusd != 0:
            before = bills.get(_own_key(attempt), 0)
            known = before is not None and attempt.cost_nusd is not None
            bills[_own_key(attempt)] = (before or 0) + (attempt.cost_nusd or 0) if known else None
    return bills


def _other_payers(receipt: Receipt, answered: AttemptRecord) -> str:
    """Attempts that failed before the answer may have cost another key something."""
    bills = _bills(receipt.attempts[:-1])
    if answered.route is not Route.CREDITS:
        bills.pop(_own_key(answered), None)
    return "".join(
        f" {_amount(amount)} of it was billed to the workspace's own {key} for an attempt that failed."
        for key, amount in bills.items()
    )


def _payers(receipt: Receipt) -> str:
    """Whose money a call took that brought no answer."""
    bills = _bills(receipt.attempts)
    told = [
        f"the workspace's own {key}{f' ({_amount(cost)})' if len(bills) > 1 else ''}" for key, cost in bills.items()
    ]
    paid = f" Paid by {' and '.join(told)}." if told else ""
    if receipt.funding is Funding.CREDITS and (receipt.charge_nusd or receipt.absorbed_nusd):
        credits = _describe_credits(receipt)
        paid += f" {credits[0].upper()}{credits[1:]}."
    return paid


def _amount(cost_nusd: int | None) -> str:
    return "An unknown part" if cost_nusd is None else f"US${format_usd(cost_nusd)}"


def _describe_money(receipt: Receipt) -> str:
    if receipt.cost_nusd is None:
        return "Cost: unknown, the model has no price."
    return f"Cost: US${format_usd(receipt.cost_nusd)} ({_BASIS[receipt.basis]}{_describe_correction(receipt)})."


def _describe_correction(receipt: Receipt) -> str:
    """The estimate that a later report has replaced, beside what is booked now."""
    corrections = [a.correction for a in receipt.attempts if a.correction is not None]
    if not corrections:
        return ""
    before = [a.cost_nusd if a.correction is None else a.correction.estimated_nusd for a in receipt.attempts]
    known = [cost for cost in before if cost is not None]
    first = f"US${format_usd(sum(known))}" if len(known) == len(before) else "unknown"
    reported = sum(correction.reported_nusd for correction in corrections)
    then = "" if receipt.basis is Basis.ACTUAL else f"; reported afterwards: US${format_usd(reported)}"
    return f"; corrected, first booked as {first}{then}"
