"""Migrations from several places: what is loaded, what is said of those that are wrong, and that workers load the same."""

# ruff: noqa: F811  fixtures are imported by their names

import json
from pathlib import Path
from typing import Any

import pytest
from pymongo.database import Database

from tests.integration.in_process_commands import Commands, commands  # noqa: F401
from whimbrel.domain.migrations.catalog import choose
from whimbrel.errors import DefinitionInvalid, MigrationUnknown
from whimbrel.workers.definition_catalog import describe
from whimbrel.workers.migration_loader import load

Docs = Database[dict[str, Any]]
ONE = 'from whimbrel import Migration\nit = Migration(name="{0}", collection="things", update={{"$set": {{"{0}": 1}}}})\n'
CALLED = """
from whimbrel import migration
from shared import VALUE

@migration(collection="things")
def called(thing):
    return {"$set": {"called": VALUE}}
"""


@pytest.fixture
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file, a folder with two files, a module in a package, and in another folder a file that is called as the first."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    for file, text in {
        "fix.py": ONE.format("one"), "folder/two.py": ONE.format("two"), "folder/three.py": ONE.format("three"),
        "package/__init__.py": "", "package/four.py": ONE.format("four"), "other/fix.py": ONE.format("five"),
        "empty.py": "VALUE = 1\n", "lost/nothing.py": "", "broken.py": "def (", "dies.py": "import os; os._exit(3)",
        "shared.py": "VALUE = 7\n", "called.py": CALLED,
    }.items():  # fmt: skip
        (tmp_path / file).parent.mkdir(exist_ok=True)
        (tmp_path / file).write_text(text)
    return tmp_path


def test_files_folders_and_modules_are_loaded_together(places: Path) -> None:
    found = describe("fix.py, folder,package.four,other/fix.py,fix.py")
    assert set(found) == {"some-model", "one", "two", "three", "four", "five"}
    assert not found.broken
    assert not found.empty
    alone = describe("other/fix.py")["five"].code.files
    assert list(found["five"].code.files.values()) == list(alone.values())


def test_two_of_one_name_in_different_places_are_told_apart(places: Path) -> None:
    (places / "folder/three.py").write_text(ONE.format("one"))
    found = describe("fix.py,folder")
    with pytest.raises(
        DefinitionInvalid, match=r"Two migrations are called 'one' in fix\.py and folder/three\.py"
    ):
        choose(found, "one")
    assert "two" in found


def test_one_that_cannot_be_loaded_stops_no_other_place(
    places: Path,
) -> None:
    found = describe("broken.py,dies.py,fix.py")
    assert set(found) == {"some-model", "one"}
    assert {each.source for each in found.broken} == {"broken.py", "dies.py"}
    assert set(load("broken.py,dies.py,fix.py", found.unloadable)) == {"some-model", "one"}
    with pytest.raises(DefinitionInvalid, match="SyntaxError"):
        describe("broken.py")


WRONG = {
    "fix.py,nix.py": r"There is no file nix\.py to load migrations from: looked for .*/nix\.py\. Did you mean fix\.py",
    "fixx.py": r"Did you mean fix\.py\?",
    "foldr": r"There is no module 'foldr' to load migrations from, and no folder .*/foldr\. .* Did you mean folder\?",
    "nowhere/x.py": r"The folder .*/nowhere is not there\.",
    "package.fourr": r"There is no module 'package\.fourr'",
    "packag.four": r"There is no module 'packag\.four'",
}


@pytest.mark.parametrize("source", list(WRONG))
def test_a_wrong_place_says_what_was_looked_for(places: Path, source: str) -> None:
    with pytest.raises(DefinitionInvalid, match=WRONG[source]):
        load(source)


def test_a_place_without_migrations_is_told(places: Path, commands: Commands) -> None:
    found = load("empty.py,fix.py,lost")
    assert [each.partition(" ")[0] for each in found.empty] == ["empty.py", "lost"]
    with pytest.raises(MigrationUnknown, match=r"empty\.py defines no migration"):
        choose(found, "nix")
    said = commands("migrations", "--migrations", str(places / "empty.py")).err
    assert "empty.py defines no migration" in " ".join(said.split())


def test_the_option_is_given_once_for_each_and_workers_load_them_too(
    places: Path, commands: Commands, database: Docs
) -> None:
    database["things"].insert_many({"_id": n} for n in range(3))
    commands.set(MONGODB_DB_NAME=database.name, WHIMBREL_MIGRATIONS=f"{places}/broken.py,{places}/fix.py")
    assert "--migrations names nothing" in commands("migrations", "--migrations", "", code=64).err
    listed = json.loads(commands("migrations", "--json").out)
    assert {each["name"] for each in listed if each["name"]} == {"one", "some-model"}
    options = ["--migrations", f"{places}/folder", "--migrations", f"{places}/called.py"]
    assert commands("run", "called", *options, "--workers", "1", "-y", "--json").out
    assert database["things"].count_documents({"called": 7}) == 3
