"""Signing in through a provider: over real sockets, with real signatures, and with every lie that we could think of."""

import asyncio
import base64
import contextlib
import hashlib
import hmac
import json
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, quote, urlsplit

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from tests.control.house import ACTOR
from tests.control.staff_house import ADDRESS, StaffHouse, open_staff, refused
from tests.oidc_provider import (
    CLIENT_ID,
    CLIENT_SECRET,
    EC_KEY,
    OTHER_RSA_KEY,
    RSA_KEY,
    Provider,
    jwk,
    open_provider,
)

from ownkey.control.oidc import Returned, Unconfirmed
from ownkey.control.problems import Problem, ProblemCode
from ownkey.domain.oidc import OidcRules
from ownkey.domain.operators import ConsoleRules, OperatorSession
from ownkey.domain.secret import Secret
from ownkey.providers.egress import parse_origin
from ownkey.providers.upstream import Upstream

SHORT_KEY = rsa.generate_private_key(public_exponent=65537, key_size=1024)
P384_KEY = ec.generate_private_key(ec.SECP384R1())


@dataclass
class Scene:
    staff: StaffHouse
    provider: Provider

    async def begin(self, path: str = "", session: OperatorSession | None = None) -> tuple[str, str]:
        """(the provider's page, the browser's cookie)"""
        assert self.staff.staff.oidc is not None
        begun = await self.staff.staff.oidc.start(path, session)
        return begun.url, begun.sealed

    async def finish(
        self, back: str, sealed: str, *, session: OperatorSession | None = None, replaces: str = ""
    ) -> Returned:
        assert self.staff.staff.oidc is not None
        query = {name: values[0] for name, values in parse_qs(urlsplit(back).query).items()}
        return await self.staff.staff.oidc.finish(sealed, query, ADDRESS, session=session, replaces=replaces)

    async def sign_in(self, **more: Any) -> Returned:
        url, sealed = await self.begin()
        return await self.finish(self.provider.approve(url), sealed, **more)

    async def bad(self) -> str:
        """A whole sign-in that must be refused for what cannot be believed: the sentence."""
        problem = await refused(self.sign_in())
        assert problem.code is ProblemCode.OIDC_REFUSED
        assert list(await self.staff.staff.operators.list()) == []
        return problem.message


def rules_for(provider: Provider, **changes: Any) -> ConsoleRules:
    values: dict[str, Any] = {
        "issuer": provider.url, "client_id": CLIENT_ID, "ops": ("ada@example.com",), "support": ("@example.com",),
        "origins": (parse_origin(provider.url),),
    }
    return ConsoleRules(passwords=False, oidc=OidcRules(**(values | changes)))


@contextlib.asynccontextmanager
async def open_scene(folder: Path, *, secret: bool = True, **changes: Any) -> AsyncIterator[Scene]:
    pair = base64.b64encode(f"{CLIENT_ID}:{quote(CLIENT_SECRET, safe='')}".encode()).decode()
    async with open_provider() as provider:
        upstream = Upstream(allow_insecure_origins=True)
        async with open_staff(
            folder, rules_for(provider, **changes), upstream=upstream, client=Secret(pair) if secret else None
        ) as staff:
            provider.now_ms = staff.house.clock.now_ms
            yield Scene(staff, provider)
        await upstream.aclose()


@pytest.fixture
async def scene(tmp_path: Path) -> AsyncIterator[Scene]:
    async with open_scene(tmp_path) as opened:
        yield opened


# --- the good way


async def test_a_first_sign_in_makes_an_operator_with_the_configured_role(scene: Scene) -> None:
    """The address decides: a whole one beats a domain. The provider is asked for what it must be asked for."""
    url, sealed = await scene.begin("/console/calls?x=1")
    back = await scene.finish(scene.provider.approve(url), sealed)
    asked = parse_qs(urlsplit(url).query)
    [operator] = await scene.staff.staff.operators.list()

    assert (back.session.email, back.session.name, back.session.role, back.session.via) == (
        "ada@example.com", "Ada Lovelace", "ops", "oidc")
    assert back.path == "/console/calls?x=1"
    assert await scene.staff.staff.sessions.find(back.secret) is not None
    assert (operator.status, operator.has_password, operator.oidc_subject) == ("active", False, "person-1")
    assert asked["redirect_uri"] == ["https://ownkey.test/console/oidc/return"]
    assert asked["scope"] == ["openid email profile"]
    assert "max_age" not in asked
    assert await scene.staff.actions() == ["operator.added", "operator.signed_in"]


