"""docs/notices.md, written from the rules themselves: `python -m tests.notify.notice_reference > docs/notices.md`."""

import sys

from ownkey.domain.notices import (
    FIRST_WAITS_S,
    MUTEABLE,
    RULES,
    SAMPLES,
    WITHOUT_MAIL,
    Kind,
    Place,
    write_notice,
)

HEAD = """# Notices: e-mails and events

The tables of this page are generated from the rules (`python -m tests.notify.notice_reference > docs/notices.md`);
a test keeps them current.

**What is told, is told by the books.** A notice is two rows of the outbox, an e-mail and an event, written in the
database transaction of the change itself: a change that is not committed is told by nobody, and one that is cannot be
forgotten. Each row has a key that exists once, so that no restart, retry or second process announces a thing twice.

**E-mails** go to the owners and admins of the workspace (`ownkey member add`), as text and HTML of the same content:
what happened, since when, what calls do now, one button, why you get this, and how to mute it. The button leads to
`product.entry_url`. Where a call set it off (a cap that is reached, a key that fails, credits that step in, a cost
above its hold), the e-mail says the headline of that call's receipt and links to it; it waits up to 20 seconds for a
call that still runs, and a repeat says the same. Texts are the host's own where
[`[portal.words]`](portal.md#your-own-words) has them; events keep ours. An e-mail loads nothing from anywhere and never
holds a key, a prompt or a provider's answer.
Owners and admins mute topics for themselves under E-mails (`/portal/notices`): an e-mail that can be muted links to it
by `product.entry_url` with the flow `notices`. A host does the same for them (`ownkey member add … --mute spend`). Who
pays, who changed it, and payments cannot be muted.

**Events** are POSTs to `events.url`, as [Standard Webhooks](https://www.standardwebhooks.com) says: `webhook-id`
(stable: a repeat is the same event), `webhook-timestamp`, and `webhook-signature` with one `v1` HMAC-SHA256 per
configured secret. Answer 2xx; 410 ends that event, anything else is tried again. The body is
`{"type": …, "timestamp": …, "data": {…}}`; `data` always holds `workspace`, `external_id`, `kind` and `headline`.
Amounts are decimal strings: `…_nusd` nano-USD, `amount_cents` cents. Unknown fields and types will come: ignore them.

**Delivery.** Rows leave within seconds, in batches over one connection. One of several related ones waits for the one
before it: 80% before 100%, a failure before its recovery. What fails for a passing reason is tried again after
WAITS and then every hour, for 24 hours; then the row is `failed`. A recipient or content that is refused for good fails
at once. A crash in the middle repeats at most the message that was under way, byte for byte under the same
`Message-ID`. Calls never wait for any of it.

**Not configured** is not an error: without `[mail]`, or without `[events]`, the rows of that channel end as `skipped`
(the server says so when it starts, and `ownkey doctor` does too). They are listed by `ownkey outbox --skipped`, and
`ownkey outbox retry ID` sends one after all. A channel that is configured by half, with a user and no password or an
address and no secret, refuses to start.

```toml
[mail]
host = "smtp.example.com"
port = 587
tls = "starttls"                 # or "implicit"; "none" on loopback only
user = "ownkey"
from = "Example AI <no-reply@example.com>"
# the password: OWNKEY_SMTP_PASSWORD, OWNKEY_SMTP_PASSWORD_FILE, or password_file = "smtp.password"

[events]
url = "https://app.example.com/hooks/ownkey"
# the secret, whsec_… (two, with a space between, while the host changes over):
# OWNKEY_EVENT_SECRETS, OWNKEY_EVENT_SECRETS_FILE, or secret_file = "events.secret"
```

`ownkey mail preview` shows every e-mail, `ownkey mail test ADDRESS` sends one now.

## Every notice
"""


def render() -> str:
    """The whole page."""
    waits = ", ".join(f"{wait} s" if wait < 60 else f"{wait // 60} min" for wait in FIRST_WAITS_S)
    place = Place("Acme", "Example", True, "https://app.example.com/settings/ai?open={flow}")
    lines = [HEAD.replace("WAITS", waits)]
    lines.append("| kind | event | when | once per | topic | can be muted |\n|---|---|---|---|---|---|")
    for kind in Kind:
        rule = RULES[kind]
        mute = "no e-mail" if kind in WITHOUT_MAIL else "yes" if rule.topic in MUTEABLE else "no"
        lines.append(f"| `{kind}` | `{rule.event}` | {rule.when} | {rule.once} | {rule.topic} | {mute} |")
    lines.append("\n## What they say, and what events carry\n\n| kind | subject | button leads to | fields of `data` |")
    lines.append("|---|---|---|---|")
    for kind in Kind:
        rule = RULES[kind]
        subject = write_notice(kind, SAMPLES[kind], place).subject
        fields = ", ".join(f"`{name}`" for name in rule.fields)
        lines.append(f"| `{kind}` | {subject} | `{rule.flow}` | {fields} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.stdout.write(render())
