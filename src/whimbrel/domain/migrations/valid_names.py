"""Which names a migration, a collection, a database or a field may have."""

import re
from typing import TYPE_CHECKING

from whimbrel.domain.migrations.marks import MARK_ROOT
from whimbrel.errors import DefinitionInvalid

if TYPE_CHECKING:
    from whimbrel.domain.migrations.definition import Definition

NAME = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")
COLLECTION = re.compile(r"(?!\.)(?!.*\.\.)[^$\0]{1,200}(?<!\.)", re.DOTALL)
DATABASE = re.compile(r"[^/\\. \"$*<>:|?\0]+")
LONGEST_DATABASE = 63  # bytes
RESERVED_DATABASES = frozenset({"admin", "local", "config"})  # MongoDB's own
# Not allowed as status fields.
WRITTEN_BESIDE = frozenset({"_id", MARK_ROOT, "processedBy", "processingStartedAt"})


def check_name(name: object) -> None:
    """Raises DefinitionInvalid for what cannot be the name of a migration."""
    if name == "<lambda>":
        raise DefinitionInvalid(
            "A lambda has no name of its own that a migration could have: give name='...'."
        )
    if not isinstance(name, str) or not NAME.fullmatch(name):
        raise DefinitionInvalid(
            f"Migration name {name!r} cannot be used: take lower-case letters, digits and single hyphens, such as 'split-name'."
        )


def is_database(name: object) -> bool:
    """Whether MongoDB accepts it as the name of a database."""
    if not isinstance(name, str) or not DATABASE.fullmatch(name):
        return False
    try:
        return len(name.encode()) <= LONGEST_DATABASE
    except UnicodeEncodeError:  # from an environment that is not UTF-8
        return False


def check_names(definition: "Definition", wrong: str) -> None:
    """Raises DefinitionInvalid for unusable names of a collection, a database or fields. `wrong`: how the sentence begins."""
    if definition.collection.startswith(("system.", "whimbrel_")):
        raise DefinitionInvalid(
            f"{wrong}the collection {definition.collection!r} is MongoDB's or Whimbrel's own. Name one of yours."
        )
    if not COLLECTION.fullmatch(definition.collection):
        raise DefinitionInvalid(
            f"{wrong}{definition.collection!r} cannot be the name of a collection: it must not hold '$', nor '.' at an end or twice in a row."
        )
    if definition.database is not None and not is_database(definition.database):
        raise DefinitionInvalid(
            f"{wrong}{definition.database!r} cannot be the name of a database: take letters, digits, '-' and '_', at most 63 bytes."
        )
    if definition.database is not None and definition.database.lower() in RESERVED_DATABASES:
        raise DefinitionInvalid(
            f"{wrong}the database {definition.database!r} is MongoDB's own. Name one of yours."
        )
    if not _is_field(definition.status_field) or definition.status_field in WRITTEN_BESIDE:
        raise DefinitionInvalid(
            f"{wrong}status_field must be the name of a top-level field of yours, not {definition.status_field!r}."
        )
    if definition.reads is not None and not (
        isinstance(definition.reads, tuple) and all(map(_is_field, definition.reads))
    ):
        raise DefinitionInvalid(
            f"{wrong}reads must be a list of names of top-level fields, such as ['price'], not {definition.reads!r}."
        )


def _is_field(name: object) -> bool:
    return isinstance(name, str) and bool(name) and "." not in name and "\0" not in name and name[0] != "$"
