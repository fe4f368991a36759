"""What a verification found in a batch, and what it proved in the end."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

LISTED = 100  # documents listed of one finding in one statement's range; more are only counted


@dataclass(frozen=True, slots=True)
class Proof:
    """One sentence about a run. `proved`: True, False where a fault was found, None where nothing can prove it.

    `since`: the finding is no fault of the run: according to what a majority had acknowledged, it came later.
    """

    check: str
    proved: bool | None
    sentence: str
    numbers: Mapping[str, int] = field(default_factory=dict)
    since: bool = False

    @property
    def verdict(self) -> str:
        if self.since:
            return "changed since"
        return {True: "proved", False: "fault", None: "not proved"}[self.proved]


@dataclass(frozen=True, slots=True)
class MarkTally:
    """What was counted in a batch of a verification. `marks`: documents by the value of the verified run's mark."""

    numbers: Counter[str] = field(default_factory=Counter)
    marks: Counter[str] = field(default_factory=Counter)

    def __add__(self, other: "MarkTally") -> "MarkTally":
        return MarkTally(self.numbers + other.numbers, self.marks + other.marks)


@dataclass(frozen=True, slots=True)
class UnaccountedDocuments:
    """Marks in the documents compared with what a run's batches have counted: in how many batches they differ, and by how much."""

    batches: int
    missing: int  # documents that were counted, but bear no such mark
    surplus: int  # documents that bear a mark, but were not counted
    examples: tuple[str, ...]  # tokens of some such batches


# Types of findings about single documents, as failures have them.
LEFT = "Left"
WITHOUT_REASON = "The document is not migrated, though the migration selects it."
UNTOLD = f"{WITHOUT_REASON} Its id does not tell whether it was there when the run looked."
SET_BACK = "The document bears the run's mark, and is eligible again: it was set back since."
UNKNOWN_MARK = "UnknownMark"
MARK_OUTSIDE = "MarkOutside"
MARK_UNFINISHED = "MarkUnfinished"
FAILURE_GONE = "FailureGone"
FAILURE_OVER = "FailureOver"
RESOLVED_UNMARKED = "ResolvedUnmarked"
CHANGES_AGAIN = "ChangesAgain"
NOT_TAKEN_BACK = "NotTakenBack"
