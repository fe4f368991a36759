"""Prints text from documents, functions and servers so that a terminal shows it and never obeys it."""

from collections.abc import Iterable, Iterator
from datetime import datetime
from typing import Any, Self

from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.segment import Segment
from rich.style import Style
from rich.text import Text as RichText

from whimbrel.domain.text.printable import visible


class Text(RichText):
    """Rich's text, with a visible escape for each character that would act on a terminal, or that Rich would drop."""

    def __init__(self, text: str = "", style: str | Style = "", **options: Any) -> None:
        super().__init__(visible(text), style, **options)

    def append(self, text: RichText | str, style: str | Style | None = None) -> Self:
        super().append(visible(text) if isinstance(text, str) else text, style)
        return self


class VisibleConsole(Console):
    """A console that writes no control characters except its own, and treats no text as markup or emoji codes."""

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        for segment in super().render(renderable, options):
            yield segment if segment.control else Segment(visible(segment.text), segment.style)

    def render_str(self, text: str, **options: Any) -> RichText:
        options |= {"markup": False, "emoji": False, "highlight": False}
        return super().render_str(visible(text), **options)


class Paragraph:
    """A text that is wrapped between words on a terminal, and is one line in a file or pipe, or if it is to be copied (`no_wrap`)."""

    def __init__(self, text: RichText, indent: int = 0, *, hanging: int = 0, end: str = "\n") -> None:
        """`indent`: of all lines; `hanging`: additional indent of lines after the first."""
        self._text, self._indent, self._hanging, self._end = text, indent, hanging, end

    @property
    def plain(self) -> str:
        return self._text.plain

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        on_one_line = self._text.no_wrap or not console.is_terminal
        lines = list(self._text.split(allow_blank=True)) if on_one_line else wrapped_text(
            console, self._text, options.max_width - self._indent - self._hanging
        )  # fmt: skip
        for number, line in enumerate(lines):
            yield Segment("\n" if number else "")
            yield from unbroken(console, line, self._indent + self._hanging * bool(number))
        yield Segment(self._end)


def wrapped_text(console: Console, text: RichText, width: int, *, fold: bool = False) -> list[RichText]:
    """Returns its lines, broken between words only: the terminal breaks a word that is longer than the width.

    `fold`: breaks such a word here, where lines are counted.
    """
    copy = text.copy()
    copy.overflow = "fold" if fold else "ignore"
    lines = list(copy.wrap(console, max(width, 1)))
    for line in lines:
        line.rstrip()
    return lines


def unbroken(console: Console, line: RichText, indent: int = 0) -> Iterator[Segment]:
    """Renders one line as it is, without its end."""
    yield Segment(" " * indent)
    yield from line.render(console)


def local_time(moment: datetime | None) -> str:
    """Returns a moment by the clock of this machine; nothing for none."""
    return moment.astimezone().strftime("%Y-%m-%d %H:%M:%S") if moment else ""
