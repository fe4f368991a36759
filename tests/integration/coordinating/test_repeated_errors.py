"""H66: the same trouble, again and again without anything going on, pauses the run with its reason; the others go on.

The troubles are real: a server whose fail points refuse statements on one collection, and a user whose rights are taken away.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from typing import Any

import pytest
from pymongo import MongoClient
from pymongo.database import Database

from tests.conftest import SHORT
from tests.integration.in_process_system import DEFAULTS, migrate, start, system, until
from tests.integration.operating.test_scheduler import EACH_SECOND, rewind, row, scheduler, ticks
from tests.integration.running.test_races import Slot, coordinator_of, fresh, planned
from tests.servers.processes import Child, free_ports, listening, make_folder, pause, remove_folder
from whimbrel import Migration
from whimbrel.domain.runs.run import Run
from whimbrel.domain.runs.states import RunStatus
from whimbrel.engine import repeated_errors
from whimbrel.engine.coordinating import coordinator as coordinate
from whimbrel.engine.operating import schedules
from whimbrel.engine.operating.control import cancel, resume
from whimbrel.engine.operating.start_verification import start_verification
from whimbrel.errors import Remedy, Transient
from whimbrel.mongo.embedded import find_mongod
from whimbrel.mongo.store import MongoStore, connected

Data = Database[dict[str, Any]]
SECONDS = 60.0
# Errors that pass by themselves, but do not make the driver look for another server.
LOCK_TIMEOUT, INTERRUPTED, TIME_LIMIT, DISK_FULL = 24, 11601, 50, 14031
READS = ["find", "aggregate", "count", "getMore"]


def add_one(thing: dict[str, Any]) -> dict[str, Any]:
    return {"$set": {"n": thing["n"] + 1}}


DECLARED = Migration(name="declared", collection="things", update={"$inc": {"n": 1}})
CALLED = Migration(name="called", collection="things", transform=add_one)
OTHER = Migration(name="other", collection="others", update={"$inc": {"n": 1}})


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    """The address, without user, of a server of this file's own, with rights and with fail points."""
    (port,) = free_ports(1)
    folder = make_folder()
    address = f"127.0.0.1:{port}/"
    options = ["--auth", "--dbpath", str(folder), "--port", str(port), "--bind_ip", "127.0.0.1", "--nounixsocket"]  # fmt: skip
    options += ["--setParameter", "enableTestCommands=1"]
    child = Child([str(find_mongod()), *options], log=folder / "log")
    try:
        while not listening(port):
            pause(time.monotonic() + SECONDS, child.tail())
        with MongoClient[dict[str, Any]](f"mongodb://{address}") as client:
            client.admin.command("createUser", "root", pwd="root", roles=["root"])  # noqa: S106
        yield address
    finally:
        child.kill()
        remove_folder(folder)


@pytest.fixture
def root(server: str) -> Iterator[MongoClient[dict[str, Any]]]:
    with MongoClient[dict[str, Any]](f"mongodb://root:root@{server}") as found:
        yield found
        found.admin.command("configureFailPoint", "failCommand", mode="off")


@pytest.fixture
def data(root: MongoClient[dict[str, Any]], monkeypatch: pytest.MonkeyPatch) -> Iterator[Data]:
    """Two collections of thirty documents; a trouble is met fewer times than else before a person must look."""
    for remedy, times in ((Remedy.AGAIN, 4), (Remedy.SMALLER, 3)):
        monkeypatch.setitem(repeated_errors.TIMES, remedy, times)
    monkeypatch.setattr(coordinate, "RETRY_SECONDS", 0.02)
    found = root[f"t{time.monotonic_ns()}"]
    for name in ("things", "others"):
        found[name].insert_many([{"_id": number, "n": 0} for number in range(30)])
    yield found
    root.drop_database(found.name)


@pytest.fixture
def at(server: str, data: Data) -> Iterator[MongoStore]:
    with connected(f"mongodb://root:root@{server}", data.name, SHORT) as found:
        yield found


