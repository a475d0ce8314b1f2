"""A notice as an e-mail: plain text and HTML that say the same, from one value.

The HTML loads nothing, runs nothing and carries its few styles inside: mail programs remove style sheets, and an image
would tell its server who reads. Everything foreign is escaped here, once.
"""

import hashlib
import re
from datetime import UTC, datetime
from email.errors import MessageError
from email.headerregistry import Address
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import format_datetime
from html import escape

from ownkey.domain.notices import Notice

ID_DOMAIN = "notices.ownkey.invalid"

TITLE_LENGTH = 110
_HINT = re.compile(r"\(?[A-Za-z0-9-]{0,16}…[A-Za-z0-9]{1,8}\)?")

_STYLE = {
    "page": "margin:0;padding:24px 12px;background-color:#f4f4f5;color:#18181b;"
            "font-family:system-ui,-apple-system,'Segoe UI',Roboto,Helvetica,Arial,sans-serif;",
    "card": "max-width:560px;margin:0 auto;padding:24px;background-color:#ffffff;border:1px solid #d4d4d8;"
            "border-radius:8px;",
    "where": "margin:0 0 8px;font-size:13px;line-height:1.5;color:#52525b;overflow-wrap:anywhere;",
    "title": "margin:0 0 16px;font-size:20px;line-height:1.35;overflow-wrap:anywhere;",
    "text": "margin:0 0 16px;font-size:16px;line-height:1.5;",
    "small": "margin:0 0 8px;font-size:13px;line-height:1.5;color:#52525b;",
    "table": "margin:0 0 16px;border-collapse:collapse;",
    "label": "padding:4px 16px 4px 0;font-size:14px;color:#52525b;text-align:left;font-weight:normal;"
             "vertical-align:top;white-space:nowrap;",
    "value": "padding:4px 0;font-size:14px;overflow-wrap:anywhere;",
    "call": "margin:0 0 16px;font-size:14px;line-height:1.5;",
    "link": "color:#1d4ed8;",
    "button": "display:inline-block;padding:12px 20px;background-color:#1d4ed8;color:#ffffff;font-size:16px;"
              "text-decoration:none;border-radius:6px;",
}
# Programs that know prefers-color-scheme get a dark page; the others keep the inline light one. Both have contrast.
_DARK = (
    ".page{background-color:#18181b!important;color:#f4f4f5!important}"
    ".card{background-color:#27272a!important;border-color:#52525b!important;color:#f4f4f5!important}"
    ".small{color:#d4d4d8!important}"
    ".link{color:#93c5fd!important}"
)


def render_text(notice: Notice) -> str:
    """The whole message as plain text."""
    parts = [
        notice.headline,
        "\n".join(f"{label}: {value}" for label, value in notice.facts),
        f"{notice.asks} {notice.calls_now}",
        f"{notice.button}: {_link(notice.url)}",
        _call_text(notice),
        "\n".join(part for part in ("-- ", notice.why, notice.mute, _mute_text(notice)) if part),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _call_text(notice: Notice) -> str:
    told = f"{notice.caused_by} {notice.call}" if notice.call else ""
    link = f"{notice.opens_receipt}: {_link(notice.call_url)}" if notice.call_url else ""
    return "\n".join(part for part in (told, link) if part)


def _mute_text(notice: Notice) -> str:
    return f"{notice.opens_mute}: {_link(notice.mute_url)}" if notice.mute_url else ""


def render_html(notice: Notice) -> str:
    """The same as HTML, without anything remote."""
    rows = "".join(
        f'<tr><th scope="row" class="small" style="{_STYLE["label"]}">{escape(label)}</th>'
        f'<td style="{_STYLE["value"]}">{escape(value)}</td></tr>'
        for label, value in notice.facts
    )
    title, rest = _split(notice.headline)
    where = f'<p class="small" style="{_STYLE["where"]}">{escape(notice.where)}</p>' if notice.where else ""
    more = f'<p style="{_STYLE["text"]}">{_shown(rest)}</p>' if rest else ""
    table = f'<table style="{_STYLE["table"]}">{rows}</table>' if rows else ""
    foot = "".join(
        f'<p class="small" style="{_STYLE["small"]}">{part}</p>' for part in (escape(notice.why), _mute_html(notice))
        if part
    )
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        '<meta name="color-scheme" content="light dark">'
        f"<title>{escape(notice.subject)}</title>"
        f"<style>@media (prefers-color-scheme: dark){{{_DARK}}}</style></head>"
        f'<body class="page" style="{_STYLE["page"]}"><div class="card" style="{_STYLE["card"]}">'
        f'{where}<h1 style="{_STYLE["title"]}">{_shown(title)}</h1>{more}{table}'
        f'<p style="{_STYLE["text"]}"><strong>{escape(notice.asks)}</strong> {escape(notice.calls_now)}</p>'
        f'<p style="{_STYLE["text"]}"><a href="{escape(_link(notice.url), quote=True)}" style="{_STYLE["button"]}">'
        f"{escape(notice.button)}</a></p>{_call_html(notice)}{foot}</div></body></html>"
    )


