"""What is tried again is one table: it says what docs/failures.md says, and each of its rows has a test with a real trouble."""

import ast
import re
from pathlib import Path

import pytest

from whimbrel.domain.bson.raw_bson import Key
from whimbrel.domain.failures.failure import FailedDocument, FailureKind, backoff, is_dead
from whimbrel.domain.failures.retry_policy import (
    CHANGED_MEANWHILE,
    DOCUMENTS,
    ERRORS,
    IN_A_TICK,
    KEYS,
    ONE_STATEMENT,
    OWN_FAULT,
    RetryPolicy,
)
from whimbrel.errors import Remedy

ROOT = Path(__file__).parents[2]
HERE = "tests/integration/executing/test_retry_policy.py"
REPEATED = "tests/integration/coordinating/test_repeated_errors.py"
TROUBLES = "tests/faults/test_troubles.py"

ROWS: dict[str, RetryPolicy] = {
    **{str(remedy): policy for remedy, policy in ERRORS.items()},
    "one statement": ONE_STATEMENT, "keys": KEYS, "in a tick": IN_A_TICK, "own fault": OWN_FAULT, **DOCUMENTS,
}  # fmt: skip
# By row: how often, the delays of the first attempts by the smallest and the largest chance, and who proves it.
EXPECTED: dict[str, tuple[str, list[float], list[float], str]] = {
    "again": ("40", [0.2, 0.2], [1.0, 1.0], f"{HERE}::test_what_passes_is_tried_again_and_is_nobodys_failure"),
    "smaller": ("10", [0.2, 0.2], [1.0, 1.0], f"{HERE}::test_what_takes_too_long_is_made_smaller"),
    "one statement": ("8", [0.2, 0.2], [1.0, 1.0], f"{HERE}::test_one_document_that_takes_too_long_pauses_the_run"),
    "keys": ("3", [0.0], [0.0], f"{REPEATED}::test_keys_that_never_come_in_time_give_way_to_ranges"),
    "wait": ("any number", [0.0], [0.0], "tests/faults/test_rabbitmq.py::test_rabbitmq_is_stopped_and_started"),
    "record": ("1", [0.0], [0.0], f"{HERE}::test_a_refusal_that_is_about_no_document_pauses_the_run"),
    "pause": ("1", [0.0], [0.0], f"{HERE}::test_what_a_person_must_look_at_pauses_the_run_at_once"),
    "stop": ("40", [0.0], [0.0], "tests/faults/test_zombies.py::test_h3_a_claim_that_was_lost_can_write_nothing_to_the_batch_any_more"),
    "in a tick": ("any number", [0.5, 0.5], [0.5, 0.5], f"{REPEATED}::test_a_run_says_what_it_is_tried_again_for"),
    "own fault": ("5", [0.1, 0.2, 0.4, 0.8], [0.1, 0.2, 0.4, 0.8], "tests/integration/running/test_slots.py::test_a_batch_that_cannot_be_worked_off_lets_the_others_go_on_and_then_the_run_pauses_with_the_reason"),
    "data": ("1", [], [], f"{HERE}::test_a_refused_document_is_dead_at_once"),
    "code": ("`max_attempts`", [], [], f"{HERE}::test_what_functions_do_wrong_is_tried_as_often_as_the_table_says"),
    "hang": ("`max_attempts`", [], [], f"{TROUBLES}::test_h27_a_function_that_hangs_is_ended_with_its_process_and_recorded"),
    "death": ("`max_attempts`", [], [], f"{TROUBLES}::test_h10_a_document_that_kills_its_process_is_isolated_and_its_neighbours_are_not_charged"),
    "conflict": ("`max_attempts`", [], [], f"{HERE}::test_what_functions_do_wrong_is_tried_as_often_as_the_table_says"),
}  # fmt: skip


def test_every_error_and_every_kind_of_failure_has_a_row() -> None:
    assert set(ERRORS) == set(Remedy)
    assert set(DOCUMENTS) == {str(kind) for kind in FailureKind}
    assert set(ROWS) == set(EXPECTED)


@pytest.mark.parametrize("name", EXPECTED)
def test_the_page_says_what_the_table_says(name: str) -> None:
    times, shortest, longest, proof = EXPECTED[name]
    policy, page = ROWS[name], (ROOT / "docs/failures.md").read_text(encoding="utf-8")
    row = re.search(rf"^\| {name} \| (.*?) \| (.*?) \|", page, re.MULTILINE)
    assert row is not None
    assert row[1].startswith(policy.errors)
    assert row[2].startswith(times)
    if times.isdecimal():
        assert policy.times == int(times)
    for chance, delays in ((0.0, shortest), (1.0, longest)):
        assert [policy.delay(number, chance) for number in range(1, len(delays) + 1)] == pytest.approx(delays)
    file, _, function = proof.partition("::")
    names = {node.name for node in ast.walk(ast.parse((ROOT / file).read_text())) if isinstance(node, ast.FunctionDef)}  # fmt: skip
    assert function in names, "the row has a proof"


def test_delays_double_up_to_the_longest() -> None:
    assert [backoff(attempt, 5.0, 0.0) for attempt in (1, 2, 3, 20)] == [5.0, 10.0, 20.0, 3600.0]
    assert backoff(1, 5.0, 1.0) == pytest.approx(6.25)
    assert OWN_FAULT.delay(20, 0.0) == 30.0
    assert [CHANGED_MEANWHILE.delay(attempt, 0.5) for attempt in (1, 2, 9)] == pytest.approx(
        [0.01, 0.02, 0.08]
    )


@pytest.mark.parametrize(
    ("kind", "final", "dead"),
    [("data", False, [1, 2]), ("code", False, [3]), ("code", True, [1, 2, 3]), ("hang", False, [3]), ("death", False, [3]), ("conflict", False, [3])],
)  # fmt: skip
def test_attempts_are_spent_by_kind(kind: str, final: bool, dead: list[int]) -> None:
    failure = FailedDocument(key=Key.of(1), kind=FailureKind(kind), type="E", message="bad", final=final)
    assert [attempt for attempt in (1, 2, 3) if is_dead(failure, attempt, 3)][: len(dead)] == dead
    assert not is_dead(failure, 1, 3) or dead[0] == 1
