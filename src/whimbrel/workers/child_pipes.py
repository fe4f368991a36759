"""What a parent reads from a child: signs of life on one pipe, and on another what user code prints, which goes to standard error."""

import os
import select
import threading
import time
from collections.abc import Callable

from whimbrel.domain.text.printable import visible
from whimbrel.logs import json_line, json_requested
from whimbrel.masking import masked
from whimbrel.workers.child_output import BEGIN, LINE, TEXT

LOADED, ALIVE = "loaded", "."  # words of a child
# They stand before the reason why a child ends, and before the token of a batch that it begins or ends.
REASON, BEGINS, ENDS = "!", "+", "-"
READ = 65_536  # bytes
LONGEST = 4096  # bytes of a written line: a pipe takes so many whole, or not at all
# Bytes that a process may print at once, and in a second; what exceeds that is only counted.
BURST, RATE = 1_000_000, 100_000.0
PRINTED = "printed"  # the logger name of what user code prints
LONGEST_NAME = 200  # characters of the batches' names where a line would be too long
WRITE_SECONDS = 0.5  # that standard error may need to accept a line
CLOSED_SECONDS = 5.0  # in which nothing is written there, after it did not accept a line
POLL_SECONDS = 0.1


class StandardError:
    """Standard error, or its substitute. It is never waited for: what it does not accept is counted."""

    def __init__(self, number: int) -> None:
        self._number, self._closed_until, self._lock = number, 0.0, threading.Lock()

    def say(self, line: str) -> bool:
        """Writes a line. Returns False where it was not accepted."""
        data = line.encode("utf-8", "backslashreplace")[: LONGEST - 1] + b"\n"
        with self._lock:
            if time.monotonic() < self._closed_until:
                return False
            try:
                if select.select([], [self._number], [], WRITE_SECONDS)[1]:
                    os.write(self._number, data)
                    return True
            except (OSError, ValueError):
                pass
            self._closed_until = time.monotonic() + CLOSED_SECONDS
            return False


class ChildListener:
    """A thread that listens to one child. `words` receives what the child itself says, line by line."""

    def __init__(
        self, name: str, printed: int, spoken: int | None, sink: StandardError, words: Callable[[str], None]
    ) -> None:
        self._name, self._printed, self._spoken = name, printed, spoken
        self._sink, self._words = sink, words
        self._in_hand: dict[str, None] = {}
        self._latest = ""  # the current batches, or the last ones
        self._unfinished = {number: b"" for number in (printed, spoken) if number is not None}
        self._allowance, self._filled = float(BURST), time.monotonic()
        self._lost, self._reported = 0, time.monotonic()
        self._ended = threading.Event()
        for number in self._unfinished:
            os.set_blocking(number, False)
        self._thread = threading.Thread(target=self._listen, name="ear", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Reads what is left after the child has ended. Other processes that may still hold the pipes are not waited for."""
        self._ended.set()
        self._thread.join(5)

    def _listen(self) -> None:
        numbers = list(self._unfinished)
        while numbers:
            ended = self._ended.is_set()
            ready = select.select(numbers, [], [], 0 if ended else POLL_SECONDS)[0]
            for number in sorted(ready, key=lambda ready_number: ready_number != self._spoken):
                data = self._read(number)
                if data is None:
                    numbers.remove(number)
                elif number == self._spoken:
                    self._read_words(data)
                else:
                    self._print(data)
            if not ready:
                self._report_lost()
                if ended:
                    break
        if self._unfinished[self._printed]:
            self._print(b"\n")
        self._report_lost()

    def _read(self, number: int) -> bytes | None:
        """Returns what there is to read; None at the end."""
        try:
            return os.read(number, READ) or None
        except BlockingIOError:
            return b""
        except OSError:
            return None

    def _read_words(self, data: bytes) -> None:
        *lines, self._unfinished[self._spoken or 0] = (self._unfinished[self._spoken or 0] + data).split(
            b"\n"
        )
        for line in lines:
            word = line.decode()
            if word[:1] == BEGINS:
                self._in_hand[word[1:]] = None
            elif word[:1] == ENDS:
                self._in_hand.pop(word[1:], None)
            self._latest = ", ".join(self._in_hand) or self._latest
            self._words(word)

    def _print(self, data: bytes) -> None:
        now = time.monotonic()
        self._allowance = min(float(BURST), self._allowance + (now - self._filled) * RATE)
        self._filled = now
        *lines, unfinished = (self._unfinished[self._printed] + data).split(b"\n")
        self._unfinished[self._printed] = unfinished[:LINE]
        for position, line in enumerate(lines):
            if self._allowance <= 0:
                self._lost += len(lines) - position
                break
            self._allowance -= len(line) + 1
            self._lost += not self._sink.say(self._format(line))
        if self._lost and now - self._reported > 1:
            self._report_lost()

    def _format(self, line: bytes) -> str:
        who, text = self._latest, line
        if line[:1] == BEGIN and TEXT in line:
            name, _, text = line[1:].partition(TEXT)
            who = name.decode("utf-8", "replace")
        printed = masked(text.decode("utf-8", "backslashreplace").rstrip("\r"))
        return self._line(visible(printed), batches=visible(who))

    def _line(self, text: str, *, batches: str = "", level: str = "info") -> str:
        """Formats a line: for people with who printed it in front, else as JSON, which must not be cut."""
        if not json_requested():
            return f"[{batches or self._name}] {text}"
        while True:
            facts = {"logger": PRINTED, "process": self._name, "batches": batches}
            line = json_line(text, level=level, **facts)
            if len(line.encode("utf-8", "backslashreplace")) < LONGEST:
                return line
            text, batches = text[: len(text) * 3 // 4], batches[:LONGEST_NAME]

    def _report_lost(self) -> None:
        report = f"{self._lost:,} more lines were printed and are left out."
        if self._lost and self._sink.say(self._line(report, level="warning")):
            self._lost = 0
        self._reported = time.monotonic()
