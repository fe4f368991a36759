"""The broker may lose everything (promise 4): whatever happens to RabbitMQ, each document is changed exactly once.

5,000 documents, or as many as CHAOS_DOCUMENTS says.
"""

import os
import time
from collections.abc import Callable, Iterator

import pytest

from tests.faults.rig import PATIENT, Rig
from tests.faults.test_troubles import plant, recorded
from tests.servers.proxy import Proxy, through
from tests.servers.rabbit import RabbitNode
from tests.servers.serve import eventually
from whimbrel.bootstrap import broker
from whimbrel.domain.runs.run import Run
from whimbrel.settings import Settings

COUNT = int(os.environ.get("CHAOS_DOCUMENTS", "5000"))
LANES = ("app.processing.queue", "app.priority.queue", "app.retry.queue")
FIRST = 3  # batches that are done before something happens


@pytest.fixture
def rabbit(rig: Rig, node: RabbitNode) -> Rig:
    """Documents, a broker without queues, and parents that will use it."""
    rig.environment["RABBITMQ_URL"] = node.url
    rig.seed(COUNT)
    return rig


def after(rig: Rig, run: Run, *acts: Callable[[], object]) -> Iterator[None]:
    """One act after the other, each when some more batches are done."""
    for number, act in enumerate(acts, 1):
        while rig.settled(run) < FIRST * number:
            yield
        act()
        yield
    rig.let_go()


def shaken(rig: Rig, *acts: Callable[[], object], workers: int = 2, parents: int = 1) -> None:
    """A run that something happens to ends as if nothing had."""
    run = rig.start("slow", batch_size=200)
    rig.hold(COUNT - 1)
    for _ in range(parents):
        rig.parent(workers=workers)
    done: list[bool] = []

    def act_of(act: Callable[[], object]) -> Callable[[], None]:
        def acted() -> None:
            act()
            done.append(True)

        return acted

    found = rig.finish(run, chaos=after(rig, run, *map(act_of, acts)))
    assert len(done) == len(acts), "the run was over before everything had happened"
    rig.reckon(found, COUNT)


def test_a_run_goes_through_rabbitmq(rabbit: Rig, node: RabbitNode) -> None:
    carried: list[int] = []

    def look() -> None:
        carried.append(sum(node.queues()[name].unacked for name in LANES))

    shaken(rabbit, look)
    assert carried[0] > 0
    eventually(lambda: sum(node.queues()[name].ready + node.queues()[name].unacked for name in LANES) == 0)
    queues = node.queues()
    assert {name: (queues[name].ready, queues[name].unacked) for name in LANES} == dict.fromkeys(
        LANES, (0, 0)
    )
    assert queues["app.deadletter.queue"].ready == 0


def test_a_worker_is_killed_in_the_middle_of_a_batch(rabbit: Rig) -> None:
    def kill() -> None:
        rabbit.children()[0].kill()

    shaken(rabbit, kill, kill)


def test_the_coordinator_is_killed(rabbit: Rig) -> None:
    def kill() -> None:
        rabbit.parents[0].kill()

    shaken(rabbit, kill, kill)


def test_two_coordinators(rabbit: Rig) -> None:
    def kill() -> None:
        rabbit.parents[-1].kill()

    shaken(rabbit, kill, workers=1, parents=2)


def test_rabbitmq_is_stopped_and_started(rabbit: Rig, node: RabbitNode) -> None:
    """The run waits, says so, and goes on."""
    run = rabbit.start("slow", batch_size=200)
    rabbit.hold(COUNT - 1)
    rabbit.parent()

    def stop() -> None:
        node.stop()
        said, end = "", time.monotonic() + 20
        while "broker" not in said and time.monotonic() < end:
            said = rabbit.look(run).run.message
            time.sleep(0.1)
        assert "Waits for the broker" in said
        assert node.url.split("@")[1] in said
        assert "guest:guest" not in said
        node.start()

    found = rabbit.finish(run, chaos=after(rabbit, run, stop))
    rabbit.reckon(found, COUNT)
    assert "broker" not in found.run.message


def test_all_queues_are_purged(rabbit: Rig, node: RabbitNode) -> None:
    def purge() -> None:
        for name in LANES:
            node.purge(name)

    shaken(rabbit, purge, purge)


def test_a_queue_is_deleted(rabbit: Rig, node: RabbitNode) -> None:
    shaken(rabbit, lambda: node.delete_queue("app.processing.queue"))


