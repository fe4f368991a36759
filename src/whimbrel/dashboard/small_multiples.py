"""Lines in a small picture of their own, one beside the other: their points in its own units, for an SVG of 100 by 30."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

WIDTH: Final = 100.0
HEIGHT: Final = 30.0
GAPS: Final = 3.0  # a line is broken where more than so many of its steps are missing
ROOM: Final = 1.15  # the part of the height above the highest value that is shown
Values = Sequence[tuple[datetime, float]]


@dataclass(frozen=True, slots=True)
class Picture:
    """`lines`: the points of each unbroken line. `slow`, `stop`: heights of the thresholds; None: none, or far above. `top`: the value at the upper edge."""

    lines: Sequence[str]
    slow: float | None
    stop: float | None
    top: float
    smallest: float | None
    largest: float | None

    @property
    def empty(self) -> bool:
        return not self.lines


def picture(
    values: Values, *, until: datetime, span: timedelta, step: timedelta, slow: float | None = None, stop: float | None = None
) -> Picture:  # fmt: skip
    """Draws values over the time `span` up to `until`; `step`: the time between two of them."""
    shown = [(moment, value) for moment, value in values if moment > until - span]
    numbers = [value for _, value in shown]
    highest = max(numbers, default=0.0)
    # A threshold far above all values would flatten them to nothing: then it is out of the picture.
    near = [level for level in (slow, stop) if level is not None and level <= 4 * max(highest, 1e-9)]
    top = max([highest, *near]) * ROOM or 1.0
    lines: list[list[str]] = []
    before: datetime | None = None
    for moment, value in shown:
        if before is None or moment - before > GAPS * step:
            lines.append([])
        x = WIDTH * (1 - (until - moment) / span)
        lines[-1].append(f"{x:.1f},{_height(value, top):.1f}")
        before = moment
    return Picture(
        lines=[" ".join(_visible(line)) for line in lines], slow=_level(slow, top), stop=_level(stop, top), top=top,
        smallest=min(numbers, default=None), largest=max(numbers, default=None),
    )  # fmt: skip


def _visible(line: Sequence[str]) -> Sequence[str]:
    """Returns a line that can be seen: a single point is drawn as a short dash."""
    if len(line) > 1:
        return line
    x, _, y = line[0].partition(",")
    return [line[0], f"{float(x) + 0.6:.1f},{y}"]


def _height(value: float, top: float) -> float:
    return HEIGHT - 1 - (HEIGHT - 2) * min(max(value, 0.0), top) / top


def _level(level: float | None, top: float) -> float | None:
    return None if level is None or level > top else round(_height(level, top), 1)
