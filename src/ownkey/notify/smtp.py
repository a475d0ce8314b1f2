"""E-mail over SMTP: one connection a batch, verified TLS, and errors told apart by what they mean for the message.

A 5xx about the recipient or the content will never pass: that message is undeliverable. Everything else (the server
is away, wants a login that we do not have, does not take this sender, or says 4xx) is the channel's trouble: the row
waits, and the operator sees why.
"""

import contextlib
import ssl
from collections.abc import Callable
from email.headerregistry import Address

import aiosmtplib

from ownkey.domain.errors import ChannelDown, Undeliverable
from ownkey.domain.notices import Notice
from ownkey.domain.records import Due, Member
from ownkey.notify.mail import make_message, message_id

_REASON_LIMIT = 200


class SmtpMailer:
    """Sends notices. `tls` is "starttls", "implicit" or "none"; `sender` the From address. Not for two tasks at once.

    A server's own words are not kept beyond its code: some repeat the message, or whom it was for.
    """

    def __init__(
        self, *, host: str, port: int, tls: str, user: str, password: str | None, sender: Address, instance: str,
        timeout_s: float = 20.0, tls_context: Callable[[], ssl.SSLContext] = ssl.create_default_context,
    ) -> None:
        self._host, self._port, self._tls = host, port, tls
        self._user, self._password = user, password
        self._sender, self._instance, self._timeout_s = sender, instance, timeout_s
        self._tls_context = tls_context
        self._smtp: aiosmtplib.SMTP | None = None

    def __repr__(self) -> str:
        return f"SmtpMailer(host={self._host!r}, port={self._port})"

    async def send(self, due: Due, member: Member, notice: Notice, created_at_ms: int) -> None:
        """Raises Undeliverable for this message, ChannelDown for the server."""
        try:
            message = make_message(
                notice, sender=self._sender, to=member.email, created_at_ms=created_at_ms,
                ident=message_id(due.key, member.member_id, self._instance),
            )
        except ValueError as error:
            raise Undeliverable("the address is not one") from error
        smtp = await self._connected()
        try:
            await smtp.send_message(message, sender=self._sender.addr_spec, recipients=[member.email])
        except aiosmtplib.SMTPRecipientsRefused as error:
            raise self._judge(error.recipients[0], "the recipient") from error
        except aiosmtplib.SMTPDataError as error:
            raise self._judge(error, "the message") from error
        except aiosmtplib.SMTPResponseException as error:
            await self.close()
            raise ChannelDown(_told(error)) from error
        except (aiosmtplib.SMTPException, OSError) as error:
            await self.close()
            raise ChannelDown(_told(error)) from error
        except (ValueError, UnicodeError) as error:
            raise Undeliverable("the address cannot be sent to") from error

    def _judge(self, error: aiosmtplib.SMTPResponseException, what: str) -> Exception:
        told = f"the mail server refused {what}: {error.code}"
        return Undeliverable(told) if 500 <= error.code < 600 else ChannelDown(told, for_all=error.code == 421)

    async def check(self) -> None:
        """Connect, with TLS and login, and leave. Raises ChannelDown."""
        await self._connected()
        await self.close()

    async def close(self) -> None:
        """End the batch's connection. Safe to call twice."""
        smtp, self._smtp = self._smtp, None
        if smtp is None:
            return
        with contextlib.suppress(aiosmtplib.SMTPException, OSError):
            if smtp.is_connected:
                await smtp.quit(timeout=2)
        smtp.close()

    async def _connected(self) -> aiosmtplib.SMTP:
        if self._smtp is not None and self._smtp.is_connected:
            return self._smtp
        smtp = aiosmtplib.SMTP(
            hostname=self._host, port=self._port, timeout=self._timeout_s, use_tls=self._tls == "implicit",
            start_tls=self._tls == "starttls", username=self._user or None, password=self._password,
            tls_context=None if self._tls == "none" else self._tls_context(), local_hostname="localhost",
        )
        try:
            await smtp.connect()
        except (aiosmtplib.SMTPException, OSError) as error:
            smtp.close()
            raise ChannelDown(_told(error)) from error
        self._smtp = smtp
        return smtp


def _told(error: Exception) -> str:
    """What is so, without the server's words."""
    if isinstance(error, aiosmtplib.SMTPAuthenticationError):
        return f"the mail server refused the login: {error.code}"
    if isinstance(error, aiosmtplib.SMTPSenderRefused):
        return f"the mail server refused the sender: {error.code}"
    if isinstance(error, aiosmtplib.SMTPResponseException):
        return f"the mail server answered {error.code}"
    if isinstance(error, TimeoutError):
        return "the mail server did not answer in time"
    if isinstance(error, aiosmtplib.SMTPNotSupported) or type(error) is aiosmtplib.SMTPException:
        # The library says with its base class that STARTTLS is not offered.
        return "the mail server does not offer what is configured (STARTTLS, or a login)"
    if isinstance(error, ssl.SSLError) or isinstance(error.__cause__, ssl.SSLError):
        return "the mail server's certificate was not accepted"
    return f"the mail server is not reachable ({type(error).__name__})"
