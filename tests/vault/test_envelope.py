"""What was sealed for one place opens in that place only."""

import hmac
import random
from collections.abc import Iterator
from dataclasses import replace

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from hypothesis import given, settings
from hypothesis import strategies as st

from ownkey.domain.credentials import AcceptedCredential, accept_credential
from ownkey.domain.secret import Secret
from ownkey.domain.workspace import Sealed, WrappedDek
from ownkey.vault.envelope import Reason, Undecryptable, Vault
from ownkey.vault.keyset import Keyset, generate_keyset_text, parse_keyset

KEY = "sk-or-v1-" + "0123456789abcdef" * 4
ORIGIN = "https://openrouter.ai/api/v1"
PLACE = ("openrouter", "cred_1", 1, ORIGIN)


def accepted(text: str = KEY) -> AcceptedCredential:
    return accept_credential("openrouter", text)


def new_keyset() -> Keyset:
    return parse_keyset(generate_keyset_text())


@pytest.fixture
def keyset() -> Keyset:
    return new_keyset()


@pytest.fixture
def vault(keyset: Keyset) -> Vault:
    return Vault(keyset, "inst_1")


def test_a_sealed_credential_opens_in_its_place(vault: Vault) -> None:
    """The round trip, from a cold and from a warm data key."""
    dek = vault.new_dek("ws_1")
    sealed = vault.seal("ws_1", dek, *PLACE, accepted())

    cold = vault.open("ws_1", dek, *PLACE, sealed)
    warm = vault.open("ws_1", dek, *PLACE, sealed)

    assert cold == Secret(KEY)
    assert warm == Secret(KEY)


def test_sizes_are_those_of_the_contract(vault: Vault) -> None:
    """32-byte salt and commitment, 96-bit nonces, 16-byte tags, an 8-byte fingerprint."""
    dek = vault.new_dek("ws_1")
    sealed = vault.seal("ws_1", dek, *PLACE, accepted())

    sizes = [len(part) for part in (sealed.salt, sealed.commitment, sealed.nonce, sealed.ciphertext)]

    assert sizes == [32, 32, 12, len(KEY) + 16]
    assert sealed.format == 1
    assert [len(dek.nonce), len(dek.ciphertext)] == [12, 32 + 16]
    assert len(vault.fingerprint("ws_1", dek, accepted())) == 8


@settings(max_examples=200, deadline=None)
@given(text=st.text(alphabet=[chr(c) for c in range(0x23, 0x7F) if chr(c) not in "'`,;="], min_size=1, max_size=512))
def test_every_accepted_credential_comes_back_unchanged(text: str) -> None:
    """Whatever the form takes, the vault gives back."""
    vault = Vault(new_keyset(), "inst_1")
    dek = vault.new_dek("ws_1")
    candidate = accept_credential("acme", "x" + text)

    sealed = vault.seal("ws_1", dek, *PLACE, candidate)

    assert vault.open("ws_1", dek, *PLACE, sealed) == candidate.secret


def length_prefixed(*parts: str) -> bytes:
    return b"".join(len(part.encode()).to_bytes(4, "big") + part.encode() for part in parts)


def hkdf(key: bytes, salt: bytes, info: bytes) -> bytes:
    """RFC 5869 with SHA-256, 64 bytes, from HMAC alone."""
    extracted = hmac.digest(salt, key, "sha256")
    first = hmac.digest(extracted, info + b"\x01", "sha256")
    return first + hmac.digest(extracted, first + info + b"\x02", "sha256")


def test_a_row_can_be_opened_from_the_contract_alone() -> None:
    """Written a second time from the specification: rows of today open in ten years, every part is bound."""
    kek = bytes(range(32))
    vault = Vault(Keyset({"k1": kek}), "inst_1")
    dek = vault.new_dek("wörk")
    sealed = vault.seal("wörk", dek, *PLACE, accepted())
    secret = vault.seal_secret("wörk", dek, "totp:op_1", b"seed")

    data_key = AESGCM(kek).decrypt(
        dek.nonce, dek.ciphertext, length_prefixed("ownkey dek 1", "inst_1", "wörk", dek.dek_id)
    )
    for row, context, plaintext in (
        (
            sealed,
            length_prefixed("ownkey credential 1", "inst_1", "wörk", "openrouter", "cred_1", "1", ORIGIN),
            KEY.encode(),
        ),
        (secret, length_prefixed("ownkey secret 1", "inst_1", "wörk", "totp:op_1"), b"seed"),
    ):
        both = hkdf(data_key, row.salt, context)
        assert row.commitment == both[32:]
        assert AESGCM(both[:32]).decrypt(row.nonce, row.ciphertext, context) == plaintext


