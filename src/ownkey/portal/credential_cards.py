"""The cards of API Keys / Integrations: each provider's state in one word, and everything that its card shows.

A card is put together from what the use cases answer; it computes nothing. `Ask` is what the person is at: at most one
card has a field open on purpose, a confirmation, or the result of a Test.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final, Literal

from ownkey.control.billing import BillingView
from ownkey.control.credentials import CardState, CredentialView
from ownkey.control.key_past import OpenIncident, SavedKey
from ownkey.control.key_readings import ReadingView
from ownkey.control.key_test import KeyTestResult, Outcome
from ownkey.control.problems import Problem
from ownkey.domain.health import is_confirmed, is_unhealthy
from ownkey.domain.product import PROVIDERS
from ownkey.domain.receipts import provider_name
from ownkey.domain.workspace import Credential, CredentialStatus, EntitlementState, Health, WorkspaceState
from ownkey.portal.visit import Visit

PATH: Final = "/portal/credentials"
NOT_ENTITLED: Final = "not_entitled"
RESTRICTED_SIGNAL: Final = f"test: {Outcome.RESTRICTED.value}"

Act = Literal["", "edit", "disable", "disconnect", "tested"]


@dataclass(frozen=True, slots=True)
class Links:
    """A provider's own pages. They change without notice; nothing but a click depends on them."""

    sign_up: str
    keys: str
    top_up: str
    begins: str


LINKS: Final[Mapping[str, Links]] = {
    "openrouter": Links(
        "https://openrouter.ai/", "https://openrouter.ai/settings/keys", "https://openrouter.ai/settings/credits",
        "sk-or-…",
    ),
    "anthropic": Links(
        "https://console.anthropic.com/", "https://console.anthropic.com/settings/keys",
        "https://console.anthropic.com/settings/billing", "sk-ant-…",
    ),
    "openai": Links(
        "https://platform.openai.com/", "https://platform.openai.com/api-keys",
        "https://platform.openai.com/settings/organization/billing", "sk-…",
    ),
    "google": Links(
        "https://aistudio.google.com/", "https://aistudio.google.com/apikey", "https://aistudio.google.com/apikey",
        "AIza…",
    ),
}

FAMILIES: Final[Mapping[str, str]] = {"anthropic": "Claude", "openai": "OpenAI", "google": "Gemini"}


@dataclass(frozen=True, slots=True)
class Found:
    """What came of a Test, or of a Save that was refused.

    `state` is an outcome's word, "refused" (the text is no key, or it may not be tested now), or "moved" (it came from
    another field). `candidate` is the typed key, sealed for this field; `moved` the same, sealed for the field of
    `moved_to`, where it belongs.
    """

    state: str
    test: KeyTestResult | None = None
    problem: Problem | None = None
    candidate: str = ""
    moved: str = ""
    moved_to: str = ""

    @property
    def sentence(self) -> str:
        if self.problem is not None:
            return self.problem.message
        return "" if self.test is None else self.test.sentence

    @property
    def fix(self) -> str:
        if self.problem is not None:
            return self.problem.fix
        return "" if self.test is None else self.test.fix


@dataclass(frozen=True, slots=True)
class Coming:
    """Who will pay after a change that waits for a yes; `without_always` the same with Always use this key off too,
    None where that is not on offer."""

    sentence: str
    without_always: str | None


@dataclass(frozen=True, slots=True)
class Ask:
    """What the person does on which card, and what came of it. `label` is typed text; `label_problem` what is wrong
    with it."""

    provider: str = ""
    act: Act = ""
    found: Found | None = None
    label: str = ""
    label_problem: Problem | None = None
    coming: Coming | None = None


@dataclass(frozen=True, slots=True)
class Card:
    """`state` is the card's `data-state`. `spend_nusd` is what calls with the key saved now, and with those it has
    replaced, cost this month; `last_used_ms` None: never."""

    provider: str
    name: str
    state: str
    view: CredentialView
    editing: bool
    ask: Ask
    links: Links
    saved: SavedKey | None
    reading: ReadingView | None
    incident: OpenIncident | None
    family: str
    spend_nusd: int = 0
    last_used_ms: int | None = None

    @property
    def credential(self) -> Credential | None:
        return self.view.credential

    @property
    def direct(self) -> bool:
        return self.provider != "openrouter"

    @property
    def version(self) -> str:
        return form_version(self.credential)

    @property
    def unverified(self) -> bool:
        return self.credential is not None and self.credential.health is Health.UNKNOWN

    @property
    def restricted(self) -> bool:
        return self.credential is not None and self.credential.health_signal == RESTRICTED_SIGNAL

    @property
    def health(self) -> str:
        """The health word of a key that is in use, or would be."""
        key = self.credential
        if key is None:
            return ""
        if not is_unhealthy(key):
            return "Not verified" if key.health is Health.UNKNOWN else "Works"
        if not is_confirmed(key):
            return "Being checked"
        return "Out of funds" if key.health is Health.NO_FUNDS else "Refused"


