"""Signals in the answers of MongoDB's versions: 6.0.5 as it was recorded, 7.0 and 8.0 in the shape of their manuals, replica sets by hand."""

import json
import re
from copy import deepcopy
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from bson import Timestamp, json_util

from whimbrel.domain.health.hello_answers import hello_readings, majority_reading, other_hosts
from whimbrel.domain.health.members_left_out import Newcomers
from whimbrel.domain.health.readings import Reading
from whimbrel.domain.health.replica_set_status import member_readings
from whimbrel.domain.health.server_paths import PLACES
from whimbrel.domain.health.server_status import oplog_window, server_readings
from whimbrel.domain.health.signals import SIGNALS

DATA = Path(__file__).parents[1] / "data/server_status"
RECORDED: dict[str, Any] = json_util.loads((DATA / "6.0.5.json").read_text())
NOW = datetime(2026, 11, 30, 12, 0, 0, tzinfo=UTC)


def readings(status: dict[str, Any], before: dict[str, Any] | None = None, *, seconds: float = 1.0, own: int = 0) -> dict[str, Reading]:  # fmt: skip
    found = list(server_readings(status, before, seconds, own_slots=own))
    assert len({each.signal for each in found}) == len(found)
    assert {each.signal for each in found} <= SIGNALS.keys()
    return {each.signal: each for each in found}


def changed(status: dict[str, Any], *path: str, value: Any) -> dict[str, Any]:
    found = deepcopy(status)
    inner = found
    for name in path[:-1]:
        inner = inner.setdefault(name, {})
    inner[path[-1]] = value
    return found


def without(status: dict[str, Any], *path: str) -> dict[str, Any]:
    found = deepcopy(status)
    inner = found
    for name in path[:-1]:
        inner = inner[name]
    del inner[path[-1]]
    return found


def test_a_recorded_answer_of_6_0_has_every_signal() -> None:
    found = readings(RECORDED, RECORDED)
    assert all(each.value is not None for each in found.values()), found
    cache = RECORDED["wiredTiger"]["cache"]
    assert found["cache-dirty"].value == pytest.approx(
        100 * cache["tracked dirty bytes in the cache"] / 536870912
    )
    assert found["cache-updates"].value == pytest.approx(
        100 * cache["bytes allocated for updates"] / 536870912
    )
    assert found["connections-free"].value == pytest.approx(100 * 15996 / 16000)
    assert found["flow-control-lagged"].value == 0
    assert found["cache-dirty"].host == "host1:27017"


def test_counters_are_compared_with_the_answer_before() -> None:
    path = ("wiredTiger", "cache", "pages evicted by application threads")
    before = changed(RECORDED, *path, value=100)
    now = changed(RECORDED, *path, value=300)
    assert readings(now, before, seconds=2.0)["application-evictions"].value == 100
    assert readings(now, None)["application-evictions"].value == 0, "nothing to compare with"
    assert readings(before, now)["application-evictions"].value == 0, "the server was started again"
    other = changed(before, "host", value="host2:27017")
    assert readings(now, other)["application-evictions"].value == 0, "it is another server"
    slower = changed(RECORDED, "opLatencies", value={"reads": {"latency": 2383 + 9000, "ops": 4 + 3}, "writes": {"latency": 1000, "ops": 1}})  # fmt: skip
    assert readings(slower, RECORDED)["operation-latency"].value == pytest.approx(2.5), (
        "10 ms in 4 operations"
    )
    held = changed(RECORDED, "flowControl", "timeAcquiringMicros", value=RECORDED["flowControl"]["timeAcquiringMicros"] + 80_000)  # fmt: skip
    assert readings(held, RECORDED)["flow-control"].value == pytest.approx(80)
    lagged = changed(RECORDED, "flowControl", "isLaggedTimeMicros", value=5)
    assert readings(lagged, RECORDED)["flow-control-lagged"].value == 1
    assert (
        readings(changed(RECORDED, "flowControl", "isLagged", value=True))["flow-control-lagged"].value == 1
    )


