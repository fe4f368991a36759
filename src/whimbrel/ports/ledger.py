"""The durable truth: runs, batches, failures, leases."""

from dataclasses import dataclass

from whimbrel.ports.answers import Answers
from whimbrel.ports.audit import AuditTrail
from whimbrel.ports.batches import Batches
from whimbrel.ports.codes import Codes
from whimbrel.ports.failures import Failures
from whimbrel.ports.followed_runs import FollowedRuns
from whimbrel.ports.freezes import Freezes
from whimbrel.ports.health import HealthRecords
from whimbrel.ports.keyspace import KeySpace
from whimbrel.ports.known_causes import KnownCauses
from whimbrel.ports.leases import Leases
from whimbrel.ports.proofs import Proofs
from whimbrel.ports.retention import Retention
from whimbrel.ports.runs import Runs
from whimbrel.ports.schedules import Schedules
from whimbrel.ports.series import SeriesRecords
from whimbrel.ports.sessions import LoginSessions
from whimbrel.ports.slots import Slots
from whimbrel.ports.webhooks import WebhookRecords

CONSUMERS = "consumers"  # the switch by which a person stops all consumers of the cluster


@dataclass(frozen=True, slots=True)
class Ledger:
    """The durable truth about runs, batches and failures."""

    runs: Runs
    batches: Batches
    failures: Failures
    leases: Leases
    schedules: Schedules
    answers: Answers
    proofs: Proofs
    retention: Retention
    codes: Codes
    health: HealthRecords
    freezes: Freezes
    webhooks: WebhookRecords
    known_causes: KnownCauses
    following: FollowedRuns
    audit: AuditTrail
    series: SeriesRecords
    keyspace: KeySpace
    sessions: LoginSessions
    slots: Slots
