"""Claims a second of many claimers, and what of a run's time planning and settling take."""

import multiprocessing
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any
from unittest import mock

from bench.ledgers import BLOCK, DATABASE, DEFAULTS, IT, at_work, batch_of, ended, put, system, tell
from whimbrel.domain.runs.protocol_times import Times
from whimbrel.domain.runs.states import BatchStatus
from whimbrel.engine.coordinating.planner import Planner
from whimbrel.engine.executing import execute_batch
from whimbrel.engine.operating.start import start_run
from whimbrel.mongo.ledger.rows import batch_row
from whimbrel.mongo.store import MongoStore, connected

CLAIMERS = (1, 4, 16, 48)
CLAIMS = 2000  # for each number of claimers
PROCESSES = 4
SHARES = 200_000  # documents of the run whose time is taken apart


def claiming(uri: str, run: str, claimers: int, ready: Any, took: Any) -> None:
    """One process's claimers, until nothing is queued any more."""
    with connected(uri, DATABASE, Times()) as store:

        def claim() -> None:
            while store.ledger.batches.claim([run], worker="A", lsid=b"0" * 16) is not None:
                pass

        found = [threading.Thread(target=claim) for _ in range(claimers)]
        ready.wait()
        began = time.perf_counter()
        for thread in found:
            thread.start()
        for thread in found:
            thread.join()
        took.put(time.perf_counter() - began)


def claims(uri: str, store: MongoStore) -> None:
    rates = {}
    for claimers in CLAIMERS:
        run = at_work(store)
        rows = (
            replace(batch_of(run, seq, 0), status=BatchStatus.QUEUED, claims=0)
            for seq in range(1, CLAIMS + 1)
        )
        put(store, "batches", map(batch_row, rows))
        processes = min(PROCESSES, claimers)
        spawning = multiprocessing.get_context("spawn")
        ready, took = spawning.Barrier(processes), spawning.Queue()
        arguments = (uri, run.id, claimers // processes, ready, took)
        found = [spawning.Process(target=claiming, args=arguments) for _ in range(processes)]
        for each in found:
            each.start()
        longest = max(took.get() for _ in found)
        for each in found:
            each.join()
        rates[claimers] = round(CLAIMS / longest)
        store.client[DATABASE]["whimbrel_runs"].delete_one({"_id": run.id})
        store.client[DATABASE]["whimbrel_batches"].delete_many({"run": run.id})
    tell(part="claims", claims_a_second=rates)


def shares(store: MongoStore) -> None:
    """Planning runs beside the workers, settling in them: each as a part of what it could hold up."""
    things = store.client[DATABASE]["things"]
    things.delete_many({})
    for at in range(0, SHARES, BLOCK):
        things.insert_many([{"_id": key, "n": 0} for key in range(at, at + BLOCK)])
    settle: Any = execute_batch.__dict__["settle"]
    spent = {"plan": 0.0, "settle": 0.0}

    def timed(name: str, act: Callable[..., Any]) -> Callable[..., Any]:
        def acted(*args: Any, **options: Any) -> Any:
            began = time.perf_counter()
            try:
                return act(*args, **options)
            finally:
                spent[name] += time.perf_counter() - began

        return acted

    with (
        mock.patch.object(Planner, "plan", timed("plan", Planner.plan)),
        mock.patch.object(execute_batch, "settle", timed("settle", settle)),
        system(store),
    ):
        began = time.perf_counter()
        ended(store, start_run(store, IT.definition, who="bench", defaults=DEFAULTS))
        whole = time.perf_counter() - began
    tell(
        part="shares", documents=SHARES, seconds=round(whole, 1), plan_of_the_time=round(spent["plan"] / whole, 3),
        settle_of_the_time_of_two_slots=round(spent["settle"] / (2 * whole), 3),
    )  # fmt: skip