async def test_a_domain_gives_a_role_too(scene: Scene) -> None:
    scene.provider.person |= {"email": "grace@example.com", "sub": "person-2"}

    assert (await scene.sign_in()).session.role == "support"


async def test_es256_is_as_good(scene: Scene) -> None:
    scene.provider.sign = lambda claims: jwt.encode(claims, EC_KEY, "ES256", headers={"kid": "k2"})

    assert (await scene.sign_in()).session.email == "ada@example.com"


async def test_configuration_and_keys_are_fetched_once(scene: Scene) -> None:
    """Kept for an hour; a key that is not on the list makes us look again, at most once a minute."""
    for _ in range(3):
        await scene.sign_in()
    assert scene.provider.asked.count("GET /keys") == 1
    assert scene.provider.asked.count("GET /.well-known/openid-configuration") == 1
    scene.provider.keys = [jwk(OTHER_RSA_KEY, "k9")]
    scene.provider.sign = lambda claims: jwt.encode(claims, OTHER_RSA_KEY, "RS256", headers={"kid": "k9"})
    scene.staff.house.clock.pass_s(61)
    await scene.sign_in()
    assert scene.provider.asked.count("GET /keys") == 2
    scene.provider.sign = lambda claims: jwt.encode(claims, RSA_KEY, "RS256", headers={"kid": "unknown"})
    for _ in range(3):
        await refused(scene.sign_in())
    assert scene.provider.asked.count("GET /keys") == 2


async def test_a_public_client_sends_no_secret(tmp_path: Path) -> None:
    """PKCE alone proves that the code came to whoever began."""
    async with open_scene(tmp_path, secret=False, public_client=True) as scene:
        scene.provider.public_client = True

        assert (await scene.sign_in()).session.email == "ada@example.com"


async def test_the_same_person_is_the_same_operator_under_a_new_name(scene: Scene) -> None:
    """The provider's own id counts: a new address and a new name follow, and so does the role."""
    first = await scene.sign_in()
    scene.provider.person |= {"email": "ada.king@example.com", "name": "Ada King"}
    second = await scene.sign_in()

    assert first.session.operator_id == second.session.operator_id
    assert (second.session.email, second.session.name, second.session.role) == (
        "ada.king@example.com", "Ada King", "support")
    assert await scene.staff.staff.sessions.find(first.secret) is None, "her role was another"


async def test_a_sign_in_ends_the_browsers_older_session(scene: Scene) -> None:
    first = await scene.sign_in()
    second = await scene.sign_in(replaces=first.secret)

    assert await scene.staff.staff.sessions.find(first.secret) is None
    assert await scene.staff.staff.sessions.find(second.secret) is not None


async def test_who_is_taken_off_the_list_is_out_with_the_next_start(tmp_path: Path) -> None:
    """The configuration gives roles; a session does not outlive the line that gave it."""
    async with open_scene(tmp_path) as scene:
        secret = (await scene.sign_in()).secret
        provider = scene.provider
    for changes, role in (({}, "ops"), ({"ops": ()}, "support"), ({"ops": (), "support": ("bob@example.com",)}, None)):
        async with open_staff(tmp_path, rules_for(provider, **changes)) as staff:
            found = await staff.staff.sessions.find(secret)
            assert (None if found is None else found.role) == role


# --- lies in the token


def hs256_with_the_public_key(claims: dict[str, Any]) -> str:
    """Key confusion: the public key, which everybody has, used as if it were a shared secret."""
    pem = RSA_KEY.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    return forged({"alg": "HS256", "typ": "JWT", "kid": "k1"}, claims, lambda data: hmac.digest(pem, data, "sha256"))


