"""The caller: the official openai package against the gateway's doors, keeping the raw answer as it came."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import httpx2
import openai

from tools.fidelity.asking import Asked
from tools.fidelity.recordings import Kind


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
    """One client a door, shared by all calls; nothing is tried twice."""

    def __init__(self, url: str, token: str) -> None:
        self._clients = {
            base: openai.AsyncOpenAI(
                api_key=token, base_url=url + base, max_retries=0, timeout=60,
                http_client=openai.DefaultAsyncHttpxClient(trust_env=False),
            )
            for base in ("/v1", "/api/v1")
        }

    async def close(self) -> None:
        for client in self._clients.values():
            await client.close()

    async def call(self, asked: Asked, kind: Kind, workspace: str) -> Reply:
        """Send one request; never raises for what the gateway answers."""
        client = self._clients[asked.base]
        rest = dict(asked.body)
        model = rest.pop("model")
        headers = {"x-ownkey-workspace": workspace}
        try:
            if kind == "embeddings":
                if "encoding_format" in rest:
                    rest["encoding_format"] = rest["encoding_format"] or "float"
                raw = await client.embeddings.with_raw_response.create(
                    model=model, input=rest.pop("input"), encoding_format=rest.pop("encoding_format", openai.omit),
                    extra_body=rest, extra_headers=headers,
                )
            else:
                raw = await client.chat.completions.with_raw_response.create(
                    model=model, messages=rest.pop("messages"), stream=rest.pop("stream", openai.omit),
                    extra_body=rest, extra_headers=headers,
                )
        except openai.APIStatusError as error:
            return Reply(
                error.status_code, dict(error.response.headers), error.response.content,
                _json(error.request.content), type(error).__name__,
            )
        except openai.APIConnectionError as error:
            return Reply(0, raised=type(error).__name__, broken=str(error))
        return await _read(raw)


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
