"""No ordinary way of looking at a value shows a key: printing, serialising, copying, or a traceback with locals."""

import ast
import base64
import copy
import dataclasses
import json
import logging
import pickle
import traceback
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

import ownkey
from ownkey.domain.credentials import AcceptedCredential, CredentialFormError, accept_credential
from ownkey.domain.scrub import CredentialTail
from ownkey.domain.secret import Secret
from ownkey.vault.envelope import Undecryptable, Vault
from ownkey.vault.keyset import KeysetError, load_keyset, parse_keyset

CANARY = "sk-or-v1-c4n4ry7" + "e5" * 24
MASTER = bytes(range(100, 132))
KEYSET_TEXT = f"k1:{base64.b64encode(MASTER).decode()}"
PLACE = ("openrouter", "cred_1", 1, "https://openrouter.ai/api/v1")


def forms(secret: bytes) -> set[str]:
    """How bytes turn up in texts: raw, escaped, base64, hexadecimal."""
    return {secret.decode("latin-1"), repr(secret)[2:-1], base64.b64encode(secret).decode(), secret.hex()}


NEEDLES = forms(CANARY.encode()) | forms(MASTER) | {CANARY[:12], CANARY[-12:]}


def assert_shows_nothing(text: str) -> None:
    assert [needle for needle in NEEDLES if needle in text] == []


def values() -> dict[str, object]:
    vault = Vault(parse_keyset(KEYSET_TEXT), "inst_1")
    dek = vault.new_dek("ws_1")
    accepted = accept_credential("openrouter", CANARY)
    sealed = vault.seal("ws_1", dek, *PLACE, accepted)
    tail = CredentialTail(CANARY.encode())
    tail.feed(CANARY[:20].encode())
    return {
        "Secret": vault.open("ws_1", dek, *PLACE, sealed),
        "AcceptedCredential": accepted,
        "CredentialTail": tail,
        "Vault": vault,
        "Keyset": parse_keyset(KEYSET_TEXT),
        "unwrapped data key": vault._unwrapped("ws_1", dek),
    }


VALUES = values()
LIVE = pytest.mark.parametrize("value", VALUES.values(), ids=VALUES.keys())


@LIVE
def test_printing_shows_nothing(value: object) -> None:
    """repr, str, format, % and a log line, alone and inside other values."""
    logged = logging.LogRecord("x", logging.INFO, "x", 1, "%s %r", (value, value), None).getMessage()

    for text in (repr(value), str(value), f"{value}", f"{value!r:>400}", "%s %r" % (value, [value]), logged):  # noqa: UP031
        assert_shows_nothing(text)
    assert_shows_nothing(repr({"credential": value, "more": (value, [value])}))


@LIVE
@pytest.mark.parametrize(
    "serialise",
    [pickle.dumps, copy.copy, copy.deepcopy, json.dumps, msgspec.json.encode, msgspec.to_builtins, vars],
    ids=lambda serialise: f"{serialise.__module__}.{serialise.__name__}",
)
def test_serialising_is_refused(value: object, serialise: Callable[[object], object]) -> None:
    """No pickle, no copy, no JSON, no dictionary of attributes; and the refusal shows nothing either."""
    with pytest.raises(TypeError) as refused:
        serialise(value)

    assert_shows_nothing(str(refused.value))


def test_what_is_stored_shows_nothing() -> None:
    """The stored values may be printed and serialised by anybody: they are ciphertext."""
    vault = Vault(parse_keyset(KEYSET_TEXT), "inst_1")
    dek = vault.new_dek("ws_1")
    sealed = vault.seal("ws_1", dek, *PLACE, accept_credential("openrouter", CANARY))

    for stored in (dek, sealed):
        assert_shows_nothing(repr(stored))
        assert_shows_nothing(repr(dataclasses.asdict(stored)))
        assert_shows_nothing(msgspec.json.encode(stored).decode())
        assert_shows_nothing(pickle.dumps(stored).decode("latin-1"))


def traceback_of(error: BaseException, *, skip_frames: int = 0) -> str:
    """The worst traceback a tool prints: with locals, causes and contexts. The test's own frames are left out."""
    shown = traceback.TracebackException.from_exception(error, capture_locals=True)
    del shown.stack[:skip_frames]
    return "".join(shown.format()) + repr(error.args) + repr(vars(error))


