"""One migration, some documents, a database of their own: running it there, over and over."""

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
from whimbrel.domain.migrations.migration import Definition, Migration
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
    """Neither indexes nor a validator; no hook."""


@dataclass(frozen=True, slots=True)
class Trial:
    """The documents in a collection of their own, made anew for every run."""

    migration: Migration
    documents: Sequence[Document]
    store: MongoStore
    settings: Settings
    prepare: Prepare

    @property
    def definition(self) -> Definition:
        """The migration's, in the database of the trial."""
        it = replace(self.migration.definition, database=None, uuids=self.store.uuids)
        return it if it.update is None else replace(it, update=stored(it.update, self.options))

    @property
    def options(self) -> Options:
        """How the documents are stored that the author gives."""
        return writing(self.store.uuids)

    @property
    def times(self) -> Times:
        """Nobody else is here: what comes next is looked for at once."""
        return replace(self.settings.times, tick=0.02, control=0.02)

    @property
    def collection(self) -> Collection[dict[str, Any]]:
        name = self.migration.definition.collection
        return self.store.client[self.store.database].get_collection(name, codec_options=self.options)

    def afresh(self) -> dict[Key, bytes]:
        """The documents as they are stored, before anything was done to them."""
        self.collection.drop()
        self.store.client[self.store.database].create_collection(self.collection.name)
        self.prepare(self.collection)
        self.collection.insert_many(self.documents)
        return self.stored()

    def stored(self) -> dict[Key, bytes]:
        found: Any = self.collection.with_options(codec_options=RAW).find()
        return {Key.of_document(each.raw): bytes(each.raw) for each in found}

    def start(self, definition: Definition | None = None) -> Run:
        return start_run(self.store, definition or self.definition, who=NAME, defaults=DEFAULTS)

    def finish(self, run: Run, step: Callable[[str], None] = nothing) -> RunView:
        """Work on a run until it has ended, in this process."""
        with self._at_work(self.store, step):
            return self._ended(run)

    def killed_at(self, run: Run, step: str) -> bool:
        """Work on a run in a process that is killed at the first `step` that it reaches; False where it reaches none.

        What it held is given back, as its parent would.
        """
        process_loop().pause()  # it continues in the child, with what is bound to it
        with (
            warnings.catch_warnings()
        ):  # of what other threads may hold: the child makes connections of its own
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
            self._ended(run, store)
        os._exit(0)

    @contextmanager
    def _at_work(self, store: MongoStore, step: Callable[[str], None], name: str = NAME) -> Iterator[None]:
        heard = feed(self.settings, name=name, lanes=(), slots=2, give_up=lambda: None)
        with heard as source, threads(
            store, [self.migration], times=self.times, broker=broker(self.settings, name), feed=source, step=step, name=name
        ):  # fmt: skip
            yield

    def _ended(self, run: Run, store: MongoStore | None = None) -> RunView:
        ledger, end = (store or self.store).ledger, time.monotonic() + ENDING
        while time.monotonic() < end:
            found = ledger.runs.get(run.id)
            if found is not None and found.status in ENDED:
                return view(ledger, found)
            if found is not None and found.error:
                raise RuntimeError(found.error)
            time.sleep(0.01)
        raise TimeoutError(f"The run did not reach its end within {ENDING:.0f} seconds.")


@contextmanager
def trial(
    migration: Migration, documents: Sequence[Document], uri: str | None, prepare: Prepare
) -> Iterator[Trial]:
    """In a new database of the MongoDB at `uri`, or of an embedded one; it is dropped afterwards."""
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
