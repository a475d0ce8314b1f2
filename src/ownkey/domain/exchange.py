"""One HTTP exchange with a provider, as values: what is sent where, and with which credential."""

from dataclasses import dataclass

from ownkey.domain.secret import Secret


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a credential may be sent: scheme, host, port and base path ("/api/v1", no trailing slash)."""

    scheme: str
    host: str
    port: int
    base_path: str

    def __str__(self) -> str:
        default = {"https": 443, "http": 80}[self.scheme]
        port = "" if self.port == default else f":{self.port}"
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}{port}{self.base_path}"


@dataclass(frozen=True, slots=True)
class UpstreamRequest:
    """One request. `path` is appended to the origin's base path and may carry a query.

    The credential is put into `credential_header` behind `credential_prefix` at the moment of sending; no
    other value of this class ever holds its plaintext.
    """

    origin: Origin
    method: str
    path: str
    headers: tuple[tuple[str, str], ...]
    body: bytes
    credential: Secret | None = None
    credential_header: str = "authorization"
    credential_prefix: str = "Bearer "
