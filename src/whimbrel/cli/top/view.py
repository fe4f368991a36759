"""The state of the view, and what each key makes of it."""

from dataclasses import dataclass, field, replace
from enum import StrEnum

from whimbrel.cli.top.requests import VERBS, Question, Requests, question
from whimbrel.cli.top.run_pages import SHOWN, Place, Wanted
from whimbrel.cli.top.snapshot import Snapshot
from whimbrel.cli.top.sorting import next_order, ordered
from whimbrel.engine.operating.run_view import RunView

END = 1_000_000  # lines: more than any screen has
LONGEST = 60  # characters of the words that are looked for


class Screens(StrEnum):
    """What is shown."""

    RUNS = "runs"
    RUN = "run"
    WORKERS = "workers"
    HELP = "help"


@dataclass(slots=True)
class View:
    """What a person has chosen. `before`: where the pages before this one begin."""

    requests: Requests
    where: str
    screen: Screens = Screens.RUNS
    selected: str | None = None
    order: str = "state"
    reverse: bool = False
    wanted: Wanted = field(default_factory=Wanted)
    typing: bool = False
    question: Question | None = None
    over: bool = False
    first: int = 0  # row of the runs
    scrolled: int = 0  # lines of another screen; more than there are: its end, also when it grows
    last: int = 0  # the most that the last frame could be scrolled
    room: int = 10  # rows that the last frame had
    before: list[Place] = field(default_factory=list)
    back_to: Screens = Screens.RUNS

    def runs(self, snapshot: Snapshot) -> list[RunView]:
        return ordered(snapshot.page.views, self.order, reverse=self.reverse)

    def index(self, runs: list[RunView]) -> int:
        """Returns the row of the selected run; the first where it is gone."""
        return next((index for index, each in enumerate(runs) if each.run.id == self.selected), 0)

    def press(self, key: str, snapshot: Snapshot) -> None:
        if not self.requests.busy:
            self.requests.say("")  # it was read
        self._press(key, snapshot)

    def _press(self, key: str, snapshot: Snapshot) -> None:
        if self.question is not None:
            self._answer(self.question, key)
        elif self.typing:
            self._type(key)
        elif key in ("q", "Q"):
            self.over = True
        elif key == "?":
            self._go(Screens.HELP)
        elif key in ("w", "W"):
            self._go(Screens.WORKERS)
        elif key in VERBS:
            self._ask(key, snapshot)
        elif self.screen is Screens.RUNS:
            self._choose(key, snapshot)
        elif key in ("escape", "left", "backspace", "h"):
            self.screen, self.scrolled = self.back_to if self.screen is not Screens.RUN else Screens.RUNS, 0
            self.back_to = Screens.RUNS
        else:
            self._scroll(key)

    def _go(self, screen: Screens) -> None:
        if self.screen is screen:
            return
        self.back_to = self.screen if self.screen in (Screens.RUNS, Screens.RUN) else self.back_to
        self.screen, self.scrolled = screen, 0

    def _scroll(self, key: str) -> None:
        step = {
            "up": -1,
            "k": -1,
            "down": 1,
            "j": 1,
            "page up": -self.room,
            "page down": self.room,
            " ": self.room,
        }
        if key in step:
            self.scrolled = max(0, min(self.scrolled, self.last) + step[key])
        if key in ("home", "g"):
            self.scrolled = 0
        elif key in ("end", "G"):
            self.scrolled = END

    def _choose(self, key: str, snapshot: Snapshot) -> None:
        if key == "/":
            self.typing = True
        elif key == "escape":
            self._search("")
        elif key == "s":
            self.order = next_order(self.order)
        elif key == "S":
            self.reverse = not self.reverse
        elif key == "a":
            names = list(SHOWN)
            shown = names[(names.index(self.wanted.shown) + 1) % len(names)]
            self.wanted, self.before = replace(self.wanted, shown=shown, place=Place()), []
        elif key in ("enter", "right", "l"):
            runs = self.runs(snapshot)
            if runs:
                self.selected = runs[self.index(runs)].run.id
                self._go(Screens.RUN)
        else:
            self._move(key, snapshot)

    def _move(self, key: str, snapshot: Snapshot) -> None:
        runs = self.runs(snapshot)
        at, last, rows = self.index(runs), len(runs) - 1, max(1, self.room - 1)
        fresh = snapshot.wanted == self.wanted
        following = snapshot.page.following if fresh else None
        if key in ("down", "j", "page down", " ") and at >= last and following is not None:
            self.before.append(self.wanted.place)
            self.wanted, self.selected, self.first = replace(self.wanted, place=following), None, 0
            return
        if key in ("up", "k", "page up") and at <= 0 and self.before and fresh:
            self.wanted, self.selected, self.first = replace(self.wanted, place=self.before.pop()), None, 0
            return
        to = {
            "up": at - 1, "k": at - 1, "down": at + 1, "j": at + 1, "page up": at - rows, "page down": at + rows, " ": at + rows,
            "home": 0, "g": 0, "end": last, "G": last,
        }.get(key, at)  # fmt: skip
        if runs:
            self.selected = runs[max(0, min(last, to))].run.id

    def _type(self, key: str) -> None:
        words = self.wanted.words
        if key in ("enter", "escape"):
            self.typing = False
            if key == "escape":
                self._search("")
        elif key == "backspace":
            self._search(words[:-1])
        elif key == "erase line":
            self._search("")
        elif len(key) == 1 and len(words) < LONGEST:
            self._search(words + key)

    def _search(self, words: str) -> None:
        if words != self.wanted.words:
            self.wanted, self.before, self.first = replace(self.wanted, words=words, place=Place()), [], 0

    def _ask(self, key: str, snapshot: Snapshot) -> None:
        if self.screen is Screens.RUN:
            run_view = (
                snapshot.detail.view
                if snapshot.detail is not None and snapshot.detail_of == self.selected
                else None
            )
        elif self.screen is Screens.RUNS:
            runs = self.runs(snapshot)
            run_view = runs[self.index(runs)] if runs else None
        else:
            return
        if run_view is not None:
            self.question = question(VERBS[key], run_view, self.where)

    def _answer(self, asked: Question, key: str) -> None:
        answer = asked.press(key)
        if answer is None:
            return
        self.question = None
        if answer:
            self.requests.ask(asked.verb, asked.run.id)
        else:
            self.requests.say(f"Run {asked.run.id} was not asked to {asked.verb.name}.")
