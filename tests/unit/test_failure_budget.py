"""The failure budget decides from counts: what counts, over which window, and what lets a run go on."""

from dataclasses import replace

import pytest

from whimbrel.domain.failures.causes import GroupCount
from whimbrel.domain.runs.budget_texts import (
    larger_budget,
    limits,
    percent,
    read_limit,
    read_new_cause,
    read_rate,
    rule_sentence,
)
from whimbrel.domain.runs.failure_budget import (
    NOTHING,
    BrokenRule,
    FailureBudget,
    Known,
    Standing,
    broken_rules,
    still_broken,
    window_start,
)
from whimbrel.engine.coordinating.failure_watch import _Memory, _remember
from whimbrel.errors import SettingsInvalid

NOBODY = Known()


def at(documents: int, *, batches: int = 0, untold: int = 0, **causes: tuple[int, int]) -> Standing:
    """Where a run stands; causes as (open, dead)."""
    counts = {name: GroupCount(open=open_, dead=dead) for name, (open_, dead) in causes.items()}
    return Standing(batches, documents, counts, untold)


def rules(budget: FailureBudget, now: Standing, since: Standing = NOTHING, base: Standing = NOTHING, known: Known = NOBODY) -> dict[str, float]:  # fmt: skip
    """The rules that are broken, with their values."""
    return {rule.rule: rule.value for rule in broken_rules(budget, now, since=since, base=base, known=known)}


@pytest.mark.parametrize(("dead", "broken"), [(10, {}), (11, {"failures": 11})])
def test_a_number_of_failures_is_allowed_and_one_more_is_not(dead: int, broken: dict[str, float]) -> None:
    assert rules(FailureBudget(failures=10), at(500, a=(0, 4), b=(0, dead - 4))) == broken


@pytest.mark.parametrize(
    ("documents", "dead", "broken"),
    [(999, 999, {}), (1000, 50, {}), (1000, 51, {"rate": 0.051}), (10_000, 500, {}), (10_000, 600, {"rate": 0.06})],
)  # fmt: skip
def test_a_rate_is_judged_from_a_thousand_documents_on(
    documents: int, dead: int, broken: dict[str, float]
) -> None:
    assert rules(FailureBudget(rate=0.05), at(documents, a=(0, dead))) == broken


def test_a_rate_is_that_of_the_last_twenty_batches() -> None:
    marks = [at(100 * number, batches=number) for number in range(1, 101)]
    now = at(10_100, batches=101, a=(0, 150))
    since = window_start(marks, now, NOTHING)
    assert (since.batches, since.documents) == (81, 8100)
    assert rules(FailureBudget(rate=0.05), now, since) == {"rate": 0.075}
    assert rules(FailureBudget(rate=0.05), now) == {}, "of the whole run it is 1.5 %"


def test_the_window_holds_a_thousand_documents_however_small_batches_are() -> None:
    marks = [at(10 * number, batches=number) for number in range(1, 201)]
    assert window_start(marks, at(2010, batches=201), NOTHING).documents == 1010
    assert window_start(marks[:50], at(510, batches=51), NOTHING) == NOTHING
    base = at(1500, batches=150)
    assert window_start(marks, at(2010, batches=201), base) == base, "what was forgiven stays so"


@pytest.mark.parametrize(("number", "broken"), [(19, {}), (20, {"newCause": 20})])
def test_twenty_failures_of_one_new_cause_are_too_many(number: int, broken: dict[str, float]) -> None:
    budget = FailureBudget(new_cause=20)
    now = at(1_000_000, a=(0, number), b=(0, 19))
    assert rules(budget, now) == broken
    assert rules(budget, now, known=Known(seen=frozenset("a"))) == {}


def test_a_failure_that_is_tried_again_counts_where_its_cause_is_frequent() -> None:
    budget = FailureBudget(failures=10, rate=0.05, new_cause=20)
    assert rules(budget, at(10_000, a=(100, 0))) == {}, "1 %: retries heal it, or it is dead later"
    assert rules(budget, at(10_000, a=(101, 0))) == {"failures": 101, "newCause": 101}
    assert rules(replace(budget, failures=None), at(100, a=(19, 0))) == {}, "too few to be frequent"
    assert rules(FailureBudget(failures=10), at(100, a=(11, 0))) == {"failures": 11}, (
        "a number is taken at its word"
    )
    assert set(rules(budget, at(1000, a=(1000, 0)))) == {"failures", "rate", "newCause"}
    assert rules(budget, at(1000, untold=4000, a=(40, 0))) == {}, "others may be done, which nobody has told"
    assert rules(budget, at(10_000, a=(3, 9))) == {}, "what is dead counts, and no more"
    assert rules(budget, at(10_000, a=(3, 11))) == {"failures": 11}


def test_a_cause_that_is_frequent_lately_counts_in_a_long_run_too() -> None:
    since, now = at(10_000_000, batches=2000, a=(500, 0)), at(10_100_000, batches=2020, a=(2500, 0))
    assert rules(FailureBudget(rate=0.01), now, since) == {"rate": 0.02}
    assert rules(FailureBudget(new_cause=20), now, since) == {"newCause": 2500}
    # Those from before the window are none of the window's, though the cause counts from now on.
    assert rules(FailureBudget(rate=0.05), now, since) == {}


def test_accepted_causes_do_not_count_and_forgiven_failures_neither() -> None:
    budget = FailureBudget(failures=10, rate=0.05, new_cause=20)
    now = at(1000, a=(0, 500), b=(0, 5))
    assert rules(budget, now, known=Known(accepted=frozenset("a"))) == {}
    base = at(900, a=(0, 500))
    assert rules(budget, now, base, base) == {}
    assert rules(budget, at(1000, a=(0, 511)), base, base) == {"failures": 11}


