"""Where we connect to: a corpus of ways to name a forbidden address, none of which gets a connection."""

import asyncio
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

import pytest

from ownkey.domain.exchange import Origin, UpstreamRequest
from ownkey.domain.failures import UpstreamError
from ownkey.providers.egress import (
    KEEP_ADDRESSES_S,
    Egress,
    RefusedAddress,
    UnresolvedName,
    is_loopback,
    is_public,
    parse_origin,
)
from ownkey.providers.upstream import Upstream

CONNECTS: list[Any] = []


def _watch(event: str, arguments: tuple[Any, ...]) -> None:
    if event == "socket.connect":
        CONNECTS.append(arguments[1])


sys.addaudithook(_watch)  # the interpreter itself tells of every connect, whoever asks for it


@pytest.fixture
def connects() -> list[Any]:
    """The addresses this test's process connected to."""
    CONNECTS.clear()
    return CONNECTS


# Addresses no provider has, as a name server could answer them or as a URL could hold them.
FORBIDDEN_ADDRESSES = [
    # this network, loopback, private
    "0.0.0.0", "0.1.2.3", "0.255.255.255", "127.0.0.1", "127.0.0.2", "127.1.2.3", "127.255.255.255",
    "10.0.0.0", "10.0.0.1", "10.255.255.255", "172.16.0.1", "172.17.0.1", "172.31.255.255",
    "192.168.0.1", "192.168.1.1", "192.168.255.255",
    # carrier-grade NAT, link-local, metadata of AWS, Alibaba, Oracle, ECS and Azure
    "100.64.0.0", "100.64.0.1", "100.100.100.200", "100.127.255.255", "169.254.0.1", "169.254.169.254",
    "169.254.169.253", "169.254.170.2", "169.254.255.255", "192.0.0.1", "192.0.0.192", "168.63.129.16",
    # documentation, benchmarks, relays, multicast, reserved, broadcast
    "192.0.2.1", "198.51.100.1", "203.0.113.1", "198.18.0.1", "198.19.255.255", "192.88.99.1",
    "224.0.0.1", "239.255.255.250", "240.0.0.1", "250.1.2.3", "255.255.255.254", "255.255.255.255",
    # IPv6: unspecified, loopback, unique local (with metadata of AWS and Google), link-local, site-local
    "::", "::1", "0:0:0:0:0:0:0:1", "fc00::1", "fd00::1", "fd00:ec2::254", "fd20:ce::254", "fdff:ffff::1",
    "fe80::1", "fe80::a9fe:a9fe", "febf::1", "fec0::1", "ff02::1", "ff05::2", "ff0e::1",
    # IPv6 that carries IPv4: mapped, compatible, translated, NAT64, 6to4, Teredo, ISATAP
    "::ffff:127.0.0.1", "::ffff:7f00:1", "::ffff:10.0.0.1", "::ffff:169.254.169.254", "::ffff:a9fe:a9fe",
    "::ffff:8.8.8.8", "::127.0.0.1", "::7f00:1", "::169.254.169.254", "::ffff:0:127.0.0.1", "::ffff:0:7f00:1",
    "64:ff9b::127.0.0.1", "64:ff9b::a9fe:a9fe", "64:ff9b::8.8.8.8", "64:ff9b:1::7f00:1", "2002:7f00:1::1",
    "2002:a9fe:a9fe::1", "2002:808:808::1", "2001::1", "2001:0:53aa:64c:0:fbcf:80ff:fffe",
    "2606:4700::5efe:7f00:1", "2606:4700::200:5efe:a9fe:a9fe",
    # IPv6 for special purposes
    "100::1", "2001:2::1", "2001:10::1", "2001:20::1", "2001:db8::1", "3fff::1", "5f00::1", "4000::1",
    "fe80::1%eth0", "::1%lo", "2606:4700::1111%1",
    # no addresses at all
    "", "localhost", "127.1", "0x7f000001", "2130706433", "0177.0.0.1", "127.0.0.1 ", "127.0.0.1\n", "256.1.1.1",
]  # fmt: skip

