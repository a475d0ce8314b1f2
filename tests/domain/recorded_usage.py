"""Recorded requests with the usage their answers reported, for tests of bounds. Nothing of it is copied here."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from ownkey.dialects import anthropic_fields, openai_fields
from ownkey.dialects.openai_shape import silent_bytes
from ownkey.domain.bounds import RequestShape
from ownkey.domain.usage import Usage

RECORDINGS = Path(__file__).resolve().parents[2].parent / "shared" / "wire" / "recordings"

_SILENT = {
    "openai": openai_fields.SILENT, "openrouter": openai_fields.SILENT, "anthropic": anthropic_fields.SILENT,
    "google": frozenset[str](),
}
_SERVER_TOOLS = ("web_search", "web_fetch", "code_execution", "googleSearch", "google_search", "urlContext",
                 "url_context", "codeExecution", "file_search", "image_generation", "mcp", "computer", "bash",
                 "openrouter:", "code_interpreter", "tool_search", "advisor", "shell", "apply_patch")  # fmt: skip
_BEYOND_TEXT = ("file_id", "fileData", "file_data", "input_audio", "previous_response_id", "conversation",
                "cachedContent", "cached_content", "container", "encrypted_content", "signature",
                "item_reference")  # fmt: skip
_DOCUMENT_TYPES = ("document", "file", "input_file", "input_audio", "video_url", "video", "audio_url")


@dataclass(frozen=True)
class Recorded:
    """`cost_usd` is the digits of what OpenRouter reported, None elsewhere."""

    name: str
    provider: str
    model: str
    request: dict[str, Any]
    usage: Usage
    cost_usd: str | None

    @property
    def output_limit(self) -> int | None:
        config = self.request.get("generationConfig") or {}
        for holder, names in (
            (self.request, ("max_completion_tokens", "max_tokens", "max_output_tokens")),
            (config, ("maxOutputTokens", "max_output_tokens")),
        ):
            for name in names:
                if isinstance(holder.get(name), int):
                    return int(holder[name])
        return None

    @property
    def embeds(self) -> bool:
        return "embed" in self.model

    def shape(self) -> RequestShape:
        """The smallest body that says the same: the strictest test of a bound on bytes."""
        raw = _compact(self.request)
        lifetime: Literal["5m", "1h"] = "1h" if '"1h"' in raw else "5m"
        images, image_bytes, beyond = 0, 0, []
        for key, value in _walk(self.request):
            if key in _BEYOND_TEXT or (key == "type" and value in _DOCUMENT_TYPES):
                beyond.append(key)
            if key == "type" and value in ("image", "image_url", "input_image"):
                images += 1
            if key in ("inlineData", "inline_data") and isinstance(value, dict):
                mime = str(value.get("mimeType", value.get("mime_type", "")))
                if mime.startswith("image/"):
                    images += 1
                    image_bytes += len(value["data"])
                else:
                    beyond.append(key)
        return RequestShape(
            text_bytes=len(raw.encode()),
            image_count=images,
            image_bytes=0 if images else image_bytes,
            beyond_text=tuple(beyond),
            output_limit=self.output_limit,
            answers=int(self.request.get("n") or 1),
            cache_writes=lifetime if "cache_control" in raw else "none",
            fallback_models=tuple(self.request.get("models") or ()),
            service_tier=self.request.get("service_tier"),
            silent_bytes=silent_bytes(
                raw.encode(), {name: _compact(value).encode() for name, value in self.request.items()},
                _SILENT[self.provider],
            ),
            embeds=self.embeds,
        )

    @property
    def boundable(self) -> bool:
        if self.request.get("plugins") or self.model.endswith(":online") or self.request.get("mcp_servers"):
            return False
        tools = self.request.get("tools") or []
        return not any(
            name in json.dumps({k: v for k, v in tool.items() if k in ("type", name)})
            for tool in tools
            if isinstance(tool, dict) and tool.get("type") not in ("function", "custom")
            for name in _SERVER_TOOLS
        )


def _compact(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def recorded() -> Iterator[Recorded]:
    """Every recorded 200 of a model call whose request and usage are known."""
    for path in sorted(RECORDINGS.glob("*/*/200-*.json")):
        exchange = json.loads(path.read_text("utf-8"))
        request, response = exchange.get("request") or {}, exchange.get("response") or {}
        body, url = request.get("body"), str(request.get("url", ""))
        if isinstance(body, str):
            try:
                body = json.loads(body)
            except ValueError:
                continue
        if not isinstance(body, dict) or not isinstance(response.get("body"), str):
            continue
        provider = str(exchange["provider"])
        documents = list(_documents(response["body"]))
        found = _usage(provider, documents)
        model = body.get("model") or (url.rsplit("/models/", 1)[-1].split(":")[0] if "/models/" in url else None)
        if found is None or not isinstance(model, str):
            continue
        yield Recorded(f"{path.parts[-3]}/{path.stem}", provider, model, body, found[0], found[1])


def _documents(text: str) -> Iterator[Any]:
    try:
        yield json.loads(text, parse_float=str)
    except ValueError:
        for line in text.splitlines():
            if line.startswith("data:"):
                try:
                    yield json.loads(line[5:], parse_float=str)
                except ValueError:
                    continue


def _walk(value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict):
        for key, below in value.items():
            yield key, below
            yield from _walk(below)
    elif isinstance(value, list):
        for below in value:
            yield from _walk(below)


def _usage(provider: str, documents: list[Any]) -> tuple[Usage, str | None] | None:
    merged: dict[str, Any] = {}
    for document in documents:
        for one in document if isinstance(document, list) else [document]:
            if not isinstance(one, dict):
                continue
            for holder in (one, one.get("message"), one.get("response")):
                if isinstance(holder, dict):
                    for name in ("usage", "usageMetadata"):
                        if isinstance(holder.get(name), dict):
                            merged.update({k: v for k, v in holder[name].items() if v is not None})
    if not merged:
        return None
    count = {key: value for key, value in merged.items() if isinstance(value, int)}
    cost = merged.get("cost")
    cost_text = str(cost) if cost is not None and provider == "openrouter" else None
    if "promptTokenCount" in count:
        cached = count.get("cachedContentTokenCount", 0)
        read = count["promptTokenCount"] + count.get("toolUsePromptTokenCount", 0)
        output, thoughts = count.get("candidatesTokenCount", 0), count.get("thoughtsTokenCount", 0)
        return Usage(input=read - cached, cache_read=cached, output=output, reasoning=thoughts), cost_text
    if provider == "anthropic" or "cache_creation_input_tokens" in count:
        split = merged.get("cache_creation") or {}
        hour = split.get("ephemeral_1h_input_tokens") or 0
        return Usage(
            input=count.get("input_tokens", 0),
            cache_read=count.get("cache_read_input_tokens", 0),
            cache_write_5m=count.get("cache_creation_input_tokens", 0) - hour,
            cache_write_1h=hour,
            output=count.get("output_tokens", 0),
        ), cost_text
    read = count.get("prompt_tokens", count.get("input_tokens", 0))
    details = merged.get("prompt_tokens_details") or merged.get("input_tokens_details") or {}
    cached, written = details.get("cached_tokens") or 0, details.get("cache_write_tokens") or 0
    return Usage(
        input=read - cached - written,
        cache_read=cached,
        cache_write_5m=written,
        output=count.get("completion_tokens", count.get("output_tokens", 0)),
    ), cost_text