@contextmanager
def failing(
    data: Data, commands: list[str], code: int, *, collection: str | None = "things", mode: Any = "alwaysOn"
) -> Iterator[None]:
    """While statements of these commands on a collection, or on all, meet an error."""
    what: dict[str, Any] = {"failCommands": commands, "errorCode": code}
    if collection is not None:
        what["namespace"] = f"{data.name}.{collection}"
    data.client.admin.command("configureFailPoint", "failCommand", mode=mode, data=what)
    try:
        yield
    finally:
        data.client.admin.command("configureFailPoint", "failCommand", mode="off")


def goes_on(store: MongoStore, data: Data, run: Run, it: Migration) -> None:
    """A run that has paused, when its trouble is over and a person has it go on: each document is changed once."""
    resume(store.ledger, run.id, who="test")
    with system(store, [it]):
        assert until(store, run).run.status is RunStatus.COMPLETED
    assert data[run.collection].count_documents({"n": 1}) == 30


@pytest.mark.parametrize("it", [DECLARED, CALLED], ids=lambda it: it.name)
@pytest.mark.parametrize(
    ("commands", "code", "why"),
    [
        (["update"], INTERRUPTED, "4 times in a row, and nothing went on"),
        (READS, LOCK_TIMEOUT, "4 times in a row, and nothing went on"),
        (["update"], DISK_FULL, "code 14031"),
    ],
    ids=["writes", "reads", "disk"],
)
def test_a_trouble_of_one_collection_pauses_its_run_and_holds_up_no_other(
    at: MongoStore, data: Data, it: Migration, commands: list[str], code: int, why: str
) -> None:
    run, other = start(at, it), start(at, OTHER)
    with failing(data, commands, code), system(at, [it, OTHER]):
        assert until(at, other).run.status is RunStatus.COMPLETED
        paused = until(at, run, RunStatus.PAUSED).run
    assert why in str(paused.error)
    assert str(code) in str(paused.error)
    goes_on(at, data, run, it)


def test_a_trouble_that_passes_pauses_nothing(at: MongoStore, data: Data) -> None:
    run = start(at, DECLARED)
    with failing(data, ["update"], INTERRUPTED, mode={"times": 3}), system(at, [DECLARED]):
        assert until(at, run).run.status is RunStatus.COMPLETED
    assert data["things"].count_documents({"n": 1}) == 30


def test_while_all_of_mongodb_is_away_no_run_is_charged_with_it(at: MongoStore, data: Data) -> None:
    coordinator, run = coordinator_of(at), start(at, DECLARED)
    with failing(data, [*READS, "update", "findAndModify", "insert"], LOCK_TIMEOUT, collection=None):
        for _ in range(8):
            with pytest.raises(Transient):
                coordinator.tick()
    coordinator.tick()
    assert (fresh(at, run).status, fresh(at, run).error) == (RunStatus.RUNNING, None)


def ticked(store: MongoStore, tick: Callable[[], None], run: Run, status: RunStatus) -> int:
    """How many ticks it takes until the run is so."""
    for number in range(1, 200):
        tick()
        if fresh(store, run).status is status:
            return number
        time.sleep(0.03)  # so that it is attended to again
    raise AssertionError(fresh(store, run))


def test_a_run_that_was_too_slow_and_is_resumed_is_tried_as_often_again(at: MongoStore, data: Data) -> None:
    coordinator, run = coordinator_of(at), start(at, DECLARED)
    with failing(data, READS, TIME_LIMIT):
        first = ticked(at, coordinator.tick, run, RunStatus.PAUSED)
        resume(at.ledger, run.id, who="test")
        assert ticked(at, coordinator.tick, run, RunStatus.PAUSED) >= first
    assert "3 times in a row" in str(fresh(at, run).error)
    assert first >= 3


def test_a_run_says_what_it_is_tried_again_for(at: MongoStore, data: Data) -> None:
    coordinator, run = coordinator_of(at), start(at, DECLARED)
    with failing(data, READS, LOCK_TIMEOUT):
        coordinator.tick()
        assert "Tried again" in fresh(at, run).message
    time.sleep(0.03)
    coordinator.tick()
    assert (fresh(at, run).status, fresh(at, run).message) == (RunStatus.RUNNING, "")


