"""Signing in through an OpenID Connect provider: authorization code, PKCE, state and nonce; the ID token decides.

start ──► provider's page ──► return with code and state ──► code for tokens ──► ID token checked ──► role ──► session

What one sign-in needs to remember (state, nonce, verifier, where to go then) travels sealed in a cookie of the browser
that began it: nobody can fill a table from outside, and a state that another browser brings back is worth nothing. A
state comes back once. Which role somebody gets is configuration; the provider only says who they are.
"""

import json
import secrets
from base64 import urlsafe_b64decode
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass, replace
from typing import Any, Protocol, TypeVar

from ownkey.control import ports
from ownkey.control.data_keys import with_data_key
from ownkey.control.operator_sessions import SessionControl
from ownkey.control.operator_setup import CONSOLE, Platform
from ownkey.control.own_address import OwnAddress
from ownkey.control.ports import Actor, Clock, IdTokens, Safe, Upstream
from ownkey.control.problems import Problem, ProblemCode
from ownkey.domain.connect import MAX_CODE_CHARS, STATE_BYTES, VERIFIER_BYTES, s256, state_digest, web_safe
from ownkey.domain.errors import Conflict
from ownkey.domain.exchange import UpstreamRequest
from ownkey.domain.failures import UpstreamError
from ownkey.domain.oidc import (
    CALLBACK_PATH,
    START_MS,
    Endpoint,
    Metadata,
    OidcRefused,
    OidcRules,
    Person,
    UnknownKey,
    authorization_url,
    check_claims,
    find_endpoint,
    read_metadata,
    token_body,
)
from ownkey.domain.operators import (
    FRESH_MS,
    ConsoleRules,
    Operator,
    OperatorRole,
    OperatorSession,
    normal_email,
    own_path,
)
from ownkey.domain.secret import Secret
from ownkey.domain.workspace import Sealed

T = TypeVar("T")

KEPT_MS = 3_600_000
KEYS_AGAIN_MS = 60_000
REFUSED_EVERY_MS = 60_000
ANSWER_S = 10.0
ANSWER_BYTES = 256 * 1024
MOST_ASKING = 8

_DISCOVERY = "/.well-known/openid-configuration"
_PURPOSE = "oidc:start"
_AGAIN = "Sign in again."
_CONFIRM_AGAIN = "Confirm again."
_SAYS_NO_TIME = (
    "You are not confirmed: your provider does not say when you proved who you are. We ask it with max_age, and OpenID "
    "Connect then requires auth_time in the ID token."
)
_SEND_TIME = "Have whoever runs the provider send auth_time. Until then do this with the command line beside the server"
_OR_A_COLLEAGUE = ", or let an operator do it who signs in with a password."


class _Store(ports.Operators, ports.OidcOperators, ports.SignInSteps, Protocol):
    async def save_audit(
        self, workspace_id: str | None, action: str, target: str, before: Mapping[str, Any] | None,
        after: Mapping[str, Any] | None, *, at_ms: int, actor: Actor
    ) -> None: ...


@dataclass(frozen=True, slots=True)
class Begun:
    """`url` is the provider's page. `sealed` goes into a cookie of the browser that begins."""

    url: str
    sealed: str

    def __repr__(self) -> str:
        return "Begun(***)"


@dataclass(frozen=True, slots=True)
class Returned:
    """`secret` "": the session is the one that was there, made fresh. `path` is where to go now."""

    session: OperatorSession
    secret: str
    path: str

    def __repr__(self) -> str:
        return f"Returned({self.session.operator_id}, {self.path})"


class Unconfirmed(Exception):
    """Whoever is signed in was not proved again. Their session goes on; `path` is where they wanted to go."""

    def __init__(self, problem: Problem, path: str) -> None:
        super().__init__(problem.message)
        self.problem = problem
        self.path = path


@dataclass(frozen=True, slots=True)
class _Start:
    """What the browser carries, sealed. `session_id` "": a sign-in; else that session shall become fresh."""

    state: str
    nonce: str
    verifier: str
    session_id: str
    path: str
    expires_at_ms: int


