"""The canaries that the sampler measures by itself, whom they protect, and how the share settles below what was too much. No server."""

import pytest

from whimbrel.domain.health.oplog_past import OplogPast
from whimbrel.domain.health.others_at_work import OthersAtWork
from whimbrel.domain.health.own_times import OwnTimes, tells_what_is_usual
from whimbrel.domain.health.readings import Reading
from whimbrel.domain.health.share import Share, first_share, next_share
from whimbrel.domain.health.signal_states import SignalState, next_state
from whimbrel.domain.health.signals import SIGNALS, Level, Thresholds
from whimbrel.domain.health.verdict import recovering, sentence_of
from whimbrel.domain.runs.chunk_size import ChunkSize
from whimbrel.domain.runs.sizing import Sizing, sizing_sentence

WRITES = SIGNALS["write-canary"]


def write_reading(times: OwnTimes, *, quiet: bool = False) -> Reading:
    return next(each for each in times.readings("db1", quiet=quiet) if each.signal == "write-canary")


def measured(*milliseconds: float, usual: float | None = None) -> OwnTimes:
    """`usual`: what writes took while no run was at work."""
    times = OwnTimes()
    for _ in range(0 if usual is None else 20):
        times.write(usual or 0.0)
    times.at_rest = False
    times.forget_newest()
    for each in milliseconds:
        times.write(each)
    return times


def test_two_bad_seconds_of_five_count_and_one_does_not() -> None:
    one_bad = measured(4, 4, 4, 4, 4, 4, 4, 4, 90, 90)
    assert write_reading(one_bad).value == 4
    assert write_reading(measured(4, 4, 4, 4, 4, 4, 90, 80, 70, 90)).value == 80
    for _ in range(10):
        one_bad.write(5)
    assert write_reading(one_bad).value == 5, "what is older than five seconds is forgotten"


def test_a_canary_is_compared_with_what_is_usual() -> None:
    def thresholds(usual: float | None) -> tuple[float | None, float | None]:
        reading = write_reading(measured(30, usual=usual))
        return reading.slow, reading.stop

    assert thresholds(9) == (18, 150), "twice what is usual"
    assert thresholds(20) == (40, 200)
    assert thresholds(2) == (12, 150), "less is good enough on any server"
    assert thresholds(None) == (12, 150)
    assert write_reading(measured(30)).usual is None


def test_what_is_usual_is_learned_while_runs_have_little_and_not_while_they_have_much() -> None:
    times = measured(*[80.0] * 30)
    assert write_reading(times).usual is None
    times.at_rest = True
    for _ in range(20):
        times.write(80)
    reading = write_reading(times)
    assert (reading.usual, reading.slow) == (80, 160), (
        "a majority far away is usual, and holds nothing back for ever"
    )


def test_a_load_or_a_backup_among_the_quiet_times_does_not_make_its_times_usual() -> None:
    """Seeding a collection before a run took ten of 25 seconds: the run went on until writes took twice what they had taken then."""
    times = OwnTimes()
    for seconds, milliseconds in ((10, 37), (15, 5)):
        for _ in range(2 * seconds):
            times.write(milliseconds)
    assert write_reading(times).usual == 5
    for _ in range(2 * 40):
        times.write(80)
    assert write_reading(times).usual == 80, "what lasts becomes usual"


@pytest.mark.parametrize(
    ("signal", "level", "at_work", "share", "usual"),
    [
        ("disk-used", Level.OK, False, 1.0, True), ("disk-used", Level.OK, True, 0.02, True), ("disk-used", Level.OK, True, 0.03, False),
        ("write-canary", Level.STOP, True, 0.0, True),  # a majority that has always been far away
        ("majority-lag", Level.STOP, True, 0.0, False), ("majority-lag", Level.STOP, False, 1.0, False),  # one that is missing now
        ("member-lag", Level.SLOW, True, 0.01, False),
    ],
)  # fmt: skip
def test_what_is_measured_while_something_else_is_wrong_is_not_usual(
    signal: str, level: Level, at_work: bool, share: float, usual: bool
) -> None:
    assert tells_what_is_usual({signal: SignalState(level=level)}, at_work=at_work, share=share) is usual


def test_the_reason_says_how_much_more_than_usual_it_is() -> None:
    state = SignalState()
    for second in range(2):
        state = next_state(
            WRITES, state, write_reading(measured(*[40.0] * 10, usual=19)), second, Thresholds()
        )
    assert sentence_of(WRITES, state) == "a small majority write 40 ms > 2 x its usual 19 ms on db1"
    for second in range(2, 4):
        state = next_state(
            WRITES, state, write_reading(measured(*[40.0] * 10, usual=19)), second, Thresholds(slow=20)
        )
    assert sentence_of(WRITES, state) == "a small majority write 40 ms > 20 ms on db1"


def test_where_nobody_else_is_at_work_it_is_only_shown_unless_a_person_has_set_thresholds() -> None:
    times, slow = measured(*[99.0] * 10), SignalState(level=Level.SLOW, value=99.0)
    quiet = next_state(WRITES, slow, write_reading(times, quiet=True), 5.0, Thresholds())
    assert (quiet.level, quiet.value) == (Level.OK, 99)
    assert "nobody else is at work on this server" in quiet.how
    state = SignalState()
    for second in range(2):
        state = next_state(WRITES, state, write_reading(times, quiet=True), second, Thresholds(slow=20))
    assert state.level is Level.SLOW