def test_sealing_twice_shares_nothing(vault: Vault) -> None:
    """Fresh salt, nonce and key each time: equal credentials cannot be told from their rows."""
    dek = vault.new_dek("ws_1")
    one = vault.seal("ws_1", dek, *PLACE, accepted())
    two = vault.seal("ws_1", dek, *PLACE, accepted())

    for part in ("salt", "commitment", "nonce", "ciphertext"):
        assert getattr(one, part) != getattr(two, part)


# A thousand ways to be wrong ----------------------------------------------------------------------------------

HOMES = [
    (workspace, provider, credential, version, origin)
    for workspace in ("ws_1", "ws_2")
    for provider in ("openrouter", "openai", "google")
    for credential in ("cred_1", "cred_2")
    for version in (1, 2)
    for origin in (ORIGIN, "https://openrouter.ai.evil.test/api/v1")
]


def test_a_row_moved_to_any_other_place_stays_closed(keyset: Keyset) -> None:
    """Every ordered pair of 48 places: workspace, provider, id, version and origin, alone and together."""
    vault = Vault(keyset, "inst_1")
    deks = {workspace: vault.new_dek(workspace) for workspace in ("ws_1", "ws_2")}
    rows = {home: vault.seal(home[0], deks[home[0]], *home[1:], accepted()) for home in HOMES}
    closed = 0

    for here, sealed in rows.items():
        for there in HOMES:
            if there == here:
                assert vault.open(there[0], deks[there[0]], *there[1:], sealed) == Secret(KEY)
                continue
            with pytest.raises(Undecryptable) as wrong:
                vault.open(there[0], deks[there[0]], *there[1:], sealed)
            assert wrong.value.reason is Reason.COMMITMENT
            closed += 1

    assert closed == 48 * 47


def test_a_row_moved_with_its_data_key_stays_closed(vault: Vault) -> None:
    """Copying the wrapped data key along with the row does not help: it is bound to its workspace too."""
    dek = vault.new_dek("ws_1")
    sealed = vault.seal("ws_1", dek, *PLACE, accepted())
    assert vault.open("ws_1", dek, *PLACE, sealed) == Secret(KEY)  # The data key is in the cache from here on.

    with pytest.raises(Undecryptable) as wrong:
        vault.open("ws_2", dek, *PLACE, sealed)

    assert wrong.value.reason is Reason.DEK


def test_another_instance_with_the_same_keyset_opens_nothing(keyset: Keyset) -> None:
    """A row restored into another deployment stays closed, and so does the data key."""
    dek = Vault(keyset, "inst_1").new_dek("ws_1")
    sealed = Vault(keyset, "inst_1").seal("ws_1", dek, *PLACE, accepted())
    other = Vault(keyset, "inst_2")

    with pytest.raises(Undecryptable) as wrong:
        other.open("ws_1", dek, *PLACE, sealed)
    assert wrong.value.reason is Reason.DEK

    with pytest.raises(Undecryptable):
        other.open("ws_1", other.new_dek("ws_1"), *PLACE, sealed)


def test_another_data_key_of_the_same_workspace_opens_nothing(vault: Vault) -> None:
    """The commitment tells one data key from another before anything is decrypted."""
    sealed = vault.seal("ws_1", vault.new_dek("ws_1"), *PLACE, accepted())

    with pytest.raises(Undecryptable) as wrong:
        vault.open("ws_1", vault.new_dek("ws_1"), *PLACE, sealed)

    assert wrong.value.reason is Reason.COMMITMENT


def test_parts_of_the_context_cannot_run_into_each_other(vault: Vault) -> None:
    """Length prefixes: moving a character from one part to the next makes another context."""
    dek = vault.new_dek("ws_1")
    sealed = vault.seal("ws_1", dek, "open", "routercred", 1, ORIGIN, accepted())

    for provider, credential in (("openrouter", "cred"), ("", "openroutercred"), ("openroutercred", "")):
        with pytest.raises(Undecryptable):
            vault.open("ws_1", dek, provider, credential, 1, ORIGIN, sealed)
    with pytest.raises(Undecryptable):
        vault.open("ws_1", dek, "open", "routercred\ud800", 1, ORIGIN, sealed)


def flips(value: bytes) -> Iterator[bytes]:
    for index in range(len(value)):
        for bit in range(8):
            yield value[:index] + bytes([value[index] ^ (1 << bit)]) + value[index + 1 :]


def test_every_flipped_bit_of_a_sealed_row_closes_it(vault: Vault) -> None:
    """All bits of salt, commitment, nonce and ciphertext: more than a thousand flips, none opens."""
    dek = vault.new_dek("ws_1")
    sealed = vault.seal("ws_1", dek, *PLACE, accepted())
    closed = 0

    for part in ("salt", "commitment", "nonce", "ciphertext"):
        for changed in flips(getattr(sealed, part)):
            with pytest.raises(Undecryptable):
                vault.open("ws_1", dek, *PLACE, replace(sealed, **{part: changed}))  # type: ignore[arg-type]
            closed += 1

    assert closed == 8 * (32 + 32 + 12 + len(KEY) + 16)
    assert closed > 1_000


