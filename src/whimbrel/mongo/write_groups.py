"""Which guarded writes travel in one statement."""

from collections.abc import Sequence
from typing import Any

from whimbrel.domain.migrations.changes import Row, Single, Whole
from whimbrel.mongo import update_statements
from whimbrel.ports import GuardedChange

COLUMN = 100  # documents in one columnar statement
FULL = 4 * 1024 * 1024  # bytes of one


def _weight(each: GuardedChange) -> int:
    """About the bytes that a document takes in a statement."""
    change = each.change
    new = (
        change.values
        if isinstance(change, Row)
        else change.document
        if isinstance(change, Whole)
        else each.document
    )
    return len(each.document) + len(new) + 200


def grouped_writes(
    documents: Sequence[GuardedChange], *, named: bool = False
) -> tuple[list[list[GuardedChange]], list[GuardedChange]]:
    """Documents of one shape together, for columnar statements; and those that must go alone.

    `named`: with the names of the fields that they change, for statements that keep before-images.
    """
    groups: list[list[GuardedChange]] = []
    alone = [each for each in documents if isinstance(each.change, Single)]
    filling: dict[tuple[Any, ...], tuple[list[GuardedChange], int]] = {}
    for each in documents:
        if isinstance(each.change, Single):
            continue
        kind, weight = update_statements.shape(each, named=named), _weight(each)
        group, filled = filling.get(kind, ([], FULL))
        if len(group) == COLUMN or filled + weight > FULL:
            group, filled = [], 0
            groups.append(group)
        group.append(each)
        filling[kind] = group, filled + weight
    return groups, alone
