"""A sealed file opens whole and unchanged with its own master key; everything else is told and stays closed."""

import io
import os
from collections.abc import Callable

import msgspec
import pytest

from ownkey.domain.backups import BackupFacts, BackupTrouble
from ownkey.vault.envelope import Reason, Undecryptable, Vault
from ownkey.vault.keyset import Keyset
from ownkey.vault.sealed_file import CHUNK, MAGIC, FileSealer, open_file, read_facts

KEYS = Keyset({"k_one": os.urandom(32)})
FACTS = BackupFacts("inst_a", 1_795_000_000_000, "0.1.0", "0035", "k_one", 12)
SEALED = CHUNK + 16


def seal(content: bytes, facts: BackupFacts = FACTS, keys: Keyset = KEYS, piece: int = 10_000) -> bytes:
    out = io.BytesIO()
    parts = (content[at:at + piece] for at in range(0, len(content), piece))
    FileSealer(Vault(keys, facts.instance_id)).seal(facts, parts, out)
    return out.getvalue()


def unseal(data: bytes, keys: Keyset = KEYS) -> bytes:
    _, parts = open_file(keys, io.BytesIO(data))
    return b"".join(parts)


def split(data: bytes) -> tuple[bytes, list[bytes]]:
    """(head, chunks)."""
    at = len(MAGIC) + 4 + int.from_bytes(data[len(MAGIC):len(MAGIC) + 4], "big") + 32
    body = data[at:]
    return data[:at], [body[n:n + SEALED] for n in range(0, len(body), SEALED)]


@pytest.mark.parametrize("size", [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 3 * CHUNK, 3 * CHUNK + 7])
def test_what_was_sealed_opens(size: int) -> None:
    """At every edge of a chunk, and in whatever pieces it came."""
    content = os.urandom(size)
    data = seal(content)

    assert unseal(data) == content
    assert read_facts(io.BytesIO(data)) == FACTS
    assert size < 64 or content[:64] not in data


CONTENT = os.urandom(3 * CHUNK + 1_000)
DATA = seal(CONTENT)
OTHER = seal(CONTENT)
DAMAGES: dict[str, Callable[[bytes, list[bytes]], bytes]] = {
    "its last byte is missing": lambda head, chunks: head + b"".join(chunks)[:-1],
    "its last chunk is missing": lambda head, chunks: head + b"".join(chunks[:-1]),
    "only its first chunk is there": lambda head, chunks: head + chunks[0],
    "no chunk is there": lambda head, chunks: head,
    "it ends in its header": lambda head, chunks: head[:60],
    "it ends in its commitment": lambda head, chunks: head[:-5],
    "a chunk is missing in the middle": lambda head, chunks: head + b"".join([chunks[0], *chunks[2:]]),
    "two chunks are swapped": lambda head, chunks: head + b"".join([chunks[1], chunks[0], *chunks[2:]]),
    "a chunk is repeated": lambda head, chunks: head + b"".join([chunks[0], *chunks]),
    "something is appended": lambda head, chunks: head + b"".join(chunks) + b"x",
    "a whole chunk is appended": lambda head, chunks: head + b"".join([*chunks, os.urandom(SEALED)]),
    "a chunk is another file's": lambda head, chunks: head + b"".join([chunks[0], split(OTHER)[1][1], *chunks[2:]]),
    "the head is another file's": lambda head, chunks: split(OTHER)[0] + b"".join(chunks),
}


@pytest.mark.parametrize("what", DAMAGES)
def test_a_damaged_file_is_refused(what: str) -> None:
    """S8: cut, reordered, swapped, repeated, appended to: never opened as if it were whole."""
    with pytest.raises(BackupTrouble) as told:
        unseal(DAMAGES[what](*split(DATA)))

    assert told.value.code == "damaged"
    assert told.value.fix


def test_no_bit_may_change() -> None:
    """S8: in magic, length, header, wrapped key, salt, commitment and chunks, wherever it is."""
    head = len(split(DATA)[0])
    places = [*range(head), *range(head, len(DATA), 40_961), len(DATA) - 1]
    opened = []
    for at in places:
        changed = bytearray(DATA)
        changed[at] ^= 1 << at % 8
        try:
            unseal(bytes(changed))
        except (BackupTrouble, Undecryptable):
            continue
        opened.append(at)

    assert len(places) > 300
    assert opened == []


