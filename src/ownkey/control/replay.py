"""The replay of a month under other settings, as work: cost, refusals, credits, and what nobody can know.

It changes nothing and calls nobody. It goes through the month's receipts in the order of time, with the payer decision
and the price list that calls use.
"""

from collections.abc import Mapping
from dataclasses import asdict, replace
from typing import Any, Protocol

import msgspec

from ownkey.control import ports
from ownkey.control.caps import parse_cap
from ownkey.control.exports import PAGE
from ownkey.control.ports import Clock
from ownkey.control.problems import invalid, suggest
from ownkey.control.receipts import to_receipt
from ownkey.control.totals import month_period
from ownkey.control.work import Made, Teller, WorkFailed
from ownkey.domain.activity import month_days
from ownkey.domain.booking import MoneyView
from ownkey.domain.entitlements import payer_state, standing
from ownkey.domain.phrases import Phrase
from ownkey.domain.product import CreditRules, Payers, Product
from ownkey.domain.replay import ReplayRules, ReplaySums, replay_call, sums_of, tell_result
from ownkey.domain.routing import KeyState
from ownkey.domain.work import Work
from ownkey.domain.workspace import CredentialStatus, WorkspaceState

MARKUP_MOST_BPS = 100_000
_WISHES = ("month", "direct", "own_key", "always_use_key", "cap_usd", "markup_percent", "fee_percent")


class _Store(ports.InOrder, ports.Totals, Protocol):
    async def load_workspace(self, workspace_id: str) -> WorkspaceState | None: ...


