"""Rounds of buying with kills in between: a real server, an emulated Stripe, one effect for each of its objects."""

from pathlib import Path

import pytest
from tools.chaos.payments import run_payment_chaos

ROUNDS = ("after_order", "in_payment", "after_event", "in_addon", "in_loss", "after_wish")


@pytest.mark.timeout(180)
def test_killed_between_webhook_booking_and_answer(tmp_path: Path) -> None:
    """M2, M15, L8: after every kill and every repetition each paid or refunded object has had exactly one effect."""
    figures = run_payment_chaos(tmp_path / "home", ROUNDS, 20_261_122)
    print(figures.sentence())

    assert set(figures.kills) == set(ROUNDS)
    assert figures.objects == figures.effects >= len(ROUNDS)
    assert figures.redelivered > len(ROUNDS)
