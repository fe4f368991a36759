"""H28: what the broker lost is announced again, and a queue that is merely long is not flooded with doubles."""

import asyncio
import contextlib
import time
from collections.abc import Iterator

import aio_pika
import pytest
from aio_pika.exceptions import ChannelPreconditionFailed

from tests.integration.brokers.test_rabbitmq import PROCESSING, adding, consuming, eventually, publishing
from tests.integration.in_process_system import start, system, until
from tests.servers.proxy import Proxy
from tests.servers.rabbit import RabbitNode
from whimbrel.brokers.rabbitmq.topology import generations
from whimbrel.domain.bson.raw_bson import Key
from whimbrel.domain.runs.batches import Batch
from whimbrel.domain.runs.run import Run
from whimbrel.domain.runs.states import RunStatus
from whimbrel.engine import repeated_errors
from whimbrel.engine.operating.control import resume
from whimbrel.engine.queueing.announcer import Announcer
from whimbrel.errors import Remedy
from whimbrel.mongo.store import MongoStore

PAUSE = 0.1
QUEUED = 20


@pytest.fixture
def run(store: MongoStore) -> Run:
    """A run with queued batches that nobody takes."""
    store.client[store.database]["things"].insert_one({"n": 0})
    found = start(store, adding("deep"))
    store.ledger.runs.move(found.id, RunStatus.RUNNING, who="test")
    store.ledger.batches.add(
        [
            Batch(run=found.id, seq=seq, leg=0, phase="pending", cuts=(Key.of(seq),))
            for seq in range(1, QUEUED + 1)
        ]
    )
    return found


@pytest.fixture
def announcer(node: RabbitNode, store: MongoStore) -> Iterator[Announcer]:
    with publishing(node) as broker:
        yield Announcer(store.ledger, broker, pause=PAUSE)


def look(announcer: Announcer, run: Run, seconds: float) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        announcer.repair(run)
        time.sleep(0.02)


def ready(node: RabbitNode) -> int:
    return node.queues()[PROCESSING].ready


def test_h28_a_queue_that_is_long_is_left_alone(node: RabbitNode, run: Run, announcer: Announcer) -> None:
    announcer.announce_all(run)
    look(announcer, run, 20 * PAUSE)
    assert ready(node) == QUEUED


def test_h28_what_was_lost_is_announced_again(node: RabbitNode, run: Run, announcer: Announcer) -> None:
    announcer.announce_all(run)
    look(announcer, run, 5 * PAUSE)
    node.purge(PROCESSING)
    look(announcer, run, 20 * PAUSE)
    assert ready(node) == QUEUED


def test_h28_pointers_that_a_busy_worker_holds_are_doubled_once(
    node: RabbitNode, run: Run, announcer: Announcer
) -> None:
    """They are neither ready nor lost, which only the worker knows: one double each, then there are enough."""
    announcer.announce_all(run)

    async def hold() -> None:
        async with await aio_pika.connect(node.url) as connection, connection.channel() as channel:
            await channel.set_qos(prefetch_count=QUEUED // 2)
            queue = await channel.get_queue(PROCESSING)
            await queue.consume(_held)
            await asyncio.sleep(0.3)
            await asyncio.to_thread(look, announcer, run, 40 * PAUSE)
            found = node.queues()[PROCESSING]
            assert found.unacked == QUEUED // 2
            assert QUEUED <= found.ready < 2 * QUEUED

    asyncio.run(hold())


def test_a_batch_that_is_no_longer_queued_is_not_announced(
    node: RabbitNode, store: MongoStore, run: Run, announcer: Announcer
) -> None:
    for _ in range(QUEUED - 1):
        assert store.ledger.batches.claim([run.id], worker="A", lsid=b"0" * 16)
    look(announcer, run, 20 * PAUSE)
    assert ready(node) == 1


async def _held(_message: object) -> None:
    """Neither acknowledged nor returned."""


def test_a_coordinator_that_cannot_reach_the_broker_makes_way(node: RabbitNode, store: MongoStore) -> None:
    """It keeps its lease only as long as the broker takes pointers; another process, which reaches it, goes on."""
    store.client[store.database]["things"].insert_many([{"n": 0} for _ in range(500)])
    it = adding("handed-over")
    with Proxy("127.0.0.1", node.port) as proxy:
        cut_off = f"amqp://guest:guest@127.0.0.1:{proxy.port}/"
        with (
            publishing(node, cut_off) as broker,
            consuming(node) as feed,
            system(store, [it], broker=broker, feed=feed, slots=0, name="cut off"),
        ):
            proxy.cut()
            started = start(store, it)
            eventually(
                lambda: "Waits for the broker" in (store.ledger.runs.get(started.id) or started).message
            )
            with (
                publishing(node) as other,
                consuming(node) as fed,
                system(store, [it], broker=other, feed=fed, name="connected"),
            ):
                assert until(store, started).counts.changed == 500


def test_h28_pointers_that_nobody_needs_hide_nothing_for_ever(
    node: RabbitNode, store: MongoStore, run: Run
) -> None:
    """More pointers lie ready than batches are queued, and yet these have none: they have waited long enough."""
    with publishing(node) as broker:
        announcer = Announcer(store.ledger, broker, pause=PAUSE, patience=1.0)
        stale = [Batch(run="20200101-aaaaaa", seq=seq, leg=0, phase="pending") for seq in range(3 * QUEUED)]
        announcer.announce(run, stale)
        look(announcer, run, 6 * PAUSE)
        assert ready(node) == 3 * QUEUED

        def repaired() -> bool:
            announcer.repair(run)
            return ready(node) == 4 * QUEUED

        eventually(repaired)


def test_h66_a_broker_that_refuses_again_and_again_pauses_the_run(
    node: RabbitNode, store: MongoStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody has made one of its queues anew, with other arguments, while it worked."""
    monkeypatch.setitem(repeated_errors.TIMES, Remedy.AGAIN, 3)
    store.client[store.database]["things"].insert_many([{"n": 0} for _ in range(500)])
    it = adding("refused")

    async def other() -> None:
        arguments = {**generations((3, 10))[0], "x-max-length": 5}
        async with await aio_pika.connect(node.url) as connection:
            while True:
                # Whoever consumes from it declares it again as soon as it is gone, and may be first.
                with contextlib.suppress(ChannelPreconditionFailed):
                    async with connection.channel() as channel:
                        await channel.queue_delete(PROCESSING)
                        await channel.declare_queue(PROCESSING, durable=True, arguments=arguments)
                        return

    with publishing(node) as broker, consuming(node) as feed:
        asyncio.run(other())
        with system(store, [it], broker=broker, feed=feed):
            paused = until(store, start(store, it), RunStatus.PAUSED).run
            assert "x-max-length" in str(paused.error)
            node.delete_queue(PROCESSING)
            eventually(lambda: PROCESSING in node.queues())  # it is declared again
            resume(store.ledger, paused.id, who="test")
            assert until(store, paused).counts.changed == 500
