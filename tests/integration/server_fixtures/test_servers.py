"""The servers of the tests do what their names say."""

import asyncio
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import aio_pika
import psutil
import pytest
from aio_pika.abc import AbstractChannel, AbstractIncomingMessage, FieldValue
from pymongo import MongoClient
from pymongo.errors import PyMongoError
from pymongo.write_concern import WriteConcern

from tests.servers import install
from tests.servers.cluster import RabbitCluster
from tests.servers.echo import echoing
from tests.servers.processes import free_ports
from tests.servers.proxy import Proxy, through
from tests.servers.rabbit import RabbitNode
from tests.servers.replicas import ReplicaSet
from tests.servers.serve import eventually

QUORUM: dict[str, FieldValue] = {"x-queue-type": "quorum"}


@pytest.fixture(scope="module")
def node() -> Iterator[RabbitNode]:
    with RabbitNode(settings=["heartbeat = 5"]) as found:
        yield found


def talk(url: str, work: Callable[[AbstractChannel], Awaitable[None]]) -> None:
    """By a connection and a channel with confirms."""

    async def run() -> None:
        connection = await aio_pika.connect(url, timeout=10)
        async with connection:
            await work(await connection.channel())

    asyncio.run(run())


def send(url: str, queue: str, count: int, arguments: dict[str, FieldValue] | None = None) -> None:
    """Persistent messages 0, 1, ... to a durable queue, confirmed."""

    async def work(channel: AbstractChannel) -> None:
        await channel.declare_queue(queue, durable=True, arguments=arguments)
        for number in range(count):
            message = aio_pika.Message(
                str(number).encode(),
                headers={"number": number},
                delivery_mode=aio_pika.DeliveryMode.PERSISTENT,
            )
            await channel.default_exchange.publish(message, queue)

    talk(url, work)


