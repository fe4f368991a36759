"""Many members: one of three RabbitMQ nodes dies, the primary of three mongod dies, and what was not acknowledged rolls back."""

import secrets
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.conftest import SHORT
from tests.faults.conftest import LONG_DOCUMENTS, SESSION, LongRun
from tests.faults.rig import Rig
from tests.faults.test_rabbitmq import COUNT, shaken
from tests.servers.cluster import RabbitCluster
from tests.servers.rabbit import RabbitNode
from tests.servers.replicas import ReplicaSet
from whimbrel.domain.bson.raw_bson import Key
from whimbrel.domain.runs.batch_progress import Progress, Stretch
from whimbrel.domain.runs.batches import Batch
from whimbrel.domain.runs.run import Counts, Run
from whimbrel.domain.runs.states import ENDED
from whimbrel.errors import LeaseLost, Transient
from whimbrel.mongo.store import connected


@pytest.fixture(scope="module")
def replicas() -> Iterator[ReplicaSet]:
    with ReplicaSet(3, election=4) as found:  # so long a primary that is cut off stays one
        yield found


class ClusterRig(Rig):
    """A rig whose MongoDB is somebody else's."""

    def revive(self) -> None:
        time.sleep(0.1)


@pytest.fixture
def many(replicas: ReplicaSet, tmp_path: Path) -> Iterator[ClusterRig]:
    tokens = tmp_path / "tokens"
    tokens.mkdir()
    replicas.wait_secondaries()
    with connected(replicas.uri, f"faults_{secrets.token_hex(4)}", SHORT) as store:
        found = ClusterRig(store, tmp_path, tokens, replicas.uri)
        found.environment["MONGODB_URI"] = replicas.uri
        yield found
        found.stop()


@pytest.mark.usefixtures("long_run")  # begins beside these tests
def test_one_of_three_rabbitmq_nodes_is_killed(rig: Rig) -> None:
    """The one that leads the queue: the others elect, and the address in RABBITMQ_URL is one of three."""
    with RabbitCluster(3) as cluster:
        rig.environment["RABBITMQ_URL"] = ",".join(cluster.urls)
        rig.seed(COUNT)
        killed: list[RabbitNode] = []

        def kill() -> None:
            killed.append(cluster.leader("app.processing.queue"))
            killed[0].kill()

        def start() -> None:
            killed[0].start()

        shaken(rig, kill, start)
        rig.stop()


def test_the_primary_is_killed(many: ClusterRig, replicas: ReplicaSet, node: RabbitNode) -> None:
    many.environment["RABBITMQ_URL"] = node.url
    many.seed(COUNT)
    dead = []
    shaken(many, lambda: dead.append(replicas.kill_primary()), lambda: replicas.restart(dead[0]))


def test_h38_what_only_the_old_primary_had_is_rolled_back_and_done_again(
    many: ClusterRig, replicas: ReplicaSet, node: RabbitNode
) -> None:
    """Documents and rows that reached no other member are gone after the election; no batch was settled on them."""
    many.environment["RABBITMQ_URL"] = node.url
    many.seed(COUNT)

    def cut_off() -> None:
        old = replicas.stop_secondaries()
        time.sleep(0.6)  # statements go on, and reach this member alone
        old.kill()
        replicas.continue_secondaries()
        replicas.wait_primary()
        replicas.restart(old)
        replicas.wait_secondaries()

    shaken(many, cut_off)


def claimed_by_one_member(many: ClusterRig, replicas: ReplicaSet, run: Run) -> list[Batch | Exception | None]:
    """What the owner of a claim hears that only a primary knew which then died."""
    outcome: list[Batch | Exception | None] = []

    def claim() -> None:
        try:
            outcome.append(
                many.store.ledger.batches.claim([run.id], worker="A", lsid=secrets.token_bytes(16))
            )
        except Transient as error:
            outcome.append(error)

    old = replicas.stop_secondaries()
    claiming = threading.Thread(target=claim)
    claiming.start()
    with old.client() as alone:  # it has taken the claim: only the acknowledgement cannot come
        rows = alone[many.store.database]["whimbrel_batches"]
        end = time.monotonic() + 3
        while time.monotonic() < end and rows.count_documents({"worker": "A"}) == 0:
            time.sleep(0.02)
        assert rows.count_documents({"worker": "A"}) == 1
    assert not outcome, "the claim was acknowledged by one member of three"
    old.kill()
    replicas.continue_secondaries()
    replicas.wait_primary()
    replicas.restart(old)
    claiming.join(60)
    return outcome


def test_h3_a_claim_that_only_the_old_primary_knew_is_none(many: ClusterRig, replicas: ReplicaSet) -> None:
    """Its owner gets an error instead of the batch; whoever claims it on the new primary has it alone."""
    many.seed(10)
    run = many.start("slow")
    batches = many.store.ledger.batches
    batches.add([Batch(run=run.id, seq=1, leg=0, phase="pending")])
    first = claimed_by_one_member(many, replicas, run)[0]
    second = batches.claim([run.id], worker="B", lsid=secrets.token_bytes(16))
    if isinstance(
        first, Batch
    ):  # the driver asked the new primary once more, which had not heard of the claim
        assert second is None
        batches.settle(first, Counts(), inferred=False)
    else:
        assert second is not None
        batches.settle(second, Counts(), inferred=False)
        with pytest.raises(LeaseLost):
            batches.settle(replace(second, owner="what A had written"), Counts(changed=10), inferred=False)
    replicas.wait_secondaries()
    row = batches.get(f"{run.id}.1")
    assert row is not None
    assert (row.status, row.counts, row.claims) == ("done", Counts(), 1)


def test_h62_a_note_that_only_the_old_primary_had_is_gone_and_nobody_has_relied_on_it(
    many: ClusterRig, replicas: ReplicaSet
) -> None:
    many.seed(10)
    run = many.start("slow")
    batches = many.store.ledger.batches
    batches.add([Batch(run=run.id, seq=1, leg=0, phase="pending", cuts=(Key.of(1), Key.of(2)))])
    first = batches.claim([run.id], worker="A", lsid=secrets.token_bytes(16))
    assert first is not None
    old = replicas.stop_secondaries()
    batches.note(first, Progress((Stretch(1, Counts(1)),)))  # it waits for no other member
    old.kill()
    replicas.continue_secondaries()
    replicas.wait_primary()
    assert batches.take_over(worker="A")
    second = batches.claim([run.id], worker="B", lsid=secrets.token_bytes(16))
    assert second is not None
    assert (second.progress, second.fresh) == (Progress(), False)
    replicas.restart(old)
    replicas.wait_secondaries()
    row = batches.get(first.token)
    assert row is not None
    assert row.progress == Progress()


def test_a_run_outlives_the_session_limit(long_run: LongRun) -> None:
    """Sessions of MongoDB end when the server has not heard of them for long. Here each document is held for longer."""
    found = long_run.rig.until(long_run.run, *ENDED, seconds=240)
    assert found.seconds > SESSION
    long_run.rig.reckon(found, LONG_DOCUMENTS, crashed=False)