# Where each version has its queues, by the manuals of serverStatus: 8.0 `queues.execution`, 7.0 `wiredTiger.concurrentTransactions`.
SEVEN = {"read": {"out": 3, "available": 20, "totalTickets": 23, "queueLength": 4}, "write": {"out": 5, "available": 9, "totalTickets": 14, "queueLength": 9}}  # fmt: skip
SEVEN_NESTED = {
    name: {
        "out": 3,
        "available": 20,
        "normalPriority": {"addedToQueue": 9, "queueLength": length},
        "exempt": {},
    }
    for name, length in (("read", 4), ("write", 9))
}
EIGHT = {
    "execution": {
        name: {"out": 3, "available": 0, "totalTickets": 3, "normalPriority": {"queueLength": length, "totalTimeQueuedMicros": 7}}
        for name, length in (("read", 4), ("write", 9))
    },
    "ingress": {"out": 0},
}  # fmt: skip


@pytest.mark.parametrize(
    ("status", "how"),
    [
        (changed(RECORDED, "globalLock", "currentQueue", value={"total": 13, "readers": 4, "writers": 9}), "serverStatus.globalLock.currentQueue.*"),
        (changed(RECORDED, "wiredTiger", "concurrentTransactions", value=SEVEN), "serverStatus.wiredTiger.concurrentTransactions.*.queueLength"),
        (changed(RECORDED, "wiredTiger", "concurrentTransactions", value=SEVEN_NESTED), "serverStatus.wiredTiger.concurrentTransactions.*.normalPriority.queueLength"),
        (changed(without(RECORDED, "wiredTiger", "concurrentTransactions"), "queues", value=EIGHT), "serverStatus.queues.execution.*.normalPriority.queueLength"),
    ],
    ids=["6.0", "7.0", "7.0 nested", "8.0"],
)  # fmt: skip
def test_the_queue_is_found_in_every_version_and_our_own_slots_are_subtracted(status: dict[str, Any], how: str) -> None:  # fmt: skip
    found = readings(status, own=6)["ticket-queue"]
    assert (found.value, found.how) == (7, how)
    assert readings(status, own=60)["ticket-queue"].value == 0


@pytest.mark.parametrize("version", ["7.0", "8.0"])
def test_answers_in_the_shape_of_the_manuals_of_7_0_and_8_0_have_every_signal(version: str) -> None:
    status: dict[str, Any] = json_util.loads((DATA / f"{version}.json").read_text())
    found = {name: each.value for name, each in readings(status, status).items()}
    assert found == {
        "cache-dirty": 3.0, "cache-updates": 4.0, "cache-used": 80.0, "application-evictions": 0.0, "write-conflicts": 0.0, "ticket-queue": 7.0,
        "connections-free": 80.0, "flow-control": 0.0, "flow-control-lagged": 0.0, "operation-latency": 0.0,
    }  # fmt: skip


def test_the_page_has_the_table_of_versions() -> None:
    """Each place that the code looks at stands in docs/health.md, and no other."""
    page = (Path(__file__).parents[2] / "docs/health.md").read_text()
    rows = re.findall(r"^\| (\d\.\d) \| `([^`]+)` \|", page, re.MULTILINE)
    assert sorted(rows) == sorted(
        {(place.since, place.shown) for places in PLACES.values() for place in places}
    )


