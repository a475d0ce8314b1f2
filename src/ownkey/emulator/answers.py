"""What the emulated model says: prose, tool calls, JSON, reasoning or a refusal, all from the seed and the prompt.

A prompt may direct its own answer with `[emulator key=value ...]`; the keys are those of `Settings`.
"""

import re
from base64 import b64encode
from dataclasses import dataclass, fields, replace
from hashlib import shake_256
from typing import Any

import msgspec

from .catalogue import Model
from .dice import Dice, Prose, count_tokens, cut_to_tokens
from .plan import Ask, Choice, Finish, Part, Tool, Usage
from .schema import instance

_DIRECTIVE = re.compile(r"\[emulator ([^\]]*)\]")
_REFUSAL = "I can't help with that request."


@dataclass(frozen=True, slots=True)
class Settings:
    """How answers to a provider, model or key look and how long they take. None means: the emulator decides."""

    latency_s: float = 0.0
    first_content_s: float = 0.0
    gap_s: float = 0.0
    comment_every_s: float = 0.5
    split: bool = False
    delta_tokens: int = 4
    output_tokens: int | None = None
    text: str | None = None
    reasoning_tokens: int | None = None
    cached_tokens: int = 0
    refuse: str | None = None
    call_tools: bool = False
    is_byok: bool = False
    byok_fee_percent: int = 0
    request_fee_nusd: int = 0
    embedding_usage: bool = True
    google_embedding_usage: bool = True


DEFAULT = Settings()
_TYPES = {
    field.name: field.type.__name__ if isinstance(field.type, type) else str(field.type) for field in fields(Settings)
}


def settings_from(base: Settings, changes: dict[str, Any]) -> Settings:
    """`base` with `changes`; raises ValueError naming what is unknown or of the wrong type."""
    known: dict[str, Any] = {}
    for name, value in changes.items():
        declared = _TYPES.get(name)
        if declared is None:
            raise ValueError(f"unknown setting {name!r}; known: {', '.join(sorted(_TYPES))}")
        known[name] = _typed(name, declared, value)
    return replace(base, **known)


def _typed(name: str, declared: str, value: Any) -> Any:
    if value is None and "None" in declared:
        return None
    if declared.startswith("bool"):
        if isinstance(value, bool) or str(value).lower() in {"true", "false", "1", "0"}:
            return value if isinstance(value, bool) else str(value).lower() in {"true", "1"}
    elif declared.startswith("int"):
        if not isinstance(value, bool) and re.fullmatch(r"\d+", str(value)):
            return int(value)
    elif declared.startswith("float"):
        if not isinstance(value, bool) and re.fullmatch(r"\d+(\.\d+)?([eE]-?\d+)?", str(value)):
            return float(value)
    elif isinstance(value, str):
        return value
    raise ValueError(f"setting {name!r} does not take {value!r}")


def directed(settings: Settings, prompt: str) -> Settings:
    """`settings` with what the prompt's own `[emulator …]` marks ask for."""
    if "[emulator " not in prompt:
        return settings
    for found in _DIRECTIVE.findall(prompt):
        pairs = (word.partition("=") for word in found.split())
        settings = settings_from(settings, {key: value or "true" for key, _, value in pairs})
    return settings


def signature(*seeds: object, size: int = 96) -> str:
    """What a signed thought looks like: base64 nobody but the provider can read."""
    return b64encode(shake_256("\x1f".join(map(str, seeds)).encode("utf-8", "surrogatepass")).digest(size)).decode()


