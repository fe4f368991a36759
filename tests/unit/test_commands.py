"""The table of commands says what the commands themselves say; and nothing is imported that a command line does not need."""

import importlib
import inspect
import subprocess
import sys

import pytest

from whimbrel.cli.commands import COMMANDS


@pytest.mark.parametrize("name", list(COMMANDS))
def test_what_is_listed_of_a_command_is_the_beginning_of_its_help(name: str) -> None:
    it = COMMANDS[name]
    function = getattr(importlib.import_module(f"whimbrel.cli.{it.module}"), it.function)
    beginning = " ".join((inspect.getdoc(function) or "").partition("\n\n")[0].split())
    assert it.summary == beginning
    assert all(each.split()[0] == name for each in it.examples)


def imported(*words: str) -> set[str]:
    """The modules that a command line imports."""
    code = (
        "import sys; from whimbrel.cli import main; sys.argv[1:] = "
        f"{list(words)!r}\nmain.ended()\nprint(*sys.modules, file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(done.stderr.split())


@pytest.mark.parametrize("words", [("--help",), ("--version",)], ids=" ".join)
def test_what_only_tells_loads_no_driver(words: tuple[str, ...]) -> None:
    heavy = {"pymongo", "fastapi", "pydantic", "aio_pika", "structlog", "whimbrel.bootstrap"}
    assert not imported(*words) & heavy


def test_the_package_itself_loads_nothing() -> None:
    """Ctrl-C is heard from the first lines of the program on; what comes before them is short."""
    code = (
        "import sys; before = set(sys.modules); import whimbrel.cli.start; print(*set(sys.modules) - before)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    ours = {each for each in done.stdout.split() if each.startswith("whimbrel")}
    assert ours == {"whimbrel", "whimbrel.cli", "whimbrel.cli.start"}
    assert "typing" not in done.stdout.split()
