"""The first ownkey.toml: every setting that a product changes, with its meaning, and the preset's own values.

What is a comment shows the default; removing the `#` changes nothing until the value is changed.
"""

from ownkey.domain.product import PROVIDERS
from ownkey.settings.product import ORIGINS, PRESETS, HttpLimits, SettingsError, preset_pages

_HEAD = """\
# ownkey.toml: what this Ownkey serves, and by which rules. A change needs a restart.
# `ownkey doctor` checks it. Lines with a # in front show defaults.

# The rules it starts from; everything below is laid over the preset, key by key.
preset = "{preset}"

[product]
name = "{name}"
# Where a refusal sends people to fix it: a page of your product. {{flow}} becomes the name of the page's part,
# such as "credential:openrouter", "cap", "credits" or "addon".
entry_url = "{entry_url}"
"""

_SUPPORT_DESK = """
# Providers whose keys customers may add beside the OpenRouter key; they are tried first and save OpenRouter's fee.
# direct_providers = ["anthropic", "openai", "google"]

# Providers whose embeddings go direct as well: only where both routes give the same vectors.
# direct_embeddings = ["openai"]

# What the product's AI does. A task's models are OpenRouter slugs, in order of preference. A task of the preset is
# changed by naming it:
# [tasks.draft_reply]
# models = ["anthropic/claude-sonnet-4.5", "openai/gpt-4.1", "google/gemini-2.5-flash"]
#
# A new task needs its own models:
# [tasks.summarize]
# title = "Summaries"
# endpoint = "chat"            # or "embeddings"
# models = ["openai/gpt-4.1-mini"]
# default_on = true            # the switch's first position
# max_output_tokens = 1024     # where the caller gives no limit
# stream = "live"              # or "whole": streams are gathered first, so that a broken one can be replaced
# settings = { threshold = 85 }
"""

_APP_BUILDER = """
# How long calls with an own key go on after a plan that includes them was left.
# grace_days = 3

# [credits]
# price_usd = "0.01"           # what one credit is worth; amounts in US dollars are text
# markup_bps = 2000            # on the provider's bill: 2000 is 20%
# if_key_fails = true          # new workspaces use credits if their own key fails
# if_key_fails_limit = 500     # credits a month for that

# A plan of the preset is changed, or a new one made, by naming it:
# [plans.free]
# byok = "addon"               # or "included"
# grant_credits = 50           # once
# minimum_balance_credits = 10 # that calls with the customer's own key need
# cycle_credits = 1000         # each month while the workspace is on this plan
# cycle_rollover = true        # false: they expire with their month

# Selling the add-on. Paid by card it needs OWNKEY_STRIPE_KEY and OWNKEY_STRIPE_WEBHOOK_SECRETS (docs/billing.md).
# [billing]
# rail = "card"                # or "credits" (deducted monthly), or "host" (you sell it yourself)
# addon_cents = 500            # a month, in `currency`
# addon_credits = 500          # a month, where rail = "credits"
# currency = "usd"
# return_urls = ["https://app.example.com/billing"]  # where people come back to after paying
# host_url = "https://app.example.com/plans"         # where rail = "host"
# [billing.packs.small]        # credits that people can buy; as many packs as you like
# credits = 1000
# cents = 1000

# A task's models are OpenRouter slugs, in order of preference:
# [tasks.build_app]
# models = ["anthropic/claude-sonnet-4.5", "openai/gpt-5", "google/gemini-2.5-pro"]
# max_output_tokens = 32768    # where the caller gives no limit
"""

