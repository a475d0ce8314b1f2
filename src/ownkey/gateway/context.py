"""A call as JSON text, kept on its first hold: enough for a receipt if this process dies in the middle."""

import msgspec

from ownkey.gateway.calls import CallLog


def encode_context(log: CallLog) -> str:
    """Keys are those of the receipt. No prompt, no key, no secret."""
    request, call, plan = log.request, log.call, log.plan
    assert call is not None
    assert plan is not None
    return msgspec.json.encode({
        "id": log.id,
        "at_ms": log.at_ms,
        "token_id": request.principal.token_id,
        "endpoint": request.endpoint,
        "dialect": request.dialect.name,
        "task": None if plan.task is None else plan.task.name,
        "requested_model": call.model[:200],
        "stream": call.stream,
        "project": request.project and request.project[:200],
        "conversation": request.conversation and request.conversation[:200],
        "member": request.member and request.member[:200],
        "row": plan.decision.row,
    }).decode()
