"""A child: the process that holds user code. It works until its parent closes its standard input, or dies.

It has a process group of its own: Ctrl-C in the terminal reaches only the parent (hole H16). On a pipe of its own it
tells that it has loaded the migrations, from time to time that it lives, and which batches it works on; a parent that
hears nothing for long ends it. Its standard streams belong to user code.
"""

import gc

if __name__ == "__main__":
    gc.disable()  # imports create no garbage; enabled again before there is code of the user

import argparse
import contextlib
import contextvars
import faulthandler
import json
import os
import signal
import socket
import threading
from collections.abc import Callable
from importlib.metadata import version

import whimbrel.structlog_without_rich  # noqa: F401  before anything that imports structlog
from whimbrel.bootstrap import feed, step_hook, store_at, tracing
from whimbrel.domain.text.printable import visible
from whimbrel.engine.executing.gate import Gate
from whimbrel.engine.running.heartbeat import keep_heartbeat
from whimbrel.engine.running.slot import run_slot
from whimbrel.engine.running.worker_state import BATCH, WorkerState
from whimbrel.errors import Transient, WhimbrelError
from whimbrel.logs import configure_logs, json_line, json_requested, log_unhandled_errors
from whimbrel.ports import Store
from whimbrel.settings import Settings, read_settings
from whimbrel.vanished_readers import without_reader
from whimbrel.workers.child_output import capture_streams, end_before_the_driver, end_soon
from whimbrel.workers.child_pipes import ALIVE, BEGINS, ENDS, LOADED, REASON
from whimbrel.workers.loaded_files import LoadedHere
from whimbrel.workers.migration_loader import LEFT_OUT, load

DIED = 70  # exit code of a child that ended itself because a function hung
STARVED = 75  # exit code of a child that was connected to the broker and got nothing


def main() -> None:
    gc.enable()
    parser = argparse.ArgumentParser(prog="whimbrel-child")
    parser.add_argument("--name", required=True)
    parser.add_argument("--slots", type=int, required=True)
    parser.add_argument("--lanes", default="")
    parser.add_argument("--said", type=int, required=True, help="number of the pipe to the parent")
    parser.add_argument("--log", type=int, required=True, help="number of what logs are written to")
    options = parser.parse_args()
    for number in (options.said, options.log):
        os.set_inheritable(number, False)
    settings = read_settings()
    log = without_reader(options.log)
    configure_logs(settings.log_format, settings.log_level, log)
    log_unhandled_errors()
    parent, flush = capture_streams(BATCH.get)
    faulthandler.enable(2)
    end_before_the_driver()
    parent_pipe = ParentPipe(options.said, flush)
    try:
        migrations = load(settings.whimbrel_migrations, json.loads(os.environ.get(LEFT_OUT, "[]")))
        worker_state = WorkerState(migrations, options.name)
        worker_state.loaded = LoadedHere()
        parent_pipe.say(LOADED)
        worker_state.on_batch = parent_pipe.on_batch
        signal.signal(signal.SIGTERM, lambda *_: worker_state.drain())
        worker_state.only = _read_run(parent)
        with store_at(settings.mongodb_uri or "", settings, worker=options.name) as store:
            starved = _serve(store, worker_state, settings, options, parent, parent_pipe)
        worker_state.loop.close()
    except WhimbrelError as error:
        text = visible(str(error))
        log.write(f"{json_line(text, level='error') if json_requested() else text}\n")
        parent_pipe.say(f"{REASON}{' '.join(str(error).split())}")
        end_soon(error.exit_code)
    flush("")
    end_soon(STARVED if starved else 0)


def _read_run(parent: int) -> str | None:
    """Reads the one run to serve, as the parent tells it when there is work; None: all runs. Ends this process where the parent ends."""
    line = b""
    while not line.endswith(b"\n"):
        part = os.read(parent, 1)
        if not part:
            end_soon(0)
        line += part
    return line.decode().strip() or None


class ParentPipe:
    """What a child tells its parent."""

    def __init__(self, number: int, flush: Callable[[str], None]) -> None:
        self._number, self._flush = number, flush

    def say(self, word: str) -> None:
        with contextlib.suppress(OSError):  # the parent is gone: the end of standard input tells that too
            os.write(self._number, word.encode("utf-8", "backslashreplace")[:4000] + b"\n")

    def on_batch(self, token: str, begins: bool) -> None:
        if not begins:
            self._flush(token)
        self.say(f"{BEGINS if begins else ENDS}{token}")


def _gate(store: Store, settings: Settings) -> Gate:
    """Freezes and windows count also where nobody watches the database's health."""
    watched = settings.whimbrel_health == "on"
    return Gate(store.ledger.health.verdict if watched else None, store.ledger.freezes.look)


def _serve(
    store: Store,
    worker_state: WorkerState,
    settings: Settings,
    options: argparse.Namespace,
    parent: int,
    parent_pipe: ParentPipe,
) -> bool:
    """Works until drained. Returns True where the broker sent nothing though it was connected."""
    starved = threading.Event()
    worker_state.gate = _gate(store, settings)
    worker_state.refresh(store)

    worker_state.tracing = tracing(options.name)

    def give_up() -> None:
        starved.set()
        worker_state.drain()

    lanes = tuple(filter(None, options.lanes.split(",")))
    with feed(settings, name=options.name, lanes=lanes, slots=options.slots, give_up=give_up) as source:
        kept_free = 0 if source.polled else 1  # for runs of high priority
        step = step_hook()
        slots = [
            threading.Thread(
                # What a migration's module has set for its context holds in every slot.
                target=contextvars.copy_context().run,
                args=(run_slot, store, worker_state, source),
                kwargs={"times": settings.times, "step": step, "urgent": number >= options.slots},
                name=f"slot-{number}",
            )
            for number in range(options.slots + kept_free)
        ]
        for slot in slots:
            slot.start()
        about = {"host": socket.gethostname(), "pid": os.getpid(), "version": version("whimbrel")}
        facts = {
            "times": settings.times,
            "die": lambda: os._exit(DIED),
            "beat": lambda: parent_pipe.say(ALIVE),
            "about": about,
        }
        heartbeat = threading.Thread(
            target=keep_heartbeat, args=(store, worker_state), kwargs=facts, name="watch", daemon=True
        )
        heartbeat.start()
        threading.Thread(
            target=_until_closed, args=(worker_state, parent), name="parent", daemon=True
        ).start()
        for slot in slots:
            # In pieces: Python may handle a signal only when what the main thread waits for ends.
            while slot.is_alive():
                slot.join(1)
        worker_state.end()
        heartbeat.join(5)
        with contextlib.suppress(Transient):
            store.ledger.leases.leave(options.name)
    if worker_state.tracing is not None:
        worker_state.tracing.close()
    return starved.is_set()


def _until_closed(worker_state: WorkerState, parent: int) -> None:
    """Wakes the slots when the parent has news; drains when standard input ends, which the kernel closes when the parent was killed."""
    while os.read(parent, 1024):
        worker_state.wake_up.set()
    worker_state.drain()
    worker_state.wake_up.set()  # so that nobody counts on these slots any more


if __name__ == "__main__":
    main()
