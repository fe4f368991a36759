"""What to change: a named, versioned definition in Python. Wrong definitions fail here, at import.

cents = Migration(name="price-in-cents", collection="products", filter={"currency": "EUR"},
                  update=[{"$set": {"cents": {"$multiply": ["$price", 100]}}}])

@migration(collection="people", filter={"name": {"$exists": True}})
def split_name(person):
    first, _, last = person["name"].partition(" ")
    return {"$set": {"first": first, "last": last}, "$unset": {"name": ""}}
"""

import copy
import difflib
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field, fields, replace
from typing import Any, Final, Literal

from whimbrel.domain.bson.naive_datetimes import naive_datetime_fields
from whimbrel.domain.bson.uuids import UNSPECIFIED
from whimbrel.domain.migrations.code import CodeFiles, code_hash
from whimbrel.domain.migrations.filters import check_filter
from whimbrel.domain.migrations.functions import is_awaited, is_function, own_name, summary, takes_context
from whimbrel.domain.migrations.marks import Mark, mark_of, marker_field
from whimbrel.domain.migrations.pipelines import as_pipeline
from whimbrel.domain.migrations.updates import Update, check_update
from whimbrel.domain.migrations.valid_names import check_name, check_names
from whimbrel.domain.text.safe_text import exception_message, type_name
from whimbrel.errors import DefinitionInvalid, FilterRefused, Untranslatable, WhimbrelError

MarkStrategy = Literal["marker", "status", "filter"]
UndoMode = Literal[False, True, "document"]


class _Skip:
    """What a function returns for a document that it leaves as it is on purpose: it counts as skipped, not as unchanged.

    >>> from whimbrel import SKIP, migration
    >>> @migration(collection="people")
    ... def split_name(person):
    ...     return SKIP if "last" in person else {"$set": {"last": ""}}
    >>> split_name({"_id": 1, "last": "Lovelace"})
    SKIP
    """

    def __repr__(self) -> str:
        return "SKIP"


SKIP: Final = _Skip()


@dataclass(frozen=True, kw_only=True, slots=True)
class Definition:
    """A migration without its code: what a run pins, and what processes without user code know."""

    name: str
    collection: str
    database: str | None = None
    version: int = 1
    filter: dict[str, Any] = field(default_factory=dict)
    mark: MarkStrategy = "marker"
    status_field: str = "status"
    batch_size: int | None = None
    max_attempts: int | None = None
    timeout: float = 30.0
    reads: tuple[str, ...] | None = None
    claim: bool = False
    adopt: Literal["ours", "all"] = "ours"
    concurrency: int = 16
    undo: UndoMode = False
    update: Update | None = None
    code_hash: str = ""
    code: CodeFiles = field(default_factory=CodeFiles)
    summary: str = ""
    uuids: str = UNSPECIFIED  # how a run stores values of `uuid.UUID`, set by its MongoDB address

    @property
    def declarative(self) -> bool:
        return self.update is not None

    @property
    def marking(self) -> Mark:
        return mark_of(self.mark, marker_field(self.name, self.version), self.status_field)


_TOLERANT: ContextVar[bool] = ContextVar("whimbrel_tolerant", default=False)


@contextmanager
def tolerant() -> Iterator[None]:
    """Lets wrong definitions raise nothing while entered: `fault` tells why one cannot be used, and its module is loaded to the end."""
    before = _TOLERANT.set(True)
    try:
        yield
    finally:
        _TOLERANT.reset(before)


