"""How far a run is, everywhere by the same numbers: what is in hand counts, retries are told, and a run that nobody serves says so."""

# ruff: noqa: F811  fixtures are imported by their names

import json
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from pymongo.database import Database

from tests.integration.coordinating.test_waiting_runs import coordinator_of
from tests.integration.in_process_commands import Commands, commands  # noqa: F401
from tests.integration.in_process_system import start, system, until
from tests.integration.ledger.test_failures_at_scale import working
from whimbrel import Migration
from whimbrel.api.models.runs import run_model
from whimbrel.api.routes.metrics import _ledger_metrics
from whimbrel.cli.output.progress_bar import moment
from whimbrel.domain.runs.batch_progress import Stretch
from whimbrel.domain.runs.forecast import KEPT, ProgressSample, forecast
from whimbrel.domain.runs.run import Counts, Run
from whimbrel.domain.runs.states import RunStatus
from whimbrel.engine.coordinating import progress_samples
from whimbrel.engine.operating import control
from whimbrel.engine.operating.run_view import RunView, view
from whimbrel.mongo.store import MongoStore

Docs = Database[dict[str, Any]]
IT = Migration(name="slowly", collection="things", update={"$set": {"m": 1}})


@pytest.fixture
def things(database: Docs) -> Docs:
    database["things"].insert_many({"_id": n} for n in range(3000))
    return database


def again(store: MongoStore, run: Run) -> Run:
    found = store.ledger.runs.get(run.id)
    assert found is not None
    return found


def shown(run_view: RunView) -> str:
    at = moment(run_view, 0.0)
    return f"{at.share} {at.line} {at.note}"


def test_the_samples_of_a_run_are_bounded_and_go_with_its_end(
    store: MongoStore, things: Docs, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress_samples, "EVERY", 0.0)
    run = start(store, IT)
    coordinator = coordinator_of(store)
    for _ in range(KEPT + 9):
        coordinator.tick()
    samples = again(store, run).samples
    assert len(samples) == KEPT
    assert all(each.total == 3000 for each in samples)
    assert list(samples) == sorted(samples, key=lambda each: each.worked)
    control.cancel(store.ledger, run.id, who="test")
    coordinator.tick()
    assert again(store, run).status is RunStatus.CANCELLED
    assert again(store, run).samples == ()


def test_speed_and_end_are_the_same_wherever_they_are_asked(
    store: MongoStore, things: Docs, commands: Commands
) -> None:
    run = start(store, IT)
    coordinator_of(store).tick()
    rows = [[1000 * at, 10 * at, 3000] for at in range(1, 61)]
    things["whimbrel_runs"].update_one({"_id": run.id}, {"$set": {"samples": rows, "counts.changed": 600}})
    things["whimbrel_runs"].update_one(
        {"_id": run.id}, [{"$set": {"workingSince": {"$subtract": ["$$NOW", 60_000]}, "updatedAt": "$$NOW"}}]
    )
    it = view(store.ledger, again(store, run))
    assert it.speed == forecast(again(store, run).samples, ProgressSample(it.seconds, 600, 3000))
    assert it.throughput == pytest.approx(10, rel=0.2)
    assert it.eta == pytest.approx(240, rel=0.2)
    model = run_model(it)
    assert (model.throughput, model.eta_seconds) == (it.throughput, it.eta)
    metrics = {sample.name: sample.value for each in _ledger_metrics(store.ledger) for sample in each.samples}
    assert metrics["whimbrel_run_throughput"] == pytest.approx(10, rel=0.2)
    assert metrics["whimbrel_run_eta_seconds"] == pytest.approx(240, rel=0.2)
    commands.set(MONGODB_DB_NAME=things.name)
    (told,) = json.loads(commands("status", run.id, "--json").out)
    assert told["etaSeconds"] == pytest.approx(240, rel=0.2)
    paused = replace(again(store, run), status=RunStatus.PAUSED)
    assert view(store.ledger, paused).eta is None


