"""What every translation to a foreign wire format needs, so that nothing of a request is lost on the way.

A parameter is carried, named as left behind (hints, which change no answer), or refused. These helpers keep the
three apart, and put reasoning that a stateless client collected piece by piece together again.
"""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import msgspec

from ownkey.domain.conversation import ChatRequest, Image, Message, Part, Refusal, Text, Untranslatable

# They label a call, or help the provider to cache or to watch for abuse; no answer depends on them.
HINTS = frozenset(
    {
        "diagnostics",
        "messages[].annotations",
        "messages[].content[].citations",
        "messages[].content[].prompt_cache_breakpoint",
        "metadata",
        "prompt_cache_key",
        "prompt_cache_options",
        "prompt_cache_retention",
        "safety_identifier",
        "session_id",
        "store",
        "trace",
        "usage",
        "user",
    }
)

# How the answer comes back is the dialect's business, not the provider's.
ANSWER_SHAPE = frozenset({"stream", "stream_options"})

# Values that ask for what happens anyway.
_NO_EFFECT: Mapping[str, Callable[[Any], bool]] = {
    "n": lambda value: value == 1,
    "logprobs": lambda value: value is False,
    "top_logprobs": lambda value: value == 0,
    "logit_bias": lambda value: value == {},
    "frequency_penalty": lambda value: value == 0,
    "presence_penalty": lambda value: value == 0,
    "repetition_penalty": lambda value: value == 1,
    "min_p": lambda value: value == 0,
    "top_a": lambda value: value == 0,
    "modalities": lambda value: value == ["text"],
    "include_reasoning": lambda value: value is True,
    "verbosity": lambda value: value == "medium",
    "service_tier": lambda value: value in ("auto", "default"),
}

# OpenRouter's documented shares of the output limit ("Reasoning tokens"), so that both routes think alike.
EFFORT_SHARE = {
    "minimal": Fraction(1, 10),
    "low": Fraction(2, 10),
    "medium": Fraction(5, 10),
    "high": Fraction(8, 10),
    "xhigh": Fraction(95, 100),
    "max": Fraction(95, 100),
}

SYSTEM_MARK = "[system message]\n"
TOOL_ERROR_MARK = "[tool error]\n"


def refuse_unknown(rest: Mapping[str, Any], carried: Collection[str] = ()) -> None:
    """Raise Untranslatable for the first parameter that is neither carried, nor a hint, nor without effect."""
    for name in sorted(rest):
        value = rest[name]
        if value is None or name in carried or name in HINTS or name in ANSWER_SHAPE:
            continue
        harmless = _NO_EFFECT.get(name)
        if harmless is None or not harmless(value):
            raise Untranslatable(name, "the provider has no such parameter")


def hints_left_behind(request: ChatRequest, carried: Collection[str] = ()) -> list[str]:
    """The hints of a request that a translation leaves behind, in a stable order, as the caller wrote them."""
    left = [name for name in sorted(request.rest) if request.rest[name] is not None and name in HINTS - set(carried)]
    if any(message.name for message in request.messages):
        left.append("messages[].name")
    if any(isinstance(part, Image) and part.detail not in (None, "auto") for part in all_parts(request)):
        left.append("messages[].content[].image_url.detail")
    return left


def refuse_choice_of_nothing(request: ChatRequest) -> None:
    """Raise Untranslatable where a tool must be called and there is none: the demand would be lost."""
    if not request.tools and request.tool_choice is not None and request.tool_choice.mode in ("required", "named"):
        raise Untranslatable("tool_choice", "there are no tools to choose from")


def is_cache_marked(request: ChatRequest) -> bool:
    """Whether any part, tool or tool call asks to be cached."""
    calls = (call for message in request.messages for call in message.tool_calls)
    marked = (*all_parts(request), *request.tools, *calls)
    return any(getattr(part, "cache_control", None) is not None for part in marked)


def all_parts(request: ChatRequest) -> Iterable[Part]:
    """Every content part of every message."""
    return (part for message in request.messages for part in message.parts)


