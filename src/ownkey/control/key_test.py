"""Test: is this key real, does it reach what the product needs, has it money; one of six words, and why.

The typed candidate, else the saved credential; nothing is stored; 15 seconds in all; it runs while the credential
is disabled or AI is paused. The first outcome that matches is the answer.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Literal, assert_never

from ownkey.control import ports
from ownkey.control.data_keys import with_data_key
from ownkey.control.key_readings import KeyReadings
from ownkey.control.live_probe import LiveProbe, ProbeKey, ProbeOutcome, ProbeTarget
from ownkey.control.pace import KeyTestPace
from ownkey.control.ports import Actor, Books, Clock, Opener, Sealer
from ownkey.control.probes import AuthProber, KeyFacts, moment_ms
from ownkey.control.problems import Problem, ProblemCode, suggest
from ownkey.domain.credentials import AcceptedCredential, CredentialFormError, accept_credential
from ownkey.domain.errors import DataKeyClosed
from ownkey.domain.failures import Failure, FailureClass, find_reset_ms
from ownkey.domain.health import KEY_LIMIT, Evidence, Sign, limit_resets_at_ms
from ownkey.domain.key_readings import KeyUsage
from ownkey.domain.key_readings import Origin as ReadingOrigin
from ownkey.domain.models import native_id, normalize_requested
from ownkey.domain.money import format_usd
from ownkey.domain.phrases import Phrase
from ownkey.domain.product import Product, Task
from ownkey.domain.receipts import KEY_TEST, AttemptRecord, Basis, CapView, Receipt, add_usage, provider_name
from ownkey.domain.routing import Funding, code_for
from ownkey.domain.workspace import Credential, WorkspaceState

TEST_SECONDS = 15.0
REACH_SECONDS = 4.0
EMPTY_MS = 10 * 60_000
"""How long a Test that found no money speaks for a key that is saved afterwards: as long as the page keeps the key."""
MOST_EMPTY = 1_000
"""The list of models decides nothing alone: it may not take the live call's time."""


class Outcome(StrEnum):
    WRONG_KIND = "wrong_kind"
    REJECTED = "rejected"
    UNREACHABLE = "unreachable"
    WORKS_NO_BALANCE = "works_no_balance"
    RESTRICTED = "restricted"
    WORKS = "works"


@dataclass(frozen=True, slots=True)
class TaskReach:
    """Whether the key reaches a task's model: "works", "refused", or "not_tested"."""

    task: str
    model: str
    state: Literal["works", "refused", "not_tested"]
    reason: str = ""


@dataclass(frozen=True, slots=True)
class KeyTestResult:
    """`sentence` says what was found and `fix` what to do about it. `paid_call` is "answered", "failed" or why it
    was skipped. Amounts are nano-USD, None where the provider does not tell them; `usage` is what OpenRouter counts.
    `proved` is how far the key came: "accepted" by its provider, or "answered" with content. `funds_reset_ms` is when a
    lack of funds ends by itself."""

    provider: str
    outcome: Outcome
    sentence: str
    fix: str = ""
    hint: str = ""
    cleaned: tuple[str, ...] = ()
    belongs_to: str | None = None
    reach: tuple[TaskReach, ...] = ()
    model: str | None = None
    latency_ms: int | None = None
    cost_nusd: int | None = None
    paid_call: str = ""
    limit_nusd: int | None = None
    limit_left_nusd: int | None = None
    limit_reset: str | None = None
    funds_reset_ms: int | None = None
    expires_at: str | None = None
    receipt: str | None = None
    proved: Literal["", "accepted", "answered"] = ""
    usage: KeyUsage | None = None


@dataclass(slots=True)
class _Finding:
    """What the steps have shown so far. `step` is "key" until the provider has accepted the key, then "call"."""

    facts: KeyFacts = KeyFacts()  # noqa: RUF009 - a frozen value
    failure: Failure | None = None
    step: Literal["key", "call"] = "key"
    probes: tuple[ProbeOutcome, ...] = ()
    skipped: str = ""