def form_version(credential: Credential | None) -> str:
    """What a card's forms are made for: the key's version, and whether it was enabled; "0" while none is saved."""
    if credential is None:
        return "0"
    return f"{credential.version}{'' if credential.status is CredentialStatus.ENABLED else '-disabled'}"


def state_word(state: str) -> str:
    """All that somebody without the right to keys learns of one."""
    match state:
        case CardState.CONNECTED:
            return "Connected"
        case CardState.EMPTY | "not_entitled":
            return "Not connected"
        case _:
            return "Paused"


def is_entitled(workspace: WorkspaceState) -> bool:
    return workspace.entitlement not in (EntitlementState.NONE, EntitlementState.INACTIVE)


def base_state(workspace: WorkspaceState, view: CredentialView) -> str:
    """The card's word where nobody is typing."""
    if view.state is CardState.EMPTY and not is_entitled(workspace):
        return NOT_ENTITLED
    return view.state.value


def shown_state(base: str, ask: Ask) -> str:
    """The card's word with what the person is at. A Test of the saved key changes the card by what it learnt."""
    if ask.act != "edit":
        return base
    if ask.found is None or ask.found.state in ("refused", "moved"):
        return "editing"
    return ask.found.state


async def make_cards(visit: Visit, ask: Ask, incidents: Sequence[OpenIncident]) -> list[Card]:
    """The OpenRouter card first, then those of direct providers."""
    desk, workspace = visit.desk, visit.workspace
    saved = await desk.key_past.saved(workspace)
    reading = await desk.key_readings.last(workspace)
    failing = {one.incident.provider: one for one in incidents}
    uses = await desk.totals.by_credential(workspace) if workspace.credentials else {}
    cards = []
    for view in desk.credentials.list(workspace):
        provider, here = view.provider, ask if ask.provider == view.provider else Ask()
        base = base_state(workspace, view)
        state = shown_state(base, here)
        use = None if view.credential is None else uses.get(view.credential.id)
        cards.append(Card(
            provider=provider, name=provider_name(provider), state=state, view=view,
            editing=here.act == "edit" or (base == CardState.EMPTY and visit.product.preset == "support-desk"),
            ask=here, links=LINKS[provider], saved=saved.get(provider),
            reading=reading if provider == "openrouter" else None, incident=failing.get(provider),
            family=FAMILIES.get(provider, provider_name(provider)),
            spend_nusd=0 if use is None else use.amounts.cost_nusd,
            last_used_ms=None if use is None else use.last_at_ms,
        ))
    return cards


async def foresee(visit: Visit, provider: str, act: Act) -> Coming:
    """Who pays once the key is disabled or disconnected, by the function that says who pays now."""
    workspace, keys = visit.workspace, dict(visit.workspace.credentials)
    if act == "disconnect":
        keys.pop(provider, None)
    elif provider in keys:
        keys[provider] = replace(keys[provider], status=CredentialStatus.DISABLED)
    after = replace(workspace, credentials=keys)
    sentence = (await visit.desk.status.show(after)).sentence
    if provider != "openrouter" or not workspace.always_use_key:
        return Coming(sentence, None)
    off = await visit.desk.status.show(replace(after, always_use_key=False))
    return Coming(sentence, off.sentence)


def subscribe_url(billing: BillingView | None) -> str:
    """Where the add-on is sold outside of these pages; "" for nowhere."""
    url = "" if billing is None or billing.host_url is None else billing.host_url
    return url if url.startswith(("https://", "http://")) else ""


def return_page(visit: Visit) -> str:
    """Where a sign-in at OpenRouter ends: on this page, or, from a frame, on the host's. "": on a page that says so."""
    if visit.session.mode == "page":
        return visit.desk.connect.own_page
    url = visit.session.return_url
    return url if visit.desk.connect.may_return(url) else ""


def named_provider(flow: str) -> str:
    """The card that a deep link means; "" for none."""
    word, _, provider = flow.partition(":")
    return provider if word == "credential" and provider in PROVIDERS else ""
