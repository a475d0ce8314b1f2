"""The gateway's own Explainer over a control house's books, for pages that tell what a call would do."""

from typing import Any, cast

from tests.control.house import House as ControlHouse

from ownkey.api.statuses import STATUSES
from ownkey.gateway.attempt import Runner
from ownkey.gateway.circuits import Circuits
from ownkey.gateway.complete import Gateway
from ownkey.gateway.complete import House as GatewayHouse
from ownkey.gateway.explain import Explainer
from ownkey.providers.anthropic import AnthropicProvider
from ownkey.providers.egress import parse_origin
from ownkey.providers.google import GoogleProvider
from ownkey.providers.openai import OpenAIProvider
from ownkey.providers.openrouter import OpenRouterProvider
from ownkey.settings.product import ORIGINS


class DryClock:
    """The house's clock, with the chance that a gateway also asks for."""

    def __init__(self, clock: Any) -> None:
        self._clock = clock

    def __getattr__(self, name: str) -> Any:
        return getattr(self._clock, name)

    def chance(self) -> float:
        return 0.5


def explainer_of(control: ControlHouse) -> Explainer:
    store, product, clock = control.store, control.product, cast(Any, DryClock(control.clock))
    providers = (OpenRouterProvider(), OpenAIProvider(), AnthropicProvider(), GoogleProvider())
    runner = Runner(
        product=product, origins={name: parse_origin(url) for name, url in ORIGINS.items()},
        opener=cast(Any, control.opener), upstream=cast(Any, control.upstream), clock=clock, journal=store,
    )
    house = GatewayHouse(
        product=product, providers={p.id: p for p in providers}, directory=store, books=store, prices=store,
        health=store, clock=clock, circuits=Circuits(per_provider=True), runner=runner, statuses=STATUSES,
    )
    return Explainer(Gateway(house), house)
