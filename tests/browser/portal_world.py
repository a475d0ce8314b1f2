"""Everything that a page can need: Ownkey with its pages, providers, a mailbox, a host product and a place to pay.

One world is one preset. Providers, payment site and host are processes of our own on loopback; the host is on
`localhost` and Ownkey on `127.0.0.1`, which are two sites to a browser.
"""

import contextlib
import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from playwright.sync_api import Browser, BrowserContext, Frame, Page
from tests.browser.watching import Watch
from tests.deployment import KEYS, Deployment, TestWorkspace, deployed
from tests.emulator_process import start_emulator
from tests.host_site_process import HostSiteHandle, host_site
from tests.mailbox_process import SECRET as EVENT_SECRET
from tests.mailbox_process import MailboxHandle, mailbox
from tests.operator_visits import SESSION as OPERATOR_COOKIE
from tests.operator_visits import enrol
from tests.stripe_process import KEY as STRIPE_KEY
from tests.stripe_process import StripeHandle, start_stripe

Mode = Literal["page", "frame"]
Preset = Literal["support-desk", "app-builder"]
PRESETS: tuple[Preset, ...] = ("support-desk", "app-builder")
STRIPE_SECRET = "whsec_" + "p5Qr" * 10
PLATFORM_KEY = "sk-or-v1-" + "f0" * 32
"""The product's own, which credits are paid with."""
PEOPLE = {
    "owner": ("ada", "Ada Okafor", "ada@example.com"), "admin": ("ben", "Ben Laurent", "ben@example.com"),
    "member": ("cho", "Cho Minh", "cho@example.com"), "viewer": ("dee", "Dee Ramos", "dee@example.com"),
}
"""As the host product knows them."""
BELIEVED = 'proxies = ["127.0.0.1/32"]'
"""Each visitor has an address of their own: what one address may try in a minute is not shared by all tests."""
HOSTED_TABLES = "[backup]\nevery_hours = 24\n"
"""What the world of a host that sells the add-on itself is told beside that."""

WIDTHS = (1280, 768, 375)
FRAME_WIDTH = 480
HEIGHT = 900


@dataclass
class PortalWorld:
    """A running world. `stripe` is there only where something is sold."""

    preset: Preset
    deployment: Deployment
    host: HostSiteHandle
    mailbox: MailboxHandle
    stripe: StripeHandle | None
    typed: set[str] = field(default_factory=lambda: set(KEYS.values()))
    _numbers: Iterator[int] = field(default_factory=lambda: itertools.count(1))
    _prepared: dict[str, TestWorkspace] = field(default_factory=dict)
    _operators: dict[str, str] = field(default_factory=dict)

    @property
    def url(self) -> str:
        return self.deployment.url

    @property
    def origins(self) -> set[str]:
        """Where a browser may go here."""
        return {self.url, self.host.url, *([self.stripe.url] if self.stripe else [])}

    def manage(self, method: str, path: str, body: Any = None) -> Any:
        return self.deployment.manage(method, path, body)

    def workspace(self, name: str = "", **fields: Any) -> TestWorkspace:
        """A workspace of its own: another test's settings are never in it."""
        fields.setdefault("providers", ())
        return self.deployment.add_workspace(name or f"Acme {next(self._numbers)}", **fields)

    def key(self, provider: str, **more: Any) -> str:
        """A key that nobody else has, which the emulated provider knows; no page may ever show it."""
        number = next(self._numbers)
        shapes = {
            "openrouter": f"sk-or-v1-{number:064x}", "anthropic": f"sk-ant-api03-{number:072d}",
            "openai": f"sk-proj-{number:048d}", "google": f"AQ.Ab8{number:040d}",
        }
        self.deployment.emulator.add_key(provider, shapes[provider], **more)
        self.typed.add(shapes[provider])
        return shapes[provider]

    def link(
        self, workspace: TestWorkspace, *, role: str = "owner", mode: Mode = "page", theme: str = "auto",
        flow: str = "", **more: Any,
    ) -> Any:
        """What the host's backend gets: {url, code, …}, good for one visit."""
        ident, name, email = PEOPLE[role]
        body = {
            "member": {"id": ident, "name": name, "email": email}, "role": role, "mode": mode, "theme": theme,
            "return_url": self.host.url + "/ai", **({"flow": flow} if flow else {}), **more,
        }
        if mode == "frame":
            body.setdefault("refresh_url", self.host.url + "/ai/session")
        return self.manage("POST", f"workspaces/{workspace.id}/portal-sessions", body)

    def prepared(
        self, name: str, prepare: Callable[["PortalWorld", TestWorkspace], None], fields: dict[str, Any]
    ) -> TestWorkspace:
        """The workspace of a state, made once however often it is looked at."""
        if name not in self._prepared:
            workspace = self.workspace(name.replace("-", " ").capitalize(), **fields)
            prepare(self, workspace)
            self._prepared[name] = workspace
        return self._prepared[name]

    def operator(self, role: str) -> str:
        """The secret of an operator's session, of one operator a role."""
        if role not in self._operators:
            visitor, _ = enrol(self.deployment, f"{role}@example.com", role)
            self._operators[role] = visitor.cookies[OPERATOR_COOKIE]
        return self._operators[role]

    def own_address(self) -> dict[str, str]:
        """The header by which the server knows a visitor's address, another one each time."""
        number = next(self._numbers)
        return {"x-forwarded-for": f"10.{number >> 16 & 255}.{number >> 8 & 255}.{number & 255}"}

    def forget(self, name: str) -> None:
        """The next look makes the state anew: something in the browser has changed it."""
        self._prepared.pop(name, None)


