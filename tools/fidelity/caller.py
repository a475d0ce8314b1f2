"""The callers: the official openai and anthropic packages against the doors, raw answers kept as they came."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import anthropic
import httpx2
import openai

from tools.fidelity.asking import Asked


@dataclass(slots=True)
class Reply:
    """What the caller got. `sent` is the JSON that left the package; `raised` names the error it raised, "" if none.

    `broken` says that the connection ended before the answer did.
    """

    status: int
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    sent: Any = None
    raised: str = ""
    broken: str = ""

    @property
    def receipt(self) -> str:
        return self.headers.get("x-ownkey-receipt", "")


class Caller:
    """One client a door, shared by all calls; nothing is tried twice. `whole` asks for gathered streams."""

    def __init__(self, url: str, token: str, *, whole: bool = False) -> None:
        self._mode = {"x-ownkey-stream": "whole"} if whole else {}
        self._openai = {
            base: openai.AsyncOpenAI(
                api_key=token, base_url=url + base, max_retries=0, timeout=60,
                http_client=openai.DefaultAsyncHttpxClient(trust_env=False),
            )
            for base in ("/v1", "/api/v1")
        }
        self._anthropic = {
            base: anthropic.AsyncAnthropic(
                api_key=token, base_url=url + base.removesuffix("/v1"), max_retries=0, timeout=60,
                http_client=anthropic.DefaultAsyncHttpxClient(trust_env=False),
            )
            for base in ("/v1", "/api/v1")
        }

    async def close(self) -> None:
        for router in self._openai.values():
            await router.close()
        for claude in self._anthropic.values():
            await claude.close()

    async def call(self, asked: Asked, workspace: str) -> Reply:
        """Send one request; never raises for what the gateway answers."""
        headers = {"x-ownkey-workspace": workspace, **self._mode}
        if asked.betas:
            headers["anthropic-beta"] = asked.betas
        try:
            raw = await self._send(asked, headers)
        except (openai.APIStatusError, anthropic.APIStatusError) as error:
            return Reply(
                error.status_code, dict(error.response.headers), error.response.content,
                _json(error.request.content), type(error).__name__,
            )
        except (openai.APIConnectionError, anthropic.APIConnectionError) as error:
            return Reply(0, raised=type(error).__name__, broken=str(error))
        return await _read(raw)

    async def _send(self, asked: Asked, headers: Mapping[str, str]) -> Any:
        """The package's own call: its named arguments where it needs them, the rest of the body beside them."""
        rest = dict(asked.body)
        model = rest.pop("model")
        router, claude = self._openai[asked.door.base], self._anthropic[asked.door.base]
        match asked.door.speaks:
            case "messages":
                return await claude.messages.with_raw_response.create(
                    model=model, max_tokens=rest.pop("max_tokens", anthropic.omit), messages=rest.pop("messages"),
                    stream=rest.pop("stream", anthropic.omit), extra_body=rest, extra_headers=headers,
                )
            case "count_tokens":
                return await claude.messages.with_raw_response.count_tokens(
                    model=model, messages=rest.pop("messages"), extra_body=rest, extra_headers=headers
                )
            case "responses":
                return await router.responses.with_raw_response.create(
                    model=model, input=rest.pop("input", openai.omit), stream=rest.pop("stream", openai.omit),
                    extra_body=rest, extra_headers=headers,
                )
            case "embeddings":
                if "encoding_format" in rest:
                    rest["encoding_format"] = rest["encoding_format"] or "float"
                return await router.embeddings.with_raw_response.create(
                    model=model, input=rest.pop("input"), encoding_format=rest.pop("encoding_format", openai.omit),
                    extra_body=rest, extra_headers=headers,
                )
            case "chat":
                return await router.chat.completions.with_raw_response.create(
                    model=model, messages=rest.pop("messages"), stream=rest.pop("stream", openai.omit),
                    extra_body=rest, extra_headers=headers,
                )


async def _read(raw: Any) -> Reply:
    response: httpx2.Response = raw.http_response
    reply = Reply(response.status_code, dict(response.headers), sent=_json(response.request.content))
    try:
        reply.body = await response.aread()
    except httpx2.HTTPError as error:
        reply.broken = f"{type(error).__name__}: {error}"
    finally:
        await response.aclose()
    return reply


def _json(content: bytes) -> Any:
    try:
        return json.loads(content)
    except ValueError:
        return None
