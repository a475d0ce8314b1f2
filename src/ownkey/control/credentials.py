"""Provider keys that customers bring: saved sealed, shown as a hint for ever, disabled or disconnected at will.

Save re-validates for free. What a customer typed is never repeated: not in an answer, an error or the audit log.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from enum import StrEnum

from ownkey.control import ports
from ownkey.control.key_readings import KeyReadings
from ownkey.control.key_test import KeyTest, KeyTestResult, Outcome, check_provider, evidence_of
from ownkey.control.ports import Actor, Clock, Sealer
from ownkey.control.problems import Problem, ProblemCode
from ownkey.control.workspaces import check_name
from ownkey.domain.credentials import AcceptedCredential, CredentialFormError, accept_credential
from ownkey.domain.days import tell_moment
from ownkey.domain.exchange import Origin
from ownkey.domain.health import KEY_LIMIT, is_confirmed, is_unhealthy, judge
from ownkey.domain.key_readings import Origin as ReadingOrigin
from ownkey.domain.phrases import Phrase
from ownkey.domain.product import Product
from ownkey.domain.receipts import provider_name
from ownkey.domain.workspace import (
    Credential,
    CredentialStatus,
    EntitlementState,
    Health,
    WorkspaceState,
)


class CardState(StrEnum):
    """What a provider's card says. The order is the order of precedence."""

    EMPTY = "empty"
    UNDECRYPTABLE = "undecryptable"
    DISABLED = "disabled"
    PARKED = "parked"
    WAITING = "waiting_for_openrouter"
    UNHEALTHY = "unhealthy"
    CONNECTED = "connected"


@dataclass(frozen=True, slots=True)
class CredentialView:
    """A provider's card: no ciphertext, no plaintext. `sentence` says what the state means for calls."""

    provider: str
    state: CardState
    sentence: str
    required: bool
    credential: Credential | None


@dataclass(frozen=True, slots=True)
class Saved:
    """`check` is the re-validation's result; `replaced` tells a new version from a first key. `warnings` say why the
    key does not carry every call although it is saved."""

    view: CredentialView
    message: str
    warnings: tuple[str, ...]
    check: KeyTestResult
    replaced: bool
    cleaned: tuple[str, ...]


