"""The stream of all runs, over looks that are given: what is told, to whom, and what happens to those who come back or are slow."""

import asyncio
import json
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from itertools import count
from typing import Any, cast

import pytest

from whimbrel.api import run_stream
from whimbrel.api.event_streams import EventStreams
from whimbrel.api.http_errors import ApiError
from whimbrel.api.run_stream import RunLog
from whimbrel.engine.operating.overview import Overview
from whimbrel.engine.operating.overview_changes import AT_ONCE, changes, first_known
from whimbrel.errors import Systemic, Transient
from whimbrel.ports import Ledger

WELL = {"state": "ok", "share": 1.0, "since": None, "said": None, "worst": None}
THAWED = {"frozen": False, "until": None, "note": ""}


def line(name: str, status: str = "running", **facts: Any) -> dict[str, Any]:
    return {
        "migrationId": name, "migration": "m", "kind": "migration", "status": status, "reason": None, "progress": 0.0,
        "openFailures": 0, "deadFailures": 0, **facts,
    }  # fmt: skip


def overview(*lines: dict[str, Any], health: dict[str, Any] = WELL, **facts: Any) -> Overview:
    given = {each["migrationId"]: each for each in lines}
    return Overview(**{"lines": given, "health": health, "freeze": THAWED, **facts})


def told(before: Overview, *after: Overview) -> list[list[tuple[str, Any]]]:
    """For each look after the first what it makes told: the name of the event, and what it is about."""
    known, found = first_known(before), []
    for look in after:
        known, events = changes(known, look)
        found.append([(name, facts.get("migrationId", facts)) for name, facts in events])
    return found


TOLD: list[tuple[str, Overview, list[Overview], list[list[Any]]]] = [
    ("nothing", overview(line("a")), [overview(line("a"))], [[]]),
    ("progress", overview(line("a")), [overview(line("a", progress=1.0))], [[("run", "a")]]),
    ("a new run", overview(), [overview(line("a", "queued"))], [[("run", "a"), ("state", "a")]]),
    (
        "its end, once",
        overview(line("a")),
        [overview(line("a", "completed")), overview()],
        [[("run", "a"), ("state", "a")], []],
    ),
    (
        "resolved failures are no new ones",
        overview(line("a", deadFailures=2)),
        [overview(line("a", deadFailures=1)), overview(line("a", deadFailures=1, openFailures=3))],
        [[("run", "a")], [("run", "a"), ("failures", "a")]],
    ),
    ("a run that was removed", overview(line("a")), [overview(gone=["a", "b"])], [[("gone", "a")]]),
    ("a run that is watched no more", overview(line("a")), [overview(dropped=["a"]), overview()], [[("gone", "a")], []]),
    (
        "health and freezes",
        overview(),
        [overview(health={**WELL, "share": 0.5}), overview(health={**WELL, "share": 0.5}, freeze={**THAWED, "frozen": True})],
        [[("health", {**WELL, "share": 0.5})], [("freeze", {**THAWED, "frozen": True})]],
    ),
]  # fmt: skip


@pytest.mark.parametrize(
    ("before", "after", "expected"), [each[1:] for each in TOLD], ids=[each[0] for each in TOLD]
)
def test_what_is_told_after_a_look(
    before: Overview, after: list[Overview], expected: list[list[Any]]
) -> None:
    assert told(before, *after) == expected


def test_what_changes_of_a_state_and_how_many_failures_are_new() -> None:
    known = first_known(overview(line("a", "running", deadFailures=2)))
    _, events = changes(
        known, overview(line("a", "paused", deadFailures=2, openFailures=3, reason="Too many."))
    )
    assert events[1:] == [
        ("state", {"migrationId": "a", "migration": "m", "kind": "migration", "before": "running", "after": "paused", "reason": "Too many."}),
        ("failures", {"migrationId": "a", "migration": "m", "new": 3, "openFailures": 3, "deadFailures": 2}),
    ]  # fmt: skip


