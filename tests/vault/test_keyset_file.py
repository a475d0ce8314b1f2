"""The keyset's file is changed whole or not at all, line by line, with the mode and the owner that it had."""

import contextlib
import fcntl
import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ownkey.vault.keyset import KeysetError, generate_keyset_text, read_keyset_file
from ownkey.vault.keyset_file import KeysetFile


def a_file(folder: Path, text: str | None = None, mode: int = 0o400) -> KeysetFile:
    path = folder / "master.key"
    path.write_text(generate_keyset_text() if text is None else text)
    path.chmod(mode)
    return KeysetFile(path)


@pytest.mark.parametrize("mode", [0o400, 0o600])
def test_a_key_is_added_promoted_and_retired(tmp_path: Path, mode: int) -> None:
    """Each step moves one line; comments, the other keys and the mode stay, and no draft is left beside the file."""
    file = a_file(tmp_path, f"# kept by ops\n\n{generate_keyset_text()}", mode)
    old = file.read().primary_id
    before = file.path.read_text()
    new = file.add()
    added = file.path.read_text()
    moved = [file.promote(new), file.promote(new)]
    promoted = file.path.read_text()
    gone = [file.retire(old), file.retire(old)]

    assert added.startswith(before)
    assert [line.partition(":")[0] for line in promoted.splitlines()] == ["# kept by ops", "", new, old]
    assert sorted(promoted.splitlines()) == sorted(added.splitlines())
    assert (moved, gone) == ([True, False], [True, False])
    assert file.read().kek_ids == (new,)
    assert stat.S_IMODE(file.path.stat().st_mode) == mode
    assert os.listdir(tmp_path) == ["master.key"]


def test_a_last_line_without_an_end_is_not_joined(tmp_path: Path) -> None:
    """An editor that leaves no line end must not cost two keys."""
    file = a_file(tmp_path, generate_keyset_text().rstrip("\n"))
    old = file.read().primary_id
    new = file.add()

    assert file.read().kek_ids == (old, new)


def test_the_first_key_is_never_taken_out(tmp_path: Path) -> None:
    """Nor is a key promoted that is not there; the file stays as it was."""
    file = a_file(tmp_path)
    before = file.path.read_bytes()
    with pytest.raises(KeysetError, match="is the first key"):
        file.retire(file.read().primary_id)
    with pytest.raises(KeysetError, match="no key of that name"):
        file.promote("k_nobody")

    assert file.path.read_bytes() == before


def test_what_is_no_keyset_is_not_written_over(tmp_path: Path) -> None:
    """A file that has become something else is refused before it is touched."""
    file = a_file(tmp_path, "hello\n")
    with pytest.raises(KeysetError, match="not of the form"):
        file.add()

    assert file.path.read_text() == "hello\n"


def test_two_changes_at_once_do_not_undo_each_other(tmp_path: Path) -> None:
    """The second is told to wait."""
    file = a_file(tmp_path)
    other = os.open(tmp_path, os.O_RDONLY)
    fcntl.flock(other, fcntl.LOCK_EX)
    with pytest.raises(KeysetError, match="another command"):
        file.add()
    os.close(other)

    assert len(KeysetFile(file.path).read().kek_ids) == 1
    assert file.add() in file.read().kek_ids


def test_what_another_command_did_meanwhile_counts(tmp_path: Path) -> None:
    """A key that became the first, or went, between two commands: each step is decided on the file that it changes."""
    class Late(KeysetFile):
        before: Callable[[], object]

        @contextlib.contextmanager
        def _locked(self) -> Iterator[None]:
            self.before()
            with super()._locked():
                yield

    file = a_file(tmp_path)
    old, new = file.read().primary_id, file.add()
    file.promote(new)
    late = Late(file.path)
    late.before = lambda: file.promote(old)
    with pytest.raises(KeysetError, match="is the first key"):
        late.retire(old)
    both = file.read().kek_ids
    late.before = lambda: file.retire(new)
    with pytest.raises(KeysetError, match="no key of that name"):
        late.promote(new)

    assert both == (old, new)
    assert file.read().kek_ids == (old,)


def test_what_a_killed_command_left_is_removed(tmp_path: Path) -> None:
    """A draft holds every key of that moment: a key that is retired later must not live on in it."""
    file = a_file(tmp_path)
    (tmp_path / ".master.key.0a1b2c3d.new").write_text(file.path.read_text())
    (tmp_path / ".other.key.0a1b2c3d.new").write_text("theirs")
    file.add()

    assert sorted(os.listdir(tmp_path)) == [".other.key.0a1b2c3d.new", "master.key"]


def test_a_link_is_followed_to_the_file_it_names(tmp_path: Path) -> None:
    """A link stays a link; what it points to is replaced in its own folder."""
    (tmp_path / "store").mkdir()
    real = a_file(tmp_path / "store")
    link = tmp_path / "master.key"
    link.symlink_to(real.path)
    new = KeysetFile(link).add()

    assert link.is_symlink()
    assert new in read_keyset_file(real.path).kek_ids


def test_a_file_that_cannot_be_written_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A secret store's mount: the sentence names `generate`, and the file is as it was."""
    file = a_file(tmp_path)
    before = file.path.read_bytes()

    def refuse(*_: object, **__: object) -> None:
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(Path, "replace", refuse)
    with pytest.raises(KeysetError, match="Read-only file system") as told:
        file.add()

    assert "ownkey master-key generate" in told.value.fix
    assert file.path.read_bytes() == before
    assert os.listdir(tmp_path) == ["master.key"]


def test_no_error_repeats_a_key(tmp_path: Path) -> None:
    """A mistyped line may be nothing but the key: no sentence has any of it."""
    line = generate_keyset_text()
    file = a_file(tmp_path, line + line.partition(":")[2])
    with pytest.raises(KeysetError) as told:
        file.add()

    secret = line.partition(":")[2].strip()
    assert secret not in str(told.value)
    assert secret[:10] not in str(told.value)