def _call_html(notice: Notice) -> str:
    """The call that set it off, beside the one button: a plain link to its receipt."""
    told = f"<strong>{escape(notice.caused_by)}</strong> {_shown(notice.call)} " if notice.call else ""
    link = _plain_link(notice.call_url, notice.opens_receipt) if notice.call_url else ""
    return f'<p style="{_STYLE["call"]}">{told}{link}</p>' if told or link else ""


def _mute_html(notice: Notice) -> str:
    link = f" {_plain_link(notice.mute_url, notice.opens_mute)}" if notice.mute_url else ""
    return f"{escape(notice.mute)}{link}"


def _plain_link(url: str, text: str) -> str:
    return f'<a class="link" href="{escape(_link(url), quote=True)}" style="{_STYLE["link"]}">{escape(text)}</a>'


def _split(headline: str) -> tuple[str, str]:
    """Several sentences, or a list of changes, would fill a phone's screen in bold: the beginning, and the rest."""
    first, stop, others = headline.partition(". ")
    if stop and len(first) < TITLE_LENGTH:
        return f"{first}.", others
    beginning, colon, rest = headline.partition(": ")
    if len(headline) <= TITLE_LENGTH or not colon:
        return headline, ""
    return f"{beginning}.", rest[:1].upper() + rest[1:]


def _shown(text: str) -> str:
    """Escaped, and no line ends in the middle of a key's hint."""
    return _HINT.sub(r'<span style="white-space:nowrap">\g<0></span>', escape(text))


def _link(url: str) -> str:
    """The button's address comes from ownkey.toml; anything but a web address would be a link that runs."""
    return url if url.startswith(("https://", "http://")) else "about:blank"


def message_id(key: str, member_id: str, instance: str) -> str:
    """Stable for one (row, member): the same message after a crash has the same Message-ID."""
    digest = hashlib.sha256(f"{instance}\n{key}\n{member_id}".encode()).hexdigest()[:40]
    return f"<{digest}@{ID_DOMAIN}>"


def make_message(
    notice: Notice, *, sender: Address, to: str, ident: str, created_at_ms: int
) -> EmailMessage:
    """The e-mail, whole. Raises ValueError for an address that no header can hold."""
    message = EmailMessage(policy=SMTP)
    message["From"] = sender
    try:
        message["To"] = Address(addr_spec=to)
    except (ValueError, IndexError, MessageError) as error:
        raise ValueError("not an e-mail address") from error
    message["Subject"] = notice.subject
    message["Message-ID"] = ident
    message["Date"] = format_datetime(datetime.fromtimestamp(created_at_ms // 1_000, UTC))
    message["Auto-Submitted"] = "auto-generated"
    message["X-Auto-Response-Suppress"] = "All"
    message.set_content(render_text(notice))
    message.add_alternative(render_html(notice), subtype="html")
    message.set_boundary("=_" + hashlib.sha256(ident.encode()).hexdigest()[:32])
    return message