def test_many_runs_are_told_in_turns_and_what_ends_is_told_at_once() -> None:
    names = [f"r{number:03}" for number in range(2 * AT_ONCE)]
    known = first_known(overview(*map(line, names)))
    heard: set[str] = set()
    for look in range(1, 3):
        ended = f"end{look}"
        lines = [line(name, progress=float(look)) for name in names]
        known, events = changes(known, overview(*lines, line(ended, "failed")))
        runs = [facts["migrationId"] for name, facts in events if name == "run"]
        assert len(runs) == AT_ONCE
        assert runs[0] == ended
        heard.update(runs)
    assert len(heard & set(names)) == 2 * AT_ONCE - 2
    assert set(known.lines) == set(names)  # nothing is kept of what is over


def run(scenario: Callable[[], Awaitable[None]]) -> None:
    async def within() -> None:
        async with asyncio.timeout(60):
            await scenario()

    asyncio.run(within())


async def until(condition: Callable[[], bool]) -> None:
    for _ in iter(condition, True):
        await asyncio.sleep(0.001)


class Looks:
    """Looks that a test gives one after the other; the last one is repeated."""

    def __init__(self, *overviews: Overview | Exception) -> None:
        self.given: list[Overview | Exception] = list(overviews)
        self.number = 0

    def __call__(self) -> Overview:
        self.number += 1
        found = self.given[0]
        if len(self.given) > 1:
            del self.given[0]
        if isinstance(found, Exception):
            raise found
        return found


LEDGER = cast("Ledger", object())


def log_of(
    looks: Looks, *, most: int = 100, seconds: float = 3600, leaving: Callable[[], bool] = lambda: False
) -> RunLog:
    return RunLog(EventStreams(most, seconds, leaving), watch=lambda _: looks)


@pytest.fixture(autouse=True)
def _quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_stream, "EVERY", 0.001)


async def listen(log: RunLog, last_id: str | None = None) -> AsyncIterator[dict[str, Any]]:
    """The events for one client; comments as events without a name."""
    with log.watching(LEDGER):
        await log.first()
        async for text in log.events(last_id):
            for block in filter(None, text.split("\n\n")):
                pairs = [part.partition(": ")[::2] for part in block.split("\n")]
                fields = {name or "comment": value for name, value in pairs}
                yield {**fields, "data": json.loads(fields.get("data", "null"))}


async def heard(
    log: RunLog, until: Callable[[dict[str, Any]], bool], last_id: str | None = None
) -> list[dict[str, Any]]:
    found = []
    async for event in listen(log, last_id):
        found.append(event)
        if until(event):
            break
    return found


def is_about(name: str) -> Callable[[dict[str, Any]], bool]:
    return lambda event: event.get("event") == name


def test_a_hundred_who_listen_are_one_look_and_hear_the_same() -> None:
    async def scenario() -> None:
        looks = Looks(overview(line("a")))
        log = log_of(looks)
        everybody = [asyncio.create_task(heard(log, is_about("state"))) for _ in range(100)]
        await until(lambda: log._watching == 100)
        before = looks.number
        looks.given.append(overview(line("a", "completed")))
        texts = await asyncio.gather(*everybody)
        assert looks.number - before < 100
        assert all(each[-2:] == texts[0][-2:] for each in texts)
        assert [each.get("event") for each in texts[0]] == [None, "snapshot", "run", "state"]
        assert texts[0][1]["data"]["runs"] == [line("a")]
        assert len({each["id"] for each in texts[0][1:]}) == 3

    run(scenario)


def test_who_comes_back_hears_what_has_happened_since() -> None:
    async def scenario() -> None:
        looks = Looks(overview(line("a")), overview(line("a", progress=1.0)))
        log = log_of(looks)
        first = await heard(log, is_about("run"))
        looks.given.append(overview(line("a", progress=2.0)))
        looks.given.append(overview(line("a", "completed", progress=2.0)))
        again = await heard(log, is_about("state"), first[-1]["id"])
        assert [(each.get("event"), each["data"] and each["data"].get("progress")) for each in again[1:]] == [
            ("run", 2.0), ("run", 2.0), ("state", None),
        ]  # fmt: skip

    run(scenario)


