"""Recorded traffic of OpenAI and OpenRouter for the tests beside it, read where it lies and never copied."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

WIRE = Path(__file__).resolve().parents[2].parent / "shared" / "wire"
RECORDINGS = WIRE / "recordings"
ABSENT = f"recorded traffic is absent: {WIRE}"


@dataclass(frozen=True)
class Exchange:
    """One recorded exchange; `endpoint` is "chat", "embeddings" or "" for others."""

    name: str
    provider: str
    endpoint: str
    status: int
    headers: dict[str, str]
    request: bytes
    body: bytes

    @property
    def streamed(self) -> bool:
        return self.body.lstrip().startswith((b"data:", b":"))

    def chunks(self) -> list[Any]:
        """The JSON of each `data:` line but the terminator, costs as Decimal-ready text."""
        lines = [line[5:].strip() for line in self.body.decode().splitlines() if line.startswith("data:")]
        return [json.loads(line, parse_float=str) for line in lines if line != "[DONE]"]

    def json(self) -> Any:
        return json.loads(self.body, parse_float=str)


def _endpoint(url: str) -> str:
    path = url.split("?")[0]
    return "chat" if path.endswith("/chat/completions") else "embeddings" if path.endswith("/v1/embeddings") else ""


def load(path: Path) -> Exchange:
    data = json.loads(path.read_text())
    response = data["response"]
    request = data["request"].get("body") or ""
    url = data["request"]["url"]
    return Exchange(
        name=f"{path.parts[-3].split('+')[0]}-{path.stem}",
        provider="openrouter" if "openrouter.ai" in url else path.parts[-2],
        endpoint=_endpoint(url) if "/usage/" not in url else "",
        status=int(path.stem[:3]),
        headers={name.lower(): str(value) for name, value in dict(response.get("headers") or {}).items()},
        request=(request if isinstance(request, str) else json.dumps(request)).encode(),
        body=response["body"].encode(),
    )


def _body_only(path: Path) -> Exchange:
    text = path.read_text()
    if path.name.endswith(".chunks.txt"):
        lines = [line for line in text.splitlines() if line.strip()]
        text = "".join(f"data: {line}\n\n" for line in lines) + "data: [DONE]\n\n"
    endpoint = {"chat": "chat", "embedding": "embeddings"}.get(path.name.split("__")[1], "")
    status = 200
    if path.suffix == ".json" and "error" in path.name:
        status = 429 if "insufficient_quota" in text else 400  # Body-only fixtures: the status is inferred.
    return Exchange(f"bodyonly-{path.name}", "openai", endpoint, status, {}, b"", text.encode())


def exchanges() -> list[Exchange]:
    """All recorded exchanges of both providers."""
    if not RECORDINGS.is_dir():
        return []
    found = []
    for provider in ("openai", "openrouter"):
        for path in sorted(RECORDINGS.glob(f"*/{provider}/*")):
            if path.parts[-3] == "vercel+ai":
                found.append(_body_only(path))
            elif path.suffix == ".json":
                found.append(load(path))
    return found


def responses_of(body: bytes) -> list[bytes]:
    """A fixture of lines may hold several responses, one after the other: each is a stream of its own."""
    streams: list[bytes] = []
    for frame in body.split(b"\n\n"):
        if not streams or b'"type":"response.created"' in frame.replace(b": ", b":"):
            streams.append(b"")
        streams[-1] += frame + b"\n\n" if frame else b""
    return [stream for stream in streams if stream]


def params(found: list[Exchange]) -> list[Any]:
    """Parametrisation with **recorded** in each id; one skip where the recordings are absent."""
    if not found:
        return [pytest.param(None, id="recorded-absent", marks=pytest.mark.skip(reason=ABSENT))]
    return [pytest.param(item, id=f"recorded-{item.name}", marks=pytest.mark.recorded) for item in found]
