"""The demo's purchase: the add-on is bought on the payment page as a browser would, and a later payment fails.

The card processor is played too. Its pages are reached by their own address; only its calendar and the state of a card
are set from behind.
"""

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ownkey.cli.problems import CliError

if TYPE_CHECKING:
    from ownkey.cli.demo import Caller, Stage

KEY = "sk_test_demo000000000001"
CARD = {"email": "ada@example.com", "card_number": "4242424242424242", "name": "Ada"}
MONTH_S = 31 * 86_400 + 7_200
RETRY_S = 4 * 86_400
WAIT_S = 20.0

Show = Callable[..., None]
"""Waits for e-mails of these subjects, and prints them."""


def open_till(stage: "Stage", secret: str) -> None:
    """Have the card processor tell this deployment what is paid."""
    _behind(stage, "endpoints", {"url": f"{stage.url}/manage/v1/webhooks/stripe", "secret": secret})


def buy_addon(stage: "Stage", caller: "Caller", show_mails: Show) -> None:
    """Not subscribed → Subscribe → the payment page → active."""
    base = f"workspaces/{caller.workspace}/billing"
    stage.scene("On the free plan the own key is an add-on: what it costs and needs is said before")
    before = stage.manage("GET", base)
    stage.say(f"  {before['sentence']}")
    stage.say(f"  {before['price']} a month, minimum balance {before['minimum_balance_credits']} credits, "
              f"yours is {before['balance_credits']}")
    step = stage.manage("POST", f"{base}/subscribe", {})
    again = stage.manage("POST", f"{base}/subscribe", {})
    same = "the same one" if again["url"] == step["url"] else "ANOTHER ONE"
    stage.say(f"  Subscribe leads to the payment page {step['url'].partition('?')[0]}; pressed twice, {same}")
    stage.scene("The card is entered there; the payment is confirmed, and the add-on is active")
    page = stage.http.get(step["url"])
    paid = stage.http.post(step["url"], data=CARD, follow_redirects=False)
    if page.status_code != 200 or "location" not in paid.headers:
        raise CliError(f"The payment page answered {paid.status_code}.", "This is a bug; please report it.")
    stage.say(f"  paid; the browser is sent back to {paid.headers['location']}")
    stage.say(f"  {_wait(stage, base, 'active')['sentence']}")
    show_mails(stage, caller, "add-on is active")


def miss_a_payment(stage: "Stage", caller: "Caller", show_mails: Show) -> None:
    """A month later the card is declined: days of grace; then it is paid after all."""
    base = f"workspaces/{caller.workspace}/billing"
    stage.scene("A month later the card is declined: days of grace, and calls go on")
    customer = next(
        s["customer"] for s in _behind(stage, "objects?kind=subscription")["objects"]
        if s["metadata"]["ownkey_workspace"] == caller.workspace
    )
    _behind(stage, "failing", {"customer": customer})
    _behind(stage, "clock", {"advance_s": MONTH_S})
    stage.say(f"  {_wait(stage, base, 'past_due')['sentence']}")
    show_mails(stage, caller, "payment for the OpenRouter add-on failed")
    caller.classify("explain_error")
    stage.scene("The card works again: the next try pays, and nothing has to be pasted anew")
    _behind(stage, "failing", {"customer": customer, "code": None})
    _behind(stage, "clock", {"advance_s": RETRY_S})
    stage.say(f"  {_wait(stage, base, 'active')['sentence']}")
    payments = _payments(stage, base, 2)
    stage.say(f"  paid so far: {', '.join(payment['price'] for payment in payments)}")


def _wait(stage: "Stage", base: str, state: str) -> dict[str, Any]:
    """Until the webhook has told it."""
    until = time.monotonic() + WAIT_S
    while True:
        found: dict[str, Any] = stage.manage("GET", base)
        if found["state"] == state:
            return found
        if time.monotonic() > until:
            raise CliError(f"The add-on is {found['state']} and should be {state}.", "This is a bug; please report it.")
        time.sleep(0.05)


def _payments(stage: "Stage", base: str, count: int) -> list[dict[str, Any]]:
    """What was paid, once so many payments are booked: their events come after the subscription's own."""
    until = time.monotonic() + WAIT_S
    while True:
        found: list[dict[str, Any]] = stage.manage("GET", f"{base}/payments")["payments"]
        if len(found) >= count:
            return found
        if time.monotonic() > until:
            raise CliError(f"{len(found)} of {count} payments are booked.", "This is a bug; please report it.")
        time.sleep(0.05)


def _behind(stage: "Stage", path: str, body: Any = None) -> Any:
    answer = stage.http.request("GET" if body is None else "POST", f"{stage.till}/_control/{path}", json=body)
    if answer.status_code != 200:
        raise CliError(f"{path} answered {answer.status_code}: {answer.text[:300]}", "This is a bug; please report it.")
    return answer.json()
