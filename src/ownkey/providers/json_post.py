"""A call of any provider as an HTTP request: JSON posted, JSON or an event stream asked for."""

from collections.abc import Mapping

from ownkey.domain.exchange import Origin, UpstreamRequest
from ownkey.domain.secret import Secret


def json_post(
    origin: Origin,
    path: str,
    body: bytes,
    stream: bool,
    credential: Secret,
    headers: Mapping[str, str],
    key_header: str | None = None,
) -> UpstreamRequest:
    """`headers` cannot replace the content's own. The credential is a bearer token unless `key_header` holds it."""
    fixed = {
        "content-type": "application/json",
        "accept": "text/event-stream" if stream else "application/json",
    }
    passed = {name.lower(): value for name, value in headers.items()}
    return UpstreamRequest(
        origin=origin,
        method="POST",
        path=path,
        headers=tuple((passed | fixed).items()),
        body=body,
        credential=credential,
        credential_header=key_header or "authorization",
        credential_prefix="" if key_header else "Bearer ",
    )
