"""A receipt in words: what happened, who paid, and why. Doors, the command line and explain share these sentences."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from ownkey.domain.money import format_usd
from ownkey.domain.phrases import Phrase, listed, together
from ownkey.domain.receipts import KEY_TEST, AttemptRecord, Basis, Receipt, Skip, provider_name
from ownkey.domain.routing import Funding, Route

KEY_UNOPENABLE: Final = Phrase("the saved key cannot be opened")
"""How an attempt, a skip and a note begin that tell of ciphertext that does not open."""

_HUNG_UP: Final = Phrase("The caller hung up before an answer.")
_CREDITS_STEP_IN: Final = Phrase("Use credits if my key fails is on")

_ROW_WHY: Final = {
    "F1": Phrase("the plan does not include calls with your own key and the add-on was not bought"),
    "F2": Phrase("the add-on is not paid"),
    "F3": Phrase("the credit balance was below the minimum for calls with your own key"),
    "F4": Phrase("this product works with your own OpenRouter key only, and there is no usable one"),
    "F5": Phrase("Always use this key is on and the key could not be used; credits are never a substitute then"),
    "F6": Phrase("the saved key cannot be opened and credits are not allowed to step in"),
    "F7": Phrase("the spend cap is reached"),
    "F8": Phrase("this product always uses your own keys"),
    "F9": Phrase("Always use this key is on"),
    "F10": Phrase("your own key is connected and enabled"),
    "F11": Phrase("your own key is connected and enabled"),
    "F12": Phrase("credits are the payer and do not suffice"),
    "F13": Phrase("no own key is in force, so the platform's AI and credits were used"),
}

_FAILED: Final[Mapping[str, str]] = {
    "model_missing": Phrase("does not have the model"),
    "rate_limit": Phrase("was rate limiting"),
    "overload": Phrase("was overloaded or broken"),
    "network": Phrase("could not be reached, or broke off"),
    "timeout": Phrase("did not answer in time"),
    "request": Phrase("refused the request"),
    "too_long": Phrase("found the request too long"),
    "policy": Phrase("refused the content"),
    "bad_output": Phrase("gave an answer that cannot be used"),
}

_BASIS: Final = {
    Basis.ACTUAL: Phrase("as the provider reported it"),
    Basis.COMPUTED: Phrase("computed from reported tokens and list prices"),
    Basis.ESTIMATED: Phrase("estimated, because the provider's report is missing"),
    Basis.NONE: Phrase("nothing was billed"),
    Basis.UNKNOWN: Phrase("price unknown"),
}


def explain_route(
    row: str, route: Route, model: str, skips: Iterable[Skip], attempts: Sequence[AttemptRecord] = (),
    notes: Iterable[str] = (),
) -> str:
    """Why this route carries a call for `model`, as the end of a sentence: the row, or what became of the route that
    stands before it."""
    match route:
        case Route.CREDITS if row == "F10":
            causes = _why_key_failed(skips, attempts)
            told = Phrase("your own key failed and {reason}", reason=_CREDITS_STEP_IN)
            return together(told, _listed(causes), between=": ")
        case Route.CREDITS if row == "F13" and any(note.startswith(KEY_UNOPENABLE) for note in notes):
            return Phrase("{first} and {second}", first=KEY_UNOPENABLE, second=_CREDITS_STEP_IN)
        case Route.OPENROUTER if row in ("F8", "F10", "F11"):
            causes = _why_not_direct(model, skips, attempts)
            if causes:
                return _listed(causes)
            if row == "F8":
                return Phrase("{reason} and no direct key is in force for this model", reason=_ROW_WHY[row])
        case Route.DIRECT:
            return Phrase("{reason}, direct keys first", reason=_ROW_WHY[row])
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
    tried, money = _tried(receipt, why), together(_describe_money(receipt), _other_payers(receipt, answered))
    if receipt.code is not None:
        told = Phrase(
            "{name} began to answer with {model}, {payer}{why}, and the answer broke off ({code}): {message}",
            name=name, model=answered.model, payer=payer, why=why, code=receipt.code, message=_message(receipt),
        )
        return together(told, tried, money)
    if receipt.hung_up and receipt.finish_reason is None:
        return together(Phrase(
            "The caller hung up {when}, {payer}{why}.", when=_hung_up_when(name, answered), payer=payer, why=why
        ), tried, money)
    told = Phrase(
        "{name} answered with {model}{again}, {payer}{why}.", name=name, model=answered.model,
        again=_again(receipt, answered), payer=payer, why=why,
    )
    cut = Phrase("The caller hung up before reading the end.") if receipt.hung_up else ""
    return together(told, tried, cut, money)


def _hung_up_when(name: str, answered: AttemptRecord) -> str:
    if answered.first_content_ms is None:
        return Phrase("before {name} answered with {model}", name=name, model=answered.model)
    return Phrase("while {name} was answering with {model}", name=name, model=answered.model)


def _describe_refusal(receipt: Receipt) -> str:
    """The caller got nothing of an answer."""
    told = [
        Phrase("{route}: {why}", route=name_skip(skip), why=skip.why)
        for skip in receipt.skips if skip.why not in receipt.message
    ]
    left = Phrase("Not used: {reasons}.", reasons=_listed(told)) if told else ""
    money = together(Phrase("Nothing was sent and nothing was paid."))
    if receipt.attempts:
        money = together(_describe_money(receipt), _payers(receipt))
    return together(_lead_refusal(receipt), _tried(receipt, ""), left, money)


def _lead_refusal(receipt: Receipt) -> str:
    if receipt.status == 499:
        return _HUNG_UP if receipt.message == _HUNG_UP else _message(receipt)
    if receipt.attempts:
        return Phrase("No answer ({code}): {message}", code=receipt.code, message=_message(receipt))
    if receipt.row:
        return Phrase(
            "Refused with {code} ({row}: {reason}): {message}", code=receipt.code, row=receipt.row,
            reason=_ROW_WHY[receipt.row], message=_message(receipt),
        )
    return Phrase("Refused with {code}: {message}", code=receipt.code, message=_message(receipt))


def _describe_key_test(receipt: Receipt) -> str:
    """A Test calls every kind of model once with the one key that is tested, so its attempts are told one by one."""
    first, calls = receipt.attempts[0], len(receipt.attempts)
    told = together(*map(_describe_test_call, receipt.attempts), between=", ")
    key = Phrase("the {key}", key=_own_key(first))
    made = Phrase("A Test of {key} made {count} small calls: {outcomes}.", key=key, count=calls, outcomes=told)
    if calls == 1:
        made = Phrase("A Test of {key} made 1 small call: {outcomes}.", key=key, outcomes=told)
    return together(made, Phrase(
        "Paid by that key, because a Test is about the key and not about who pays for the product's calls."
    ), _describe_money(receipt))


def _describe_test_call(attempt: AttemptRecord) -> str:
    if attempt.failure is None:
        return Phrase("{model} answered", model=attempt.model)
    return Phrase(
        "{model} failed ({failure}: {signal})", model=attempt.model, failure=attempt.failure, signal=attempt.signal
    )


def _listed(told: Iterable[str]) -> Phrase:
    return together(*dict.fromkeys(told), between="; ")


# --- why


def _because(receipt: Receipt, answered: AttemptRecord) -> str:
    if not receipt.row:
        return ""
    why = explain_route(
        receipt.row, answered.route, answered.model, receipt.skips, receipt.attempts[:-1], receipt.notes
    )
    return Phrase(", because {why}", why=why)


def _why_key_failed(skips: Iterable[Skip], attempts: Sequence[AttemptRecord]) -> list[str]:
    """What led from the OpenRouter key to credits: its failure in this call, else why it was left out."""
    told = [describe_failure(a) for a in attempts if a.route is Route.OPENROUTER and a.failure in ("auth", "funds")]
    told = told or [
        Phrase("{route} was skipped: {why}", route=name_skip(s), why=s.why)
        for s in skips if s.route is Route.OPENROUTER
    ]
    return list(dict.fromkeys(told))


def _why_not_direct(model: str, skips: Iterable[Skip], attempts: Sequence[AttemptRecord]) -> list[str]:
    """What became of the direct route of this model's maker."""
    maker = _maker(model)
    told = [
        describe_failure(a) for a in attempts
        if a.route is Route.DIRECT and a.failure is not None and a.provider == maker
    ]
    told += [
        Phrase("{route} was not used: {why}", route=name_skip(s), why=s.why)
        for s in skips if s.route is Route.DIRECT and _maker(s.model) == maker
    ]
    return list(dict.fromkeys(told))


