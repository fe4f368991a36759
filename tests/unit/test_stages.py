"""Stages: what can be asked for, how many documents that is, and what their gates say."""

from typing import Any

import pytest

from whimbrel.domain.runs.run import Scope, legs_of
from whimbrel.domain.runs.stages import (
    StageState,
    documents_of,
    documents_through,
    judge_failures,
    judge_sample,
    read_stages,
    stages_asked,
)
from whimbrel.errors import StagesRefused

WRONG = {
    "nothing": ("", "'' cannot be a stage"),
    "words": ("some,100%", "'some' cannot be a stage"),
    "none": ("0,100%", "'0' cannot be a stage"),
    "no share": ("0%,100%", "'0%' cannot be a stage"),
    "no share in detail": ("0.0%,100%", "'0.0%' cannot be a stage"),
    "below none": ("-5,100%", "'-5' cannot be a stage"),
    "more than all": ("1%,101%", "'101%' cannot be a stage"),
    "a fraction of a document": ("1.5,100%", "'1.5' cannot be a stage"),
    "shrinking shares": ("10%,1%,100%", "The stage 1% is not more than the one before it, 10%"),
    "shrinking numbers": ("1000,10,100%", "The stage 10 is not more than the one before it, 1000"),
    "twice the same": ("10%,10%,100%", "The stage 10% is not more"),
    "everything first": ("100%,5,100%", "100% is everything"),
    "not to the end": ("1%,10%", "The last stage is 10%: it must be 100%"),
    "a number at the end": ("1%,5000", "The last stage is 5000: it must be 100%"),
    "one": ("100%", "1 stages are not possible"),
    "too many": (",".join([*map(str, range(1, 21)), "100%"]), "21 stages are not possible: give 2 to 20"),
}


@pytest.mark.parametrize(("asked", "sentence"), WRONG.values(), ids=WRONG)
def test_stages_that_cannot_be_are_refused(asked: str, sentence: str) -> None:
    with pytest.raises(StagesRefused) as found:
        read_stages(asked)
    assert sentence in str(found.value)
    assert (found.value.code, found.value.exit_code) == ("stages_refused", 64)


@pytest.mark.parametrize(
    "options",
    [{"hold": 1.0, "approve": False}, {"hold": None, "approve": True}, {"hold": 0.0, "approve": False}],
)
def test_a_gate_needs_stages(options: dict[str, Any]) -> None:
    with pytest.raises(StagesRefused, match="Only stages can be held or approved"):
        stages_asked(None, **options)
    assert stages_asked(None, hold=None, approve=False) is None


def test_a_hold_is_no_longer_than_a_week() -> None:
    with pytest.raises(StagesRefused, match="up to 7 days"):
        read_stages("1%,100%", hold=7 * 86_400 + 1)


def test_stages_count_from_the_beginning_and_an_earlier_one_may_be_larger() -> None:
    stages = read_stages(" 1000, 1% ,2.5%,10%,100%", hold=60, approve=True)
    assert [stage.asked for stage in stages.stages] == ["1000", "1%", "2.5%", "10%", "100%"]
    assert {stage.state for stage in stages.stages} == {StageState.OPEN}
    assert [documents_through(stages, at, 50_000) for at in range(5)] == [1000, 1000, 1250, 5000, 50_000]
    assert [documents_of(stages, at, 50_000) for at in range(5)] == [1000, 0, 250, 3750, 45_000]
    assert [documents_of(stages, at, 101) for at in range(2)] == [1000, 0]
    assert documents_of(read_stages(["0.1%", "100%"]), 0, 10) == 1


def test_each_stage_but_the_last_is_a_leg_with_its_retries() -> None:
    whole = legs_of(mark="status", scope=Scope(), first=None)
    staged = legs_of(mark="status", scope=Scope(), first=None, stages=read_stages("1,2,100%"))
    assert staged == ("pending", "failed", "pending", "failed", *whole)


@pytest.mark.parametrize(
    ("numbers", "passed"),
    [
        ((100, 5, 5), (True, True)),
        ((100, 6, 0), (False, True)),
        ((100, 0, 6), (True, False)),
        ((0, 0, 0), (True, True)),
        ((19, 1, 0), (False, True)),
    ],
)
def test_a_gate_tolerates_one_in_twenty(numbers: tuple[int, int, int], passed: tuple[bool, bool]) -> None:
    found = judge_failures(*numbers, tolerated=0.05)
    assert tuple(each.passed for each in found) == passed
    assert ("more than 5%" in found[0].sentence) is (not passed[0])


def test_a_sample_must_bear_what_was_written() -> None:
    assert judge_sample(100, 0).passed
    assert not judge_sample(100, 1).passed
    assert "1 of 100 documents" in judge_sample(100, 1).sentence
