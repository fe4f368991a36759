"""Runs one migration again and again on some documents, in a database of its own."""

import multiprocessing
import os
import secrets
import signal
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from bson.raw_bson import RawBSONDocument
from pymongo.collection import Collection

from whimbrel.bootstrap import broker, database, feed, store_at
from whimbrel.domain.bson.raw_bson import RAW, Key
from whimbrel.domain.bson.uuids import Options, stored, writing
from whimbrel.domain.migrations.definition import Definition
from whimbrel.domain.migrations.migration import Migration
from whimbrel.domain.runs.protocol_times import Times
from whimbrel.domain.runs.run import Run
from whimbrel.domain.runs.states import ENDED
from whimbrel.engine.executing.event_loop import process_loop
from whimbrel.engine.operating.run_view import RunView, view
from whimbrel.engine.operating.start import Defaults, start_run
from whimbrel.mongo.store import MongoStore
from whimbrel.settings import Settings
from whimbrel.testing.threads import threads

DEFAULTS = Defaults(batch_size=100, max_attempts=1, retry_delay=0.01)
ENDING = 60.0  # seconds that a run over some documents may take
NAME = "check"
Document = dict[str, Any] | RawBSONDocument
Prepare = Callable[[Collection[dict[str, Any]]], object]


def nothing(_: object) -> None:
    """Does nothing: creates neither indexes nor a validator; no hook."""


@dataclass(frozen=True, slots=True)
class Trial:
    """The documents in a collection of their own, created again for every run."""

    migration: Migration
    documents: Sequence[Document]
    store: MongoStore
    settings: Settings
    prepare: Prepare

    @property
    def definition(self) -> Definition:
        """The migration's definition, in the database of the trial."""
        definition = replace(self.migration.definition, database=None, uuids=self.store.uuids)
        return (
            definition
            if definition.update is None
            else replace(definition, update=stored(definition.update, self.options))
        )

    @property
    def options(self) -> Options:
        """How the author's documents are stored."""
        return writing(self.store.uuids)

    @property
    def times(self) -> Times:
        """Times with short pauses, as nothing else uses this MongoDB."""
        return replace(self.settings.times, tick=0.02, control=0.02)

    @property
    def collection(self) -> Collection[dict[str, Any]]:
        name = self.migration.definition.collection
        return self.store.client[self.store.database].get_collection(name, codec_options=self.options)

    def insert_afresh(self) -> dict[Key, bytes]:
        """Inserts the documents into a new collection, and returns them as they are stored."""
        self.collection.drop()
        self.store.client[self.store.database].create_collection(self.collection.name)
        self.prepare(self.collection)
        self.collection.insert_many(self.documents)
        return self.stored()

    def stored(self) -> dict[Key, bytes]:
        documents: Any = self.collection.with_options(codec_options=RAW).find()
        return {Key.of_document(document.raw): bytes(document.raw) for document in documents}

    def start(self, definition: Definition | None = None) -> Run:
        return start_run(self.store, definition or self.definition, who=NAME, defaults=DEFAULTS)

    def finish(self, run: Run, step: Callable[[str], None] = nothing) -> RunView:
        """Works on a run until it has ended, in this process."""
        with self._at_work(self.store, step):
            return self._wait_for_end(run)

    def killed_at(self, run: Run, step: str) -> bool:
        """Works on a run in a process that is killed when it first reaches `step`; returns False where it never does.

        Gives back what the process held, as its parent would.
        """
        process_loop().pause()  # it continues in the child, with what is bound to it
        with warnings.catch_warnings():  # about locks of other threads: the child makes its own connections
            warnings.simplefilter("ignore")
            child = multiprocessing.get_context("fork").Process(target=self._die_at, args=(run, step))
            child.start()
        child.join(ENDING)
        if child.is_alive():
            child.kill()
            child.join()
            raise TimeoutError(f"The run did not reach its end within {ENDING:.0f} seconds.")
        self.store.ledger.batches.take_over(worker=f"{NAME}-{step}")
        self.store.ledger.leases.step_down(f"{NAME}-{step}")
        return child.exitcode == -signal.SIGKILL

    def _die_at(self, run: Run, wanted: str) -> None:
        def step(name: str) -> None:
            if name == wanted:
                os.kill(os.getpid(), signal.SIGKILL)

        with (
            store_at(self.settings.mongodb_uri or "", self.settings) as store,
            self._at_work(store, step, f"{NAME}-{wanted}"),
        ):
            self._wait_for_end(run, store)
        os._exit(0)

    @contextmanager
    def _at_work(self, store: MongoStore, step: Callable[[str], None], name: str = NAME) -> Iterator[None]:
        feed_of_trial = feed(self.settings, name=name, lanes=(), slots=2, give_up=lambda: None)
        with feed_of_trial as source, threads(
            store, [self.migration], times=self.times, broker=broker(self.settings, name), feed=source, step=step, name=name
        ):  # fmt: skip
            yield

    def _wait_for_end(self, run: Run, store: MongoStore | None = None) -> RunView:
        ledger, end = (store or self.store).ledger, time.monotonic() + ENDING
        while time.monotonic() < end:
            current = ledger.runs.get(run.id)
            if current is not None and current.status in ENDED:
                return view(ledger, current)
            if current is not None and current.error:
                raise RuntimeError(current.error)
            time.sleep(0.01)
        raise TimeoutError(f"The run did not reach its end within {ENDING:.0f} seconds.")


@contextmanager
def open_trial(
    migration: Migration, documents: Sequence[Document], uri: str | None, prepare: Prepare
) -> Iterator[Trial]:
    """Opens a trial in a new database of the MongoDB at `uri`, or of an embedded one; drops it afterwards."""
    with TemporaryDirectory(prefix="whimbrel-check-") as home:
        settings = Settings(
            mongodb_uri=uri, mongodb_db_name=f"whimbrel_check_{secrets.token_hex(4)}", whimbrel_home=Path(home), rabbitmq_url=None,
            whimbrel_lease=3, whimbrel_grace=1.5, whimbrel_statement=1.2, whimbrel_sweep=0.2, whimbrel_idle_poll=0.02,
        )  # fmt: skip
        with database(settings) as address:
            settings = settings.model_copy(update={"mongodb_uri": address})
            with store_at(address, settings) as store:
                try:
                    yield Trial(migration, documents, store, settings, prepare)
                finally:
                    store.client.drop_database(store.database)
