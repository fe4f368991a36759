"""What is looked at before a run starts: errors refuse it, warnings ask, and what may not be looked at says so."""

from collections.abc import Iterator
from functools import partial
from typing import Any

from pymongo import MongoClient

from whimbrel.domain.migrations.migration import Definition
from whimbrel.domain.runs.preflight_findings import CheckName, Finding
from whimbrel.domain.runs.run import Run
from whimbrel.mongo.preflight import (
    change_streams,
    collection_kinds,
    explain,
    indexes,
    marks,
    sample,
    servers,
    volume,
)
from whimbrel.mongo.preflight.collection_kinds import NOT_SHARDED
from whimbrel.mongo.preflight.sample import Sample
from whimbrel.mongo.preflight.subject import Subject, looked
from whimbrel.ports import Ahead

__all__ = ["NOT_SHARDED", "errors", "warnings"]


def errors(client: MongoClient[Any], run: Run, definition: Definition) -> list[Finding]:
    """See `whimbrel.ports.Store.errors`."""
    it = Subject(client, run, definition)
    if found := list(collection_kinds.kind(it)):
        return found
    found = [each for each in collection_kinds.shard(client) if each.level == "error"]
    found += explain.filter_(it)
    readable = not found or found[-1].check != CheckName.FILTER
    found += [*explain.update(it), *collection_kinds.collation(it), *marks.field(it)]
    return [*found, *(marks.allowed(it) if readable else ())]


def warnings(
    client: MongoClient[Any], run: Run, definition: Definition, ahead: Ahead, *, replica_set: bool
) -> list[Finding]:
    """See `whimbrel.ports.Store.warnings`."""
    it = Subject(client, run, definition)
    paths = "Which unique and TTL indexes the change touches"
    found = looked(CheckName.UNIQUE_INDEX, paths, lambda: indexes.touched(it, ahead.touched))
    found += _by_documents(it, ahead, replica_set=replica_set)
    found += looked(
        CheckName.CHANGE_STREAMS,
        "Whether change streams are open on it",
        partial(change_streams.watchers, it),
    )
    found += looked(CheckName.CLOCK, "Whether the clocks agree", partial(servers.clock, client))
    if not replica_set:
        return [*found, servers.alone()]
    found += looked(CheckName.MEMBERS, "Whether all members follow", lambda: _members(client))
    return found + [each for each in collection_kinds.shard(client) if each.level == "unknown"]


def _members(client: MongoClient[Any]) -> Iterator[Finding]:
    yield from servers.members(client)
    yield from servers.cluster_time(client)


def _by_documents(subject: Subject, ahead: Ahead, *, replica_set: bool) -> list[Finding]:
    """The checks that read from one sample; without it none of them is done, and that is said."""
    samples: list[Sample] = []

    def look() -> Iterator[Finding]:
        samples.append(sample.taken(subject, ahead.touched))
        yield from sample.checked(subject, samples[0], volume.largest_growth(subject, ahead, samples[0]))

    what = "How large and how valid the documents are, how many of them are eligible, and what the run writes"
    found = looked(CheckName.SAMPLE, what, look)
    if samples:
        expected = volume.expected(subject, ahead, samples[0])
        found += looked(
            CheckName.INDEX,
            "Whether an index serves the selection",
            lambda: indexes.selection(subject, ahead, samples[0]),
        )
        found += looked(
            CheckName.DISK,
            "Whether the disk has room",
            lambda: volume.disk(subject, expected, replica_set=replica_set),
        )
        if replica_set:
            found += looked(
                CheckName.OPLOG, "Whether the oplog is long enough", lambda: volume.oplog(subject, expected)
            )
    return found
