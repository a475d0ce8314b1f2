"""Credits: an operator's grants, each once, and what the ledger says. Nothing here can take a credit away."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal, Protocol

from ownkey.control import ports
from ownkey.control.ports import Actor, Clock, Wallet
from ownkey.control.problems import invalid
from ownkey.domain.product import Payers, Product
from ownkey.domain.records import CreditLot
from ownkey.domain.workspace import WorkspaceState

Origin = Literal["plan", "topup", "promo", "operator"]
MAX_GRANT = 1_000_000_000


class _Store(ports.Credits, Protocol):
    pass


class CreditControl:
    def __init__(self, store: _Store, clock: Clock, product: Product) -> None:
        self._store = store
        self._clock = clock
        self._product = product

    async def show(self, workspace: WorkspaceState) -> Wallet:
        return await self._store.load_wallet(workspace.id)

    async def grant(
        self, workspace: WorkspaceState, amount: int, origin: Origin, expires_at_ms: int | None, idem_key: str | None,
        actor: Actor,
    ) -> Wallet:
        """`idem_key` None: every request is its own grant. Raises Problem."""
        if self._product.payers is not Payers.WITH_CREDITS:
            raise invalid("amount_credits", f"{self._product.name} has no credits: the customer's own key always pays.",
                          "Nothing needs to be granted.")
        if not 0 < amount <= MAX_GRANT:
            raise invalid("amount_credits", f"A grant is a whole number from 1 to {MAX_GRANT}.", "Correct the number.")
        now = self._clock.now_ms()
        if expires_at_ms is not None and expires_at_ms <= now:
            raise invalid("expires_at", "Credits cannot expire in the past.", "Use a later time, or leave it out.")
        key = f"grant:{workspace.id}:{idem_key or self._clock.new_id('grant')}"
        return await self._store.grant_credits(
            workspace.id, amount, origin, expires_at_ms=expires_at_ms, idem_key=key, at_ms=now, actor=actor
        )

    async def lots(self, workspace: WorkspaceState) -> Sequence[CreditLot]:
        """Grants and purchases that still hold credits, in the order in which calls draw them."""
        return await self._store.load_lots(workspace.id)

    async def ledger(self, workspace: WorkspaceState, limit: int) -> Sequence[Mapping[str, Any]]:
        return await self._store.load_ledger(workspace.id, limit=limit)