# Hosts that some parser reads as a forbidden address, or as another host than it shows.
FORBIDDEN_HOSTS = [
    # decimal, octal, hexadecimal and short forms of 127.0.0.1, 169.254.169.254, 10.0.0.1, 0.0.0.0, 8.8.8.8
    "2130706433", "2852039166", "167772161", "0", "134744072", "127.1", "127.0.1", "10.1", "0.0", "8.8.2056",
    "0177.0.0.1", "0177.1", "017700000001", "00000177.0.0.1", "127.0.0.01", "127.0.0.001", "0251.0376.0251.0376",
    "0x7f.0.0.1", "0x7f.1", "0x7f000001", "0X7F000001", "0x7F.0x0.0x0.0x1", "0xa9fea9fe", "0xA9.0xFE.0xA9.0xFE",
    "0x0000007f.1", "0x7f.0.0.0x1", "169.254.0xa9.254", "169.254.43518", "1.2.3", "1.2.3.4.5", "256.256.256.256",
    "4294967296", "127.0.0.1.", "127.0.0.0x1", "0x", "example.0x7f", "example.1", "example.com.127",
    # dots, case, empty labels, foreign dots and digits
    "localhost.", "example.com.", ".example.com", "example..com",
    "127\u30020\u30020\u30021", "127\uff0e0\uff0e0\uff0e1",
    "\u2460\u2461\u2466.0.0.1", "\uff11\uff12\uff17.0.0.1", "\u0661\u0662\u0667.0.0.1",
    "loc\u00adalhost", "l\u043ecalhost",
    # internationalised look-alikes, plain and encoded
    "xn--80ak6aa92e.com", "api.xn--penai-vqe.com", "XN--E1AWD7F.com", "api.\u043epenai.com",
    "\u24de\u24df\u24d4\u24dd.com",
    # user names, ports, paths and percent signs in a host
    "user@example.com", "example.com@127.0.0.1", "user:pass@127.0.0.1", "example.com%2f@127.0.0.1",
    "example.com\\@127.0.0.1", "example.com:80\\@127.0.0.1", "127.0.0.1%00.example.com", "%31%32%37.0.0.1",
    "127.0.0.1%2eexample.com", "example%2ecom", "example.com#@127.0.0.1", "example.com?@127.0.0.1",
    "127.0.0.1#.example.com", "127.0.0.1?.example.com", "example.com;127.0.0.1", "example.com,127.0.0.1",
    "example.com 127.0.0.1", "example.com\t127.0.0.1", "example.com\r\nhost:127.0.0.1", "127.0.0.1\0.example.com",
    " 127.0.0.1", "127.0.0.1 ", "exa_mple.com", "-example.com", "example-.com", "a" * 64 + ".com", "a." * 127 + "com",
    # ports
    "example.com:", "example.com:0", "example.com:65536", "example.com:-1", "example.com:+1", "example.com:1e2",
    "example.com:\u0661", "example.com:443:80", "example.com:99999999999", "example.com: 80", "example.com:080",
    # brackets
    "[127.0.0.1]", "[::1", "::1]", "[::1]x", "[::1]:", "[[::1]]", "[::1%25lo]", "[::1%lo]", "[fe80::1%eth0]", "[]",
    "[::g]", "[1::2::3]", "[::ffff:127.0.0.1", "::1", "[v1.a]", "[localhost]", "[::1]@example.com",
    # names that are no full names
    "", "metadata", "internal", "kubernetes", "localhost1", "ip6-localhost", "[0x7f.1]",
]  # fmt: skip


def literal(address: str) -> str:
    return f"[{address}]" if ":" in address else address


@pytest.mark.parametrize("address", FORBIDDEN_ADDRESSES)
def test_a_forbidden_address_is_not_public(address: str) -> None:
    """Nothing that is not ordinary public unicast passes for public."""
    assert not is_public(address)


