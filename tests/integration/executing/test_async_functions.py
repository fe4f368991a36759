"""Awaited functions: one event loop for all calls of a process, so that what a module makes once serves them all."""

import asyncio
import contextvars
import threading
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from pymongo import AsyncMongoClient
from pymongo.database import Database

from tests.integration.in_process_system import start, system, until
from whimbrel import Migration
from whimbrel.domain.runs.states import RunStatus
from whimbrel.engine.executing.event_loop import EventLoop, process_loop
from whimbrel.engine.running import heartbeat
from whimbrel.mongo.store import MongoStore
from whimbrel.testing import check_migration

Data = Database[dict[str, Any]]
COUNT = 400


def migrate(
    store: MongoStore, database: Data, function: Callable[..., Any], *, slots: int = 4, **options: Any
) -> None:
    """A run in which every document is changed."""
    database["things"].insert_many([{"_id": i, "n": 0} for i in range(COUNT)])
    it = Migration(name="awaited", collection="things", transform=function, max_attempts=1, **options)
    with system(store, [it], slots=slots):
        found = until(store, start(store, it, batch_size=20))
    assert (found.run.status, found.counts.changed) == (RunStatus.COMPLETED, COUNT), (
        store.ledger.failures.groups(found.run.id)
    )
    assert database["things"].count_documents({"n": 1}) == COUNT


@pytest.mark.parametrize("make", [lambda: asyncio.Semaphore(2), asyncio.Lock], ids=["semaphore", "lock"])
def test_what_lets_a_few_in_at_a_time_serves_all_slots(
    store: MongoStore, database: Data, make: Callable[[], Any]
) -> None:
    few = make()

    async def change(it: dict[str, Any]) -> Any:
        async with few:
            await asyncio.sleep(0.001)
            return {"$set": {"n": it["n"] + 1}}

    migrate(store, database, change)


def test_a_queue_and_a_worker_of_the_modules_own_serve_all_slots(store: MongoStore, database: Data) -> None:
    asked: asyncio.Queue[tuple[int, asyncio.Future[int]]] = asyncio.Queue(3)
    workers: list[asyncio.Task[None]] = []

    async def add() -> None:
        while True:
            number, answer = await asked.get()
            answer.set_result(number + 1)

    async def change(it: dict[str, Any]) -> Any:
        if not workers:
            workers.append(asyncio.create_task(add()))
        answer: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        await asked.put((it["n"], answer))
        return {"$set": {"n": await answer}}

    async def end() -> None:
        workers[0].cancel()
        await asyncio.wait(workers)

    migrate(store, database, change)
    process_loop().run(end())


def test_a_client_that_belongs_to_its_first_loop_serves_all_slots(
    store: MongoStore, database: Data, mongo_uri: str
) -> None:
    client: AsyncMongoClient[dict[str, Any]] = AsyncMongoClient(mongo_uri)
    database["prices"].insert_one({"_id": 0, "plus": 1})

    async def change(it: dict[str, Any]) -> Any:
        found = await client[database.name]["prices"].find_one({"_id": 0})
        return {"$set": {"n": it["n"] + (found or {})["plus"]}}

    try:
        migrate(store, database, change)
    finally:
        process_loop().run(client.close())


def test_concurrency_bounds_what_is_under_way_in_the_process(store: MongoStore, database: Data) -> None:
    under_way: list[int] = [0, 0]

    async def change(it: dict[str, Any]) -> Any:
        under_way[0] += 1
        under_way[1] = max(under_way)
        await asyncio.sleep(0.002)
        under_way[0] -= 1
        return {"$set": {"n": it["n"] + 1}}

    migrate(store, database, change, concurrency=3)
    assert under_way == [0, 3]


def test_what_a_call_binds_no_other_call_sees(store: MongoStore, database: Data) -> None:
    who = contextvars.ContextVar("who", default=-1)

    async def change(it: dict[str, Any]) -> Any:
        assert who.get() == -1
        who.set(it["_id"])
        await asyncio.sleep(0.001)
        assert who.get() == it["_id"]
        return {"$set": {"n": it["n"] + 1}}

    migrate(store, database, change)


@pytest.mark.parametrize("harm", ["exit", "interrupt", "stop"])
def test_a_loop_that_a_function_ends_goes_on(store: MongoStore, database: Data, harm: str) -> None:
    async def ending() -> None:
        if harm == "stop":
            asyncio.get_running_loop().stop()
        else:
            raise SystemExit(1) if harm == "exit" else KeyboardInterrupt

    kept: list[Any] = []

    async def change(it: dict[str, Any]) -> Any:
        if it["_id"] in (5, 205):
            kept.append(asyncio.create_task(ending()))
            await asyncio.wait(kept[-1:])
            kept[-1].cancelled() or kept[-1].exception()
        return {"$set": {"n": it["n"] + 1}}

    migrate(store, database, change)


def test_calls_that_outlast_their_time_are_single_failures(
    store: MongoStore, database: Data, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(heartbeat, "CANCEL_SECONDS", 60.0)  # however late they are cancelled here
    database["things"].insert_many([{"_id": i, "n": 0} for i in range(100)])

    async def change(it: dict[str, Any]) -> Any:
        if it["_id"] % 40 == 7:
            await asyncio.Event().wait()
        return {"$set": {"n": it["n"] + 1}}

    it = Migration(name="late", collection="things", transform=change, max_attempts=1, timeout=0.5)
    with system(store, [it], slots=4):
        found = until(store, start(store, it, batch_size=20))
    failures = {row.key.value: row.type for row in store.ledger.failures.list(found.run.id)}
    assert failures == {7: "TimeoutError", 47: "TimeoutError", 87: "TimeoutError"}
    assert found.counts.changed == 97


def test_the_loop_ends_in_order_whatever_is_left_in_it() -> None:
    ended: list[str] = []
    left: list[Any] = []

    async def numbers() -> AsyncIterator[int]:
        try:
            yield 1
        finally:
            ended.append("generator")

    async def forever(name: str) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.append(name)

    async def stubborn() -> None:
        while True:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                ended.append("stubborn")

    async def begin() -> int:
        left.append(numbers())
        await anext(left[0])
        left.extend([asyncio.create_task(forever("task")), asyncio.create_task(stubborn())])
        await asyncio.sleep(0)
        return 7

    loop = EventLoop()
    assert loop.run(begin()) == 7
    loop.close()
    assert sorted(set(ended)) == ["generator", "stubborn", "task"]
    assert not [
        each
        for each in threading.enumerate()
        if each.name == "calls" and each.is_alive() and loop._thread is each
    ]


FEW = asyncio.Semaphore(1)


async def through_few(it: dict[str, Any]) -> Any:
    async with FEW:
        await asyncio.sleep(0.001)
        return {"$set": {"n": it["n"] + 1}}


def test_the_authors_kit_calls_the_same_way(mongo_uri: str, tmp_path: Path) -> None:
    it = Migration(name="few", collection="things", transform=through_few)
    check_migration(it, [{"_id": i, "n": 0} for i in range(40)], uri=mongo_uri)
