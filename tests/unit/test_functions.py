"""Anything that can be called for a document is a function; and what it was made with belongs to its code."""

import functools
import os
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from whimbrel import DefinitionInvalid, Migration, migration
from whimbrel.domain.bson.naive_datetimes import naive_datetime_fields
from whimbrel.domain.migrations.made_anew import values_of

Doc = dict[str, Any]


def scaled(factor: int, document: Doc) -> Doc:
    """Multiplies."""
    return {"$set": {"n": document["n"] * factor}}


async def scaled_slowly(document: Doc, *, factor: int) -> Doc:
    return {"$set": {"n": document["n"] * factor}}


class ByFactor:
    """Multiplies by its factor."""

    def __init__(self, factor: int) -> None:
        self.factor = factor

    def __call__(self, document: Doc) -> Doc:
        return {"$set": {"n": document["n"] * self.factor}}

    def method(self, document: Doc) -> Doc:
        return {"$set": {"n": document["n"] * self.factor}}

    async def awaited(self, document: Doc, context: object) -> Doc:
        return {"$set": {"n": document["n"] * self.factor, "there": context is not None}}

    @classmethod
    def of_class(cls, document: Doc) -> Doc:
        return {"$set": {"n": document["n"] * 3}}

    @staticmethod
    def of_nothing(document: Doc) -> Doc:
        return {"$set": {"n": document["n"] * 3}}


def made(function: Callable[..., Any], **options: Any) -> Migration:
    return Migration(name="m", collection="c", transform=function, **options)


@pytest.mark.parametrize(
    ("function", "name"),
    [
        (functools.partial(scaled, 3), "scaled"),
        (ByFactor(3), "by-factor"),
        (ByFactor(3).method, "method"),
        (ByFactor.of_class, "of-class"),
        (ByFactor.of_nothing, "of-nothing"),
        (functools.partial(ByFactor(3)), "by-factor"),
        (functools.partial(ByFactor(3).method), "method"),
    ],
)
def test_whatever_can_be_called_is_a_function(function: Callable[..., Any], name: str) -> None:
    it = migration(collection="c")(function)
    assert (it.name, it.is_async, it.wants_context) == (name, False, False)
    assert it({"n": 2}) == {"$set": {"n": 6}}


def optional(document: Doc | None = None) -> Doc:
    return scaled(3, document or {})


def decorated(function: Callable[..., Any]) -> Callable[..., Any]:
    def called(*arguments: Any, **named: Any) -> Any:
        return function(*arguments, **named)

    return called


def test_what_needs_no_argument_and_takes_one_is_given_the_document() -> None:
    it = migration(collection="c")(optional)
    assert not it.wants_context
    assert it({"n": 2}) == {"$set": {"n": 6}}


def test_what_a_decorator_has_hidden_is_asked_for() -> None:
    with pytest.raises(DefinitionInvalid, match=r"needs functools\.wraps"):
        made(decorated(optional))
    assert made(functools.wraps(optional)(decorated(optional)))({"n": 2}) == {"$set": {"n": 6}}


def test_what_is_awaited_and_what_wants_a_context_is_seen_through_them() -> None:
    assert made(functools.partial(scaled_slowly, factor=3)).is_async
    it = made(ByFactor(3).awaited)
    assert (it.is_async, it.wants_context) == (True, True)


def test_summaries_are_the_authors() -> None:
    assert made(functools.partial(scaled, 3)).definition.summary == "Multiplies."
    assert made(ByFactor(3)).definition.summary == "Multiplies by its factor."


def test_a_lambda_needs_a_name() -> None:
    assert made(lambda document: document)({"n": 1}) == {"n": 1}
    with pytest.raises(DefinitionInvalid, match=r"A lambda has no name of its own.*give name='\.\.\.'"):
        migration(collection="c")(lambda document: document)


def test_a_decorator_without_its_options_says_so() -> None:
    with pytest.raises(DefinitionInvalid, match="@migration needs to know where the documents are"):
        migration(scaled)


def test_what_a_function_was_made_with_belongs_to_its_code() -> None:
    hashes = [
        made(each).definition.code_hash
        for each in (
            functools.partial(scaled, 3), functools.partial(scaled, 4), ByFactor(3), ByFactor(4), ByFactor(3).method,
            ByFactor(4).method, lambda document: document,
        )
    ]  # fmt: skip
    assert len(set(hashes)) == len(hashes)
    assert made(functools.partial(scaled, 3)).definition.code_hash == hashes[0]
    assert made(ByFactor(3)).definition.code_hash == hashes[2]


