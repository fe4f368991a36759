"""A child: the process that holds user code. It works until its parent closes its standard input, or dies with it.

It has a process group of its own: Ctrl-C in the terminal reaches only the parent (hole H16). On its
standard output it says once in a while that it lives; a parent that hears nothing for long ends it.
"""

import argparse
import contextlib
import os
import signal
import socket
import sys
import threading
from importlib.metadata import version

from whimbrel.bootstrap import feed, step_hook, store_at
from whimbrel.engine.crew import Crew
from whimbrel.engine.slot import work
from whimbrel.engine.watch import watch
from whimbrel.errors import Transient, WhimbrelError
from whimbrel.logs import configure_logs
from whimbrel.ports import Store
from whimbrel.settings import Settings, read_settings
from whimbrel.workers.catalog import load

DIED = 70  # exit code of a child that ended itself because a function hung
STARVED = 75  # exit code of a child that was connected to the broker and got nothing


def main() -> None:
    parser = argparse.ArgumentParser(prog="whimbrel-child")
    parser.add_argument("--name", required=True)
    parser.add_argument("--slots", type=int, required=True)
    parser.add_argument("--run")
    parser.add_argument("--lanes", default="")
    options = parser.parse_args()
    settings = read_settings()
    configure_logs(settings.log_format, settings.log_level)
    try:
        crew = Crew(load(settings.whimbrel_migrations), options.name, options.run)
        signal.signal(signal.SIGTERM, lambda *_: crew.drain())
        with store_at(settings.mongodb_uri or "", settings) as store:
            crew.refresh(store)
            starved = _serve(store, crew, settings, options)
        sys.exit(STARVED if starved else 0)
    except WhimbrelError as error:
        sys.stderr.write(f"{error}\n")
        sys.exit(error.exit_code)


def _serve(store: Store, crew: Crew, settings: Settings, options: argparse.Namespace) -> bool:
    """Work until drained. True where the broker gave nothing though it was connected."""
    starved = threading.Event()

    def give_up() -> None:
        starved.set()
        crew.drain()

    lanes = tuple(filter(None, options.lanes.split(",")))
    with feed(settings, name=options.name, lanes=lanes, slots=options.slots, give_up=give_up) as source:
        kept_free = 0 if source.polled else 1  # for runs of high priority
        step = step_hook()
        slots = [
            threading.Thread(
                target=work,
                args=(store, crew, source),
                kwargs={"times": settings.times, "step": step, "urgent": number >= options.slots},
                name=f"slot-{number}",
            )
            for number in range(options.slots + kept_free)
        ]
        for slot in slots:
            slot.start()
        about = {"host": socket.gethostname(), "pid": os.getpid(), "version": version("whimbrel")}
        facts = {"times": settings.times, "die": lambda: os._exit(DIED), "beat": _beat, "about": about}
        watching = threading.Thread(target=watch, args=(store, crew), kwargs=facts, name="watch", daemon=True)
        watching.start()
        threading.Thread(target=_until_closed, args=(crew,), name="parent", daemon=True).start()
        for slot in slots:
            # In pieces: Python may hear a signal only when what the main thread waits for ends.
            while slot.is_alive():
                slot.join(1)
        crew.over.set()
        watching.join(5)
        with contextlib.suppress(Transient):
            store.ledger.leases.leave(options.name)
    return starved.is_set()


def _beat() -> None:
    try:
        os.write(sys.stdout.fileno(), b".")
    except OSError:  # the parent is gone: standard input says so too
        return


def _until_closed(crew: Crew) -> None:
    """Drain when the parent closes our standard input, which the kernel does for a parent that was killed."""
    while os.read(sys.stdin.fileno(), 1024):
        pass
    crew.drain()


if __name__ == "__main__":
    main()
