"""The time series of runs."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from whimbrel.domain.runs.holdups import Holdup
from whimbrel.domain.runs.series import Point, Series, Spark, Totals


@dataclass(frozen=True, slots=True)
class SeriesHead:
    """What a writer must know of a series to go on with it. `writes`: how often it was written; 0: never.

    `written`: when that was last, and `now` what time it is, in seconds since the epoch by the server's clock.
    """

    now: float
    writes: int = 0
    written: float | None = None
    seen: Totals | None = None
    width: float = 0.0
    points: int = 0
    point: Point | None = None  # the last one
    holdups: int = 0
    holdup: Holdup | None = None  # the last one
    sparks: Sequence[Spark] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class SeriesChange:
    """What is new of a series. `point` and `holdup` with their places; `points` and `holdups` where all are replaced."""

    seen: Totals
    width: float
    point: tuple[int, Point] | None = None
    points: Sequence[Point] | None = None
    holdup: tuple[int, Holdup] | None = None
    holdups: Sequence[Holdup] | None = None
    spark: Spark | None = None


@dataclass(frozen=True, slots=True)
class SparkLook:
    """What a run did in the last minutes, as far as it is written, and its totals then."""

    seen: Totals
    sparks: Sequence[Spark]


class SeriesRecords(Protocol):
    """The time series of runs: one bounded row for each."""

    def head(self, run_id: str) -> SeriesHead:
        """Returns what is needed to go on with a series, without its points."""
        ...

    def get(self, run_id: str) -> Series | None:
        """Returns the whole series; None where none was written."""
        ...

    def write(self, run_id: str, change: SeriesChange, *, seen: int) -> float | None:
        """Stores what is new, if the series was written so often as was `seen`. Returns the server's time.

        Returns None where another process has written it. It may be lost in a failover: it waits for no other member, and no journal.
        """
        ...

    def sparks(self, run_ids: Sequence[str]) -> Mapping[str, SparkLook]:
        """Returns what these runs did in the last minutes, by one query; runs without a series are left out."""
        ...
