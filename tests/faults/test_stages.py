"""kill -9 within a run in stages: each stage has its documents, each document is changed once, and no gate is passed over."""

import pytest

from tests.faults.rig import Rig
from whimbrel.domain.runs.stages import StageState, read_stages

COUNT = 3000


@pytest.mark.parametrize(
    ("step", "count", "deaths", "name"),
    [
        ("G1", 1, 1, "declarative-marker"),  # the coordinator, when it has looked at a gate
        ("S6", 2, 2, "function-filter"),  # a worker, within a stage and behind it
        ("S1", 2, 2, "function-status"),  # the coordinator, with a part of a stage planned
        ("S11", 1, 2, "declarative-status"),  # the coordinator, between a gate and the next leg
    ],
)
def test_a_staged_run_survives_the_death_of_a_process(
    rig: Rig, step: str, count: int, deaths: int, name: str
) -> None:
    rig.seed(COUNT)
    rig.die_at(step, count, deaths=deaths)
    run = rig.start(name, stages=read_stages("100,300,100%"))
    rig.parent()
    found = rig.finish(run)
    assert rig.deaths_left() == 0
    rig.reckon(found, COUNT)
    assert found.run.stages is not None
    assert [stage.state for stage in found.run.stages.stages[:-1]] == [StageState.PASSED] * 2
    assert [stage.evaluated for stage in found.run.stages.stages[:-1]] == [100, 300]
