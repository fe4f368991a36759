"""The result of reading documents."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Page:
    """Raw documents in `_id` order. `end`: nothing else of the range was eligible."""

    documents: tuple[bytes, ...]
    end: bool
