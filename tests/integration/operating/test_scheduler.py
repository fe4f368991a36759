"""Schedules against a real MongoDB: each tick decided once, whatever crashes in between."""

import json
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import SHORT
from tests.integration.in_process_system import DEFAULTS, nothing, system, until
from whimbrel.domain.bson.encoding import encoded
from whimbrel.domain.migrations.catalog import Catalog, choose
from whimbrel.domain.migrations.migration import Migration
from whimbrel.domain.runs.run import Run
from whimbrel.domain.runs.schedules import Plan, Schedule, ScheduleUnknown, Tick
from whimbrel.domain.runs.states import RunStatus
from whimbrel.engine.operating import control, default_schedule, schedules
from whimbrel.engine.operating.scheduler import Scheduler
from whimbrel.engine.operating.start import draft_run
from whimbrel.errors import SettingsInvalid
from whimbrel.mongo.store import MongoStore
from whimbrel.workers.definition_catalog import evaluate

THINGS = Migration(name="things", collection="things", update={"$inc": {"n": 1}})
STATUSES = Migration(name="statuses", collection="things", mark="status", adopt="all", update={"$inc": {"n": 1}})  # fmt: skip
DEFINITIONS = {each.name: each.definition for each in (THINGS, STATUSES)}
FIRST = Plan(migration="some-model", cron="*/1 * * * *", enabled=False)
EACH_SECOND = Plan(migration="things", cron="* * * * * *")


class Dead(Exception):
    """A process that was killed at a step."""


def scheduler(store: MongoStore, name: str = "one", *, die_at: str = "", **options: Any) -> Scheduler:
    def step(reached: str) -> None:
        if reached == die_at:
            raise Dead

    return Scheduler(
        store, partial(choose, Catalog(options.pop("definitions", DEFINITIONS))), name=name,
        role_seconds=options.pop("role_seconds", SHORT.lease),
        defaults=DEFAULTS, first=FIRST, step=step if die_at else nothing,
    )  # fmt: skip


def rewind(store: MongoStore, name: str, seconds: float) -> datetime:
    """Let the next tick be that long ago, by the server's clock: when."""
    at = (store.ledger.schedules.now() - timedelta(seconds=seconds)).replace(microsecond=0)
    store.client[store.database]["whimbrel_schedules"].update_one({"_id": name}, {"$set": {"nextAt": at}})
    return at


def hourly(store: MongoStore, name: str = "s", **fields: Any) -> Schedule:
    """A schedule whose tick has just come, and whose next one is far away."""
    store.client[store.database]["things"].insert_many({"n": 0, "status": "pending"} for _ in range(10))
    plan = replace(EACH_SECOND, cron="0 0 1 1 *", **fields)
    schedules.save_schedule(store.ledger, name, plan, who="test")
    rewind(store, name, 1)
    return row(store, name)


def row(store: MongoStore, name: str = "s") -> Schedule:
    return schedules.find_schedule(store.ledger, name)


def ticks(store: MongoStore, name: str = "s") -> list[Tick]:
    return list(row(store, name).history)


def runs(store: MongoStore) -> list[Run]:
    return store.ledger.runs.list()


def test_a_tick_starts_a_run_over_all_phases(store: MongoStore) -> None:
    before = hourly(store, migration="statuses", batch_size=3, priority=7, filters=encoded({"n": 0}))
    scheduler(store).tick()
    [run] = runs(store)
    assert run.legs == ("pending", "processing", "failed", "sweep", "failed")
    assert (run.status, run.batch_size, run.priority, run.asked) == (RunStatus.QUEUED, 3, 7, None)
    [tick] = ticks(store)
    assert (tick.due_at, tick.outcome, tick.run) == (before.next_at, "started", run.id)
    assert run.request is not None
    assert run.request.route.startswith("schedule ")
    now = row(store)
    assert (now.last_at, now.last_run, now.pending) == (before.next_at, run.id, None)
    assert now.next_at is not None
    assert now.next_at > store.ledger.schedules.now()
    [added] = store.client[store.database]["whimbrel_audit"].find({"run": run.id})
    assert (added["what"], added["who"]) == ("run added", "schedule:s")
    with system(store, [STATUSES]):
        assert until(store, run).counts.changed == 10


