"""The command line, by real processes: what it prints, how it ends, and what interrupting it does."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest
from pymongo import MongoClient
from pymongo.database import Database

from tests.servers import preloaded
from whimbrel.engine.operating.start import Defaults, start_run
from whimbrel.mongo.embedded import find_mongod
from whimbrel.mongo.store import MongoStore
from whimbrel.samples.migration import SOME_MODEL
from whimbrel.samples.seeder import documents
from whimbrel.workers.definition_catalog import describe

PROGRAM = [sys.executable, "-m", "whimbrel.cli.main"]
COUNTING = """
import os
import time

from whimbrel import Migration, migration

counted = Migration(name="counted", collection="things", update={"$inc": {"n": 1}}, batch_size=500)


@migration(collection="things", batch_size=500)
def slowly(document):
    time.sleep(float(os.environ.get("NAP", "0")))
    return {"$inc": {"n": 1}}
"""
Cli = Callable[..., subprocess.CompletedProcess[str]]
Docs = Database[dict[str, Any]]


@pytest.fixture
def environment(mongo_uri: str, database: Docs) -> dict[str, str]:
    return {
        **os.environ, "MONGODB_URI": mongo_uri, "MONGODB_DB_NAME": database.name, "RETRY_DELAY": "20",
        "WHIMBREL_LEASE": "3", "WHIMBREL_GRACE": "1", "WHIMBREL_STATEMENT": "0.9", "WHIMBREL_SWEEP": "0.2",
        "WHIMBREL_IDLE_POLL": "0.05", "LOG_LEVEL": "error",
    }  # fmt: skip


@pytest.fixture
def cli(environment: dict[str, str], tmp_path: Path) -> Cli:
    """Run a command to its end, and check its exit code."""

    def call(*arguments: str, code: int = 0, **changes: str) -> subprocess.CompletedProcess[str]:
        done = preloaded.run(
            [*PROGRAM, *arguments], env={**environment, **changes}, cwd=tmp_path,
            capture_output=True, text=True, timeout=240, check=False, stdin=subprocess.DEVNULL,
        )  # fmt: skip
        assert done.returncode == code, done.stderr + done.stdout
        assert "Traceback" not in done.stderr, done.stderr
        return done

    return call


def together(cli: Cli, *commands: list[str]) -> list[str]:
    """What several commands say that do not disturb one another."""
    with ThreadPoolExecutor(4) as pool:
        return [done.stdout for done in pool.map(lambda command: cli(*command), commands)]


@contextmanager
def started(environment: Mapping[str, str], cwd: Path, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    """A command that goes on while the test does something to it."""
    with preloaded.Popen(
        [*PROGRAM, *arguments], env=environment, cwd=cwd,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, stdin=subprocess.DEVNULL,
    ) as process:  # fmt: skip
        try:
            yield process
        finally:
            if process.poll() is None:
                process.kill()


def until(condition: Callable[[], Any], seconds: float = 90) -> Any:
    end = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < end, "in vain"
        time.sleep(0.02)
    return found


def until_said(process: subprocess.Popen[str], words: str) -> list[str]:
    """Read standard error up to these words; pytest's own time limit ends it where they do not come."""
    assert process.stderr is not None
    lines = [""]
    while words not in lines[-1]:
        lines.append(process.stderr.readline())
        assert lines[-1], f"it ended without saying {words!r}: {lines}"
    return lines


def the_run(database: Docs) -> dict[str, Any]:
    return database["whimbrel_runs"].find_one(sort=[("createdAt", -1)]) or {}


def at_work(database: Docs) -> str:
    """Wait until the newest run has settled a batch: its id."""
    until(lambda: database["whimbrel_batches"].find_one({"status": "done"}))
    return str(the_run(database)["_id"])


@pytest.fixture
def things(database: Docs, environment: dict[str, str], tmp_path: Path) -> int:
    """Documents that show how often they were changed, and a slow migration that counts it."""
    file = tmp_path / "counting.py"
    file.write_text(COUNTING)
    environment |= {"WHIMBREL_MIGRATIONS": str(file), "PROCESSING_DELAY": "400"}
    database["things"].insert_many({"_id": number} for number in range(5000))
    return 5000


def everything_changed_once(database: Docs, count: int) -> bool:
    return database["things"].count_documents({"n": 1}) == count == database["things"].count_documents({})


def test_a_run_answers_with_the_run_object(cli: Cli, database: Docs) -> None:
    database["somemodels"].insert_many(documents(2500))

    done = cli("run", "some-model", "--json", "--workers", "1", "--batch-size", "700")

    run = json.loads(done.stdout)
    assert run["status"] == "completed"
    assert (run["totalItems"], run["succeeded"], run["failed"], run["progress"]) == (2500, 2500, 0, 100.0)
    assert (run["request"]["route"], run["request"]["phase"], run["phase"]) == ("whimbrel run", "all", "all")
    mine = {"status": "success", "processedBy": {"$regex": f"^{run['migrationId']}\\."}}
    assert database["somemodels"].count_documents(mine) == 2500
    assert "some-model: 100%" in done.stderr
    assert "\x1b" not in done.stderr, "control codes where there is no terminal"