@pytest.mark.parametrize(
    "last_id", ["elsewhere-3", "{name}-99", "{name}--1", "{name}-x", "{name}-", "", "-", "x" * 100]
)
def test_who_comes_back_with_what_is_not_known_is_told_to_load_again(last_id: str) -> None:
    async def scenario() -> None:
        log = log_of(Looks(overview(line("a"))))
        first = await heard(log, is_about("snapshot"))
        name = first[-1]["id"].partition("-")[0]
        again = await heard(log, is_about("snapshot"), last_id.format(name=name))
        assert [each.get("event") for each in again] == [None, "reload", "snapshot"]

    run(scenario)


def test_who_is_too_slow_is_told_to_load_again_and_nothing_piles_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_stream, "KEPT", 10)

    async def scenario() -> None:
        numbers = count()
        looks = Looks(overview(line("a")))
        log = log_of(looks)
        slow = listen(log)
        assert [(await anext(slow)).get("event") for _ in range(2)] == [None, "snapshot"]
        looks.given = [overview(line("a", progress=float(next(numbers)))) for _ in range(40)]
        await until(lambda: log._known is not None and log._known.lines["a"]["progress"] == 39.0)
        assert len(log._kept) == 10
        missed = [await anext(slow) for _ in range(2)]
        assert [each.get("event") for each in missed] == ["reload", "snapshot"]
        assert missed[1]["data"]["runs"] == [line("a", progress=39.0)]
        await cast("Any", slow).aclose()

    run(scenario)


def test_silence_is_told_with_the_age_of_what_was_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_stream, "BEAT", 0.01)

    async def scenario() -> None:
        hangs, release = threading.Event(), threading.Event()

        class Hanging(Looks):
            def __call__(self) -> Overview:
                found = super().__call__()
                if self.number > 1:
                    hangs.set()
                    release.wait(30)
                return found

        log = log_of(Hanging(overview(line("a"))))
        ages: list[float] = []
        try:
            async for event in listen(log):
                if event.get("event") == "beat" and hangs.is_set():
                    assert event["comment"] == "it goes on"
                    ages.append(event["data"]["ageSeconds"])
                if ages and ages[-1] >= 0.2:
                    break
        finally:
            release.set()
        assert ages == sorted(ages)

    run(scenario)


def test_an_outage_is_told_once_and_heals() -> None:
    async def scenario() -> None:
        down: Sequence[Exception] = [Transient("It is away.")] * 3
        log = log_of(Looks(overview(line("a")), *down, overview(line("a", progress=1.0))))
        events = await heard(log, is_about("run"))
        assert [each.get("event") for each in events] == [None, "snapshot", "error", "run"]
        assert events[2]["data"]["error"] == "It is away."

    run(scenario)


def test_who_begins_in_an_outage_gets_the_error_and_the_next_one_begins_anew() -> None:
    async def scenario() -> None:
        log = log_of(Looks(Transient("It is away."), overview(line("a"))))
        with pytest.raises(Transient, match="It is away"):
            await heard(log, is_about("snapshot"))
        assert [each.get("event") for each in await heard(log, is_about("snapshot"))] == [None, "snapshot"]
        broken = log_of(Looks(overview(), Systemic("The ledger is newer.")))
        assert [each.get("event") for each in await heard(broken, is_about("none"))] == [
            None,
            "snapshot",
            "error",
        ]

    run(scenario)


def test_it_ends_with_the_process_and_after_its_time_and_has_a_place_only_if_there_is_one() -> None:
    async def scenario() -> None:
        leaving = False
        log = log_of(Looks(overview()), leaving=lambda: leaving)
        listening = asyncio.create_task(heard(log, is_about("none")))
        await until(lambda: log._known is not None)
        leaving = True
        assert [each.get("event") for each in await listening][-1] == "snapshot"
        short = await heard(log_of(Looks(overview()), seconds=0.05), is_about("none"))
        assert "long enough" in short[-1]["comment"]
        full = log_of(Looks(overview()), most=0)
        with pytest.raises(ApiError, match="streams are open"):
            await heard(full, is_about("snapshot"))

    run(scenario)
