"""The dry run's side of the process that calls a function: waits for each answer, but never longer than allowed."""

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
from whimbrel.workers.rehearsal import decode_outcome, read_document

STANDARD_ERROR = 2
CANCEL_SECONDS = 2.0  # after a call's time, in which an async function is cancelled, and the answer sent


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
        """Starts the process before the run is known: it loads the migrations meanwhile."""
        self._ahead = _Process(self._source)

    @contextlib.contextmanager
    def of(self, run: Run) -> Iterator["FunctionCaller"]:
        """Calls the function of this run. See `whimbrel.ports.Callers`."""
        about = {"name": run.migration, "run": run.id, "undo": run.undo, "uuids": run.uuids}
        self._about = bson.encode(about)
        with contextlib.closing(self):
            yield self

    def call(self, document: bytes, seconds: float) -> FunctionAnswer:
        process = self._running()
        started = time.monotonic()
        try:
            process.send(document)
            answer = process.answer(seconds + CANCEL_SECONDS)
        except (BrokenPipeError, EOFError):
            self.close()
            return FunctionAnswer(process_death(Key.of_document(document)), time.monotonic() - started)
        except TimeoutError:
            self.close()
            return FunctionAnswer(hung_call(Key.of_document(document), seconds), time.monotonic() - started)
        reply = RawBSONDocument(answer)
        result = decode_outcome(document, reply)
        outcome = result if isinstance(result, FailedDocument) else result.change
        return FunctionAnswer(outcome, float(reply["seconds"]), tuple(reply["naive"]), self._values)

    def _running(self) -> "_Process":
        if self._process is None:
            self._process, self._ahead = self._ahead or _Process(self._source), None
            self._process.listen()
            self._load(self._process)
        return self._process

    def _load(self, process: "_Process") -> None:
        try:
            process.send(self._about)
            reply = RawBSONDocument(process.answer(self._loading))
        except (BrokenPipeError, EOFError, TimeoutError) as error:
            self.close()
            raise DefinitionInvalid(
                "The process that shall call the function ended, or did not get ready, while it loaded the migrations."
            ) from error
        if "error" in reply:
            self.close()
            raise DefinitionInvalid(str(reply["error"]))
        self._values = {str(name): str(value) for name, value in reply["values"]}

    def close(self) -> None:
        for process in filter(None, (self._process, self._ahead)):
            process.close()
        self._process = self._ahead = None


class _Process:
    """The process, with a pipe for each of its standard streams."""

    def __init__(self, source: str) -> None:
        child_input, input_pipe = os.pipe()
        self._out, answering = os.pipe()
        self._printed, printing = os.pipe()
        try:
            self._process = start(
                "whimbrel.workers.rehearsal", [source], streams=(child_input, answering, printing)
            )
        finally:
            for number in (child_input, answering, printing):
                os.close(number)
        self._input = os.fdopen(input_pipe, "wb")
        self._listener: ChildListener | None = None

    def listen(self) -> None:
        """Starts listening to what it prints."""
        self._listener = ChildListener(
            "dry run", self._printed, None, StandardError(STANDARD_ERROR), lambda _word: None
        )

    def send(self, document: bytes) -> None:
        """Sends a document. Raises BrokenPipeError."""
        self._input.write(document)
        self._input.flush()

    def answer(self, seconds: float) -> bytes:
        """Returns the next document that the process writes. Raises EOFError, TimeoutError."""
        end = time.monotonic() + seconds
        with selectors.DefaultSelector() as selector:
            selector.register(self._out, selectors.EVENT_READ)

            def read(size: int) -> bytes:
                data = b""
                while len(data) < size:
                    if not selector.select(max(0.0, end - time.monotonic())):
                        raise TimeoutError
                    part = os.read(self._out, size - len(data))
                    if not part:
                        raise EOFError
                    data += part
                return data

            document = read_document(read)
        if document is None:
            raise EOFError
        return document

    def close(self) -> None:
        self._process.kill()
        self._process.wait()
        if self._listener is not None:
            self._listener.close()
        with contextlib.suppress(BrokenPipeError):  # something was not sent yet
            self._input.close()
        os.close(self._out)
        os.close(self._printed)


def callers(source: str | None, left_out: Sequence[str] = ()) -> Callers:
    """Returns what starts processes that call functions of a source's migrations. `left_out`: see `Catalog.unloadable`."""
    return lambda run: FunctionCaller(source, left_out).of(run)
