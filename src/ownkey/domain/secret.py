"""A secret cannot leak by accident: it prints as ***, does not serialise, and compares in constant time."""

import hmac
from typing import NoReturn


class Secret:
    """A plaintext credential in memory. `reveal()` is called in one module only; a test says which."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        """The plaintext."""
        return self._value

    def __repr__(self) -> str:
        return "***"

    __str__ = __repr__

    def __format__(self, spec: str) -> str:
        return "***"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Secret):
            return NotImplemented
        return hmac.compare_digest(self._value.encode(), other._value.encode())

    def __hash__(self) -> NoReturn:
        raise TypeError("a Secret has no hash")

    def __reduce__(self) -> NoReturn:
        raise TypeError("a Secret is never pickled or copied")

    def __copy__(self) -> NoReturn:
        raise TypeError("a Secret is never pickled or copied")

    def __deepcopy__(self, memo: object) -> NoReturn:
        raise TypeError("a Secret is never pickled or copied")

    def __bool__(self) -> bool:
        return True

    def __len__(self) -> int:
        return len(self._value)
