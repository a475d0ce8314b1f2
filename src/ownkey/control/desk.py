"""All use cases that change settings, side by side: what the management API and the portal are given."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Protocol

from ownkey.control import ports
from ownkey.control.audit import AuditControl
from ownkey.control.backups import BackupControl
from ownkey.control.billing import BillingControl
from ownkey.control.call_facts import CallFacts, FactBook
from ownkey.control.candidates import CandidateControl
from ownkey.control.caps import CapControl
from ownkey.control.connect import ConnectControl
from ownkey.control.credentials import CredentialControl
from ownkey.control.credits import CreditControl
from ownkey.control.effective import EffectiveControl
from ownkey.control.exports import ExportControl
from ownkey.control.features import FeatureControl
from ownkey.control.gates import GateControl
from ownkey.control.incidents import IncidentControl
from ownkey.control.key_past import KeyPastControl, PastBook
from ownkey.control.key_readings import KeyReadings, ReadingBook, ReadingRows, Tenants
from ownkey.control.key_test import KeyTest
from ownkey.control.live_probe import LiveProbe
from ownkey.control.master_key import KeyBook as MasterKeyBook
from ownkey.control.master_key import KeyKeeper, MasterKeyControl, Ring
from ownkey.control.master_key_check import KeyCheck
from ownkey.control.notices import OutboxControl
from ownkey.control.operators import OperatorControl
from ownkey.control.overview import AuditRows, Finds, OverviewControl, Overviews, PriceHistory
from ownkey.control.own_address import OwnAddress
from ownkey.control.pace import KeyTestPace
from ownkey.control.payment_events import PaymentEvents
from ownkey.control.people import MemberControl, ProjectControl
from ownkey.control.portal_sessions import PortalSessionControl
from ownkey.control.prices import PriceControl
from ownkey.control.probes import AuthProber
from ownkey.control.receipts import ReceiptControl
from ownkey.control.replay import ReplayControl
from ownkey.control.savings import SavingsControl
from ownkey.control.search import ActivityControl
from ownkey.control.statement import StatementControl
from ownkey.control.status import StatusControl
from ownkey.control.tokens import TokenControl
from ownkey.control.totals import TotalsControl
from ownkey.control.verification import VerifyControl
from ownkey.control.work import WorkControl
from ownkey.control.workspaces import WorkspaceControl
from ownkey.domain.backups import BackupRules
from ownkey.domain.billing import DAY_MS
from ownkey.domain.connect import ConnectRules
from ownkey.domain.exchange import Origin
from ownkey.domain.operators import ConsoleRules
from ownkey.domain.portal import PortalRules
from ownkey.domain.product import Product


class SettingsStore(
    ports.Workspaces, ports.People, ports.Mutes, ports.Tokens, ports.Credentials, ports.Connects, ports.Features,
    ports.Caps, ports.Credits, ports.Receipts, ports.Incidents, ports.OutboxRows, ports.Orders, ports.Bought,
    ports.Addons, ports.EventBook, ports.PortalSessions, ports.PortalTickets, MasterKeyBook,
    PastBook, FactBook, ReadingBook, ReadingRows, Tenants, Overviews, Finds, AuditRows, PriceHistory,
    ports.Operators, ports.Totals, ports.ActivityRows, ports.Choices, ports.Statements, ports.WorkRows, Protocol,
):
    """Everything of the store that settings need, as one object."""


@dataclass(frozen=True, slots=True)
class Desk:
    product: Product
    workspaces: WorkspaceControl
    members: MemberControl
    portal_sessions: PortalSessionControl
    operators: OperatorControl
    projects: ProjectControl
    tokens: TokenControl
    credentials: CredentialControl
    candidates: CandidateControl
    key_test: KeyTest
    key_readings: KeyReadings
    key_past: KeyPastControl
    call_facts: CallFacts
    incidents: IncidentControl
    connect: ConnectControl
    features: FeatureControl
    caps: CapControl
    credits: CreditControl
    billing: BillingControl
    payment_events: PaymentEvents
    receipts: ReceiptControl
    activity: ActivityControl
    totals: TotalsControl
    savings: SavingsControl
    statement: StatementControl
    exports: ExportControl
    work: WorkControl
    backups: BackupControl
    replay: ReplayControl
    outbox: OutboxControl
    status: StatusControl
    gates: GateControl
    prices: PriceControl
    audit: AuditControl
    overview: OverviewControl
    effective: EffectiveControl
    verify: VerifyControl
    master_key: MasterKeyControl


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
    portal: PortalRules = PortalRules(),  # noqa: B008 - a frozen value
    console: ConsoleRules = ConsoleRules(),  # noqa: B008 - a frozen value
    address: OwnAddress | None = None,
    channels: Mapping[str, str] = MappingProxyType({}),
    files: ports.ExportFiles,
    backup_files: ports.BackupFiles,
    backup_rules: BackupRules = BackupRules(),  # noqa: B008 - a frozen value
    ring: Ring,
    keeper: KeyKeeper,
    key_check: KeyCheck,
) -> Desk:
    """Wires the use cases to their ports. `origins` maps each provider to where its credentials may be sent; `channels`
    says of each way out for notices why it is not used, or ""."""
    prober = AuthProber(upstream, providers, origins, clock)
    readings = KeyReadings(store, store, store, opener, prober, clock, product)
    key_test = KeyTest(
        store, sealer, opener, prober, LiveProbe(upstream, providers, origins, books, prices, clock), books,
        pace or KeyTestPace(), clock, product, readings=readings,
    )
    credentials = CredentialControl(store, sealer, key_test, origins, clock, product, readings)
    payment_events = PaymentEvents(store, payments, clock, product.grace_days * DAY_MS)
    own_address, incidents = address or OwnAddress(connect.public_url), IncidentControl(store)
    billing = BillingControl(store, payments, payment_events, clock, product, own_address, portal.return_urls)
    totals, work = TotalsControl(store, clock), WorkControl(store, files, clock)
    return Desk(
        product=product,
        workspaces=WorkspaceControl(store, directory, sealer, clock, product, billing),
        members=MemberControl(store, clock),
        operators=OperatorControl(store, clock, console, own_address),
        portal_sessions=PortalSessionControl(store, clock, product, portal, own_address),
        projects=ProjectControl(store, clock),
        tokens=TokenControl(store, clock, product),
        credentials=credentials,
        candidates=CandidateControl(safe, clock),
        key_test=key_test,
        key_readings=readings,
        key_past=KeyPastControl(store, incidents, product),
        call_facts=CallFacts(store, product),
        incidents=incidents,
        connect=ConnectControl(
            store, safe, credentials, key_test, upstream, origins["openrouter"], clock, product, connect, own_address,
            pages=portal.return_urls,
        ),
        features=FeatureControl(store, clock, product),
        caps=CapControl(store, clock),
        credits=CreditControl(store, clock, product),
        billing=billing,
        payment_events=payment_events,
        receipts=ReceiptControl(store, clock, product),
        activity=ActivityControl(store, clock),
        totals=totals,
        savings=SavingsControl(store, clock, product),
        statement=StatementControl(store),
        exports=ExportControl(store, totals, clock),
        work=work,
        backups=BackupControl(backup_files, work, clock, backup_rules),
        replay=ReplayControl(clock, product),
        outbox=OutboxControl(store, clock, lambda: dict(channels)),
        status=StatusControl(books, directory, clock, product),
        gates=GateControl(books, directory, prices, clock, product),
        prices=PriceControl(prices, clock),
        audit=AuditControl(store, clock),
        overview=OverviewControl(store, directory, clock, product),
        effective=EffectiveControl(store, product),
        verify=VerifyControl(auditor, clock),
        master_key=MasterKeyControl(ring, keeper, key_check, store, work, clock),
    )