def test_a_tick_starts_a_run_on_the_terms_of_its_schedule(store: MongoStore) -> None:
    hourly(
        store,
        migration="statuses",
        stages=("5", "100%"),
        hold=60.0,
        approve=True,
        follow=True,
        nice=3,
        filters=encoded({"n": 7}),
    )
    scheduler(store).tick()
    [run] = runs(store)  # also where nothing matches yet, as it follows
    assert run.stages is not None
    assert run.follow is not None
    assert ([stage.asked for stage in run.stages.stages], run.stages.hold, run.stages.approve, run.nice) == (
        ["5", "100%"],
        60.0,
        True,
        3,
    )
    database = store.client[store.database]
    database["whimbrel_schedules"].update_one(
        {"_id": "s"}, {"$unset": dict.fromkeys(("stages", "hold", "approve", "follow"), "")}
    )
    plan = row(store).plan  # as of an earlier version
    assert (plan.stages, plan.hold, plan.approve, plan.follow) == ((), None, False, False)


def test_a_tick_starts_nothing_before_what_its_migration_depends_on(store: MongoStore) -> None:
    later = Migration(name="later", collection="things", update={"$inc": {"m": 1}}, depends_on=["things"])
    hourly(store, migration="later")
    scheduler(store, definitions={**DEFINITIONS, "later": later.definition}).tick()
    assert runs(store) == []
    [tick] = ticks(store)
    assert tick.outcome == "failed"
    assert "depends on 'things'" in tick.reason


@pytest.mark.parametrize("given_as", ["text", "json", "the text of an earlier version"])
def test_a_tick_starts_a_run_over_what_its_filters_select(store: MongoStore, given_as: str) -> None:
    filters = {"mail": {"$regex": "^a", "$nin": ["ab"]}, "of": {"$id": 1, "$ref": "c"}}
    things = store.client[store.database]["things"]
    things.insert_many({"mail": mail, "of": {"$id": 1, "$ref": "c"}} for mail in ("ab", "ac", "b"))
    kept = schedules.stored_filters(filters if given_as == "json" else json.dumps(filters))
    hourly(store, filters=kept)
    if given_as not in ("text", "json"):
        rows = store.client[store.database]["whimbrel_schedules"]
        rows.update_one(
            {"_id": "s"},
            [{"$set": {"filters": json.dumps({**filters, "of": {"$id": {"$numberInt": "1"}, "$ref": "c"}})}}],
        )
    scheduler(store).tick()
    [run] = runs(store)
    assert [each["mail"] for each in things.find(run.query)] == ["ac"]
    shown = schedules.schedule_object(row(store), on=True)["filters"]
    assert shown == {**filters, "of": {"$id": {"$numberInt": "1"}, "$ref": "c"}}
    assert list(shown["of"]) == ["$id", "$ref"]


def test_each_tick_evaluates_the_migration_anew_and_each_run_keeps_its_values(
    store: MongoStore, tmp_path: Path
) -> None:
    """Its filter holds the time: last week's would select last week's documents for ever."""
    source = tmp_path / "timed.py"
    source.write_text(TIMED)
    hourly(store, migration="timed")
    it = Scheduler(
        store, partial(evaluate, str(source)), name="one", role_seconds=SHORT.lease, defaults=DEFAULTS, first=FIRST, step=nothing
    )  # fmt: skip
    it.tick()
    [first] = runs(store)
    control.cancel(store.ledger, first.id, who="test")
    rewind(store, "s", 1)
    it.tick()
    second, again = runs(store)
    assert again.id == first.id
    assert since(again) == since(first) < since(second)


def since(run: Run) -> datetime:
    """The time that stands in its filter, and in its update."""
    declared: Any = run.declared
    assert run.query["at"]["$not"]["$gt"] == declared["$set"]["when"]
    return declared["$set"]["when"]  # type: ignore[no-any-return]


TIMED = """
from datetime import UTC, datetime
from whimbrel import Migration

NOW = datetime.now(UTC)
timed = Migration(
    name="timed", collection="things", filter={"at": {"$not": {"$gt": NOW}}}, update={"$set": {"when": NOW}}
)
"""


def test_a_tick_is_skipped_while_the_run_before_has_not_ended(store: MongoStore) -> None:
    hourly(store)
    it = scheduler(store)
    it.tick()
    [run] = runs(store)
    for status in ("queued", "running", "pausing", "paused", "cancelling"):
        store.client[store.database]["whimbrel_runs"].update_one({"_id": run.id}, {"$set": {"status": status}})  # fmt: skip
        at = rewind(store, "s", 1)
        it.tick()
        last = ticks(store)[-1]
        assert (last.due_at, last.outcome, last.run) == (at, "skipped", None)
        assert last.reason == f"Run {run.id}, which it started before, is {status} still."
    for status in ("completed", "completed_with_failures", "cancelled", "failed"):
        store.client[store.database]["whimbrel_runs"].update_many({}, {"$set": {"status": status}})
        rewind(store, "s", 1)
        it.tick()
        assert ticks(store)[-1].outcome == "started"
    assert len(runs(store)) == 5


