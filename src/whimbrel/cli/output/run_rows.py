"""Rows of runs for displays that go on changing: each run on a line, or two with its reason, at any width."""

from collections.abc import Callable
from dataclasses import dataclass

from rich.cells import cell_len
from rich.text import Text as RichText

from whimbrel.cli.output.progress_bar import clock, retrying
from whimbrel.cli.output.run_tables import COLOURS, asked_for
from whimbrel.cli.output.sparklines import sparkline
from whimbrel.cli.output.terminal_text import Text
from whimbrel.domain.runs.states import ENDED, RunStatus
from whimbrel.engine.operating.run_view import RunView, held_object

DAY = 86_400.0
LONG = 100 * 3600.0  # seconds from which on a time is told in days
GAP = 1  # blanks between two columns
BESIDE = 50  # columns that a reason needs to stand in the row itself
WORDS = {
    RunStatus.COMPLETED_WITH_FAILURES: "failures",
    RunStatus.CANCELLING: "cancelling",
}  # where there is little room


@dataclass(frozen=True, slots=True)
class Column:
    """`from_width`: columns that the terminal has at least where it is shown. `most`: how wide it becomes where there is room."""

    name: str
    width: int
    cell: Callable[[RunView, int], str | RichText]
    right: bool = False
    from_width: int = 0
    most: int = 0


def one_line(text: str) -> str:
    """Returns a text without its line breaks."""
    return " ".join(text.split())


