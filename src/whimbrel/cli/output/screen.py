"""Writes a command's answers to standard output, and everything else to standard error."""

import contextlib
import os
import re
import sys
import threading
from collections.abc import Iterator
from typing import Any, TextIO, cast

from bson import json_util
from rich.console import RenderableType
from rich.file_proxy import FileProxy
from rich.text import Text as RichText

from whimbrel.cli.output.terminal_text import Paragraph, Text, VisibleConsole
from whimbrel.domain.text.printable import visible
from whimbrel.logs import json_line, json_requested

PAGE = 200  # columns of a table that is not printed on a terminal


class Screen:
    """One command's standard output and standard error."""

    def __init__(self, *, json: bool = False) -> None:
        self.json = json
        self.place = ""  # which MongoDB is used, until it has been shown
        self.heads = False  # whether the answer begins with the place
        self.out = _console(sys.stdout)
        self.err = _console(sys.stderr, stderr=True)
        # Whether a bar may move.
        self.live = sys.stdout.isatty() and sys.stderr.isatty() and not self.err.is_dumb_terminal
        # Text that is written here while a bar moves appears above the bar.
        self.log: TextIO = cast("TextIO", FileProxy(self.err, sys.stderr)) if self.live else sys.stderr

    def answer(self, value: Any, *, indent: int | None = 2) -> None:
        """Writes JSON to standard output; None as `indent`: on one line."""
        text = json_util.dumps(value, json_options=json_util.RELAXED_JSON_OPTIONS, indent=indent)
        # json_util escapes all other control characters itself.
        sys.stdout.write(text.replace("\x7f", "\\u007f") + "\n")
        sys.stdout.flush()

    def show(self, *parts: RenderableType) -> None:
        """Writes for people to standard output."""
        if self.heads and self.place:
            place, self.place = self.place, ""
            _print(self.out, Text(place, style="dim"))
        for part in parts:
            _print(self.out, part)

    def tell(self, *parts: RenderableType) -> None:
        """Writes for people to standard error."""
        for part in parts:
            if not self.logged(_plain(part)):
                _print(self.err, part)

    def logged(self, text: str, level: str = "info", **facts: Any) -> bool:
        """Writes a line of the log, where lines must be JSON and standard error is not a terminal. Returns False elsewhere."""
        if not json_requested() or self.err.is_terminal:
            return False
        if text.strip():
            self.err.file.write(json_line(text.strip(), level=level, **facts) + "\n")
            self.err.file.flush()
        return True

    def report(self, text: str, event: str, **facts: Any) -> None:
        """Reports what happened: by a sentence for people, or by an event with its facts for logs."""
        if not self.logged(event, **facts):
            self.say(text)

    def locate(self) -> None:
        """Says once, on standard error, which MongoDB is used."""
        place, self.place = self.place, ""
        if place:
            self.say(place, style="dim")

    def say(self, text: str, style: str = "") -> None:
        """Writes a sentence for people to standard error."""
        self.tell(Text(text, style=style))

    def note(self, text: str) -> None:
        if not self.logged(text, "warning"):
            self.tell(Text.assemble(("note: ", "bold yellow"), text))

    def error(self, text: str) -> None:
        if not self.logged(text, "error"):
            self.tell(Text.assemble(("error: ", "bold red"), text))

    @property
    def answerable(self) -> bool:
        """Whether a person can see and answer a question."""
        return sys.stdin.isatty() and sys.stderr.isatty()

    def ask(self, question: str) -> bool:
        """Asks a question; any answer but a yes is a no."""
        self.tell(Paragraph(Text(f"{question} [y/N] "), end=""))
        return sys.stdin.readline().strip().lower() in ("y", "yes")

    @contextlib.contextmanager
    def pipe(self) -> Iterator["Pipe"]:
        """Opens what children write their logs to."""
        pipe = Pipe(self.log if self.live else None)
        try:
            yield pipe
        finally:
            pipe.close()


class Pipe:
    """What children write their logs to: a pipe into our log where a bar may move, else their standard error."""

    def __init__(self, log: TextIO | None) -> None:
        self._log = log
        self.number: int | None = None
        if log is not None:
            self._source, self.number = os.pipe()
        self._reader: threading.Thread | None = None

    def forward(self) -> None:
        """Starts forwarding. This needs a thread, so it must come after the process is copied."""
        if self._log is not None and self._reader is None:
            self._reader = threading.Thread(target=_forward, args=(self._source, self._log), daemon=True)
            self._reader.start()

    def close(self) -> None:
        self.forward()  # what was written before
        if self.number is not None:
            os.close(self.number)
        if self._reader is not None:
            self._reader.join(2)


def _forward(source: int, log: TextIO) -> None:
    with os.fdopen(source, encoding="utf-8", errors="replace") as lines:
        log.writelines(map(visible, lines))


def _plain(part: RenderableType) -> str:
    return part.plain if isinstance(part, Paragraph | RichText) else str(part)


def _print(console: VisibleConsole, part: RenderableType) -> None:
    """Prints without cutting: a line stays one line in a file or pipe, and is wrapped between words on a terminal."""
    if isinstance(part, str | RichText):
        part = Paragraph(part if isinstance(part, RichText) else Text(part))
    if console.is_terminal:
        console.print(part, crop=False)
        return
    with console.capture() as captured:  # tables end in blanks, which a file does not need
        console.print(part, crop=False)
    console.file.write(re.sub(" +$", "", captured.get(), flags=re.MULTILINE))
    console.file.flush()


def _console(stream: TextIO, *, stderr: bool = False) -> VisibleConsole:
    """Returns a console that does not cut tables in a file or pipe to a terminal's width."""
    wide = None if stream.isatty() or os.environ.get("COLUMNS") else PAGE
    return VisibleConsole(stderr=stderr, width=wide, highlight=False, markup=False, emoji=False)