def test_a_run_with_failures_says_how_to_look_and_retry(cli: Cli, database: Docs) -> None:
    database["somemodels"].insert_many(documents(200))
    spoiled = list(database["somemodels"].find().limit(3))
    for each in spoiled:
        database["somemodels"].update_one({"_id": each["_id"]}, {"$set": {"data": "spoiled"}})

    text = cli("run", "some-model", "--workers", "1", code=2).stdout

    run = the_run(database)["_id"]
    assert f"whimbrel retry {run}" in text
    assert f"whimbrel failures {run} --documents" in text
    groups, rows, status = together(
        cli,
        ["failures", run, "--json"],
        ["failures", run, "--documents", "--json", "--limit", "2"],
        ["status"],
    )
    (group,) = json.loads(groups)
    assert (group["dead"], group["open"], group["kind"]) == (3, 0, "data")
    assert group["group"] in text
    assert [row["_id"]["$oid"] for row in json.loads(rows)] == [str(each["_id"]) for each in spoiled[:2]]
    assert "completed_with_failures" in status

    database["somemodels"].update_many({"data": "spoiled"}, {"$set": {"data": {}}})
    again = json.loads(cli("retry", run, "--group", group["group"], "--workers", "1", "--json").stdout)

    assert (again["migrationId"], again["status"], again["succeeded"]) == (run, "completed", 200)
    resolved = ["--json", "--state", "resolved", "--cursor", json.loads(rows)[-1]["cursor"]]
    after, one, details, table = together(
        cli,
        ["failures", run, "--documents", *resolved],
        ["status", run, "--json"],
        ["status", run, "--watch"],
        ["failures", run, "--documents", "--group", group["group"]],
    )
    assert [each["status"] for each in json.loads(one)] == ["completed"]
    assert [row["state"] for row in json.loads(after)] == ["resolved"] * 3
    assert "Batches" in details
    assert str(spoiled[2]["_id"]) in table
    assert "no group" in cli("failures", run, "--group", "nix", code=66).stderr
    assert "no cursor" in cli("failures", run, "--cursor", "nix", code=64).stderr


def test_a_new_migration_loads_and_runs_as_it_is(cli: Cli, database: Docs, tmp_path: Path) -> None:
    database["my_collection"].insert_many([*({"name": "abc"} for _ in range(50)), {"other": 1}])

    told = json.loads(cli("new", "split-name", "--json").stdout)

    assert told == {"file": "split_name.py", "test": "test_split_name.py", "name": "split-name"}
    definition = describe(str(tmp_path / "split_name.py"))["split-name"]
    assert (definition.collection, definition.declarative) == ("my_collection", False)
    before = (tmp_path / "split_name.py").read_text()
    assert "is there already" in cli("new", "split-name", code=65).stderr
    assert (tmp_path / "split_name.py").read_text() == before
    assert "lower-case" in cli("new", "Split_Name", code=65).stderr
    listed = json.loads(cli("migrations", "--migrations", "split_name.py", "--json").stdout)
    assert {each["name"]: each["kind"] for each in listed} == {
        "some-model": "declarative",
        "split-name": "function",
    }
    assert "split-name" in cli("migrations", WHIMBREL_MIGRATIONS="split_name.py").stdout

    options = ["--migrations", "split_name.py", "--workers", "1", "--json"]
    first = json.loads(cli("run", "split-name", *options, "--limit", "10").stdout)
    rest = json.loads(cli("run", "split-name", *options, "--filter", '{"name": "abc"}').stdout)

    assert (first["changed"], rest["changed"], rest["filters"]) == (10, 40, {"name": "abc"})
    assert database["my_collection"].count_documents({"name_length": 3}) == 50


def test_the_declarative_form_in_a_new_file_loads_too(cli: Cli, tmp_path: Path) -> None:
    cli("new", "by-server")
    text = (tmp_path / "by_server.py").read_text()
    lines = text[text.index("# BY_SERVER") :].splitlines()
    (tmp_path / "server.py").write_text(
        "from whimbrel import Migration\n" + "\n".join(line[2:] for line in lines)
    )

    assert describe(str(tmp_path / "server.py"))["by-server"].declarative


