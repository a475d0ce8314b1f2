"""A form that was made for another state than now, or does not say for which, changes nothing: 409, and the values of
now with a form that can be sent again.
"""

from pathlib import Path
from typing import Any

import pytest
from tests.control.house import KEYS
from tests.portal.key_pages import entitle, save
from tests.portal.versions import version_now
from tests.portal.visiting import SECRET, Portal, open_portal

from ownkey.domain.product import Payers
from ownkey.portal.visit import csrf_token

KEY = "/portal/credentials/openrouter"
FORMS: dict[str, dict[str, str]] = {
    f"{KEY}/save": {"key": KEYS["openrouter"][:-4] + "beef"}, f"{KEY}/enable": {}, f"{KEY}/disable": {},
    f"{KEY}/disconnect": {}, f"{KEY}/sign-in": {},
    "/portal/credentials/cap": {"cap_usd": "7", "threshold_percent": "70"},
    "/portal/spend/cap": {"cap_usd": "7", "threshold_percent": "70"},
    "/portal/features/auto_reply": {"on": "on"}, "/portal/features/auto_reply/options": {"option_threshold": "11"},
    "/portal/credentials/on-rejection": {"on_direct_auth_failure": "fail"},
}
WITH_CREDITS: dict[str, dict[str, str]] = {
    **{path: form for path, form in FORMS.items() if "/features/" not in path},
    "/portal/credentials/if-key-fails": {"credits_if_key_fails": "on"},
    "/portal/credentials/credits-limit": {"limit": "5"}, "/portal/credentials/always": {"always_use_key": "on"},
}


async def everything(portal: Portal) -> tuple[Any, ...]:
    """Whatever one of these forms could change, and that it was."""
    desk, workspace = portal.control.desk, await portal.control.again(portal.workspace)
    return workspace, await desk.caps.show(workspace), len(await desk.audit.list(workspace, 100))


@pytest.mark.parametrize("preset", ["support-desk", "app-builder"])
async def test_a_form_that_does_not_say_what_it_was_made_for_is_stale(tmp_path: Path, preset: str) -> None:
    """Portal 1.6: without a version, with an empty one, or with one that is none, every form is refused with the
    version that it should have; with that one it is taken.
    """
    async with open_portal(tmp_path, preset) as portal:
        await entitle(portal)
        for provider in ("openrouter", "anthropic"):
            await save(portal, provider)
        forms = WITH_CREDITS if portal.control.product.payers is Payers.WITH_CREDITS else FORMS
        for path, form in forms.items():
            if path.endswith("/enable"):
                await portal.post(f"{KEY}/disable")
            before = await everything(portal)
            for sent in ({}, {"version": ""}, {"version": "no-version"}, {"version": "-1"}, {"version": "é\x00"}):
                seen = await portal.send(path, {"csrf": csrf_token(SECRET), **form, **sent})
                assert seen.status == 409, (path, sent)
                shown = await version_now(portal.control, portal.workspace, path)
                assert f'name="version" value="{shown}"' in seen.html, (path, sent)
            assert await everything(portal) == before, path
            assert (await portal.post(path, form)).status in (200, 303), path
            if path.endswith("/disconnect"):
                await save(portal)
