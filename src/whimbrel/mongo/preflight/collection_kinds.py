"""Checks whether this kind of collection can be migrated at all (holes H31 and H39)."""

import contextlib
import re
from collections.abc import Iterator
from typing import Any

import pymongo
from pymongo import MongoClient

from whimbrel.domain.runs.preflight_findings import CheckName, Finding, error
from whimbrel.errors import WhimbrelError
from whimbrel.mongo.driver_errors import translated
from whimbrel.mongo.preflight.find_one_quickly import indexed
from whimbrel.mongo.preflight.subject import LOOK, Subject, findings_of

SUGGESTED = 3  # names that may be meant
NOT_SHARDED = (
    "Whimbrel does not migrate sharded clusters: updates of many documents are not held together with chunks that move, so that documents may be missed, "
    "or changed on a copy that is thrown away, and an _id may be that of several documents. "
    "What support needs is said in docs/decisions/0023-what-a-sharded-cluster-needs.md."
)


def kind(subject: Subject) -> Iterator[Finding]:
    """Yields an error for each reason why it cannot be migrated."""
    listing, name = subject.listing, subject.name
    if listing is None:
        yield error(
            CheckName.COLLECTION,
            f"There is no collection {subject.run.collection!r} in the database {subject.run.database!r}.",
            f"Check the migration's collection and MONGODB_DB_NAME.{_similar_names(subject)}",
        )
    elif listing["type"] == "view":
        yield error(
            CheckName.COLLECTION,
            f"{name} is a view of {subject.options.get('viewOn')!r}.",
            "Migrate that collection instead.",
        )
    elif listing["type"] == "timeseries":
        yield error(
            CheckName.COLLECTION,
            f"{name} is a time-series collection, whose documents cannot be updated one by one.",
            "Write a new collection instead, by $merge or $out.",
        )
    elif subject.options.get("capped"):
        yield error(
            CheckName.COLLECTION,
            f"{name} is capped: its documents cannot grow, so they cannot be marked.",
            "Copy it into a collection that is not capped, and migrate that.",
        )
    elif subject.options.get("encryptedFields"):
        yield error(
            CheckName.COLLECTION,
            f"{name} has encrypted fields, which only their client can change.",
            "Migrate it by a program that has the keys.",
        )


def _similar_names(subject: Subject) -> str:
    """Names databases and collections whose name differs in case only, as they may be meant."""
    suggestions: list[str] = []
    with contextlib.suppress(WhimbrelError), translated(), pymongo.timeout(LOOK / 1000):
        database_wanted = subject.run.database
        similar_databases = [
            database_name
            for database_name in subject.client.list_database_names()
            if database_name.lower() == database_wanted.lower()
        ]
        suggestions += [
            f" There is a database {database_name!r}."
            for database_name in similar_databases
            if database_name != database_wanted
        ]
        pattern = f"^{re.escape(subject.run.collection)}$"
        same_name = {"name": {"$regex": pattern, "$options": "i"}}
        suggestions += [
            f" There is a collection {collection_name!r}."
            for collection_name in subject.client[database_wanted].list_collection_names(filter=same_name)
        ]
    return "".join(suggestions[:SUGGESTED])


def shard(client: MongoClient[Any]) -> list[Finding]:
    """Finds whether this replica set is a shard; a router is refused on connecting."""

    def look() -> Iterator[Finding]:
        if is_shard(client.admin.command("shardingState", maxTimeMS=2000)):
            yield error(
                CheckName.SHARD,
                "This replica set is a shard of a cluster: written past its router, documents may be missed or changed twice while chunks move.",
                NOT_SHARDED,
            )

    return findings_of(CheckName.SHARD, "Whether this replica set is a shard of a cluster", look)


def is_shard(state: dict[str, Any]) -> bool:
    """Tells from the answer to `shardingState` whether a server is a shard."""
    return bool(state.get("enabled"))


def collation(subject: Subject) -> Iterator[Finding]:
    """Checks the collation: guarded statements use the simple one, which cannot find text in an index of another one (hole H31)."""
    locale = subject.options.get("collation", {}).get("locale", "simple")
    if locale != "simple" and subject.run.undo and subject.run.mark == "status":
        yield error(
            CheckName.COLLATION,
            f"{subject.name} has the collation {locale!r}: for a run with undo that marks by status, it would be compared by that whether a document that failed was changed since, and letters that differ in case only would pass.",
            "Choose mark='marker', or leave undo out.",
        )
    if locale != "simple" and indexed(subject, {"_id": {"$type": ["string", "object", "symbol"]}}):
        yield error(
            CheckName.COLLATION,
            f"{subject.name} has the collation {locale!r} and text in _id. Its documents cannot be found by _id in a byte-exact comparison.",
            "Copy it into a collection of the simple collation, and migrate that.",
        )
