"""Every question that the ledger is asked is answered by an index: as the server's profiler explains each of them."""

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from bson import json_util
from pymongo.database import Database

from tests.integration.in_process_system import DEFAULTS, migrate, start, system, until
from whimbrel import SKIP, Migration
from whimbrel.brokers.ledger import LedgerBroker
from whimbrel.domain.bson.raw_bson import Key
from whimbrel.domain.failures.failure import FailedDocument, FailureKind, FailureState
from whimbrel.domain.failures.failure_query import FailureQuery
from whimbrel.domain.runs.audit import AuditQuery
from whimbrel.domain.runs.batches import Batch
from whimbrel.domain.runs.run import Run
from whimbrel.domain.runs.run_query import RunQuery
from whimbrel.domain.runs.series import Totals
from whimbrel.domain.runs.states import BatchStatus, RunStatus
from whimbrel.domain.webhooks.addresses import read_webhooks
from whimbrel.domain.webhooks.deliveries import DeliveryState, Reply
from whimbrel.engine.housekeeping import stuck_batches
from whimbrel.engine.housekeeping.prune import prune
from whimbrel.engine.notifying.collecting import collect
from whimbrel.engine.operating.accepted_causes import accept_causes, withdraw_causes
from whimbrel.engine.operating.control import cancel, group_of, pause, resume, retry
from whimbrel.engine.operating.failure_budget import causes_before, known_of, standing_of
from whimbrel.engine.operating.failure_export import export_pages
from whimbrel.engine.operating.keyspace_view import cell_object, strip_of
from whimbrel.engine.operating.overview import Watch
from whimbrel.engine.operating.run_view import view
from whimbrel.engine.operating.series_view import course_of, sparks_of
from whimbrel.engine.operating.slots_view import slots_object
from whimbrel.engine.operating.start_rollback import start_rollback
from whimbrel.engine.operating.start_verification import start_verification
from whimbrel.engine.queueing import queue_history, queues
from whimbrel.engine.queueing.announcer import Announcer
from whimbrel.mongo.store import MongoStore
from whimbrel.ports import LoggedIn
from whimbrel.ports.series import SeriesChange

Data = Database[dict[str, Any]]
GROWING = (
    "runs",
    "batches",
    "failures",
    "causes",
    "blocks",
    "audit",
    "pruned",
    "deliveries",
    "known",
    "series",
    "sessions",
)
SHOWN = (FailureState.OPEN, FailureState.DEAD, FailureState.RESOLVED)


def bad(document: dict[str, Any]) -> Any:
    if document["n"] < 5:
        raise ValueError("bad")
    return SKIP if document["n"] < 10 else {"$set": {"c": 1}}


FAILS = Migration(name="fails", collection="things", transform=bad, undo=True)
FILTER = Migration(
    name="skips", collection="things", filter={"d": {"$exists": False}}, mark="filter",
    transform=lambda each: SKIP if each["n"] < 10 else {"$set": {"d": 1}},
)  # fmt: skip


def life(store: MongoStore, database: Data) -> None:
    """Runs of all kinds from their beginning to their end."""
    ledger, its = store.ledger, [FAILS, FILTER]
    for it in (*its, *its):
        run = migrate(store, it, batch_size=20).run
    run = ledger.runs.list(migration="fails")[0]
    with system(store, its):
        database["things"].update_many({"n": {"$lt": 3}}, {"$inc": {"n": 100}})
        retry(ledger, run.id, who="test", group=cause_of(store, run.id))
        until(store, run)
        until(store, start_verification(store, run.id, FAILS.definition, who="test", defaults=DEFAULTS))
        until(store, start_rollback(store, run.id, who="test", defaults=DEFAULTS))
    waits = start(store, FILTER)
    pause(ledger, waits.id, who="test")
    resume(ledger, waits.id, who="test")
    cancel(ledger, waits.id, who="test")


def cause_of(store: MongoStore, run: str) -> str:
    """The group of the only cause."""
    (group,) = store.ledger.failures.groups(run).groups
    return group.group