class Migration:
    """A definition and its code: an update that MongoDB carries out, or a function that workers call.

    Options (all by keyword):
        name: letters, digits and hyphens; unique among the migrations loaded.
        collection, database: where; the database defaults to MONGODB_DB_NAME.
        filter: which documents; {} is all of them.
        update: an update document or pipeline. It may use $$run, $$batch, $$phase and $$claimed_at.
        version: raise it to apply a changed migration to documents that an earlier version has marked.
        mark: how a document shows that it is done: "marker" (a field `_whimbrel.<name>_v<version>`),
            "status" (a status field that goes from pending to success or failed) or "filter" (the change
            makes the filter false).
        status_field: the field that mark="status" uses.
        batch_size: documents in a batch, 1 to 100,000.
        max_attempts: tries of one document, the first included.
        timeout: seconds that one call of the function may take.
        reads: the top-level fields that the function reads. The write is then guarded by them alone,
            so that changes of other fields are no conflict.
        claim: set documents to `processing` before the function is called (mark="status" only), for
            functions with effects outside the database.
        adopt: "all" if documents in `processing` without a token of Whimbrel may be processed.
        concurrency: calls of an `async def` function at a time.
        undo: True keeps in each document what the change overwrites, so that a run can be rolled back;
            "document" keeps the whole document, and treats any later change of it as a conflict.

    Raises DefinitionInvalid with a sentence that names the migration and the fix.

    >>> from whimbrel import Migration
    >>> Migration(
    ...     name="price-in-cents", collection="products", filter={"currency": "EUR"},
    ...     update=[{"$set": {"cents": {"$multiply": ["$price", 100]}}}],
    ... )
    Migration('price-in-cents', version=1)
    """

    def __init__(
        self,
        *,
        update: Update | None = None,
        transform: Callable[..., Any] | None = None,
        filter: Mapping[str, Any] | None = None,  # noqa: A002  the word that users know from MongoDB
        **options: Any,
    ) -> None:
        self.fault = ""  # why it cannot be used, when its module was loaded all the same
        try:
            self._define(update, transform, filter, options)
        except Exception as error:
            if not _TOLERANT.get():
                raise
            self.fault = (
                str(error)
                if isinstance(error, WhimbrelError)
                else f"{type_name(error)}: {exception_message(error)}"
            )
            self.transform, self.wants_context, self.is_async = transform, False, False
            self.definition = Definition(name=str(options.get("name") or "(no name)"), collection="")

    def _define(
        self,
        update: Update | None,
        transform: Callable[..., Any] | None,
        filter_: Mapping[str, Any] | None,
        options: dict[str, Any],
    ) -> None:
        name = options.get("name")
        _check_known(name, options)
        check_name(name)
        _check_collection(str(name), options)
        if (update is None) == (transform is None):
            raise DefinitionInvalid(
                f"Migration {name!r} needs either an update or a function: give update=..., or decorate a function with @migration."
            )
        self.transform = transform
        reads = options.pop("reads", None)
        unpinned = Definition(
            filter=_check_filter(str(name), filter_),
            update=update,
            reads=tuple(reads) if isinstance(reads, list | tuple) else reads,
            summary=summary(transform) if transform is not None and is_function(transform) else "",
            code=CodeFiles(naive=_naive(filter=filter_, update=update)),
            **options,
        )
        _check_values(unpinned)
        self.wants_context = transform is not None and takes_context(unpinned.name, transform)
        self.is_async = transform is not None and is_awaited(transform)
        if update is not None:
            check_update(unpinned.name, unpinned.marking, update)
        if unpinned.undo:
            _check_undo(unpinned)
        self.definition = replace(unpinned, code_hash=code_hash(unpinned, transform))

    @property
    def name(self) -> str:
        return self.definition.name

    def __repr__(self) -> str:
        return f"Migration({self.definition.name!r}, version={self.definition.version})"

    def __call__(self, *arguments: Any) -> Any:
        """Calls the function itself, as a test would."""
        if self.transform is None:
            raise DefinitionInvalid(
                f"Migration {self.name!r} is declarative: MongoDB carries out its update, there is no function to call."
            )
        return self.transform(*arguments)


def migration(*positional: object, **options: Any) -> Callable[[Callable[..., Any]], Migration]:
    """Makes a migration of a function, or of any other callable. Its name defaults to the function's, with hyphens.

    The function gets a document as a dict, and a `Context` where it takes two arguments. It returns an update ({"$set": ...}), the changed
    document, None where nothing is to be changed, or SKIP. `options` are those of `Migration`. Raises DefinitionInvalid as `Migration` does.

    >>> from whimbrel import SKIP, migration
    >>> @migration(collection="people", filter={"name": {"$exists": True}}, timeout=5)
    ... def split_name(person):
    ...     first, _, last = person["name"].partition(" ")
    ...     return {"$set": {"first": first, "last": last}} if last else SKIP
    >>> split_name
    Migration('split-name', version=1)
    >>> split_name({"_id": 1, "name": "Ada Lovelace"})
    {'$set': {'first': 'Ada', 'last': 'Lovelace'}}
    """
    if positional:
        raise DefinitionInvalid(
            "@migration needs to know where the documents are: write @migration(collection='...')."
        )

    def decorate(function: Callable[..., Any]) -> Migration:
        return Migration(transform=function, **{"name": own_name(function), **options})

    return decorate


_OPTIONS = frozenset(option.name for option in fields(Definition)) - {
    "update", "filter", "code_hash", "code", "summary", "uuids",
}  # fmt: skip


# What options are called elsewhere, where that is not similar.
_ELSEWHERE = {
    "db": "database", "table": "collection", "query": "filter", "where": "filter", "match": "filter", "selector": "filter",
    "pipeline": "update", "change": "update", "set": "update", "function": "transform", "callback": "transform",
    "retries": "max_attempts", "tries": "max_attempts", "parallel": "concurrency", "fields": "reads",
    "projection": "reads", "rollback": "undo", "images": "undo",
}  # fmt: skip


