"""The callers' door: `/v1` and `/api/v1`, a plain ASGI callable that authenticates, decodes and hands over.

Starlette is not on this path: routing here is one dictionary look-up, and every microsecond is on every call.
"""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, cast, get_args
from urllib.parse import parse_qs

import msgspec

from ownkey.api.authentication import BearerAuthentication
from ownkey.api.http import (
    CLIENT_STALL_S,
    WATCH_AFTER_S,
    AsgiReply,
    BodyStalled,
    BodyTooLarge,
    HangUpWatch,
    HungUp,
    Receive,
    Scope,
    Send,
    read_body,
)
from ownkey.api.model_lists import anthropic_models, openai_models, show_models
from ownkey.api.openrouter_surface import OpenRouterSurface, Question
from ownkey.api.statuses import STATUSES
from ownkey.domain.errors import StoreError
from ownkey.domain.phrases import as_plain
from ownkey.domain.product import Product
from ownkey.domain.refusals import Code, Refusal, Refused
from ownkey.domain.wire import Endpoint, ErrorFields
from ownkey.domain.workspace import Principal, WorkspaceState
from ownkey.gateway.calls import CallRequest
from ownkey.gateway.codecs import Dialect
from ownkey.gateway.complete import Gateway
from ownkey.gateway.explain import Explainer
from ownkey.gateway.ports import Directory, Prices

_FORWARDED = {
    b"anthropic-beta": "anthropic-beta", b"anthropic-version": "anthropic-version",
    b"x-openrouter-metadata": "x-openrouter-metadata",
}
_ATTRIBUTION = {
    b"http-referer": "http-referer", b"x-title": "x-openrouter-title", b"x-openrouter-title": "x-openrouter-title",
    b"x-openrouter-categories": "x-openrouter-categories",
}
SETTLE_S = 5.0


@dataclass(frozen=True, slots=True)
class DataPlaneLimits:
    """Bytes, seconds and calls; from `ownkey.toml`, section [limits]."""

    body_bytes: int = 32 * 1024 * 1024
    body_idle_s: float = 60.0
    in_flight: int = 2_000
    in_flight_per_workspace: int = 1_000
    client_stall_s: float = CLIENT_STALL_S
    watch_after_s: float = WATCH_AFTER_S


@dataclass(frozen=True, slots=True)
class DataPlane:
    """Everything the door needs, put together by bootstrap."""

    gateway: Gateway
    explainer: Explainer
    authentication: BearerAuthentication
    directory: Directory
    prices: Prices
    product: Product
    openai: Dialect
    openrouter: Dialect
    anthropic: Dialect
    openrouter_messages: Dialect
    surface: OpenRouterSurface
    limits: DataPlaneLimits


@dataclass(slots=True)
class _Asked:
    """The headers that matter, read in one pass."""

    authorization: bytes | None = None
    api_key: bytes | None = None
    twice: bool = False
    workspace: str | None = None
    task: str | None = None
    project: str | None = None
    conversation: str | None = None
    member: str | None = None
    stream: str | None = None
    encoded: bool = False
    forwarded: dict[str, str] | None = None


_LABELS = {
    b"x-ownkey-workspace": "workspace", b"x-ownkey-task": "task", b"x-ownkey-project": "project",
    b"x-ownkey-conversation": "conversation", b"x-ownkey-member": "member",
    b"x-ownkey-stream": "stream",
}


def read_headers(headers: list[tuple[bytes, bytes]], attribution: bool) -> _Asked:
    asked = _Asked()
    for name, value in headers:
        if name == b"authorization":
            asked.twice = asked.twice or asked.authorization is not None
            asked.authorization = value
        elif name == b"x-api-key":
            asked.twice = asked.twice or asked.api_key is not None
            asked.api_key = value
        elif name.startswith(b"x-ownkey-"):
            label = _LABELS.get(name)
            if label is not None:
                setattr(asked, label, value.decode("latin-1").strip() or None)
        elif name == b"content-encoding":
            asked.encoded = value.strip().lower() not in (b"", b"identity")
        else:
            forwarded = _FORWARDED.get(name) or (_ATTRIBUTION.get(name) if attribution else None)
            if forwarded is not None:
                if asked.forwarded is None:
                    asked.forwarded = {}
                asked.forwarded[forwarded] = value.decode("latin-1")
    return asked


