"""Migrations whose effect shows if it happens twice: each adds one to `n`. All three marks, both paths."""

import asyncio
import contextlib
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from whimbrel import SKIP, Migration, migration

UNDER_ONE = {"n": {"$lt": 1}}


def _filter(mark: str) -> dict[str, Any]:
    return UNDER_ONE if mark == "filter" else {}


DECLARATIVE = [
    Migration(
        name=f"declarative-{mark}",
        collection="things",
        filter=_filter(mark),
        mark=mark,
        update={"$inc": {"n": 1}},
    )
    for mark in ("marker", "status", "filter")
]
PIPELINE = Migration(
    name="pipeline-marker", collection="things", update=[{"$set": {"n": {"$add": ["$n", 1]}}}]
)


def burning(steps: int) -> dict[str, Any]:
    """An expression that takes one or two milliseconds a step, another for each document so that it is not worked out before."""
    numbers = {"$range": [0, {"$add": [12_000, "$number"]}]}
    inner = {"$reduce": {"input": numbers, "initialValue": 0, "in": {"$mod": ["$$this", 7]}}}
    return {
        "$reduce": {"input": {"$range": [0, steps]}, "initialValue": 0, "in": {"$add": ["$$value", inner]}}
    }


BURNING = [
    Migration(
        name=name,
        collection="things",
        update=[{"$set": {"n": {"$add": ["$n", 1]}, "heat": burning(steps)}}],
        undo=name == "burning",
    )
    for name, steps in (("burning", 40), ("burning-long", 1600))
]


def _adding(mark: str, change: Callable[[dict[str, Any]], Any]) -> Migration:
    def add(thing: dict[str, Any]) -> Any:
        return change(thing)

    return Migration(
        name=f"function-{mark}", collection="things", filter=_filter(mark), mark=mark, transform=add
    )


FUNCTIONS = [
    _adding(mark, lambda thing: {"$set": {"n": thing["n"] + 1}}) for mark in ("marker", "status", "filter")
]


@migration(collection="things")
def single(thing: dict[str, Any]) -> dict[str, Any]:
    """Through statements for one document each."""
    return {"$inc": {"n": 1}}


@migration(collection="things", reads=["n"])
def reading(thing: dict[str, Any]) -> dict[str, Any]:
    """Guarded by one field."""
    return {"$set": {"n": thing["n"] + 1}}


@migration(collection="things", mark="status", claim=True)
def claiming(thing: dict[str, Any]) -> dict[str, Any]:
    """Shows in the document that it is being worked on."""
    return {"$set": {"n": thing["n"] + 1}}


@migration(collection="things", timeout=1, max_attempts=2)
def troubled(thing: dict[str, Any]) -> Any:
    """Does what the document says: every way in which a function can go wrong."""
    match thing.get("do"):
        case "raise":
            raise ValueError(f"no good: {thing['_id']}")
        case "rubbish":
            return 42
        case "none":
            return None
        case "hang":
            time.sleep(60)
        case "die":
            os.kill(os.getpid(), signal.SIGKILL)
        case "skip":
            return SKIP
        case "exit":
            raise SystemExit(3)
        case "huge":
            return {"$set": {"n": thing["n"] + 1, "fat": "x" * 17_000_000}}
    return {"$set": {"n": thing["n"] + 1}}


@migration(collection="things", timeout=1, max_attempts=2)
async def awaited(thing: dict[str, Any]) -> Any:
    """The same, awaited."""
    if thing.get("do") == "hang":
        await asyncio.sleep(60)
    if thing.get("do") == "raise":
        raise ValueError("no good")
    if thing.get("do") == "block":
        time.sleep(60)  # noqa: ASYNC251  what nobody should do
    while thing.get("do") == "cling":
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.sleep(60)
    await asyncio.sleep(0)
    return {"$set": {"n": thing["n"] + 1}}


@migration(collection="things")
def mending(thing: dict[str, Any]) -> dict[str, Any]:
    """Fails until the file that the environment names is there: a bug and its fix."""
    if thing.get("do") == "raise" and not os.path.exists(os.environ.get("MENDED", "/nowhere")):  # noqa: PTH110
        raise ValueError("not mended yet")
    return {"$set": {"n": thing["n"] + 1}}


@migration(collection="things", batch_size=200, timeout=120)
def slow(thing: dict[str, Any]) -> dict[str, Any]:
    """Takes its time, so that something can happen meanwhile; and waits with one document until it has."""
    time.sleep(0.002)
    while str(thing["number"]) == os.environ.get("HELD_NUMBER") and os.path.exists(os.environ["HELD"]):  # noqa: PTH110
        time.sleep(0.02)
    return {"$set": {"n": thing["n"] + 1}}


def _hold(thing: dict[str, Any]) -> dict[str, Any]:
    """Waits with one document until it may go on; it is fast with all others."""
    if str(thing["number"]) == os.environ.get("HELD_NUMBER"):
        Path(os.environ["HELD"] + "-reached").touch()
        while os.path.exists(os.environ["HELD"]):  # noqa: PTH110
            time.sleep(0.02)
    return {"$set": {"n": thing["n"] + 1}}


HOLDING = [
    Migration(
        name=f"holding-{mark}",
        collection="things",
        filter=_filter(mark),
        mark=mark,
        transform=_hold,
        timeout=120,
    )
    for mark in ("marker", "filter")
]


@migration(collection="things", timeout=120)
def napping(thing: dict[str, Any]) -> dict[str, Any]:
    """Holds one document for longer than a shortened session lives."""
    time.sleep(70)
    return {"$set": {"n": thing["n"] + 1}}


@migration(collection="things")
def summing(thing: dict[str, Any]) -> dict[str, Any]:
    """A result that is stale as soon as the application changes a field."""
    return {"$set": {"sum": thing["a"] + thing["b"] + 1000}}


@migration(name="summing-reads", collection="things", reads=["a", "b"])
def summing_reads(thing: dict[str, Any]) -> dict[str, Any]:
    """The same, guarded by what it declares to read."""
    return {"$set": {"sum": thing["a"] + thing["b"] + 1000}}
