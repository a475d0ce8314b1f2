"""`ownkey backup` and `ownkey restore` as a person types them: the drill, and everything that can be wrong."""

import asyncio
import base64
import binascii
import io
import os
import shutil
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.cli.terminal import KEY, Said, Terminal, make_home
from tests.emulator_process import EmulatorHandle, start_emulator
from tests.old_database import OLD, lay_old_database

from ownkey.domain.backups import BackupFacts, BackupTrouble
from ownkey.domain.records import Actor
from ownkey.store import SQLiteStore
from ownkey.store.backup import BackupFolder
from ownkey.store.restore import Restoring
from ownkey.store.schema import HEAD
from ownkey.vault.audit_key import AuditKeyFile
from ownkey.vault.envelope import Vault
from ownkey.vault.keyset import read_keyset_file, write_new_keyset
from ownkey.vault.sealed_file import FileSealer, open_file, read_facts

NOW = 1_795_000_000_000


@pytest.fixture(scope="module")
def emulator() -> Iterator[EmulatorHandle]:
    handle = start_emulator()
    handle.add_key("openrouter", KEY)
    yield handle
    handle.stop()


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory, emulator: EmulatorHandle) -> Terminal:
    """A deployment with a customer, their key, a token, a link into the portal and an operator's; and its backup."""
    terminal = make_home(tmp_path_factory.mktemp("backup") / "home", emulator)
    with (terminal.home / "ownkey.toml").open("a") as file:
        file.write('[connect]\npublic_url = "https://ownkey.test"\n')
    terminal.good("workspace", "add", "Acme", "-x", "acme")
    terminal.good("credential", "add", "openrouter", stdin=KEY + "\n")
    terminal.good("token", "add")
    terminal.good("portal", "link", "acme", "--email", "owner@example.com")
    terminal.good("operator", "add", "ada@example.com", "--role", "ops")
    fill(terminal.home / "data" / "ownkey.db", int(os.environ.get("OWNKEY_DRILL_MIB", "0")))
    terminal.good("backup", "--out", str(terminal.home / "a.backup"))
    return terminal


def fill(database: Path, mib: int) -> None:
    """What `make goals` times the drill over."""
    if mib:
        with sqlite3.connect(database) as conn:
            conn.execute("CREATE TABLE bulk(x BLOB) STRICT")
            conn.executemany("INSERT INTO bulk VALUES (?)", ((os.urandom(4_000),) for _ in range(mib * 256)))
        conn.close()


@pytest.fixture
def empty(tmp_path: Path) -> dict[str, str]:
    """Another data folder, where nothing is yet."""
    return {"OWNKEY_DATA_DIR": str(tmp_path / "data")}


def restore(desk: Terminal, empty: dict[str, str], file: str = "a.backup", **more: str) -> Said:
    return desk.type("restore", str(desk.home / file), "--yes", "--json", **{**empty, **more})


def nothing_there(empty: dict[str, str]) -> bool:
    folder = Path(empty["OWNKEY_DATA_DIR"])
    return not folder.exists() or {path.name for path in folder.iterdir()} <= {"ownkey.db.lock"}


# --- the drill


def test_backup_and_master_key_serve(desk: Terminal, empty: dict[str, str]) -> None:
    """S8: the restore drill. From the backup's command to a Test of the customer's key in another folder: well within
    five minutes, with clean books, and said in the audit log; what was open then is closed."""
    began_s = time.monotonic()
    desk.good("backup", "--out", str(Path(empty["OWNKEY_DATA_DIR"]).parent / "b.backup"))
    row = restore(desk, empty, str(Path(empty["OWNKEY_DATA_DIR"]).parent / "b.backup")).value
    tested = desk.json("credential", "test", "openrouter", **empty)
    took_s = time.monotonic() - began_s
    print(f"restore drill: {took_s:.1f} s over {row['database_bytes'] // 2**20:,} MiB, of 300 s")
    conn = sqlite3.connect(Path(empty["OWNKEY_DATA_DIR"]) / "ownkey.db")
    audited = conn.execute("SELECT actor_kind, n FROM audit WHERE action = 'deployment.restored'").fetchall()
    ended = conn.execute("SELECT DISTINCT end_reason FROM portal_session").fetchall()
    conn.close()

    assert tested["outcome"] == "works"
    assert took_s < 300
    assert row["clean"] is True
    assert row["ended"]["visits"] == 1
    assert row["ended"]["operator_links"] == 1
    assert row["valid_tokens"] == 1
    assert row["upgraded_from"] is None
    assert ended == [("backup restored",)]
    assert [kind for kind, _ in audited] == ["operator"]
    assert desk.good("verify", **empty).code == 0


