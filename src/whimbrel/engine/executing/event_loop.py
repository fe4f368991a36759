"""The event loop of a process, in a thread of its own: every awaited call runs in it, whichever slot makes it.

What a migration's module creates once for all its calls (a semaphore, a client, a session) belongs to one loop.
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

POLL_SECONDS = 0.2  # between two checks whether the loop still runs
PATIENCE = 1.0  # seconds that unfinished tasks have to end in when the loop ends
FRESH = 1.0  # seconds within which a running loop answers

_CALL: ContextVar[object] = ContextVar("whimbrel_call", default=None)


class EventLoop:
    """One event loop for callers that are threads. The first call starts it."""

    def __init__(self) -> None:
        self._lock, self._pid = threading.Lock(), os.getpid()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._stopping = threading.Event()  # tells the thread to end
        self._semaphores: dict[tuple[str, int], asyncio.Semaphore] = {}
        self._calls: WeakKeyDictionary[asyncio.Future[Any], object] = WeakKeyDictionary()
        self._asked: float | None = None  # since when the loop owes an answer

    def run(self, work: Coroutine[Any, Any, T], meanwhile: Callable[[], object] = lambda: None) -> T:
        """Returns or raises what a coroutine does. `meanwhile` is called every now and then, as long as the loop runs."""
        future = asyncio.run_coroutine_threadsafe(work, self._running_loop())
        while True:
            try:
                return future.result(POLL_SECONDS)
            except TimeoutError:
                if future.done():  # the coroutine itself timed out
                    raise
            if self.blocked < FRESH:
                meanwhile()

    @property
    def blocked(self) -> float:
        """Seconds for which the loop has not run anything, as far as is known: ask repeatedly."""
        loop, asked_at = self._loop, self._asked
        if loop is None or self._thread is None:
            return 0.0
        if asked_at is not None:
            return time.monotonic() - asked_at
        self._asked = time.monotonic()
        loop.call_soon_threadsafe(self._answer)
        return 0.0

    def _answer(self) -> None:
        self._asked = None

    @property
    def current_call(self) -> object:
        """What `call` was given for the call that the loop is executing now, if it is executing one."""
        if self._loop is None:
            return None
        task = asyncio.current_task(self._loop)
        return None if task is None else self._calls.get(task)

    # inside the loop

    @contextlib.contextmanager
    def call(self, owner: object) -> Iterator[None]:
        """Surrounds a call: its task, and the tasks that it starts, are known as `owner`'s."""
        token = _CALL.set(owner)
        task = asyncio.current_task()
        if task is not None:
            self._calls[task] = owner
        try:
            yield
        finally:
            _CALL.reset(token)

    def semaphore(self, name: str, limit: int) -> asyncio.Semaphore:
        """Returns the semaphore that limits how many calls of a migration run at once in this process."""
        return self._semaphores.setdefault((name, limit), asyncio.Semaphore(limit))

    def _task(
        self, loop: asyncio.AbstractEventLoop, coroutine: Coroutine[Any, Any, Any], **options: Any
    ) -> asyncio.Task[Any]:
        task = asyncio.Task(coroutine, loop=loop, **options)
        call = _CALL.get()
        if call is not None:
            self._calls[task] = call
        return task

    # the thread

    def _running_loop(self) -> asyncio.AbstractEventLoop:
        """Returns the loop, and starts its thread where there is none, as in a forked process at first."""
        with self._lock:
            if self._pid != os.getpid() and self._loop is not None and self._loop.is_running():
                # It was forked while it ran: its thread belongs to the other process.
                self._loop, self._semaphores = None, {}
            self._pid = os.getpid()
            if self._loop is None:
                self._loop = asyncio.new_event_loop()
                self._loop.set_task_factory(self._task)  # type: ignore[arg-type]  # the stubs only know factories without options
            if self._thread is None or not self._thread.is_alive():
                self._stopping.clear()
                self._asked = None
                self._thread = threading.Thread(
                    target=self._run_loop, args=(self._loop,), name="calls", daemon=True
                )
                self._thread.start()
            return self._loop

    def _run_loop(self, loop: asyncio.AbstractEventLoop) -> None:
        asyncio.set_event_loop(loop)
        while not self._stopping.is_set():
            try:
                loop.run_forever()
            except BaseException as error:  # noqa: BLE001  a task that a function started has raised SystemExit or the like
                log.warning(
                    "a task that a function started has ended the event loop; it continues",
                    reason=type(error).__name__,
                )

    def pause(self) -> None:
        """Ends the thread; the loop stays as it is, and continues with the next call, also in a forked process."""
        with self._lock:
            self._end_thread()

    def _end_thread(self) -> None:
        if self._loop is not None and self._thread is not None:
            self._stopping.set()
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join(PATIENCE)
            if not self._thread.is_alive():
                self._thread = None

    def close(self) -> None:
        """Ends what is still under way: cancels tasks, closes asynchronous generators. Bounded in time, whatever they do."""
        if self._loop is None:
            return
        if self._thread is not None and self._thread.is_alive():
            end = asyncio.run_coroutine_threadsafe(_end_tasks(), self._loop)
            with contextlib.suppress(Exception):
                end.result(3 * PATIENCE)
        self.pause()
        with self._lock:
            if self._thread is None:
                self._loop.close()
            self._loop, self._thread, self._semaphores = None, None, {}


async def _end_tasks() -> None:
    loop, own_task = asyncio.get_running_loop(), asyncio.current_task()
    other_tasks = [task for task in asyncio.all_tasks() if task is not own_task]
    for task in other_tasks:
        task.cancel()
    if other_tasks:
        await asyncio.wait(other_tasks, timeout=PATIENCE)
    async with asyncio.timeout(PATIENCE):
        await loop.shutdown_asyncgens()


@cache
def process_loop() -> EventLoop:
    """Returns the event loop of this process."""
    event_loop = EventLoop()
    atexit.register(event_loop.close)
    return event_loop
