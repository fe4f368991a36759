"""Verifications whose processes die, or whose function turns against them: the same report, and no document written."""

from typing import Any

import pytest

from tests.faults.rig import PATIENT, Rig
from whimbrel.domain.runs.run import Run
from whimbrel.domain.runs.states import RunStatus
from whimbrel.engine.operating.start import Defaults
from whimbrel.engine.operating.start_verification import start_verification

COUNT = 3000


def verify(rig: Rig, run: Run, name: str, **options: Any) -> Run:
    return start_verification(
        rig.store,
        run.id,
        rig.migrations[name].definition,
        who="test",
        defaults=Defaults(),
        batch_size=500,
        **options,
    )


def stored(rig: Rig) -> list[dict[str, Any]]:
    return list(rig.things.find().sort("_id", 1))


@pytest.mark.parametrize(("step", "count"), [("V1", 2), ("S8", 2), ("S12", 1)])
def test_a_process_that_dies_in_a_verification_changes_nothing_of_it(rig: Rig, step: str, count: int) -> None:
    rig.seed(COUNT)
    run = rig.start("declarative-marker")
    rig.parent()
    rig.finish(run)
    rig.stop()
    rig.parents.clear()
    rig.things.update_many({"number": {"$in": [3, 700, 2999]}}, {"$unset": {"_whimbrel": ""}})
    before = stored(rig)
    rig.die_at(step, count, deaths=2)
    verification = verify(rig, run, "declarative-marker")
    rig.parent()
    found = rig.finish(verification)
    assert rig.deaths_left() == 0
    assert stored(rig) == before
    assert found.run.status is RunStatus.COMPLETED
    proofs = {each.check: each for each in found.run.report}
    left = proofs["nothing left"]
    assert (left.verdict, left.numbers["looked"], left.numbers["replaced"]) == ("changed since", COUNT, 3)
    assert proofs["marks"].numbers["missing"] == 3
    assert "not idempotent" in proofs["transform again"].sentence
    rows = rig.store.ledger.failures.list(verification.id)
    assert [(row.type, row.attempt) for row in rows] == [("Left", 1)] * 3
    assert found.counts.unchanged == COUNT - 3


def test_a_function_that_hangs_or_kills_its_process_now_is_a_finding(rig: Rig) -> None:
    rig.seed(100)
    rig.environment |= PATIENT
    run = rig.start("troubled")
    rig.parent(workers=1, slots=1)
    rig.finish(run)
    for number, what in ((20, "die"), (60, "hang")):
        rig.things.update_one({"number": number}, {"$set": {"do": what}})
    found = rig.finish(verify(rig, run, "troubled"))
    assert found.run.status is RunStatus.COMPLETED_WITH_FAILURES
    rows = rig.store.ledger.failures.list(found.run.id)
    assert {row.type for row in rows} == {"ProcessDeath", "Timeout"}
    again = next(each for each in found.run.report if each.check == "transform again")
    assert (again.proved, again.numbers["deadly"]) == (False, 2)
    assert rig.things.count_documents({"n": 1}) == 100
