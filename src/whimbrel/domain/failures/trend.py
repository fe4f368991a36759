"""How often a cause was met, over time: in equal spans, a bounded number of them, which grow twice as long whenever they are full."""

from dataclasses import dataclass
from datetime import datetime

SPANS = 60  # at most
FIRST = 1000  # milliseconds of a span at first


@dataclass(frozen=True, slots=True)
class Trend:
    """`numbers`: attempts that failed by the cause, in the spans since `begins`; the last span is the one of the last attempt."""

    begins: datetime
    seconds: float  # of a span
    numbers: tuple[int, ...]
