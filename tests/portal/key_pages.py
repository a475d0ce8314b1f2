"""What tests of API Keys / Integrations share: reading cards out of a page, and bringing a workspace into a state."""

import html as html_text
import re
from dataclasses import dataclass
from typing import Any

from tests.control.house import ACTOR, KEYS
from tests.portal.visiting import Portal, Seen

from ownkey.domain.health import Evidence, Sign
from ownkey.domain.workspace import EntitlementState, WorkspaceState

PATH = "/portal/credentials"
REJECTED = (401, {"error": {"code": 401, "message": "User not found."}})
BROKEN = (503, {"error": {"code": 503, "message": "down"}})


@dataclass(frozen=True)
class CardSeen:
    """One card of a page: its `data-state`, its HTML, its words, and the labels of its buttons in order."""

    state: str
    html: str

    @property
    def text(self) -> str:
        bare = " ".join(html_text.unescape(re.sub(r"<[^>]*>", " ", self.html)).split())
        return re.sub(r" ([:,.;)])", r"\1", bare)

    @property
    def buttons(self) -> list[str]:
        """Without those that only a script shows."""
        found = re.findall(r"<button\b([^>]*)>(.*?)</button>", self.html, flags=re.S)
        return [" ".join(label.split()) for attributes, label in found if "hidden" not in attributes]

    @property
    def result(self) -> str:
        """The result's word; "" where none is shown."""
        found = re.search(r'data-result="([^"]*)"', self.html)
        return found[1] if found else ""

    def hidden(self, name: str) -> str:
        found = re.search(rf'name="{name}" value="([^"]*)"', self.html)
        assert found, f"the card has no field {name!r}"
        return html_text.unescape(found[1])


def card(seen: Seen, provider: str = "openrouter") -> CardSeen:
    found = re.search(
        rf'<section class="card[^"]*"[^>]*data-provider="{provider}" data-state="([^"]*)".*?</section>\s*'
        r'(?=<section class="(?:card|stack|banner)|</div>|<p class="quiet|</main>)', seen.html, flags=re.S,
    )
    assert found, f"no card of {provider}: {seen.status} {seen.text[:300]}"
    return CardSeen(found[1], found[0])


def every_key(text: str) -> list[str]:
    """Which of the typed keys, whole or in their middle, a text holds."""
    return [name for name, key in KEYS.items() if key in text or key[10:30] in text]


async def save(portal: Portal, provider: str = "openrouter", **fields: Any) -> Seen:
    return await portal.post(f"{PATH}/{provider}/save", {"key": KEYS[provider], **fields})


async def entitle(portal: Portal, state: EntitlementState = EntitlementState.ACTIVE) -> WorkspaceState:
    workspace = await portal.control.again(portal.workspace)
    return await portal.control.desk.workspaces.set_entitlement(workspace, state, ACTOR)


async def fail(portal: Portal, sign: Sign, provider: str = "openrouter", signal: str = "401 auth") -> None:
    """What a probe or a call learnt about the saved key."""
    credential = (await portal.control.again(portal.workspace)).credentials[provider]
    now = portal.control.clock.now_ms()
    await portal.control.store.note_health(
        portal.workspace.id, credential.id, credential.version, Evidence(sign, signal, now)
    )


async def lose(portal: Portal, provider: str = "openrouter") -> None:
    """The stored key cannot be opened any more."""
    credential = (await portal.control.again(portal.workspace)).credentials[provider]
    portal.control.store.mark_undecryptable(credential, portal.control.clock.now_ms())
    for _ in range(200):
        if (await portal.control.again(portal.workspace)).credentials[provider].undecryptable:
            return
    await portal.control.store.save_audit(None, "wait", "", None, None, at_ms=1, actor=ACTOR)


async def save_platform_key(portal: Portal) -> None:
    """The key that credits are spent with."""
    desk = portal.control.desk
    await desk.credentials.save(
        await desk.workspaces.platform(ACTOR), "openrouter", "sk-or-v1-" + "ab" * 32, label="", save_anyway=False,
        address="", actor=ACTOR,
    )
