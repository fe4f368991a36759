"""The event loop of a process, in a thread of its own: every awaited call runs in it, whichever slot makes it.

What a migration's module makes once for all its calls (a semaphore, a client, a session) belongs to one loop.
"""

import asyncio
import atexit
import contextlib
import os
import threading
import time
from collections.abc import Callable, Coroutine, Iterator
from contextvars import ContextVar
from functools import cache
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

import structlog

T = TypeVar("T")
log = structlog.get_logger("whimbrel.worker")

LOOK = 0.2  # seconds between two looks whether the loop still turns
PATIENCE = 1.0  # seconds that what is left has to end in, when the loop does
FRESH = 1.0  # seconds within which a loop that turns answers

_CALL: ContextVar[object] = ContextVar("whimbrel_call", default=None)


class EventLoop:
    """One event loop, for callers that are threads. It begins with the first call."""

    def __init__(self) -> None:
        self._lock, self._pid = threading.Lock(), os.getpid()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._resting = threading.Event()  # its thread shall end
        self._rooms: dict[tuple[str, int], asyncio.Semaphore] = {}
        self._calls: WeakKeyDictionary[asyncio.Future[Any], object] = WeakKeyDictionary()
        self._asked: float | None = None  # since when the loop owes an answer

    def run(self, work: Coroutine[Any, Any, T], meanwhile: Callable[[], object] = lambda: None) -> T:
        """What a coroutine returns or raises. `meanwhile` is called every now and then, as long as the loop turns."""
        future = asyncio.run_coroutine_threadsafe(work, self._turning())
        while True:
            try:
                return future.result(LOOK)
            except TimeoutError:
                if future.done():  # the coroutine's own
                    raise
            if self.blocked < FRESH:
                meanwhile()

    @property
    def blocked(self) -> float:
        """Seconds for which the loop has not turned, as far as that is known: ask again and again."""
        loop, asked = self._loop, self._asked
        if loop is None or self._thread is None:
            return 0.0
        if asked is not None:
            return time.monotonic() - asked
        self._asked = time.monotonic()
        loop.call_soon_threadsafe(self._answer)
        return 0.0

    def _answer(self) -> None:
        self._asked = None

    @property
    def in_hand(self) -> object:
        """What `call` was given for the call that the loop is at this moment in, if it is in one."""
        if self._loop is None:
            return None
        task = asyncio.current_task(self._loop)
        return None if task is None else self._calls.get(task)

    # in the loop

    @contextlib.contextmanager
    def call(self, what: object) -> Iterator[None]:
        """Around a call: its task, and those that it starts, are known as `what`'s."""
        token = _CALL.set(what)
        task = asyncio.current_task()
        if task is not None:
            self._calls[task] = what
        try:
            yield
        finally:
            _CALL.reset(token)

    def room(self, name: str, most: int) -> asyncio.Semaphore:
        """What lets at most so many calls of a migration be under way in this process."""
        return self._rooms.setdefault((name, most), asyncio.Semaphore(most))

    def _task(
        self, loop: asyncio.AbstractEventLoop, coroutine: Coroutine[Any, Any, Any], **options: Any
    ) -> asyncio.Task[Any]:
        task = asyncio.Task(coroutine, loop=loop, **options)
        call = _CALL.get()
        if call is not None:
            self._calls[task] = call
        return task

    # its thread

    def _turning(self) -> asyncio.AbstractEventLoop:
        """The loop, with a thread that turns it: a forked process has none at first."""
        with self._lock:
            if self._pid != os.getpid() and self._loop is not None and self._loop.is_running():
                self._loop, self._rooms = None, {}  # it was forked while it turned: its thread is the other's
            self._pid = os.getpid()
            if self._loop is None:
                self._loop = asyncio.new_event_loop()
                self._loop.set_task_factory(self._task)  # type: ignore[arg-type]  # the stubs know one without options
            if self._thread is None or not self._thread.is_alive():
                self._resting.clear()
                self._asked = None
                self._thread = threading.Thread(
                    target=self._turn, args=(self._loop,), name="calls", daemon=True
                )
                self._thread.start()
            return self._loop

    def _turn(self, loop: asyncio.AbstractEventLoop) -> None:
        asyncio.set_event_loop(loop)
        while not self._resting.is_set():
            try:
                loop.run_forever()
            except BaseException as error:  # noqa: BLE001  a task that a function started has raised SystemExit or its kind
                log.warning(
                    "a task that a function started has ended the event loop; it goes on",
                    reason=type(error).__name__,
                )

    def rest(self) -> None:
        """Let the thread end; the loop stays as it is, and goes on with the next call, also in a forked process."""
        with self._lock:
            self._rest()

    def _rest(self) -> None:
        if self._loop is not None and self._thread is not None:
            self._resting.set()
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join(PATIENCE)
            if not self._thread.is_alive():
                self._thread = None

    def close(self) -> None:
        """End what is still under way: tasks are cancelled, asynchronous generators closed. Bounded, whatever they do."""
        if self._loop is None:
            return
        if self._thread is not None and self._thread.is_alive():
            end = asyncio.run_coroutine_threadsafe(_end(), self._loop)
            with contextlib.suppress(Exception):
                end.result(3 * PATIENCE)
        self.rest()
        with self._lock:
            if self._thread is None:
                self._loop.close()
            self._loop, self._thread, self._rooms = None, None, {}


async def _end() -> None:
    loop, mine = asyncio.get_running_loop(), asyncio.current_task()
    others = [task for task in asyncio.all_tasks() if task is not mine]
    for task in others:
        task.cancel()
    if others:
        await asyncio.wait(others, timeout=PATIENCE)
    async with asyncio.timeout(PATIENCE):
        await loop.shutdown_asyncgens()


@cache
def process_loop() -> EventLoop:
    """The one of this process."""
    found = EventLoop()
    atexit.register(found.close)
    return found
