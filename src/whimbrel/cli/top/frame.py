"""Draws a frame of `top`: as many lines as the terminal has, whatever its size."""

from collections.abc import Mapping, Sequence

from rich.console import Console
from rich.text import Text as RichText

from whimbrel.cli.fullscreen.frames import Size
from whimbrel.cli.output.run_rows import block, header, height_of, one_line, short_time
from whimbrel.cli.output.terminal_text import Text, wrapped_text
from whimbrel.cli.top.cluster_lines import health_line, reason_line, work_line
from whimbrel.cli.top.help_lines import help_lines, keys_line
from whimbrel.cli.top.run_lines import cause_lines, run_lines
from whimbrel.cli.top.snapshot import Snapshot
from whimbrel.cli.top.view import Screens, View
from whimbrel.cli.top.worker_lines import worker_header, worker_rows

LOW = 12  # lines of a terminal that has no room for the lines on the cluster
HIGH = 36  # lines from which on workers and causes are shown below the runs
BESIDE = 140  # columns from which on these are beside one another
PANEL = 9  # lines of such a panel, with its title
# The keys that the last line names, where that is not all.
KEYS_OF: Mapping[Screens, Sequence[str]] = {
    Screens.RUN: ("p", "r", "x"),
    Screens.WORKERS: (),
    Screens.HELP: (),
}
Lines = list[RichText]