@pytest.mark.parametrize(
    "address",
    ["1.1.1.1", "8.8.8.8", "100.63.255.255", "100.128.0.1", "104.18.6.192", "160.79.104.10", "172.15.0.1",
     "172.32.0.1", "169.253.1.1", "192.0.1.1", "198.17.0.1", "223.255.255.255", "2606:4700::6812:7c0",
     "2607:6bc0::10", "2a00:1450:4001:812::200a", "2001:4860:4860::8888", "2620:fe::fe"],
)  # fmt: skip
def test_a_public_address_is_public(address: str) -> None:
    """Providers' addresses, and the neighbours of forbidden ranges, pass."""
    assert is_public(address)
    assert not is_loopback(address)


def test_loopback_is_only_the_plain_forms() -> None:
    """127.0.0.0/8 and ::1 are loopback; mapped forms of them are nothing."""
    assert all(is_loopback(address) for address in ("127.0.0.1", "127.255.255.254", "::1"))
    assert not any(is_loopback(address) for address in ("::ffff:127.0.0.1", "::", "0.0.0.0", "::7f00:1", "x"))


@pytest.mark.parametrize("scheme", ["https", "http"])
def test_a_forbidden_host_is_no_origin(scheme: str) -> None:
    """A host with a second reading is refused with a sentence that does not repeat it."""
    for host in FORBIDDEN_HOSTS:
        with pytest.raises(ValueError) as caught:
            parse_origin(f"{scheme}://{host}")
        assert not host or len(host) < 4 or host not in str(caught.value), host


@pytest.mark.parametrize("address", [a for a in FORBIDDEN_ADDRESSES if not is_loopback(a)])
def test_a_forbidden_address_is_no_origin(address: str) -> None:
    """A literal address that is not public is refused where configuration is read."""
    if address == "localhost":
        return
    with pytest.raises(ValueError):
        parse_origin(f"https://{literal(address)}")


async def attempt(upstream: Upstream, origin: Origin) -> UpstreamError:
    with pytest.raises(UpstreamError) as caught:
        await upstream.send(UpstreamRequest(origin, "GET", "/", (), b""), head_timeout_s=5)
    assert (caught.value.sent, caught.value.received) == (False, False)
    return caught.value


async def test_the_corpus_gets_no_connection(connects: list[Any]) -> None:
    """Over 150 forms, as names, as literals and as origins built by hand: the process connects to nothing."""
    answers = {"localhost": "127.0.0.1"}

    async def resolver(host: str, port: int) -> Sequence[str]:
        return [answers[host]]

    listening = await asyncio.start_server(lambda reader, writer: writer.close(), "127.0.0.1", 0)
    port = listening.sockets[0].getsockname()[1]
    upstream = Upstream(resolver=resolver)
    tried = 0
    for number, address in enumerate(FORBIDDEN_ADDRESSES):
        name = f"n{number}.example.com"
        answers[name] = address
        assert (await attempt(upstream, Origin("https", name, port, ""))).signal == "refused address"
        await attempt(upstream, Origin("https", address, port, ""))
        await attempt(upstream, Origin("http", address, port, ""))
        tried += 3
    for host in FORBIDDEN_HOSTS:
        answers[host] = "127.0.0.1"
        await attempt(upstream, Origin("https", host, port, ""))
        await attempt(upstream, Origin("http", host, port, ""))
        tried += 2
    await upstream.aclose()
    listening.close()

    assert connects == []
    assert len(set(FORBIDDEN_ADDRESSES + FORBIDDEN_HOSTS)) >= 150
    assert tried >= 450


async def test_loopback_permission_is_for_loopback_only(connects: list[Any]) -> None:
    """With insecure origins allowed, private and metadata addresses and http to names stay refused."""

    async def resolver(host: str, port: int) -> Sequence[str]:
        return ["10.0.0.1" if host == "private.example.com" else "93.184.215.14"]

    upstream = Upstream(resolver=resolver, allow_insecure_origins=True)
    for address in FORBIDDEN_ADDRESSES:
        if not is_loopback(address) and address != "localhost":
            await attempt(upstream, Origin("https", address, 443, ""))
            await attempt(upstream, Origin("http", address, 80, ""))
    await attempt(upstream, Origin("https", "private.example.com", 443, ""))
    await attempt(upstream, Origin("http", "public.example.com", 80, ""))
    assert (await attempt(upstream, Origin("http", "localhost", 80, ""))).signal == "refused address"
    await attempt(upstream, Origin("ftp", "localhost", 21, ""))
    await upstream.aclose()

    assert connects == []


