"""The four front doors: which path is which call, who is asking, and what a head looks like."""

from dataclasses import dataclass
from urllib.parse import parse_qs, unquote

CALLS: dict[tuple[str, str], tuple[str, str]] = {
    ("POST", "/openrouter/api/v1/chat/completions"): ("openrouter", "chat"),
    ("POST", "/openrouter/api/v1/embeddings"): ("openrouter", "embeddings"),
    ("POST", "/openrouter/api/v1/responses"): ("openrouter", "responses"),
    ("POST", "/openrouter/api/v1/messages"): ("openrouter", "messages"),
    ("GET", "/openrouter/api/v1/models"): ("openrouter", "models"),
    ("GET", "/openrouter/api/v1/models/user"): ("openrouter", "models_user"),
    ("GET", "/openrouter/api/v1/embeddings/models"): ("openrouter", "models_embeddings"),
    ("GET", "/openrouter/api/v1/providers"): ("openrouter", "providers"),
    ("GET", "/openrouter/api/v1/key"): ("openrouter", "key"),
    ("GET", "/openrouter/api/v1/auth/key"): ("openrouter", "key"),
    ("GET", "/openrouter/api/v1/credits"): ("openrouter", "credits"),
    ("GET", "/openrouter/api/v1/generation"): ("openrouter", "generation"),
    ("POST", "/openrouter/api/v1/auth/keys"): ("openrouter", "auth_keys"),
    ("GET", "/openrouter/auth"): ("openrouter", "auth_page"),
    ("POST", "/openai/v1/chat/completions"): ("openai", "chat"),
    ("POST", "/openai/v1/embeddings"): ("openai", "embeddings"),
    ("POST", "/openai/v1/responses"): ("openai", "responses"),
    ("GET", "/openai/v1/models"): ("openai", "models"),
    ("POST", "/anthropic/v1/messages"): ("anthropic", "messages"),
    ("POST", "/anthropic/v1/messages/count_tokens"): ("anthropic", "count_tokens"),
    ("GET", "/anthropic/v1/models"): ("anthropic", "models"),
    ("GET", "/google/v1beta/models"): ("google", "models"),
    ("GET", "/google/v1/models"): ("google", "models"),
}
GENERATES = {"chat", "responses", "messages", "generateContent", "streamGenerateContent"}
_GOOGLE_METHODS = {
    "generateContent", "streamGenerateContent", "countTokens", "embedContent", "batchEmbedContents",
}  # fmt: skip
_BY_PATH = {(method.encode(), path.encode()): call for (method, path), call in CALLS.items()}


@dataclass(frozen=True, slots=True)
class Call:
    """One request's place: the provider, what is called, and the model where the path names it."""

    provider: str
    name: str
    path: str
    query: str = ""
    model: str = ""

    def argument(self, name: str) -> str | None:
        """One value of the query."""
        found = parse_qs(self.query, keep_blank_values=True).get(name)
        return found[0] if found else None


_KNOWN = {path: Call(*call, path=path[1].decode()) for path, call in _BY_PATH.items()}


def find(method: bytes, target: bytes) -> Call | None:
    """The call behind a request line, or None outside the four prefixes. Unknown paths inside have the name ""."""
    known = _KNOWN.get((method, target))
    if known is not None:
        return known
    raw, _, query = target.partition(b"?")
    path, text = unquote(raw.decode("latin-1")), query.decode("latin-1")
    found = _BY_PATH.get((method, raw))
    if found is not None:
        return Call(*found, path, text)
    provider = path.split("/", 2)[1] if path.startswith("/") else ""
    match provider:
        case "google":
            return _google(method, path, text)
        case "openrouter":
            return _openrouter(method, path, text)
        case "openai" | "anthropic":
            prefix = f"/{provider}/v1/models/"
            if method == b"GET" and path.startswith(prefix):
                return Call(provider, "model", path, text, path.removeprefix(prefix))
            return Call(provider, "", path, text)
        case _:
            return None


def _google(method: bytes, path: str, query: str) -> Call:
    for prefix in ("/google/v1beta/models/", "/google/v1/models/"):
        if path.startswith(prefix):
            model, _, action = path.removeprefix(prefix).partition(":")
            if not action and method == b"GET":
                return Call("google", "model", path, query, model)
            if action in _GOOGLE_METHODS and method == b"POST":
                return Call("google", action, path, query, model)
    return Call("google", "", path, query)


def _openrouter(method: bytes, path: str, query: str) -> Call:
    prefix = "/openrouter/api/v1/models/"
    if method == b"GET" and path.startswith(prefix) and path.endswith("/endpoints"):
        return Call("openrouter", "endpoints", path, query, path.removeprefix(prefix).removesuffix("/endpoints"))
    return Call("openrouter", "", path, query)


