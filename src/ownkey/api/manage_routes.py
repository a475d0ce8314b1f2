"""The URL map of the management API, as data: every route with its right, its schemas and one line about it."""

from typing import Any

from ownkey.api import manage_backups as backups
from ownkey.api import manage_billing as billing
from ownkey.api import manage_figures as figures
from ownkey.api import manage_handlers as settings
from ownkey.api import manage_master_key as master_key
from ownkey.api import manage_operators as operators
from ownkey.api import manage_portal as portal
from ownkey.api import manage_schemas as out
from ownkey.api import manage_work as work
from ownkey.api.authorisation import Right, Subject
from ownkey.api.manage_call import Call, ManageRoute
from ownkey.api.openapi import describe_api

PREFIX = "/manage/v1"
_W = "/workspaces/{workspace}"
_READ, _MANAGE = Right.READ, Right.MANAGE


async def read_openapi(call: Call) -> dict[str, Any]:
    return describe_api(ROUTES, PREFIX)


def _credential_routes(base: str, subject: Subject, prefix: str, whose: str) -> tuple[ManageRoute, ...]:
    """The same routes for a workspace's credentials and for the platform's."""
    disable = Right.DISABLE if subject is Subject.CREDENTIALS else _MANAGE
    one = f"{base}/{{provider}}"
    incidents = f"{base.removesuffix('/credentials')}/incidents"
    return (
        ManageRoute("GET", incidents, f"list_{prefix}incidents", subject, _READ, settings.list_incidents,
                    f"Which of {whose} keys stopped working, since when and until when; newest first.",
                    out.IncidentsOut, query=out.LimitQuery),
        *_reading_routes(base.removesuffix("/credentials"), subject, prefix, whose),
        ManageRoute("GET", base, f"list_{prefix}credentials", subject, _READ, settings.list_credentials,
                    f"Cards of {whose} provider keys, and who pays now.", out.CredentialsOut),
        ManageRoute("PUT", one, f"put_{prefix}credential", subject, _MANAGE, settings.put_credential,
                    f"Save or replace one of {whose} provider keys; it is checked with the provider first.",
                    out.CredentialSaved, out.CredentialPut),
        ManageRoute("POST", f"{one}/test", f"test_{prefix}credential", subject, _MANAGE, settings.run_key_test,
                    "Test the typed key, or the saved one: a live call, nothing stored, with a receipt.",
                    out.TestOut, out.CredentialTest),
        ManageRoute("POST", f"{one}/enable", f"enable_{prefix}credential", subject, _MANAGE,
                    settings.enable_credential, "Use the kept key again.", out.CredentialChanged, out.Nothing),
        ManageRoute("POST", f"{one}/disable", f"disable_{prefix}credential", subject, disable,
                    settings.disable_credential, "Keep the key encrypted and do not use it.", out.CredentialChanged,
                    out.CredentialDisable),
        ManageRoute("DELETE", one, f"delete_{prefix}credential", subject, _MANAGE, settings.delete_credential,
                    "Disconnect: destroy the key. Cannot be undone.", out.CredentialChanged,
                    query=out.DisconnectQuery),
    )


def _reading_routes(base: str, subject: Subject, prefix: str, whose: str) -> tuple[ManageRoute, ...]:
    """OpenRouter's own figures for a key, beside what is booked on it."""
    return (
        ManageRoute("POST", f"{base}/reconcile", f"reconcile_{prefix}key", subject, _READ, settings.reconcile_key,
                    f"Ask OpenRouter what {whose} key has used, and compare its growth with the books.",
                    out.KeyReadingOut, out.Nothing),
        ManageRoute("GET", f"{base}/key-readings", f"list_{prefix}key_readings", subject, _READ,
                    settings.list_key_readings,
                    f"Readings of {whose} OpenRouter key and what came of each comparison; newest first.",
                    out.KeyReadingsOut, query=out.LimitQuery),
        ManageRoute("POST", f"{base}/key-readings/{{reading}}/accept", f"accept_{prefix}key_reading",
                    Subject.DEPLOYMENT, _MANAGE, settings.accept_key_reading,
                    "Say why a drift stands: verify is quiet about it from then on.", out.KeyReadingOut,
                    out.ReadingAccepted),
    )


def _connect_routes(base: str, subject: Subject, prefix: str, whose: str) -> tuple[ManageRoute, ...]:
    """Fetching the OpenRouter key by signing in there, instead of pasting it."""
    return (
        ManageRoute("POST", f"{base}/connect/openrouter", f"start_{prefix}connect", subject, _MANAGE,
                    settings.start_connect, f"Begin to connect {whose} OpenRouter account: the address to open.",
                    out.ConnectStarted, out.ConnectStart, status=201, shows_once="authorization_url"),
        ManageRoute("POST", f"{base}/connect/openrouter/finish", f"finish_{prefix}connect", subject, _MANAGE,
                    settings.finish_connect,
                    "Turn the code that OpenRouter sent into a saved and tested key; works once, for ten minutes.",
                    out.ConnectFinished, out.ConnectFinish),
    )