class CredentialControl:
    """Saves, lists, switches and destroys credentials of one workspace (the platform's own one included)."""

    def __init__(
        self, store: ports.Credentials, sealer: Sealer, key_test: KeyTest, origins: Mapping[str, Origin],
        clock: Clock, product: Product, readings: KeyReadings | None = None,
    ) -> None:
        self._store = store
        self._sealer = sealer
        self._key_test = key_test
        self._origins = origins
        self._clock = clock
        self._product = product
        self._readings = readings

    def list(self, workspace: WorkspaceState, *, tenant: bool = True) -> tuple[CredentialView, ...]:
        """`tenant` false: the platform's own cards, where no key waits for another."""
        providers = ("openrouter", *self._product.direct_providers)
        return tuple(view_credential(workspace, provider, tenant) for provider in providers)

    def view(self, workspace: WorkspaceState, provider: str) -> CredentialView:
        check_provider(self._product, provider)
        return view_credential(workspace, provider)

    async def save(
        self, workspace: WorkspaceState, provider: str, typed: str, *, label: str, save_anyway: bool, address: str,
        actor: Actor, fetched: bool = False,
    ) -> Saved:
        """Adds or replaces; an older credential stays in service until this returns. Raises Problem.

        `fetched`: the provider handed the key out itself a moment ago, so it counts as no attempt to try out keys.
        """
        check_provider(self._product, provider)
        accepted = _accept(provider, typed)
        name = check_name("label", label) if label else ""
        check = await self._key_test.check_candidate(
            workspace, provider, accepted, address=address, typed=not fetched
        )
        try:
            self._refuse_unfit(provider, check, save_anyway)
        except Problem:
            # A refused Save has tested a key all the same.
            await self._key_test.audit(workspace, provider, accepted, check, actor)
            raise
        before = workspace.credentials.get(provider)
        verified = check.outcome is not Outcome.UNREACHABLE
        if not verified and not _looks_right(accepted) and before is not None and before.health is Health.OK:
            raise Problem(
                ProblemCode.CREDENTIAL_MALFORMED,
                Phrase(
                    "This text does not look like {a_provider} key, {provider} cannot be asked now, and the saved "
                    "key {hint} tested well: it stays in service.", a_provider=_with_article(provider),
                    provider=provider_name(provider), hint=before.hint,
                ),
                Phrase(
                    "Copy the new key again, in one piece. If it is really meant, disconnect the saved key first."
                ),
                param="key", flow=f"credential:{provider}",
            )
        credential = self._seal(workspace, provider, accepted, name, check, before)
        await self._store.save_credential(credential, at_ms=self._clock.now_ms(), actor=actor)
        if self._readings is not None:
            await self._readings.try_note(workspace, credential, check.usage, ReadingOrigin.SAVE)
        after = view_credential(_with(workspace, provider, credential), provider)
        name = provider_name(provider)
        message = Phrase("{provider} API key saved successfully.", provider=name)
        if not verified:
            message = Phrase("{provider} API key saved, unverified.", provider=name)
        return Saved(
            after, message, _warnings(after, check, accepted, before), check,
            before is not None, tuple(str(wrapping) for wrapping in accepted.unwrapped),
        )

    async def set_enabled(
        self, workspace: WorkspaceState, provider: str, enabled: bool, actor: Actor, *,
        also_turn_off_always: bool = False,
    ) -> CredentialView:
        """Disabled keeps the ciphertext and is undone at once. `also_turn_off_always`: in the same transaction, so that
        no call falls in between. Raises Problem."""
        check_provider(self._product, provider)
        status = CredentialStatus.ENABLED if enabled else CredentialStatus.DISABLED
        changed = await self._store.set_credential_status(
            workspace.id, provider, status, at_ms=self._clock.now_ms(), actor=actor,
            always_off=_goes_off(provider, also_turn_off_always and not enabled),
        )
        if changed is None:
            raise _nothing_saved(provider)
        return view_credential(_with(workspace, provider, changed), provider)

    async def disconnect(
        self, workspace: WorkspaceState, provider: str, acknowledged: bool, actor: Actor, *,
        also_turn_off_always: bool = False,
    ) -> None:
        """Destroys the ciphertext. Raises Problem where AI would stop and nobody has said that it may; turning Always
        use this key off with it, in the same transaction, needs no such word."""
        check_provider(self._product, provider)
        if provider not in workspace.credentials:
            raise _nothing_saved(provider)
        if (
            provider == "openrouter" and workspace.always_use_key and not acknowledged and not also_turn_off_always
        ):
            raise Problem(
                ProblemCode.ACKNOWLEDGEMENT_REQUIRED,
                Phrase(
                    "Always use this key is on: when this key is disconnected, every AI call stops. Credits are not "
                    "used instead."
                ),
                Phrase(
                    "Turn Always use this key off with it (also_turn_off_always=true), or repeat with "
                    "acknowledge_ai_stops=true."
                ),
                param="acknowledge_ai_stops", flow="credential:openrouter",
            )
        if not await self._store.delete_credential(
            workspace.id, provider, at_ms=self._clock.now_ms(), actor=actor,
            always_off=_goes_off(provider, also_turn_off_always),
        ):
            raise _nothing_saved(provider)

    def _refuse_unfit(self, provider: str, check: KeyTestResult, save_anyway: bool) -> None:
        flow = f"credential:{provider}"
        match check.outcome:
            case Outcome.WRONG_KIND:
                raise Problem(ProblemCode.CREDENTIAL_WRONG_KIND, check.sentence, check.fix, param="key", flow=flow)
            case Outcome.REJECTED:
                raise Problem(ProblemCode.CREDENTIAL_NOT_ACCEPTED, check.sentence, check.fix, param="key", flow=flow)
            case Outcome.UNREACHABLE if not save_anyway:
                raise Problem(
                    ProblemCode.CREDENTIAL_UNREACHABLE, check.sentence,
                    Phrase(
                        "Try again in a minute, or repeat with save_anyway=true to store the key unverified."
                    ),
                    param="key", flow=flow,
                )
            case _:
                return

    def _seal(
        self, workspace: WorkspaceState, provider: str, accepted: AcceptedCredential, label: str,
        check: KeyTestResult, before: Credential | None,
    ) -> Credential:
        now = self._clock.now_ms()
        credential_id = self._clock.new_id("cred") if before is None else before.id
        version = 1 if before is None else before.version + 1
        origin = str(self._origins[provider])
        credential = Credential(
            id=credential_id, workspace_id=workspace.id, provider=provider, version=version, origin=origin,
            hint=accepted.hint, label=label or ("" if before is None else before.label),
            status=CredentialStatus.ENABLED, health=Health.UNKNOWN,
            sealed=self._sealer.seal(
                workspace.id, workspace.dek, provider, credential_id, version, origin, accepted
            ),
            fingerprint=self._sealer.fingerprint(workspace.id, workspace.dek, accepted),
            created_at_ms=now, health_signal=f"test: {check.outcome.value}", health_at_ms=now,
        )
        evidence = evidence_of(check, now)
        judged = None if evidence is None else judge(credential, evidence)
        if evidence is None or judged is None:
            return credential
        return replace(
            credential, health=judged.health, health_signal=judged.signal, next_probe_ms=judged.next_probe_ms,
            probe_failures=judged.probe_failures, expires_at_ms=evidence.expires_at_ms,
        )


