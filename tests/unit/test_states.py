"""The tables of states."""

import pytest

from whimbrel.domain.runs.states import ENDED, RUN_EDGES, RunStatus, check_run_edge, sources
from whimbrel.errors import StateForbids


def test_every_status_has_its_edges() -> None:
    assert set(RUN_EDGES) == set(RunStatus)


def test_a_run_that_ended_for_good_leads_nowhere() -> None:
    assert not RUN_EDGES[RunStatus.COMPLETED]
    assert not RUN_EDGES[RunStatus.CANCELLED]


def test_a_pausing_run_may_be_cancelled() -> None:
    check_run_edge("r", RunStatus.PAUSING, RunStatus.CANCELLING, "be cancelled")


def test_a_refused_edge_says_what_to_do() -> None:
    with pytest.raises(StateForbids, match="whimbrel resume"):
        check_run_edge("r", RunStatus.PAUSED, RunStatus.PAUSING, "be paused")


@pytest.mark.parametrize("status", sorted(ENDED - {RunStatus.CANCELLED}))
def test_what_has_ended_is_not_to_be_stopped_nor_to_be_tried_again_for_that(status: RunStatus) -> None:
    with pytest.raises(StateForbids, match="nothing of it is at work"):
        check_run_edge("r", status, RunStatus.CANCELLING, "be cancelled")


def test_advice_can_be_typed_as_it_stands() -> None:
    with pytest.raises(StateForbids, match=r"whimbrel resume r-1$"):
        check_run_edge("r-1", RunStatus.FAILED, RunStatus.RUNNING, "be started")


def test_only_a_running_run_completes() -> None:
    assert sources(RunStatus.COMPLETED) == [RunStatus.RUNNING]
    assert RunStatus.COMPLETED in ENDED
