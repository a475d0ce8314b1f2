"""A few rounds of `make chaos`: a real server, killed where it hurts most, keeps its books."""

from pathlib import Path

import pytest
from tools.chaos.run import run_chaos

ROUNDS = ("in_hold", "in_settle", "after_settle", "mid_stream", "in_expiry", "in_outbox")


@pytest.mark.timeout(120)
def test_killed_at_named_points(tmp_path: Path) -> None:
    """M2, M11: after every kill nothing is lost or booked twice, spend is at least the bill, and alerts are single."""
    figures = run_chaos(tmp_path / "home", ROUNDS, 20_261_122)
    print(figures.sentence())

    assert set(figures.kills) == set(ROUNDS)
    assert figures.spent_nusd >= figures.billed_nusd > 0
    assert figures.answered > len(ROUNDS)
    assert figures.alerts > 0
