"""The one place that decides when a trouble that comes again and again ends in a pause: nothing is repeated for ever in silence.

What is done about a trouble says its class (`errors.Remedy`). What is done again is done so often at most, as long as the
trouble is the same and nothing goes on meanwhile.
"""

import re
from collections.abc import Collection, Hashable
from dataclasses import dataclass
from math import inf

from whimbrel.domain.text.safe_text import exception_message, type_name
from whimbrel.errors import Remedy, WhimbrelError

TIMES: dict[Remedy, float] = {
    Remedy.AGAIN: 40,  # half a minute of looks and more: what a failover takes, several times over
    Remedy.SMALLER: 10,  # each of them waits for the time limit of a statement
    Remedy.WAIT: inf,
    Remedy.RECORD: 1,  # of no single document: it will be the same
    Remedy.PAUSE: 1,
    Remedy.STOP: 40,  # somebody else goes on: if nobody does, a person must look
}
"""How often in a row the same trouble is met, until a person must look."""

FAULTS = 5
"""The same of an error of Whimbrel's own: of a batch, while its run has others; of a thread, until that ends the work."""

_VARYING = re.compile(r"\b[0-9a-f]{8,}\b|\d+")


def times_of(error: BaseException) -> float:
    """How often in a row this trouble may be met, without anything going on, until a person must look."""
    return TIMES[error.remedy] if isinstance(error, WhimbrelError) else FAULTS


def pause_message(error: BaseException) -> str:
    """A trouble as a sentence for a person."""
    if isinstance(error, WhimbrelError):
        return str(error)
    return f"Whimbrel itself failed: {type_name(error)}: {exception_message(error, 500)}. The log says where."


@dataclass(frozen=True, slots=True)
class _Met:
    what: str
    at: Hashable
    times: int


class RepeatedErrors:
    """How often in a row things have met the same trouble and have gone no further. What is kept here may be lost."""

    def __init__(self) -> None:
        self._met: dict[str, _Met] = {}

    def met(self, name: str, error: BaseException, at: Hashable = None) -> str:
        """A trouble of the thing of this name, which has come as far as `at`: why a person must look now, or nothing."""
        what = f"{type_name(error)}: {_VARYING.sub('#', pause_message(error))}"
        before = self._met.get(name)
        same = before is not None and (before.what, before.at) == (what, at)
        times = before.times + 1 if before is not None and same else 1
        self._met[name] = _Met(what, at, times)
        if times < times_of(error):
            return ""
        self.over(name)  # a person who has it go on has it tried as often again
        return (
            pause_message(error)
            if times == 1
            else f"{times} times in a row, and nothing went on: {pause_message(error)}"
        )

    def over(self, name: str) -> None:
        """It goes on."""
        self._met.pop(name, None)

    def keep(self, names: Collection[str]) -> None:
        """Forget all others."""
        self._met = {name: it for name, it in self._met.items() if name in names}