def test_another_run_on_the_collection_is_waited_for(store: MongoStore) -> None:
    hourly(store)
    other = store.ledger.runs.add(draft_run(store, THINGS.definition, defaults=DEFAULTS), "a person")
    assert store.ledger.runs.move(other.id, RunStatus.RUNNING, who="test")
    scheduler(store).tick()
    assert {each.status for each in runs(store)} == {RunStatus.RUNNING, RunStatus.QUEUED}
    with system(store, [THINGS]):
        assert all(until(store, each).run.status is RunStatus.COMPLETED for each in runs(store))


def test_nothing_that_matches_starts_nothing(store: MongoStore) -> None:
    hourly(store, filters=encoded({"n": 99}))
    scheduler(store).tick()
    assert [(each.outcome, each.reason) for each in ticks(store)] == [("skipped", "Nothing matches.")]
    assert runs(store) == []


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({"migration": "gone"}, "has no migration 'gone'. Start every worker"),
        ({"migration": "statuses", "filters": '{"status": "odd"}'}, "The filter asks for 'status'"),
    ],
)
def test_a_run_that_cannot_be_started_is_history_too(
    store: MongoStore, fields: dict[str, Any], why: str
) -> None:
    hourly(store, **fields)
    scheduler(store).tick()
    [tick] = ticks(store)
    assert tick.outcome == "failed"
    assert why in tick.reason
    assert row(store).next_at is not None


def test_one_bad_schedule_does_not_hold_up_the_others(store: MongoStore) -> None:
    hourly(store, "bad", migration="gone")
    hourly(store, "zoned")
    hourly(store, "well")
    store.client[store.database]["whimbrel_schedules"].update_one({"_id": "zoned"}, {"$set": {"zone": "Mars/Olympus"}})  # fmt: skip
    it = scheduler(store)
    it.tick()
    it.tick()
    assert [each.outcome for each in ticks(store, "well")] == ["started"]
    assert "Mars/Olympus" in row(store, "zoned").trouble
    assert ticks(store, "zoned") == []
    schedules.save_schedule(store.ledger, "zoned", replace(row(store, "zoned").plan, zone="UTC"), who="test")
    assert row(store, "zoned").trouble == ""


def test_late_ticks_are_one_run_and_missed_ones_none(store: MongoStore) -> None:
    hourly(store)
    schedules.save_schedule(store.ledger, "s", EACH_SECOND, who="test")
    first = rewind(store, "s", 120)
    scheduler(store).tick()
    [tick] = ticks(store)
    assert (tick.outcome, tick.first) == ("started", first)
    assert tick.due_at - first >= timedelta(seconds=119)
    assert len(runs(store)) == 1
    hourly(store, "yearly")
    long_ago = rewind(store, "yearly", 3700)
    scheduler(store).tick()
    [missed] = ticks(store, "yearly")
    assert (missed.outcome, missed.due_at) == ("missed", long_ago)
    assert len(runs(store)) == 1


def test_two_schedulers_at_once_make_one_run_of_each_tick(store: MongoStore) -> None:
    """Both believe that they lead, for as long as it takes: the row alone decides."""
    hourly(store)
    both = [scheduler(store, name) for name in ("one", "two")]
    store.ledger.schedules.prepare("default", FIRST, None)
    for each in both:
        each._holds_role = lambda: True  # type: ignore[method-assign]
    for number in range(1, 16):
        start = threading.Barrier(2)

        def go(each: Scheduler, gate: threading.Barrier = start) -> None:
            gate.wait()
            each.tick()

        rewind(store, "s", 1)
        threads = [threading.Thread(target=go, args=(each,)) for each in both]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(runs(store)) == number
        assert [each.outcome for each in ticks(store)] == ["started"] * number
        store.client[store.database]["whimbrel_runs"].update_many({}, {"$set": {"status": "completed"}})


def test_a_tick_that_is_history_is_not_decided_again(store: MongoStore) -> None:
    """By a process that saw it due, and stalled until the run that it made for another had ended."""
    seen = hourly(store)
    assert seen.next_at is not None
    now = store.ledger.schedules.now()
    scheduler(store).tick()
    store.client[store.database]["whimbrel_runs"].update_many({}, {"$set": {"status": "completed"}})
    scheduler(store, "late")._decide_tick(seen, seen.next_at, now)
    assert len(runs(store)) == len(ticks(store)) == 1


