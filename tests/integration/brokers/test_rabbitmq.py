"""The adapter against a real RabbitMQ: what is declared, published, consumed, refused, and said when it cannot be."""

import asyncio
import contextlib
import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import aio_pika
import pytest
from pymongo.database import Database

from tests.integration.hurried_sampler import HurriedSampler
from tests.integration.in_process_system import start, system, until
from tests.integration.profiling import profiled
from tests.servers.proxy import Proxy
from tests.servers.rabbit import RabbitNode
from whimbrel import Migration, migration
from whimbrel.brokers.ledger import LedgerBroker
from whimbrel.brokers.rabbitmq import declare
from whimbrel.brokers.rabbitmq.consumer import RabbitFeed
from whimbrel.brokers.rabbitmq.publisher import RabbitBroker
from whimbrel.brokers.rabbitmq.topology import LANES, generations, lanes
from whimbrel.domain.health.own_checks import own_checks
from whimbrel.domain.health.signals import Level
from whimbrel.domain.runs.batches import Batch, BatchPointer
from whimbrel.domain.runs.run import Run
from whimbrel.domain.runs.states import RunStatus
from whimbrel.engine.coordinating import following
from whimbrel.engine.operating import control
from whimbrel.engine.operating.checks_apart import Apart, BrokerAlarm
from whimbrel.errors import BrokerRefused, BrokerUnavailable
from whimbrel.health_checks.http_check import HttpCheck
from whimbrel.mongo.store import MongoStore
from whimbrel.ports import Delivery
from whimbrel.ports.broker import QUEUES, Depth

Docs = Database[dict[str, Any]]
EXCHANGE = "app.topic.exchange"
PROCESSING, DEAD = "app.processing.queue", "app.deadletter.queue"


def adding(name: str, *, collection: str = "things", nap: float = 0.0) -> Migration:
    def add(thing: dict[str, Any]) -> dict[str, Any]:
        time.sleep(nap)
        return {"$set": {"n": thing["n"] + 1}}

    return Migration(name=name, collection=collection, transform=add, batch_size=50)


@contextmanager
def publishing(node: RabbitNode, url: str = "") -> Iterator[RabbitBroker]:
    found = RabbitBroker([url or node.url], EXCHANGE, name="test publisher")
    try:
        found.connect(60)
        yield found
    finally:
        found.close()


@contextmanager
def consuming(
    node: RabbitNode, *, names: tuple[str, ...] = (), give_up: Callable[[], None] = lambda: None
) -> Iterator[RabbitFeed]:
    found = RabbitFeed(
        [node.url], EXCHANGE, name="test consumer", lanes=lanes(names) if names else LANES,
        prefetch=2, look=0.3, give_up=give_up,
    )  # fmt: skip
    try:
        yield found
    finally:
        found.close()


def send(node: RabbitNode, body: bytes, key: str = "batch.processing") -> None:
    async def publish() -> None:
        async with await aio_pika.connect(node.url) as connection, connection.channel() as channel:
            exchange = await channel.get_exchange(EXCHANGE)
            await exchange.publish(aio_pika.Message(body), key)

    asyncio.run(publish())


def eventually(what: Callable[[], bool], seconds: float = 20) -> None:
    end = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < end, "it did not come about"
        time.sleep(0.05)


def batch_of(run: Run, seq: int = 1) -> Batch:
    return Batch(run=run.id, seq=seq, leg=0, phase="pending")


@pytest.fixture
def run(store: MongoStore, database: Docs) -> Run:
    database["things"].insert_one({"n": 0})
    return start(store, adding("alone"))


def test_everything_in_the_table_is_declared(node: RabbitNode) -> None:
    with publishing(node):
        found = node.queues()
    assert set(found) == {lane.queue for lane in LANES} | {DEAD}
    assert {each.type for each in found.values()} == {"quorum"}
    arguments = found[PROCESSING].arguments
    assert arguments["x-overflow"] == "reject-publish"
    assert arguments["x-max-length"] == 10_000
    assert arguments["x-delivery-limit"] == 100
    assert arguments["x-dead-letter-exchange"] == "app.deadletter.exchange"