def test_find_server_is_quick_and_says_what_to_do(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert min(_seconds(install.find_server) for _ in range(20)) < 0.05
    monkeypatch.setattr(install, "_PACKAGED", tmp_path)
    monkeypatch.delenv(install.CHOICE, raising=False)
    monkeypatch.setattr(shutil, "which", lambda *_, **__: None)
    with pytest.raises(install.ServerMissing, match="apt-get install rabbitmq-server"):
        install.find_server()


@pytest.mark.parametrize(
    ("named", "sbin"), [(".", "sbin"), ("sbin", "sbin"), (".", "lib/rabbitmq_server-4.0.5/sbin")]
)
def test_an_installation_is_named(
    named: str, sbin: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(install.CHOICE, str(tmp_path / named))
    assert install.main() == 1  # and nothing is installed in its place
    assert "where there is no rabbitmq-server" in capsys.readouterr().err
    (tmp_path / sbin).mkdir(parents=True)
    (tmp_path / sbin / "rabbitmq-server").touch()
    (tmp_path / sbin).parent.joinpath("plugins").mkdir()
    assert install.find_server() == (tmp_path / sbin).resolve()
    assert install.main() == 0


def test_killed_node_keeps_durable_messages(node: RabbitNode) -> None:
    send(node.url, "kept", 3)
    pid = node.pid
    node.kill()
    assert not psutil.pid_exists(pid)
    with pytest.raises(OSError, match="refused"):
        socket.create_connection(("127.0.0.1", node.port))
    node.restart()
    assert node.queues()["kept"].ready == 3
    node.restart()
    assert node.queues()["kept"].ready == 3


def test_counts_are_true_at_once(node: RabbitNode) -> None:
    async def hold(_: AbstractIncomingMessage) -> None:
        """Does not settle it."""

    async def work(channel: AbstractChannel) -> None:
        for name, arguments in (("now", None), ("now-quorum", QUORUM)):
            queue = await channel.declare_queue(name, durable=True, arguments=arguments)
            for _ in range(5):
                await channel.default_exchange.publish(aio_pika.Message(b"x"), name)
            for _ in range(2):
                await queue.get()
            await queue.consume(hold)
            found = (await asyncio.to_thread(node.queues))[name]
            assert found.ready + found.unacked == 5
            assert found.unacked >= 2
            assert found.consumers == 1
            assert found.type == ("quorum" if arguments else "classic")
            assert found.arguments == (arguments or {})

    talk(node.url, work)
    eventually(lambda: node.queues()["now-quorum"].ready == 5)  # the channel's end gives them back


def test_peek_purge_and_delete(node: RabbitNode) -> None:
    send(node.url, "a/b", 3)
    assert [(each.payload, each.headers) for each in node.get_messages("a/b", 2)] == [
        (b"0", {"number": 0}),
        (b"1", {"number": 1}),
    ]
    assert node.queues()["a/b"].ready == 3
    node.purge("a/b")
    assert node.queues()["a/b"].ready == 0
    node.delete_queue("a/b")
    assert "a/b" not in node.queues()


def test_connections_are_seen_and_closed(node: RabbitNode) -> None:
    async def work() -> str:
        connection = await aio_pika.connect(node.url, timeout=10)
        closed: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        connection.close_callbacks.add(lambda _, error: closed.set_result(str(error)))
        assert len(await asyncio.to_thread(node.connections)) == 1
        assert await asyncio.to_thread(node.close_connections, "go away") == 1
        return await asyncio.wait_for(closed, 5)

    assert "go away" in asyncio.run(work())
    assert node.connections() == []


def test_memory_alarm_blocks_publishing(node: RabbitNode) -> None:
    send(node.url, "alarm", 1)
    node.raise_alarm()
    with pytest.raises(TimeoutError):
        talk(node.url, lambda channel: _publish(channel, "alarm", 0.5))
    node.clear_alarm()
    talk(node.url, lambda channel: _publish(channel, "alarm", 5))


async def _publish(channel: AbstractChannel, queue: str, seconds: float) -> None:
    await asyncio.wait_for(channel.default_exchange.publish(aio_pika.Message(b"x"), queue), seconds)


def test_frozen_node_answers_when_it_is_thawed(node: RabbitNode) -> None:
    node.freeze()
    with socket.create_connection(("127.0.0.1", node.port), timeout=0.5) as connection:
        connection.sendall(b"AMQP\x00\x00\x09\x01")
        with pytest.raises(TimeoutError):
            connection.recv(1)
        node.thaw()
        connection.settimeout(5)
        assert connection.recv(1) == b"\x01"


def test_wiped_node_has_nothing_at_the_same_address(node: RabbitNode) -> None:
    send(node.url, "gone", 1)
    url = node.url
    node.wipe()
    assert (node.url, node.queues()) == (url, {})


def test_cluster_survives_the_leader_of_a_quorum_queue() -> None:
    with RabbitCluster(3) as cluster:
        send(cluster.urls[0], "shared", 2, QUORUM)
        leader = cluster.leader("shared")
        leader.kill()
        assert cluster.leader("shared") is not leader  # until there is one, a publish may be refused
        alive = [each for each in cluster.nodes if each is not leader]
        send(alive[0].url, "shared", 2, QUORUM)
        assert alive[1].queues()["shared"].ready == 4
        leader.restart()
        cluster.wait()
        assert leader.queues()["shared"].ready == 4


def test_nothing_outlives_a_killed_parent() -> None:
    text = "from tests.servers.rabbit import RabbitNode as R; n = R(); n.launch(); print(n.pid, n.erlang.folder, flush=True); input()"
    with subprocess.Popen(
        [sys.executable, "-c", text], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as parent:
        assert parent.stdout is not None
        pid, folder = parent.stdout.readline().split()
        others = [int(pid), *(each.pid for each in psutil.Process(parent.pid).children(recursive=True))]
        parent.kill()
    end = time.monotonic() + 10
    while any(psutil.pid_exists(each) for each in others) or Path(folder).exists():
        assert time.monotonic() < end
        time.sleep(0.02)


def connect(proxy: Proxy, timeout: float = 5) -> socket.socket:
    return socket.create_connection(("127.0.0.1", proxy.port), timeout=timeout)


def test_proxy_cuts_and_heals() -> None:
    with echoing() as port, Proxy("127.0.0.1", port) as proxy:
        with connect(proxy) as connection:
            connection.sendall(b"one")
            assert connection.recv(10) == b"one"
            assert proxy.connections() == 1
            proxy.cut()
            with pytest.raises(ConnectionResetError):
                connection.recv(10)
        with pytest.raises(ConnectionRefusedError):
            connect(proxy)
        proxy.heal()
        with connect(proxy) as connection:
            connection.sendall(b"two")
            assert connection.recv(10) == b"two"
            proxy.churn()
            with pytest.raises(ConnectionResetError):
                connection.recv(10)
        with connect(proxy) as connection:
            connection.sendall(b"three")
            assert connection.recv(10) == b"three"
            connection.shutdown(socket.SHUT_WR)
            assert connection.recv(10) == b""


def test_proxy_freezes() -> None:
    with echoing() as port, Proxy("127.0.0.1", port) as proxy, connect(proxy, 5) as old:
        old.sendall(b"one")
        assert old.recv(10) == b"one"
        proxy.freeze()
        with connect(proxy, 5) as new:
            for each in (old, new):
                each.settimeout(0.3)
                each.sendall(b"two")
                with pytest.raises(TimeoutError):
                    each.recv(10)
            proxy.thaw()
            for each in (old, new):
                each.settimeout(5)
                assert each.recv(10) == b"two"


def test_proxy_slows() -> None:
    with echoing() as port, Proxy("127.0.0.1", port) as proxy, connect(proxy) as connection:
        proxy.slow(bytes_per_second=20_000)
        assert 0.4 < _exchange(connection, 10_000) < 20  # half a second each way, which overlap
        proxy.slow(delay=0.2)
        assert 0.35 < _exchange(connection, 10) < 20
        proxy.slow()
        assert min(_exchange(connection, 10_000) for _ in range(10)) < 0.35


def _exchange(connection: socket.socket, size: int) -> float:
    def there_and_back() -> None:
        connection.sendall(b"x" * size)
        left = size
        while left:
            left -= len(connection.recv(65_536))

    return _seconds(there_and_back)


def _seconds(act: Callable[[], object]) -> float:
    begin = time.perf_counter()
    act()
    return time.perf_counter() - begin


def test_proxy_to_nobody_closes() -> None:
    nobody = free_ports(1)[0]
    reset = pytest.raises(ConnectionResetError)  # while it reads, or connects still
    with Proxy("127.0.0.1", nobody) as proxy, reset, connect(proxy) as connection:
        connection.recv(1)


def test_proxy_carries_amqp_and_mongodb(
    node: RabbitNode, mongo_uri: str, client: MongoClient[dict[str, Any]]
) -> None:
    with Proxy("127.0.0.1", node.port) as proxy:
        send(f"amqp://guest:guest@127.0.0.1:{proxy.port}/", "through", 1)
        assert node.queues()["through"].ready == 1
    address = client.address
    assert address is not None
    with Proxy(*address) as proxy:
        uri = through(mongo_uri, proxy.port, serverSelectionTimeoutMS=5000)
        with MongoClient[dict[str, Any]](uri) as far:
            assert far.admin.command("ping")["ok"]
            proxy.cut()
            with pytest.raises(PyMongoError):
                far.admin.command("ping")
            proxy.heal()
            assert far.admin.command("ping")["ok"]


def test_replica_set_elects_and_rolls_back() -> None:
    with ReplicaSet(3, election=4) as replicas, MongoClient[Any](replicas.uri) as client:
        things = client["test"]["things"]
        things.with_options(write_concern=WriteConcern(3)).insert_one({"_id": "kept"})
        old = replicas.stop_secondaries()
        with old.client() as alone:
            lonely = alone["test"]["things"].with_options(write_concern=WriteConcern(1))
            lonely.insert_one({"_id": "lost"})
        assert replicas.kill_primary() is old
        replicas.continue_secondaries()
        assert replicas.wait_primary() is not old
        replicas.restart(old)
        replicas.wait_secondaries()
        for member in replicas.members:
            with member.client() as direct:
                assert [each["_id"] for each in direct["test"]["things"].find()] == ["kept"]
        before = replicas.step_down()
        assert replicas.primary() is not before


def test_a_frozen_server_ends_too() -> None:
    with RabbitNode() as node:
        pid = node.pid
        os.kill(pid, 0)
        node.freeze()
        assert psutil.Process(pid).status() == psutil.STATUS_STOPPED
    with pytest.raises(ProcessLookupError):
        os.kill(pid, signal.SIGCONT)
