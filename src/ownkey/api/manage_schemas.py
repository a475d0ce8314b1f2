"""What the management API takes and gives, as explicit schemas: a field that is not here is refused.

Amounts are decimal strings: `…_usd` in dollars for people, `…_nusd` in whole nano-USD for machines, exact both.
Times are RFC 3339 in UTC.
"""

from typing import Annotated, Any, Literal

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType

Text = Annotated[str, Meta(max_length=200)]
Limit = Annotated[int, Meta(ge=1, le=200, description="How many rows at most.")]
ProviderName = Annotated[str, Meta(description="openrouter, anthropic, openai or google.")]
Usd = Annotated[str, Meta(description="An exact amount in US dollars, as decimal digits.", examples=["12.40"])]
Nusd = Annotated[str, Meta(description="The same amount in whole nano-USD (10^-9 dollars).", examples=["12400000000"])]
Time = Annotated[str, Meta(description="RFC 3339, UTC.", examples=["2026-11-22T08:00:00Z"])]


class Request(Struct, forbid_unknown_fields=True, kw_only=True):
    pass


class Answer(Struct, kw_only=True):
    pass


# --- requests


class WorkspaceNew(Request):
    """A new workspace. Its first entitlement follows from the plan."""

    name: Text
    external_id: Annotated[str, Meta(description="Your own id for this customer; unique.")] = ""
    plan: Annotated[str, Meta(description="A plan of the product; empty: the default plan.")] = ""
    timezone: Annotated[str, Meta(description="IANA zone in which months are counted.")] = "UTC"


class WorkspaceChange(Request):
    """Only the fields that are sent change."""

    name: Text | UnsetType = UNSET
    plan: str | UnsetType = UNSET
    timezone: str | UnsetType = UNSET
    always_use_key: Annotated[bool, Meta(description="ON: credits are never used.")] | UnsetType = UNSET
    credits_if_key_fails: bool | UnsetType = UNSET
    credits_if_key_fails_limit: Annotated[int, Meta(ge=0, le=1_000_000_000)] | UnsetType | None = UNSET
    on_direct_auth_failure: Literal["fallback", "fail"] | UnsetType = UNSET
    status: Literal["active", "suspended"] | UnsetType = UNSET


class MemberPut(Request):
    email: Text
    name: Text = ""
    role: Literal["owner", "admin", "member", "viewer"] = "member"
    muted: Annotated[
        list[Literal["spend", "keys"]],
        Meta(description="Topics whose e-mails this member does not want; left out: as before. Who pays, who changed "
                         "it, and payments cannot be muted."),
    ] | UnsetType = UNSET


class ProjectPut(Request):
    name: Text


class TokenNew(Request):
    """A token's rights: empty lists mean all tasks, all projects."""

    label: Text
    scopes: list[Literal["call", "manage"]] = msgspec.field(default_factory=lambda: ["call"])
    tasks: list[str] = []
    projects: list[str] = []
    expires_at: Time | None = None


class CredentialPut(Request):
    """A provider key. It is tested for free, sealed, and never shown again."""

    key: Annotated[str, Meta(min_length=1, max_length=8192, description="The provider's API key. Write-only.")]
    label: Text = ""
    save_anyway: Annotated[bool, Meta(description="Store unverified if the provider cannot be reached.")] = False


class ConnectStart(Request):
    """Ask OpenRouter for a key by signing in there. All fields are optional."""

    label: Annotated[str, Meta(max_length=200, description="What people call this key, here and at OpenRouter.")] = ""
    limit_usd: Annotated[str, Meta(description="A spend limit of the key at OpenRouter, in US dollars.")] = ""
    limit_reset: Annotated[
        Literal["daily", "weekly", "monthly"] | None, Meta(description="When that limit starts anew; null: never.")
    ] = None
    expires_at: Annotated[str, Meta(description="When the key ends; empty: never.")] = ""
    callback_url: Annotated[str, Meta(
        max_length=2_000,
        description="Where OpenRouter sends the browser with `code` and `state`; empty: to this server.",
    )] = ""
    return_url: Annotated[str, Meta(
        max_length=2_000, description="Your page that this server then sends the browser to; one of `return_urls`.",
    )] = ""


class ConnectFinish(Request):
    """What OpenRouter sent to your callback_url."""

    state: Annotated[str, Meta(max_length=200)]
    code: Annotated[str, Meta(max_length=2_000, description="Empty: the person did not approve.")] = ""


class CredentialTest(Request):
    """The typed key, or (without one) the saved key."""

    key: Annotated[str, Meta(max_length=8192, description="The provider's API key. Write-only.")] | None = None


