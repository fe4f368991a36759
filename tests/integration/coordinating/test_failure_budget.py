"""A run pauses before too many documents have failed, says why, and goes on when a person has decided."""

import time
from dataclasses import replace
from typing import Any

import pytest
from pymongo.database import Database

from tests.integration.coordinating.test_waiting_runs import current, looked_at
from tests.integration.in_process_system import DEFAULTS, migrate, system, until
from tests.integration.ledger.test_failures_at_scale import working
from whimbrel import Context, Migration
from whimbrel.domain.bson.raw_bson import Key
from whimbrel.domain.failures.failure import FailedDocument, FailureKind
from whimbrel.domain.runs.failure_budget import FailureBudget
from whimbrel.domain.runs.run import Counts, Run
from whimbrel.domain.runs.states import RunStatus
from whimbrel.engine.operating.accepted_causes import accept_causes, withdraw_causes
from whimbrel.engine.operating.control import adjust, resume, retry
from whimbrel.engine.operating.failure_budget import known_of, note_seen, standing_of, with_budget
from whimbrel.engine.operating.run_view import RunView, run_object
from whimbrel.engine.operating.start import add_run, draft_run
from whimbrel.errors import GroupUnknown, StateForbids
from whimbrel.mongo.store import MongoStore

Data = Database[dict[str, Any]]
P, C, F = RunStatus.PAUSED, RunStatus.COMPLETED, RunStatus.COMPLETED_WITH_FAILURES
ADD = Migration(name="add", collection="things", update={"$inc": {"n": 1}})  # of a text: refused


def seed(database: Data, good: int, bad: int) -> None:
    """Things, of which the last cannot be added to."""
    database["things"].insert_many([{"_id": key, "n": 0} for key in range(good)])
    if bad:
        database["things"].insert_many([{"_id": good + key, "n": "text"} for key in range(bad)])


def begin(store: MongoStore, it: Migration, *, batch_size: int = 500, **limits: float) -> Run:
    """Start a run with these limits and no others."""
    draft = draft_run(store, it.definition, defaults=DEFAULTS, batch_size=batch_size)
    return add_run(store, it.definition, with_budget(draft, limits), "test")


def goes(store: MongoStore, it: Migration, run: Run) -> RunView:
    """The run when it has paused or ended."""
    with system(store, [it]):
        return until(store, run, P, C, F, RunStatus.FAILED)


def test_where_every_document_fails_a_run_pauses_long_before_it_has_tried_all(
    store: MongoStore, database: Data
) -> None:
    seed(database, 6000, 0)

    def poisoned(thing: dict[str, Any]) -> Any:
        time.sleep(0.001)
        raise LookupError(f"no price for {thing['_id']}")

    it = Migration(name="poisoned", collection="things", transform=poisoned)
    run = begin(store, it, batch_size=300, max_new_cause=20)
    found = goes(store, it, run)
    assert found.run.status is P
    assert 20 <= found.processed < 6000
    assert {row.attempt for row in store.ledger.failures.list(run.id, limit=1000)} == {1}
    (group,) = store.ledger.failures.groups(run.id).groups
    for told in (
        "nobody has seen before",
        group.group,
        "LookupError: no price for",
        "for example _id",
        f"--accept {group.group}",
    ):
        assert told in str(found.run.error)
    (rule,) = found.run.over_budget
    assert (rule.rule, rule.limit, rule.causes[0][0]) == ("newCause", 20, group.group)
    assert run_object(found)["overBudget"][0]["causes"][0]["group"] == group.group
    assert (run_object(found)["maxNewCause"], run_object(found)["maxFailures"]) == (20, None)


def test_slots_whose_documents_mostly_fail_go_on_in_small_steps_until_somebody_has_looked(
    store: MongoStore, database: Data
) -> None:
    """By the rate, which is judged after a thousand documents: a slot of its own accord would have tried thousands more by then."""
    seed(database, 20_000, 0)

    def poisoned(thing: dict[str, Any]) -> Any:
        raise LookupError("no price")

    run = begin(
        store,
        Migration(name="poisoned", collection="things", transform=poisoned),
        batch_size=5000,
        max_failure_rate=0.05,
    )
    found = goes(store, Migration(name="poisoned", collection="things", transform=poisoned), run)
    assert (found.run.status, found.run.over_budget[0].rule) == (P, "rate")
    assert 1000 <= found.processed <= 4000


