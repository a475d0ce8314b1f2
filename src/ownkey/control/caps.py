"""The spend cap: blank is no cap, 0 is no AI, and every save counts at once."""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from ownkey.control import ports
from ownkey.control.ports import Actor, CapSetting, Clock
from ownkey.control.problems import invalid, not_found
from ownkey.domain.caps import Period, Projection, project
from ownkey.domain.money import AmountError, parse_usd_nusd
from ownkey.domain.phrases import Phrase
from ownkey.domain.workspace import WorkspaceState


class _Store(ports.Caps, Protocol):
    pass


class CapControl:
    """Reads and sets the cap; lists alerts."""

    def __init__(self, store: _Store, clock: Clock) -> None:
        self._store = store
        self._clock = clock

    async def show(self, workspace: WorkspaceState) -> CapSetting:
        setting = await self._store.load_cap(workspace.id, self._clock.now_ms())
        if setting is None:
            raise not_found(Phrase("cap of"), workspace.external_id, "here")
        return setting

    async def save(
        self, workspace: WorkspaceState, cap_usd: str | None, threshold: int | None, actor: Actor
    ) -> CapSetting:
        """`cap_usd` None or blank: no cap. `threshold` None keeps the present one. Raises Problem."""
        cap_nusd = parse_cap(cap_usd)
        if threshold is None:
            before = await self._store.load_cap(workspace.id, self._clock.now_ms())
            if before is None:
                raise not_found(Phrase("cap of"), workspace.external_id, "here")
            threshold = before.threshold
        elif not 1 <= threshold <= 99:
            raise invalid("threshold_percent", Phrase("The alert threshold is a whole number from 1 to 99."),
                          Phrase("Use 80 to be told at 80% of the cap; at 100% there is always an alert."))
        return await self._store.save_cap(
            workspace.id, cap_nusd, threshold, at_ms=self._clock.now_ms(), actor=actor
        )

    def project(self, setting: CapSetting) -> Projection | None:
        """Where this month ends at the pace so far."""
        period = Period(setting.period_key, setting.starts_at_ms, setting.ends_at_ms, setting.timezone)
        return project(period, setting.spent_nusd, setting.cap_nusd, self._clock.now_ms())

    async def alerts(self, workspace: WorkspaceState) -> Sequence[Mapping[str, Any]]:
        return await self._store.load_alerts(workspace.id)


def parse_cap(cap_usd: str | None) -> int | None:
    """An amount as people type it ("50", "US$50.00", "1,000.50") in nano-USD; None or blank is no cap."""
    text = (cap_usd or "").strip()
    if not text:
        return None
    bare = text.removeprefix("US").removeprefix("$").strip()
    if bare.startswith("-"):
        raise invalid("cap_usd", Phrase("A spend cap cannot be negative."),
                      Phrase("Use 0 for no AI at all, or leave it empty for no cap."))
    whole, _, fraction = bare.partition(".")
    groups = whole.split(",")
    if len(groups) > 1 and all(len(group) == 3 for group in groups[1:]) and 1 <= len(groups[0]) <= 3:
        bare = "".join(groups) + ("." + fraction if fraction else "")
    if not bare.replace(".", "", 1).isascii() or not bare.replace(".", "", 1).isdigit():
        raise invalid("cap_usd", Phrase("{text} is not an amount in US dollars.", text=repr(text[:40])),
                      Phrase(
                          "Write digits with an optional decimal point, such as 50 or 49.90; empty means no cap."
                      ))
    try:
        return parse_usd_nusd(bare)
    except AmountError as error:
        raise invalid(
            "cap_usd", Phrase("The amount is too large."), Phrase("Use an amount below a billion dollars.")
        ) from error