def test_a_run_is_paused_and_resumed_from_another_terminal(
    cli: Cli, database: Docs, things: int, environment: dict[str, str], tmp_path: Path
) -> None:
    slow = {**environment, "PROCESSING_DELAY": "0"}  # slow by its rate, until that is lifted
    with started(
        slow, tmp_path, "run", "counted", "--workers", "1", "--batch-size", "250", "--rate", "150", "--json"
    ) as process:
        run = at_work(database)
        assert "is paused" in cli("pause", run).stdout
        assert the_run(database)["status"] == "paused"
        assert process.poll() is None, "it waits"

        assert "live workers serve it" in cli("resume", run).stderr
        cli("set", run, "--no-rate")
        out, error = process.communicate(timeout=120)

    assert process.returncode == 0, error
    assert json.loads(out)["status"] == "completed"
    assert "paused" in error
    assert everything_changed_once(database, things)
    assert "cannot be resumed" in cli("resume", run, code=68).stderr


def test_settings_of_a_run_are_changed_while_it_goes_on(
    cli: Cli, database: Docs, things: int, environment: dict[str, str], tmp_path: Path
) -> None:
    with started(environment, tmp_path, "run", "counted", "--rate", "20", "--json") as process:
        run = str(until(lambda: the_run(database).get("status") == "running" and the_run(database)["_id"]))
        assert the_run(database)["rate"] == 20  # so it would take four minutes
        assert "at most 20 documents a second" in cli("status", run).stdout
        said = cli("set", run, "--rate", "25").stdout
        assert f"Run {run} goes on: at most 25 documents a second, priority 0, batches of 500" in said
        told = json.loads(
            cli("set", run, "--no-rate", "--batch-size", "800", "--priority", "7", "--json").stdout
        )
        out, error = process.communicate(timeout=120)

    assert process.returncode == 0, error
    assert (told["migrationId"], told["maxDocsPerSecond"]) == (run, None)
    ended = json.loads(out)
    assert (ended["maxDocsPerSecond"], ended["batchSize"], ended["priority"]) == (None, 800, 7)
    assert everything_changed_once(database, things)
    audit = list(database["whimbrel_audit"].find({"run": run, "what": "settings changed"}).sort("at", 1))
    assert [each["why"] for each in audit] == ["rate 25", "batchSize 800, priority 7, rate None"]
    assert all("@" in each["who"] for each in audit)
    assert "its settings change nothing any more" in cli("set", run, "--rate", "5", code=68).stderr


def test_ctrl_c_pauses_and_resume_completes(
    cli: Cli, database: Docs, things: int, environment: dict[str, str], tmp_path: Path
) -> None:
    small = ("--batch-size", "50")  # of which many are left after the first
    with started(environment, tmp_path, "run", "counted", "--workers", "1", *small) as process:
        run = at_work(database)
        process.send_signal(signal.SIGINT)
        _, error = process.communicate(timeout=120)

    assert process.returncode == 130, error
    assert f"whimbrel resume {run}" in error
    assert the_run(database)["status"] == "paused"
    assert 0 < database["things"].count_documents({"n": 1}) < things

    changed = json.loads(cli("resume", run, "--json", PROCESSING_DELAY="0").stdout)["changed"]

    assert changed == things
    assert everything_changed_once(database, things)


def test_ctrl_c_twice_ends_at_once_and_loses_nothing(
    cli: Cli, database: Docs, things: int, environment: dict[str, str], tmp_path: Path
) -> None:
    slow = {**environment, "NAP": "0.05"}  # a chunk takes 25 s: the first Ctrl-C is not done at once
    with started(slow, tmp_path, "run", "slowly", "--workers", "2") as process:
        until(lambda: database["whimbrel_batches"].find_one({"status": "running"}))
        children = preloaded.workers_of(process.pid)
        process.send_signal(signal.SIGINT)
        until(lambda: the_run(database)["status"] != "running")
        process.send_signal(signal.SIGINT)
        _, error = process.communicate(timeout=120)

    run = the_run(database)["_id"]
    assert process.returncode == 130, error
    assert f"Nothing is lost. Go on with: whimbrel resume {run}" in error
    assert len(children) == 2
    assert not any(child.is_running() for child in children)
    assert not database["whimbrel_batches"].find_one({"status": "running"}), "what they held is free"

    cli("resume", run, PROCESSING_DELAY="0")

    assert everything_changed_once(database, things)


def test_after_kill_9_of_the_parent_resume_goes_on(
    cli: Cli, database: Docs, things: int, environment: dict[str, str], tmp_path: Path
) -> None:
    small = ("--batch-size", "50")  # of which many are left after the first
    with started(environment, tmp_path, "run", "counted", "--workers", "1", *small) as process:
        run = at_work(database)
        process.kill()

    done = cli("resume", run, "--json", PROCESSING_DELAY="0")

    assert json.loads(done.stdout)["status"] == "completed"
    assert everything_changed_once(database, things)


