"""Which failures of a run a list shows, and what is known of their causes without counting. Pure."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from whimbrel.domain.failures.causes import OTHERS
from whimbrel.domain.failures.failure import Failure, FailurePlace, FailureState


@dataclass(frozen=True, kw_only=True, slots=True)
class Trend:
    """When failures of a cause were met: `counts` in periods of `width` seconds from `since` on, the last one with that of `last`.

    A document that fails again is counted again.
    """

    since: datetime
    last: datetime
    width: float
    counts: tuple[int, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class CauseSeen:
    """What is known of a cause: `code` of MongoDB, None where it has none or it is not known. `trend` None: an earlier version met it."""

    group: str
    kind: str
    type: str
    code: int | None
    code_known: bool
    trend: Trend | None

    def may_have(self, code: int) -> bool:
        """Whether any of its failures may have this code."""
        return not self.code_known or self.type == OTHERS or self.code == code

    def may_be_of(self, since: datetime | None, until: datetime | None) -> bool:
        """Whether any of its failures may have been met in this time."""
        if self.trend is None:
            return True
        return (since is None or self.trend.last >= since) and (until is None or self.trend.since < until)


@dataclass(frozen=True, kw_only=True, slots=True)
class CauseQuery:
    """Which causes are meant; conditions that are None do not restrict."""

    group: str | None = None
    kinds: Sequence[str] | None = None
    code: int | None = None
    accepted: bool | None = None
    since: datetime | None = None
    until: datetime | None = None

    @property
    def restricts(self) -> bool:
        return any(getattr(self, name) is not None for name in self.__dataclass_fields__)

    def chosen(self, causes: Mapping[str, CauseSeen], accepted: Collection[str]) -> frozenset[str]:
        """Returns the groups of the causes that are meant, or may be."""
        return frozenset(group for group, seen in causes.items() if self._fits(seen, group in accepted))

    def _fits(self, seen: CauseSeen, is_accepted: bool) -> bool:
        return (
            self.group in (None, seen.group)
            and (self.kinds is None or seen.kind in self.kinds)
            and (self.code is None or seen.may_have(self.code))
            and self.accepted in (None, is_accepted)
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class FailureQuery:
    """All conditions hold together; those that are None do not restrict. `since`, `until`: failed last, or resolved, then or later, and before that."""

    states: Sequence[FailureState] | None = None
    groups: Collection[str] | None = None
    code: int | None = None
    since: datetime | None = None
    until: datetime | None = None


@dataclass(frozen=True, slots=True)
class FailurePage:
    """`after`: the place from which the list goes on; None: nothing comes. A page may be short though more comes: so many rows were looked at."""

    failures: Sequence[Failure]
    after: FailurePlace | None
