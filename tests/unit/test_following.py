"""What is told of runs that follow, in which order their phases come, and what a reader of changes keeps."""

import threading
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from tests.waiting import until
from whimbrel.domain.bson.raw_bson import Key
from whimbrel.domain.runs.following import Following
from whimbrel.domain.runs.run import Counts, Phase, Run, Scope, legs_of
from whimbrel.domain.runs.states import RunStatus
from whimbrel.domain.runs.tiling import Tile, Tiling, fault_of, tile_of
from whimbrel.engine.coordinating import change_reader
from whimbrel.engine.coordinating.change_reader import ChangeReader
from whimbrel.engine.operating.following_runs import following_sentence
from whimbrel.errors import Transient
from whimbrel.ports import Change

NOON = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)
LEGS: tuple[Phase, ...] = ("pending", "failed", "sweep", "follow", "sweep", "failed")


def test_the_phases_of_a_run_that_follows() -> None:
    everything = Scope()
    assert legs_of(mark="marker", scope=everything, first=None, follow=True) == LEGS
    with_statuses = legs_of(mark="status", scope=everything, first=None, follow=True)
    assert with_statuses == ("pending", "processing", *LEGS[1:])
    for scope, first in ((Scope("first", 5), None), (everything, "failed"), (everything, "processing")):
        legs = legs_of(mark="status", scope=scope, first=first, follow=True)  # type: ignore[arg-type]
        assert "follow" not in legs


def test_ranges_tile_whatever_was_merged_while_a_run_followed() -> None:
    end = Key.of(5)
    tiles = [
        Tile(seq=1, leg=0, lo=None, hi=end, last=True),
        Tile(seq=2, leg=2, lo=None, hi=end, last=True),
        Tile(seq=3, leg=3, lo=None, hi=None, ranged=False, through=700),
        Tile(seq=701, leg=3, lo=None, hi=None, ranged=False),
        Tile(seq=702, leg=4, lo=None, hi=end, last=True),
    ]
    assert fault_of(tile_of(Tiling(), tiles), LEGS) is None
    lost = tile_of(Tiling(), [*tiles[:3], replace(tiles[3], seq=703)])
    assert lost.fault is not None
    assert (lost.fault.seq, lost.fault.kind) == (701, "missing")
    assert fault_of(tile_of(Tiling(), tiles[:4]), LEGS) is not None, "the last sweep is not there"


def run_of(follow: Following, leg: int = 3, status: RunStatus = RunStatus.RUNNING) -> Run:
    return Run(
        id="20261124-abc234", migration="m", version=1, database="d", collection="c", filter=b"\x05\0\0\0\0", mark="marker",
        status_field="status", declarative=True, claim=False, adopt="ours", scope=Scope(), legs=LEGS, leg=leg, status=status,
        batch_size=10, max_attempts=3, retry_delay=1, timeout=1, code_hash="", created_at=NOON, updated_at=NOON, follow=follow,
    )  # fmt: skip


def told(run: Run, seconds: float = 0.0) -> str:
    return following_sentence(run, Counts(changed=1304), NOON + timedelta(seconds=seconds))


def test_what_people_are_told() -> None:
    since = (NOON - timedelta(hours=1)).astimezone()
    follow = Following(position=b"", at=NOON, since=since, counted=100)
    assert told(run_of(Following())) == "will follow after its sweep"
    assert told(run_of(Following(wanted=False))) == "was told not to follow"
    ending = f"{since:%H:%M}, up to date, 1,204 documents since the sweep"
    assert told(run_of(follow), 1).endswith(ending)
    assert told(run_of(follow), 1).startswith("follows since")
    assert ", 3 s behind, " in told(run_of(follow), 3)
    assert ", 10 min behind, " in told(run_of(follow, status=RunStatus.PAUSED), 600)
    assert told(run_of(replace(follow, lost=2)), 1).endswith("changes lost and swept for 2 times")
    assert told(run_of(follow, leg=2)).startswith("sweeps, as it was not known any more")
    assert told(run_of(replace(follow, wanted=False))).startswith("was told to end")
    assert told(run_of(follow, 5, RunStatus.COMPLETED)).startswith("followed since 2026-")


class Script:
    """Changes as a stream would tell them."""

    def __init__(self, keys: Sequence[int], error: Exception | None = None) -> None:
        self._keys, self._error, self._read = list(keys), error, 0
        self.go_on = threading.Event()
        self.closed = False

    def next(self) -> Change | None:
        if self._read < len(self._keys):
            self._read += 1
            return Change(
                Key.of(self._keys[self._read - 1]), b"%d" % self._read, NOON + timedelta(seconds=self._read)
            )
        if self._error is not None:
            raise self._error
        self.go_on.wait(0.01)
        return None

    @property
    def position(self) -> bytes:
        return b"idle"

    def close(self) -> None:
        self.closed = True


def test_a_reader_gives_each_document_once_and_the_position_behind_what_it_gave() -> None:
    script = Script([1, 1, 2, 1, 3])
    reader = ChangeReader(lambda: script, "test")
    until(lambda: reader.waiting == 5)
    first = reader.take(2)
    assert first is not None
    assert [key.value for key in first.keys] == [1, 2]
    assert (first.position, first.at) == (b"4", NOON + timedelta(seconds=4))
    rest = until(lambda: reader.take(10))
    assert [key.value for key in rest.keys] == [3]
    idle = until(lambda: reader.take(10))
    assert (idle.keys, idle.position, idle.at) == ((), b"idle", None)
    reader.stop()
    until(lambda: script.closed)
    assert reader.ended


def test_what_was_read_before_an_error_is_given_before_it() -> None:
    reader = ChangeReader(lambda: Script([1, 2], Transient("away")), "test")
    until(lambda: reader.waiting == 2)
    taken = reader.take(10)
    assert taken is not None
    assert (len(taken.keys), taken.position) == (2, b"2")

    def raised() -> bool:
        try:
            reader.take(10)
        except Transient:
            return True
        return False

    until(raised)
    assert not reader.ended, "its error is not forgotten"


def test_a_reader_holds_no_more_than_it_may_and_ends_where_nobody_asks(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(change_reader, "HELD", 10)
    script = Script(range(100))
    reader = ChangeReader(lambda: script, "test")
    until(lambda: reader.waiting == 10)
    taken = reader.take(100)
    assert taken is not None
    assert len(taken.keys) == 10
    monkeypatch.setattr(change_reader, "UNASKED_SECONDS", 0.0)
    until(lambda: reader.ended)
    until(lambda: script.closed)