def test_nobody_counts_on_a_worker_that_only_ends_what_it_has_begun(
    cli: Cli, database: Docs, things: int, environment: dict[str, str], tmp_path: Path
) -> None:
    """The worker that outlives a killed parent is busy, and sends heartbeats, until its call returns."""
    assert things
    environment["NAP"] = "12"  # long enough to be seen, though the machine stands still in between
    with started(environment, tmp_path, "run", "slowly", "--workers", "1") as process:
        until(lambda: database["whimbrel_workers"].find_one({"inHand.0": {"$exists": True}}))
        run = str(the_run(database)["_id"])
        process.kill()
    until(lambda: database["whimbrel_workers"].find_one({"slots": 0, "inHand.0": {"$exists": True}}))

    done = cli("resume", run, "--json", NAP="0")

    assert json.loads(done.stdout)["status"] == "completed"
    assert everything_changed_once(database, things)


def test_workers_that_cannot_start_end_the_work_and_the_run_waits(
    cli: Cli, database: Docs, tmp_path: Path
) -> None:
    database["things"].insert_one({})
    (tmp_path / "fragile.py").write_text(
        "from pathlib import Path\n"
        "from whimbrel import Migration\n"
        "assert '--name' not in Path('/proc/self/cmdline').read_text(), 'not in a worker'\n"
        "m = Migration(name='fragile', collection='things', update={'$inc': {'n': 1}})\n"
    )

    said = cli("run", "fragile", "--migrations", "fragile.py", "--workers", "1", code=65).stderr

    assert "AssertionError: not in a worker" in said
    assert "error: The workers cannot start" in said
    assert f"Go on with: whimbrel resume {the_run(database)['_id']}" in said
    assert the_run(database)["status"] == "paused"


def test_a_second_run_waits_and_can_be_cancelled(
    cli: Cli, database: Docs, things: int, environment: dict[str, str], tmp_path: Path
) -> None:
    with started({**environment, "PROCESSING_DELAY": "30000"}, tmp_path, "run", "counted") as first:
        until(lambda: the_run(database).get("status") == "running")
        one = the_run(database)["_id"]
        with started(environment, tmp_path, "run", "counted", "--json") as second:
            two = until(lambda: the_run(database)["_id"] != one and the_run(database)["_id"])
            until_said(second, f"waits for run {one}")
            assert json.loads(cli("cancel", two, "--json").stdout)["status"] == "cancelled"
            out, _ = second.communicate(timeout=120)
            assert (second.returncode, json.loads(out)["status"]) == (4, "cancelled")
        assert "is cancelled" in cli("cancel", one).stdout
        assert first.wait(60) == 4
    listed = json.loads(cli("status", "--json").stdout)
    assert [each["migrationId"] for each in listed] == [two, one]


def test_workers_serve_runs_of_others_until_they_are_told_to_stop(
    store: MongoStore, database: Docs, environment: dict[str, str], tmp_path: Path
) -> None:
    database["somemodels"].insert_many(documents(300))
    with started(environment, tmp_path, "worker", "--workers", "1") as process:
        run = start_run(store, SOME_MODEL.definition, who="a test", defaults=Defaults())
        lines = until_said(process, f"run {run.id} of some-model is completed")
        process.send_signal(signal.SIGTERM)
        _, error = process.communicate(timeout=120)

    assert process.returncode == 0, error
    assert any("Serves some-model" in line for line in lines)
    assert "Draining" in error


def test_the_demonstration_verifies_what_it_shows(cli: Cli, client: MongoClient[dict[str, Any]]) -> None:
    told = json.loads(cli("demo", "--documents", "3000", "--workers", "1", "--json").stdout)

    assert told["verified"] is True
    assert all(check["ok"] for check in told["checks"])
    assert (told["seeded"], told["planted"]) == (3000, 3)
    assert (told["run"]["succeeded"], told["run"]["failed"]) == (2997, 3)
    assert "whimbrel_demo" not in client.list_database_names()


@pytest.mark.parametrize("count", ["0", "7"])
def test_a_demonstration_of_next_to_nothing(
    cli: Cli, client: MongoClient[dict[str, Any]], count: str
) -> None:
    text = cli("demo", "--documents", count, "--workers", "1", "--keep").stdout

    assert text.count(" ok") == 5
    assert "FAILED" not in text
    assert "MONGODB_DB_NAME=whimbrel_demo whimbrel status" in text
    assert client["whimbrel_demo"]["somemodels"].count_documents({"status": "success"}) == int(count)
    client.drop_database("whimbrel_demo")


