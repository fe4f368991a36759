"""Preflight: all that speaks against a run, or for thinking twice, before anything is written."""

from collections.abc import Iterator
from dataclasses import replace
from itertools import chain, islice

from whimbrel.domain.migrations.code import CodeFiles
from whimbrel.domain.migrations.migration import Definition
from whimbrel.domain.migrations.updates import changed_paths, overlaps
from whimbrel.domain.runs.preflight_findings import CheckName, Finding, error, refuse_all, warning
from whimbrel.domain.runs.run import Run
from whimbrel.domain.runs.states import ENDED, RunStatus
from whimbrel.engine.operating.code_differences import other_values
from whimbrel.ports import Ahead, FunctionAnswer, Store

BLINDING = {CheckName.COLLECTION, CheckName.FILTER}  # errors after which no document can be looked at
ZONES = "Give them the zone that they are of, such as datetime.now(UTC)."
NAMED = 5  # other runs on the collection, beside their number


def preflight(store: Store, definition: Definition, run: Run, ahead: Ahead | None) -> list[Finding]:
    """Everything at once, errors first. Nothing is written.

    `ahead`: what a dry run found; None where there was none, because of errors.
    """
    found = [*store.errors(run, definition), *_id(ahead), *answer(ahead)]
    if BLINDING.intersection(each.check for each in found):
        return found
    return found + _warnings(store, definition, run, ahead or Ahead(documents=None, touched=None))


def _warnings(store: Store, definition: Definition, run: Run, ahead: Ahead) -> list[Finding]:
    if definition.update is not None:  # a definition tells more than a sample
        paths = changed_paths(definition.update)
        ahead = replace(ahead, touched=None if paths is None else frozenset(paths))
    return [
        *_times(definition, ahead),
        *made_anew(ahead),
        *_others(store, run),
        *store.warnings(run, definition, ahead),
    ]


def warned(store: Store, definition: Definition, run: Run, *, documents: int, strict: bool = False) -> Run:
    """A run that has no errors, with what a person should know before it starts. `documents`: how many it will change, about.

    `strict`: raise WarningsRefused where there is anything to say.
    """
    found = _warnings(store, definition, run, Ahead(documents=documents, touched=None))
    if strict:
        refuse_all(found)
    return replace(run, warnings=tuple(found))


def _id(ahead: Ahead | None) -> Iterator[Finding]:
    if any(overlaps(path, "_id") for path in (ahead and ahead.touched) or ()):
        yield error(
            CheckName.ID, "The migration changes _id, which MongoDB does not allow.", "Leave _id as it is."
        )


def answer(ahead: Ahead | None) -> Iterator[Finding]:
    """An error where the function has no answer that can be used, for any document that it was tried on."""
    if ahead and ahead.unusable:
        yield error(
            CheckName.ANSWER,
            f"The function fails for every document that it was tried on, by a mistake that no retry mends: {ahead.unusable}",
            "Mend the function; or start all the same with --force, and each such document is a failure.",
        )


def _times(definition: Definition, ahead: Ahead) -> Iterator[Finding]:
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


def unlike(definition: Definition, asked: FunctionAnswer | None) -> tuple[str, ...]:
    """What the function uses that is another value in the process that was asked than in the one that has told the definition."""
    return tuple(other_values(definition.code, CodeFiles(values=asked.values))) if asked else ()


def made_anew(ahead: Ahead) -> Iterator[Finding]:
    """A warning where the function uses values that are others in each process."""
    if ahead.unlike:
        yield warning(
            CheckName.VALUES,
            f"The function uses what its module makes when it is loaded, and each process makes it anew: {', '.join(ahead.unlike)}.",
            "Each worker process would write its own. Take the run's name from the context, or put the value into the filter or an "
            "update: these are evaluated once.",
            values=list(ahead.unlike),
        )


def _others(store: Store, run: Run) -> Iterator[Finding]:
    """One run at a time works on a collection (hole H26)."""
    runs, alive = store.ledger.runs, set(RunStatus) - ENDED
    count = sum(runs.counted(alive, ns=run.ns).values())
    begun = runs.every(alive - {RunStatus.QUEUED}, ns=run.ns)
    rows = list(islice(chain(begun, runs.every([RunStatus.QUEUED], ns=run.ns)), NAMED))
    if rows:
        listed = ", ".join(f"{each.id} of {each.migration} ({each.status})" for each in rows)
        more = f", and {count - len(rows):,} more" if count > len(rows) else ""
        yield warning(
            CheckName.RUNS,
            f"Other runs are on {run.ns}: {listed}{more}. One at a time works on a collection: this one waits for those that have begun.",
            "Wait for them, or cancel what is not wanted: whimbrel cancel RUN.",
            runs=[{"run": each.id, "migration": each.migration, "status": str(each.status)} for each in rows],
        )
