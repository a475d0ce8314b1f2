"""What direct keys save: OpenRouter's fee on what was, or could have been, paid to the providers directly. Reads only.

OpenRouter passes the providers' prices on and charges a fee for buying credits. The fee is no part of a call's cost and
cannot be read from anywhere: it is a figure of the product's configuration, and is printed beside every result.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from ownkey.control.ports import Clock, Totals
from ownkey.control.totals import month_period
from ownkey.domain.activity import TotalRow, model_slug, month_days
from ownkey.domain.caps import Period
from ownkey.domain.models import direct_provider
from ownkey.domain.phrases import Phrase
from ownkey.domain.product import Product
from ownkey.domain.routing import Route
from ownkey.domain.workspace import WorkspaceState

BPS = 10_000


@dataclass(frozen=True, slots=True)
class ProviderSaving:
    """One direct provider: `paid_nusd` was paid to it for attempts that answered, `saved_nusd` is the fee on that.
    `through_openrouter_nusd` was paid through OpenRouter for models that it has, `would_save_nusd` the fee on that."""

    provider: str
    paid_nusd: int
    saved_nusd: int
    through_openrouter_nusd: int
    would_save_nusd: int


@dataclass(frozen=True, slots=True)
class Savings:
    """A month; amounts are nano-USD, each rounded down once. `assumption` is the sentence that stands beside them.
    `unknown_attempts` answered directly at a cost that nobody knows; they are counted as 0."""

    period: Period
    fee_bps: int
    providers: Sequence[ProviderSaving]
    saved_nusd: int
    would_save_nusd: int
    unknown_attempts: int
    assumption: str


class SavingsControl:
    def __init__(self, store: Totals, clock: Clock, product: Product) -> None:
        self._store = store
        self._clock = clock
        self._product = product

    async def month(self, workspace: WorkspaceState, month: str | None = None) -> Savings:
        """Of one month, "2026-11"; None: the current one. Raises Problem for a month that is none."""
        period = month_period(workspace, month, self._clock.now_ms())
        rows = await self._store.load_totals(workspace.id, *month_days(period.key), ("route", "provider", "model"))
        return make_savings(period, rows, self._product.openrouter_fee_bps, self._product.direct_providers)


def make_savings(period: Period, rows: Sequence[TotalRow], fee_bps: int, offered: Sequence[str]) -> Savings:
    """`rows` by route, provider and model; `offered` are the providers that the product takes direct keys for."""
    direct: dict[str, int] = {}
    through: dict[str, int] = {}
    unknown = 0
    for row in rows:
        provider = row.keys["provider"] or ""
        if row.keys["route"] == Route.DIRECT:
            direct[provider] = direct.get(provider, 0) + row.amounts.answered_nusd
            unknown += row.amounts.unknown_attempts
        elif row.keys["route"] == Route.OPENROUTER:
            owner = direct_provider(model_slug(row.keys["model"] or ""))
            if owner is not None and owner in offered:
                through[owner] = through.get(owner, 0) + row.amounts.answered_nusd
    found = [
        ProviderSaving(
            provider, direct.get(provider, 0), direct.get(provider, 0) * fee_bps // BPS, through.get(provider, 0),
            through.get(provider, 0) * fee_bps // BPS,
        )
        for provider in sorted(direct.keys() | through.keys())
    ]
    return Savings(
        period, fee_bps, found, sum(direct.values()) * fee_bps // BPS, sum(through.values()) * fee_bps // BPS, unknown,
        tell_assumption(fee_bps),
    )


def tell_assumption(fee_bps: int) -> str:
    """The fee in words, as it is printed beside every figure."""
    percent = f"{fee_bps // 100}.{fee_bps % 100:02d}".rstrip("0").rstrip(".")
    return Phrase(
        "Assumes that OpenRouter's fee for buying credits is {percent}% and that a call costs the same on both "
        "ways. The fee is configured here, not read from an invoice.", percent=percent,
    )