def part(value: Any) -> str:
    data = value if isinstance(value, bytes) else json.dumps(value).encode()
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def forged(header: dict[str, Any], claims: dict[str, Any], sign: Callable[[bytes], bytes]) -> str:
    signed = f"{part(header)}.{part(claims)}"
    return f"{signed}.{part(sign(signed.encode()))}"


def with_header(**header: Any) -> Callable[[dict[str, Any]], str]:
    return lambda claims: jwt.encode(claims, RSA_KEY, "RS256", headers={"kid": "k1", **header})


def tampered(claims: dict[str, Any]) -> str:
    head, body, signature = jwt.encode(claims, RSA_KEY, "RS256", headers={"kid": "k1"}).split(".")
    changed = json.loads(base64.urlsafe_b64decode(body + "=="))
    return f"{head}.{part({**changed, 'email': 'ops@example.com'})}.{signature}"


SIGNATURES: dict[str, Callable[[dict[str, Any]], str]] = {
    "none": lambda claims: forged({"alg": "none"}, claims, lambda _: b""),
    "None with a key id": lambda claims: forged({"alg": "None", "kid": "k1"}, claims, lambda _: b""),
    "no algorithm": lambda claims: forged({"kid": "k1"}, claims, lambda _: b"x"),
    "HS256 with the public key": hs256_with_the_public_key,
    "HS256 with the client secret": lambda claims: jwt.encode(
        claims, CLIENT_SECRET * 4, "HS256", headers={"kid": "k1"}),
    "RS384": lambda claims: jwt.encode(claims, RSA_KEY, "RS384", headers={"kid": "k1"}),
    "PS256": lambda claims: jwt.encode(claims, RSA_KEY, "PS256", headers={"kid": "k1"}),
    "another key under a known id": lambda claims: jwt.encode(claims, OTHER_RSA_KEY, "RS256", headers={"kid": "k1"}),
    "an unknown key": lambda claims: jwt.encode(claims, OTHER_RSA_KEY, "RS256", headers={"kid": "k7"}),
    "its own key in the header": lambda claims: jwt.encode(
        claims, OTHER_RSA_KEY, "RS256", headers={"kid": "k7", "jwk": jwk(OTHER_RSA_KEY, "k7")}),
    "a key's address in the header": lambda claims: jwt.encode(
        claims, OTHER_RSA_KEY, "RS256", headers={"kid": "k7", "jku": "https://evil.test/keys"}),
    "the EC key's id over RS256": lambda claims: jwt.encode(claims, RSA_KEY, "RS256", headers={"kid": "k2"}),
    "a critical extension": with_header(crit=["b64x"], b64x=True),
    "changed after signing": tampered,
    "rubbish": lambda claims: "a.b.c",
    "five parts": lambda claims: "a.b.c.d.e",
    "nothing": lambda claims: "",
    "too long": lambda claims: "a" * 20_000,
    "not text": lambda claims: "é.é.é",
}


@pytest.mark.parametrize("name", SIGNATURES)
async def test_a_token_that_the_provider_did_not_sign_lets_nobody_in(scene: Scene, name: str) -> None:
    """Algorithm none, key confusion, foreign and self-brought keys, changed claims: refused, and nobody is made."""
    scene.provider.sign = SIGNATURES[name]

    await scene.bad()


