"""Every signal driven for real on a set of three: what is done to the servers, and what the verdict then says, and when it is well again."""

import re
import secrets
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from typing import Any

import pytest
from pymongo import MongoClient, WriteConcern
from pymongo.errors import PyMongoError

from tests.conftest import SHORT
from tests.integration.hurried_sampler import HurriedSampler
from tests.integration.sampling.driving import THINGS, at_work, fail_point, locked, parameter, writing
from tests.servers.replicas import Member, ReplicaSet
from tests.servers.serve import eventually
from whimbrel.domain.health.readings import Reading
from whimbrel.domain.health.share import START
from whimbrel.domain.health.signals import Level
from whimbrel.domain.health.verdict import Verdict
from whimbrel.engine.operating.health_settings import change_thresholds, heed_signal, ignore_signal
from whimbrel.engine.operating.preflight import preflight
from whimbrel.engine.operating.start import Defaults, compose_run
from whimbrel.errors import Transient
from whimbrel.mongo.store import MongoStore, connected
from whimbrel.ports import Watching

NOBODY = "nobody else is at work on this server"
PAUSE = 0.1  # seconds between two samples, of which a level needs some


@pytest.fixture(scope="module")
def replicas() -> Iterator[ReplicaSet]:
    with ReplicaSet(3, election=10, oplog=64, enableTestCommands=1) as found:
        yield found


class Watch:
    """A sampler at work, sample by sample."""

    def __init__(self, store: MongoStore) -> None:
        self.store = store
        self.reader = store.health_reader()
        self.sampler = HurriedSampler(store, self.reader, name="test")
        self.verdict = Verdict()

    def sample(self) -> Verdict:
        with suppress(Transient):  # a verdict that no majority acknowledges is stored all the same
            self.sampler.tick()
        self.verdict = self.sampler.latest
        return self.verdict

    def until(self, name: str, level: Level, seconds: float = 40) -> Verdict:
        """The first verdict in which a signal has this level; for slow, also one that has passed it."""

        def reached() -> bool:
            time.sleep(PAUSE)
            state = self.sample().signals.get(name)
            return state is not None and (
                state.level is level or (level, state.level) == (Level.SLOW, Level.STOP)
            )

        eventually(reached, seconds)
        return self.verdict

    def said(self, name: str) -> str:
        return next((reason.sentence for reason in self.verdict.reasons if reason.signal == name), "")


@pytest.fixture
def watch(replicas: ReplicaSet) -> Iterator[Watch]:
    replicas.wait_secondaries()
    with connected(replicas.uri, f"health_{secrets.token_hex(4)}", SHORT) as store:
        store.prepare()
        store.client[store.database]["things"].insert_many([{"at": at} for at in range(100)])
        # A test that writes much fills the oplog of all, and it does not reach back for two hours.
        ignore_signal(store.ledger, "oplog-window", seconds=86_400, who="test", why="a set of minutes")
        found = Watch(store)
        for _ in range(3):
            found.sample()
        yield found
        found.reader.close()
        store.client.drop_database(store.database)


@contextmanager
def application(replicas: ReplicaSet, watch: Watch) -> Iterator[None]:
    """Somebody else at work on the server, by majority writes and reads, as the sampler has noticed."""
    over = threading.Event()

    def work(client: MongoClient[Any]) -> None:
        things = client[watch.store.database].get_collection("orders", write_concern=WriteConcern("majority"))
        while not over.wait(0.005):
            with suppress(PyMongoError):
                things.update_one({"_id": 1}, {"$inc": {"n": 1}}, upsert=True)
                things.find_one({"_id": 1})

    with MongoClient[Any](replicas.uri) as client:
        workers = [threading.Thread(target=work, args=[client]) for _ in range(3)]
        for worker in workers:
            worker.start()
        try:
            for _ in range(60):
                if NOBODY not in watch.sample().signals["read-canary"].how:
                    break
            yield
        finally:
            over.set()
            for worker in workers:
                worker.join()


DENIED = {"failCommands": ["replSetGetStatus", "replSetGetConfig"], "errorCode": 13}


def basic(replicas: ReplicaSet, watch: Watch) -> dict[tuple[str, str], Reading]:
    """What a user is shown who may not ask for the set's state: by signal and host."""
    with (
        replicas.primary().client() as client,
        closing(watch.store.health_reader()) as reader,
        fail_point(client, "failCommand", **DENIED),
    ):
        reader.read(own_slots=0, namespaces=())
        found = reader.read(own_slots=0, namespaces=())
    return {(each.signal, each.host): each for each in found if each.signal.startswith("member")}


