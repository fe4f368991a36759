"""The course of a run, as coordinators write it and people read it: whoever writes, however long it lasts, whatever holds it up."""

import threading
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from pymongo.database import Database

from tests.integration.coordinating.test_held_runs import freeze
from tests.integration.in_process_system import start, system, until
from tests.waiting import until as wait
from whimbrel import Migration
from whimbrel.domain.health.signals import Level
from whimbrel.domain.runs import series as course
from whimbrel.domain.runs.allowance import FULL, Allowance, Hold
from whimbrel.domain.runs.chunk_times import ChunkTimes
from whimbrel.domain.runs.holdups import Holdup
from whimbrel.domain.runs.run import Counts, Run
from whimbrel.domain.runs.states import RunStatus
from whimbrel.engine.coordinating import series_writing
from whimbrel.engine.coordinating.progress_samples import Progressed
from whimbrel.engine.coordinating.series_writing import SeriesWriting
from whimbrel.engine.housekeeping.prune import prune
from whimbrel.engine.operating import control
from whimbrel.engine.operating.freezing import lift_freezes
from whimbrel.engine.operating.run_view import RunView, view, views
from whimbrel.engine.operating.series_view import Course, course_of, sparks_of
from whimbrel.mongo.store import MongoStore
from whimbrel.ports import Ledger
from whimbrel.ports.series import SeriesChange, SeriesHead, SeriesRecords

Docs = Database[dict[str, Any]]
IT = Migration(name="things", collection="things", update={"$inc": {"n": 1}})
BEGAN = 1_800_000_000.0  # seconds since the epoch
WAITS = Allowance(0.0, (Hold(signal="window", level=Level.STOP, share=0.0, sentence="outside its windows"),))
SLOWER = Allowance(0.25, (Hold(signal="member-lag", level=Level.SLOW, share=0.25, sentence="lag"),))


class Clock:
    """Time as the test has it: of this host, in place of the module, and of the server."""

    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        return self.now

    @property
    def server(self) -> float:
        return BEGAN + self.now


class AtTestTime:
    """The series of a real ledger, whose server's clock is the test's."""

    def __init__(self, records: SeriesRecords, clock: Clock) -> None:
        self._records, self._clock = records, clock
        self._written: float | None = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._records, name)

    def head(self, run_id: str) -> SeriesHead:
        head = self._records.head(run_id)
        return replace(head, now=self._clock.server, written=self._written if head.writes else None)

    def write(self, run_id: str, change: SeriesChange, *, seen: int) -> float | None:
        if self._records.write(run_id, change, seen=seen) is None:
            return None
        self._written = self._clock.server
        return self._written


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(series_writing, "time", clock)
    return clock


@pytest.fixture
def ledger(store: MongoStore, clock: Clock) -> Ledger:
    return replace(store.ledger, series=AtTestTime(store.ledger.series, clock))


def running(store: MongoStore) -> Run:
    """A run that nobody works on, as of the test's time."""
    store.client[store.database]["things"].insert_one({"n": 0})
    run = start(store, IT)
    store.ledger.runs.move(run.id, RunStatus.RUNNING, who="test")
    found = store.ledger.runs.get(run.id)
    assert found is not None
    began = datetime.fromtimestamp(BEGAN, UTC)
    return replace(found, created_at=began, started_at=began)


class Worker:
    """What a run does, told to whoever coordinates it."""

    def __init__(self, store: MongoStore, clock: Clock, run: Run) -> None:
        self.run, self._clock, self._view = run, clock, view(store.ledger, run)
        self.worked, self.documents, self.failed, self.chunks = 0.0, 0, 0, 0

    def work(self, seconds: float, documents: int, failed: int = 0) -> None:
        self._clock.now += seconds
        self.worked += seconds
        self.documents += documents
        self.failed += failed
        self.chunks += 1

    def tell(self, writing: SeriesWriting, allowance: Allowance = FULL, other: str = "") -> None:
        times = ChunkTimes((0, self.chunks, *(0,) * 7), 0.07 * self.chunks)
        failures = {"failed": self.failed, "conflict": 0, "open": 0, "dead": self.failed}
        counts = Counts(changed=self.documents - self.failed)
        now = replace(self._view, seconds=self.worked, counts=counts, failures=failures)
        writing.write(
            replace(self.run, chunk_times=times), Progressed(now, self._clock.now), allowance, other
        )


