"""Indexes: the one that would serve the selection, and those that the change touches."""

import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from whimbrel.domain.findings import Check, Finding, unknown, warning
from whimbrel.domain.runs import eligible, first_phases
from whimbrel.domain.updates import overlaps
from whimbrel.mongo.errors import translated
from whimbrel.mongo.plans import outline, shortened
from whimbrel.mongo.preflight.questions import explained
from whimbrel.mongo.preflight.sample import Sample
from whimbrel.mongo.preflight.subject import Subject, size
from whimbrel.mongo.ranges import BY_ID, equalities, serving_index
from whimbrel.ports import Ahead

# A collection below both is walked through in about a second.
MANY = 100_000  # documents
LARGE = 100_000_000  # bytes
FEW = (
    0.5  # part of the documents: where more are eligible, the walk reads at most two for each that is changed
)

Indexes = Mapping[str, Mapping[str, Any]]


def selection(it: Subject, ahead: Ahead, sample: Sample) -> Iterator[Finding]:
    """Whether the run must walk through documents that are not eligible."""
    count, weight = int(it.storage["count"]), int(it.storage["size"])
    if ahead.documents == 0:  # a run that finds nothing to do is not worth an index
        return
    if it.run.scope.kind == "ids" or sample.share >= FEW or (count < MANY and weight < LARGE):
        return
    indexes = _indexes(it)
    for phase in first_phases(it.run):
        query = eligible(it.run, phase)
        if serving_index(indexes, query)[0] != BY_ID:
            continue
        remedy, build = _advice(it, query)
        plan = explained(it, {"find": it.run.collection, "filter": query})["queryPlanner"]["winningPlan"]
        yield warning(
            Check.INDEX,
            f"No index yields the eligible documents of {it.name} in _id order: the run reads all {count:,} documents ({size(weight)}), of which about {sample.share:.1%} are eligible ({sample.basis}). MongoDB's own plan for the filter: {outline(plan)}.",
            remedy,
            winningPlan=shortened(plan), build=build, documents=count, bytes=weight, share=round(sample.share, 4),
        )  # fmt: skip
        return


def _advice(it: Subject, query: Mapping[str, Any]) -> tuple[str, str | None]:
    """What to do, and the command that builds the index: fields that are compared with one value, then the sort by _id."""
    fields = list(equalities(query))
    if not fields:
        return (
            "A run uses an index only on fields that the filter compares with one value, and this filter has none. Narrow it by such a field, or expect the walk.",
            None,
        )
    key = json.dumps(dict.fromkeys([*fields, "_id"], 1), ensure_ascii=False)
    where = f"db.getSiblingDB({json.dumps(it.run.database)}).getCollection({json.dumps(it.run.collection)})"
    build = f"{where}.createIndex({key})"
    return f"Build one first: {build}", build


def touched(it: Subject, paths: Iterable[str] | None) -> Iterator[Finding]:
    """Unique and TTL indexes on what the run changes. `paths`: None where that is not known."""
    for name, index in _indexes(it).items():
        fields = [str(field) for field, _ in index["key"]]
        hit = sorted(path for path in paths or () if any(overlaps(path, field) for field in fields))
        if index["key"] == [("_id", 1)] or (paths is not None and not hit):
            continue
        if index.get("unique"):
            yield _unique(it, name, fields, hit)
        if "expireAfterSeconds" in index:
            yield _ttl(it, name, fields, hit, index["expireAfterSeconds"])


def _unique(it: Subject, name: str, fields: list[str], hit: list[str]) -> Finding:
    detail: dict[str, Any] = {"index": name, "fields": fields, "touched": hit}
    if not hit:
        return unknown(
            Check.UNIQUE_INDEX,
            f"{it.name} has the unique index {name!r}. Whether the migration changes its fields ({', '.join(fields)}) cannot be told from its definition.",
            "If it does, each document whose new value another has already becomes a failure.",
            **detail,
        )
    return warning(
        Check.UNIQUE_INDEX,
        f"The migration changes {', '.join(hit)}, on which {it.name} has the unique index {name!r}: each document whose new value another has already becomes a failure (code 11000).",
        "Make sure that the new values differ: count them by an aggregation first.",
        **detail,
    )


def _ttl(it: Subject, name: str, fields: list[str], hit: list[str], seconds: float) -> Finding:
    detail: dict[str, Any] = {"index": name, "fields": fields, "touched": hit, "expireAfterSeconds": seconds}
    if not hit:
        return unknown(
            Check.TTL_INDEX,
            f"{it.name} has the TTL index {name!r}. Whether the migration changes its field ({', '.join(fields)}) cannot be told from its definition.",
            f"If it sets a date that is {seconds:,.0f} seconds old, MongoDB deletes the document within a minute.",
            **detail,
        )
    return warning(
        Check.TTL_INDEX,
        f"The migration changes {', '.join(hit)}, on which {it.name} has the TTL index {name!r}: a document whose new date is {seconds:,.0f} seconds old is deleted within a minute, and cannot be had back.",
        "Make sure that the new dates are late enough, or raise the index's expireAfterSeconds by collMod for the run.",
        **detail,
    )


def _indexes(it: Subject) -> Indexes:
    with translated():
        return it.collection.index_information()