def test_a_secondary_that_applies_nothing_lags(replicas: ReplicaSet, watch: Watch) -> None:
    """Seen also by a user who has readWrite alone: by `hello` to each member, in whole seconds."""
    member, other = replicas.secondaries()
    change_thresholds(watch.store.ledger, "member-lag", slow=1.5, stop=3, who="test")
    with writing(watch.store):
        with locked(member):
            watch.until("member-lag", Level.SLOW)
            assert f"on 127.0.0.1:{member.port}" in watch.said("member-lag")
            assert watch.verdict.share < 1.0
            verdict = watch.until("member-lag", Level.STOP)
            assert verdict.share == 0.0
            # The other one acknowledges, if not at once.
            eventually(lambda: watch.sample().signals["majority-lag"].level is Level.OK)
            seen = basic(replicas, watch)
            lag = seen["member-lag", f"127.0.0.1:{member.port}"]
            assert lag.lesser
            assert lag.value is not None
            assert lag.value >= 1.0
            assert (seen["member-lag", f"127.0.0.1:{other.port}"].value or 0.0) < lag.value
            assert "clusterMonitor" in seen["members-down", ""].problem
        watch.until("member-lag", Level.OK)
    assert watch.verdict.share > 0.0


def test_without_a_majority_its_lag_our_own_write_and_flow_control_stop(
    replicas: ReplicaSet, watch: Watch
) -> None:
    with (
        replicas.primary().client() as client,
        parameter(client, flowControlTargetLagSeconds=2),
        writing(watch.store),
    ):
        with ExitStack() as stack:
            for member in replicas.secondaries():
                stack.enter_context(locked(member))
            watch.until("majority-lag", Level.STOP)
            watch.until("majority-write", Level.STOP, 60)
            assert watch.verdict.share == 0.0
            watch.until("flow-control-lagged", Level.STOP, 60)
        for name in ("majority-lag", "majority-write", "flow-control-lagged"):
            watch.until(name, Level.OK, 60)


def test_writes_that_wait_for_flow_control_are_seen(replicas: ReplicaSet, watch: Watch) -> None:
    with (
        replicas.primary().client() as client,
        writing(watch.store, threads=8),
    ):
        with fail_point(client, "flowControlTicketOverride", numTickets=20):
            watch.until("flow-control", Level.SLOW, 60)
            assert "flow control holds writes back" in watch.said("flow-control")
        watch.until("flow-control", Level.OK, 60)


def test_the_oplog_counts_once_it_is_full(replicas: ReplicaSet, watch: Watch) -> None:
    """By thresholds above what it reaches back: MongoDB forgets entries late, and not when a test wants it to."""
    name = "oplog-window"
    heed_signal(watch.store.ledger, name, who="test")
    if watch.sample().signals[name].value is None:
        assert watch.verdict.signals[name].how == "the oplog is not full yet"
        with writing(watch.store, size=8000, threads=2):
            eventually(lambda: watch.sample().signals[name].value is not None, 120)
    at_work(watch.store)
    for _ in range(3):
        watch.sample()
    assert (watch.verdict.signals[name].value or 9.0) < 2, (
        "it reaches back some minutes, and not the two hours of the table"
    )
    assert watch.verdict.signals[name].level is Level.OK, "as it did before a run was at work"
    change_thresholds(watch.store.ledger, name, slow=1e6, stop=0, who="test")
    watch.until(name, Level.SLOW)
    change_thresholds(watch.store.ledger, name, slow=0, stop=0, who="test")
    watch.until(name, Level.OK)


@contextmanager
def configured(replicas: ReplicaSet, member: Member, **fields: Any) -> Iterator[None]:
    """A member has other settings meanwhile."""

    def set_(**values: Any) -> None:
        with replicas.primary().client() as client:
            config = client.admin.command("replSetGetConfig")["config"]
            row = next(each for each in config["members"] if each["host"].endswith(f":{member.port}"))
            row.update(values)
            config["version"] += 1
            client.admin.command("replSetReconfig", config)

    set_(**fields)
    try:
        yield
    finally:
        set_(secondaryDelaySecs=0, priority=1, votes=1)