def _maker(slug: str) -> str:
    return slug.lstrip("~").partition("/")[0]


def name_skip(skip: Skip) -> str:
    """The route that was left out, as people call it."""
    match skip.route:
        case Route.DIRECT:
            return Phrase("the direct {provider} key", provider=provider_name(skip.provider or _maker(skip.model)))
        case Route.OPENROUTER:
            return Phrase("the OpenRouter key")
        case _:
            return Phrase("credits")


def describe_failure(attempt: AttemptRecord) -> str:
    """What went wrong in a failed attempt: who, what, and in brackets the class and the signal."""
    if attempt.failure is None:
        return ""
    provider, key = provider_name(attempt.provider), _key_of(attempt)
    if attempt.signal == KEY_UNOPENABLE:
        return Phrase(
            "{key} of {provider} could not be opened ({failure})", key=key, provider=provider, failure=attempt.failure
        )
    told = Phrase(
        "{provider} {did} ({failure}: {signal})", provider=provider, did=_failed(attempt.failure, key),
        failure=attempt.failure, signal=attempt.signal,
    )
    return Phrase("on the direct route {failure}", failure=told) if attempt.route is Route.DIRECT else told


def _key_of(attempt: AttemptRecord) -> str:
    if attempt.route is Route.CREDITS:
        return Phrase("the platform's key")
    return Phrase("the key {hint}", hint=attempt.credential_hint) if attempt.credential_hint else Phrase("the key")


