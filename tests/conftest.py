"""Options of the whole test suite, and what makes it fast without making it less."""

import os
import tempfile
from datetime import UTC, datetime, timedelta
from pathlib import Path

import certifi
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

LONGEST = (
    "tests/system/", "tests/browser/", "tests/cli/", "tests/providers/test_streams_split_recorded.py",
    "tests/api/test_manage_authorisation.py",
)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--crash-rounds", type=int, default=12, help="how often the crash test kills the server")


def pytest_configure(config: pytest.Config) -> None:
    """No test speaks to the world, and every HTTP client reads the world's list of authorities: 15 ms for each of
    thousands. Here the list has one name, that of nobody."""
    folder = tempfile.TemporaryDirectory(prefix="ownkey-authorities-")
    config.add_cleanup(folder.cleanup)
    path = Path(folder.name) / "one.pem"
    path.write_bytes(_an_authority())
    os.environ["SSL_CERT_FILE"] = str(path)
    certifi.where = lambda: str(path)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What takes longest first, by modules that a worker plays as a whole: none of them is the last one running. Those
    that wait for servers leave the processor to the others (`make test` has one worker more than cores)."""
    rank = {name: at for at, name in enumerate(LONGEST)}
    items.sort(key=lambda item: next((rank[name] for name in LONGEST if item.nodeid.startswith(name)), len(LONGEST)))


def _an_authority() -> bytes:
    key, now = ec.generate_private_key(ec.SECP256R1()), datetime.now(UTC)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Nobody")])
    return (
        x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
        .serial_number(x509.random_serial_number()).not_valid_before(now).not_valid_after(now + timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
    )
