"""Sends event streams: one look for all clients that watch the same, with limits on their number and duration."""

import asyncio
from collections.abc import AsyncIterator, Callable, Hashable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Annotated, Final

import anyio.to_thread
import structlog
from fastapi import Depends, Request
from fastapi.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from whimbrel.api.change_signal import ChangeSignal
from whimbrel.api.http_errors import ApiError
from whimbrel.api.models.envelope import Failure
from whimbrel.api.session_cookies import while_session_holds
from whimbrel.errors import Transient, WhimbrelError

log = structlog.get_logger("whimbrel.api")

BEAT: Final = 15.0  # seconds without an event after which a comment is sent, which reveals a dead connection
PAUSE: Final = 5  # seconds after which a refused client may try again
OVER: Final = ": this stream has lasted long enough, connect again\n\n"
# A proxy must neither keep what it passes on nor wait until there is more of it.
HEADERS: Final = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}


@dataclass(frozen=True, slots=True)
class Event:
    """An event to send. `last`: the stream ends with it."""

    name: str
    data: str
    last: bool = False

    @property
    def text(self) -> str:
        return f"event: {self.name}\ndata: {self.data}\n\n"


Look = Callable[[], Event]


class _Feed:
    """The events for all clients that watch the same."""

    def __init__(self) -> None:
        self.watching, self.number, self.over = 0, 0, False
        self.latest: Event | None = None
        self.error: Exception | None = None
        self.changes = ChangeSignal()

    def publish(self, event: Event) -> None:
        if event != self.latest:
            self.latest, self.number = event, self.number + 1
            self.changes.send()

    def end(self, error: Exception | None = None) -> None:
        self.over, self.error = True, error
        self.changes.send()


class EventStreams:
    """The event streams of one process. Used only in the event loop's thread, except for the looks."""

    def __init__(
        self,
        most: int,
        seconds: float,
        leaving: Callable[[], bool],
        why: Callable[[WhimbrelError], str] = str,
    ) -> None:
        """`leaving`: whether all streams must end now. `why`: returns the sentence for an error."""
        self._most, self.seconds, self.leaving, self._why = most, seconds, leaving, why
        self._open = 0
        self._feeds: dict[Hashable, _Feed] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def __len__(self) -> int:
        return self._open

    def response(self, key: Hashable, interval: float, look: Look) -> "EventStream":
        """Returns a stream that calls `look` repeatedly, once for all clients of this key, and sends what has changed."""
        return EventStream(self, key, interval, look)

    @contextmanager
    def seat(self) -> Iterator[None]:
        """Counts an open stream. Raises ApiError (503) where there are too many."""
        if self._open >= self._most:
            raise ApiError(
                503,
                "too_many_streams",
                f"{self._most} event streams are open, as many as API_STREAMS allows. Try again in {PAUSE} seconds, or ask for the state.",
                retry_after=PAUSE,
            )
        self._open += 1
        try:
            yield
        finally:
            self._open -= 1

    @contextmanager
    def place(self, key: Hashable, interval: float, look: Look) -> Iterator[_Feed]:
        """Takes a place for a stream. Raises ApiError (503) where there is none."""
        with self.seat():
            feed = self._feeds.get(key)
            if feed is None or feed.over:
                feed = self._feeds[key] = _Feed()
                task = asyncio.create_task(self._run_feed(key, feed, interval, look))
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)
            feed.watching += 1
            try:
                yield feed
            finally:
                feed.watching -= 1

    def failure(self, error: WhimbrelError) -> Event:
        """Returns the event that tells why a look failed; the last one where waiting does not help."""
        told = Failure(error=self._why(error), code=getattr(error, "code", "error"))
        text = told.model_dump_json(by_alias=True, exclude_none=True)
        return Event("error", text, last=not isinstance(error, Transient))

    async def _run_feed(self, key: Hashable, feed: _Feed, interval: float, look: Look) -> None:
        try:
            await self._repeat(feed, interval, look)
            feed.end()
        except WhimbrelError as error:  # raised to a client that waits for the first event
            feed.end(error)
        except Exception as error:
            log.exception("a look for an event stream broke")
            feed.end(error)
        finally:
            if self._feeds.get(key) is feed:
                del self._feeds[key]

    async def _repeat(self, feed: _Feed, interval: float, look: Look) -> None:
        while not self.leaving():
            try:
                event = await anyio.to_thread.run_sync(look)
            except WhimbrelError as error:
                if feed.latest is None:
                    raise
                event = self.failure(error)
            feed.publish(event)
            if event.last:
                return
            await asyncio.sleep(interval)
            if not feed.watching:
                return

    async def events(self, feed: _Feed) -> AsyncIterator[str]:
        """Yields the texts for one client."""
        clock = asyncio.get_running_loop().time
        end, seen = clock() + self.seconds, 0
        while True:
            if feed.latest is not None and feed.number != seen:
                seen, event = feed.number, feed.latest
                yield event.text
                if event.last:
                    return
            elif feed.over:
                return
            elif clock() >= end:
                yield OVER
                return
            elif not await feed.changes.wait(min(BEAT, end - clock())) and clock() < end:
                yield ": it goes on\n\n"

    async def first(self, feed: _Feed) -> None:
        """Waits for the first event. Raises what the look raised."""
        while feed.latest is None and not feed.over:
            await feed.changes.wait(BEAT)
        if feed.latest is None and feed.error is not None:
            raise feed.error


class EventStream(StreamingResponse):
    """A response that takes its place when it is sent, and always gives it back."""

    def __init__(self, streams: EventStreams, key: Hashable, interval: float, look: Look) -> None:
        super().__init__(iter(()), media_type="text/event-stream", headers=HEADERS)
        self._streams, self._given = streams, (key, interval, look)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        with self._streams.place(*self._given) as feed:
            await self._streams.first(feed)
            self.body_iterator = self._streams.events(feed)
            await while_session_holds(super().__call__, scope, receive, send)


async def _streams(request: Request) -> EventStreams:
    streams: EventStreams = request.app.state.streams
    return streams


ThisStreams = Annotated[EventStreams, Depends(_streams)]
