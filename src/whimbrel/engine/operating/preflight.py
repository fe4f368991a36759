"""Preflight: looks for all that speaks against a run, before anything is written."""

from collections.abc import Iterator
from dataclasses import replace

from whimbrel.domain.migrations.code import CodeFiles
from whimbrel.domain.migrations.definition import Definition
from whimbrel.domain.migrations.updates import changed_paths, overlaps
from whimbrel.domain.runs.preflight_findings import CheckName, Finding, error, refuse_all, warning
from whimbrel.domain.runs.run import Run
from whimbrel.domain.runs.states import ENDED, RunStatus
from whimbrel.engine.operating.code_differences import other_values
from whimbrel.engine.operating.following_runs import is_following
from whimbrel.engine.operating.health_preflight import health_findings
from whimbrel.engine.operating.sequence import dependency_findings
from whimbrel.engine.operating.unended_runs import unended_runs
from whimbrel.ports import Ahead, FunctionAnswer, Store

BLINDING = {CheckName.COLLECTION, CheckName.FILTER}  # errors after which documents cannot be examined
ZONES = "Give them the zone that they are of, such as datetime.now(UTC)."
NAMED = 5  # other runs on the collection that are named, besides their number


def preflight(store: Store, definition: Definition, run: Run, ahead: Ahead | None) -> list[Finding]:
    """Returns all findings at once, errors first. Nothing is written.

    `ahead`: what a dry run found; None where there was none because of errors.
    """
    findings = [*store.errors(run, definition), *_changed_id(ahead), *unusable_answer_findings(ahead)]
    findings += dependency_findings(store, definition)
    if BLINDING.intersection(finding.check for finding in findings):
        return findings
    return findings + _warnings(store, definition, run, ahead or Ahead(documents=None, touched=None))


def _warnings(store: Store, definition: Definition, run: Run, ahead: Ahead) -> list[Finding]:
    if definition.update is not None:  # the definition tells more than a sample
        paths = changed_paths(definition.update)
        ahead = replace(ahead, touched=None if paths is None else frozenset(paths))
    return [
        *_naive_times(definition, ahead),
        *process_value_findings(ahead),
        *_other_runs(store, run),
        *store.warnings(run, definition, ahead),
        *health_findings(store),
    ]


def with_warnings(
    store: Store, definition: Definition, run: Run, *, documents: int, strict: bool = False
) -> Run:
    """Returns a run without errors, with the warnings that a person should know before it starts. `documents`: about how many it will change.

    `strict`: raises WarningsRefused where there are any.
    """
    findings = _warnings(store, definition, run, Ahead(documents=documents, touched=None))
    if strict:
        refuse_all(findings)
    return replace(run, warnings=tuple(findings))


def _changed_id(ahead: Ahead | None) -> Iterator[Finding]:
    if any(overlaps(path, "_id") for path in (ahead and ahead.touched) or ()):
        yield error(
            CheckName.ID, "The migration changes _id, which MongoDB does not allow.", "Leave _id as it is."
        )


def unusable_answer_findings(ahead: Ahead | None) -> Iterator[Finding]:
    """Yields an error where the function gave no usable answer for any document that it was tried on."""
    if ahead and ahead.unusable:
        yield error(
            CheckName.ANSWER,
            f"The function fails for every document that it was tried on, by a mistake that no retry mends: {ahead.unusable}",
            "Mend the function; or start all the same with --force, and each such document is a failure.",
        )


def _naive_times(definition: Definition, ahead: Ahead) -> Iterator[Finding]:
    if definition.code.naive:
        yield warning(
            CheckName.TIMES,
            f"The migration holds times without a zone, in {', '.join(map(repr, definition.code.naive))}: they are taken as if they were UTC.",
            ZONES,
            fields=list(definition.code.naive),
        )
    if ahead.naive:
        yield warning(
            CheckName.TIMES,
            f"The function returns times without a zone, in {', '.join(map(repr, ahead.naive))}: they are stored as if they were UTC.",
            ZONES,
            fields=list(ahead.naive),
        )


def differing_values(definition: Definition, asked: FunctionAnswer | None) -> tuple[str, ...]:
    """Returns the names of what the function uses that differs between the process asked and the one that loaded the definition."""
    return tuple(other_values(definition.code, CodeFiles(values=asked.values))) if asked else ()


def process_value_findings(ahead: Ahead) -> Iterator[Finding]:
    """Yields a warning where the function uses values that differ between processes."""
    if ahead.differing_values:
        yield warning(
            CheckName.VALUES,
            f"The function uses what its module makes when it is loaded, and each process makes it anew: {', '.join(ahead.differing_values)}.",
            "Each worker process would write its own. Take the run's name from the context, or put the value into the filter or an "
            "update: these are evaluated once.",
            values=list(ahead.differing_values),
        )


def _other_runs(store: Store, run: Run) -> Iterator[Finding]:
    """Yields a warning where other runs are on the collection: one run at a time works on it (hole H26)."""
    runs, unended = store.ledger.runs, set(RunStatus) - ENDED
    count = sum(runs.counted(unended, ns=run.ns).values())
    rows = unended_runs(runs, {RunStatus.QUEUED}, most=NAMED, ns=run.ns)
    if rows:
        listed = ", ".join(f"{other.id} of {other.migration} ({_state(other)})" for other in rows)
        others = f", and {count - len(rows):,} more" if count > len(rows) else ""
        yield warning(
            CheckName.RUNS,
            f"Other runs are on {run.ns}: {listed}{others}. One at a time works on a collection: this one waits for those that have begun.",
            "Wait for them, or cancel what is not wanted: whimbrel cancel RUN.",
            runs=[
                {"run": other.id, "migration": other.migration, "status": str(other.status)} for other in rows
            ],
        )


def _state(run: Run) -> str:
    return f"{run.status}, follows until it is told to end" if is_following(run) else str(run.status)
