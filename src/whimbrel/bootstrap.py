"""The composition root: builds the system from settings, for the command line and the API.

What only some commands need is imported where it is needed, as imports take most of a command's start.
"""
# ruff: noqa: PLC0415

import contextlib
import os
import signal
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from whimbrel.domain.text.mongodb_addresses import hosts_of
from whimbrel.errors import SettingsInvalid
from whimbrel.masking import masked_address
from whimbrel.mongo.store import MongoStore, check_uri, connected
from whimbrel.settings import Settings

if TYPE_CHECKING:
    from whimbrel.domain.health.own_checks import OwnCheck
    from whimbrel.engine.notifying.sender import WebhookSender
    from whimbrel.engine.protocol_steps import Step
    from whimbrel.mongo.seeding import MongoSamples
    from whimbrel.ports import Broker, Feed, HealthCheck, Store, Watching
    from whimbrel.ports.tracing import Tracing
    from whimbrel.ports.webhooks import Poster

EMBEDDED = "embedded"  # stands for the host of an embedded MongoDB, which has only a socket in its folder


@contextlib.contextmanager
def database(settings: Settings, *, create: bool = True) -> Iterator[str]:
    """Yields the address of MongoDB, with its secrets: the configured one, or an embedded one that runs while this is entered.

    Raises EmbeddedMissing where there is none yet and `create` is false.
    """
    if settings.mongodb_uri:
        yield settings.mongodb_uri
        return
    from whimbrel.mongo.embedded import embedded

    with embedded(settings.whimbrel_home, create=create) as uri:
        yield uri


def left_running(settings: Settings, *, create: bool) -> str:
    """Returns the address as `database` does; an embedded MongoDB runs on until the next command that uses it has ended."""
    if settings.mongodb_uri:
        return settings.mongodb_uri
    from whimbrel.mongo.embedded import left_running as left

    return left(settings.whimbrel_home, create=create)


def load() -> None:
    """Imports what work on documents needs, so that copies of this process need not."""
    import whimbrel.brokers.ledger
    import whimbrel.mongo.documents
    import whimbrel.mongo.rehearsal  # noqa: F401


def leave_embedded() -> None:
    """Leaves an embedded MongoDB that an exception kept `database` from leaving, for a process that skips Python's exit handlers."""
    if "whimbrel.mongo.embedded" in sys.modules:
        from whimbrel.mongo.embedded import leave_all

        leave_all()


def exists(settings: Settings) -> bool:
    """Whether there is a MongoDB, or an address of one, so that none must be created."""
    if settings.mongodb_uri:
        return True
    from whimbrel.mongo.embedded import exists as is_there

    return is_there(settings.whimbrel_home)


def place(settings: Settings) -> str:
    """Returns which MongoDB is meant, for people: its hosts, or the folder of the embedded one."""
    if settings.mongodb_uri:
        return hosts_of(settings.mongodb_uri)
    return f"the embedded MongoDB in {settings.whimbrel_home.absolute()}"


def revive(settings: Settings) -> None:
    """Restarts the embedded MongoDB if it has died. Does nothing with a configured one."""
    if settings.mongodb_uri:
        return
    from whimbrel.mongo.embedded import ensure_running

    ensure_running(settings.whimbrel_home)


@contextlib.contextmanager
def store_at(uri: str, settings: Settings, *, worker: str | None = None) -> Iterator[MongoStore]:
    """Yields the ledger and the collections of one deployment. Raises DatabaseUnreachable, DatabaseRefused, SettingsInvalid.

    Does not write the ledger's indexes: see `Store.prepare`. `worker`: the name of this worker process, which obeys the health and does not watch it.
    """
    with connected(
        uri,
        settings.database,
        settings.times,
        seconds=settings.whimbrel_connect_seconds,
        worker=worker,
        watching=watching(settings) if worker is None else None,
    ) as store:
        yield store


@dataclass(frozen=True, slots=True)
class Opened:
    """A connected deployment."""

    uri: str
    store: MongoStore
    where: str  # for people, without passwords
    made: bool = False  # whether it is an embedded one that is new
    host: str = ""  # the hosts that the address names; of an embedded one `embedded`

    @property
    def address(self) -> str:
        """The address without secrets."""
        return masked_address(self.uri)


@contextlib.contextmanager
def opened(settings: Settings, *, create: bool = True) -> Iterator[Opened]:
    """Does what `database` and `store_at` do, in one."""
    check_addresses(settings)  # before an embedded server is started
    is_new = create and not exists(settings)
    with database(settings, create=create) as uri, store_at(uri, settings) as store:
        where, host = (
            (masked_address(uri), hosts_of(uri)) if settings.mongodb_uri else (place(settings), EMBEDDED)
        )
        yield Opened(uri, store, where, is_new, host)


def samples(store: MongoStore) -> "MongoSamples":
    """Returns the samples of a store's database."""
    from whimbrel.mongo.seeding import MongoSamples

    return MongoSamples(store.client, store.database)


def broker(settings: Settings, name: str) -> "Broker":
    """Returns the broker through which coordinators announce batches. Raises SettingsInvalid for addresses that cannot be read."""
    if not settings.rabbitmq_url:
        from whimbrel.brokers.ledger import LedgerBroker

        return LedgerBroker()
    from whimbrel.brokers.rabbitmq.addresses import urls_of
    from whimbrel.brokers.rabbitmq.publisher import RabbitBroker

    urls = urls_of(settings.rabbitmq_url)
    return RabbitBroker(urls, settings.rabbitmq_exchange, name=f"whimbrel coordinator {name}")


