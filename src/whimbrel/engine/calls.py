"""Calling the user's function, for one document or many at a time; whatever it does, one outcome each."""

import asyncio
import random
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import bson
from bson.errors import BSONError

from whimbrel.domain.changes import Rubbish, reduce
from whimbrel.domain.context import Context
from whimbrel.domain.failures import Kind, Trouble
from whimbrel.domain.marks import MARK_ROOT
from whimbrel.domain.migration import Definition, Migration
from whimbrel.domain.raw import Key
from whimbrel.domain.uuids import reading
from whimbrel.domain.wording import place, said, traced, type_name
from whimbrel.engine.loop import process_loop
from whimbrel.engine.work import Called, Work
from whimbrel.ports import Guarded

IN_THREADS = "Functions are called in threads: set signals where the module is imported, and limit a call's time by timeout=."


@dataclass(frozen=True, slots=True)
class Calling:
    """A `Call` of a migration's function."""

    migration: Migration

    def __call__(
        self, work: Work, documents: Sequence[bytes], attempts: Mapping[Key, int], *, until: float
    ) -> Called:
        slice_ = work.definition.concurrency if self.migration.is_async else 1
        guarded: list[Guarded] = []
        troubles: list[Trouble] = []
        done = 0
        while done < len(documents) and (done == 0 or time.monotonic() < until):
            part = documents[done : done + slice_]
            for outcome in self._outcomes(work, part, attempts):
                (guarded if isinstance(outcome, Guarded) else troubles).append(outcome)  # type: ignore[arg-type]
            done += len(part)
            work.hold.progress = time.monotonic()
        work.hold.calling = None
        return Called(guarded, troubles, done)

    def _outcomes(
        self, work: Work, part: Sequence[bytes], attempts: Mapping[Key, int]
    ) -> list[Guarded | Trouble]:
        if not self.migration.is_async:
            return [self._one(work, document, attempts) for document in part]

        def progress() -> None:  # calls that do not end are found one by one
            work.hold.progress = time.monotonic()

        return work.loop.run(self._together(work, part, attempts), progress)

    async def _together(
        self, work: Work, part: Sequence[bytes], attempts: Mapping[Key, int]
    ) -> list[Guarded | Trouble]:
        return list(await asyncio.gather(*(self._awaited(work, document, attempts) for document in part)))

    async def _awaited(self, work: Work, document: bytes, attempts: Mapping[Key, int]) -> Guarded | Trouble:
        key, context = Key.of_document(document), self._context(work, document, attempts)
        async with work.loop.room(self.migration.name, work.definition.concurrency):
            with work.loop.call((work.hold, key)):
                work.hold.awaited[key] = time.monotonic()
                try:
                    return await call_async(self.migration, work.definition, document, context)
                except BaseException as error:  # noqa: BLE001  a GeneratorExit closes what is inside, and comes out here
                    return raised(key, error)
                finally:
                    work.hold.awaited.pop(key, None)

    def _one(self, work: Work, document: bytes, attempts: Mapping[Key, int]) -> Guarded | Trouble:
        work.hold.calling = (Key.of_document(document), time.monotonic())
        return call_one(self.migration, work.definition, document, self._context(work, document, attempts))

    def _context(self, work: Work, document: bytes, attempts: Mapping[Key, int]) -> Context | None:
        if not self.migration.wants_context:
            return None
        return Context(work.run.id, work.batch.token, attempts.get(Key.of_document(document), 1))


def call_one(
    migration: Migration, definition: Definition, document: bytes, context: Context | None
) -> Guarded | Trouble:
    """What a function makes of one raw document, or what went wrong with it.

    `definition`: the migration's, as the run has it. `context`: where the function wants one.
    KeyboardInterrupt is the function's too: in a worker process only its main thread hears signals, and calls nothing.
    """
    key = Key.of_document(document)
    arguments = _arguments(key, document, context, definition.uuids)
    if isinstance(arguments, Trouble):
        return arguments
    try:
        returned = migration(*arguments)
        return Guarded(key, document, reduce(definition, document, returned, arguments[0]))
    except Rubbish as error:
        return unusable(key, error)
    except BaseException as error:  # noqa: BLE001  whatever a user's function raises is that document's failure
        return raised(key, error)


async def call_async(
    migration: Migration, definition: Definition, document: bytes, context: Context | None
) -> Guarded | Trouble:
    """`call_one` of an `async def`, which is cancelled at the end of its time."""
    key = Key.of_document(document)
    arguments = _arguments(key, document, context, definition.uuids)
    if isinstance(arguments, Trouble):
        return arguments
    try:
        async with asyncio.timeout(definition.timeout):
            returned = await migration(*arguments)
        return Guarded(key, document, reduce(definition, document, returned, arguments[0]))
    except Rubbish as error:
        return unusable(key, error)
    except BaseException as error:  # noqa: BLE001  whatever a user's function raises is that document's failure
        return raised(key, error)


def call(
    migration: Migration, definition: Definition, document: bytes, context: Context | None
) -> Guarded | Trouble:
    """`call_one` of any function: an awaited one in this process's event loop, as a worker does it."""
    if migration.is_async:
        return process_loop().run(call_async(migration, definition, document, context))
    return call_one(migration, definition, document, context)


def _arguments(key: Key, document: bytes, context: Context | None, uuids: str) -> Trouble | tuple[Any, ...]:
    try:
        decoded: dict[str, Any] = bson.decode(document, reading(uuids))
    except (BSONError, ValueError, RecursionError) as error:
        return Trouble(
            key=key, kind=Kind.DATA, type="Undecodable", message=f"The document cannot be decoded: {error}"
        )
    decoded.pop(MARK_ROOT, None)
    return (decoded,) if context is None else (decoded, context)


def unusable(key: Key, error: Rubbish) -> Trouble:
    """The failure that an answer is which is no change."""
    return Trouble(key=key, kind=error.kind, type=type_name(error), message=said(error), final=True)


def raised(key: Key, error: BaseException) -> Trouble:
    """The failure that an exception of the user's function is, with the function's own part of the traceback."""
    message, threaded = said(error), _wants_main_thread(error)
    return Trouble(
        key=key, kind=Kind.CODE, type=type_name(error), message=f"{message}. {IN_THREADS}" if threaded else message,
        traceback=traced(error, 4000), place=place(error), final=threaded or isinstance(error, NameError),
    )  # fmt: skip


def _wants_main_thread(error: BaseException) -> bool:
    """What Python says of `signal.signal` and its like in any other thread."""
    return isinstance(error, ValueError | RuntimeError) and "only works in main thread" in said(error)


def jitter(attempt: int) -> float:
    """Seconds to wait before a document that the application keeps changing is read again."""
    return float(0.01 * 2**attempt * (0.5 + random.random()))  # noqa: S311  spreads retries, protects nothing
