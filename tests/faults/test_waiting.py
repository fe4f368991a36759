"""Workers that are killed while their run waits: nothing is lost, and nothing of it is an attempt."""

import signal
from collections.abc import Sequence
from datetime import timedelta

import psutil

from tests.faults.rig import PATIENT, Rig
from tests.servers.serve import eventually
from whimbrel.domain.runs.freezes import Freeze
from whimbrel.domain.runs.states import BatchStatus
from whimbrel.engine.operating.freezing import add_freezes, lift_freezes
from whimbrel.engine.operating.health_settings import change_thresholds
from whimbrel.ports import FreezeLook

COUNT = 1000


def freeze(rig: Rig, seconds: float | None) -> None:
    def made(look: FreezeLook) -> Sequence[Freeze]:
        ends = None if seconds is None else look.now + timedelta(seconds=seconds)
        return [Freeze(id=f"f{len(look.freezes)}", begins=look.now, ends=ends)]

    add_freezes(rig.store.ledger, made, who="test")


def test_kills_while_a_run_waits_cost_it_nothing(rig: Rig) -> None:
    rig.seed(COUNT)
    rig.environment |= PATIENT
    freeze(rig, None)
    run = rig.start("function-marker")
    rig.parent(workers=1)
    eventually(lambda: rig.look(run).run.allowance.gives_back)
    for child in eventually(rig.children):
        child.kill()
    assert not [batch for batch in rig.store.ledger.batches.list(run.id) if batch.claims], (
        "nobody had any in hand"
    )
    freeze(rig, 28)  # a short one: batches are kept in hand
    lift_freezes(rig.store.ledger, ["f0"], who="test")
    in_hand = [BatchStatus.RUNNING]
    eventually(lambda: rig.store.ledger.batches.count(run.id, in_hand) == 2)
    for child in eventually(rig.children):
        child.kill()
    eventually(lambda: rig.store.ledger.batches.count(run.id, in_hand) == 2 and all(batch.claims == 2 for batch in rig.store.ledger.batches.list(run.id, statuses=in_hand)))  # fmt: skip
    assert rig.look(run).processed == 0
    lift_freezes(rig.store.ledger, None, who="test")
    found = rig.finish(run)
    rig.reckon(found, COUNT)
    assert rig.store.ledger.failures.list(run.id) == []
    assert not any(batch.solo for batch in rig.store.ledger.batches.list(run.id))


def test_a_worker_that_waits_ends_with_its_parent_though_mongodb_is_gone(rig: Rig) -> None:
    """Nobody would end it otherwise: it would wait for its share until MongoDB is there again."""
    ledger = rig.store.ledger
    change_thresholds(ledger, "disk-used", slow=0.0, stop=0.0, who="test")
    rig.seed(COUNT)
    rig.environment["WHIMBREL_HEALTH"] = "on"
    parent = rig.parent(workers=1)
    eventually(lambda: ledger.health.verdict().share == 0.0)
    run = rig.start("function-marker")
    eventually(lambda: ledger.batches.count(run.id, [BatchStatus.RUNNING]) == 2)
    (child,) = rig.children()
    parent.send_signal(signal.SIGSTOP)  # it would start MongoDB again
    rig.kill_mongod()
    parent.kill()
    try:
        eventually(lambda: not child.is_running() or child.status() == psutil.STATUS_ZOMBIE)
    finally:
        rig.revive()
