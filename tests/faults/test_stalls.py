"""MongoDB stands still, again and again, for longer than a lease: no slot is lost, no run pauses.

2 stalls of 2.5 seconds with short leases, or as many, and as long, as STALLS and STALL_SECONDS say, with the times of every day.
"""

import os

import pytest

from tests.faults.rig import PATIENT, Rig
from tests.servers.rabbit import RabbitNode
from tests.servers.serve import eventually
from whimbrel.domain.runs.states import BatchStatus, RunStatus
from whimbrel.domain.runs.workers import ALIVE
from whimbrel.engine.operating.control import adjust

STALLS = int(os.environ.get("STALLS", "2"))
SECONDS = float(os.environ.get("STALL_SECONDS", "2.5"))
SLOTS = 4
COUNT = 400 * STALLS


@pytest.fixture
def stalled(request: pytest.FixtureRequest, rig: Rig) -> Rig:
    if request.param == "rabbitmq":
        node: RabbitNode = request.getfixturevalue("node")
        rig.environment["RABBITMQ_URL"] = node.url
    if "STALLS" in os.environ:
        rig.environment |= PATIENT
    rig.seed(COUNT)
    return rig


@pytest.mark.parametrize(
    ("stalled", "name"), [("ledger", "slow"), ("rabbitmq", "awaited")], indirect=["stalled"]
)
def test_no_slot_is_lost_and_no_run_pauses(stalled: Rig, name: str) -> None:
    rig = stalled
    rig.environment["LOG_LEVEL"] = "error"
    rig.hold(COUNT - 1)
    run = rig.start(name, batch_size=20, rate=40)  # by which much is left after the last stall
    rig.parent(workers=1, slots=SLOTS)
    for number in range(1, STALLS + 1):
        eventually(lambda number=number: rig.settled(run) >= 2 * number, 120)  # type: ignore[misc]
        rig.stall_mongod(SECONDS)
        eventually(lambda: rig.look(run).run.status is RunStatus.RUNNING, 120)
    # Each slot has a batch in hand: they rest for the sake of the rate, or hold the last document.
    eventually(lambda: rig.store.ledger.batches.count(run.id, [BatchStatus.RUNNING]) == SLOTS, 120)
    eventually(lambda: sum(each.slots for each in rig.store.ledger.leases.workers(ALIVE)) == SLOTS, 120)
    adjust(rig.store.ledger, run.id, who="test", rate=None)
    rig.let_go()
    found = rig.finish(run)
    rig.reckon(found, COUNT)
    assert not list(rig.client[rig.store.database]["whimbrel_audit"].find({"what": "run pausing"}))
