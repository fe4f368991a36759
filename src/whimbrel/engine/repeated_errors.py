"""Decides when an error that keeps coming back pauses a run: nothing is silently repeated forever.

An error's class says how to react to it (`errors.Remedy`), and the table in `domain/failures/retry_policy.py` how often. That is counted here, as long as the
error is the same and there is no progress in between.
"""

import re
from collections.abc import Collection, Hashable
from dataclasses import dataclass

from whimbrel.domain.failures.retry_policy import ERRORS, OWN_FAULT
from whimbrel.domain.text.safe_text import exception_message, type_name
from whimbrel.errors import Remedy, WhimbrelError

TIMES: dict[Remedy, float] = {remedy: policy.times for remedy, policy in ERRORS.items()}
"""How often in a row the same error may occur before a person must look."""

FAULTS = int(OWN_FAULT.times)
"""The same limit for an error of Whimbrel itself: of a batch, while its run has other batches; of a thread, before that error ends its work."""

_VARYING = re.compile(r"\b[0-9a-f]{8,}\b|\d+")


def times_of(error: BaseException) -> float:
    """Returns how often in a row this error may occur, without any progress, before a person must look."""
    return TIMES[error.remedy] if isinstance(error, WhimbrelError) else FAULTS


def pause_message(error: BaseException) -> str:
    """Returns the error as a sentence for a person."""
    if isinstance(error, WhimbrelError):
        return str(error)
    return f"Whimbrel itself failed: {type_name(error)}: {exception_message(error, 500)}. The log says where."


@dataclass(frozen=True, slots=True)
class _Occurrences:
    error: str
    progress: Hashable
    times: int


class RepeatedErrors:
    """Counts how often in a row something has met the same error without any progress. Losing these counts does no harm."""

    def __init__(self) -> None:
        self._occurrences: dict[str, _Occurrences] = {}

    def record(self, name: str, error: BaseException, progress: Hashable = None) -> str:
        """Counts an error of the thing with this name, which has got as far as `progress`. Returns why a person must look now, or an empty string."""
        message = f"{type_name(error)}: {_VARYING.sub('#', pause_message(error))}"
        before = self._occurrences.get(name)
        same = before is not None and (before.error, before.progress) == (message, progress)
        times = before.times + 1 if before is not None and same else 1
        self._occurrences[name] = _Occurrences(message, progress, times)
        if times < times_of(error):
            return ""
        self.forget(name)  # when a person resumes the run, it gets as many attempts again
        return (
            pause_message(error)
            if times == 1
            else f"{times} times in a row, and nothing went on: {pause_message(error)}"
        )

    def forget(self, name: str) -> None:
        """Starts counting anew for this name: it has made progress."""
        self._occurrences.pop(name, None)

    def keep(self, names: Collection[str]) -> None:
        """Forgets all other names."""
        self._occurrences = {name: counted for name, counted in self._occurrences.items() if name in names}