@pytest.mark.parametrize(
    ("path", "signals"),
    [
        (("wiredTiger", "cache", "tracked dirty bytes in the cache"), {"cache-dirty"}),
        (("wiredTiger", "cache", "bytes allocated for updates"), {"cache-updates"}),
        (("wiredTiger", "cache", "maximum bytes configured"), {"cache-dirty", "cache-updates", "cache-used"}),
        (("wiredTiger",), {"cache-dirty", "cache-updates", "cache-used", "application-evictions"}),
        (("flowControl",), {"flow-control", "flow-control-lagged"}),
        (("connections",), {"connections-free"}),
        (("metrics",), {"write-conflicts"}),
        (("opLatencies", "writes"), {"operation-latency"}),
        (("globalLock",), {"ticket-queue"}),
    ],
)
def test_what_a_server_does_not_tell_is_unknown_and_never_0(path: tuple[str, ...], signals: set[str]) -> None:
    found = readings(without(RECORDED, *path), RECORDED)
    assert {name for name, each in found.items() if each.value is None} == signals
    assert all("is not in the server's answer" in found[name].problem for name in signals)


def test_an_oplog_is_judged_only_when_it_is_full() -> None:
    status = changed(RECORDED, "oplog", value={"earliestOptime": Timestamp(1_000_000, 1), "latestOptime": Timestamp(1_005_400, 1)})  # fmt: skip
    assert oplog_window(status, 95.0, 100.0).value == 1.5
    young = oplog_window(status, 40.0, 100.0)
    assert (young.value, young.problem, young.absent) == (None, "", "the oplog is not full yet")
    assert oplog_window(status, None, None).problem == "the oplog's size cannot be read"
    assert "is not in the server's answer" in oplog_window(without(status, "oplog"), 95.0, 100.0).problem


def member(
    number: int, state: int, *, behind: float = 0.0, heard: float = 0.5, **fields: Any
) -> dict[str, Any]:
    row: dict[str, Any] = {
        "_id": number, "name": f"host{number}:27017", "health": 1.0, "state": state, "stateStr": "", "optimeDate": NOW - timedelta(seconds=behind + 2),
        "lastAppliedWallTime": NOW - timedelta(seconds=behind), **fields,
    }  # fmt: skip
    if state != 1:
        row["lastHeartbeatRecv"] = NOW - timedelta(seconds=heard)
    return row


def replica_set(*members: dict[str, Any], committed: float = 0.0) -> dict[str, Any]:
    return {
        "date": NOW, "heartbeatIntervalMillis": 2000, "writeMajorityCount": len(members) // 2 + 1, "members": list(members),
        "optimes": {"lastAppliedWallTime": NOW, "lastCommittedWallTime": NOW - timedelta(seconds=committed)},
    }  # fmt: skip


def members(status: dict[str, Any], config: dict[str, Any] | None = None) -> dict[tuple[str, str], Any]:
    return {(each.signal, each.host): each.absent or each.value for each in member_readings(status, config)}


def test_lag_is_read_of_the_wall_time_and_of_each_secondary() -> None:
    found = members(replica_set(member(1, 1), member(2, 2, behind=2.4), member(3, 2), committed=1.5))
    assert found == {
        ("member-lag", "host2:27017"): 2.4, ("member-lag", "host3:27017"): 0.0, ("member-silence", "host2:27017"): 0.5, ("member-silence", "host3:27017"): 0.5,
        ("majority-lag", "host1:27017"): 1.5, ("members-down", "host1:27017"): 0.0,
    }  # fmt: skip


def test_where_there_is_no_wall_time_its_rounded_neighbour_is_corrected() -> None:
    rows = [member(1, 1), member(2, 2, behind=9.0), member(3, 2, behind=1.0)]
    for row in rows:
        del row["lastAppliedWallTime"]
    found = members(replica_set(*rows))
    assert (found["member-lag", "host2:27017"], found["member-lag", "host3:27017"]) == (6.0, 0.0)


def lags(
    status: dict[str, Any], config: dict[str, Any] | None = None, *, ignored: frozenset[str] = frozenset(), newcomers: Newcomers | None = None
) -> dict[str, Any]:  # fmt: skip
    found = member_readings(status, config, ignored, newcomers)
    return {each.host: each.absent or each.value for each in found if each.signal == "member-lag"}


