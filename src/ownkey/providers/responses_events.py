"""The parts of a Responses answer that Ownkey reads: one typed decode per event, or per body.

Whatever is not named here is skipped by the decoder without becoming an object: `response.created` and
`response.completed` repeat the whole request. Scalars are `Any` because a provider's odd type in a field of no
consequence must not fail a good answer.
"""

from typing import Any

import msgspec

from ownkey.providers.openai_chunks import NOTHING
from ownkey.providers.openai_wire import size_of

# What the caller has to act on before the conversation can go on.
_CALLERS_TURN = frozenset(
    {
        "function_call", "custom_tool_call", "computer_call", "local_shell_call", "apply_patch_call",
        "mcp_approval_request",
    }
)

# Calls of the provider's own tools that are billed beside the tokens, by the name of the fee.
_FEES = {
    "web_search_call": "web_search",
    "file_search_call": "file_search",
    "code_interpreter_call": "code_interpreter",
    "image_generation_call": "image_generation",
}


class Event(msgspec.Struct, gc=False):
    """One event of a stream. `item` and `response` stay text until their event needs them."""

    type: Any = None
    delta: Any = None
    output_index: Any = None
    sequence_number: Any = None
    item: msgspec.Raw = NOTHING
    response: msgspec.Raw = NOTHING
    error: msgspec.Raw = NOTHING


class Answer(msgspec.Struct, gc=False):
    """A whole body, or the `response` of a lifecycle event."""

    id: Any = None
    model: Any = None
    status: Any = None
    error: msgspec.Raw = NOTHING
    incomplete_details: Any = None
    output: msgspec.Raw = NOTHING
    usage: msgspec.Raw = NOTHING


class Item(msgspec.Struct, gc=False):
    """One output item: a message, reasoning, or a call of a tool."""

    type: Any = None
    content: Any = None
    summary: Any = None
    encrypted_content: Any = None
    name: Any = None
    arguments: Any = None
    input: Any = None
    code: Any = None
    action: Any = None
    actions: Any = None
    operation: Any = None
    result: Any = None
    environment: Any = None
    execution: Any = None

    @property
    def is_call(self) -> bool:
        """Whether the model calls a tool here, its caller's or the provider's."""
        return isinstance(self.type, str) and self.type.endswith("_call")

    @property
    def is_callers_turn(self) -> bool:
        """Whether the conversation waits for what the caller makes of this item.

        A shell runs at the caller's unless it has a container; a search for tools says who does it.
        """
        match self.type:
            case "shell_call":
                place = self.environment.get("type") if isinstance(self.environment, dict) else None
                return bool(place != "container_reference")
            case "tool_search_call":
                return bool(self.execution == "client")
            case _:
                return isinstance(self.type, str) and self.type in _CALLERS_TURN

    @property
    def fee(self) -> str | None:
        """The piece this item is billed as; of web calls only the searches are."""
        act = self.action.get("type", "search") if isinstance(self.action, dict) else "search"
        if self.type == "web_search_call" and act != "search":
            return None
        return _FEES.get(self.type) if isinstance(self.type, str) else None

    @property
    def refuses(self) -> bool:
        """Whether the model says no here."""
        parts = self.content if isinstance(self.content, list) else ()
        return any(isinstance(part, dict) and part.get("refusal") for part in parts)

    def size(self) -> int:
        """Bytes of what the model made: text, refusal, reasoning, encrypted or not, calls and pictures.

        What a tool gave back is not among them. A call counts even if it has no text.
        """
        texts = [self.encrypted_content, self.name, self.arguments, self.input, self.code]
        if self.type == "image_generation_call":
            texts.append(self.result)
        elif self.is_call and self.fee is None and self.type != "web_search_call":
            texts += (self.action, self.actions, self.operation)
        for parts in (self.content, self.summary):
            for part in parts if isinstance(parts, list) else ():
                if isinstance(part, dict):
                    texts += (part.get("text"), part.get("refusal"))
        size = sum(size_of(text) for text in texts if text)
        return size or (1 if self.is_call else 0)


decode_event = msgspec.json.Decoder(Event).decode
decode_answer = msgspec.json.Decoder(Answer).decode
decode_item = msgspec.json.Decoder(Item).decode
decode_items = msgspec.json.Decoder(list[Item | None]).decode
