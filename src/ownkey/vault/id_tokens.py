"""ID tokens: whether one of a provider's own keys has signed the claims. What the claims say is the domain's to judge.

The algorithm comes from our list and must fit the key's type, so a public key is never taken for a shared secret.
"""

from collections.abc import Mapping
from typing import Any, Final

import jwt
from jwt import PyJWK
from jwt.exceptions import PyJWTError

from ownkey.domain.oidc import ALGORITHMS, MAX_TOKEN_CHARS, OidcRefused, UnknownKey

MIN_RSA_BITS: Final = 2_048
_MEMBERS: Final[Mapping[str, tuple[str, ...]]] = {"RS256": ("kty", "n", "e"), "ES256": ("kty", "crv", "x", "y")}
_TYPES: Final[Mapping[str, str]] = {"RS256": "RSA", "ES256": "EC"}
# Issuer, audience and times are checked by the domain, on the product's own clock.
_SIGNATURE_ONLY: Final[Mapping[str, Any]] = {
    "verify_signature": True, "verify_exp": False, "verify_nbf": False, "verify_iat": False, "verify_aud": False,
    "verify_iss": False, "verify_sub": False, "verify_jti": False,
}


class SignedTokens:
    """Satisfies `control.ports.IdTokens`."""

    def read(self, token: str, keys: Mapping[str, Any]) -> Mapping[str, Any]:
        if len(token) > MAX_TOKEN_CHARS or not token.isascii():
            raise OidcRefused("the ID token is too long or malformed")
        try:
            header = jwt.get_unverified_header(token)
            algorithm, kid = header.get("alg"), header.get("kid")
            if algorithm not in ALGORITHMS:
                raise OidcRefused(f"the ID token is not signed with {' or '.join(ALGORITHMS)}")
            key = _find_key(keys, algorithm, kid)
            claims: dict[str, Any] = jwt.decode(
                token, key.key, algorithms=[algorithm], options=dict(_SIGNATURE_ONLY),  # type: ignore[arg-type]
            )
        except PyJWTError as error:
            raise OidcRefused("the ID token's signature is not the provider's") from error
        return claims


def _find_key(keys: Mapping[str, Any], algorithm: str, kid: object) -> PyJWK:
    """The one key of the list that this token can have been signed with."""
    listed = keys.get("keys")
    fitting = [
        row for row in (listed if isinstance(listed, list) else [])
        if isinstance(row, dict) and row.get("kty") == _TYPES[algorithm] and row.get("use") in (None, "sig")
        and row.get("alg") in (None, algorithm) and (kid is None or row.get("kid") == kid)
    ]
    if not fitting:
        raise UnknownKey("the ID token is signed with an unknown key")
    if len(fitting) > 1:
        raise OidcRefused("the ID token does not say which key has signed it")
    public = {name: fitting[0].get(name) for name in _MEMBERS[algorithm]}
    if algorithm == "ES256" and public["crv"] != "P-256":
        raise OidcRefused("the provider's key is of another curve than its algorithm")
    key = PyJWK(public, algorithm)
    if algorithm == "RS256" and key.key.key_size < MIN_RSA_BITS:
        raise OidcRefused(f"the provider's key is shorter than {MIN_RSA_BITS} bits")
    return key
