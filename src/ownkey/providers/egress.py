"""Where we may connect to: an origin that means one host, and an address that was checked before it is used.

A name is resolved here and the connection is made to the checked address, never to the name again, so an
answer that changes between check and use (rebinding) changes nothing. Address ranges are spelled out from
IANA's special-purpose registries (2025) because `ipaddress.is_global` has changed its mind between patch
releases of Python.
"""

import asyncio
import re
import socket
from collections.abc import Awaitable, Callable, Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address

from ownkey.domain.exchange import Origin

Resolver = Callable[[str, int], Awaitable[Sequence[str]]]
"""(host, port) → addresses as text. Raises OSError if the name does not resolve."""

KEEP_ADDRESSES_S = 30.0

_REFUSED_V4 = tuple(
    IPv4Network(text)
    for text in (
        "0.0.0.0/8",  # this network
        "10.0.0.0/8",  # private
        "100.64.0.0/10",  # carrier-grade NAT; holds Alibaba's metadata address
        "127.0.0.0/8",  # loopback
        "168.63.129.16/32",  # Azure's host agent: public by number, internal by meaning
        "169.254.0.0/16",  # link-local; holds the metadata addresses
        "172.16.0.0/12",  # private
        "192.0.0.0/24",  # protocol assignments; holds Oracle's metadata address
        "192.0.2.0/24",  # documentation
        "192.88.99.0/24",  # 6to4 relays
        "192.168.0.0/16",  # private
        "198.18.0.0/15",  # benchmarks
        "198.51.100.0/24",  # documentation
        "203.0.113.0/24",  # documentation
        "224.0.0.0/4",  # multicast
        "240.0.0.0/4",  # reserved and broadcast
    )
)
# Only global unicast is public: mapped, compatible, NAT64, unique-local, link-local and multicast lie outside.
_GLOBAL_V6 = IPv6Network("2000::/3")
_REFUSED_V6 = tuple(
    IPv6Network(text)
    for text in (
        "2001::/23",  # protocol assignments: Teredo, ORCHID, benchmarks
        "2001:db8::/32",  # documentation
        "2002::/16",  # 6to4: carries an IPv4 address
        "3fff::/20",  # documentation
    )
)
_ISATAP = (0x00005EFE, 0x02005EFE)  # middle of an interface id that carries an IPv4 address
_LOOPBACK_V4 = IPv4Network("127.0.0.0/8")
_LOOPBACK_V6 = IPv6Address("::1")

_URL = re.compile(r"(https?)://([^/]+)((?:/[A-Za-z0-9._~-]+)*)/?", re.ASCII)
_LABEL = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?", re.ASCII)
_NUMERIC = re.compile(r"[0-9]+|0x[0-9a-f]*", re.ASCII)


class RefusedAddress(Exception):
    """A name resolved, but to no address that we may connect to."""


class UnresolvedName(Exception):
    """A name did not resolve."""


def is_public(address: str) -> bool:
    """Whether an address is ordinary public unicast, in no form that carries another address inside."""
    try:
        parsed = ip_address(address)
    except ValueError:
        return False
    if isinstance(parsed, IPv4Address):
        return not any(parsed in network for network in _REFUSED_V4)
    if parsed.scope_id is not None or parsed not in _GLOBAL_V6:
        return False
    if (int(parsed) >> 32) & 0xFFFFFFFF in _ISATAP:
        return False
    return not any(parsed in network for network in _REFUSED_V6)


def is_loopback(address: str) -> bool:
    """Whether an address is 127.0.0.0/8 or ::1. Mapped forms of them are not: nobody needs those."""
    try:
        parsed = ip_address(address)
    except ValueError:
        return False
    return parsed in _LOOPBACK_V4 if isinstance(parsed, IPv4Address) else parsed == _LOOPBACK_V6


def parse_origin(url: str) -> Origin:
    """Read an origin from configuration. Raises ValueError with a sentence that never repeats the URL.

    http is accepted for localhost, 127.0.0.0/8 and ::1 only; whether loopback may be used at all is decided
    when connecting.
    """
    if not url.isascii() or not url.isprintable() or " " in url or "\\" in url or "%" in url:
        raise ValueError("an origin is plain visible ASCII without spaces, backslashes or percent signs")
    if "?" in url or "#" in url:
        raise ValueError("an origin has no query and no fragment")
    if "@" in url:
        raise ValueError("an origin has no user name or password")
    scheme, mark, rest = url.partition("://")
    matched = _URL.fullmatch(scheme.lower() + mark + rest)
    if matched is None:
        raise ValueError("an origin looks like https://host, https://host:port or https://host/base/path")
    scheme, authority, path = matched.groups()
    if any(set(segment) == {"."} for segment in path.split("/") if segment):
        raise ValueError("an origin's path has no dot segments")
    host, port = _split_authority(authority, 443 if scheme == "https" else 80)
    origin = Origin(scheme, host.lower(), port, path)
    check_origin(origin)
    return Origin(scheme, _canonical_host(origin.host), port, path)


