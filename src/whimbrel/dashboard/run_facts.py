"""What the page of a run shows, read when a part of it is rendered, and shared by all who look at the same run within half a second."""

import threading
import time
from collections.abc import Sequence
from functools import cached_property
from typing import Any

from whimbrel.dashboard.run_figures import Ending, Part, ending, outcomes
from whimbrel.domain.bson.document_ids import id_json, relaxed
from whimbrel.domain.failures.failure import GroupPage
from whimbrel.domain.runs.audit import ACTIONS, AuditQuery
from whimbrel.domain.runs.budget_texts import limits, rule_sentence
from whimbrel.domain.runs.failure_budget import FailureBudget
from whimbrel.domain.runs.run import Run
from whimbrel.domain.runs.states import ENDED
from whimbrel.engine.operating import control
from whimbrel.engine.operating.audit_view import entry_object
from whimbrel.engine.operating.failure_export import accepted_object
from whimbrel.engine.operating.keyspace_view import strip_object, strip_of
from whimbrel.engine.operating.phase_view import phase_objects
from whimbrel.engine.operating.run_actions import possible_actions
from whimbrel.engine.operating.run_view import RunView, held_object, iso_time, row_object, view
from whimbrel.engine.operating.series_view import course_object, course_of
from whimbrel.engine.operating.slots_view import slots_object
from whimbrel.ports import Ledger

FRESH = 0.5  # seconds for which what was read serves all pages
KEPT = 100  # runs
CAUSES = 5  # that the page shows
ENTRIES = 12  # of the audit
DONE = [action for action in ACTIONS if action != "request"]  # what came of requests is among these
CHANGES = 5  # of its state that are looked at for the last one
FOLLOWERS = 8  # runs about it
STRETCHES = 24  # rows of the table beside the charts
CELLS = 200  # a strip whose cells nobody draws: it is read for its numbers


class RunFacts:
    """One look at a run: each fact is read at most once, and only where a page needs it."""

    def __init__(self, ledger: Ledger, run_id: str) -> None:
        self._ledger = ledger
        self.view: RunView = view(ledger, control.find_run(ledger, run_id))
        self.run: Run = self.view.run
        self.ended = self.run.status in ENDED
        self.dead = self.view.failures["dead"]
        self.rest = max(0, self.view.total - self.view.processed)

    @cached_property
    def row(self) -> dict[str, Any]:
        return row_object(self.view)

    @cached_property
    def held(self) -> dict[str, Any]:
        return held_object(self.run)

    @cached_property
    def outcomes(self) -> list[Part]:
        return outcomes(self.view)

    @cached_property
    def ending(self) -> Ending:
        return ending(self.view)

    @cached_property
    def update(self) -> Any:
        return relaxed(self.run.declared)

    @cached_property
    def phases(self) -> Sequence[dict[str, Any]]:
        looked = self.view
        return phase_objects(self.run, looked.counts, looked.total_batches, looked.settled_batches)

    @cached_property
    def slots(self) -> dict[str, Any]:
        return slots_object(self._ledger, self.run)

    @property
    def over_budget(self) -> Sequence[tuple[str, str]]:
        """What its failures have broken, with the cause where it is about one."""
        return [
            (rule_sentence(rule), rule.causes[0][0] if len(rule.causes) == 1 else "")
            for rule in self.run.over_budget
        ]

    @cached_property
    def budget(self) -> str:
        return limits(self.run.budget)

    @cached_property
    def budget_asked(self) -> str:
        """The failure budget that it was started with."""
        asked = self.row["request"]["options"] or {}
        budget = FailureBudget(
            asked.get("maxFailures"), asked.get("maxFailureRate"), asked.get("maxNewCause")
        )
        return limits(budget)

    @cached_property
    def actions(self) -> frozenset[str]:
        return possible_actions(self.run, dead=self.dead)

    @cached_property
    def since(self) -> str | None:
        """Since when the run is in its state: when the last change to it was audited, or what its own times tell."""
        changes = self._ledger.audit.list(AuditQuery(run=self.run.id, actions=["run"]), limit=CHANGES)
        last = next((entry.at for entry in changes if entry.what == f"run {self.run.status}"), None)
        return iso_time(last or self.run.ended_at or self.run.working_since or self.run.created_at)

    @cached_property
    def causes(self) -> list[dict[str, Any]]:
        known = self._ledger.known_causes.of(self.run.id)
        return [
            {"group": group, "example": id_json(group.example), "accepted": accepted_object(known.get(group.group))}
            for group in self._groups.groups
        ]  # fmt: skip

    @property
    def more_causes(self) -> int:
        return self._groups.rest

    @cached_property
    def _groups(self) -> GroupPage:
        return self._ledger.failures.groups(self.run.id, limit=CAUSES)

    @cached_property
    def audit(self) -> list[dict[str, Any]]:
        entries = self._ledger.audit.list(AuditQuery(run=self.run.id, actions=DONE), limit=ENTRIES)
        return [entry_object(entry) for entry in entries]

    @cached_property
    def _listed(self) -> list[Run]:
        return self._ledger.runs.list(of=self.run.id, limit=FOLLOWERS + 1, brief=True)

    @property
    def followers(self) -> list[Run]:
        return self._listed[:FOLLOWERS]

    @property
    def more_followers(self) -> bool:
        return len(self._listed) > FOLLOWERS

    @property
    def report(self) -> bool:
        """Whether there is a verify report, or will be one."""
        return self.run.kind == "verification" or any(each.kind == "verification" for each in self._listed)

    @cached_property
    def course(self) -> dict[str, Any]:
        course = course_object(self.run, course_of(self._ledger, self.run, points=STRETCHES))
        return {**course, "holdups": course["holdups"][-STRETCHES:]}

    @cached_property
    def strip(self) -> dict[str, Any]:
        return strip_object(strip_of(self._ledger, self.run, cells=CELLS))


class SharedFacts:
    """The looks of one process at runs. Losing them does no harm."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._looks: dict[str, tuple[float, RunFacts]] = {}

    def of(self, ledger: Ledger, run_id: str) -> RunFacts:
        """Returns a look at a run that is at most half a second old. Raises RunUnknown."""
        now = time.monotonic()
        with self._lock:
            found = self._looks.get(run_id)
        if found is not None and now < found[0]:
            return found[1]
        facts = RunFacts(ledger, run_id)
        with self._lock:
            if len(self._looks) >= KEPT:
                self._looks = {run: look for run, look in self._looks.items() if now < look[0]}
            self._looks[run_id] = (now + FRESH, facts)
        return facts
