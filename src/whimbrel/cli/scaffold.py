"""`new`: a migration file to begin with."""

import re
from pathlib import Path
from typing import Annotated

import typer

from whimbrel.cli.options import Json, begin
from whimbrel.domain.migration import check_name
from whimbrel.errors import DefinitionInvalid

TEMPLATE = '''"""Migration {name}: say here what it changes, and why.

See what is defined here:  whimbrel migrations --migrations {file}
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


def new(
    name: Annotated[str, typer.Argument(metavar="NAME", help="name of the migration, such as split-name")],
    directory: Annotated[Path, typer.Option(metavar="FOLDER", help="where to write the file")] = Path(),
    json: Json = False,
) -> int:
    """Write a commented migration file to begin with."""
    _, screen = begin(json=json)
    check_name(name)
    file = directory / f"{_identifier(name)}.py"
    function = _identifier(name)
    text = TEMPLATE.format(name=name, file=file, function=function, constant=function.upper())
    try:
        with file.open("x", encoding="utf-8") as fresh:
            fresh.write(text)
    except FileExistsError as error:
        raise DefinitionInvalid(
            f"{file} is there already and is left as it is. Choose another name."
        ) from error
    except OSError as error:
        raise DefinitionInvalid(f"{file} cannot be written: {error.strerror}.") from error
    if json:
        screen.answer({"file": str(file), "name": name})
    else:
        screen.show(
            f"Wrote {file}. Say in it what to change, then:",
            f"  whimbrel migrations --migrations {file}",
            f"  whimbrel run {name} --migrations {file} --limit 100",
        )
    return 0


def _identifier(name: str) -> str:
    """A Python name, and so a file that can be imported."""
    found = re.sub(r"-", "_", name)
    return f"m_{found}" if found[0].isdigit() else found