class KeyTest:
    """Runs the four steps and writes what they cost."""

    def __init__(
        self, store: ports.Credentials, sealer: Sealer, opener: Opener, prober: AuthProber, live: LiveProbe,
        books: Books, pace: KeyTestPace, clock: Clock, product: Product, seconds: float = TEST_SECONDS,
        readings: KeyReadings | None = None,
    ) -> None:
        self._store = store
        self._sealer = sealer
        self._opener = opener
        self._prober = prober
        self._live = live
        self._books = books
        self._pace = pace
        self._clock = clock
        self._product = product
        self._seconds = seconds
        self._readings = readings
        self._empty: dict[tuple[str, str, bytes], tuple[int, KeyTestResult]] = {}

    async def run(
        self, workspace: WorkspaceState, provider: str, typed: str | None, *, address: str, actor: Actor,
        token_id: str,
    ) -> KeyTestResult:
        """Test the typed key, else the saved credential. Raises Problem."""
        saved = workspace.credentials.get(provider)
        if typed is None and saved is None:
            raise Problem(
                ProblemCode.NOT_FOUND, Phrase(
                    "No {provider} API key is saved here, and none was given.", provider=provider_name(provider),
                ),
                Phrase("Give the key to test."), param="key", flow=f"credential:{provider}",
            )
        if typed is not None:
            try:
                accepted = accept_credential(provider, typed)
            except CredentialFormError as error:
                return form_result(provider, error)
            fingerprint = self._fingerprint(workspace, provider, accepted)
            key = ProbeKey(accepted.secret, "", "not saved", accepted.hint)
            cleaned = tuple(str(w) for w in accepted.unwrapped)
        else:
            assert saved is not None
            fingerprint, cleaned = saved.fingerprint, ()
            self._pace.admit(workspace.id, fingerprint, address, self._clock.now_ms())
            key = await self._open(workspace, saved, actor)
        if typed is not None:
            self._pace.admit(workspace.id, fingerprint, address, self._clock.now_ms())
        result = await self._test(workspace, provider, key, token_id, saved if typed is None else None)
        await self._remember(workspace, provider, None if typed is not None else saved, fingerprint, result, actor)
        self._keep_empty((workspace.id, provider, fingerprint), result)
        return replace(result, hint=key.hint, cleaned=cleaned)

    async def check_candidate(
        self, workspace: WorkspaceState, provider: str, accepted: AcceptedCredential, *, address: str,
        typed: bool = True,
    ) -> KeyTestResult:
        """The free part, as Save needs it: form is done, then authentication and reach. Raises Problem.

        `typed` false: the provider itself has just handed out this key, so nobody is trying out keys.
        """
        fingerprint = self._fingerprint(workspace, provider, accepted)
        if typed:
            self._pace.admit(workspace.id, fingerprint, address, self._clock.now_ms(), "save")
        finding = await self._ask(provider, ProbeKey(accepted.secret, "", "", accepted.hint), self._deadline())
        result = self._judge(provider, finding, self._reach(provider, finding))
        at_ms, empty = self._empty.get((workspace.id, provider, fingerprint), (0, None))
        if result.outcome is Outcome.WORKS and empty is not None and self._clock.now_ms() - at_ms <= EMPTY_MS:
            # What is free shows no empty account; the Test's call met one a moment ago.
            result = empty
        return replace(result, hint=accepted.hint)

    def _keep_empty(self, key: tuple[str, str, bytes], result: KeyTestResult) -> None:
        """Remember, by its fingerprint, that a key's account is empty; any other outcome forgets it."""
        self._empty.pop(key, None)
        if result.outcome is Outcome.WORKS_NO_BALANCE:
            self._empty[key] = (self._clock.now_ms(), result)
            if len(self._empty) > MOST_EMPTY:
                del self._empty[next(iter(self._empty))]

    async def audit(
        self, workspace: WorkspaceState, provider: str, accepted: AcceptedCredential, result: KeyTestResult,
        actor: Actor,
    ) -> None:
        """A typed key was tested and not saved: the log keeps its fingerprint."""
        fingerprint = self._sealer.fingerprint(workspace.id, workspace.dek, accepted)
        await self._audit(workspace, provider, fingerprint, False, result, actor)

    async def _audit(
        self, workspace: WorkspaceState, provider: str, fingerprint: bytes, saved: bool, result: KeyTestResult,
        actor: Actor,
    ) -> None:
        await self._store.save_audit(
            workspace.id, "credential.tested", f"credential:{provider}", None,
            {"outcome": result.outcome.value, "fingerprint": fingerprint.hex(), "saved": saved},
            at_ms=self._clock.now_ms(), actor=actor,
        )

    def _fingerprint(self, workspace: WorkspaceState, provider: str, accepted: AcceptedCredential) -> bytes:
        """Raises Problem where nothing can be sealed for this workspace: then no key need be sent anywhere."""
        with with_data_key(workspace, f"credential:{provider}"):
            try:
                return self._sealer.fingerprint(workspace.id, workspace.dek, accepted)
            except DataKeyClosed:
                for saved in workspace.credentials.values():
                    self._store.mark_undecryptable(saved, self._clock.now_ms())
                raise

    async def _open(self, workspace: WorkspaceState, saved: Credential, actor: Actor) -> ProbeKey:
        try:
            secret = self._opener.open(workspace, saved)
        except ValueError as error:
            self._store.mark_undecryptable(saved, self._clock.now_ms())
            # Waits for that mark too: whoever reads the workspace next finds it.
            await self._store.save_audit(
                workspace.id, "credential.tested", f"credential:{saved.provider}", None,
                {"outcome": "undecryptable", "fingerprint": saved.fingerprint.hex(), "saved": True},
                at_ms=self._clock.now_ms(), actor=actor,
            )
            with with_data_key(workspace, f"credential:{saved.provider}"):
                if isinstance(error, DataKeyClosed):
                    raise
            raise Problem(
                ProblemCode.CONFLICT, Phrase("The saved key cannot be opened: our fault, and the operator knows."),
                Phrase("Paste the key again and save it."), flow=f"credential:{saved.provider}",
            ) from error
        return ProbeKey(secret, saved.id, saved.label, saved.hint, saved.version)

    def _deadline(self) -> float:
        return self._clock.monotonic() + self._seconds

    async def _ask(self, provider: str, key: ProbeKey, deadline: float) -> _Finding:
        """Authentication, and then what the key reaches, where that is free."""
        answer = await self._prober.ask(provider, key.secret, deadline)
        if isinstance(answer, Failure):
            # A restricted OpenAI key may not list models and yet run them: only the live call can tell.
            if answer.cls is FailureClass.SCOPE:
                return _Finding(step="call")
            return _Finding(failure=answer)
        if answer.management or answer.exhausted:
            return _Finding(facts=answer, step="call")
        soon = min(deadline, self._clock.monotonic() + REACH_SECONDS)
        reached = await self._prober.reach(provider, key.secret, answer, soon)
        return _Finding(facts=reached if isinstance(reached, KeyFacts) else answer, step="call")

    async def _test(
        self, workspace: WorkspaceState, provider: str, key: ProbeKey, token_id: str, saved: Credential | None
    ) -> KeyTestResult:
        deadline = self._deadline()
        finding = await self._ask(provider, key, deadline)
        if saved is not None and self._readings is not None:
            # Before the live call, whose cost these figures do not hold.
            await self._readings.try_note(workspace, saved, finding.facts.usage, ReadingOrigin.TEST)
        if finding.failure is not None or finding.facts.management or finding.facts.exhausted:
            return self._judge(provider, finding, self._reach(provider, finding))
        call_id, began_ms = self._clock.new_id("rcpt"), self._clock.now_ms()
        finding.probes = await self._call_live(workspace, provider, key, finding, call_id, deadline)
        receipt = await self._write_receipt(workspace, provider, finding, call_id, token_id, began_ms)
        return replace(self._judge(provider, finding, self._reach(provider, finding)), receipt=receipt)

    async def _call_live(
        self, workspace: WorkspaceState, provider: str, key: ProbeKey, finding: _Finding, call_id: str,
        deadline: float,
    ) -> tuple[ProbeOutcome, ...]:
        outcomes: list[ProbeOutcome] = []
        for endpoint in ("chat", "embeddings"):
            target = self._cheapest(provider, endpoint, finding.facts)
            if target is None:
                continue
            outcome = await self._live.send(
                workspace, provider, target, key, call_id=call_id, n=len(outcomes) + 1, deadline=deadline
            )
            outcomes.append(outcome)
            if outcome.skipped:
                finding.skipped = outcome.skipped
        if not outcomes:
            finding.skipped = Phrase(
                "no task uses a model that {provider} serves with this key", provider=provider_name(provider),
            )
        return tuple(outcomes)

    def _cheapest(
        self, provider: str, endpoint: Literal["chat", "embeddings"] | str, facts: KeyFacts
    ) -> ProbeTarget | None:
        kind: Literal["chat", "embeddings"] = "embeddings" if endpoint == "embeddings" else "chat"
        targets = [
            ProbeTarget(kind, slug, native)
            for task in self._product.tasks.values() if task.endpoint == kind
            for slug in task.models
            if (native := self._native(provider, slug, kind)) is not None
            and (kind == "embeddings" or _is_listed(facts.models, slug, native) is not False)
        ]
        return min(targets, key=lambda target: self._rank(provider, target), default=None)

    def _rank(self, provider: str, target: ProbeTarget) -> tuple[bool, int, str]:
        price = self._live.price_of(provider, target)
        if price is None:
            return True, 0, target.slug
        return False, (price.dearest("input") or 0) + (price.dearest("output") or 0), target.slug

    def _native(self, provider: str, slug: str, endpoint: str) -> str | None:
        """The provider's own id; None where calls for this model never go to it."""
        if provider == "openrouter":
            return slug
        if endpoint == "embeddings" and provider not in self._product.direct_embeddings:
            return None
        found = native_id(slug, self._product.model_ids)
        return found[1] if found is not None and found[0] == provider else None

    def _reach(self, provider: str, finding: _Finding) -> tuple[TaskReach, ...]:
        rows = []
        for task in self._product.tasks.values():
            slug = next((s for s in task.models if self._native(provider, s, task.endpoint) is not None), None)
            if slug is not None:
                rows.append(self._reach_of(provider, task, slug, finding))
        return tuple(rows)

    def _reach_of(self, provider: str, task: Task, slug: str, finding: _Finding) -> TaskReach:
        for probe in finding.probes:
            if probe.target.slug == slug and probe.target.endpoint == task.endpoint and not probe.skipped:
                if probe.failure is None:
                    return TaskReach(task.name, slug, "works")
                if probe.failure.cls in (FailureClass.SCOPE, FailureClass.MODEL_MISSING):
                    return TaskReach(task.name, slug, "refused", probe.failure.message or probe.failure.signal)
                return TaskReach(task.name, slug, "not_tested", probe.failure.signal)
        native = self._native(provider, slug, task.endpoint)
        assert native is not None
        # OpenRouter's list for a key has its chat models only.
        unlisted = provider == "openrouter" and task.endpoint == "embeddings"
        listed = None if unlisted else _is_listed(finding.facts.models, slug, native)
        if listed is None:
            return TaskReach(task.name, slug, "not_tested", Phrase("only a call can tell"))
        if listed:
            return TaskReach(task.name, slug, "works")
        return TaskReach(task.name, slug, "refused", Phrase("the model is not among those this key may use"))

    def _judge(self, provider: str, finding: _Finding, reach: tuple[TaskReach, ...]) -> KeyTestResult:
        facts, name = finding.facts, provider_name(provider)
        refused = [row for row in reach if row.state == "refused"]
        outcome = _outcome(finding, bool(refused))
        reach = _only_proved(reach, outcome, finding)
        sentence, fix = _words(outcome, name, finding, refused)
        chat = next((probe for probe in finding.probes if not probe.skipped), None)
        costs = [probe.cost_nusd for probe in finding.probes if not probe.skipped]
        return KeyTestResult(
            provider=provider, outcome=outcome, sentence=sentence, fix=fix, reach=reach,
            model=None if chat is None else chat.target.slug,
            latency_ms=None if chat is None else chat.latency_ms,
            cost_nusd=None if not costs or None in costs else sum(cost for cost in costs if cost is not None),
            paid_call=_paid_call(finding), limit_nusd=facts.limit_nusd, limit_left_nusd=facts.limit_left_nusd,
            limit_reset=facts.limit_reset, funds_reset_ms=self._funds_reset_ms(finding),
            expires_at=facts.expires_at, proved=_proved(finding), usage=facts.usage,
        )

    def _funds_reset_ms(self, finding: _Finding) -> int | None:
        funds = next((f for f in _failures(finding) if f.cls is FailureClass.FUNDS), None)
        return None if funds is None else find_reset_ms(funds, self._clock.now_ms())

    async def _write_receipt(
        self, workspace: WorkspaceState, provider: str, finding: _Finding, call_id: str, token_id: str, began_ms: int
    ) -> str | None:
        sent = [probe for probe in finding.probes if probe.record is not None]
        if not sent:
            return None
        failure = next((probe.failure for probe in reversed(sent) if probe.failure is not None), None)
        answered = next((probe.target.native for probe in sent if probe.failure is None), None)
        costs = [probe.cost_nusd for probe in sent]
        bases = {probe.record.basis for probe in sent if probe.record is not None}
        receipt = Receipt(
            id=call_id, workspace_id=workspace.id, at_ms=began_ms, token_id=token_id,
            endpoint=sent[0].target.endpoint, dialect="openai", task=KEY_TEST,
            requested_model=sent[0].target.slug, served_model=answered,
            stream=False, project=None, conversation=None, member=None, row=None, funding=Funding.BYOK,
            route=None if sent[-1].record is None else sent[-1].record.route, provider=provider,
            status=200 if failure is None else failure.status or 503,
            code=None if failure is None else code_for(failure.cls).value,
            message="" if failure is None else f"The Test's call failed: {failure.signal}.",
            attempts=_one_after_another(sent),
            usage=add_usage([probe.usage for probe in sent if probe.usage is not None]),
            cost_nusd=None if None in costs else sum(cost for cost in costs if cost is not None),
            basis=next(b for b in (Basis.UNKNOWN, Basis.ESTIMATED, Basis.COMPUTED, Basis.ACTUAL, Basis.NONE)
                       if b in bases),
            price_version=sent[0].price_version, cap=_cap_view(sent),
            duration_ms=sum(probe.latency_ms for probe in sent),
            notes=("A key's Test, not a call of the product.",),
        )
        return (await self._books.end_call(None, receipt)).id

    async def _remember(
        self, workspace: WorkspaceState, provider: str, saved: Credential | None, fingerprint: bytes,
        result: KeyTestResult, actor: Actor,
    ) -> None:
        await self._audit(workspace, provider, fingerprint, saved is not None, result, actor)
        evidence = evidence_of(result, self._clock.now_ms())
        if saved is not None and evidence is not None:
            await self._store.note_health(workspace.id, saved.id, saved.version, evidence)


