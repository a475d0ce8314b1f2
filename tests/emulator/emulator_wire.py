"""Requests to the emulated providers as the tests write them."""

import json
from typing import Any

import httpx

from emulator_process import EmulatorHandle

KEYS = {
    "openrouter": "sk-or-v1-emulator-0123456789abcdef",
    "openai": "sk-proj-emulator-0123456789abcdef",
    "anthropic": "sk-ant-emulator-0123456789abcdef",
    "google": "AQ.emulator-0123456789abcdef",
}
CHAT_MODELS = {
    "openrouter": "openai/gpt-4.1-mini",
    "openai": "gpt-4.1-mini",
    "anthropic": "claude-haiku-4-5",
    "google": "gemini-2.5-flash-lite",
}
PROVIDERS = tuple(CHAT_MODELS)


def headers(provider: str, key: str | None = None) -> dict[str, str]:
    key = KEYS[provider] if key is None else key
    match provider:
        case "anthropic":
            return {"x-api-key": key, "anthropic-version": "2023-06-01"}
        case "google":
            return {"x-goog-api-key": key}
        case _:
            return {"authorization": f"Bearer {key}"}


def request_of(
    emulator: EmulatorHandle,
    provider: str,
    text: str = "hello",
    *,
    model: str | None = None,
    limit: int | None = 200,
    stream: bool = False,
    key: str | None = None,
    **more: Any,
) -> dict[str, Any]:
    """The arguments of `httpx.Client.request` for one small chat call."""
    model = model or CHAT_MODELS[provider]
    url = emulator.base(provider)
    body: dict[str, Any]
    match provider:
        case "anthropic":
            url += "/messages"
            body = {"model": model, "max_tokens": limit or 4096, "messages": [{"role": "user", "content": text}]}
            if stream:
                body["stream"] = True
        case "google":
            url += f"/models/{model}:" + ("streamGenerateContent?alt=sse" if stream else "generateContent")
            body = {"contents": [{"role": "user", "parts": [{"text": text}]}]}
            if limit is not None:
                body["generationConfig"] = {"maxOutputTokens": limit}
        case _:
            url += "/chat/completions"
            body = {"model": model, "messages": [{"role": "user", "content": text}]}
            if limit is not None:
                body["max_completion_tokens"] = limit
            if stream:
                body["stream"] = True
                body["stream_options"] = {"include_usage": True}
    body.update(more)
    return {"method": "POST", "url": url, "json": body, "headers": headers(provider, key)}


def ask(
    client: httpx.Client, emulator: EmulatorHandle, provider: str, text: str = "hello", **more: Any
) -> httpx.Response:
    """One small chat call, read whole."""
    return client.request(**request_of(emulator, provider, text, **more))


def frames(response: httpx.Response) -> list[Any]:
    """The data of a stream's events; `[DONE]` stays a string."""
    found = []
    for line in response.text.replace("\r\n", "\n").split("\n"):
        if line.startswith("data: "):
            data = line.removeprefix("data: ")
            found.append(data if data == "[DONE]" else json.loads(data))
    return found


def text_of(provider: str, answer: Any) -> str:
    """What a whole answer says."""
    match provider:
        case "anthropic":
            return "".join(block.get("text", "") for block in answer["content"])
        case "google":
            parts = answer["candidates"][0]["content"].get("parts", [])
            return "".join(part.get("text", "") for part in parts if not part.get("thought"))
        case _:
            return answer["choices"][0]["message"]["content"] or ""


def streamed_text_of(provider: str, events: list[Any]) -> str:
    """What a stream says."""
    match provider:
        case "anthropic":
            return "".join(event.get("delta", {}).get("text", "") for event in events)
        case "google":
            return "".join(text_of("google", event) for event in events if "candidates" in event)
        case _:
            return "".join(
                choice["delta"].get("content") or ""
                for event in events
                if event != "[DONE]"
                for choice in event.get("choices", [])
            )


def usage_of(provider: str, answer: Any) -> dict[str, int]:
    """The usage report in the bill book's classes (without cache writes)."""
    match provider:
        case "anthropic":
            usage = answer["usage"]
            return {
                "input": usage["input_tokens"],
                "cache_read": usage["cache_read_input_tokens"],
                "output": usage["output_tokens"],
            }
        case "google":
            usage = answer["usageMetadata"]
            read = usage.get("cachedContentTokenCount", 0)
            output = usage.get("candidatesTokenCount", 0) + usage.get("thoughtsTokenCount", 0)
            return {"input": usage["promptTokenCount"] - read, "cache_read": read, "output": output}
        case _:
            usage = answer["usage"]
            read = usage["prompt_tokens_details"]["cached_tokens"]
            return {"input": usage["prompt_tokens"] - read, "cache_read": read, "output": usage["completion_tokens"]}
