"""The figures of a run's page: outcomes add up to the total, an end is told in two ways or not at all, and what can be done follows the state."""

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import bson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from whimbrel.dashboard.drawing import spark_path
from whimbrel.dashboard.run_figures import ending, outcomes
from whimbrel.domain.health.signals import Level
from whimbrel.domain.runs.allowance import Allowance, Hold
from whimbrel.domain.runs.forecast import Forecast
from whimbrel.domain.runs.run import Counts, Run, Scope
from whimbrel.domain.runs.stages import Stage, Stages, StageState
from whimbrel.domain.runs.states import RunStatus
from whimbrel.engine.operating.run_actions import possible_actions
from whimbrel.engine.operating.run_view import RunView

NOW = datetime(2026, 12, 31, tzinfo=UTC)
NUMBERS = st.integers(0, 10**9)


def run(status: RunStatus = RunStatus.RUNNING, **fields: Any) -> Run:
    given: dict[str, Any] = {
        "id": "20261231-abc234", "migration": "m", "version": 1, "database": "d", "collection": "c", "filter": bson.encode({}),
        "mark": "marker", "status_field": "status", "declarative": False, "claim": False, "adopt": "ours", "scope": Scope(),
        "legs": ("pending", "failed", "sweep", "failed"), "batch_size": 1000, "max_attempts": 3, "retry_delay": 1.0, "timeout": 30.0,
        "code_hash": "0", "created_at": NOW, "updated_at": NOW, "started_at": NOW, "estimated": 1000, "status": status,
    }  # fmt: skip
    return Run(**(given | fields))


def seen(
    found: Run, *, changed: int = 400, failed: int = 0, conflict: int = 0, eta: float | None = 60.0
) -> RunView:
    return RunView(
        run=found, counts=Counts(changed=changed), failures={"failed": failed, "conflict": conflict, "open": 0, "dead": failed},
        total_batches=1, completed_batches=0, cancelled_batches=0, failed_batches=0, seconds=40.0, speed=Forecast(10.0, eta),
    )  # fmt: skip


@given(NUMBERS, NUMBERS, NUMBERS, NUMBERS, NUMBERS, NUMBERS, st.sampled_from(RunStatus))
def test_outcomes_add_up_to_the_total_in_every_state(
    changed: int, unchanged: int, skipped: int, failed: int, conflict: int, estimated: int, status: RunStatus
) -> None:
    looked = replace(
        seen(run(status, estimated=estimated), failed=failed, conflict=conflict),
        counts=Counts(changed, unchanged, skipped),
    )
    parts = outcomes(looked)
    assert sum(part.number for part in parts) == looked.total
    assert min(part.number for part in parts) >= 0
    if looked.total:
        assert sum(part.share for part in parts) == pytest.approx(1.0)
        assert parts[-1].start + parts[-1].width == pytest.approx(1000.0, abs=0.1)


def held(share: float) -> Allowance:
    return Allowance(share, (Hold(signal="lag", level=Level.SLOW, share=share, sentence="It lags."),))


def test_the_end_is_told_as_it_goes_and_as_it_would_go() -> None:
    steady = ending(seen(run()))  # 600 are left; 400 took 40 seconds
    assert (steady.now, steady.other, steady.other_name) == (60.0, 60.0, "at its mean speed so far")
    slowed = ending(seen(run(allowance=held(0.25))))
    assert (slowed.now, slowed.other, slowed.other_name) == (60.0, 15.0, "without what slows it")
    waiting = ending(seen(run(allowance=held(0.0)), eta=None))
    assert (waiting.now, waiting.other) == (None, 60.0)
    assert waiting.why == "It waits."
    paused = ending(seen(run(RunStatus.PAUSED)))
    assert (paused.now, paused.other, paused.why) == (None, 60.0, "It is paused.")
    assert ending(seen(run(), eta=None)).now is None
    assert ending(seen(run(), changed=0, eta=None)).other is None


@pytest.mark.parametrize(
    ("status", "dead", "expected"),
    [
        (RunStatus.QUEUED, 0, {"settings", "pause", "cancel"}),
        (RunStatus.RUNNING, 3, {"settings", "pause", "cancel"}),
        (RunStatus.PAUSING, 0, {"settings", "resume", "cancel"}),
        (RunStatus.PAUSED, 0, {"settings", "resume", "cancel"}),
        (RunStatus.PAUSED, 3, {"settings", "resume", "cancel", "retry"}),
        (RunStatus.CANCELLING, 0, {"settings"}),
        (RunStatus.FAILED, 0, {"resume", "verify", "cleanup", "rollback"}),
        (RunStatus.CANCELLED, 3, {"verify", "cleanup", "rollback"}),
        (RunStatus.COMPLETED, 0, {"verify", "cleanup", "rollback"}),
        (RunStatus.COMPLETED_WITH_FAILURES, 3, {"retry", "verify", "cleanup", "rollback"}),
    ],
)
def test_what_can_be_done_follows_the_state(status: RunStatus, dead: int, expected: set[str]) -> None:
    assert possible_actions(run(status, undo=True), dead=dead) == expected
    undone = possible_actions(run(status, undo=True, undone_by="x"), dead=dead)
    assert undone == expected - {"resume", "retry", "rollback"}
    assert "rollback" not in possible_actions(run(status), dead=dead)
    assert not possible_actions(run(status, kind="verification", of="x"), dead=dead) & {
        "verify",
        "cleanup",
        "retry",
    }


def test_a_stage_that_waits_for_a_person_can_be_approved() -> None:
    stages = Stages(stages=(Stage(asked="10", state=StageState.APPROVAL), Stage(asked="100%")), approve=True)
    legs = ("pending", "failed", "pending", "failed", "sweep", "failed")
    assert "approve" in possible_actions(run(stages=stages, legs=legs), dead=0)
    assert "approve" not in possible_actions(run(stages=stages, legs=legs, leg=2), dead=0)


@given(st.lists(st.integers(0, 10**6), max_size=60))
def test_a_small_line_stays_in_its_drawing(numbers: list[int]) -> None:
    points = [
        tuple(map(float, point.removesuffix("h6").split()))
        for point in spark_path(numbers)[1:].split("L")
        if point
    ]
    assert len(points) == len(numbers)
    assert all(0 <= x <= 120 and 0 <= y <= 24 for x, y in points)
