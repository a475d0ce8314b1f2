"""What callers of OpenAI's and of OpenRouter's API speak: the same requests and answers, two error envelopes.

A request is checked and understood as far as routing and money need it; the rest of its bytes belong to the
caller and reach an upstream of the same wire format unchanged.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

import msgspec

from ownkey.dialects import openai_fields as fields
from ownkey.dialects.openai_answer import ChatEncoder, EmbeddingsEncoder
from ownkey.dialects.openai_errors import openai_envelope, openrouter_envelope, stream_error
from ownkey.dialects.openai_neutral import read_chat, read_embeddings
from ownkey.dialects.openai_responses import check_responses, read_input, stored_names
from ownkey.dialects.openai_responses_errors import responses_error
from ownkey.dialects.openai_shape import (
    LIMIT_FIELDS,
    optional_bool,
    optional_count,
    optional_str,
    read_models,
    read_shape,
)
from ownkey.dialects.provider_field import check_provider, edit_provider, member_object
from ownkey.dialects.splice import MAX_DEPTH, ObjectSpans, Splicer, is_too_deep, readable_numbers
from ownkey.domain.bounds import RequestShape
from ownkey.domain.conversation import ChatRequest
from ownkey.domain.wire import BadRequest, Edits, EmbeddingsRequest, Endpoint, ErrorFields, Seen

_OPTIONAL_OBJECTS = ("stream_options", "provider", "reasoning", "response_format", "usage")


class EndpointCall(Protocol):
    """What an error in a stream needs to know of its call."""

    @property
    def endpoint(self) -> Endpoint: ...


class AnsweredCall(Protocol):
    """What an encoder needs of the call it answers."""

    @property
    def model(self) -> str: ...

    @property
    def endpoint(self) -> Endpoint: ...

    @property
    def include_usage(self) -> bool: ...

    def neutral_embeddings(self) -> EmbeddingsRequest: ...


@dataclass(slots=True)
class OpenAICall:
    """One decoded call: chat, embeddings or responses.

    `router_fields` are the fields that OpenAI itself does not know; `translatable_fields` are those among them
    that have a neutral form, so that a translated route may still carry the call.
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
        """The caller's bytes with only `edits` spliced in; everything else keeps its bytes and order."""
        members = self.members
        splicer = Splicer(self.body)
        if edits.model != self.model:
            splicer.set(members, "model", msgspec.json.encode(edits.model))
        if edits.output_limit is not None and self.endpoint != "embeddings":
            self._edit_output_limit(splicer, edits.output_limit)
        if edits.newer_limit and self.endpoint == "chat":
            self._rename_limit(splicer)
        if edits.include_usage and self.stream and self.endpoint == "chat":
            options = member_object(members, "stream_options")
            if options is None:
                splicer.set(members, "stream_options", b'{"include_usage":true}')
            else:
                splicer.set(options, "include_usage", b"true")
        edit_provider(splicer, members, edits)
        return splicer.result()

    def _edit_output_limit(self, splicer: Splicer, limit: int) -> None:
        values, names = self.members.values, LIMIT_FIELDS[self.endpoint]
        stated = [name for name in names if values.get(name, b"null") != b"null"]
        for name in stated:
            if int(values[name]) > limit:
                splicer.replace(self.members.spans[name], b"%d" % limit)
        if not stated:
            # Never the older name, even where it is there as null: models that reason refuse it.
            splicer.set(self.members, names[0], b"%d" % limit)

    def _rename_limit(self, splicer: Splicer) -> None:
        newer, older = LIMIT_FIELDS["chat"]
        values = self.members.values
        if values.get(older, b"null") == b"null" or newer in values:
            return
        value_at = self.members.spans[older][0]
        name_at = self.body.rfind(b'"%s"' % older.encode(), 0, value_at)
        name_end = name_at + len(older) + 2
        if name_at >= 0 and not self.body[name_end:value_at].strip(b" \t\r\n:"):
            splicer.replace((name_at, name_end), b'"%s"' % newer.encode())

    def left_out(self, model: str) -> tuple[str, ...]:
        """Nothing: these formats carry reasoning as the upstreams themselves name it."""
        return ()

    def neutral_chat(self) -> ChatRequest:
        """The request in the neutral form. Raises BadRequest for a body that no route could read."""
        with readable_numbers():
            return read_chat(msgspec.json.decode(self.body))

    def neutral_embeddings(self) -> EmbeddingsRequest:
        """The texts or tokens to embed. Raises BadRequest for inputs that are neither."""
        with readable_numbers():
            return read_embeddings(msgspec.json.decode(self.body))