def evidence_of(result: KeyTestResult, at_ms: int) -> Evidence | None:
    """What a Test, or Save's check, says about the key's health; None: nothing was learnt."""
    signal, expires = f"test: {result.outcome.value}", moment_ms(result.expires_at)
    match result.outcome:
        case Outcome.REJECTED | Outcome.WRONG_KIND:
            return Evidence(Sign.REJECTED, signal, at_ms)
        case Outcome.WORKS_NO_BALANCE if result.limit_left_nusd == 0:
            return Evidence(
                Sign.NO_FUNDS, KEY_LIMIT, at_ms, resets_at_ms=limit_resets_at_ms(result.limit_reset, at_ms), free=True,
                expires_at_ms=expires,
            )
        case Outcome.WORKS_NO_BALANCE:
            return Evidence(
                Sign.NO_FUNDS, signal, at_ms, resets_at_ms=result.funds_reset_ms, expires_at_ms=expires
            )
        case Outcome.WORKS | Outcome.RESTRICTED | Outcome.UNREACHABLE:
            if not result.proved:
                return None
            sign = Sign.ANSWERED if result.proved == "answered" else Sign.ACCEPTED
            return Evidence(sign, signal, at_ms, expires_at_ms=expires)
        case _:
            assert_never(result.outcome)