def view_credential(workspace: WorkspaceState, provider: str, tenant: bool = True) -> CredentialView:
    """A provider's card, pure."""
    credential = workspace.credentials.get(provider)
    state = _card_state(workspace, provider, credential, tenant)
    sentence = _card_sentence(state, workspace, provider, credential)
    return CredentialView(provider, state, sentence, provider == "openrouter", credential)


def _card_state(
    workspace: WorkspaceState, provider: str, credential: Credential | None, tenant: bool
) -> CardState:
    if credential is None:
        return CardState.EMPTY
    if credential.undecryptable:
        return CardState.UNDECRYPTABLE
    if credential.status is CredentialStatus.DISABLED:
        return CardState.DISABLED
    if workspace.entitlement in (EntitlementState.INACTIVE, EntitlementState.NONE):
        return CardState.PARKED
    if tenant and provider != "openrouter" and "openrouter" not in workspace.credentials:
        return CardState.WAITING
    if is_unhealthy(credential):
        return CardState.UNHEALTHY
    return CardState.CONNECTED


def _card_sentence(
    state: CardState, workspace: WorkspaceState, provider: str, credential: Credential | None
) -> str:
    name = provider_name(provider)
    unverified = credential is not None and credential.health is Health.UNKNOWN
    parked = Phrase("Kept encrypted and not used while the add-on is not active; works again when it is paid.")
    if workspace.entitlement is EntitlementState.NONE:
        plan = Phrase("The {plan} plan", plan=workspace.plan) if workspace.plan else Phrase("This plan")
        parked = Phrase(
            "{plan} does not include calls with an own key; the key is kept and works once the add-on is bought "
            "or the plan includes it.", plan=plan,
        )
    return {
        CardState.EMPTY: Phrase("No {name} API key is saved.", name=name),
        CardState.UNDECRYPTABLE: Phrase("We cannot open the saved key: our fault. Paste it again, or disconnect it."),
        CardState.DISABLED: Phrase("Stored and not used, until it is enabled again."),
        CardState.PARKED: parked,
        CardState.WAITING: Phrase("Waiting for your OpenRouter key: saved and inactive until one is connected."),
        CardState.UNHEALTHY: "" if credential is None else unhealthy_sentence(credential),
        CardState.CONNECTED: (
            Phrase("Saved, unverified: {name} could not be asked. Test it.", name=name) if unverified
            else Phrase("Connected and in use.")
        ),
    }[state]