def test_nothing_is_decided_while_a_tick_is_pending(store: MongoStore) -> None:
    """Its run may be added at any moment: whether it has ended cannot be known."""
    seen = hourly(store)
    assert seen.next_at is not None
    with pytest.raises(Dead):
        scheduler(store, die_at="T2").tick()
    held = row(store).pending
    again = {"$set": {"nextAt": seen.next_at}}  # as `start` may set it
    store.client[store.database]["whimbrel_schedules"].update_one({"_id": "s"}, again)
    scheduler(store, "late")._decide_tick(seen, seen.next_at, store.ledger.schedules.now())
    assert (row(store).pending, ticks(store), runs(store)) == (held, [], [])


def test_one_process_leads_and_another_takes_over(store: MongoStore) -> None:
    hourly(store)
    one, two = scheduler(store, "one", role_seconds=60), scheduler(store, "two")
    one.tick()
    assert store.ledger.schedules.leader() == "one"
    rewind(store, "s", 1)
    two.tick()
    assert len(ticks(store)) == 1
    store.ledger.leases.step_down("one")
    assert store.ledger.schedules.leader() is None
    eventually(lambda: len(ticks(store)) == 2, two)
    assert store.ledger.schedules.leader() == "two"


@pytest.mark.parametrize("step", ["T1", "T2", "T3"])
def test_a_crash_at_every_step_makes_neither_two_runs_nor_none(store: MongoStore, step: str) -> None:
    before = hourly(store)
    with pytest.raises(Dead):
        scheduler(store, "one", die_at=step).tick()
    store.ledger.leases.step_down("one")
    two = scheduler(store, "two")
    two.tick()
    two.tick()
    [run] = runs(store)
    assert [(each.due_at, each.outcome, each.run) for each in ticks(store)] == [
        (before.next_at, "started", run.id)
    ]
    assert row(store).pending is None


def test_a_process_that_was_taken_for_dead_starts_nothing_twice(store: MongoStore) -> None:
    """It stalls after it has decided the tick; by the time it wakes, its run was added by another, and is at work."""
    hourly(store)
    late = scheduler(store, "late", die_at="T2")
    with pytest.raises(Dead):
        late.tick()
    stale = row(store)
    assert stale.pending is not None
    store.ledger.leases.step_down("late")
    scheduler(store, "two").tick()
    [run] = runs(store)
    assert store.ledger.runs.move(run.id, RunStatus.RUNNING, who="test")
    late._step = nothing
    late._carry_out(stale)  # the row has no pending run any more
    assert store.ledger.runs.get(run.id) == runs(store)[0]
    assert runs(store)[0].status is RunStatus.RUNNING
    # And where it wakes between the other's two writes:
    rewind(store, "s", 1)
    over = {"$set": {"status": "completed", "active": False}}
    store.client[store.database]["whimbrel_runs"].update_many({}, over)
    late._step = nothing
    with pytest.raises(Dead):
        scheduler(store, "two", die_at="T3").tick()
    [new] = [each for each in runs(store) if each.id != run.id]
    assert store.ledger.runs.move(new.id, RunStatus.RUNNING, who="test")
    late._carry_out(row(store))
    assert store.ledger.runs.get(new.id).status is RunStatus.RUNNING  # type: ignore[union-attr]
    assert [each.outcome for each in ticks(store)] == ["started", "started"]


def test_a_schedule_that_is_changed_under_its_tick(store: MongoStore) -> None:
    """What was reckoned by the old cron is not written over the new one."""
    seen = hourly(store)
    assert seen.next_at is not None
    changed = replace(seen.plan, migration="statuses")  # neither cron nor zone: the tick stays due
    schedules.save_schedule(store.ledger, "s", changed, who="a person")
    assert row(store).next_at == seen.next_at
    it = scheduler(store)
    it._decide_tick(seen, seen.next_at, store.ledger.schedules.now())
    assert (ticks(store), runs(store)) == ([], [])
    it.tick()
    assert [each.migration for each in runs(store)] == ["statuses"]


def test_disabled_and_removed_schedules_do_nothing(store: MongoStore) -> None:
    hourly(store)
    schedules.save_schedule(store.ledger, "s", replace(row(store).plan, enabled=False), who="test")
    assert row(store).next_at is None
    scheduler(store).tick()
    assert schedules.remove_schedule(store.ledger, "s", who="test").name == "s"
    scheduler(store).tick()
    with pytest.raises(ScheduleUnknown, match="There are: default"):
        schedules.remove_schedule(store.ledger, "s", who="test")
    assert runs(store) == []


