"""Runs an event loop on a thread of its own, as everything else in Whimbrel uses threads."""

import asyncio
import contextlib
import threading
from collections.abc import Coroutine
from concurrent.futures import CancelledError as Cancelled
from concurrent.futures import TimeoutError as NotInTime
from typing import Any, TypeVar

from whimbrel.errors import BrokerUnavailable

T = TypeVar("T")


class Loop:
    """An event loop in a thread of its own, for callers without one."""

    def __init__(self, name: str) -> None:
        self._loop = asyncio.new_event_loop()
        self._running: set[Any] = set()  # the loop itself holds tasks weakly
        self._thread = threading.Thread(target=self._loop.run_forever, name=name, daemon=True)
        self._thread.start()

    def spawn(self, work: Coroutine[Any, Any, Any]) -> None:
        """Starts a task without waiting for it."""
        try:
            future = asyncio.run_coroutine_threadsafe(work, self._loop)
        except RuntimeError:  # closed
            work.close()
            return
        self._running.add(future)
        future.add_done_callback(self._running.discard)

    def call(self, work: Coroutine[Any, Any, T], seconds: float) -> T:
        """Starts a task and waits for it. Raises BrokerUnavailable when it takes longer than `seconds`."""
        try:
            future = asyncio.run_coroutine_threadsafe(work, self._loop)
        except RuntimeError as error:
            work.close()
            raise BrokerUnavailable("The connection to RabbitMQ is closed.") from error
        try:
            return future.result(seconds)
        except (NotInTime, TimeoutError) as error:
            future.cancel()
            raise BrokerUnavailable(f"RabbitMQ did not answer within {seconds:g} seconds.") from error
        except (Cancelled, asyncio.CancelledError) as error:
            # The driver cancels tasks that wait on a lost connection.
            raise BrokerUnavailable("The connection to RabbitMQ was lost.") from error

    def close(self) -> None:
        """Ends all tasks: our own first, which close the connection properly, then the driver's."""

        async def end() -> None:
            own_task = asyncio.current_task()
            for future in list(self._running):
                future.cancel()
            for patience in (1.5, 0.5):
                other_tasks = [task for task in asyncio.all_tasks() if task is not own_task]
                if other_tasks:
                    await asyncio.wait(other_tasks, timeout=patience)
                for task in other_tasks:
                    task.cancel()

        with contextlib.suppress(BrokerUnavailable):
            self.call(end(), 5)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(5)
        if not self._thread.is_alive():
            self._loop.close()
