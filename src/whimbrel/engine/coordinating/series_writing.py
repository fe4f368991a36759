"""Writes the time series of the runs that one process coordinates: a few numbers of each, every few seconds.

Everything that is needed to go on is in the ledger: another coordinator continues where this one stopped. What was done since the last
write is added when a series is read (`engine/operating/series_view.py`), so a run that ends needs no last one, and a short run none at all.
"""

import time
from collections.abc import Collection
from dataclasses import dataclass, replace

import structlog

from whimbrel.domain.runs import series as course
from whimbrel.domain.runs.allowance import Allowance
from whimbrel.domain.runs.holdups import LEFT, MOST, Holdup, began, merged_holdups
from whimbrel.domain.runs.run import Run
from whimbrel.domain.runs.series import Point, Spark, Totals
from whimbrel.engine.coordinating.progress_samples import Progressed
from whimbrel.errors import WhimbrelError
from whimbrel.ports import Ledger
from whimbrel.ports.series import SeriesChange, SeriesHead

log = structlog.get_logger("whimbrel.coordinator")

EVERY = 5.0  # seconds between two writes of a run that works
EVERY_WAITING = 15.0  # the same while it waits, and nothing changes
NEWS = 1.0  # the same where it begins to wait, or goes on
UNATTENDED = 45.0  # seconds without a write after which nobody can have looked at the run


@dataclass(slots=True)
class _Writing:
    """What a coordinator knows of one series. `clock`: what to add to the monotonic clock for the server's time."""

    head: SeriesHead
    seen: Totals
    clock: float
    written: float  # by the monotonic clock
    point: Point | None
    holdup: Holdup | None
    spark: Spark | None


class SeriesWriting:
    """The series of the runs that one process coordinates."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._writing: dict[str, _Writing] = {}

    def keep(self, runs: Collection[str]) -> None:
        """Forgets all other runs."""
        self._writing = {run: writing for run, writing in self._writing.items() if run in runs}

    def write(self, run: Run, progressed: Progressed | None, allowance: Allowance, other: str) -> None:
        """Writes what a run has done since the last time, where it is time. `other`: what else it waits for.

        `progressed`: how far it was when that was looked at last; None: nobody has looked yet.
        """
        writing = self._writing.get(run.id) or self._begin(run)
        now = time.monotonic()
        holdup = _holdup(now + writing.clock, allowance, other)
        if now - writing.written < _pause(writing, holdup, working=allowance.share > 0.0):
            return
        try:
            change = self._change(run, writing, progressed, holdup, allowance.share)
            written = self._ledger.series.write(run.id, change, seen=writing.head.writes)
        except WhimbrelError as error:  # a run goes on without its series
            log.warning("the time series of a run was not written", run=run.id, reason=str(error))
            written = None
        if written is None:  # or another process has: go on from what is stored
            del self._writing[run.id]
            return
        writing.clock, writing.written = written - time.monotonic(), now
        writing.seen = change.seen
        writing.head = replace(
            writing.head, writes=writing.head.writes + 1, written=written, width=change.width
        )

    def _begin(self, run: Run) -> _Writing:
        head = self._ledger.series.head(run.id)
        seen = head.seen or Totals(at=(run.started_at or run.created_at).timestamp())
        head = head if head.writes else replace(head, width=course.WIDTH)
        spark = head.sparks[-1] if head.sparks else None
        now = time.monotonic()
        writing = _Writing(head, seen, head.now - now, now, head.point, head.holdup, spark)
        self._writing[run.id] = writing
        return writing

    def _change(
        self, run: Run, writing: _Writing, progressed: Progressed | None, holdup: Holdup | None, share: float
    ) -> SeriesChange:
        seen = writing.seen if progressed is None else _totals(run, progressed, writing)
        point = course.step(writing.seen, seen, share or 1.0)
        change = SeriesChange(seen=seen, width=writing.head.width)
        if point is not None:
            writing.spark = course.spark_after(writing.spark, point)
            change = replace(self._with_point(run, writing, point, change), spark=writing.spark)
        return self._with_holdup(run, writing, holdup, change)

    def _with_point(self, run: Run, writing: _Writing, point: Point, change: SeriesChange) -> SeriesChange:
        head, last = writing.head, writing.point
        if last is not None and course.fits(last, point, head.width):
            writing.point = last + point
            return replace(change, point=(head.points - 1, writing.point))
        writing.point = point
        if head.points < course.MOST:
            writing.head = replace(head, points=head.points + 1)
            return replace(change, point=(head.points, point))
        stored = self._ledger.series.get(run.id)
        points, width = course.thinned((*(stored.points if stored else ()), point), head.width, course.LEFT)
        writing.point = points[-1]
        writing.head = replace(head, points=len(points))
        return replace(change, points=points, width=width)

    def _with_holdup(
        self, run: Run, writing: _Writing, holdup: Holdup | None, change: SeriesChange
    ) -> SeriesChange:
        head, last = writing.head, writing.holdup
        now = time.monotonic() + writing.clock
        if head.written is not None and now - head.written > UNATTENDED:
            lost = began(head.written, "unattended", said="No coordinator looked at the run.").until(now)
            return self._add_holdups(run, writing, [lost], change)
        writing.holdup = holdup
        if holdup is None:
            return change
        if last is not None and holdup.is_same(last) and _goes_on(head, last):
            writing.holdup = replace(last.until(now), share=min(last.share, holdup.share), said=holdup.said)
            return replace(change, holdup=(head.holdups - 1, writing.holdup))
        return self._add_holdups(run, writing, [holdup.until(now)], change)

    def _add_holdups(
        self, run: Run, writing: _Writing, new: list[Holdup], change: SeriesChange
    ) -> SeriesChange:
        head = writing.head
        writing.holdup = new[-1]
        if head.holdups < MOST:
            writing.head = replace(head, holdups=head.holdups + 1)
            return replace(change, holdup=(head.holdups, new[-1]))
        stored = self._ledger.series.get(run.id)
        holdups = merged_holdups((*(stored.holdups if stored else ()), *new), LEFT)
        writing.head = replace(head, holdups=len(holdups))
        writing.holdup = holdups[-1]
        return replace(change, holdups=holdups)


def _totals(run: Run, progressed: Progressed, writing: _Writing) -> Totals:
    looked = progressed.view
    return Totals(
        at=max(writing.seen.at, progressed.at + writing.clock), worked=max(writing.seen.worked, looked.seconds),
        documents=looked.processed, failed=looked.failures["failed"], chunk_times=run.chunk_times,
    )  # fmt: skip


def _goes_on(head: SeriesHead, last: Holdup) -> bool:
    """Whether a run is held since the last one, and has not worked between."""
    return head.written is not None and last.end >= head.written - NEWS


def _pause(writing: _Writing, holdup: Holdup | None, *, working: bool) -> float:
    last = writing.holdup
    if (holdup is None) != (last is None) or (
        holdup is not None and last is not None and not holdup.is_same(last)
    ):
        return NEWS
    return EVERY if working else EVERY_WAITING


def _holdup(now: float, allowance: Allowance, other: str) -> Holdup | None:
    """Returns what holds a run now; None where it works at its full speed."""
    if other:
        return began(now, "waiting", said=other)
    if allowance.state == "working":
        return None
    deciding = allowance.holds[0]
    return began(now, allowance.state, signal=deciding.signal, said=deciding.sentence, share=allowance.share)