def test_the_switch_outlives_processes_and_passed_ticks_are_not_made_up_for(store: MongoStore) -> None:
    hourly(store)
    default_schedule.prepare_default(store.ledger, FIRST)
    assert schedules.switch_off(store.ledger, who="test")
    assert not schedules.switch_off(store.ledger, who="test")
    scheduler(store).tick()
    assert (ticks(store), store.ledger.schedules.is_on()) == ([], False)
    assert schedules.switch_on(store.ledger, who="test")
    assert not schedules.switch_on(store.ledger, who="test")
    scheduler(store).tick()
    assert (ticks(store), runs(store)) == ([], [])
    rewind(store, "s", 1)
    scheduler(store, "one").tick()
    assert len(runs(store)) == 1
    told = [each["what"] for each in store.client[store.database]["whimbrel_audit"].find({"run": ""})]
    assert told == ["schedule s set", "scheduler stopped", "scheduler started"]


def test_a_tick_that_was_decided_before_the_stop_gets_its_run(store: MongoStore) -> None:
    hourly(store)
    with pytest.raises(Dead):
        scheduler(store, die_at="T2").tick()
    schedules.switch_off(store.ledger, who="test")
    scheduler(store, "one").tick()
    assert [each.outcome for each in ticks(store)] == ["started"]
    assert len(runs(store)) == 1


def test_the_default_schedule_is_made_once(store: MongoStore) -> None:
    scheduler(store).tick()
    assert row(store, "default").plan == FIRST
    assert row(store, "default").made_by == "settings"
    schedules.remove_schedule(store.ledger, "default", who="test")
    scheduler(store).tick()
    default_schedule.prepare_default(store.ledger, FIRST)
    assert store.ledger.schedules.list() == []


def test_start_gives_a_scheduler_without_schedules_its_default_one(store: MongoStore) -> None:
    default_schedule.prepare_default(store.ledger, FIRST)
    assert schedules.switch_on(store.ledger, who="test")
    assert row(store, "default").plan.enabled
    assert row(store, "default").next_at is not None
    schedules.save_schedule(store.ledger, "mine", EACH_SECOND, who="test")
    schedules.save_schedule(store.ledger, "default", FIRST, who="test")
    assert not schedules.switch_on(store.ledger, who="test")
    assert not row(store, "default").plan.enabled


@pytest.mark.parametrize(
    ("fields", "name"), [({"cron": "61 * * * *"}, "cron"), ({"zone": "Mars/Olympus"}, "zone")]
)
def test_what_cannot_be_used_is_not_kept(store: MongoStore, fields: dict[str, str], name: str) -> None:
    with pytest.raises(SettingsInvalid, match=f"^{name} "):
        schedules.save_schedule(store.ledger, "s", replace(EACH_SECOND, **fields), who="test")  # type: ignore[arg-type]
    with pytest.raises(ScheduleUnknown):
        row(store)


def test_history_is_bounded_and_looking_does_not_read_it(store: MongoStore) -> None:
    hourly(store, filters=encoded({"n": 99}))
    it = scheduler(store)
    for _ in range(60):
        rewind(store, "s", 1)
        it.tick()
    assert len(ticks(store)) == 50
    rewind(store, "s", 1)
    assert store.ledger.schedules.snapshot().schedules[0].history == ()


def test_a_schedule_of_every_second_keeps_up(store: MongoStore) -> None:
    """With workers: as long as documents come, runs follow one another, never two at once."""
    hourly(store)
    schedules.save_schedule(store.ledger, "s", EACH_SECOND, who="test")
    it = scheduler(store)
    things = store.client[store.database]["things"]
    with system(store, [THINGS]):
        end = time.monotonic() + 60
        while len(runs(store)) < 3 and time.monotonic() < end:
            things.insert_one({"n": 0})
            it.tick()
            time.sleep(0.1)
        eventually(lambda: things.count_documents({"n": 0}) == 0, it)
    found = sorted(runs(store), key=lambda each: each.created_at)
    assert len(found) >= 3
    for before, after in pairwise(found):
        assert before.ended_at is not None
        assert before.ended_at <= after.created_at
    assert things.count_documents({"n": {"$ne": 1}}) == 0


def test_a_paused_run_of_a_schedule_can_be_cancelled_to_go_on(store: MongoStore) -> None:
    hourly(store)
    it = scheduler(store)
    it.tick()
    [run] = runs(store)
    control.cancel(store.ledger, run.id, who="test")
    rewind(store, "s", 1)
    it.tick()
    assert [each.outcome for each in ticks(store)] == ["started", "started"]


def eventually(what: Callable[[], bool], it: Scheduler, seconds: float = 30) -> None:
    """While a scheduler looks again and again."""
    end = time.monotonic() + seconds
    while not what():
        it.tick()
        assert time.monotonic() < end, "in vain"
        time.sleep(0.05)