def test_members_that_lag_on_purpose_or_are_named_are_left_out_from_the_next_sample_on(
    replicas: ReplicaSet, watch: Watch
) -> None:
    late, named = replicas.secondaries()
    ignored = frozenset({f"127.0.0.1:{named.port}", "db9:27017"})
    watching, definition = Watching(ignored_members=ignored), THINGS.definition
    with (
        connected(replicas.uri, watch.store.database, SHORT, watching=watching) as store,
        closing(store.health_reader()) as reader,
    ):
        reader.read(own_slots=0, namespaces=())
        with configured(replicas, late, secondaryDelaySecs=3600, priority=0):
            readings = reader.read(own_slots=0, namespaces=())
            preflighted = preflight(store, definition, compose_run(store, definition, defaults=Defaults()), None)  # fmt: skip
    found = {each.host: each for each in readings if each.signal == "member-lag"}
    assert {host: each.absent for host, each in found.items()} == {
        f"127.0.0.1:{late.port}": "it lags 3,600 s on purpose", f"127.0.0.1:{named.port}": "WHIMBREL_HEALTH_IGNORE_MEMBERS names it",
        "db9:27017": "WHIMBREL_HEALTH_IGNORE_MEMBERS names it, but the replica set has no member of this name",
    }  # fmt: skip
    (voter,) = [each for each in preflighted if each.check == "members"]
    assert voter.level == "warning"
    assert f"lag on purpose, and vote: 127.0.0.1:{late.port} (3,600 s)" in voter.reason
    assert [each.level for each in preflighted if each.check == "health"] == ["info", "warning"]


def test_a_frozen_member_is_silent_long_before_the_election_timeout(
    replicas: ReplicaSet, watch: Watch
) -> None:
    member = replicas.secondaries()[0]
    member.freeze()
    try:
        watch.until("member-silence", Level.SLOW)
        assert f"127.0.0.1:{member.port}" in watch.said("member-silence")
        silent = basic(replicas, watch)["member-silence", f"127.0.0.1:{member.port}"].value
        assert silent is not None
        assert silent > 0, "it does not answer a user who has readWrite alone either"
    finally:
        member.thaw()
    watch.until("member-silence", Level.OK)


def test_a_member_that_is_down_leaves_no_more_than_a_majority(replicas: ReplicaSet, watch: Watch) -> None:
    member = replicas.secondaries()[0]
    member.kill()
    try:
        verdict = watch.until("members-down", Level.STOP, 60)
        assert str(member.port) in watch.said("members-down")
        assert verdict.share == 0.0
    finally:
        replicas.restart(member)
    watch.until("members-down", Level.OK, 60)


def test_a_new_primary_stops_runs_for_a_while(replicas: ReplicaSet, watch: Watch) -> None:
    replicas.step_down()
    replicas.wait_secondaries()
    watch.until("new-primary", Level.STOP)
    assert watch.said("new-primary").startswith("a new primary was elected")


def test_a_small_cache_is_dirty_full_of_updates_and_evicts(replicas: ReplicaSet, watch: Watch) -> None:
    """The runtime option takes 16 MB, the start option 256 MB at least."""
    with replicas.primary().client() as client:

        def size(megabytes: int) -> None:
            client.admin.command(
                {"setParameter": 1, "wiredTigerEngineRuntimeConfig": f"cache_size={megabytes}M"}
            )

        size(16)
        try:
            with writing(watch.store, size=4000, threads=3):
                seen: set[str] = set()

                def all_seen() -> bool:
                    verdict = watch.sample()
                    seen.update(
                        name
                        for name, state in verdict.signals.items()
                        if state.level in (Level.SLOW, Level.STOP)
                    )
                    return {"cache-dirty", "cache-updates"} <= seen and bool(
                        seen & {"application-evictions", "cache-used"}
                    )

                eventually(all_seen, 60)
        finally:
            size(256)
    watch.until("cache-dirty", Level.OK, 60)
    watch.until("cache-updates", Level.OK, 60)