def test_a_proof_that_meets_the_same_trouble_again_and_again_pauses_the_verification(
    at: MongoStore, data: Data
) -> None:
    done = migrate(at, DECLARED).run
    data["things"].insert_one({"_id": 1.5, "n": 0})  # a finding that the proof takes back: it came since
    checking = start_verification(at, done.id, DECLARED.definition, who="test", defaults=DEFAULTS, sample=0)
    with (
        system(at, [DECLARED], slots=1),
        failing(data, ["delete"], LOCK_TIMEOUT, collection="whimbrel_failures"),
    ):
        paused = until(at, checking, RunStatus.PAUSED, *ended()).run
    assert paused.status is RunStatus.PAUSED
    assert "4 times in a row" in str(paused.error)
    resume(at.ledger, checking.id, who="test")
    with system(at, [DECLARED]):
        assert until(at, checking).run.status is RunStatus.COMPLETED


def ended() -> list[RunStatus]:
    return [RunStatus.COMPLETED, RunStatus.COMPLETED_WITH_FAILURES, RunStatus.FAILED]


def test_a_run_whose_last_question_is_too_slow_completes_and_says_so(at: MongoStore, data: Data) -> None:
    run = start(at, DECLARED)
    with ExitStack() as stack:

        def step(name: str) -> None:
            if name == "S11" and fresh(at, run).leg == 2:  # the sweep is over
                stack.enter_context(failing(data, READS, TIME_LIMIT))

        with system(at, [DECLARED], step=step):
            found = until(at, run).run
    assert found.status is RunStatus.COMPLETED
    assert "could not be told in time" in found.message


def test_what_is_not_known_of_a_cancelled_run_is_said_and_it_ends(at: MongoStore, data: Data) -> None:
    coordinator = coordinator_of(at)
    run = planned(at, coordinator, DECLARED)
    batch = at.ledger.batches.claim([run.id], worker="dead", lsid=b"0" * 16)
    assert batch is not None
    cancel(at.ledger, run.id, who="test")
    assert at.ledger.batches.take_over(worker="dead")
    with failing(data, READS, LOCK_TIMEOUT):
        ticked(at, coordinator.tick, run, RunStatus.CANCELLED)
    now = fresh(at, run)
    assert now.inferred
    assert "not known" in str(now.error)


def test_keys_that_never_come_in_time_give_way_to_ranges(at: MongoStore, data: Data) -> None:
    """An index yields them, a page at a time, and each time the next page takes too long."""
    data["things"].delete_many({})
    data["things"].insert_many(
        [{"_id": number, "n": number % 7 and 1, "a": "x" * 10} for number in range(9000)]
    )
    data["things"].create_index("n")
    few = Migration(name="few", collection="things", filter={"n": 0}, update={"$set": {"n": 2}})
    run = start(at, few, batch_size=5000)
    with failing(data, ["getMore"], TIME_LIMIT), system(at, [few]):
        assert until(at, run).run.status is RunStatus.COMPLETED
    assert data["things"].count_documents({"n": 0}) == 0


def test_a_limit_holds_where_the_first_documents_do_not_come_in_time(at: MongoStore, data: Data) -> None:
    run, coordinator = start(at, DECLARED, limit=5), coordinator_of(at)
    assert at.ledger.runs.move(run.id, RunStatus.RUNNING, who="test")
    with failing(data, READS, TIME_LIMIT):
        coordinator.tick()
        coordinator.tick()
    with Slot(at, DECLARED) as slot:
        slot.thread.start()
        while fresh(at, run).status is RunStatus.RUNNING:
            coordinator.tick()
            slot.worker_state.refresh(at)
    assert fresh(at, run).status is RunStatus.COMPLETED
    assert data["things"].count_documents({"n": 1}) == 5


# what is no trouble of the server's