def _check_known(name: object, options: Mapping[str, Any]) -> None:
    every = {*_OPTIONS, "filter", "update"}
    for option in options:
        if option not in _OPTIONS:
            suggestion = _suggestion(option, {*every, "transform"})
            hint = (
                f"Did you mean {suggestion!r}?"
                if suggestion
                else f"The options are {', '.join(sorted(every))}."
            )
            raise DefinitionInvalid(f"Migration {name!r} has an unknown option {option!r}. {hint}")


def _suggestion(option: str, known: Collection[str]) -> str | None:
    """Returns the option that is meant, if it is written in another style, or misspelled."""
    plain = {name.replace("_", ""): name for name in sorted(known)}
    normalized = option.lower().replace("_", "").replace("-", "")
    if normalized in _ELSEWHERE:
        return _ELSEWHERE[normalized]
    close = difflib.get_close_matches(normalized, plain, n=1)
    return plain[close[0]] if close else None


def _check_collection(name: str, options: Mapping[str, Any]) -> None:
    if not isinstance(options.get("collection"), str) or not options["collection"]:
        raise DefinitionInvalid(f"Migration {name!r} names no collection: give collection='...'.")


def with_undo(definition: Definition) -> Definition:
    """Returns the definition for a run that has to keep before-images. Raises DefinitionInvalid where it could not be rolled back."""
    _check_undo(definition)
    return definition if definition.undo else replace(definition, undo=True)


def _check_undo(definition: Definition) -> None:
    if definition.claim:
        raise DefinitionInvalid(
            f"Migration {definition.name!r}: undo and claim exclude each other. A function with effects outside the database cannot be undone here."
        )
    if definition.update is not None:
        try:
            as_pipeline(definition.update)
        except Untranslatable as error:
            raise DefinitionInvalid(f"Migration {definition.name!r} cannot be undone: {error}") from error


def _check_filter(name: str, filter_: Mapping[str, Any] | None) -> dict[str, Any]:
    if filter_ is not None and not isinstance(filter_, Mapping):
        raise DefinitionInvalid(f"Migration {name!r}: filter must be a query document, not {filter_!r}.")
    try:
        check_filter(filter_ or {})
    except FilterRefused as refused:
        raise DefinitionInvalid(f"Migration {name!r} has a filter that is refused. {refused}") from refused
    # Copied, so that later changes to the documents in it affect no run.
    return copy.deepcopy(dict(filter_ or {}))


def _naive(**values: Any) -> tuple[str, ...]:
    return tuple(f"{name}: {path}" for name, value in values.items() for path in naive_datetime_fields(value))


def _check_values(definition: Definition) -> None:
    wrong = f"Migration {definition.name!r}: "
    ranges: list[tuple[str, Any, int, int]] = [
        ("batch_size", definition.batch_size, 1, 100_000),
        ("max_attempts", definition.max_attempts, 1, 100),
        ("version", definition.version, 1, 1_000_000),
        ("concurrency", definition.concurrency, 1, 1000),
    ]
    for option, value, low, high in ranges:
        is_whole = isinstance(value, int) and not isinstance(value, bool)
        optional = option in ("batch_size", "max_attempts")
        if not (value is None and optional) and not (is_whole and low <= value <= high):
            raise DefinitionInvalid(
                f"{wrong}{option} must be a whole number from {low} to {high:,}, not {value!r}."
            )
    seconds = isinstance(definition.timeout, int | float) and not isinstance(definition.timeout, bool)
    if not seconds or not 0 < definition.timeout <= 3600:  # noqa: PLR2004
        raise DefinitionInvalid(
            f"{wrong}timeout must be seconds from above 0 to 3600, not {definition.timeout!r}."
        )
    choices: list[tuple[str, Any, tuple[Any, ...]]] = [
        ("mark", definition.mark, ("marker", "status", "filter")),
        ("adopt", definition.adopt, ("ours", "all")),
        ("claim", definition.claim, (True, False)),
        ("undo", definition.undo, (True, False, "document")),
    ]
    for option, value, allowed in choices:
        if not any(value is choice or (isinstance(value, str) and value == choice) for choice in allowed):
            listed = " or ".join(repr(choice) for choice in allowed)
            raise DefinitionInvalid(f"{wrong}{option} must be {listed}, not {value!r}.")
    if definition.claim and (definition.mark != "status" or definition.declarative):
        raise DefinitionInvalid(
            f"{wrong}claim=True needs mark='status' and a function: it shows in the status field that a document is being worked on."
        )
    if definition.mark == "filter" and not definition.filter:
        raise DefinitionInvalid(f"{wrong}mark='filter' needs a filter that the change makes false.")
    check_names(definition, wrong)
