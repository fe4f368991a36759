"""Checks whether a run can follow the changes of its collection, by beginning to: rights, and a server that has changes to tell."""

from collections.abc import Iterator

from whimbrel.domain.runs.preflight_findings import CheckName, Finding, error
from whimbrel.errors import Refused, Systemic
from whimbrel.mongo.changes import MongoChanges
from whimbrel.mongo.driver_errors import NO_RIGHT, translated
from whimbrel.mongo.preflight.subject import Subject


def follow(subject: Subject) -> Iterator[Finding]:
    """Yields an error where it cannot."""
    run = subject.run
    if run.follow is None:
        return
    if "follow" not in run.legs:
        scope = (
            f"the first {run.scope.limit:,} documents"
            if run.scope.kind == "first"
            else f"documents that are {run.asked}"
            if run.asked
            else "documents that were named"
        )
        yield error(
            CheckName.FOLLOW,
            f"A run over {scope} cannot follow: it has no end at which all other documents are done.",
            "Leave out what limits it, or do not let it follow.",
        )
        return
    with translated():
        hello = subject.client.admin.command("hello")
    if "setName" not in hello:
        yield error(
            CheckName.FOLLOW,
            "This server is stand-alone, and has no change streams: a run cannot follow.",
            "Make it a replica set, even of one member (--replSet, then rs.initiate()); or run again without following, as often as documents come.",
        )
        return
    try:
        MongoChanges(subject.collection, run, None).close()
    except (Systemic, Refused) as why:
        denied = getattr(why.__cause__, "code", None) in NO_RIGHT
        grant = f'db.grantRolesToUser("USER", [{{role: "read", db: "{run.database}"}}])'
        yield error(
            CheckName.FOLLOW,
            f"MongoDB does not let this user watch the changes of {subject.name}, so that a run cannot follow: {why}",
            f"Grant it the action changeStream on the collection, which the role read has: {grant}"
            if denied
            else "Mend that, or do not let the run follow.",
        )
