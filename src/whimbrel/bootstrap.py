"""The composition root: every front door builds the system here, from settings."""

import contextlib
import os
import signal
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from whimbrel.brokers.ledger import LedgerBroker, LedgerFeed
from whimbrel.brokers.rabbitmq.topology import LANES
from whimbrel.brokers.rabbitmq.topology import lanes as lanes_of
from whimbrel.engine.steps import Step
from whimbrel.masking import masked_address
from whimbrel.mongo.embedded import embedded, ensure_running
from whimbrel.mongo.seeding import MongoSamples
from whimbrel.mongo.store import MongoStore, check_uri, connected
from whimbrel.ports import Broker, Feed
from whimbrel.settings import Settings

LANE_NAMES = tuple(lane.name for lane in LANES)


@contextlib.contextmanager
def database(settings: Settings) -> Iterator[str]:
    """The address of MongoDB: the configured one, or an embedded one that runs while this is entered."""
    if settings.mongodb_uri:
        yield settings.mongodb_uri
        return
    with embedded(settings.whimbrel_home) as uri:
        yield uri


def revive(settings: Settings) -> None:
    """Start the embedded MongoDB again, should it have died. Nothing happens with a configured one."""
    if not settings.mongodb_uri:
        ensure_running(settings.whimbrel_home)


@contextlib.contextmanager
def store_at(uri: str, settings: Settings, *, worker: str | None = None) -> Iterator[MongoStore]:
    """The ledger and the collections of one deployment. Raises DatabaseUnreachable, DatabaseRefused, SettingsInvalid.

    Nothing is written, the ledger's indexes neither: see `Store.prepare`. `worker`: the name of the worker process that this is.
    """
    with connected(
        uri,
        settings.database,
        settings.times,
        seconds=settings.whimbrel_connect_seconds,
        worker=worker,
    ) as store:
        yield store


@dataclass(frozen=True, slots=True)
class Opened:
    """A deployment that is connected to."""

    uri: str
    store: MongoStore
    where: str  # for people's eyes: without passwords

    @property
    def address(self) -> str:
        """The address without secrets."""
        return masked_address(self.uri)


@contextlib.contextmanager
def opened(settings: Settings) -> Iterator[Opened]:
    """`database` and `store_at` in one."""
    check_addresses(settings)  # before an embedded server is started
    with database(settings) as uri, store_at(uri, settings) as store:
        home = f"the embedded MongoDB in {settings.whimbrel_home}"
        yield Opened(uri, store, masked_address(uri) if settings.mongodb_uri else home)


def samples(store: MongoStore) -> MongoSamples:
    """The sample documents of a store's database."""
    return MongoSamples(store.client, store.database)


def broker(settings: Settings, name: str) -> Broker:
    """What coordinators announce batches through. Raises SettingsInvalid for addresses that cannot be read."""
    if not settings.rabbitmq_url:
        return LedgerBroker()
    from whimbrel.brokers.rabbitmq.addresses import urls_of  # noqa: PLC0415  see the package
    from whimbrel.brokers.rabbitmq.publisher import RabbitBroker  # noqa: PLC0415

    urls = urls_of(settings.rabbitmq_url)
    return RabbitBroker(urls, settings.rabbitmq_exchange, name=f"whimbrel coordinator {name}")


def check_addresses(settings: Settings) -> None:
    """Raise SettingsInvalid for what is wrong whatever answers there: addresses, times, and a database that cannot be used."""
    _ = settings.times, settings.database
    if settings.mongodb_uri:
        check_uri(settings.mongodb_uri)
    if settings.rabbitmq_url:
        from whimbrel.brokers.rabbitmq.addresses import urls_of  # noqa: PLC0415  see the package

        urls_of(settings.rabbitmq_url)


def check_broker(settings: Settings) -> None:
    """Raise SettingsInvalid, BrokerUnavailable or BrokerRefused where there is a broker that cannot be used."""
    with contextlib.closing(broker(settings, "check")) as found:
        found.connect(settings.whimbrel_connect_seconds)


@contextlib.contextmanager
def feed(
    settings: Settings, *, name: str, lanes: tuple[str, ...], slots: int, give_up: Callable[[], None]
) -> Iterator[Feed]:
    """Where a worker process hears of batches: all lanes, or those named."""
    if not settings.rabbitmq_url:
        yield LedgerFeed()
        return
    from whimbrel.brokers.rabbitmq.addresses import urls_of  # noqa: PLC0415  see the package
    from whimbrel.brokers.rabbitmq.consumer import RabbitFeed  # noqa: PLC0415

    found = RabbitFeed(
        urls_of(settings.rabbitmq_url), settings.rabbitmq_exchange, name=f"whimbrel worker {name}",
        lanes=lanes_of(lanes) if lanes else LANES, prefetch=slots, look=settings.times.broker, give_up=give_up,
    )  # fmt: skip
    try:
        yield found
    finally:
        found.close()


def step_hook() -> Step:
    """What is called at each step of the protocol: nothing, or in fault tests what kills this process there.

    `WHIMBREL_DIE_AT="S6:3:/folder"` dies at the third S6 that this process reaches, as often as there are
    files in the folder: each death uses one up.
    """
    plan = os.environ.get("WHIMBREL_DIE_AT")
    if not plan:
        return lambda _step: None
    wanted, count, folder = plan.split(":", 2)
    reached = 0

    def step(name: str) -> None:
        nonlocal reached
        reached += name == wanted
        if name == wanted and reached == int(count) and _use_up(Path(folder)):
            os.kill(os.getpid(), signal.SIGKILL)

    return step


def _use_up(folder: Path) -> bool:
    for each in folder.iterdir():
        with contextlib.suppress(FileNotFoundError):
            each.unlink()
            return True
    return False
