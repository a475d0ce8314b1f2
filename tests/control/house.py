"""A house for the settings' use cases: the real store and vault in a folder, a scripted upstream, a clock by hand."""

import contextlib
import json
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

from tests.fresh_database import lay_database

from ownkey.control.desk import Desk, make_desk
from ownkey.control.health import HealthKeeper
from ownkey.control.master_key import KeyKeeper
from ownkey.control.master_key_check import KeyAuditor, KeyCheck
from ownkey.control.pace import KeyTestPace, PaceLimits
from ownkey.control.ports import Payments
from ownkey.control.probes import AuthProber
from ownkey.control.workspaces import NewWorkspace
from ownkey.domain.connect import ConnectRules
from ownkey.domain.exchange import UpstreamRequest
from ownkey.domain.failures import UpstreamError
from ownkey.domain.portal import PortalRules
from ownkey.domain.pricing import ModelPrice, Rate
from ownkey.domain.product import Product
from ownkey.domain.records import Actor
from ownkey.domain.secret import Secret
from ownkey.domain.workspace import Credential, WorkspaceState
from ownkey.providers.anthropic import AnthropicProvider
from ownkey.providers.egress import parse_origin
from ownkey.providers.google import GoogleProvider
from ownkey.providers.openai import OpenAIProvider
from ownkey.providers.openrouter import OpenRouterProvider
from ownkey.settings.product import load_settings
from ownkey.settings.starter import write_config_text
from ownkey.store.backup import BackupFolder
from ownkey.store.export_files import ExportFiles
from ownkey.store.sqlite import SQLiteStore
from ownkey.vault.audit_key import AuditKeyFile
from ownkey.vault.envelope import Vault
from ownkey.vault.keyring import Keyring
from ownkey.vault.keyset import generate_keyset_text, read_keyset_file
from ownkey.vault.sealed_file import FileSealer, read_facts

KEYS = {
    "openrouter": "sk-or-v1-" + "5a7e" * 16,
    "anthropic": "sk-ant-api03-" + "9b1c" * 10,
    "openai": "sk-proj-" + "7d3f" * 10,
    "google": "AQ.Ab8" + "2e6a" * 9,
}
"""Canaries: none of these texts, whole or in its middle, may come out of anything."""

ACTOR = Actor("service", "tok_test")


RULES = ConnectRules("https://ownkey.test", ("https://app.test/settings/ai",), "https://openrouter.test/auth")


PORTAL = PortalRules(
    origins=("https://app.test",), return_urls=RULES.return_urls, refresh_urls=("https://app.test/ownkey/session",),
)


class HandClock:
    """Time moves when a test says so; ids count."""

    def __init__(self) -> None:
        self.at_ms = 1_795_000_000_000
        self.seconds = 100.0
        self.count = 0

    def now_ms(self) -> int:
        return self.at_ms

    def monotonic(self) -> float:
        return self.seconds

    def new_id(self, prefix: str) -> str:
        self.count += 1
        return f"{prefix}_{self.at_ms:012x}{self.count:06x}"

    def pass_s(self, seconds: float) -> None:
        self.at_ms += int(seconds * 1_000)
        self.seconds += seconds


Answer = tuple[int, Any] | UpstreamError


class FakeResponse:
    def __init__(self, status: int, body: bytes) -> None:
        self.status = status
        self.headers: Mapping[str, str] = {"content-type": "application/json"}
        self._body = body

    async def read_all(self, timeout_s: float, limit_bytes: int) -> bytes:
        return self._body

    def close(self) -> None:
        pass


@dataclass
class FakeUpstream:
    """Answers by the end of the path; `script` overrides. Remembers what was sent, and with which key's hint."""

    script: dict[str, Answer | Callable[[UpstreamRequest], Answer]] = field(default_factory=dict)
    sent: list[UpstreamRequest] = field(default_factory=list)

    async def send(self, request: UpstreamRequest, *, head_timeout_s: float) -> FakeResponse:
        self.sent.append(request)
        path = request.path.partition("?")[0]
        known = [answer for table in (self.script, DEFAULTS) for end, answer in table.items() if path.endswith(end)]
        found: Any = known[0] if known else (404, {"error": {"message": "no such path"}})
        if callable(found):
            found = found(request)
        if isinstance(found, UpstreamError):
            raise found
        status, body = found
        return FakeResponse(status, body if isinstance(body, bytes) else json.dumps(body).encode())


def chat_answer(cost: float | None = 0.0000042) -> dict[str, Any]:
    usage: dict[str, Any] = {"prompt_tokens": 14, "completion_tokens": 2, "total_tokens": 16}
    if cost is not None:
        usage["cost"] = cost
    return {
        "id": "gen-1", "object": "chat.completion", "created": 1, "model": "m",
        "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "ok"}}],
        "usage": usage,
    }


def embeddings_answer() -> dict[str, Any]:
    return {"object": "list", "model": "e", "data": [{"object": "embedding", "index": 0, "embedding": [0.1, 0.2]}],
            "usage": {"prompt_tokens": 1, "total_tokens": 1, "cost": 0.00000002}}