def test_a_run_that_would_pause_at_once_again_is_not_resumed_until_its_cause_is_accepted(
    store: MongoStore, database: Data
) -> None:
    seed(database, 500, 25)
    run = begin(store, ADD, max_new_cause=20)
    assert goes(store, ADD, run).run.status is P
    (group,) = store.ledger.failures.groups(run.id).groups
    with pytest.raises(StateForbids, match=f"pause at once again.*--accept {group.group}"):
        resume(store.ledger, run.id, who="test")
    with pytest.raises(GroupUnknown):
        accept_causes(store.ledger, run.id, [group.group, "nothing"], who="ann")
    assert store.ledger.known_causes.of(run.id) == {}, "all or none"
    assert accept_causes(store.ledger, run.id, [group.signature], who="ann", note="see the wiki") == [group.group]  # fmt: skip
    known = store.ledger.known_causes.of(run.id)[group.group]
    assert (known.accepted, known.who, known.note) == (True, "ann", "see the wiki")
    resume(store.ledger, run.id, who="test")
    found = goes(store, ADD, run)
    assert (found.run.status, found.failures["dead"], found.run.over_budget) == (F, 25, ())
    assert withdraw_causes(store.ledger, run.id, [group.group], who="ann") == [group.group]
    assert store.ledger.known_causes.of(run.id) == {}
    with pytest.raises(StateForbids, match="nothing to withdraw"):
        withdraw_causes(store.ledger, run.id, [group.group], who="ann")
    audit = [row["what"] for row in database["whimbrel_audit"].find({"run": run.id}).sort("at")]
    assert f"causes accepted: {group.group}" in audit
    assert f"causes no longer accepted: {group.group}" in audit


@pytest.mark.parametrize(
    ("limits", "change", "value"),
    [
        ({"max_failures": 10}, {"max_failures": 1000}, 90), ({"max_failure_rate": 0.05}, {"max_failure_rate": 0.1}, 0.075),
        ({"max_failure_rate": 0.05}, {"max_failure_rate": None}, 0.075), ({"max_new_cause": 20}, {"max_failures": 1000}, 90),
    ],
)  # fmt: skip
def test_another_budget_lets_a_run_go_on(
    store: MongoStore, database: Data, limits: dict[str, float], change: dict[str, float | None], value: float
) -> None:
    seed(database, 1110, 90)
    run = begin(store, ADD, batch_size=2000, **limits)
    paused = goes(store, ADD, run).run
    assert (paused.status, [rule.value for rule in paused.over_budget]) == (P, [value])
    with pytest.raises(StateForbids, match="would pause at once again"):
        resume(store.ledger, run.id, who="test")
    if "max_failures" in limits:
        with pytest.raises(StateForbids, match="90 documents have failed"):
            resume(store.ledger, run.id, who="test", budget={"max_failures": 89})
        assert current(store, run).budget == FailureBudget(failures=10), "what is refused changes nothing"
    resume(store.ledger, run.id, who="test", budget=change)
    found = goes(store, ADD, run)
    assert (found.run.status, found.counts.changed, found.failures["dead"]) == (F, 1110, 90)


def test_settings_of_a_paused_run_let_it_go_on_too(store: MongoStore, database: Data) -> None:
    seed(database, 100, 30)
    run = begin(store, ADD, max_new_cause=20)
    assert goes(store, ADD, run).run.status is P
    assert adjust(store.ledger, run.id, who="test", max_failures=30).budget == FailureBudget(30, None, 20)
    resume(store.ledger, run.id, who="test")
    assert goes(store, ADD, run).run.status is F


def test_failures_that_their_retries_heal_are_no_reason(store: MongoStore, database: Data) -> None:
    seed(database, 1000, 0)

    def flaky(thing: dict[str, Any], context: Context) -> Any:
        if thing["_id"] % 100 == 0 and context.attempt == 1:
            raise ConnectionError("try again")
        return {"$set": {"n": 1}}

    it = Migration(name="flaky", collection="things", transform=flaky)
    run = begin(store, it, max_failures=5, max_failure_rate=0.001, max_new_cause=5)
    assert goes(store, it, run).run.status is C


def test_failures_that_no_retry_heals_pause_the_run_when_they_are_dead(
    store: MongoStore, database: Data
) -> None:
    seed(database, 2000, 0)

    def rare(thing: dict[str, Any]) -> Any:
        if thing["_id"] % 200 == 0:
            raise KeyError("price")
        return {"$set": {"n": 1}}

    it = Migration(name="rare", collection="things", transform=rare)
    run = begin(store, it, max_new_cause=10)
    found = goes(store, it, run)
    assert (found.run.status, found.run.phase, found.failures["dead"]) == (P, "failed", 10)