def form_result(provider: str, error: CredentialFormError) -> KeyTestResult:
    """Step 1. A wrong kind is an outcome; a text that is no key at all is a Problem."""
    if error.code == "wrong_kind":
        return KeyTestResult(provider, Outcome.WRONG_KIND, error.sentence, error.fix, belongs_to=error.belongs_to)
    raise Problem(ProblemCode.CREDENTIAL_MALFORMED, error.sentence, error.fix, param="key")


def check_provider(product: Product, provider: str) -> None:
    """Raises Problem for a provider that this product does not use."""
    known = ("openrouter", *product.direct_providers)
    if provider not in known:
        raise Problem(
            ProblemCode.UNKNOWN_PROVIDER,
            Phrase("{provider} is not a provider of this product.", provider=repr(provider[:40])),
            suggest(provider, known), param="provider",
        )


def _is_listed(listed: frozenset[str] | None, slug: str, native: str) -> bool | None:
    """Whether the key's own list has the model; None where a list cannot tell."""
    if listed is None or slug.startswith(("~", "openrouter/")):
        return None
    return native in listed or any(normalize_requested(name) == slug for name in listed)


_UNREACHABLE: Mapping[FailureClass, str] = {
    FailureClass.NETWORK: Phrase("could not be reached"), FailureClass.TIMEOUT: Phrase("did not answer in time"),
    FailureClass.OVERLOAD: Phrase("answered that it is overloaded or broken"),
    FailureClass.RATE_LIMIT: Phrase("answered that it is rate limiting"),
}


