"""Whether MongoDB understands the filter and the update: asked by explaining, without running them."""

from collections.abc import Iterator
from typing import Any

from whimbrel.domain.findings import Check, Finding, error
from whimbrel.domain.raw import DOCUMENT_OPTIONS
from whimbrel.errors import Refused
from whimbrel.mongo.errors import sentence, translated
from whimbrel.mongo.preflight.subject import Subject


def filter_(it: Subject) -> Iterator[Finding]:
    try:
        explained(it, {"find": it.run.collection, "filter": it.run.query})
    except Refused as refused:
        yield error(
            Check.FILTER,
            f"MongoDB does not understand the filter: {sentence(refused).rstrip('.')}.",
            "Mend the filter.",
        )


def update(it: Subject) -> Iterator[Finding]:
    if it.definition.update is None:
        return
    variables = {"run": "", "batch": "", "phase": "", "claimed_at": None}
    statement = {"q": {"_id": None}, "u": it.definition.update, "multi": True}
    try:
        explained(it, {"update": it.run.collection, "updates": [statement], "let": variables})
    except Refused as refused:
        yield error(
            Check.UPDATE,
            f"MongoDB does not understand the update of migration {it.run.migration!r}: {sentence(refused).rstrip('.')}.",
            "Mend the migration.",
        )


def explained(it: Subject, command: dict[str, Any]) -> dict[str, Any]:
    """The planner's answer. Raises Refused where MongoDB does not understand the command."""
    with translated():
        return it.collection.database.command(
            "explain", command, verbosity="queryPlanner", codec_options=DOCUMENT_OPTIONS
        )