def unhealthy_sentence(credential: Credential) -> str:
    """What failed, since when, what calls do meanwhile, and when it is looked at again."""
    name, since = provider_name(credential.provider), clock_text(credential.health_at_ms)
    again = clock_text(credential.next_probe_ms)
    if not is_confirmed(credential):
        return Phrase(
            "{name} refused a call with this key ({signal}); it is being checked, and calls skip it.",
            name=name, signal=credential.health_signal,
        )
    if credential.health is Health.REJECTED:
        return Phrase(
            "{name} has refused this key since {since} ({signal}); calls skip it. It is checked again at "
            "{again}.", name=name, since=since, signal=credential.health_signal, again=again,
        )
    looks = Phrase("It is looked at") if credential.health_signal == KEY_LIMIT else Phrase("One call tries it")
    return Phrase(
        "The {name} account behind this key is out of funds since {since} ({signal}); calls skip it. "
        "{looks} again at {again}.", name=name, since=since, signal=credential.health_signal, looks=looks,
        again=again,
    )


def clock_text(at_ms: int) -> str:
    """1_764_547_200_000 → "1 Dec 2025, 00:00 UTC", as the pages tell it."""
    at = datetime.fromtimestamp(at_ms // 1_000, UTC)
    return tell_moment(at)


def _looks_right(accepted: AcceptedCredential) -> bool:
    """Whether the text begins as this provider's keys do. Other providers' beginnings were refused before, and a
    text too short to be a key shows no beginning."""
    return not accepted.hint.startswith("…")


def _with_article(provider: str) -> str:
    name = provider_name(provider)
    return f"{'an' if name[0] in 'AEIOU' else 'a'} {name}"


def _warnings(
    view: CredentialView, check: KeyTestResult, accepted: AcceptedCredential, before: Credential | None
) -> tuple[str, ...]:
    found = [] if check.outcome is Outcome.WORKS else [check.sentence]
    if view.state in (CardState.PARKED, CardState.WAITING):
        found.append(view.sentence)
    if check.outcome is Outcome.UNREACHABLE:
        if not _looks_right(accepted):
            found.append(Phrase(
                "The text does not look like {a_provider} key: Test it first.",
                a_provider=_with_article(view.provider),
            ))
        if before is not None and before.health is Health.OK:
            found.append(Phrase("It replaces the key {hint}, which tested well.", hint=before.hint))
    return tuple(found)


def _accept(provider: str, typed: str) -> AcceptedCredential:
    try:
        return accept_credential(provider, typed)
    except CredentialFormError as error:
        wrong = error.code == "wrong_kind"
        raise Problem(
            ProblemCode.CREDENTIAL_WRONG_KIND if wrong else ProblemCode.CREDENTIAL_MALFORMED, error.sentence,
            error.fix, param="key", flow=f"credential:{error.belongs_to or provider}",
        ) from None


def _goes_off(provider: str, wanted: bool) -> bool:
    """Always use this key names the OpenRouter key, and goes with no other one."""
    return wanted and provider == "openrouter"


def _nothing_saved(provider: str) -> Problem:
    return Problem(
        ProblemCode.NOT_FOUND, Phrase("No {provider} API key is saved here.", provider=provider_name(provider)),
        Phrase("Save one first."),
        param="provider", flow=f"credential:{provider}",
    )


def _with(workspace: WorkspaceState, provider: str, credential: Credential) -> WorkspaceState:
    return replace(workspace, credentials={**workspace.credentials, provider: credential})
