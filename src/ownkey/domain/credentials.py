"""A pasted key becomes a credential, or one sentence that says what to paste instead.

Prefixes are hints, not proofs: a provider may change them any day, so an unknown one is accepted and only
another provider's, or a kind that cannot run models, is refused. No length is checked but the largest.
"""

import re
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, Literal, NoReturn, TypeAlias

from ownkey.domain.phrases import Phrase
from ownkey.domain.secret import Secret

MAX_CREDENTIAL_CHARS: Final = 512
HINT_TAIL_CHARS: Final = 4
HINT_TAIL_FROM_CHARS: Final = 24

_MAX_PASTED_CHARS: Final = 4_096  # A key in every wrapping that we strip is shorter; a pasted file is not a key.

FormCode: TypeAlias = Literal["wrong_kind", "empty", "not_ascii", "too_long", "inner_whitespace"]


class CredentialFormError(ValueError):
    """A text that cannot be this provider's credential. Repeats nothing of the text.

    `sentence` says what is wrong, `fix` what to do. `belongs_to` names the provider whose field would take it,
    None if there is none.
    """

    def __init__(self, code: FormCode, sentence: str, fix: str, belongs_to: str | None = None) -> None:
        super().__init__(sentence)
        self.code = code
        self.sentence = sentence
        self.fix = fix
        self.belongs_to = belongs_to


class Wrapping(StrEnum):
    """What was around the key and was taken off. The page says so."""

    BLANKS = "white space"
    QUOTES = "quotes"
    HEADER = "header name"
    BEARER = "Bearer"
    ASSIGNMENT = "NAME="


class AcceptedCredential:
    """A credential that somebody just typed: to be tested, sealed, and forgotten.

    `secret` travels to the provider like any stored credential. `bytes_to_seal()` exists for the vault, which
    must see what it encrypts; only the vault calls it, and a test says so.
    """

    __slots__ = ("_text", "hint", "unwrapped")

    def __init__(self, text: str, hint: str, unwrapped: tuple[Wrapping, ...]) -> None:
        self._text = text
        self.hint = hint
        self.unwrapped = unwrapped

    @property
    def secret(self) -> Secret:
        """The credential for one upstream exchange."""
        return Secret(self._text)

    def bytes_to_seal(self) -> bytes:
        """The plaintext, visible ASCII. For the vault only."""
        return self._text.encode("ascii")

    def __repr__(self) -> str:
        return f"AcceptedCredential(hint={self.hint!r})"

    def __reduce__(self) -> NoReturn:
        raise TypeError("an AcceptedCredential is never pickled or copied")


@dataclass(frozen=True, slots=True)
class _Prefix:
    """What a key's beginning tells. `wrong_kind` says why such a key never works here, "" if it does."""

    text: str
    provider: str | None
    wrong_kind: str = ""
    fix: str = ""


_LABELS: Final = {"openrouter": "OpenRouter", "openai": "OpenAI", "anthropic": "Anthropic", "google": "Google"}

# The first that fits decides, so longer ones come first. Source: the providers' API documentation.
_PREFIXES: Final = (
    _Prefix("sk-or-", "openrouter"),
    _Prefix(
        "sk-ant-admin",
        "anthropic",
        Phrase("This is an Anthropic admin key; it cannot run models."),
        Phrase("Create an API key in the Anthropic console under API keys, and paste that one."),
    ),
    _Prefix("sk-ant-", "anthropic"),
    _Prefix(
        "sk-admin-",
        "openai",
        Phrase("This is an OpenAI admin key; it cannot run models."),
        Phrase("Create a project key on the OpenAI platform under API keys, and paste that one."),
    ),
    _Prefix("sk-proj-", "openai"),
    _Prefix("sk-", "openai"),
    _Prefix("AIza", "google"),
    _Prefix("AQ.", "google"),
    _Prefix(
        "ok_",
        None,
        Phrase("This is an Ownkey access token, not a provider's key."),
        Phrase("Paste the key that the provider gave you."),
    ),
    _Prefix(
        "sk_live_",
        None,
        Phrase("This is a Stripe key, not an AI provider's key."),
        Phrase("Paste the AI provider's key, and replace the Stripe key if others saw it."),
    ),
    _Prefix(
        "whsec_",
        None,
        Phrase("This is a webhook secret, not a provider's key."),
        Phrase("Paste the key that the provider gave you."),
    ),
)

# White space of every alphabet, plus what pages and chats put around copied text without showing it: soft
# hyphen, zero-width space and joiners, direction marks, word joiner, byte-order mark.
_BLANKS: Final = (
    "\t\n\v\f\r\x1c\x1d\x1e\x1f \x85\xa0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a"
    "\u2028\u2029\u202f\u205f\u3000"
    "\xad\u180e\u200b\u200c\u200d\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2060\u2061\u2062\u2063\u2064"
    "\u2066\u2067\u2068\u2069\ufeff"
)
_QUOTES: Final = "'\"`´‘’‚“”„‹›«»"
_HEADER: Final = re.compile(r"(?:authorization|x-api-key|x-goog-api-key)\s*:", re.IGNORECASE)
_BEARER: Final = re.compile(rf"bearer(?:[{_BLANKS}]+|$)", re.IGNORECASE)
# Without `export` a name has capitals only, and no second `=` follows: base64 padding is no assignment.
_ASSIGNMENT: Final = re.compile(r"(?:export\s+[A-Za-z_][A-Za-z0-9_]*|[A-Z_][A-Z0-9_]*)\s*=(?!=)")


