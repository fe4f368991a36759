"""What a parent hears of a child: signs of life on one pipe, and on another what user code prints, which goes to standard error."""

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
REASON, BEGINS, ENDS = (
    "!",
    "+",
    "-",
)  # go before why it ends, and before the token of a batch that it begins or ends
READ = 65_536  # bytes
LONGEST = 4096  # bytes of a line that is written: so many a pipe takes whole, or not at all
BURST, RATE = (
    1_000_000,
    100_000.0,
)  # bytes that a process may print at once, and in a second; what is more is counted
PRINTED = "printed"  # the name under which logs have what user code prints
LONGEST_NAME = 200  # characters of the batches' names where a line would be too long
STUCK = 0.5  # seconds that standard error may take to take a line
DEAF = 5.0  # seconds in which nothing is written there, after that
LOOK = 0.1


class StandardError:
    """Standard error, or what stands for it. It is never waited for: what it does not take is counted."""

    def __init__(self, number: int) -> None:
        self._number, self._deaf_until, self._lock = number, 0.0, threading.Lock()

    def say(self, line: str) -> bool:
        """Write a line; False where it was not taken."""
        data = line.encode("utf-8", "backslashreplace")[: LONGEST - 1] + b"\n"
        with self._lock:
            if time.monotonic() < self._deaf_until:
                return False
            try:
                if select.select([], [self._number], [], STUCK)[1]:
                    os.write(self._number, data)
                    return True
            except (OSError, ValueError):
                pass
            self._deaf_until = time.monotonic() + DEAF
            return False


class ChildListener:
    """A thread that listens to one child. `words` gets what the child itself says, line by line."""

    def __init__(
        self, name: str, printed: int, said: int | None, sink: StandardError, words: Callable[[str], None]
    ) -> None:
        self._name, self._printed, self._said = name, printed, said
        self._sink, self._words = sink, words
        self._in_hand: dict[str, None] = {}
        self._latest = ""  # the batches in hand, or those that were last
        self._rest = {number: b"" for number in (printed, said) if number is not None}
        self._left, self._filled = float(BURST), time.monotonic()
        self._lost, self._told = 0, time.monotonic()
        self._over = threading.Event()
        for number in self._rest:
            os.set_blocking(number, False)
        self._thread = threading.Thread(target=self._listen, name="ear", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """The child has ended: take what is left. Whoever else may still hold the pipes is not waited for."""
        self._over.set()
        self._thread.join(5)

    def _listen(self) -> None:
        numbers = list(self._rest)
        while numbers:
            over = self._over.is_set()
            ready = select.select(numbers, [], [], 0 if over else LOOK)[0]
            for number in sorted(ready, key=lambda each: each != self._said):
                data = self._read(number)
                if data is None:
                    numbers.remove(number)
                elif number == self._said:
                    self._hear(data)
                else:
                    self._take(data)
            if not ready:
                self._tell_lost()
                if over:
                    break
        if self._rest[self._printed]:
            self._take(b"\n")
        self._tell_lost()

    def _read(self, number: int) -> bytes | None:
        """None at the end."""
        try:
            return os.read(number, READ) or None
        except BlockingIOError:
            return b""
        except OSError:
            return None

    def _hear(self, data: bytes) -> None:
        *lines, self._rest[self._said or 0] = (self._rest[self._said or 0] + data).split(b"\n")
        for line in lines:
            word = line.decode()
            if word[:1] == BEGINS:
                self._in_hand[word[1:]] = None
            elif word[:1] == ENDS:
                self._in_hand.pop(word[1:], None)
            self._latest = ", ".join(self._in_hand) or self._latest
            self._words(word)

    def _take(self, data: bytes) -> None:
        now = time.monotonic()
        self._left = min(float(BURST), self._left + (now - self._filled) * RATE)
        self._filled = now
        *lines, rest = (self._rest[self._printed] + data).split(b"\n")
        self._rest[self._printed] = rest[:LINE]
        for at, line in enumerate(lines):
            if self._left <= 0:
                self._lost += len(lines) - at
                break
            self._left -= len(line) + 1
            self._lost += not self._sink.say(self._shown(line))
        if self._lost and now - self._told > 1:
            self._tell_lost()

    def _shown(self, line: bytes) -> str:
        who, text = self._latest, line
        if line[:1] == BEGIN and TEXT in line:
            named, _, text = line[1:].partition(TEXT)
            who = named.decode("utf-8", "replace")
        told = masked(text.decode("utf-8", "backslashreplace").rstrip("\r"))
        return self._line(visible(told), batches=visible(who))

    def _line(self, text: str, *, batches: str = "", level: str = "info") -> str:
        """As it is written: for people with who said it before it, else as JSON, which must not be cut."""
        if not json_requested():
            return f"[{batches or self._name}] {text}"
        while True:
            facts = {"logger": PRINTED, "process": self._name, "batches": batches}
            line = json_line(text, level=level, **facts)
            if len(line.encode("utf-8", "backslashreplace")) < LONGEST:
                return line
            text, batches = text[: len(text) * 3 // 4], batches[:LONGEST_NAME]

    def _tell_lost(self) -> None:
        said = f"{self._lost:,} more lines were printed and are left out."
        if self._lost and self._sink.say(self._line(said, level="warning")):
            self._lost = 0
        self._told = time.monotonic()
