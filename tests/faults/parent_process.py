"""A parent as `whimbrel worker` is one: coordinator, sweep, and worker processes. Ends on SIGTERM."""

import contextlib
import signal
import sys
import threading
from functools import partial

from whimbrel.bootstrap import database, store_at
from whimbrel.logs import configure_logs
from whimbrel.settings import read_settings
from whimbrel.workers.definition_catalog import evaluate
from whimbrel.workers.parent_process import ParentProcess
from whimbrel.workers.supervisor import Supervisor


def main() -> None:
    settings = read_settings()
    configure_logs("console", settings.log_level)
    over = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: over.set())
    workers, slots = int(sys.argv[1]), int(sys.argv[2])
    with database(settings) as uri, store_at(uri, settings) as store:
        supervisor = Supervisor(
            store.ledger.batches, {"MONGODB_URI": uri}, size=workers, slots=slots, run=None, longest_call=30
        )
        evaluated = partial(evaluate, settings.whimbrel_migrations)
        with contextlib.ExitStack() as stack:
            parent = stack.enter_context(
                ParentProcess(
                    store, settings, supervisor, scheduling=evaluated if settings.enable_scheduler else None
                )
            )
            stack.callback(supervisor.kill)
            # In pieces: Python may hear a signal only when what the main thread waits for ends.
            while not over.wait(0.2):
                if (
                    parent.broken is not None
                ):  # such as after three worker processes that were killed while they loaded
                    raise parent.broken
            supervisor.drain(5)


if __name__ == "__main__":
    main()
