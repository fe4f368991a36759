"""What makes a signal bad on a real set of servers, for the tests of signals and for the benchmark that measures how long it takes to be noticed."""

import secrets
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from pymongo import MongoClient, WriteConcern
from pymongo.errors import PyMongoError

from tests.servers.replicas import Member
from whimbrel import Migration
from whimbrel.domain.runs.states import RunStatus
from whimbrel.engine.operating.start import Defaults, start_run
from whimbrel.mongo.store import MongoStore

THINGS = Migration(name="things", collection="things", update={"$set": {"n": 1}})


@contextmanager
def locked(member: Member) -> Iterator[None]:
    """Nothing is applied on it meanwhile."""
    with member.client() as client:
        client.admin.command("fsync", lock=True)
        try:
            yield
        finally:
            client.admin.command("fsyncUnlock")


@contextmanager
def writing(store: MongoStore, *, size: int = 10, threads: int = 1) -> Iterator[None]:
    """An application that inserts without waiting for others."""
    over = threading.Event()
    quick = store.client[store.database].get_collection("application", write_concern=WriteConcern(1))

    def insert() -> None:
        while not over.is_set():
            with suppress(PyMongoError):
                quick.insert_many([{"text": secrets.token_hex(size)} for _ in range(50)])
            over.wait(0.005)

    workers = [threading.Thread(target=insert) for _ in range(threads)]
    for worker in workers:
        worker.start()
    try:
        yield
    finally:
        over.set()
        for worker in workers:
            worker.join()


@contextmanager
def parameter(client: MongoClient[Any], **values: Any) -> Iterator[None]:
    before = client.admin.command({"getParameter": 1, **dict.fromkeys(values, 1)})
    client.admin.command({"setParameter": 1, **values})
    try:
        yield
    finally:
        client.admin.command(
            {"setParameter": 1, **{name: before[name] or 128 for name in values}}
        )  # 0: never set


@contextmanager
def fail_point(client: MongoClient[Any], name: str, mode: Any = "alwaysOn", **data: Any) -> Iterator[None]:
    client.admin.command({"configureFailPoint": name, "mode": mode, "data": data})
    try:
        yield
    finally:
        client.admin.command({"configureFailPoint": name, "mode": "off"})


def at_work(store: MongoStore) -> None:
    """A run that counts as being at work."""
    run = start_run(store, THINGS.definition, who="test", defaults=Defaults())
    store.ledger.runs.move(run.id, RunStatus.RUNNING, who="test")
