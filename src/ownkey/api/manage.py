"""The management API: `/manage/v1`, one route table, one authorisation table, one error envelope.

A request goes authentication → route → right → workspace → query and body → Idempotency-Key → use case. What
exists elsewhere and what exists nowhere are answered alike.
"""

import hashlib
import logging
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn
from urllib.parse import parse_qsl

import msgspec
from starlette.routing import compile_path

from ownkey.api.authentication import Authenticate
from ownkey.api.authorisation import forbidden, may
from ownkey.api.http import BodyStalled, BodyTooLarge, HungUp, Receive, Scope, Send, read_body
from ownkey.api.manage_call import Call, Download, ManageRoute
from ownkey.api.manage_errors import ErrorEnvelope, problem_of
from ownkey.api.manage_fields import allowed_values
from ownkey.api.manage_routes import PREFIX, ROUTES
from ownkey.api.manage_schemas import Request, decode
from ownkey.control.desk import Desk
from ownkey.control.ports import Clock, Idempotency
from ownkey.control.problems import Problem, ProblemCode, invalid, not_found
from ownkey.domain.errors import StoreError
from ownkey.domain.phrases import as_plain
from ownkey.domain.records import Actor
from ownkey.domain.refusals import Code, Refusal, Refused
from ownkey.domain.workspace import Principal, TokenKind, WorkspaceState

BODY_LIMIT_BYTES = 256 * 1024
BODY_IDLE_S = 30.0

_HEADERS = [
    (b"content-type", b"application/json"), (b"cache-control", b"no-store"), (b"x-content-type-options", b"nosniff"),
]

log = logging.getLogger("ownkey.manage")


