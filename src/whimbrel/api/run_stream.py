"""Sends what goes on in the whole cluster as one event stream: one look each half second for all clients of this process.

Each event has an id. A client that comes back with the last one that it got is sent what has happened since; if that is not kept,
or was given by another process, it is told to load its page again. A new client is sent everything once.
"""

import asyncio
import json
import secrets
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Annotated, Any, Final

import anyio.to_thread
import structlog
from fastapi import Depends, Request
from fastapi.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from whimbrel.api.change_signal import ChangeSignal
from whimbrel.api.event_streams import HEADERS, OVER, EventStreams
from whimbrel.api.session_cookies import while_session_holds
from whimbrel.engine.operating.overview import Overview, Watch
from whimbrel.engine.operating.overview_changes import Known, changes, first_known
from whimbrel.errors import Transient, WhimbrelError
from whimbrel.ports import Ledger

log = structlog.get_logger("whimbrel.api")

EVERY: Final = 0.5  # seconds between two looks
BEAT: Final = 5.0  # seconds without an event after which the age of what was told is sent
KEPT: Final = 2000  # events for clients that come back
FORGOTTEN: Final = 30.0  # seconds without a look after which nothing is known of what came between
FIRST: Final = "retry: 2000\n\n"
RELOAD: Final = "What happened since the last event is not known to this process: load again what you show."
Look = Callable[[], Overview]


