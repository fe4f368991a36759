"""Traces what a slot does with a batch, where somebody collects spans."""

import contextlib
from collections.abc import Iterator

from whimbrel.domain.text.safe_text import exception_message, type_name
from whimbrel.engine.executing.lease import Lease, LeaseStopped
from whimbrel.errors import LeaseLost, Transient
from whimbrel.masking import masked
from whimbrel.ports.tracing import Tracing


@contextlib.contextmanager
def traced(tracing: Tracing | None, lease: Lease) -> Iterator[None]:
    """Makes a span of what is done while this is entered. `tracing`: None: nobody collects spans."""
    if tracing is None:
        yield
        return
    span, outcome, error = tracing.batch(lease.run, lease.batch), "broken", ""
    try:
        yield
        outcome = "settled"
    except LeaseLost:
        outcome = "lost"
        raise
    except (LeaseStopped, Transient):
        outcome = "given back"
        raise
    except BaseException as failure:
        error = masked(f"{type_name(failure)}: {exception_message(failure, 500)}")
        raise
    finally:
        span.end(outcome, lease.known.counts, lease.known.failed, error=error)