async def test_a_rebinding_name_connects_to_the_checked_address(connects: list[Any]) -> None:
    """The name is asked once; what is connected to is the answer that was checked, never a later one."""
    asked = 0

    async def rebinding(host: str, port: int) -> Sequence[str]:
        nonlocal asked
        asked += 1
        return ["127.0.0.77"] if asked == 1 else ["169.254.169.254"]

    upstream = Upstream(resolver=rebinding, allow_insecure_origins=True, connect_s=1)
    origin = Origin("https", "api.example.com", 9, "")
    for _ in range(3):
        assert (await attempt(upstream, origin)).signal == "connection refused"
    await upstream.aclose()

    assert asked == 1
    assert {address[0] for address in connects} == {"127.0.0.77"}


async def test_a_second_answer_that_is_private_is_refused(connects: list[Any]) -> None:
    """When a kept answer has expired, the new one is checked like the first."""
    answers = [["127.0.0.77"], ["10.0.0.1"], ["169.254.169.254", "::ffff:127.0.0.1"]]

    async def rebinding(host: str, port: int) -> Sequence[str]:
        return answers.pop(0)

    upstream = Upstream(resolver=rebinding, allow_insecure_origins=True)
    origin = Origin("https", "api.example.com", 9, "")
    signals = []
    for _ in range(3):
        signals.append((await attempt(upstream, origin)).signal)
        upstream._egress._known.clear()
    await upstream.aclose()

    assert signals == ["connection refused", "refused address", "refused address"]
    assert {address[0] for address in connects} == {"127.0.0.77"}


async def test_of_mixed_answers_only_the_allowed_ones_are_used() -> None:
    """A forbidden address among good ones is left out."""

    async def resolver(host: str, port: int) -> Sequence[str]:
        return ["10.0.0.1", "1.1.1.1", "127.0.0.1", "1.1.1.1", "64:ff9b::808:808", "2606:4700::1111"]

    origin = Origin("https", "api.example.com", 443, "")
    strict = Egress(allow_loopback=False, resolver=resolver)

    assert await strict.addresses(origin) == ("1.1.1.1", "2606:4700::1111")


@pytest.fixture
async def counted() -> AsyncIterator[tuple[Egress, Callable[[], int]]]:
    """An egress whose resolver takes a moment, and how often it was asked."""
    asked = 0

    async def resolver(host: str, port: int) -> Sequence[str]:
        nonlocal asked
        asked += 1
        await asyncio.sleep(0.05)
        if host.startswith("bad"):
            raise OSError("no such name")
        return ["1.1.1.1"]

    egress = Egress(allow_loopback=False, resolver=resolver)
    yield egress, lambda: asked
    egress.close()


async def test_a_name_is_asked_once_for_all_who_wait(counted: tuple[Egress, Callable[[], int]]) -> None:
    """A hundred calls at once are one question, and one caller's giving up does not end the others' wait."""
    egress, asked = counted
    origin = Origin("https", "api.example.com", 443, "")
    calls = [asyncio.create_task(egress.addresses(origin)) for _ in range(100)]
    await asyncio.sleep(0.01)
    calls[0].cancel()
    results = await asyncio.gather(*calls[1:])

    assert (asked(), set(results)) == (1, {("1.1.1.1",)})
    assert calls[0].cancelled()


async def test_answers_are_kept_for_half_a_minute_at_most(
    counted: tuple[Egress, Callable[[], int]],
) -> None:
    """A kept answer expires; a failure is not kept."""
    egress, asked = counted
    origin = Origin("https", "api.example.com", 443, "")
    await egress.addresses(origin)
    await egress.addresses(origin)
    assert asked() == 1

    until, addresses = egress._known[origin.host]
    now = asyncio.get_running_loop().time()
    assert 0 < until - now <= KEEP_ADDRESSES_S == 30.0

    egress._known[origin.host] = (now - 1, addresses)
    await egress.addresses(origin)
    assert asked() == 2
    for _ in range(2):
        with pytest.raises(UnresolvedName):
            await egress.addresses(Origin("https", "bad.example.com", 443, ""))
    assert asked() == 4