def test_what_came_back_to_life_is_said_loudly(desk: Terminal, empty: dict[str, str]) -> None:
    """Tokens that were revoked since are valid again: how many there are, and what to type."""
    said = desk.good("restore", str(desk.home / "a.backup"), "--yes", **empty)

    assert "LOOK AT THE ACCESS TOKENS. Valid as they were at 20" in said.out
    assert "ownkey token list" in said.out
    assert "ownkey token revoke" in said.out
    assert "The books balance" in said.out


def test_a_backup_alone_reads_nothing(desk: Terminal, empty: dict[str, str]) -> None:
    """S8, S1: no byte of a key is in it, raw, in base64 or in hex, nor of the database; and without the master key it
    opens for nobody, here or anywhere."""
    data = (desk.home / "a.backup").read_bytes()
    plain = (desk.home / "data" / "ownkey.db").read_bytes()
    raw = KEY.encode()
    forms = [raw, raw[9:29], raw[-20:], binascii.hexlify(raw), *(
        base64.b64encode(b"x" * n + raw)[4 * (n > 0) + 2:-4] for n in range(3)
    )]
    master = (desk.home / "master.key").read_text().partition(":")[2].strip()
    nobody = restore(desk, empty, OWNKEY_MASTER_KEY_FILE=str(desk.home / "gone"))

    assert not [form for form in forms if form in data]
    assert master.encode() not in data
    assert base64.b64decode(master) not in data
    assert b"Acme" not in data
    assert b"Acme" in plain
    assert b"SQLite format" not in data
    assert (nobody.code, nobody.error["code"]) == (2, "master_key")
    assert nothing_there(empty)


def test_a_header_is_shown_without_any_key(desk: Terminal, tmp_path: Path) -> None:
    """Whose, of when, which schema, which master key; of a damaged file the sentence."""
    row = desk.json("backup", "inspect", str(desk.home / "a.backup"), OWNKEY_MASTER_KEY_FILE=str(tmp_path / "gone"))
    (tmp_path / "cut").write_bytes((desk.home / "a.backup").read_bytes()[:100])
    cut = desk.type("backup", "inspect", str(tmp_path / "cut"), "--json")

    assert row["schema"] == HEAD
    assert row["master_key"] == (desk.home / "master.key").read_text().partition(":")[0]
    assert row["bytes"] == (desk.home / "a.backup").stat().st_size
    assert (cut.code, cut.error["code"]) == (1, "damaged")


def test_a_backup_can_be_tried_without_being_restored(desk: Terminal, tmp_path: Path) -> None:
    """Every byte, with the key; a changed one is found."""
    data = bytearray((desk.home / "a.backup").read_bytes())
    data[-5_000] ^= 1
    (tmp_path / "changed").write_bytes(data)
    well = desk.json("backup", "check", str(desk.home / "a.backup"))
    bad = desk.type("backup", "check", str(tmp_path / "changed"), "--json")

    assert well["opens"] is True
    assert (bad.code, bad.error["code"]) == (1, "damaged")


def test_it_is_asked_first(desk: Terminal, empty: dict[str, str]) -> None:
    """Spend since then is forgotten: nobody restores without having said so."""
    said = desk.type("restore", str(desk.home / "a.backup"), "--json", **empty)
    assert (said.code, "--yes" in said.err) == (2, True)
    assert nothing_there(empty)


# --- wrong inputs: each has its words, and nothing is left half done


