"""The providers' published OpenAPI documents, read from the folder beside the repository; absent, the test skips."""

from functools import cache
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

SPECS = Path(__file__).resolve().parents[2] / "shared" / "wire" / "specs"


@cache
def _spec(name: str) -> Any:
    if not (SPECS / name).exists():
        pytest.skip(f"{name} is not here: answers are not compared with the published schema")
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    return _nullable(yaml.load((SPECS / name).read_text(), loader))


def _nullable(found: Any) -> Any:
    """OpenAPI 3.0's `nullable`, which these 3.1 documents still use in places, as JSON Schema says it."""
    if isinstance(found, dict):
        made = {key: _nullable(value) for key, value in found.items()}
        return {"anyOf": [made, {"type": "null"}]} if made.get("nullable") is True else made
    return [_nullable(value) for value in found] if isinstance(found, list) else found


@cache
def operation_validator(name: str, path: str, method: str, status: str = "200") -> Any:
    """What one operation's JSON answer must look like."""
    document = _spec(name)
    schema = document["paths"][path][method]["responses"][status]["content"]["application/json"]["schema"]
    return jsonschema.Draft202012Validator({**schema, "components": document["components"]})


def assert_valid(validator: Any, answer: Any) -> None:
    errors = [f"{list(error.absolute_path)}: {error.message[:200]}" for error in validator.iter_errors(answer)]

    assert errors == []
