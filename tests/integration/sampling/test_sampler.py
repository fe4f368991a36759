"""The sampler and what obeys it: one in the cluster, its verdict in the ledger, thresholds, overrides, and runs that rest or wait."""

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from pymongo import MongoClient
from pymongo.database import Database

from tests.conftest import SHORT
from tests.integration.in_process_system import start, system, until
from tests.servers.serve import eventually
from whimbrel import Migration
from whimbrel.domain.health.signal_states import SignalState
from whimbrel.domain.health.signals import SIGNALS, Level, Reads, Signal
from whimbrel.domain.health.throttled import NO_VERDICT
from whimbrel.domain.health.verdict import LeftOut, Reason, Verdict
from whimbrel.domain.runs.preflight_findings import refuse_all
from whimbrel.domain.runs.states import RunStatus
from whimbrel.engine.executing.gate import Gate, rest_after
from whimbrel.engine.operating import control, health_settings
from whimbrel.engine.operating.health_preflight import health_findings
from whimbrel.engine.operating.health_settings import change_thresholds, heed_signal, ignore_signal
from whimbrel.engine.operating.health_view import health_object
from whimbrel.engine.sampling import sampler as sampling
from whimbrel.engine.sampling.sampler import Sampler, sample_once
from whimbrel.errors import SettingsInvalid, ThresholdsRefused, Transient
from whimbrel.mongo.store import MongoStore, connected
from whimbrel.ports import HealthSettings, Watching

Docs = Database[dict[str, Any]]
THINGS = Migration(name="things", collection="things", update={"$set": {"n": 1}})


def sampler(store: MongoStore, name: str = "one") -> Sampler:
    return Sampler(store, store.health_reader(), name=name)


def aged(database: Docs, seconds: float) -> None:
    """Makes the stored verdict so much older."""
    move = [{"$set": {"at": {"$subtract": ["$$NOW", int(seconds * 1000)]}}}]
    database["whimbrel_health"].update_one({"_id": "verdict"}, move)


def test_a_sample_reads_every_signal_and_is_stored_with_its_age(store: MongoStore, database: Docs) -> None:
    assert store.ledger.health.verdict() == Verdict()
    one = sampler(store)
    for _ in range(2):
        one.tick()
    verdict = store.ledger.health.verdict()
    assert (verdict.share, verdict.by) == (1.0, "one")
    assert verdict.age is not None
    assert 0 <= verdict.age < 5
    assert verdict.signals.keys() == SIGNALS.keys()
    assert not {name: state.problem for name, state in verdict.signals.items() if state.problem}
    unknown = {name: state.how for name, state in verdict.signals.items() if state.level is Level.UNKNOWN}
    assert unknown == {
        "member-lag": "there is no other member", "member-silence": "there is no other member", "oplog-window": "there is no other member",
        "broker-alarm": "there is no RabbitMQ: workers look into the ledger",
    }  # fmt: skip
    stats = database.command("dbStats")
    disk = verdict.signals["disk-used"].value
    assert disk == pytest.approx(100 * stats["fsUsedSize"] / stats["fsTotalSize"], abs=2)
    (row,) = store.ledger.health.history(minutes=False)[-1:]
    assert (row.share, row.values["disk-used"]) == (1.0, disk)


def test_how_long_runs_were_held_back_is_counted_while_there_are_some(
    store: MongoStore, database: Docs
) -> None:
    held = Verdict(share=0.25, reasons=(Reason("disk-used", Level.SLOW, 1.0, "disk"),))
    store.ledger.health.keep(held, None)
    aged(database, 2)
    one = sampler(store)
    one.tick()
    assert store.ledger.health.throttled() == {}
    database["things"].insert_one({})
    run = start(store, THINGS)
    assert store.ledger.runs.move(run.id, RunStatus.RUNNING, who="test")
    began = time.monotonic()
    for _ in range(2):
        store.ledger.health.keep(held, None)
        aged(database, 2)
        one.tick()
    throttled = store.ledger.health.throttled()
    assert throttled["disk-used"] >= 3.99
    assert sum(throttled.values()) <= 4.01 + time.monotonic() - began
    assert throttled.keys() <= {"disk-used", NO_VERDICT}, "the second where it took long"