def check_origin(origin: Origin) -> None:
    """Refuse an origin whose scheme or host could mean something else than it shows. Raises ValueError."""
    host = origin.host
    if origin.scheme not in ("https", "http"):
        raise ValueError("an origin's scheme is https, or http for loopback")
    literal = _check_host(host)
    local = host == "localhost" or (literal and is_loopback(host))
    if origin.scheme == "http" and not local:
        raise ValueError("http is for loopback only: use https")
    if literal and not local and not is_public(host):
        raise ValueError("an origin's address must be a public one")


def _split_authority(authority: str, default_port: int) -> tuple[str, int]:
    if authority.startswith("["):
        host, bracket, rest = authority[1:].partition("]")
        if not bracket or ":" not in host or (rest and not rest.startswith(":")):
            raise ValueError("an IPv6 host is written in brackets: https://[2606:4700::1111]:443")
        has_port, port = bool(rest), rest[1:]
    else:
        host, colon, port = authority.partition(":")
        has_port = bool(colon)
    if not has_port:
        return host, default_port
    if not re.fullmatch(r"[1-9][0-9]{0,4}", port, re.ASCII) or int(port) > 65535:
        raise ValueError("an origin's port is a number from 1 to 65535")
    return host, int(port)


def _canonical_host(host: str) -> str:
    return IPv6Address(host).compressed if ":" in host else host


def _check_host(host: str) -> bool:
    """Raise ValueError unless a host has exactly one reading. Returns whether it is an address."""
    if ":" in host:
        try:
            IPv6Address(host)
        except ValueError:
            raise ValueError("an origin's IPv6 address is malformed") from None
        if "%" in host:
            raise ValueError("an origin's IPv6 address has no zone")
        return True
    labels = host.split(".")
    if _NUMERIC.fullmatch(labels[-1]):
        # inet_aton reads 0x7f.1, 0177.0.0.1 and 2130706433 as 127.0.0.1: only one spelling is accepted.
        try:
            return str(IPv4Address(host)) == host
        except ValueError:
            raise ValueError("an IPv4 address is four decimal numbers without leading zeros") from None
    if len(host) > 253 or not all(_LABEL.fullmatch(label) for label in labels):
        raise ValueError("an origin's host is a lower-case DNS name or an address")
    if any(label[2:4] == "--" for label in labels):
        raise ValueError("an origin's host has no internationalised (xn--) labels: they can look like another")
    if len(labels) == 1 and host != "localhost":
        raise ValueError("an origin's host is a full name with a dot, or localhost")
    return False


class Egress:
    """Turns origins into checked addresses. Answers are kept for at most 30 s; one question a name at a time."""

    def __init__(self, *, allow_loopback: bool, resolver: Resolver | None = None) -> None:
        self._allow_loopback = allow_loopback
        self._resolver = resolver or _resolve
        self._known: dict[str, tuple[float, tuple[str, ...]]] = {}
        self._asking: dict[str, asyncio.Task[tuple[str, ...]]] = {}

    async def addresses(self, origin: Origin) -> tuple[str, ...]:
        """The addresses we may connect to, never empty.

        Raises ValueError for a refused origin, RefusedAddress if no address passes, UnresolvedName.
        """
        check_origin(origin)
        if origin.scheme == "http" and not self._allow_loopback:
            raise ValueError("http needs allow_insecure_origins")
        found = await self._lookup(origin.host, origin.port)
        allowed = tuple(address for address in found if self._may_connect(origin.scheme, address))
        if not allowed:
            raise RefusedAddress("no address of this origin may be connected to")
        return allowed

    def prefer(self, host: str, address: str) -> None:
        """Try this address first from now on: an earlier one did not connect."""
        known = self._known.get(host)
        if known is not None and address in known[1]:
            rest = tuple(other for other in known[1] if other != address)
            self._known[host] = (known[0], (address, *rest))

    def close(self) -> None:
        """Stop asking."""
        for task in self._asking.values():
            task.cancel()

    def _may_connect(self, scheme: str, address: str) -> bool:
        if is_loopback(address):
            return self._allow_loopback
        return scheme == "https" and is_public(address)

    async def _lookup(self, host: str, port: int) -> tuple[str, ...]:
        if _check_host(host):
            return (host,)
        loop = asyncio.get_running_loop()
        known = self._known.get(host)
        if known is not None and loop.time() < known[0]:
            return known[1]
        task = self._asking.get(host)
        if task is None:
            # A task of its own, because callers who share the answer give up at different times.
            task = self._asking[host] = loop.create_task(self._ask(host, port))
            task.add_done_callback(lambda done: self._answered(host, done))
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            caller = asyncio.current_task()
            if task.cancelled() and caller is not None and not caller.cancelling():
                raise UnresolvedName(host) from None  # closed while asking; the caller itself goes on
            raise

    async def _ask(self, host: str, port: int) -> tuple[str, ...]:
        try:
            found = tuple(dict.fromkeys(await self._resolver(host, port)))
        except OSError as error:
            raise UnresolvedName(host) from error
        self._known[host] = (asyncio.get_running_loop().time() + KEEP_ADDRESSES_S, found)
        return found

    def _answered(self, host: str, task: asyncio.Task[tuple[str, ...]]) -> None:
        self._asking.pop(host, None)
        if not task.cancelled():
            task.exception()  # seen, so that a failure nobody waited for is not logged


async def _resolve(host: str, port: int) -> Sequence[str]:
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return [str(address[0]) for *_, address in found]
