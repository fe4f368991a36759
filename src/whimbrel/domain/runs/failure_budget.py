"""How many documents may fail before a run pauses, so that a person looks before millions of them have failed.

Pure: it decides from counts alone. A failure that is not tried again counts at once. One that will be tried again counts as soon as
its cause is frequent: rare ones are mostly healed by their retries, and frequent ones are no accident.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from whimbrel.domain.failures.causes import GroupCount

JUDGED = 1000  # documents that must be evaluated before their rate is judged
WINDOW = 20  # batches over which a rate is judged at least
FREQUENT = (
    0.01  # of the documents: a cause that takes more of them counts before its failures have been tried again
)
FEWEST = 20  # failures of a cause that can be frequent at all
LISTED = 20  # causes that a broken rule names

Rule = Literal["failures", "rate", "newCause"]


@dataclass(frozen=True, slots=True)
class FailureBudget:
    """The limits of a run. None: there is no such limit.

    `failures`: documents; `rate`: the share of the documents evaluated lately; `new_cause`: documents with one cause that nobody has seen.
    """

    failures: int | None = None
    rate: float | None = None
    new_cause: int | None = None

    @property
    def off(self) -> bool:
        return self.failures is None and self.rate is None and self.new_cause is None


@dataclass(frozen=True, slots=True)
class Known:
    """Causes that a person has accepted, whose failures do not count at all, and causes that were seen, which are not new."""

    accepted: frozenset[str] = frozenset()
    seen: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Standing:
    """How far a run is: settled batches, evaluated documents, failures by cause.

    `untold`: how many documents more may have been evaluated, which no batch has told yet.
    """

    batches: int = 0
    documents: int = 0
    causes: Mapping[str, GroupCount] = field(default_factory=dict)
    untold: int = 0


NOTHING = Standing()


@dataclass(frozen=True, slots=True)
class BrokenRule:
    """A limit that was passed. `value`: of what is limited; `failures` of `documents` that count for it; `causes`: those with most of them."""

    rule: Rule
    value: float
    limit: float
    failures: int
    documents: int
    causes: tuple[tuple[str, int], ...]


def window_start(marks: Sequence[Standing], now: Standing, base: Standing) -> Standing:
    """Returns the latest of these earlier standings that is far enough back for a rate since then to be judged; else `base`."""
    for mark in reversed(marks):
        if mark.documents < base.documents:
            break
        if now.batches - mark.batches >= WINDOW and now.documents - mark.documents >= JUDGED:
            return mark
    return base


def broken_rules(
    budget: FailureBudget, now: Standing, *, since: Standing, base: Standing, known: Known
) -> list[BrokenRule]:
    """Returns the limits that a run has passed. `since`: where its window begins; `base`: where counting begins."""
    lately = _frequent(now, since)
    all_of_it = _Span(base, now, lately | _frequent(now, base), known)
    window = _Span(since, now, lately, known)
    broken = []
    if budget.failures is not None:
        # Somebody has said how many are too many: few of them may be frequent too.
        numbered = _Span(base, now, lately | _frequent(now, base, fewest=1), known)
        if numbered.total > budget.failures:
            broken.append(numbered.rule("failures", numbered.total, budget.failures))
    if budget.rate is not None and window.documents >= JUDGED and window.surely_over(budget.rate):
        broken.append(window.rule("rate", window.total / window.documents, budget.rate))
    if budget.new_cause is not None:
        for cause, number in all_of_it.largest:
            if number >= budget.new_cause and cause not in known.seen:
                rule = BrokenRule(
                    "newCause", number, budget.new_cause, number, all_of_it.documents, ((cause, number),)
                )
                broken.append(rule)
    return broken


def still_broken(broken: Sequence[BrokenRule], budget: FailureBudget, known: Known) -> list[BrokenRule]:
    """Returns those of the rules that had a run pause which hold against it under this budget, with what is known of its causes by now."""
    return [rule for rule in broken if _holds(rule, budget, known)]


def _holds(rule: BrokenRule, budget: FailureBudget, known: Known) -> bool:
    left = rule.failures - sum(number for cause, number in rule.causes if cause in known.accepted)
    if rule.rule == "failures":
        return budget.failures is not None and left > budget.failures
    if rule.rule == "rate":
        return budget.rate is not None and left > budget.rate * rule.documents
    passed = [number for cause, number in rule.causes if cause not in known.accepted | known.seen]
    return budget.new_cause is not None and bool(passed) and max(passed) >= budget.new_cause


def _frequent(now: Standing, since: Standing, *, fewest: int = FEWEST) -> frozenset[str]:
    """Returns the causes so frequent since then that failures count which are going to be tried again."""
    documents = now.documents - since.documents + now.untold
    return frozenset(
        cause
        for cause, count in now.causes.items()
        if (number := count.open - since.causes.get(cause, GroupCount()).open) >= fewest
        and number > FREQUENT * documents
    )


class _Span:
    """What has failed between two standings, as far as it counts."""

    def __init__(self, since: Standing, now: Standing, frequent: frozenset[str], known: Known) -> None:
        self.documents = now.documents - since.documents
        self._evaluated = self.documents + now.untold
        counted = {
            cause: _increase(count, since.causes.get(cause, GroupCount()), whole=cause in frequent)
            for cause, count in now.causes.items()
            if cause not in known.accepted
        }
        self.largest = sorted(
            ((cause, number) for cause, number in counted.items() if number),
            key=lambda item: (-item[1], item[0]),
        )
        self.total = sum(number for _, number in self.largest)

    def surely_over(self, rate: float) -> bool:
        """Whether more have failed, even if all documents that nobody has told of yet are well."""
        return self.total > rate * self._evaluated

    def rule(self, name: Rule, value: float, limit: float) -> BrokenRule:
        return BrokenRule(name, value, limit, self.total, self.documents, tuple(self.largest[:LISTED]))


def _increase(now: GroupCount, before: GroupCount, *, whole: bool) -> int:
    """Returns by how much the failures of a cause have grown; `whole`: also those that are going to be tried again."""
    if whole:
        return max(0, now.unresolved - before.unresolved)
    return max(0, now.dead - before.dead)
