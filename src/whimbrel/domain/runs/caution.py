"""How a slot goes on after documents have mostly failed: in small steps, so that the failure budget is looked at before many more have."""

from dataclasses import dataclass

MOSTLY = 0.5  # of the documents
FEWEST = 20  # documents that must have been evaluated
CHUNK = 100  # documents of a careful step
SECONDS = 0.5  # that it waits after each: the coordinator looks several times meanwhile
STEPS = (
    40  # of a process's slots for one run: where nobody has paused it by then, its budget allows what fails
)


@dataclass(slots=True)
class Caution:
    """Of one run, for all slots of a process. They share it without a lock: a step more or less does not matter."""

    steps: int = 0

    def after(self, evaluated: int, failed: int) -> bool:
        """Whether to go carefully after a chunk of which so many documents were evaluated, and so many of these have failed."""
        if evaluated < FEWEST or failed <= MOSTLY * evaluated or self.steps >= STEPS:
            return False
        self.steps += 1
        return True