def test_an_undecryptable_row_shows_nothing() -> None:
    """Not the credential, and not the keys that were derived on the way, even with locals."""
    vault = Vault(parse_keyset(KEYSET_TEXT), "inst_1")
    dek = vault.new_dek("ws_1")
    sealed = vault.seal("ws_1", dek, *PLACE, accept_credential("openrouter", CANARY))
    changed = dataclasses.replace(sealed, ciphertext=bytes(len(sealed.ciphertext)))
    seen: set[str] = set()

    attempts: list[Callable[[], Secret]] = [
        lambda: vault.open("ws_1", dek, *PLACE, changed),
        lambda: vault.open("ws_2", dek, *PLACE, sealed),
        lambda: vault.open("ws_1", dek, "openai", *PLACE[1:], sealed),
        lambda: vault.open("ws_1", dataclasses.replace(dek, kek_id="k9"), *PLACE, sealed),
    ]
    for attempt in attempts:
        with pytest.raises(Undecryptable) as wrong:
            attempt()
        seen.add(wrong.value.reason)
        assert_shows_nothing(traceback_of(wrong.value))
        assert wrong.value.__context__ is None

    assert seen == {"ciphertext", "dek", "commitment", "kek_missing"}


@pytest.mark.parametrize(
    "text",
    [f"{CANARY} {CANARY}", f"{CANARY}é", f"sk-admin-{CANARY}", CANARY * 20, CANARY.replace("sk-or-v1", "sk-ant")],
)
def test_a_refused_form_shows_nothing(text: str) -> None:
    """No error of the form repeats what was typed: not in its text, its attributes, its frames or its causes."""
    with pytest.raises(CredentialFormError) as refused:
        accept_credential("openrouter", text)

    assert_shows_nothing(traceback_of(refused.value, skip_frames=1))
    assert refused.value.__context__ is None


@pytest.mark.parametrize(
    "text", [KEYSET_TEXT.replace(":", " "), KEYSET_TEXT + "A", KEYSET_TEXT + "\n" + KEYSET_TEXT, KEYSET_TEXT + "é"]
)
def test_a_refused_keyset_shows_nothing(text: str) -> None:
    """The same for the master key, read as a value."""
    with pytest.raises(KeysetError) as refused:
        load_keyset({"OWNKEY_MASTER_KEY": text})
    assert_shows_nothing(traceback_of(refused.value, skip_frames=1))

    with pytest.raises(KeysetError) as refused:
        parse_keyset(text)
    assert_shows_nothing(traceback_of(refused.value, skip_frames=1))


def test_an_accepted_credential_tests_as_a_secret() -> None:
    """The candidate that was typed travels like any stored one."""
    accepted = accept_credential("openrouter", f" Bearer {CANARY}\n")

    assert isinstance(accepted, AcceptedCredential)
    assert accepted.secret == Secret(CANARY)
    assert accepted.hint == f"sk-or-…{CANARY[-4:]}"


# Homes --------------------------------------------------------------------------------------------------------

SOURCES = Path(ownkey.__file__).parent


def modules_that_use(attribute: str) -> set[str]:
    """The modules that name an attribute, called or not: `secret.reveal` and `getattr(secret, "reveal")`."""
    found: set[str] = set()
    for path in SOURCES.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            named = isinstance(node, ast.Attribute) and node.attr == attribute
            quoted = isinstance(node, ast.Constant) and node.value == attribute
            if named or quoted:
                found.add(path.relative_to(SOURCES).as_posix())
    return found


def test_reveal_has_one_home() -> None:
    """A credential becomes text in the module that sends it, and nowhere else."""
    assert modules_that_use("reveal") <= {"providers/upstream.py"}


def test_what_was_typed_becomes_bytes_in_the_vault_only() -> None:
    """The other way to plaintext, for sealing, has one home as well."""
    assert modules_that_use("bytes_to_seal") == {"vault/envelope.py"}


def test_a_sealed_row_holds_no_plaintext() -> None:
    """The bytes that reach the store contain no part of the credential."""
    vault = Vault(parse_keyset(KEYSET_TEXT), "inst_1")
    sealed = vault.seal("ws_1", vault.new_dek("ws_1"), *PLACE, accept_credential("openrouter", CANARY))

    assert_shows_nothing((sealed.salt + sealed.commitment + sealed.nonce + sealed.ciphertext).decode("latin-1"))
