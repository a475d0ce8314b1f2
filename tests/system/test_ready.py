"""When a server says that it is ready, and when it takes that back."""

import httpx
from tests.deployment import Deployment


def test_a_server_whose_keys_open_nothing_is_not_ready(desk: Deployment) -> None:
    """Behind a balancer, a process with a lost or damaged keyset must get no calls; it is back once that is mended."""
    path = desk.home / "data" / "audit.key"
    whole = path.read_bytes()
    path.write_bytes(whole.replace(b'"ciphertext":"', b'"ciphertext":"AAAA', 1))

    damaged = httpx.get(desk.url + "/readyz", trust_env=False)
    path.write_bytes(whole)
    mended = httpx.get(desk.url + "/readyz", trust_env=False)

    assert (damaged.status_code, mended.status_code) == (503, 200)
    assert damaged.json()["status"] == "the master keys do not open the audit key beside the database"
