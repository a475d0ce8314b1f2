"""A whole answer sent under a framing that is odd, or that lies: lengths, chunks, compression, no end but the close."""

import gzip
import zlib
from collections.abc import Callable

from .plan import Json
from .server import Exchange, status_line

FRAMINGS = {"until_close", "unfinished_chunks", "bad_chunk", "slow_bytes", "wrong_content_length", "deflate", "brotli"}


def is_framed(name: str, params: Json) -> bool:
    """Whether a fault needs the whole answer at once. Of gzip only the cut one does: the other is sent as it comes."""
    return name in FRAMINGS or (name == "gzip" and float(params["share"]) < 1)


async def send_framed(exchange: Exchange, lines: bytes, payload: bytes, name: str, params: Json) -> None:
    """Send a 200 with `payload` (a body, or all frames of a stream) as the fault says."""
    match name:
        case "until_close":
            line = status_line(200) if params["version"] == "1.1" else b"HTTP/1.0 200 OK\r\n"
            exchange.raw(b"%s%sconnection: close\r\n\r\n" % (line, lines))
            await _in_halves(exchange, _part(payload, params), lambda piece: piece)
            exchange.cut(reset=False)
        case "unfinished_chunks":
            exchange.start(200, lines)
            await _in_halves(exchange, payload, _chunk)
            exchange.cut(reset=False)
        case "bad_chunk":
            exchange.start(200, lines)
            await _in_halves(exchange, _part(payload, params), _chunk)
            exchange.raw(b"zz\r\nno size\r\n")
            await exchange.sleep(0.01)
            exchange.cut(reset=False)
        case "slow_bytes":
            exchange.start(200, lines)
            size = int(params["size"])
            for place in range(0, len(payload), size):
                exchange.write(payload[place : place + size])
                await exchange.sleep(float(params["every_s"]))
            exchange.finish()
        case "wrong_content_length":
            length = max(0, int(len(payload) * float(params["share"])) + int(params["delta"]))
            exchange.raw(b"%s%scontent-length: %d\r\n\r\n" % (status_line(200), lines, length))
            await _in_halves(exchange, payload, lambda piece: piece)
            exchange.cut(reset=False)
        case "gzip":
            exchange.respond(200, lines, _part(gzip.compress(payload, mtime=0), params))
        case "deflate":
            squeeze = zlib.compressobj(wbits=-15 if params["bare"] else 15)
            exchange.respond(200, lines, squeeze.compress(payload) + squeeze.flush())
        case _:
            exchange.respond(200, lines, b"\x0b\x02\x80not unpacked\x03")


def _part(payload: bytes, params: Json) -> bytes:
    return payload[: int(len(payload) * float(params["share"]))]


def _chunk(piece: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(piece), piece) if piece else b""


async def _in_halves(exchange: Exchange, payload: bytes, dress: Callable[[bytes], bytes]) -> None:
    """Two pieces with a moment between them: the reader has seen the first when the second goes wrong."""
    half = len(payload) // 2
    for piece in (payload[:half], payload[half:]):
        exchange.raw(dress(piece))
        await exchange.drain()
        await exchange.sleep(0.02)
