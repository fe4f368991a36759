"""Groups guarded writes that fit in one statement."""

from collections.abc import Sequence
from typing import Any

from whimbrel.domain.migrations.changes import Row, Single, Whole
from whimbrel.mongo import update_statements
from whimbrel.ports import GuardedChange

COLUMN = 100  # documents in one columnar statement
FULL = 4 * 1024 * 1024  # bytes of one


def _weight(guarded: GuardedChange) -> int:
    """Estimates the bytes that a document takes in a statement."""
    change = guarded.change
    new = (
        change.values
        if isinstance(change, Row)
        else change.document
        if isinstance(change, Whole)
        else guarded.document
    )
    return len(guarded.document) + len(new) + 200


def grouped_writes(
    documents: Sequence[GuardedChange], *, named: bool = False
) -> tuple[list[list[GuardedChange]], list[GuardedChange]]:
    """Returns groups of documents of one shape, for columnar statements; and those that must be sent alone.

    `named`: the shape includes the names of changed fields, for statements that keep before-images.
    """
    groups: list[list[GuardedChange]] = []
    single_changes = [guarded for guarded in documents if isinstance(guarded.change, Single)]
    filling: dict[tuple[Any, ...], tuple[list[GuardedChange], int]] = {}
    for guarded in documents:
        if isinstance(guarded.change, Single):
            continue
        kind, weight = update_statements.shape(guarded, named=named), _weight(guarded)
        group, filled = filling.get(kind, ([], FULL))
        if len(group) == COLUMN or filled + weight > FULL:
            group, filled = [], 0
            groups.append(group)
        group.append(guarded)
        filling[kind] = group, filled + weight
    return groups, single_changes