@pytest.fixture
def _unhurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """The role, and the rest between two samples, last longer than a machine stands still."""
    monkeypatch.setattr(sampling, "ROLE_SECONDS", 60.0)
    monkeypatch.setattr(sampling, "IDLE_EVERY", 60.0)


@pytest.mark.usefixtures("_unhurried")
def test_one_process_samples_and_another_goes_on_where_it_stopped(store: MongoStore, database: Docs) -> None:
    one, two = sampler(store), sampler(store, "two")
    one.tick()
    two.tick()
    assert store.ledger.health.verdict().by == "one"
    verdict = store.ledger.health.verdict()
    store.ledger.health.keep(replace(verdict, share=0.25, since=1000.0, by="one"), None)
    database["whimbrel_leases"].delete_one({"_id": "health"})  # its time is over
    two.tick()
    found = store.ledger.health.verdict()
    assert (found.by, found.share, found.since) == ("two", 0.25, 1000.0)
    aged(database, 60)
    three = sampler(store, "three")
    database["whimbrel_leases"].delete_one({"_id": "health"})
    three.tick()
    assert store.ledger.health.verdict().share == 1.0, "what was decided a minute ago says nothing any more"


@pytest.mark.usefixtures("_unhurried")
def test_while_no_run_is_at_work_few_samples_are_taken(store: MongoStore, database: Docs) -> None:
    """Each is a write, day and night."""
    one = sampler(store)
    one.round()
    first = store.ledger.health.verdict().at
    for _ in range(3):
        one.round()
    assert store.ledger.health.verdict().at == first
    database["things"].insert_one({"n": 0})
    store.ledger.runs.move(start(store, THINGS).id, RunStatus.RUNNING, who="test")
    one.round()
    assert store.ledger.health.verdict().at != first


