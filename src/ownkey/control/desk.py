"""All use cases that change settings, side by side: what the management API and the portal are given."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from ownkey.control import ports
from ownkey.control.audit import AuditControl
from ownkey.control.caps import CapControl
from ownkey.control.connect import ConnectControl
from ownkey.control.credentials import CredentialControl
from ownkey.control.credits import CreditControl
from ownkey.control.features import FeatureControl
from ownkey.control.incidents import IncidentControl
from ownkey.control.key_test import KeyTest
from ownkey.control.live_probe import LiveProbe
from ownkey.control.pace import KeyTestPace
from ownkey.control.people import MemberControl, ProjectControl
from ownkey.control.prices import PriceControl
from ownkey.control.probes import AuthProber
from ownkey.control.receipts import ReceiptControl
from ownkey.control.status import StatusControl
from ownkey.control.tokens import TokenControl
from ownkey.control.verification import VerifyControl
from ownkey.control.workspaces import WorkspaceControl
from ownkey.domain.connect import ConnectRules
from ownkey.domain.exchange import Origin
from ownkey.domain.product import Product


class SettingsStore(
    ports.Workspaces, ports.People, ports.Tokens, ports.Credentials, ports.Connects, ports.Features, ports.Caps,
    ports.Credits, ports.Receipts, ports.Incidents, Protocol,
):
    """Everything of the store that settings need, as one object."""


@dataclass(frozen=True, slots=True)
class Desk:
    product: Product
    workspaces: WorkspaceControl
    members: MemberControl
    projects: ProjectControl
    tokens: TokenControl
    credentials: CredentialControl
    key_test: KeyTest
    incidents: IncidentControl
    connect: ConnectControl
    features: FeatureControl
    caps: CapControl
    credits: CreditControl
    receipts: ReceiptControl
    status: StatusControl
    prices: PriceControl
    audit: AuditControl
    verify: VerifyControl


def make_desk(
    *,
    store: SettingsStore,
    directory: ports.Directory,
    books: ports.Books,
    prices: ports.PriceVersions,
    auditor: ports.Auditor,
    sealer: ports.Sealer,
    safe: ports.Safe,
    opener: ports.Opener,
    upstream: ports.Upstream,
    providers: Mapping[str, ports.ProbeProvider],
    origins: Mapping[str, Origin],
    clock: ports.Clock,
    product: Product,
    pace: KeyTestPace | None = None,
    connect: ConnectRules = ConnectRules(),  # noqa: B008 - a frozen value
) -> Desk:
    """Wires the use cases to their ports. `origins` maps each provider to where its credentials may be sent."""
    key_test = KeyTest(
        store, sealer, opener, AuthProber(upstream, providers, origins, clock),
        LiveProbe(upstream, providers, origins, books, prices, clock), books, pace or KeyTestPace(), clock, product,
    )
    credentials = CredentialControl(store, sealer, key_test, origins, clock, product)
    return Desk(
        product=product,
        workspaces=WorkspaceControl(store, directory, sealer, clock, product),
        members=MemberControl(store, clock),
        projects=ProjectControl(store, clock),
        tokens=TokenControl(store, clock, product),
        credentials=credentials,
        key_test=key_test,
        incidents=IncidentControl(store),
        connect=ConnectControl(
            store, safe, credentials, key_test, upstream, origins["openrouter"], clock, product, connect
        ),
        features=FeatureControl(store, clock, product),
        caps=CapControl(store, clock),
        credits=CreditControl(store, clock, product),
        receipts=ReceiptControl(store, clock),
        status=StatusControl(books, directory, clock, product),
        prices=PriceControl(prices, clock),
        audit=AuditControl(store, clock),
        verify=VerifyControl(auditor, clock),
    )
