"""The management API on a real store, asked through memory."""

import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
from tests.control.house import ACTOR, House, open_house

from ownkey.api.authentication import BearerAuthentication
from ownkey.api.manage import manage_app
from ownkey.control.pace import PaceLimits
from ownkey.control.tokens import NewToken
from ownkey.domain.tokens import digest, make_token
from ownkey.domain.workspace import Principal, TokenKind, WorkspaceState

OPERATOR_TOKEN = make_token(b"operator" * 5)
OPS_TOKEN = make_token(b"ops-only" * 5)


class Doors:
    """The store's principals, this boot's operator, and staff without the local door's right to act for the host."""

    def __init__(self, house: House) -> None:
        self._house = house
        self.lookups = 0

    async def load_principal(self, token_digest: bytes) -> Principal | None:
        self.lookups += 1
        if token_digest == digest(OPERATOR_TOKEN):
            return Principal("operator", TokenKind.OPERATOR, None, frozenset({"call", "manage"}))
        if token_digest == digest(OPS_TOKEN):
            return Principal("ops", TokenKind.OPERATOR, None, frozenset())
        return await self._house.store.load_principal(token_digest)


@dataclass
class Management:
    house: House
    client: httpx.AsyncClient
    doors: Doors
    own: WorkspaceState
    other: WorkspaceState
    tokens: dict[str, str] = field(default_factory=dict)

    async def ask(
        self, method: str, path: str, body: Any = None, *, who: str = "service", token: str | None = None,
        **headers: str,
    ) -> httpx.Response:
        bearer = self.tokens[who] if token is None else token
        return await self.client.request(
            method, f"/manage/v1{path}", json=body,
            headers={"authorization": f"Bearer {bearer}", **{k.replace("_", "-"): v for k, v in headers.items()}},
        )

    async def good(self, method: str, path: str, body: Any = None, **more: Any) -> Any:
        answer = await self.ask(method, path, body, **more)
        assert answer.status_code < 300, answer.text
        return answer.json()

    async def bad(self, status: int, method: str, path: str, body: Any = None, **more: Any) -> Any:
        """A refusal: its status, and an envelope with a sentence and a fix."""
        answer = await self.ask(method, path, body, **more)
        assert answer.status_code == status, answer.text
        error = answer.json()["error"]
        assert error["message"]
        assert error["fix"]["text"]
        assert answer.headers["cache-control"] == "no-store"
        return error


@contextlib.asynccontextmanager
async def open_management(
    folder: Path, preset: str = "support-desk", pace: PaceLimits | None = None, **more: Any
) -> AsyncIterator[Management]:
    """`more` goes to the house: payments, a longer configuration."""
    async with open_house(folder, preset, pace, **more) as house:
        doors = Doors(house)
        app = manage_app(house.desk, BearerAuthentication(doors, house.clock), house.store, house.clock)
        own = await house.workspace("Own", external_id="own")
        other = await house.workspace("Other", external_id="other")
        make = house.desk.tokens.create
        tokens = {
            "service": (await make(None, NewToken("s", frozenset({"call", "manage"})), ACTOR)).token,
            "caller": (await make(None, NewToken("c", frozenset({"call"})), ACTOR)).token,
            "workspace": (await make(own, NewToken("w"), ACTOR)).token,
            "operator": OPERATOR_TOKEN,
            "ops": OPS_TOKEN,
        }
        transport = httpx.ASGITransport(app=app, raise_app_exceptions=True)
        async with httpx.AsyncClient(transport=transport, base_url="http://ownkey.test") as client:
            yield Management(house, client, doors, own, other, tokens)
