"""Declares the options of a run's failure budget, and reads them."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from whimbrel.domain.runs.budget_texts import read_limit, read_new_cause, read_rate
from whimbrel.engine.operating.failure_budget import Change
from whimbrel.errors import SettingsInvalid

MaxFailures = Annotated[
    str | None,
    typer.Option(
        "--max-failures", metavar="N|off", help="failed documents that it may have before it pauses"
    ),
]
MaxFailureRate = Annotated[
    str | None,
    typer.Option(
        "--max-failure-rate",
        metavar="SHARE|off",
        help="share of the documents that may fail, such as 5% or 0.05, before it pauses; judged from 1,000 documents on",
    ),
]
MaxNewCause = Annotated[
    str | None,
    typer.Option(
        "--max-new-cause",
        metavar="N|off",
        help="failures of one cause that nobody has seen before, at which it pauses",
    ),
]


def budget_change(
    max_failures: str | None, max_failure_rate: str | None, max_new_cause: str | None
) -> Change:
    """Returns the limits that were given. Raises SettingsInvalid."""
    given: tuple[tuple[str, str, str | None, Callable[[str], float | None]], ...] = (
        ("max_failures", "--max-failures", max_failures, read_limit),
        ("max_failure_rate", "--max-failure-rate", max_failure_rate, read_rate),
        ("max_new_cause", "--max-new-cause", max_new_cause, read_new_cause),
    )
    return {name: _read(option, text, read) for name, option, text, read in given if text is not None}


def _read(option: str, text: str, read: Callable[[str], float | None]) -> float | None:
    try:
        return read(text)
    except SettingsInvalid as error:
        raise SettingsInvalid(f"{option} {text[:40]}: {error}.") from error


def causes_of_plan(file: str, migration: str) -> tuple[str, ...]:
    """Returns the causes of failures that a dry run of a migration has shown, from the file that `whimbrel plan --json` wrote. Raises SettingsInvalid."""
    try:
        plan = json.loads(Path(file).read_text(encoding="utf-8"))
        planned, causes = plan["migration"], tuple(str(failure["group"]) for failure in plan["failures"])
    except OSError as error:
        raise SettingsInvalid(f"--plan {file}: {error.strerror or error}.") from error
    except (ValueError, LookupError, TypeError) as error:
        raise SettingsInvalid(
            f"--plan {file}: that is no plan. Write one with: whimbrel plan {migration} --json > {file}"
        ) from error
    if planned != migration:
        raise SettingsInvalid(f"--plan {file}: that is a plan of {planned}, not of {migration}.")
    return causes
