"""A process's master keys change while it works: whole, refused when unusable, and never in the way of a call."""

import threading
from pathlib import Path

import pytest

from ownkey.domain.errors import StoreError
from ownkey.domain.master_key import UNREADABLE
from ownkey.domain.workspace import WrappedDek
from ownkey.vault.audit_key import AuditKeyFile
from ownkey.vault.envelope import Undecryptable, Vault
from ownkey.vault.keyring import Keyring
from ownkey.vault.keyset import Keyset, KeysetError, generate_keyset_text, read_keyset_file
from ownkey.vault.keyset_file import KeysetFile


def opened(folder: Path) -> tuple[Keyring, Vault, KeysetFile, AuditKeyFile]:
    path = folder / "master.key"
    path.write_text(generate_keyset_text())
    path.chmod(0o600)
    keyset = read_keyset_file(path)
    vault, audit = Vault(keyset, "inst_1"), AuditKeyFile(folder / "audit.key")
    audit.make(keyset)
    return Keyring(keyset, vault, path, audit), vault, KeysetFile(path), audit


def test_a_fingerprint_tells_keys_apart_and_shows_nothing() -> None:
    """The same bytes give the same 16 digits under any name; other bytes give others; none of them is in the key."""
    key = bytes(range(32))
    one, same, other = Keyset({"a": key}), Keyset({"b": key}), Keyset({"a": bytes(range(1, 33))})

    assert one.fingerprints["a"] == same.fingerprints["b"] != other.fingerprints["a"]
    assert len(one.fingerprints["a"]) == 16
    assert bytes.fromhex(one.fingerprints["a"]) not in key
    with pytest.raises(KeysetError, match="right name"):
        one.require_same(other.fingerprints)


def test_a_changed_file_is_noticed_once(tmp_path: Path) -> None:
    """A stat is enough to know; what is read the same as before changes nothing."""
    ring, _, file, _ = opened(tmp_path)
    first = (ring.has_changed(), ring.reload({}, ()), ring.has_changed())
    new = file.add()
    second = (ring.has_changed(), ring.reload({}, ()), ring.has_changed(), ring.reload({}, ()))
    file.path.unlink()
    third = (ring.has_changed(), ring.reload({}, ()), ring.has_changed())

    assert first == (True, False, False)
    assert second == (True, True, False, False)
    assert third == (True, False, False)
    assert "cannot be opened" in ring.problem
    assert [key.kek_id for key in ring.keys][1] == new


def test_a_retired_key_may_not_come_first(tmp_path: Path) -> None:
    """Whatever was wrapped with it would hang on a key that is about to be destroyed."""
    ring, vault, file, _ = opened(tmp_path)
    old, new = ring.keys[0].kek_id, file.add()
    file.promote(new)
    assert ring.reload({}, {old})
    file.promote(old)
    assert not ring.reload({}, {old})

    assert "was retired" in ring.problem
    assert vault.primary_kek_id == new


def test_the_keyset_from_the_environment_stays(tmp_path: Path) -> None:
    """There is nothing to read again; the process has to be restarted."""
    ring, _, file, _ = opened(tmp_path)
    fixed = Keyring(file.read(), Vault(file.read(), "inst_1"), None, None)
    file.add()

    assert not fixed.has_changed()
    assert not fixed.reload({}, ())
    assert (fixed.source, fixed.problem, fixed.audit_kek_id()) == ("", "", "")
    assert ring.source == str(file.path)


def test_a_wrapped_key_always_names_the_key_that_wrapped_it(tmp_path: Path) -> None:
    """Two threads: one swaps the keyset a thousand times, the other wraps; each wrapped key opens, under either."""
    ring, vault, file, _ = opened(tmp_path)
    file.add()
    ring.reload({}, ())
    both = file.read()
    one, two = both, swapped(file)
    stop, made = threading.Event(), list[WrappedDek]()

    def swap() -> None:
        while not stop.is_set():
            vault.take(one)
            vault.take(two)

    thread = threading.Thread(target=swap)
    thread.start()
    for _ in range(2_000):
        made.append(vault.new_dek("ws_1"))
    stop.set()
    thread.join()

    assert {dek.kek_id for dek in made} <= set(both.kek_ids)
    assert all(vault.opens_dek("ws_1", dek) for dek in made)


def swapped(file: KeysetFile) -> Keyset:
    file.promote(file.read().kek_ids[1])
    return file.read()


def test_a_key_that_left_opens_until_it_is_forgotten(tmp_path: Path) -> None:
    """And never wraps: what comes new is under the first key."""
    ring, vault, file, _ = opened(tmp_path)
    old = ring.keys[0].kek_id
    dek = vault.new_dek("ws_1")
    new = file.add()
    file.promote(new)
    ring.reload({}, ())
    moved = ring.rewrap([("ws_1", dek), ("ws_2", dek)])
    file.retire(old)
    ring.reload({}, ())
    still = vault.opens_dek("ws_1", dek)
    ring.forget_left()

    assert still
    assert moved[0] is not None
    assert moved[1] is None, "another workspace's data key does not open"
    assert (moved[0].kek_id, moved[0].dek_id, vault.opens_dek("ws_1", moved[0])) == (new, dek.dek_id, True)
    assert not vault.opens_dek("ws_1", dek)
    with pytest.raises(Undecryptable):
        vault.rewrap("ws_1", dek)


def test_the_audit_key_moves_and_stays_the_same(tmp_path: Path) -> None:
    """The chains' key is the same before and after; only what wraps it has changed."""
    ring, _, file, audit = opened(tmp_path)
    before, old = audit.open(file.read()), audit.kek_id()
    new = file.add()
    file.promote(new)
    ring.reload({}, ())
    moved = [ring.rewrap_audit_key(), ring.rewrap_audit_key()]
    file.retire(old)

    assert moved == [True, False]
    assert (audit.kek_id(), audit.open(file.read())) == (new, before)
    assert audit.path.stat().st_mode & 0o077 == 0


def test_a_damaged_audit_key_is_told_and_kept(tmp_path: Path) -> None:
    """Nothing is written over it."""
    ring, _, file, audit = opened(tmp_path)
    audit.path.write_bytes(b"{}")
    with pytest.raises(StoreError, match="damaged"):
        audit.open(file.read())

    assert (ring.rewrap_audit_key(), ring.opens_audit_key(), ring.audit_kek_id()) == (None, False, UNREADABLE)
    assert audit.path.read_bytes() == b"{}"