BAD: list[tuple[list[str], dict[str, str], int, str]] = [
    (["run", "some-modle"], {}, 66, "Did you mean 'some-model'?"),
    (["run", "some-model", "--filter", '{"a": '], {}, 65, "line 1, column 7"),
    (["run", "some-model", "--filter", '{"$where": "1"}'], {}, 65, "$where"),
    (["run", "some-model", "--batch-size", "100001"], {}, 64, "--batch-size"),
    (["nix"], {}, 64, "No such command"),
    (["run", "some-model"], {}, 67, "There is no collection 'somemodels'"),
    (["run", "x", "--migrations", "missing.py"], {}, 65, "There is no file missing.py"),
    (["run", "x", "--migrations", "syntax.py"], {}, 65, "SyntaxError: invalid syntax (syntax.py, line 1)."),
    (["run", "x", "--migrations", "imports.py"], {}, 65, "No module named 'nowhere_to_be_found'"),
    (["run", "x", "--migrations", "wrong.py"], {}, 65, "Did you mean 'collection'?"),
    (["run", "views", "--migrations", "view.py"], {}, 67, "is a view of 'real'"),
    (["status", "nix"], {}, 66, "There is no run 'nix'"),
    (["set", "nix", "--rate", "5"], {}, 66, "There is no run 'nix'"),
    (["set", "nix"], {}, 64, "Nothing to set"),
    (["set", "nix", "--rate", "5", "--no-rate"], {}, 64, "exclude one another"),
    (["set", "nix", "--rate", "0"], {}, 64, "--rate"),
    (["run", "some-model", "--rate", "1.5"], {}, 64, "--rate"),
    (["resume", "nix"], {}, 66, "There is no run 'nix'"),
    (["status"], {"BATCH_SIZE": "many"}, 64, "BATCH_SIZE='many'"),
    (["status"], {"WHIMBREL_LEASE": "0.5"}, 64, "WHIMBREL_LEASE"),
    (["status"], {"MONGODB_URI": "mongod://me:secret@h/"}, 64, "mongod://me:***@h/"),
    (["status"], {"MONGODB_DB_NAME": "a b"}, 64, "MONGODB_DB_NAME='a b'"),
    (["status"], {"MONGODB_URI": "", "WHIMBREL_MONGOD": "/nix"}, 72, "WHIMBREL_MONGOD is /nix"),
    (["status"], {"MONGODB_URI": "", "WHIMBREL_HOME": "/proc/nix"}, 72, "/proc/nix"),
]


def test_bad_input_is_answered_in_one_sentence(cli: Cli, database: Docs, tmp_path: Path) -> None:
    define = "from whimbrel import Migration\nm = Migration(name='{}', {}='real_view', update={{'$set': {{'a': 1}}}})\n"
    (tmp_path / "syntax.py").write_text("def (")
    (tmp_path / "imports.py").write_text("import nowhere_to_be_found")
    (tmp_path / "wrong.py").write_text(define.format("x", "colection"))
    (tmp_path / "view.py").write_text(define.format("views", "collection"))
    database.create_collection("real")
    database.command("create", "real_view", viewOn="real", pipeline=[])

    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda bad: cli(*bad[0], code=bad[2], **bad[1]), BAD))

    for (arguments, _, _, said), done in zip(BAD, answers, strict=True):
        (line,) = [line for line in done.stderr.splitlines() if not line.startswith("MongoDB: ")]
        assert line.startswith("error: "), arguments
        assert said in line, arguments
        assert "secret" not in done.stderr, arguments
        assert done.stdout == "", arguments
    assert the_run(database) == {}, "nothing was begun"


def test_a_server_that_does_not_answer(cli: Cli) -> None:
    address = f"mongodb://me:secret@127.0.0.1:{free_port()}/"

    said = cli("status", code=70, MONGODB_URI=address, WHIMBREL_CONNECT_SECONDS="0.5").stderr

    assert "me:***@127.0.0.1" in said
    assert "did not answer within 0.5 seconds" in said
    assert len(said.splitlines()) == 1


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def test_a_stand_alone_server_with_users(cli: Cli, tmp_path: Path) -> None:
    port, data = free_port(), tmp_path / "data"
    data.mkdir()
    command = [
        str(find_mongod()), "--dbpath", str(data), "--port", str(port), "--bind_ip", "127.0.0.1", "--auth",
        "--nounixsocket", "--logpath", str(tmp_path / "log"), "--wiredTigerCacheSizeGB", "0.25",
    ]  # fmt: skip
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as mongod:
        try:
            with MongoClient[dict[str, Any]](f"mongodb://127.0.0.1:{port}/") as client:
                client.admin.command("createUser", "me", pwd="right", roles=["root"])  # noqa: S106
            wrong = cli("status", code=71, MONGODB_URI=f"mongodb://me:wrong@127.0.0.1:{port}/").stderr
            nobody = cli("status", code=71, MONGODB_URI=f"mongodb://127.0.0.1:{port}/").stderr
            uri = f"mongodb://me:right@127.0.0.1:{port}/"
            works = cli("demo", "--documents", "200", "--workers", "1", "--json", MONGODB_URI=uri)
        finally:
            mongod.terminate()

    assert "refused the user name or password" in wrong
    assert "asks for a user name and password, and MONGODB_URI has none" in nobody
    assert json.loads(works.stdout)["verified"]
    assert "note: this server is stand-alone" in works.stderr
    assert "right" not in works.stderr


