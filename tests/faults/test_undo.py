"""Undo under fire: processes die while a run keeps before-images and while it is rolled back, and the application writes on."""

import random
import threading

import pytest

from tests.faults.rig import Rig
from tests.faults.test_zombies import stopped_in_the_middle
from tests.integration.guarded_writes import stored
from tests.integration.in_process_system import system
from whimbrel.domain.migrations.definition_checks import with_undo
from whimbrel.domain.runs.run import Run
from whimbrel.domain.runs.states import RunStatus
from whimbrel.engine.operating.start import Defaults, start_run
from whimbrel.engine.operating.start_rollback import start_rollback

COUNT = 2000
DEFAULTS = Defaults(batch_size=250, max_attempts=3, retry_delay=0.05)


def started(rig: Rig, name: str) -> Run:
    """A run of a migration, for which somebody asks undo."""
    definition = with_undo(rig.migrations[name].definition)
    return start_run(rig.store, definition, who="test", defaults=DEFAULTS)


def rolled_back(rig: Rig, run: Run) -> Run:
    return start_rollback(rig.store, run.id, who="test", defaults=DEFAULTS)


STEPS = ["S3", "S6", "S8", "S10", "S12"]
NAMES = ["function-marker", "pipeline-marker", "function-status", "declarative-filter", "single"]


@pytest.mark.parametrize("step", STEPS)
def test_a_rollback_whose_processes_die_at_a_step_loses_nothing(rig: Rig, step: str) -> None:
    name = NAMES[STEPS.index(step) % len(NAMES)]
    rig.seed(COUNT)
    before = stored(rig.things)
    run = started(rig, name)
    with system(rig.store, [rig.migrations[name]]):
        rig.reckon(rig.finish(run), COUNT)
    rig.die_at(step, 2 if step in ("S3", "S6", "S8") else 1, deaths=2)
    back = rolled_back(rig, run)
    rig.parent()
    found = rig.finish(back)
    assert rig.deaths_left() == 0
    assert stored(rig.things) == before
    assert found.run.status is RunStatus.COMPLETED
    assert found.counts.changed == COUNT


def test_a_run_that_keeps_images_may_die_too(rig: Rig) -> None:
    rig.seed(COUNT)
    before = stored(rig.things)
    rig.die_at("S6", 2, deaths=3)
    run = started(rig, "function-status")
    rig.parent()
    rig.reckon(rig.finish(run), COUNT)
    assert rig.deaths_left() == 0
    rig.finish(rolled_back(rig, run))
    assert stored(rig.things) == before


def test_h12_a_worker_that_was_stopped_does_not_migrate_again_what_was_rolled_back(rig: Rig) -> None:
    rig.seed(COUNT)
    before = stored(rig.things)
    run = started(rig, "slow")
    wake = stopped_in_the_middle(rig)
    rig.parent(workers=2)
    rig.reckon(rig.finish(run), COUNT)
    rig.finish(rolled_back(rig, run))
    assert stored(rig.things) == before
    wake()
    woke = rig.start("pipeline-marker", filter_={"number": -1})  # they are awake when they have seen this run
    rig.finish(woke)
    assert stored(rig.things) == before


def test_what_the_application_writes_meanwhile_is_never_lost(rig: Rig) -> None:
    """It writes a field that the migration touches, and counts up one that it does not, in both runs."""
    rig.seed(COUNT, seen=0)
    over = threading.Event()
    theirs: set[int] = set()
    seen = [0] * COUNT

    def application() -> None:
        chance = random.Random(7)
        while not over.is_set():
            number = chance.randrange(COUNT)
            seen[number] += rig.things.update_one({"number": number}, {"$inc": {"seen": 1}}).modified_count
            number = chance.randrange(0, COUNT, 10)
            rig.things.update_one({"number": number}, {"$set": {"n": 99}})
            theirs.add(number)

    writer = threading.Thread(target=application)
    run = started(rig, "pipeline-marker")
    writer.start()
    try:
        rig.parent()
        assert rig.finish(run).run.status is RunStatus.COMPLETED
        back = rig.finish(rolled_back(rig, run))
    finally:
        over.set()
        writer.join()
    documents = list(rig.things.find())
    assert [each["seen"] for each in documents] == [seen[each["number"]] for each in documents]
    wrong = [each for each in documents if each["n"] not in ((99, 100) if each["number"] in theirs else (0,))]
    assert not wrong
    conflicts = {each.key.value for each in rig.store.ledger.failures.list(back.run.id, limit=COUNT)}
    by_id = {each["_id"]: each for each in documents}
    assert all(by_id[key]["number"] in theirs for key in conflicts)
    assert {each["_id"] for each in documents if "_whimbrel" in each} == conflicts
