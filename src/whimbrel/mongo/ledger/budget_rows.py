"""Converts what a run's row keeps of its failure budget."""

from collections.abc import Mapping, Sequence
from typing import Any

from whimbrel.domain.failures.causes import GroupCount
from whimbrel.domain.runs.failure_budget import BrokenRule, FailureBudget, Standing
from whimbrel.domain.runs.run import Run

Row = Mapping[str, Any]
BUDGET_PATHS = {
    "max_failures": "budget.failures",
    "max_failure_rate": "budget.rate",
    "max_new_cause": "budget.newCause",
}


def budget_fields(run: Run) -> dict[str, Any]:
    return {
        "budget": budget_row(run.budget),
        "forgiven": standing_row(run.forgiven),
        "overBudget": broken_rows(run.over_budget),
    }


def budget_row(budget: FailureBudget) -> dict[str, Any]:
    return {"failures": budget.failures, "rate": budget.rate, "newCause": budget.new_cause}


def budget_of(row: Row | None) -> FailureBudget:
    """Reads a budget; a run of an earlier version has none."""
    row = row or {}
    return FailureBudget(row.get("failures"), row.get("rate"), row.get("newCause"))


def standing_row(standing: Standing | None) -> dict[str, Any] | None:
    if standing is None:
        return None
    causes = [
        {"group": group, "open": count.open, "dead": count.dead} for group, count in standing.causes.items()
    ]
    return {"batches": standing.batches, "documents": standing.documents, "causes": causes}


def standing_of_row(row: Row | None) -> Standing | None:
    if row is None:
        return None
    causes = {cause["group"]: GroupCount(cause["open"], cause["dead"]) for cause in row["causes"]}
    return Standing(row["batches"], row["documents"], causes)


def broken_rows(broken: Sequence[BrokenRule]) -> list[dict[str, Any]]:
    return [
        {
            "rule": rule.rule, "value": rule.value, "limit": rule.limit, "failures": rule.failures, "documents": rule.documents,
            "causes": [{"group": group, "n": number} for group, number in rule.causes],
        }
        for rule in broken
    ]  # fmt: skip


def broken_of(rows: Sequence[Row] | None) -> tuple[BrokenRule, ...]:
    return tuple(
        BrokenRule(
            row["rule"], row["value"], row["limit"], row["failures"], row["documents"],
            tuple((cause["group"], cause["n"]) for cause in row["causes"]),
        )
        for row in rows or ()
    )  # fmt: skip