@pytest.mark.parametrize(("name", "command", "least", "told"), [
    ("read-canary", "find", 120, "a read by _id"), ("write-canary", "update", 350, "a small majority write"),
])  # fmt: skip
def test_a_canary_is_compared_with_its_own_past_and_counts_while_others_are_at_work(
    replicas: ReplicaSet, watch: Watch, name: str, command: str, least: int, told: str
) -> None:
    for _ in range(10):
        watch.sample()
    at_work(watch.store)  # while nothing is at work, what it takes is what it takes
    milliseconds = max(least, int(12 * (watch.verdict.signals[name].usual or 0.0)))  # on a busy machine more
    slow = {"failCommands": [command], "blockConnection": True, "blockTimeMS": milliseconds, "appName": "whimbrel"}  # fmt: skip
    with replicas.primary().client() as client:
        with fail_point(client, "failCommand", **slow):
            for _ in range(4):
                state = watch.sample().signals[name]
            assert (state.level, NOBODY in state.how) == (Level.OK, True)
            assert (state.value or 0.0) >= milliseconds, "it is shown all the same"
            with application(replicas, watch):
                watch.until(name, Level.STOP)
                assert re.search(
                    rf"^{told} .* > [\d.,]+ x its usual [\d.,]+ ms on 127.0.0.1:\d+", watch.said(name)
                )
                assert watch.verdict.share == 0.0
        with application(replicas, watch):
            watch.until(name, Level.OK)


def test_a_load_that_an_application_suffers_from_is_noticed_and_the_share_comes_back_after_it(
    replicas: ReplicaSet, watch: Watch
) -> None:
    """No fail point: as many writes as the servers can take, as a run without a gate has them."""
    for _ in range(10):
        watch.sample()
    at_work(watch.store)
    with application(replicas, watch):
        assert watch.verdict.share <= START, "beside others a run begins with a part of its speed"
        before = watch.verdict.share
        with writing(watch.store, size=500, threads=4):
            eventually(
                lambda: {"read-canary", "write-canary"} & {each.signal for each in watch.sample().reasons}, 60
            )
            eventually(lambda: watch.sample().share < before, 60)
        eventually(lambda: watch.sample().level is Level.OK, 60)
        least = watch.verdict.share
        eventually(lambda: watch.sample().share > least, 60)


def test_operations_that_wait_for_tickets_are_seen(replicas: ReplicaSet, watch: Watch) -> None:
    primary = replicas.primary()
    with (
        primary.client() as client,
        parameter(client, wiredTigerConcurrentWriteTransactions=6),
        writing(watch.store, threads=20),
    ):
        with locked(primary):  # no write gets on, ours neither
            watch.until("ticket-queue", Level.STOP, 60)
        watch.until("ticket-queue", Level.OK, 60)


def test_write_conflicts_are_counted(replicas: ReplicaSet, watch: Watch) -> None:
    with (
        replicas.primary().client() as client,
        fail_point(client, "WTWriteConflictException", {"activationProbability": 0.3}),
        writing(watch.store, threads=2),
    ):
        watch.until("write-conflicts", Level.SLOW, 60)
    watch.until("write-conflicts", Level.OK, 60)


def test_an_index_build_on_the_runs_collection_is_seen(replicas: ReplicaSet, watch: Watch) -> None:
    at_work(watch.store)
    with replicas.primary().client() as client, fail_point(client, "hangAfterStartingIndexBuild"):
        building = threading.Thread(
            target=watch.store.client[watch.store.database]["things"].create_index, args=[[("at", 1)]]
        )
        building.start()
        verdict = watch.until("index-build", Level.SLOW, 60)
        assert verdict.share >= 0.25, "it only goes slower"
    building.join()


def test_disk_and_connections_slow_down_to_half_and_stop_at_their_threshold(watch: Watch) -> None:
    """The threshold is moved to the real value: to fill a disk takes too long."""
    for name, slow, stop in (("disk-used", 0.001, 100.0), ("connections-free", 100.0, 0.0)):
        change_thresholds(watch.store.ledger, name, slow=slow, stop=stop, who="test")
        watch.until(name, Level.SLOW)

    def halved() -> bool:
        time.sleep(PAUSE)
        return watch.sample().share == 0.5

    eventually(halved)  # going slower does not cure it; what else is slow for a moment passes
    for name, threshold in (("disk-used", 0.001), ("connections-free", 100.0)):
        change_thresholds(watch.store.ledger, name, slow=threshold, stop=threshold, who="test")
        assert watch.until(name, Level.STOP).share == 0.0


def test_what_stops_being_readable_slows_and_then_stops(replicas: ReplicaSet, watch: Watch) -> None:
    commands = {"failCommands": ["serverStatus"], "errorCode": 13}
    with replicas.primary().client() as client, fail_point(client, "failCommand", **commands):
        watch.until("cache-dirty", Level.SLOW)
        assert "cannot be read" in watch.said("cache-dirty")
        assert watch.until("cache-dirty", Level.STOP).share == 0.0
    watch.until("cache-dirty", Level.OK)
