"""Draws documents at random, also where MongoDB meets the same ones again and again."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, TypeVar

from pymongo.errors import OperationFailure

NO_OTHER: Final = 28799  # "$sample stage could not find a non-duplicate document after 100"
SMALLER: Final = 2

Stage = Mapping[str, Any]
T = TypeVar("T")


def with_smaller_samples(aggregate: Callable[[list[Stage]], T], stages: Sequence[Stage]) -> T:
    """Returns what `aggregate` makes of these stages; where the first is a `$sample` that MongoDB cannot draw, of half of it, and so on.

    The server's cursor jumps to a random page. Where large documents fill nearly all pages, and all others share a few, it soon meets only those that
    it has drawn, and gives up. One document can always be drawn. `aggregate` reads all rows, as the server may fail at any of them.
    """
    tried = list(stages)
    while True:
        try:
            return aggregate(tried)
        except OperationFailure as error:
            drawn = sample_size(tried)
            if error.code != NO_OTHER or drawn <= 1:
                raise
            tried = [{"$sample": {"size": max(1, drawn // SMALLER)}}, *tried[1:]]


def sample_size(stages: Sequence[Stage]) -> int:
    """Returns how many documents the first stage draws; 0 where it draws none."""
    return int(stages[0].get("$sample", {}).get("size", 0)) if stages else 0
