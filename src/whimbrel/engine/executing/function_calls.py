"""Calls the user's function, for one document or many at a time; whatever it does, there is one outcome for each document."""

import asyncio
import random
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import bson
from bson.errors import BSONError

from whimbrel.domain.bson.raw_bson import Key
from whimbrel.domain.bson.uuids import reading
from whimbrel.domain.failures.failure import FailedDocument, FailureKind
from whimbrel.domain.failures.retry_policy import CHANGED_MEANWHILE
from whimbrel.domain.migrations.context import Context
from whimbrel.domain.migrations.definition import Definition
from whimbrel.domain.migrations.marks import MARK_ROOT
from whimbrel.domain.migrations.migration import Migration
from whimbrel.domain.migrations.smallest_change import UnusableAnswer, smallest_change
from whimbrel.domain.runs.batches import Batch
from whimbrel.domain.text.safe_text import (
    exception_message,
    exception_traceback,
    place_of_exception,
    type_name,
)
from whimbrel.engine.executing.event_loop import EventLoop, process_loop
from whimbrel.engine.executing.lease import Lease
from whimbrel.engine.executing.transform import Transformed
from whimbrel.ports import GuardedChange

IN_THREADS = "Functions are called in threads: set signals where the module is imported, and limit a call's time by timeout=."


@dataclass(frozen=True, slots=True)
class UserFunction:
    """The `Transform` of a migration's function, used by one slot: its lease tells what is being called."""

    migration: Migration
    lease: Lease
    loop: EventLoop

    def __call__(
        self,
        definition: Definition,
        batch: Batch,
        documents: Sequence[bytes],
        attempts: Mapping[Key, int],
        *,
        until: float,
    ) -> Transformed:
        slice_size = definition.concurrency if self.migration.is_async else 1
        guarded: list[GuardedChange] = []
        failures: list[FailedDocument] = []
        done = 0
        while done < len(documents) and (done == 0 or time.monotonic() < until):
            part = documents[done : done + slice_size]
            contexts = [self._context(batch, document, attempts) for document in part]
            for outcome in self._outcomes(definition, part, contexts):
                (guarded if isinstance(outcome, GuardedChange) else failures).append(outcome)  # type: ignore[arg-type]
            done += len(part)
            self.lease.step()
        self.lease.calling = None
        return Transformed(guarded, failures, done)

    def _outcomes(
        self, definition: Definition, part: Sequence[bytes], contexts: Sequence[Context | None]
    ) -> list[GuardedChange | FailedDocument]:
        called = list(zip(part, contexts, strict=True))
        if not self.migration.is_async:
            return [self._call_one(definition, document, context) for document, context in called]

        async def together() -> list[GuardedChange | FailedDocument]:
            return list(
                await asyncio.gather(
                    *(self._await_one(definition, document, context) for document, context in called)
                )
            )

        return self.loop.run(together(), self.lease.step)  # the watch finds calls that do not end one by one

    async def _await_one(
        self, definition: Definition, document: bytes, context: Context | None
    ) -> GuardedChange | FailedDocument:
        key = Key.of_document(document)
        async with self.loop.semaphore(self.migration.name, definition.concurrency):
            with self.loop.call((self.lease, key)):
                self.lease.awaited[key] = time.monotonic()
                try:
                    return await call_async(self.migration, definition, document, context)
                except BaseException as error:  # noqa: BLE001  a GeneratorExit closes the coroutine, and arrives here
                    return failure_of_exception(key, error)
                finally:
                    self.lease.awaited.pop(key, None)

    def _call_one(
        self, definition: Definition, document: bytes, context: Context | None
    ) -> GuardedChange | FailedDocument:
        self.lease.calling = (Key.of_document(document), time.monotonic())
        return call_one(self.migration, definition, document, context)

    def _context(self, batch: Batch, document: bytes, attempts: Mapping[Key, int]) -> Context | None:
        if not self.migration.wants_context:
            return None
        return Context(batch.run, batch.token, attempts.get(Key.of_document(document), 1))