def _failures(finding: _Finding) -> list[Failure]:
    found = [] if finding.failure is None else [finding.failure]
    return [*found, *(probe.failure for probe in finding.probes if probe.failure is not None)]


def _proved(finding: _Finding) -> Literal["", "accepted", "answered"]:
    if any(probe.failure is None and not probe.skipped for probe in finding.probes):
        return "answered"
    return "accepted" if finding.step == "call" else ""


_SOFT = frozenset({FailureClass.FUNDS, FailureClass.SCOPE, FailureClass.MODEL_MISSING})


def _outcome(finding: _Finding, refused: bool) -> Outcome:
    classes = {failure.cls for failure in _failures(finding)}
    if finding.facts.management:
        return Outcome.WRONG_KIND
    if FailureClass.AUTH in classes:
        return Outcome.REJECTED
    if classes - _SOFT:
        return Outcome.UNREACHABLE
    if finding.facts.exhausted or FailureClass.FUNDS in classes:
        return Outcome.WORKS_NO_BALANCE
    return Outcome.RESTRICTED if refused or classes else Outcome.WORKS


_UNPROVED: Mapping[Outcome, str] = {
    Outcome.WORKS_NO_BALANCE: Phrase("there is no money behind the key"),
    Outcome.REJECTED: Phrase("the key is not accepted"),
    Outcome.WRONG_KIND: Phrase("the key cannot run models"),
    Outcome.UNREACHABLE: Phrase("the Test came to no verdict"),
}