def test_every_flipped_bit_of_a_wrapped_data_key_closes_it(vault: Vault) -> None:
    """All bits of its nonce and ciphertext, and its names, while the true one is in the cache."""
    dek = vault.new_dek("ws_1")
    sealed = vault.seal("ws_1", dek, *PLACE, accepted())
    wrong = [replace(dek, nonce=changed) for changed in flips(dek.nonce)]
    wrong += [replace(dek, ciphertext=changed) for changed in flips(dek.ciphertext)]
    wrong += [replace(dek, dek_id="dek_other"), replace(dek, nonce=b""), replace(dek, ciphertext=b"")]

    for changed in wrong:
        with pytest.raises(Undecryptable) as closed:
            vault.open("ws_1", changed, *PLACE, sealed)
        assert closed.value.reason is Reason.DEK

    assert len(wrong) == 8 * (12 + 48) + 3


SHARED = Vault(new_keyset(), "inst_1")
SHARED_DEK = SHARED.new_dek("ws_1")


@settings(max_examples=300, deadline=None)
@given(
    salt=st.binary(max_size=40),
    commitment=st.binary(max_size=40),
    nonce=st.binary(max_size=200),
    ciphertext=st.binary(max_size=120),
    number=st.integers(),
)
def test_any_bytes_at_all_fail_closed(
    salt: bytes, commitment: bytes, nonce: bytes, ciphertext: bytes, number: int
) -> None:
    """A row of any content raises Undecryptable, never anything else."""
    with pytest.raises(Undecryptable):
        SHARED.open("ws_1", SHARED_DEK, *PLACE, Sealed(salt, commitment, nonce, ciphertext, number))


def test_parts_of_two_rows_do_not_mix(vault: Vault) -> None:
    """Every mixture of two valid rows of one place stays closed, unless it is one of the two."""
    dek = vault.new_dek("ws_1")
    rows = [vault.seal("ws_1", dek, *PLACE, accepted(KEY[:-1] + end)) for end in "ab"]
    randomness = random.Random(7)

    for _ in range(200):
        parts = {part: randomness.choice(rows) for part in ("salt", "commitment", "nonce", "ciphertext")}
        mixed = replace(rows[0], **{part: getattr(row, part) for part, row in parts.items()})
        if mixed in rows:
            continue
        with pytest.raises(Undecryptable):
            vault.open("ws_1", dek, *PLACE, mixed)


def test_an_unknown_format_is_not_guessed(vault: Vault) -> None:
    """A row of a later version is left alone."""
    dek = vault.new_dek("ws_1")
    sealed = vault.seal("ws_1", dek, *PLACE, accepted())

    with pytest.raises(Undecryptable) as wrong:
        vault.open("ws_1", dek, *PLACE, replace(sealed, format=2))

    assert wrong.value.reason is Reason.UNKNOWN_FORMAT


def test_a_missing_master_key_says_so(vault: Vault) -> None:
    """Without its master key a data key cannot be opened, sealed with or rewrapped."""
    dek = vault.new_dek("ws_1")
    sealed = vault.seal("ws_1", dek, *PLACE, accepted())
    other = Vault(new_keyset(), "inst_1")

    for attempt in (
        lambda: other.open("ws_1", dek, *PLACE, sealed),
        lambda: other.seal("ws_1", dek, *PLACE, accepted()),
        lambda: other.rewrap("ws_1", dek),
        lambda: other.fingerprint("ws_1", dek, accepted()),
    ):
        with pytest.raises(Undecryptable) as wrong:
            attempt()
        assert wrong.value.reason is Reason.KEK_MISSING


def test_a_master_key_of_the_same_name_is_not_trusted() -> None:
    """Another key under a known name fails at the tag."""
    one, two = (Vault(Keyset({"k1": bytes([n]) * 31 + b"!"}), "inst_1") for n in (1, 2))
    dek = one.new_dek("ws_1")
    sealed = one.seal("ws_1", dek, *PLACE, accepted())

    with pytest.raises(Undecryptable) as wrong:
        two.open("ws_1", dek, *PLACE, sealed)

    assert wrong.value.reason is Reason.DEK


# Rotation -----------------------------------------------------------------------------------------------------


