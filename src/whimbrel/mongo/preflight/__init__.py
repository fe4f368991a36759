"""Checks before a run starts: errors refuse it, warnings ask, and checks that could not be done are reported."""

from collections.abc import Iterator
from functools import partial
from typing import Any

from pymongo import MongoClient

from whimbrel.domain.migrations.definition import Definition
from whimbrel.domain.runs.preflight_findings import CheckName, Finding
from whimbrel.domain.runs.run import Run
from whimbrel.mongo.preflight import (
    change_streams,
    collection_kinds,
    explain,
    following,
    indexes,
    marks,
    sample,
    servers,
    volume,
)
from whimbrel.mongo.preflight.collection_kinds import NOT_SHARDED
from whimbrel.mongo.preflight.sample import Sample
from whimbrel.mongo.preflight.subject import Subject, findings_of
from whimbrel.ports import Ahead

__all__ = ["NOT_SHARDED", "errors", "warnings"]


def errors(client: MongoClient[Any], run: Run, definition: Definition) -> list[Finding]:
    """Implements `whimbrel.ports.Store.errors`."""
    subject = Subject(client, run, definition)
    if findings := list(collection_kinds.kind(subject)):
        return findings
    findings = [finding for finding in collection_kinds.shard(client) if finding.level == "error"]
    findings += explain.filter_(subject)
    readable = not findings or findings[-1].check != CheckName.FILTER
    findings += [*explain.update(subject), *collection_kinds.collation(subject), *marks.field(subject)]
    findings += following.follow(subject)
    return [*findings, *(marks.allowed(subject) if readable else ())]


def warnings(
    client: MongoClient[Any], run: Run, definition: Definition, ahead: Ahead, *, replica_set: bool
) -> list[Finding]:
    """Implements `whimbrel.ports.Store.warnings`."""
    subject = Subject(client, run, definition)
    paths = "Which unique and TTL indexes the change touches"
    findings = findings_of(CheckName.UNIQUE_INDEX, paths, lambda: indexes.touched(subject, ahead.touched))
    findings += _by_documents(subject, ahead, replica_set=replica_set)
    findings += findings_of(
        CheckName.CHANGE_STREAMS,
        "Whether change streams are open on it",
        partial(change_streams.watchers, subject),
    )
    findings += findings_of(CheckName.CLOCK, "Whether the clocks agree", partial(servers.clock, client))
    if not replica_set:
        return [*findings, servers.alone()]
    findings += findings_of(CheckName.MEMBERS, "Whether all members follow", lambda: _members(client))
    return findings + [finding for finding in collection_kinds.shard(client) if finding.level == "unknown"]


def _members(client: MongoClient[Any]) -> Iterator[Finding]:
    yield from servers.members(client)
    yield from servers.cluster_time(client)


def _by_documents(subject: Subject, ahead: Ahead, *, replica_set: bool) -> list[Finding]:
    """Does the checks that need the sample; without it none is done, which is reported."""
    samples: list[Sample] = []

    def look() -> Iterator[Finding]:
        samples.append(sample.take(subject, ahead.touched))
        yield from sample.check(subject, samples[0], volume.largest_growth(subject, ahead, samples[0]))

    unknown_then = (
        "How large and how valid the documents are, how many of them are eligible, and what the run writes"
    )
    findings = findings_of(CheckName.SAMPLE, unknown_then, look)
    if samples:
        expected = volume.expected(subject, ahead, samples[0])
        findings += findings_of(
            CheckName.INDEX,
            "Whether an index serves the selection",
            lambda: indexes.selection(subject, ahead, samples[0]),
        )
        findings += findings_of(
            CheckName.DISK,
            "Whether the disk has room",
            lambda: volume.disk(subject, expected, replica_set=replica_set),
        )
        if replica_set:
            findings += findings_of(
                CheckName.OPLOG, "Whether the oplog is long enough", lambda: volume.oplog(subject, expected)
            )
    return findings
