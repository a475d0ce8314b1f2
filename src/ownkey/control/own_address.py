"""Where browsers reach this server: what links begin with, and what a request's Origin must be."""

from urllib.parse import urlsplit

from ownkey.domain.connect import LOOPBACK_HOSTS

_USUAL_PORTS = {"https": 443, "http": 80}


class OwnAddress:
    """`public_url` is the configured address, "" if there is none: then it is the server's own on loopback, which is
    known from the moment it listens."""

    def __init__(self, public_url: str = "") -> None:
        self._public = public_url
        self._listening = ""

    def listens_at(self, url: str) -> None:
        """Told once by whoever opened the socket."""
        self._listening = url

    @property
    def url(self) -> str:
        """Without a slash at its end; "" while it is unknown."""
        return self._public or self._listening

    @property
    def origins(self) -> frozenset[str]:
        """How browsers may write it in a request's Origin. Both names of loopback are this server."""
        found = {origin_of(url) for url in (self._public, self._listening) if url}
        for url in (self._public, self._listening):
            parts = urlsplit(url)
            if parts.hostname in LOOPBACK_HOSTS:
                found |= {origin_of(f"{parts.scheme}://{host}:{parts.port or ''}") for host in LOOPBACK_HOSTS}
        return frozenset(found)


def origin_of(url: str) -> str:
    """Scheme, host and port as browsers write an origin; "" for a text that has none."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        return ""
    if not parts.hostname or parts.scheme not in _USUAL_PORTS:
        return ""
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    return f"{parts.scheme}://{host}" + (f":{port}" if port not in (None, _USUAL_PORTS[parts.scheme]) else "")
