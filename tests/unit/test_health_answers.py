"""Signals in the answers of MongoDB's versions: 6.0.5 as it was recorded, 7.0 and 8.0 in the shape of their manuals, replica sets by hand."""

import json
from copy import deepcopy
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from bson import Timestamp, json_util

from whimbrel.domain.health.readings import Reading
from whimbrel.domain.health.replica_set_status import member_readings
from whimbrel.domain.health.server_status import oplog_window, server_readings
from whimbrel.domain.health.signals import SIGNALS

RECORDED: dict[str, Any] = json_util.loads(
    (Path(__file__).parents[1] / "data/server_status/6.0.5.json").read_text()
)
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
        (changed(RECORDED, "globalLock", "currentQueue", value={"total": 13, "readers": 4, "writers": 9}), "serverStatus.globalLock.currentQueue"),
        (changed(RECORDED, "wiredTiger", "concurrentTransactions", value=SEVEN), "serverStatus.wiredTiger.concurrentTransactions.read"),
        (changed(RECORDED, "wiredTiger", "concurrentTransactions", value=SEVEN_NESTED), "serverStatus.wiredTiger.concurrentTransactions.read.normalPriority"),
        (changed(without(RECORDED, "wiredTiger", "concurrentTransactions"), "queues", value=EIGHT), "serverStatus.queues.execution.read.normalPriority"),
    ],
    ids=["6.0", "7.0", "7.0 nested", "8.0"],
)  # fmt: skip
def test_the_queue_is_found_in_every_version_and_our_own_slots_are_subtracted(status: dict[str, Any], how: str) -> None:  # fmt: skip
    found = readings(status, own=6)["ticket-queue"]
    assert (found.value, found.how) == (7, how)
    assert readings(status, own=60)["ticket-queue"].value == 0


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


def test_delayed_restored_and_recovering_members_are_left_out() -> None:
    status = replica_set(member(1, 1), member(2, 2, behind=25.0), member(3, 2, behind=72_000.0), member(4, 5, behind=99.0), member(5, 7), member(6, 2, behind=0.1))  # fmt: skip
    config = {"members": [{"host": "host2:27017", "secondaryDelaySecs": 20}, {"host": "host6:27017", "secondaryDelaySecs": 0}]}  # fmt: skip
    lags = {
        host: value for (signal, host), value in members(status, config).items() if signal == "member-lag"
    }
    assert lags == {"host6:27017": 0.1}


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


def test_a_member_counts_as_silent_after_three_heartbeats() -> None:
    (reading,) = [each for each in member_readings(replica_set(member(1, 1), member(2, 2, heard=6.5)), None) if each.signal == "member-silence"]  # fmt: skip
    assert (reading.value, reading.slow) == (6.5, 6.0)


def test_the_recorded_answer_is_what_it_says() -> None:
    assert json.dumps(RECORDED["version"]) == '"6.0.5"'
