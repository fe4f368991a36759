"""The dry run's side of the process that calls a function: it waits for each answer, and never longer than it may."""

import contextlib
import json
import os
import selectors
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from typing import IO

from bson.raw_bson import RawBSONDocument

from whimbrel.domain.failures import Trouble, death, hang
from whimbrel.domain.raw import Key
from whimbrel.domain.runs import Run
from whimbrel.errors import DefinitionInvalid
from whimbrel.ports import Answered, Callers
from whimbrel.settings import read_settings
from whimbrel.workers.hearing import Ear, Sink
from whimbrel.workers.rehearsal import read_document, understood

STANDARD_ERROR = 2
AIR = 2.0  # seconds after a call's time in which an async function is cancelled, and the answer sent


class Calls:
    """See `whimbrel.ports.Caller`."""

    def __init__(self, source: str | None, left_out: Sequence[str], run: Run) -> None:
        given = {
            "source": source,
            "without": left_out,
            "name": run.migration,
            "run": run.id,
            "undo": run.undo,
            "uuids": run.uuids,
        }
        self._command = [sys.executable, "-m", "whimbrel.workers.rehearsal", json.dumps(given)]
        self._process: subprocess.Popen[bytes] | None = None
        self._ear: Ear | None = None
        self._loading = read_settings().whimbrel_loading

    def call(self, document: bytes, seconds: float) -> Answered:
        process = self._running()
        started = time.monotonic()
        try:
            _stream(process.stdin).write(document)
            _stream(process.stdin).flush()
            answer = _answer(process, seconds + AIR)
        except (BrokenPipeError, EOFError):
            self.close()
            return Answered(death(Key.of_document(document)), time.monotonic() - started)
        except TimeoutError:
            self.close()
            return Answered(hang(Key.of_document(document), seconds), time.monotonic() - started)
        said = RawBSONDocument(answer)
        found = understood(document, said)
        outcome = found if isinstance(found, Trouble) else found.change
        return Answered(outcome, float(said["seconds"]), tuple(said["naive"]))

    def _running(self) -> subprocess.Popen[bytes]:
        if self._process is None:
            # In a group of its own: Ctrl-C is the parent's affair, which then closes it.
            self._process = subprocess.Popen(  # noqa: S603  our own program
                self._command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                start_new_session=True,
            )
            printed = _stream(self._process.stderr).fileno()
            self._ear = Ear("dry run", printed, None, Sink(STANDARD_ERROR), lambda _word: None)
            self._load(self._process)
        return self._process

    def _load(self, process: subprocess.Popen[bytes]) -> None:
        try:
            said = RawBSONDocument(_answer(process, self._loading))
        except (EOFError, TimeoutError) as error:
            self.close()
            raise DefinitionInvalid(
                "The process that shall call the function ended, or did not get ready, while it loaded the migrations."
            ) from error
        if "error" in said:
            self.close()
            raise DefinitionInvalid(str(said["error"]))

    def close(self) -> None:
        process, self._process = self._process, None
        ear, self._ear = self._ear, None
        if process is not None:
            process.kill()
            process.wait()
            if ear is not None:
                ear.close()
            for stream in (process.stdin, process.stdout, process.stderr):
                with contextlib.suppress(BrokenPipeError):  # what was not sent yet
                    _stream(stream).close()


def _answer(process: subprocess.Popen[bytes], seconds: float) -> bytes:
    """The next document that the process writes. Raises EOFError, TimeoutError."""
    end = time.monotonic() + seconds
    out = _stream(process.stdout).fileno()
    with selectors.DefaultSelector() as selector:
        selector.register(out, selectors.EVENT_READ)

        def read(size: int) -> bytes:
            found = b""
            while len(found) < size:
                if not selector.select(max(0.0, end - time.monotonic())):
                    raise TimeoutError
                part = os.read(out, size - len(found))
                if not part:
                    raise EOFError
                found += part
            return found

        document = read_document(read)
    if document is None:
        raise EOFError
    return document


def _stream(stream: IO[bytes] | None) -> IO[bytes]:
    if stream is None:
        raise RuntimeError("a process is started with pipes")
    return stream


def callers(source: str | None, left_out: Sequence[str] = ()) -> Callers:
    """Processes that call the functions of a file's, folder's or module's migrations. `left_out`: see `Catalog.unloadable`."""

    @contextlib.contextmanager
    def caller(run: Run) -> Iterator[Calls]:
        with contextlib.closing(Calls(source, left_out, run)) as found:
            yield found

    return caller