def test_a_run_outlives_its_embedded_mongodb(environment: dict[str, str], tmp_path: Path) -> None:
    home = tmp_path / "home"
    embedded = {**environment, "MONGODB_URI": "", "WHIMBREL_HOME": str(home), "PROCESSING_DELAY": "150"}
    with started(embedded, tmp_path, "demo", "--documents", "8000", "--workers", "1", "--json") as process:
        until_said(process, "running")
        (server,) = [child for child in psutil.Process(process.pid).children() if "mongod" in child.name()]
        server.kill()
        out, error = process.communicate(timeout=90)

    assert process.returncode == 0, error
    assert json.loads(out)["verified"]
    assert not any(
        str(home) in " ".join(each.info["cmdline"] or [])
        for each in psutil.process_iter(["name", "cmdline"])
        if each.info["name"] == "mongod"
    )


@pytest.mark.parametrize("arguments", [["status"], ["status", "--json"], ["--help"]])
def test_a_reader_that_stops_reading_is_no_error(
    environment: dict[str, str], tmp_path: Path, arguments: list[str]
) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    try:
        done = preloaded.run(
            [*PROGRAM, *arguments], env=environment, cwd=tmp_path, stdout=writer,
            stderr=subprocess.PIPE, text=True, timeout=240, check=False, stdin=subprocess.DEVNULL,
        )  # fmt: skip
    finally:
        os.close(writer)
    assert done.returncode == 1
    assert [line for line in done.stderr.splitlines() if not line.startswith("MongoDB: ")] == []


def test_the_version_and_the_commands(cli: Cli) -> None:
    assert cli("--version").stdout == "whimbrel 0.1.0\n"
    text = cli().stdout
    for command in (
        "run",
        "resume",
        "retry",
        "pause",
        "cancel",
        "status",
        "failures",
        "worker",
        "workers",
        "serve",
        "set",
        "new",
        "demo",
    ):
        assert command in text
    assert "130 interrupted" in text
    assert "Examples" in cli("run", "--help").stdout


def test_a_run_is_rolled_back_and_cleaned_up(cli: Cli, database: Docs) -> None:
    database["somemodels"].insert_many(documents(300, status="pending", seed=3))
    before = list(database["somemodels"].find())
    run = json.loads(cli("run", "some-model", "--undo", "--json").stdout)["migrationId"]
    asked = cli("rollback", run, code=64)
    assert "say --yes" in asked.stderr
    assert list(database["somemodels"].find()) != before
    back = cli("rollback", run, "--yes")
    assert f"rollback of run {run}" in back.stdout
    assert f"Documents that are as they were before run {run}: 300." in back.stdout
    assert list(database["somemodels"].find()) == before
    assert "the rollback of this one" in cli("status", run).stdout
    told = cli("status").stdout.splitlines()
    words = " ".join(" ".join(told).split())  # where lines are broken depends on how long the runs took
    assert 0 <= words.find("rollback") < words.find("rolled back")
    assert all(line == line.rstrip() for line in told)
    ran = cli("run", "some-model", "--undo").stdout
    again = ran.split()[1]
    for command in ("verify", "rollback", "cleanup"):
        assert f"whimbrel {command} {again}" in ran
    cleaned = cli("cleanup", again, "--yes")
    assert "bytes in 300 documents" in cleaned.stderr
    assert not database["somemodels"].count_documents({"_whimbrel": {"$exists": True}})
    assert "cannot be rolled back" in cli("rollback", back.stdout.split()[1], "--yes", code=68).stderr


# plan


PLANNED = """
from whimbrel import migration


@migration(collection="things", filter={"n": {"$exists": True}})
def twice(document):
    print("never on standard output")
    if document["_id"] == 3:
        raise ValueError("three")
    return {"$set": {"m": document["n"] * 2}, "$unset": {"n": ""}}
"""


@pytest.fixture
def planned(database: Docs, tmp_path: Path) -> str:
    database["things"].insert_many([{"_id": key, "n": key} for key in range(50)])
    path = tmp_path / "planned.py"
    path.write_text(PLANNED)
    return str(path)