def test_what_was_opened_again_and_fails_again_was_forgiven() -> None:
    base = at(1000, a=(0, 30))  # counted as dead, whatever becomes of it
    for now in (at(1000, a=(30, 0)), at(1000, a=(10, 20)), at(1000, a=(0, 30))):
        assert rules(FailureBudget(failures=0, new_cause=20), now, base, base) == {}
    assert rules(FailureBudget(new_cause=20), at(1100, a=(0, 50)), base, base) == {"newCause": 20}


RATE = BrokenRule("rate", 0.08, 0.05, 80, 1000, (("a", 60), ("b", 20)))
NUMBER = BrokenRule("failures", 11, 10, 11, 1000, (("a", 11),))
NEW = BrokenRule("newCause", 25, 20, 25, 1000, (("a", 25),))
DEFAULT = FailureBudget(failures=10, rate=0.05, new_cause=20)


@pytest.mark.parametrize(
    ("broken", "budget", "known", "holds"),
    [
        (RATE, DEFAULT, NOBODY, True), (RATE, replace(DEFAULT, rate=0.07), NOBODY, True), (RATE, replace(DEFAULT, rate=0.08), NOBODY, False),
        (RATE, replace(DEFAULT, rate=None), NOBODY, False), (RATE, DEFAULT, Known(accepted=frozenset("a")), False),
        (RATE, DEFAULT, Known(accepted=frozenset("b")), True), (RATE, DEFAULT, Known(seen=frozenset("ab")), True),
        (NUMBER, DEFAULT, NOBODY, True), (NUMBER, replace(DEFAULT, failures=11), NOBODY, False), (NUMBER, DEFAULT, Known(accepted=frozenset("a")), False),
        (NEW, DEFAULT, NOBODY, True), (NEW, DEFAULT, Known(seen=frozenset("a")), False), (NEW, replace(DEFAULT, new_cause=26), NOBODY, False),
        (NEW, replace(DEFAULT, new_cause=25), NOBODY, True), (NEW, replace(DEFAULT, new_cause=None), NOBODY, False),
    ],
)  # fmt: skip
def test_what_lets_a_run_go_on(broken: BrokenRule, budget: FailureBudget, known: Known, holds: bool) -> None:
    assert still_broken([broken], budget, known) == ([broken] if holds else [])


@pytest.mark.parametrize(
    ("text", "value"),
    [("5%", 0.05), ("0.05", 0.05), ("0", 0.0), ("0%", 0.0), ("100%", 1.0), ("1.0", 1.0), (" OFF ", None), ("2.5%", 0.025), ("99.99%", 0.9999)],
)  # fmt: skip
def test_rates_are_read(text: str, value: float | None) -> None:
    assert read_rate(text) == pytest.approx(value)


@pytest.mark.parametrize(
    "text", ["5", "1", "", "-1%", "101%", "100.5%", "1.5", "nan", "5 %%", "0,05", "\u0665%", "none"]
)
def test_rates_that_could_mean_anything_are_refused(text: str) -> None:
    with pytest.raises(SettingsInvalid, match=r"5%, a share such as 0\.05, or off"):
        read_rate(text)


def test_numbers_are_read() -> None:
    assert [read_limit(text) for text in ("0", "20", "off", "1000000000")] == [0, 20, None, 1_000_000_000]
    assert [read_new_cause(text) for text in ("1", "off")] == [1, None]
    for text in ("", "-1", "1.5", "1000000001", "99999999999", "many", "\u0662"):
        with pytest.raises(SettingsInvalid, match="whole number"):
            read_limit(text)
    with pytest.raises(SettingsInvalid, match="from 1 to"):
        read_new_cause("0")


def test_budgets_are_told() -> None:
    assert (
        limits(FailureBudget(100, 0.05, 20))
        == "at most 100 failures, at most 5% of the documents, fewer than 20 of a new cause"
    )
    assert limits(FailureBudget()) == ""
    assert [percent(share) for share in (0.05, 0.073, 0.0001, 1.0, 0.9999, 0.1234)] == [
        "5%",
        "7.3%",
        "0.01%",
        "100%",
        "100%",
        "12.3%",
    ]
    assert "8% of the last 1,000 documents have failed (80), more than the 5% allowed" in rule_sentence(RATE)
    assert "11 documents have failed, more than the 10" in rule_sentence(NUMBER)
    assert "nobody has seen before" in rule_sentence(NEW)
    assert larger_budget([RATE, NEW]) == "--max-failure-rate 9%"
    assert larger_budget([NUMBER]) == "--max-failures 22"
    assert larger_budget([NEW]) == "--max-new-cause off"
    assert larger_budget([replace(RATE, value=1.0)]) == "--max-failure-rate off"


def test_what_is_remembered_of_a_long_run_stays_small_and_sees_what_breaks_late() -> None:
    memory, budget = _Memory(None), FailureBudget(rate=0.05)
    for number in range(1, 3001):
        now = at(100 * number, batches=number)
        since = window_start(memory.marks, now, NOTHING)
        _remember(memory, now, since)
        _remember(memory, now, since)  # nothing was settled meanwhile
        assert len(memory.marks) <= 22
    bad = at(300_500, batches=3005, a=(0, 150))
    assert rules(budget, bad, window_start(memory.marks, bad, NOTHING)) == {"rate": 0.075}
