"""`new`: write a migration file to begin with, and a test of it."""

import re
from pathlib import Path
from typing import Annotated

import typer

from whimbrel.cli.arguments.options import Json, begin
from whimbrel.domain.migrations.valid_names import check_name
from whimbrel.errors import DefinitionInvalid

TEMPLATE = '''"""Migration {name}: say here what it changes, and why.

See what is defined here:  whimbrel migrations --migrations {file}
Prove it:                  pytest {test}
See what it would do:      whimbrel plan {name} --migrations {file}
Try it on 100 documents:   whimbrel run {name} --migrations {file} --limit 100
Run it on all:             whimbrel run {name} --migrations {file}
"""

from typing import Any

from whimbrel import SKIP, migration  # and Migration, for the declarative form below


# A migration by a function: it is called with each document, and says what to change.
@migration(
    name="{name}",
    collection="my_collection",  # the collection to migrate
    # database="shop",  # where it is; default: MONGODB_DB_NAME
    # filter={{"country": "NL"}},  # which documents; default: all
    # version=1,  # raise it to apply a changed migration to documents that this one has marked
    # mark="marker",  # how a document shows that it is done. "marker": a field `_whimbrel.<name>_v<version>`;
    #     "status": a status field that goes from pending to success or failed; "filter": the change makes the filter false
    # status_field="status",  # the field that mark="status" uses
    # batch_size=5000,  # documents in a batch, 1 to 100,000
    # max_attempts=4,  # tries of one document, the first included
    # timeout=30.0,  # seconds that one call of the function may take
    # reads=["name"],  # the top-level fields that the function reads: changes of others are no conflict then
    # claim=True,  # with mark="status": set documents to `processing` before the function is called
    # adopt="all",  # take up documents in `processing` that Whimbrel did not put there
    # concurrency=16,  # calls of an `async def` function at a time
    # undo=True,  # keep in each document what is overwritten, for `whimbrel rollback`
)
def {function}(document: dict[str, Any]) -> object:
    """One line that `whimbrel migrations` shows."""
    # Return an update ({{"$set": ...}}, {{"$unset": ...}}, ...), the whole changed document, or SKIP.
    # It may be called more than once for a document, but its change is written once.
    if "name" not in document:
        return SKIP
    return {{"$set": {{"name_length": len(str(document["name"]))}}}}


# The declarative form: MongoDB itself carries out the update, at its own speed. It takes the same options.
# {constant} = Migration(
#     name="{name}",
#     collection="my_collection",
#     filter={{"name": {{"$exists": True}}}},
#     update=[{{"$set": {{"name_length": {{"$strLenCP": "$name"}}}}}}],
# )
'''

TEST = '''"""Migration {name}, proved on documents such as it will meet: pytest {test}"""

from {function} import {function}

from whimbrel.testing import check_migration

# Say here which documents there are: the usual ones, the old ones, the odd ones.
DOCUMENTS = [
    {{"_id": 1, "name": "Ada Lovelace"}},
    {{"_id": 2, "name": ""}},
    {{"_id": 3}},
]


def test_{function}(whimbrel_mongodb: str) -> None:
    """On a real MongoDB: once, twice, killed at every step, beside a concurrent writer, and taken back."""
    print(check_migration({function}, DOCUMENTS, uri=whimbrel_mongodb))
'''


def new(
    name: Annotated[str, typer.Argument(metavar="NAME", help="name of the migration, such as split-name")],
    directory: Annotated[Path, typer.Option(metavar="FOLDER", help="where to write the file")] = Path(),
    json: Json = False,
) -> int:
    """Write a commented migration file to begin with, and a test of it."""
    _, screen = begin(json=json, own_database=True)
    check_name(name)
    function = _identifier(name)
    file, test = directory / f"{function}.py", directory / f"test_{function}.py"
    placeholders = {
        "name": name,
        "file": file,
        "test": test,
        "function": function,
        "constant": function.upper(),
    }
    for path in (file, test):
        if path.exists():
            raise DefinitionInvalid(f"{path} is there already and is left as it is. Choose another name.")
    _write(file, TEMPLATE.format(**placeholders))
    _write(test, TEST.format(**placeholders))
    if json:
        screen.answer({"file": str(file), "test": str(test), "name": name})
    else:
        screen.show(
            f"Wrote {file} and {test}. Say in them what to change, and on which documents, then:",
            f"  whimbrel migrations --migrations {file}",
            f"  pytest {test}",
            f"  whimbrel plan {name} --migrations {file}",
            f"  whimbrel run {name} --migrations {file} --limit 100",
        )
    return 0


def _write(file: Path, text: str) -> None:
    try:
        with file.open("x", encoding="utf-8") as stream:
            stream.write(text)
    except OSError as error:
        raise DefinitionInvalid(f"{file} cannot be written: {error.strerror}.") from error


def _identifier(name: str) -> str:
    """Returns a Python name, so that the file can be imported."""
    identifier = re.sub(r"-", "_", name)
    return f"m_{identifier}" if identifier[0].isdigit() else identifier
