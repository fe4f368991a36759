"""A run's course: how fast it was at each time of its life, what held it up, and what people changed."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from itertools import pairwise
from typing import Any

from whimbrel.domain.runs.audit import AuditEntry, AuditQuery
from whimbrel.domain.runs.holdups import MOST, Holdup, HoldupState, began, merged_holdups
from whimbrel.domain.runs.run import Run
from whimbrel.domain.runs.series import (
    SPARK_SECONDS,
    SPARKS,
    Point,
    Series,
    Spark,
    Totals,
    median,
    spark_after,
    step,
    thinned,
    with_latest,
)
from whimbrel.domain.runs.states import RunStatus
from whimbrel.engine.operating.run_view import RunView, iso_seconds, view
from whimbrel.ports import Ledger
from whimbrel.ports.series import SparkLook

MARKS = 1000  # entries of a run's audit that are read, the newest
SHORTEST = 1.0  # seconds of a state that is shown
AUDITED = "run "  # how the audit names a change of a run's state
AT_WORK = (RunStatus.RUNNING, RunStatus.PAUSING, RunStatus.CANCELLING)
HELD_UP: Mapping[str, HoldupState] = {
    "added": "queued", "queued": "queued", "pausing": "pausing", "paused": "paused", "cancelling": "cancelling", "failed": "failed",
}  # fmt: skip
MOVES = {*HELD_UP, *(str(status) for status in RunStatus)}


@dataclass(frozen=True, kw_only=True, slots=True)
class Course:
    """A run's course between two times, in seconds since the epoch. `width`: about how many seconds a point has."""

    start: float
    end: float
    width: float
    points: Sequence[Point]
    holdups: Sequence[Holdup]
    marks: Sequence[AuditEntry]
    older_left_out: bool  # the run's audit is longer than what was read: earlier marks and pauses are missing


def course_of(
    ledger: Ledger, run: Run, *, start: datetime | None = None, end: datetime | None = None, points: int
) -> Course:
    """Returns the course of a run between these times, or over its whole life, in at most so many points."""
    looked = view(ledger, run)
    marks = ledger.audit.list(AuditQuery(run=run.id), limit=MARKS)[::-1]  # oldest first
    stored = ledger.series.get(run.id) or Series(_beginning(run))
    states = list(_states(marks))
    now = _now(looked)
    last = _last_moment(run, marks, now)
    all_points = with_latest(stored, _totals(looked, last), run.allowance.share or 1.0)
    since = run.created_at.timestamp() if start is None else start.timestamp()
    until = (now if run.ended_at is None else last) if end is None else end.timestamp()
    shown, width = thinned(
        [point for point in all_points if _within(point.start, point.end, since, until)], stored.width, points
    )
    return Course(
        start=since, end=until, width=width, points=shown,
        holdups=_clipped(_all_holdups(stored.holdups, states, now), since, until),
        marks=[mark for mark in marks if not _is_move(mark) and since <= mark.at.timestamp() <= until],
        older_left_out=len(marks) == MARKS,
    )  # fmt: skip


def _beginning(run: Run) -> Totals:
    return Totals(at=(run.started_at or run.created_at).timestamp())


def _now(looked: RunView) -> float:
    return (looked.now or datetime.now(UTC)).timestamp()


def _totals(looked: RunView, at: float) -> Totals:
    return Totals(at, looked.seconds, looked.processed, looked.failures["failed"], looked.run.chunk_times)


def _last_moment(run: Run, marks: Sequence[AuditEntry], now: float) -> float:
    """Returns until when the run can have worked."""
    if run.ended_at is not None:
        return run.ended_at.timestamp()
    if run.status in AT_WORK:
        return now
    return next((mark.at.timestamp() for mark in reversed(marks) if _is_move(mark)), now)


def _is_move(mark: AuditEntry) -> bool:
    return mark.what.removeprefix(AUDITED) in MOVES and mark.what.startswith(AUDITED)


def _states(marks: Sequence[AuditEntry]) -> Iterator[Holdup]:
    """Yields the times in which the run was not at work, as its audit tells; the last one may have no end yet."""
    moves = [mark for mark in marks if _is_move(mark)]
    asked: AuditEntry | None = None
    for move, after in pairwise((*moves, None)):
        if move is None:
            continue
        state = HELD_UP.get(move.what.removeprefix(AUDITED))
        if state is not None:
            holdup = began(move.at.timestamp(), state, said=_said(move, asked, state))
            yield holdup if after is None else holdup.until(after.at.timestamp())
        asked = move if state == "pausing" else None


