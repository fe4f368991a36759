"""Where a command writes: answers on standard output, everything else on standard error."""

import contextlib
import os
import re
import sys
import threading
from collections.abc import Iterator
from typing import Any, TextIO, cast

from bson import json_util
from rich.console import Console, RenderableType
from rich.file_proxy import FileProxy
from rich.padding import Padding
from rich.text import Text

from whimbrel.logs import json_asked, json_line

PAGE = 200  # columns of a table that is not printed on a terminal


class Screen:
    """One command's standard output and standard error."""

    def __init__(self, *, json: bool = False) -> None:
        self.json = json
        self.live = sys.stdout.isatty() and sys.stderr.isatty()  # whether a bar may move
        self.out = _console(sys.stdout)
        self.err = _console(sys.stderr, stderr=True)
        # What is written here while a bar moves stands above the bar.
        self.log: TextIO = cast("TextIO", FileProxy(self.err, sys.stderr)) if self.live else sys.stderr

    def answer(self, value: Any, *, indent: int | None = 2) -> None:
        """JSON on standard output; None as `indent`: on one line."""
        text = json_util.dumps(value, json_options=json_util.RELAXED_JSON_OPTIONS, indent=indent)
        sys.stdout.write(text + "\n")
        sys.stdout.flush()

    def show(self, *parts: RenderableType) -> None:
        """For people, on standard output."""
        for part in parts:
            _print(self.out, part)

    def tell(self, *parts: RenderableType, end: str = "\n") -> None:
        """For people, on standard error."""
        for part in parts:
            if not self.logged(_plain(part)):
                _print(self.err, part, end=end)

    def logged(self, text: str, level: str = "info", **facts: Any) -> bool:
        """Write it as a line of the log, where every line shall be JSON and nobody sits at a terminal. False where not."""
        if not json_asked() or self.err.is_terminal:
            return False
        if text.strip():
            self.err.file.write(json_line(text.strip(), level=level, **facts) + "\n")
            self.err.file.flush()
        return True

    def report(self, text: str, event: str, **facts: Any) -> None:
        """What happened: a sentence for people, or an event with its facts for logs."""
        if not self.logged(event, **facts):
            self.say(text)

    def say(self, text: str, style: str = "") -> None:
        """A sentence for people, on standard error."""
        if not self.logged(text):
            self.err.print(Text(text, style=style), soft_wrap=not self.err.is_terminal)

    def note(self, text: str) -> None:
        if self.logged(text, "warning"):
            return
        self.err.print(Text.assemble(("note: ", "bold yellow"), text), soft_wrap=not self.err.is_terminal)

    def error(self, text: str) -> None:
        if self.logged(text, "error"):
            return
        self.err.print(Text.assemble(("error: ", "bold red"), text), soft_wrap=not self.err.is_terminal)

    @property
    def answerable(self) -> bool:
        """Whether somebody is there who sees a question and can answer it."""
        return sys.stdin.isatty() and sys.stderr.isatty()

    def ask(self, question: str) -> bool:
        """Ask a question; whatever is not a yes is a no."""
        self.tell(f"{question} [y/N] ", end="")
        return sys.stdin.readline().strip().lower() in ("y", "yes")

    @contextlib.contextmanager
    def pipe(self) -> Iterator[int | None]:
        """What children write their logs to: a pipe into `log` while a bar may move, else nothing special."""
        if not self.live:
            yield None
            return
        source, sink = os.pipe()
        reader = threading.Thread(target=_forward, args=(source, self.log), daemon=True)
        reader.start()
        try:
            yield sink
        finally:
            os.close(sink)
            reader.join(2)


def _forward(source: int, log: TextIO) -> None:
    with os.fdopen(source, encoding="utf-8", errors="replace") as lines:
        log.writelines(lines)


def _plain(part: RenderableType) -> str:
    part = part.renderable if isinstance(part, Padding) else part
    return part.plain if isinstance(part, Text) else str(part)


def _print(console: Console, part: RenderableType, *, end: str = "\n") -> None:
    """A line goes whole into a file or pipe; on a terminal it is wrapped, unless it is one to be copied."""
    whole = part.no_wrap if isinstance(part, Text) and part.no_wrap else not console.is_terminal
    lines = isinstance(part, str | Text | Padding)
    if lines or console.is_terminal:
        console.print(part, soft_wrap=whole and lines, end=end)
        return
    with console.capture() as captured:  # tables are filled up with blanks, which nobody wants in a file
        console.print(part, end=end)
    console.file.write(re.sub(" +$", "", captured.get(), flags=re.MULTILINE))
    console.file.flush()


def _console(stream: TextIO, *, stderr: bool = False) -> Console:
    """A table that goes into a file or pipe is not cut to the width of a terminal that is not there."""
    wide = None if stream.isatty() or os.environ.get("COLUMNS") else PAGE
    return Console(stderr=stderr, width=wide, highlight=False, markup=False)
