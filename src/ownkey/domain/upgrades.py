"""A database on its way to a newer schema: which step of how many, in the words of every terminal and page."""

from collections.abc import Callable
from dataclasses import dataclass

from ownkey.domain.phrases import Phrase


@dataclass(frozen=True, slots=True)
class UpgradeStep:
    """What begins now. `from_schema` "" is a new database. `n` of `of` are the steps of the schema; 0 is what comes
    before them, and what is behind the last of them has `n` above `of`. `is_done`: nothing begins any more."""

    from_schema: str
    to_schema: str
    n: int
    of: int
    name: str
    is_done: bool = False

    @property
    def is_new(self) -> bool:
        return not self.from_schema

    @property
    def finished(self) -> int:
        """How many steps of the schema are behind this moment."""
        return max(0, min(self.n - 1, self.of))

    @property
    def words(self) -> str:
        """"Bringing the database from schema 0030 to 0034: step 2 of 4 (0032_work)"."""
        if self.is_done:
            return Phrase("The database is at schema {schema}", schema=self.to_schema)
        what = self.name if not 1 <= self.n <= self.of else Phrase(
            "step {n} of {of} ({name})", n=self.n, of=self.of, name=self.name
        )
        if self.is_new:
            return Phrase("Bringing the database to schema {to}: {what}", to=self.to_schema, what=what)
        return Phrase(
            "Bringing the database from schema {old} to {to}: {what}", old=self.from_schema, to=self.to_schema,
            what=what,
        )


Told = Callable[[UpgradeStep], None]
"""Hears of each step before it begins, on the thread that does it."""
