"""The hold: room for one attempt, taken before its first byte leaves, or a refusal with the figures that made it.

One conditional update decides, inside the writer's transaction; the domain says what its failure means.
"""

from ownkey.domain.booking import CapFigures, HoldGranted, HoldRefused, HoldRequest
from ownkey.domain.bounds import Terms
from ownkey.domain.caps import CapAnswer, PauseReason, PeriodRow, decide_refusal
from ownkey.domain.ledger import fundable_nusd, hold_credits
from ownkey.domain.money import MAX_NUSD, AmountError
from ownkey.domain.product import CreditRules
from ownkey.domain.refusals import Code
from ownkey.domain.routing import Funding
from ownkey.store.connection import Connection
from ownkey.store.notices import announce_step_in
from ownkey.store.periods import ensure_period, figures_of, load_period, pause, save_alerts

_RESERVE = """
UPDATE cap_period SET held_nusd = held_nusd + :bound
WHERE id = :period AND workspace_id = :workspace AND (state = 'active' OR :probe)
  AND (cap_nusd IS NULL OR :bound <= cap_nusd - spent_nusd - held_nusd - leased_nusd)
RETURNING period_key, cap_nusd, spent_nusd, held_nusd + leased_nusd, ends_at_ms, state = 'paused'
"""
_RESERVE_CREDITS = """
UPDATE wallet SET held_credits = held_credits + :credits
WHERE workspace_id = :workspace AND :credits <= balance_credits - held_credits
  AND (SELECT always_use_key FROM workspace WHERE id = :workspace) = 0
  AND (:probe OR (SELECT state FROM cap_period WHERE id = :period AND workspace_id = :workspace) = 'active')
"""
_INSERT = """
INSERT INTO hold(id, workspace_id, call_id, attempt, funding, period_id, bound_nusd, bound_credits, priced,
  price_version, credit_price_nusd, markup_bps, key_period, after_audit, boot_id, created_at_ms, expires_at_ms, context)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
"""
_CREDIT_STATE = """
SELECT w.always_use_key, w.credits_if_key_fails, w.credits_if_key_fails_limit,
  coalesce(m.balance_credits, 0) - coalesce(m.held_credits, 0), coalesce(a.n, 0)
FROM workspace w LEFT JOIN wallet m ON m.workspace_id = w.id LEFT JOIN audit_head a ON a.workspace_id = w.id
WHERE w.id = ?
"""
_KEY_USED = "SELECT used_credits + held_credits FROM key_failure_limit WHERE workspace_id = ? AND period_key = ?"
_KEY_HOLD = """
INSERT INTO key_failure_limit(workspace_id, period_key, limit_credits, held_credits) VALUES (?, ?, ?, ?)
ON CONFLICT DO UPDATE SET limit_credits = excluded.limit_credits, held_credits = held_credits + excluded.held_credits
"""

_NO_RULES = CreditRules(0, 0)


def take_hold(conn: Connection, request: HoldRequest) -> HoldGranted | HoldRefused:
    """Admit one attempt or refuse it; either way nothing but this transaction has moved."""
    period_id = ensure_period(conn, request.workspace_id, request.at_ms, request.timezone)
    if request.funding is Funding.CREDITS:
        return _take_credits(conn, request, period_id)
    terms = request.terms
    if terms is None:
        return _take_unpriced(conn, request, period_id)
    limit = terms.output_limit
    bound = terms.bound_nusd(limit)
    cap = _reserve(conn, request, period_id, bound)
    if cap is None:
        row = load_period(conn, request.workspace_id, period_id)
        fitting = _fit(terms, row) if request.shrink and (row.paused is None or request.probe) else None
        if fitting is None:
            return _refuse(conn, request, row, smallest_bound(terms, request.shrink))
        limit, bound = fitting, terms.bound_nusd(fitting)
        cap = _reserve(conn, request, period_id, bound)
        assert cap is not None, "nothing else writes in this transaction"
    _insert(conn, request, period_id=period_id, bound_nusd=bound)
    return HoldGranted(request.hold_id, bound, 0, limit, limit < terms.output_limit, cap)


def _fit(terms: Terms, row: PeriodRow) -> int | None:
    """The largest output limit that still fits. Nothing fits, not even a free call, while a lowered cap is below
    what was admitted under the old one."""
    if row.cap_nusd is None:
        return None
    left = row.cap_nusd - row.spent_nusd - row.held_nusd - row.leased_nusd
    return None if left < 0 else terms.fit(left)


def smallest_bound(terms: Terms, shrink: bool) -> int:
    """What the attempt needs at the least."""
    return terms.bound_nusd(terms.min_output if shrink else terms.output_limit)


def _reserve(conn: Connection, request: HoldRequest, period_id: int, bound_nusd: int) -> CapFigures | None:
    if bound_nusd > MAX_NUSD:
        return None
    found = conn.execute(_RESERVE, {
        "bound": bound_nusd, "period": period_id, "workspace": request.workspace_id, "probe": request.probe,
    }).fetchone()
    if found is None:
        return None
    key, cap_nusd, spent_nusd, held_nusd, ends_at_ms, paused = found
    return CapFigures(key, cap_nusd, spent_nusd, held_nusd, ends_at_ms, bool(paused))


