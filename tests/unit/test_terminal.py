"""Nothing that others say acts on a terminal: it is made visible, whatever door it comes out of."""

import io
import json
import sys
import threading
import unicodedata
from collections.abc import Callable

import pytest
import structlog
from hypothesis import example, given, settings
from hypothesis import strategies as st
from rich.file_proxy import FileProxy
from rich.table import Table
from rich.text import Text as RichText

from whimbrel.cli.output.fact_tables import Facts, FactTable
from whimbrel.cli.output.progress_bar import Moment, progress
from whimbrel.cli.output.screen import Screen
from whimbrel.cli.output.terminal_text import Paragraph, Text, VisibleConsole
from whimbrel.cli.standard_streams import open_streams
from whimbrel.domain.text.printable import counted, visible
from whimbrel.logs import configure_logs

CLEAR, LINK = "\x1b[2J", "\x1b]8;;http://evil\x1b\\here\x07"
BIDI = "".join(map(chr, (*range(0x202A, 0x202F), *range(0x2066, 0x206A), 0x200E, 0x200F, 0x61C)))
UNSEEN = "\u200b\u200c\u200d\u2060\ufeff\u00ad\u034f\u3164\ufe0f\U000e0041\u2028\u2029\u0085"
CONTROLS = "".join(map(chr, (*range(0x20), *range(0x7F, 0xA0))))
HOSTILE = CLEAR + LINK + BIDI + UNSEEN + CONTROLS + "\ud800\udfff"
KEPT = "\n\t"
hostile = st.text(
    st.one_of(st.sampled_from(HOSTILE), st.sampled_from("ab :1/[]"), st.characters()), max_size=40
)
# Sequences of our own: cursor up, erase line, hide and show the cursor, begin of the line.
OURS = ("\x1b[1A", "\x1b[2K", "\x1b[?25l", "\x1b[?25h", "\r")


def acts(text: str) -> set[str]:
    """Characters that a terminal does not simply show; by Unicode's own categories."""
    return {
        each for each in text
        if each not in KEPT and unicodedata.category(each) in {"Cc", "Cf", "Cs", "Zl", "Zp"}
    }  # fmt: skip


def shows(text: str, hostile_text: str) -> bool:
    """Whether each character that would act can be read as an escape."""
    return all(("\\r" if each == "\r" else f"{ord(each):x}") in text for each in acts(hostile_text))


def terminal(width: int = 80) -> tuple[VisibleConsole, io.StringIO]:
    written = io.StringIO()
    return VisibleConsole(file=written, force_terminal=True, color_system=None, width=width), written


@given(hostile)
@example(HOSTILE)
def test_text_is_made_visible(text: str) -> None:
    shown = visible(text)
    assert not acts(shown)
    assert shows(shown, text)
    assert visible(shown) == shown
    assert not acts(visible(text, ""))
    assert "\n" not in visible(text, "")
    shown.encode()


@pytest.mark.parametrize("text", ["naïve Ünïcode 東京 🙂 é", "a\n\tb", "C:\\temp", ""])
def test_ordinary_text_stays(text: str) -> None:
    assert visible(text) == text


def _rich_table(text: str) -> Table:
    table = Table(title=text)
    table.add_column(text)
    table.add_row(text)
    return table


def _listing(text: str) -> FactTable:
    table = FactTable(("name", text), text)
    table.add(text, text)
    return table


def _facts(text: str) -> Facts:
    facts = Facts(text)
    facts.add("name", text)
    return facts


DOORS: dict[str, Callable[[str], object]] = {
    "text": lambda text: text,
    "styled": lambda text: Text.assemble((text, "bold"), text),
    "of Rich": RichText,  # made by somebody who did not know
    "table of Rich": _rich_table,
    "paragraph": lambda text: Paragraph(Text(text), indent=2),
    "listing": _listing,
    "facts": _facts,
}


@pytest.mark.parametrize("door", list(DOORS))
@settings(max_examples=20)
@given(hostile)
@example(HOSTILE)
def test_a_console_carries_nothing_out(door: str, text: str) -> None:
    console, written = terminal()
    console.print(DOORS[door](text), crop=False)
    assert not acts(written.getvalue())
    if not door.endswith("of Rich"):
        assert shows("".join(written.getvalue().split()), text)


@pytest.mark.parametrize(
    "text",
    [
        "host:1234:x",
        ":warning: :smile:",
        "[bold]a[/bold]",
        "[/]",
        "[link=http://evil]x[/link]",
        "http://a 12 'q' True",
    ],
)
def test_codes_of_emoji_and_markup_are_text(text: str) -> None:
    for door in DOORS.values():
        console, written = terminal(400)
        console.print(door(text), crop=False)
        assert text in written.getvalue()
    console, written = terminal()
    console.print(text)
    assert written.getvalue() == f"{text}\n"


