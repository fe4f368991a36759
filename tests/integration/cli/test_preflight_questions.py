"""`whimbrel run` where preflight warns: asks on a terminal, tells and records elsewhere, refuses with --strict."""

import os
import pty
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from pymongo.database import Database

from tests.servers import preloaded

PROGRAM = [sys.executable, "-m", "whimbrel.cli.main", "run", "counted", "--workers", "1"]
COUNTED = """
from whimbrel import Migration

counted = Migration(name="counted", collection="things", update={"$inc": {"n": 1}})
"""
CTRL_C = "\x03"
Docs = Database[dict[str, Any]]
Call = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def environment(mongo_uri: str, database: Docs, tmp_path: Path) -> dict[str, str]:
    (tmp_path / "counted.py").write_text(COUNTED)
    database["things"].insert_many([{"n": 0} for _ in range(20)])
    return {
        **os.environ, "MONGODB_URI": mongo_uri, "MONGODB_DB_NAME": database.name, "LOG_LEVEL": "error",
        "WHIMBREL_MIGRATIONS": str(tmp_path / "counted.py"), "WHIMBREL_IDLE_POLL": "0.05", "TERM": "xterm",
        "COLUMNS": "80",
    }  # fmt: skip


@pytest.fixture
def call(environment: dict[str, str], tmp_path: Path) -> Call:
    """The command, without a terminal."""

    def call(*options: str) -> subprocess.CompletedProcess[str]:
        return preloaded.run(
            [*PROGRAM, *options], env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=120,
            check=False, stdin=subprocess.DEVNULL,
        )  # fmt: skip

    return call


@pytest.fixture
def watched(database: Docs) -> Iterator[None]:
    """Somebody listens to the collection."""
    with database["things"].watch():
        yield


def on_a_terminal(
    environment: dict[str, str], cwd: Path, answer: str | None, *options: str
) -> tuple[int, str]:
    """The command's exit code and all that it wrote; `answer` is typed when it asks."""
    here, there = pty.openpty()
    with preloaded.Popen(
        [*PROGRAM, *options], env=environment, cwd=cwd, stdin=there, stdout=there, stderr=there
    ) as process:
        os.close(there)
        said = ""
        try:
            while piece := os.read(here, 4096):
                said += piece.decode()
                if answer is not None and "Continue? [y/N]" in said:
                    if answer == CTRL_C:  # the terminal is not the command's own, which alone would send it
                        process.send_signal(signal.SIGINT)
                    else:
                        os.write(here, answer.encode())
                    answer = None
        except OSError:  # the other end is closed: the command has ended
            pass
        finally:
            os.close(here)
        return process.wait(60), said


def counted(database: Docs) -> int:
    return database["things"].count_documents({"n": 1})


@pytest.mark.parametrize("answer", ["n\n", "\n", "maybe\n", "\x04"], ids=["n", "empty", "else", "end"])
def test_another_answer_than_yes_writes_nothing(
    environment: dict[str, str], database: Docs, tmp_path: Path, watched: None, answer: str
) -> None:
    code, said = on_a_terminal(environment, tmp_path, answer)
    assert code == 77, said
    assert "warning: " in said
    assert "Not started, as you said" in said
    assert database["whimbrel_runs"].count_documents({}) == 0
    assert counted(database) == 0


def test_ctrl_c_at_the_question_writes_nothing(
    environment: dict[str, str], database: Docs, tmp_path: Path, watched: None
) -> None:
    code, said = on_a_terminal(environment, tmp_path, CTRL_C)
    assert code == 130, said
    assert database["whimbrel_runs"].count_documents({}) == 0


@pytest.mark.parametrize(("answer", "options"), [("y\n", []), (None, ["--yes"])], ids=["y", "--yes"])
def test_yes_goes_on(
    environment: dict[str, str],
    database: Docs,
    tmp_path: Path,
    watched: None,
    answer: str | None,
    options: list[str],
) -> None:
    code, said = on_a_terminal(environment, tmp_path, answer, *options)
    assert code == 0, said
    assert "change-streams. " in said
    assert ("Continue?" in said) == (answer is not None)
    assert counted(database) == 20


def test_where_nothing_warns_nobody_is_asked(
    environment: dict[str, str], database: Docs, tmp_path: Path
) -> None:
    code, said = on_a_terminal(environment, tmp_path, None)
    assert code == 0, said
    assert "Continue?" not in said
    assert "warning" not in said
    assert counted(database) == 20


def test_without_a_terminal_warnings_are_told_and_recorded(
    call: Call, environment: dict[str, str], database: Docs, tmp_path: Path, watched: None
) -> None:
    done = call()
    assert done.returncode == 0, done.stderr
    assert "warning: change-streams. Change streams are open that see" in done.stderr
    assert "warning" not in done.stdout
    assert counted(database) == 20
    run_id = database["whimbrel_runs"].find_one({}, {"_id": 1})
    assert run_id is not None
    status = [*PROGRAM[:3], "status", str(run_id["_id"])]
    shown = preloaded.run(status, env=environment, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert "Preflight, before it started" in shown.stdout
    assert "change-streams. " in shown.stdout
    told = preloaded.run(
        [*status, "--json"], env=environment, cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert '"check": "change-streams"' in told.stdout


def test_strict_starts_nothing(call: Call, database: Docs, watched: None) -> None:
    done = call("--strict")
    assert done.returncode == 77, done.stderr
    assert "error: Not started, for warnings count as errors here (strict): [change-streams]" in done.stderr
    assert database["whimbrel_runs"].count_documents({}) == 0
    assert counted(database) == 0


def test_strict_and_yes_contradict_one_another(call: Call) -> None:
    done = call("--strict", "--yes")
    assert done.returncode == 64
    assert "--yes goes on where preflight warns, --strict does not" in done.stderr