class OidcControl:
    """`client` is the client's id and secret as HTTP's basic scheme has them; None for a public client."""

    def __init__(
        self, store: _Store, safe: Safe, platform: Platform, upstream: Upstream, tokens: IdTokens,
        sessions: SessionControl, clock: Clock, console: ConsoleRules, address: OwnAddress,
        client: Secret | None, entropy: Callable[[int], bytes] = secrets.token_bytes,
    ) -> None:
        assert console.oidc is not None, "there is a provider, or there is no OidcControl"
        self._rules: OidcRules = console.oidc
        self._passwords = console.passwords
        self._address = address
        self._store = store
        self._safe = safe
        self._platform = platform
        self._upstream = upstream
        self._tokens = tokens
        self._sessions = sessions
        self._clock = clock
        self._client = client
        self._entropy = entropy
        self._metadata: tuple[Metadata, int] | None = None
        self._keys: tuple[Mapping[str, Any], int] | None = None
        self._asking = 0
        self._refused_ms: int | None = None

    async def start(self, path: str = "", session: OperatorSession | None = None) -> Begun:
        """`session`: it shall become fresh, by a sign-in at the provider ten minutes ago at most. Raises Problem."""
        metadata = await _told(self._discover(), _refused if session is None else _not_confirmed)
        start = _Start(
            state=web_safe(self._entropy(STATE_BYTES)), nonce=web_safe(self._entropy(STATE_BYTES)),
            verifier=web_safe(self._entropy(VERIFIER_BYTES)), session_id="" if session is None else session.id,
            path=own_path(path), expires_at_ms=self._clock.now_ms() + START_MS,
        )
        url = authorization_url(
            metadata, self._rules, callback_url=self._callback, state=start.state, nonce=start.nonce,
            challenge=s256(start.verifier), max_age_s=None if session is None else FRESH_MS // 1_000,
            login_hint="" if session is None else session.email,
        )
        return Begun(url, await self._seal(start))

    async def finish(
        self, sealed: str, query: Mapping[str, str], address: str, *, session: OperatorSession | None,
        replaces: str = "",
    ) -> Returned:
        """The browser is back. `session` is its own of now, `replaces` that cookie's value. Raises Problem; or
        Unconfirmed, where somebody who is signed in is not proved again."""
        start = await self._open(sealed)
        state = query.get("state", "")
        digest = state_digest(state)
        now = self._clock.now_ms()
        if start is None or digest is None or not secrets.compare_digest(state, start.state):
            raise _refused("this browser did not begin it")
        if start.expires_at_ms <= now:
            raise _refused("it was begun more than ten minutes ago")
        if not await self._store.use_state(digest, start.expires_at_ms):
            raise _refused("it has come back before")
        try:
            person = await _told(self._identify(start, query), _not_confirmed if start.session_id else _refused)
            if start.session_id:
                return await self._freshen(start, person, session)
            operator = await self._admit(person)
        except Problem as problem:
            if problem.code is ProblemCode.OIDC_REFUSED:
                await self._note_refused(problem, address)
            if session is not None and session.id == start.session_id:
                raise Unconfirmed(problem, start.path) from problem
            raise
        opened, secret = await self._sessions.open(
            operator, "oidc", address, replaces=replaces, proved_at_ms=person.auth_time_ms
        )
        return Returned(opened, secret, start.path)

    @property
    def _callback(self) -> str:
        return self._address.url + CALLBACK_PATH

    # --- the person

    async def _identify(self, start: _Start, query: Mapping[str, str]) -> Person:
        metadata = await self._discover()
        issuer = query.get("iss")
        # Whoever asks two providers must know which of them answers; a foreign one has no business here.
        if (issuer is not None or metadata.names_issuer) and issuer != self._rules.issuer:
            raise OidcRefused("another provider answered")
        code = query.get("code", "")
        if "error" in query or not code:
            raise OidcRefused("the provider did not sign you in")
        if len(code) > MAX_CODE_CHARS or not code.isascii() or not code.isprintable():
            raise OidcRefused("what came back is no code")
        token = await self._exchange(metadata, code, start.verifier)
        claims = await self._verify(metadata, token)
        return check_claims(claims, self._rules, nonce=start.nonce, now_ms=self._clock.now_ms())

    async def _exchange(self, metadata: Metadata, code: str, verifier: str) -> str:
        """The ID token for the code. The other tokens are not kept."""
        if self._client is not None and not metadata.basic:
            raise OidcRefused("it does not take the client's secret in a header (client_secret_basic)")
        request = UpstreamRequest(
            metadata.token.origin, "POST", metadata.token.path,
            (("content-type", "application/x-www-form-urlencoded"), ("accept", "application/json")),
            token_body(self._rules, code=code, verifier=verifier, callback_url=self._callback),
            credential=self._client, credential_prefix="Basic ",
        )
        status, answer = await self._ask(request)
        token = answer.get("id_token") if isinstance(answer, dict) else None
        if status != 200 or not isinstance(token, str):
            raise OidcRefused(f"it did not take the code ({status})" if status != 200 else "it sent no ID token")
        return token

    async def _verify(self, metadata: Metadata, token: str) -> Mapping[str, Any]:
        """The claims, with a newer list of keys where the one at hand has not got the key."""
        try:
            return self._tokens.read(token, await self._load_keys(metadata, KEPT_MS))
        except UnknownKey:
            return self._tokens.read(token, await self._load_keys(metadata, KEYS_AGAIN_MS))

    async def _admit(self, person: Person) -> Operator:
        """The operator that the person is, added at their first sign-in. Raises Problem."""
        rules, email = self._rules, normal_email(person.email)
        role = None if email is None else rules.role_of(email)
        if email is None or role is None:
            raise _refused("nobody with your e-mail address may sign in here")
        found = await self._store.find_oidc_operator(rules.issuer, person.subject, email)
        now = self._clock.now_ms()
        if found is None:
            fresh = Operator(
                self._clock.new_id("op"), email, person.name or email.partition("@")[0], OperatorRole(role),
                disabled=False, has_password=False, oidc_issuer=rules.issuer, oidc_subject=person.subject,
                shortcuts=True, created_at_ms=now, last_sign_in_at_ms=None,
            )
            try:
                return await self._store.add_operator(fresh, None, at_ms=now, actor=Actor("operator", fresh.id))
            except Conflict as error:  # two browsers, one first sign-in
                raise Problem(ProblemCode.CONFLICT, "You are signing in twice at once.", _AGAIN) from error
        if found.disabled:
            raise _refused("you may not sign in here")
        if found.oidc_issuer == rules.issuer and found.oidc_subject != person.subject:
            raise _refused("your e-mail address was another person's at the provider (`ownkey operator reset` helps)")
        bound = replace(
            found, email=email, name=person.name or found.name, oidc_issuer=rules.issuer, oidc_subject=person.subject,
            role=found.role if found.has_password else OperatorRole(role),
        )
        if bound == found:
            return found
        try:
            return await self._store.save_oidc_operator(bound, at_ms=now)
        except Conflict as error:
            raise _refused("your new e-mail address is another operator's") from error

    async def _freshen(self, start: _Start, person: Person, session: OperatorSession | None) -> Returned:
        now = self._clock.now_ms()
        if session is None or session.id != start.session_id:
            raise Problem(ProblemCode.SESSION_ENDED, "Your session has ended meanwhile.", _AGAIN)
        operator = await self._store.find_operator(session.operator_id)
        if operator is None or (operator.oidc_issuer, operator.oidc_subject) != (self._rules.issuer, person.subject):
            raise _not_confirmed("your provider signed in somebody else", f"Sign in there as {session.email}.")
        proved = person.auth_time_ms
        if proved is None:
            fix = _SEND_TIME + (_OR_A_COLLEAGUE if self._passwords else ".")
            raise Problem(ProblemCode.OIDC_REFUSED, _SAYS_NO_TIME, fix)
        if proved + FRESH_MS <= now:
            raise _not_confirmed("your provider did not ask you again", "Sign out there, then confirm again.")
        if not await self._store.freshen_operator_session(session, proved + FRESH_MS, at_ms=now):
            raise Problem(ProblemCode.SESSION_ENDED, "Your session has ended meanwhile.", _AGAIN)
        return Returned(replace(session, fresh_until_ms=proved + FRESH_MS), "", start.path)

    # --- the provider

    async def _discover(self) -> Metadata:
        now, kept = self._clock.now_ms(), self._metadata
        if kept is not None and 0 <= now - kept[1] < KEPT_MS:
            return kept[0]
        url = self._rules.issuer.rstrip("/") + _DISCOVERY
        document = await self._fetch(find_endpoint(url, self._rules.origins, "issuer"))
        metadata = read_metadata(document, self._rules)
        self._metadata = (metadata, now)
        return metadata

    async def _load_keys(self, metadata: Metadata, kept_ms: int) -> Mapping[str, Any]:
        now, kept = self._clock.now_ms(), self._keys
        if kept is not None and 0 <= now - kept[1] < kept_ms:
            return kept[0]
        found = await self._fetch(metadata.keys)
        if not isinstance(found, dict):
            raise OidcRefused("its list of keys cannot be read")
        self._keys = (found, now)
        return found

    async def _fetch(self, endpoint: Endpoint) -> Any:
        status, value = await self._ask(
            UpstreamRequest(endpoint.origin, "GET", endpoint.path, (("accept", "application/json"),), b"")
        )
        if status != 200 or value is None:
            raise OidcRefused(f"it answered {status} where its configuration should be")
        return value

    async def _ask(self, request: UpstreamRequest) -> tuple[int, Any]:
        """(status, JSON or None). Raises Problem(OIDC_UNREACHABLE)."""
        if self._asking >= MOST_ASKING:
            raise Problem(ProblemCode.SIGN_IN_BUSY, "Too many sign-ins are being checked at this moment.",
                          "Try again in a few seconds.", retry_after_s=3)
        self._asking += 1
        deadline = self._clock.monotonic() + ANSWER_S
        try:
            response = await self._upstream.send(request, head_timeout_s=ANSWER_S)
            try:
                answer = await response.read_all(max(0.1, deadline - self._clock.monotonic()), ANSWER_BYTES)
            finally:
                response.close()
        except UpstreamError as error:
            raise _unreachable("it took too long" if error.timeout else "the connection failed") from error
        finally:
            self._asking -= 1
        if response.status == 429 or response.status >= 500:
            raise _unreachable(f"it answered {response.status}")
        try:
            return response.status, json.loads(answer)
        except (ValueError, RecursionError):
            return response.status, None

    # --- what the browser carries

    async def _seal(self, start: _Start) -> str:
        owner = await self._platform.platform(CONSOLE)
        content = json.dumps({name: getattr(start, name) for name in _Start.__slots__}).encode()
        with with_data_key(owner):
            sealed = self._safe.seal_secret(owner.id, owner.dek, _PURPOSE, content)
        parts = (sealed.salt, sealed.commitment, sealed.nonce, sealed.ciphertext)
        return ".".join([str(sealed.format), *map(web_safe, parts)])

    async def _open(self, text: str) -> _Start | None:
        """None for whatever was not sealed here."""
        form, *parts = text.split(".")
        if not form.isdigit() or len(form) > 3 or len(parts) != 4 or len(text) > 4_096 or not text.isascii():
            return None
        owner = await self._platform.platform(CONSOLE)
        try:
            salt, commitment, nonce, ciphertext = (urlsafe_b64decode(part + "=" * (-len(part) % 4)) for part in parts)
            content = self._safe.open_secret(
                owner.id, owner.dek, _PURPOSE, Sealed(salt, commitment, nonce, ciphertext, int(form))
            )
            return _Start(**json.loads(content))
        except (ValueError, TypeError):
            return None

    async def _note_refused(self, problem: Problem, address: str) -> None:
        """At most once a minute: the log is for ever, and a provider lets many people through to us."""
        now, last = self._clock.now_ms(), self._refused_ms
        if last is not None and 0 <= now - last < REFUSED_EVERY_MS:
            return
        self._refused_ms = now
        await self._store.save_audit(
            None, "operator.sign_in_failed", "", None,
            {"stage": "oidc", "address": address[:64], "why": problem.message}, at_ms=now,
            actor=Actor("browser", address[:64]),
        )


async def _told(work: Coroutine[Any, Any, T], problem_of: Callable[[str], Problem]) -> T:
    """What cannot be believed, as the problem that the person sees."""
    try:
        return await work
    except OidcRefused as error:
        raise problem_of(str(error)) from error


def _refused(why: str) -> Problem:
    return Problem(ProblemCode.OIDC_REFUSED, f"You are not signed in: {why}.", _AGAIN)


def _not_confirmed(why: str, fix: str = _CONFIRM_AGAIN) -> Problem:
    return Problem(ProblemCode.OIDC_REFUSED, f"You are not confirmed: {why}.", fix)


def _unreachable(why: str) -> Problem:
    return Problem(ProblemCode.OIDC_UNREACHABLE, f"The sign-in provider could not be reached ({why}).",
                   "Try again in a minute.", retry_after_s=30)
