"""A keyset is read once from one place; everything weak or exposed is refused with a sentence and a fix."""

import base64
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from ownkey.vault.keyset import (
    EXAMPLE_KEYSET_TEXT,
    KeysetError,
    generate_keyset_text,
    load_keyset,
    parse_keyset,
    write_new_keyset,
)


def encoded(key: bytes) -> str:
    return base64.b64encode(key).decode()


KEY = bytes(range(32))
OTHER = bytes(range(1, 33))
LINE = f"k1:{encoded(KEY)}"


def key_file(folder: Path, text: str, mode: int = 0o400) -> Path:
    path = folder / "master.key"
    path.write_text(text)
    path.chmod(mode)
    return path


def test_the_first_line_is_the_primary() -> None:
    """Order matters: the first key wraps, the others still open."""
    keyset = parse_keyset(f"# rotated in May\n\nnew:{encoded(OTHER)}\n  {LINE}  \n")

    assert keyset.primary_id == "new"
    assert keyset.kek_ids == ("new", "k1")
    assert keyset.cipher("k1") is not None
    assert keyset.cipher("gone") is None


REFUSALS = {
    "none, empty": ("", "none", "There is no master key, and without one no credential can be stored."),
    "none, comments": ("# nothing\n", "none", "The keyset has no line with a master key."),
    "malformed, no colon": (encoded(KEY), "malformed", "Line 1 of the keyset is not of the form kek_id:base64."),
    "malformed, id": (f"my key:{encoded(KEY)}", "malformed", "Line 1 of the keyset is not of the form kek_id:base64."),
    "malformed, second line": (
        f"{LINE}\n:{encoded(OTHER)}",
        "malformed",
        "Line 2 of the keyset is not of the form kek_id:base64.",
    ),
    "not base64": (f"k1:{KEY.hex()[:-1]}", "not_base64", "The master key on line 1 of the keyset is not base64."),
    "not base64, unicode": ("k1:ключ", "not_base64", "The master key on line 1 of the keyset is not base64."),
    "short": (
        f"k1:{encoded(KEY[:31])}",
        "short",
        "The master key on line 1 of the keyset has 31 bytes instead of 32.",
    ),
    "short, no key at all": ("k1:", "short", "The master key on line 1 of the keyset has 0 bytes instead of 32."),
    "long": (
        f"k1:{encoded(KEY + b'!')}",
        "long",
        "The master key on line 1 of the keyset has 33 bytes instead of 32.",
    ),
    "long, hexadecimal": (
        f"k1:{KEY.hex()}",
        "long",
        "The master key on line 1 of the keyset has 48 bytes instead of 32.",
    ),
    "weak, zeros": (
        f"k1:{encoded(bytes(32))}",
        "weak",
        "The master key on line 1 of the keyset repeats one byte: it is a placeholder, not a key.",
    ),
    "weak, letters": (
        f"k1:{encoded(b'x' * 32)}",
        "weak",
        "The master key on line 1 of the keyset repeats one byte: it is a placeholder, not a key.",
    ),
    "example": (
        EXAMPLE_KEYSET_TEXT,
        "example",
        "The master key on line 1 of the keyset is the example of the documentation: everybody has it.",
    ),
    "example under another name": (
        EXAMPLE_KEYSET_TEXT.replace("k1:", "mine:"),
        "example",
        "The master key on line 1 of the keyset is the example of the documentation: everybody has it.",
    ),
    "duplicate name": (
        f"{LINE}\nk1:{encoded(OTHER)}",
        "duplicate",
        "Line 2 of the keyset repeats the name or the key of an earlier line.",
    ),
    "duplicate key": (
        f"{LINE}\nk2:{encoded(KEY)}",
        "duplicate",
        "Line 2 of the keyset repeats the name or the key of an earlier line.",
    ),
}


@pytest.mark.parametrize(("text", "code", "sentence"), REFUSALS.values(), ids=REFUSALS.keys())
def test_a_bad_keyset_is_refused_with_its_sentence(text: str, code: str, sentence: str) -> None:
    """Every refusal has its own code, says what is wrong, says what to do, and repeats no key."""
    with pytest.raises(KeysetError) as refused:
        load_keyset({"OWNKEY_MASTER_KEY": text})

    assert (code, sentence) == (refused.value.code, refused.value.sentence)
    assert refused.value.fix.endswith(".")
    assert str(refused.value) == f"{sentence} {refused.value.fix}"
    assert encoded(KEY)[:12] not in str(refused.value)


@pytest.mark.parametrize("mode", [0o440, 0o404, 0o644, 0o420, 0o410, 0o401])
def test_a_file_that_others_can_use_is_refused(tmp_path: Path, mode: int) -> None:
    """Any right of group or world is refused, with the mode and the command that repairs it."""
    path = key_file(tmp_path, LINE, mode)

    with pytest.raises(KeysetError) as refused:
        load_keyset({"OWNKEY_MASTER_KEY_FILE": str(path)})

    assert refused.value.code == "exposed"
    assert refused.value.sentence == f"The master key file {path} is open to others on this host (mode {mode:04o})."
    assert refused.value.fix == f"Run `chmod 400 {path}`, or mount the secret with mode 0400."


@pytest.mark.parametrize("mode", [0o400, 0o600])
def test_a_private_file_is_read(tmp_path: Path, mode: int) -> None:
    """A file of its owner only is read, and its variable stays: a restart needs it."""
    environ = {"OWNKEY_MASTER_KEY_FILE": str(key_file(tmp_path, LINE + "\n", mode)), "OWNKEY_MASTER_KEY": ""}

    keyset = load_keyset(environ)

    assert keyset.primary_id == "k1"
    assert list(environ) == ["OWNKEY_MASTER_KEY_FILE"]


