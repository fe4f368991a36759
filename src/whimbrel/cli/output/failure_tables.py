"""Builds the tables and JSON objects of failures and of their causes."""

from collections.abc import Iterable, Mapping
from typing import Any

from whimbrel.cli.output.fact_tables import FactTable
from whimbrel.cli.output.terminal_text import Text, local_time
from whimbrel.domain.failures.causes import VARIOUS
from whimbrel.domain.failures.failure import Failure, FailureGroup
from whimbrel.domain.failures.known_causes import KnownCause
from whimbrel.engine.operating.failure_export import accepted_object
from whimbrel.engine.operating.run_view import iso_time


def groups_table(
    groups: Iterable[FailureGroup],
    title: str = "Failures by cause",
    known: Mapping[str, KnownCause] | None = None,
) -> FactTable:
    """Builds the table of causes. `known`: what people have said of them."""
    table = FactTable(
        ("group", "open", "dead", "resolved", "cause"), title, right=("open", "dead", "resolved")
    )
    for group in groups:
        place = f" at {group.place}" if group.place else ""
        various = "various messages, such as: " if group.signature.endswith(VARIOUS) else ""
        table.add(
            group.group, f"{group.open:,}", f"{group.dead:,}", f"{group.resolved:,}",
            Text(
                f"{group.kind}, {group.type}{place}: {various}{group.message}\nfor example _id {group.example.value}"
                f"{_acceptance((known or {}).get(group.group))}"
            ),
        )  # fmt: skip
    return table


def _acceptance(known: KnownCause | None) -> str:
    """Returns who has accepted a cause, when and why; empty where nobody has."""
    if known is None or not known.accepted:
        return ""
    return f"\naccepted by {known.who}, {local_time(known.at)}{f': {known.note}' if known.note else ''}"


def failures_table(failures: Iterable[Failure]) -> FactTable:
    table = FactTable(("_id", "state", "attempt", "due", "group", "what"), "Failures by document")
    for failure in failures:
        due = local_time(failure.due_at) if failure.state == "open" else ""
        cell = f"{failure.type}: {failure.message}"
        # The complete last frame; each begins with a line of its own.
        tail = failure.traceback[max(failure.traceback.rfind("  File "), 0) :].rstrip()
        table.add(
            Text(str(failure.key.value)), str(failure.state), str(failure.attempt), due, failure.group,
            Text(f"{cell}\n{tail}" if tail else cell),
        )  # fmt: skip
    return table


def group_object(group: FailureGroup, known: KnownCause | None = None) -> dict[str, Any]:
    return {
        "group": group.group, "signature": group.signature, "kind": group.kind, "type": group.type, "place": group.place,
        "message": group.message, "open": group.open, "dead": group.dead, "resolved": group.resolved,
        "example": group.example.value, "accepted": accepted_object(known),
    }  # fmt: skip


def failure_object(failure: Failure) -> dict[str, Any]:
    return {
        "_id": failure.key.value, "batch": failure.batch, "phase": failure.phase, "state": str(failure.state), "outcome": failure.outcome,
        "kind": str(failure.kind), "type": failure.type, "message": failure.message, "code": failure.code, "attempt": failure.attempt,
        "group": failure.group, "due": iso_time(failure.due_at),
        "first": iso_time(failure.first_at), "last": iso_time(failure.last_at), "resolution": failure.resolution,
        "traceback": failure.traceback, "cursor": failure.place.cursor,
    }  # fmt: skip
