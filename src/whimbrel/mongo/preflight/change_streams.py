"""Finds change streams on the collection: each document that changes is an event in every one of them."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from whimbrel.domain.runs.preflight_findings import CheckName, Finding, warning
from whimbrel.mongo.changes import COMMENT
from whimbrel.mongo.driver_errors import translated
from whimbrel.mongo.preflight.subject import LOOK, Subject


def change_streams(subject: Subject) -> list[str]:
    """Returns what each open change stream that sees the collection watches."""
    pipeline: list[Mapping[str, Any]] = [
        {"$currentOp": {"allUsers": True, "idleCursors": True}},
        {"$match": {"cursor.tailable": True}},
    ]
    with translated():
        rows = list(subject.client.admin.aggregate(pipeline, maxTimeMS=LOOK))
    return [watched for row in rows if (watched := scope(row, subject.run.database, subject.run.collection))]


def watchers(subject: Subject) -> Iterator[Finding]:
    scopes = change_streams(subject)
    if scopes:
        counts = ", ".join(f"{scopes.count(scope)} on the {scope}" for scope in dict.fromkeys(scopes))
        yield warning(
            CheckName.CHANGE_STREAMS,
            f"Change streams are open that see {subject.name}: {counts}. Each document that the run changes is an event for each of them.",
            "Make sure that those who listen can take them, and that their resume tokens stay in the oplog; or give the run a rate (`maxDocsPerSecond` of the REST API).",
            open=scopes,
        )


def scope(row: Mapping[str, Any], database: str, collection: str) -> str | None:
    """Returns what a cursor watches, if that includes the collection and is not Whimbrel's own: "collection", "database" or "cluster"."""
    command = row["cursor"].get("originatingCommand", {})
    stages: Sequence[Mapping[str, Any]] = command.get("pipeline", ())
    stage = stages[0].get("$changeStream") if stages else None
    if stage is None or command.get("comment") == COMMENT:
        return None
    if stage.get("allChangesForCluster"):
        return "cluster"
    where = {f"{database}.{collection}": "collection", f"{database}.$cmd.aggregate": "database"}
    return where.get(str(row.get("ns")))