def short(number: float) -> str:
    """Returns a number in at most six characters: 12,345, 1.23M."""
    for limit, unit in ((1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M"), (1e5, "k")):
        if number >= limit:
            scaled = number / (1e3 if unit == "k" else limit)
            return f"{scaled:.3g}{unit}" if scaled < 1000 else f"{scaled:.0f}{unit}"  # noqa: PLR2004  three digits
    return f"{number:,.0f}"


def short_time(seconds: float) -> str:
    """Returns a time in at most eight characters."""
    if seconds < LONG:
        return clock(seconds)
    days, rest = divmod(seconds, DAY)
    return f"{days:,.0f}d {rest // 3600:.0f}h" if days < 1000 else f"{days:,.0f}d"  # noqa: PLR2004  three digits


def share_of(run_view: RunView) -> float | None:
    """Returns the share of its speed that a run at work has; None of others."""
    share: float | None = held_object(run_view.run)["share"]
    return share


def state_of(run_view: RunView, width: int = 100) -> Text:
    """Returns a run's state for people, and whether it is slowed or waits."""
    status = run_view.run.status
    held = {None: "", "working": ""}.get(said := held_object(run_view.run)["state"], said)
    word = held or str(status).replace("_", " ")
    if cell_len(word) > width:
        word = WORDS.get(status, word)
    colour = "yellow" if held else COLOURS.get(status, "")
    return Text(word, colour)


def reason_of(run_view: RunView) -> str:
    """Returns why a run is not simply at work, in one line."""
    run = run_view.run
    if run.status in ENDED:
        return one_line(run.error or "")
    return one_line(run.message or run.error or retrying(run_view))


def failures_of(run_view: RunView) -> int:
    return run_view.failures["failed"] + run_view.failures["conflict"]


def eta_of(run_view: RunView) -> str:
    if run_view.next_retry is not None:
        return "retries"
    return "" if run_view.eta is None else short_time(run_view.eta)


def bar(percent: float, width: int) -> str:
    """Returns a bar that is full at 100."""
    full = int(width * percent / 100)
    return "█" * full + "░" * (width - full)


def _share(run_view: RunView, _: int) -> str:
    share = share_of(run_view)
    return "" if share is None else f"{share:.0%}"


def _rate(run_view: RunView, _: int) -> str:
    return short(run_view.throughput) if run_view.throughput else ""


def _failures(run_view: RunView, _: int) -> RichText:
    number = failures_of(run_view)
    return Text(short(number), "red") if number else Text("0", "dim")


def _done(run_view: RunView, _: int) -> str:
    return f"{int(run_view.progress)}%" if run_view.progress == int(run_view.progress) else f"{run_view.progress:.1f}%"  # fmt: skip


def _kind(run_view: RunView, _: int) -> str:
    run = run_view.run
    return f"{run.kind} of {run.of}" if run.of else asked_for(run)


def _started(run_view: RunView, _: int) -> str:
    started = run_view.run.started_at
    return f"{started.astimezone():%m-%d %H:%M}" if started else ""


COLUMNS = (
    Column("run", 15, lambda view, _: Text(view.run.id)),
    Column("migration", 12, lambda view, _: Text(one_line(view.run.migration)), from_width=40, most=32),
    Column("state", 10, state_of, most=23),
    Column("share", 5, _share, right=True, from_width=64),
    Column("progress", 10, lambda view, width: Text(bar(view.progress, width), "cyan"), from_width=96, most=30),
    Column("done", 5, _done, right=True),
    Column("docs/s", 6, _rate, right=True, from_width=56),
    Column("eta", 7, lambda view, _: Text(eta_of(view)), right=True, from_width=56),
    Column("failed", 6, _failures, right=True, from_width=48),
    Column("rate, 15 min", 15, lambda view, width: Text(sparkline(view.run.samples, view.seconds, width), "cyan"), from_width=120, most=30),
    Column("documents", 13, lambda view, _: f"{view.total:,}", right=True, from_width=140),
    Column("collection", 16, lambda view, _: Text(one_line(view.run.ns)), from_width=112, most=40),
    Column("of what", 12, lambda view, width: Text(one_line(_kind(view, width))), from_width=160, most=30),
    Column("started", 11, _started, from_width=132),
)  # fmt: skip
# What gets the room that is left, one after the other.
WIDENED = ("migration", "progress", "collection", "state", "rate, 15 min", "of what")


def columns_for(width: int) -> list[tuple[Column, int]]:
    """Returns the columns that are shown at this width, each with its own."""
    shown = [column for column in COLUMNS if width >= column.from_width]
    while len(shown) > 1 and sum(column.width + GAP for column in shown) - GAP > width:
        shown.pop()
    widths = [column.width for column in shown]
    spare = width - sum(widths) - GAP * (len(shown) - 1)
    for name in WIDENED:
        for index, column in enumerate(shown):
            if column.name == name:
                added = max(0, min(spare, column.most - column.width))
                widths[index] += added
                spare -= added
    return list(zip(shown, widths, strict=True))


def header(width: int, sorted_by: str = "", *, reverse: bool = False) -> RichText:
    """Returns the names of the columns; `sorted_by`: the one that orders the rows."""
    line = Text("", "bold")
    for number, (column, columns) in enumerate(columns_for(width)):
        marked = column.name == sorted_by
        arrow = ("▲" if reverse else "▼") if marked else ""
        name = f"{column.name[: columns - 1] if marked else column.name}{arrow}"
        line.append(" " * GAP if number else "")
        line.append(_padded(Text(name, "underline" if marked else ""), columns, right=column.right))
    return line


def row(run_view: RunView, width: int) -> RichText:
    line: RichText = Text()
    for number, (column, columns) in enumerate(columns_for(width)):
        cell = column.cell(run_view, columns)
        line.append(" " * GAP if number else "")
        line.append(_padded(cell if isinstance(cell, RichText) else Text(cell), columns, right=column.right))
    return line


def height_of(run_view: RunView) -> int:
    """Returns how many lines a run takes."""
    return 2 if reason_of(run_view) else 1


def block(run_view: RunView, width: int) -> list[RichText]:
    """Returns the lines of a run: its row, and the reason why it waits, goes slower or has failed."""
    lines = [row(run_view, width)]
    if why := reason_of(run_view):
        colour = "red" if run_view.run.status is RunStatus.FAILED else "yellow"
        lines.append(Text(f"  {why}", colour))
    return lines


def _padded(text: RichText, width: int, *, right: bool) -> RichText:
    cell = text.copy()
    cell.truncate(width, overflow="ellipsis")
    blanks = " " * (width - cell.cell_len)
    return Text.assemble(blanks, cell) if right else Text.assemble(cell, blanks)