def test_a_queue_of_another_make_is_refused_with_both_values(node: RabbitNode) -> None:
    async def other() -> None:
        async with await aio_pika.connect(node.url) as connection, connection.channel() as channel:
            await channel.declare_queue(
                PROCESSING, durable=True, arguments={**generations((3, 10))[0], "x-max-length": 5}
            )

    asyncio.run(other())
    with pytest.raises(BrokerRefused, match=r"app\.processing\.queue.*x-max-length is 5 .*needs 10000"):
        publishing(node).__enter__()


def test_a_queue_that_an_older_servers_rules_made_is_accepted(
    node: RabbitNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(declare, "version_of", lambda _text: (3, 10))
    with publishing(node):
        pass
    monkeypatch.setattr(declare, "version_of", lambda _text: (3, 13))  # as if the server was upgraded
    with publishing(node):
        assert "x-consumer-timeout" not in node.queues()[PROCESSING].arguments


def test_a_pointer_is_persistent_and_says_only_which_batch(node: RabbitNode, run: Run) -> None:
    with publishing(node) as broker:
        broker.announce(run, [batch_of(run, 1), batch_of(run, 2)])
        assert broker.waiting() == 2
    found = node.get_messages(PROCESSING)
    assert [json.loads(each.payload) for each in found] == [
        {"v": 1, "batch": f"{run.id}.{seq}"} for seq in (1, 2)
    ]
    assert all(each.properties["delivery_mode"] == 2 for each in found)


def test_a_missing_queue_is_an_error_and_then_made_again(node: RabbitNode, run: Run) -> None:
    with publishing(node) as broker:
        node.delete_queue(PROCESSING)
        with pytest.raises(BrokerUnavailable, match="missing"):
            broker.announce(run, [batch_of(run)])

        def again() -> bool:
            try:
                broker.announce(run, [batch_of(run)])
            except BrokerUnavailable:
                return False
            return True

        eventually(again)
        assert broker.waiting() == 1


def test_an_address_where_nothing_answers() -> None:
    broker = RabbitBroker(["amqp://me:secret@127.0.0.1:1/"], EXCHANGE, name="test")
    with contextlib.closing(broker), pytest.raises(BrokerUnavailable, match=r"cannot be reached") as caught:
        broker.connect(2)
    assert "127.0.0.1:1/" in str(caught.value)
    assert str(caught.value).endswith("is RABBITMQ_URL right?")
    assert "secret" not in str(caught.value)


def test_a_wrong_password(node: RabbitNode) -> None:
    with pytest.raises(BrokerRefused, match="user name or password"):
        publishing(node, node.url.replace("guest:guest", "guest:wrong")).__enter__()


def test_what_is_not_ours_is_laid_aside_once_with_the_reason(
    node: RabbitNode, store: MongoStore, database: Docs
) -> None:
    database["things"].insert_many([{"n": 0} for _ in range(200)])
    it = adding("poisoned")
    rubbish = {
        b"\xff\x00 no json": "not JSON",
        b'{"v": 9, "batch": "20261124-abc234.1"}': "pointer of version 9, and this is version 1",
        b'{"v": 1, "batch": "20261124-abc234.1"}': "the ledger has no such batch",
    }
    with publishing(node) as broker, consuming(node) as feed:
        for body in rubbish:
            send(node, body)
        with system(store, [it], broker=broker, feed=feed):
            found = until(store, start(store, it))
            eventually(lambda: node.queues()[DEAD].ready >= len(rubbish))
    assert (found.run.status, found.counts.changed) == (RunStatus.COMPLETED, 200)
    aside = {each.payload: each.headers["x-whimbrel-reason"] for each in node.get_messages(DEAD)}
    assert aside == rubbish
    eventually(lambda: node.queues()[DEAD].ready == len(rubbish))  # what was looked at has gone back
    assert all(node.queues()[lane.queue].ready == 0 for lane in LANES)


def test_a_full_queue_slows_the_coordinator_and_shows(
    node: RabbitNode, store: MongoStore, database: Docs
) -> None:
    database["things"].insert_many([{"n": 0} for _ in range(2000)])
    it = adding("crowded", nap=0.002)
    with publishing(node) as broker, consuming(node) as feed:
        node.ask(
            'rabbit_policy:set(<<"/">>, <<"short">>, <<"processing">>, [{<<"max-length">>, 1}], 0, <<"queues">>, <<"test">>), true'
        )
        eventually(lambda: node.ask('rabbit_policy:list(<<"/">>) =/= []'))
        try:
            with system(store, [it], broker=broker, feed=feed):
                started = start(store, it)
                said: set[str] = set()

                def full() -> bool:
                    row = store.ledger.runs.get(started.id)
                    said.add(row.message if row else "")
                    return any("a queue is full" in each for each in said)

                eventually(full)
                node.ask('rabbit_policy:delete(<<"/">>, <<"short">>, <<"test">>), true')
                found = until(store, started)
        finally:
            node.ask('catch rabbit_policy:delete(<<"/">>, <<"short">>, <<"test">>), true')
    assert (found.run.status, found.counts.changed) == (RunStatus.COMPLETED, 2000)


def test_a_consumer_that_gets_nothing_is_built_anew(node: RabbitNode, run: Run) -> None:
    """Connected, a slot idle, messages ready: and yet nothing comes."""
    with publishing(node) as broker, consuming(node) as feed:
        broker.announce(run, [batch_of(run)])
        first = feed.next(10, urgent=False)
        assert first is not None
        first.acknowledge()

        async def stop() -> None:  # without a word to anybody, as after a recovery that forgot the consumers
            for channel in feed._channels:
                underlay = await channel.get_underlay_channel()
                for tag in list(underlay.consumers):  # type: ignore[attr-defined]
                    await underlay.basic_cancel(tag)

        feed._loop.call(stop(), 5)
        broker.announce(run, [batch_of(run, 2)])
        second = feed.next(20, urgent=False)
        assert second is not None
        assert second.token == f"{run.id}.2"
        second.acknowledge()


def test_a_process_that_never_gets_anything_gives_up(
    node: RabbitNode, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    given_up: list[bool] = []

    async def deaf(_feed: RabbitFeed, connection: Any, _where: str) -> None:
        await declare.declare(connection, EXCHANGE)

    monkeypatch.setattr(RabbitFeed, "_build", deaf)
    with publishing(node) as broker, consuming(node, give_up=lambda: given_up.append(True)) as feed:
        broker.announce(run, [batch_of(run)])
        end = time.monotonic() + 120
        while not given_up and time.monotonic() < end:
            assert feed.next(0.2, urgent=False) is None
        assert given_up


def test_urgent_runs_do_not_wait_behind_others(node: RabbitNode, store: MongoStore, database: Docs) -> None:
    """The only slot is busy with a long run; the one that is kept free takes the batches of priority 9."""
    database["things"].insert_many([{"n": 0} for _ in range(600)])
    database["others"].insert_many([{"n": 0} for _ in range(100)])
    long, urgent = adding("long", nap=0.01), adding("urgent", collection="others")
    with (
        publishing(node) as broker,
        consuming(node) as feed,
        system(store, [long, urgent], broker=broker, feed=feed, slots=1),
    ):
        first = start(store, long)
        until(store, first, RunStatus.RUNNING)
        second = start(store, urgent, priority=9)
        assert until(store, second).run.status is RunStatus.COMPLETED
        row = store.ledger.runs.get(first.id)
        assert row is not None
        assert row.status is RunStatus.RUNNING
        assert until(store, first).counts.changed == 600


def test_only_the_named_queues_are_taken_from(node: RabbitNode, run: Run) -> None:
    with publishing(node) as broker, consuming(node, names=("priority",)) as feed:
        broker.announce(run, [batch_of(run)])
        assert feed.next(1, urgent=False) is None
    with publishing(node) as broker, consuming(node, names=("processing",)) as feed:
        found = feed.next(10, urgent=False)
        assert found is not None
        found.acknowledge()


def test_another_code_refuses_and_says_so(node: RabbitNode, store: MongoStore, database: Docs) -> None:
    database["things"].insert_many([{"n": 0} for _ in range(300)])

    @migration(name="told", collection="things", batch_size=50)
    def right(thing: dict[str, Any]) -> dict[str, Any]:
        return {"$set": {"n": thing["n"] + 1}}

    def another(thing: dict[str, Any]) -> dict[str, Any]:
        return {"$set": {"n": thing["n"] + 1000}}

    wrong = Migration(name="told", collection="things", transform=another, batch_size=50)
    with (
        publishing(node) as broker,
        consuming(node) as deaf,
        consuming(node) as feed,
        system(store, [wrong], broker=broker, feed=deaf, name="wrong"),
    ):
        started = start(store, right)
        until(store, started, RunStatus.RUNNING)

        def refused() -> bool:
            rows = {each.name: each for each in store.ledger.leases.workers(5)}
            return any(each.run == started.id for each in rows["wrong"].refuses) if "wrong" in rows else False

        eventually(refused)
        with system(store, [right], broker=broker, feed=feed, name="right"):
            assert until(store, started).counts.changed == 300
    assert database["things"].count_documents({"n": 1}) == 300


def test_a_paused_run_goes_on_where_it_stopped(node: RabbitNode, store: MongoStore, database: Docs) -> None:
    """Pointers to its batches were acknowledged while it was paused: they are sent again."""
    from whimbrel.engine.operating import control  # noqa: PLC0415

    database["things"].insert_many([{"n": 0} for _ in range(1000)])
    it = adding("rested", nap=0.002)
    with publishing(node) as broker, consuming(node) as feed, system(store, [it], broker=broker, feed=feed):
        started = start(store, it)
        eventually(lambda: store.ledger.batches.count(started.id, ["done"]) > 1)  # type: ignore[list-item]
        control.pause(store.ledger, started.id, who="test")
        until(store, started, RunStatus.PAUSED)
        eventually(lambda: all(node.queues()[lane.queue].ready == 0 for lane in LANES))
        control.resume(store.ledger, started.id, who="test")
        assert until(store, started).counts.changed == 1000
    assert database["things"].count_documents({"n": 1}) == 1000


def test_a_run_follows_and_a_pointer_to_a_merged_batch_is_no_stranger(
    node: RabbitNode, store: MongoStore, database: Docs, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(following, "LEFT_APART", 1)
    monkeypatch.setattr(following, "TOGETHER", 2)
    monkeypatch.setattr(following, "GATHERING", 0.0)
    it = adding("following")
    things, rows = database["things"], database["whimbrel_batches"]
    things.insert_one({"n": 0})
    with (
        publishing(node) as broker,
        consuming(node) as feed,
        system(store, [it], broker=broker, feed=feed),
    ):
        run = start(store, it, follow=True)
        for count in range(2, 8):
            eventually(lambda: things.count_documents({"n": 1}) == count - 1)  # noqa: B023
            things.insert_one({"n": 0})
        eventually(lambda: bool(rows.find_one({"run": run.id, "$expr": {"$gt": ["$upTo", "$seq"]}})))
        merged = rows.find_one({"run": run.id, "$expr": {"$gt": ["$upTo", "$seq"]}})
        assert merged is not None
        broker.announce(run, [BatchPointer(run.id, merged["seq"] + 1, retry=False)])
        control.adjust(store.ledger, run.id, who="test", follow=False)
        assert until(store, run).run.status is RunStatus.COMPLETED
        eventually(lambda: all(node.queues()[lane.queue].ready == 0 for lane in LANES))
    assert things.count_documents({"n": 1}) == 7
    assert node.queues()[DEAD].ready == 0


def test_a_worker_that_is_busy_for_long_is_left_alone(node: RabbitNode, run: Run) -> None:
    """Pointers lie ready and none comes: because all that it may hold is held."""
    with publishing(node) as broker, consuming(node) as feed:
        broker.announce(run, [batch_of(run, seq) for seq in range(1, 9)])
        held = [feed.next(10, urgent=False) for _ in range(2)]
        eventually(feed._link.up.is_set)  # it delivers before it says that it is up
        first = feed._link.connection
        assert feed.next(2.0, urgent=True) is None  # many looks
        assert feed._link.connection is first
        for each in held:
            assert each is not None
            each.acknowledge()
        assert feed.next(10, urgent=False) is not None


def test_a_run_that_nobody_can_serve_does_not_hold_up_others(
    node: RabbitNode, store: MongoStore, database: Docs
) -> None:
    """The pointers that this process must refuse go to the end of the queue, behind those that it can serve."""
    for name in ("things", "others"):
        database[name].insert_many([{"n": 0} for _ in range(300)])
    unknown, known = adding("unknown"), adding("known", collection="others")
    with (
        publishing(node) as broker,
        consuming(node) as feed,
        system(store, [known], broker=broker, feed=feed),
    ):
        first = start(store, unknown)
        until(store, first, RunStatus.RUNNING)
        eventually(lambda: node.queues()[PROCESSING].unacked > 0)
        assert until(store, start(store, known), seconds=40).counts.changed == 300
    assert node.queues()[DEAD].ready == 0


TURNS: dict[str, Callable[[Delivery, int], None]] = {
    "given back": lambda delivery, _: delivery.give_back(),
    "sent to the end": lambda delivery, _: delivery.pass_on(),
    "by turns": lambda delivery, number: delivery.give_back() if number % 3 else delivery.pass_on(),
}


@pytest.mark.parametrize("way", TURNS)
def test_a_pointer_that_is_always_turned_away_is_laid_aside_in_the_end(
    node: RabbitNode, run: Run, way: str
) -> None:
    """By us, after a hundred times: the server's delivery limit does not count all of them, and in 4.3 hardly any."""
    with publishing(node) as broker, consuming(node) as feed:
        broker.announce(run, [batch_of(run)])
        times = 0
        while (delivery := feed.next(10 if times < 100 else 0.5, urgent=False)) is not None:
            times += 1
            assert delivery.token == f"{run.id}.1"
            TURNS[way](delivery, times)
            assert times <= 100
        eventually(lambda: node.queues()[DEAD].ready == 1)
        assert times == 100
        assert (node.queues()[PROCESSING].ready, node.queues()[PROCESSING].unacked) == (0, 0)
        broker.announce(run, [batch_of(run)])  # as the coordinator does: it begins anew
        again = feed.next(10, urgent=False)
        assert again is not None
        again.acknowledge()
    [aside] = node.get_messages(DEAD)
    assert json.loads(aside.payload) == {"v": 1, "batch": f"{run.id}.1"}
    assert aside.headers["x-whimbrel-reason"] == "turned away 100 times"
    assert aside.headers["x-whimbrel-key"] == "batch.processing"
    assert aside.headers["x-whimbrel-turned-away"] == 100


def test_what_cannot_be_laid_aside_does_not_block_the_lane(node: RabbitNode, run: Run) -> None:
    with publishing(node) as broker, consuming(node) as feed:
        eventually(lambda: node.queues().get(PROCESSING) is not None)
        exchange = 'rabbit_exchange:delete(rabbit_misc:r(<<"/">>, exchange, <<"app.deadletter.exchange">>), false, <<"test">>), true'
        node.ask(exchange)
        for _ in range(5):
            send(node, b"junk")
        broker.announce(run, [batch_of(run)])
        found = feed.next(30, urgent=False)
        assert found is not None
        assert found.token == f"{run.id}.1"
        found.acknowledge()
        eventually(lambda: (node.queues()[PROCESSING].ready, node.queues()[PROCESSING].unacked) == (0, 0))


def test_whoever_waits_on_a_lost_connection_hears_of_it(node: RabbitNode, run: Run) -> None:
    """The driver cancels what waits; that must not end the threads that ask."""
    heard: list[BaseException] = []
    with (
        Proxy("127.0.0.1", node.port) as proxy,
        publishing(node, f"amqp://guest:guest@127.0.0.1:{proxy.port}/") as broker,
    ):

        def ask() -> None:
            try:
                broker.announce(run, [batch_of(run)])
            except BaseException as error:  # noqa: BLE001  whatever it is, it is looked at below
                heard.append(error)

        proxy.freeze()
        threads = [threading.Thread(target=ask) for _ in range(4)]
        for thread in threads:
            thread.start()
            time.sleep(0.5)
        for thread in threads:
            thread.join(30)
        proxy.thaw()
    assert len(heard) == 4
    assert all(isinstance(each, BrokerUnavailable) for each in heard), heard
    assert "guest:guest" not in str(heard)


def test_a_virtual_host_that_is_not_there(node: RabbitNode) -> None:
    with pytest.raises(BrokerRefused, match="virtual host"):
        publishing(node, node.url + "nowhere").__enter__()


def test_the_queues_are_asked_and_emptied(node: RabbitNode, run: Run) -> None:
    with publishing(node) as broker:
        assert {name: each.ready for name, each in broker.depths().items()} == dict.fromkeys(QUEUES, 0)
        broker.announce(run, [batch_of(run, seq) for seq in (1, 2, 3)])
        assert broker.depths()[PROCESSING] == Depth(ready=3, consumers=0)
        assert broker.purge(PROCESSING) == 3
        assert (broker.purge(PROCESSING), broker.purge(DEAD), broker.waiting()) == (0, 0, 0)
        with consuming(node):
            eventually(lambda: broker.depths()[PROCESSING].consumers == 1)
            assert broker.depths()[DEAD].consumers == 0


def test_a_message_goes_round_and_leaves_nothing(node: RabbitNode, run: Run) -> None:
    with publishing(node) as broker:
        for _ in range(20):
            assert 0 < broker.round_trip(5) < 5
        with pytest.raises(BrokerUnavailable, match="in time"):
            broker.round_trip(0)
        broker.announce(run, [batch_of(run)])  # the connection is as it was
        assert broker.waiting() == 1
        eventually(lambda: set(node.queues()) == set(QUEUES))


def test_a_message_that_does_not_come_back(node: RabbitNode, run: Run) -> None:
    with publishing(node) as broker:
        node.freeze()
        try:
            with pytest.raises(BrokerUnavailable):
                broker.round_trip(1)
        finally:
            node.thaw()
        eventually(lambda: round_trip_of(broker) is not None)


def round_trip_of(broker: RabbitBroker) -> float | None:
    try:
        return broker.round_trip(2)
    except BrokerUnavailable:
        return None


def test_no_statement_of_a_run_through_rabbitmq_needs_the_collection(
    node: RabbitNode, store: MongoStore, database: Docs
) -> None:
    database["things"].insert_many([{"n": 0} for _ in range(3000)])
    it = adding("looking")
    with (
        publishing(node) as broker,
        consuming(node) as feed,
        profiled(database) as looks,
        system(store, [it], broker=broker, feed=feed),
    ):
        found = until(store, start(store, it, batch_size=100))
    assert (found.run.status, found.counts.changed) == (RunStatus.COMPLETED, 3000)
    looks.check(200, 2.5, 3000)


def test_an_alarm_for_memory_or_disk_is_known_without_a_batch_and_holds_runs_back(
    node: RabbitNode, store: MongoStore
) -> None:
    """Also by the management plugin, as a check of one's own."""
    (by_http,) = own_checks(f"[alarms]\nurl = '{node.alarms_url}'".encode())
    alarms = {
        "memory": (node.raise_alarm, node.clear_alarm),
        "disk": (node.raise_disk_alarm, node.clear_disk_alarm),
    }
    with publishing(node) as broker:
        apart = [Apart(BrokerAlarm(broker)), Apart(HttpCheck(by_http))]
        one = HurriedSampler(store, store.health_reader(), name="one", apart=apart)

        def levels() -> set[Level]:
            one.tick()
            return {one.latest.signals[name].level for name in ("broker-alarm", "alarms")}

        eventually(lambda: levels() == {Level.OK})
        for raised, cleared in alarms.values():
            raised()
            try:
                eventually(lambda: levels() == {Level.STOP})
                assert one.latest.share == 0.0
                assert (
                    "RabbitMQ has stopped all publishers, as it runs out of memory or disk"
                    in one.latest.explain()
                )
            finally:
                cleared()
            eventually(lambda: levels() == {Level.OK})
        assert broker.waiting() == 0, "the connection goes on"
        assert node.queues()[DEAD].ready == 0


def test_the_ledger_broker_has_no_alarm() -> None:
    reading = BrokerAlarm(LedgerBroker()).read()
    assert (reading.value, reading.absent) == (None, "there is no RabbitMQ: workers look into the ledger")


def test_a_rabbitmq_that_is_away_has_no_alarm_and_is_not_known() -> None:
    broker = RabbitBroker(["amqp://guest:secret@127.0.0.1:1/"], EXCHANGE, name="test publisher")
    try:
        reading = BrokerAlarm(broker).read()
    finally:
        broker.close()
    assert reading.value is None
    assert "RabbitMQ at amqp://***@127.0.0.1:1/" in reading.problem
