"""The subject of preflight's checks; each check is bounded, and one that is not allowed is reported."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from pymongo import MongoClient
from pymongo.collection import Collection

from whimbrel.domain.bson.raw_bson import DOCUMENT_OPTIONS
from whimbrel.domain.migrations.definition import Definition
from whimbrel.domain.runs.preflight_findings import CheckName, Finding, unknown
from whimbrel.domain.runs.run import Run, query_of_first_phases
from whimbrel.errors import Refused, Systemic, TooSlow
from whimbrel.mongo.driver_errors import translated
from whimbrel.mongo.survey import LEAST, SPARSE

LOOK = 2000  # milliseconds that one statement may take
WHOLE = 10_000  # documents of a collection that is read completely
MOST = 500  # documents of a random sample
BYTES = 64_000_000  # read for it

Query = Mapping[str, Any]


@dataclass(frozen=True)
class Subject:
    """A run that is about to start, and its collection; `listing` is MongoDB's entry for that, if it exists."""

    client: MongoClient[Any]
    run: Run
    definition: Definition

    @property
    def name(self) -> str:
        return self.run.ns

    @cached_property
    def collection(self) -> Collection[Any]:
        return self.client[self.run.database].get_collection(
            self.run.collection, codec_options=DOCUMENT_OPTIONS
        )

    @cached_property
    def listing(self) -> Mapping[str, Any] | None:
        with translated():
            entries = self.collection.database.list_collections(filter={"name": self.run.collection})
            return next(iter(entries), None)

    @property
    def options(self) -> Mapping[str, Any]:
        chosen: Mapping[str, Any] = (self.listing or {}).get("options", {})
        return chosen

    @property
    def validator(self) -> Mapping[str, Any] | None:
        """The validator that refuses documents; None where there is none, or it only warns."""
        lenient = (
            self.options.get("validationLevel") == "off" or self.options.get("validationAction") == "warn"
        )
        validator: Mapping[str, Any] | None = self.options.get("validator")
        return None if lenient or not validator else validator

    @cached_property
    def eligible(self) -> dict[str, Any]:
        return query_of_first_phases(self.run)

    @cached_property
    def drawn(self) -> list[dict[str, Any]]:
        """The stages that draw the sample; none where the documents are few, and all are read."""
        count, mean = int(self.storage["count"]), float(self.storage.get("avgObjSize") or 1)
        if count <= min(WHOLE, max(LEAST, self.run.batch_size)) and count * mean <= BYTES:
            return []
        # MongoDB reads every document for a sample of more than one in twenty.
        return [
            {"$sample": {"size": max(1, min(MOST, self.run.batch_size, int(BYTES / mean), count // SPARSE))}}
        ]

    @cached_property
    def storage(self) -> Mapping[str, Any]:
        """The collection's statistics: `count`, `size` in bytes, `avgObjSize`."""
        return storage_of(self.collection)


def storage_of(collection: Collection[Any]) -> Mapping[str, Any]:
    with translated():
        row = next(collection.aggregate([{"$collStats": {"storageStats": {}}}], maxTimeMS=LOOK))
    statistics: Mapping[str, Any] = row["storageStats"]
    return statistics


def findings_of(check: CheckName, what: str, look: Callable[[], Iterable[Finding]]) -> list[Finding]:
    """Returns the findings of a check; one "unknown" where the check is not allowed, not possible or takes too long.

    `what`: what is not known then, as the beginning of a sentence, such as "Whether change streams are open".
    """
    try:
        with translated():
            return list(look())
    except TooSlow:
        why, remedy = "looking takes longer than 2 seconds", "Look at it yourself."
    except (Systemic, Refused) as error:
        why = f"MongoDB does not answer that ({error})"
        remedy = "Look at it yourself, or give Whimbrel's user the role clusterMonitor."
    return [unknown(check, f"{what} is not known: {why}.", remedy)]


def size(count: float) -> str:
    """Formats bytes for people."""
    for unit in ("bytes", "kB", "MB", "GB"):
        if count < 1000:  # noqa: PLR2004
            return f"{count:,.0f} {unit}" if unit == "bytes" else f"{count:,.1f} {unit}"
        count /= 1000
    return f"{count:,.1f} TB"
