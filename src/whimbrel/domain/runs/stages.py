"""Stages: a run goes first over a few documents, spread over the key space, then over more; each stage ends at a gate."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from decimal import ROUND_CEILING, Decimal
from enum import StrEnum
from itertools import pairwise
from re import fullmatch

from whimbrel.errors import StagesRefused

MOST = 20  # stages
LONGEST_HOLD = 7 * 86_400  # seconds: a longer one is an approval that nobody has asked for
HIGHEST = 10**12  # documents
ASKED = r"[1-9][0-9]{0,11}|(0*[1-9][0-9]?|0*100)(\.0{0,4})?%|[0-9]{0,2}\.[0-9]{1,4}%"  # documents, or a percentage up to 100
ALL = "100%"


class StageState(StrEnum):
    """How far a stage is: at work until its gate was looked at; then it passes, waits, or is refused."""

    OPEN = "open"
    HOLDING = "holding"
    APPROVAL = "approval"
    REFUSED = "refused"
    PASSED = "passed"


@dataclass(frozen=True, slots=True)
class GateFinding:
    """What the gate found in one respect. `passed` None: it could not be told."""

    check: str
    passed: bool | None
    sentence: str


@dataclass(frozen=True, kw_only=True, slots=True)
class GateLook:
    """What a look at a gate found. The numbers are those of all stages so far."""

    evaluated: int
    failed: int
    conflicts: int
    findings: tuple[GateFinding, ...]

    @property
    def why_not(self) -> str:
        """Why the gate says no; empty where it does not."""
        return " ".join(finding.sentence for finding in self.findings if finding.passed is False)


@dataclass(frozen=True, kw_only=True, slots=True)
class Stage:
    """One stage. The numbers are those of all stages so far, when the gate was looked at."""

    asked: str
    state: StageState = StageState.OPEN
    evaluated: int = 0
    failed: int = 0
    conflicts: int = 0
    gate: tuple[GateFinding, ...] = ()
    looked_at: datetime | None = None
    held_until: datetime | None = None
    passed_at: datetime | None = None
    approved_by: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Stages:
    """The stages of a run. `stages`: all of them; the last one, which is everything, has no gate: the run ends with it.

    `hold`: seconds to wait at each gate. `approve`: whether a person must approve each stage.
    """

    stages: tuple[Stage, ...]
    hold: float = 0.0
    approve: bool = False

    @property
    def gates(self) -> int:
        return len(self.stages) - 1

    def fresh(self) -> "Stages":
        """Returns the same stages before anything was done."""
        return replace(self, stages=tuple(Stage(asked=stage.asked) for stage in self.stages))


def read_stages(asked: str | Sequence[str | int], *, hold: float = 0.0, approve: bool = False) -> Stages:
    """Reads stages as a person gives them: `1000,1%,10%,100%`, or a list of these. Raises StagesRefused."""
    parts = [part.strip() for part in (asked.split(",") if isinstance(asked, str) else map(str, asked))]
    for part in parts:
        if not fullmatch(ASKED, part) or not 0 < _percent(part) <= 100:  # noqa: PLR2004
            raise StagesRefused(
                f"{part[:40]!r} cannot be a stage: give a number of documents from 1, such as 1000, or a percentage above 0 up to 100, such as 1%."
            )
    if not 2 <= len(parts) <= MOST:  # noqa: PLR2004
        raise StagesRefused(
            f"{len(parts)} stages are not possible: give 2 to {MOST}, such as 1000,1%,10%,100%."
        )
    if _percent(parts[-1]) != 100 or not parts[-1].endswith("%"):  # noqa: PLR2004
        raise StagesRefused(
            f"The last stage is {parts[-1]}: it must be 100%, or the run would never be complete."
        )
    for before, after in pairwise(parts):
        if before.endswith("%") == after.endswith("%") and _number(after) <= _number(before):
            raise StagesRefused(
                f"The stage {after} is not more than the one before it, {before}: stages count from the beginning, and grow."
            )
        if before.endswith("%") and _percent(before) == 100:  # noqa: PLR2004
            raise StagesRefused(f"{before} is everything: it can only be the last stage.")
    if not 0 <= hold <= LONGEST_HOLD:
        raise StagesRefused(
            f"A stage is held for up to {LONGEST_HOLD // 86_400} days, not for {hold:g} seconds."
        )
    return Stages(stages=tuple(Stage(asked=part) for part in parts), hold=hold, approve=approve)


def stages_asked(
    asked: str | Sequence[str | int] | None, *, hold: float | None, approve: bool
) -> Stages | None:
    """Reads what was asked for. Raises StagesRefused also where a gate is asked for without stages."""
    if asked is not None:
        return read_stages(asked, hold=hold or 0.0, approve=approve)
    if hold is not None or approve:
        raise StagesRefused("Only stages can be held or approved: give some, such as 1000,1%,10%,100%.")
    return None


def documents_through(stages: Stages, index: int, estimated: int) -> int:
    """Returns how many documents the stages up to this one have, in a collection of about so many."""
    return max(_documents(stage.asked, estimated) for stage in stages.stages[: index + 1])


def documents_of(stages: Stages, index: int, estimated: int) -> int:
    """Returns how many documents a stage adds; 0 where an earlier one was larger already."""
    before = documents_through(stages, index - 1, estimated) if index else 0
    return documents_through(stages, index, estimated) - before


def _documents(asked: str, estimated: int) -> int:
    if not asked.endswith("%"):
        return int(asked)
    return int((Decimal(estimated) * _number(asked) / 100).to_integral_value(ROUND_CEILING))


def _number(asked: str) -> Decimal:
    return Decimal(asked.removesuffix("%"))


def _percent(asked: str) -> Decimal:
    """Returns a percentage as a number; 100 for a number of documents."""
    return _number(asked) if asked.endswith("%") else Decimal(100)


# The gate. Judged from the numbers of a stage alone.


def judge_failures(
    evaluated: int, failed: int, conflicts: int, *, tolerated: float | None
) -> tuple[GateFinding, GateFinding]:
    """Judges the failures and the conflicts of one stage. `tolerated`: the share of its documents that may have each; None: any."""
    return (
        _share_finding("failures", evaluated, failed, "failed", tolerated),
        _share_finding("conflicts", evaluated, conflicts, "kept being changed by the application", tolerated),
    )


def _share_finding(check: str, evaluated: int, count: int, what: str, tolerated: float | None) -> GateFinding:
    passed = tolerated is None or count <= tolerated * evaluated
    more = "" if passed else f", more than {tolerated:.0%}"
    return GateFinding(check, passed, f"{count:,} of {evaluated:,} documents {what}{more}.")


def judge_sample(sampled: int, left: int) -> GateFinding:
    """Judges a sample of a stage's documents: `left` are not migrated, though the run has evaluated them, and they have not failed."""
    if not left:
        return GateFinding(
            "sample", True, f"All of {sampled:,} documents of the stage bear what the run has written."
        )
    sentence = (
        f"{left:,} of {sampled:,} documents of the stage are not migrated any more: the application has set them back, or drops fields that "
        "it does not know."
    )
    return GateFinding("sample", False, sentence)
