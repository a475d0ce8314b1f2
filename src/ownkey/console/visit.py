"""One visit of an operator: who looks, what they asked for, and everything that a page of the console may use."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from ownkey.console.machine import Machine
from ownkey.control.desk import Desk
from ownkey.control.own_address import OwnAddress
from ownkey.control.ports import Clock
from ownkey.control.problems import Problem, ProblemCode
from ownkey.control.staff import Staff
from ownkey.domain.operators import OperatorRole, OperatorSession, csrf_token
from ownkey.domain.product import Payers, Product
from ownkey.domain.records import Actor
from ownkey.gateway.explain import Explainer
from ownkey.pages.http import Answer, PageRequest, html, see_other
from ownkey.pages.site import Site
from ownkey.pages.statuses import PROBLEM_STATUSES
from ownkey.pages.words import Words

SESSION_COOKIE = "__Host-ownkey-console"


@dataclass(frozen=True, slots=True)
class ConsoleHouse:
    """What all visits share. `test_mode` and `insecure_origins` are shown on top of every page. `explainer` None: no
    call can be made here, so none can be foreseen."""

    staff: Staff
    desk: Desk
    site: Site
    product: Product
    clock: Clock
    address: OwnAddress
    test_mode: bool = False
    insecure_origins: bool = False
    explainer: Explainer | None = None
    machine: Machine = field(default_factory=Machine)


@dataclass(frozen=True, slots=True)
class Entry:
    """A page in the navigation."""

    label: str
    url: str
    current: bool = False


NAV: tuple[tuple[str, str], ...] = (
    ("Home", "/console"), ("Workspaces", "/console/workspaces"), ("Why", "/console/why"), ("Calls", "/console/calls"),
    ("Providers & models", "/console/models"), ("Plans", "/console/plans"), ("Billing", "/console/billing"),
    ("Developers", "/console/developers"), ("System", "/console/system"),
)
"""The pages that the navigation lists: label and address."""

OPS_NAV: tuple[tuple[str, str], ...] = (("Operators", "/console/operators"),)
"""Those that only ops see."""

TIMEZONE = "UTC"
"""Operators look at many workspaces at once: their pages tell all times in one zone."""


@dataclass(frozen=True, slots=True)
class Guest:
    """Somebody at the door: not signed in, or not asked whether they are. `address` is the browser's, as far as the
    configured proxies can be believed. `session` is set where there is one all the same."""

    house: ConsoleHouse
    request: PageRequest
    address: str
    session: OperatorSession | None = None
    secret: str = field(default="", repr=False)

    def page(
        self, template: str, *, status: int = 200, headers: Sequence[tuple[str, str]] = (), **values: Any
    ) -> Answer:
        """A page without the console's frame."""
        house = self.house
        text = house.site.render(template, product=house.product, theme="auto", **values)
        return html(text, status, headers)


@dataclass(frozen=True, slots=True)
class ConsoleVisit:
    """A signed-in operator on a page."""

    house: ConsoleHouse
    request: PageRequest
    address: str
    session: OperatorSession
    secret: str = field(repr=False)

    @property
    def actor(self) -> Actor:
        """Who the audit log says it was."""
        return Actor("operator", self.session.operator_id)

    @property
    def csrf(self) -> str:
        return csrf_token(self.secret)

    @property
    def is_fresh(self) -> bool:
        return self.session.is_fresh(self.house.clock.now_ms())

    @property
    def is_ops(self) -> bool:
        return self.session.role is OperatorRole.OPS

    @property
    def desk(self) -> Desk:
        return self.house.desk

    @property
    def product(self) -> Product:
        return self.house.product

    @property
    def say(self) -> Words:
        return self.house.site.words

    @property
    def now_ms(self) -> int:
        return self.house.clock.now_ms()

    def page(
        self, template: str, title: str, *, status: int = 200, headers: Sequence[tuple[str, str]] = (), **values: Any
    ) -> Answer:
        """A page that extends console/shell.html. A text of the catalogue as `title`; whoever has put names into one
        has said it already, and the catalogue does not know it."""
        house, path = self.house, self.request.path
        nav = [
            Entry(self.say(label), url, path == url or (url != "/console" and path.startswith(url + "/")))
            for label, url in (*NAV, *(OPS_NAV if self.is_ops else ()))
        ]
        shared: dict[str, Any] = {
            "title": self.say(title), "product": house.product, "operator": self.session, "csrf": self.csrf,
            "nav": nav, "shortcuts_off": not self.session.shortcuts, "test_mode": house.test_mode,
            "insecure_origins": house.insecure_origins, "is_ops": self.is_ops, "with_credits": self.with_credits,
            "now_ms": self.now_ms, "tz": TIMEZONE, "problem": None, "done": self.request.asks("done")[:40],
            "path": path, "refresh_s": None,
        }
        return html(house.site.render(template, **{**shared, **values}), status, headers)

    @property
    def with_credits(self) -> bool:
        return self.product.payers is Payers.WITH_CREDITS

    def check_fresh(self, version: str) -> None:
        """Raises Problem for a form that was made for another state than this one, or does not say for which."""
        if self.request.field("version") != version:
            raise Problem(
                ProblemCode.CONFLICT, self.say("This was changed in the meantime, so nothing was changed now."),
                self.say("The page shows what is so now: look at it and repeat, if it still is meant."),
            )

    def go(self, url: str) -> Answer:
        """After a change: the page that shows it (303)."""
        return see_other(url)


def status_of(problem: Problem | None) -> int:
    """The status of a page that shows this problem beside its form."""
    if problem is None:
        return 200
    return 422 if problem.code is ProblemCode.INVALID else PROBLEM_STATUSES[problem.code]


GuestHandler = Callable[[Guest], Awaitable[Answer]]
Handler = Callable[[ConsoleVisit], Awaitable[Answer]]


@dataclass(frozen=True, slots=True)
class OpenRoute:
    """An address that needs no session: the ways in, and nothing else."""

    method: Literal["GET", "POST"]
    path: str
    handler: GuestHandler


@dataclass(frozen=True, slots=True)
class ConsoleRoute:
    """A page or a form for those who are signed in. `needs` is the least role. `fresh`: only with a proof of identity
    that is ten minutes old at most; a GET then leads to the page that asks for one."""

    method: Literal["GET", "POST"]
    path: str
    handler: Handler
    needs: OperatorRole = OperatorRole.SUPPORT
    fresh: bool = False
