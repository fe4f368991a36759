"""A child: the process that holds user code. It works until its parent closes its standard input, or dies with it.

It has a process group of its own: Ctrl-C in the terminal reaches only the parent (hole H16). On its
standard output it says once in a while that it lives; a parent that hears nothing for long ends it.
"""

import argparse
import contextlib
import os
import signal
import sys
import threading

from whimbrel.bootstrap import step_hook, store_at
from whimbrel.engine.slot import Crew, work
from whimbrel.engine.watch import watch
from whimbrel.errors import Transient, WhimbrelError
from whimbrel.logs import configure_logs
from whimbrel.settings import read_settings
from whimbrel.workers.catalog import load

DIED = 70  # exit code of a child that ended itself because a function hung


def main() -> None:
    parser = argparse.ArgumentParser(prog="whimbrel-child")
    parser.add_argument("--name", required=True)
    parser.add_argument("--slots", type=int, required=True)
    parser.add_argument("--run")
    options = parser.parse_args()
    settings = read_settings()
    configure_logs(settings.log_format, settings.log_level)
    try:
        crew = Crew(load(settings.whimbrel_migrations), options.name, options.run)
        signal.signal(signal.SIGTERM, lambda *_: crew.drain())
        with store_at(settings.mongodb_uri or "", settings) as store:
            crew.refresh(store)
            step = step_hook()
            slots = [
                threading.Thread(
                    target=work,
                    args=(store, crew),
                    kwargs={"times": settings.times, "step": step},
                    name=f"slot-{number}",
                )
                for number in range(options.slots)
            ]
            for slot in slots:
                slot.start()
            facts = {
                "times": settings.times,
                "die": lambda: os._exit(DIED),
                "beat": _beat,
                "slots": options.slots,
            }
            watching = threading.Thread(
                target=watch, args=(store, crew), kwargs=facts, name="watch", daemon=True
            )
            watching.start()
            threading.Thread(target=_until_closed, args=(crew,), name="parent", daemon=True).start()
            for slot in slots:
                slot.join()
            crew.over.set()
            watching.join(5)
            with contextlib.suppress(Transient):
                store.ledger.leases.leave(options.name)
    except WhimbrelError as error:
        sys.stderr.write(f"{error}\n")
        sys.exit(error.exit_code)


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
