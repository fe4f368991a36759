"""The ledger in MongoDB: one module a collection. All its times are the server's (`$$NOW`, hole H18)."""

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
from whimbrel.mongo.ledger.batch_failure_counts import BatchFailureCounts
from whimbrel.mongo.ledger.batches import MongoBatches
from whimbrel.mongo.ledger.codes import MongoCodes
from whimbrel.mongo.ledger.failure_causes import FailureCauses
from whimbrel.mongo.ledger.failure_sums import FailureSums
from whimbrel.mongo.ledger.failures import MongoFailures
from whimbrel.mongo.ledger.format import MongoFormat
from whimbrel.mongo.ledger.leases import MongoLeases
from whimbrel.mongo.ledger.retention import MongoRetention, Remains
from whimbrel.mongo.ledger.runs import MongoRuns
from whimbrel.mongo.ledger.schedules import MongoSchedules
from whimbrel.mongo.ledger.verification_sums import MongoProofs
from whimbrel.ports import Ledger

COLLECTIONS = (
    "runs", "batches", "failures", "causes", "blocks", "leases", "workers", "audit", "schedules", "answers", "pruned",
    "codes", "format",
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
    """The ledger of one database, of a replica set or a stand-alone server, the number of its format, and what makes its indexes.

    Nothing is written. `prepare`: called before a run is added, which makes the first row of a new ledger.
    """
    found = {name: _collection(client[database], name) for name in COLLECTIONS}
    leases = MongoLeases(found["leases"], found["workers"], found["audit"])
    format_ = MongoFormat(client[database], found["format"], found["runs"], leases)
    runs = MongoRuns(found["runs"], leases, format_, prepare)
    blocks = FailureSums(found["blocks"], found["batches"], found["failures"])
    batch_failures, causes = (
        BatchFailureCounts(found["batches"], found["failures"], blocks),
        FailureCauses(found["causes"]),
    )
    remains = Remains(found["pruned"])
    batches = MongoBatches(client, found["batches"], times, batch_failures, remains, replica_set=replica_set)
    failures = MongoFailures(found["failures"], found["runs"], batch_failures, blocks, causes)
    schedules = MongoSchedules(found["schedules"], found["runs"], found["leases"], leases)
    answers = MongoAnswers(found["answers"])
    proofs = MongoProofs(found["batches"], found["runs"], remains)
    retention = MongoRetention(found["pruned"], found)
    codes = MongoCodes(found["codes"])
    ledger = Ledger(runs, batches, failures, leases, schedules, answers, proofs, retention, codes)

    def create_indexes() -> None:
        with translated():
            for each in (answers, runs, batches, failures, batch_failures, blocks, causes, retention):
                each.create_indexes()
            found["audit"].create_index([("run", 1), ("at", 1)])

    return ledger, format_, create_indexes
