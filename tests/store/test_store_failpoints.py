"""Failpoints exist for tests only: without both variables nothing of them is there."""

from pathlib import Path
from typing import Any

import pytest
from store_kit import ACTOR, AUDIT_KEY, NOV, Clock, add_workspace, finish, request, settle, take
from tests.fresh_database import lay_database
from tools.chaos import payments
from tools.chaos.run import FAILPOINTS
from tools.rotation.run import POINTS as ROTATION

from ownkey.domain.errors import StoreError
from ownkey.store import SQLiteStore
from ownkey.store.failpoints import POINTS, Failpoint, load_failpoint


@pytest.mark.parametrize("environ", [
    {}, {"OWNKEY_FAILPOINT": "in_hold"}, {"OWNKEY_TESTING": "1"},
    {"OWNKEY_TESTING": "0", "OWNKEY_FAILPOINT": "in_hold"},
    {"OWNKEY_TESTING": "true", "OWNKEY_FAILPOINT": "in_hold"}, {"OWNKEY_TESTING": "1", "OWNKEY_FAILPOINT": ""},
])
def test_one_variable_alone_does_nothing(environ: dict[str, str]) -> None:
    """An operator who inherits a strange environment has no failpoint."""
    assert load_failpoint(environ) is None


@pytest.mark.parametrize("wanted", ["in_nothing", "in_hold:0", "in_hold:-1", "in_hold:x", "in_hold:1:2"])
def test_a_point_that_does_not_exist_is_an_error(wanted: str) -> None:
    """A typo would otherwise be a test that kills nothing."""
    with pytest.raises(StoreError, match="is no point"):
        load_failpoint({"OWNKEY_TESTING": "1", "OWNKEY_FAILPOINT": wanted})


def test_chaos_knows_every_point() -> None:
    """The tools that kill at each point come in by public doors only, so they name them themselves. That payments reach
    theirs is seen where they are killed."""
    assert set(FAILPOINTS) | set(payments.POINTS) - {"random"} | set(ROTATION) == set(POINTS)
    assert not set(FAILPOINTS) & set(payments.POINTS)


@pytest.mark.parametrize("point", FAILPOINTS)
async def test_every_point_is_reached_by_the_work_it_is_named_for(tmp_path: Path, point: str) -> None:
    """A call, an alert, a cap and an expiry pass each point, the second time only once it is asked for."""
    reached: list[str] = []
    failpoint = Failpoint(point, 2, kill=lambda: reached.append(point))
    clock = Clock()
    hooks: dict[str, Any] = failpoint.hooks()
    store = SQLiteStore.open(lay_database(tmp_path / "a.db"), clock_ms=clock, boot_id="b", audit_key=AUDIT_KEY, **hooks)
    ws = await add_workspace(store)
    await store.save_cap(ws.id, 10_000, 80, at_ms=NOV, actor=ACTOR)
    for n in range(2):
        req = request(ws.id, 1_000)
        await take(store, req)
        await finish(store, req, settle(req, 1_000))
        before = list(reached)
        if n == 0 and point not in ("in_outbox", "in_cap"):
            assert before == []
    for _ in range(2):
        await take(store, request(ws.id, 1_000))
    clock.ms += 400_000
    await store.expire_holds(clock.ms)
    await store.save_cap(ws.id, 3_000, 50, at_ms=clock.ms, actor=ACTOR)
    findings = await store.verify(clock.ms)
    await store.close()

    assert reached == [point]
    assert list(findings) == []
