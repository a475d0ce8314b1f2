"""A console with real use cases behind it, and operators of both roles signed in: page tests ask it as browsers do."""

import contextlib
import html as html_text
import re
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from tests.compiled_pages import COMPILED
from tests.control.house import House, open_house
from tests.control.staff_house import ADDRESS, OWN_URL, Person, StaffHouse
from tests.portal.dry_runs import explainer_of

from ownkey.console.app import ConsoleApp
from ownkey.console.machine import Machine
from ownkey.console.visit import SESSION_COOKIE, ConsoleHouse
from ownkey.control.own_address import OwnAddress
from ownkey.control.staff import make_staff
from ownkey.domain.operators import ConsoleRules, csrf_token
from ownkey.domain.overview import JobLine, SettingLine
from ownkey.pages.site import Site
from ownkey.pages.words import Words
from ownkey.vault.id_tokens import SignedTokens
from ownkey.vault.passwords import PasswordHashes


@dataclass
class Seen:
    """What a browser got."""

    status: int
    headers: Mapping[str, str]
    html: str

    @property
    def text(self) -> str:
        """The page without tags and with single blanks, as one reads it."""
        bare = re.sub(r"<(script|style)\b.*?</\1>|<[^>]*>", " ", self.html, flags=re.S)
        return " ".join(html_text.unescape(bare).split())

    @property
    def actions(self) -> set[str]:
        """Where the page's forms go that change something, but for signing out."""
        found = re.findall(r'<form[^>]*method="post"[^>]*action="([^"]*)"', self.html)
        return set(map(html_text.unescape, found)) - {"/console/leave"}

    def field(self, name: str, near: str = "") -> str:
        """A hidden field's value, of the first form whose HTML holds `near`."""
        for form in re.findall(r"<form\b.*?</form>", self.html, flags=re.S):
            found = re.search(rf'name="{re.escape(name)}" value="([^"]*)"', form)
            if near in form and found:
                return html_text.unescape(found[1])
        raise AssertionError(f"no form with {near!r} has a field {name!r}")


@dataclass
class Console:
    """`people` are "ops" and "support", each signed in; a proof of identity is ten minutes old after `grow_old`."""

    control: House
    staff: StaffHouse
    app: ConsoleApp
    people: Mapping[str, Person]

    async def get(self, path: str, role: str = "ops", headers: Mapping[str, str] | None = None) -> Seen:
        return await self._ask("GET", path, role, b"", headers or {})

    async def post(
        self, path: str, form: Mapping[str, str] | None = None, role: str = "ops",
        headers: Mapping[str, str] | None = None,
    ) -> Seen:
        """As a browser sends a form of these pages: with the session's token, and an origin that tells nothing."""
        body = urlencode({"csrf": csrf_token(self.people[role].secret), **(form or {})}).encode()
        usual = {"content-type": "application/x-www-form-urlencoded", "origin": "null", "sec-fetch-site": "same-origin"}
        return await self._ask("POST", path, role, body, {**usual, **(headers or {})})

    async def follow(self, seen: Seen, role: str = "ops") -> Seen:
        assert seen.status == 303, f"{seen.status}: {seen.text[:400]}"
        return await self.get(seen.headers["location"].partition("#")[0], role)

    def grow_old(self) -> None:
        """Eleven minutes pass: sessions live, proofs of identity are too old."""
        self.control.clock.pass_s(660)

    async def audit(self, workspace_id: str | None = None) -> list[tuple[str, str, Any]]:
        """(action, actor's kind, after), oldest first."""
        rows = await self.control.store.load_audit(workspace_id, limit=500)
        return [(row["action"], row["actor_kind"], row["after"]) for row in reversed(rows)]

    async def _ask(self, method: str, path: str, role: str, body: bytes, headers: Mapping[str, str]) -> Seen:
        where, _, query = path.partition("?")
        sent: list[Any] = []
        cookie = f"{SESSION_COOKIE}={self.people[role].secret}" if role else ""
        scope = {
            "type": "http", "method": method, "path": where, "query_string": query.encode(), "scheme": "https",
            "client": (ADDRESS, 4711), "headers": [
                (b"host", b"ownkey.test"), (b"cookie", cookie.encode()),
                *((n.encode(), v.encode()) for n, v in headers.items()),
            ],
        }

        async def receive() -> dict[str, Any]:
            return {"type": "http.request", "body": body, "more_body": False}

        async def send(message: Any) -> None:
            sent.append(message)

        await self.app(scope, receive, send)
        data = b"".join(m.get("body", b"") for m in sent[1:])
        found = {n.decode(): v.decode() for n, v in sent[0]["headers"]}
        return Seen(sent[0]["status"], found, data.decode())


@contextlib.asynccontextmanager
async def open_console(folder: Path, preset: str = "support-desk", **house: Any) -> AsyncIterator[Console]:
    hashes = PasswordHashes(time_cost=1, memory_kib=8)
    async with open_house(folder, preset, **house) as control:
        address, rules = OwnAddress(OWN_URL), ConsoleRules()
        staff = make_staff(
            store=control.store, safe=control.vault, platform=control.desk.workspaces, passwords=hashes,
            tokens=SignedTokens(), upstream=control.upstream, clock=control.clock, rules=rules,
            product_name=control.product.name, address=address,
        )
        helper = StaffHouse(control, staff, hashes)
        people = {
            "support": await helper.enrol("sam@example.com", "support"),
            "ops": await helper.enrol("ada@example.com", "ops"),
        }
        pages = ConsoleHouse(
            staff, control.desk, Site(Words(), compiled=COMPILED), control.product, control.clock, address,
            test_mode="payments" in house, explainer=explainer_of(control), machine=machine_of(control),
        )
        yield Console(control, helper, ConsoleApp(pages), people)
        hashes.close()


def machine_of(control: House) -> Machine:
    now = control.clock.now_ms()
    return Machine(
        version="9.9.9", schema="0034", data_dir="/srv/ownkey/data", config_path="/srv/ownkey/ownkey.toml",
        started_at_ms=now, writable=control.store.check_writable,
        disk=lambda: (50 * 1024**3, 100 * 1024**3), jobs=lambda: [
            JobLine("expire_holds", 5.0, 12, 0, "", now - 4_000, 3, now + 1_000),
            JobLine("price_sync", 86_400.0, 1, 1, "TimeoutError", now - 60_000, 900, now + 86_000_000),
        ],
        configuration=(
            SettingLine("product.name", control.product.name, "file"), SettingLine("server.port", "8787", "default"),
            SettingLine("plans.free.byok", "addon", "preset"), SettingLine("OWNKEY_STRIPE_KEY", "set", "environment"),
        ),
    )
