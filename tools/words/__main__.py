"""Collects the texts that pages and e-mails say, and writes them where `[portal.words]` is checked against.

A text is what a template passes to `_` or `plural`, what any module makes a `Phrase` of, or a literal of the portal's
own modules that reads like one.
"""

import ast
import re
import sys
from pathlib import Path

import msgspec

from ownkey.domain.phrases import gaps_of
from ownkey.pages.site import Site
from ownkey.pages.words import FIXED, TEXTS, Words

ROOT = Path(__file__).resolve().parents[2] / "src" / "ownkey"
_READS = re.compile(r"[A-Z][a-z]|[a-z]+ [a-z]")
_IS_CODE = re.compile(r"/|^_|^[a-z_.-]+$|^[A-Z_]+$|\.html\b|<|;")
_TEXTS_OF = {"Phrase": 1, "say": 1, "plural": 2}
"""How many of a call's first arguments are texts, by its name."""


def collect() -> tuple[str, ...]:
    """Every text once, in the order of the alphabet, without the labels that cannot be changed."""
    found = set(Site(Words()).texts("portal/", "parts.html"))
    for path in sorted(ROOT.rglob("*.py")):
        tree = ast.parse(path.read_text())
        if path.parent.name not in ("console", "cli"):
            found.update(_said(tree))
        if path.parent.name == "portal":
            found.update(_literals(tree))
    return tuple(sorted(found - FIXED))


def _said(tree: ast.Module) -> set[str]:
    return {
        told.value for node in ast.walk(tree) if isinstance(node, ast.Call)
        for told in node.args[:_TEXTS_OF.get(ast.unparse(node.func).rpartition(".")[2], 0)]
        if isinstance(told, ast.Constant) and isinstance(told.value, str)
    }


def wrong_phrases() -> list[str]:
    """Where a `Phrase` is made of no literal, or with other values than its gaps."""
    found = []
    for path in sorted(ROOT.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "Phrase":
                text = node.args[0].value if isinstance(node.args[0], ast.Constant) else None
                values = {keyword.arg for keyword in node.keywords}
                if path.name != "phrases.py" and (not isinstance(text, str) or gaps_of(text) != values):
                    found.append(f"{path.name}:{node.lineno}")
    return found


def _literals(tree: ast.Module) -> set[str]:
    said = set()
    documented = {
        id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    }
    inside = {
        id(part) for node in ast.walk(tree) if isinstance(node, ast.JoinedStr) for part in node.values
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in documented | inside:
            text = node.value
            if _READS.search(text) and not _IS_CODE.search(text):
                said.add(text)
    return said


def encode(texts: tuple[str, ...]) -> bytes:
    return b"[\n" + b",\n".join(msgspec.json.encode(text) for text in texts) + b"\n]\n"


def main() -> int:
    texts = collect()
    target = ROOT / "pages" / TEXTS
    target.write_bytes(encode(texts))
    print(f"{len(texts)} texts in {target.name}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