class Writer:
    """The model behind every provider."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self._prose = Prose(seed)

    def choices(self, ask: Ask, model: Model, settings: Settings) -> tuple[Choice, ...]:
        """`ask.n` answers."""
        return tuple(self._choice(ask, model, settings, index) for index in range(ask.n))

    def _choice(self, ask: Ask, model: Model, settings: Settings, index: int) -> Choice:
        dice = Dice(self.seed, model.slug, index, ask.text)
        budget = min(ask.limit if ask.limit is not None else model.max_output, model.max_output)
        if settings.refuse is not None:
            return _refusal(settings.refuse, budget)
        thoughts, hidden = self._thoughts(ask, model, settings, dice, budget)
        budget -= hidden + sum(part.tokens for part in thoughts)
        calls = _calls(ask, settings, dice)
        if calls:
            cost = sum(part.tokens for part in calls)
            if cost > budget:
                return Choice(thoughts, "length", None, hidden)
            return Choice((*thoughts, *calls), "tool_calls", None, hidden)
        text = self._text(ask, settings, dice)
        finish: Finish = "stop"
        stopped: str | None = None
        for stop in ask.stop:
            if stop and stop in text:
                text, stopped = text[: text.index(stop)], stop
        if count_tokens(text) > budget:
            text, finish, stopped = cut_to_tokens(text, budget), "length", None
        parts = (*thoughts, Part("text", text, count_tokens(text))) if text else thoughts
        return Choice(parts, finish, stopped, hidden)

    def _thoughts(
        self, ask: Ask, model: Model, settings: Settings, dice: Dice, budget: int
    ) -> tuple[tuple[Part, ...], int]:
        wanted = settings.reasoning_tokens
        if not ask.thinks and not wanted:
            return (), 0
        tokens = min(wanted if wanted is not None else dice.between(8, 32), budget // 2)
        if tokens <= 0:
            return (), 0
        if not ask.shows_thoughts:
            return (), tokens
        text = self._prose.cut(dice, 4 * tokens)
        mark = signature(self.seed, model.slug, ask.text)
        return (Part("reasoning", text, count_tokens(text), signature=mark),), 0

    def _text(self, ask: Ask, settings: Settings, dice: Dice) -> str:
        if settings.text is not None:
            return settings.text
        if ask.schema is not None:
            return msgspec.json.encode(instance(ask.schema, dice, ask.last)).decode()
        if ask.json_object:
            return msgspec.json.encode({"answer": self._prose.cut(dice, 40)}).decode()
        if settings.output_tokens is not None:
            return self._prose.cut(dice, 4 * settings.output_tokens)
        return whole_words(self._prose.cut(dice, 4 * dice.between(12, 48)))


def whole_words(text: str) -> str:
    """`text` without the word it was cut in, ended by a full stop."""
    kept = text.rpartition(" ")[0].rstrip(" .?!\n")
    return f"{kept}."


def _refusal(how: str, budget: int) -> Choice:
    match how:
        case "content_filter":
            return Choice((), "content_filter")
        case "blocked":
            return Choice((), "blocked")
        case _:
            text = cut_to_tokens(_REFUSAL, budget)
            return Choice((Part("refusal", text, count_tokens(text)),), "refusal")


def _calls(ask: Ask, settings: Settings, dice: Dice) -> tuple[Part, ...]:
    if not ask.tools or ask.tool_mode == "none" or ask.after_tool:
        return ()
    chosen = _chosen(ask, settings)
    return tuple(_call(tool, dice, ask.last) for tool in chosen)


def _chosen(ask: Ask, settings: Settings) -> tuple[Tool, ...]:
    if ask.tool_name is not None:
        return tuple(tool for tool in ask.tools if tool.name == ask.tool_name)[:1]
    words = ask.last.lower()
    named = tuple(tool for tool in ask.tools if tool.name.lower() in words)
    if "parallel" in words and len(named) < 2:
        named = ask.tools
    wanted = ask.tool_mode == "required" or settings.call_tools or "call the tool" in words
    chosen = named or (ask.tools[:1] if wanted else ())
    return chosen if ask.parallel else chosen[:1]


def _call(tool: Tool, dice: Dice, hint: str) -> Part:
    arguments = msgspec.json.encode(instance(tool.schema or {"type": "object"}, dice, hint)).decode()
    tokens = count_tokens(tool.name) + count_tokens(arguments)
    return Part("tool", arguments, tokens, id=dice.token(24), name=tool.name)


def usage_of(ask: Ask, choices: tuple[Choice, ...], settings: Settings, seen: set[str] | None = None) -> Usage:
    """The tokens in disjoint classes. `seen` holds the cached prompt beginnings of the key, and gains new ones."""
    read = write_5m = write_1h = 0
    covered = 0
    for point in ask.cache_points:
        tokens = max(0, min(point.tokens, ask.input_tokens) - covered)
        covered += tokens
        if seen is not None and point.digest in seen:
            read += tokens
        elif point.hour:
            write_1h += tokens
        else:
            write_5m += tokens
        if seen is not None:
            seen.add(point.digest)
    fresh = ask.input_tokens - covered
    if settings.cached_tokens:
        extra = min(settings.cached_tokens, fresh)
        read, fresh = read + extra, fresh - extra
    return Usage(
        input=fresh,
        cache_read=read,
        cache_write_5m=write_5m,
        cache_write_1h=write_1h,
        output=sum(choice.output_tokens for choice in choices),
        reasoning=sum(choice.reasoning_tokens for choice in choices),
    )


def deltas(text: str, tokens: int) -> list[str]:
    """`text` in pieces of about `tokens` tokens, whole words where possible."""
    size = max(1, 4 * tokens)
    pieces: list[str] = []
    start = 0
    while start < len(text):
        end = min(len(text), start + size)
        space = text.rfind(" ", start + 1, end)
        if end < len(text) and space > start:
            end = space
        pieces.append(text[start:end])
        start = end
    return pieces