@contextlib.contextmanager
def portal_world(home: Path, preset: Preset, extra: str = "", *, by_host: bool = False) -> Iterator[PortalWorld]:
    """A world that is gone afterwards. `extra` is appended to ownkey.toml. `by_host`: the host product sells the add-on
    itself, so that there is no place to pay."""
    with contextlib.ExitStack() as stack:
        emulator = start_emulator()
        stack.callback(emulator.stop)
        box = stack.enter_context(mailbox())
        host = stack.enter_context(host_site())
        env = {"OWNKEY_EVENT_SECRETS": EVENT_SECRET}
        # So many failing keys in a row look like a provider's outage, and one state's would be the next one's.
        tables = host.config() + box.config() + "[routing]\nprovider_circuit = false\n" + extra
        stripe = None
        if by_host:
            tables += f'[billing]\nrail = "host"\nhost_url = "{host.url}/ai"\n'
        elif preset == "app-builder":
            stripe = start_stripe(seed=11)
            stack.callback(stripe.stop)
            env |= {"OWNKEY_STRIPE_KEY": STRIPE_KEY, "OWNKEY_STRIPE_WEBHOOK_SECRETS": STRIPE_SECRET}
            tables += f'[billing]\napi_url = "{stripe.url}"\nreturn_urls = ["{host.url}/ai"]\n'
            tables += "[billing.packs.small]\ncredits = 1000\ncents = 1000\n"
        deployment = stack.enter_context(deployed(
            home, preset, extra=tables, emulator=emulator, env=env, server=BELIEVED
        ))
        if stripe is not None:
            stripe.control("POST", "endpoints", {
                "url": f"{deployment.url}/manage/v1/webhooks/stripe", "secret": STRIPE_SECRET,
            })
        if preset == "app-builder":
            emulator.add_key("openrouter", PLATFORM_KEY)
            deployment.manage(
                "PUT", "platform/credentials/openrouter", {"key": PLATFORM_KEY}, token=deployment.operator
            )
        host.tell(ownkey_url=deployment.url, token=deployment.service, preset=preset)
        world = PortalWorld(preset, deployment, host, box, stripe)
        yield world
        told = deployment.log()

        assert not [key for key in world.typed if key in told], "a typed key stands in the server's log"


@dataclass
class Visitor:
    """A person at a browser, and what the browser did. `page` is the tab, `shown` the document of the pages in it: the
    tab's own, or that of the frame inside the host's page."""

    world: PortalWorld
    context: BrowserContext
    watch: Watch
    page: Page
    mode: Mode = "page"

    @property
    def shown(self) -> Frame:
        if self.mode == "page":
            return self.page.main_frame
        return next(f for f in self.page.frames if f.parent_frame and f.url.startswith(self.world.url))

    def open(self, workspace: TestWorkspace, path: str = "", **wish: Any) -> "Visitor":
        """Mint and follow a link of page mode, then go where the test wants to be."""
        self.page.goto(self.world.link(workspace, **wish)["url"])
        if path:
            self.page.goto(self.world.url + path)
        return self

    def open_console(self, role: str) -> "Visitor":
        """Signed in as an operator; no page is open yet."""
        # A __Host- cookie cannot be planted over plain http; the server sees the same header.
        self.context.set_extra_http_headers({
            "cookie": f"{OPERATOR_COOKIE}={self.world.operator(role)}", **self.world.own_address(),
        })
        return self

    def open_framed(
        self, workspace: TestWorkspace, page: str = "", *, person: str = "ada", theme: str = ""
    ) -> "Visitor":
        """Sign in at the host product and open the page that frames the portal; returns once the frame is ready."""
        self.mode = "frame"
        self.world.host.tell(workspace=workspace.id, company="Acme")
        self.page.goto(self.world.host.url + "/sign-in")
        with self.page.expect_navigation():
            self.page.click(f"button[value={person}]")
        wish = "&".join(part for part in (page and f"page={page}", theme and f"theme={theme}") if part)
        if wish:
            self.page.goto(f"{self.world.host.url}/ai?{wish}")
        self.page.wait_for_function("() => document.querySelector('#events').textContent.includes('ready')")
        return self

    def goto(self, path: str) -> None:
        """Another page of the same visit, as a link would lead there."""
        if self.mode == "page":
            self.page.goto(self.world.url + path)
            return
        self.shown.evaluate(
            "path => htmx.ajax('GET', path, {target: document.body, swap: 'outerSync', push: 'true'})", path
        )

    def told(self) -> list[str]:
        """What the frame has told the host's page."""
        return list(self.page.locator("#events li").all_text_contents())


@contextlib.contextmanager
def visiting(
    browser: Browser, world: PortalWorld, *, width: int = 1280, scheme: Literal["light", "dark"] = "light",
    **options: Any,
) -> Iterator[Visitor]:
    """A browser's own context, watched; `options` are Playwright's (java_script_enabled, reduced_motion …). At its end
    everything that was wrong on the way fails the test."""
    context = browser.new_context(
        viewport={"width": width, "height": HEIGHT}, color_scheme=scheme, locale="en-GB", timezone_id="UTC", **options
    )
    context.set_default_timeout(10_000)
    context.set_extra_http_headers(world.own_address())
    watch = Watch(world.origins, world.typed)
    watch.follow(context)
    try:
        yield Visitor(world, context, watch, context.new_page())
        watch.look(context.pages)
    finally:
        context.close()

    assert not watch.problems(), "\n".join(watch.problems())


