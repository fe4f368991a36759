"""kill -9 at every numbered step of the protocol, three times each: also the second and third restart."""

import pytest

from tests.faults.rig import PATIENT, Rig
from whimbrel.domain.runs.states import RunStatus

COUNT = 3000

# Steps of the coordinator die in the parent, the others in a worker. S9, the acknowledgement, is a broker's.
# S2 comes once a phase, so it is reached twice.
STEPS = [
    ("S1", 1, 3),
    ("S2", 1, 2),
    ("S3", 2, 3),
    ("S6", 2, 3),
    ("S6b", 2, 3),
    ("S8", 2, 3),
    ("S10", 1, 3),
    ("S11", 1, 2),
    ("S12", 1, 3),
]


@pytest.mark.parametrize(("step", "count", "deaths"), STEPS)
@pytest.mark.parametrize("path", ["declarative", "function"])
def test_a_process_that_dies_at_a_step_loses_nothing(
    rig: Rig, step: str, count: int, deaths: int, path: str
) -> None:
    mark = ["marker", "status", "filter"][(STEPS.index((step, count, deaths)) + (path == "function")) % 3]
    rig.seed(COUNT)
    rig.die_at(step, count, deaths=deaths)
    run = rig.start(f"{path}-{mark}")
    rig.parent()
    found = rig.finish(run)
    assert rig.deaths_left() == 0
    rig.reckon(found, COUNT)


@pytest.mark.parametrize("step", ["S4", "S5"])
@pytest.mark.parametrize("mark", ["marker", "filter"])
def test_a_worker_that_dies_around_the_call_of_the_function_loses_nothing(
    rig: Rig, step: str, mark: str
) -> None:
    rig.seed(COUNT)
    rig.die_at(step, 3, deaths=3)
    run = rig.start(f"function-{mark}")
    rig.parent()
    found = rig.finish(run)
    assert rig.deaths_left() == 0
    rig.reckon(found, COUNT)


def test_a_worker_that_dies_after_recording_failures_records_each_once(rig: Rig) -> None:
    rig.seed(500)
    rig.things.update_many({"number": {"$in": [7, 100, 480]}}, {"$set": {"do": "raise"}})
    rig.die_at("S7", 1, deaths=3)
    rig.environment |= PATIENT
    run = rig.start("troubled")
    rig.parent()
    found = rig.finish(run)
    assert rig.deaths_left() == 0
    assert found.run.status is RunStatus.COMPLETED_WITH_FAILURES
    rows = rig.store.ledger.failures.list(run.id)
    assert [(row.attempt, str(row.state)) for row in rows] == [(2, "dead")] * 3
    assert rig.things.count_documents({"n": 1}) == found.counts.changed == 497


@pytest.mark.parametrize("path", ["declarative", "function"])
def test_h4_after_a_crash_the_mark_filter_counts_a_difference_and_says_so(rig: Rig, path: str) -> None:
    rig.seed(500)
    rig.die_at("S6", 1, deaths=1)
    run = rig.start(f"{path}-filter")
    rig.parent(workers=1, slots=1)
    found = rig.finish(run)
    rig.reckon(found, 500)
    assert found.run.inferred