@pytest.mark.parametrize(("damage", "code"), [
    (lambda data: b"SQLite format 3\0" + data, "not_a_backup"), (lambda data: b"", "not_a_backup"),
    (lambda data: data[:-1], "damaged"), (lambda data: data[:len(data) // 2], "damaged"),
    (lambda data: data[:-3_000] + bytes([data[-3_000] ^ 4]) + data[-2_999:], "damaged"),
    (lambda data: data + b"x", "damaged"),
])
def test_a_file_that_is_no_whole_backup_changes_nothing(
    desk: Terminal, empty: dict[str, str], tmp_path: Path, damage: object, code: str
) -> None:
    """S8: nothing is put in place before everything was opened and checked."""
    file = tmp_path / "b.backup"
    file.write_bytes(damage((desk.home / "a.backup").read_bytes()))  # type: ignore[operator]
    said = restore(desk, empty, str(file))

    assert (said.code, said.error["code"]) == (1, code)
    assert said.error["fix"]["text"]
    assert nothing_there(empty)


def test_the_master_key_that_is_needed_is_named(desk: Terminal, empty: dict[str, str], tmp_path: Path) -> None:
    """Another one, none at all, or another under its name."""
    needed = (desk.home / "master.key").read_text().partition(":")[0]
    other_id = write_new_keyset(tmp_path / "other.key")
    (tmp_path / "same.key").write_text(f"{needed}:" + (tmp_path / "other.key").read_text().partition(":")[2])
    (tmp_path / "same.key").chmod(0o600)
    other = restore(desk, empty, OWNKEY_MASTER_KEY_FILE=str(tmp_path / "other.key"))
    same = restore(desk, empty, OWNKEY_MASTER_KEY_FILE=str(tmp_path / "same.key"))
    (tmp_path / "bare").mkdir()
    (tmp_path / "bare" / "ownkey.toml").write_text((desk.home / "ownkey.toml").read_text())
    none = restore(desk, empty, OWNKEY_CONFIG=str(tmp_path / "bare" / "ownkey.toml"))

    for said in (other, same, none):
        assert (said.code, said.error["code"]) == (2, "master_key")
        assert needed in said.error["message"]
    assert other_id in other.error["message"]
    assert nothing_there(empty)


def test_nothing_is_written_over(desk: Terminal, empty: dict[str, str]) -> None:
    """A database, what a crash left of one, or another database's audit key: the fix says what to move."""
    folder = Path(empty["OWNKEY_DATA_DIR"])
    folder.mkdir()
    here = restore(desk, {})
    told = []
    for name in ("ownkey.db-wal", "audit.key"):
        (folder / name).write_bytes(b"precious")
        told.append(restore(desk, empty))
        assert (folder / name).read_bytes() == b"precious"
        (folder / name).unlink()

    for said in (here, *told):
        assert (said.code, said.error["code"]) == (1, "exists")
        assert "Move" in said.error["fix"]["text"]
    assert not (folder / "restoring").exists()
    assert restore(desk, empty).code == 0


def test_a_folder_that_cannot_be_used_is_named(desk: Terminal, tmp_path: Path) -> None:
    """Where it should be, and what the system says; a file that is not there is told as that."""
    (tmp_path / "file").write_text("x")
    nowhere = restore(desk, {"OWNKEY_DATA_DIR": str(tmp_path / "file" / "data")})
    nothing = restore(desk, {"OWNKEY_DATA_DIR": str(tmp_path / "data")}, "gone.backup")
    folder = desk.type("backup", "inspect", str(tmp_path), "--json")

    assert (nowhere.error["code"], str(tmp_path / "file") in nowhere.error["message"]) == ("unwritable", True)
    assert (nothing.error["code"], "gone.backup" in nothing.error["message"]) == ("file", True)
    assert folder.error["code"] == "file"
    assert not (tmp_path / "data").exists()


def test_a_folder_in_use_is_left_alone(desk: Terminal, empty: dict[str, str]) -> None:
    """Somebody who has just started there owns it."""
    folder = Path(empty["OWNKEY_DATA_DIR"])
    folder.mkdir()
    store = SQLiteStore.open(folder / "ownkey.db", clock_ms=lambda: NOW, boot_id="other")
    try:
        said = restore(desk, empty)
    finally:
        asyncio.run(store.close())
    assert (said.code, said.error["code"]) == (2, "database")


def test_a_target_that_cannot_be_written_is_told_before_anything_is_made(desk: Terminal, tmp_path: Path) -> None:
    """It exists, or its folder does not."""
    made = len(desk.json("backup", "list")["backups"])
    there = desk.type("backup", "--out", str(desk.home / "a.backup"), "--json")
    nowhere = desk.type("backup", "--out", str(tmp_path / "no" / "b.backup"), "--json")

    assert (there.error["code"], nowhere.error["code"]) == ("exists", "file")
    assert len(desk.json("backup", "list")["backups"]) == made


def test_one_is_fetched_by_its_name(desk: Terminal, tmp_path: Path) -> None:
    """As the list shows it; another name is told."""
    first = desk.json("backup", "list")["backups"][-1]
    desk.good("backup", "fetch", first["name"], "--out", str(tmp_path / "f.backup"))
    wrong = desk.type("backup", "fetch", "../audit.key", "--out", str(tmp_path / "g.backup"))

    assert (tmp_path / "f.backup").read_bytes() == (desk.home / "a.backup").read_bytes()
    assert (tmp_path / "f.backup").stat().st_mode & 0o777 == 0o600
    assert (wrong.code, "ownkey backup list" in wrong.err) == (2, True)
    assert not list(tmp_path.glob("g*"))


def test_doctor_says_whether_there_is_a_backup(desk: Terminal) -> None:
    """None at all is a warning with its fix; the newest is named with the master key that opens it."""
    folder = desk.home / "data" / "backups"
    aside = folder.rename(folder.with_name("aside"))
    (none,) = [check for check in desk.json("doctor")["checks"] if check["name"] == "backups"]
    aside.rename(folder)
    (newest,) = [check for check in desk.json("doctor")["checks"] if check["name"] == "backups"]

    assert (none["state"], newest["state"]) == ("warn", "ok")
    assert "ownkey backup" in none["fix"]
    assert desk.json("backup", "list")["backups"][0]["master_key"] in newest["sentence"]


def test_a_disk_that_fills_up_in_the_middle_leaves_nothing(tmp_path: Path) -> None:
    """While it is unpacked: a sentence, and the folder is as it was."""
    def parts() -> Iterator[bytes]:
        yield b'\0\0\0\x27{"audit.key":1,"ownkey.db":1000000000}'
        raise OSError(28, "No space left on device")

    facts = BackupFacts("inst", NOW, "0.1.0", HEAD, "k", 1)
    with pytest.raises(BackupTrouble) as told, Restoring(tmp_path / "data") as restoring:
        restoring.unpack(facts, parts(), lambda _: None)

    assert told.value.code == "no_room"
    assert nothing_there({"OWNKEY_DATA_DIR": str(tmp_path / "data")})


def test_what_cannot_be_moved_whole_is_not_moved(desk: Terminal, tmp_path: Path) -> None:
    """Somebody reads the unpacked database, so that its log cannot be folded into it: the file alone would lack what
    was ended. Nothing is put in place, and a sentence says so."""
    keyset = read_keyset_file(desk.home / "master.key")
    with (desk.home / "a.backup").open("rb") as file, Restoring(tmp_path / "data") as restoring:
        facts, parts = open_file(keyset, file)
        restoring.unpack(facts, parts, lambda _: None)
        audit_key = AuditKeyFile(restoring.folder / "audit.key").open(keyset)
        reader = sqlite3.connect(restoring.folder / "ownkey.db", isolation_level=None)
        reader.execute("PRAGMA journal_mode = WAL")
        reader.execute("BEGIN")
        reader.execute("SELECT id FROM instance").fetchall()
        with pytest.raises(BackupTrouble) as told:
            restoring.settle(facts, audit_key, "boot", lambda: NOW, Actor("operator", "ada"))
        reader.close()

    assert told.value.code == "unusable"
    assert nothing_there({"OWNKEY_DATA_DIR": str(tmp_path / "data")})


# --- other versions


def sealed(desk: Terminal, home: Path, name: str, instance: str = "inst_old") -> str:
    """A backup of that folder's database, under the desk's master key."""
    keyset = read_keyset_file(desk.home / "master.key")
    AuditKeyFile(home / "audit.key").make(keyset)
    folder = BackupFolder(home, home, instance, FileSealer(Vault(keyset, instance)), read_facts, "0.0.1")
    made = folder.make_now(NOW, lambda *_: None)
    (home / made.name).rename(home / name)
    return str(home / name)


def test_an_older_one_is_brought_up_to_date(desk: Terminal, empty: dict[str, str], tmp_path: Path) -> None:
    """Before it is put in place; its customer is there."""
    lay_old_database(tmp_path / "ownkey.db")
    said = restore(desk, empty, sealed(desk, tmp_path, "old.backup"))
    conn = sqlite3.connect(Path(empty["OWNKEY_DATA_DIR"]) / "ownkey.db")
    names = conn.execute("SELECT name FROM workspace").fetchall()
    conn.close()

    assert said.value["upgraded_from"] == OLD
    assert names == [("Acme",)]
    assert desk.json("verify", **empty)["clean"] is True


def test_a_key_of_the_right_name_must_be_the_right_one(
    desk: Terminal, empty: dict[str, str], tmp_path: Path
) -> None:
    """S8: data keys inside hang on a second key: without it, or with another one of its name, nothing is put in place,
    and `check` says so as well, though the file itself opens."""
    shutil.copy(desk.home / "data" / "ownkey.db", tmp_path / "ownkey.db")
    with sqlite3.connect(tmp_path / "ownkey.db") as conn:
        (instance,) = conn.execute("SELECT id FROM instance").fetchone()
        conn.execute("UPDATE dek SET kek_id = 'k_two'")
        conn.execute("INSERT INTO master_key(kek_id, fingerprint, first_seen_ms) VALUES ('k_two', ?, 0)", ("0" * 16,))
    conn.close()
    file = sealed(desk, tmp_path, "two.backup", instance)
    write_new_keyset(tmp_path / "other.key")
    second = "k_two:" + (tmp_path / "other.key").read_text().partition(":")[2]
    (tmp_path / "both.key").write_text((desk.home / "master.key").read_text() + second)
    (tmp_path / "both.key").chmod(0o600)
    checked, missing = desk.type("backup", "check", file, "--json"), restore(desk, empty, file)
    wrong = restore(desk, empty, file, OWNKEY_MASTER_KEY_FILE=str(tmp_path / "both.key"))

    for said in (checked, missing):
        assert (said.code, said.error["code"]) == (2, "master_key")
        assert "hang on k_two as well" in said.error["message"]
    assert (wrong.code, wrong.error["code"]) == (2, "master_key")
    assert "not the key that went by it before" in wrong.error["message"]
    assert nothing_there(empty)


def test_a_user_without_a_name_may_restore(
    desk: Terminal, empty: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A container's user stands in no list: the audit log then has the number."""
    for name in ("LOGNAME", "USER", "LNAME", "USERNAME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(os, "getuid", lambda: 54_321)
    said = restore(desk, empty)
    conn = sqlite3.connect(Path(empty["OWNKEY_DATA_DIR"]) / "ownkey.db")
    (who,) = conn.execute("SELECT actor_id FROM audit WHERE action = 'deployment.restored'").fetchone()
    conn.close()

    assert said.code == 0
    assert who == "uid 54321"


def test_a_newer_one_is_refused(desk: Terminal, empty: dict[str, str], tmp_path: Path) -> None:
    """By the version that does not know its schema, before anything is unpacked."""
    lay_old_database(tmp_path / "ownkey.db")
    with sqlite3.connect(tmp_path / "ownkey.db") as conn:
        conn.execute("UPDATE alembic_version SET version_num = '9999'")
    conn.close()
    said = restore(desk, empty, sealed(desk, tmp_path, "new.backup"))

    assert said.code == 2
    assert "9999" in said.error["message"]
    assert nothing_there(empty)


def test_a_database_that_is_damaged_inside_is_refused(desk: Terminal, empty: dict[str, str], tmp_path: Path) -> None:
    """The seal says that it is what was sealed; the check says that it was whole then."""
    keyset = read_keyset_file(desk.home / "master.key")
    AuditKeyFile(tmp_path / "audit.key").make(keyset)
    lay_old_database(tmp_path / "ownkey.db")
    audit, plain = (tmp_path / "audit.key").read_bytes(), bytearray((tmp_path / "ownkey.db").read_bytes())
    plain[8_192:65_536] = os.urandom(57_344)
    table = b'{"audit.key":%d,"ownkey.db":%d}' % (len(audit), len(plain))
    out = io.BytesIO()
    FileSealer(Vault(keyset, "inst_old")).seal(
        BackupFacts("inst_old", NOW, "0.0.1", OLD, "", len(plain)),
        [len(table).to_bytes(4, "big") + table, audit, bytes(plain)], out,
    )
    (tmp_path / "bad.backup").write_bytes(out.getvalue())
    said = restore(desk, empty, str(tmp_path / "bad.backup"))

    assert (said.code, said.error["code"]) == (1, "damaged")
    assert nothing_there(empty)