EVERYWHERE = """
import functools
from whimbrel import Migration
from whimbrel.domain.migrations import functions

class Rule:
    def __init__(self, **given):
        self.given = given
    def __call__(self, document):
        return document

def f(options, document):
    return document

options = {"words": {"a", "b", "c", "d"}, "deep": [{"x": frozenset("abcdef")}], "it": Rule(), "f": f, "n": 1.5}
for function in (functools.partial(f, options), Rule(**options)):
    print(Migration(name="m", collection="c", transform=function).definition.code_hash)
"""


def test_the_code_is_the_same_in_every_process(tmp_path: Path) -> None:
    (tmp_path / "everywhere.py").write_text(EVERYWHERE)
    said = {
        subprocess.run(
            [sys.executable, str(tmp_path / "everywhere.py")], env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True, text=True, check=True,
        ).stdout
        for seed in ("1", "2")
    }  # fmt: skip
    assert len(said) == 1


NAIVE, AWARE = datetime(2026, 1, 2), datetime(2026, 1, 2, tzinfo=UTC)  # noqa: DTZ001


@pytest.mark.parametrize(
    ("returned", "fields"),
    [
        ({"_id": 1, "at": NAIVE}, ("at",)),
        ({"_id": 1, "at": AWARE, "n": None}, ()),
        ({"$set": {"a.b": NAIVE, "c": {"d": NAIVE}, "e": AWARE}}, ("a.b", "c.d")),
        ({"$push": {"log": {"$each": [{"at": NAIVE}, {"at": NAIVE}]}}}, ("log.at",)),
        ([{"$set": {"at": {"$max": ["$at", NAIVE]}}}], ("at",)),
        ({"times": [AWARE, [NAIVE]]}, ("times",)),
        (None, ()),
        ("2026", ()),
    ],
)
def test_times_without_a_zone_are_named_by_their_fields(returned: Any, fields: tuple[str, ...]) -> None:
    assert naive_datetime_fields(returned) == fields


def test_looking_for_times_ends() -> None:
    endless: list[Any] = []
    endless += [endless, endless]
    assert naive_datetime_fields({"a": endless, "many": {str(n): NAIVE for n in range(100)}})[:2] == (
        "many.0",
        "many.1",
    )


STAMP, TABLE, LARGE, WORDS = 5, {"a": 1}, list(range(5000)), {"a", "b"}


def stamped(document: Doc, *, factor: int = 2) -> Doc:
    return {"$set": {"n": [STAMP, [TABLE[each] for each in "a"], LARGE, WORDS, factor, document]}}


class Scaled:
    def __init__(self) -> None:
        self.factor, self.client = 3, object()

    def __call__(self, document: Doc) -> Doc:
        return scaled(self.factor, document)


@pytest.mark.parametrize(
    ("function", "names"),
    [
        (stamped, {"STAMP", "TABLE", "WORDS", "argument factor"}),
        (
            functools.wraps(stamped)(decorated(stamped)),
            {"STAMP", "TABLE", "WORDS", "argument factor"},
        ),
        (functools.partial(scaled, 3), {"argument 1"}),
        (functools.partial(stamped, factor=4), {"STAMP", "TABLE", "WORDS", "argument factor"}),
        (Scaled(), {"attribute factor"}),
        (Scaled().__call__, {"attribute factor"}),
        (lambda document: [STAMP for _ in document], {"STAMP"}),
        (scaled_slowly, set()),
        (len, set()),
    ],
)
def test_the_values_that_a_function_uses_are_known_by_name(
    function: Callable[..., Any], names: set[str]
) -> None:
    assert set(values_of(function)) == names
    assert values_of(function) == values_of(function)


def test_other_values_have_other_hashes_and_sets_have_no_order(monkeypatch: pytest.MonkeyPatch) -> None:
    before = values_of(stamped)
    monkeypatch.setattr(sys.modules[__name__], "STAMP", 6)
    monkeypatch.setattr(sys.modules[__name__], "WORDS", {"b", "a"})
    after = values_of(stamped)
    assert {name for name in before if before[name] != after[name]} == {"STAMP"}


def test_what_a_partial_gives_stands_before_a_default() -> None:
    one, other = (values_of(functools.partial(stamped, factor=factor)) for factor in (4, 5))
    assert one["argument factor"] != other["argument factor"]
