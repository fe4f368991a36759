"""Keeps the ledger in MongoDB, mostly one module for each collection. All its times are the server's (`$$NOW`, hole H18)."""

from collections.abc import Callable
from typing import Any

from bson.raw_bson import RawBSONDocument
from pymongo import MongoClient
from pymongo.collection import Collection
from pymongo.database import Database
from pymongo.read_concern import ReadConcern
from pymongo.write_concern import WriteConcern

from whimbrel.domain.bson.raw_bson import DOCUMENT_OPTIONS
from whimbrel.domain.runs.protocol_times import Times
from whimbrel.mongo.driver_errors import translated
from whimbrel.mongo.ledger.answers import MongoAnswers
from whimbrel.mongo.ledger.audit import MongoAuditTrail
from whimbrel.mongo.ledger.batch_failure_counts import BatchFailureCounts
from whimbrel.mongo.ledger.batches import MongoBatches
from whimbrel.mongo.ledger.codes import MongoCodes
from whimbrel.mongo.ledger.failure_causes import FailureCauses
from whimbrel.mongo.ledger.failure_sums import FailureSums
from whimbrel.mongo.ledger.failures import MongoFailures
from whimbrel.mongo.ledger.following import MongoFollowedRuns
from whimbrel.mongo.ledger.format import MongoFormat
from whimbrel.mongo.ledger.freezes import MongoFreezes
from whimbrel.mongo.ledger.health import MongoHealthRecords
from whimbrel.mongo.ledger.indexes import INDEXES
from whimbrel.mongo.ledger.keyspace import MongoKeySpace
from whimbrel.mongo.ledger.known_causes import MongoKnownCauses
from whimbrel.mongo.ledger.leases import MongoLeases
from whimbrel.mongo.ledger.merged_batches import MergedBatches
from whimbrel.mongo.ledger.retention import MongoRetention, Remains
from whimbrel.mongo.ledger.runs import MongoRuns
from whimbrel.mongo.ledger.schedules import MongoSchedules
from whimbrel.mongo.ledger.series import MongoSeries
from whimbrel.mongo.ledger.sessions import MongoSessions
from whimbrel.mongo.ledger.slots import MongoSlots
from whimbrel.mongo.ledger.verification_sums import MongoProofs
from whimbrel.mongo.ledger.webhooks import MongoWebhookRecords
from whimbrel.ports import Ledger

COLLECTIONS = (
    "runs", "batches", "failures", "causes", "blocks", "leases", "workers", "audit", "schedules", "answers", "pruned",
    "codes", "format", "health", "freezes", "deliveries", "known",
    "sessions",
    "series",
)  # fmt: skip
DURABLE = WriteConcern("majority", j=True)


def _collection(database: Database[Any], name: str) -> Collection[Any]:
    return database.get_collection(
        f"whimbrel_{name}",
        codec_options=DOCUMENT_OPTIONS.with_options(document_class=RawBSONDocument),
        write_concern=DURABLE,
        read_concern=ReadConcern("majority"),
    )


def mongo_ledger(
    client: MongoClient[Any], database: str, times: Times, *, replica_set: bool, prepare: Callable[[], None]
) -> tuple[Ledger, MongoFormat, Callable[[], None]]:
    """Returns the ledger of a database, its format, and the function that creates its indexes. Writes nothing.

    `replica_set`: false for a stand-alone server. `prepare`: called before a run is added, which may be the ledger's first row.
    """
    collections = {name: _collection(client[database], name) for name in COLLECTIONS}
    leases = MongoLeases(collections["leases"], collections["workers"], collections["audit"])
    format_ = MongoFormat(client[database], collections["format"], collections["runs"], leases)
    runs = MongoRuns(collections["runs"], leases, format_, prepare)
    blocks = FailureSums(collections["blocks"], collections["batches"], collections["failures"])
    batch_failures, causes = (
        BatchFailureCounts(collections["batches"], collections["failures"], blocks),
        FailureCauses(collections["causes"]),
    )
    remains = Remains(collections["pruned"])
    batches = MongoBatches(
        client, collections["batches"], times, batch_failures, remains, replica_set=replica_set
    )
    failures = MongoFailures(collections["failures"], collections["runs"], batch_failures, blocks, causes)
    schedules = MongoSchedules(collections["schedules"], collections["runs"], collections["leases"], leases)
    answers = MongoAnswers(collections["answers"])
    merged = MergedBatches(client, collections["batches"])
    proofs = MongoProofs(collections["batches"], collections["runs"], remains, merged)
    retention = MongoRetention(collections["pruned"], collections)
    codes = MongoCodes(collections["codes"])
    health = MongoHealthRecords(collections["health"], leases)
    freezes = MongoFreezes(collections["freezes"])
    webhooks = MongoWebhookRecords(collections["deliveries"], collections["runs"], collections["batches"])
    known_causes = MongoKnownCauses(collections["known"], leases)
    following = MongoFollowedRuns(collections["runs"])
    audit = MongoAuditTrail(collections["audit"])
    slots = MongoSlots(collections["batches"])
    keyspace = MongoKeySpace(collections["batches"], collections["blocks"])
    series = MongoSeries(collections["series"])
    ledger = Ledger(
        runs, batches, failures, leases, schedules, answers, proofs, retention, codes, health, freezes, webhooks, known_causes,
        following, audit,
        series,
        keyspace,
        MongoSessions(collections["sessions"]),
        slots,
    )  # fmt: skip

    def create_indexes() -> None:
        with translated():
            for name, indexes in INDEXES.items():
                collections[name].create_indexes(indexes)
            audit.complete()

    return ledger, format_, create_indexes
