"""The child that calls a function for the documents of a dry run, one at a time: `python -m whimbrel.workers.rehearsal`.

It reads raw documents from its standard input and answers each with what the function makes of it. It is connected to
no database. The function cannot reach either stream: what it prints goes to standard error.
"""

import gc

if __name__ == "__main__":
    gc.disable()  # imports create no garbage; enabled again before there is code of the user

import contextlib
import contextvars
import json
import os
import queue
import signal
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any, BinaryIO

import bson

import whimbrel.structlog_without_rich  # noqa: F401  before anything that imports structlog
from whimbrel.domain.bson.naive_datetimes import naive_datetime_fields
from whimbrel.domain.bson.raw_bson import Key
from whimbrel.domain.failures.failure import FailedDocument, FailureKind
from whimbrel.domain.migrations.catalog import choose
from whimbrel.domain.migrations.changes import Change, Paths, Row, Single, Skipped, Unchanged
from whimbrel.domain.migrations.context import Context
from whimbrel.domain.migrations.migration import Migration
from whimbrel.domain.text.safe_text import exception_message
from whimbrel.engine.executing.function_calls import call
from whimbrel.errors import WhimbrelError
from whimbrel.ports import GuardedChange
from whimbrel.workers.child_output import capture_streams
from whimbrel.workers.migration_loader import load

READY = "ready"


def main() -> None:
    """Serves until standard input ends, which begins with a document: the migration's name, the run's id, its undo.

    The argument is JSON: the source of the migrations, and which files of it to leave out.
    """
    gc.enable()
    requests, answers = _streams()
    source, without = json.loads(sys.argv[1])
    try:
        loaded = load(source, without)
        head = read_document(requests.read)
        if head is None:
            return
        request = bson.decode(head)
        migration = choose(loaded, request["name"])
    except WhimbrelError as error:
        _answer(answers, {"error": exception_message(error)})
        return
    _answer(answers, {READY: True, "values": [[*pair] for pair in migration.definition.code.values.items()]})
    run = request["run"]
    documents: queue.SimpleQueue[bytes] = queue.SimpleQueue()
    threading.Thread(target=_receive, args=(requests, documents), daemon=True).start()
    definition = replace(migration.definition, undo=request["undo"], uuids=request["uuids"])
    context = Context(run, f"{run}.0", 1) if migration.wants_context else None
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a KeyboardInterrupt belongs to the function
    migration.transform, naive = noting_naive_fields(migration)

    def serve() -> None:
        while True:
            document = documents.get()
            naive.clear()
            started = time.perf_counter()
            outcome = call(migration, definition, document, context)
            seconds = time.perf_counter() - started
            _answer(answers, {**encode_outcome(outcome), "seconds": seconds, "naive": list(naive)})

    # In a thread, as workers call it; with what the module has set for its context.
    calling = threading.Thread(target=contextvars.copy_context().run, args=(serve,), name="slot-0")
    calling.start()
    calling.join()


def noting_naive_fields(migration: Migration) -> tuple[Callable[..., Any], list[str]]:
    """Returns the function, and the list in which the fields of its last answer that hold a time without a zone are noted."""
    function, naive = migration.transform, list[str]()

    def noted(returned: Any) -> Any:
        with contextlib.suppress(Exception):  # whatever a user's mapping does: its next reader reports it
            naive[:] = naive_datetime_fields(returned)
        return returned

    async def awaited(*arguments: Any) -> Any:
        return noted(await migration_function(*arguments))

    def called(*arguments: Any) -> Any:
        return noted(migration_function(*arguments))

    if function is None:
        raise TypeError(f"{migration!r} has no function")
    migration_function = function
    return awaited if migration.is_async else called, naive


def _streams() -> tuple[BinaryIO, BinaryIO]:
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    former_input, _ = capture_streams(lambda: "")
    return os.fdopen(former_input, "rb"), answers


def _receive(requests: BinaryIO, documents: "queue.SimpleQueue[bytes]") -> None:
    """Receives documents. The parent closes the stream when it needs nothing any more, and the kernel does when it died: this process ends then, whatever the function does."""
    while document := read_document(requests.read):
        documents.put(document)
    os._exit(0)


def read_document(read: Callable[[int], bytes]) -> bytes | None:
    """Returns the next document of a stream of BSON; None at its end."""
    head = read(4)
    if len(head) < 4:  # noqa: PLR2004
        return None
    body = read(int.from_bytes(head, "little") - 4)
    return head + body if body[-1:] == b"\0" else None


def _answer(answers: BinaryIO, answer: dict[str, Any]) -> None:
    answers.write(bson.encode(answer))
    answers.flush()


# Encoding an outcome as a document, and decoding it


def encode_outcome(outcome: GuardedChange | FailedDocument) -> dict[str, Any]:
    if isinstance(outcome, FailedDocument):
        return {
            "kind": str(outcome.kind), "type": outcome.type, "message": outcome.message, "traceback": outcome.traceback,
            "final": outcome.final,
            "place": outcome.place,
        }  # fmt: skip
    match outcome.change:
        case Row(values, unset):
            return {"row": values, "unset": list(unset)}
        case Paths():
            return {"paths": outcome.change.values, "unset": list(outcome.change.unset)}
        case Single():
            return {"update": outcome.change.update, "whole": outcome.change.whole}
        case Unchanged() | Skipped():
            return {"same": type(outcome.change).__name__}
        case other:
            raise TypeError(other)  # no function's answer is reduced to another change


def decode_outcome(document: bytes, answer: Any) -> GuardedChange | FailedDocument:
    """Returns the outcome that `encode_outcome` encoded."""
    key = Key.of_document(document)
    if "kind" in answer:
        return FailedDocument(
            key=key, kind=FailureKind(answer["kind"]), type=answer["type"], message=answer["message"], traceback=answer["traceback"],
            final=answer["final"],
            place=answer["place"],
        )  # fmt: skip
    return GuardedChange(key, document, _change(answer))


def _change(answer: Any) -> Change:
    if "row" in answer:
        return Row(bytes(answer["row"]), tuple(answer["unset"]))
    if "paths" in answer:
        return Paths(dict(answer["paths"]), tuple(answer["unset"]))
    if "update" in answer:
        return Single(answer["update"], whole=answer["whole"])
    return Skipped() if answer["same"] == Skipped.__name__ else Unchanged()


if __name__ == "__main__":
    main()
