"""Scripted faults: which requests they hit, how often, and whether the effect has happened when the answer fails.

    error {status, type?, code?, message?, after?}   an error of any kind; `after`: the effect has happened
    rate_limit, server_error, lock_timeout           the usual ones, without effect
    silence {after?}                                 no answer until the client leaves
    slow {seconds}                                   the work starts late; meanwhile its Idempotency-Key is in use
    reset {after?}                                   the connection is reset
    lost_answer                                      the effect happens, the connection is reset
    not_json {status?}                               an HTML page, as proxies send
"""

import random
from dataclasses import asdict, dataclass, field
from typing import Any

from .refusals import Json, Refusal, broken, busy

NAMES: dict[str, Json] = {
    "error": {"status": 400, "type": "invalid_request_error", "code": None, "message": "Scripted.", "after": False},
    "rate_limit": {}, "server_error": {"after": False}, "lock_timeout": {}, "silence": {"after": False},
    "slow": {"seconds": 1.0}, "reset": {"after": False}, "lost_answer": {"after": True}, "not_json": {"status": 502},
}  # fmt: skip


@dataclass(slots=True)
class Rule:
    """One scripted fault. `match` takes method and path, a path ending in * matches what begins so."""

    id: int
    name: str
    params: Json
    match: dict[str, str]
    times: int | None
    skip: int
    probability: float
    hits: int = 0

    @property
    def after(self) -> bool:
        """Whether the effect happens first."""
        return bool(self.params.get("after"))

    def fits(self, method: str, path: str) -> bool:
        """Whether the rule is about this request."""
        wanted = self.match.get("path", "*")
        same = path.startswith(wanted[:-1]) if wanted.endswith("*") else path == wanted
        return same and self.match.get("method", method).upper() == method

    def refusal(self) -> Refusal | None:
        """The error that a rule answers with, if it answers."""
        params = self.params
        match self.name:
            case "error":
                return Refusal(params["status"], params["type"], params["message"], code=params["code"])
            case "rate_limit":
                return busy()
            case "lock_timeout":
                message = "This object cannot be accessed right now because another API request or Stripe process is "
                return busy(message + "currently accessing it.", "lock_timeout")
            case "server_error":
                return broken()
            case _:
                return None


@dataclass(slots=True)
class Faults:
    """The script. The same seed hits the same requests."""

    seed: int = 0
    rules: list[Rule] = field(default_factory=list)
    _next: int = 1
    _dice: random.Random = field(init=False)

    def __post_init__(self) -> None:
        self._dice = random.Random(self.seed)  # noqa: S311 - chance that repeats, not a secret

    def add(self, asked: Json) -> Json:
        """Add {match?, times?, skip?, probability?, fault: name or {name, …}}. ValueError says what is wrong."""
        fault = asked.get("fault")
        given: Json = {"name": fault} if isinstance(fault, str) else dict(fault or {})
        name = given.pop("name", None)
        if name not in NAMES:
            raise ValueError(f"fault: one of {', '.join(NAMES)}")
        if set(given) - set(NAMES[name]):
            raise ValueError(f"{name} takes {', '.join(NAMES[name]) or 'nothing'}")
        match = asked.get("match") or {}
        if set(match) - {"method", "path"}:
            raise ValueError("match: method and path")
        times: Any = asked.get("times", 1)
        rule = Rule(
            self._next, name, {**NAMES[name], **given}, match, times, int(asked.get("skip", 0)),
            float(asked.get("probability", 1.0)),
        )  # fmt: skip
        self._next += 1
        self.rules.append(rule)
        return asdict(rule)

    def take(self, method: str, path: str) -> Rule | None:
        """The rule that hits this request, counted."""
        for rule in self.rules:
            if not rule.fits(method, path) or (rule.times is not None and rule.times <= 0):
                continue
            if rule.skip > 0:
                rule.skip -= 1
                continue
            if self._dice.random() >= rule.probability:
                continue
            rule.hits += 1
            if rule.times is not None:
                rule.times -= 1
            return rule
        return None