class DataPlaneApp:
    """The ASGI callable."""

    def __init__(self, plane: DataPlane) -> None:
        self._plane = plane
        self._in_flight = 0
        self._calls: set[asyncio.Task[Any]] = set()
        self._by_workspace: dict[str, int] = {}
        self._posts: Mapping[str, tuple[Dialect, Endpoint]] = {
            "/v1/chat/completions": (plane.openai, "chat"),
            "/v1/embeddings": (plane.openai, "embeddings"),
            "/v1/responses": (plane.openai, "responses"),
            "/v1/messages": (plane.anthropic, "messages"),
            "/v1/messages/count_tokens": (plane.anthropic, "count_tokens"),
            "/api/v1/chat/completions": (plane.openrouter, "chat"),
            "/api/v1/embeddings": (plane.openrouter, "embeddings"),
            "/api/v1/responses": (plane.openrouter, "responses"),
            "/api/v1/messages": (plane.openrouter_messages, "messages"),
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        plane = self._plane
        path: str = scope["path"]
        found = self._posts.get(path)
        dialect = self._dialect_of(path, found)
        reply = AsgiReply(send, plane.limits.client_stall_s)
        asked = read_headers(scope["headers"], path.startswith("/api/"))
        if path.startswith("/v1/models") and "anthropic-version" in (asked.forwarded or {}):
            dialect = plane.anthropic
        try:
            principal = await plane.authentication.check(
                asked.authorization, twice=asked.twice, api_key=asked.api_key
            )
            if found is not None and scope["method"] == "POST":
                await self._call(asked, principal, found[0], found[1], receive, reply)
            elif path == "/v1/explain" and scope["method"] == "POST":
                await self._explain(asked, principal, scope, receive, reply)
            elif (answer := plane.surface.find(scope["method"], path)) is not None:
                workspace = await self._workspace(asked, principal)
                question = Question(path, scope.get("query_string", b""), principal, workspace)
                await _json(reply, 200, await answer(question))
            elif scope["method"] == "GET" and (path == "/v1/models" or path.startswith("/v1/models/")):
                listed = anthropic_models if dialect is plane.anthropic else openai_models
                await _json(reply, 200, show_models(
                    listed(plane.product), path, scope.get("query_string", b""), paged=dialect is plane.anthropic
                ))
            else:
                raise Refused(self._unknown_endpoint(scope["method"], path, found is not None))
        except Refused as refused:
            await self._refuse(dialect, refused.refusal, reply)
        except HungUp:
            return
        except StoreError:
            await self._refuse(dialect, Refusal(
                Code.PROVIDER_UNAVAILABLE, "The books cannot be written now, so no call is sent.",
                "Try again shortly.", retry_after_s=2,
            ), reply)

    async def stop(self) -> None:
        """End the calls that are still in flight, their money settled: what the server left behind, or was told to.

        A call that was cancelled already only has to settle; one that was not is cancelled after a moment.
        """
        for cancel in (False, True):
            calls = tuple(self._calls)
            if not calls:
                return
            if cancel:
                for call in calls:
                    call.cancel()
            await asyncio.wait(calls, timeout=SETTLE_S)

    # --- who

    async def _workspace(self, asked: _Asked, principal: Principal) -> WorkspaceState:
        """The workspace comes from the token; a service token names it."""
        plane = self._plane
        if principal.workspace_id is not None:
            own = await plane.directory.load_workspace(principal.workspace_id)
            if own is None or (asked.workspace is not None and asked.workspace not in (own.id, own.external_id)):
                raise Refused(Refusal(
                    Code.FORBIDDEN, "This token does not belong to the workspace that x-ownkey-workspace names.",
                    "Leave the header out, or use that workspace's own token.",
                ))
            return own
        if asked.workspace is None:
            raise Refused(Refusal(
                Code.BAD_REQUEST, "A service token must say which workspace it acts for.",
                "Send the header x-ownkey-workspace with the workspace's id or your own id for it.",
                param="x-ownkey-workspace",
            ))
        workspace = await plane.directory.load_workspace(asked.workspace)
        if workspace is None:
            raise Refused(Refusal(
                Code.BAD_REQUEST, f"There is no workspace {asked.workspace[:60]!r}.",
                "Create it with POST /manage/v1/workspaces, or correct x-ownkey-workspace.",
                param="x-ownkey-workspace",
            ))
        return workspace

    # --- what

    async def _call(
        self, asked: _Asked, principal: Principal, dialect: Dialect, endpoint: Endpoint, receive: Receive,
        reply: AsgiReply,
    ) -> None:
        workspace = await self._workspace(asked, principal)
        self._shed(workspace.id)
        self._in_flight += 1
        self._by_workspace[workspace.id] = self._by_workspace.get(workspace.id, 0) + 1
        try:
            request = CallRequest(
                principal, workspace, dialect, endpoint, b"", task=asked.task, project=asked.project,
                conversation=asked.conversation, member=asked.member, headers=asked.forwarded or {},
            )
            try:
                request.stream = _stream_mode(asked.stream)
                _check_forwarded(request.headers)
                request.body = await self._read(asked, receive)
            except Refused as refused:
                await self._plane.gateway.refuse(request, refused.refusal, reply)
                return
            task = asyncio.current_task()
            assert task is not None
            watch = HangUpWatch(receive, reply, task, self._plane.limits.watch_after_s)
            self._calls.add(task)
            try:
                await self._plane.gateway.complete(request, reply)
            finally:
                self._calls.discard(task)
                watch.end()
        finally:
            self._in_flight -= 1
            left = self._by_workspace[workspace.id] - 1
            if left:
                self._by_workspace[workspace.id] = left
            else:
                del self._by_workspace[workspace.id]

    def _dialect_of(self, path: str, found: tuple[Dialect, Endpoint] | None) -> Dialect:
        """The envelope that a refusal at this path comes in."""
        if found is not None:
            return found[0]
        if "/v1/messages" in path:
            return self._plane.anthropic
        return self._plane.openrouter if path.startswith("/api/") else self._plane.openai

    async def _read(self, asked: _Asked, receive: Receive) -> bytes:
        limits = self._plane.limits
        if asked.encoded:
            raise Refused(Refusal(
                Code.BAD_REQUEST, "Compressed request bodies are not accepted.",
                "Send the JSON without Content-Encoding.",
            ))
        try:
            return await read_body(receive, limits.body_bytes, limits.body_idle_s)
        except BodyTooLarge as error:
            raise Refused(Refusal(
                Code.BODY_TOO_LARGE, f"The request body is larger than {limits.body_bytes} bytes.",
                "Send less; images can be given as URLs.",
            )) from error
        except BodyStalled as error:
            raise Refused(Refusal(
                Code.BAD_REQUEST, f"No byte of the body came for {limits.body_idle_s:.0f} s.", "Send the whole body.",
            )) from error

    def _shed(self, workspace_id: str) -> None:
        limits = self._plane.limits
        full = self._in_flight >= limits.in_flight
        if full or self._by_workspace.get(workspace_id, 0) >= limits.in_flight_per_workspace:
            raise Refused(Refusal(
                Code.PROVIDER_UNAVAILABLE, "Too many calls are in flight here; this one was not begun.",
                "Try again shortly.", retry_after_s=1,
            ))

    async def _explain(
        self, asked: _Asked, principal: Principal, scope: Scope, receive: Receive, reply: AsgiReply
    ) -> None:
        """Takes the body of any endpoint; `?endpoint=` says which, where the body alone does not."""
        plane = self._plane
        named = _named_endpoint(scope.get("query_string", b""))
        workspace = await self._workspace(asked, principal)
        body = await self._read(asked, receive)
        endpoint = named or _endpoint_of(body, plane.product, asked.task)
        dialect = plane.anthropic if endpoint in ("messages", "count_tokens") else plane.openai
        request = CallRequest(
            principal, workspace, dialect, endpoint, body, task=asked.task, project=asked.project,
            conversation=asked.conversation, member=asked.member,
        )
        await _json(reply, 200, await self._plane.explainer.explain(request))

    # --- no

    def _unknown_endpoint(self, method: str, path: str, wrong_method: bool) -> Refusal:
        known = ", ".join(["GET /v1/models", "POST /v1/explain", *(f"POST {p}" for p in self._posts),
                           *(f"GET {p}" for p in self._plane.surface.paths)])
        what = f"{method} is not for this endpoint" if wrong_method else f"There is no endpoint {path[:80]}"
        return Refusal(Code.UNKNOWN_ENDPOINT, f"{what}.", f"Known: {known}.")

    async def _refuse(self, dialect: Dialect, refusal: Refusal, reply: AsgiReply) -> None:
        """A refusal before there is a workspace to keep a receipt for."""
        fields = ErrorFields(
            status=STATUSES[refusal.code], code=refusal.code.value, message=str(refusal.message),
            fix=str(refusal.fix), fix_url=self._plane.product.fix_url(refusal.flow) if refusal.flow else None,
            receipt=None,
            param=refusal.param, retry_after_s=refusal.retry_after_s, details=refusal.details,
        )
        headers = [
            ("content-type", "application/json"), ("x-ownkey-funding", "none"), ("x-ownkey-route", "none"),
            ("cache-control", "no-store"),
        ]
        if fields.status == 401:
            headers.append(("www-authenticate", "Bearer"))
        if refusal.retry_after_s is not None:
            headers.append(("retry-after", str(refusal.retry_after_s)))
        await reply.start(fields.status, headers)
        await reply.finish(dialect.encode_error(fields))


def _stream_mode(wished: str | None) -> Literal["live", "whole"] | None:
    match wished:
        case None:
            return None
        case "live" | "whole":
            return wished
        case _:
            raise Refused(Refusal(
                Code.BAD_REQUEST, f"x-ownkey-stream says {wished[:20]!r}; there are live and whole.",
                "Send live or whole, or leave the header out.", param="x-ownkey-stream",
            ))


def _check_forwarded(headers: Mapping[str, str]) -> None:
    """What goes on to a provider must be plain text: sent on, it would fail there like an outage of the provider."""
    for name, value in headers.items():
        if not value.isascii() or not value.replace("\t", " ").isprintable():
            raise Refused(Refusal(
                Code.BAD_REQUEST, f"The header {name} holds characters that cannot be sent on.",
                "Write it in printable ASCII, or leave it out.", param=name,
            ))


def _named_endpoint(query: bytes) -> Endpoint | None:
    wished = parse_qs(query.decode("latin-1")).get("endpoint", [""])[-1]
    for endpoint in get_args(Endpoint):
        if wished == endpoint:
            return cast(Endpoint, endpoint)
    if wished:
        raise Refused(Refusal(
            Code.BAD_REQUEST, f"There is no endpoint {wished[:40]!r} to explain.",
            f"Use one of {', '.join(get_args(Endpoint))}, or leave it out.", param="endpoint",
        ))
    return None


def _endpoint_of(body: bytes, product: Product, task: str | None) -> Endpoint:
    """Explain takes either body: a task's own endpoint, else embeddings where there is `input` and no messages."""
    try:
        parsed = msgspec.json.decode(body)
    except (ValueError, RecursionError):
        return "chat"
    if not isinstance(parsed, dict):
        return "chat"
    model = parsed.get("model")
    name = model[5:] if isinstance(model, str) and model.startswith("task:") else task
    if name is not None and name in product.tasks:
        return product.tasks[name].endpoint
    return "embeddings" if "input" in parsed and "messages" not in parsed else "chat"


async def _json(reply: AsgiReply, status: int, value: Any) -> None:
    await reply.start(status, [("content-type", "application/json"), ("cache-control", "no-store")])
    await reply.finish(msgspec.json.encode(value, enc_hook=as_plain))


