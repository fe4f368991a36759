"""What a function may know about the batch in which it is called."""

import logging
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Context:
    """The optional second argument of a function.

    `run` and `batch` are the ids of the run and of the batch that work on the document; `logger` writes to the worker's log. `attempt` is 1 for the first try of a document. It is 2 or more in a retry, and for a migration with
    `claim=True` whenever the function may already have been called for this document by a process that died.

    >>> from whimbrel import Context, migration
    >>> @migration(collection="orders", mark="status", claim=True)
    ... def notify(order, context):
    ...     return {"$set": {"notified": context.attempt == 1}}
    >>> notify({"_id": 1}, Context(run="20261129-abc234", batch="20261129-abc234.7", attempt=2))
    {'$set': {'notified': False}}
    """

    run: str
    batch: str
    attempt: int
    logger: logging.Logger = field(default_factory=lambda: logging.getLogger("whimbrel.migration"))