def credential(provider: str, headers: dict[bytes, bytes], call: Call) -> str | None:
    """The key a request presents the way its provider wants it, or None."""
    match provider:
        case "anthropic":
            # Both are in use: the API reference says x-api-key, the SDK since 2.12 sends a Bearer token.
            found = headers.get(b"x-api-key") or _bearer(headers)
        case "google":
            found = headers.get(b"x-goog-api-key")
            if found is None and (asked := call.argument("key")) is not None:
                return asked
        case _:
            found = _bearer(headers)
    return found.decode("latin-1").strip() if found is not None else None


def _bearer(headers: dict[bytes, bytes]) -> bytes | None:
    found = headers.get(b"authorization")
    return found[7:] if found is not None and found[:7].lower() == b"bearer " else None


class Ids:
    """Request ids in each provider's style, unique within a run and the same in every run with the same seed."""

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._count = 0

    def next(self, provider: str, name: str, now: int) -> tuple[str, str]:
        """(the id in the head, the id in the body)."""
        self._count += 1
        mixed = ((self._count + self._seed) * 0x9E3779B97F4A7C15) & 0xFFFFFFFFFFFFFFFF
        mark = f"{mixed:016x}"
        match provider:
            case "openai":
                body = f"resp_{mark * 3}" if name == "responses" else f"chatcmpl-{mark}{mark[:13]}"
                return f"req_{mark}{mark[::-1]}", body
            case "anthropic":
                return f"req_011C{mark}", f"msg_01{mark}{mark[:6]}"
            case "google":
                return f"{mark}{mark[:6]}", f"{mark}{mark[:6]}"
            case _:
                made = f"gen-{now}-{mark}{mark[:4]}"
                return made, made


_OPENAI_LIMITS = (
    b"openai-version: 2020-10-01\r\nopenai-processing-ms: 20\r\n"
    b"x-ratelimit-limit-requests: 5000\r\nx-ratelimit-limit-tokens: 4000000\r\n"
    b"x-ratelimit-remaining-requests: 4999\r\nx-ratelimit-remaining-tokens: 3999000\r\n"
    b"x-ratelimit-reset-requests: 12ms\r\nx-ratelimit-reset-tokens: 0s\r\n"
)
_ANTHROPIC_LIMITS = b"".join(
    b"anthropic-ratelimit-%s-limit: 400000\r\nanthropic-ratelimit-%s-remaining: 399000\r\n"
    b"anthropic-ratelimit-%s-reset: 2030-01-01T00:00:00Z\r\n" % (name, name, name)
    for name in (b"requests", b"tokens", b"input-tokens", b"output-tokens")
)


def head(provider: str, request_id: str, *, stream: bool, content_type: bytes | None = None) -> bytes:
    """The header lines of an answer, length and framing excepted."""
    mark = request_id.encode()
    match provider:
        case "openai":
            kind = b"text/event-stream; charset=utf-8" if stream else b"application/json"
            return b"content-type: %s\r\n%sx-request-id: %s\r\n" % (content_type or kind, _OPENAI_LIMITS, mark)
        case "anthropic":
            kind = b"text/event-stream; charset=utf-8" if stream else b"application/json"
            cache = b"cache-control: no-cache\r\n" if stream else b""
            return b"content-type: %s\r\n%s%srequest-id: %s\r\n" % (
                content_type or kind, cache, _ANTHROPIC_LIMITS, mark,
            )  # fmt: skip
        case "google":
            kind = b"text/event-stream" if stream else b"application/json; charset=UTF-8"
            return b"content-type: %s\r\nserver: scaffolding on HTTPServer2\r\nserver-timing: gfet4t7; dur=20\r\n" % (
                content_type or kind
            )
        case _:
            kind = b"text/event-stream" if stream else b"application/json"
            cache = b"cache-control: no-cache\r\n" if stream else b""
            return b"content-type: %s\r\n%sx-generation-id: %s\r\n" % (content_type or kind, cache, mark)


def refusal_head(provider: str, request_id: str, content_type: bytes) -> bytes:
    """The header lines of a refusal: no rate-limit lines, no generation."""
    mark = request_id.encode()
    match provider:
        case "openai":
            return b"content-type: %s\r\nx-request-id: %s\r\n" % (content_type, mark)
        case "anthropic":
            return b"content-type: %s\r\nrequest-id: %s\r\n" % (content_type, mark)
        case "google":
            return b"content-type: %s; charset=UTF-8\r\nserver-timing: gfet4t7; dur=5\r\n" % content_type
        case _:
            return b"content-type: %s\r\n" % content_type