def test_what_is_no_backup_is_told_as_that() -> None:
    """Any other file, and an empty one."""
    for data in (b"", b"SQLite format 3\0" + bytes(100), b"PK\3\4"):
        with pytest.raises(BackupTrouble) as told:
            read_facts(io.BytesIO(data))
        assert told.value.code == "not_a_backup"


def test_a_header_without_end_takes_no_memory() -> None:
    """A length that nobody would write is refused before anything is read."""
    with pytest.raises(BackupTrouble) as told:
        read_facts(io.BytesIO(MAGIC + b"\xff\xff\xff\xff" + bytes(10)))
    assert told.value.code == "damaged"


@pytest.mark.parametrize(("name", "value"), [
    ("version", "\x1b[2J"), ("version", "a" * 65), ("schema", ""), ("instance_id", "x\n"), ("made_at_ms", 10**18),
    ("made_at_ms", -1), ("database_bytes", -1), ("database_bytes", 2**70), ("dek", {"dek_id": "d"}),
    ("dek", {"dek_id": "d", "kek_id": "\x1b]0;x\x07", "nonce": "", "ciphertext": ""}), ("salt", "?"),
])
def test_a_header_says_nothing_hostile(name: str, value: object) -> None:
    """It is shown without a key, so that anybody may have written it."""
    header = msgspec.json.decode(split(DATA)[0][len(MAGIC) + 4:-32])
    raw = msgspec.json.encode({**header, name: value})
    with pytest.raises(BackupTrouble) as told:
        read_facts(io.BytesIO(MAGIC + len(raw).to_bytes(4, "big") + raw))
    assert told.value.code == "damaged"


def test_a_missing_master_key_is_named() -> None:
    """Its id is in the header; what is here instead is told too."""
    with pytest.raises(Undecryptable) as told:
        open_file(Keyset({"k_two": os.urandom(32)}), io.BytesIO(DATA))

    assert (told.value.reason, told.value.needed, told.value.found) == (Reason.KEK_MISSING, "k_one", ("k_two",))


def test_another_key_of_the_same_name_opens_nothing() -> None:
    """The name is no proof."""
    with pytest.raises(Undecryptable) as told:
        open_file(Keyset({"k_one": os.urandom(32)}), io.BytesIO(DATA))
    assert told.value.reason is Reason.DEK


def test_an_older_key_of_the_keyset_opens_its_backups() -> None:
    """After a rotation the old line stays below the new one for as long as its backups are kept."""
    old = os.urandom(32)
    data = seal(b"before", keys=Keyset({"k_old": old}))

    assert unseal(data, Keyset({"k_new": os.urandom(32), "k_old": old})) == b"before"


def test_another_instances_name_does_not_open_it() -> None:
    """The header says whose it is, and the wrapped key hangs on that."""
    head, chunks = split(DATA)
    start = len(MAGIC) + 4
    header = msgspec.json.decode(head[start:-32])
    header["instance_id"] = "inst_b"
    raw = msgspec.json.encode(header)
    with pytest.raises(Undecryptable):
        unseal(MAGIC + len(raw).to_bytes(4, "big") + raw + head[-32:] + b"".join(chunks))


def test_two_files_of_one_content_share_nothing() -> None:
    """A key of its own each: no nonce repeats under a key."""
    assert not {DATA[at:at + 64] for at in range(600, len(DATA), 4_096)} & {
        OTHER[at:at + 64] for at in range(600, len(OTHER), 4_096)
    }
    assert read_facts(io.BytesIO(DATA)) == read_facts(io.BytesIO(OTHER))


def test_the_first_error_of_what_is_sealed_passes() -> None:
    """Whoever stops in the middle hears their own error; what was written has no last chunk and does not open."""
    out = io.BytesIO()

    def parts() -> object:
        yield bytes(2 * CHUNK)
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space"):
        FileSealer(Vault(KEYS, "inst_a")).seal(FACTS, parts(), out)  # type: ignore[arg-type]
    with pytest.raises(BackupTrouble):
        unseal(out.getvalue())
