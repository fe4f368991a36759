"""Draws tables for people at any width: rows that would break a word become blocks of facts."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderResult
from rich.segment import Segment
from rich.text import Text as RichText

from whimbrel.cli.output.terminal_text import Paragraph, Text, unbroken, wrapped_text

GAP = 2  # blanks between two columns
APART = 3  # blanks between two facts on a line
BRIEF = 44  # columns of a fact that may share a line with others
INDENT = 2  # of lines after the first of a block, or below a name
READABLE = 24  # columns that a text of more than BRIEF needs


@dataclass(slots=True)
class FactTable:
    """Rows under the names of columns.

    `whole`: columns whose cells are not broken between words either.
    """

    columns: Sequence[str]
    title: str = ""
    right: Sequence[str] = ()
    whole: Sequence[str] = ()
    rows: list[list[RichText]] = field(default_factory=list)

    def add(self, *cells: str | RichText) -> None:
        self.rows.append([cell if isinstance(cell, RichText) else Text(cell) for cell in cells])

    def fits(self, width: int) -> bool:
        """Whether it can be drawn as a table at this width."""
        return self._widths(range(len(self.columns)), width) is not None

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        if self.title:
            yield Paragraph(Text(self.title, "bold"))
        all_columns = range(len(self.columns))
        filled = [index for index in all_columns if any(row[index].plain for row in self.rows)]
        for shown in (list(all_columns), filled):
            widths = self._widths(shown, options.max_width)
            if widths is not None:
                yield from self._table(console, shown, widths)
                return
        yield from self._blocks(console, options.max_width)

    def _widths(self, shown: Sequence[int], width: int) -> list[int] | None:
        """Returns the width of each of these columns; None where they do not fit."""
        natural, least = [], []
        for index in shown:
            texts = [self.columns[index], *(row[index].plain for row in self.rows)]
            natural.append(_longest(texts, "\n"))
            unbroken_column = self.columns[index] in (*self.whole, *self.right)
            least.append(
                natural[-1] if unbroken_column else max(_longest(texts), READABLE * (natural[-1] > BRIEF))
            )
        spare = width - sum(least) - GAP * (len(shown) - 1)
        if spare < 0:
            return None
        widths = list(least)
        for columns_done, index in enumerate(
            sorted(range(len(shown)), key=lambda index: natural[index] - least[index])
        ):
            added = min(natural[index] - least[index], spare // (len(shown) - columns_done))
            widths[index] += added
            spare -= added
        return widths

    def _table(self, console: Console, shown: Sequence[int], widths: Sequence[int]) -> Iterator[Segment]:
        names = [Text(self.columns[index], "bold") for index in shown]
        yield from self._row(console, shown, widths, names)
        yield Segment("─" * (sum(widths) + GAP * (len(widths) - 1)) + "\n")
        for row in self.rows:
            yield from self._row(console, shown, widths, [row[index] for index in shown])
        yield Segment("\n")

    def _row(
        self, console: Console, shown: Sequence[int], widths: Sequence[int], cells: Sequence[RichText]
    ) -> Iterator[Segment]:
        parts = [wrapped_text(console, cell, width) for cell, width in zip(cells, widths, strict=True)]
        for number in range(max(map(len, parts))):
            column = 0  # reached in the line
            start = 0
            for index, width, lines in zip(shown, widths, parts, strict=True):
                line = lines[number] if number < len(lines) else Text()
                before = width - line.cell_len if self.columns[index] in self.right else 0
                if line.plain:
                    yield from unbroken(console, line, start + before - column)
                    column = start + before + line.cell_len
                start += width + GAP
            yield Segment("\n")

    def _blocks(self, console: Console, width: int) -> Iterator[Segment]:
        yield Segment("\n" if self.title else "")
        for row in self.rows:
            facts = [(name, cell) for name, cell in zip(self.columns, row, strict=True) if cell.plain]
            indent = 0
            if facts and not _is_brief(*facts[0], width):  # the first fact says what the row is about
                yield from _fact(console, *facts.pop(0), width, indent)
                indent = INDENT
            brief = [_named_fact(*fact) for fact in facts if _is_brief(*fact, width)]
            for line in _lines_of_facts(brief, width):
                yield from unbroken(console, line, indent)
                yield Segment("\n")
                indent = INDENT
            for name, cell in facts:
                if not _is_brief(name, cell, width):
                    yield from _fact(console, name, cell, width, INDENT)
            yield Segment("\n")


@dataclass(slots=True)
class Facts:
    """Names, each with a text beside it."""

    title: str
    rows: list[tuple[str, RichText]] = field(default_factory=list)

    def add(self, name: str, value: str | RichText) -> None:
        self.rows.append((name, value if isinstance(value, RichText) else Text(value)))

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        yield Paragraph(Text(self.title, "bold"))
        yield Segment("\n")
        names = max((cell_len(name) for name, _ in self.rows), default=0)
        for name, value in self.rows:
            yield from _fact(console, name.ljust(names), value, options.max_width, 0)
        yield Segment("\n")


def _fact(console: Console, name: str, text: RichText, width: int, indent: int) -> Iterator[Segment]:
    """Draws a text beside its name, or below where a word would not fit there."""
    beside = indent + cell_len(name) + GAP if name else indent
    lines = wrapped_text(console, text, width - beside)
    yield from unbroken(console, Text(name, "dim"), indent)
    if any(line.cell_len > width - beside for line in lines):
        below_name = indent + INDENT
        lines, start = wrapped_text(console, text, width - below_name), below_name
        yield Segment("\n")
    else:
        start, first = beside, lines.pop(0)
        yield from unbroken(console, first, beside - indent - cell_len(name))
        yield Segment("\n")
    for line in lines:
        yield from unbroken(console, line, start)
        yield Segment("\n")


def _is_brief(name: str, text: RichText, width: int) -> bool:
    return "\n" not in text.plain and cell_len(name) + 1 + text.cell_len <= min(BRIEF, width - INDENT)


def _named_fact(name: str, text: RichText) -> RichText:
    return Text.assemble((name, "dim"), " ", text) if name else text


def _lines_of_facts(facts: Sequence[RichText], width: int) -> Iterator[RichText]:
    """Yields facts on as few lines as possible, none of them broken."""
    line: RichText = Text()
    for fact in facts:
        if line.plain and INDENT + line.cell_len + APART + fact.cell_len > width:
            yield line
            line = Text()
        line = Text.assemble(line, " " * APART, fact) if line.plain else Text.assemble(fact)
    if line.plain:
        yield line


def _longest(texts: Sequence[str], between: str | None = None) -> int:
    """Returns the columns of the longest word, or of the longest part between separators `between`."""
    return max((cell_len(part) for text in texts for part in text.split(between)), default=0)