def _refuse(conn: Connection, request: HoldRequest, row: PeriodRow, needed_nusd: int) -> HoldRefused:
    if row.cap_nusd is None and row.paused is None:
        raise AmountError("the bound does not fit a signed 64-bit integer of nano-USD")
    if row.paused is not None and request.probe and row.cap_nusd is not None:
        return HoldRefused(Code.AI_PAUSED, needed_nusd, figures_of(row))
    match decide_refusal(row, needed_nusd):
        case CapAnswer.PAUSED:
            code = Code.AI_PAUSED
        case CapAnswer.BUSY:
            code = Code.SPEND_CAP_BUSY
        case CapAnswer.TOO_LOW:
            code = Code.SPEND_CAP_TOO_LOW
        case CapAnswer.PAUSE_NOW:
            row = pause(conn, row, PauseReason.NO_ROOM)
            save_alerts(conn, row, request.at_ms, call=request.call_id)
            code = Code.AI_PAUSED
    return HoldRefused(code, needed_nusd, figures_of(row))


def _take_unpriced(conn: Connection, request: HoldRequest, period_id: int) -> HoldGranted | HoldRefused:
    """A model without a price runs only where nothing is at stake; it leaves a row with bound 0."""
    row = load_period(conn, request.workspace_id, period_id)
    if row.paused is not None:
        return HoldRefused(Code.AI_PAUSED, 0, figures_of(row))
    if row.cap_nusd is not None:
        return HoldRefused(Code.UNPRICED_MODEL, 0, figures_of(row))
    _insert(conn, request, period_id=period_id, bound_nusd=0)
    return HoldGranted(request.hold_id, 0, 0, 0, False, figures_of(row))


def _take_credits(conn: Connection, request: HoldRequest, period_id: int) -> HoldGranted | HoldRefused:
    terms, rules = request.terms, request.credits
    if rules is None:
        raise ValueError("a hold of credits needs the price of a credit")
    row = load_period(conn, request.workspace_id, period_id)
    found = conn.execute(_CREDIT_STATE, (request.workspace_id,)).fetchone()
    if found is None or found[0]:
        return HoldRefused(Code.ALWAYS_USE_KEY_UNAVAILABLE, 0, figures_of(row))
    if row.paused is not None and not request.probe:
        return HoldRefused(Code.AI_PAUSED, 0, figures_of(row))
    if terms is None:
        return HoldRefused(Code.UNPRICED_MODEL, 0, figures_of(row))
    _, may_step_in, key_limit, free, after_audit = found
    if request.key_failed:
        free = min(free, _key_credits_free(conn, request.workspace_id, row.period.key, may_step_in, key_limit, free))
    limit: int | None = terms.output_limit
    if hold_credits(terms.bound_nusd(terms.output_limit), rules) > free:
        limit = terms.fit(fundable_nusd(free, rules)) if request.shrink else None
    if limit is None:
        needed = smallest_bound(terms, request.shrink)
        return HoldRefused(
            Code.INSUFFICIENT_CREDITS, needed, figures_of(row), hold_credits(needed, rules), max(0, free)
        )
    bound = terms.bound_nusd(limit)
    credits = hold_credits(bound, rules)
    if max(bound, credits) > MAX_NUSD:
        raise AmountError("the bound does not fit a signed 64-bit integer")
    if conn.execute(_RESERVE_CREDITS, {
        "credits": credits, "workspace": request.workspace_id, "period": period_id, "probe": request.probe,
    }).rowcount != 1:
        return HoldRefused(
            Code.INSUFFICIENT_CREDITS, bound, figures_of(row), credits, max(0, free)
        )
    if request.key_failed:
        conn.execute(_KEY_HOLD, (request.workspace_id, row.period.key, key_limit, credits))
        announce_step_in(conn, request.workspace_id, key_limit, request.call_id, request.at_ms)
    _insert(
        conn, request, period_id=None, bound_nusd=bound, bound_credits=credits, rules=rules,
        key_period=row.period.key if request.key_failed else None, after_audit=after_audit,
    )
    return HoldGranted(request.hold_id, bound, credits, limit, limit < terms.output_limit, figures_of(row))


def _key_credits_free(
    conn: Connection, workspace_id: str, period_key: str, may_step_in: int, limit: int | None, free: int
) -> int:
    """What "Use credits if my key fails" still allows this month; 0 if it was switched off meanwhile."""
    if not may_step_in:
        return 0
    if limit is None:
        return free
    found = conn.execute(_KEY_USED, (workspace_id, period_key)).fetchone()
    return max(0, limit - (found[0] if found else 0))


def _insert(
    conn: Connection, request: HoldRequest, *, period_id: int | None, bound_nusd: int, bound_credits: int = 0,
    rules: CreditRules = _NO_RULES, key_period: str | None = None, after_audit: int | None = None,
) -> None:
    conn.execute(_INSERT, (
        request.hold_id, request.workspace_id, request.call_id, request.attempt, request.funding, period_id,
        bound_nusd, bound_credits, request.terms is not None, request.price_version, rules.price_nusd,
        rules.markup_bps, key_period, after_audit, conn.boot_id, request.at_ms, request.expires_at_ms, request.context,
    ))