CLAIMS: dict[str, dict[str, Any]] = {
    "another issuer": {"iss": "https://evil.test"}, "the issuer with a slash": {"iss": "slash"},
    "no issuer": {"iss": None},
    "another audience": {"aud": "other-client"}, "no audience": {"aud": None}, "an empty audience": {"aud": []},
    "two audiences without azp": {"aud": [CLIENT_ID, "other-client"]},
    "given to another client": {"azp": "other-client"},
    "two audiences, given to the other": {"aud": [CLIENT_ID, "other"], "azp": "other-client"},
    "expired": {"exp": -61}, "no end": {"exp": None}, "an end that is no time": {"exp": "tomorrow"},
    "an endless end": {"exp": "inf"}, "issued in the future": {"iat": 120}, "no beginning": {"iat": None},
    "not yet in force": {"nbf": 120},
    "another nonce": {"nonce": "A" * 43}, "no nonce": {"nonce": None},
    "nobody": {"sub": None}, "an empty subject": {"sub": ""}, "a subject that is no text": {"sub": 7},
    "an endless subject": {"sub": "x" * 300},
    "an unverified address": {"email_verified": False}, "no word on the address": {"email_verified": None},
    "a wrong word on the address": {"email_verified": 1}, "no address": {"email": None},
    "an address that is none": {"email": "ada"}, "an address of elsewhere": {"email": "ada@example.org"},
    "a look-alike domain": {"email": "ada@example.com.evil.test"},
    "a sub-domain": {"email": "ada@evil.example.com"}, "two addresses in one": {"email": "x@evil.test,ada@example.com"},
    "authenticated in the future": {"auth_time": 120},
}


@pytest.mark.parametrize("name", CLAIMS)
async def test_a_token_that_says_something_else_lets_nobody_in(scene: Scene, name: str) -> None:
    """Well signed, and wrong in one claim. Numbers are seconds from now."""
    now = scene.staff.house.clock.at_ms // 1_000
    lie = {key: now + value if isinstance(value, int) and key in ("exp", "iat", "nbf", "auth_time") else value
           for key, value in CLAIMS[name].items()}
    if lie.get("iss") == "slash":
        lie["iss"] = scene.provider.url + "/"
    if lie.get("exp") == "inf":
        scene.provider.sign = lambda claims: forged(
            {"alg": "RS256", "kid": "k1"}, {**claims, "exp": float("inf")}, lambda _: b"")
    scene.provider.lie = lie

    message = await scene.bad()
    assert not any(str(value) in message for value in lie.values() if isinstance(value, str) and len(value) > 4)


@pytest.mark.parametrize("keys", [
    [jwk(SHORT_KEY, "k1")], [jwk(RSA_KEY, "k1", use="enc")], [jwk(RSA_KEY, "k1", alg="RS512")],
    [{"kty": "oct", "kid": "k1", "k": part(b"x" * 32)}], [jwk(RSA_KEY, "k1"), jwk(OTHER_RSA_KEY, "k1")],
    [{"kty": "RSA", "kid": "k1"}], [{"kty": "RSA", "kid": "k1", "n": 7, "e": None}], [], ["x"], "x", None,
], ids=["short", "for encryption", "for another algorithm", "a shared secret", "two of one id", "empty", "malformed",
        "no keys", "no object", "text", "null"])
@pytest.mark.filterwarnings("ignore::jwt.warnings.InsecureKeyLengthWarning")
async def test_keys_that_are_unfit_verify_nothing(scene: Scene, keys: Any) -> None:
    """And end in a sentence, whatever stands on the list."""
    scene.provider.keys = keys
    if keys and isinstance(keys[0], dict) and keys[0].get("n") == jwk(SHORT_KEY, "k1")["n"]:
        scene.provider.sign = lambda claims: jwt.encode(claims, SHORT_KEY, "RS256", headers={"kid": "k1"})

    await scene.bad()


async def test_another_curve_under_es256_verifies_nothing(scene: Scene) -> None:
    scene.provider.keys = [jwk(P384_KEY, "k1")]
    scene.provider.sign = lambda claims: forged({"alg": "ES256", "kid": "k1"}, claims, lambda _: b"x" * 64)

    await scene.bad()


# --- lies on the way


async def test_a_state_comes_back_once(scene: Scene) -> None:
    """The same answer again, in the same browser, with a code that would still be good."""
    url, sealed = await scene.begin()
    back = scene.provider.approve(url)
    await scene.finish(back, sealed)
    scene.provider.codes["code-0"] = {n: v[0] for n, v in parse_qs(urlsplit(url).query).items()}
    problem = await refused(scene.finish(back, sealed))

    assert problem.code is ProblemCode.OIDC_REFUSED
    assert "before" in problem.message