class PersonNew(Request):
    """Who opens the pages, as your product knows them. They are a member from then on, and owners and admins get the
    alerts."""

    id: Annotated[str, Meta(max_length=128, description="Your own id for the person.")]
    email: Text
    name: Text = ""


PageName = Literal["credentials", "features", "spend", "activity", "plans", "projects"]


class PortalSessionNew(Request):
    """A link to the pages for one person. It opens once, within a minute."""

    member: PersonNew
    role: Annotated[
        Literal["owner", "admin", "member", "viewer"],
        Meta(description="Another role than before ends the person's older sessions."),
    ]
    mode: Annotated[Literal["frame", "page"], Meta(description="Framed by your page, or a page of its own.")]
    return_url: Annotated[str, Meta(
        max_length=2_000, description="Your page that people go back to, one of return_urls; empty: none.",
    )]
    pages: Annotated[
        list[PageName], Meta(min_length=1, max_length=20, description="Fewer than the product lists; left out: all.")
    ] | None = None
    flow: Annotated[str, Meta(
        max_length=200, description="Where it leads, as a refusal's fix names it: cap, credential:openrouter, …",
    )] = ""
    theme: Literal["auto", "light", "dark"] = "auto"
    locale: Annotated[str, Meta(max_length=35, description="A language tag.")] = "en"
    refresh_url: Annotated[str, Meta(
        max_length=2_000, description="Where a frame asks your backend for the next session, one of refresh_urls.",
    )] = ""
    ttl_s: Annotated[
        int, Meta(ge=60, le=3_600, description="How long the session lasts; left out: as configured.")
    ] | None = None


class FeaturePut(Request):
    on: bool | None = None
    settings: dict[str, int] = {}


class CapPut(Request):
    """null or "" is no cap, "0" is no AI. Every save counts at once."""

    cap_usd: Annotated[str, Meta(max_length=60, examples=["50.00"])] | None
    threshold_percent: Annotated[int, Meta(ge=1, le=99)] | None = None


class GrantNew(Request):
    amount_credits: int
    origin: Literal["plan", "topup", "promo", "operator"] = "operator"
    expires_at: Time | None = None


class EntitlementPut(Request):
    entitlement: Literal["included", "none", "active", "cancelling", "grace", "inactive"]


ReturnUrl = Annotated[str, Meta(
    max_length=2_000, description="Where the person comes back to: one of billing.return_urls; empty: the first.",
)]


class Subscribe(Request):
    return_url: ReturnUrl = ""


class TopUp(Request):
    pack: Annotated[str, Meta(max_length=200, description="One of the packs that /pricing lists.")]
    return_url: ReturnUrl = ""


class PriceOverride(Request):
    """A model's price in USD per million tokens, by dimension (input, output, cache_read, …)."""

    provider: ProviderName
    model: Annotated[str, Meta(description="The provider's own model id.")]
    usd_per_million: dict[str, str] = {}
    free: bool = False


class PricesPut(Request):
    overrides: Annotated[list[PriceOverride], Meta(min_length=1, max_length=500)]


class CredentialDisable(Request):
    acknowledge_ai_stops: Annotated[
        bool, Meta(description="That AI stops while Always use this key is on; may be left out, enabling undoes it.")
    ] = False
    also_turn_off_always: Annotated[
        bool, Meta(description="Turn Always use this key off with it: credits pay from the next call on.")
    ] = False


class ReadingAccepted(Request):
    reason: Annotated[str, Meta(description="What was found, for the audit log.", max_length=500)]


class Nothing(Request):
    """An empty object, or no body at all."""


# --- query strings


class NoQuery(Request):
    pass


class PageQuery(Request):
    after: str | None = None
    limit: Limit = 50


class LimitQuery(Request):
    limit: Limit = 50


class OutboxQuery(Request):
    limit: Limit = 50
    state: Literal["waiting", "sent", "failed", "skipped"] | None = None


class MemberQuery(Request):
    member: Annotated[str, Meta(min_length=1, max_length=128, description="Your own id for the person.")]


class DisconnectQuery(Request):
    acknowledge_ai_stops: Annotated[
        bool, Meta(description="Needed to disconnect OpenRouter while Always use this key is on and stays on.")
    ] = False
    also_turn_off_always: Annotated[
        bool, Meta(description="Turn Always use this key off with it: credits pay from the next call on.")
    ] = False


class EventQuery(Request):
    state: Literal["processed", "ignored", "quarantined", "failed", "duplicate"] | None = None
    limit: Limit = 50


