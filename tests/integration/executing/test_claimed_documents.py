"""Claimed documents: shown as `processing` before the function is called, and none is forgotten."""

from typing import Any

from pymongo.database import Database

from tests.integration.in_process_system import start, system, until
from whimbrel import Migration
from whimbrel.domain.bson.raw_bson import Key
from whimbrel.domain.failures.failure import FailureKind
from whimbrel.domain.runs.run import Counts
from whimbrel.domain.runs.states import RunStatus
from whimbrel.mongo.store import MongoStore

Data = Database[dict[str, Any]]
IT = Migration(
    name="by-hand", collection="things", mark="status", claim=True, transform=lambda _: {"$set": {"a": 1}}
)


def seed(database: Data) -> None:
    database["things"].insert_many([{"_id": key, "status": "pending", "n": 0} for key in range(20)])


def test_a_document_that_was_changed_before_it_was_claimed_is_claimed_as_it_is_now(
    store: MongoStore, database: Data
) -> None:
    seed(database)

    def change(step: str) -> None:
        if step == "S4":  # read, and not yet claimed
            database["things"].update_one({"_id": 5, "status": "pending"}, {"$inc": {"n": 1}})

    with system(store, [IT], step=change):
        found = until(store, start(store, IT))
    assert (found.run.status, found.run.counts) == (RunStatus.COMPLETED, Counts(changed=20))
    assert database["things"].count_documents({"status": "success", "a": 1}) == 20


def test_a_document_whose_claim_the_validator_refuses_is_a_failure(store: MongoStore, database: Data) -> None:
    seed(database)
    database.command(
        "collMod", "things", validator={"$or": [{"status": {"$ne": "processing"}}, {"_id": {"$ne": 5}}]}
    )
    with system(store, [IT]):
        found = until(store, start(store, IT))
    assert (found.run.status, found.run.counts) == (RunStatus.COMPLETED_WITH_FAILURES, Counts(changed=19))
    (failure,) = store.ledger.failures.list(found.run.id)
    assert (failure.key, failure.kind, failure.code) == (Key.of(5), FailureKind.DATA, 121)
