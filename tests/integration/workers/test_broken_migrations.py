"""One migration that cannot be used stops no other: neither those of its file, nor those of its folder."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from pymongo.database import Database

from tests.integration.in_process_commands import Commands, commands  # noqa: F401
from whimbrel.domain.migrations.catalog import choose
from whimbrel.errors import DefinitionInvalid, MigrationUnknown
from whimbrel.workers.definition_catalog import describe

Docs = Database[dict[str, Any]]
GOOD = """
from whimbrel import Migration
good = Migration(name="good", collection="things", update={"$set": {"a": 1}})
"""
REFUSED = {
    "where": ('Migration(name="where", collection="c", filter={"$where": "1"}, update={"$set": {"a": 1}})', r"\$where"),
    "names": ('Migration(name="names", collection="a..b", update={"$set": {"a": 1}})', "cannot be the name of a collection"),
    "reserved": ('Migration(name="reserved", collection="c", database="admin", update={"$set": {"a": 1}})', "MongoDB's own"),
    "option": ('Migration(name="option", colection="c", update={"$set": {"a": 1}})', "Did you mean 'collection'"),
    "neither": ('Migration(name="neither", collection="c")', "needs either an update or a function"),
    "update": ('Migration(name="update", collection="c", update={"$set": {"_id": 1}})', "_id"),
    "undo": ('Migration(name="undo", collection="c", undo=True, update={"$pull": {"a": 1}})', "cannot be undone"),
    "claim": ('migration(name="claim", collection="c", claim=True)(lambda it: it)', "needs mark='status'"),
    "odd": ('Migration(name="odd", collection="c", update={"$set": {"a": {1, 2}}})', "MongoDB cannot store"),
    "strange": ('Migration(name="strange", collection="c", reads=5, update={"$set": {"a": 1}})', "reads must be"),
    "classes": ('migration(name="classes", collection="c")(dict)', "needs a function made with def"),
}  # fmt: skip
FILES = {
    "syntax.py": ("def (", "SyntaxError: invalid syntax"),
    "imports.py": ("import nowhere_to_be_found", "No module named 'nowhere_to_be_found'"),
    "raises.py": ("1 / 0", "ZeroDivisionError: division by zero .raises.py, line 1"),
    "exits.py": ("import sys; sys.exit(3)", "SystemExit: 3"),
    "dies.py": ("import os; print('the last word', flush=True); os._exit(3)", "the last word"),
    "hangs.py": ("import threading; threading.Event().wait()", "did not finish loading within 12 seconds"),
}


def test_the_others_of_a_file_can_be_used(tmp_path: Path) -> None:
    lines = "\n".join(f"m{at} = {made}" for at, (made, _) in enumerate(REFUSED.values()))
    (tmp_path / "mixed.py").write_text(f"from whimbrel import migration\n{GOOD}{lines}\n")
    found = describe(str(tmp_path / "mixed.py"))
    assert set(found) == {"some-model", "good"}
    assert {each.name for each in found.broken} == set(REFUSED)
    for name, (_, sentence) in REFUSED.items():
        with pytest.raises(DefinitionInvalid, match=sentence):
            choose(found, name)
    with pytest.raises(MigrationUnknown, match="There is no migration 'nix'"):
        choose(found, "nix")


def test_two_of_one_name_are_both_broken_and_a_file_may_hand_on_what_another_defines(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text(GOOD + GOOD.replace("good =", "again ="))
    (tmp_path / "b.py").write_text(GOOD.replace('"good"', '"other"'))
    (tmp_path / "c.py").write_text(
        "from b import good\nalias = good\n" + GOOD.replace('"good"', '"some-model"')
    )
    found = describe(str(tmp_path))
    assert set(found) == {"other"}
    with pytest.raises(DefinitionInvalid, match=r"Two migrations are called 'good' in a\.py"):
        choose(found, "good")
    with pytest.raises(DefinitionInvalid, match=r"'some-model' in Whimbrel and c\.py"):
        choose(found, "some-model")


def test_a_file_that_cannot_be_loaded_leaves_the_others_of_its_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WHIMBREL_LOADING", "12")
    (tmp_path / "zz_good.py").write_text(GOOD)
    (tmp_path / "_private.py").write_text("1 / 0")
    (tmp_path / "test_good.py").write_text("1 / 0")
    for name, (text, _) in FILES.items():
        (tmp_path / name).write_text(text)
    found = describe(str(tmp_path))
    assert set(found) == {"some-model", "good"}
    assert set(found.unloadable) == set(FILES)
    reasons = {each.source: each.reason for each in found.broken}
    for name, (_, sentence) in FILES.items():
        assert re.search(sentence, reasons[name]), reasons[name]


def test_the_files_of_a_package_import_one_another(tmp_path: Path) -> None:
    package = tmp_path / "steps"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "_shared.py").write_text("COLLECTION = 'things'\n")
    (package / "one.py").write_text(GOOD.replace('"things"', "COLLECTION") + "\n")
    (package / "one.py").write_text("from ._shared import COLLECTION\n" + (package / "one.py").read_text())
    (package / "json.py").write_text(GOOD.replace('"good"', '"named-like-a-library"'))
    found = describe(f"{package}/")
    assert set(found) == {"some-model", "good", "named-like-a-library"}
    assert found["good"].collection == "things"


@pytest.mark.parametrize(
    ("source", "sentence"),
    [("nix.py", "There is no file"), ("nix", "There is no module 'nix'"), ("empty/", "no Python files in the folder")],
)  # fmt: skip
def test_a_source_that_is_not_there_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str, sentence: str
) -> None:
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DefinitionInvalid, match=sentence):
        describe(source)


def test_the_command_line_shows_what_is_broken_and_runs_the_rest(
    commands: Commands,  # noqa: F811
    database: Docs,
    tmp_path: Path,
) -> None:
    """Also where a file ends every process that loads it: the workers leave it out."""
    folder = tmp_path / "steps"
    folder.mkdir()
    (folder / "dies.py").write_text(FILES["dies.py"][0])
    (folder / "mixed.py").write_text(f"{GOOD}bad = {REFUSED['where'][0]}\n")
    database["things"].insert_many({"_id": n} for n in range(3))
    commands.set(MONGODB_DB_NAME=database.name, WHIMBREL_MIGRATIONS=str(folder))

    rows = {each["name"]: each for each in json.loads(commands("migrations", "--json").out)}
    assert rows["good"]["broken"] is None
    assert "$where" in rows["where"]["broken"]
    assert (rows[None]["source"], "the last word" in rows[None]["broken"]) == ("dies.py", True)
    shown = commands("migrations").out
    assert all(word in shown for word in ("good", "where", "dies.py", "$where", "the last word"))

    assert "$where" in commands("plan", "where", code=65).err
    assert "the last word" in commands("plan", "nix", code=65).err
    commands("plan", "good")
    commands("run", "good", "--workers", "1", "-y")
    assert database["things"].count_documents({"a": 1}) == 3
