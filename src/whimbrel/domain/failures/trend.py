"""How often a cause was met, over time: in a bounded number of equal periods, which grow twice as long whenever they are full."""

from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, kw_only=True, slots=True)
class Trend:
    """When failures of a cause were met: `counts` in periods of `width` seconds from `since` on, the last one with that of `last`.

    A document that fails again is counted again.
    """

    since: datetime
    last: datetime
    width: float
    counts: tuple[int, ...]