class ManageApp:
    """The ASGI callable. Paths are whole (`/manage/v1/…`): it needs no mount."""

    def __init__(
        self, desk: Desk, authenticate: Authenticate, idempotency: Idempotency, clock: Clock,
        routes: Sequence[ManageRoute] = ROUTES, body_limit_bytes: int = BODY_LIMIT_BYTES,
    ) -> None:
        self._desk = desk
        self._authenticate = authenticate
        self._idempotency = idempotency
        self._clock = clock
        self._envelope = ErrorEnvelope(desk.product)
        self._body_limit = body_limit_bytes
        # A conversation's id is the host's and may contain a slash.
        self._routes = [
            (compile_path(PREFIX + route.path.replace("{conversation}", "{conversation:path}"))[0], route)
            for route in routes
        ]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        assert scope["type"] == "http"
        try:
            status, body, headers = await self._answer(scope, receive)
        except HungUp:
            return
        if isinstance(body, Download):
            await _send_file(send, status, body)
            return
        await send({
            "type": "http.response.start", "status": status,
            "headers": [*_HEADERS, (b"content-length", str(len(body)).encode()), *headers],
        })
        await send({"type": "http.response.body", "body": body})

    async def _answer(
        self, scope: Scope, receive: Receive
    ) -> tuple[int, bytes | Download, list[tuple[bytes, bytes]]]:
        try:
            return await self._serve(scope, receive)
        except (Refused, Problem, StoreError) as error:
            return self._envelope.encode(problem_of(error))
        except HungUp:
            raise
        except Exception as error:
            error_id = self._clock.new_id("err")
            log.error("management request failed: %s in %s", error_id, type(error).__name__, exc_info=error)
            return self._envelope.internal(error_id)

    async def _serve(
        self, scope: Scope, receive: Receive
    ) -> tuple[int, bytes | Download, list[tuple[bytes, bytes]]]:
        principal = await self._authenticate(scope)
        route, path = self._find(scope["method"], scope["path"])
        actor = Actor(principal.kind.value, principal.token_id)
        await self._authorise(principal, route, actor)
        workspace = await self._resolve(principal, route, path, actor)
        query = read_query(scope.get("query_string", b""), route.query)
        raw = await self._read(scope, receive, route)
        body = None if route.body is None else read_json(raw, route.body)
        key = _idempotency_key(scope) if route.method != "GET" else None
        call = Call(
            self._desk, principal, actor, workspace, path, query, body, route.owner == "platform",
            _client_address(scope), key,
        )
        if key is None:
            answer = await route.handler(call)
            return route.status, answer if isinstance(answer, Download) else _encode(answer), []
        return await self._once(call, route, key, scope, raw)

    def _find(self, method: str, path: str) -> tuple[ManageRoute, Mapping[str, str]]:
        allowed = []
        for pattern, route in self._routes:
            match = pattern.match(path)
            if match is None:
                continue
            if route.method == method:
                return route, match.groupdict()
            allowed.append(route.method)
        if allowed:
            raise Problem(
                ProblemCode.METHOD_NOT_ALLOWED, f"{method} is not for this address.",
                f"Use {' or '.join(sorted(set(allowed)))}.",
            )
        raise Problem(
            ProblemCode.NOT_FOUND, "There is nothing at this address.",
            f"GET {PREFIX}/openapi.json lists what there is.",
        )

    async def _authorise(self, principal: Principal, route: ManageRoute, actor: Actor) -> None:
        if may(principal, route.subject, route.right):
            return
        await self._desk.audit.note_refused(principal.workspace_id, route.name, actor)
        raise forbidden(principal, route.subject, route.right)

    async def _resolve(
        self, principal: Principal, route: ManageRoute, path: Mapping[str, str], actor: Actor
    ) -> WorkspaceState | None:
        match route.owner:
            case "deployment":
                return None
            case "platform":
                return await self._desk.workspaces.platform(actor)
            case "workspace":
                # A workspace token learns nothing about other ids: one that is not its own is not looked up.
                if principal.kind is TokenKind.WORKSPACE and path["workspace"] != principal.workspace_id:
                    raise not_found("workspace", path["workspace"], "here")
                return await self._desk.workspaces.find(path["workspace"])

    async def _read(self, scope: Scope, receive: Receive, route: ManageRoute) -> bytes:
        for name, value in scope["headers"]:
            if name == b"content-encoding" and value.strip().lower() not in (b"", b"identity"):
                raise invalid("Content-Encoding", "Compressed request bodies are not accepted.", "Send plain JSON.")
        if route.method == "GET":
            return b""
        try:
            raw = await read_body(receive, self._body_limit, BODY_IDLE_S)
        except BodyTooLarge as error:
            raise Refused(Refusal(
                Code.BODY_TOO_LARGE, f"The request body is larger than {self._body_limit} bytes.", "Send less.",
            )) from error
        except BodyStalled as error:
            raise invalid("body", "The request body did not arrive.", "Send the whole body.") from error
        if route.body is None and raw.strip() not in (b"", b"{}"):
            raise invalid("body", "This request takes no body.", "Leave the body out.")
        return raw

    async def _once(
        self, call: Call, route: ManageRoute, key: str, scope: Scope, raw: bytes
    ) -> tuple[int, bytes, list[tuple[bytes, bytes]]]:
        """The same request under the same key happens once; its answer is kept, but for a secret shown once."""
        owner = call.principal.token_id
        asked = hashlib.sha256(
            b"\0".join((scope["method"].encode(), scope["path"].encode(), scope.get("query_string", b""), raw))
        ).digest()
        stored = await self._idempotency.begin_answer(owner, key, asked, at_ms=self._clock.now_ms())
        if stored is not None:
            if stored.request_sha256 != asked:
                raise Problem(
                    ProblemCode.IDEMPOTENCY_MISMATCH, "This Idempotency-Key was used for a different request.",
                    "Use a new key for a new request.", param="Idempotency-Key",
                )
            if stored.status is None:
                raise Problem(
                    ProblemCode.IDEMPOTENCY_IN_PROGRESS, "The first request with this Idempotency-Key still runs.",
                    "Wait a moment and send it again.", param="Idempotency-Key", retry_after_s=1,
                )
            return stored.status, stored.body, [(b"idempotency-replayed", b"true")]
        try:
            answer = await route.handler(call)
        except BaseException:
            await self._idempotency.drop_answer(owner, key)
            raise
        body = _encode(answer)
        kept = body if route.shows_once is None else _without(answer, route.shows_once)
        await self._idempotency.save_answer(owner, key, route.status, kept, at_ms=self._clock.now_ms())
        return route.status, body, []


