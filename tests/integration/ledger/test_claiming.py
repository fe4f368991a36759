"""Claims: runs take turns, and claimers that come at once do not meet on one row."""

import threading
from collections import Counter
from typing import Any

from pymongo import MongoClient

from whimbrel.domain.bson.raw_bson import Key
from whimbrel.domain.runs.batches import Batch
from whimbrel.mongo.store import MongoStore

SESSION = b"0" * 16


def plan(store: MongoStore, run: str, batches: int) -> None:
    """Queued batches of a run that needs no row of its own here."""
    rows = [
        Batch(run=run, seq=seq, leg=0, phase="pending", lo=Key.of(seq), cuts=(Key.of(seq + 1),))
        for seq in range(1, batches + 1)
    ]
    assert store.ledger.batches.add(rows) == batches


def claim(store: MongoStore, *runs: str) -> str:
    batch = store.ledger.batches.claim(runs, worker="A", lsid=SESSION)
    assert batch is not None
    return batch.token


def test_a_backlog_of_one_run_does_not_starve_another(store: MongoStore) -> None:
    plan(store, "20260101-aaaaaa", 50)
    plan(store, "20260102-zzzzzz", 3)
    first = [claim(store, "20260101-aaaaaa", "20260102-zzzzzz").partition(".")[0] for _ in range(6)]
    assert Counter(first) == {"20260101-aaaaaa": 3, "20260102-zzzzzz": 3}


def test_a_run_that_came_later_is_not_served_first_because_of_its_id(store: MongoStore) -> None:
    runs = [f"20260101-{each}" for each in "edcba"]
    for run in runs:
        plan(store, run, 4)
    found = [claim(store, *runs).partition(".")[0] for _ in range(10)]
    assert Counter(found[:5]) == Counter(runs)
    assert Counter(found[5:]) == Counter(runs)


def test_claims_of_an_urgent_run_in_between_take_nobodys_turn(store: MongoStore) -> None:
    runs = ["20260101-a", "20260101-m", "20260101-z"]
    for run in runs:
        plan(store, run, 9)
    others = []
    for _ in range(6):
        claim(store, "20260101-m")  # the lane of its own
        others.append(claim(store, *runs).partition(".")[0])
    assert Counter(others) == dict.fromkeys(runs, 2)


def test_a_run_without_queued_batches_costs_the_others_no_turn(store: MongoStore) -> None:
    plan(store, "20260101-b", 4)
    found = [claim(store, "20260101-a", "20260101-b", "20260101-c") for _ in range(4)]
    assert found == [f"20260101-b.{seq}" for seq in range(1, 5)]  # one that claims alone takes them in order
    assert store.ledger.batches.claim(["20260101-b"], worker="A", lsid=SESSION) is None
    assert store.ledger.batches.claim([], worker="A", lsid=SESSION) is None


def test_many_that_claim_at_once_get_each_batch_once_and_rarely_meet(
    store: MongoStore, client: MongoClient[dict[str, Any]]
) -> None:
    plan(store, "20260101-aaaaaa", 600)
    found: list[str] = []
    begin = threading.Barrier(24)

    def work() -> None:
        begin.wait()
        while (
            batch := store.ledger.batches.claim(["20260101-aaaaaa"], worker="A", lsid=SESSION)
        ) is not None:
            found.append(batch.token)

    before = conflicts(client)
    threads = [threading.Thread(target=work) for _ in range(24)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert sorted(found) == sorted(f"20260101-aaaaaa.{seq}" for seq in range(1, 601))
    assert conflicts(client) - before < 300  # claims of the first queued row: thousands


def conflicts(client: MongoClient[dict[str, Any]]) -> int:
    """Writes that met another on the same document, since the server started."""
    return int(client.admin.command("serverStatus")["metrics"]["operation"]["writeConflicts"])