@pytest.mark.parametrize(
    ("operations", "absent", "seen"),
    [
        ([], False, False),
        ([0, 0, 0], True, False),
        ([0, 1, 0, 1], True, False),  # somebody looks now and then
        ([1, 0, 1, 0, 1], False, True),
        ([40], False, True),
        ([40, *[0] * 59], False, True),
        ([40, *[0] * 60], True, False),
        ([*[1] * 30, *[0] * 58], False, True),
        ([40, None], False, True),
        ([0, None], False, False),  # what cannot be read is nobody's absence
    ],
)
def test_others_are_at_work_from_when_they_are_seen_until_they_are_not_for_a_minute(
    operations: list[float | None], absent: bool, seen: bool
) -> None:
    others = OthersAtWork()
    for each in operations:
        others.add(each)
    assert (others.absent, others.seen) == (absent, seen)


@pytest.mark.parametrize(
    ("before", "now", "level", "said"),
    [
        (48.0, 5.0, Level.SLOW, "the oplog reaches back 5 h < 6 h on db1"),
        (48.0, 1.5, Level.STOP, "the oplog reaches back 1.5 h < 2 h on db1"),
        (0.1, 0.09, Level.OK, ""),  # it has never reached back for hours
        (0.1, 0.04, Level.SLOW, "the oplog reaches back 0.04 h < 0.5 x its usual 0.1 h on db1"),
        (0.1, 0.02, Level.STOP, "the oplog reaches back 0.02 h < 0.25 x its usual 0.1 h on db1"),
        (5.0, 4.0, Level.OK, ""),
        (5.0, 2.4, Level.SLOW, "the oplog reaches back 2.4 h < 0.5 x its usual 5 h on db1"),
    ],
)
def test_the_oplog_is_compared_with_how_far_it_reached_back_before_runs_were_at_work(
    before: float, now: float, level: Level, said: str
) -> None:
    past, state, signal = OplogPast(), SignalState(), SIGNALS["oplog-window"]
    others = Reading("disk-used", 9.0)
    for hours, at_work in ((1000.0, False), (before, False), (now, True), (now, True)):
        reading, other = past.judged([Reading("oplog-window", hours, "db1"), others], at_work=at_work)
        assert other == others
        state = next_state(signal, state, reading, 1.0, Thresholds())
    assert state.level is level
    assert said in ("", sentence_of(signal, state))


def test_an_oplog_that_is_read_first_while_runs_are_at_work_is_compared_with_that() -> None:
    past = OplogPast()
    assert next(iter(past.judged([Reading("oplog-window", None, absent="not full")], at_work=True))).absent
    (reading,) = past.judged([Reading("oplog-window", 1.0)], at_work=True)
    assert (reading.slow, reading.stop, past.usual) == (0.5, 0.25, 1.0)
    (reading,) = past.judged([Reading("oplog-window", 0.1)], at_work=True)
    assert (reading.slow, past.usual) == (0.5, 1.0)


# How the share settles


def after(share: Share, levels: str, *, recovers: str = "") -> list[float]:
    """The shares second by second. `levels`: o, s, x; `recovers`: r where the slow signals are good by then."""
    found = []
    names = {"o": Level.OK, "s": Level.SLOW, "x": Level.STOP}
    for second, (level, recovered) in enumerate(zip(levels, recovers.ljust(len(levels)), strict=True)):
        share = next_share(share, names[level], 1000.0 + second, recovering=recovered == "r")
        found.append(share.value)
    return found


def test_a_cut_that_was_enough_is_not_repeated() -> None:
    assert after(Share(), "ssssssssss", recovers="  rrrrrrrr") == [0.5] * 10
    assert after(Share(), "ssssssssss")[-1] == 0.25
    states = {"a": SignalState(level=Level.SLOW, good_since=5.0), "b": SignalState(level=Level.SLOW)}
    assert not recovering(states)
    assert recovering({"a": states["a"], "c": SignalState(level=Level.OK)})


def test_near_what_was_too_much_the_share_grows_slowly() -> None:
    cut = next_share(Share(0.4, 0.4), Level.SLOW, 1000.0)
    assert (cut.value, cut.too_much) == (0.2, 0.4)
    shares = after(cut, "o" * 60)
    assert shares.index(0.3) < 7, "quickly at first"
    assert [share for share in dict.fromkeys(shares) if 0.29 < share < 0.45] == [0.3, 0.33, 0.363, 0.3993, 0.4392]  # fmt: skip
    assert after(cut, "o" * 120)[-1] > 0.8, "and quickly again once it is past"


def test_from_a_small_share_it_grows_by_half_at_most() -> None:
    assert list(dict.fromkeys(after(Share(0.01, 0.01), "o" * 11)))[:5] == [
        0.015,
        0.0225,
        0.0338,
        0.0507,
        0.0761,
    ]


def test_there_is_always_progress_however_long_a_canary_asks_to_go_slower() -> None:
    share = Share()
    for second in range(3600):
        share = next_share(share, Level.SLOW, float(second))
    assert share.value == 0.01
    moved = [next_share(Share(0.0, 0.01), level, 5.0).value for level in (Level.SLOW, Level.OK)]
    assert moved == [0.05, 0.05]


def test_a_first_run_beside_others_begins_with_a_quarter() -> None:
    assert first_share(Share(), 5.0).value == 0.25
    assert first_share(Share(0.1, 0.1), 5.0).value == 0.1


def test_a_statement_that_a_small_share_bounds_says_so() -> None:
    assert "statements of up to 250 as it has a part of its speed only" in sizing_sentence(
        1000, Sizing(True, 500.0, 250, "share")
    )
    assert ChunkSize().documents == 1000
