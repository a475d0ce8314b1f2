"""Test clocks: time of their own for the customers made with them. Advancing takes a while; then all is done."""

from .billing import run_due
from .calendars import boundary
from .form import Form
from .lists import page, where
from .refusals import Json, Refusal, invalid
from .subscriptions import ENDED
from .world import World

_KIND = "test_helpers.test_clock"


def create(world: World, form: Form) -> Json:
    """POST /v1/test_helpers/test_clocks."""
    frozen = form.integer("frozen_time", least=0)
    if frozen is None:
        raise invalid("Missing required param: frozen_time.", "frozen_time", "parameter_missing")
    name = form.text("name") or None
    form.close()
    if world.settings.livemode:
        raise invalid("Test clocks exist in test mode only.")
    now = world.now()
    made = world.make(_KIND, world.new_id("clock_1"), now, frozen_time=frozen, name=name, status="ready",
                      deletes_after=now + 30 * 86_400, status_details={})  # fmt: skip
    world.emit("test_helpers.test_clock.created", made)
    return made


def advance(world: World, form: Form, ident: str) -> Json:
    """POST /v1/test_helpers/test_clocks/:id/advance: answers at once, `ready` comes later."""
    clock = world.get(_KIND, ident, in_path=True)
    target = form.integer("frozen_time")
    if target is None:
        raise invalid("Missing required param: frozen_time.", "frozen_time", "parameter_missing")
    form.close()
    if clock["status"] != "ready":
        raise Refusal(400, "invalid_request_error", "The test clock is already advancing.", code="test_clock_not_ready")
    if target <= clock["frozen_time"]:
        raise invalid("The frozen_time must be after the clock's current frozen_time.", "frozen_time")
    if world.settings.two_intervals:
        _refuse_too_far(world, clock, target)
    clock |= {"status": "advancing", "status_details": {"advancing": {"target_frozen_time": target}}}
    world.emit("test_helpers.test_clock.advancing", clock)
    world.later(world.settings.advance_s, lambda: _arrive(world, clock, target))
    return clock


def _refuse_too_far(world: World, clock: Json, target: int) -> None:
    """Two periods of the shortest subscription, or two years without any, are the furthest."""
    limits = [boundary(clock["frozen_time"], "year", 1, 2)]
    for sub in where(world.every("subscription"), test_clock=clock["id"]):
        if sub["status"] not in ENDED:
            recurring = sub["items"]["data"][0]["price"]["recurring"]
            limits.append(boundary(clock["frozen_time"], recurring["interval"], recurring["interval_count"], 2))
    if target > min(limits):
        raise invalid(
            "Cannot advance the test clock more than two intervals of its shortest subscription at once.", "frozen_time"
        )


def _arrive(world: World, clock: Json, target: int) -> None:
    if world.find(_KIND, clock["id"]) is not clock:
        return  # deleted meanwhile; after a reset another clock may even have its id
    try:
        run_due(world, clock["id"], target)
    except Exception:
        clock |= {"status": "internal_failure", "status_details": {}}
        world.emit("test_helpers.test_clock.internal_failure", clock)
        raise
    clock |= {"frozen_time": target, "status": "ready", "status_details": {}}
    world.emit("test_helpers.test_clock.ready", clock)


def delete(world: World, form: Form, ident: str) -> Json:
    """DELETE /v1/test_helpers/test_clocks/:id, with its customers and subscriptions."""
    clock = world.get(_KIND, ident, in_path=True)
    form.close()
    for kind in ("subscription", "customer"):
        for thing in where(world.every(kind), test_clock=ident):
            world.drop(kind, thing["id"])
            world.hidden(thing["id"])["deleted"] = True
    for invoice in where(world.every("invoice"), test_clock=ident):
        world.drop("invoice", invoice["id"])
    world.drop(_KIND, ident)
    world.emit("test_helpers.test_clock.deleted", clock)
    return {"id": ident, "object": _KIND, "deleted": True}


def list_all(world: World, form: Form) -> Json:
    """GET /v1/test_helpers/test_clocks."""
    return page(world.every(_KIND), form, "/v1/test_helpers/test_clocks")