class RunLog:
    """The events of this process. Used only in the event loop's thread, except for the looks."""

    def __init__(
        self, streams: EventStreams, watch: Callable[[Ledger], Look] = lambda ledger: Watch(ledger).look
    ) -> None:
        """`watch`: returns what looks at a ledger, again and again."""
        self._streams, self._watch = streams, watch
        self._task: asyncio.Task[None] | None = None
        self._ledger: Ledger | None = None
        self._look: Look | None = None
        self._watching = 0
        self._changes = ChangeSignal()
        self._forget()

    def _forget(self) -> None:
        self._name, self._number = secrets.token_hex(4), 0
        self._kept: deque[str] = deque(maxlen=KEPT)
        self._known: Known | None = None
        self._looked = float("-inf")
        self._snapshot: tuple[int, str] | None = None
        self._error: Exception | None = None
        self._trouble = ""
        self._over = False

    def response(self, ledger: Ledger, last_id: str | None) -> "RunStream":
        """Returns a stream. `last_id`: of the last event that the client has got."""
        return RunStream(self, ledger, last_id)

    @contextmanager
    def watching(self, ledger: Ledger) -> Iterator[None]:
        """Looks for as long as anybody watches."""
        with self._streams.seat():
            if self._task is None or self._task.done():
                self._begin(ledger)
            self._watching += 1
            try:
                yield
            finally:
                self._watching -= 1

    def _begin(self, ledger: Ledger) -> None:
        clock = asyncio.get_running_loop().time
        if ledger is not self._ledger or self._error is not None or clock() - self._looked > FORGOTTEN:
            self._forget()
            self._ledger, self._look = ledger, self._watch(ledger)
        self._over = False
        self._task = asyncio.create_task(self._run())

    async def _run(self) -> None:
        try:
            await self._repeat()
        except Exception as error:  # raised to clients that wait for the first event
            if not isinstance(error, WhimbrelError):
                log.exception("the look for the stream of runs broke")
            self._error = error
        finally:
            self._over = True
            self._changes.send()

    async def _repeat(self) -> None:
        loop, look = asyncio.get_running_loop(), self._look
        while look is not None and not self._streams.leaving():
            try:
                overview = await anyio.to_thread.run_sync(look)
            except WhimbrelError as error:
                if self._known is None or not isinstance(error, Transient):
                    self._tell_trouble(error)
                    raise
                self._tell_trouble(error)
            else:
                self._looked = loop.time()
                if self._trouble:  # a page that shows the error must not wait for the next change
                    self._trouble = ""
                    self._publish([("beat", _json({"ageSeconds": 0.0}))])
                self._advance(overview)
            await asyncio.sleep(EVERY)
            if not self._watching:
                return

    def _tell_trouble(self, error: WhimbrelError) -> None:
        event = self._streams.failure(error)
        said = f"{getattr(error, 'code', '')}: {error}"
        if self._known is not None and said != self._trouble:
            self._trouble = said
            self._publish([(event.name, event.data)])

    def _advance(self, overview: Overview) -> None:
        if self._known is None:
            self._known = first_known(overview)
            self._changes.send()
            return
        self._known, told = changes(self._known, overview)
        self._publish([(name, _json(facts)) for name, facts in told])

    def _publish(self, told: Sequence[tuple[str, str]]) -> None:
        for name, data in told:
            self._number += 1
            self._kept.append(f"id: {self._id}\nevent: {name}\ndata: {data}\n\n")
        if told:
            self._changes.send()

    @property
    def _id(self) -> str:
        return f"{self._name}-{self._number}"

    async def first(self) -> None:
        """Waits for the first look. Raises what it raised."""
        while self._known is None and not self._over:
            await self._changes.wait(BEAT)
        if self._known is None and self._error is not None:
            raise self._error

    async def events(self, last_id: str | None) -> AsyncIterator[str]:
        """Yields the texts for one client."""
        clock = asyncio.get_running_loop().time
        end, name, seen = clock() + self._streams.seconds, self._name, self._number_of(last_id)
        yield FIRST
        if self._known is None:
            return
        if seen is None:
            text = ("" if last_id is None else self._reload()) + self._everything()
            seen = self._number  # before it is sent, which may take long
            yield text
        while True:
            if name != self._name or (missing := self._number - seen) > len(self._kept):
                text = self._reload() + self._everything()
                name, seen = self._name, self._number
                yield text
            elif missing:
                text = "".join(self._kept[at] for at in range(len(self._kept) - missing, len(self._kept)))
                seen = self._number
                yield text
            elif self._over:
                return
            elif clock() >= end:
                yield OVER
                return
            elif not await self._changes.wait(min(BEAT, end - clock())) and clock() < end:
                yield self._beat(clock() - self._looked)

    def _number_of(self, last_id: str | None) -> int | None:
        """Returns the number of the last event that a client has got; None where what came after it is not known."""
        name, _, number = (last_id or "").rpartition("-")
        if name != self._name or not (number.isascii() and number.isdigit() and len(number) < 16):  # noqa: PLR2004  more than are ever told
            return None
        return int(number) if 0 <= self._number - int(number) <= len(self._kept) else None

    def _everything(self) -> str:
        if self._snapshot is None or self._snapshot[0] != self._number:
            snapshot = self._known.snapshot if self._known else {}
            text = f"id: {self._id}\nevent: snapshot\ndata: {_json(snapshot)}\n\n"
            self._snapshot = self._number, text
        return self._snapshot[1]

    def _reload(self) -> str:
        return f"event: reload\ndata: {_json({'reason': RELOAD})}\n\n"

    def _beat(self, age: float) -> str:
        # The comment is for proxies, the event for pages, which never see a comment.
        return f": it goes on\nevent: beat\ndata: {_json({'ageSeconds': round(age, 1)})}\n\n"


def _json(facts: Mapping[str, Any]) -> str:
    return json.dumps(facts, ensure_ascii=False, separators=(",", ":"))


class RunStream(StreamingResponse):
    """A response that watches while it is sent."""

    def __init__(self, run_log: RunLog, ledger: Ledger, last_id: str | None) -> None:
        super().__init__(iter(()), media_type="text/event-stream", headers=HEADERS)
        self._log, self._ledger, self._last_id = run_log, ledger, last_id

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        with self._log.watching(self._ledger):
            await self._log.first()
            self.body_iterator = self._log.events(self._last_id)
            await while_session_holds(super().__call__, scope, receive, send)


async def _run_log(request: Request) -> RunLog:
    run_log: RunLog = request.app.state.run_log
    return run_log


ThisRunLog = Annotated[RunLog, Depends(_run_log)]
