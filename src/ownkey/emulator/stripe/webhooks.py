"""The events list, webhook endpoints, and the signature that proves where a delivery came from."""

import hashlib
import hmac
import json
from urllib.parse import urlsplit

from . import API_VERSION
from .form import Form
from .lists import created_in, page
from .refusals import Json, invalid
from .world import World


def list_events(world: World, form: Form) -> Json:
    """GET /v1/events: the account's last `event_days`, newest first."""
    oldest = world.now() - world.settings.event_days * 86_400
    items = [event for event in created_in(form, world.every("event")) if event["created"] >= oldest]
    kind, kinds = form.text("type"), form.texts("types")
    if kind is not None and kinds is not None:
        raise invalid("You may only specify one of these parameters: type, types.", "types")
    if kind is not None:
        items = [event for event in items if _matches(event["type"], kind)]
    if kinds is not None:
        if len(kinds) > 20:
            raise invalid("You may pass up to 20 types.", "types")
        items = [event for event in items if any(_matches(event["type"], one) for one in kinds)]
    delivered = form.flag("delivery_success")
    if delivered is not None:
        items = [event for event in items if (event["pending_webhooks"] == 0) == delivered]
    return page(items, form, "/v1/events")


def _matches(kind: str, wanted: str) -> bool:
    return kind.startswith(wanted[:-1]) if wanted.endswith("*") else kind == wanted


def create(world: World, form: Form) -> Json:
    """POST /v1/webhook_endpoints. The secret is in this answer and in no other."""
    url, enabled = _url(form.need("url")), form.texts("enabled_events")
    if not enabled:
        raise invalid("Missing required param: enabled_events.", "enabled_events", "parameter_missing")
    version = form.text("api_version") or API_VERSION
    if version != API_VERSION:
        raise invalid(f"The emulator speaks {API_VERSION} only.", "api_version")
    made = world.make(
        "webhook_endpoint", world.new_id("we_1"), world.now(), api_version=version, enabled_events=enabled,
        description=form.text("description") or None, metadata=form.metadata(), status="enabled", url=url,
    )  # fmt: skip
    form.skip("connect")
    form.close()
    secret = world.new_id("whsec_", 32)
    world.hidden(made["id"])["secrets"] = [secret]
    return {**made, "secret": secret}


def register(world: World, url: str, secret: str, kinds: list[str]) -> Json:
    """An endpoint whose secret is known beforehand, as one copied from a Dashboard into a configuration is."""
    values = {"url": url, "enabled_events": kinds}
    made = create(world, Form(values))
    world.hidden(made["id"])["secrets"] = [secret]
    return {**made, "secret": secret}


def _url(given: str) -> str:
    parts = urlsplit(given)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise invalid("Invalid URL: an explicit scheme (such as https) must be provided.", "url", "url_invalid")
    return given


def update(world: World, form: Form, ident: str) -> Json:
    """POST /v1/webhook_endpoints/:id."""
    endpoint = world.get("webhook_endpoint", ident, in_path=True)
    changes: Json = {"metadata": form.metadata(endpoint["metadata"])}
    if "url" in form:
        changes["url"] = _url(form.need("url"))
    if "description" in form:
        changes["description"] = form.text("description") or None
    enabled, disabled = form.texts("enabled_events"), form.flag("disabled")
    form.close()
    if enabled is not None:
        changes["enabled_events"] = enabled
    if disabled is not None:
        changes["status"] = "disabled" if disabled else "enabled"
    endpoint.update(changes)
    return endpoint


def delete(world: World, form: Form, ident: str) -> Json:
    """DELETE /v1/webhook_endpoints/:id."""
    world.get("webhook_endpoint", ident, in_path=True)
    form.close()
    world.drop("webhook_endpoint", ident)
    return {"id": ident, "object": "webhook_endpoint", "deleted": True}


def list_endpoints(world: World, form: Form) -> Json:
    """GET /v1/webhook_endpoints."""
    return page(world.every("webhook_endpoint"), form, "/v1/webhook_endpoints")


def wants(endpoint: Json, kind: str) -> bool:
    """Whether an endpoint is told of this type of event."""
    return endpoint["status"] == "enabled" and any(name in ("*", kind) for name in endpoint["enabled_events"])


def body_of(event: Json) -> bytes:
    """The delivery's body: indented by two, as Stripe writes it; only these bytes are what was signed."""
    return json.dumps(event, indent=2, ensure_ascii=False).encode()


def signed(body: bytes, secret: str, moment: int, scheme: str = "v1") -> str:
    """The Stripe-Signature header: HMAC-SHA256 over the time, a dot and the raw body."""
    return signed_by_all(body, [secret], moment, scheme)


def signed_by_all(body: bytes, secrets: list[str], moment: int, scheme: str = "v1") -> str:
    """The header while a secret is being rolled: one signature for each that is valid."""
    made = [hmac.new(secret.encode(), b"%d." % moment + body, hashlib.sha256).hexdigest() for secret in secrets]
    return ",".join([f"t={moment}", *(f"{scheme}={one}" for one in made)])
