"""What the clock does, with the store and the sources as plain objects."""

import logging
from collections.abc import Mapping, Sequence
from datetime import date

import pytest

from ownkey.control.ports import Finding
from ownkey.control.price_sync import sync_prices
from ownkey.domain.failures import UpstreamError
from ownkey.domain.pricing import CONFIGURED, OPERATOR, ModelPrice, PriceBook, PriceList, Rate
from ownkey.jobs.rounds import billing_job, expire_holds_job, price_sync_job, reconcile_job, verify_job

NOW_MS = 1_795_305_600_000  # 2026-11-22


def price(model: str, amount: int, source: str, provider: str = "openrouter") -> ModelPrice:
    return ModelPrice(provider, model, {"input": (Rate(0, amount),), "output": (Rate(0, amount),)}, source=source)


class Versions:
    """Price versions in memory; the same content again changes nothing."""

    def __init__(self) -> None:
        self.book = PriceBook(0, "", {})
        self.authors: list[str] = []

    async def activate_prices(
        self, prices: Sequence[ModelPrice], aliases: Mapping[tuple[str, str], str], *, author: str, at_ms: int
    ) -> PriceBook:
        table = {(p.provider, p.model): p for p in prices}
        if (table, dict(aliases)) != (self.book.prices, self.book.aliases):
            self.book = PriceBook(self.book.version + 1, author, table, dict(aliases))
            self.authors.append(author)
        return self.book

    def current(self) -> PriceBook:
        return self.book


class Source:
    def __init__(self, live: PriceList | Exception) -> None:
        self.live = live
        self.days: list[date] = []

    async def load_openrouter(self) -> PriceList:
        if isinstance(self.live, Exception):
            raise self.live
        return self.live

    def list_shipped(self, today: date) -> PriceList:
        self.days.append(today)
        shipped = (price("a/b", 10, "shipped"), price("m", 7, "shipped", "openai"))
        return PriceList(shipped, {("openai", "m-latest"): "m"})


LIVE = PriceList((price("a/b", 12, "openrouter"), price("a/new", 5, "openrouter")), {("openrouter", "a/b-1"): "a/b"})


class TestPriceSync:
    async def test_a_first_start_has_prices_before_the_network_answers(self) -> None:
        versions, seen = Versions(), []

        class Slow(Source):
            async def load_openrouter(self) -> PriceList:
                seen.append(versions.current().find("openrouter", "a/b"))
                return await super().load_openrouter()

        await sync_prices(Slow(LIVE), versions, (), at_ms=NOW_MS, fetch=True)

        assert [price.source for price in seen if price] == ["shipped"]

    async def test_a_first_start_without_a_network_has_the_shipped_prices(self) -> None:
        versions, source = Versions(), Source(UpstreamError("refused", sent=False, received=False))

        report = await sync_prices(source, versions, (), at_ms=NOW_MS, fetch=True)

        assert report.unreachable == "refused"
        assert versions.book.version == 1
        assert set(source.days) == {date(2026, 11, 22)}
        assert {p.source for p in versions.book.prices.values()} == {"shipped"}
        assert versions.book.find("openai", "m-latest") is not None

    async def test_openrouters_list_wins_on_its_route_and_the_operator_everywhere(self) -> None:
        versions = Versions()

        await sync_prices(Source(LIVE), versions, (price("a/new", 99, OPERATOR),), at_ms=NOW_MS, fetch=True)

        assert {p.model: p.source for p in versions.book.prices.values()} == {
            "a/b": "openrouter", "a/new": OPERATOR, "m": "shipped",
        }  # fmt: skip

    async def test_a_second_round_with_nothing_new_makes_no_version(self) -> None:
        versions = Versions()
        first = await sync_prices(Source(LIVE), versions, (), at_ms=NOW_MS, fetch=True)
        second = await sync_prices(Source(LIVE), versions, (), at_ms=NOW_MS, fetch=True)

        assert (first.version, first.changed) == (2, True)
        assert (second.version, second.changed) == (2, False)

    async def test_a_price_set_while_running_stays_where_the_file_names_none(self) -> None:
        versions = Versions()
        mine = [price("a/b", 70, OPERATOR), price("a/new", 80, OPERATOR)]
        await versions.activate_prices(mine, {}, author="operator:me", at_ms=NOW_MS)

        await sync_prices(Source(LIVE), versions, (price("a/new", 99, CONFIGURED),), at_ms=NOW_MS, fetch=True)

        assert {m: versions.book.prices["openrouter", m].dearest("input") for m in ("a/b", "a/new")} == {
            "a/b": 70, "a/new": 99,
        }  # fmt: skip

    async def test_without_fetching_a_first_start_has_the_shipped_prices(self) -> None:
        versions, source = Versions(), Source(RuntimeError("nobody may ask"))

        await price_sync_job(source, versions, (), lambda: NOW_MS, fetch=False).run()

        assert versions.book.find("openrouter", "a/b") is not None

    @pytest.mark.parametrize("error", [UpstreamError("down", sent=True, received=False), ValueError("no list")])
    async def test_an_outage_keeps_openrouters_last_prices(self, error: Exception) -> None:
        versions = Versions()
        await sync_prices(Source(LIVE), versions, (), at_ms=NOW_MS, fetch=True)

        report = await sync_prices(Source(error), versions, (), at_ms=NOW_MS, fetch=True)
        kept = await sync_prices(Source(LIVE), versions, (), at_ms=NOW_MS, fetch=False)

        assert not report.changed
        assert not kept.changed
        assert versions.book.find("openrouter", "a/b-1") is not None

    async def test_a_jump_is_held_back_and_logged(self, caplog: pytest.LogCaptureFixture) -> None:
        versions = Versions()
        await sync_prices(Source(LIVE), versions, (), at_ms=NOW_MS, fetch=True)
        jumped = PriceList((price("a/b", 120, "openrouter"), price("a/new", 5, "openrouter")))
        job = price_sync_job(Source(jumped), versions, (), lambda: NOW_MS)

        with caplog.at_level(logging.WARNING):
            await job.run()

        kept = versions.book.find("openrouter", "a/b")
        assert kept is not None
        assert kept.dearest("input") == 12
        assert "price held back: openrouter a/b" in caplog.text
        assert (job.name, job.interval_s, job.at_once) == ("price_sync", 86_400, True)


