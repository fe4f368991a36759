"""Checks by `explain`, without running them, that MongoDB understands the filter and the update."""

from collections.abc import Iterator
from typing import Any

from whimbrel.domain.bson.raw_bson import DOCUMENT_OPTIONS
from whimbrel.domain.runs.preflight_findings import CheckName, Finding, error
from whimbrel.errors import Refused
from whimbrel.mongo.driver_errors import sentence, translated
from whimbrel.mongo.preflight.subject import Subject


def filter_(subject: Subject) -> Iterator[Finding]:
    try:
        explain(subject, {"find": subject.run.collection, "filter": subject.run.query})
    except Refused as refused:
        yield error(
            CheckName.FILTER,
            f"MongoDB does not understand the filter: {sentence(refused).rstrip('.')}.",
            "Mend the filter.",
        )


def update(subject: Subject) -> Iterator[Finding]:
    if subject.definition.update is None:
        return
    variables = {"run": "", "batch": "", "phase": "", "claimed_at": None}
    statement = {"q": {"_id": None}, "u": subject.definition.update, "multi": True}
    try:
        explain(subject, {"update": subject.run.collection, "updates": [statement], "let": variables})
    except Refused as refused:
        yield error(
            CheckName.UPDATE,
            f"MongoDB does not understand the update of migration {subject.run.migration!r}: {sentence(refused).rstrip('.')}.",
            "Mend the migration.",
        )


def explain(subject: Subject, command: dict[str, Any]) -> dict[str, Any]:
    """Returns the planner's answer. Raises Refused where MongoDB does not understand the command."""
    with translated():
        return subject.collection.database.command(
            "explain", command, verbosity="queryPlanner", codec_options=DOCUMENT_OPTIONS
        )