class ReceiptQuery(Request):
    task: str | None = None
    model: str | None = None
    provider: str | None = None
    funding: Literal["byok", "credits"] | None = None
    code: str | None = None
    refused: bool | None = None
    conversation: str | None = None
    project: str | None = None
    outcome: Literal["ok", "refused", "failed", "cancelled"] | None = None
    credential: Annotated[str, Meta(description="The id of a credential that was used.")] | None = None
    since: Time | None = None
    until: Time | None = None
    before: Annotated[str, Meta(description="Pages backwards: a receipt's id, exclusive.")] | None = None
    limit: Limit = 50


class SpendQuery(Request):
    by: str = "task"
    month: Annotated[str, Meta(description="Such as 2026-11; this month if left out.")] | None = None


# --- answers


class CredentialOut(Answer):
    """A provider's card. Nothing of the key but its hint."""

    provider: ProviderName
    state: str
    sentence: str
    required: bool
    hint: str | None = None
    label: str | None = None
    status: str | None = None
    health: str | None = None
    health_signal: str | None = None
    version: int | None = None
    saved_at: Time | None = None
    health_since: Time | None = None
    next_probe_at: Annotated[
        Time | None, Meta(description="When an unhealthy key is looked at again, or tried by one call.")
    ] = None
    expires_at: Annotated[Time | None, Meta(description="The key's own end, where its provider tells it.")] = None


class IncidentOut(Answer):
    """A key that stopped working: since when, and until when (null: it is still so)."""

    id: int
    provider: ProviderName
    hint: str | None
    label: str | None
    cause: Annotated[str, Meta(description="rejected, no_funds or undecryptable.")]
    signal: str
    sentence: str
    opened_at: Time
    closed_at: Time | None


class IncidentsOut(Answer):
    incidents: list[IncidentOut]


class WorkspaceOut(Answer):
    id: str
    external_id: str
    name: str
    plan: str
    status: str
    timezone: str
    entitlement: str
    always_use_key: bool
    credits_if_key_fails: bool
    credits_if_key_fails_limit: int | None
    on_direct_auth_failure: str
    created_at: Time


class WorkspacesOut(Answer):
    workspaces: list[WorkspaceOut]
    next_after: Annotated[str, Meta(description="Send it as `after` for the next page.")] | None


class MemberOut(Answer):
    member: str
    email: str
    name: str
    role: str
    muted: list[str]


class MembersOut(Answer):
    members: list[MemberOut]


class ProjectOut(Answer):
    project: str
    name: str


class ProjectsOut(Answer):
    projects: list[ProjectOut]


class TokenOut(Answer):
    """A token without its secret."""

    id: str
    kind: str
    label: str
    last4: str
    scopes: list[str]
    tasks: list[str]
    projects: list[str]
    created_at: Time
    expires_at: Time | None
    revoked_at: Time | None


class TokenShown(Answer):
    """`token` is shown this once; a repeated request (Idempotency-Key) answers null."""

    token: str | None
    row: TokenOut


class TokensOut(Answer):
    tokens: list[TokenOut]


class CredentialsOut(Answer):
    payer_sentence: str
    credentials: list[CredentialOut]


class CredentialSaved(Answer):
    message: str
    payer_sentence: str
    replaced: bool
    cleaned: Annotated[list[str], Meta(description="What was taken off the pasted text.")]
    warning: Annotated[str, Meta(description="Set where the key is saved but does not work fully.")] | None
    credential: CredentialOut


class ConnectStarted(Answer):
    authorization_url: Annotated[str, Meta(
        description="Open it in the person's browser. It works once; null where an Idempotency-Key is repeated.",
    )] | None
    callback_url: str
    expires_at: Time


class CredentialChanged(Answer):
    message: str
    payer_sentence: str
    credential: CredentialOut


class ReachOut(Answer):
    task: str
    model: str
    state: Literal["works", "refused", "not_tested"]
    reason: str


class TestOut(Answer):
    """What a Test found: one of six outcomes, in words, and what to do."""

    provider: ProviderName
    outcome: Literal["wrong_kind", "rejected", "unreachable", "works_no_balance", "restricted", "works"]
    sentence: str
    fix: str
    hint: str
    cleaned: list[str]
    belongs_to: str | None
    reach: list[ReachOut]
    model: str | None
    latency_ms: int | None
    cost_usd: Usd | None
    cost_nusd: Nusd | None
    paid_call: str
    limit_usd: Usd | None
    limit_left_usd: Usd | None
    limit_reset: str | None
    expires_at: str | None
    receipt: str | None


class ConnectFinished(Answer):
    """The key is saved. `test` is what its Test found; null where it could not be run, and then `test_problem` says
    why."""

    message: str
    payer_sentence: str
    replaced: bool
    warning: str | None
    credential: CredentialOut
    test: TestOut | None
    test_problem: str | None


