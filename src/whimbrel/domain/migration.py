"""What to change: a named, versioned definition in Python. Wrong definitions fail here, at import.

cents = Migration(name="price-in-cents", collection="products", filter={"currency": "EUR"},
                  update=[{"$set": {"cents": {"$multiply": ["$price", 100]}}}])

@migration(collection="people", filter={"name": {"$exists": True}})
def split_name(person):
    first, _, last = person["name"].partition(" ")
    return {"$set": {"first": first, "last": last}, "$unset": {"name": ""}}
"""

import difflib
import hashlib
import inspect
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, Final, Literal

from bson import json_util
from bson.errors import BSONError

from whimbrel.domain.filters import check_filter
from whimbrel.domain.marks import MARK_ROOT, Mark, mark_of
from whimbrel.errors import DefinitionInvalid, FilterRefused

MarkStrategy = Literal["marker", "status", "filter"]
Update = Mapping[str, Any] | Sequence[Mapping[str, Any]]

NAME = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")
# The stages that MongoDB allows in an update pipeline.
STAGES = frozenset({"$set", "$addFields", "$unset", "$project", "$replaceRoot", "$replaceWith"})


class _Skip:
    """What a function returns for a document that it leaves as it is, on purpose."""

    def __repr__(self) -> str:
        return "SKIP"


SKIP: Final = _Skip()


@dataclass(frozen=True, kw_only=True, slots=True)
class Definition:
    """A migration without its code: what a run pins, and what the processes without user code know."""

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
    update: Update | None = None
    code_hash: str = ""
    summary: str = ""

    @property
    def declarative(self) -> bool:
        return self.update is not None

    @property
    def marking(self) -> Mark:
        return mark_of(self.mark, f"{self.name}_v{self.version}", self.status_field)


class Migration:
    """A definition and its code: an update that MongoDB carries out, or a function that workers call.

    Options (all by keyword):
        name: letters, digits and hyphens; unique among the migrations that are loaded.
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
            which is faster than by the whole document.
        claim: set documents to `processing` before the function is called (mark="status" only), for
            functions with effects outside the database.
        adopt: "all" if documents in `processing` without a token of Whimbrel may be taken up.
        concurrency: calls of an `async def` function at a time.

    Raises DefinitionInvalid with a sentence that names the migration and the fix.
    """

    def __init__(
        self,
        *,
        update: Update | None = None,
        transform: Callable[..., Any] | None = None,
        filter: Mapping[str, Any] | None = None,  # noqa: A002  the word that users know from MongoDB
        **options: Any,
    ) -> None:
        name = options.get("name")
        check_name(name)
        _check_options(str(name), options)
        if (update is None) == (transform is None):
            raise DefinitionInvalid(
                f"Migration {name!r} needs either an update or a function: give update=..., or decorate a function with @migration."
            )
        self.transform = transform
        self.definition = Definition(
            filter=_check_filter(str(name), filter),
            update=None if update is None else _plain(update),
            code_hash="",
            summary=(inspect.getdoc(transform) or "").partition("\n")[0] if transform else "",
            **{**options, "reads": tuple(options["reads"]) if options.get("reads") is not None else None},
        )
        _check_values(self.definition)
        if update is not None:
            check_update(self.definition, update)
        object.__setattr__(self.definition, "code_hash", _hash(self.definition, transform))
        self.wants_context = transform is not None and _takes_context(self.definition.name, transform)
        self.is_async = transform is not None and inspect.iscoroutinefunction(transform)

    @property
    def name(self) -> str:
        return self.definition.name

    def __repr__(self) -> str:
        return f"Migration({self.definition.name!r}, version={self.definition.version})"

    def __call__(self, *arguments: Any) -> Any:
        """Call the function itself, as a test would."""
        if self.transform is None:
            raise DefinitionInvalid(
                f"Migration {self.name!r} is declarative: MongoDB carries out its update, there is no function to call."
            )
        return self.transform(*arguments)


def migration(**options: Any) -> Callable[[Callable[..., Any]], Migration]:
    """Make a migration of a function. Its name defaults to the function's, with hyphens."""

    def decorate(function: Callable[..., Any]) -> Migration:
        return Migration(
            transform=function, **{"name": function.__name__.strip("_").replace("_", "-"), **options}
        )

    return decorate


_OPTIONS = frozenset(each.name for each in fields(Definition)) - {"update", "filter", "code_hash", "summary"}


def check_name(name: object) -> None:
    """Raise DefinitionInvalid for what cannot be the name of a migration."""
    if not isinstance(name, str) or not NAME.fullmatch(name):
        raise DefinitionInvalid(
            f"Migration name {name!r} cannot be used: take lower-case letters, digits and single hyphens, such as 'split-name'."
        )


def _check_options(name: str, options: Mapping[str, Any]) -> None:
    for option in options:
        if option not in _OPTIONS:
            close = difflib.get_close_matches(option, _OPTIONS, n=1)
            hint = (
                f"Did you mean {close[0]!r}?" if close else f"The options are {', '.join(sorted(_OPTIONS))}."
            )
            raise DefinitionInvalid(f"Migration {name!r} has an unknown option {option!r}. {hint}")
    if not isinstance(options.get("collection"), str) or not options["collection"]:
        raise DefinitionInvalid(f"Migration {name!r} names no collection: give collection='...'.")


def _check_filter(name: str, filter_: Mapping[str, Any] | None) -> dict[str, Any]:
    if filter_ is not None and not isinstance(filter_, Mapping):
        raise DefinitionInvalid(f"Migration {name!r}: filter must be a query document, not {filter_!r}.")
    try:
        check_filter(filter_ or {})
    except FilterRefused as refused:
        raise DefinitionInvalid(f"Migration {name!r} has a filter that is refused. {refused}") from refused
    return dict(filter_ or {})