def test_delayed_restored_and_recovering_members_are_named_and_left_out() -> None:
    status = replica_set(member(1, 1), member(2, 2, behind=25.0), member(3, 2, behind=72_000.0), member(4, 5, behind=99.0), member(5, 7), member(6, 2, behind=0.1), member(7, 3))  # fmt: skip
    config = {"members": [{"host": "host2:27017", "secondaryDelaySecs": 20}, {"host": "host6:27017", "secondaryDelaySecs": 0}]}  # fmt: skip
    assert lags(status, config) == {
        "host2:27017": "it lags 20 s on purpose",
        "host3:27017": "more than an hour behind when it was first seen",
        "host4:27017": "STARTUP2: it is being built or restored",
        "host6:27017": 0.1,
        "host7:27017": "RECOVERING: it is being built or restored",
    }


def test_a_member_that_was_far_behind_at_first_counts_once_it_has_caught_up() -> None:
    """And one that falls behind while it is watched counts all the time: it is what runs wait for."""
    newcomers, found = Newcomers(), []
    for restored, other in ((72_000.0, 0.0), (900.0, 60.0), (3.0, 3700.0), (1.0, 7200.0), (4.0, 1.0)):
        status = replica_set(member(1, 1), member(2, 2, behind=restored), member(3, 2, behind=other))
        found.append(tuple(lags(status, newcomers=newcomers).values()))
    why = "more than an hour behind when it was first seen"
    assert found == [(why, 0.0), (why, 60.0), (why, 3700.0), (1.0, 7200.0), (4.0, 1.0)]
    built = Newcomers()
    assert "STARTUP2" in lags(replica_set(member(1, 1), member(2, 5)), newcomers=built)["host2:27017"]
    assert (
        "STARTUP2" in lags(replica_set(member(1, 1), member(2, 2, behind=30)), newcomers=built)["host2:27017"]
    )
    assert lags(replica_set(member(1, 1), member(2, 2)), newcomers=built) == {"host2:27017": 0.0}
    lags(replica_set(member(1, 1)), newcomers=built)
    assert not built.seen & {"host2:27017"}, "members that are gone are forgotten"


def test_members_that_a_person_has_named_do_not_count_and_unknown_ones_are_told() -> None:
    status = replica_set(
        member(1, 1), member(2, 2, behind=99.0, heard=50.0), member(3, 2), member(4, 8, health=0.0)
    )
    named = frozenset({"host2:27017", "host4:27017", "host9:27017"})
    found = [(each.signal, each.host, each.value) for each in member_readings(status, None, named) if each.value is not None]  # fmt: skip
    assert found == [
        ("member-lag", "host3:27017", 0.0), ("member-silence", "host3:27017", 0.5), ("majority-lag", "host1:27017", 0.0), ("members-down", "host1:27017", 0.0),
    ]  # fmt: skip
    assert lags(status, ignored=named) == {
        "host2:27017": "WHIMBREL_HEALTH_IGNORE_MEMBERS names it", "host3:27017": 0.0, "host4:27017": "WHIMBREL_HEALTH_IGNORE_MEMBERS names it",
        "host9:27017": "WHIMBREL_HEALTH_IGNORE_MEMBERS names it, but the replica set has no member of this name",
    }  # fmt: skip


def test_members_that_are_down_slow_and_the_last_majority_stops() -> None:
    def down(count: int, of: int = 5) -> float:
        rows = [member(1, 1), *(member(number, 8, health=0.0) for number in range(2, 2 + count)), *(member(number, 2) for number in range(2 + count, of + 1))]  # fmt: skip
        found = members(replica_set(*rows))
        (value,) = (value for (signal, _), value in found.items() if signal == "members-down")
        return float(value)

    assert [down(0), down(1), down(2)] == [0.0, 1.0, 2.0]
    assert down(1, of=3) == 2.0
    alone = members(replica_set(member(1, 1)))
    assert alone["members-down", "host1:27017"] == 0.0
    assert alone["member-lag", ""] == "there is no other member"


