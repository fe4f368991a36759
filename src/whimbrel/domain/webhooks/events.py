"""What is told to receivers: each change of a run's state, and that a run makes no progress."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

NO_PROGRESS = "run.no_progress"
TEST = "webhook.test"
KEPT = 50  # events of a run that wait for a process that sends them; the oldest beyond that are left out, which their numbers show
REASON = 500  # characters of a reason


@dataclass(frozen=True, kw_only=True, slots=True)
class RunEvent:
    """What happened to a run. `number`: counts the events of the run from 1. `before`, `after`: its states; both the same without progress."""

    run: str
    number: int
    type: str
    at: datetime
    before: str | None
    after: str
    who: str
    why: str

    @property
    def id(self) -> str:
        """The same however often it is sent, so that a receiver knows what it has had."""
        return f"{self.run}:{self.number}"


def state_event(status: str) -> str:
    """Returns the type of the event that a run has become this."""
    return f"run.{status}"


def body_of(event: RunEvent, time: str | None, run: Mapping[str, Any]) -> str:
    """Returns the body of a delivery: the same for each try. `run`: the run as it is now, a moment after the event."""
    return json.dumps({
        "id": event.id, "event": event.type, "time": time, "number": event.number, "from": event.before, "to": event.after,
        "by": event.who, "reason": event.why, "run": run,
    }, ensure_ascii=False, separators=(",", ":"))  # fmt: skip


def trial_body(event_id: str, time: str | None, who: str) -> str:
    """Returns the body of a delivery that a person has asked for, to see whether it arrives."""
    return json.dumps({"id": event_id, "event": TEST, "time": time, "by": who}, separators=(",", ":"))