def test_an_override_counts_though_the_clock_of_its_host_is_slow(
    store: MongoStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Slow(datetime):
        @classmethod
        def now(cls, tz: Any = None) -> Any:
            return datetime.now(tz) - timedelta(hours=1)

    monkeypatch.setattr(health_settings, "datetime", Slow)
    change_thresholds(store.ledger, "read-canary", slow=0, stop=None, who="test")
    ignore_signal(store.ledger, "read-canary", seconds=1800, who="test", why="")
    one = sampler(store)
    for _ in range(2):
        one.tick()
    assert store.ledger.health.verdict().level is Level.OK


def test_thresholds_count_from_the_next_sample_and_an_override_has_an_end(
    store: MongoStore, database: Docs
) -> None:
    one = sampler(store)
    with pytest.raises(ThresholdsRefused, match="slow=60 is above stop=50"):
        change_thresholds(store.ledger, "read-canary", slow=60, stop=None, who="test")
    change_thresholds(store.ledger, "read-canary", slow=0, stop=None, who="test")
    for _ in range(2):
        one.tick()
    verdict = store.ledger.health.verdict()
    assert (verdict.share, [reason.signal for reason in verdict.reasons]) == (0.5, ["read-canary"])
    assert "a read by _id" in verdict.explain()
    until_ = ignore_signal(store.ledger, "read-canary", seconds=3600, who="test", why="a test")
    assert timedelta(seconds=3590) < until_ - datetime.now(UTC) <= timedelta(seconds=3600)
    one.tick()
    assert store.ledger.health.verdict().level is Level.OK
    heed_signal(store.ledger, "read-canary", who="test")
    one.tick()
    assert store.ledger.health.verdict().level is Level.SLOW
    ignore_signal(store.ledger, "read-canary", seconds=0.2, who="test", why="")
    time.sleep(0.3)
    one.tick()
    assert store.ledger.health.verdict().level is Level.SLOW, "it is over by itself"
    for seconds in (0, -1, 8 * 86_400, float("nan")):
        with pytest.raises(SettingsInvalid, match="7 days"):
            ignore_signal(store.ledger, "read-canary", seconds=seconds, who="test", why="")
    audited = [row["what"] for row in database["whimbrel_audit"].find({"who": "test"}).sort("at", 1)]
    assert audited[0] == "thresholds of read-canary: {'slow': 0}"
    assert [what.partition(" until")[0] for what in audited[1:]] == [
        "signal read-canary ignored", "signal read-canary no longer ignored", "signal read-canary ignored"
    ]  # fmt: skip


def test_a_look_without_a_sampler_writes_nothing(store: MongoStore, database: Docs) -> None:
    verdict = sample_once(store)
    assert verdict.signals["connections-free"].value
    assert database["whimbrel_health"].count_documents({}) == 0


def test_the_history_is_two_rings(store: MongoStore, database: Docs) -> None:
    for share in (1.0, 0.5):
        store.ledger.health.keep(
            Verdict(share=share), {"share": share, "level": "slow", "values": {"member-lag": 3.0}}
        )
    assert [row.share for row in store.ledger.health.history(minutes=True)][-1] == 0.5
    rows = database["whimbrel_health"]
    rows.update_many({"ring": "s"}, [{"$set": {"at": {"$subtract": ["$$NOW", 1_000_000]}}}])
    assert not store.ledger.health.history(minutes=False), "older than a quarter of an hour"
    assert rows.count_documents({}) <= 5


# What obeys the verdict


def run_with(store: MongoStore, read: Callable[[], Verdict]) -> Any:
    """A run whose slots obey a gate."""
    store.client[store.database]["things"].insert_many([{"at": at} for at in range(3000)])
    entered = system(store, [THINGS])
    worker_state = entered.__enter__()
    worker_state.gate = Gate(read)
    return entered, start(store, THINGS, batch_size=500)


def test_a_closed_gate_holds_a_run_in_hand_and_costs_it_nothing(store: MongoStore, database: Docs) -> None:
    store.ledger.health.keep(Verdict(share=0.0), None)
    entered, run = run_with(store, store.ledger.health.verdict)
    try:
        in_hand = {"run": run.id, "status": "running"}
        eventually(lambda: database["whimbrel_batches"].count_documents(in_hand) == 2)
        leases = [row["leaseUntil"] for row in database["whimbrel_batches"].find(in_hand)]
        # Longer than a lease lasts: it is renewed, and nobody takes the batches over.
        eventually(lambda: min(row["leaseUntil"] for row in database["whimbrel_batches"].find(in_hand)) > max(leases) + timedelta(seconds=2))  # fmt: skip
        store.ledger.health.keep(Verdict(share=0.0), None)
        assert database["things"].count_documents({"n": 1}) == 0
        store.ledger.health.keep(Verdict(share=1.0), None)
        found = until(store, run)
        assert (found.run.status, found.counts.changed, found.failures["failed"]) == (
            RunStatus.COMPLETED,
            3000,
            0,
        )
        rows = list(database["whimbrel_batches"].find({"run": run.id}))
        assert max(row["claims"] for row in rows) == 1, "waiting is no attempt"
    finally:
        entered.__exit__(None, None, None)


def test_a_run_that_waits_at_the_gate_can_be_paused(store: MongoStore, database: Docs) -> None:
    entered, run = run_with(store, lambda: Verdict(share=0.0, age=0.0))
    try:
        in_hand = {"run": run.id, "status": "running"}
        eventually(lambda: database["whimbrel_batches"].count_documents(in_hand))
        control.pause(store.ledger, run.id, who="test")
        until(store, run, RunStatus.PAUSED)
        assert database["things"].count_documents({"n": 1}) == 0
    finally:
        entered.__exit__(None, None, None)


@dataclass(frozen=True)
class Plain:
    """A run that only the database's health holds back."""

    id: str = "plain"
    windows: tuple[str, ...] = ()
    nice: int = 0
    urgent: bool = False


PLAIN = Plain()


def test_a_verdict_that_nobody_renews_closes_the_gate(store: MongoStore, database: Docs) -> None:
    store.ledger.health.keep(Verdict(share=1.0), None)
    aged(database, 14)
    gate = Gate(store.ledger.health.verdict)
    assert gate.share_of(PLAIN) == 0.05
    eventually(lambda: gate.share_of(PLAIN) == 0.0)
    store.ledger.health.keep(Verdict(share=1.0), None)
    eventually(lambda: gate.share_of(PLAIN) == 1.0)


def test_a_ledger_that_does_not_answer_closes_the_gate_too() -> None:
    answers = [Verdict(share=1.0, age=13.0)]

    def read() -> Verdict:
        if not answers:
            raise Transient("no answer")
        return answers.pop()

    gate = Gate(read)
    assert gate.share_of(PLAIN) == 0.05
    eventually(lambda: gate.share_of(PLAIN) == 0.0)


def test_a_share_of_its_time_is_worked_and_the_rest_rested(
    store: MongoStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    shares = {1.0: 0.0, 0.5: 0.4, 0.25: 1.2, 0.1: 3.6, 0.01: 39.6, 0.0: float("inf")}
    assert {share: round(rest_after(0.4, share), 6) for share in shares} == shares
    rests: list[tuple[float, float]] = []

    def rested(worked: float, share: float) -> float:
        rests.append((worked, share))
        return 0.01

    monkeypatch.setattr("whimbrel.engine.executing.pace.rest_after", rested)
    entered, run = run_with(store, lambda: Verdict(share=0.02, age=0.0))
    try:
        until(store, run)
    finally:
        entered.__exit__(None, None, None)
    assert len(rests) >= 6, "after each chunk of each batch"
    assert {share for _, share in rests} == {0.02}
    assert min(worked for worked, _ in rests) > 0


def test_a_verdict_that_is_stored_comes_back_as_it_was(store: MongoStore, database: Docs) -> None:
    state = SignalState(
        level=Level.STOP, since=5.5, value=3.0, threshold=2.0, host="h", how="a command", problem="", slow_count=3, stop_count=0, good_since=None, read_at=7.0, ignored_until=9.0,
        marked_at=8.0, marked=2.5, not_ours=True,
    )  # fmt: skip
    check = Signal(name="p99", title="the check p99", unit="s", slow=1.0, stop=None, needs=Reads.NOTHING, low=True)  # fmt: skip
    kept = Verdict(
        share=0.0, level=Level.STOP, since=4.0, reasons=(Reason("p99", Level.STOP, 4.0, "bad"),), signals={"member-lag": state, "p99": state}, by="me", waits_since=4.5,
        advice="wait", share_before=0.3, left_out=(LeftOut("host3:1", "why"),), checks=(check,),
    )  # fmt: skip
    store.ledger.health.keep(kept, None)
    newer = {"$set": {"signals.p99.tomorrow": 1, "checks.0.tomorrow": 1, "tomorrow": 1}}
    database["whimbrel_health"].update_one({"_id": "verdict"}, newer)  # by a newer version, beside this one
    found = store.ledger.health.verdict()
    assert replace(found, at=None, age=None) == kept
    assert store.ledger.health.verdict().checks[0].needs is Reads.NOTHING


def bad_disk(store: MongoStore) -> Sampler:
    """A sampler by which all runs wait for a signal that no pause makes better."""
    change_thresholds(store.ledger, "disk-used", slow=0, stop=0, who="test")
    one = sampler(store)
    for _ in range(2):
        one.tick()
    assert one.latest.share == 0.0
    return one


def test_what_gets_no_better_while_all_wait_is_said_not_to_be_caused_by_runs(
    store: MongoStore, database: Docs
) -> None:
    one, rows = bad_disk(store), database["whimbrel_health"]
    assert "not caused" not in one.latest.explain()
    a_minute_ago = {"signals.disk-used.marked": 0.001}  # the real one may fall meanwhile, as other tests end
    rows.update_one({"_id": "verdict"}, {"$inc": {"signals.disk-used.marked_at": -61}, "$set": a_minute_ago})
    database["whimbrel_leases"].delete_one({"_id": "health"})
    two = sampler(store, "two")  # goes on with what the first has noted
    two.tick()
    assert (
        "(not caused by this run: it is no better after a minute" in store.ledger.health.verdict().explain()
    )
    assert "whimbrel health" not in two.latest.explain()
    row = next(row for row in health_object(two.latest, HealthSettings())["signals"] if row["name"] == "disk-used")  # fmt: skip
    assert row["notCausedByRuns"]
    rows.update_one({"_id": "verdict"}, {"$inc": {"waitsSince": -601}})
    database["whimbrel_leases"].delete_one({"_id": "health"})
    three = sampler(store, "three")
    three.tick()
    assert "whimbrel health disk-used --ignore 1h --note WHY" in store.ledger.health.verdict().explain()
    ignore_signal(store.ledger, "disk-used", seconds=60, who="test", why="as it is advised")
    three.tick()
    assert store.ledger.health.verdict().explain().startswith("Goes at 50% of its speed")


def test_a_user_who_may_only_write_reads_what_needs_no_privilege_and_is_told_the_grant(
    store: MongoStore, database: Docs, client: MongoClient[dict[str, Any]], mongo_uri: str
) -> None:
    """Refused by a real server: docs/health.md, "When it cannot be read"."""
    client[database.name].command("createUser", "app", pwd="app", roles=["readWrite"])  # noqa: S106
    (address,) = client.nodes
    uri = f"mongodb://app:app@{address[0]}:{address[1]}/{database.name}?replicaSet={client.topology_description.replica_set_name}"
    try:
        with connected(uri, database.name, SHORT, watching=Watching()) as basic:
            one = sampler(basic)
            for _ in range(2):
                one.tick()
            one._reader.close()
            (finding,) = health_findings(basic)
    finally:
        client[database.name].command("dropUser", "app")
    states = one.latest.signals
    assert {name for name, state in states.items() if state.value is not None} == {
        "majority-lag", "majority-write", "read-canary", "write-canary", "disk-used", "new-primary",
    }  # fmt: skip
    grant = f'db.getSiblingDB("{database.name}").grantRolesToUser("app", [{{role: "clusterMonitor", db: "admin"}}])'
    assert states["cache-dirty"].problem == f"not allowed: grant it by {grant}"
    canaries = {"read-canary", "write-canary"}  # which are read, and a busy machine may be slow
    assert {reason.signal for reason in one.latest.reasons} <= canaries, (
        "what was never allowed asks for nothing"
    )
    assert finding.level == "unknown"
    assert finding.remedy == f"Grant what is missing: {grant}"
    assert "1 are read by a lesser means, in whole seconds (majority-lag)" in finding.reason
    assert "not allowed" in finding.reason
    detail = finding.detail or {}
    assert set(detail["read"]) == {
        "majority-write",
        "read-canary",
        "write-canary",
        "disk-used",
        "new-primary",
    }
    assert set(detail["unread"]) == SIGNALS.keys() - {*detail["read"], *detail["lesser"], *detail["absent"]}


def test_where_all_is_read_preflight_says_so_in_one_line_and_without_a_watch_nothing(
    store: MongoStore, database: Docs, mongo_uri: str
) -> None:
    assert health_findings(store) == []
    strange = Watching(ignored_members=frozenset({"db9:27017"}), brokered=True)
    with connected(mongo_uri, database.name, SHORT, watching=strange) as watched:
        finding, warned = health_findings(watched)
        verdict = sample_once(watched)
    assert (finding.level, finding.remedy) == ("info", "See them all: whimbrel health.")
    assert finding.reason == (
        "All 20 signals of the database's health are read. 3 mean nothing here (member-lag, member-silence, oplog-window: there is no other member)."
    )
    refuse_all([finding])
    assert (warned.level, warned.detail) == ("warning", {"hosts": ["db9:27017"]})
    assert "WHIMBREL_HEALTH_IGNORE_MEMBERS names db9:27017" in warned.reason
    (member,) = verdict.left_out
    assert (member.host, "no member of this name" in member.why) == ("db9:27017", True)
