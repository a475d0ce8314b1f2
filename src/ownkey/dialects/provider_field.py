"""OpenRouter's `provider` object, which every dialect may carry: its price ceiling and its demand for parameters."""

import re
from decimal import Decimal

import msgspec

from ownkey.dialects.splice import ObjectSpans, Splicer, object_literal
from ownkey.domain.wire import Edits

# A price as every reader reads it: Python's own "1_0" or a minus would be no ceiling elsewhere.
_PRICE = re.compile(rb'("?)(\d{1,12}(?:\.\d{1,24})?(?:[eE][+-]?\d{1,2})?)\1')


def member_object(members: ObjectSpans, name: str) -> ObjectSpans | None:
    """The member `name` cut into its own members; None where it is missing or null. Raises BadRequest."""
    value = members.values.get(name)
    if value is None or value == b"null":
        return None
    return ObjectSpans(value, members.spans[name][0], f"`{name}`")


def check_provider(members: ObjectSpans) -> None:
    """Raise BadRequest for a `provider` that could not be edited later."""
    provider = member_object(members, "provider")
    if provider is not None:
        _max_price(provider)


def edit_provider(splicer: Splicer, members: ObjectSpans, edits: Edits) -> None:
    """Set what `edits` demands of `provider`; a price of the caller's that is lower stays."""
    prices = {kind: msgspec.json.encode(price) for kind, price in (edits.max_price or {}).items()}
    provider = member_object(members, "provider")
    if provider is None:
        wanted = {"max_price": object_literal(prices)} if prices else {}
        if edits.require_parameters:
            wanted["require_parameters"] = b"true"
        if wanted:
            splicer.set(members, "provider", object_literal(wanted))
        return
    if prices:
        own = _max_price(provider)
        if own is None:
            splicer.set(provider, "max_price", object_literal(prices))
        else:
            for kind, price in prices.items():
                if not _is_lower(own.values.get(kind), price):
                    splicer.set(own, kind, price)
    if edits.require_parameters:
        splicer.set(provider, "require_parameters", b"true")


def _max_price(provider: ObjectSpans) -> ObjectSpans | None:
    value = provider.values.get("max_price", b"null")
    if value == b"null":
        return None
    return ObjectSpans(value, provider.spans["max_price"][0], "`provider.max_price`")


def _is_lower(own: bytes | None, ours: bytes) -> bool:
    """Whether the caller's own price ceiling is at or below ours. A price is digits, bare or in quotes."""
    price = _PRICE.fullmatch(own or b"")
    return price is not None and Decimal(price[2].decode()) <= Decimal(ours.strip(b'"').decode("ascii"))
