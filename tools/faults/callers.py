"""The callers: the official packages on real sockets, with every byte that reached them kept beside what they said."""

import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

import anthropic
import httpx
import httpx2
import openai
from openrouter import OpenRouter

from tools.faults.kinds import Case

MOST_TOKENS = 700


@dataclass(slots=True)
class Wire:
    """What came over the socket. `broken`: how the connection failed, "" for a proper end."""

    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    body: bytearray = field(default_factory=bytearray)
    broken: str = ""


@dataclass(slots=True)
class Heard:
    """What the caller made of it. `raised` names the package's error; "" means that it took the answer as a success.

    `finish` is the reason that the answer gave for its end, None where it gave none. `vectors` are an embedding's.
    """

    wire: Wire = field(default_factory=Wire)
    raised: str = ""
    said: str = ""
    text: str = ""
    finish: str | None = None
    vectors: list[float] | None = None
    seconds: float = 0.0
    hung: bool = False


_now: ContextVar[Wire] = ContextVar("wire")


def _recorder(library: Any) -> Any:
    """A transport of httpx, or of httpx2, that keeps a copy of every answer."""
    class Body(library.AsyncByteStream):  # type: ignore[misc]
        def __init__(self, inner: Any, wire: Wire) -> None:
            self._inner = inner
            self._wire = wire

        async def __aiter__(self) -> AsyncIterator[bytes]:
            try:
                async for piece in self._inner:
                    self._wire.body += piece
                    yield piece
            except library.HTTPError as error:
                self._wire.broken = f"{type(error).__name__}: {error}"
                raise

        async def aclose(self) -> None:
            await self._inner.aclose()

    class Recorder(library.AsyncHTTPTransport):  # type: ignore[misc]
        async def handle_async_request(self, request: Any) -> Any:
            wire = _now.get()
            try:
                answer = await super().handle_async_request(request)
            except library.HTTPError as error:
                wire.broken = f"{type(error).__name__}: {error}"
                raise
            wire.status, wire.headers = answer.status_code, {k.lower(): v for k, v in answer.headers.items()}
            return library.Response(
                answer.status_code, headers=answer.headers, stream=Body(answer.stream, wire),
                extensions=answer.extensions,
            )

    limits = library.Limits(max_connections=200, max_keepalive_connections=200)
    return library.AsyncClient(
        transport=Recorder(limits=limits, trust_env=False), timeout=library.Timeout(60.0), trust_env=False,
    )


