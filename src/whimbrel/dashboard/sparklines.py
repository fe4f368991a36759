"""Draws the speed of a run in the last minutes as two paths: a line, and the area below it. Breaks where it did not work."""

from collections.abc import Sequence
from dataclasses import dataclass

WIDTH, HEIGHT = 120, 30


@dataclass(frozen=True, slots=True)
class Sparkline:
    """`line`, `area`: data of SVG paths within WIDTH and HEIGHT. `most`: the highest rate."""

    line: str
    area: str
    most: float


def sparkline(rates: Sequence[float | None]) -> Sparkline | None:
    """Returns the paths; None where the run never worked."""
    known = [rate for rate in rates if rate is not None]
    if not known:
        return None
    most, step = max(*known, 1e-9), WIDTH / max(1, len(rates) - 1)
    lines, areas = [], []
    for stretch in _stretches(rates):
        points = [(position * step, HEIGHT - 1 - (HEIGHT - 2) * rate / most) for position, rate in stretch]
        if len(points) == 1:  # one alone would be no line
            points.append((points[0][0] + step / 2, points[0][1]))
        path = "L".join(f"{x:.1f} {y:.1f}" for x, y in points)
        lines.append(f"M{path}")
        areas.append(f"M{points[0][0]:.1f} {HEIGHT}L{path}L{points[-1][0]:.1f} {HEIGHT}Z")
    return Sparkline("".join(lines), "".join(areas), max(known))


def _stretches(rates: Sequence[float | None]) -> list[list[tuple[int, float]]]:
    found: list[list[tuple[int, float]]] = []
    before = False
    for position, rate in enumerate(rates):
        if rate is not None:
            if not before:
                found.append([])
            found[-1].append((position, rate))
        before = rate is not None
    return found
