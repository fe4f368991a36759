"""Functions that go wrong in every way: one failure record each, the rest done."""

from collections import Counter

import pytest

from tests.faults.rig import PATIENT, Rig
from whimbrel.domain.runs.states import RunStatus
from whimbrel.engine.operating.control import retry

COUNT = 600


def plant(rig: Rig, troubles: dict[int, str]) -> None:
    rig.seed(COUNT)
    for number, what in troubles.items():
        rig.things.update_one({"number": number}, {"$set": {"do": what}})


def recorded(rig: Rig, run_id: str) -> dict[int, tuple[str, int, str]]:
    rows = rig.store.ledger.failures.list(run_id)
    numbers = {each["_id"]: each["number"] for each in rig.things.find({}, {"number": 1})}
    return {numbers[row.key.value]: (row.type, row.attempt, str(row.state)) for row in rows}


def test_every_way_of_going_wrong_is_one_failure_record(rig: Rig) -> None:
    plant(rig, {5: "raise", 50: "rubbish", 51: "none", 120: "skip", 300: "exit", 599: "huge"})
    run = rig.start("troubled")
    rig.parent()
    found = rig.finish(run)
    assert found.run.status is RunStatus.COMPLETED_WITH_FAILURES
    assert recorded(rig, run.id) == {
        5: ("ValueError", 2, "dead"),
        50: ("UnusableAnswer", 1, "dead"),
        51: ("UnusableAnswer", 1, "dead"),
        300: ("SystemExit", 2, "dead"),
        599: ("BSONObjectTooLarge", 1, "dead"),
    }
    assert (found.counts.changed, found.counts.skipped) == (COUNT - 6, 1)
    assert Counter(each["n"] for each in rig.things.find()) == {1: COUNT - 6, 0: 6}
    raised = next(row for row in rig.store.ledger.failures.list(run.id) if row.type == "ValueError")
    assert "no good" in raised.message
    assert "troubled" in raised.traceback


def test_h27_a_function_that_hangs_is_ended_with_its_process_and_recorded(rig: Rig) -> None:
    plant(rig, {7: "hang"})
    rig.environment |= PATIENT
    run = rig.start("troubled")
    rig.parent()
    found = rig.finish(run)
    assert found.run.status is RunStatus.COMPLETED_WITH_FAILURES
    assert recorded(rig, run.id) == {7: ("Timeout", 2, "dead")}
    assert found.counts.changed == COUNT - 1
    assert rig.things.count_documents({"n": 1}) == COUNT - 1


def test_h10_a_document_that_kills_its_process_is_isolated_and_its_neighbours_are_not_charged(
    rig: Rig,
) -> None:
    plant(rig, {9: "die", 410: "die"})
    rig.environment |= PATIENT
    run = rig.start("troubled", batch_size=100)
    rig.parent()
    found = rig.finish(run)
    assert found.run.status is RunStatus.COMPLETED_WITH_FAILURES
    assert recorded(rig, run.id) == {9: ("ProcessDeath", 2, "dead"), 410: ("ProcessDeath", 2, "dead")}
    assert found.counts.changed == COUNT - 2
    assert rig.things.count_documents({"n": 1}) == COUNT - 2


def test_an_awaited_function_fails_and_hangs_for_single_documents_only(rig: Rig) -> None:
    plant(rig, {3: "hang", 200: "raise"})
    rig.environment |= PATIENT
    run = rig.start("awaited")
    rig.parent()
    found = rig.finish(run)
    rows = recorded(rig, run.id)
    hung = rows.pop(3)  # a process that stands still may be late to cancel it, and is ended for it
    assert hung in (("TimeoutError", 2, "dead"), ("Timeout", 2, "dead"))
    assert rows == {200: ("ValueError", 2, "dead")}
    assert found.counts.changed == COUNT - 2


@pytest.mark.parametrize("what", ["block", "cling"])
def test_an_awaited_function_that_cannot_be_cancelled_is_ended_with_its_process_and_alone_recorded(
    rig: Rig, what: str
) -> None:
    """One that does not give the event loop back, in whose time all the others' run out; and one that goes on when it is cancelled."""
    plant(rig, {3: what})
    rig.environment |= PATIENT
    run = rig.start("awaited")
    rig.parent(workers=1)
    found = rig.finish(run)
    assert recorded(rig, run.id) == {3: ("Timeout", 2, "dead")}
    assert found.counts.changed == rig.things.count_documents({"n": 1}) == COUNT - 1


def test_claimed_documents_of_a_dead_worker_are_taken_up_by_the_processing_phase(rig: Rig) -> None:
    rig.seed(COUNT)
    rig.die_at("S5", 2, deaths=2)
    run = rig.start("claiming")
    rig.parent()
    found = rig.finish(run)
    assert rig.deaths_left() == 0
    rig.reckon(found, COUNT)
    assert rig.things.count_documents({"status": "success"}) == COUNT


def test_claimed_documents_are_taken_up_again_in_a_run_that_has_no_processing_phase(rig: Rig) -> None:
    rig.seed(COUNT)
    rig.die_at("S5", 2, deaths=2)
    run = rig.start("claiming", limit=COUNT)
    rig.parent()
    found = rig.finish(run)
    assert rig.deaths_left() == 0
    rig.reckon(found, COUNT)


def test_a_mended_function_migrates_its_dead_letters_on_retry(rig: Rig) -> None:
    mended = rig.tokens.parent / "mended"
    rig.environment["MENDED"] = str(mended)
    plant(rig, {1: "raise", 2: "raise"})
    run = rig.start("mending")
    rig.parent()
    found = rig.finish(run)
    assert found.run.status is RunStatus.COMPLETED_WITH_FAILURES
    assert found.failures["dead"] == 2
    mended.touch()
    retry(rig.store.ledger, run.id, who="test")
    found = rig.until(run, RunStatus.COMPLETED)
    rig.reckon(found, COUNT)