class OpenAIDialect:
    """OpenAI's chat completions, embeddings and responses, as its SDKs send and expect them."""

    name = "openai"
    keepalive = b": keep-alive\n\n"
    request_id_header = "x-request-id"

    def decode(self, endpoint: Endpoint, body: bytes) -> OpenAICall:
        """Read a body as far as routing and money need it. Raises BadRequest."""
        with readable_numbers():
            return self._decode(endpoint, body)

    def _decode(self, endpoint: Endpoint, body: bytes) -> OpenAICall:
        check_utf8(body)
        members = ObjectSpans(body)
        if is_too_deep(body):
            raise BadRequest(f"The body is nested deeper than {MAX_DEPTH} levels.")
        values = members.values
        _refuse_steering(values)
        model = optional_str(values, "model") or self._first_of_models(values)
        if not model:
            raise BadRequest("`model` is missing: name a model or a task.", "model")
        _CHECKS[endpoint](values)
        given = read_input(values) if endpoint == "responses" else None
        shape = read_shape(endpoint, body, values, given)
        own = _ROUTERS_OWN[endpoint]
        router_fields = tuple(name for name in values if name in own and values[name] != b"null")
        translatable = fields.TRANSLATABLE if given is None else frozenset()
        call = OpenAICall(
            endpoint=endpoint,
            model=model,
            stream=bool(optional_bool(values, "stream")) if endpoint != "embeddings" else False,
            include_usage=False,
            shape=shape,
            router_fields=router_fields,
            translatable_fields=tuple(name for name in router_fields if name in translatable),
            stateful=() if given is None else stored_names(values, given),
            body=body,
            members=members,
        )
        call.include_usage = self._asks_for_usage(call)
        check_provider(members)
        return call

    def _first_of_models(self, values: Mapping[str, bytes]) -> str | None:
        """OpenAI knows no `models`."""
        return None

    def _asks_for_usage(self, call: OpenAICall) -> bool:
        options = member_object(call.members, "stream_options")
        return options is not None and optional_bool(options.values, "include_usage") is True

    def encoder(
        self, call: AnsweredCall, created_s: int, answer_id: str
    ) -> ChatEncoder | EmbeddingsEncoder:
        """An encoder for one answer to `call`."""
        if call.endpoint == "embeddings":
            return EmbeddingsEncoder(call.neutral_embeddings(), call.model)
        return ChatEncoder(
            model=call.model,
            created_s=created_s,
            answer_id=answer_id,
            usage_in_stream=call.include_usage,
            openrouter=self.name == "openrouter",
        )

    def encode_error(self, error: ErrorFields) -> bytes:
        """OpenAI's envelope with our code, fix and receipt inside."""
        return msgspec.json.encode({"error": openai_envelope(error)})

    def encode_stream_error(self, error: ErrorFields, call: EndpointCall | None, seen: Seen | None) -> bytes:
        """The frames that end a stream whose answer failed after it began."""
        if call is not None and call.endpoint == "responses":
            return responses_error(error, openai_envelope(error), seen, named=True)
        return stream_error(openai_envelope(error))


class OpenRouterDialect(OpenAIDialect):
    """The same under /api/v1: usage always ends a stream, and errors have OpenRouter's integer codes."""

    name = "openrouter"
    keepalive = b": OPENROUTER PROCESSING\n\n"
    request_id_header = "x-generation-id"

    def _first_of_models(self, values: Mapping[str, bytes]) -> str | None:
        """At OpenRouter `models` alone names the model, the first of them (its OpenAPI: `model` is optional)."""
        named = read_models(values)
        return named[0] if named else None

    def _asks_for_usage(self, call: OpenAICall) -> bool:
        super()._asks_for_usage(call)
        return True

    def encode_error(self, error: ErrorFields) -> bytes:
        """OpenRouter's envelope; its SDK cannot read a code that is not an integer."""
        return msgspec.json.encode({"error": openrouter_envelope(error)})

    def encode_stream_error(self, error: ErrorFields, call: EndpointCall | None, seen: Seen | None) -> bytes:
        """The frames that end a stream whose answer failed after it began."""
        if call is not None and call.endpoint == "responses":
            return responses_error(error, openrouter_envelope(error), seen, named=False)
        return stream_error(openrouter_envelope(error))


def check_utf8(body: bytes) -> None:
    """JSON is UTF-8; what is not is refused whole, before a part of it is understood. Raises BadRequest."""
    if not body.isascii():
        try:
            body.decode()
        except UnicodeDecodeError:
            raise BadRequest("The body is not valid UTF-8.") from None


def _refuse_steering(values: Mapping[str, bytes]) -> None:
    """Refuse fields that would say where the request goes: only the operator does."""
    for name in map(str.lower, values):
        if name in fields.STEERING or name.startswith(fields.STEERING_PREFIXES):
            raise BadRequest(f"`{name}` is not accepted: the route is not the request's to choose.", name)


def _check_chat(values: Mapping[str, bytes]) -> None:
    messages = values.get("messages", b"null")
    if messages[:1] != b"[":
        raise BadRequest("`messages` must be a list of messages.", "messages")
    if not messages[1:-1].strip():
        raise BadRequest("`messages` is empty: send at least one message.", "messages")
    for name in _OPTIONAL_OBJECTS:
        if values.get(name, b"null") != b"null" and values[name][:1] != b"{":
            raise BadRequest(f"`{name}` must be an object.", name)
    optional_bool(values, "stream")


def _check_embeddings(values: Mapping[str, bytes]) -> None:
    given = values.get("input", b"null")
    if given[:1] not in (b'"', b"[") or given in (b'""', b"[]"):
        raise BadRequest("`input` must be a text, a list of texts or a list of tokens, and not empty.", "input")
    if "models" in values:
        raise BadRequest("`models` is not accepted for embeddings: vectors of two models do not mix.", "models")
    if (optional_str(values, "encoding_format") or "float") not in ("float", "base64"):
        raise BadRequest('`encoding_format` must be "float" or "base64".', "encoding_format")
    optional_count(values, "dimensions")


_CHECKS: Mapping[Endpoint, Callable[[Mapping[str, bytes]], None]] = {
    "chat": _check_chat,
    "embeddings": _check_embeddings,
    "responses": check_responses,
}
_ROUTERS_OWN: Mapping[Endpoint, frozenset[str]] = {
    "chat": fields.OPENROUTER_CHAT,
    "embeddings": fields.OPENROUTER_EMBEDDINGS,
    "responses": fields.OPENROUTER_RESPONSES,
}
