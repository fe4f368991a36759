"""`demo`: seed sample documents, migrate them, and prove the result from the documents."""

import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Annotated, Any

import typer

from whimbrel.bootstrap import Opened, samples
from whimbrel.cli.arguments.options import Json, begin, caller
from whimbrel.cli.arguments.which_database import open_database
from whimbrel.cli.foreground.begin_and_end import note_stand_alone, show_run
from whimbrel.cli.foreground.foreground import Foreground, RunEnding
from whimbrel.cli.foreground.interrupts import INTERRUPTED, Interrupts
from whimbrel.cli.output.demo_checks import Check, check_object, checks_table, verify
from whimbrel.cli.output.progress_bar import Moment, progress
from whimbrel.cli.output.screen import Screen
from whimbrel.domain.runs.failure_budget import FailureBudget
from whimbrel.engine.operating.run_view import run_object
from whimbrel.engine.operating.start import start_run
from whimbrel.samples.migration import SOME_MODEL
from whimbrel.samples.seeder import documents as sample_documents
from whimbrel.settings import Settings
from whimbrel.workers.worker_pool import WorkerPool

DATABASE = "whimbrel_demo"
FEWEST_INVALID = 3  # among MANY documents or more, so that there are failures to see
MANY = 100


def demo(
    documents: Annotated[
        int, typer.Option(metavar="N", min=0, max=100_000_000, help="sample documents to migrate")
    ] = 50_000,
    invalid: Annotated[
        float,
        typer.Option(
            metavar="SHARE", min=0, max=1, help="share of documents that cannot be migrated, on purpose"
        ),
    ] = 0.0005,
    workers: Annotated[
        int | None,
        typer.Option("--workers", metavar="N", min=1, max=512, help="worker processes (default: one a core)"),
    ] = None,
    keep: Annotated[
        bool, typer.Option("--keep", help=f"leave the database {DATABASE} for a closer look")
    ] = False,
    json: Json = False,
) -> int:
    """Show Whimbrel at work: seed sample documents, migrate them, verify every one, clean up."""
    settings, screen = begin(json=json, own_database=True)
    changes = {"mongodb_db_name": DATABASE, "whimbrel_migrations": None, "retry_delay": 100}
    settings = settings.model_copy(update=changes)
    with Interrupts() as interrupts, open_database(settings, screen, create=True) as system:
        note_stand_alone(screen, system)
        samples(system.store).drop_database()  # with the ledger, which the run creates again
        try:
            return Demonstration(system, settings, screen, interrupts).run(
                documents, invalid, workers, keep=keep
            )
        finally:
            if not keep:
                samples(system.store).drop_database()


class Demonstration:
    """A demonstration, in an empty database of its own."""

    def __init__(self, system: Opened, settings: Settings, screen: Screen, interrupts: Interrupts) -> None:
        self._system, self._settings = system, settings
        self._screen, self._interrupts = screen, interrupts

    def run(self, count: int, share: float, workers: int | None, *, keep: bool) -> int:
        planted = planned(count, share)
        seconds = self._seed(count, planted)
        ending = self._migrate(workers)
        if ending.exit_code == INTERRUPTED:
            advice = ending.said.replace("whimbrel resume", f"MONGODB_DB_NAME={DATABASE} whimbrel resume")
            self._screen.say(advice if keep else f"Stopped; the database {DATABASE} is dropped.")
            return INTERRUPTED
        checks = verify(
            samples(self._system.store).census(ending.view.run.id), ending.view, seeded=count, planted=planted
        )
        verified = all(check.ok for check in checks)
        if self._screen.json:
            facts = {"seeded": count, "planted": planted, "seedSeconds": seconds, "verified": verified}
            run, proofs = run_object(ending.view), [check_object(check) for check in checks]
            self._screen.answer({**facts, "checks": proofs, "run": run})
        else:
            self._present(ending, checks, keep=keep)
        return 0 if verified else 1

    def _seed(self, count: int, planted: int) -> float:
        began = time.monotonic()
        with progress(self._screen) as progress_display:
            for inserted in samples(self._system.store).insert(with_invalid_documents(count, planted)):
                rate = inserted / (time.monotonic() - began)
                progress_display.show(
                    Moment(title="seeding", done=inserted, total=count, percent=100 * inserted / count, rate=rate,
                           eta=(count - inserted) / rate)
                )  # fmt: skip
        seconds = round(time.monotonic() - began, 2)
        self._screen.say(
            f"Seeded {count:,} documents, {planted:,} of them invalid on purpose, in {seconds:.1f} s."
        )
        return seconds

    def _migrate(self, workers: int | None) -> RunEnding:
        definition = SOME_MODEL.definition
        run = start_run(
            self._system.store,
            definition,
            who=caller(),
            defaults=replace(
                self._settings.defaults, budget=FailureBudget()
            ),  # what fails does so on purpose
            route="whimbrel demo",
        )
        self._screen.say(f"Run {run.id} of {definition.name} on {run.ns}.")
        work = Foreground(self._system, self._settings, self._screen, self._interrupts)
        return work.work(run, definition, WorkerPool(workers=workers))

    def _present(self, ending: RunEnding, checks: list[Check], *, keep: bool) -> None:
        show_run(self._screen, self._system.store.ledger, ending, advise=keep)
        self._screen.show(checks_table(checks), *_next(ending.view.run.id, keep=keep))


def planned(count: int, share: float) -> int:
    """Returns how many invalid documents to plant."""
    fewest = FEWEST_INVALID if share and count >= MANY else 0
    return max(round(count * share), fewest)


def with_invalid_documents(count: int, planted: int) -> Iterator[dict[str, Any]]:
    """Yields sample documents, exactly `planted` of them invalid, spread evenly: their `data` is not an object."""
    for number, document in enumerate(sample_documents(count)):
        if (number + 1) * planted // count > number * planted // count:
            document["data"] = f"{document['data']['score']}/{document['data']['level']}"
        yield document


def _next(run_id: str, *, keep: bool) -> list[str]:
    if keep:
        command = f"MONGODB_DB_NAME={DATABASE} whimbrel"
        return [
            f"The database {DATABASE} is kept. Next:",
            f"  {command} status {run_id}",
            f"  {command} failures {run_id} --documents",
        ]
    return [
        f"The database {DATABASE} is dropped. Next:",
        "  whimbrel demo --keep           the same, and leave it for a closer look",
        "  whimbrel new my-migration      write a migration of your own",
        "  whimbrel --help                all commands",
    ]
