"""Each row of the table of what is tried again, met for real: a server whose fail points refuse statements, and functions that fail."""

# ruff: noqa: F811  fixtures are imported by their names

from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest

from tests.conftest import PATIENT
from tests.integration.coordinating.test_repeated_errors import (  # noqa: F401
    CALLED,
    DECLARED,
    READS,
    Data,
    at,
    data,
    failing,
    root,
    server,
)
from tests.integration.in_process_system import migrate, start, system, until
from whimbrel import Migration
from whimbrel.domain.runs.run import Run
from whimbrel.domain.runs.states import RunStatus
from whimbrel.engine.operating.control import cancel
from whimbrel.mongo.store import MongoStore, connected

INTERRUPTED, TIME_LIMIT, BAD_VALUE, UNAUTHORIZED = 11601, 50, 2, 13
P, C, F = RunStatus.PAUSED, RunStatus.COMPLETED, RunStatus.COMPLETED_WITH_FAILURES


@pytest.fixture
def patient(server: str, data: Data) -> Iterator[MongoStore]:
    """For what counts calls exactly."""
    with connected(f"mongodb://root:root@{server}", data.name, PATIENT) as found:
        yield found


def breaks(data: Data, **what: Any) -> None:
    """Let the next two updates of the things meet this."""
    given = {"failCommands": ["update"], "namespace": f"{data.name}.things", **what}
    data.client.admin.command("configureFailPoint", "failCommand", mode={"times": 2}, data=given)


def paused(store: MongoStore, it: Migration, run: Run) -> str:
    """Why a run pauses; it is over then."""
    with system(store, [it]):
        found = until(store, run, P).run
    cancel(store.ledger, run.id, who="test")
    return str(found.error)


@pytest.mark.parametrize(
    ("it", "what"),
    [
        (DECLARED, {"errorCode": INTERRUPTED}),
        (DECLARED, {"errorCode": BAD_VALUE, "errorLabels": ["RetryableWriteError"]}),
        (CALLED, {"closeConnection": True}),
    ],
    ids=["code", "label", "connection"],
)
def test_what_passes_is_tried_again_and_is_nobodys_failure(
    at: MongoStore, data: Data, it: Migration, what: dict[str, Any]
) -> None:
    run = start(at, it)
    breaks(data, **what)
    with system(at, [it]):
        assert until(at, run).run.status is C
    assert data["things"].count_documents({"n": 1}) == 30
    assert at.ledger.failures.list(run.id) == []


def test_what_takes_too_long_is_made_smaller(at: MongoStore, data: Data) -> None:
    run = start(at, DECLARED)
    breaks(data, errorCode=TIME_LIMIT)
    with system(at, [DECLARED]):
        assert until(at, run).run.status is C
    assert data["things"].count_documents({"n": 1}) == 30


def test_one_document_that_takes_too_long_pauses_the_run(at: MongoStore, data: Data) -> None:
    with failing(data, ["update"], TIME_LIMIT):
        why = paused(at, DECLARED, start(at, DECLARED))
    assert "8 times in a row" in why
    assert data["things"].count_documents({"n": 1}) == 0


@pytest.mark.parametrize(("commands", "code"), [(["update"], UNAUTHORIZED), (READS, UNAUTHORIZED)], ids=["writes", "reads"])  # fmt: skip
def test_what_a_person_must_look_at_pauses_the_run_at_once(
    at: MongoStore, data: Data, commands: list[str], code: int
) -> None:
    run = start(at, DECLARED)
    with failing(data, commands, code):
        why = paused(at, DECLARED, run)
    assert f"code {code}" in why
    assert "times in a row" not in why


def test_a_refusal_that_is_about_no_document_pauses_the_run(at: MongoStore, data: Data) -> None:
    run = start(at, DECLARED)
    with failing(data, READS, BAD_VALUE):
        why = paused(at, DECLARED, run)
    assert f"code {BAD_VALUE}" in why
    assert "times in a row" not in why


def test_a_refused_document_is_dead_at_once(at: MongoStore, data: Data) -> None:
    data.command("collMod", "things", validator={"$or": [{"n": 0}, {"_id": {"$gte": 3}}]})
    found = migrate(at, DECLARED)
    rows = at.ledger.failures.list(found.run.id)
    assert [(row.key.value, row.kind, row.attempt, row.state) for row in rows] == [(key, "data", 1, "dead") for key in range(3)]  # fmt: skip
    assert (found.run.status, found.counts.changed) == (F, 27)


def test_what_functions_do_wrong_is_tried_as_often_as_the_table_says(patient: MongoStore, data: Data) -> None:
    calls: Counter[str] = Counter()
    wrong = {0: "raises", 1: "misspells", 2: "answers", 3: "conflicts"}

    def transform(thing: dict[str, Any]) -> Any:
        what = wrong.get(thing["_id"], "")
        calls[what] += 1
        if what == "raises":
            raise LookupError("not there")
        if what == "misspells":
            return undefined  # type: ignore[name-defined]  # noqa: F821
        if what == "answers":
            return 5
        if what == "conflicts":  # as an application that changes it all the while
            data["things"].update_one({"_id": 3}, {"$inc": {"other": 1}})
        return {"$set": {"n": 1}}

    it = Migration(name="wrong", collection="things", transform=transform)
    found = migrate(patient, it)
    rows = {row.key.value: (str(row.kind), row.attempt, str(row.state)) for row in patient.ledger.failures.list(found.run.id)}  # fmt: skip
    assert rows == {
        0: ("code", 3, "dead"),
        1: ("code", 1, "dead"),
        2: ("code", 1, "dead"),
        3: ("conflict", 3, "dead"),
    }
    assert (calls["raises"], calls["misspells"], calls["answers"], calls["conflicts"]) == (3, 1, 1, 3 * 4)
    assert (found.run.status, found.counts.changed) == (F, 26)
