"""Draws the speed of a run in the last minutes as two paths: a line, and the area below it. Breaks where it did not work."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

HEIGHT: Final = 40  # a stretch of time is one unit wide; the picture is stretched to its place


@dataclass(frozen=True, slots=True)
class Sparkline:
    """`line`, `area`: data of SVG paths, in whole numbers and relative, so that they are short. `width`: of them. `most`: the highest rate."""

    line: str
    area: str
    width: int
    most: float


def sparkline(rates: Sequence[float | None]) -> Sparkline | None:
    """Returns the paths; None where the run never worked."""
    known = [rate for rate in rates if rate is not None]
    if not known:
        return None
    most = max(known)
    lines, areas = [], []
    for start, stretch in _stretches(rates):
        heights = [HEIGHT - 1 - round((HEIGHT - 2) * (rate / most if most else 0)) for rate in stretch]
        if len(heights) == 1:  # one alone would be no line
            heights *= 2
        steps = "".join(f"l1 {after - before}" for before, after in pairwise(heights))
        lines.append(f"M{start} {heights[0]}{steps}")
        areas.append(f"M{start} {HEIGHT}V{heights[0]}{steps}V{HEIGHT}Z")
    return Sparkline("".join(lines), "".join(areas), len(rates), most)


def _stretches(rates: Sequence[float | None]) -> list[tuple[int, list[float]]]:
    """Returns each stretch in which the run worked: where it begins, and its rates."""
    found: list[tuple[int, list[float]]] = []
    before = False
    for position, rate in enumerate(rates):
        if rate is not None:
            if not before:
                found.append((position, []))
            found[-1][1].append(rate)
        before = rate is not None
    return found
