"""Shows `top` on a terminal until a person ends it: draws what was last seen, and obeys keys and signals."""

import contextlib
import io
import signal
import sys
from collections.abc import Iterator

from whimbrel.cli.foreground.interrupts import Interrupts
from whimbrel.cli.fullscreen.terminal import Terminal
from whimbrel.cli.output.ledger_observer import LedgerObserver
from whimbrel.cli.output.screen import Screen
from whimbrel.cli.top.frame import HIGH, Drawer
from whimbrel.cli.top.requests import Requests
from whimbrel.cli.top.snapshot import Looker, Snapshot
from whimbrel.cli.top.view import Screens, View
from whimbrel.ports import Ledger

EVERY = 0.5  # seconds between two frames, where nothing else makes one
LOOKS = 0.45  # seconds between two looks
KEPT = 64 * 1024  # characters of what is logged meanwhile


def show(
    ledger: Ledger, screen: Screen, interrupts: Interrupts, where: str, *, run_id: str | None, order: str
) -> int:
    """Returns the exit code: 0, or that of the signal that has ended it."""
    terminal = Terminal(screen)
    requests = Requests(ledger, terminal.wake)
    view = View(requests, where, order=order)
    if run_id is not None:
        view.screen, view.selected = Screens.RUN, run_id
    looker = Looker(ledger, view.wanted, run_id)
    observer = LedgerObserver(
        looker.look, LOOKS, terminal.wake
    )  # looks once: what is wrong is told before the screen changes
    interrupts.before_exit = terminal.leave
    screen.place = ""  # the view says it
    with _kept_apart() as said, terminal, observer:
        interrupts.arm()
        drawer = Drawer(screen.out, where)
        while not interrupts.count and not view.over:
            observer.check(patience=float("inf"))
            terminal.draw(drawer.draw(view, observer.latest, observer.silent, terminal.size))
            _look_at(view, looker, observer, terminal)
            try:
                keys = terminal.keys(EVERY)
            except EOFError:
                break
            for key in keys:
                terminal.redraw() if key == "redraw" else view.press(key, observer.latest)
    requests.wait()
    sys.stderr.write(said.getvalue()[-KEPT:])
    for answer in requests.answers:
        screen.say(answer)
    last = interrupts.last
    return 0 if last in (None, signal.SIGINT) else 128 + int(last or 0)


def _look_at(view: View, looker: Looker, observer: LedgerObserver[Snapshot], terminal: Terminal) -> None:
    """Has the observer look at what the view shows, at once where that is something else than before."""
    detailed = view.screen is Screens.RUN or terminal.size.lines > HIGH
    if view.selected is None and view.screen is Screens.RUNS:
        runs = view.runs(observer.latest)
        view.selected = runs[0].run.id if runs else None
    wanted = (view.wanted, view.selected if detailed else None)
    if wanted != (looker.wanted, looker.detail_of):
        looker.wanted, looker.detail_of = wanted
        observer.hurry()


@contextlib.contextmanager
def _kept_apart() -> Iterator[io.StringIO]:
    """Keeps what is written to standard error until the screen is left: it would stand in the middle of it."""
    with contextlib.redirect_stderr(io.StringIO()) as kept:
        yield kept
