"""The master keys over the management API: the deployment's own staff only, ids and fingerprints, never a byte."""

import base64
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.api.management import Management, open_management

from ownkey.vault.keyset_file import KeysetFile

STEPS = (("reload", {}), ("promote", {"key": "k", "fingerprint": "0" * 16}), ("rewrap", {}), ("retire", {"key": "k"}))


@pytest.fixture
async def api(tmp_path: Path) -> AsyncIterator[Management]:
    async with open_management(tmp_path) as opened:
        yield opened


async def test_a_rotation_over_the_api(api: Management) -> None:
    """What is loaded where, what hangs on what; each step asked for, and the rewrap found again instead of doubled."""
    file = KeysetFile(api.house.folder / "master.key")
    old, new = file.read().primary_id, file.add()
    loaded = await api.good("POST", "/master-key/reload", {}, who="operator")
    fingerprint = file.read().fingerprints[new]
    await api.good("POST", "/master-key/promote", {"key": new, "fingerprint": fingerprint}, who="ops")
    file.promote(new)
    promoted = await api.good("POST", "/master-key/reload", {}, who="ops")
    first = await api.good("POST", "/master-key/rewrap", {}, who="ops")
    second = await api.good("POST", "/master-key/rewrap", {}, who="ops")
    refused = await api.bad(409, "POST", "/master-key/retire", {"key": old}, who="ops")
    shown = await api.good("GET", "/master-key", who="ops")
    secrets = [line.partition(":")[2].strip() for line in file.path.read_text().splitlines()]

    assert [key["id"] for key in loaded["keys"]] == [old, new]
    assert (loaded["primary"], promoted["primary"]) == (old, new)
    assert promoted["processes"][0]["keys"] == [new, old]
    assert promoted["rows_left"] == next(key["data_keys"] for key in shown["keys"] if key["id"] == old) > 0
    assert first["work"] == second["work"] == shown["rewrap"]["work"]
    assert "rewrap" in refused["fix"]["text"]
    for secret in secrets:
        assert secret not in str(shown)
        assert base64.b64decode(secret).hex() not in str(shown)


async def test_a_service_token_has_no_part_in_it(api: Management) -> None:
    """§7: rotation is the deployment's; a service token with `manage` and a workspace's token get 403 everywhere."""
    for who in ("service", "workspace"):
        await api.bad(403, "GET", "/master-key", who=who)
        for step, body in STEPS:
            await api.bad(403, "POST", f"/master-key/{step}", body, who=who)


@pytest.mark.parametrize(("step", "body", "status"), [
    ("promote", {"key": "k_nobody", "fingerprint": "0" * 16}, 400),
    ("promote", {"key": "k_nobody", "fingerprint": "xyz"}, 400),
    ("promote", {"key": "k_nobody"}, 400),
    ("retire", {"key": "k_nobody"}, 400),
    ("retire", {"key": "k_nobody", "force": True}, 400),
])
async def test_bad_input_is_a_sentence(api: Management, step: str, body: dict[str, str], status: int) -> None:
    """Unknown keys and fields are refused by name."""
    error = await api.bad(status, "POST", f"/master-key/{step}", body, who="operator")

    assert error["message"]
    assert error["fix"]["text"]


async def test_the_general_door_does_not_start_a_rewrap(api: Management) -> None:
    """It would go round the check that every process has the new key."""
    await api.bad(400, "POST", "/work", {"kind": "rewrap"}, who="operator")
