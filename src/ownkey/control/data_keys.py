"""A workspace's data key that does not open: our fault, and told in one way wherever somebody meets it.

Nothing is lost by it that was not lost before: no key is sent, nothing is stored, and what was saved stays as it is.
"""

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from ownkey.control.problems import Problem, ProblemCode
from ownkey.domain.errors import DataKeyClosed
from ownkey.domain.phrases import Phrase
from ownkey.domain.workspace import WorkspaceState

_log = logging.getLogger(__name__)


@contextmanager
def with_data_key(workspace: WorkspaceState, flow: str = "") -> Iterator[None]:
    """Around whatever seals for a workspace, or opens what it has sealed. Raises Problem where its data key does not
    open, and tells operators; `flow` is where the person comes from."""
    try:
        yield
    except DataKeyClosed as error:
        _log.critical(
            "the data key %s of workspace %s does not open under any master key here: nothing can be sealed for it",
            workspace.dek.dek_id, workspace.id,
        )
        raise closed(flow) from error


def closed(flow: str = "") -> Problem:
    return Problem(
        ProblemCode.DATA_KEY_CLOSED,
        Phrase("The data key that this is sealed with cannot be opened, so nothing can be read or stored under it now: "
               "our fault, and the operators know. Nothing was changed."),
        Phrase("Your operator has to restore the master key, or the data key from a backup: `ownkey verify` names it. "
               "Nothing that you enter here helps before."),
        flow=flow,
    )