async def test_one_answer_twice_at_once_opens_one_session(scene: Scene) -> None:
    url, sealed = await scene.begin()
    back = scene.provider.approve(url)
    results = await asyncio.gather(*(scene.finish(back, sealed) for _ in range(4)), return_exceptions=True)

    assert sum(isinstance(result, Returned) for result in results) == 1


async def test_an_answer_works_only_in_the_browser_that_began(scene: Scene) -> None:
    """Another browser's cookie, none, a changed and an invented one: an attacker cannot sign anybody else in."""
    url, sealed = await scene.begin()
    _, others = await scene.begin()
    back = scene.provider.approve(url)
    middle = len(sealed) // 2
    changed = sealed[:middle] + ("A" if sealed[middle] != "A" else "B") + sealed[middle + 1:]
    for cookie in (others, "", changed, sealed + "x", "1.a.b.c.d", "9999.a.b.c.d", "1.....", "é", "x" * 5_000):
        problem = await refused(scene.finish(back, cookie))
        assert problem.code is ProblemCode.OIDC_REFUSED
    assert scene.provider.asked.count("POST /token") == 0
    assert (await scene.finish(back, sealed)).session.email == "ada@example.com"


@pytest.mark.parametrize("state", ["", "A" * 43, "x", "é" * 43])
async def test_a_wrong_state_is_refused_before_anything_is_asked(scene: Scene, state: str) -> None:
    _, sealed = await scene.begin()
    problem = await refused(scene.finish(f"https://x/?code=c&state={quote(state)}", sealed))

    assert problem.code is ProblemCode.OIDC_REFUSED
    assert scene.provider.asked.count("POST /token") == 0


async def test_a_sign_in_may_take_ten_minutes(scene: Scene) -> None:
    url, sealed = await scene.begin()
    scene.staff.house.clock.pass_s(600)
    problem = await refused(scene.finish(scene.provider.approve(url), sealed))

    assert "ten minutes" in problem.message


async def test_another_providers_answer_is_refused(scene: Scene) -> None:
    """RFC 9207: an answer that names another issuer, or none where the provider promised to name itself."""
    url, sealed = await scene.begin()
    foreign = await refused(scene.finish(scene.provider.approve(url, iss="https://evil.test"), sealed))
    assert "another provider" in foreign.message
    assert scene.provider.asked.count("POST /token") == 0
    url, sealed = await scene.begin()
    assert (await scene.finish(scene.provider.approve(url, iss=scene.provider.url), sealed)).secret
    scene.provider.discovery = {"authorization_response_iss_parameter_supported": True}
    scene.staff.house.clock.pass_s(3_601)
    url, sealed = await scene.begin()
    assert (await refused(scene.finish(scene.provider.approve(url), sealed))).code is ProblemCode.OIDC_REFUSED


async def test_a_code_is_bound_to_its_verifier(scene: Scene) -> None:
    """PKCE: a code that was stolen from another sign-in is worth nothing in this one."""
    stolen, _ = await scene.begin()
    scene.provider.approve(stolen)
    url, sealed = await scene.begin()
    back = scene.provider.approve(url).replace("code=code-1", "code=code-0")

    assert (await refused(scene.finish(back, sealed))).code is ProblemCode.OIDC_REFUSED


@pytest.mark.parametrize("query", ["error=access_denied&error_description=<script>", "", "code=", "code=%00", "code=é"])
async def test_a_refusal_at_the_provider_says_so_without_its_words(scene: Scene, query: str) -> None:
    url, sealed = await scene.begin()
    state = parse_qs(urlsplit(url).query)["state"][0]
    problem = await refused(scene.finish(f"https://x/?{query}&state={state}", sealed))

    assert problem.code is ProblemCode.OIDC_REFUSED
    assert "script" not in problem.message


