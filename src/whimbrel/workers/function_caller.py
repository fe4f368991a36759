"""The dry run's side of the process that calls a function: it waits for each answer, and never longer than it may."""

import contextlib
import json
import os
import selectors
import time
from collections.abc import Iterator, Sequence

import bson
from bson.raw_bson import RawBSONDocument

from whimbrel.domain.bson.raw_bson import Key
from whimbrel.domain.failures.failure import FailedDocument, hung_call, process_death
from whimbrel.domain.runs.run import Run
from whimbrel.errors import DefinitionInvalid
from whimbrel.ports import Callers, FunctionAnswer
from whimbrel.settings import read_settings
from whimbrel.workers.child_pipes import ChildListener, StandardError
from whimbrel.workers.process_start import start
from whimbrel.workers.rehearsal import read_document, understood

STANDARD_ERROR = 2
AIR = 2.0  # seconds after a call's time in which an async function is cancelled, and the answer sent


class FunctionCaller:
    """See `whimbrel.ports.Caller`."""

    def __init__(self, source: str | None, left_out: Sequence[str] = ()) -> None:
        """`left_out`: see `Catalog.unloadable`."""
        self._source = json.dumps([source, left_out])
        self._about = b""  # the run whose function is called
        self._ahead: _Process | None = None
        self._process: _Process | None = None
        self._values: dict[str, str] = {}
        self._loading = read_settings().whimbrel_loading

    def load_ahead(self) -> None:
        """Start the process before it is known for which run: it loads the migrations meanwhile."""
        self._ahead = _Process(self._source)

    @contextlib.contextmanager
    def of(self, run: Run) -> Iterator["FunctionCaller"]:
        """Call the function of this run. See `whimbrel.ports.Callers`."""
        about = {"name": run.migration, "run": run.id, "undo": run.undo, "uuids": run.uuids}
        self._about = bson.encode(about)
        with contextlib.closing(self):
            yield self

    def call(self, document: bytes, seconds: float) -> FunctionAnswer:
        process = self._running()
        started = time.monotonic()
        try:
            process.send(document)
            answer = process.answer(seconds + AIR)
        except (BrokenPipeError, EOFError):
            self.close()
            return FunctionAnswer(process_death(Key.of_document(document)), time.monotonic() - started)
        except TimeoutError:
            self.close()
            return FunctionAnswer(hung_call(Key.of_document(document), seconds), time.monotonic() - started)
        said = RawBSONDocument(answer)
        found = understood(document, said)
        outcome = found if isinstance(found, FailedDocument) else found.change
        return FunctionAnswer(outcome, float(said["seconds"]), tuple(said["naive"]), self._values)

    def _running(self) -> "_Process":
        if self._process is None:
            self._process, self._ahead = self._ahead or _Process(self._source), None
            self._process.listen()
            self._load(self._process)
        return self._process

    def _load(self, process: "_Process") -> None:
        try:
            process.send(self._about)
            said = RawBSONDocument(process.answer(self._loading))
        except (BrokenPipeError, EOFError, TimeoutError) as error:
            self.close()
            raise DefinitionInvalid(
                "The process that shall call the function ended, or did not get ready, while it loaded the migrations."
            ) from error
        if "error" in said:
            self.close()
            raise DefinitionInvalid(str(said["error"]))
        self._values = {str(name): str(value) for name, value in said["values"]}

    def close(self) -> None:
        for process in filter(None, (self._process, self._ahead)):
            process.close()
        self._process = self._ahead = None


class _Process:
    """The process, with a pipe for each of its standard streams."""

    def __init__(self, source: str) -> None:
        taken, given = os.pipe()
        self._out, answering = os.pipe()
        self._printed, printing = os.pipe()
        try:
            self._process = start(
                "whimbrel.workers.rehearsal", [source], streams=(taken, answering, printing)
            )
        finally:
            for number in (taken, answering, printing):
                os.close(number)
        self._given = os.fdopen(given, "wb")
        self._ear: ChildListener | None = None

    def listen(self) -> None:
        """From now on to what it prints."""
        self._ear = ChildListener(
            "dry run", self._printed, None, StandardError(STANDARD_ERROR), lambda _word: None
        )

    def send(self, document: bytes) -> None:
        """Raises BrokenPipeError."""
        self._given.write(document)
        self._given.flush()

    def answer(self, seconds: float) -> bytes:
        """The next document that the process writes. Raises EOFError, TimeoutError."""
        end = time.monotonic() + seconds
        with selectors.DefaultSelector() as selector:
            selector.register(self._out, selectors.EVENT_READ)

            def read(size: int) -> bytes:
                found = b""
                while len(found) < size:
                    if not selector.select(max(0.0, end - time.monotonic())):
                        raise TimeoutError
                    part = os.read(self._out, size - len(found))
                    if not part:
                        raise EOFError
                    found += part
                return found

            document = read_document(read)
        if document is None:
            raise EOFError
        return document

    def close(self) -> None:
        self._process.kill()
        self._process.wait()
        if self._ear is not None:
            self._ear.close()
        with contextlib.suppress(BrokenPipeError):  # what was not sent yet
            self._given.close()
        os.close(self._out)
        os.close(self._printed)


def callers(source: str | None, left_out: Sequence[str] = ()) -> Callers:
    """Processes that call the functions of a file's, folder's or module's migrations. `left_out`: see `Catalog.unloadable`."""
    return lambda run: FunctionCaller(source, left_out).of(run)