def test_a_right_that_is_taken_away_pauses_the_run(at: MongoStore, data: Data, server: str) -> None:
    everywhere = {"db": data.name, "collection": ""}
    actions = ["find", "insert", "update", "remove", "createIndex", "createCollection", "listIndexes", "listCollections", "collStats", "dbStats"]  # fmt: skip
    role = {"role": "app", "db": data.name}
    data.command("createRole", "app", privileges=[{"resource": everywhere, "actions": actions}], roles=[])
    data.command("createUser", "app", pwd="app", roles=[role])  # noqa: S106
    with connected(
        f"mongodb://app:app@{server}{data.name}?authSource={data.name}", data.name, SHORT
    ) as store:
        migrate(store, OTHER)  # the ledger has all its collections now
        run = start(store, CALLED)
        ledger = [
            {"resource": {**everywhere, "collection": name}, "actions": actions}
            for name in data.list_collection_names() if name.startswith("whimbrel_")
        ]  # fmt: skip
        reading = {"resource": everywhere, "actions": ["find", "listIndexes", "listCollections", "collStats"]}
        data.command("updateRole", "app", privileges=[*ledger, reading])
        with system(store, [CALLED]):
            paused = until(store, run, RunStatus.PAUSED).run
        assert "not authorized" in str(paused.error)
        data.command("updateRole", "app", privileges=[{"resource": everywhere, "actions": actions}])
        goes_on(store, data, run, CALLED)


@pytest.mark.parametrize("it", [DECLARED, CALLED], ids=lambda it: it.name)
def test_a_collection_that_became_a_view_pauses_the_run(at: MongoStore, data: Data, it: Migration) -> None:
    run = planned(at, coordinator_of(at), it)
    data["things"].rename("moved")
    data.command("create", "things", viewOn="moved", pipeline=[])
    with system(at, [it]):
        paused = until(at, run, RunStatus.PAUSED).run
    assert "view" in str(paused.error)
    assert data["moved"].count_documents({"n": 0}) == 30
    data.drop_collection("things")
    data["moved"].rename("things")
    goes_on(at, data, run, it)


@pytest.mark.parametrize("it", [DECLARED, CALLED], ids=lambda it: it.name)
def test_a_validator_that_comes_meanwhile_is_the_fault_of_documents(
    at: MongoStore, data: Data, it: Migration
) -> None:
    run = planned(at, coordinator_of(at), it)
    data.command("collMod", "things", validator={"$or": [{"n": 0}, {"_id": {"$gte": 3}}]})
    with system(at, [it]):
        found = until(at, run)
    assert (found.run.status, found.counts.changed) == (RunStatus.COMPLETED_WITH_FAILURES, 27)
    assert len(at.ledger.failures.list(run.id)) == 3


def test_an_index_that_is_dropped_meanwhile_changes_nothing(at: MongoStore, data: Data) -> None:
    data["things"].create_index([("n", 1), ("_id", 1)])
    it = Migration(name="indexed", collection="things", filter={"n": 0}, transform=add_one)
    run = planned(at, coordinator_of(at), it)
    data["things"].drop_indexes()
    with system(at, [it]):
        assert until(at, run).run.status is RunStatus.COMPLETED
    assert data["things"].count_documents({"n": 1}) == 30


# the scheduler


def test_a_schedule_that_cannot_be_decided_holds_up_no_other_and_its_tick_fails(
    at: MongoStore, data: Data
) -> None:
    its = {each.name: each.definition for each in (DECLARED, OTHER)}
    for name in ("declared", "other"):
        plan = replace(EACH_SECOND, migration=name, cron="0 0 1 1 *")
        schedules.save_schedule(at.ledger, name, plan, who="test")
        rewind(at, name, 1)
    one = scheduler(at, definitions=its)
    with failing(data, READS, LOCK_TIMEOUT):
        one.tick()
        assert [each.outcome for each in ticks(at, "other")] == ["started"]
        assert ticks(at, "declared") == []
        for _ in range(10):
            one.tick()
    (tick,) = ticks(at, "declared")
    assert tick.outcome == "failed"
    assert "4 times in a row" in tick.reason
    assert row(at, "declared").next_at is not None
