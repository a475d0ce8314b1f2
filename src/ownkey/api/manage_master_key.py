"""The master keys over the management API: what is loaded where, and the steps of a rotation that the server takes part
in. The keyset itself is never sent in either direction."""

from typing import Annotated

from msgspec import Meta

from ownkey.api import manage_views as show
from ownkey.api.authorisation import Right, Subject
from ownkey.api.manage_call import Call, ManageRoute
from ownkey.api.manage_schemas import Answer, Nothing, Request, Text, Time
from ownkey.api.manage_work import WorkOut, show_work
from ownkey.control.master_key import KeyringView
from ownkey.control.master_key_check import Swept

Fingerprint = Annotated[str, Meta(pattern="^[0-9a-f]{16}$", description="As the file's own key gives it.")]


class MasterKeyPromote(Request):
    """The key that shall become the first, as it stands in the keyset's file."""

    key: Text
    fingerprint: Fingerprint


class MasterKeyNamed(Request):
    key: Text


class MasterKeyLine(Answer):
    """One master key. `data_keys` hang on it; `loaded_by` counts live processes; `differs`: two processes know
    different keys by this name."""

    id: str
    fingerprint: str
    primary: bool
    data_keys: int
    loaded_by: int
    differs: bool
    first_seen_at: Time | None
    retired_at: Time | None


class KeyProcessOut(Answer):
    """A live process. `problem` says why it has refused the keyset that lies there now, "" if it has not."""

    process: str
    started_at: Time
    seen_at: Time
    primary: str
    keys: list[str]
    problem: str


class OpenedOut(Answer):
    """The last look at every sealed row: how many there are, and how many of them do not open."""

    at: Time
    data_keys: int
    credentials: int
    seeds: int
    undecryptable: int
    named: list[str]


class MasterKeysOut(Answer):
    """`source` is the keyset's file on the server, "" for the environment; `rows_left` data keys hang on another key
    than the first."""

    source: str
    primary: str
    keys: list[MasterKeyLine]
    processes: list[KeyProcessOut]
    rows_left: int
    opened: OpenedOut | None
    problems: list[str]
    rewrap: WorkOut | None


async def read_master_keys(call: Call) -> MasterKeysOut:
    return _shown(await call.desk.master_key.show())


async def reload_master_keys(call: Call) -> MasterKeysOut:
    return _shown(await call.desk.master_key.reload(call.actor))


async def promote_master_key(call: Call) -> MasterKeysOut:
    body: MasterKeyPromote = call.body
    return _shown(await call.desk.master_key.check_promote(body.key, body.fingerprint))


async def retire_master_key(call: Call) -> MasterKeysOut:
    body: MasterKeyNamed = call.body
    return _shown(await call.desk.master_key.retire(body.key, call.actor))


async def start_rewrap(call: Call) -> WorkOut:
    return show_work(await call.desk.master_key.start_rewrap(call.actor))


def _shown(view: KeyringView) -> MasterKeysOut:
    return MasterKeysOut(
        source=view.source, primary=view.primary, rows_left=view.left, problems=list(view.problems),
        keys=[
            MasterKeyLine(
                id=line.kek_id, fingerprint=line.fingerprint, primary=line.primary, data_keys=line.data_keys,
                loaded_by=line.loaded_by, differs=line.differs, first_seen_at=show.iso_or_none(line.first_seen_ms),
                retired_at=show.iso_or_none(line.retired_at_ms),
            )
            for line in view.keys
        ],
        processes=[
            KeyProcessOut(
                process=one.name, started_at=show.iso(one.started_at_ms), seen_at=show.iso(one.beat_at_ms),
                primary=one.primary.kek_id, keys=[key.kek_id for key in one.keys], problem=one.problem,
            )
            for one in view.processes
        ],
        opened=None if view.swept is None else _opened(view.swept),
        rewrap=None if view.work is None else show_work(view.work),
    )


def _opened(swept: Swept) -> OpenedOut:
    return OpenedOut(
        at=show.iso(swept.at_ms), data_keys=swept.data_keys, credentials=swept.credentials, seeds=swept.seeds,
        undecryptable=swept.bad, named=[row if place is None else f"{place}: {row}" for place, row in swept.named],
    )


_PATH = "/master-key"
_READ, _MANAGE = Right.READ, Right.MANAGE

ROUTES: tuple[ManageRoute, ...] = (
    ManageRoute("GET", _PATH, "read_master_keys", Subject.DEPLOYMENT, _READ, read_master_keys,
                "Which master keys each process has loaded, and how much hangs on each.", MasterKeysOut),
    ManageRoute("POST", f"{_PATH}/reload", "reload_master_keys", Subject.DEPLOYMENT, _MANAGE, reload_master_keys,
                "Read the keyset's file now; a server also does by itself within seconds.", MasterKeysOut, Nothing),
    ManageRoute("POST", f"{_PATH}/promote", "promote_master_key", Subject.DEPLOYMENT, _MANAGE, promote_master_key,
                "Ask whether a key may become the first: every process must have loaded it. The file is changed where "
                "it lies, by `ownkey master-key promote`.", MasterKeysOut, MasterKeyPromote),
    ManageRoute("POST", f"{_PATH}/rewrap", "start_rewrap", Subject.DEPLOYMENT, _MANAGE, start_rewrap,
                "Move every data key to the first master key; calls go on. The same that is under way is found.",
                WorkOut, Nothing, status=202),
    ManageRoute("POST", f"{_PATH}/retire", "retire_master_key", Subject.DEPLOYMENT, _MANAGE, retire_master_key,
                "Let nothing hang on a key any more; refused while something does. Its line is taken out by "
                "`ownkey master-key retire`.", MasterKeysOut, MasterKeyNamed),
)