def _only_proved(reach: tuple[TaskReach, ...], outcome: Outcome, finding: _Finding) -> tuple[TaskReach, ...]:
    """A model on the key's list works only if the key does: elsewhere only what has answered is said to work."""
    if outcome not in _UNPROVED:
        return reach
    answered = {probe.target.slug for probe in finding.probes if probe.failure is None and not probe.skipped}
    return tuple(
        replace(row, state="not_tested", reason=_UNPROVED[outcome])
        if row.state == "works" and row.model not in answered else row for row in reach
    )


def _words(
    outcome: Outcome, name: str, finding: _Finding, refused: list[TaskReach]
) -> tuple[str, str]:
    match outcome:
        case Outcome.WRONG_KIND:
            return (
                Phrase("A management key cannot run models."),
                Phrase("Create an API key at {name} and paste that one.", name=name),
            )
        case Outcome.REJECTED:
            signal = next(f.signal for f in _failures(finding) if f.cls is FailureClass.AUTH)
            return (
                Phrase(
                    "{name} does not accept this key ({signal}). It may be mistyped, revoked or expired.", name=name,
                    signal=signal,
                ),
                Phrase("Create a new key at {name}, or copy it again in one piece.", name=name),
            )
        case Outcome.UNREACHABLE:
            failure = next(f for f in _failures(finding) if f.cls not in _SOFT)
            what = _UNREACHABLE.get(failure.cls, Phrase("answered with {signal}", signal=failure.signal))
            if finding.step == "call":
                return (
                    Phrase("The key is accepted, but the model call failed: {name} {what}.", name=name, what=what),
                    Phrase("Test again in a minute."),
                )
            return (
                Phrase("{name} {what}; this says nothing about the key.", name=name, what=what),
                Phrase("Test again in a minute, or save anyway."),
            )
        case Outcome.WORKS_NO_BALANCE:
            return (
                Phrase(
                    "The key is real, but its {name} account has no money left: calls fail until it is topped up.",
                    name=name,
                ),
                Phrase("Add funds at {name}, or raise the key's own limit there.", name=name),
            )
        case Outcome.RESTRICTED:
            tasks = ", ".join(row.task for row in refused)
            told = Phrase(": it does not reach the model of {tasks}", tasks=tasks) if tasks else ""
            return (
                Phrase("The key works, but not for everything{told}.", told=told),
                Phrase("Allow these models in the key's settings at {name}.", name=name),
            )
        case Outcome.WORKS:
            return _works(name, finding), ""
        case _:
            assert_never(outcome)