def test_the_broker_is_wiped(rabbit: Rig, node: RabbitNode) -> None:
    shaken(rabbit, node.wipe)


def test_connections_churn(rabbit: Rig, node: RabbitNode) -> None:
    shaken(rabbit, *[node.close_connections] * 3)


def test_a_redelivery_storm(rabbit: Rig, node: RabbitNode) -> None:
    """Every pointer is delivered five times and more."""
    again = broker(Settings(rabbitmq_url=node.url), "storm")
    again.connect(60)
    rabbit.environment |= PATIENT
    run = rabbit.start("slow", batch_size=200)
    rabbit.parent()

    def storm() -> Iterator[None]:
        told: set[str] = set()
        while True:
            rows = rabbit.store.ledger.batches.list(run.id, limit=1000)
            fresh = [row for row in rows if row.token not in told and not row.empty]
            for _ in range(4):
                again.announce(run, fresh)
            told |= {row.token for row in fresh}
            yield

    try:
        found = rabbit.finish(run, chaos=storm())
    finally:
        again.close()
    rabbit.reckon(found, COUNT, crashed=False)
    assert all(row.claims <= 1 for row in rabbit.store.ledger.batches.list(run.id))


@pytest.mark.parametrize("wire", ["broker", "database"])
def test_a_wire_is_cut_frozen_and_slowed(rabbit: Rig, node: RabbitNode, wire: str) -> None:
    target = node.port if wire == "broker" else rabbit.store.client.address[1]  # type: ignore[index]
    with Proxy("127.0.0.1", target) as proxy:
        if wire == "broker":
            rabbit.environment["RABBITMQ_URL"] = f"amqp://guest:guest@127.0.0.1:{proxy.port}/"
        else:
            rabbit.environment["MONGODB_URI"] = through(rabbit.uri, proxy.port)

        def cut() -> None:
            proxy.cut()
            time.sleep(1)
            proxy.heal()

        def freeze() -> None:
            proxy.freeze()
            time.sleep(4)
            proxy.thaw()

        shaken(rabbit, cut, freeze, lambda: proxy.slow(delay=0.02))
        rabbit.stop()


def test_an_unconfirmed_broker_slows_the_coordinator(rabbit: Rig, node: RabbitNode) -> None:
    """A memory alarm stops publishers: the run says so, consumers go on, and so does the run when it is over."""
    run = rabbit.start("slow", batch_size=200)
    rabbit.hold(COUNT - 1)
    rabbit.parent()

    def alarm() -> None:
        node.raise_alarm()
        said, end = "", time.monotonic() + 20
        while "memory or disk" not in said and time.monotonic() < end:
            said = rabbit.look(run).run.message
            time.sleep(0.1)
        node.clear_alarm()
        assert "memory or disk" in said

    found = rabbit.finish(run, chaos=after(rabbit, run, alarm))
    rabbit.reckon(found, COUNT)


def test_a_run_outlives_the_consumer_timeout(
    rabbit: Rig, node: RabbitNode, capfd: pytest.CaptureFixture[str]
) -> None:
    """Each batch takes longer than the server waits for an acknowledgement.

    It closes the channel, from 4.3 on it cancels the consumer; and the batch goes on.
    """
    rabbit.environment["LOG_LEVEL"] = "warning"
    with node.consumer_timeout(1000):
        run = rabbit.start("slow", batch_size=COUNT // 4)
        rabbit.parent()
        found = rabbit.finish(run)
    rabbit.reckon(found, COUNT, crashed=False)
    lost = "the server cancelled a consumer" if node.version >= (4, 3) else "the server closed a channel"
    assert lost in capfd.readouterr().err


def test_h10_a_document_that_kills_its_worker_is_isolated(rig: Rig, node: RabbitNode) -> None:
    """Its pointer comes back with each death; the ledger has counted the takeovers, and names the one document."""
    rig.environment |= {"RABBITMQ_URL": node.url, **PATIENT}
    plant(rig, {9: "die", 410: "raise"})
    run = rig.start("troubled", batch_size=100)
    rig.parent()
    found = rig.finish(run)
    assert recorded(rig, run.id) == {9: ("ProcessDeath", 2, "dead"), 410: ("ValueError", 2, "dead")}
    assert found.counts.changed == rig.things.count_documents({"n": 1}) == 598
    assert node.queues()["app.deadletter.queue"].ready == 0
