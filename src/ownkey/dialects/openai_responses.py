"""Reads from a Responses body what routing and money need: its input items, and what they point at.

Most clients send back the items that they were given, so an input holds far more kinds than messages. A kind that is
not known to be all text is named, and the request is then held at the model's whole context window.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec

from ownkey.dialects.openai_fields import CLIENT_TOOLS
from ownkey.domain.wire import BadRequest

_NOTHING = msgspec.Raw()
_OPENERS = b"[{"
_TEXT_PARTS = frozenset(
    {"input_text", "output_text", "text", "refusal", "summary_text", "reasoning_text", "encrypted_content"}
)
_IMAGE_PARTS = frozenset({"input_image", "image_url", "computer_screenshot"})
# Items whose tokens are those of their own text, but for the parts in their content and output. Encrypted reasoning
# is several times as long as the reasoning it holds (recorded: 8 to 31 bytes a token).
_TEXT_ITEMS = frozenset(
    {
        "message", "function_call", "function_call_output", "custom_tool_call", "custom_tool_call_output",
        "computer_call_output", "local_shell_call", "local_shell_call_output", "shell_call", "shell_call_output",
        "apply_patch_call", "apply_patch_call_output", "mcp_list_tools", "mcp_approval_request",
        "mcp_approval_response", "additional_tools", "tool_search_output",
    }
)
_STORED = ("previous_response_id", "conversation", "prompt")
_OBJECTS = ("prompt", "provider", "reasoning", "stream_options", "text")
_NO_BACKGROUND = (
    "`background` is not accepted: its answer would have to be fetched at an endpoint that is not offered here. "
    "Leave it out, and ask for a stream if the answer takes long."
)


class _Item(msgspec.Struct, gc=False):
    """The parts of an input item that may hold more than text."""

    type: Any = None
    role: Any = None
    content: msgspec.Raw = _NOTHING
    output: msgspec.Raw = _NOTHING
    encrypted_content: Any = None
    tools: msgspec.Raw = _NOTHING

    @property
    def kind(self) -> str:
        """A type may be left out: what has a role is a message, what has none refers to a stored item."""
        if self.type is None:
            return "message" if self.role is not None else "item_reference"
        return str(self.type)[:80]


_decode_items = msgspec.json.Decoder(list[_Item]).decode


@dataclass(slots=True)
class Media:
    """What a request holds besides text; `beyond_text` and `unboundable` are names in the order they came."""

    image_count: int = 0
    image_bytes: int = 0
    beyond_text: dict[str, None] = field(default_factory=dict)
    unboundable: dict[str, None] = field(default_factory=dict)

    def look_at_image(self, part: Mapping[str, Any]) -> None:
        """Count an image part. What a data URL calls something else than an image is held as what it may be."""
        image = part.get("image_url")
        url = image.get("url") if isinstance(image, dict) else image
        self.image_count += 1
        if isinstance(url, str) and url.startswith("data:"):
            self.image_bytes += len(url)
            if not url.startswith("data:image/"):
                self.beyond_text["image_url"] = None

    def look_at_breakpoint(self, part: Mapping[str, Any]) -> None:
        """A part may set a cache lifetime of its own (OpenAI's `prompt_cache_breakpoint`)."""
        if has_dear_lifetime(part.get("prompt_cache_breakpoint")):
            self.unboundable["prompt_cache_breakpoint.ttl"] = None


@dataclass(slots=True)
class InputSeen(Media):
    """What an input holds. `references`: it points at stored items. `server_tools` are tools that an item brings."""

    references: bool = False
    server_tools: list[str] = field(default_factory=list)


def has_dear_lifetime(options: Any) -> bool:
    """Whether cache options ask for another lifetime than the one whose writes have a listed price."""
    return isinstance(options, dict) and options.get("ttl") not in (None, "30m")


def is_null(values: Mapping[str, bytes], name: str) -> bool:
    """Whether a field is missing or null."""
    return values.get(name, b"null") == b"null"


def check_responses(values: Mapping[str, bytes]) -> None:
    """Raise BadRequest for what no route could answer."""
    background = values.get("background", b"null")
    if background == b"true":
        raise BadRequest(_NO_BACKGROUND, "background")
    if background not in (b"null", b"false"):
        raise BadRequest("`background` must be true or false.", "background")
    for name in _OBJECTS:
        if not is_null(values, name) and values[name][:1] != b"{":
            raise BadRequest(f"`{name}` must be an object.", name)
    given = values.get("input", b"null")
    empty = given == b"null" or not given[1:-1].strip()
    if empty and all(is_null(values, name) for name in _STORED):
        raise BadRequest("`input` is missing: send a text or a list of items.", "input")
    if given != b"null" and given[:1] not in (b'"', b"["):
        raise BadRequest("`input` must be a text or a list of items.", "input")


def read_input(values: Mapping[str, bytes]) -> InputSeen:
    """What the input and the stored things beside it hold. Raises BadRequest."""
    seen = InputSeen()
    given = values.get("input", b"null")
    if given[:1] == b"[":
        try:
            items = _decode_items(given)
        except (msgspec.DecodeError, UnicodeDecodeError):
            raise BadRequest("`input` must be a text or a list of items, each an object.", "input") from None
        for item in items:
            _look_at_item(item, seen)
    for name in _STORED:
        if not is_null(values, name):
            seen.beyond_text[name] = None
    return seen


def stored_names(values: Mapping[str, bytes], seen: InputSeen) -> tuple[str, ...]:
    """The fields that point at what one provider has stored."""
    names = [name for name in _STORED if not is_null(values, name)]
    return (*names, "item_reference") if seen.references else tuple(names)


def server_tools(raw: bytes | msgspec.Raw, where: str = "tools") -> list[str]:
    """The tools of a list that a provider runs itself. Raises BadRequest."""
    if bytes(raw) in (b"null", b"[]"):
        return []
    tools = msgspec.json.decode(raw)
    if not isinstance(tools, list):
        raise BadRequest(f"`{where}` must be a list.", where)
    kinds = (str(tool.get("type") if isinstance(tool, dict) else None) for tool in tools)
    return [f"tools: {kind[:80]}" for kind in kinds if kind not in CLIENT_TOOLS]


def _look_at_item(item: _Item, seen: InputSeen) -> None:
    kind = item.kind
    if kind == "item_reference":
        seen.references = True
    if kind == "reasoning":
        # Without its encrypted text the provider may look the reasoning up where it is stored.
        if not item.encrypted_content:
            seen.beyond_text[kind] = None
    elif kind not in _TEXT_ITEMS:
        seen.beyond_text[kind] = None
    if item.tools is not _NOTHING and kind in ("additional_tools", "tool_search_output"):
        seen.server_tools += server_tools(item.tools, "input.tools")
    for parts in (item.content, item.output):
        if parts is not _NOTHING:
            _look_at_parts(parts, kind, seen)


def _look_at_parts(raw: msgspec.Raw, kind: str, seen: InputSeen) -> None:
    if memoryview(raw)[0] not in _OPENERS:
        return
    parts = msgspec.json.decode(raw)
    for part in parts if isinstance(parts, list) else (parts,):
        _look_at_part(part, kind, seen)


def _look_at_part(part: Any, kind: str, seen: InputSeen) -> None:
    if not isinstance(part, dict):
        return
    seen.look_at_breakpoint(part)
    what = str(part.get("type"))
    if what in _IMAGE_PARTS:
        seen.look_at_image(part)
    elif what not in _TEXT_PARTS and not (kind == "shell_call_output" and "type" not in part):
        seen.beyond_text[what[:80]] = None
