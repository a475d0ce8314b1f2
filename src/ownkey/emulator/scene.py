"""What an error message may mention, and the HTML pages of the edge in front of every provider."""

from collections.abc import Callable
from dataclasses import dataclass

from .plan import Failure


@dataclass(frozen=True, slots=True)
class Scene:
    """What an error message may mention."""

    model: str = "the-model"
    request_id: str = ""
    key: str = ""
    wait_s: float = 7.0
    tokens: int = 0
    limit: int = 0
    method: str = "generateContent"
    detail: str = ""


Maker = Callable[[Scene], Failure]


def whole_wait_s(scene: Scene) -> int:
    """The stated wait in whole seconds, at least one."""
    return max(1, -int(-scene.wait_s // 1))


def _html(status: int, title: str) -> Failure:
    page = f"<html>\r\n<head><title>{title}</title></head>\r\n<body><center><h1>{title}</h1></center></body>\r\n</html>"
    return Failure(status, page.encode(), b"server: cloudflare\r\n", b"text/html; charset=UTF-8")


def _edge(status: int) -> Maker:
    titles = {
        502: "502 Bad Gateway",
        503: "503 Service Temporarily Unavailable",
        504: "504 Gateway Time-out",
        520: "520 Web server is returning an unknown error",
        522: "522 Connection timed out",
        524: "524 A timeout occurred",
    }
    return lambda _scene: _html(status, titles[status])


EDGE: dict[str, Maker] = {
    "bad_gateway_html_502": _edge(502),
    "unavailable_html_503": _edge(503),
    "gateway_timeout_html_504": _edge(504),
    "edge_520_html": _edge(520),
    "edge_522_html": _edge(522),
    "edge_524_html": _edge(524),
}
