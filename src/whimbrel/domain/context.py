"""What a function may know about the batch in which it is called."""

import logging
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Context:
    """The optional second argument of a function.

    `attempt` is 1 for the first try of a document. It is 2 or more in a retry, and for a migration with
    `claim=True` whenever the function may already have been called for this document by a process that died.
    """

    run: str
    batch: str
    attempt: int
    logger: logging.Logger = field(default_factory=lambda: logging.getLogger("whimbrel.migration"))