def manage_app(
    desk: Desk, authenticate: Authenticate, idempotency: Idempotency, clock: Clock,
    *, body_limit_bytes: int = BODY_LIMIT_BYTES,
) -> ManageApp:
    """The app for every path under `/manage/v1`."""
    return ManageApp(desk, authenticate, idempotency, clock, ROUTES, body_limit_bytes)


async def _send_file(send: Send, status: int, file: Download) -> None:
    """As it is read: what breaks in the middle breaks the connection, and half a file is never taken for a whole."""
    await send({"type": "http.response.start", "status": status, "headers": file.headers})
    async for data in file.content:
        await send({"type": "http.response.body", "body": data, "more_body": True})
    await send({"type": "http.response.body", "body": b""})


def _client_address(scope: Scope) -> str:
    """The person's address as the host saw it, "" if it does not say: all of a host's requests come from its own."""
    for name, value in scope["headers"]:
        if name == b"x-ownkey-client-address":
            return bytes(value).decode("latin-1").strip()[:64]
    return ""


def read_query(raw: bytes, kind: type[Request]) -> Any:
    """A query string as its schema. Raises Problem for unknown, repeated or unfit parameters."""
    pairs = parse_qsl(raw.decode("latin-1"), keep_blank_values=True)
    values = dict(pairs)
    if len(values) != len(pairs):
        raise invalid("query", "A query parameter is given twice.", "Give each one once.")
    try:
        return msgspec.convert(values, kind, strict=False)
    except msgspec.ValidationError as error:
        _refuse_shape(error, kind, "query parameter")


def read_json(raw: bytes, kind: type[Request]) -> Any:
    """A JSON body as its schema. Raises Problem; what was sent is not repeated."""
    try:
        return decode(raw.strip(), kind)
    except msgspec.ValidationError as error:
        _refuse_shape(error, kind, "field")
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise invalid("body", "The request body is not valid JSON.", "Send one JSON object in UTF-8.") from error


def _refuse_shape(error: msgspec.ValidationError, kind: type[Request], what: str) -> NoReturn:
    """msgspec's words name types and places. The fix lists what the field may hold, or else the known fields."""
    words, _, place = str(error).partition(" - at `")
    param = place.rstrip("`").removeprefix("$").lstrip(".") or None
    fields = ", ".join(kind.__struct_encode_fields__) or "none"
    if "unknown field" in words or "missing required field" in words:
        param = words.partition("`")[2].partition("`")[0]
        raise Problem(ProblemCode.INVALID, f"{words.replace('field', what, 1)}.", f"Known: {fields}.",
                      param=param) from error
    sent = words.partition("Invalid enum value ")[2].strip("'")
    fix = None if param is None else allowed_values(kind, param, sent)
    message = f"{sent[:60]!r} is not a value of `{param}`." if sent else (
        f"{words}." if param is None else f"The {what} `{param}` cannot be taken: {words}."
    )
    raise Problem(ProblemCode.INVALID, message, fix or f"Known: {fields}.", param=param) from error


def _idempotency_key(scope: Scope) -> str | None:
    for name, value in scope["headers"]:
        if name == b"idempotency-key":
            key: str = value.decode("latin-1").strip()
            if not 1 <= len(key) <= 200 or not key.isascii() or not key.isprintable():
                raise invalid("Idempotency-Key", "An Idempotency-Key has 1 to 200 visible ASCII characters.",
                              "Use a random id.")
            return key
    return None


def _encode(answer: Any) -> bytes:
    return msgspec.json.encode(answer, enc_hook=as_plain)


def _without(answer: Any, fields: str) -> bytes:
    shown = msgspec.to_builtins(answer, enc_hook=as_plain)
    for field in fields.split():
        shown[field] = None
    return msgspec.json.encode(shown)