def test_a_plan_writes_nothing_not_even_a_ledger(cli: Cli, planned: str, database: Docs) -> None:
    said = json.loads(cli("plan", "twice", "--migrations", planned, "--json", code=2).stdout)
    assert (said["selected"]["documents"], said["outcomes"]["failed"]) == (50, 1)
    assert [each["message"] for each in said["failures"]] == ["three"]
    assert database.list_collection_names() == ["things"]
    assert list(database["things"].find()) == [{"_id": key, "n": key} for key in range(50)]


def test_a_plan_has_its_sample_and_its_filter(cli: Cli, planned: str) -> None:
    options = [
        "--migrations",
        planned,
        "--sample",
        "7",
        "--documents",
        "5",
        "--filter",
        '{"_id": {"$gt": 10}}',
    ]
    said = json.loads(cli("plan", "twice", *options, "--json").stdout)
    assert (said["selected"]["documents"], said["sample"]["documents"], len(said["diffs"])) == (39, 7, 5)
    assert all(each["id"] > 10 for each in said["diffs"])


MAILS = """
from whimbrel import Migration

CORP = {"email": {"$regex": r"@corp\\.com$", "$nin": ["admin@corp.com", "root@corp.com"]}}
corp = Migration(name="corp", collection="mails", filter=CORP, update={"$set": {"done": 1}})
all_ = Migration(name="all", collection="mails", update={"$set": {"done": 2}})
"""


def test_a_filter_means_the_same_wherever_it_is_given(cli: Cli, database: Docs, tmp_path: Path) -> None:
    """In a file, to a plan and to a run; and what a run shows of it can be given again."""
    mails = database["mails"]
    mails.insert_many({"_id": f"{name}@corp.com"} for name in ("admin", "root", "ann"))
    mails.update_many({}, [{"$set": {"email": "$_id"}}])
    (tmp_path / "mails.py").write_text(MAILS)
    options = ["--migrations", "mails.py", "--json"]
    text = '{"email": {"$regex": "@corp\\\\.com$", "$nin": ["admin@corp.com", "root@corp.com"]}}'
    by_file, by_text, shown = together(
        cli, ["plan", "corp", *options], ["plan", "all", *options, "--filter", text], ["plan", "corp", *options[:2]]
    )  # fmt: skip
    assert text in " ".join(shown.split())  # broken between words, where the terminal ends
    plans = [json.loads(each) for each in (by_file, by_text)]
    assert [(each["selected"]["documents"], each["filters"]) for each in plans] == [(1, json.loads(text))] * 2

    first = json.loads(cli("run", "corp", *options, "--workers", "1").stdout)
    assert (first["changed"], first["filters"]) == (1, json.loads(text))
    assert [each["_id"] for each in mails.find({"done": 1})] == ["ann@corp.com"]
    again = json.dumps(first["filters"])
    second = json.loads(cli("run", "all", *options, "--workers", "1", "--filter", again).stdout)
    assert (second["changed"], second["filters"]) == (1, first["filters"])
    assert [each["_id"] for each in mails.find({"done": 2})] == ["ann@corp.com"]
    cli("verify", second["migrationId"], *options)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('{"a": {"$lt": 0}, "a": {"$exists": true}}', "the field 'a' twice in one document"),
        (
            '{"a": {"b": [{"$date": "2020-01-01", "$gt": 5}]}}',
            "at 'a.b[0]': $date makes a value of its object",
        ),
        ('{"a": {"$in": [{"$regex": "x"}]}}', "at 'a.$in[0]': $regex is an operator"),
    ],
)
def test_a_filter_that_cannot_be_kept_exactly_is_refused_with_its_place(
    cli: Cli, text: str, said: str
) -> None:
    commands = (["run", "some-model"], ["plan", "some-model"], ["schedule", "set", "default"])
    with ThreadPoolExecutor(3) as pool:
        for done in pool.map(lambda each: cli(*each, "--filter", text, code=65), commands):
            assert said in done.stderr


@pytest.mark.parametrize(
    ("command", "option", "values"),
    [
        (["run", "some-model"], "--filter", ('{"a": 1}', '{"b": 1}')),
        (["plan", "some-model"], "--sample", ("5", "5")),
        (["schedule", "set", "default"], "--filter", ("{}", '{"b": 1}')),
    ],
)
def test_of_an_option_that_is_given_twice_none_is_taken(
    cli: Cli, command: list[str], option: str, values: tuple[str, str], database: Docs
) -> None:
    said = cli(*command, option, values[0], option, values[1], code=64).stderr
    assert f"Option {option} is given 2 times; give it once" in said
    assert database.list_collection_names() == []


