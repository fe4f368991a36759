"""A full screen is left as it was found, whatever ends it; its keys are read however they come; what is written can break no row."""

import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tests.terminals import Picture, Terminal
from tests.unit.test_terminal import HOSTILE, acts, hostile
from whimbrel.cli.fullscreen.frames import Frames, Size
from whimbrel.cli.fullscreen.keys import KeyReader
from whimbrel.cli.output.terminal_text import Text, VisibleConsole

PROGRAM = """
import sys
from rich.text import Text
from whimbrel.cli.foreground.interrupts import Interrupts
from whimbrel.cli.fullscreen.terminal import Terminal
from whimbrel.cli.output.screen import Screen
typed = ""
with Interrupts() as interrupts, Terminal(Screen()) as terminal:
    interrupts.arm()
    interrupts.before_exit = terminal.leave
    while not interrupts.count:
        terminal.draw([Text(f"typed {typed!r}"), Text("{} x {}".format(*terminal.size))])
        for key in terminal.keys(60):
            typed += key
            if key == "b":
                raise ZeroDivisionError("by nothing")
            if key == "h":  # it looks at no signal any more
                terminal.draw([Text("hangs")])
                while True:
                    pass
            if key == "q":
                sys.exit(7)
sys.exit(40 + interrupts.last)
"""


@pytest.fixture
def screen(tmp_path: Path) -> Iterator[Terminal]:
    environment = {"TERM": "xterm", "PATH": "/usr/bin:/bin", "PS1": "ready> "}
    (tmp_path / "program.py").write_text(PROGRAM)
    with Terminal([sys.executable, "program.py"], environment, tmp_path, 40, 10) as it:
        it.shows("typed ''", "40 x 10")
        assert it.modes() != it.modes_before
        assert not it.picture.cursor
        yield it


@pytest.mark.parametrize(
    ("typed", "code"),
    [("q", 7), ("b", 1), ("\x03", 40 + signal.SIGINT), ("\x1c", -signal.SIGQUIT)],
    ids=["end", "exception", "Ctrl-C", "Ctrl-\\"],
)
def test_the_terminal_is_as_it_was_after(screen: Terminal, typed: str, code: int) -> None:
    screen.type(typed)
    assert screen.end() == code
    assert screen.as_it_was()


def test_and_after_a_third_signal_that_ends_it_at_once(screen: Terminal) -> None:
    screen.type("h")
    screen.shows("hangs")
    for number in (
        signal.SIGINT,
        signal.SIGTERM,
        signal.SIGHUP,
    ):  # equal ones that come together would be one
        screen.process.send_signal(number)
    assert screen.end() == 130
    assert screen.as_it_was()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_and_after_a_signal(screen: Terminal, number: signal.Signals) -> None:
    screen.process.send_signal(number)
    assert screen.end() == 40 + number
    assert screen.as_it_was()


def test_a_new_size_is_seen_at_once(screen: Terminal) -> None:
    screen.resize(61, 7)
    screen.shows("61 x 7")
    assert len(screen.picture.rows) == 7


def prompted(it: Terminal, times: int) -> None:
    it.until(lambda picture: picture.before.count("ready> ") == times)


def test_it_is_stopped_and_goes_on(tmp_path: Path) -> None:
    environment = {"TERM": "xterm", "PATH": "/usr/bin:/bin", "PS1": "ready> "}
    (tmp_path / "program.py").write_text(PROGRAM)
    with Terminal(["dash", "-i"], environment, tmp_path, 40, 10) as it:
        it.until(lambda picture: picture.before.endswith("ready> "))
        it.type(f"{sys.executable} program.py\n")
        for prompts in (2, 3):
            it.shows("typed ''")
            it.type("\x1a")
            prompted(it, prompts)
            assert it.as_it_was()
            it.resize(50 + prompts, 10)
            it.type("fg\n")
            it.shows(f"{50 + prompts} x 10")
            assert it.modes() != it.modes_before
        it.type("aq")
        prompted(it, 4)
        assert it.as_it_was()
        it.type("exit\n")
        it.end()


@pytest.mark.parametrize(
    ("sent", "keys"),
    [
        (b"ab", ["a", "b"]), (b"\x1b[A\x1bOB\x1b[5~", ["up", "down", "page up"]), ("東é".encode(), ["東", "é"]),
        (b"\r\x7f\t\x0c", ["enter", "backspace", "tab", "redraw"]), (b"\x1b[200~\x1b[1;5Cq", ["q"]), (b"\x1b\x1b", ["escape"]),
        (b"\x00\x01q", ["q"]), (b"\xff\xfeq", ["\ufffd", "\ufffd", "q"]), (b"\x1bxq", ["q"]), (b"\x1b[H\x1b[4~", ["home", "end"]),
    ],
)  # fmt: skip
def test_keys_are_read_in_any_pieces(sent: bytes, keys: list[str]) -> None:
    assert KeyReader().feed(sent) == keys
    reader = KeyReader()
    assert [key for number in range(len(sent)) for key in reader.feed(sent[number : number + 1])] == keys
    assert not reader.unfinished


def test_an_escape_alone_is_a_key() -> None:
    reader = KeyReader()
    assert reader.feed(b"\x1b") == []
    assert reader.unfinished
    assert reader.finish() == ["escape"]
    assert reader.feed(b"\x1b[" + b"1" * 100) == []
    assert not reader.unfinished


@given(st.lists(hostile, max_size=5), st.integers(1, 40), st.integers(1, 6))
@example([HOSTILE, "東京" * 30, "e\u0301" * 30], 7, 3)
def test_no_text_leaves_its_row(texts: list[str], columns: int, lines: int) -> None:
    written: list[str] = []
    console = VisibleConsole(force_terminal=True, color_system="standard", width=80)
    frames = Frames(console, written.append)
    frames.draw([Text(" ".join(text.split()), "red") for text in texts], Size(columns, lines))
    picture = Picture()
    picture.full = True
    picture.feed("".join(written))
    assert set(picture.rows) == set(range(1, lines + 1))
    assert not acts(picture.text)
    assert picture.width <= columns


def test_only_what_is_new_is_written() -> None:
    written: list[str] = []
    frames = Frames(VisibleConsole(force_terminal=True, color_system=None, width=80), written.append)
    frames.draw([Text("one"), Text("two")], Size(10, 2))
    frames.draw([Text("one"), Text("two")], Size(10, 2))
    assert len(written) == 1
    frames.draw([Text("one"), Text("three")], Size(10, 2))
    assert "one" not in written[1]
    assert "three" in written[1]
    frames.forget()
    frames.draw([Text("one"), Text("three")], Size(10, 2))
    assert "one" in written[2]
