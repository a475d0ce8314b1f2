"""Providers and models: who is left out now, which models do which task, and what each of them costs by whose word."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from ownkey.console.visit import ConsoleRoute, ConsoleVisit, status_of
from ownkey.control.prices import Override
from ownkey.control.problems import Problem, ProblemCode
from ownkey.domain import models
from ownkey.domain.money import format_usd
from ownkey.domain.operators import OperatorRole
from ownkey.domain.overview import OverageFlag, PriceSource
from ownkey.domain.pricing import ModelPrice, PriceBook
from ownkey.domain.product import PROVIDERS, Product
from ownkey.pages.http import Answer

PATH: Final = "/console/models"
SHOWN: Final = 60
DIMENSIONS: Final[Mapping[str, str]] = {
    "input": "Input", "output": "Output", "cache_read": "Read from a cache", "cache_write_5m": "Written to a cache",
    "reasoning": "Reasoning",
}
"""The dimensions that the form asks for; others stay as the price list has them."""


@dataclass(frozen=True, slots=True)
class Price:
    """A model's price on one provider as the table shows it. Amounts are text in USD per million tokens."""

    provider: str
    model: str
    input: str
    output: str
    free: bool
    source: str
    flagged: bool


@dataclass(frozen=True, slots=True)
class TaskRow:
    """One model of a task with its prices; `missing` says where it has none although it could be called there."""

    task: str
    title: str
    model: str
    prices: Sequence[Price]
    missing: Sequence[str]


async def show(visit: ConsoleVisit) -> Answer:
    return await _page(visit)


async def ask_override(visit: ConsoleVisit) -> Answer:
    provider, model = visit.request.asks("provider"), visit.request.asks("model")[:200]
    known = visit.desk.prices.current().find(provider, model)
    typed = {"provider": provider, "model": model}
    if known is not None:
        typed |= {name: _rate(known, name) for name in DIMENSIONS}
        typed["free"] = "on" if known.free else ""
    return await _page(visit, typed=typed)


async def override(visit: ConsoleVisit) -> Answer:
    """A new version of the prices, for calls from now on. With a reason, in the log."""
    form = visit.request.form
    provider, model = visit.request.field("provider"), visit.request.field("model")
    amounts = {name: visit.request.field(name) for name in DIMENSIONS if visit.request.field(name)}
    wish = Override(provider, model, amounts, free=form.get("free") == "on")
    overview = visit.desk.overview
    try:
        visit.desk.prices.check(wish)
        await overview.note_reason(None, "prices.activated", f"{provider} {model}"[:200], visit.request.field("reason"),
                                   visit.actor)
        await visit.desk.prices.override([wish], visit.actor)
    except Problem as problem:
        if problem.code is not ProblemCode.INVALID:
            raise
        return await _page(visit, typed={**form, "provider": provider, "model": model}, problem=problem)
    return visit.go(f"{PATH}?done=priced#prices")


async def _page(
    visit: ConsoleVisit, typed: Mapping[str, str] | None = None, problem: Problem | None = None
) -> Answer:
    book, state = visit.desk.prices.current(), await visit.desk.overview.prices()
    wanted = visit.request.asks("q")[:200]
    listed = [_price(book, price, state.flags) for price in book.prices.values() if _matches(price, wanted)]
    listed.sort(key=lambda price: (price.source not in ("operator", "ownkey.toml"), price.provider, price.model))
    machine = visit.house.machine
    return visit.page(
        "console/models.html", "Providers & models", status=status_of(problem), book=book, versions=state.versions,
        version=next((v for v in state.versions if v.version == book.version), None), q=wanted,
        prices=listed[:SHOWN], hidden=max(0, len(listed) - SHOWN), every=len(book.prices),
        tasks=task_rows(visit.product, book, state.flags), unpriced=state.unpriced, flags=state.flags,
        providers=[(name, machine.providers_down().get(name)) for name in _used(visit.product)],
        routes_down=machine.routes_down(), typed=typed, problem=problem, dimensions=DIMENSIONS,
        all_providers=PROVIDERS, made_by=made_by,
    )


def task_rows(product: Product, book: PriceBook, flags: Sequence[OverageFlag]) -> list[TaskRow]:
    rows = []
    for task in product.tasks.values():
        for slug in task.models:
            places = [("openrouter", slug)]
            native = models.native_id(slug, product.model_ids)
            if native is not None and native[0] in product.direct_providers:
                places.insert(0, native)
            found = [(place, book.find(*place)) for place in places]
            rows.append(TaskRow(
                task.name, task.title, slug,
                [_price(book, price, flags, place) for place, price in found if price is not None],
                [place[0] for place, price in found if price is None],
            ))
    return rows


def made_by(version: PriceSource) -> str:
    """Who made a version of the prices, for people."""
    kind, _, ident = version.created_by.partition(":")
    return "an operator" if kind == "operator" and ident else version.created_by


def _used(product: Product) -> tuple[str, ...]:
    return ("openrouter", *product.direct_providers)


def _price(
    book: PriceBook, price: ModelPrice, flags: Sequence[OverageFlag], place: tuple[str, str] | None = None
) -> Price:
    provider, model = place or (price.provider, price.model)
    flagged = any((f.provider, f.model, f.price_version) == (price.provider, price.model, book.version) for f in flags)
    return Price(provider, model, _rate(price, "input"), _rate(price, "output"), price.free, price.source, flagged)


def _rate(price: ModelPrice, dimension: str) -> str:
    rate = price.rate(dimension, 0)
    return "" if rate is None else format_usd(rate)


def _matches(price: ModelPrice, wanted: str) -> bool:
    return all(word in f"{price.provider} {price.model}".lower() for word in wanted.lower().split())


ROUTES: tuple[ConsoleRoute, ...] = (
    ConsoleRoute("GET", PATH, show),
    ConsoleRoute("GET", f"{PATH}/override", ask_override, OperatorRole.OPS, fresh=True),
    ConsoleRoute("POST", f"{PATH}/override", override, OperatorRole.OPS, fresh=True),
)
