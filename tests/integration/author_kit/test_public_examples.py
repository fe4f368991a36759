"""The public names: each says what it is, and has an example that runs as it stands there."""

import doctest
from typing import Any

import pytest

import whimbrel
import whimbrel.testing

NAMES = [(module, name) for module in (whimbrel, whimbrel.testing) for name in module.__all__]


@pytest.mark.parametrize(("module", "name"), NAMES, ids=lambda it: it if isinstance(it, str) else "")
def test_its_example_runs(module: Any, name: str, mongo_uri: str) -> None:
    named = getattr(module, name)
    # SKIP is a value: its example is that of its class.
    about = type(named) if name == "SKIP" else named
    found = doctest.DocTestFinder(recurse=False).find(about, name, globs={"uri": mongo_uri})
    assert [each for each in found if each.examples], f"{name} has no example"
    runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS)
    for each in found:
        runner.run(each)
    assert runner.summarize(verbose=False).failed == 0
