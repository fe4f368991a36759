"""The lines on the workers that are alive."""

from collections.abc import Iterator, Sequence
from datetime import datetime

from rich.text import Text as RichText

from whimbrel.cli.output.progress_bar import clock
from whimbrel.cli.output.run_rows import one_line
from whimbrel.cli.output.terminal_text import Text
from whimbrel.domain.runs.workers import Worker
from whimbrel.domain.text.printable import counted


def seconds_since(since: datetime | None, now: datetime) -> float:
    return max(0.0, (now - since).total_seconds()) if since else 0.0


def worker_header(width: int) -> RichText:
    hosts = host_width(width)
    return Text(f"{'worker'.ljust(hosts)} {'slots':>9} {'done':>9}  at work on", "bold")


def host_width(width: int) -> int:
    """Returns the columns for the name of a worker."""
    return max(12, min(40, width // 4))


def worker_rows(workers: Sequence[Worker], now: datetime, width: int) -> Iterator[RichText]:
    """Yields a line for each worker, and one more where it refuses runs."""
    for worker in workers:
        name = Text(one_line(f"{worker.host}:{worker.pid}"))
        name.truncate(host_width(width), overflow="ellipsis", pad=True)
        parts = [f"{batch.batch} {clock(seconds_since(batch.since, now))}" for batch in worker.in_hand]
        doing = "loads the migrations" if worker.loading else ", ".join(parts) or "waits for work"
        slots = f"{len(worker.in_hand)} of {worker.slots}"
        yield Text.assemble(name, f" {slots:>9} {worker.done:>9,}  ", (doing, "" if parts else "dim"))
        if worker.refuses:
            refused = ", ".join(refusal.run for refusal in worker.refuses[:5])
            yield Text(
                f"  refuses {counted(len(worker.refuses), 'run')}, as its code differs: {refused}", "yellow"
            )
