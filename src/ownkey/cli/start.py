"""Why Ownkey cannot start on this folder, in one sentence with its fix: the same words from every command.

`serve`, a command that opens the database itself and `doctor` meet the same obstacles; here each of them is named
once, so that none is told as another.
"""

import contextlib
import errno
import os
import socket
from typing import Final

from ownkey.cli.problems import CliError
from ownkey.cli.run_file import read_run_file
from ownkey.domain.errors import StoreError
from ownkey.settings.folder import DATABASE_NAME, MASTER_KEY_NAME
from ownkey.settings.product import Settings
from ownkey.settings.tables import SettingsError
from ownkey.store.connection import InUse
from ownkey.vault.envelope import Reason, Undecryptable
from ownkey.vault.keyset import KeysetError, wrong_master_key

# Where nothing usable was found at all: the one answer is the lost key, if there is anything that it sealed.
_NO_KEY: Final = frozenset({"none", "unreadable", "malformed", "not_base64", "short", "long", "weak", "example"})

START_ERRORS: Final = (KeysetError, SettingsError, StoreError, ValueError, OSError)
"""What putting the process together may raise; each of them has its words in `start_problem`."""


def start_problem(error: Exception, settings: Settings) -> CliError:
    """The obstacle as people read it. Its code is "config", "master_key", "database", "stopping" or "start"."""
    if isinstance(error, Undecryptable):
        return _undecryptable(error, settings)
    if isinstance(error, KeysetError):
        return key_problem(error, settings)
    if isinstance(error, SettingsError):
        return CliError(str(error), f"Correct {settings.config_path.name}.", code="config")
    if isinstance(error, InUse):
        return _in_use(error, settings)
    if isinstance(error, StoreError):
        return CliError(f"The database cannot be opened: {error}", "Do what it says, then try again.", code="database")
    if isinstance(error, PermissionError):
        return CliError(f"{error.filename or settings.server.data_dir} may not be read or written by this user.",
                        "Run as the user who owns the data folder, or correct its permissions.", code="start")
    return CliError(f"Ownkey cannot start: {error}.".replace("..", "."), "Run `ownkey doctor`.", code="start")


def key_problem(error: KeysetError, settings: Settings) -> CliError:
    """A keyset that cannot be used. With a database beside it a new key would open nothing: the old one is needed."""
    fix = error.fix
    if error.code in _NO_KEY and (settings.server.data_dir / DATABASE_NAME).exists():
        beside = settings.config_path.parent / MASTER_KEY_NAME
        fix = (
            f"Restore your copy of the master key to {beside} (mode 0400 or 0600), or set OWNKEY_MASTER_KEY_FILE to "
            "it. Do not make a new one: the saved keys open with the old one only."
        )
    return CliError(error.sentence, fix, code="master_key")


def _undecryptable(error: Undecryptable, settings: Settings) -> CliError:
    match error.reason:
        case Reason.KEK_MISSING:
            return key_problem(wrong_master_key((error.needed,), error.found), settings)
        case Reason.DEK:
            return CliError(
                f"The master key {error.needed} has the right name, but is not the one that the saved keys were "
                "sealed with.", "Put the right copy back.", code="master_key",
            )
        case _:
            return CliError(
                f"The key of the audit log in {settings.server.data_dir} does not open: the file was changed.",
                "Restore audit.key from the same backup as the database.", code="database",
            )


def _in_use(error: InUse, settings: Settings) -> CliError:
    """Called after the note's server did not answer: a process that still lives then is on its way out."""
    note = read_run_file(settings.server.data_dir)
    if note is not None and is_alive(note.pid):
        return CliError(
            f"The server on this folder (pid {note.pid}) is stopping: calls in flight may end first.",
            "Wait until it has ended, and try again.", code="stopping",
        )
    return CliError(str(error), "If `ownkey serve` is starting on it, wait until it answers; commands then go "
                    "through it.", code="database")


def is_alive(pid: int) -> bool:
    """Whether there is such a process, anybody's."""
    if pid <= 0:
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def address_problem(host: str, port: int) -> CliError | None:
    """Why nobody can listen there, or None. Binds and lets go again, as the server itself would bind."""
    shown = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        for family, kind, protocol, _, address in found:
            with contextlib.closing(socket.socket(family, kind, protocol)) as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                probe.bind(address)
    except socket.gaierror:
        return CliError(f"There is no address {host} on this machine.",
                        "Set OWNKEY_HOST (or server.host) to one of its own, such as 127.0.0.1.", code="address")
    except OSError as error:
        return CliError(*_bind_words(error.errno, shown), code="address")
    return None


def _bind_words(number: int | None, shown: str) -> tuple[str, str]:
    match number:
        case errno.EADDRINUSE:
            return (f"{shown} is in use by another process.",
                    "Choose another port with OWNKEY_PORT (or server.port), or stop what listens there.")
        case errno.EADDRNOTAVAIL:
            return (f"{shown} is not an address of this machine.",
                    "Set OWNKEY_HOST (or server.host) to one of its own, such as 127.0.0.1.")
        case errno.EACCES:
            return (f"This user may not listen on {shown}.", "Choose a port from 1024 on with OWNKEY_PORT.")
        case _:
            reason = os.strerror(number) if number else "the system refuses it"
            return f"{shown} cannot be used: {reason}.", "Choose another address with OWNKEY_HOST and OWNKEY_PORT."