ROUTES: tuple[ManageRoute, ...] = (
    # workspaces
    ManageRoute("POST", "/workspaces", "create_workspace", Subject.PROFILE, _MANAGE, settings.create_workspace,
                "Create a workspace, with its first entitlement and its plan's credits.", out.WorkspaceOut,
                out.WorkspaceNew, status=201),
    ManageRoute("GET", "/workspaces", "list_workspaces", Subject.PROFILE, _READ, settings.list_workspaces,
                "All workspaces, oldest first.", out.WorkspacesOut, query=out.PageQuery),
    ManageRoute("GET", _W, "read_workspace", Subject.PROFILE, _READ, settings.read_workspace,
                "One workspace, by id or by your own id.", out.WorkspaceOut),
    ManageRoute("PATCH", _W, "change_workspace", Subject.PROFILE, _READ, settings.change_workspace,
                "Change settings; every field needs its own right.", out.WorkspaceOut, out.WorkspaceChange),
    ManageRoute("DELETE", _W, "delete_workspace", Subject.WHOLE_WORKSPACE, _MANAGE, settings.delete_workspace,
                "Destroy the workspace's keys; receipts and ledger stay.", out.Done),
    ManageRoute("PUT", f"{_W}/entitlement", "put_entitlement", Subject.ADDON, Right.COMP, settings.put_entitlement,
                "Set the entitlement by hand.", out.EntitlementOut, out.EntitlementPut),
    # people
    ManageRoute("GET", f"{_W}/members", "list_members", Subject.PROFILE, _READ, settings.list_members,
                "People who get alerts.", out.MembersOut),
    ManageRoute("PUT", f"{_W}/members/{{member}}", "put_member", Subject.PROFILE, _MANAGE, settings.put_member,
                "Add or change a member.", out.MemberOut, out.MemberPut),
    ManageRoute("DELETE", f"{_W}/members/{{member}}", "delete_member", Subject.PROFILE, _MANAGE,
                settings.delete_member, "Remove a member.", out.Done),
    ManageRoute("GET", f"{_W}/projects", "list_projects", Subject.PROFILE, _READ, settings.list_projects,
                "Projects by which calls are grouped.", out.ProjectsOut),
    ManageRoute("PUT", f"{_W}/projects/{{project}}", "put_project", Subject.PROFILE, _MANAGE, settings.put_project,
                "Name a project.", out.ProjectOut, out.ProjectPut),
    # tokens
    ManageRoute("POST", f"{_W}/tokens", "create_token", Subject.WORKSPACE_TOKENS, _MANAGE, settings.create_token,
                "Mint a workspace token; it is shown this once.", out.TokenShown, out.TokenNew, status=201,
                shows_once="token"),
    ManageRoute("GET", f"{_W}/tokens", "list_tokens", Subject.WORKSPACE_TOKENS, _READ, settings.list_tokens,
                "The workspace's tokens, without their secrets.", out.TokensOut),
    ManageRoute("DELETE", f"{_W}/tokens/{{token}}", "revoke_token", Subject.WORKSPACE_TOKENS, Right.REVOKE,
                settings.revoke_token, "Revoke a token for good.", out.Done),
    ManageRoute("POST", "/service-tokens", "create_service_token", Subject.DEPLOYMENT, _MANAGE,
                settings.create_service_token, "Mint a service token; it is shown this once.", out.TokenShown,
                out.TokenNew, status=201, shows_once="token"),
    ManageRoute("GET", "/service-tokens", "list_service_tokens", Subject.DEPLOYMENT, _READ,
                settings.list_service_tokens, "Service tokens, without their secrets.", out.TokensOut),
    ManageRoute("DELETE", "/service-tokens/{token}", "revoke_service_token", Subject.DEPLOYMENT, Right.REVOKE,
                settings.revoke_service_token, "Revoke a service token for good.", out.Done),
    # visits to the pages
    ManageRoute("POST", f"{_W}/portal-sessions", "mint_portal_session", Subject.PORTAL_SESSIONS, _MANAGE,
                portal.mint_session, "A link to the pages for one of your people; it opens once, within a minute.",
                out.PortalLink, out.PortalSessionNew, status=201, shows_once="url code"),
    ManageRoute("POST", f"{_W}/portal-sessions/view-as", "view_as_workspace", Subject.PORTAL_SESSIONS, Right.VIEW_AS,
                portal.view_as, "A link for an operator to look as the owner does, and to change nothing.",
                out.PortalLink, out.Nothing, status=201, shows_once="url code"),
    ManageRoute("GET", f"{_W}/portal-sessions", "list_portal_sessions", Subject.PORTAL_SESSIONS, _READ,
                portal.list_sessions, "Sessions that live, and links that can still be opened.",
                out.PortalSessionsOut),
    ManageRoute("DELETE", f"{_W}/portal-sessions/{{session}}", "revoke_portal_session", Subject.PORTAL_SESSIONS,
                Right.REVOKE, portal.revoke_session, "End a session, or withdraw a link, at once.", out.Done),
    ManageRoute("DELETE", f"{_W}/portal-sessions", "revoke_member_sessions", Subject.PORTAL_SESSIONS, Right.REVOKE,
                portal.revoke_member, "End all sessions and links of a person at once.", out.SessionsEnded,
                query=out.MemberQuery),
    # credentials
    *_credential_routes(f"{_W}/credentials", Subject.CREDENTIALS, "", "the workspace's"),
    *_connect_routes(_W, Subject.CREDENTIALS, "", "the workspace's"),
    *_credential_routes("/platform/credentials", Subject.DEPLOYMENT, "platform_", "the platform's"),
    *_connect_routes("/platform", Subject.DEPLOYMENT, "platform_", "the platform's"),
    # tasks and caps
    ManageRoute("GET", f"{_W}/features", "list_features", Subject.TASK_SWITCHES, _READ, figures.list_features,
                "Tasks with their switches and settings.", out.FeaturesOut),
    ManageRoute("PUT", f"{_W}/features/{{task}}", "put_feature", Subject.TASK_SWITCHES, _MANAGE,
                figures.put_feature, "Switch a task on or off, or set its knobs.", out.FeatureOut, out.FeaturePut),
    ManageRoute("GET", f"{_W}/cap", "read_cap", Subject.CAP, _READ, figures.read_cap,
                "The monthly spend cap and where it stands.", out.CapOut),
    ManageRoute("PUT", f"{_W}/cap", "put_cap", Subject.CAP, _MANAGE, figures.put_cap,
                "Set the cap: null is none, \"0\" is no AI; it counts at once.", out.CapOut, out.CapPut),
    ManageRoute("GET", f"{_W}/alerts", "list_alerts", Subject.CAP, _READ, figures.list_alerts,
                "Spend alerts that were due.", out.RowsOut),
    ManageRoute("GET", f"{_W}/outbox", "list_outbox", Subject.CAP, _READ, figures.list_outbox,
                "E-mails and events of this workspace, sent or waiting.", out.RowsOut, query=out.OutboxQuery),
    ManageRoute("GET", f"{_W}/audit", "list_audit", Subject.AUDIT, _READ, figures.list_audit,
                "Who changed what, when.", out.RowsOut, query=out.LimitQuery),
    ManageRoute("GET", "/audit", "list_deployment_audit", Subject.DEPLOYMENT, _READ, figures.list_audit,
                "The deployment's own audit log.", out.RowsOut, query=out.LimitQuery),
    # credits
    ManageRoute("GET", f"{_W}/credits", "read_credits", Subject.CREDITS, _READ, figures.read_credits,
                "The credit balance.", out.CreditsOut),
    ManageRoute("POST", f"{_W}/credits/grants", "grant_credits", Subject.DEPLOYMENT, _MANAGE,
                figures.grant_credits, "Grant credits; with an Idempotency-Key exactly once.", out.CreditsOut,
                out.GrantNew, status=201),
    ManageRoute("GET", f"{_W}/credits/ledger", "read_ledger", Subject.CREDITS, _READ, figures.read_ledger,
                "Ledger entries, newest first.", out.RowsOut, query=out.LimitQuery),
    # plans, the add-on, payments
    ManageRoute("GET", "/pricing", "read_pricing", Subject.PRODUCT, _READ, billing.read_pricing,
                "What is sold: plans, the add-on, packs of credits.", out.PricingOut),
    ManageRoute("GET", f"{_W}/billing", "read_billing", Subject.ADDON, _READ, billing.read_billing,
                "Where the add-on stands, and what comes next.", out.BillingOut),
    ManageRoute("POST", f"{_W}/billing/subscribe", "subscribe", Subject.PAYING, _MANAGE, billing.subscribe,
                "Buy the add-on: the payment page, the same one for whoever asks again.", out.PayStepOut,
                out.Subscribe),
    ManageRoute("POST", f"{_W}/billing/confirm", "confirm_payment", Subject.PAYING, _MANAGE, billing.confirm,
                "The return page: ask Stripe what became of the payment, and book it.", out.BillingOut, out.Nothing),
    ManageRoute("POST", f"{_W}/billing/manage", "manage_billing", Subject.PAYING, _MANAGE, billing.manage,
                "Stripe's own page for the card, invoices and cancelling.", out.ManageOut, out.Subscribe),
    ManageRoute("POST", f"{_W}/billing/cancel", "cancel_addon", Subject.PAYING, _MANAGE, billing.cancel,
                "No renewal: the add-on works to the end of what is paid.", out.BillingOut, out.Nothing),
    ManageRoute("POST", f"{_W}/billing/keep", "keep_addon", Subject.PAYING, _MANAGE, billing.keep,
                "Undo a cancellation while the paid period runs.", out.BillingOut, out.Nothing),
    ManageRoute("POST", f"{_W}/billing/topup", "top_up", Subject.PAYING, _MANAGE, billing.top_up,
                "Buy a pack of credits: the payment page.", out.PayStepOut, out.TopUp),
    ManageRoute("GET", f"{_W}/billing/payments", "list_payments", Subject.ADDON, _READ, billing.list_payments,
                "What was paid by card, newest first.", out.PaymentsOut, query=out.LimitQuery),
    ManageRoute("GET", "/billing/events", "list_payment_events", Subject.DEPLOYMENT, _READ, billing.list_events,
                "Stripe's events: processed, ignored, quarantined, failed, or brought more than once.",
                out.PaymentEventsOut, query=out.EventQuery),
    ManageRoute("POST", "/billing/events/{event}/retry", "retry_payment_event", Subject.DEPLOYMENT, _MANAGE,
                billing.retry_event, "Work on a failed or quarantined event once more.", out.EventRetried,
                out.Nothing),
    ManageRoute("POST", "/billing/reconcile", "reconcile_billing", Subject.DEPLOYMENT, _MANAGE, billing.reconcile,
                "Ask Stripe for whatever no webhook has brought.", out.ReconciledOut, out.Nothing),
    # receipts
    ManageRoute("GET", f"{_W}/receipts", "list_receipts", Subject.RECEIPTS, _READ, figures.list_receipts,
                "Receipts, newest first, filtered.", out.ReceiptsOut, query=out.ReceiptQuery),
    ManageRoute("GET", f"{_W}/receipts/{{receipt}}", "read_receipt", Subject.RECEIPTS, _READ,
                figures.read_receipt, "One receipt, whole.", dict[str, Any]),
    ManageRoute("GET", f"{_W}/receipts/{{receipt}}/why", "explain_receipt", Subject.RECEIPTS, _READ,
                figures.explain_receipt, "Who paid and why, in one or two sentences.", out.WhyOut),
    ManageRoute("GET", f"{_W}/spend", "read_spend", Subject.RECEIPTS, _READ, figures.read_spend,
                "A month's spend by task, model, provider, conversation, project, day or basis.", out.SpendOut,
                query=out.SpendQuery),
    ManageRoute("GET", f"{_W}/conversations/{{conversation}}/meter", "read_meter", Subject.RECEIPTS, _READ,
                figures.read_meter, "A conversation's running cost.", out.MeterOut),
    *work.ROUTES,
    ManageRoute("GET", f"{_W}/status", "read_status", Subject.AI_STATE, _READ, figures.read_status,
                "Whether AI is on, who pays now, and what to do if nobody can.", out.StatusOut),
    # the deployment
    ManageRoute("GET", "/outbox", "list_all_outbox", Subject.DEPLOYMENT, _READ, figures.list_all_outbox,
                "E-mails and events of all workspaces, and which channels are in use.", out.OutboxOut,
                query=out.OutboxQuery),
    ManageRoute("POST", "/outbox/{row}/retry", "retry_outbox", Subject.DEPLOYMENT, _MANAGE, figures.retry_outbox,
                "Try a message again that failed or was skipped.", out.Done, out.Nothing),
    *operators.ROUTES,
    *master_key.ROUTES,
    *backups.ROUTES,
    ManageRoute("GET", "/prices", "read_prices", Subject.DEPLOYMENT, _READ, figures.read_prices,
                "The price version in force.", out.PricesOut),
    ManageRoute("PUT", "/prices", "put_prices", Subject.DEPLOYMENT, _MANAGE, figures.put_prices,
                "Override prices: a whole new version, activated at once.", out.PricesOut, out.PricesPut),
    ManageRoute("POST", "/verify", "verify", Subject.DEPLOYMENT, _MANAGE, figures.verify,
                "Recompute every counter from rows and compare.", out.VerifyOut, out.Nothing),
    ManageRoute("GET", "/product", "read_product", Subject.PRODUCT, _READ, figures.read_product,
                "The product's rules: who can pay, tasks, plans.", out.ProductOut),
    ManageRoute("GET", "/openapi.json", "read_openapi", Subject.PRODUCT, _READ, read_openapi,
                "This API, described.", dict[str, Any]),
)