def call_one(
    migration: Migration, definition: Definition, document: bytes, context: Context | None
) -> GuardedChange | FailedDocument:
    """Returns what a function makes of one raw document, or what went wrong with it.

    `definition`: the migration's, as the run has it. `context`: where the function wants one.
    KeyboardInterrupt is a failure too: in a worker process only the main thread receives signals, and it calls no function.
    """
    key = Key.of_document(document)
    arguments = _arguments(key, document, context, definition.uuids)
    if isinstance(arguments, FailedDocument):
        return arguments
    try:
        returned = migration(*arguments)
        return GuardedChange(key, document, smallest_change(definition, document, returned, arguments[0]))
    except UnusableAnswer as error:
        return failure_of_answer(key, error)
    except BaseException as error:  # noqa: BLE001  whatever a user's function raises is that document's failure
        return failure_of_exception(key, error)


async def call_async(
    migration: Migration, definition: Definition, document: bytes, context: Context | None
) -> GuardedChange | FailedDocument:
    """Does what `call_one` does for an `async def`, which is cancelled at the end of its time."""
    key = Key.of_document(document)
    arguments = _arguments(key, document, context, definition.uuids)
    if isinstance(arguments, FailedDocument):
        return arguments
    try:
        async with asyncio.timeout(definition.timeout):
            returned = await migration(*arguments)
        return GuardedChange(key, document, smallest_change(definition, document, returned, arguments[0]))
    except UnusableAnswer as error:
        return failure_of_answer(key, error)
    except BaseException as error:  # noqa: BLE001  whatever a user's function raises is that document's failure
        return failure_of_exception(key, error)


def call(
    migration: Migration, definition: Definition, document: bytes, context: Context | None
) -> GuardedChange | FailedDocument:
    """Does what `call_one` does for any function: an awaited one runs in this process's event loop, as in a worker."""
    if migration.is_async:
        return process_loop().run(call_async(migration, definition, document, context))
    return call_one(migration, definition, document, context)


def _arguments(
    key: Key, document: bytes, context: Context | None, uuids: str
) -> FailedDocument | tuple[Any, ...]:
    try:
        decoded: dict[str, Any] = bson.decode(document, reading(uuids))
    except (BSONError, ValueError, RecursionError) as error:
        return FailedDocument(
            key=key,
            kind=FailureKind.DATA,
            type="Undecodable",
            message=f"The document cannot be decoded: {error}",
        )
    decoded.pop(MARK_ROOT, None)
    return (decoded,) if context is None else (decoded, context)


def failure_of_answer(key: Key, error: UnusableAnswer) -> FailedDocument:
    """Returns the failure for an answer that is not a change."""
    return FailedDocument(
        key=key, kind=error.kind, type=type_name(error), message=exception_message(error), final=True
    )


def failure_of_exception(key: Key, error: BaseException) -> FailedDocument:
    """Returns the failure for an exception of the user's function, with the function's own part of the traceback."""
    message, threaded = exception_message(error), _wants_main_thread(error)
    return FailedDocument(
        key=key, kind=FailureKind.CODE, type=type_name(error), message=f"{message}. {IN_THREADS}" if threaded else message,
        traceback=exception_traceback(error, 4000), place=place_of_exception(error), final=threaded or isinstance(error, NameError),
    )  # fmt: skip


def _wants_main_thread(error: BaseException) -> bool:
    """Whether this is what Python raises for `signal.signal` and the like in any other thread."""
    return isinstance(error, ValueError | RuntimeError) and "only works in main thread" in exception_message(
        error
    )


def jitter(attempt: int) -> float:
    """Returns the seconds to wait before a document that the application keeps changing is read again."""
    return CHANGED_MEANWHILE.delay(attempt + 1, random.random())  # noqa: S311  spreads retries, protects nothing
