"""Every page and form of the console for those who are signed in, as data: who may, and whether with a fresh proof."""

from ownkey.console import (
    account,
    backups,
    billing,
    calls,
    developers,
    home,
    models,
    operators,
    plans,
    search,
    system,
    theme,
    why,
    workspace_acts,
    workspaces,
)
from ownkey.console.visit import ConsoleRoute

ROUTES: tuple[ConsoleRoute, ...] = (
    *home.ROUTES,
    *workspaces.ROUTES,
    *workspace_acts.ROUTES,
    *calls.ROUTES,
    *why.ROUTES,
    *models.ROUTES,
    *plans.ROUTES,
    *billing.ROUTES,
    *developers.ROUTES,
    *theme.ROUTES,
    *system.ROUTES,
    *backups.ROUTES,
    *operators.ROUTES,
    *search.ROUTES,
    *account.ACCOUNT_ROUTES,
)