def questions(store: MongoStore, _: Data) -> None:
    """What people, the API and the heartbeat ask."""
    ledger, broker = store.ledger, LedgerBroker()
    run = migrate(store, FAILS, batch_size=20).run
    for each in ledger.runs.list():
        view(ledger, each)
    ledger.runs.list(statuses=[RunStatus.COMPLETED], after=run.id)
    ledger.runs.list(after=run.id, migration="fails")
    ledger.runs.of_version("fails", 1, run.ns, kind="rollback", since=run.created_at, after=run.place)
    ledger.runs.versions("fails", least=1)
    ledger.retention.completed("fails", 1, run.ns)
    ledger.runs.ahead(run.ns)
    ledger.runs.counted(list(RunStatus))
    ledger.batches.list(run.id, statuses=[BatchStatus.DONE])
    ledger.batches.after(run.id, 5)
    ledger.batches.after(run.id, 0)
    ledger.batches.orphaned()
    ledger.batches.take_over()
    ledger.failures.list(run.id)
    group = group_of(ledger, run.id, cause_of(store, run.id))
    for chosen in (None, group):
        for state in (None, *SHOWN):
            page = ledger.failures.list(run.id, state=state, group=chosen, limit=2)
            if page:
                ledger.failures.list(run.id, state=state, group=chosen, after=page[-1].place)
            ledger.failures.groups(run.id, state=state, group=chosen)
    _ask_about_causes(store, run, group)
    about_lists(store, run, group)
    ledger.failures.keep_some(60)
    queues.stats(ledger, broker)
    queues.retry_dead(ledger, {"fails": FAILS.definition}, 100, "test")
    queue_history.QueueSampler(ledger, broker, lambda: False).history()
    queue_history.worker_counters(ledger)
    stuck_batches.release_stuck(store, Announcer(ledger, broker, pause=1), who="test")
    prune(ledger, 90, seconds=60, who="test")
    ledger.runs.just_ended(3600, limit=10)
    about_webhooks(store)
    about_one_run(store, run)
    about_sessions(store)


def about_one_run(store: MongoStore, run: Run) -> None:
    """What pages about a run ask."""
    ledger = store.ledger
    totals = Totals(at=run.created_at.timestamp())
    for seen in (0, 1):
        assert ledger.series.write(run.id, SeriesChange(seen=totals, width=5.0), seen=seen) is not None
    ledger.series.head(run.id)
    course_of(ledger, run, points=10)
    sparks_of(ledger, [view(ledger, run)])
    for leg in range(len(run.legs)):
        strip = strip_of(ledger, run, cells=10, leg=leg)
        if strip.grid.cells:
            cell_object(ledger, strip, 0)
    slots_object(ledger, run)
    ledger.runs.some([run.id, "gone"])


def about_sessions(store: MongoStore) -> None:
    """What a login, each request after it, and a logout ask."""
    sessions = store.ledger.sessions
    for key in ("a", "b"):
        sessions.begin(key, LoggedIn("token", "read"), who="test", seconds=60)
    assert sessions.use("a", seconds=600) is not None
    assert sessions.holding(["a", "b", "gone"]) == {"a", "b"}
    sessions.end("a")


def about_lists(store: MongoStore, run: Run, group: str) -> None:
    """What pages of people's lists ask, and who watches the whole cluster."""
    ledger, now = store.ledger, datetime.now(UTC)
    for query in (
        RunQuery(), RunQuery(statuses=[RunStatus.COMPLETED]), RunQuery(kinds=["migration"], since=run.created_at), RunQuery(migration="fails"),
        RunQuery(migration="fails", statuses=[RunStatus.PAUSED]), RunQuery(collections=[run.ns], until=now),
    ):  # fmt: skip
        ledger.runs.page(query)
        ledger.runs.page(query, after=run.place)
    place = ledger.audit.list(AuditQuery(), limit=1)[0].place
    for audited in (
        AuditQuery(),
        AuditQuery(run=run.id),
        AuditQuery(actor="test"),
        AuditQuery(actions=["run"], since=run.created_at),
    ):
        ledger.audit.list(audited)
        ledger.audit.list(audited, after=place)
    for failing in (
        FailureQuery(),
        FailureQuery(groups=[group], code=1),
        FailureQuery(states=[FailureState.DEAD], since=now),
    ):
        page = ledger.failures.search(run.id, failing, limit=2)
        ledger.failures.search(run.id, failing, after=page.after)
    ledger.failures.causes_seen(run.id)
    ledger.runs.failed_since(run.created_at, most=10)
    watch = Watch(ledger)
    for _ in range(3):
        watch.look()


