"""Which updates are refused: those that cannot be one, and those that touch `_id` or the mark; and what updates change."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from whimbrel.domain.migrations.marks import MARK_ROOT, Mark
from whimbrel.errors import DefinitionInvalid

Update = Mapping[str, Any] | Sequence[Mapping[str, Any]]

# The stages that MongoDB allows in an update pipeline.
STAGES = frozenset({"$set", "$addFields", "$unset", "$project", "$replaceRoot", "$replaceWith"})


def check_update(name: str, mark: Mark, update: Any) -> None:
    """Raises DefinitionInvalid, with a sentence that names the migration and the fix."""
    wrong = f"Migration {name!r}: "
    pipeline = not isinstance(update, Mapping)
    stages: Any = update if pipeline else [update]
    if not isinstance(stages, list | tuple) or not stages:
        raise DefinitionInvalid(f"{wrong}update must be an update document or a pipeline, not {update!r}.")
    for stage in stages:
        if not isinstance(stage, Mapping) or not stage or not all(str(key)[:1] == "$" for key in stage):
            raise DefinitionInvalid(
                f"{wrong}update must consist of operators such as {{'$set': ...}}; a whole document would replace every document by the same one."
            )
        if pipeline and (len(stage) != 1 or not STAGES.issuperset(stage)):
            raise DefinitionInvalid(
                f"{wrong}{'/'.join(stage)} is not a stage of an update pipeline ({', '.join(sorted(STAGES))})."
            )
        for operator, body in stage.items():
            if not pipeline and not isinstance(body, Mapping):
                raise DefinitionInvalid(
                    f"{wrong}{operator} takes a document such as {{{operator!r}: {{'field': ...}}}}, not {body!r:.60}."
                )
            for path in _targets(operator, body):
                _check_path(name, mark, path)


def changed_paths(update: Update) -> tuple[str, ...] | None:
    """Returns the dotted paths that an update can change, in the order in which it names them; None where that may be any."""
    paths: dict[str, None] = {}
    for stage in [update] if isinstance(update, Mapping) else update:
        for operator, body in stage.items():
            included = isinstance(body, Mapping) and any(value not in (0, False) for value in body.values())
            if operator in ("$replaceRoot", "$replaceWith") or (operator == "$project" and included):
                return None
            paths |= dict.fromkeys(_targets(operator, body))
    return tuple(paths)


def touched(update: Update) -> tuple[str, ...] | None:
    """Returns the top-level fields of `changed_paths`."""
    paths = changed_paths(update)
    return None if paths is None else tuple(dict.fromkeys(path.partition(".")[0] for path in paths))


def _targets(operator: str, body: Any) -> Iterator[str]:
    """Yields the paths that an operator or a stage names as what it changes."""
    if operator in ("$replaceRoot", "$replaceWith"):
        return
    if operator == "$unset" and isinstance(body, str | list | tuple):
        yield from [body] if isinstance(body, str) else map(str, body)
    elif isinstance(body, Mapping):
        for path, value in body.items():
            if operator != "$project" or value not in (1, True):  # 1 keeps a field
                yield str(path)
            if operator == "$rename":
                yield str(value)


def parents(update: Update) -> frozenset[str]:
    """Returns the parents of the dotted paths that a pipeline sets: it silently replaces those that are not documents."""
    if isinstance(update, Mapping):
        return frozenset()
    paths = {
        path
        for stage in update
        for operator, body in stage.items()
        if operator in ("$set", "$addFields")
        for path in _targets(operator, body)
    }
    return frozenset(above for path in paths for above in _parents_of(path))


def _parents_of(path: str) -> Iterator[str]:
    parts = path.split(".")
    for end in range(1, len(parts)):
        yield ".".join(parts[:end])


def overlaps(path: str, other_path: str) -> bool:
    """Whether a change at one path changes what is at the other. Positions in arrays do not count."""
    first, second = _names(path), _names(other_path)
    shorter = min(len(first), len(second))
    return first[:shorter] == second[:shorter]


def _names(path: str) -> list[str]:
    return [part for part in path.split(".") if not part.isdigit() and part[:1] != "$"]


def _check_path(name: str, mark: Mark, path: str) -> None:
    top = path.partition(".")[0]
    if top == "_id":
        raise DefinitionInvalid(
            f"Migration {name!r} changes {path!r}: the _id of a document cannot be changed. Leave it out."
        )
    if top == MARK_ROOT or top in mark.reserved:
        raise DefinitionInvalid(
            f"Migration {name!r} changes {path!r}, which Whimbrel writes itself to mark a document as done. Leave it out, or choose another mark."
        )