def down_with(config: dict[str, Any], *rows: dict[str, Any]) -> float | None:
    status = {**replica_set(*rows), "writeMajorityCount": 2}
    (found,) = (each.value for each in member_readings(status, config) if each.signal == "members-down")
    return found


def test_only_voters_that_hold_data_and_are_in_time_make_a_majority() -> None:
    rows = [member(1, 1), member(2, 8, health=0.0), *(member(number, 2) for number in (3, 4, 5))]
    votes = {"members": [{"host": f"host{number}:27017", "votes": int(number < 4)} for number in range(1, 6)]}
    assert down_with(votes, *rows) == 2.0, "two of three voters are left, however many others there are"
    assert down_with({"members": []}, *rows) == 1.0
    arbiter = [member(1, 1), member(2, 8, health=0.0), member(3, 7)]
    assert down_with({"members": []}, *arbiter) == 2.0, "an arbiter acknowledges nothing"
    late = {"members": [{"host": "host3:27017", "secondaryDelaySecs": 60}]}
    assert down_with(late, member(1, 1), member(2, 8, health=0.0), member(3, 2), member(4, 2)) == 2.0
    assert down_with({"members": []}, member(1, 1), member(2, 3), member(3, 2)) == 0.0, "it is being restored"
    assert down_with({"members": []}, member(1, 1), member(2, 9), member(3, 2), member(4, 2)) == 1.0, (
        "ROLLBACK"
    )


def said(me: str, written: float, *, majority: float = 0.0, **fields: Any) -> dict[str, Any]:
    """As `hello` answers: times in whole seconds."""
    last = {
        "lastWriteDate": NOW - timedelta(seconds=written),
        "majorityWriteDate": NOW - timedelta(seconds=majority),
    }
    return {"me": me, "secondary": True, "lastWrite": last, **fields}


def test_by_hello_each_member_is_compared_with_the_primary_in_whole_seconds() -> None:
    primary = said("a:1", 0.0, majority=4.0, secondary=False, hosts=["a:1", "b:1", "c:1"], passives=["d:1", "e:1", "f:1"], arbiters=["z:1"])  # fmt: skip
    assert other_hosts(primary) == ["b:1", "c:1", "d:1", "e:1", "f:1"]
    assert majority_reading(primary).value == 3.0
    answers = {
        "b:1": said("b:1", 6.0), "c:1": None, "d:1": said("d:1", 90.0, secondaryDelaySecs=60), "e:1": said("e:1", 0.0, secondary=False), "f:1": said("f:1", 9.0),
    }  # fmt: skip
    found = list(hello_readings(primary, answers, {"c:1": 7.5}, frozenset({"f:1", "q:1"}), Newcomers()))
    assert {each.host: each.value or each.absent for each in found if each.signal == "member-lag"} == {
        "b:1": 5.0, "d:1": "it lags 60 s on purpose", "e:1": "STARTUP2: it is being built or restored",
        "f:1": "WHIMBREL_HEALTH_IGNORE_MEMBERS names it",
        "q:1": "WHIMBREL_HEALTH_IGNORE_MEMBERS names it, but the replica set has no member of this name",
    }  # fmt: skip
    assert {each.host: each.value for each in found if each.signal == "member-silence"} == {"b:1": 0.0, "c:1": 7.5, "d:1": 0.0, "e:1": 0.0}  # fmt: skip
    assert all(each.lesser for each in found if each.value is not None)
    alone = list(hello_readings(said("a:1", 0.0), {}, {}, frozenset(), Newcomers()))
    assert {each.absent for each in alone} == {"there is no other member"}


def test_a_member_counts_as_silent_after_three_heartbeats() -> None:
    (reading,) = [each for each in member_readings(replica_set(member(1, 1), member(2, 2, heard=6.5)), None) if each.signal == "member-silence"]  # fmt: skip
    assert (reading.value, reading.slow) == (6.5, 6.0)


def test_the_recorded_answer_is_what_it_says() -> None:
    assert json.dumps(RECORDED["version"]) == '"6.0.5"'