class Callers:
    """One client a package, shared by all cases. Nothing is tried twice."""

    def __init__(self, url: str, token: str) -> None:
        self._two, self._one = _recorder(httpx2), _recorder(httpx)
        self._openai = openai.AsyncOpenAI(
            api_key=token, base_url=f"{url}/v1", max_retries=0, http_client=self._two,
        )
        self._anthropic = anthropic.AsyncAnthropic(
            api_key=token, base_url=url, max_retries=0, http_client=self._anthropic_client(),
        )
        self._router = OpenRouter(
            api_key=token, server_url=f"{url}/api/v1", async_client=self._one, retry_config=None,
        )

    def _anthropic_client(self) -> Any:
        """Whichever of the two libraries the package builds on."""
        return self._two if issubclass(anthropic.DefaultAsyncHttpxClient, httpx2.AsyncClient) else self._one

    async def close(self) -> None:
        await self._two.aclose()
        await self._one.aclose()

    async def call(self, case: Case, workspace: str, prompt: str, hang_s: float) -> Heard:
        """One call. Never raises for what comes back; given up as hanging after `hang_s`."""
        heard = Heard()
        _now.set(heard.wire)
        headers = {"x-ownkey-workspace": workspace}
        if case.mode == "whole":
            headers["x-ownkey-stream"] = "whole"
        started = time.monotonic()
        try:
            async with asyncio.timeout(hang_s):
                await self._ask(case, headers, prompt, heard)
        except TimeoutError:
            heard.hung, heard.raised = True, "nothing in time"
        except Exception as error:  # noqa: BLE001 - what the package raises is what is looked at
            heard.raised, heard.said = type(error).__name__, str(error)[:300]
        heard.seconds = time.monotonic() - started
        return heard

    async def _ask(self, case: Case, headers: dict[str, str], prompt: str, heard: Heard) -> None:
        lane, stream = case.lane, case.mode != "body"
        match lane.sdk, lane.endpoint:
            case "openai", "chat":
                await self._openai_chat(lane.model, headers, prompt, stream, heard)
            case "openai", "embeddings":
                vectors = await self._openai.embeddings.create(
                    model=lane.model, input=prompt, encoding_format="float", extra_headers=headers
                )
                heard.vectors, heard.finish = list(vectors.data[0].embedding), "stop"
            case "openai", _:
                await self._openai_responses(lane.model, headers, prompt, stream, heard)
            case "openrouter", "chat":
                await self._router_chat(lane.model, headers, prompt, stream, heard)
            case "openrouter", _:
                await self._router_responses(lane.model, headers, prompt, stream, heard)
            case _:
                await self._messages(lane.model, headers, prompt, stream, heard)

    async def _openai_chat(self, model: str, headers: Any, prompt: str, stream: bool, heard: Heard) -> None:
        create: Any = self._openai.chat.completions.create
        answer = await create(
            model=model, messages=[{"role": "user", "content": prompt}], stream=stream, max_tokens=MOST_TOKENS,
            extra_headers=headers,
        )
        await _read_chat(answer, stream, heard)

    async def _router_chat(self, model: str, headers: Any, prompt: str, stream: bool, heard: Heard) -> None:
        send: Any = self._router.chat.send_async
        answer = await send(
            model=model, messages=[{"role": "user", "content": prompt}], stream=stream, max_tokens=MOST_TOKENS,
            http_headers=headers, retries=None,
        )
        await _read_chat(answer, stream, heard)

    async def _openai_responses(self, model: str, headers: Any, prompt: str, stream: bool, heard: Heard) -> None:
        create: Any = self._openai.responses.create
        answer = await create(
            model=model, input=prompt, stream=stream, max_output_tokens=MOST_TOKENS, extra_headers=headers
        )
        await _read_responses(answer, stream, heard)

    async def _router_responses(self, model: str, headers: Any, prompt: str, stream: bool, heard: Heard) -> None:
        send: Any = self._router.responses.send_async
        answer = await send(
            model=model, input=prompt, stream=stream, max_output_tokens=MOST_TOKENS, http_headers=headers,
            retries=None,
        )
        await _read_responses(answer, stream, heard)

    async def _messages(self, model: str, headers: Any, prompt: str, stream: bool, heard: Heard) -> None:
        create: Any = self._anthropic.messages.create
        answer = await create(
            model=model, messages=[{"role": "user", "content": prompt}], stream=stream, max_tokens=MOST_TOKENS,
            extra_headers=headers,
        )
        if not stream:
            heard.text = "".join(getattr(block, "text", "") for block in answer.content)
            heard.finish = answer.stop_reason
            return
        async for event in answer:
            if event.type == "content_block_delta":
                heard.text += getattr(event.delta, "text", "")
            elif event.type == "message_delta":
                heard.finish = event.delta.stop_reason or heard.finish


class SaidError(Exception):
    """The answer itself says, in its dialect's words, that it failed: any reader of the stream sees it."""


async def _read_chat(answer: Any, stream: bool, heard: Heard) -> None:
    if not stream:
        choice = answer.choices[0]
        heard.text, heard.finish = choice.message.content or "", choice.finish_reason
        return
    async for chunk in answer:
        if getattr(chunk, "error", None):
            raise SaidError(str(chunk.error))
        for choice in chunk.choices:
            heard.text += choice.delta.content or ""
            heard.finish = choice.finish_reason or heard.finish
            if heard.finish == "error":
                raise SaidError("finish_reason error")


async def _read_responses(answer: Any, stream: bool, heard: Heard) -> None:
    if not stream:
        if getattr(answer, "error", None) or answer.status == "failed":
            raise SaidError(str(answer.error))
        heard.text, heard.finish = _output_text(answer), answer.status
        return
    async for event in answer:
        match event.type:
            case "response.output_text.delta":
                heard.text += event.delta
            case "response.completed" | "response.incomplete":
                heard.finish = event.response.status
                heard.said = _output_text(event.response)
            case "error" | "response.failed":
                raise SaidError(event.type)
            case _:
                pass


def _output_text(answer: Any) -> str:
    parts = [part for item in answer.output for part in getattr(item, "content", None) or ()]
    return "".join(getattr(part, "text", "") or "" for part in parts)


def error_of(body: bytes) -> dict[str, Any]:
    """The `error` object of a JSON body or of a stream's event; empty if it is none."""
    try:
        found = json.loads(body)
    except ValueError:
        return {}
    if not isinstance(found, dict):
        return {}
    error = found.get("error")
    if error is None and found.get("type") == "response.failed":
        error = (found.get("response") or {}).get("error")
    if error is None and found.get("type") == "error":
        error = found
    return error if isinstance(error, dict) else {}