@pytest.mark.parametrize(("discovery", "word"), [
    ({"issuer": "https://evil.test"}, "another issuer"),
    ({"token_endpoint": "https://evil.test/token"}, "https://evil.test"),
    ({"jwks_uri": "http://169.254.169.254/latest"}, "169.254.169.254"),
    ({"authorization_endpoint": "https://evil.test/sign-in"}, "https://evil.test"),
    ({"authorization_endpoint": "javascript:alert(1)"}, "plain address"),
    ({"token_endpoint": None}, "token endpoint"),
    ({"token_endpoint": "http://user:pw@127.0.0.1/"}, "plain address"),
    ({"token_endpoint": "http://[::1/"}, "no address"),
    ({"id_token_signing_alg_values_supported": ["HS256", "none"]}, "signs with none"),
    ({"token_endpoint_auth_methods_supported": ["private_key_jwt"]}, "client_secret_basic"),
])
async def test_a_discovery_document_that_leads_elsewhere_is_refused(
    scene: Scene, discovery: dict[str, Any], word: str
) -> None:
    """Places that were not configured are never asked; the sentence names what would have to be."""
    scene.provider.discovery = discovery
    problem = await refused(scene.sign_in())

    assert problem.code is ProblemCode.OIDC_REFUSED
    assert word in problem.message
    assert "POST /token" not in scene.provider.asked


async def test_a_listed_second_place_is_asked(tmp_path: Path) -> None:
    """Providers that spread over several hosts: each is named in the configuration."""
    async with open_provider() as second:
        async with open_scene(tmp_path) as scene:
            plain = await refused_message(scene, second)
        async with open_scene(tmp_path, origins=()) as scene:
            scene.staff.staff.oidc._rules = rules_for(  # type: ignore[union-attr]
                scene.provider, origins=(parse_origin(scene.provider.url), parse_origin(second.url))).oidc
            scene.provider.discovery = {"jwks_uri": f"{second.url}/keys"}
            back = await scene.sign_in()

    assert "is not configured" in plain
    assert back.session.email == "ada@example.com"


async def refused_message(scene: Scene, second: Provider) -> str:
    scene.provider.discovery = {"jwks_uri": f"{second.url}/keys"}
    return (await refused(scene.sign_in())).message


async def test_a_provider_that_is_down_is_said_to_be(scene: Scene) -> None:
    """Not the person's fault, and nothing is remembered as used up that they would need again."""
    url, sealed = await scene.begin()
    scene.provider.token_status = 503
    down = await refused(scene.finish(scene.provider.approve(url), sealed))
    scene.provider.token_status = 400
    url, sealed = await scene.begin()
    refusal = await refused(scene.finish(scene.provider.approve(url), sealed))

    assert down.code is ProblemCode.OIDC_UNREACHABLE
    assert refusal.code is ProblemCode.OIDC_REFUSED


async def test_an_unreachable_provider_is_said_to_be(tmp_path: Path) -> None:
    nowhere = "http://127.0.0.1:9"
    async with open_scene(tmp_path, issuer=nowhere, origins=(parse_origin(nowhere),)) as scene:
        assert (await refused(scene.begin())).code is ProblemCode.OIDC_UNREACHABLE


# --- people


async def test_a_disabled_operator_stays_out(scene: Scene) -> None:
    back = await scene.sign_in()
    await scene.staff.staff.operators.disable("ada@example.com", ACTOR)

    assert await scene.staff.staff.sessions.find(back.secret) is None
    assert (await refused(scene.sign_in())).code is ProblemCode.OIDC_REFUSED


async def test_an_address_that_went_to_another_person_lets_nobody_in_until_it_is_reset(scene: Scene) -> None:
    """The provider's id is the person; an operator unbinds the address."""
    first = await scene.sign_in()
    scene.provider.person |= {"sub": "person-9"}
    problem = await refused(scene.sign_in())
    made = await scene.staff.staff.operators.reset("ada@example.com", ACTOR)
    second = await scene.sign_in()

    assert "another person" in problem.message
    assert made.url == ""
    assert second.session.operator_id == first.session.operator_id
    assert await scene.staff.staff.sessions.find(first.secret) is None


