"""Every way the emulated Stripe says no: a status and an error object, as the official SDK's typed errors expect them.

    Refusal ── invalid (400, 404) ── unauthenticated (401) ── declined (402) ── forbidden (403)
            ── idempotency (400, 409) ── busy (429) ── broken (500)
"""

from typing import Any

Json = dict[str, Any]


class Refusal(Exception):
    """An answer that is an error. `saved` says whether an Idempotency-Key keeps it."""

    def __init__(self, status: int, kind: str, message: str, *, saved: bool = False, **more: Any) -> None:
        super().__init__(message)
        self.status = status
        self.saved = saved
        self.error: Json = {"message": message, "type": kind}
        self.error |= {name: value for name, value in more.items() if value is not None}
        if "code" in self.error:
            self.error["doc_url"] = f"https://docs.stripe.com/error-codes/{self.error['code'].replace('_', '-')}"
        self.headers: dict[str, str] = {}


def invalid(message: str, param: str | None = None, code: str | None = None) -> Refusal:
    """The request cannot be done as it is: 400."""
    return Refusal(400, "invalid_request_error", message, param=param, code=code)


def missing_param(name: str) -> Refusal:
    """A required parameter is not there: 400."""
    return invalid(f"Missing required param: {name}.", name, "parameter_missing")


def unknown_param(names: list[str]) -> Refusal:
    """A parameter that this endpoint does not take: 400."""
    noun = "parameter" if len(names) == 1 else "parameters"
    return invalid(f"Received unknown {noun}: {', '.join(names)}", names[0], "parameter_unknown")


def missing(kind: str, ident: str, param: str, *, in_path: bool) -> Refusal:
    """No object with this id: 404 for the one in the path, 400 for one that a parameter names."""
    status = 404 if in_path else 400
    message = f"No such {kind}: '{ident}'"
    return Refusal(status, "invalid_request_error", message, param=param, code="resource_missing")


def no_route(method: str, path: str) -> Refusal:
    """Stripe knows no such URL, or this emulator does not: 404."""
    return Refusal(404, "invalid_request_error", f"Unrecognized request URL ({method}: {path}).")


def unauthenticated(message: str) -> Refusal:
    """No API key, or a wrong one: 401."""
    refusal = Refusal(401, "invalid_request_error", message)
    refusal.headers["www-authenticate"] = 'Bearer realm="Stripe"'
    return refusal


def forbidden(message: str, code: str | None = None) -> Refusal:
    """The key may not do this: 403."""
    return Refusal(403, "invalid_request_error", message, code=code)


def declined(message: str, code: str, decline_code: str | None, **more: Any) -> Refusal:
    """A card was refused: 402. The answer is kept for its Idempotency-Key, as Stripe keeps it."""
    return Refusal(402, "card_error", message, saved=True, code=code, decline_code=decline_code, **more)


def key_reused(key: str) -> Refusal:
    """The same Idempotency-Key with other parameters: 400."""
    message = (
        f"Keys for idempotent requests can only be used with the same parameters they were first used with. "
        f"Try using a key other than '{key}' if you meant to execute a different request."
    )
    return Refusal(400, "idempotency_error", message)


def key_in_use(key: str) -> Refusal:
    """The same Idempotency-Key while its first request still runs: 409."""
    message = f"There is currently another in-progress request using this Stripe-Idempotency-Key: {key}."
    return Refusal(409, "idempotency_error", message, code="idempotency_key_in_use")


def busy(message: str = "Too many requests. Please slow down.", code: str = "rate_limit") -> Refusal:
    """Too many requests, or an object that another request holds: 429."""
    refusal = Refusal(429, "invalid_request_error", message, code=code)
    if code == "lock_timeout":
        refusal.headers["stripe-should-retry"] = "true"
    return refusal


def broken(message: str = "Something went wrong on our side.") -> Refusal:
    """Stripe itself failed: 500."""
    return Refusal(500, "api_error", message, saved=True)
