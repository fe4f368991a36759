"""What user code does to the processes that hold it: prints, floods, breaks streams, does not end, takes long to import."""

# ruff: noqa: F811  fixtures are imported by their names

import json
import re
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pymongo.database import Database

from tests.integration.cli.test_cli import cli, environment, started, until  # noqa: F401

Docs = Database[dict[str, Any]]
Cli = Callable[..., subprocess.CompletedProcess[str]]
IN_WORKERS = "import sys\nin_a_worker = sys.argv[0].endswith('worker_process.py')\n"
PLUS = """
from whimbrel import migration

@migration(collection="things")
def plus(thing):
    return {"$set": {"n": thing["n"] + 1}}
"""
PRINTING = """
import ctypes, faulthandler, logging, os, subprocess, sys, threading, warnings
from whimbrel import migration

logging.getLogger("theirs").addHandler(logging.StreamHandler(sys.stdout))

def thread():
    print("from a thread")

WAYS = [
    lambda: print("printed", 1, 2),
    lambda: print("to standard error", file=sys.stderr),
    lambda: print("without an end", end=""),
    lambda: os.write(1, b"by number\\n"),
    lambda: os.write(2, b"by the other number\\n"),
    lambda: subprocess.run(["echo", "by a subprocess"]),
    lambda: logging.getLogger("theirs").error("logged"),
    lambda: logging.error("logged by the root"),
    lambda: print("red \\x1b[31m and back \\x1b]0;title\\x07 \\r over"),
    lambda: os.write(1, b"raw \\x1b[2J \\xff end\\n"),
    lambda: print("a surrogate \\ud83d"),
    lambda: sys.stdout.buffer.write(b"bytes\\n"),
    lambda: faulthandler.dump_traceback(),
    lambda: warnings.warn("warned"),
    lambda: (it := threading.Thread(target=thread), it.start(), it.join()),
]

@migration(collection="things", batch_size=1)
def telling(thing):
    WAYS[thing["_id"]]()
    return {"$set": {"n": 1}}
"""
SAID = [
    "printed 1 2", "to standard error", "without an end", "by number", "by the other number", "by a subprocess",
    "logged", r"red \x1b[31m and back \x1b]0;title\x07 \r over", r"raw \x1b[2J \xff end",
    r"a surrogate \ud83d", "bytes", "from a thread",
]  # fmt: skip


def seed(database: Docs, count: int) -> None:
    database["things"].insert_many([{"_id": i, "n": 0} for i in range(count)])


def written(folder: Path, text: str) -> str:
    (folder / "theirs.py").write_text(text)
    return "theirs.py"


def test_whatever_is_printed_stands_on_standard_error_with_the_batchs_name(
    cli: Cli,
    database: Docs,
    tmp_path: Path,
) -> None:
    seed(database, 15)
    source = written(tmp_path, PRINTING)
    done = cli(
        "run", "telling", "--migrations", source, "--workers", "1", "--concurrency", "1", "--json", "-y"
    )
    run = json.loads(done.stdout)["migrationId"]
    told = re.findall(rf"^\[{run}\.\d+\] (.*)$", done.stderr, re.MULTILINE)
    assert [each for each in SAID if each not in told] == []
    assert any("logged by the root" in each for each in done.stderr.splitlines())
    assert any("UserWarning: warned" in each for each in told)
    assert any('File "' in each and "theirs.py" in each for each in told), "faulthandler's"
    assert "\x1b" not in done.stderr
    assert database["things"].count_documents({"n": 1}) == 15