def points_of(ledger: Ledger, run: Run) -> Any:
    found = ledger.series.get(run.id)
    assert found is not None
    return found.points


def holdups_of(ledger: Ledger, run: Run) -> list[tuple[str, str, float, float]]:
    found = ledger.series.get(run.id)
    assert found is not None
    return [_told(holdup) for holdup in found.holdups]


def _told(holdup: Holdup) -> tuple[str, str, float, float]:
    return (holdup.state, holdup.signal, round(holdup.start - BEGAN), round(holdup.end - BEGAN))


def test_a_life_of_any_length_is_kept_in_few_points_by_whoever_coordinates(
    store: MongoStore, ledger: Ledger, clock: Clock, database: Docs, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(course, "MOST", 24)
    monkeypatch.setattr(course, "LEFT", 18)
    run = running(store)
    worker, writing = Worker(store, clock, run), SeriesWriting(ledger)
    worker.tell(writing)
    assert ledger.series.get(run.id) is None  # a run that has only begun is not written
    for number in range(300):
        worker.work(5.0, 1000 if number < 150 else 3000, failed=number % 2)
        worker.tell(writing)
        if number % 37 == 0:  # its coordinator dies, and another goes on
            writing = SeriesWriting(ledger)
            worker.tell(writing)
    points = points_of(ledger, run)
    assert 9 <= len(points) <= 24
    assert len(list(database["whimbrel_series"].find())) == 1
    assert sum(point.documents for point in points) == 150 * 1000 + 150 * 3000
    assert sum(sum(point.chunk_times.numbers) for point in points) == 300
    assert (points[0].start, points[-1].end) == (BEGAN, BEGAN + 1500.0)
    assert points[-1].failed == 150
    middle = BEGAN + 750.0
    early = [point.rate for point in points if point.end <= middle]
    late = [point.rate for point in points if point.start >= middle]
    assert set(early) == {200.0}
    assert set(late) == {600.0}


def test_two_coordinators_at_once_count_nothing_twice(
    store: MongoStore, ledger: Ledger, clock: Clock
) -> None:
    run = running(store)
    worker, both = Worker(store, clock, run), [SeriesWriting(ledger), SeriesWriting(ledger)]
    for number in range(40):
        worker.work(5.0, 700)
        worker.tell(both[number % 2])
        worker.tell(both[(number + 1) % 2])
    clock.now += 5.0
    worker.tell(SeriesWriting(ledger))
    written = sum(point.documents for point in points_of(ledger, run))
    seen = ledger.series.get(run.id)
    assert seen is not None
    assert written == seen.seen.documents
    assert 30 * 700 <= written <= 40 * 700


def test_waits_are_spans_with_their_reason_and_not_points(
    store: MongoStore, ledger: Ledger, clock: Clock
) -> None:
    run = running(store)
    worker, writing = Worker(store, clock, run), SeriesWriting(ledger)

    def pass_time(seconds: int, allowance: Allowance = FULL, other: str = "", documents: int = 0) -> None:
        for _ in range(seconds):
            if documents:
                worker.work(1.0, documents)
            else:
                clock.now += 1.0
            worker.tell(writing, allowance, other)

    pass_time(20, documents=100)
    pass_time(600, WAITS)
    pass_time(20, SLOWER, documents=25)
    pass_time(30, other="Waits: no worker process is alive.")
    pass_time(20, documents=100)
    points = points_of(ledger, run)
    assert sum(point.documents for point in points) == 20 * 100 + 20 * 25 + 20 * 100
    waited = (BEGAN + 25.0, BEGAN + 615.0)
    assert [point for point in points if point.start < waited[1] and point.end > waited[0]] == []
    assert {
        round(point.share, 2) for point in points if point.start > waited[1] and point.end < BEGAN + 641
    } == {0.25}
    told = holdups_of(ledger, run)
    assert [(state, signal) for state, signal, *_ in told] == [
        ("waiting", "window"), ("slowed", "member-lag"), ("waiting", ""),
    ]  # fmt: skip
    for (_, _, begin, end), (expected_begin, expected_end) in zip(
        told, [(20, 620), (620, 640), (640, 670)], strict=True
    ):
        assert abs(begin - expected_begin) <= 3
        assert abs(end - expected_end) <= 16  # it is written each quarter of a minute


def test_a_wait_goes_on_through_a_change_of_coordinator_and_silence_is_told(
    store: MongoStore, ledger: Ledger, clock: Clock
) -> None:
    run = running(store)
    worker, writing = Worker(store, clock, run), SeriesWriting(ledger)
    worker.work(10.0, 1000)
    for _ in range(60):
        clock.now += 1.0
        worker.tell(writing, WAITS)
    writing = SeriesWriting(ledger)
    for _ in range(60):
        clock.now += 1.0
        worker.tell(writing, WAITS)
    assert [state for state, *_ in holdups_of(ledger, run)] == ["waiting"]
    clock.now += 1000.0  # everything was dead
    writing = SeriesWriting(ledger)
    for _ in range(10):
        worker.work(1.0, 100)
        worker.tell(writing)
    assert [state for state, *_ in holdups_of(ledger, run)] == ["waiting", "unattended"]
    (_, _, begin, end) = holdups_of(ledger, run)[1]
    assert 110 <= begin <= 130
    assert 1125 <= end <= 1140


def test_what_flaps_for_days_stays_a_bounded_number_of_spans(
    store: MongoStore, ledger: Ledger, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(series_writing, "MOST", 20)
    monkeypatch.setattr(series_writing, "LEFT", 15)
    run = running(store)
    worker, writing = Worker(store, clock, run), SeriesWriting(ledger)
    for _ in range(100):
        worker.work(2.0, 100)
        worker.tell(writing)
        clock.now += 2.0
        worker.tell(writing, WAITS)
    found = ledger.series.get(run.id)
    assert found is not None
    assert 10 <= len(found.holdups) <= 21
    assert 90 <= sum(holdup.times for holdup in found.holdups) <= 100


@pytest.fixture
def lived(store: MongoStore, database: Docs) -> RunView:
    """A run that real coordinators and slots have worked on: it was frozen, got another rate, was paused and resumed, and has ended."""
    database["things"].insert_many({"_id": number} for number in range(150))
    go_on = threading.Semaphore(0)

    def change(_: dict[str, Any]) -> dict[str, Any]:
        assert go_on.acquire(timeout=60)
        return {"$set": {"n": 1}}

    def held_up(by: str) -> bool:
        return any(by in (each.signal, each.state) for each in course_now(store, run).holdups)

    def wait_for(count: int) -> None:
        wait(lambda: database["things"].count_documents({"n": 1}) >= count)

    it = Migration(name="by-hand", collection="things", transform=change)
    with system(store, [it]):
        run = start(store, it, batch_size=25)
        go_on.release(40)
        wait_for(20)
        freeze(store, note="sale")
        wait(lambda: held_up("freeze"))
        lift_freezes(store.ledger, None, who="test")
        control.adjust(store.ledger, run.id, who="anna", rate=100_000)
        control.pause(store.ledger, run.id, who="anna", why="lunch")
        go_on.release(200)
        until(store, run, RunStatus.PAUSED)
        wait(lambda: held_up("paused"))
        control.resume(store.ledger, run.id, who="anna")
        return until(store, run)


def test_a_run_tells_its_course_and_each_part_of_it(store: MongoStore, lived: RunView) -> None:
    _check_whole_course(store, lived)
    _check_parts(store, lived)


def _check_whole_course(store: MongoStore, lived: RunView) -> None:
    found = course_now(store, lived.run)
    assert lived.run.status is RunStatus.COMPLETED
    assert sum(point.documents for point in found.points) == lived.processed == 150
    assert abs(sum(point.worked for point in found.points) - lived.seconds) < 0.5
    held = {(each.state, each.signal): each.said for each in found.holdups}
    assert "sale" in held["waiting", "freeze"]
    assert held["paused", ""] == "lunch"
    assert [(mark.what, mark.why) for mark in found.marks if mark.who == "anna"] == [
        ("settings changed", "rate 100000")
    ]
    assert lived.run.ended_at is not None
    assert found.end == lived.run.ended_at.timestamp()
    assert all(point.end <= found.end + 0.001 for point in found.points)


def _check_parts(store: MongoStore, lived: RunView) -> None:
    few = course_of(store.ledger, lived.run, points=1)
    assert [point.documents for point in few.points] == [150]
    before = course_of(store.ledger, lived.run, end=lived.run.created_at - timedelta(hours=1), points=5)
    assert (before.points, before.holdups, before.marks) == ([], [], [])
    whole = course_now(store, lived.run)
    (paused,) = [each for each in whole.holdups if each.state == "paused"]
    moment = datetime.fromtimestamp((paused.start + paused.end) / 2, UTC)
    within = course_of(
        store.ledger, lived.run, start=moment, end=moment + timedelta(milliseconds=1), points=5
    )
    assert [each.state for each in within.holdups] == ["paused"]
    (rates,) = sparks_of(store.ledger, views(store.ledger, [lived.run])).rates.values()
    assert len(rates) == 60
    assert any(rates)


def course_now(store: MongoStore, run: Run) -> Course:
    found = store.ledger.runs.get(run.id)
    assert found is not None
    return course_of(store.ledger, found, points=720)


def test_many_sparklines_are_one_query_and_go_with_their_runs(store: MongoStore, database: Docs) -> None:
    for name in ("first", "second", "third"):
        database[name].insert_one({})
    runs = [
        start(store, Migration(name=name, collection=name, update={"$set": {"a": 1}}))
        for name in ("first", "second", "third")
    ]
    for run in runs[:2]:
        totals = course.Totals(at=datetime.now(UTC).timestamp(), worked=30.0, documents=900)
        spark = course.Spark(int(totals.at // course.SPARK_SECONDS) - 1, 300, 10.0)
        change = SeriesChange(seen=totals, width=5.0, spark=spark)
        assert store.ledger.series.write(run.id, change, seen=0) is not None
        assert store.ledger.series.write(run.id, change, seen=0) is None
    run_views = views(store.ledger, runs)
    database.command("profile", 2)
    rates = sparks_of(store.ledger, run_views).rates
    database.command("profile", 0)
    rows = database["system.profile"].find()
    asked = [row for row in rows if row["ns"].startswith(f"{database.name}.whimbrel_")]
    assert [(row["ns"].rpartition(".")[2], row["docsExamined"]) for row in asked] == [("whimbrel_series", 2)]
    assert [30.0 in rates[run.id] for run in runs] == [True, True, False]
    gone, stays = control.cancel(store.ledger, runs[0].id, who="test"), runs[1]
    long_ago = {"$set": {"endedAt": datetime(2020, 1, 1, tzinfo=UTC)}}
    database["whimbrel_runs"].update_one({"_id": gone.id}, long_ago)
    prune(store.ledger, 30, seconds=60, who="test")
    assert [row["_id"] for row in database["whimbrel_series"].find()] == [stays.id]
