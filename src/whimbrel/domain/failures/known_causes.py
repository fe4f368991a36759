"""What people have said of a cause of failures: that it was seen, or that a run may go on in spite of it."""

from dataclasses import dataclass
from datetime import datetime

LONGEST_NOTE = 500  # characters


@dataclass(frozen=True, slots=True)
class KnownCause:
    """`accepted`: its failures do not count for the failure budget of the run; otherwise it only is not new."""

    group: str
    accepted: bool
    who: str
    at: datetime
    note: str = ""
