"""What to change: a named, versioned definition in Python. Wrong definitions fail here, at import.

cents = Migration(name="price-in-cents", collection="products", filter={"currency": "EUR"},
                  update=[{"$set": {"cents": {"$multiply": ["$price", 100]}}}])

@migration(collection="people", filter={"name": {"$exists": True}})
def split_name(person):
    first, _, last = person["name"].partition(" ")
    return {"$set": {"first": first, "last": last}, "$unset": {"name": ""}}
"""

import copy
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import replace
from typing import Any, Final

from whimbrel.domain.bson.naive_datetimes import naive_datetime_fields
from whimbrel.domain.migrations.code import CodeFiles, code_hash
from whimbrel.domain.migrations.definition import Definition
from whimbrel.domain.migrations.definition_checks import (
    check_collection,
    check_options,
    check_undo,
    check_values,
)
from whimbrel.domain.migrations.filters import check_filter
from whimbrel.domain.migrations.functions import is_awaited, is_function, own_name, summary, takes_context
from whimbrel.domain.migrations.sequence import check_depends_on, dependencies_of
from whimbrel.domain.migrations.updates import Update, check_update
from whimbrel.domain.migrations.valid_names import check_name
from whimbrel.domain.text.safe_text import exception_message, type_name
from whimbrel.errors import DefinitionInvalid, FilterRefused, WhimbrelError


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
        depends_on: names of migrations that must be complete before a run of this one may start, such as
            ["split-name", "price-in-cents@2"].

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
        check_options(name, options)
        check_name(name)
        check_collection(str(name), options)
        if (update is None) == (transform is None):
            raise DefinitionInvalid(
                f"Migration {name!r} needs either an update or a function: give update=..., or decorate a function with @migration."
            )
        self.transform = transform
        reads = options.pop("reads", None)
        depends_on = check_depends_on(str(name), options.pop("depends_on", ()))
        unpinned = Definition(
            filter=_check_filter(str(name), filter_),
            update=update,
            reads=tuple(reads) if isinstance(reads, list | tuple) else reads,
            summary=summary(transform) if transform is not None and is_function(transform) else "",
            code=CodeFiles(naive=_naive(filter=filter_, update=update)),
            depends_on=depends_on,
            dependencies=dependencies_of(depends_on),
            **options,
        )
        check_values(unpinned)
        self.wants_context = transform is not None and takes_context(unpinned.name, transform)
        self.is_async = transform is not None and is_awaited(transform)
        if update is not None:
            check_update(unpinned.name, unpinned.marking, update)
        if unpinned.undo:
            check_undo(unpinned)
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