@pytest.mark.parametrize(
    "harm",
    [
        "import io, sys\nsys.stdout = sys.stderr = io.StringIO()",
        ("import io, sys, threading\nsys.stdout = io.TextIOWrapper(sys.stdout.detach(), encoding='latin-1')\n"
        "sys.stderr.reconfigure(line_buffering=True)\nthreading.Thread(target=threading.Event().wait).start()"),
        ("import atexit, os, subprocess, threading\natexit.register(threading.Event().wait)\n"
        "subprocess.Popen(['sleep', '60'])\nfor number in (0, 1, 2): os.close(number)"),
        ("import signal, sys\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\nprint('x' * 300_000)\n"
        "for each in (sys.stdin, sys.stdout, sys.stderr): each.close()"),
    ],
    ids=["replaced", "wrapped, a thread", "numbers closed, an exit handler, a subprocess", "closed, a signal"],
)  # fmt: skip
def test_a_module_that_takes_its_process_apart_is_loaded_and_the_process_ends(
    cli: Cli,
    database: Docs,
    tmp_path: Path,
    harm: str,
) -> None:
    seed(database, 20)
    cli("run", "plus", "--migrations", written(tmp_path, f"{harm}\n{PLUS}"), "--workers", "1", "-y")
    assert database["things"].count_documents({"n": 1}) == 20


def test_a_flood_is_counted_and_stops_nothing(cli: Cli, database: Docs, tmp_path: Path) -> None:
    seed(database, 10)
    flood = PLUS.replace(
        "    return", "    print('y' * 30_000_000 if thing['_id'] % 2 else 'x\\n' * 500_000)\n    return"
    )
    done = cli("run", "plus", "--migrations", written(tmp_path, flood), "--workers", "1", "-y")
    assert database["things"].count_documents({"n": 1}) == 10
    assert len(done.stderr) < 40_000_000
    (lost, *_) = re.findall(
        r"\[worker \d+\] ([\d,]+) more lines were printed and are left out\.", done.stderr
    )
    assert int(lost.replace(",", "")) > 0


def test_the_dry_run_tells_what_is_printed_too(cli: Cli, database: Docs, tmp_path: Path) -> None:
    seed(database, 3)
    told = PLUS.replace("    return", "    print('about', thing['_id'], '\\x1b[31m')\n    return")
    done = cli("plan", "plus", "--migrations", written(tmp_path, told), "--json")
    assert all(rf"[dry run] about {number} \x1b[31m" in done.stderr for number in range(3))
    json.loads(done.stdout)


@pytest.mark.parametrize(
    ("harm", "said"),
    [
        (
            "if in_a_worker:\n    import time; time.sleep(600)",
            "did not finish loading the migrations within 8 seconds",
        ),
        (
            "if in_a_worker:\n    import os; os._exit(3)",
            "3 worker processes in a row have ended with exit code 3",
        ),
        ("if in_a_worker:\n    raise KeyError('only here \\ud83d')", "KeyError: 'only here"),
    ],
    ids=["hangs", "exits", "raises"],
)
def test_migrations_that_cannot_be_loaded_in_workers_end_the_work_with_the_reason(
    cli: Cli,
    database: Docs,
    tmp_path: Path,
    harm: str,
    said: str,
) -> None:
    seed(database, 5)
    source = written(tmp_path, f"{IN_WORKERS}{harm}\n{PLUS}")
    seconds = "8" if "sleep" in harm else "60"
    done = cli(
        "run", "plus", "--migrations", source, "--workers", "2", "-y", code=65, WHIMBREL_LOADING=seconds
    )
    assert said in done.stderr
    (run,) = database["whimbrel_runs"].find()
    assert (run["status"], said in run["error"]) == ("paused", True)


def test_while_workers_load_the_run_says_so(
    environment: dict[str, str],
    database: Docs,
    tmp_path: Path,
) -> None:
    seed(database, 5)
    waiting = "if in_a_worker:\n    import os, time\n    while not os.path.exists('go'): time.sleep(0.05)"
    source = written(tmp_path, f"{IN_WORKERS}{waiting}\n{PLUS}")
    with started(
        environment, tmp_path, "run", "plus", "--migrations", source, "--workers", "1", "-y"
    ) as process:
        runs, workers = database["whimbrel_runs"], database["whimbrel_workers"]
        until(lambda: "load the migrations" in (runs.find_one() or {"message": ""})["message"])
        assert [each["slots"] for each in workers.find()] == [0]
        (tmp_path / "go").touch()
        process.communicate(timeout=120)
        assert process.returncode == 0
    assert database["things"].count_documents({"n": 1}) == 5
