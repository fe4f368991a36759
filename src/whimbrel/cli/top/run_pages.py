"""Pages of runs: those at work first, then paused and queued ones, then those that have ended. The cost does not depend on how many runs there are."""

import time
from collections.abc import Sequence
from dataclasses import dataclass

from whimbrel.domain.runs.run import Run
from whimbrel.domain.runs.run_cursor import RunPlace
from whimbrel.domain.runs.states import ENDED, RunStatus
from whimbrel.engine.operating.run_view import RunView, views
from whimbrel.ports import Ledger

PAGE = 100  # runs of a page
SEARCHED = 2000  # runs that are looked through for one page at most
KEPT = 1.0  # seconds for which runs that have ended are not read again, unless another has ended
SEARCH_KEPT = 5.0  # the same where words are looked for

S = RunStatus
# One after the other; within each the newest first.
GROUPS = (
    frozenset({S.RUNNING, S.PAUSING, S.CANCELLING}), frozenset({S.PAUSED}), frozenset({S.QUEUED}), ENDED,
)  # fmt: skip
LAST = len(GROUPS) - 1
# Which runs are shown: in turn.
SHOWN: dict[str, frozenset[RunStatus]] = {
    "all runs": frozenset(RunStatus),
    "runs that have not ended": frozenset(RunStatus) - ENDED,
    "all but completed runs": frozenset(RunStatus) - {RunStatus.COMPLETED},
}


@dataclass(frozen=True, slots=True)
class Place:
    """Where a page begins. `group`: among these runs."""

    group: int = 0
    after: RunPlace | None = None


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which page of runs: where it begins, of which runs, and the words that they must have."""

    place: Place = Place()
    shown: str = next(iter(SHOWN))
    words: str = ""


@dataclass(frozen=True, slots=True)
class RunPage:
    """`following`: where the next page begins, None where there is none. `searched`: only so many runs were looked through, and more may match."""

    views: tuple[RunView, ...] = ()
    following: Place | None = None
    searched: bool = False


def matches(run: Run, words: str) -> bool:
    """Whether a run has all these words somewhere in what a row shows of it."""
    text = f"{run.id} {run.migration} {run.ns} {run.status} {run.kind} {run.of or ''}".lower().replace(
        "_", " "
    )
    return all(word in text for word in words.lower().replace("_", " ").split())


@dataclass(frozen=True, slots=True)
class _Found:
    runs: tuple[Run, ...] = ()
    following: Place | None = None
    searched: bool = False


class RunPages:
    """Reads pages; what has ended is kept for a few seconds."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._kept: tuple[object, float, RunPage] | None = None

    def page(self, wanted: Wanted) -> RunPage:
        statuses = SHOWN[wanted.shown]
        runs: list[Run] = []
        for group in range(wanted.place.group, LAST):
            if not statuses & GROUPS[group]:
                continue
            after = wanted.place.after if group == wanted.place.group else None
            found = self._find(statuses, wanted.words, group, after, PAGE - len(runs))
            runs += found.runs
            if found.following is not None:
                return RunPage(tuple(views(self._ledger, runs)), found.following, found.searched)
        seen = tuple(views(self._ledger, runs)) if runs else ()
        if not statuses & ENDED:
            return RunPage(seen)
        after = wanted.place.after if wanted.place.group == LAST else None
        ended = self._ended(statuses, wanted.words, after, [run.id for run in runs])
        return RunPage(seen + ended.views, ended.following, ended.searched)

    def _ended(
        self, statuses: frozenset[RunStatus], words: str, after: RunPlace | None, before: Sequence[str]
    ) -> RunPage:
        """Returns the runs that have ended, beside those `before` them on the page."""
        key = (statuses, words, after, frozenset(before))
        if self._kept is not None and self._kept[0] == key and time.monotonic() < self._kept[1]:
            return self._kept[2]
        found = self._find(statuses, words, LAST, after, PAGE - len(before))
        page = RunPage(tuple(views(self._ledger, found.runs)), found.following, found.searched)
        self._kept = (key, time.monotonic() + (SEARCH_KEPT if words else KEPT), page)
        return page

    def _find(
        self, statuses: frozenset[RunStatus], words: str, group: int, after: RunPlace | None, room: int
    ) -> _Found:
        """Reads on until there is no more room, or no more runs, or too many were looked through."""
        found: list[Run] = []
        for _ in range(SEARCHED // PAGE):
            read = self._ledger.runs.list(
                statuses=statuses & GROUPS[group], after=after, limit=PAGE, brief=True
            )
            for run in read:
                if not matches(run, words):
                    after = run.place
                    continue
                if len(found) == room:
                    return _Found(tuple(found), Place(group, after))
                after = run.place
                found.append(run)
            if len(read) < PAGE:
                return _Found(tuple(found))
        return _Found(tuple(found), Place(group, after), searched=True)