def test_every_way_out_of_a_command(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO(f"{HOSTILE}\n"))
    screen = Screen()
    screen.show(HOSTILE, Text(HOSTILE), _listing(HOSTILE))
    screen.tell(HOSTILE)
    screen.say(HOSTILE)
    screen.note(HOSTILE)
    screen.error(HOSTILE)
    assert not screen.ask(HOSTILE)
    with progress(screen) as shown:
        shown.show(
            Moment(title=HOSTILE, done=1, total=2, percent=50, status=HOSTILE, facts=HOSTILE, note=HOSTILE)
        )
    captured = capsys.readouterr()
    assert not acts(captured.out + captured.err)
    assert captured.err.count("\\x1b[2J") == 9
    Screen(json=True).answer({HOSTILE: [HOSTILE]})
    told = capsys.readouterr().out
    assert not acts(told)
    sane = HOSTILE.encode("utf-16", "surrogatepass").decode("utf-16", "surrogatepass")
    assert json.loads(told) == {sane: [sane]}


def test_the_progress_of_a_run_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    console, written = terminal(60)
    screen = Screen()
    screen.live, screen.err = True, console
    with progress(screen) as shown:
        shown.show(
            Moment(
                title=HOSTILE * 2, done=1, total=2, percent=50, status=HOSTILE, facts=HOSTILE, note=HOSTILE
            )
        )
        log = FileProxy(console, io.StringIO())  # what logs above the bar go through
        configure_logs("console", "info", log)  # type: ignore[arg-type]
        try:
            structlog.get_logger().warning(HOSTILE, reason=HOSTILE)
        finally:
            structlog.reset_defaults()
    text = written.getvalue()
    for each in OURS:
        text = text.replace(each, "")
    assert not acts(text)
    assert "".join(text.split()).count("\\x1b[2J") >= 7


@pytest.mark.parametrize("style", ["json", "console"])
def test_logs_carry_nothing_out(style: str) -> None:
    written = io.StringIO()
    configure_logs(style, "info", written)
    try:
        log = structlog.get_logger()
        log.warning(HOSTILE, reason=HOSTILE, several=[HOSTILE], error=ValueError(HOSTILE))
        try:
            int(CLEAR + LINK + BIDI)
        except ValueError:
            log.exception("broke")
    finally:
        structlog.reset_defaults()
    assert not acts(written.getvalue())
    first, *_ = written.getvalue().splitlines()
    assert shows(first, HOSTILE)
    if style == "json":
        assert json.loads(first)["reason"] == visible(HOSTILE, "")


def test_a_traceback_that_nobody_expected(monkeypatch: pytest.MonkeyPatch) -> None:
    for module, name in (
        (sys, "stdin"),
        (sys, "stdout"),
        (sys, "stderr"),
        (sys, "excepthook"),
        (threading, "excepthook"),
    ):
        monkeypatch.setattr(module, name, getattr(module, name))
    open_streams()
    written = io.StringIO()
    monkeypatch.setattr(sys, "stderr", written)
    error = ValueError(f"{HOSTILE} mongodb://john@corp.com:S3cret@host/")
    sys.excepthook(ValueError, error, None)
    thread = threading.Thread(target=lambda: (_ for _ in ()).throw(error))
    thread.start()
    thread.join()
    assert written.getvalue().count("ValueError") == 2
    assert not acts(written.getvalue())
    assert "S3cret" not in written.getvalue()


@pytest.mark.parametrize(("kind", "moves"), [("xterm", True), ("dumb", False)])
def test_a_bar_moves_only_where_a_terminal_can_go_back(
    monkeypatch: pytest.MonkeyPatch, kind: str, moves: bool
) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    told = Terminal()
    monkeypatch.setenv("TERM", kind)
    monkeypatch.setattr(sys, "stdout", Terminal())
    monkeypatch.setattr(sys, "stderr", told)
    screen = Screen()
    assert screen.live is moves
    with progress(screen) as shown:
        shown.show(Moment(title="one", done=1, total=2, percent=50))
        said = told.getvalue()
    assert ("\x1b[" in said) is moves
    assert "1 of 2" in said


def test_one_of_something_is_said_as_one() -> None:
    assert [counted(number, "dead failure") for number in (0, 1, 2000)] == [
        "0 dead failures",
        "1 dead failure",
        "2,000 dead failures",
    ]
    assert (counted(1, "batch"), counted(2, "batch")) == ("1 batch", "2 batches")