class Wish(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What to change; None leaves it as it is now. `direct` names the providers with a direct key, `own_key` whether an
    OpenRouter key is in force, `cap_usd` an amount as people type it ("" for no cap)."""

    month: str | None = None
    direct: tuple[str, ...] | None = None
    own_key: bool | None = None
    always_use_key: bool | None = None
    cap_usd: str | None = None
    markup_percent: str | None = None
    fee_percent: str | None = None


class ReplayControl:
    """Reads what somebody wants replayed; the work itself is `ReplayWorker`'s."""

    def __init__(self, clock: Clock, product: Product) -> None:
        self._clock = clock
        self._product = product

    def read_wish(self, workspace: WorkspaceState, given: Mapping[str, Any]) -> dict[str, Any]:
        """A wish that can be run: last month unless another is named. Raises Problem with the field at fault."""
        for name in given:
            if name not in _WISHES:
                raise invalid(
                    name[:40], Phrase("A replay has no setting {name}.", name=repr(name[:40])), suggest(name, _WISHES)
                )
        try:
            wish = msgspec.convert(dict(given), Wish)
        except msgspec.ValidationError as error:
            raise invalid(
                "replay", Phrase("This cannot be replayed: {error}.", error=error),
                Phrase("See docs/portal.md, Replay.")
            ) from error
        month = wish.month or self._last_month(workspace)
        month_period(workspace, month, self._clock.now_ms())
        for provider in wish.direct or ():
            if provider not in self._product.direct_providers:
                raise invalid("direct", Phrase("There is no direct key for {provider}.", provider=repr(provider[:40])),
                              suggest(provider, self._product.direct_providers))
        if self._product.payers is Payers.BYOK_ONLY and wish.own_key is False:
            raise invalid(
                "own_key", Phrase("Without an OpenRouter key every call would have been refused."),
                Phrase("Leave it on.")
            )
        wish = msgspec.structs.replace(wish, month=month)
        rules_of(wish, workspace, self._product, None, self._clock.now_ms())
        return {name: value for name, value in msgspec.to_builtins(wish).items() if value is not None}

    def _last_month(self, workspace: WorkspaceState) -> str:
        current = month_period(workspace, None, self._clock.now_ms())
        return month_period_before(current.key)


def month_period_before(key: str) -> str:
    """ "2026-01" → "2025-12"."""
    year, month = int(key[:4]), int(key[5:])
    return f"{year - 1:04d}-12" if month == 1 else f"{year:04d}-{month - 1:02d}"


def rules_of(
    wish: Wish, workspace: WorkspaceState, product: Product, cap_nusd: int | None, now_ms: int
) -> ReplayRules:
    """`cap_nusd` is the cap in force now, for a wish that names none. Raises Problem for amounts that are none."""
    state = payer_state(
        product, standing(workspace, now_ms), MoneyView(False, False, 2**40, 0, 0, None), direct_usable=False,
        credits_short=False,
    )
    if wish.own_key is not None:
        state = replace(state, key=KeyState.ENABLED if wish.own_key else KeyState.DISABLED)
    if wish.always_use_key is not None:
        state = replace(state, always=wish.always_use_key)
    saved = frozenset(
        provider for provider, credential in workspace.credentials.items()
        if credential.status is CredentialStatus.ENABLED and provider in product.direct_providers
    )
    markup = product.credits.markup_bps if wish.markup_percent is None else _bps("markup_percent", wish.markup_percent)
    return ReplayRules(
        payer=state, direct=saved if wish.direct is None else frozenset(wish.direct),
        embeddings=frozenset(product.direct_embeddings),
        cap_nusd=cap_nusd if wish.cap_usd is None else parse_cap(wish.cap_usd),
        credits=CreditRules(product.credits.price_nusd, markup),
        fee_bps=product.openrouter_fee_bps if wish.fee_percent is None else _bps("fee_percent", wish.fee_percent),
        model_ids=product.model_ids,
    )


def _bps(name: str, text: str) -> int:
    """ "5.5" → 550."""
    whole, _, rest = text.strip().removesuffix("%").strip().partition(".")
    digits = whole + rest
    if not digits.isascii() or not digits.isdigit() or len(rest) > 2 or len(whole) > 4 or not whole:
        raise invalid(
            name, Phrase("{text} is no percentage.", text=repr(text[:20])),
            Phrase("Write it as 5.5, with two decimals at most.")
        )
    bps = int(whole) * 100 + int(rest.ljust(2, "0") or "0")
    if bps > MARKUP_MOST_BPS:
        raise invalid(name, Phrase("This is more than 1000%."), Phrase("Write it as 5.5."))
    return bps


class ReplayWorker:
    def __init__(
        self, store: _Store, caps: ports.Caps, prices: ports.PriceVersions, clock: Clock, product: Product
    ) -> None:
        self._store = store
        self._caps = caps
        self._prices = prices
        self._clock = clock
        self._product = product

    async def run(self, work: Work, teller: Teller) -> Made:
        workspace = await self._store.load_workspace(work.workspace_id)
        if workspace is None:
            raise WorkFailed(Phrase("The workspace is gone."))
        wish = msgspec.convert(dict(work.wish), Wish)
        cap = await self._caps.load_cap(workspace.id, self._clock.now_ms())
        rules = rules_of(
            wish, workspace, self._product, None if cap is None else cap.cap_nusd, self._clock.now_ms()
        )
        assert wish.month is not None, "a wish is read before it is kept"
        since_day, until_day = month_days(wish.month)
        whole = await self._store.load_totals(workspace.id, since_day, until_day, (), brief=True)
        total = whole[0].amounts.calls if whole else 0
        after: str | None = work.checkpoint.get("after")
        done: int = work.checkpoint.get("done", 0)
        sums = sums_of(work.checkpoint.get("sums", {})) if after else ReplaySums()
        prices = self._prices.current()
        while True:
            found = await self._store.load_receipts_in_order(workspace.id, since_day, until_day, after, limit=PAGE)
            for receipt in found:
                replay_call(sums, to_receipt(receipt), rules, prices)
            if found:
                after, done = str(found[-1]["id"]), done + len(found)
            await teller.tell("Replaying calls", done, max(done, total), {
                "after": after, "done": done, "sums": asdict(sums),
            })
            if len(found) < PAGE:
                break
        result = tell_result(sums, rules) | {
            "month": wish.month, "price_version": prices.version, "settings": dict(work.wish),
        }
        return Made(done, done, result)
