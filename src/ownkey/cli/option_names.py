"""The API's field names as the command line's options: nobody who typed `--save-anyway` knows `save_anyway=true`."""

import re
from collections.abc import Mapping
from typing import Final

OPTIONS: Final[Mapping[str, str]] = {
    "acknowledge_ai_stops": "--acknowledge-ai-stops",
    "also_turn_off_always": "--also-turn-off-always",
    "always_use_key": "--always-use-key",
    "amount_credits": "AMOUNT",
    "cap_usd": "AMOUNT",
    "credits_if_key_fails": "--credits-if-key-fails",
    "credits_if_key_fails_limit": "--credits-limit",
    "expires_at": "--expires",
    "external_id": "--external-id",
    "on_direct_auth_failure": "--on-direct-auth-failure",
    "projects": "--project",
    "return_url": "--return-url",
    "ttl_s": "--ttl",
    "save_anyway": "--save-anyway",
    "limit_reset": "--limit-reset",
    "limit_usd": "--limit",
    "scopes": "--scope",
    "tasks": "--task",
    "threshold_percent": "--threshold",
    "usd_per_million": "--set",
}

_NAME: Final = re.compile(r"(?P<tick>`?)\b(?P<name>[a-z]+(?:_[a-z]+)*)\b(?P<list>\[\d*\])?(?P<true>=true)?(?P=tick)")


def in_options(text: str) -> str:
    """A server's sentence in the words of the command line.

    A word with an underscore is a field's name wherever it stands; a plain word only where it is marked as one.
    """
    return _NAME.sub(_option, text)


def _option(found: re.Match[str]) -> str:
    name = found["name"]
    marked = bool(found["tick"])
    if "_" not in name and not marked:
        return found[0]
    option = OPTIONS.get(name)
    if option is None:
        # A field whose option has its own name: `role` is --role.
        return f"--{name}" if marked and name in _SAME else found[0]
    return option


_SAME: Final = frozenset({
    "by", "code", "conversation", "email", "entitlement", "funding", "limit", "model", "name", "origin", "plan",
    "project", "provider", "role", "since", "status", "task", "timezone", "until",
})