class FeatureOut(Answer):
    task: str
    title: str
    on: bool
    endpoint: str
    models: list[str]
    settings: dict[str, int]


class FeaturesOut(Answer):
    features: list[FeatureOut]


class CapOut(Answer):
    """The cap in force and its month. `cap_usd` null: no cap. `projected_usd` is the month's spend at the pace so far,
    null in its first day; `reaches_cap_at` is when the cap is reached at that pace, null if not this month."""

    cap_usd: Usd | None
    cap_nusd: Nusd | None
    threshold_percent: int
    state: Literal["active", "paused"]
    pause_reason: str | None
    sentence: str
    month: str
    starts_at: Time
    resets_at: Time
    timezone: str
    spent_usd: Usd
    spent_nusd: Nusd
    held_usd: Usd
    held_nusd: Nusd
    left_usd: Usd | None
    left_nusd: Nusd | None
    overage_usd: Usd
    overage_nusd: Nusd
    projected_usd: Usd | None
    projected_nusd: Nusd | None
    reaches_cap_at: Time | None
    version: int


class CreditsOut(Answer):
    balance_credits: int
    held_credits: int
    free_credits: int


class RowsOut(Answer):
    """Rows as the books keep them, amounts as decimal strings, newest first."""

    rows: list[dict[str, Any]]


class OutboxOut(Answer):
    """`channels` names each way out, and why it is not used ("" where it is)."""

    channels: dict[str, str]
    rows: list[dict[str, Any]]


class ReceiptsOut(Answer):
    receipts: list[dict[str, Any]]
    next_before: str | None


class WhyOut(Answer):
    """`headline` in a breath; `why` at length."""

    receipt: str
    headline: str
    why: str


class SpendOut(Answer):
    by: str
    month: str
    starts_at: Time
    ends_at: Time
    total_usd: Usd
    total_nusd: Nusd
    rows: list[dict[str, Any]]


class MeterOut(Answer):
    conversation: str
    calls: int
    cost_usd: Usd
    cost_nusd: Nusd
    unknown_cost_calls: int
    charge_credits: int
    first_at: Time | None
    last_at: Time | None


class FixOut(Answer):
    text: str
    url: str | None


class StatusOut(Answer):
    """Whether AI is on, who pays now, and the one fix where nobody can."""

    state: Literal["on", "paused", "off", "needs_attention"]
    headline: str
    sentence: str
    payer: Literal["your_key", "credits", "nobody"]
    row: Annotated[str, Meta(description="The matching row of the payer decision, F1 to F13.")]
    routes: list[str]
    code: str | None
    fix: FixOut | None
    attention: list[str]
    resets_at: Time | None


class PricedPlanOut(Answer):
    plan: str
    title: str
    byok: Literal["included", "addon"]
    minimum_balance_credits: Annotated[int, Meta(description="What calls with an own key need on the balance.")]
    grant_credits: Annotated[int, Meta(description="Once, on coming to the plan.")]
    cycle_credits: Annotated[int, Meta(description="Each month on the plan.")]
    cycle_rollover: Annotated[bool, Meta(description="Whether unused cycle credits stay.")]


class PackOut(Answer):
    pack: str
    credits: int
    cents: str
    price: str


class PricingOut(Answer):
    """What is sold, and how it is paid."""

    rail: Literal["card", "credits", "host"]
    host_url: str | None
    addon_name: str
    addon_price: str | None
    addon_cents: str | None
    currency: str
    addon_credits: int | None
    grace_days: int
    note: str
    plans: list[PricedPlanOut]
    packs: list[PackOut]


class BillingOut(Answer):
    """Where the add-on stands. `checkout_url` is a payment page that is open; it belongs at the browser's top level."""

    state: Literal[
        "included", "not_subscribed", "finishing", "active", "cancelling", "past_due", "inactive", "host_managed"
    ]
    entitlement: str
    sentence: str
    rail: str | None
    price: str | None
    price_credits: int | None
    minimum_balance_credits: int
    balance_credits: int
    renews_at: Time | None
    works_until: Time | None
    checkout_url: str | None
    manage: bool
    host_url: str | None
    test_mode: bool


class PayStepOut(Answer):
    """`url` is the page to pay on, to be opened at top level; null: it is done."""

    url: str | None
    message: str
    billing: BillingOut


class ManageOut(Answer):
    url: str


class PaymentOut(Answer):
    id: str
    purpose: Literal["addon", "topup"]
    price: str
    cents: str
    currency: str
    credits: int | None
    period_start: Time | None
    at: Time
    taken_back_cents: str