def watching(settings: Settings) -> "Watching | None":
    """Returns how this process watches the database's health; None: nobody is to watch. Raises SettingsInvalid."""
    if settings.whimbrel_health == "off":
        return None
    from whimbrel.ports import Watching

    return Watching(
        tuple(_asked_by_http(check) for check in settings.own_checks), settings.ignored_members, brokered=bool(settings.rabbitmq_url)
    )  # fmt: skip


def _asked_by_http(check: "OwnCheck") -> "HealthCheck":
    from whimbrel.health_checks.http_check import HttpCheck

    return HttpCheck(check)


def check_addresses(settings: Settings) -> None:
    """Raises SettingsInvalid for what is wrong without asking a server: addresses, times, the name of the database, and the user's own checks."""
    _ = settings.times, settings.database, settings.webhooks, settings.own_checks, settings.ignored_members
    if settings.mongodb_uri:
        check_uri(settings.mongodb_uri)
    if settings.rabbitmq_url:
        from whimbrel.brokers.rabbitmq.addresses import urls_of

        urls_of(settings.rabbitmq_url)


def poster(settings: Settings) -> "Poster":
    """Returns the way to the receivers of webhooks."""
    from whimbrel.webhooks.http_poster import HttpPoster

    return HttpPoster(allow_private=settings.whimbrel_webhook_allow_private)


def webhook_sender(settings: Settings, store: "Store", name: str) -> "WebhookSender | None":
    """Returns a candidate for the role of sending webhooks; None where there are none."""
    webhooks = settings.webhooks
    if webhooks is None:
        return None
    from whimbrel.engine.notifying.sender import WebhookSender

    return WebhookSender(
        store.ledger, webhooks, poster(settings), name=name, watched=settings.whimbrel_health == "on"
    )


def tracing(name: str) -> "Tracing | None":
    """Returns what makes spans in a process of this name; None where the environment names no collector, or the extra is missing."""
    from whimbrel.tracing.wanted import installed, wanted

    if not wanted(os.environ) or not installed():
        return None
    from whimbrel.tracing.spans import OpenTelemetryTracing

    return OpenTelemetryTracing(name)


def check_tracing() -> str:
    """Returns why spans that are asked for are not sent; empty where they are. Raises SettingsInvalid."""
    from whimbrel.tracing.wanted import MISSING, check, installed, wanted

    if not wanted(os.environ):
        return ""
    if not installed():
        return MISSING
    check(os.environ)
    return ""


def check_reporting(settings: Settings) -> None:
    """Raises SettingsInvalid for variables of OpenTelemetry that cannot be used, and for a webhook whose name leads to a private address.

    A name that cannot be resolved now may be later.
    """
    check_tracing()
    webhooks = settings.webhooks
    if webhooks is None or webhooks.allow_private:
        return
    from whimbrel.webhooks.resolving import refused

    why = refused(webhooks.receivers)
    if why:
        raise SettingsInvalid(why)


def lane_names() -> tuple[str, ...]:
    """Returns the names of the queues that workers may take from."""
    from whimbrel.brokers.rabbitmq.topology import LANES

    return tuple(lane.name for lane in LANES)


def check_broker(settings: Settings) -> None:
    """Raises SettingsInvalid, BrokerUnavailable or BrokerRefused where a configured broker cannot be used, or a webhook is refused."""
    check_reporting(settings)
    with contextlib.closing(broker(settings, "check")) as opened_broker:
        opened_broker.connect(settings.whimbrel_connect_seconds)


@contextlib.contextmanager
def feed(
    settings: Settings, *, name: str, lanes: tuple[str, ...], slots: int, give_up: Callable[[], None]
) -> "Iterator[Feed]":
    """Yields the feed of a worker process's batches: from all lanes, or those named."""
    if not settings.rabbitmq_url:
        from whimbrel.brokers.ledger import LedgerFeed

        yield LedgerFeed()
        return
    from whimbrel.brokers.rabbitmq.addresses import urls_of
    from whimbrel.brokers.rabbitmq.consumer import RabbitFeed
    from whimbrel.brokers.rabbitmq.topology import LANES
    from whimbrel.brokers.rabbitmq.topology import lanes as lanes_of

    rabbit_feed = RabbitFeed(
        urls_of(settings.rabbitmq_url), settings.rabbitmq_exchange, name=f"whimbrel worker {name}",
        lanes=lanes_of(lanes) if lanes else LANES, prefetch=slots, look=settings.times.broker, give_up=give_up,
    )  # fmt: skip
    try:
        yield rabbit_feed
    finally:
        rabbit_feed.close()


def step_hook() -> "Step":
    """Returns what is called at each step of the protocol: nothing, or in fault tests a function that kills this process.

    `WHIMBREL_DIE_AT="S6:3:/folder"` dies at the third S6 that this process reaches, as often as there are
    files in the folder: each death removes one.
    """
    plan = os.environ.get("WHIMBREL_DIE_AT")
    if not plan:
        return lambda _step: None
    deadly_step, count, folder = plan.split(":", 2)
    reached = 0

    def step(name: str) -> None:
        nonlocal reached
        reached += name == deadly_step
        if name == deadly_step and reached == int(count) and _use_up(Path(folder)):
            os.kill(os.getpid(), signal.SIGKILL)

    return step


def _use_up(folder: Path) -> bool:
    for file in folder.iterdir():
        with contextlib.suppress(FileNotFoundError):
            file.unlink()
            return True
    return False