def accept_credential(provider: str, text: str) -> AcceptedCredential:
    """Take a pasted key for `provider` ("openrouter", "openai", "anthropic", "google", or one we do not know).

    Raises CredentialFormError.
    """
    outcome = _judge(provider, text)
    del text  # A traceback that shows locals must not show this one.
    if isinstance(outcome, CredentialFormError):
        raise outcome
    return outcome


def unwrap_pasted(text: str) -> tuple[str, tuple[Wrapping, ...]]:
    """The key without what surrounds it in a terminal, a file or a chat, and the kinds of wrapping removed.

    Repeats until nothing changes: people paste `export KEY="Bearer sk-…"`.
    """
    removed: dict[Wrapping, None] = {}
    while True:
        before = text
        for wrapping in Wrapping:
            shorter = _without(wrapping, text)
            if shorter != text:
                removed[wrapping] = None
                text = shorter
        if text == before:
            return text, tuple(removed)


def credential_hint(credential: str) -> str:
    """What a stored credential shows for ever: known prefix, `…`, last 4. Short ones show only `…`."""
    if len(credential) < HINT_TAIL_FROM_CHARS:
        return "…"
    known = _prefix_of(credential)
    return f"{known.text if known else ''}…{credential[-HINT_TAIL_CHARS:]}"


def _judge(provider: str, text: str) -> AcceptedCredential | CredentialFormError:
    if len(text) > _MAX_PASTED_CHARS:
        return _too_long()
    key, unwrapped = unwrap_pasted(text)
    return _form_error(key) or _kind_error(provider, key) or AcceptedCredential(key, credential_hint(key), unwrapped)


def _without(wrapping: Wrapping, text: str) -> str:
    match wrapping:
        case Wrapping.BLANKS:
            return text.strip(_BLANKS)
        case Wrapping.QUOTES:
            # A line of JSON or JavaScript ends in `",` or `";`: that mark is no part of the key either.
            bare = text.rstrip(",;")
            return (bare if bare.endswith(tuple(_QUOTES)) else text).strip(_QUOTES)
        case Wrapping.HEADER:
            return _HEADER.sub("", text, count=1) if _HEADER.match(text) else text
        case Wrapping.BEARER:
            return text[found.end() :] if (found := _BEARER.match(text)) else text
        case Wrapping.ASSIGNMENT:
            return text[found.end() :] if (found := _ASSIGNMENT.match(text)) else text


def _form_error(key: str) -> CredentialFormError | None:
    if not key:
        return CredentialFormError(
            "empty", Phrase("There is no key in the field."), Phrase("Paste the key and try again.")
        )
    if any(character.isspace() for character in key):
        return CredentialFormError(
            "inner_whitespace",
            Phrase("There is a space or a line break inside the key."),
            Phrase("Copy the key again, alone and in one piece."),
        )
    if not all("!" <= character <= "~" for character in key):
        return CredentialFormError(
            "not_ascii",
            Phrase("The key contains a character that no key has."),
            Phrase(
                "Copy the whole key again: dots or bullets in it mean that only its short form was copied."
            ),
        )
    return _too_long() if len(key) > MAX_CREDENTIAL_CHARS else None


def _too_long() -> CredentialFormError:
    return CredentialFormError(
        "too_long",
        Phrase(
            "This is longer than {most} characters; no key is.",
            most=MAX_CREDENTIAL_CHARS,
        ),
        Phrase("Copy only the key, without the text around it."),
    )


def _kind_error(provider: str, key: str) -> CredentialFormError | None:
    known = _prefix_of(key)
    if known is None:
        return None
    if known.wrong_kind:
        return CredentialFormError("wrong_kind", known.wrong_kind, known.fix)
    if known.provider is None or known.provider == provider or provider not in _LABELS:
        # A provider that an operator added by hand may use any prefix, `sk-` most of all.
        return None
    theirs, ours = _LABELS[known.provider], _LABELS[provider]
    return CredentialFormError(
        "wrong_kind",
        Phrase(
            "This looks like {article} {theirs} key; paste it in the {theirs} field.", article=_article(theirs),
            theirs=theirs,
        ),
        Phrase("Or paste {article} {ours} key here.", article=_article(ours), ours=ours),
        belongs_to=known.provider,
    )


def _prefix_of(key: str) -> _Prefix | None:
    return next((prefix for prefix in _PREFIXES if key.startswith(prefix.text)), None)


def _article(label: str) -> str:
    return "an" if label[0] in "AEIOU" else "a"
