"""A small OpenID Connect provider for tests: real keys, real signatures, one person, and a knob for every lie.

It listens on loopback and checks what a careful provider checks: redirect address, PKCE, client secret, one use a code.
"""

import asyncio
import base64
import contextlib
import hashlib
import json
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs, quote, urlsplit

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from jwt.algorithms import ECAlgorithm, RSAAlgorithm

CLIENT_ID = "ownkey-console"
CLIENT_SECRET = "s3cret/with+signs"

RSA_KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048)
OTHER_RSA_KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048)
EC_KEY = ec.generate_private_key(ec.SECP256R1())


def jwk(key: Any, kid: str, **more: Any) -> dict[str, Any]:
    """The public half, as a provider publishes it."""
    algorithm = RSAAlgorithm if isinstance(key, rsa.RSAPrivateKey) else ECAlgorithm
    made: dict[str, Any] = algorithm.to_jwk(key.public_key(), as_dict=True)
    return {**made, "kid": kid, "use": "sig", **more}


@dataclass
class Provider:
    """`person` are the claims about whoever signs in; `lie` changes claims at the last moment, `sign` the signature."""

    url: str = ""
    now_ms: Callable[[], int] = lambda: 0
    person: dict[str, Any] = field(default_factory=lambda: {
        "sub": "person-1", "email": "Ada@Example.com", "email_verified": True, "name": "Ada Lovelace",
    })
    auth_time: int | None = None
    lie: dict[str, Any] = field(default_factory=dict)
    keys: list[dict[str, Any]] = field(default_factory=lambda: [jwk(RSA_KEY, "k1"), jwk(EC_KEY, "k2")])
    sign: Callable[[dict[str, Any]], str] | None = None
    discovery: dict[str, Any] = field(default_factory=dict)
    token_status: int = 200
    codes: dict[str, dict[str, str]] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    public_client: bool = False

    def approve(self, authorization_url: str, **more: str) -> str:
        """What the person's browser does there: signs in, and is sent back. The address that it is sent to."""
        query = {name: values[0] for name, values in parse_qs(urlsplit(authorization_url).query).items()}
        assert query["response_type"] == "code"
        assert query["client_id"] == CLIENT_ID
        assert "openid" in query["scope"].split()
        assert query["code_challenge_method"] == "S256"
        code = f"code-{len(self.codes)}"
        self.codes[code] = query
        answer = {"code": code, "state": query["state"], **more}
        return query["redirect_uri"] + "?" + "&".join(f"{n}={quote(v, safe='')}" for n, v in answer.items() if v)

    def id_token(self, asked: dict[str, str]) -> str:
        now = self.now_ms() // 1_000
        claims = {
            "iss": self.url, "aud": CLIENT_ID, "iat": now, "exp": now + 300, "nonce": asked["nonce"], **self.person,
            **({} if self.auth_time is None else {"auth_time": self.auth_time}), **self.lie,
        }
        claims = {name: value for name, value in claims.items() if value is not None}
        if self.sign is not None:
            return self.sign(claims)
        return jwt.encode(claims, RSA_KEY, "RS256", headers={"kid": "k1"})

    def answer(self, method: str, path: str, headers: dict[str, str], body: str) -> tuple[int, Any]:
        self.asked.append(f"{method} {path}")
        if path == "/.well-known/openid-configuration":
            return 200, {
                "issuer": self.url, "authorization_endpoint": f"{self.url}/authorize",
                "token_endpoint": f"{self.url}/token", "jwks_uri": f"{self.url}/keys",
                "id_token_signing_alg_values_supported": ["RS256", "ES256"], **self.discovery,
            }
        if path == "/keys":
            return 200, {"keys": self.keys}
        if path == "/token" and method == "POST":
            return self._exchange(headers, {name: values[0] for name, values in parse_qs(body).items()})
        return 404, {"error": "not_found"}

    def _exchange(self, headers: dict[str, str], form: dict[str, str]) -> tuple[int, Any]:
        if self.token_status != 200:
            return self.token_status, {"error": "server_error"}
        basic = "Basic " + base64.b64encode(f"{CLIENT_ID}:{quote(CLIENT_SECRET, safe='')}".encode()).decode()
        if headers.get("authorization") != (None if self.public_client else basic):
            return 401, {"error": "invalid_client"}
        asked = self.codes.pop(form.get("code", ""), None)
        if asked is None or form.get("redirect_uri") != asked["redirect_uri"]:
            return 400, {"error": "invalid_grant"}
        challenge = base64.urlsafe_b64encode(hashlib.sha256(form.get("code_verifier", "").encode()).digest())
        if challenge.rstrip(b"=").decode() != asked["code_challenge"]:
            return 400, {"error": "invalid_grant"}
        return 200, {"access_token": "unused", "token_type": "Bearer", "id_token": self.id_token(asked)}

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
            first, *lines = head.strip().split("\r\n")
            headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
            body = (await reader.readexactly(int(headers.get("content-length", "0")))).decode()
            method, path, _ = first.split(" ")
            status, value = self.answer(method, path.partition("?")[0], headers, body)
            data = json.dumps(value).encode()
            writer.write(
                f"HTTP/1.1 {status} X\r\ncontent-type: application/json\r\ncontent-length: {len(data)}\r\n"
                "connection: close\r\n\r\n".encode() + data
            )
            await writer.drain()
        writer.close()


@contextlib.asynccontextmanager
async def open_provider(**knobs: Any) -> AsyncIterator[Provider]:
    provider = Provider(**knobs)
    server = await asyncio.start_server(provider.serve, "127.0.0.1", 0)
    provider.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    async with server:
        yield provider
