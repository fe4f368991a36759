"""Watches the failures of runs at work, and pauses a run that goes over its failure budget.

What is remembered here is only how far each run was lately. Losing it does no harm: a rate is then judged over the whole run for a while.
"""

import time
from collections.abc import Collection
from dataclasses import dataclass, field, replace
from datetime import datetime

from whimbrel.domain.runs.failure_budget import NOTHING, Standing, broken_rules, window_start
from whimbrel.domain.runs.run import Run
from whimbrel.engine.operating.failure_budget import causes_before, known_of, pause_over_budget, standing_of
from whimbrel.ports import Ledger

SECONDS = 0.2  # between two looks at a run at least
CALM_SECONDS = 1.0  # the same for a run without failures, after its first looks
FIRST_LOOKS = 25  # a mistake in a migration shows at once, or in some documents much later
SHARE = 0.05  # of a coordinator's time that looking at a run may take
LONGEST = 2.0  # seconds between two looks, however long one takes


@dataclass(slots=True)
class _Memory:
    """What is remembered of a run. `began`: when it last began to work: what was before a pause counts no more."""

    began: datetime | None
    due: float = 0.0
    looks: int = 0
    calm: bool = True  # nothing has failed so far
    looked: tuple[int, int] = (-1, -1)  # leg and folded batches at the last look
    marks: list[Standing] = field(default_factory=list)
    before: frozenset[str] | None = None  # causes of the run before it


class FailureWatch:
    """The failures of all runs that one process coordinates."""

    def __init__(self, ledger: Ledger, name: str) -> None:
        self._ledger, self._name = ledger, name
        self._runs: dict[str, _Memory] = {}

    def keep(self, runs: Collection[str]) -> None:
        """Forgets all other runs."""
        self._runs = {run: memory for run, memory in self._runs.items() if run in runs}

    def over_budget(self, run: Run, *, phase_ends: bool = False) -> bool:
        """Pauses a running run that has gone over its budget. Returns whether it has. `phase_ends`: looks though it has looked just now."""
        if run.budget.off:
            return False
        memory = self._runs.get(run.id)
        if memory is None or memory.began != run.working_since:
            memory = self._runs[run.id] = _Memory(run.working_since)
        place = run.leg, run.folded_through
        if time.monotonic() < memory.due and not (phase_ends and memory.looked != place):
            return False
        began = time.monotonic()
        over = self._judge(run, memory)
        now = time.monotonic()
        memory.looks += 1
        pause = CALM_SECONDS if memory.calm and memory.looks > FIRST_LOOKS else SECONDS
        memory.looked, memory.due = place, now + max(pause, min(LONGEST, (now - began) / SHARE))
        return over

    def _judge(self, run: Run, memory: _Memory) -> bool:
        now, base = standing_of(self._ledger, run), run.forgiven or NOTHING
        # Retries evaluate no other documents: from there on the rate is that of the whole run.
        windowed = "failed" not in run.legs[: run.leg + 1]
        since = window_start(memory.marks, now, base) if windowed else base
        if windowed:
            _remember(memory, now, since)
        memory.calm = not any(count.unresolved for count in now.causes.values())
        if memory.calm:
            return False
        known = known_of(self._ledger, run.id)
        broken = broken_rules(run.budget, now, since=since, base=base, known=known)
        if any(rule.rule == "newCause" for rule in broken):
            known = replace(known, seen=known.seen | self._before(run, memory))
            broken = broken_rules(run.budget, now, since=since, base=base, known=known)
        if not broken:
            return False
        pause_over_budget(self._ledger, run, broken, who=self._name)
        return True

    def _before(self, run: Run, memory: _Memory) -> frozenset[str]:
        if memory.before is None:
            memory.before = causes_before(self._ledger, run)
        return memory.before


def _remember(memory: _Memory, now: Standing, since: Standing) -> None:
    """Remembers a standing where batches with documents were settled since the last one; what is before the window is not needed any more."""
    if since in memory.marks:
        del memory.marks[: memory.marks.index(since)]
    last = memory.marks[-1] if memory.marks else NOTHING
    if now.batches > last.batches and now.documents > last.documents:
        memory.marks.append(now)
