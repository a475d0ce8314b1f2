"""The product that Ownkey serves: its rules, tasks and limits, as configured once and never changed at run time."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Literal

PROVIDERS = ("openrouter", "anthropic", "openai", "google")
DIRECT_PROVIDERS = ("anthropic", "openai", "google")


class Payers(StrEnum):
    """Who can pay at all: only the customer's key, or also the platform's credits."""

    BYOK_ONLY = "byok_only"
    WITH_CREDITS = "with_credits"


@dataclass(frozen=True, slots=True)
class Task:
    """One thing the product's AI does. `models` are OpenRouter slugs in order of preference.

    `endpoint` is "chat" or "embeddings"; `default_on` is the switch's first position; `max_output_tokens` applies
    where the caller gives no limit; `stream` says whether its streams are relayed as they come or gathered first, so
    that a broken one can be replaced; `settings` are the task's own knobs (auto-reply's threshold), with defaults.
    """

    name: str
    title: str
    endpoint: Literal["chat", "embeddings"]
    models: tuple[str, ...]
    default_on: bool = True
    max_output_tokens: int | None = None
    deadline_s: int | None = None
    stream: Literal["live", "whole"] = "live"
    settings: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Plan:
    """`byok` says what the plan gives: "included", or "addon" (bought separately).

    `minimum_balance_credits` applies to BYOK calls of plans with the add-on. `grant_credits` arrive once when the
    workspace comes to the plan, `cycle_credits` each month while it is on it; those roll over, or expire with their
    month where `cycle_rollover` is off.
    """

    name: str
    title: str
    byok: Literal["included", "addon"]
    grant_credits: int = 0
    minimum_balance_credits: int = 0
    cycle_credits: int = 0
    cycle_rollover: bool = True


@dataclass(frozen=True, slots=True)
class TopUpPack:
    """Credits for money. `name` is how it is ordered."""

    name: str
    credits: int
    amount_cents: int


@dataclass(frozen=True, slots=True)
class BillingRules:
    """How the add-on and credits are sold, from `[billing]`.

    `rail` None: the host sells them itself (`host_url`, or nowhere). `card` asks Stripe, at `api_url` where that is
    not its own address; `credits` takes `addon_credits` a month from the balance. Amounts are whole cents of
    `currency`. `price_id` is a price made at Stripe, "" for one that each checkout describes. `return_urls` are the
    pages of the product that people may be sent back to; the first is the usual one.
    """

    rail: Literal["card", "credits"] | None = None
    host_url: str = ""
    product_name: str = "Power your AI with OpenRouter – $5 Add-on"
    addon_cents: int = 500
    addon_credits: int = 500
    currency: str = "usd"
    price_id: str = ""
    packs: tuple[TopUpPack, ...] = ()
    return_urls: tuple[str, ...] = ()
    api_url: str = ""
    account: str = ""

    @property
    def uses_stripe(self) -> bool:
        """Whether anything is paid by card: such a start needs Stripe's key and a webhook secret."""
        return self.rail == "card" or bool(self.packs)


@dataclass(frozen=True, slots=True)
class RoutingLimits:
    """Times in seconds; see `ownkey.toml`, section [routing].

    `direct_retries` and `last_route_retries` are second tries on the same route. A stated wait (Retry-After) before
    one is kept up to `retry_wait_with_route_s` where another route could answer, else up to `retry_wait_max_s`.
    `whole_bytes` is how much of a stream that is gathered first is kept. `hidden_reasoning_s` is added to
    `first_content_s` and `response_s` for models that think unseen. `provider_circuit`: a provider that fails for
    several customers at once is left out for all of them for a while.
    """

    deadline_s: float = 120.0
    max_attempts: int = 4
    connect_s: float = 3.0
    first_content_s: float = 12.0
    response_s: float = 60.0
    stall_s: float = 20.0
    tail_s: float = 2.0
    drain_s: float = 30.0
    retry_wait_max_s: float = 2.0
    retry_wait_with_route_s: float = 0.5
    direct_retries: int = 0
    last_route_retries: int = 1
    keepalive_after_s: float = 15.0
    keepalive_every_s: float = 10.0
    whole_bytes: int = 16 * 1024 * 1024
    hidden_reasoning_s: float = 45.0
    provider_circuit: bool = True


@dataclass(frozen=True, slots=True)
class CreditRules:
    """What a credit is worth and what managed AI costs on top of the provider's bill."""

    price_nusd: int
    markup_bps: int = 0


@dataclass(frozen=True, slots=True)
class Product:
    """Everything `ownkey.toml` says about the product. Frozen: a change needs a restart.

    `direct_embeddings` are the providers whose vectors are known to be the same on the direct route and through
    OpenRouter: an index whose vectors came both ways would be broken otherwise.
    """

    name: str
    preset: str
    payers: Payers
    tasks: Mapping[str, Task]
    plans: Mapping[str, Plan]
    default_plan: str
    direct_providers: tuple[str, ...]
    routing: RoutingLimits
    credits: CreditRules
    entry_url: str
    busy_wait_s: float = 2.0
    shrink_to_fit: bool = True
    min_output_tokens: int = 256
    default_threshold: int = 80
    grace_days: int = 3
    credits_if_key_fails_default: bool = False
    credits_if_key_fails_limit: int | None = None
    strict_parameters: bool = False
    model_ids: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    attribution: Mapping[str, str] = field(default_factory=dict)
    openrouter_fee_bps: int = 550
    direct_embeddings: tuple[str, ...] = ("openai",)
    billing: BillingRules = BillingRules()

    def fix_url(self, flow: str) -> str:
        """Where a person goes to fix a refusal; the host signs them in on the way."""
        return self.entry_url.replace("{flow}", flow)
