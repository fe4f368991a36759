"""Random kills at random times: workers, parents (the coordinator's process) and mongod. `make chaos` runs 200 seeds."""

import contextlib
import os
import random
import time
from collections.abc import Iterator

import psutil
import pytest

from tests.faults.rig import Rig
from whimbrel.mongo.embedded import ensure_running

SEEDS = int(os.environ.get("CHAOS_SEEDS", "8"))
NAMES = [
    "declarative-marker", "declarative-status", "declarative-filter", "pipeline-marker",
    "function-marker", "function-status", "function-filter", "single", "reading", "slow",
]  # fmt: skip


def kills(rig: Rig, chance: random.Random, number: int) -> Iterator[None]:
    """One kill after the other, at random times, of a random kind of process."""
    for _ in range(number):
        pause = time.monotonic() + chance.uniform(0.1, 1.2)
        while time.monotonic() < pause:
            yield
        what = chance.choice(["worker", "worker", "worker", "parent", "mongod"])
        if what == "worker":
            children = rig.children()
            if children:
                with contextlib.suppress(psutil.NoSuchProcess):
                    chance.choice(children).kill()
        elif what == "parent":
            chance.choice(rig.parents).kill()
        else:
            rig.kill_mongod()
            ensure_running(rig.home, start_seconds=300)  # a loaded machine may take its time
        yield


@pytest.mark.parametrize("seed", range(SEEDS))
def test_random_kills_lose_nothing(rig: Rig, seed: int) -> None:
    chance = random.Random(seed)
    name = NAMES[seed % len(NAMES)]
    count = chance.choice([400, 2000, 6000])
    rig.seed(count)
    run = rig.start(name, batch_size=chance.choice([100, 500, 3000]))
    for _ in range(chance.choice([1, 2])):
        rig.parent(workers=chance.choice([1, 2]))
    found = rig.finish(run, chaos=kills(rig, chance, chance.randint(1, 5)))
    rig.reckon(found, count)
