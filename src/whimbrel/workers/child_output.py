"""A child's standard streams: what user code prints goes to the parent line by line, each with the batch that printed it.

Nothing of Whimbrel's own goes through these streams: user code may close, replace and flood them.
"""

import atexit
import contextlib
import io
import os
import select
import sys
import threading
from collections.abc import Callable
from typing import Any, NoReturn

LINE = 3000  # bytes of a line that are kept
PIECE = 65_536  # bytes that are split into lines at once
BEGIN, TEXT = b"\x1e", b"\x1f"  # before and after the name of what printed a line


class OutputCapture(io.RawIOBase):
    """A standard stream. Lines of several threads and tasks do not mix. Writing never fails, even if nobody reads.

    `who` names what is printing: the batch that this thread or task works on.
    """

    def __init__(self, number: int, pipe: int, who: Callable[[], str]) -> None:
        super().__init__()
        self._number, self._pipe, self._who = number, pipe, who
        self._begun: dict[tuple[int, str], bytearray] = {}  # lines without an end yet

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        """Returns the number, for users to whom nothing else counts: subprocesses, faulthandler."""
        return self._number

    def write(self, data: "bytes | bytearray | memoryview", /) -> int:  # type: ignore[override]
        with memoryview(data).cast("B") as view:
            size, who = len(view), self._who()
            key = threading.get_ident(), who
            for start in range(0, size, PIECE):
                self._append(key, bytes(view[start : start + PIECE]))
        return size

    def _append(self, key: tuple[int, str], data: bytes) -> None:
        *lines, unfinished = data.split(b"\n")
        begun = self._begun.pop(key, None)
        if lines:
            if begun:
                lines[0] = bytes(begun) + lines[0]
            begun = None
            head = BEGIN + key[1].encode() + TEXT if key[1] else b""
            self._send(b"".join(head + line[:LINE] + b"\n" for line in lines))
        if unfinished:
            begun = bytearray() if begun is None else begun
            begun += unfinished[: max(0, LINE - len(begun))]
            self._begun[key] = begun

    def end(self, who: str) -> None:
        """Sends what has no line end yet."""
        for key in list(self._begun):
            if key[1] == who:
                self._append(key, b"\n")

    def _send(self, data: bytes) -> None:
        with contextlib.suppress(OSError):  # the parent is gone: the end of standard input tells that too
            while data:
                data = data[os.write(self._pipe, data) :]


def capture_streams(who: Callable[[], str]) -> tuple[int, Callable[[str], None]]:
    """Replaces this process's streams by captured ones. Returns the number of the former standard input, and what to call when `who` has ended.

    At this point standard output and error are one pipe to the parent.
    """
    former_input, pipe = os.dup(0), os.dup(1)
    nothing = os.open(os.devnull, os.O_RDWR)
    os.dup2(nothing, 0)
    os.close(nothing)
    streams = [OutputCapture(number, pipe, who) for number in (1, 2)]
    sys.stdout = sys.__stdout__ = _text_stream(streams[0])  # type: ignore[misc]
    sys.stderr = sys.__stderr__ = _text_stream(streams[1])  # type: ignore[misc]
    threading.Thread(target=_detach_when_unread, args=(pipe,), name="printing", daemon=True).start()

    def end(name: str) -> None:
        for stream in streams:
            stream.end(name)

    return former_input, end


def _text_stream(stream: Any) -> Any:
    return io.TextIOWrapper(stream, encoding="utf-8", errors="backslashreplace", write_through=True)


def _detach_when_unread(pipe: int) -> None:
    """Redirects the numbers 1 and 2 once nobody reads them: writing to them must not fail because the parent has died."""
    poll = select.poll()
    poll.register(pipe, 0)
    poll.poll()
    nothing = os.open(os.devnull, os.O_WRONLY)
    for number in (1, 2):
        os.dup2(nothing, number)


_CODE: list[int] = []  # the exit code of this process, once it ends


def end_before_the_driver() -> None:
    """Ends the process before the driver's exit handler, which waits for its threads up to half a second. Call it after importing the driver, and before user code.

    Exit handlers run in reverse order, so those of user code run before the process ends here.
    """
    atexit.register(lambda: os._exit(_CODE[0]) if _CODE else None)


def end_soon(code: int, seconds: float = 2.0) -> NoReturn:
    """Ends this process, at the latest after so many seconds: threads and exit handlers of user code may wait for ever.

    Where `end_before_the_driver` was called first, exit handlers that were registered before it do not run.
    """
    _CODE[:] = [code]

    def exit_now() -> None:
        threading.Event().wait(seconds)
        os._exit(code)

    threading.Thread(target=exit_now, name="ending", daemon=True).start()
    sys.exit(code)
