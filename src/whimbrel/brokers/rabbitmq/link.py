"""One connection to RabbitMQ that is made again whenever it is lost, on a thread of its own.

The driver's own recovery is not used: it has come back connected but consuming nothing. Here a lost
connection, a channel that the server closed, or a cancelled consumer is thrown away as a whole, and
the whole is built anew.
"""

import asyncio
import contextlib
import random
import threading
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Sequence
from concurrent.futures import TimeoutError as NotInTime
from typing import Any, TypeVar

import aio_pika
import structlog
from aio_pika.abc import AbstractConnection
from aiormq.exceptions import (
    AMQPError,
    AuthenticationError,
    ChannelAccessRefused,
    ChannelInvalidStateError,
    ChannelLockedResource,
    ConnectionNotAllowed,
    DeliveryError,
    ProbableAuthenticationError,
    PublishError,
)
from yarl import URL

from whimbrel.errors import BrokerRefused, BrokerUnavailable, SettingsInvalid, WhimbrelError

T = TypeVar("T")
log = structlog.get_logger("whimbrel.rabbitmq")

ANSWER = 5.0  # seconds that RabbitMQ has for one answer
HEARTBEAT = 10  # seconds
SLOWEST = 5.0  # seconds between two attempts to connect


def urls_of(text: str) -> tuple[str, ...]:
    """The addresses in RABBITMQ_URL: one, or those of a cluster's nodes with commas between. Raises SettingsInvalid."""
    found = tuple(part.strip() for part in text.split(",") if part.strip())
    for each in found:
        try:
            url = URL(each)
            wrong = url.scheme not in ("amqp", "amqps") or not url.host
        except ValueError:
            wrong = True
        if wrong:
            raise SettingsInvalid(
                f"RABBITMQ_URL={masked(each)} cannot be read. Write it as amqp://user:password@host:5672/ (amqps for TLS), "
                "and the addresses of a cluster's nodes with commas between."
            )
    if not found:
        raise SettingsInvalid("RABBITMQ_URL is empty. Leave it unset to work without RabbitMQ.")
    return found


def masked(url: str) -> str:
    """An address without its password."""
    front, at, rest = url.rpartition("@")
    scheme, slashes, user = front.partition("://")
    return f"{scheme}{slashes}{user.partition(':')[0]}:***@{rest}" if at else url


class Rejected(BrokerUnavailable):
    """The server rejects what is published: the queue has its greatest length, or lost its leader just now."""


class Loop:
    """An event loop in a thread of its own, for callers that have none."""

    def __init__(self, name: str) -> None:
        self._loop = asyncio.new_event_loop()
        self._running: set[Any] = set()  # the loop itself holds tasks weakly
        self._thread = threading.Thread(target=self._loop.run_forever, name=name, daemon=True)
        self._thread.start()

    def spawn(self, work: Coroutine[Any, Any, Any]) -> None:
        """Start something and go on."""
        try:
            future = asyncio.run_coroutine_threadsafe(work, self._loop)
        except RuntimeError:  # closed
            work.close()
            return
        self._running.add(future)
        future.add_done_callback(self._running.discard)

    def call(self, work: Coroutine[Any, Any, T], seconds: float) -> T:
        """Start something and wait for it. Raises BrokerUnavailable when it takes longer."""
        future = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return future.result(seconds)
        except (NotInTime, TimeoutError) as error:
            future.cancel()
            raise BrokerUnavailable(f"RabbitMQ did not answer within {seconds:g} seconds.") from error

    def close(self) -> None:
        async def end() -> None:
            mine = asyncio.current_task()
            others = [task for task in asyncio.all_tasks() if task is not mine]
            for task in others:
                task.cancel()
            await asyncio.wait(others, timeout=2) if others else None

        with contextlib.suppress(BrokerUnavailable):
            self.call(end(), 5)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(5)
        if not self._thread.is_alive():
            self._loop.close()


