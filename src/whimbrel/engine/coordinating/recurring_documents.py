"""Notices documents that are eligible again each time they were changed, which only mark `filter` allows: nothing may be repeated for ever."""

import time
from collections import OrderedDict
from collections.abc import Collection, Sequence

from whimbrel.domain.bson.raw_bson import Key
from whimbrel.errors import Systemic

TIMES = 1000  # in a row
SECONDS = 10.0  # between two of them at most
REMEMBERED = 10_000  # documents of a run


class RecurringDocuments:
    """What one process remembers of the runs that it lets follow."""

    def __init__(self) -> None:
        self._runs: dict[str, OrderedDict[Key, tuple[int, float]]] = {}

    def keep(self, runs: Collection[str]) -> None:
        self._runs = {run_id: known for run_id, known in self._runs.items() if run_id in runs}

    def check(self, run_id: str, keys: Sequence[Key]) -> None:
        """Counts documents that are to be changed now. Raises Systemic where one has come back too often."""
        known, now = self._runs.setdefault(run_id, OrderedDict()), time.monotonic()
        for key in keys:
            times, before = known.pop(key, (0, now))
            times = times + 1 if now - before <= SECONDS else 1
            if times >= TIMES:
                raise Systemic(
                    f"The document with _id {key.value!r} was changed {TIMES} times, and is eligible again each time: either the change does not make the filter "
                    "false for it, or the application sets it back again and again. Mend that, and resume the run; or choose mark='marker'."
                )
            known[key] = times, now
        while len(known) > REMEMBERED:
            known.popitem(last=False)
