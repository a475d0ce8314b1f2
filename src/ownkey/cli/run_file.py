"""The note that a running server leaves in its data folder: where it is, who it is, and this boot's token."""

import json
from dataclasses import dataclass
from pathlib import Path

from ownkey.settings.folder import RUN_FILE_NAME


@dataclass(frozen=True, slots=True)
class RunNote:
    url: str
    token: str
    pid: int

    def __repr__(self) -> str:
        return f"RunNote(url={self.url!r}, pid={self.pid})"


def read_run_file(data_dir: Path) -> RunNote | None:
    """The note, or None. A crash leaves one behind: whoever reads it asks whether its server still answers."""
    try:
        note = json.loads((data_dir / RUN_FILE_NAME).read_text("utf-8"))
        return RunNote(str(note["url"]), str(note["token"]), int(note.get("pid", 0)))
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
