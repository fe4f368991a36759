"""Checks indexes: whether one serves the selection, and which ones the change touches."""

import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from whimbrel.domain.migrations.updates import overlaps
from whimbrel.domain.runs.preflight_findings import CheckName, Finding, unknown, warning
from whimbrel.domain.runs.run import eligible, first_phases
from whimbrel.mongo.driver_errors import translated
from whimbrel.mongo.preflight.explain import explain
from whimbrel.mongo.preflight.sample import Sample
from whimbrel.mongo.preflight.subject import Subject, size
from whimbrel.mongo.query_plans import outline, shortened
from whimbrel.mongo.ranges import BY_ID, equalities, serving_index
from whimbrel.ports import Ahead

# A scan of a collection below both takes about a second.
MANY = 100_000  # documents
LARGE = 100_000_000  # bytes
FEW = 0.5  # share of the documents: where more are eligible, the scan reads at most two for each that is changed

Indexes = Mapping[str, Mapping[str, Any]]


def selection(subject: Subject, ahead: Ahead, sample: Sample) -> Iterator[Finding]:
    """Warns where the run must read documents that are not eligible."""
    count, weight = int(subject.storage["count"]), int(subject.storage["size"])
    if ahead.documents == 0:  # a run that finds nothing to do is not worth an index
        return
    if subject.run.scope.kind == "ids" or sample.share >= FEW or (count < MANY and weight < LARGE):
        return
    indexes = _indexes(subject)
    for phase in first_phases(subject.run):
        query = eligible(subject.run, phase)
        if serving_index(indexes, query)[0] != BY_ID:
            continue
        remedy, build = _advice(subject, query)
        plan = explain(subject, {"find": subject.run.collection, "filter": query})["queryPlanner"][
            "winningPlan"
        ]
        yield warning(
            CheckName.INDEX,
            f"No index yields the eligible documents of {subject.name} in _id order: the run reads all {count:,} documents ({size(weight)}), of which about {sample.share:.1%} are eligible ({sample.basis}). MongoDB's own plan for the filter: {outline(plan)}.",
            remedy,
            winningPlan=shortened(plan), build=build, documents=count, bytes=weight, share=round(sample.share, 4),
        )  # fmt: skip
        return


def _advice(subject: Subject, query: Mapping[str, Any]) -> tuple[str, str | None]:
    """Returns what to do, and the command that builds the index: on fields that are compared with one value, then on _id."""
    fields = list(equalities(query))
    if not fields:
        return (
            "A run uses an index only on fields that the filter compares with one value, and this filter has none. Narrow it by such a field, or expect the walk.",
            None,
        )
    key = json.dumps(dict.fromkeys([*fields, "_id"], 1), ensure_ascii=False)
    where = f"db.getSiblingDB({json.dumps(subject.run.database)}).getCollection({json.dumps(subject.run.collection)})"
    build = f"{where}.createIndex({key})"
    return f"Build one first: {build}", build


def touched(subject: Subject, paths: Iterable[str] | None) -> Iterator[Finding]:
    """Yields findings for unique and TTL indexes on what the run changes. `paths`: None where that is not known."""
    for name, index in _indexes(subject).items():
        fields = [str(field) for field, _ in index["key"]]
        hit = sorted(path for path in paths or () if any(overlaps(path, field) for field in fields))
        if index["key"] == [("_id", 1)] or (paths is not None and not hit):
            continue
        if index.get("unique"):
            yield _unique(subject, name, fields, hit)
        if "expireAfterSeconds" in index:
            yield _ttl(subject, name, fields, hit, index["expireAfterSeconds"])


def _unique(subject: Subject, name: str, fields: list[str], hit: list[str]) -> Finding:
    detail: dict[str, Any] = {"index": name, "fields": fields, "touched": hit}
    if not hit:
        return unknown(
            CheckName.UNIQUE_INDEX,
            f"{subject.name} has the unique index {name!r}. Whether the migration changes its fields ({', '.join(fields)}) cannot be told from its definition.",
            "If it does, each document whose new value another has already becomes a failure.",
            **detail,
        )
    return warning(
        CheckName.UNIQUE_INDEX,
        f"The migration changes {', '.join(hit)}, on which {subject.name} has the unique index {name!r}: each document whose new value another has already becomes a failure (code 11000).",
        "Make sure that the new values differ: count them by an aggregation first.",
        **detail,
    )


def _ttl(subject: Subject, name: str, fields: list[str], hit: list[str], seconds: float) -> Finding:
    detail: dict[str, Any] = {"index": name, "fields": fields, "touched": hit, "expireAfterSeconds": seconds}
    if not hit:
        return unknown(
            CheckName.TTL_INDEX,
            f"{subject.name} has the TTL index {name!r}. Whether the migration changes its field ({', '.join(fields)}) cannot be told from its definition.",
            f"If it sets a date that is {seconds:,.0f} seconds old, MongoDB deletes the document within a minute.",
            **detail,
        )
    return warning(
        CheckName.TTL_INDEX,
        f"The migration changes {', '.join(hit)}, on which {subject.name} has the TTL index {name!r}: a document whose new date is {seconds:,.0f} seconds old is deleted within a minute, and cannot be had back.",
        "Make sure that the new dates are late enough, or raise the index's expireAfterSeconds by collMod for the run.",
        **detail,
    )


def _indexes(subject: Subject) -> Indexes:
    with translated():
        return subject.collection.index_information()
