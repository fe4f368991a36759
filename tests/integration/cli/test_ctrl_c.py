"""Ctrl-C before a command has got anywhere: one line, exit code 130, and nobody left behind."""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import psutil
import pytest

from tests.servers import preloaded
from tests.waiting import until
from whimbrel.cli.foreground.interrupts import Interrupts
from whimbrel.mongo.embedded.server import uninterrupted

PROGRAM = [sys.executable, "-m", "whimbrel.cli.main"]
# Runs the program as its script does, and presses Ctrl-C when it imports a certain module.
AT_IMPORT = """
import os, signal, sys

class Pressing:
    def find_spec(self, name, path=None, target=None):
        if name == wanted:
            os.kill(os.getpid(), signal.SIGINT)

wanted, sys.argv = sys.argv[1], ["whimbrel", *sys.argv[2:]]
sys.meta_path.insert(0, Pressing())
from whimbrel.cli.entry import main
main()
"""
SLEEPER = """#!/bin/sh
test "$1" = --version && exec echo "db version v6.0.5"
exec {python} -c "import sys, time; time.sleep(600)" "$@"
"""


def named(words: str) -> list[psutil.Process]:
    """Processes that have these words in their command lines."""
    return [
        each
        for each in psutil.process_iter(["cmdline", "status"])
        if words in " ".join(each.info["cmdline"] or []) and each.info["status"] != psutil.STATUS_ZOMBIE
    ]


def interrupted(process: subprocess.Popen[str]) -> None:
    """It has ended as it shall."""
    out, said = process.communicate(timeout=90)
    lines = [line for line in said.splitlines() if not line.startswith("MongoDB: ")]
    assert (out, lines, process.returncode) == ("", ["Interrupted."], 130)


@pytest.mark.parametrize(
    "module", ["whimbrel.cli.main", "typer", "rich.console", "pymongo", "pydantic_settings", "whimbrel.cli.commands.status"]
)  # fmt: skip
def test_while_it_is_imported(tmp_path: Path, module: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", AT_IMPORT, module, "status"], cwd=tmp_path, capture_output=True, text=True, check=False
    )  # fmt: skip
    assert (done.stdout, done.stderr, done.returncode) == ("", "Interrupted.\n", 130)


def test_at_the_end_of_the_interpreter(tmp_path: Path) -> None:
    """When the work is done: its exit code stays."""
    code = (
        "import signal, sys; from whimbrel.cli import entry as start; sys.argv[1:] = ['--version']\n"
        "import whimbrel.bootstrap; whimbrel.bootstrap.leave_embedded = lambda: signal.raise_signal(signal.SIGINT); start.main()"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=tmp_path
    )
    assert (done.stdout.split()[0], done.stderr, done.returncode) == ("whimbrel", "", 0)


def test_while_mongod_starts(tmp_path: Path) -> None:
    mongod = tmp_path / "mongod"
    mongod.write_text(SLEEPER.format(python=sys.executable))
    mongod.chmod(0o755)
    home = tmp_path / "home"
    environment = {
        **os.environ,
        "MONGODB_URI": "",
        "WHIMBREL_HOME": str(home),
        "WHIMBREL_MONGOD": str(mongod),
    }
    with preloaded.Popen(
        [*PROGRAM, "worker"], env=environment, cwd=tmp_path, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:  # fmt: skip
        until((home / "mongod.json").exists)
        assert named(str(home / "mongo"))
        process.send_signal(signal.SIGINT)
        interrupted(process)
    assert named(str(home / "mongo")) == []


@pytest.mark.parametrize("words", [["migrations"], ["run", "slow"], ["worker"]], ids=" ".join)
def test_while_migrations_are_loaded(tmp_path: Path, words: list[str]) -> None:
    """Whoever presses it at a terminal presses it for the child too; a supervisor does not."""
    file = tmp_path / "slow.py"
    file.write_text(
        f"import pathlib, time\npathlib.Path({str(tmp_path / 'loads')!r}).touch()\ntime.sleep(600)\n"
    )
    environment = {**os.environ, "MONGODB_URI": "", "WHIMBREL_MIGRATIONS": str(file)}
    with preloaded.Popen(
        [*PROGRAM, *words], env=environment, cwd=tmp_path, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:  # fmt: skip
        until((tmp_path / "loads").exists)
        process.send_signal(signal.SIGINT)
        interrupted(process)
    assert named(str(file)) == []


# Its parts


def test_what_must_be_whole_is_whole_before_an_interrupt_is_raised() -> None:
    done = []

    def act() -> None:
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)
        time.sleep(0.05)  # the main thread has long heard of it
        done.append("whole")

    with Interrupts(), pytest.raises(KeyboardInterrupt):
        uninterrupted(act)
    assert done == ["whole"]


def test_a_second_one_does_not_disturb_the_unwinding() -> None:
    with Interrupts():
        try:
            with pytest.raises(KeyboardInterrupt):
                signal.raise_signal(signal.SIGINT)
        finally:
            signal.raise_signal(signal.SIGINT)


def test_one_that_python_swallows_comes_once_more() -> None:
    class Gone:
        def __del__(self) -> None:
            signal.raise_signal(signal.SIGINT)

    def let_go() -> None:
        things = [Gone()]
        things.clear()
        threading.Event().wait(60)

    with Interrupts(), pytest.raises(KeyboardInterrupt):
        let_go()
