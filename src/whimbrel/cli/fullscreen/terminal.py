"""A terminal that shows one full screen: its modes, its keys, and the signals that concern it.

The modes are put back whatever happens: at the end, by an exception, by a signal, and while the process is stopped (Ctrl-Z).
"""

import contextlib
import os
import select
import signal
import sys
import termios
import threading
from collections.abc import Iterator, Sequence
from types import FrameType
from typing import Any, Self

from rich.text import Text as RichText

from whimbrel.cli.fullscreen.frames import Frames, Size
from whimbrel.cli.fullscreen.keys import KeyReader
from whimbrel.cli.output.screen import Screen

# Another screen than the one with the history; no cursor; lines that a terminal measures otherwise than we do wrap into no other line.
ENTER, LEAVE = "\x1b[?1049h\x1b[?25l\x1b[?7l\x1b[2J", "\x1b[0m\x1b[?7h\x1b[?25h\x1b[?1049l"
STOPS = (
    signal.SIGTSTP,
    signal.SIGQUIT,
)  # what stops or ends the process by itself: the screen is left before
AGAIN = (signal.SIGCONT,)  # the terminal may have been used by others
SIZE = (signal.SIGWINCH,)
HELD_BACK = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, *STOPS)  # while modes change
ALONE = 0.05  # seconds after which nothing follows an Escape
STANDARD = Size(80, 24)


def can_show(screen: Screen) -> bool:
    """Whether there is a terminal on which a full screen can be shown, and from which keys come."""
    return sys.stdin.isatty() and sys.stdout.isatty() and not screen.out.is_dumb_terminal


class Terminal:
    """The terminal, while it is entered. All but `wake` and `leave` is for the main thread, which Python's signal handlers run in."""

    def __init__(self, screen: Screen) -> None:
        self._in, self._out = sys.stdin.fileno(), sys.stdout.fileno()
        self._frames = Frames(screen.out, self._write)
        self._reader = KeyReader()
        self._modes: list[Any] | None = None
        self._handlers: dict[signal.Signals, Any] = {}
        self._stop: signal.Signals | None = None
        self._shown = False
        self._waking = threading.Lock()
        self._waker: int | None = None

    def __enter__(self) -> Self:
        self._modes = termios.tcgetattr(self._in)
        self._awake, self._waker = os.pipe()
        for number in (self._awake, self._waker):
            os.set_blocking(number, False)
        self._waker_before = signal.set_wakeup_fd(self._waker, warn_on_full_buffer=False)
        for names, handler in ((STOPS, self._to_stop), (AGAIN, self._went_on), (SIZE, _resized)):
            for name in names:
                if signal.getsignal(name) is signal.SIG_IGN:  # whoever has started us wants that
                    continue
                self._handlers[name] = signal.signal(name, handler)
        try:
            self.enter()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.leave()
        for name, handler in self._handlers.items():
            signal.signal(name, handler)
        signal.set_wakeup_fd(self._waker_before)
        with self._waking:  # another thread would write to whatever has the number next
            waker, self._waker = self._waker, None
        for end in (self._awake, waker):
            if end is not None:
                os.close(end)

    @property
    def size(self) -> Size:
        with contextlib.suppress(OSError):
            columns, lines = os.get_terminal_size(self._out)
            if columns and lines:
                return Size(columns, lines)
        return STANDARD

    def draw(self, lines: Sequence[RichText]) -> None:
        """Shows these lines, from the first one on."""
        self._frames.draw(lines, self.size)

    def redraw(self) -> None:
        """Has the next frame written whole: something else may have written to the terminal."""
        self._frames.forget()

    def wake(self) -> None:
        """Ends a `keys` that waits, from any thread."""
        with self._waking, contextlib.suppress(OSError):  # it is awake
            if self._waker is not None:
                os.write(self._waker, b"\0")

    def keys(self, seconds: float) -> list[str]:
        """Waits for keys, a signal, or `wake`, at most so long. Returns the keys. Raises EOFError where the terminal is gone."""
        ready, _, _ = select.select(
            [self._in, self._awake], [], [], ALONE if self._reader.unfinished else seconds
        )
        if self._awake in ready:
            with contextlib.suppress(OSError):
                os.read(self._awake, 4096)
        self._obey()
        if self._in not in ready:
            return self._reader.finish()
        try:
            sent = os.read(self._in, 1024)
        except OSError as error:
            raise EOFError from error
        if not sent:
            raise EOFError
        return self._reader.feed(sent)

    def enter(self) -> None:
        """Takes the terminal."""
        with _signals_held_back():
            modes = termios.tcgetattr(self._in)
            modes[0] &= ~termios.IXON  # Ctrl-S is a key, and stops nothing
            modes[3] &= ~(
                termios.ICANON | termios.ECHO | termios.IEXTEN
            )  # ISIG stays: Ctrl-C and Ctrl-Z are signals
            modes[6][termios.VMIN], modes[6][termios.VTIME] = 1, 0
            self._shown = True
            termios.tcsetattr(self._in, termios.TCSANOW, modes)
            self._write(ENTER)
            self._frames.forget()

    def leave(self) -> None:
        """Gives the terminal back as it was. Does nothing where it was."""
        with _signals_held_back():
            if not self._shown:
                return
            self._shown = False
            with contextlib.suppress(OSError):  # the terminal may be gone
                self._write(LEAVE)
            with contextlib.suppress(OSError, termios.error):
                termios.tcsetattr(self._in, termios.TCSANOW, self._modes or [])

    def _obey(self) -> None:
        """Stops or ends the process, as a signal says, with the terminal as it was; then takes it again."""
        if self._stop is None:
            return
        number, self._stop = self._stop, None
        self.leave()
        signal.signal(number, signal.SIG_DFL)
        signal.raise_signal(number)  # comes back when the process goes on
        signal.signal(number, self._to_stop)
        self.enter()

    def _to_stop(self, number: int, _: FrameType | None) -> None:
        self._stop = signal.Signals(number)

    def _went_on(self, _number: int, _frame: FrameType | None) -> None:
        if self._shown:
            with contextlib.suppress(OSError, termios.error):
                self.enter()

    def _write(self, text: str) -> None:
        left = text.encode(sys.stdout.encoding or "utf-8", "replace")
        while left:
            left = left[os.write(self._out, left) :]


def _resized(_number: int, _frame: FrameType | None) -> None:
    """The signal wakes whoever waits for keys, and the next frame has the new size."""


@contextlib.contextmanager
def _signals_held_back() -> Iterator[None]:
    before = signal.pthread_sigmask(signal.SIG_BLOCK, HELD_BACK)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