def test_a_cause_of_the_run_before_or_of_a_dry_run_is_not_new(store: MongoStore, database: Data) -> None:
    seed(database, 100, 30)
    first = migrate(store, ADD).run
    assert goes(store, ADD, begin(store, ADD, max_new_cause=20)).run.status is F
    (group,) = store.ledger.failures.causes(first.id)
    other = Migration(name="add", version=2, collection="things", update={"$inc": {"n": 1}})
    assert goes(store, other, begin(store, other, max_new_cause=20)).run.status is P
    store.ledger.runs.move(store.ledger.runs.list(limit=1)[0].id, RunStatus.CANCELLING, who="test")
    third = Migration(name="add", version=3, collection="things", update={"$inc": {"n": 1}})
    run = begin(store, third, max_new_cause=20)
    note_seen(store.ledger, run.id, [group], who="test")
    assert goes(store, third, run).run.status is F


def test_when_what_failed_is_mended_a_retry_goes_on_and_counts_afresh(
    store: MongoStore, database: Data
) -> None:
    seed(database, 300, 60)
    run = begin(store, ADD, max_new_cause=20, max_failures=30)
    assert goes(store, ADD, run).run.status is P
    database["things"].update_many({"n": "text", "_id": {"$lt": 350}}, {"$set": {"n": 0}})
    _, opened = retry(store.ledger, run.id, who="test")
    assert opened == 60
    found = goes(store, ADD, run)
    assert (found.run.status, found.counts.changed, found.failures["dead"]) == (F, 350, 10)


def test_by_other_code_what_has_failed_counts_no_more(store: MongoStore, database: Data) -> None:
    seed(database, 300, 0)

    def broken(thing: dict[str, Any]) -> Any:
        raise LookupError("everything")

    it = Migration(name="code", collection="things", transform=broken)
    run = begin(store, it, batch_size=100, max_new_cause=20)
    assert goes(store, it, run).run.status is P
    mended = Migration(name="code", collection="things", transform=lambda _: {"$set": {"n": 1}})
    assert mended.definition.code_hash != it.definition.code_hash
    resume(store.ledger, run.id, who="test", code=mended.definition)
    assert goes(store, mended, run).run.status is C, "those that had failed were tried again"


def test_a_person_may_open_failures_of_a_paused_run_though_none_is_dead(
    store: MongoStore, database: Data
) -> None:
    seed(database, 300, 0)
    away = [True]

    def calls(thing: dict[str, Any]) -> Any:
        if away[0]:
            raise ConnectionError("the service is away")
        return {"$set": {"n": 1}}

    it = Migration(name="calls", collection="things", transform=calls)
    run = begin(store, it, batch_size=100, max_new_cause=20)
    found = goes(store, it, run)
    assert (found.run.status, found.failures["dead"]) == (P, 0)
    away.clear()
    away.append(False)
    assert retry(store.ledger, run.id, who="test")[1] == 0
    assert goes(store, it, run).run.status is C


def test_a_look_costs_the_same_however_many_documents_fail(store: MongoStore, database: Data) -> None:
    run, (few, many, _) = working(store, database)

    def looks() -> int:
        return looked_at(
            database, lambda: (standing_of(store.ledger, current(store, run)), known_of(store.ledger, run.id))
        )

    troubles = [
        FailedDocument(key=Key.of(key), kind=FailureKind.DATA, type="E", message="bad") for key in range(2010)
    ]
    store.ledger.failures.record(run, few, troubles[:5])
    store.ledger.batches.settle(few, Counts())
    before = looks()
    store.ledger.failures.record(run, many, troubles[10:])
    store.ledger.batches.settle(many, Counts())
    assert looks() <= before + 20
    assert standing_of(store.ledger, current(store, run)).documents == 2005


def test_a_run_of_an_earlier_version_has_no_budget(store: MongoStore, database: Data) -> None:
    seed(database, 10, 30)
    run = begin(store, ADD, max_new_cause=20)
    fields = dict.fromkeys(("budget", "forgiven", "overBudget"), "")
    database["whimbrel_runs"].update_one({"_id": run.id}, {"$unset": fields})
    assert current(store, run).budget.off
    assert goes(store, ADD, run).run.status is F
    assert replace(current(store, run), budget=FailureBudget()) == current(store, run)