def split_system(messages: Sequence[Message]) -> tuple[list[Text], list[Message]]:
    """The texts of the leading system messages, and the turns that follow.

    A later system message stays where it is, as user text with a mark: both providers know one system prompt
    only, and moved to the front it would change what it refers to. The same holds for the last one of a
    conversation that has nothing else.
    """
    leading = 0
    while leading < len(messages) and messages[leading].role == "system":
        leading += 1
    if leading == len(messages):
        leading -= 1
    system = [text for message in messages[:leading] for text in system_texts(message)]
    turns = []
    for message in messages[max(leading, 0) :]:
        if message.role == "system":
            texts = system_texts(message)
            parts = tuple(Text(SYSTEM_MARK + text.text, text.cache_control) for text in texts)
            message = Message(role="user", parts=parts)
        turns.append(message)
    return system, turns


def system_texts(message: Message) -> list[Text]:
    """A system message's texts, empty ones left out. Raises Untranslatable for anything but text."""
    texts = []
    for part in message.parts:
        if not isinstance(part, Text):
            raise Untranslatable("messages", "a system message may hold text only")
        if part.text:
            texts.append(part)
    return texts


def text_of_part(part: Part) -> Text | None:
    """A part that is read as text (text, or a refusal quoted from the history), else None."""
    match part:
        case Text():
            return part
        case Refusal(text=text):
            return Text(text)
        case _:
            return None


def parse_arguments(arguments: str) -> dict[str, Any]:
    """A tool call's arguments as an object; none at all is the empty object. Raises Untranslatable."""
    if not arguments.strip():
        return {}
    try:
        value = msgspec.json.decode(arguments)
    except (msgspec.DecodeError, UnicodeEncodeError, RecursionError):
        raise Untranslatable("messages[].tool_calls[].function.arguments", "not valid JSON") from None
    if not isinstance(value, dict):
        raise Untranslatable("messages[].tool_calls[].function.arguments", "not a JSON object")
    return value


@dataclass(frozen=True, slots=True)
class Reasoning:
    """One whole piece of reasoning of a past answer: text, signature, or both; `data` is an opaque block.

    `call_id` names the tool call that an opaque block belongs to, if it says so.
    """

    text: str = ""
    signature: str | None = None
    data: str | None = None
    call_id: str | None = None


def collect_reasoning(details: Sequence[Mapping[str, Any]], format: str) -> list[Reasoning]:
    """Put reasoning_details together again: clients that streamed send back every fragment as its own entry.

    Fragments of one piece follow each other and share their index; a signature closes a piece. The official
    openai SDK adds fragments up itself, by position: then one entry may hold a thought and an opaque block, and
    its format is repeated. Raises Untranslatable for reasoning of another provider's format, which this one
    could not verify.
    """
    pieces: list[Reasoning] = []
    open_index: object = None
    for detail in details:
        kind = detail.get("type")
        stated = detail.get("format")
        ours = stated is None or (isinstance(stated, str) and not stated.replace(format, ""))
        if not ours or kind not in ("reasoning.text", "reasoning.encrypted"):
            raise Untranslatable("messages[].reasoning_details", f"reasoning of the format {stated or kind}")
        text, signature, data = (_string(detail, name) for name in ("text", "signature", "data"))
        if text or signature:
            index = detail.get("index")
            if pieces and open_index == index and pieces[-1].signature is None and pieces[-1].data is None:
                pieces[-1] = Reasoning(pieces[-1].text + text, signature or None)
            else:
                pieces.append(Reasoning(text, signature or None))
            open_index = index
        if data:
            pieces.append(Reasoning(data=data, call_id=_string(detail, "id") or None))
        elif kind == "reasoning.encrypted":
            raise Untranslatable("messages[].reasoning_details", "an encrypted block without data")
    return pieces


def _string(fields: Mapping[str, Any], name: str) -> str:
    value = fields.get(name)
    return value if isinstance(value, str) else ""