def test_what_is_done_of_batches_in_hand_counts_and_only_planned_ones_are_counted(
    store: MongoStore, things: Docs, commands: Commands
) -> None:
    run = start(store, IT, batch_size=1500)
    coordinator_of(store).tick()
    batch = store.ledger.batches.claim([run.id], worker="w", lsid=b"1" * 16)
    assert batch is not None
    progress = batch.progress.through(Stretch(1, Counts(changed=990, skipped=10)), None, inferred=False)
    store.ledger.batches.note(batch, progress)
    store.ledger.batches.keep_before(batch, {})  # waits for the majority, as a note does not
    it = view(store.ledger, again(store, run))
    assert (it.processed, it.counts, it.completed_batches) == (1000, Counts(changed=990, skipped=10), 0)
    commands.set(MONGODB_DB_NAME=things.name)
    assert f"0 of {it.total_batches} planned so far done" in commands("status", run.id).out


def test_the_retry_phase_says_what_is_tried_again_and_when(
    store: MongoStore, things: Docs, commands: Commands
) -> None:
    def odd(thing: dict[str, Any]) -> dict[str, Any]:
        if thing["_id"] % 1000 == 0:
            raise RuntimeError("not yet")
        return {"$set": {"m": 1}}

    it = Migration(name="odd", collection="things", transform=odd)
    run = start(store, it)
    things["whimbrel_runs"].update_one({"_id": run.id}, {"$set": {"retryDelay": 300.0}})
    with system(store, [it]):
        end = until(store, run, RunStatus.RUNNING)
        while not (end.next_retry or 0) > 0:
            end = until(store, run, RunStatus.RUNNING)
    assert (end.retrying, end.eta, end.processed) == (3, None, 3000)
    assert "retrying 3, next in " in shown(end)
    assert "ETA" not in shown(end)
    assert "%" not in shown(end)
    assert "retrying 3 now" in shown(replace(end, next_retry=-0.5))
    commands.set(MONGODB_DB_NAME=things.name)
    (told,) = json.loads(commands("status", "--json").out)
    assert told["retrying"] == 3
    assert 0 < told["nextRetrySeconds"] <= 600
    assert "retrying 3, next in " in commands("status", run.id).out


@pytest.mark.parametrize(
    ("status", "said"),
    [
        (RunStatus.RUNNING, "No worker serves it: whimbrel resume {}"),
        (RunStatus.QUEUED, "No worker serves it: whimbrel resume {}"),
        (RunStatus.PAUSING, "No worker process is alive. Where it does not end by itself: whimbrel pause {}"),
        (
            RunStatus.CANCELLING,
            "No worker process is alive. Where it does not end by itself: whimbrel cancel {}",
        ),
    ],
)
def test_a_run_whose_processes_died_says_so_whatever_was_said_before(
    store: MongoStore, things: Docs, status: RunStatus, said: str
) -> None:
    run = replace(start(store, IT), status=status, message="Tried again: something")
    later = view(store.ledger, run, now=run.updated_at + timedelta(seconds=5))
    assert said.format(run.id) in later.run.message
    assert said.format(run.id) in shown(later)


def test_what_waits_for_another_run_is_not_told_to_be_resumed(store: MongoStore, things: Docs) -> None:
    first, second = start(store, IT), start(store, IT)
    coordinator_of(store).tick()
    held, waits = sorted([first, second], key=lambda run: again(store, run).status is RunStatus.QUEUED)
    it = view(store.ledger, again(store, waits), now=waits.updated_at + timedelta(seconds=60))
    assert it.run.message == f"Waits for run {held.id}, which works on {held.ns}."


def test_what_is_worked_on_is_known_to_the_forecast(store: MongoStore, things: Docs) -> None:
    run, batches = working(store, things)
    things["whimbrel_batches"].update_many({"run": run.id}, {"$set": {"estimated": 500}})
    assert store.ledger.batches.after(run.id, 0).in_hand == 500 * len(batches)
    things["whimbrel_batches"].update_one({"_id": batches[0].token}, {"$set": {"retry": True}})
    assert store.ledger.batches.after(run.id, 0).in_hand == 500 * (len(batches) - 1)
