"""What the command line says when something does not work: one sentence, one fix, an exit code."""

from typing import Any


class CliError(Exception):
    """`exit_code` 1: it was tried and refused. 2: it could not be tried (no server, no configuration, a typo)."""

    def __init__(
        self, message: str, fix: str = "", *, code: str = "usage", exit_code: int = 2,
        more: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.fix = fix
        self.code = code
        self.exit_code = exit_code
        self.more = more or {}

    def as_json(self) -> dict[str, Any]:
        """The same shape as the management API's errors."""
        fix = {"text": self.fix, "url": None}
        return {"error": {"code": self.code, "message": self.message, "fix": fix, **self.more}}