def _check_values(it: Definition) -> None:
    wrong = f"Migration {it.name!r}: "
    ranges: list[tuple[str, Any, float, float]] = [
        ("batch_size", it.batch_size, 1, 100_000),
        ("max_attempts", it.max_attempts, 1, 100),
        ("version", it.version, 1, 1_000_000),
        ("concurrency", it.concurrency, 1, 1000),
    ]
    for option, value, low, high in ranges:
        whole = isinstance(value, int) and not isinstance(value, bool)
        if value is not None and not (whole and low <= value <= high):
            raise DefinitionInvalid(
                f"{wrong}{option} must be a whole number from {low} to {high:,}, not {value!r}."
            )
    if not isinstance(it.timeout, int | float) or not 0 < it.timeout <= 3600:  # noqa: PLR2004
        raise DefinitionInvalid(f"{wrong}timeout must be seconds from above 0 to 3600, not {it.timeout!r}.")
    if it.mark not in ("marker", "status", "filter"):
        raise DefinitionInvalid(f"{wrong}mark must be 'marker', 'status' or 'filter', not {it.mark!r}.")
    if it.adopt not in ("ours", "all"):
        raise DefinitionInvalid(f"{wrong}adopt must be 'ours' or 'all', not {it.adopt!r}.")
    if it.claim and (it.mark != "status" or it.declarative):
        raise DefinitionInvalid(
            f"{wrong}claim=True needs mark='status' and a function: it shows in the status field that a document is being worked on."
        )
    if it.mark == "filter" and not it.filter:
        raise DefinitionInvalid(f"{wrong}mark='filter' needs a filter that the change makes false.")
    if it.reads is not None and any(
        not isinstance(each, str) or not each or "." in each or each[0] == "$" for each in it.reads
    ):
        raise DefinitionInvalid(f"{wrong}reads must be names of top-level fields, not {list(it.reads)!r}.")


def check_update(it: Definition, update: Update) -> None:
    """Refuse an update that cannot be one, or that touches `_id` or the mark."""
    wrong = f"Migration {it.name!r}: "
    stages: Any = [update] if isinstance(update, Mapping) else update
    if not isinstance(stages, list | tuple) or not stages:
        raise DefinitionInvalid(f"{wrong}update must be an update document or a pipeline, not {update!r}.")
    for stage in stages:
        if not isinstance(stage, Mapping) or not stage or not all(str(key).startswith("$") for key in stage):
            raise DefinitionInvalid(
                f"{wrong}update must consist of operators such as {{'$set': ...}}; a whole document would replace every document by the same one."
            )
        if not isinstance(update, Mapping) and (len(stage) != 1 or not STAGES.issuperset(stage)):
            raise DefinitionInvalid(
                f"{wrong}{'/'.join(stage)} is not a stage of an update pipeline ({', '.join(sorted(STAGES))})."
            )
    for path in touched_paths(stages):
        refuse_path(it, path)


def touched_paths(stages: Sequence[Mapping[str, Any]]) -> list[str]:
    """The paths that operators and stages name as their targets."""
    found: list[str] = []
    for stage in stages:
        for operator, body in stage.items():
            if operator in ("$replaceRoot", "$replaceWith", "$project"):
                continue
            if operator == "$unset" and isinstance(body, str | list):
                found.extend([body] if isinstance(body, str) else body)
            elif isinstance(body, Mapping):
                found.extend(body)
                if operator == "$rename":
                    found.extend(str(target) for target in body.values())
    return found


def refuse_path(it: Definition, path: str) -> None:
    """Raise where a change would touch `_id` or a field that Whimbrel writes itself."""
    first = path.partition(".")[0]
    if first == "_id":
        raise DefinitionInvalid(
            f"Migration {it.name!r} changes {path!r}: the _id of a document cannot be changed. Leave it out."
        )
    if path in it.marking.reserved or first == MARK_ROOT:
        raise DefinitionInvalid(
            f"Migration {it.name!r} changes {path!r}, which Whimbrel writes itself to mark a document as done. Leave it out, or choose another mark."
        )


def _takes_context(name: str, function: Callable[..., Any]) -> bool:
    positional = [
        each
        for each in inspect.signature(function).parameters.values()
        if each.kind in (each.POSITIONAL_ONLY, each.POSITIONAL_OR_KEYWORD) and each.default is each.empty
    ]
    if len(positional) not in (1, 2):
        raise DefinitionInvalid(
            f"Migration {name!r}: its function must take the document, and a context if it wants one, not {len(positional)} arguments."
        )
    return len(positional) == 2  # noqa: PLR2004


def _plain(update: Update) -> Update:
    return (
        dict(update)
        if isinstance(update, Mapping)
        else [dict(stage) if isinstance(stage, Mapping) else stage for stage in update]
    )


def _hash(it: Definition, function: Callable[..., Any] | None) -> str:
    """What identifies the code of this migration alone: its options, its update, its function's source."""
    options = {each.name: getattr(it, each.name) for each in fields(Definition)}
    try:
        text = json_util.dumps(options, json_options=json_util.CANONICAL_JSON_OPTIONS, sort_keys=True)
    except (TypeError, BSONError) as error:
        raise DefinitionInvalid(
            f"Migration {it.name!r} holds a value that MongoDB cannot store: {error}."
        ) from error
    digest = hashlib.sha256(text.encode("utf-8", "surrogatepass"))
    if function is not None:
        try:
            digest.update(inspect.getsource(function).encode("utf-8", "surrogatepass"))
        except (OSError, TypeError):  # made at run time: no source, so its code itself
            code = getattr(function, "__code__", None)
            digest.update(repr((code.co_code, code.co_consts) if code else function).encode())
    return digest.hexdigest()[:16]
