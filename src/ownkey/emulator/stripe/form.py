"""Form-encoded parameters with nested names, and strict reading of them.

`items[0][price]=p&expand[]=x` becomes `{"items": [{"price": "p"}], "expand": ["x"]}`. A `Form` remembers what was
read: what nobody asked for is an unknown parameter, as it is for Stripe, so that a misspelt one cannot pass unseen.
"""

import re
from collections.abc import Collection, Iterator
from urllib.parse import parse_qsl

from .refusals import Json, invalid, missing_param, unknown_param

_DEEPEST = 12
_PART = re.compile(r"\[([^\[\]]*)\]")


def parse(text: str) -> Json:
    """The nested parameters of a query or a body. Raises Refusal where a name is malformed."""
    root: Json = {}
    for name, value in parse_qsl(text, keep_blank_values=True, max_num_fields=5000):
        path = _path_of(name)
        _put(root, path, value, name)
    return {name: _settled(value) for name, value in root.items()}


def _path_of(name: str) -> list[str]:
    head, bracket, _ = name.partition("[")
    parts = _PART.findall(name[len(head) :])
    if not head or (bracket and "".join(f"[{part}]" for part in parts) != name[len(head) :]) or len(parts) > _DEEPEST:
        raise invalid(f"Invalid parameter name: {name}", name)
    return [head, *parts]


def _put(node: Json, path: list[str], value: str, name: str) -> None:
    for part in path[:-1]:
        step = part if part else str(len(node))
        node = node.setdefault(step, {})
        if not isinstance(node, dict):
            raise invalid(f"Invalid parameter name: {name}", name)
    last = path[-1] if path[-1] else str(len(node))
    node[last] = value


def _settled(value: Json | str) -> object:
    """Maps whose names are all numbers are lists; their order is the numbers' order."""
    if isinstance(value, str):
        return value
    if value and all(name.isdecimal() for name in value):
        return [_settled(value[name]) for name in sorted(value, key=int)]
    return {name: _settled(inner) for name, inner in value.items()}


class Form:
    """The parameters of one request, or one nested group of them."""

    def __init__(self, values: Json, prefix: str = "") -> None:
        self._values = values
        self._prefix = prefix
        self._read: set[str] = set()
        self._inner: list[Form] = []

    def __contains__(self, name: str) -> bool:
        return name in self._values

    def name_of(self, name: str) -> str:
        """The full name of a parameter, as errors say it."""
        return f"{self._prefix}[{name}]" if self._prefix else name

    def text(self, name: str, *, longest: int = 5000) -> str | None:
        """A text, or None where it is absent. An empty text stays empty: it unsets."""
        self._read.add(name)
        value = self._values.get(name)
        if value is None:
            return None
        if not isinstance(value, str):
            raise invalid(f"Invalid string: {value}", self.name_of(name))
        if len(value) > longest:
            message = f"Invalid string: must be at most {longest} characters"
            raise invalid(message, self.name_of(name), "parameter_invalid_string_blank")
        return value

    def need(self, name: str) -> str:
        """A text that must be there and not be empty."""
        value = self.text(name)
        if value is None:
            raise missing_param(self.name_of(name))
        if not value:
            message = f"You passed an empty string for '{self.name_of(name)}'."
            raise invalid(message, self.name_of(name), "parameter_invalid_empty")
        return value

    def integer(self, name: str, *, least: int | None = None, most: int | None = None) -> int | None:
        """A whole number within its bounds, or None."""
        value = self.text(name)
        if value is None or value == "":
            return None
        if not re.fullmatch(r"-?[0-9]{1,18}", value):
            raise invalid(f"Invalid integer: {value}", self.name_of(name), "parameter_invalid_integer")
        number = int(value)
        if least is not None and number < least:
            message = f"This value must be greater than or equal to {least}."
            raise invalid(message, self.name_of(name), "parameter_invalid_integer")
        if most is not None and number > most:
            message = f"This value must be less than or equal to {most}."
            raise invalid(message, self.name_of(name), "parameter_invalid_integer")
        return number

    def flag(self, name: str) -> bool | None:
        """True or false, or None."""
        value = self.text(name)
        if value is None or value == "":
            return None
        if value not in ("true", "false"):
            raise invalid(f"Invalid boolean: {value}", self.name_of(name))
        return value == "true"

    def choice(self, name: str, options: Collection[str]) -> str | None:
        """One of the options, or None."""
        value = self.text(name)
        if value is None or value == "":
            return None
        if value not in options:
            message = f"Invalid {self.name_of(name)}: must be one of {', '.join(options)}"
            raise invalid(message, self.name_of(name))
        return value

    def section(self, name: str) -> "Form | None":
        """A nested group, or None."""
        self._read.add(name)
        value = self._values.get(name)
        if value is None or value == "":
            return None
        if not isinstance(value, dict):
            raise invalid("Invalid object", self.name_of(name))
        return self._nested(value, self.name_of(name))

    def sections(self, name: str) -> list["Form"]:
        """A list of nested groups; absent is empty."""
        self._read.add(name)
        value = self._values.get(name, [])
        if not isinstance(value, list) or not all(isinstance(inner, dict) for inner in value):
            raise invalid("Invalid array", self.name_of(name))
        return [self._nested(inner, f"{self.name_of(name)}[{n}]") for n, inner in enumerate(value)]

    def texts(self, name: str) -> list[str] | None:
        """A list of texts, or None."""
        self._read.add(name)
        value = self._values.get(name)
        if value is None:
            return None
        if value == "":
            return []
        if not isinstance(value, list) or not all(isinstance(inner, str) for inner in value):
            raise invalid("Invalid array", self.name_of(name))
        return list(value)

    def metadata(self, old: Json | None = None) -> Json:
        """`metadata` laid over the old one: an empty value removes its key, an empty whole removes all."""
        self._read.add("metadata")
        given = self._values.get("metadata")
        if given is None:
            return dict(old or {})
        if given == "":
            return {}
        if not isinstance(given, dict) or not all(isinstance(value, str) for value in given.values()):
            raise invalid("Invalid object", self.name_of("metadata"))
        for key, value in given.items():
            if len(key) > 40 or len(value) > 500:
                message = "Metadata keys can have up to 40 characters, values up to 500."
                raise invalid(message, f"{self.name_of('metadata')}[{key}]")
        merged = {key: value for key, value in {**(old or {}), **given}.items() if value != ""}
        if len(merged) > 50:
            raise invalid("Metadata can have up to 50 keys.", self.name_of("metadata"))
        return merged

    def skip(self, *names: str) -> None:
        """Parameters that Stripe takes and that change nothing here."""
        self._read.update(names)

    def close(self) -> None:
        """Refuse what nobody has read."""
        unread = list(self._unread())
        if unread:
            raise unknown_param(unread)

    def _unread(self) -> Iterator[str]:
        yield from (self.name_of(name) for name in self._values if name not in self._read)
        for inner in self._inner:
            yield from inner._unread()

    def _nested(self, values: Json, prefix: str) -> "Form":
        inner = Form(values, prefix)
        self._inner.append(inner)
        return inner