def test_rewrapping_moves_the_data_key_and_no_credential() -> None:
    """Add, promote, rewrap, retire: what was sealed before opens at every step, and after the old key is gone."""
    old, new = generate_keyset_text(), generate_keyset_text()
    before = Vault(parse_keyset(old), "inst_1")
    during = Vault(parse_keyset(new + old), "inst_1")
    after = Vault(parse_keyset(new), "inst_1")
    dek = before.new_dek("ws_1")
    sealed = before.seal("ws_1", dek, *PLACE, accepted())

    assert during.open("ws_1", dek, *PLACE, sealed) == Secret(KEY)
    rewrapped = during.rewrap("ws_1", dek)

    assert (dek.dek_id, parse_keyset(new).primary_id) == (rewrapped.dek_id, rewrapped.kek_id)
    assert during.rewrap("ws_1", rewrapped) is rewrapped
    assert after.open("ws_1", rewrapped, *PLACE, sealed) == Secret(KEY)
    assert after.fingerprint("ws_1", rewrapped, accepted()) == before.fingerprint("ws_1", dek, accepted())
    with pytest.raises(Undecryptable):
        after.open("ws_1", dek, *PLACE, sealed)


def test_rewrapping_for_another_workspace_is_refused() -> None:
    """A data key is rewrapped for its own workspace only."""
    old, new = generate_keyset_text(), generate_keyset_text()
    dek = Vault(parse_keyset(old), "inst_1").new_dek("ws_1")

    with pytest.raises(Undecryptable):
        Vault(parse_keyset(new + old), "inst_1").rewrap("ws_2", dek)


def test_forgotten_data_keys_are_unwrapped_again(vault: Vault) -> None:
    """Dropping the cache costs an unwrapping, no access."""
    dek = vault.new_dek("ws_1")
    sealed = vault.seal("ws_1", dek, *PLACE, accepted())

    vault.forget_deks()

    assert vault.open("ws_1", dek, *PLACE, sealed) == Secret(KEY)


def test_the_cache_of_data_keys_is_bounded(keyset: Keyset) -> None:
    """More workspaces than places: every one still opens."""
    vault = Vault(keyset, "inst_1", cached_deks=2)
    deks = {f"ws_{n}": vault.new_dek(f"ws_{n}") for n in range(5)}
    rows = {workspace: vault.seal(workspace, dek, *PLACE, accepted()) for workspace, dek in deks.items()}

    for workspace, sealed in rows.items():
        assert vault.open(workspace, deks[workspace], *PLACE, sealed) == Secret(KEY)


# Fingerprints and other secrets -------------------------------------------------------------------------------


def test_a_fingerprint_finds_duplicates_inside_a_workspace_only(vault: Vault) -> None:
    """Equal credentials agree within a workspace; across workspaces nothing can be compared."""
    one, two = vault.new_dek("ws_1"), vault.new_dek("ws_2")

    mine = vault.fingerprint("ws_1", one, accepted())

    assert mine == vault.fingerprint("ws_1", one, accepted(f'"{KEY}" '))
    assert mine != vault.fingerprint("ws_1", one, accepted(KEY[:-1]))
    assert mine != vault.fingerprint("ws_2", two, accepted())


def test_another_secret_opens_for_its_purpose_only(vault: Vault) -> None:
    """Signing secrets and seeds use the same envelope, bound to workspace and purpose."""
    dek = vault.new_dek("ws_1")
    sealed = vault.seal_secret("ws_1", dek, "totp:op_1", b"\x00\xffseed")

    assert vault.open_secret("ws_1", dek, "totp:op_1", sealed) == b"\x00\xffseed"
    for workspace, purpose in (("ws_1", "totp:op_2"), ("ws_2", "totp:op_1")):
        with pytest.raises(Undecryptable):
            vault.open_secret(workspace, dek, purpose, sealed)


def test_a_candidate_can_wait_sealed(vault: Vault) -> None:
    """A tested candidate comes back as the bytes that were typed."""
    dek = vault.new_dek("ws_1")
    sealed = vault.seal_secret("ws_1", dek, "candidate:sess_1:openrouter", accepted())

    assert vault.open_secret("ws_1", dek, "candidate:sess_1:openrouter", sealed) == KEY.encode()


def test_a_credential_does_not_open_as_another_secret(vault: Vault) -> None:
    """The one method that returns bytes cannot be pointed at a credential's row."""
    dek = vault.new_dek("ws_1")
    sealed = vault.seal("ws_1", dek, *PLACE, accepted())

    for purpose in ("", "openrouter", "openroutercred_11" + ORIGIN):
        with pytest.raises(Undecryptable):
            vault.open_secret("ws_1", dek, purpose, sealed)


def test_a_wrapped_data_key_is_a_plain_value(vault: Vault) -> None:
    """The store writes four columns and reads them back."""
    dek = vault.new_dek("ws_1")
    sealed = vault.seal("ws_1", dek, *PLACE, accepted())

    read_back = WrappedDek(dek.dek_id, dek.kek_id, bytes(dek.nonce), bytes(dek.ciphertext))

    assert read_back == dek
    assert vault.open("ws_1", read_back, *PLACE, sealed) == Secret(KEY)
