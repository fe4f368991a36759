"""Draws small things on the server, so that they are there without JavaScript. Filters of the templates."""

from collections.abc import Sequence
from datetime import UTC, datetime

WIDTH, HEIGHT, EDGE = 120.0, 24.0, 3.0  # of the drawing of a small line, in its own units


def spark_path(numbers: Sequence[int]) -> str:
    """Returns the path of a small line through these numbers, for a drawing of 120 by 24."""
    most = max(numbers, default=0) or 1
    step = (WIDTH - 2 * EDGE) / (len(numbers) - 1) if len(numbers) > 1 else 0.0
    height = HEIGHT - 2 * EDGE
    points = [
        f"{EDGE + index * step:.1f} {HEIGHT - EDGE - number / most * height:.1f}"
        for index, number in enumerate(numbers)
    ]
    return "M" + "L".join(points) + ("h6" if len(points) == 1 else "") if points else ""


def utc(moment: datetime | str | None) -> str:
    """Returns a moment with its date in UTC, for what is printed and kept."""
    if moment is None:
        return "\N{EN DASH}"
    at = datetime.fromisoformat(moment) if isinstance(moment, str) else moment
    return f"{at.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"