def _said(move: AuditEntry, asked: AuditEntry | None, state: HoldupState) -> str:
    """Returns why a run is in a state, or who wanted that. A coordinator pauses what somebody else has asked it to."""
    if state == "queued":
        return ""
    by = asked if asked is not None and state == "paused" and not move.why else move
    return by.why or by.who


def _all_holdups(stored: Iterable[Holdup], states: Sequence[Holdup], now: float) -> list[Holdup]:
    """Returns what held the run up, by its time: of times in which nobody looked, only those that the run's states do not explain."""
    lasting = [state if state.seconds or state is not states[-1] else state.until(now) for state in states]
    unexplained = [_after(holdup, lasting) if holdup.state == "unattended" else holdup for holdup in stored]
    both = [holdup for holdup in (*lasting, *unexplained) if holdup.seconds >= SHORTEST]
    return merged_holdups(sorted(both, key=lambda holdup: holdup.start), MOST)


def _after(lost: Holdup, states: Iterable[Holdup]) -> Holdup:
    """Returns what of a time in which nobody looked is left behind the states that explain it."""
    start = max(
        (state.end for state in states if state.start < lost.end and state.end > lost.start), default=lost.start
    )  # fmt: skip
    start = min(max(start, lost.start), lost.end)
    return replace(lost, start=start, seconds=lost.end - start)


def _within(start: float, end: float, since: float, until: float) -> bool:
    return end > since and start < until


def _clipped(holdups: Iterable[Holdup], since: float, until: float) -> list[Holdup]:
    return [holdup for holdup in holdups if _within(holdup.start, holdup.end, since, until)]


def course_object(run: Run, course: Course) -> dict[str, Any]:
    """Returns a run's course as JSON has it."""
    return {
        "migrationId": run.id, "from": iso_seconds(course.start), "to": iso_seconds(course.end), "seconds": round(course.width, 1),
        "points": [_point_object(point) for point in course.points],
        "holdups": [
            {
                "from": iso_seconds(holdup.start), "to": iso_seconds(holdup.end), "state": holdup.state, "signal": holdup.signal or None,
                "said": holdup.said, "share": round(holdup.share, 4), "times": holdup.times, "seconds": round(holdup.seconds, 1),
            }
            for holdup in course.holdups
        ],
        "marks": [
            {"at": iso_seconds(mark.at.timestamp()), "what": mark.what, "why": mark.why, "who": mark.who} for mark in course.marks
        ],
        "olderLeftOut": course.older_left_out,
    }  # fmt: skip


def _point_object(point: Point) -> dict[str, Any]:
    chunk = median(point.chunk_times)
    return {
        "at": iso_seconds(point.start), "until": iso_seconds(point.end), "worked": round(point.worked, 3), "documents": point.documents,
        "rate": round(point.rate, 1), "failed": point.failed, "share": round(point.share, 4),
        "chunkSeconds": None if chunk is None else round(chunk, 4), "chunks": sum(point.chunk_times.numbers),
    }  # fmt: skip


@dataclass(frozen=True, slots=True)
class Sparks:
    """The rates of some runs in the last minutes: documents a second, None where a run did not work. `start`: of the first, by the epoch."""

    start: float
    seconds: int
    rates: Mapping[str, Sequence[float | None]]


def sparks_of(ledger: Ledger, run_views: Sequence[RunView], *, now: datetime | None = None) -> Sparks:
    """Returns the rates of some runs in the last quarter of an hour, in 60 stretches, by one query."""
    stored = ledger.series.sparks([run_view.run.id for run_view in run_views])
    moment = now or max((each.now for each in run_views if each.now), default=datetime.now(UTC))
    first = int(moment.timestamp() // SPARK_SECONDS) - SPARKS + 1
    rates = {each.run.id: _rates(each, stored.get(each.run.id), first) for each in run_views}
    return Sparks(first * SPARK_SECONDS, SPARK_SECONDS, rates)


def _rates(run_view: RunView, stored: SparkLook | None, first: int) -> Sequence[float | None]:
    run = run_view.run
    seen, sparks = (_beginning(run), ()) if stored is None else (stored.seen, stored.sparks)
    known: dict[int, Spark] = {spark.number: spark for spark in sparks}
    at = run.ended_at.timestamp() if run.ended_at else _now(run_view) if run.status in AT_WORK else run.updated_at.timestamp()  # fmt: skip
    latest = step(seen, _totals(run_view, at), 1.0) if run.started_at else None
    if latest is not None:
        number = int(latest.end // SPARK_SECONDS)
        known[number] = spark_after(known.get(number), latest)
    return [
        round(known[number].rate, 1) if number in known and known[number].worked else None
        for number in range(first, first + SPARKS)
    ]  # fmt: skip
