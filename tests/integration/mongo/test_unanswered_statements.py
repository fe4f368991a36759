"""What is known of statements that got no answer: the server is asked for their connections."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from pymongo import MongoClient
from pymongo.errors import AutoReconnect

from tests.servers.processes import Child, free_ports, listening, make_folder, pause, remove_folder
from whimbrel.mongo.client_options import connecting
from whimbrel.mongo.embedded import find_mongod
from whimbrel.mongo.unanswered_statements import UnansweredStatements, still_at_work

USER, SECONDS = "app", 60.0


@pytest.fixture(scope="module")
def guarded() -> Iterator[str]:
    """A server whose user may read and write, and nothing else."""
    (port,) = free_ports(1)
    folder = make_folder()
    plain = f"127.0.0.1:{port}/"
    options = ["--auth", "--dbpath", str(folder), "--port", str(port), "--bind_ip", "127.0.0.1", "--nounixsocket"]  # fmt: skip
    child = Child([str(find_mongod()), *options], log=folder / "log")
    try:
        while not listening(port):
            pause(time.monotonic() + SECONDS, child.tail())
        with MongoClient[dict[str, Any]](f"mongodb://{plain}") as client:
            client.admin.command("createUser", "root", pwd="root", roles=["root"])  # noqa: S106
        with MongoClient[dict[str, Any]](f"mongodb://root:root@{plain}") as client:
            client.test.command("createUser", USER, pwd=USER, roles=["readWrite"])
        yield f"mongodb://{USER}:{USER}@{plain}test"
    finally:
        child.kill()
        remove_folder(folder)


@pytest.fixture(params=["open", "guarded"])
def uri(request: pytest.FixtureRequest, mongo_uri: str) -> str:
    found: str = mongo_uri if request.param == "open" else request.getfixturevalue("guarded")
    return found


@contextmanager
def sent(uri: str, lasts: float, name: str = "whimbrel") -> Iterator[UnansweredStatements]:
    """A statement whose answer did not come, by a connection that is there yet, and that nobody else uses."""
    with connecting(uri, 10.0) as client, client.start_session(causal_consistency=False) as session:
        found = UnansweredStatements(session, lasts)
        listeners = client.options.event_listeners
        with MongoClient[dict[str, Any]](uri, event_listeners=listeners, appname=name) as other:
            with pytest.raises(AutoReconnect):
                _send(found, other)
            yield found


def _send(noting: UnansweredStatements, client: MongoClient[Any]) -> None:
    with noting.noting():
        client.test.command("update", "things", updates=[{"q": {}, "u": {"$set": {"n": 1}}}])
        raise AutoReconnect("reset")


def test_a_connection_that_is_there_may_bring_a_statement_yet(uri: str) -> None:
    with sent(uri, lasts=3600) as unanswered:
        assert not unanswered.end_all()
        assert not unanswered.end_all()  # as often as it is asked


def test_the_number_of_a_connection_may_be_anybodys_after_a_failover(uri: str) -> None:
    with sent(uri, lasts=3600, name="theirs") as unanswered:
        assert unanswered.end_all()


def test_when_the_fence_has_passed_what_comes_changes_nothing(uri: str) -> None:
    with sent(uri, lasts=0) as unanswered:
        assert unanswered.end_all()


def test_nothing_is_open_where_nothing_was_sent(mongo_uri: str) -> None:
    with connecting(mongo_uri, 10.0) as client, client.start_session() as session:
        unanswered = UnansweredStatements(session, 3600)
        with pytest.raises(AutoReconnect), unanswered.noting():
            raise AutoReconnect("no server was found")
        assert unanswered.end_all()


def test_a_dead_worker_is_known_by_its_connections(uri: str) -> None:
    with connecting(uri, 10.0) as client:
        with connecting(uri, 10.0, "host:7:abcd") as worker, worker.start_session() as session:
            lsid = bytes(session.session_id["id"])
            worker.test.things.find_one(session=session)
            assert still_at_work(client, [lsid], worker="host:7:abcd", patience=0) == {lsid}
            assert still_at_work(client, [lsid], worker="host:7:abce", patience=0) == set()
            assert still_at_work(client, [lsid], patience=0) == set()  # it does nothing at this moment
        assert still_at_work(client, [lsid], worker="host:7:abcd", patience=SECONDS) == set()