@contextlib.contextmanager
def translated(where: str) -> Iterator[None]:
    """Errors of the driver become ours. `where` is the masked address."""
    try:
        yield
    except (AuthenticationError, ProbableAuthenticationError) as error:
        raise BrokerRefused(
            f"RabbitMQ at {where} refused the user name or password. Check RABBITMQ_URL."
        ) from error
    except (ConnectionNotAllowed, ChannelAccessRefused, ChannelLockedResource) as error:
        raise BrokerRefused(
            f"RabbitMQ at {where} does not allow this: {error}. Check the virtual host in RABBITMQ_URL and the user's permissions."
        ) from error
    except PublishError as error:
        raise BrokerUnavailable(f"A queue is missing at {where}: {error}.") from error
    except DeliveryError as error:
        raise Rejected(
            f"RabbitMQ at {where} rejects pointers: a queue is full, or has just lost its leader ({error})."
        ) from error
    except TimeoutError as error:
        raise BrokerUnavailable(f"RabbitMQ at {where} did not answer in time.") from error
    except (AMQPError, ChannelInvalidStateError, OSError, asyncio.IncompleteReadError) as error:
        raise BrokerUnavailable(f"RabbitMQ at {where} cannot be reached: {_text(error)}.") from error


def _text(error: BaseException) -> str:
    return str(error).strip().rstrip(".")[:200] or type(error).__name__


class Link:
    """Keeps one connection, and what `build` makes of it, alive until it is closed."""

    def __init__(
        self, urls: Sequence[str], name: str, build: Callable[[AbstractConnection, str], Awaitable[None]]
    ) -> None:
        self._urls, self._name, self._build = tuple(urls), name, build
        self._connection: AbstractConnection | None = None
        self._lost = asyncio.Event()
        self.up = asyncio.Event()
        self.where = ", ".join(map(masked, urls))
        self.trouble: WhimbrelError = BrokerUnavailable(f"RabbitMQ at {self.where} has not answered yet.")

    @property
    def connection(self) -> AbstractConnection:
        """The one that is up. Raises what the last attempt met where there is none."""
        if not self.up.is_set() or self._connection is None:
            raise self.trouble
        return self._connection

    async def keep(self) -> None:
        """Connect, build, wait until that is lost, begin again; for as long as the task lives."""
        pause = 0.1
        try:
            while True:
                self._lost.clear()
                if await self._connect():
                    pause = 0.1
                    self.up.set()
                    await self._lost.wait()
                    self.up.clear()
                else:
                    pause = min(pause * 2, SLOWEST)
                await self._drop()
                await asyncio.sleep(pause * (0.5 + random.random()))  # noqa: S311  spreads attempts, protects nothing
        finally:
            self._lost.set()  # that it is closed is nothing to report
            self.up.clear()
            await self._drop()

    def reset(self, why: str) -> None:
        """Throw the connection away and build it anew."""
        if not self._lost.is_set():
            log.warning("the connection to RabbitMQ is made anew", reason=why, connection=self._name)
        self._lost.set()

    async def _connect(self) -> bool:
        for url in random.sample(self._urls, len(self._urls)):
            where = masked(url)
            try:
                with translated(where):
                    async with asyncio.timeout(3 * ANSWER):
                        self._connection = aio_pika.Connection(self._full(url))
                        await self._connection.connect(timeout=ANSWER)
                        self._connection.close_callbacks.add(lambda *_: self.reset("the connection was lost"))
                        await self._build(self._connection, where)
            except WhimbrelError as error:
                await self._failed(error)
            except Exception as error:
                # Whatever else a driver raises must not end the only task that brings the connection back.
                log.exception("connecting to RabbitMQ broke", connection=self._name)
                await self._failed(BrokerUnavailable(f"RabbitMQ at {where} cannot be used: {_text(error)}."))
            else:
                self.where = where
                return True
        return False

    async def _failed(self, error: WhimbrelError) -> None:
        if str(error) != str(self.trouble):
            log.warning("RabbitMQ cannot be used", reason=str(error), connection=self._name)
        self.trouble = error
        await self._drop()

    def _full(self, url: str) -> URL:
        found = URL(url)
        wanted = {"heartbeat": str(HEARTBEAT), "name": self._name}
        return found.update_query({key: each for key, each in wanted.items() if key not in found.query})

    async def _drop(self) -> None:
        connection, self._connection = self._connection, None
        if connection is None or connection.is_closed:
            return
        connection.close_callbacks.clear()
        with contextlib.suppress(Exception):  # it is thrown away: whatever closing says
            async with asyncio.timeout(1):
                await connection.close()

    @property
    async def blocked(self) -> bool:
        """Whether the server has stopped all publishers: it runs out of memory or disk."""
        transport = getattr(self._connection, "transport", None)
        if transport is None:
            return False
        try:
            async with asyncio.timeout(0.05):
                await transport.connection.ready()
        except TimeoutError:
            return True
        return False