DEFAULTS: dict[str, Any] = {
    "/key": (200, {"data": {"label": "sk-or-v1-5a7…", "limit": None, "limit_remaining": None, "usage": 0.5,
                            "is_management_key": False, "is_provisioning_key": False}}),
    "/chat/completions": (200, chat_answer()),
    "/embeddings": (200, embeddings_answer()),
    "/messages": (200, {
        "id": "msg_1", "type": "message", "role": "assistant", "model": "claude", "stop_reason": "end_turn",
        "content": [{"type": "text", "text": "ok"}], "usage": {"input_tokens": 14, "output_tokens": 2},
    }),
}


class Opener:
    """Counts openings, as bootstrap's opens."""

    def __init__(self, vault: Vault) -> None:
        self._vault = vault
        self.broken = False

    def open(self, workspace: WorkspaceState, credential: Credential) -> Secret:
        if self.broken:
            raise ValueError("undecryptable")
        c = credential
        return self._vault.open(workspace.id, workspace.dek, c.provider, c.id, c.version, c.origin, c.sealed)


@dataclass
class House:
    product: Product
    store: SQLiteStore
    clock: HandClock
    upstream: FakeUpstream
    opener: Opener
    desk: Desk
    folder: Path
    keeper: HealthKeeper
    vault: Vault
    ring: Keyring
    key_keeper: KeyKeeper
    key_check: KeyCheck

    async def workspace(self, name: str = "Acme", **fields: Any) -> WorkspaceState:
        return await self.desk.workspaces.create(NewWorkspace(name, **fields), ACTOR)

    async def again(self, workspace: WorkspaceState) -> WorkspaceState:
        return await self.desk.workspaces.find(workspace.id)

    async def with_key(self, provider: str = "openrouter", **fields: Any) -> WorkspaceState:
        workspace = await self.workspace(**fields)
        await self.save_key(workspace, provider)
        return await self.again(workspace)

    async def save_key(self, workspace: WorkspaceState, provider: str = "openrouter", key: str | None = None) -> Any:
        return await self.desk.credentials.save(
            await self.again(workspace), provider, key or KEYS[provider], label="", save_anyway=False,
            address="192.0.2.1", actor=ACTOR,
        )


def product_of(folder: Path, preset: str, extra: str = "") -> tuple[Product, Mapping[str, str]]:
    config = folder / f"{preset}.toml"
    config.write_text(write_config_text(preset) + extra)
    settings = load_settings(config, {})
    return settings.product, settings.origins


@contextlib.asynccontextmanager
async def open_house(
    folder: Path, preset: str = "support-desk", pace: PaceLimits | None = None, extra: str = "",
    rules: ConnectRules = RULES, payments: Payments | None = None, portal: PortalRules = PORTAL,
    channels: Mapping[str, str] = MappingProxyType({}),
) -> AsyncIterator[House]:
    product, urls = product_of(folder, preset, extra)
    clock, upstream = HandClock(), FakeUpstream()
    store = SQLiteStore.open(lay_database(folder / "ownkey.db"), clock_ms=clock.now_ms, boot_id="boot")
    try:
        key_file = folder / "master.key"
        key_file.write_text(generate_keyset_text())
        key_file.chmod(0o600)
        keyset = read_keyset_file(key_file)
        vault = Vault(keyset, store.instance_id)
        audit = AuditKeyFile(folder / "audit.key")
        audit.make(keyset)
        ring = Keyring(keyset, vault, key_file, audit)
        key_keeper = KeyKeeper(ring, store, clock, boot_id="boot", host="here", pid=1)
        key_check = KeyCheck(ring, store, clock)
        opener = Opener(vault)
        await store.activate_prices(_prices(product), {}, author="test", at_ms=clock.at_ms)
        models = sorted({slug for task in product.tasks.values() for slug in task.models})
        upstream.script["/models/user"] = (200, {"data": [{"id": slug} for slug in models]})
        names = [slug.partition("/")[2] for slug in models]
        names += [name.replace(".", "-") for name in names]
        upstream.script["/models"] = (200, {"data": [{"id": name} for name in names]})
        providers = {
            p.id: p for p in (OpenRouterProvider(), OpenAIProvider(), AnthropicProvider(), GoogleProvider())
        }
        origins = {name: parse_origin(url) for name, url in urls.items()}
        keeper = HealthKeeper(store, opener, AuthProber(upstream, providers, origins, clock), clock)
        desk = make_desk(
            store=store, directory=store, books=store, prices=store, auditor=KeyAuditor(store, key_check),
            sealer=vault, safe=vault, opener=opener, upstream=upstream,
            providers=providers, origins=origins, clock=clock, product=product,
            connect=rules, payments=payments, portal=portal, channels=channels, files=ExportFiles(folder / "exports"),
            backup_files=BackupFolder(
                folder / "backups", folder, store.instance_id, FileSealer(vault), read_facts, "test"
            ),
            ring=ring, keeper=key_keeper, key_check=key_check,
            pace=KeyTestPace(pace or PaceLimits(
                per_minute=1_000, per_day=1_000, keys_per_day=1_000, address_per_minute=1_000
            )),
        )
        yield House(product, store, clock, upstream, opener, desk, folder, keeper, vault, ring, key_keeper, key_check)
        await keeper.stop()
    finally:
        await store.close()


def _prices(product: Product) -> list[ModelPrice]:
    rates = {"input": (Rate(0, 100_000_000),), "output": (Rate(0, 400_000_000),)}
    found = {}
    for task in product.tasks.values():
        for slug in task.models:
            found["openrouter", slug] = ModelPrice("openrouter", slug, rates, source="test")
    return list(found.values())