def test_a_file_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    """A missing file, a folder, a pipe and an impossible path each give a sentence, and none of them blocks."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe, 0o600)

    for path in (str(tmp_path / "missing"), str(tmp_path), str(pipe), "a\0b"):
        with pytest.raises(KeysetError) as refused:
            load_keyset({"OWNKEY_MASTER_KEY_FILE": path})

        assert refused.value.code == "unreadable"
        assert refused.value.sentence.startswith(f"The master key file {path} ")


def test_a_huge_file_is_refused(tmp_path: Path) -> None:
    """A file that is no keyset is not read into memory."""
    with pytest.raises(KeysetError) as refused:
        load_keyset({"OWNKEY_MASTER_KEY_FILE": str(key_file(tmp_path, "#" * 70_000))})

    assert refused.value.code == "too_large"
    assert refused.value.sentence.endswith("is larger than 64 KiB.")


def test_a_file_of_random_bytes_is_refused(tmp_path: Path) -> None:
    """A raw key instead of text is malformed, and no decoding error carries its bytes."""
    path = tmp_path / "raw.key"
    path.write_bytes(bytes(range(128, 160)))
    path.chmod(0o400)

    with pytest.raises(KeysetError) as refused:
        load_keyset({"OWNKEY_MASTER_KEY_FILE": str(path)})

    assert refused.value.code == "malformed"
    assert refused.value.__context__ is None


def test_the_value_leaves_the_environment_whatever_happens(tmp_path: Path) -> None:
    """The value is gone after success, after a refusal, and when a file was named too."""
    path = str(key_file(tmp_path, LINE))
    accepted = {"OWNKEY_MASTER_KEY": LINE, "HOME": "/"}
    refused = {"OWNKEY_MASTER_KEY": "k1:short"}
    both = {"OWNKEY_MASTER_KEY": LINE, "OWNKEY_MASTER_KEY_FILE": path}

    load_keyset(accepted)
    with pytest.raises(KeysetError):
        load_keyset(refused)
    with pytest.raises(KeysetError) as two:
        load_keyset(both)

    assert accepted == {"HOME": "/"}
    assert refused == {}
    assert both == {"OWNKEY_MASTER_KEY_FILE": path}
    assert two.value.code == "two_sources"
    assert two.value.sentence == "Both OWNKEY_MASTER_KEY_FILE and OWNKEY_MASTER_KEY are set, and they may differ."


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_the_value_leaves_the_process_environment_block() -> None:
    """What the kernel shows of a process's start environment has no master key left in it."""
    program = (
        "import os\n"
        "from ownkey.vault.keyset import load_keyset\n"
        "before = open('/proc/self/environ', 'rb').read()\n"
        "load_keyset(os.environ)\n"
        "after = open('/proc/self/environ', 'rb').read()\n"
        f"key = {encoded(KEY).encode()!r}\n"
        "print(key in before, key in after, 'OWNKEY_MASTER_KEY' in os.environ)\n"
    )
    environ = {**os.environ, "OWNKEY_MASTER_KEY": LINE, "OWNKEY_MASTER_KEY_FILE": ""}

    done = subprocess.run([sys.executable, "-c", program], env=environ, capture_output=True, text=True, check=True)

    assert done.stdout.split() == ["True", "False", "False"]


def test_a_master_key_in_use_must_be_present() -> None:
    """Start refuses when stored data keys need a master key that is not there, and names it."""
    keyset = parse_keyset(LINE)

    keyset.require(["k1", "k1"])
    with pytest.raises(KeysetError) as refused:
        keyset.require(["k1", "k0"])

    assert refused.value.code == "kek_missing"
    assert refused.value.sentence == (
        "This is not the master key that the saved keys were sealed with (needed: k0; found: k1)."
    )


def test_a_generated_keyset_is_accepted_and_differs_each_time() -> None:
    """Key and name are random."""
    first, second = generate_keyset_text(), generate_keyset_text()

    assert first != second
    assert parse_keyset(first).kek_ids != parse_keyset(second).kek_ids


def test_a_new_keyset_file_is_private_and_never_overwritten(tmp_path: Path) -> None:
    """Mode 0600 whatever the umask, loadable at once; a second write refuses and leaves the first as it was."""
    path = tmp_path / "master.key"
    umask = os.umask(0)
    try:
        kek_id = write_new_keyset(path)
    finally:
        os.umask(umask)
    written = path.read_bytes()

    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert load_keyset({"OWNKEY_MASTER_KEY_FILE": str(path)}).primary_id == kek_id

    with pytest.raises(KeysetError) as refused:
        write_new_keyset(path)

    assert refused.value.code == "exists"
    assert refused.value.sentence == f"{path} already exists, and a master key is never overwritten."
    assert path.read_bytes() == written


def test_a_new_keyset_is_not_written_through_a_link(tmp_path: Path) -> None:
    """A dangling link in a shared folder must not choose where the key goes."""
    link = tmp_path / "master.key"
    link.symlink_to(tmp_path / "elsewhere")

    with pytest.raises(KeysetError) as refused:
        write_new_keyset(link)

    assert refused.value.code == "exists"
    assert not (tmp_path / "elsewhere").exists()


def test_a_path_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    """A missing folder gives a sentence and a fix."""
    path = tmp_path / "missing" / "master.key"

    with pytest.raises(KeysetError) as refused:
        write_new_keyset(path)

    assert refused.value.code == "unwritable"
    assert refused.value.sentence == f"The master key file {path} cannot be written: No such file or directory."
