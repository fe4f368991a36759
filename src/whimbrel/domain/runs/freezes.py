"""Freezes: times in which nothing that writes or reads much may go on, for the whole cluster. Pure: the time is always passed in."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import ClassVar

from whimbrel.errors import WhimbrelError

MOST = 200  # freezes that are kept: in force, planned, and ended ones that are still shown
LONGEST_NOTE = 500  # characters
SHOWN = timedelta(days=7)  # for which a freeze is shown after its end
LATEST = datetime(9000, 1, 1, tzinfo=UTC)  # so that it is a time in every zone


class FreezeRefused(WhimbrelError):
    """A freeze that cannot be: it is over, ends before it begins, or there are too many."""

    code: ClassVar[str] = "freeze_refused"
    exit_code: ClassVar[int] = 64


class FreezeUnknown(WhimbrelError):
    """There is no freeze of that id, or it is over."""

    code: ClassVar[str] = "freeze_unknown"
    exit_code: ClassVar[int] = 66


@dataclass(frozen=True, kw_only=True, slots=True)
class Freeze:
    """`ends` None: until somebody lifts it. `lifted_by`: who has ended it, or taken it back before it began."""

    id: str
    begins: datetime
    ends: datetime | None = None
    note: str = ""
    by: str = ""
    lifted_by: str = ""

    def is_in_force(self, moment: datetime) -> bool:
        return self.begins <= moment and not self.is_over(moment)

    def is_over(self, moment: datetime) -> bool:
        return bool(self.lifted_by) or (self.ends is not None and self.ends <= moment)


def in_force(freezes: Sequence[Freeze], moment: datetime) -> Freeze | None:
    """Returns the freeze that is in force; of several the one that ends last."""
    found = [freeze for freeze in freezes if freeze.is_in_force(moment)]
    return max(found, key=lambda freeze: freeze.ends or LATEST, default=None)


def thaws_at(freezes: Sequence[Freeze], moment: datetime) -> datetime | None:
    """Returns when nothing is frozen any more, also where one freeze follows another. None: when somebody lifts it."""
    while (freeze := in_force(freezes, moment)) is not None:
        if freeze.ends is None:
            return None
        moment = freeze.ends
    return moment


def with_added(freezes: Sequence[Freeze], added: Sequence[Freeze], moment: datetime) -> tuple[Freeze, ...]:
    """Returns the freezes with others, all of them or none; what is there already is not added again. Raises FreezeRefused."""
    kept = list(still_shown(freezes, moment))
    for freeze in map(_in_milliseconds, added):
        _check(freeze, moment)
        if not any(same(freeze, known) for known in kept):
            kept.append(freeze)
    while len(kept) > MOST and (ended := next((each for each in kept if each.is_over(moment)), None)):
        kept.remove(ended)
    if len(kept) > MOST:
        raise FreezeRefused(
            f"There would be {len(kept)} freezes, and {MOST} are kept at most. Lift some: whimbrel unfreeze ID"
        )
    return tuple(sorted(kept, key=lambda freeze: (freeze.begins, freeze.id)))


def with_lifted(
    freezes: Sequence[Freeze], ids: Sequence[str] | None, moment: datetime, who: str
) -> tuple[tuple[Freeze, ...], tuple[Freeze, ...]]:
    """Returns the freezes after some were lifted, and those. `ids` None: all that are in force. Raises FreezeUnknown."""
    open_ = [freeze for freeze in freezes if not freeze.is_over(moment)]
    for wanted in ids or ():
        if all(freeze.id != wanted for freeze in open_):
            names = ", ".join(freeze.id for freeze in open_[:10])
            hint = f"There are: {names}." if names else "Nothing is frozen, and no freeze is planned."
            raise FreezeUnknown(f"There is no freeze {wanted[:40]!r}. {hint}")
    chosen = [freeze for freeze in open_ if (freeze.is_in_force(moment) if ids is None else freeze.id in ids)]
    lifted = {freeze.id: replace(freeze, ends=moment, lifted_by=who) for freeze in chosen}
    after = [lifted.get(freeze.id, freeze) for freeze in still_shown(freezes, moment)]
    return tuple(after), tuple(lifted.values())


def still_shown(freezes: Sequence[Freeze], moment: datetime) -> tuple[Freeze, ...]:
    """Returns the freezes without those that ended long ago."""
    return tuple(freeze for freeze in freezes if freeze.ends is None or freeze.ends > moment - SHOWN)


def same(one: Freeze, other: Freeze) -> bool:
    """Whether two freezes are the same, whoever made them."""
    one, other = _in_milliseconds(one), _in_milliseconds(other)
    return (one.begins, one.ends, one.note, one.lifted_by) == (
        other.begins,
        other.ends,
        other.note,
        other.lifted_by,
    )


def _in_milliseconds(freeze: Freeze) -> Freeze:
    """Returns a freeze with its times as MongoDB stores them."""
    begins, ends = freeze.begins, freeze.ends
    begins = begins.replace(microsecond=begins.microsecond // 1000 * 1000)
    return replace(
        freeze, begins=begins, ends=ends and ends.replace(microsecond=ends.microsecond // 1000 * 1000)
    )


def _check(freeze: Freeze, moment: datetime) -> None:
    """Raises FreezeRefused where a new freeze cannot be."""
    ends = freeze.ends
    if ends is None:
        if freeze.begins > LATEST:
            raise FreezeRefused(f"A freeze from {freeze.begins:%Y} on would never begin.")
        return
    if ends <= moment:
        raise FreezeRefused(
            f"A freeze until {shown(ends)} is over already: it is {shown(moment)}. Give a time to come."
        )
    if ends <= freeze.begins:
        raise FreezeRefused(
            f"The freeze from {shown(freeze.begins)} until {shown(ends)} would end before it begins: exchange the two."
        )
    if ends > LATEST:
        raise FreezeRefused(
            "A freeze that ends in thousands of years is one without an end: leave `until` out."
        )


def shown(moment: datetime) -> str:
    """Returns a time for people, in UTC."""
    return f"{moment.astimezone(UTC):%Y-%m-%d %H:%M} UTC"
