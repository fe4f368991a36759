"""Calling the user's function, for one document or many at a time; whatever it does, one outcome each."""

import asyncio
import random
import time
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import bson
from bson.errors import BSONError

from whimbrel.domain.changes import Rubbish, reduce
from whimbrel.domain.context import Context
from whimbrel.domain.failures import Kind, Trouble
from whimbrel.domain.marks import MARK_ROOT
from whimbrel.domain.migration import Migration
from whimbrel.domain.raw import DOCUMENT_OPTIONS, Key
from whimbrel.engine.work import Called, Work
from whimbrel.ports import Guarded

TAIL = 6  # frames of a traceback that are kept


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
        if self.migration.is_async:
            return work.runner.run(self._together(work, part, attempts))
        return [self._one(work, document, attempts) for document in part]

    async def _together(
        self, work: Work, part: Sequence[bytes], attempts: Mapping[Key, int]
    ) -> list[Guarded | Trouble]:
        return list(await asyncio.gather(*(self._awaited(work, document, attempts) for document in part)))

    def _one(self, work: Work, document: bytes, attempts: Mapping[Key, int]) -> Guarded | Trouble:
        key = Key.of_document(document)
        arguments = self._arguments(work, key, document, attempts)
        if isinstance(arguments, Trouble):
            return arguments
        work.hold.calling = (key, time.monotonic())
        try:
            returned = self.migration(*arguments)
            return Guarded(key, document, reduce(work.definition, document, returned, arguments[0]))
        except Rubbish as error:
            return Trouble(key=key, kind=error.kind, type=type(error).__name__, message=str(error))
        except (Exception, SystemExit) as error:  # noqa: BLE001  whatever a user's function raises is that document's failure
            return raised(key, error)

    async def _awaited(self, work: Work, document: bytes, attempts: Mapping[Key, int]) -> Guarded | Trouble:
        key = Key.of_document(document)
        arguments = self._arguments(work, key, document, attempts)
        if isinstance(arguments, Trouble):
            return arguments
        try:
            async with asyncio.timeout(work.definition.timeout):
                returned = await self.migration(*arguments)
            return Guarded(key, document, reduce(work.definition, document, returned, arguments[0]))
        except Rubbish as error:
            return Trouble(key=key, kind=error.kind, type=type(error).__name__, message=str(error))
        except (Exception, SystemExit) as error:  # noqa: BLE001  whatever a user's function raises is that document's failure
            return raised(key, error)

    def _arguments(
        self, work: Work, key: Key, document: bytes, attempts: Mapping[Key, int]
    ) -> Trouble | tuple[Any, ...]:
        try:
            decoded: dict[str, Any] = bson.decode(document, DOCUMENT_OPTIONS)
        except (BSONError, ValueError, RecursionError) as error:
            return Trouble(
                key=key,
                kind=Kind.DATA,
                type="Undecodable",
                message=f"The document cannot be decoded: {error}",
            )
        decoded.pop(MARK_ROOT, None)
        if not self.migration.wants_context:
            return (decoded,)
        return decoded, Context(work.run.id, work.batch.token, attempts.get(key, 1))


def raised(key: Key, error: BaseException) -> Trouble:
    """The failure that an exception of the user's function is, with the function's own part of the traceback."""
    frames = traceback.extract_tb(error.__traceback__)
    own = [
        frame
        for frame in frames
        if "whimbrel/engine" not in frame.filename and "whimbrel/domain" not in frame.filename
    ]
    text = "".join(traceback.format_list(own[-TAIL:]))
    return Trouble(
        key=key,
        kind=Kind.CODE,
        type=type(error).__name__,
        message=str(error)[:2000] or type(error).__name__,
        traceback=text[-4000:],
    )


def jitter(attempt: int) -> float:
    """Seconds to wait before a document that the application keeps changing is read again."""
    return float(0.01 * 2**attempt * (0.5 + random.random()))  # noqa: S311  spreads retries, protects nothing
