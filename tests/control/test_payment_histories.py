"""M15: whatever the order, the delay and the repeats of Stripe's events, one history has one ledger."""

import random

import pytest
from tests.control.payment_histories import HISTORIES, audited, open_books, run

PERMUTATIONS = 200


@pytest.mark.parametrize("name", HISTORIES)
async def test_one_ledger_for_every_order_of_events(name: str) -> None:
    """200 permutations with repeats, events arriving at any later step, against the orderly run."""
    books = open_books()
    expected = await run(books, HISTORIES[name], None)
    equal = 0
    for seed in range(PERMUTATIONS):
        assert await run(books, HISTORIES[name], random.Random(f"{name}:{seed}")) == expected, seed
        equal += 1
    print(f"M15 history: permutations {PERMUTATIONS}, equal {equal}, ledger {expected[:12]}")


@pytest.mark.parametrize("name", HISTORIES)
async def test_the_books_balance_after_every_history(name: str) -> None:
    assert await audited(open_books(), HISTORIES[name]) == []


def test_there_are_thirty_histories() -> None:
    assert len(HISTORIES) >= 30
