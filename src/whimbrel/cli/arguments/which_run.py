"""Chooses the run for a command that names none: the last that fits, shown in the first line."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from heapq import merge
from itertools import islice

from whimbrel.cli.output.screen import Screen
from whimbrel.domain.runs.run import Run, RunKind
from whimbrel.domain.runs.states import ENDED, RunStatus
from whimbrel.engine.operating import control
from whimbrel.engine.operating.stages import waits_for_approval
from whimbrel.errors import RunUnknown, SettingsInvalid
from whimbrel.ports import Ledger

PAGE = 100  # runs of a kind
NAMED = 5  # runs that an error names where several fit

S = RunStatus
EVERY: tuple[RunKind, ...] = ("migration", "rollback", "cleanup", "verification")


@dataclass(frozen=True, slots=True)
class RunsThatFit:
    """Runs of these states and kinds. `several`: the last of them is meant; else there may be only one."""

    statuses: frozenset[RunStatus]
    kinds: tuple[RunKind, ...] = EVERY
    several: bool = False
    fits: Callable[[Run], bool] = lambda _run: True


@dataclass(frozen=True, slots=True)
class RunFilter:
    """The runs that a command applies to: the first of `among` that has any. `verb`: what is done, as in "can be ...", for people."""

    verb: str
    among: tuple[RunsThatFit, ...]


def _has_started(run: Run) -> bool:
    return run.started_at is not None


LIVE = frozenset({S.QUEUED, S.RUNNING, S.PAUSING, S.PAUSED})
TO_PAUSE = RunFilter(
    "paused", (RunsThatFit(frozenset({S.RUNNING, S.QUEUED})), RunsThatFit(frozenset({S.PAUSING, S.PAUSED})))
)
TO_CANCEL = RunFilter("cancelled", (RunsThatFit(LIVE), RunsThatFit(frozenset({S.CANCELLING}))))
TO_APPROVE = RunFilter("approved", (RunsThatFit(LIVE, fits=waits_for_approval),))
TO_SET = RunFilter("changed while it goes on", (RunsThatFit(LIVE),))
TO_RESUME = RunFilter(
    "resumed",
    (
        RunsThatFit(frozenset({S.PAUSED, S.PAUSING})),
        RunsThatFit(frozenset({S.RUNNING, S.QUEUED})),
        RunsThatFit(frozenset({S.FAILED}), several=True),
    ),
)
TO_WATCH = RunFilter("watched", (RunsThatFit(LIVE | {S.CANCELLING}), RunsThatFit(ENDED, several=True)))
TO_RETRY = RunFilter(
    "retried",
    (
        RunsThatFit(
            frozenset({S.COMPLETED_WITH_FAILURES}),
            ("migration", "rollback"),
            several=True,
            fits=lambda run: run.undone_by is None,
        ),
    ),
)
WITH_FAILURES = RunFilter(
    "looked at for failures",
    (RunsThatFit(frozenset(S), ("migration", "rollback"), several=True, fits=_has_started),),
)
TO_VERIFY = RunFilter("verified", (RunsThatFit(ENDED, ("migration",), several=True, fits=_has_started),))
TO_CLEAN_UP = RunFilter("cleaned up", (RunsThatFit(ENDED, ("migration",), several=True, fits=_has_started),))
TO_ROLL_BACK = RunFilter(
    "rolled back",
    (
        RunsThatFit(
            ENDED,
            ("migration",),
            several=True,
            fits=lambda run: _has_started(run) and bool(run.undo) and run.undone_by is None,
        ),
    ),
)


def choose_run(screen: Screen, ledger: Ledger, run_id: str | None, fit: RunFilter) -> Run:
    """Returns the run with this id, or without one the run that fits, and shows which.

    Raises RunUnknown where there is none; SettingsInvalid where several fit, and one must be named.
    """
    if run_id is not None:
        screen.locate()
        return control.find_run(ledger, run_id)
    for among in fit.among:
        fitting = _fitting_runs(ledger, among)
        if len(fitting) > 1 and not among.several:
            listed = "; ".join(f"{run.id} of {run.migration} ({run.status})" for run in fitting[:NAMED])
            and_more = "; and more" if len(fitting) > NAMED else ""
            raise SettingsInvalid(
                f"Several runs could be {fit.verb}: name one. There are {listed}{and_more}."
            )
        if fitting:
            screen.say(
                f"Run {fitting[0].id} of {fitting[0].migration} on {fitting[0].ns}, {fitting[0].status}."
            )
            screen.locate()
            return fitting[0]
    raise RunUnknown(f"There is no run that could be {fit.verb}. whimbrel status shows all.")


def _fitting_runs(ledger: Ledger, among: RunsThatFit) -> list[Run]:
    """Returns the runs that fit, the newest first: as many as are needed."""
    kinds = [_of_kind(ledger, among, kind) for kind in among.kinds]
    newest = merge(*kinds, key=lambda run: (run.created_at, run.id), reverse=True)
    return list(islice(filter(among.fits, newest), 1 if among.several else NAMED + 1))


def _of_kind(ledger: Ledger, among: RunsThatFit, kind: RunKind) -> Iterator[Run]:
    """Yields runs of a kind, the newest first, in pages."""
    page = ledger.runs.list(statuses=among.statuses, kind=kind, limit=PAGE)
    yield from page
    while len(page) == PAGE:
        page = ledger.runs.list(statuses=among.statuses, kind=kind, limit=PAGE, after=page[-1].place)
        yield from page
