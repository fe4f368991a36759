"""A whole system inside one process: coordinator, watch and slots as threads."""

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from whimbrel.domain.migration import Migration
from whimbrel.domain.times import Times
from whimbrel.engine.announce import Announcer
from whimbrel.engine.coordinate import Coordinator
from whimbrel.engine.crew import Crew
from whimbrel.engine.slot import work
from whimbrel.engine.watch import watch
from whimbrel.ports import Broker, Feed, Store


@contextmanager
def threads(
    store: Store,
    migrations: Sequence[Migration],
    *,
    times: Times,
    broker: Broker,
    feed: Feed,
    step: Callable[[str], None],
    slots: int = 2,
    name: str = "inline",
) -> Iterator[Crew]:
    """The system at work while this is entered. `step` is called at each numbered step of the protocol."""
    crew = Crew({each.name: each for each in migrations}, name, None)
    over = threading.Event()
    announcer = Announcer(store.ledger, broker, pause=times.broker)
    coordinator = Coordinator(store, announcer, name=name, role_seconds=times.lease, step=step)

    def coordinate() -> None:
        while not over.is_set():
            coordinator.tick()
            over.wait(times.tick)

    found = [threading.Thread(target=coordinate)]
    found += [
        threading.Thread(
            target=work,
            args=(store, crew, feed),
            kwargs={"times": times, "step": step, "urgent": number >= slots},
        )
        for number in range(slots + (not feed.polled))
    ]
    about = {"host": "here", "pid": 0, "version": "0"}
    watcher = {"times": times, "die": crew.drain, "about": about}
    found.append(threading.Thread(target=_watch, args=(store, crew, over, watcher), daemon=True))
    for thread in found:
        thread.start()
    try:
        yield crew
    finally:
        over.set()
        crew.drain()
        for thread in found:
            thread.join(20)


class _Over(Exception):
    pass


def _watch(store: Store, crew: Crew, over: threading.Event, options: dict[str, Any]) -> None:
    def beat() -> None:
        if over.is_set():
            raise _Over

    try:
        watch(store, crew, **{**options, "beat": beat})
    except _Over:
        return
