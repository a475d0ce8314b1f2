"""Links to the calls behind a figure."""

from urllib.parse import urlencode

from ownkey.domain.portal import Page
from ownkey.domain.scrub import scrub
from ownkey.portal.visit import Visit


def activity_url(visit: Visit, **filters: str) -> str:
    """Activity with these filters; "" where this visit has no such page, or where a value must not stand in an address:
    a label of the host's may hold a credential, and addresses are kept in histories."""
    if not visit.may_see(Page.ACTIVITY) or not all(map(is_clean, filters.values())):
        return ""
    return f"/portal/activity?{urlencode(filters)}"


def is_clean(text: str) -> bool:
    """Whether a text may be shown as it is, in an address or an attribute."""
    return scrub(text)[0] == text