class Drawer:
    """Draws what a view shows of a snapshot. `silent`: seconds for which MongoDB has not answered."""

    def __init__(self, console: Console, where: str) -> None:
        self._console, self._where = console, where

    def draw(self, view: View, snapshot: Snapshot, silent: float, size: Size) -> Lines:
        width, height = size
        foot = self._foot(view, width, height)
        head = self._head(snapshot, silent, width)
        if height < LOW:
            head = head[:1] if height > 3 else []  # noqa: PLR2004  a row, the names of columns, the last line
        room = max(0, height - len(head) - len(foot))
        if view.screen is Screens.RUNS:
            body = self._runs(view, snapshot, width, room)
        else:
            body = _scrolled(view, self._others(view, snapshot, width), room)
        blank: Lines = [RichText()] * (room - len(body))
        return [*head, *body[:room], *blank, *foot][-height:]

    def _head(self, snapshot: Snapshot, silent: float, width: int) -> Lines:
        clock = f"{snapshot.at.astimezone():%H:%M:%S}"
        state = Text(clock, "dim")
        if silent:
            state = Text(
                f" MongoDB does not answer for {short_time(silent)}: all this is of {clock} ",
                "bold white on red",
            )
        title = Text.assemble(("whimbrel top", "bold"), f"  {self._where}")
        title.truncate(max(0, width - state.cell_len - 1), overflow="ellipsis", pad=True)
        head: Lines = [Text.assemble(title, " ", state), health_line(snapshot)]
        why = reason_line(snapshot)
        return [*head, *([why] if why.plain else []), work_line(snapshot)]

    def _foot(self, view: View, width: int, height: int) -> Lines:
        if view.question is not None:
            asked = wrapped_text(self._console, Text(view.question.text, "bold yellow"), width, fold=True)
            return asked[-max(1, height // 2) :]
        if view.typing:
            return [
                Text.assemble(
                    ("Filter: ", "bold"),
                    view.wanted.words,
                    ("_", "blink"),
                    ("  Enter keeps it, Esc shows all", "dim"),
                )
            ]
        keys = keys_line(width, KEYS_OF.get(view.screen))
        if not view.requests.message:
            return [keys]
        style = "bold red" if view.requests.failed else "bold"
        said = wrapped_text(self._console, Text(view.requests.message, style), width, fold=True)
        return [*said[: max(1, height // 3)], keys]

    def _runs(self, view: View, snapshot: Snapshot, width: int, room: int) -> Lines:
        panels = self._panels(view, snapshot, width) if room >= HIGH else []
        room -= len(panels)
        runs = view.runs(snapshot)
        names = header(width, view.order, reverse=view.reverse)
        lines = [names, *self._rows(view, snapshot, width, max(0, room - 2))]
        fill: Lines = [RichText()] * max(0, room - 1 - len(lines))
        return [*lines, *fill, self._listed(view, snapshot, len(runs)), *panels]

    def _rows(self, view: View, snapshot: Snapshot, width: int, room: int) -> Lines:
        """Returns the rows around the selected one."""
        runs = view.runs(snapshot)
        if not runs:
            return [RichText(), Text(_nothing(view), "dim")]
        selected = view.index(runs)
        heights = [height_of(run_view) for run_view in runs]
        first = min(view.first, selected)
        while first < selected and sum(heights[first : selected + 1]) > room:
            first += 1
        while first > 0 and sum(heights[first - 1 :]) <= room:  # no blank lines while there are rows above
            first -= 1
        shown: Lines = []
        count = 0
        for number, run_view in enumerate(runs[first:], first):
            if len(shown) + heights[number] > room and number != selected:
                break
            lines = block(run_view, width)
            if number == selected:
                lines[0] = Text(lines[0].plain, "reverse")  # colours of its cells would be backgrounds
                lines[0].pad_right(max(0, width - lines[0].cell_len))
            shown += lines
            count += 1
        view.first, view.room = first, max(1, count)
        return shown[:room]

    def _listed(self, view: View, snapshot: Snapshot, number: int) -> RichText:
        """Returns what is listed, and what else there is."""
        page = len(view.before) + 1
        parts = [view.wanted.shown if view.wanted.shown != "all runs" else ""]
        parts += [f"with {view.wanted.words!r}" if view.wanted.words else ""]
        if snapshot.wanted != view.wanted:
            parts.append("reading ...")
        elif number:
            at = view.index(view.runs(snapshot)) + 1
            parts.append(f"{at:,} of {number:,}")
            if page > 1 or snapshot.page.following is not None:
                parts.append(f"page {page:,}")
            if snapshot.page.following is not None:
                parts.append(
                    "more below" if not snapshot.page.searched else "not all runs searched yet, more below"
                )
        order = f"by {view.order}{', reversed' if view.reverse else ''}"
        return Text(" · ".join(part for part in [*parts, order] if part), "dim")

    def _panels(self, view: View, snapshot: Snapshot, width: int) -> Lines:
        """Returns the workers, and the causes of the selected run."""
        beside = width >= BESIDE
        half = (width - 2) // 2 if beside else width
        workers = [worker_header(half), *worker_rows(snapshot.workers, snapshot.at, half)]
        causes = self._causes(view, snapshot, half)
        panels = [_panel(workers, "workers: w shows all"), _panel(causes, "causes: Enter shows the run")]
        if not beside:
            return [*panels[0], *panels[1]]
        lines: Lines = []
        for left, right in zip(*panels, strict=True):
            one = left.copy()
            one.truncate(half, overflow="ellipsis", pad=True)
            lines.append(Text.assemble(one, "  ", right))
        return lines

    def _causes(self, view: View, snapshot: Snapshot, width: int) -> Lines:
        detail = snapshot.detail
        if detail is None or snapshot.detail_of != view.selected:
            return [Text("causes", "bold")]
        title = Text(f"causes of failures in run {detail.view.run.id}", "bold")
        return [
            title,
            *(cause_lines(detail, width) if detail.causes.groups else [Text("none", "dim")]),
        ]

    def _others(self, view: View, snapshot: Snapshot, width: int) -> Lines:
        if view.screen is Screens.HELP:
            return [
                line for each in help_lines() for line in wrapped_text(self._console, each, width, fold=True)
            ]
        if view.screen is Screens.WORKERS:
            found = list(worker_rows(snapshot.workers, snapshot.at, width))
            return [
                worker_header(width),
                *(found or [Text("No worker is alive. Start some: whimbrel worker", "yellow")]),
            ]
        if snapshot.detail_of != view.selected:
            return [Text("reading ...", "dim")]
        if snapshot.detail is None:
            return [Text(f"Run {view.selected} is no longer in the ledger. Esc goes back.", "yellow")]
        return run_lines(self._console, snapshot.detail, snapshot.workers, snapshot.at, width)


def _nothing(view: View) -> str:
    if view.wanted.words:
        return f"No run has {one_line(view.wanted.words)!r} in its id, migration, collection, state or kind. Esc shows all."
    if view.wanted.shown != "all runs":
        return "There are none of these. a shows others."
    return "There are no runs yet. Start one with: whimbrel run NAME"


def _panel(lines: Lines, more: str) -> Lines:
    shown: Lines = [RichText(), *lines[: PANEL - 1]]
    if len(lines) > PANEL - 1:
        shown[-1] = Text(f"and {len(lines) - PANEL + 2:,} more lines; {more}", "dim")
    return [*shown, *([RichText()] * (PANEL - len(shown)))]


def _scrolled(view: View, lines: Lines, room: int) -> Lines:
    """Returns the lines that are to be seen, and says what is above and below."""
    view.last, view.room = max(0, len(lines) - room), max(1, room - 1)
    first = min(view.scrolled, view.last)
    shown = lines[first : first + room]
    below = len(lines) - first - len(shown)
    if below > 0 and shown:
        shown[-1] = Text(f"... {below + 1:,} more lines: Down, PgDn", "dim")
    return shown
