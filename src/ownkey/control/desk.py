"""All use cases that change settings, side by side: what the management API and the portal are given."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Protocol

from ownkey.control import ports
from ownkey.control.audit import AuditControl
from ownkey.control.billing import BillingControl
from ownkey.control.caps import CapControl
from ownkey.control.connect import ConnectControl
from ownkey.control.credentials import CredentialControl
from ownkey.control.credits import CreditControl
from ownkey.control.features import FeatureControl
from ownkey.control.incidents import IncidentControl
from ownkey.control.key_test import KeyTest
from ownkey.control.live_probe import LiveProbe
from ownkey.control.notices import OutboxControl
from ownkey.control.pace import KeyTestPace
from ownkey.control.payment_events import PaymentEvents
from ownkey.control.people import MemberControl, ProjectControl
from ownkey.control.prices import PriceControl
from ownkey.control.probes import AuthProber
from ownkey.control.receipts import ReceiptControl
from ownkey.control.status import StatusControl
from ownkey.control.tokens import TokenControl
from ownkey.control.verification import VerifyControl
from ownkey.control.workspaces import WorkspaceControl
from ownkey.domain.billing import DAY_MS
from ownkey.domain.connect import ConnectRules
from ownkey.domain.exchange import Origin
from ownkey.domain.product import Product


class SettingsStore(
    ports.Workspaces, ports.People, ports.Tokens, ports.Credentials, ports.Connects, ports.Features, ports.Caps,
    ports.Credits, ports.Receipts, ports.Incidents, ports.OutboxRows, ports.Orders, ports.Addons, ports.EventBook,
    Protocol,
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
    billing: BillingControl
    payment_events: PaymentEvents
    receipts: ReceiptControl
    outbox: OutboxControl
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
    payments: ports.Payments | None = None,
    channels: Mapping[str, str] = MappingProxyType({}),
) -> Desk:
    """Wires the use cases to their ports. `origins` maps each provider to where its credentials may be sent; `channels`
    says of each way out for notices why it is not used, or ""."""
    key_test = KeyTest(
        store, sealer, opener, AuthProber(upstream, providers, origins, clock),
        LiveProbe(upstream, providers, origins, books, prices, clock), books, pace or KeyTestPace(), clock, product,
    )
    credentials = CredentialControl(store, sealer, key_test, origins, clock, product)
    payment_events = PaymentEvents(store, payments, clock, product.grace_days * DAY_MS)
    billing = BillingControl(store, payments, payment_events, clock, product)
    return Desk(
        product=product,
        workspaces=WorkspaceControl(store, directory, sealer, clock, product, billing),
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
        billing=billing,
        payment_events=payment_events,
        receipts=ReceiptControl(store, clock),
        outbox=OutboxControl(store, clock, lambda: dict(channels)),
        status=StatusControl(books, directory, clock, product),
        prices=PriceControl(prices, clock),
        audit=AuditControl(store, clock),
        verify=VerifyControl(auditor, clock),
    )