_TAIL = """
[server]
host = "127.0.0.1"
port = 8787
# Relative paths are relative to this file.
data_dir = "data"
# Host headers that are answered; none listed: any.
# allowed_hosts = ["ownkey.example.com"]
# The networks of your reverse proxies: their X-Forwarded-For is believed, nobody else's.
# proxies = ["10.0.0.0/8"]
# How long calls in flight may go on after a SIGTERM; then they are ended and settled.
# shutdown_s = 300.0

# [spend]
# default_threshold = 80       # percent of the cap at which the first alert goes out
# shrink_to_fit = true         # lower a call's output limit to what still fits under the cap
# min_output_tokens = 256      # but never below this
# busy_wait_s = 2.0            # how long a call waits for others' holds to end

# [routing]
# deadline_s = 120.0
# max_attempts = 4
# first_content_s = 12.0
# stall_s = 20.0
# direct_retries = 0           # second tries of a direct route, before OpenRouter is asked
# last_route_retries = 1       # second tries of the last route
# retry_wait_max_s = 2.0       # how long a stated Retry-After is waited for where no other route can answer,
# retry_wait_with_route_s = 0.5 # and where one can
# hidden_reasoning_s = 45.0    # more patience for models that think before they write
# keepalive_after_s = 15.0     # a stream that is still silent then gets its head, and comments from then on

# [attribution]
# url = "https://www.example.com"
# title = "Example"

# Connecting OpenRouter by signing in there, instead of pasting a key.
# [connect]
# public_url = "https://ownkey.example.com"     # where browsers reach this server
# return_urls = ["https://app.example.com/settings/ai"]  # pages of your product that they may be sent back to

# The pages of your customers' people, as a link or framed in your product (docs/portal.md).
# [portal]
# pages = [{pages}]
# origins = ["https://app.example.com"]         # sites that may frame them, exactly; needed for frames
# refresh_urls = ["https://app.example.com/ownkey/session"]  # where a frame asks your backend for its next session
# return_urls = ["https://app.example.com/settings/ai"]      # beside those of [connect]
# session_s = 900              # how long a visit lasts, unless your backend asks for less or more
# session_most_s = 3600        # the most that it may ask for
# logo_text = "Example AI"
# support_url = "https://help.example.com"
# [portal.theme]               # your shadcn theme: #hex, rgb(), hsl() or oklch() with plain numbers
# radius = "0.5rem"
# [portal.theme.light]
# primary = "oklch(0.55 0.2 260)"
# primary-foreground = "#ffffff"
# [portal.theme.dark]
# primary = "oklch(0.75 0.15 260)"
# primary-foreground = "oklch(0.2 0 0)"
# [portal.words]               # your own wording, by the text that it replaces
# "API Keys" = "AI keys"

# The operators' own pages, at /console (docs/console.md). The first operator: ownkey operator add you@example.com
# [console]
# on = true
# idle_s = 1800                # a visit ends after so many seconds without use,
# session_s = 43200            # and after so many in any case
# [console.oidc]               # sign in through your own provider instead; needs connect.public_url
# issuer = "https://login.example.com"
# client_id = "ownkey"
# ops = ["ada@example.com"]    # addresses, or domains ("@example.com"); roles are given here only
# support = ["@example.com"]
# origins = []                 # where else the provider answers, such as "https://oauth2.googleapis.com"
# client_secret_file = "oidc.secret"   # or OWNKEY_OIDC_CLIENT_SECRET

# Who hears of caps, keys and payments. Without a mail server, and without an endpoint, messages are kept as
# skipped (`ownkey outbox`). Secrets stand in the environment or in a file of their own, never here.
# [mail]
# host = "smtp.example.com"
# port = 587
# tls = "starttls"             # or "implicit" (port 465); "none" on loopback only
# user = "ownkey"
# from = "Example AI <no-reply@example.com>"
# password_file = "smtp.password"  # or OWNKEY_SMTP_PASSWORD
#
# [events]                     # signed as Standard Webhooks says
# url = "https://app.example.com/hooks/ownkey"
# secret_file = "events.secret"    # whsec_…; or OWNKEY_EVENT_SECRETS

# [backup]                     # `ownkey backup`; docs/backup.md
# dir = "backups"              # default: backups in the data folder
# keep = 3                     # beside the newest before an upgrade
# every_hours = 24             # 0: none is made by itself
# before_upgrade = true        # a copy before the database is brought to a newer schema

# [prices]
# sync = true                  # read OpenRouter's public price list at start and daily
# sync_interval_s = 86400
# Your own price of a model, in US dollars per million tokens; it wins over every list.
# [[prices.override]]
# provider = "openrouter"
# model = "example/model"
# input_usd = "0.50"
# output_usd = "1.50"

# What a provider calls a model, where the rule would not find it; "" means OpenRouter only.
# [model_ids.anthropic]
# "anthropic/claude-example-9" = "claude-example-9-preview"
"""


def write_config_text(preset: str) -> str:
    """The commented ownkey.toml that `ownkey init` writes for a preset."""
    if preset not in PRESETS:
        raise SettingsError(f"There is no preset {preset!r}; there are {' and '.join(PRESETS)}.")
    desk = preset == "support-desk"
    page = "settings/ai" if desk else "settings/integrations/openrouter"
    head = _HEAD.format(
        preset=preset,
        name="Support desk" if desk else "App builder",
        entry_url=f"https://app.example.com/{page}?open={{flow}}",
    )
    return head + (_SUPPORT_DESK if desk else _APP_BUILDER) + _tail(preset) + _origins() + _limits()


def _tail(preset: str) -> str:
    return _TAIL.replace("{pages}", ", ".join(f'"{page}"' for page in preset_pages(preset)))


def _origins() -> str:
    lines = [f'# {provider} = "{ORIGINS[provider]}"' for provider in PROVIDERS]
    return "\n# Where keys are sent. Only this file can change it.\n# [origins]\n" + "\n".join(lines) + "\n"


def _limits() -> str:
    usual = HttpLimits()
    return (
        "\n# [limits]\n"
        f"# body_bytes = {usual.body_bytes}\n# in_flight = {usual.in_flight}\n"
        f"# in_flight_per_workspace = {usual.in_flight_per_workspace}\n"
        f"# response_bytes = {usual.response_bytes}\n# client_stall_s = {usual.client_stall_s}\n"
    )