async def test_no_answer_is_a_refusal() -> None:
    """A resolver that answers nothing gives no connection."""

    async def resolver(host: str, port: int) -> Sequence[str]:
        return []

    with pytest.raises(RefusedAddress):
        await Egress(allow_loopback=True, resolver=resolver).addresses(Origin("https", "a.example.com", 443, ""))


async def test_the_system_resolver_finds_localhost() -> None:
    """Without a resolver of its own, the loop's getaddrinfo is asked."""
    egress = Egress(allow_loopback=True)

    found = await egress.addresses(Origin("http", "localhost", 80, ""))

    assert set(found) <= {"127.0.0.1", "::1"}


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("https://openrouter.ai/api/v1", Origin("https", "openrouter.ai", 443, "/api/v1")),
        ("https://openrouter.ai/api/v1/", Origin("https", "openrouter.ai", 443, "/api/v1")),
        ("https://api.openai.com", Origin("https", "api.openai.com", 443, "")),
        ("HTTPS://API.OpenAI.com/v1", Origin("https", "api.openai.com", 443, "/v1")),
        ("https://api.anthropic.com/", Origin("https", "api.anthropic.com", 443, "")),
        ("https://api.example.com:8443/v1beta", Origin("https", "api.example.com", 8443, "/v1beta")),
        ("https://1.1.1.1", Origin("https", "1.1.1.1", 443, "")),
        ("https://[2606:4700:0::1111]:8443", Origin("https", "2606:4700::1111", 8443, "")),
        ("http://localhost:8080/v1", Origin("http", "localhost", 8080, "/v1")),
        ("http://127.0.0.1:9000", Origin("http", "127.0.0.1", 9000, "")),
        ("http://[::1]:9000/x", Origin("http", "::1", 9000, "/x")),
        ("https://localhost", Origin("https", "localhost", 443, "")),
    ],
)
def test_ordinary_origins_are_read(url: str, expected: Origin) -> None:
    """What an operator would write is read, and written back it reads the same."""
    assert parse_origin(url) == expected
    assert parse_origin(str(expected)) == expected


@pytest.mark.parametrize(
    ("url", "sentence"),
    [
        ("http://api.openai.com/v1", "http is for loopback only"),
        ("http://10.0.0.1", "http is for loopback only"),
        ("https://10.0.0.1", "an origin's address must be a public one"),
        ("https://key@api.openai.com", "no user name or password"),
        ("https://api.openai.com?x=1", "no query and no fragment"),
        ("https://api.openai.com/v1#x", "no query and no fragment"),
        ("https://api.openai.com/v1/../v2", "no dot segments"),
        ("https://api.openai.com/./v1", "no dot segments"),
        ("https://api.openai.com//v1", "looks like https://host"),
        ("https://api.openai.com/a;b", "looks like https://host"),
        ("https://api.openai.com/%2e%2e", "plain visible ASCII"),
        ("https:/api.openai.com", "looks like https://host"),
        ("https:api.openai.com", "looks like https://host"),
        ("//api.openai.com", "looks like https://host"),
        ("api.openai.com", "looks like https://host"),
        ("ftp://api.openai.com", "looks like https://host"),
        ("file:///etc/passwd", "looks like https://host"),
        ("gopher://127.0.0.1:70/x", "looks like https://host"),
        ("https://", "looks like https://host"),
        ("https:///v1", "looks like https://host"),
        ("", "looks like https://host"),
        ("https://api.openai.com:0", "port is a number"),
        ("https://0x7f.1", "four decimal numbers"),
        ("https://xn--e1awd7f.com", "internationalised"),
        ("https://metadata", "a full name with a dot"),
        ("https://exa_mple.com", "lower-case DNS name"),
    ],
)
def test_a_refused_origin_says_why(url: str, sentence: str) -> None:
    """Each refusal is a sentence an operator can act on."""
    with pytest.raises(ValueError, match=sentence):
        parse_origin(url)
