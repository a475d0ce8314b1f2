"""What callers of Anthropic's API speak: Messages, whole and streamed, and the counting of their tokens.

A request is checked and understood as far as routing and money need it; the rest of its bytes belong to the caller
and reach Anthropic, and OpenRouter's own `/messages`, unchanged.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Protocol

import msgspec

from ownkey.dialects import anthropic_fields as fields
from ownkey.dialects import openai_fields
from ownkey.dialects.anthropic_answer import MessagesEncoder
from ownkey.dialects.anthropic_errors import envelope, stream_error
from ownkey.dialects.anthropic_neutral import read_messages
from ownkey.dialects.anthropic_shape import read_shape
from ownkey.dialects.anthropic_thoughts import unmark_messages
from ownkey.dialects.openai_chat import check_utf8
from ownkey.dialects.openai_shape import optional_bool, optional_str
from ownkey.dialects.provider_field import check_provider, edit_provider, member_object
from ownkey.dialects.splice import MAX_DEPTH, ObjectSpans, Splicer, is_too_deep, readable_numbers
from ownkey.domain.bounds import RequestShape
from ownkey.domain.conversation import ChatRequest
from ownkey.domain.wire import BadRequest, Edits, EmbeddingsRequest, Endpoint, ErrorFields, Seen

_OPTIONAL_OBJECTS = ("metadata", "output_config", "output_format", "provider", "thinking", "tool_choice")
_STEERING = openai_fields.STEERING - fields.ANTHROPIC
_MIN_THINKING_BUDGET = 1_024
_LONGEST_NUMBER = 18


class AnsweredCall(Protocol):
    """What an encoder needs of the call it answers."""

    @property
    def model(self) -> str: ...


@dataclass(slots=True)
class MessagesCall:
    """One decoded call of the Messages API; `count_tokens` has the same body, without an answer's limits.

    `router_fields` are the fields that Anthropic itself does not know; `translatable_fields` are those among them
    that a translated route carries, or names as left behind.
    """

    endpoint: Endpoint
    model: str
    stream: bool
    include_usage: bool
    shape: RequestShape
    router_fields: tuple[str, ...]
    translatable_fields: tuple[str, ...]
    stateful: tuple[str, ...]
    body: bytes
    members: ObjectSpans

    def native_body(self, edits: Edits) -> bytes:
        """The caller's bytes with only `edits` spliced in; everything else keeps its bytes and order.

        Two things follow from them: a thinking budget stays below a lowered limit, as Anthropic demands, and what
        bears our mark is taken out of the conversation (see `anthropic_thoughts`).
        """
        splicer = Splicer(self.body)
        if edits.model != self.model:
            splicer.replace(self.members.spans["model"], msgspec.json.encode(edits.model))
        if edits.output_limit is not None and self.endpoint == "messages":
            self._edit_output_limit(splicer, edits.output_limit)
        edit_provider(splicer, self.members, edits)
        unmark_messages(splicer, self.members, edits.model)
        return splicer.result()

    def left_out(self, model: str) -> tuple[str, ...]:
        """What `native_body` takes out of the conversation for this upstream model, by name."""
        return unmark_messages(Splicer(self.body), self.members, model)

    def _edit_output_limit(self, splicer: Splicer, limit: int) -> None:
        stated = self.shape.output_limit
        if stated is not None and stated <= limit:
            return
        splicer.set(self.members, "max_tokens", b"%d" % limit)
        thinking = member_object(self.members, "thinking")
        if thinking is None or limit <= _MIN_THINKING_BUDGET:
            return
        budget = thinking.values.get("budget_tokens", b"")
        if budget.isdigit() and (len(budget) > _LONGEST_NUMBER or int(budget) >= limit):
            splicer.set(thinking, "budget_tokens", b"%d" % (limit - 1))

    def neutral_chat(self) -> ChatRequest:
        """The request in the neutral form. Raises BadRequest for a body that no route could read."""
        with readable_numbers():
            return read_messages(msgspec.json.decode(self.body))

    def neutral_embeddings(self) -> EmbeddingsRequest:
        """There is none. Raises BadRequest."""
        raise BadRequest("Messages are not embedded.")


class AnthropicDialect:
    """Anthropic's Messages, as its SDKs send and expect them."""

    name = "anthropic"
    keepalive = b": keep-alive\n\n"
    request_id_header = "request-id"
    limit_required = True

    def decode(self, endpoint: Endpoint, body: bytes) -> MessagesCall:
        """Read a body as far as routing and money need it. Raises BadRequest."""
        with readable_numbers():
            return self._decode(endpoint, body)

    def _decode(self, endpoint: Endpoint, body: bytes) -> MessagesCall:
        check_utf8(body)
        members = ObjectSpans(body)
        if is_too_deep(body):
            raise BadRequest(f"The body is nested deeper than {MAX_DEPTH} levels.")
        values = members.values
        _refuse_steering(values)
        model = optional_str(values, "model")
        if not model:
            raise BadRequest("`model` is missing: name a model or a task.", "model")
        _check_types(values)
        read = read_shape(body, values)
        shape = read.shape
        if endpoint == "count_tokens":
            shape = replace(shape, unboundable=(), output_limit=None)  # Free, whatever is counted.
        elif self.limit_required and shape.output_limit is None:
            raise BadRequest("`max_tokens` is missing: say how long the answer may be at most.", "max_tokens")
        check_provider(members)
        member_object(members, "thinking")  # It may have to be edited; what names a field twice is refused here.
        unmark_messages(Splicer(body), members, model)
        router_fields = tuple(name for name in values if name in fields.OPENROUTER and values[name] != b"null")
        return MessagesCall(
            endpoint=endpoint,
            model=model,
            stream=endpoint == "messages" and optional_bool(values, "stream") is True,
            include_usage=True,
            shape=shape,
            router_fields=router_fields,
            translatable_fields=tuple(name for name in router_fields if name in fields.TRANSLATABLE),
            stateful=read.stateful,
            body=body,
            members=members,
        )

    def encoder(self, call: AnsweredCall, created_s: int, answer_id: str) -> MessagesEncoder:
        """An encoder for one answer to `call`; Anthropic's answers bear no time."""
        return MessagesEncoder(call.model, answer_id)

    def encode_error(self, error: ErrorFields) -> bytes:
        """Anthropic's envelope with our code, fix and receipt inside."""
        return msgspec.json.encode(envelope(error))

    def encode_stream_error(self, error: ErrorFields, call: object, seen: Seen | None) -> bytes:
        """The event that ends a stream whose answer failed after it began."""
        return stream_error(error)


class OpenRouterMessagesDialect(AnthropicDialect):
    """The same under /api/v1, where the limit of an answer may be left out."""

    limit_required = False


def _refuse_steering(values: Mapping[str, bytes]) -> None:
    """Refuse fields that would say where the request goes: only the operator does."""
    for name in map(str.lower, values):
        if name in _STEERING or name.startswith(openai_fields.STEERING_PREFIXES):
            raise BadRequest(f"`{name}` is not accepted: the route is not the request's to choose.", name)


def _check_types(values: Mapping[str, bytes]) -> None:
    messages = values.get("messages", b"null")
    if messages[:1] != b"[":
        raise BadRequest("`messages` must be a list of messages.", "messages")
    if not messages[1:-1].strip():
        raise BadRequest("`messages` is empty: send at least one message.", "messages")
    for name in _OPTIONAL_OBJECTS:
        if values.get(name, b"null") != b"null" and values[name][:1] != b"{":
            raise BadRequest(f"`{name}` must be an object.", name)
    if values.get("system", b"null") != b"null" and values["system"][:1] not in (b'"', b"["):
        raise BadRequest("`system` must be a text or a list of text blocks.", "system")
    optional_bool(values, "stream")
