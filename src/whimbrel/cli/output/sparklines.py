"""Draws a run's rate over time in a line of text."""

from bisect import bisect_left
from collections.abc import Sequence
from itertools import pairwise

from whimbrel.domain.runs.forecast import ProgressSample

HEIGHTS = " ▁▂▃▄▅▆▇█"
SPAN = 900.0  # seconds of work that are shown at most


def rates(samples: Sequence[ProgressSample], worked: float, cells: int) -> list[float]:
    """Returns the rate in each of so many equal parts of the last minutes of work, the oldest first."""
    points = sorted({sample.worked: float(sample.done) for sample in samples}.items())
    if len(points) < 2 or cells < 1:  # noqa: PLR2004  a rate is between two
        return []
    end = points[-1][0]
    start = max(points[0][0], end - min(SPAN, max(worked, 1.0)))
    step = (end - start) / cells
    if step <= 0:
        return []
    done = [_at(points, start + step * number) for number in range(cells + 1)]
    return [max(0.0, (after - before) / step) for before, after in pairwise(done)]


def sparkline(samples: Sequence[ProgressSample], worked: float, cells: int) -> str:
    """Returns the rates as blocks; the highest is full, and nothing is left blank but a standstill."""
    found = rates(samples, worked, cells)
    highest = max(found, default=0.0)
    if not highest:
        return ""
    return "".join(HEIGHTS[0 if not rate else 1 + int(rate / highest * 7)] for rate in found)


def _at(points: Sequence[tuple[float, float]], moment: float) -> float:
    """Returns how much was done then, between two samples in proportion."""
    index = bisect_left(points, (moment, 0.0))
    if index == 0:
        return points[0][1]
    if index == len(points):
        return points[-1][1]
    (before, low), (after, high) = points[index - 1], points[index]
    return low + (high - low) * (moment - before) / (after - before)