def about_webhooks(store: MongoStore) -> None:
    """What the sender of webhooks asks."""
    records = store.ledger.webhooks
    receivers = read_webhooks(
        "http://127.0.0.1:9/", "a secret of the tests", allow_private=True, no_progress=60
    )
    assert receivers is not None
    collect(store.ledger, receivers.receivers)
    (key,) = [receiver.key for receiver in receivers.receivers]
    delivery = records.claim(key)
    assert delivery is not None
    records.settle(delivery, Reply(500, "It answered 500."))
    records.give_up([key])
    records.trim()
    records.counts()
    records.get(delivery.id)
    records.send_again(delivery.id)
    for page in (records.list(limit=1), records.list(states=[DeliveryState.PENDING], limit=1)):
        records.list(after=page[0].place)
    records.progress_marks(store.ledger.runs.list())


def _ask_about_causes(store: MongoStore, run: Run, group: str) -> None:
    """What failure budgets and exports ask."""
    ledger = store.ledger
    ledger.failures.by_cause(run.id)
    ledger.failures.causes(run.id)
    accept_causes(ledger, run.id, [group], who="test")
    withdraw_causes(ledger, run.id, [group], who="test")
    ledger.known_causes.see(run.id, [group], who="test", note="")
    ledger.known_causes.copy(run.id, "other")
    standing_of(ledger, run)
    known_of(ledger, run.id)
    causes_before(ledger, replace(run, id="other"))
    list(export_pages(ledger, run))


def by_hand(store: MongoStore, database: Data) -> None:
    """A batch's way, step by step, with a failure that moves from batch to batch."""
    ledger = store.ledger
    database["things"].insert_one({"_id": "last"})
    run = start(store, FAILS)
    ledger.runs.move(run.id, RunStatus.RUNNING, who="test")
    ledger.batches.add([Batch(run=run.id, seq=seq, leg=0, phase="pending") for seq in (1, 2, 3)])
    for _ in range(2):
        batch = ledger.batches.claim([run.id], worker="A", lsid=b"0" * 16)
        assert batch is not None
        trouble = FailedDocument(key=Key.of(1), kind=FailureKind.CODE, type="E", message="bad")
        ledger.failures.record(run, batch, [trouble])
        ledger.failures.by_worker(["A"])
    ledger.batches.take_over(worker="A")
    ledger.failures.reopen(run.id)
    ledger.failures.due(run.id, 10)
    ledger.failures.withdraw(run.id, "E")
    ledger.batches.live([f"{run.id}.1", "gone.7"])
    ledger.batches.merge(run.id, 0, through=3)
    ledger.proofs.merged([f"{run.id}.2", "gone.7"])


@pytest.mark.parametrize("asks", [life, questions, by_hand], ids=lambda each: each.__name__)
def test_no_question_reads_a_whole_collection_of_the_ledger(
    store: MongoStore, database: Data, asks: Callable[[MongoStore, Data], None]
) -> None:
    database["things"].insert_many([{"_id": key, "n": key} for key in range(60)])
    database.command("profile", 2)
    asks(store, database)
    database.command("profile", 0)
    whole = {
        json.dumps(row.get("command", row.get("query")), default=json_util.default)[:600]
        for row in database["system.profile"].find({"planSummary": {"$regex": "COLLSCAN"}})
        if row["ns"].removeprefix(f"{database.name}.whimbrel_") in GROWING
    }
    assert whole == set()
    seen = {
        row["ns"] for row in database["system.profile"].find({"planSummary": {"$regex": "IXSCAN|IDHACK"}})
    }
    assert {f"{database.name}.whimbrel_{name}" for name in ("runs", "batches", "failures")} <= seen


def test_what_is_asked_most_is_answered_from_the_index_alone(store: MongoStore, database: Data) -> None:
    database["things"].insert_many([{"_id": key, "n": key} for key in range(60)])
    run = migrate(store, FAILS, batch_size=20).run
    database.command("profile", 2)
    store.ledger.failures.counts(run.id)
    store.ledger.failures.numbers(run.id)
    store.ledger.batches.queued([run.id])
    store.ledger.batches.open_counts([run.id])
    store.ledger.batches.waiting(run.id, 10)
    store.ledger.batches.last_seq(run.id)
    database.command("profile", 0)
    fetched = {
        json.dumps(row["command"], default=json_util.default)[:300]: row["docsExamined"]
        for row in database["system.profile"].find({"docsExamined": {"$gt": 0}})
        if row["ns"].startswith(f"{database.name}.whimbrel_")
    }
    assert fetched == {}
