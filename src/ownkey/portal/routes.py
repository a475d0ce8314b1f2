"""Every page and form of the portal, as data: method, address, page, and the least sight that it needs."""

from ownkey.portal import (
    activity,
    cap,
    credential_changes,
    credential_forms,
    credentials,
    explain,
    exports,
    features,
    notices,
    plans,
    projects,
    receipts,
    replay,
    spend,
    statement,
    why,
    workspace_data,
)
from ownkey.portal.visit import PortalRoute

ROUTES: tuple[PortalRoute, ...] = (
    *activity.ROUTES,
    *cap.ROUTES,
    *credential_changes.ROUTES,
    *credential_forms.ROUTES,
    *credentials.ROUTES,
    *explain.ROUTES,
    *exports.ROUTES,
    *features.ROUTES,
    *notices.ROUTES,
    *plans.ROUTES,
    *projects.ROUTES,
    *receipts.ROUTES,
    *replay.ROUTES,
    *spend.ROUTES,
    *statement.ROUTES,
    *why.ROUTES,
    *workspace_data.ROUTES,
)
