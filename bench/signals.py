"""How long it takes until a signal of the database's health is noticed, what a run does, and how long until it is good again: the table of docs/health.md.

python -m bench.signals [--only SIGNAL ...] [--documents 150000]

A set of three, a run with a rate at work, and each signal made bad for real, one after the other. Seconds count from the cause to the level in the ledger.
"""

import argparse
import tempfile
import threading
import time
from dataclasses import dataclass, field
from http.server import ThreadingHTTPServer

from tests.servers.replicas import ReplicaSet

from bench.signal_drives import CALM, CHECK, DRIVES, LIMIT, POLL, Drive, Service, Stage, wait_for
from bench.system import Bench, working
from whimbrel.bootstrap import store_at
from whimbrel.domain.health.signals import Level
from whimbrel.domain.health.verdict import Verdict
from whimbrel.engine.operating import control
from whimbrel.settings import Settings

RATE = 100  # documents a second of the run
WATCHED = 5.0  # seconds for which the run is watched once its worst level is reached


@dataclass
class Found:
    """Seconds until each level, and what the run did meanwhile. `held`: until nothing might write any more, for whatever reason."""

    reached: dict[Level, float] = field(default_factory=dict)
    held: float | None = None
    share: float = 1.0
    speed: float = 0.0
    back: float | None = None


def main() -> None:
    parser = argparse.ArgumentParser(prog="bench.signals")
    parser.add_argument("--only", nargs="*", default=[drive.signal for drive in DRIVES])
    parser.add_argument("--documents", type=int, default=150_000)
    options = parser.parse_args()
    with (
        ReplicaSet(3, election=10, oplog=512, enableTestCommands=1) as replicas,
        ThreadingHTTPServer(("127.0.0.1", 0), Service) as service,
        tempfile.NamedTemporaryFile("w", suffix=".toml") as checks,
    ):
        threading.Thread(target=service.serve_forever, daemon=True).start()
        checks.write(f"[{CHECK}]\nurl = 'http://127.0.0.1:{service.server_port}/'\n")
        checks.flush()
        settings = Settings(mongodb_uri=replicas.uri, mongodb_db_name="bench", whimbrel_health="on", whimbrel_health_checks=checks.name)  # fmt: skip
        with store_at(replicas.uri, settings) as store, working(store, settings, replicas.uri):
            bench = Bench(store, settings, options.documents)
            bench.seed()
            run = bench.start("function")
            control.adjust(store.ledger, run.id, who="bench", rate=RATE)
            stage = Stage(replicas, bench, run.id)
            print("| signal | how it was driven | to slow | to stop | what the run did | to come back |\n| --- | --- | --- | --- | --- | --- |")  # fmt: skip
            for drive in DRIVES:
                if drive.signal in options.only:
                    print(row(drive, measured(stage, drive)), flush=True)
            control.cancel(store.ledger, run.id, who="bench")
        service.shutdown()


def measured(stage: Stage, drive: Drive) -> Found:
    wait_for(stage, lambda verdict: verdict.level is Level.OK and verdict.share >= 0.5, CALM)
    found = Found()
    with drive.act(stage):
        began = time.monotonic()

        def noted(verdict: Verdict) -> bool:
            state = verdict.signals.get(drive.signal)
            if state is not None and state.level in (Level.SLOW, Level.STOP):
                found.reached.setdefault(state.level, time.monotonic() - began)
            if found.held is None and verdict.allowed == 0.0:
                found.held = time.monotonic() - began
            return drive.levels[-1] in found.reached

        wait_for(stage, noted, LIMIT)
        before, since = stage.documents(), time.monotonic()
        while time.monotonic() - since < WATCHED:
            verdict = stage.verdict()
            found.share = min(found.share, 1.0 if verdict is None else verdict.allowed)
            time.sleep(POLL)
        found.speed = max(0, stage.documents() - before) / (time.monotonic() - since)
    ended = time.monotonic()
    if wait_for(stage, lambda verdict: verdict.signals[drive.signal].level is Level.OK, CALM):
        found.back = time.monotonic() - ended
    return found


def row(drive: Drive, found: Found) -> str:
    def seconds(level: Level) -> str:
        return f"{found.reached[level]:.1f} s" if level in found.reached else "" if level not in drive.levels else "not reached"  # fmt: skip

    unseen = (
        ""
        if found.reached or found.held is None
        else f" after {found.held:.1f} s, as no verdict was acknowledged"
    )
    did = f"waited{unseen}, {found.speed:,.0f} documents/s" if found.share == 0.0 else f"went down to {found.share:.0%}, {found.speed:,.0f} documents/s"  # fmt: skip
    back = "not within three minutes" if found.back is None else f"{found.back:.1f} s"
    return (
        f"| `{drive.signal}` | {drive.how} | {seconds(Level.SLOW)} | {seconds(Level.STOP)} | {did} | {back} |"
    )


if __name__ == "__main__":
    main()
