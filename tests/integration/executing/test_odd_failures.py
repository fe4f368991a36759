"""Whatever a function raises or returns is one failure record of that document, at once, and the run goes through."""

import asyncio
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pytest
from pymongo.database import Database

from tests.integration.in_process_system import migrate
from whimbrel import Migration
from whimbrel.domain.runs.states import RunStatus
from whimbrel.mongo.store import MongoStore

Data = Database[dict[str, Any]]


class Mute(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no text")


class NoText(Exception):
    def __str__(self) -> str:
        return 7  # type: ignore[return-value]  # noqa: PLE0307


class Endless(Exception):
    def __str__(self) -> str:
        return str(self)


class Custom(BaseException):
    pass


class Renamed(type):
    @property
    def __name__(cls) -> str:  # type: ignore[override]
        raise RuntimeError("no name")


class Nameless(Exception, metaclass=Renamed):
    pass


class Slippery(str):
    __slots__ = ()

    def __getitem__(self, _: Any) -> str:
        raise RuntimeError("no slice")


class Masked(Exception):
    def __str__(self) -> str:
        return Slippery("kept all the same")


class Unshown:
    def __repr__(self) -> str:
        raise RuntimeError("no repr")


class Odd(Mapping[str, Any]):
    """A mapping that cannot be read."""

    def __init__(self, error: BaseException) -> None:
        self.error = error

    def __getitem__(self, _: str) -> Any:
        raise self.error

    def __iter__(self) -> Iterator[str]:
        raise self.error

    def __len__(self) -> int:
        return 1


def _raise(error: BaseException) -> Any:
    raise error


def _looped() -> Any:
    one, two = ValueError("one"), KeyError("two")
    one.__cause__, two.__cause__ = two, one
    raise one


def _grouped() -> Any:
    raise ExceptionGroup("several", [ValueError("first \ud83d"), ExceptionGroup("more", [Mute("second")])])


def _in_a_file_without_a_name() -> Any:
    exec(compile("raise ValueError('from nowhere')", "\ud83d.py", "exec"))  # noqa: S102


def _itself() -> Any:
    found: dict[str, Any] = {}
    found["again"] = found
    return {"$set": {"n": found}}


def _deep(levels: int) -> Any:
    found: Any = 1
    for _ in range(levels):
        found = {"a": found}
    return {"$set": {"n": found}}


# What is done for a document, the type that is recorded, and what must be kept of what was said.
ODD: dict[str, tuple[Callable[[], Any], str, str]] = {
    "a lone surrogate": (lambda: _raise(ValueError("bad \ud83d here")), "ValueError", r"bad \ud83d here"),
    "no text": (lambda: _raise(Mute("this was said")), "Mute", "this was said"),
    "a text that is none": (lambda: _raise(NoText("made with this")), "NoText", "made with this"),
    "an endless text": (lambda: _raise(Endless("made with that")), "Endless", "made with that"),
    "a text of another class": (lambda: _raise(Masked()), "Masked", "kept all the same"),
    "a class without a name": (lambda: _raise(Nameless("nameless")), "Nameless", "nameless"),
    "huge": (lambda: _raise(ValueError("x" * 30_000_000)), "ValueError", "x" * 2000),
    "nothing said": (lambda: _raise(ValueError()), "ValueError", "ValueError"),
    "a group": (_grouped, "ExceptionGroup", r"ValueError: first \ud83d; Mute: second"),
    "causes in a ring": (_looped, "ValueError", "one"),
    "a file without a name": (_in_a_file_without_a_name, "ValueError", "from nowhere"),
    "cancelled": (lambda: _raise(asyncio.CancelledError("stop")), "CancelledError", "stop"),
    "interrupted": (lambda: _raise(KeyboardInterrupt("ctrl")), "KeyboardInterrupt", "ctrl"),
    "exit": (lambda: _raise(SystemExit(3)), "SystemExit", "3"),
    "the end of a generator": (lambda: _raise(GeneratorExit("gen")), "GeneratorExit", "gen"),
    "a custom base": (lambda: _raise(Custom("based")), "Custom", "based"),
    "a huge number": (lambda: {"$set": {"n": 10**30}}, "UnusableAnswer", "cannot store"),
    "only a huge number": (lambda: 10**5000, "UnusableAnswer", "returned int"),
    "a set": (lambda: {"$set": {"n": {1, 2}}}, "UnusableAnswer", "cannot store"),
    "a surrogate as value": (lambda: {"$set": {"n": "\ud83d"}}, "UnusableAnswer", "cannot store"),
    "a surrogate as key": (lambda: {"$set": {"n": {"\ud83d": 1}}}, "UnusableAnswer", "cannot store"),
    "a surrogate as field": (lambda: {"$set": {"\ud83d": 1}}, "UnusableAnswer", r"\ud83d"),
    "a NUL in a key": (lambda: {"$set": {"n": {"a\0b": 1}}}, "UnusableAnswer", ""),
    "a NUL in a field": (lambda: {"$set": {"a\0b": 1}}, "UnusableAnswer", ""),
    "a number as key": (lambda: {"$set": {"n": {1: 1}}}, "UnusableAnswer", "cannot store"),
    "a number as field": (lambda: {"$set": {1: 1}}, "UnusableAnswer", ""),
    "itself": (_itself, "UnusableAnswer", "cannot store"),
    "too deep for Python": (lambda: _deep(100_000), "UnusableAnswer", "cannot store"),
    "a generator": (lambda: (each for each in "ab"), "UnusableAnswer", "generator"),
    "what cannot be shown": (Unshown, "UnusableAnswer", "Unshown"),
    "a mapping that raises": (lambda: Odd(RuntimeError("no items")), "RuntimeError", "no items"),
    "an inner one that interrupts": (lambda: {"$set": {"n": Odd(KeyboardInterrupt())}}, "KeyboardInterrupt", ""),
}  # fmt: skip
NAMES = list(ODD)


def odd(thing: dict[str, Any]) -> Any:
    return ODD[NAMES[thing["_id"]]][0]() if thing["_id"] < len(NAMES) else {"$set": {"n": 1}}


async def odd_later(thing: dict[str, Any]) -> Any:
    await asyncio.sleep(0)
    return odd(thing)


async def odd_in_a_task(thing: dict[str, Any]) -> Any:
    return await asyncio.create_task(odd_later(thing))


@pytest.mark.parametrize("function", [odd, odd_later, odd_in_a_task])
def test_each_is_one_record_with_what_was_said(
    store: MongoStore, database: Data, function: Callable[..., Any]
) -> None:
    database["things"].insert_many([{"_id": i, "n": 0} for i in range(100)])
    it = Migration(name="odd", collection="things", transform=function, max_attempts=1, timeout=60)
    found = migrate(store, it)
    assert found.run.status is RunStatus.COMPLETED_WITH_FAILURES, found.run
    rows = {row.key.value: row for row in store.ledger.failures.list(found.run.id)}
    said = {name: (rows[i].type, rows[i].message) for i, name in enumerate(NAMES) if i in rows}
    wrong = {
        name: told
        for name, (_, type_, message) in ODD.items()
        if (told := said.get(name, ("", "")))[0] != type_ or message not in told[1]
    }
    assert wrong == {}
    assert len(rows) == len(NAMES)
    assert all(len(row.message) <= 2000 for row in rows.values())
    assert found.counts.changed == database["things"].count_documents({"n": 1}) == 100 - len(NAMES)
    assert not [row for row in store.ledger.batches.list(found.run.id) if row.takeovers]
