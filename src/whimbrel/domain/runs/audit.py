"""The audit: who did what, and when. Pure."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal, get_args

from whimbrel.domain.runs.run_cursor import RunPlace

Action = Literal[
    "run", "settings", "stage", "failures", "code", "freeze", "health", "schedule", "queue", "samples", "maintenance", "request"
]  # fmt: skip
ACTIONS: Sequence[Action] = get_args(Action)

# What an entry says, by how it begins. The first that fits counts.
_WORDS: Sequence[tuple[re.Pattern[str], Action]] = [
    (re.compile(pattern), action)
    for pattern, action in (
        (r"(GET|POST|PUT|PATCH|DELETE) /", "request"),
        (r"run pruned", "maintenance"),
        (r"run ", "run"),
        (r"settings changed", "settings"),
        (r"stage \d", "stage"),
        (r"causes |\d+ dead failures ", "failures"),
        (r"code |taken as they are now", "code"),
        (r"freeze ", "freeze"),
        (r"thresholds of |signal ", "health"),
        (r"scheduler? ", "schedule"),
        (r"consumers |-?\d+ messages of |\d+ lost batches |worker counters ", "queue"),
        (r"samples? ", "samples"),
    )
]


def action_of(what: str) -> Action:
    """Returns what kind of thing an entry tells."""
    return next((action for pattern, action in _WORDS if pattern.match(what)), "maintenance")


def name_of(who: str) -> str:
    """Returns the name of who did something: of `api:anna@10.0.0.7` and `anna@laptop` both times anna."""
    name = who.rpartition("@")[0] or who
    return name.removeprefix("api:")


@dataclass(frozen=True, kw_only=True, slots=True)
class AuditEntry:
    """A row of the ledger. `at`: by the server's clock; `run`: None where it is about no run."""

    id: str
    at: datetime
    what: str
    who: str
    why: str
    run: str | None
    action: Action

    @property
    def place(self) -> RunPlace:
        return RunPlace(self.at, self.id)


@dataclass(frozen=True, kw_only=True, slots=True)
class AuditQuery:
    """All conditions hold together. `actor`: the whole text of who did it, or the name alone. `since`, `until`: then or later, and before that."""

    actor: str | None = None
    run: str | None = None
    actions: Sequence[Action] | None = None
    since: datetime | None = None
    until: datetime | None = None