def _failed(failure: str, key: str) -> str:
    """What a provider did about the key, or about the call."""
    match failure:
        case "auth":
            return Phrase("rejected {key}", key=key)
        case "funds":
            return Phrase("says that there are no funds behind {key}", key=key)
        case "scope":
            return Phrase("does not serve the model to {key}", key=key)
        case _:
            return _FAILED.get(failure, Phrase("failed"))


def _message(receipt: Receipt) -> str:
    """What the caller was told, as a sentence: a provider's own words may end without a full stop."""
    text = receipt.message
    return text if not text or text.endswith((".", "!", "?", "…")) else f"{text}."


def _tried(receipt: Receipt, why: str) -> str:
    """The failed attempts that the reason does not tell already."""
    told = [describe_failure(a) for a in receipt.attempts if a.failure is not None]
    told = [text for text in dict.fromkeys(told) if text not in why and text != receipt.message]
    return Phrase("Tried: {failures}.", failures=_listed(told)) if told else ""


def _again(receipt: Receipt, answered: AttemptRecord) -> str:
    before = [(a.route, a.model) for a in receipt.attempts[:-1] if a.failure is not None]
    if not before:
        return ""
    if set(before) == {(answered.route, answered.model)}:
        return Phrase(" on another try")
    return Phrase(" after a failover")


# --- money


def _own_key(attempt: AttemptRecord) -> str:
    return f"{provider_name(attempt.provider)} key {attempt.credential_hint}".rstrip()


def _payer(receipt: Receipt, answered: AttemptRecord) -> str:
    if answered.route is Route.CREDITS:
        return _describe_credits(receipt)
    if answered.cost_nusd == 0 and answered.basis is Basis.NONE:
        return Phrase("to be paid by the workspace's own {key}", key=_own_key(answered))
    return Phrase("paid by the workspace's own {key}", key=_own_key(answered))


def _describe_credits(receipt: Receipt) -> Phrase:
    if receipt.charge_credits == 0 and receipt.charge_nusd > 0:
        return Phrase("paid from a credit that an earlier call began")
    if receipt.charge_credits == 0:
        return Phrase("with credits as the payer, of which none was taken")
    if receipt.charge_credits == 1:
        return Phrase("paid with 1 credit")
    return Phrase("paid with {count} credits", count=receipt.charge_credits)


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
    return together(*(
        Phrase(
            "{amount} of it was billed to the workspace's own {key} for an attempt that failed.",
            amount=_amount(amount), key=key,
        )
        for key, amount in bills.items()
    ))


def _payers(receipt: Receipt) -> str:
    """Whose money a call took that brought no answer."""
    bills = _bills(receipt.attempts)
    told = [
        Phrase("the workspace's own {key} ({amount})", key=key, amount=_amount(cost)) if len(bills) > 1
        else Phrase("the workspace's own {key}", key=key) for key, cost in bills.items()
    ]
    paid = Phrase("Paid by {payers}.", payers=listed(told)) if told else ""
    credits = ""
    if receipt.funding is Funding.CREDITS and (receipt.charge_nusd or receipt.absorbed_nusd):
        credits = together(_describe_credits(receipt).capital(), ".", between="")
    return together(paid, credits)




def _amount(cost_nusd: int | None) -> str:
    return Phrase("An unknown part") if cost_nusd is None else f"US${format_usd(cost_nusd)}"


def _describe_money(receipt: Receipt) -> str:
    if receipt.cost_nusd is None:
        return Phrase("Cost: unknown, the model has no price.")
    return Phrase(
        "Cost: {amount} ({basis}{correction}).", amount=_amount(receipt.cost_nusd), basis=_BASIS[receipt.basis],
        correction=_describe_correction(receipt),
    )


def _describe_correction(receipt: Receipt) -> str:
    """The estimate that a later report has replaced, beside what is booked now."""
    corrections = [a.correction for a in receipt.attempts if a.correction is not None]
    if not corrections:
        return ""
    before = [a.cost_nusd if a.correction is None else a.correction.estimated_nusd for a in receipt.attempts]
    known = [cost for cost in before if cost is not None]
    first = _amount(sum(known)) if len(known) == len(before) else Phrase("unknown")
    told = Phrase("; corrected, first booked as {amount}", amount=first)
    if receipt.basis is Basis.ACTUAL:
        return told
    reported = sum(correction.reported_nusd for correction in corrections)
    return together(told, Phrase("; reported afterwards: {amount}", amount=_amount(reported)), between="")