async def test_a_new_address_that_is_taken_is_refused(scene: Scene) -> None:
    await scene.sign_in()
    scene.provider.person |= {"sub": "person-2", "email": "bob@example.com"}
    await scene.sign_in()
    scene.provider.person |= {"email": "ada@example.com"}

    assert (await refused(scene.sign_in())).code is ProblemCode.OIDC_REFUSED


async def test_staff_of_a_provider_are_not_added_by_hand(scene: Scene) -> None:
    """The fix says where: in the configuration."""
    problem = await refused(scene.staff.staff.operators.add("eve@example.com", "", "ops", ACTOR))
    await scene.sign_in()
    role = await refused(scene.staff.staff.operators.set_role("ada@example.com", "support", ACTOR))

    assert "console.oidc" in problem.fix
    assert "console.oidc" in role.fix


async def test_refusals_fill_no_log(scene: Scene) -> None:
    """One row a minute, with our own words for why."""
    scene.provider.lie = {"nonce": "x"}
    for _ in range(5):
        await scene.bad()
    failed = [row for row in await scene.staff.audit() if row["action"] == "operator.sign_in_failed"]

    assert len(failed) == 1
    assert failed[0]["after"]["stage"] == "oidc"


# --- who are you, again


async def test_a_fresh_proof_is_the_providers_word_of_when(scene: Scene) -> None:
    """max_age goes out, auth_time comes back: fresh until ten minutes after it."""
    back = await scene.sign_in()
    assert back.session.fresh_until_ms == 0, "the provider did not say when"
    scene.provider.auth_time = scene.staff.house.clock.at_ms // 1_000 - 60
    url, sealed = await scene.begin("/console/billing", back.session)
    fresh = await scene.finish(scene.provider.approve(url), sealed, session=back.session)
    found = await scene.staff.staff.sessions.find(back.secret)
    assert found is not None

    assert parse_qs(urlsplit(url).query)["max_age"] == ["600"]
    assert (fresh.secret, fresh.path) == ("", "/console/billing")
    assert found.fresh_until_ms == scene.staff.house.clock.at_ms + 9 * 60_000
    assert "operator.reauthenticated" in await scene.staff.actions()


@pytest.mark.parametrize("what", ["no time", "too old", "somebody else", "another session", "no session", "a sign-in"])
async def test_a_stale_or_foreign_proof_refreshes_nothing(scene: Scene, what: str) -> None:
    """Without auth_time, with an old one, by another person, for another session, or taken from a plain sign-in."""
    back = await scene.sign_in()
    now = scene.staff.house.clock.at_ms // 1_000
    scene.provider.auth_time = {"no time": None, "too old": now - 600}.get(what, now)
    if what == "somebody else":
        scene.provider.person |= {"sub": "person-3", "email": "carol@example.com"}
    other = await scene.sign_in() if what == "another session" else None
    url, sealed = await scene.begin("", None if what == "a sign-in" else back.session)
    session = {"another session": other and other.session, "no session": None}.get(what, back.session)
    work = scene.finish(scene.provider.approve(url), sealed, session=session)
    if what == "a sign-in":
        await work
    else:
        with pytest.raises((Problem, Unconfirmed)) as raised:
            await work
        told = {"no time": "requires auth_time", "too old": "did not ask you again", "somebody else": "somebody else"}
        assert isinstance(raised.value, Unconfirmed) == (what in told)
        assert told.get(what, "session has ended") in str(raised.value)
    found = await scene.staff.staff.sessions.find(back.secret)

    assert found is not None
    assert found.fresh_until_ms == back.session.fresh_until_ms or what == "another session"


async def test_nothing_of_a_sign_in_prints(scene: Scene) -> None:
    assert scene.staff.staff.oidc is not None
    begun = await scene.staff.staff.oidc.start()
    state = parse_qs(urlsplit(begun.url).query)["state"][0]
    verifier_digest = parse_qs(urlsplit(begun.url).query)["code_challenge"][0]

    assert repr(begun) == "Begun(***)"
    assert state not in begun.sealed
    assert hashlib.sha256(state.encode()).hexdigest() not in begun.sealed
    assert verifier_digest not in begun.sealed
