"""The process that serves these pages, as they tell of it: its disk, its jobs, its circuits and its configuration."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field

from ownkey.domain.overview import JobLine, SettingLine


async def _unknown() -> bool | None:
    return None


@dataclass(frozen=True, slots=True)
class Machine:
    """What is not known is None or empty, and pages say so. `disk` gives (free, all) bytes of the data directory;
    `writable` tries a real commit.

    `providers_down` are those that are left out for everybody now, with the seconds left; `routes_down` counts single
    routes. `configuration` holds nothing secret; `mail_words` are the host's own, which e-mails speak in.
    """

    version: str = ""
    schema: str = ""
    data_dir: str = ""
    config_path: str = ""
    started_at_ms: int | None = None
    configuration: Sequence[SettingLine] = ()
    mail_words: Mapping[str, str] = field(default_factory=dict)
    writable: Callable[[], Awaitable[bool | None]] = _unknown
    disk: Callable[[], tuple[int, int] | None] = lambda: None
    jobs: Callable[[], Sequence[JobLine]] = tuple
    providers_down: Callable[[], Mapping[str, float]] = dict
    routes_down: Callable[[], int] = lambda: 0