class PaymentsOut(Answer):
    payments: list[PaymentOut]


class PaymentEventOut(Answer):
    id: str
    type: str
    object: str
    workspace: str | None
    state: Literal["processed", "ignored", "quarantined", "failed"]
    reason: str
    source: Literal["webhook", "reconcile"]
    deliveries: int
    live: bool
    created_at: Time
    received_at: Time


class PaymentEventsOut(Answer):
    """Stripe's events, newest first. `handled` are the types that a webhook endpoint at Stripe must send."""

    counts: dict[str, int]
    handled: list[str]
    events: list[PaymentEventOut]


class EventRetried(Answer):
    state: Literal["processed", "ignored", "quarantined", "failed", "duplicate"]
    reason: str


class ReconciledOut(Answer):
    missed_events: int
    orders: int
    subscriptions: int
    wishes: int
    failed: int
    message: str


class EntitlementOut(Answer):
    entitlement: str


class PriceOut(Answer):
    provider: ProviderName
    model: str
    usd_per_million: dict[str, Usd]
    free: bool
    source: str


class UnpricedOut(Answer):
    task: str
    model: str


class PricesOut(Answer):
    """`unpriced`: what tasks name and no price is known for; caps and credits refuse such a call."""

    version: int
    created_by: str
    prices: list[PriceOut]
    unpriced: list[UnpricedOut]


class PortalLink(Answer):
    """`url` and `code` are shown this once: whoever opens them is that person."""

    url: str | None
    code: str | None
    session: str
    code_expires_at: Time
    session_expires_at: Time


class PortalSessionOut(Answer):
    """`entered_at` is null while the link has not been opened. `kind` is view_as where an operator looks."""

    session: str
    kind: Literal["member", "view_as"]
    member: str
    name: str
    email: str
    role: str
    mode: Literal["page", "frame"]
    pages: list[str]
    minted_by: str
    created_at: Time
    entered_at: Time | None
    expires_at: Time


class PortalSessionsOut(Answer):
    sessions: list[PortalSessionOut]


class SessionsEnded(Answer):
    message: str
    ended: int


class FindingOut(Answer):
    check: str
    workspace: str | None
    ids: list[str]
    detail: str


class KeyReadingOut(Answer):
    """`grown_usd` is OpenRouter's own figure; `ours_usd` what OpenRouter reported for our calls that lie wholly between
    the two readings; `unsure_usd` the most that calls around them, or without a reported cost, may have added.
    `off_usd` is the use elsewhere, or the drift."""

    id: int
    read_at: Time
    origin: Literal["daily", "test", "save", "asked"]
    usage_usd: Usd
    byok_usage_usd: Usd
    usage_today_usd: Usd | None
    usage_week_usd: Usd | None
    usage_month_usd: Usd | None
    limit_usd: Usd | None
    limit_left_usd: Usd | None
    limit_reset: str | None
    limit_resets_at: Time | None
    since: Time | None
    grown_usd: Usd
    ours_usd: Usd
    unsure_usd: Usd
    verdict: Literal["started", "agrees", "elsewhere", "drift"]
    off_usd: Usd
    sentence: str
    accepted_at: Time | None
    accepted_by: str
    accepted_reason: str


class KeyReadingsOut(Answer):
    readings: list[KeyReadingOut]


class VerifyOut(Answer):
    clean: bool
    checked_at: Time
    findings: list[FindingOut]
    assumptions: list[str]


class TaskOut(Answer):
    task: str
    title: str
    endpoint: str
    models: list[str]
    default_on: bool
    settings: dict[str, int]


class PlanOut(Answer):
    plan: str
    title: str
    byok: str
    grant_credits: int
    minimum_balance_credits: int


class ProductOut(Answer):
    name: str
    preset: str
    payers: str
    providers: list[str]
    default_plan: str
    tasks: list[TaskOut]
    plans: list[PlanOut]
    credit_usd: Usd
    openrouter_fee_percent: str


class Done(Answer):
    message: str


class ErrorBody(Answer):
    """`code` is stable; docs/errors.md lists all of them."""

    code: str
    message: str
    fix: FixOut
    param: str | UnsetType = UNSET
    retry_after_s: int | UnsetType = UNSET
    details: dict[str, Any] | UnsetType = UNSET
    id: Annotated[str, Meta(description="Tell it to the operator.")] | UnsetType = UNSET


class ErrorOut(Answer):
    error: ErrorBody


def decode(body: bytes, kind: type[Request]) -> Any:
    """A request body. Raises msgspec.ValidationError or DecodeError."""
    return msgspec.json.decode(body or b"{}", type=kind)