def test_a_plan_shows_documents_side_by_side_where_there_is_room(cli: Cli, planned: str) -> None:
    options = ["plan", "twice", "--migrations", planned, "--documents", "1"]
    wide = cli(*options, code=2, COLUMNS="120").stdout
    assert any("before" in line and "after" in line for line in wide.splitlines())
    narrow = cli(*options, code=2, COLUMNS="80").stdout
    assert not any("before" in line and "after" in line for line in narrow.splitlines())
    broken = [line for line in narrow.splitlines() if len(line.rstrip()) > 80]
    assert [line for line in broken if " " in line.strip()] == [], (
        "one long word, such as a path, stays whole"
    )
    for text in (wide, narrow):
        assert "ValueError: three" in text
        assert "selects no changed document any more" in text
    assert "never on standard output" not in wide


def test_a_plan_tells_what_preflight_warns_of(cli: Cli, planned: str, database: Docs) -> None:
    database["things"].create_index("m", unique=True, sparse=True)
    database["things"].create_index("other", unique=True, sparse=True)
    options = ["plan", "twice", "--migrations", planned, "--filter", '{"_id": {"$gt": 10}}']
    (found,) = json.loads(cli(*options, "--json").stdout)["warnings"]
    # What the function changes is known from the sample: `m`, and not `other`.
    assert (found["check"], found["level"], found["detail"]["index"]) == ("unique-index", "warning", "m_1")
    assert "warning: unique-index. " in cli(*options).stdout


def test_a_plan_lists_all_that_speaks_against_a_run_at_once(cli: Cli, planned: str, database: Docs) -> None:
    database["things"].insert_one({"_id": "taken", "_whimbrel": "mine"})
    options = ["plan", "twice", "--migrations", planned]
    bad = ["--filter", '{"n": {"$bogus": 1}}']
    told = json.loads(cli(*options, *bad, "--json", code=65).stdout)["warnings"]
    assert [(each["check"], each["level"]) for each in told] == [("filter", "error"), ("mark", "error")]
    shown = cli(*options, *bad, code=65).stderr
    assert "error: filter. " in shown
    assert "error: mark. " in shown
    assert "error: mark. " in cli(*options, code=67).stderr
    assert database.list_collection_names() == ["things"]


def test_a_plan_of_what_cannot_be_planned(cli: Cli, planned: str) -> None:
    assert "There is no migration" in cli("plan", "thrice", "--migrations", planned, code=66).stderr
    assert "--sample" in cli("plan", "twice", "--migrations", planned, "--sample", "0", code=64).stderr
    refused = cli("plan", "twice", "--migrations", planned, "--filter", '{"$where": "1"}', code=65)
    assert "$where" in refused.stderr


def test_a_plan_of_a_collection_that_is_not_there(cli: Cli, planned: str, database: Docs) -> None:
    database.drop_collection("things")
    assert "There is no collection" in cli("plan", "twice", "--migrations", planned, code=67).stderr


def test_a_run_is_verified(cli: Cli, database: Docs) -> None:
    database["somemodels"].insert_many(documents(300, status="pending", seed=3))
    run = json.loads(cli("run", "some-model", "--json").stdout)["migrationId"]
    proved = cli("verify", run)
    for said in (f"verification of run {run}", f"Run {run} is verified", "ranges tile", "not idempotent"):
        assert said in proved.stdout
    assert "FAULT" not in proved.stdout
    database["somemodels"].update_many({"testBatch": {"$ne": "x"}}, {"$set": {"status": "pending"}})
    told = json.loads(cli("verify", run, "--sample", "0", "--rate", "100000", "--json", code=5).stdout)
    proofs = {each["check"]: each for each in told["report"]}
    left = proofs["nothing left"]
    assert (left["verdict"], left["numbers"]["set back"]) == ("changed since", 300)
    assert proofs["transform again"]["proved"] is None
    shown = cli("status", told["migrationId"]).stdout
    assert "changed since" in shown
    assert "Findings" in shown
    assert "100" in cli("failures", told["migrationId"]).stdout
    assert "give one of them" in cli("verify", run, "--all", "--sample", "5", code=64).stderr
    assert "no work to be tried again" in cli("retry", told["migrationId"], code=68).stderr
    assert "There is no run" in cli("verify", "nothing", code=66).stderr


def test_prune_asks_tells_and_removes(cli: Cli, database: Docs) -> None:
    database["somemodels"].insert_many(list(documents(20, seed=1)))
    cli("run", "some-model", "--yes")
    ended = {"$set": {"endedAt": {"$subtract": ["$endedAt", 40 * 86_400_000]}}}
    database["whimbrel_runs"].update_many({}, [ended])
    assert "say --yes" in cli("prune", code=64).stderr
    assert "0 runs would" in cli("prune", "--dry-run").stdout
    assert "1 run would" in cli("prune", "--dry-run", WHIMBREL_KEEP_DAYS="30").stdout
    assert json.loads(cli("prune", "--days", "30", "--yes", "--json").stdout)["batches"] > 0
    assert database["whimbrel_runs"].count_documents({}) == 0