def _works(name: str, finding: _Finding) -> str:
    answered = next((probe for probe in finding.probes if not probe.skipped), None)
    if answered is None:
        return Phrase(
            "{name} accepts the key; no paid call was made: {skipped}.", name=name, skipped=finding.skipped,
        )
    cost = "" if answered.cost_nusd is None else Phrase(
        " for {amount}", amount=f"US${format_usd(answered.cost_nusd)}"
    )
    return Phrase(
        "The key works: {model} answered in {latency_ms} ms{cost}.", model=answered.target.slug,
        latency_ms=answered.latency_ms, cost=cost,
    )


def _cap_view(sent: list[ProbeOutcome]) -> CapView | None:
    after = sent[-1].cap
    if after is None:
        return None
    own = sum(probe.cost_nusd or 0 for probe in sent)
    resets = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=after.resets_at_ms)
    return CapView(
        after.period_key, after.cap_nusd, max(0, after.spent_nusd - own), after.spent_nusd,
        resets.isoformat(timespec="seconds").replace("+00:00", "Z"),
    )


def _one_after_another(sent: list[ProbeOutcome]) -> tuple[AttemptRecord, ...]:
    """The probes' records on the Test's own clock: each was sent when the one before it had ended."""
    records: list[AttemptRecord] = []
    for probe in sent:
        if probe.record is not None:
            before_ms = records[-1].ended_ms if records else 0
            content_ms = probe.record.first_content_ms
            records.append(replace(
                probe.record, started_ms=before_ms, ended_ms=before_ms + probe.record.ended_ms,
                first_content_ms=None if content_ms is None else before_ms + content_ms,
            ))
    return tuple(records)


def _paid_call(finding: _Finding) -> str:
    sent = [probe for probe in finding.probes if not probe.skipped]
    if not sent:
        return Phrase("skipped: {reason}", reason=finding.skipped or Phrase("the free checks decided"))
    return "failed" if any(probe.failure is not None for probe in sent) else "answered"
