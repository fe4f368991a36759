"""One run, one code, one evaluation: what a run was started with holds to its end, whatever the files say by then."""

import hashlib
import os
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest
from pymongo.database import Database

from tests.integration.in_process_system import DEFAULTS, start, system, until
from tests.servers import preloaded
from tests.waiting import until as reached
from whimbrel.domain.migrations.catalog import choose
from whimbrel.domain.migrations.migration import Migration
from whimbrel.domain.runs.run import Run, for_run
from whimbrel.domain.runs.states import RunStatus
from whimbrel.engine.operating import control
from whimbrel.engine.operating.code_differences import differing_code
from whimbrel.engine.operating.start import start_run
from whimbrel.engine.operating.start_verification import start_verification
from whimbrel.engine.operating.unserved_runs import unserved
from whimbrel.engine.running.worker_state import WorkerState
from whimbrel.errors import StateForbids
from whimbrel.mongo.store import MongoStore
from whimbrel.workers.definition_catalog import describe
from whimbrel.workers.loaded_files import LoadedHere
from whimbrel.workers.migration_loader import load

Data = Database[dict[str, Any]]
FILES = {
    "migs.py": """
        from whimbrel import Migration, migration
        import helpers
        from words import say
        from package.inner import deep
        V = "old"

        @migration(collection="things")
        def stamped(thing):
            import lazily
            return {"$set": {"v": V + helpers.W + say() + deep.X + lazily.Y}}

        declared = Migration(name="declared", collection="things", update={"$set": {"v": V}})
    """,
    "helpers.py": "W = 'w'\n",
    "words.py": "def say():\n    return 's'\n",
    "lazily.py": "from below import Z as Y\n",
    "below.py": "Z = 'z'\n",
    "unrelated.py": "Q = 1\n",
    "package/__init__.py": "",
    "package/inner/__init__.py": "",
    "package/inner/deep.py": "from ..sibling import X\n",
    "package/sibling.py": "X = 'x'\n",
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write(tmp_path, FILES)
    return tmp_path


def pin(folder: Path) -> Any:
    return describe(str(folder / "migs.py"))["stamped"]


@pytest.mark.parametrize("name", [name for name in FILES if name != "unrelated.py"])
def test_a_change_of_any_file_of_the_migration_is_another_code_that_names_it(
    store: MongoStore, folder: Path, name: str
) -> None:
    before = pin(folder)
    store.ledger.codes.keep(before.code_hash, before.code)
    with (folder / name).open("a") as file:
        file.write("CHANGED = 1\n")
    after = pin(folder)
    assert after.code_hash != before.code_hash
    assert differing_code(store.ledger, before.code_hash, after) == f"{name} differs"


def test_other_files_and_other_folders_are_the_same_code(folder: Path, tmp_path_factory: Any) -> None:
    before = pin(folder)
    assert set(before.code.files) == set(FILES) - {"unrelated.py"}
    (folder / "unrelated.py").write_text("Q = 2\n")
    elsewhere = tmp_path_factory.mktemp("elsewhere") / "another"
    folder.rename(elsewhere)
    assert pin(elsewhere).code_hash == before.code_hash


def test_a_file_is_the_same_code_whatever_else_the_process_has_loaded(
    folder: Path, tmp_path_factory: Any
) -> None:
    alone = pin(folder)
    other = tmp_path_factory.mktemp("other") / "migs.py"
    other.write_text(
        "from whimbrel import Migration\nm = Migration(name='m', collection='c', update={'$set': {'a': 1}})\n"
    )
    both = describe(f"{other},{folder / 'migs.py'}")
    assert both["stamped"].code_hash == alone.code_hash
    assert set(both["m"].code.files) == {"migs.py"}


def test_a_file_that_is_gone_or_new_is_named(store: MongoStore, folder: Path) -> None:
    before = pin(folder)
    store.ledger.codes.keep(before.code_hash, before.code)
    (folder / "words.py").unlink()
    (folder / "words").mkdir()
    (folder / "words/__init__.py").write_text("def say():\n    return 's'\n")
    told = differing_code(store.ledger, before.code_hash, pin(folder))
    assert told == "words.py is not here, words/__init__.py is new"


@pytest.mark.parametrize(
    "package", ["hypothesis", "pymongo"], ids=["new here", "imported by Whimbrel itself before"]
)
def test_versions_of_what_it_imports_are_kept(folder: Path, package: str) -> None:
    (folder / "helpers.py").write_text(f"import {package}\nW = {package}.__name__\n")
    versions = pin(folder).code.versions
    assert versions["python"] == ".".join(map(str, sys.version_info[:3]))
    asked = [sys.executable, "-m", "pip", "show", package]
    shown = subprocess.run(asked, capture_output=True, text=True, check=True).stdout
    assert f"Version: {versions[package]}\n" in shown


def test_a_process_that_starts_with_other_files_takes_nothing_and_says_which(
    store: MongoStore, database: Data, folder: Path
) -> None:
    database["things"].insert_many({"_id": at} for at in range(10))
    run = start_run(store, pin(folder), who="test", defaults=DEFAULTS)
    store.ledger.runs.move(run.id, RunStatus.RUNNING, who="test")
    (folder / "helpers.py").write_text("W = 'another'\n")
    worker_state = WorkerState(_as_child(folder), "late", None)
    worker_state.refresh(store)
    assert worker_state.serving == ()
    assert list(worker_state.refused.values()) == ["helpers.py differs"]


def _as_child(folder: Path) -> dict[str, Migration]:
    """The migrations as a process of its own has them: here their modules are loaded already."""
    found = pin(folder)
    it = Migration(name="stamped", collection="things", transform=lambda thing: thing)
    it.definition = found
    return {"stamped": it}


def test_resuming_takes_the_new_code_and_says_which_files_changed(
    store: MongoStore, database: Data, folder: Path
) -> None:
    database["things"].insert_many({"_id": at} for at in range(10))
    run = start_run(store, pin(folder), who="test", defaults=DEFAULTS)
    control.pause(store.ledger, run.id, who="test")
    (folder / "package/sibling.py").write_text("X = 'new'\n")
    new = pin(folder)
    assert control.resume(store.ledger, run.id, who="a person", code=new).code_hash == new.code_hash
    [said] = database["whimbrel_audit"].find({"run": run.id, "what": {"$regex": "replaced"}})
    assert said["what"].endswith(": package/sibling.py differs")


# what no import statement names

ODD = {
    "odd.py": """
        import importlib
        import importlib.util
        import pathlib
        from whimbrel import migration

        HERE = pathlib.Path(__file__).parent
        TABLE = (HERE / "data/table.csv").read_text()
        HOST = (HERE / ".env").read_text()
        computed = importlib.import_module("com" + "puted")
        spec = importlib.util.spec_from_file_location("nowhere", HERE / "by_path.py")
        by_path = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(by_path)
        exec(compile((HERE / "snippet.txt").read_text(), HERE / "snippet.txt", "exec"))

        @migration(collection="things")
        def odd(thing):
            return importlib.import_module("literal").change(thing)
    """,
    "data/table.csv": "a,b\n",
    ".env": "HOST=a\n",
    "computed.py": "from below_computed import X\n",
    "below_computed.py": "X = 1\n",
    "by_path.py": "Y = 1\n",
    "snippet.txt": "Z = 1\n",
    "literal.py": "def change(thing):\n    return {'$set': {'v': 1}}\n",
    "never.py": "",
}


def write(folder: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(textwrap.dedent(text))


def test_whatever_a_module_loads_and_reads_while_it_is_loaded_is_its_code(tmp_path: Path) -> None:
    """By a name that is made at run time, by a path, as text that is executed, as data. Hidden files are settings of a host."""
    write(tmp_path, ODD)
    before = describe(str(tmp_path / "odd.py"))["odd"].code.files
    assert set(before) == set(ODD) - {"never.py", ".env"}
    for name in ODD:
        with (tmp_path / name).open("a") as file:
            file.write("\n")
    after = describe(str(tmp_path / "odd.py"))["odd"].code.files
    assert {name for name in before if before[name] != after[name]} == set(before)


RULES = """
    import importlib
    from whimbrel import migration

    @migration(collection="things", name="{module}")
    def by_kind(thing):
        return importlib.import_module(f"{module}_{{thing['kind']}}").change(thing)
"""
RULE = "def change(thing):\n    return {'$set': {'v': 'old'}}\n"


def by_kind(folder: Path, module: str) -> Migration:
    """Loaded in this process, as a worker does it, while the files are those of before a deployment."""
    write(folder, {f"{module}.py": RULES.format(module=module), f"{module}_a.py": RULE})
    return load(str(folder / f"{module}.py"))[module]


def test_files_that_calls_load_are_pinned_by_the_first_process(
    store: MongoStore, database: Data, tmp_path: Path
) -> None:
    """Their names are made when the function is called. Another process has told another file: nothing of this one's is written."""
    it = by_kind(tmp_path, "paired")
    database["things"].insert_many({"_id": at, "kind": "a"} for at in range(10))
    run = start(store, it)
    digest = hashlib.sha256(RULE.encode()).hexdigest()[:16]
    elsewhere = {"paired_a.py": "another"}
    assert store.ledger.codes.agree(run.id, elsewhere, new=elsewhere) == elsewhere
    with system(store, [it]) as worker_state:
        worker_state.loaded = LoadedHere()
        reached(lambda: worker_state.refused == {(run.id, run.code_hash): "paired_a.py differs"})
        reached(lambda: "paired_a.py differs" in unserved(store.ledger, found(store, run)))
        assert database["things"].count_documents({"v": {"$exists": True}}) == 0
        control.pause(store.ledger, run.id, who="test")
        until(store, run, RunStatus.PAUSED)
        control.resume(store.ledger, run.id, who="test", code=it.definition)
        ended = until(store, run)
    assert (ended.run.status, ended.run.counts.changed) == (RunStatus.COMPLETED, 10)
    held = store.ledger.codes.agree(run.id, {"paired_a.py": ""}, new=())
    assert held == {"paired_a.py": digest}
    taken = {
        "run": run.id,
        "what": {"$regex": r"^taken as they are now: files that calls load: .*paired_a\.py"},
    }
    assert database["whimbrel_audit"].count_documents(taken) == 1


def test_a_process_that_has_an_older_file_in_memory_pins_it_not_and_ends(
    store: MongoStore, database: Data, tmp_path: Path
) -> None:
    """Resumed after a deployment, the run takes the new files: who still has the old ones may not be the first. Its parent starts another."""
    it = by_kind(tmp_path, "yesterday")
    it({"kind": "a"})
    (tmp_path / "yesterday_a.py").write_text(RULE.replace("old", "new"))
    database["things"].insert_one({"_id": 1, "kind": "a"})
    start(store, it)
    with system(store, [it]) as worker_state:
        worker_state.loaded, worker_state.done = LoadedHere(), 1
        reached(worker_state.stopping.is_set)
    assert database["things"].find_one() == {"_id": 1, "kind": "a"}


def test_an_import_inside_the_function_that_meets_a_newer_file_changes_nothing(
    store: MongoStore, database: Data, tmp_path: Path
) -> None:
    """The file was deployed after the process had told its hash, and before the first call."""
    text = RULES.replace(
        "importlib.import_module(f\"{module}_{{thing['kind']}}\")", "importlib.import_module('{module}_a')"
    )
    write(tmp_path, {"met.py": text.format(module="met"), "met_a.py": RULE})
    it = load(str(tmp_path / "met.py"))["met"]
    assert set(it.definition.code.files) == {"met.py", "met_a.py"}
    (tmp_path / "met_a.py").write_text(RULE.replace("old", "new"))
    database["things"].insert_one({"_id": 1})
    start(store, it)
    with system(store, [it]) as worker_state:
        worker_state.loaded = LoadedHere()
        reached(lambda: bool(worker_state.refused))
        assert list(worker_state.refused.values()) == ["met_a.py differs"]
    assert database["things"].find_one() == {"_id": 1}


def found(store: MongoStore, run: Run) -> Run:
    now = store.ledger.runs.get(run.id)
    assert now is not None
    return now


# one evaluation

CHANGING = """
import datetime, os, uuid
from whimbrel import Migration, migration

NOW = datetime.datetime.now(datetime.UTC)
TAG = str(uuid.uuid4())
WORDS = list({"a", "b", "c", "d", "e", "f", "g"})

by_time = Migration(
    name="by-time", collection="things", filter={"at": {"$lt": NOW - datetime.timedelta(days=90)}, "word": {"$in": WORDS}},
    update={"$set": {"tag": TAG, "when": NOW, "words": WORDS}},
)

@migration(collection="things", filter={"at": {"$lt": NOW}, "word": {"$in": WORDS}})
def by_function(thing):
    return {"$set": {"tag": 1}}
"""


@pytest.fixture
def changing(tmp_path: Path) -> str:
    path = tmp_path / "changing.py"
    path.write_text(CHANGING)
    return str(path)


def seed(database: Data) -> None:
    from datetime import UTC, datetime  # noqa: PLC0415

    database["things"].insert_many(
        {"_id": at, "at": datetime(2020, 1, 1, tzinfo=UTC), "word": "a"} for at in range(30)
    )


@pytest.mark.parametrize("name", ["by-time", "by-function"])
def test_what_is_evaluated_at_the_start_holds_in_every_process(
    store: MongoStore, database: Data, changing: str, name: str
) -> None:
    """The values in the file are others in each process: without this, no worker would take the run."""
    seed(database)
    it = describe(changing)[name]
    assert it.filter != describe(changing)[name].filter
    assert it.code_hash == describe(changing)[name].code_hash
    run = start_run(store, it, who="test", defaults=DEFAULTS)
    with system(store, [load(changing)[name]]):
        ended = until(store, run)
        proved = until(
            store,
            start_verification(
                store, run.id, choose(describe(changing), name), who="test", defaults=DEFAULTS
            ),
        )
    assert (ended.run.status, ended.run.counts.changed) == (RunStatus.COMPLETED, 30)
    assert proved.run.status is RunStatus.COMPLETED, proved.run.report
    if name == "by-time":
        update = it.update["$set"]  # type: ignore[index,call-overload]
        assert database["things"].distinct("tag") == [update["tag"]]
        assert database["things"].distinct("words") == sorted(update["words"])


def test_a_declared_run_needs_no_code_of_anybody(store: MongoStore, database: Data, changing: str) -> None:
    seed(database)
    run = start_run(store, describe(changing)["by-time"], who="test", defaults=DEFAULTS)
    with system(store, []):
        ended = until(store, run)
    assert ended.run.counts.changed == 30


def test_resumed_by_the_same_files_it_keeps_what_it_was_started_with(
    store: MongoStore, database: Data, changing: str
) -> None:
    seed(database)
    first = describe(changing)["by-time"]
    run = start_run(store, first, who="test", defaults=DEFAULTS)
    control.pause(store.ledger, run.id, who="test")
    resumed = control.resume(store.ledger, run.id, who="test", code=describe(changing)["by-time"])
    assert resumed.declared["$set"]["tag"] == first.update["$set"]["tag"]  # type: ignore[index,call-overload]
    Path(changing).write_text(CHANGING + "\n# deployed anew\n")
    control.pause(store.ledger, run.id, who="test")
    newer = describe(changing)["by-time"]
    resumed = control.resume(store.ledger, run.id, who="test", code=newer)
    assert resumed.declared["$set"]["tag"] == newer.update["$set"]["tag"]  # type: ignore[index,call-overload]
    assert resumed.query == run.query
    with system(store, []):
        until(store, run)
    assert database["things"].distinct("tag") == [newer.update["$set"]["tag"]]  # type: ignore[index,call-overload]


def test_every_option_is_what_it_was_at_the_start(store: MongoStore, database: Data) -> None:
    """As by a file that makes them of the environment, or of the time."""
    seed(database)
    now = {
        "mark": "status",
        "status_field": "state",
        "timeout": 5.0,
        "reads": ["a"],
        "max_attempts": 2,
        "batch_size": 7,
    }
    later = {
        "mark": "marker",
        "status_field": "other",
        "timeout": 6.0,
        "reads": ["b"],
        "max_attempts": 3,
        "batch_size": 8,
    }

    def made(**options: Any) -> Migration:
        return Migration(name="m", collection="things", transform=lambda thing: thing, **options)

    run = start(store, made(**now, filter={"word": "a"}))
    found = for_run(made(**later, version=2, filter={"word": "b"}).definition, run)
    assert {name: getattr(found, name) for name in now} == {**now, "reads": ("a",)}
    assert (found.version, found.filter) == (1, {"word": "a"})


def test_an_update_that_became_a_function_is_another_migration(store: MongoStore, database: Data) -> None:
    seed(database)
    declared = Migration(name="m", collection="things", update={"$set": {"a": 1}})
    run = start(store, declared)
    control.pause(store.ledger, run.id, who="test")
    function = Migration(name="m", collection="things", transform=lambda thing: thing)
    with pytest.raises(StateForbids, match="is a function now"):
        control.resume(store.ledger, run.id, who="test", code=function.definition)


def test_the_whole_way_by_the_command_line(mongo_uri: str, database: Data, changing: str) -> None:
    """Parent and children order the words of a set differently."""
    seed(database)
    done = preloaded.run(
        [sys.executable, "-m", "whimbrel.cli.main", "run", "by-function", "--migrations", changing, "--yes", "--workers", "1"],
        env={**os.environ, "MONGODB_URI": mongo_uri, "MONGODB_DB_NAME": database.name},
        capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert database["things"].count_documents({"tag": 1}) == 30
