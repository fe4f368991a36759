"""Upgrades the ledger to format 3: failures store the group of their cause, batches and blocks their number of each group."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby, islice
from typing import Any

from pymongo import UpdateOne
from pymongo.collection import Collection
from pymongo.database import Database

from whimbrel.mongo.driver_errors import translated
from whimbrel.mongo.ledger.batch_failure_counts import BatchFailureCounts
from whimbrel.mongo.ledger.failure_causes import FailureCauses
from whimbrel.mongo.ledger.failure_counts import RECORDED
from whimbrel.mongo.ledger.failure_sums import FailureSums
from whimbrel.mongo.ledger.rows import trouble_of

PAGE = 1000  # rows


def group_failures(database: Database[Any], runs: Collection[Any]) -> None:
    """Groups the failures without a group page by page, each as if it were recorded now."""

    def opened(name: str) -> Collection[Any]:
        return database.get_collection(
            f"whimbrel_{name}", runs.codec_options, write_concern=runs.write_concern, read_concern=runs.read_concern
        )  # fmt: skip

    failures, batches = opened("failures"), opened("batches")
    causes = FailureCauses(opened("causes"))
    batch_failures = BatchFailureCounts(batches, failures, FailureSums(opened("blocks"), batches, failures))
    with translated():
        for rows in _pages(failures):
            tokens = {row["batch"] for row in rows}
            batch_failures.mark(tokens)
            for run, of_run in groupby(rows, key=lambda row: row["run"]):
                rows_of_run = list(of_run)
                groups = causes.groups(str(run), [trouble_of(row) for row in rows_of_run])
                failures.bulk_write([
                    UpdateOne({"_id": row["_id"]}, {"$set": {"group": group_id}, "$unset": {"signature": ""}})
                    for row, group_id in zip(rows_of_run, groups, strict=True)
                ])  # fmt: skip
            batch_failures.keep(tokens)
        _drop(batches, "failing_of_a_run")
        for name, key in failures.index_information().items():
            if any(field == "signature" for field, _ in key["key"]):
                _drop(failures, name)


def _pages(failures: Collection[Any]) -> Iterator[Sequence[Mapping[str, Any]]]:
    """Yields failures by `_id`, so that those of a run are together."""
    ungrouped = {"group": {"$exists": False}, "state": {"$in": RECORDED}}
    fields = {"run": 1, "batch": 1, "key": 1, "kind": 1, "type": 1, "message": 1}
    rows = failures.find(ungrouped, fields).sort("_id", 1).batch_size(PAGE)
    while page := list(islice(rows, PAGE)):
        yield page


def _drop(rows: Collection[Any], name: str) -> None:
    if name in rows.index_information():
        rows.drop_index(name)
