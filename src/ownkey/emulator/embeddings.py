"""Deterministic unit vectors: the same model and text give the same vector on every route.

Texts that share words point in similar directions, so that a search over them makes sense in a demo.
"""

import base64
import math
import re
import struct
from functools import lru_cache
from hashlib import blake2b, shake_256

_WORD = re.compile(r"\w+")
_SPREAD = 24


@lru_cache(maxsize=4096)
def _directions(word: str, dimensions: int) -> tuple[tuple[int, float], ...]:
    digest = blake2b(word.encode("utf-8", "surrogatepass"), digest_size=64).digest()
    numbers = struct.unpack("<16I", digest)
    return tuple(
        ((number * (turn + 1)) % dimensions, 1.0 if (number >> (turn + 8)) & 1 else -1.0)
        for turn in range(_SPREAD // 8)
        for number in numbers[:8]
    )


@lru_cache(maxsize=512)
def embed(model: str, text: str, full: int, dimensions: int) -> tuple[float, ...]:
    """The first `dimensions` of the model's `full` ones, scaled to length 1, to nine decimals."""
    noise = shake_256(f"{model}\x1f{text}".encode("utf-8", "surrogatepass")).digest(full * 2)
    vector = [value * 1e-6 for value in struct.unpack(f"<{full}h", noise)]
    for word in _WORD.findall(text.lower()):
        for place, sign in _directions(word, full):
            vector[place] += sign
    vector = vector[:dimensions]
    length = math.sqrt(math.fsum(value * value for value in vector)) or 1.0
    return tuple(round(value / length, 9) for value in vector)


def pack_base64(vector: tuple[float, ...]) -> str:
    """The vector as base64 of little-endian float32."""
    return base64.b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode()
