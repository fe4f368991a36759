"""Programs on a terminal of their own: a pseudo-terminal with a size, keys, and what is to be seen on it."""

import fcntl
import os
import pty
import re
import struct
import subprocess
import termios
import threading
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

from tests.waiting import until

_SEQUENCE = re.compile(r"\x1b\[([?0-9;]*)([A-Za-z])")


class Picture:
    """What a terminal shows of what was written to it. A control character or sequence that it does not know fails the test."""

    def __init__(self) -> None:
        self.full = False  # whether the other screen is shown, which is left as it was found
        self.cursor = self.wraps = True
        self.before = ""  # written to the first screen
        self.rows: dict[int, str] = {}
        self.colours: set[str] = set()
        self.frames = 0  # that were written whole
        self._rest, self._row = "", 1

    def feed(self, text: str) -> None:
        text, self._rest = self._rest + text, ""
        while text:
            start = text.find("\x1b")
            plain = text if start < 0 else text[:start]
            self._write(plain)
            text = text[len(plain) :]
            if text:
                found = _SEQUENCE.match(text)
                if found is None:
                    assert len(text) < 20, f"no sequence: {text[:40]!r}"
                    self._rest, text = text, ""
                    return
                self._obey(found[1], found[2])
                text = text[found.end() :]

    def _write(self, plain: str) -> None:
        if not self.full:
            self.before += plain
        if not self.full or not plain:
            return
        assert plain.isprintable(), repr(plain)
        self.rows[self._row] = self.rows.get(self._row, "") + plain

    def _obey(self, numbers: str, what: str) -> None:
        modes = {"?25": "cursor", "?7": "wraps"}
        if numbers == "?1049":
            self.full = what == "h"
        elif numbers in modes:
            setattr(self, modes[numbers], what == "h")
        elif what == "m":
            self.colours |= {
                number for number in numbers.split(";") if number not in ("", "0", "1", "2", "4", "5", "7")
            }
        elif what == "J":
            self.rows, self.frames = {}, self.frames + 1
        elif what == "K":
            self.rows[self._row] = ""
        elif what == "H":
            row, _, column = numbers.partition(";")
            assert column == "1"
            self._row = int(row)
        else:
            raise AssertionError((numbers, what))

    @property
    def text(self) -> str:
        return "\n".join(
            self.rows.get(number, "").rstrip() for number in range(1, max(self.rows, default=0) + 1)
        )

    @property
    def width(self) -> int:
        """The columns of the widest row."""
        return max((sum(_columns(each) for each in row) for row in self.rows.values()), default=0)


def _columns(character: str) -> int:
    if unicodedata.combining(character):
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1


class Terminal:
    """A program on a terminal that is its own: Ctrl-C and Ctrl-Z are signals, and a new size is told."""

    def __init__(
        self,
        command: Sequence[str],
        environment: Mapping[str, str],
        cwd: Path,
        columns: int = 80,
        lines: int = 24,
    ) -> None:
        self._here, self.there = pty.openpty()
        self.picture = Picture()
        self.raw = b""
        self.resize(columns, lines)
        self.modes_before = self.modes()
        self.process = subprocess.Popen(
            # What the tests were started in may ignore signals, as a shell does for its background.
            ["setsid", "--ctty", "env", "--default-signal", *command],
            env=dict(environment),
            cwd=cwd,
            stdin=self.there,
            stdout=self.there,
            stderr=self.there,
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._broken: BaseException | None = None
        self._reader.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        os.close(self.there)
        self._reader.join(10)
        os.close(self._here)

    def modes(self) -> list[Any]:
        return termios.tcgetattr(self.there)

    def resize(self, columns: int, lines: int) -> None:
        fcntl.ioctl(self._here, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))

    def type(self, keys: str) -> None:
        os.write(self._here, keys.encode())

    def until(self, condition: Callable[[Picture], Any]) -> str:
        """Waits until a condition is true of what is to be seen. Returns that."""

        def found() -> bool:
            if self._broken is not None:
                raise self._broken
            return bool(condition(self.picture))

        try:
            until(found, 60)
        except AssertionError as error:
            raise AssertionError(f"in vain: {self.picture.before}\n{self.picture.text}") from error
        return self.picture.text

    def shows(self, *texts: str, without: Sequence[str] = ()) -> str:
        return self.until(
            lambda picture: (
                all(text in picture.text for text in texts)
                and not any(text in picture.text for text in without)
            )
        )

    def end(self) -> int:
        """Waits for the end of the program. Returns its exit code."""
        return self.process.wait(60)

    def as_it_was(self) -> bool:
        """Whether the terminal is as it was before the program."""
        self.until(lambda picture: not picture.full and picture.cursor and picture.wraps)
        return self.modes() == self.modes_before

    def _read(self) -> None:
        try:
            while piece := os.read(self._here, 65536):
                self.raw += piece
                self.picture.feed(piece.decode(errors="surrogateescape"))
        except OSError:
            pass  # the other end is closed
        except BaseException as error:  # noqa: BLE001  raised in the test
            self._broken = error