async def test_holds_expire_at_start_and_every_five_seconds() -> None:
    asked: list[int] = []

    class Holds:
        async def expire_holds(self, at_ms: int) -> int:
            asked.append(at_ms)
            return 0

    job = expire_holds_job(Holds(), lambda: NOW_MS)
    await job.run()

    assert asked == [NOW_MS]
    assert (job.interval_s, job.at_once) == (5, True)


class Checks:
    def __init__(self, findings: Sequence[Finding]) -> None:
        self.findings = findings
        self.asked: list[str] = []

    async def verify(self, at_ms: int) -> Sequence[Finding]:
        self.asked.append("whole")
        return self.findings

    async def verify_recent(self, at_ms: int) -> Sequence[Finding]:
        self.asked.append("recent")
        return self.findings


async def test_drift_in_the_books_is_an_alarm(caplog: pytest.LogCaptureFixture) -> None:
    findings = [Finding("cap_spent", "ws_1", (f"hold_{n}",), "expected 3, found 4") for n in range(25)]
    job = verify_job(Checks(findings), lambda: NOW_MS)

    with caplog.at_level(logging.DEBUG):
        await job.run()

    assert {record.levelno for record in caplog.records} == {logging.CRITICAL}
    assert "cap_spent in workspace ws_1: expected 3, found 4 (hold_0)" in caplog.text
    assert "5 findings more" in caplog.text
    assert job.interval_s == 300


async def test_the_books_are_checked_soon_after_every_start() -> None:
    """A process that restarts more often than the interval would else never check them."""
    assert verify_job(Checks([]), lambda: NOW_MS).wait_s == 30
    assert verify_job(Checks([]), lambda: NOW_MS, interval_s=5).wait_s == 5


async def test_everything_is_read_once_a_day_and_while_something_is_wrong() -> None:
    """The first round, the one a day later, and all from an alarm until the books balance again; also when the clock
    goes back."""
    checks, now = Checks([]), [NOW_MS]
    job = verify_job(checks, lambda: now[0])

    async def round_at(ms: int, findings: Sequence[Finding] = ()) -> str:
        now[0], checks.findings = ms, findings
        await job.run()
        return checks.asked[-1]

    drift = [Finding("day_total", "ws_1", ("1",), "3 calls, by its receipts 4")]
    assert await round_at(NOW_MS) == "whole"
    assert await round_at(NOW_MS + 300_000) == "recent"
    assert await round_at(NOW_MS + 86_399_999) == "recent"
    assert await round_at(NOW_MS + 86_400_000) == "whole"
    assert await round_at(NOW_MS + 86_700_000, drift) == "recent"
    assert await round_at(NOW_MS + 87_000_000, drift) == "whole"
    assert await round_at(NOW_MS + 87_300_000) == "whole"
    assert await round_at(NOW_MS + 87_600_000) == "recent"
    assert await round_at(NOW_MS) == "whole"


async def test_clean_books_are_quiet(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG):
        await verify_job(Checks([]), lambda: NOW_MS).run()

    assert caplog.records == []


async def test_a_reconciliation_that_failed_comes_again_within_the_hour() -> None:
    """Once a day is enough for one that went through."""
    now = [NOW_MS]
    asked: list[int] = []

    class Payments:
        down = True

        async def run(self) -> None:
            raise AssertionError("the other round")

        async def reconcile(self) -> None:
            asked.append(now[0])
            if self.down:
                raise ConnectionError

    payments = Payments()
    job = reconcile_job(payments, lambda: now[0])
    with pytest.raises(ConnectionError):
        await job.run()
    payments.down = False
    for _ in range(25):
        now[0] += 3_600_000
        await job.run()

    assert (job.interval_s, job.at_once) == (3_600.0, True)
    assert asked == [NOW_MS, NOW_MS + 3_600_000, NOW_MS + 25 * 3_600_000]


async def test_a_plans_credits_arrive_before_they_are_needed() -> None:
    """The cycle's credits first, then the add-on that they may pay."""
    done: list[tuple[str, int]] = []

    class Books:
        async def renew_addons(self, at_ms: int) -> None:
            done.append(("renew", at_ms))

        async def run_cycles(self, at_ms: int) -> None:
            done.append(("cycles", at_ms))

    job = billing_job(Books(), lambda: NOW_MS)
    await job.run()

    assert job.at_once
    assert done == [("cycles", NOW_MS), ("renew", NOW_MS)]
