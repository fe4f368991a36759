"""Whether anybody but Whimbrel is at work on the server: where nobody is, a run that uses it up hurts nobody.

Told from operations of others that are under way at the moments of samples. An application is seen the more often the more it asks and the longer it
waits for its answers, that is, the more it has to lose.
"""

from collections import deque
from dataclasses import dataclass, field

SAMPLES = 60  # that are looked back on
SEEN = 3  # operations in them, from which on somebody else is at work; until none is seen any more


@dataclass(slots=True)
class OthersAtWork:
    """The newest samples: how many operations of others were under way."""

    newest: deque[float] = field(default_factory=lambda: deque(maxlen=SAMPLES))
    seen: bool = False
    unknown: bool = True  # it cannot be read

    def add(self, operations: float | None) -> None:
        """Adds a sample. None: it could not be read."""
        self.unknown = operations is None
        self.newest.append(operations or 0.0)
        total = sum(self.newest)
        self.seen = total >= SEEN or (self.seen and total > 0)

    @property
    def absent(self) -> bool:
        """Whether it is known that nobody else is at work. What cannot be read is nobody's absence."""
        return not (self.seen or self.unknown)
