"""What a person asks of a run from the view: pause, resume, cancel. Asked in a thread, as MongoDB may not answer."""

import threading
from collections.abc import Callable
from dataclasses import dataclass

from whimbrel.cli.arguments.options import caller
from whimbrel.cli.output.ledger_observer import internal_fault
from whimbrel.cli.output.run_rows import one_line
from whimbrel.domain.runs.run import Run
from whimbrel.domain.runs.workers import ALIVE
from whimbrel.engine.operating import control
from whimbrel.engine.operating.run_view import RunView
from whimbrel.errors import WhimbrelError
from whimbrel.ports import Ledger

PATIENCE = 10.0  # seconds for which the end of the view waits for an answer


@dataclass(frozen=True, slots=True)
class Verb:
    """`lasting`: it cannot be taken back."""

    name: str
    ask: Callable[[Ledger, str], Run]
    lasting: bool = False


def _pause(ledger: Ledger, run_id: str) -> Run:
    return control.pause(ledger, run_id, who=caller())


def _resume(ledger: Ledger, run_id: str) -> Run:
    return control.resume(ledger, run_id, who=caller())


def _cancel(ledger: Ledger, run_id: str) -> Run:
    return control.cancel(ledger, run_id, who=caller())


VERBS = {"p": Verb("pause", _pause), "r": Verb("resume", _resume), "x": Verb("cancel", _cancel, lasting=True)}


@dataclass(slots=True)
class Question:
    """A question that waits for its answer: a y, or the end of the run's id where the answer lasts."""

    verb: Verb
    run: Run
    documents: int
    where: str
    typed: str = ""

    @property
    def key(self) -> str:
        return self.run.id.rpartition("-")[2]

    @property
    def text(self) -> str:
        about = f"{self.verb.name.capitalize()} run {self.run.id} of {one_line(self.run.migration)}, {self.documents:,} documents of {one_line(self.run.ns)} on {self.where}?"
        if self.verb.lasting:
            return f"{about} What it has changed stays changed, and it cannot go on. Type {self.key} and Enter, or Esc: {self.typed}_"
        return f"{about} [y/N]"

    def press(self, key: str) -> bool | None:
        """Returns whether the answer is yes; None while there is none."""
        if not self.verb.lasting:
            return key in ("y", "Y")
        if key == "enter":
            return self.typed == self.key
        if key == "escape":
            return False
        if key == "backspace":
            self.typed = self.typed[:-1]
        elif key == "erase line":
            self.typed = ""
        elif len(key) == 1 and len(self.typed) < len(self.key):
            self.typed += key
        return None


def question(verb: Verb, run_view: RunView, where: str) -> Question:
    return Question(verb, run_view.run, run_view.total, where)


class Requests:
    """Carries out one request after the other, and remembers what came of them."""

    def __init__(self, ledger: Ledger, done: Callable[[], None]) -> None:
        self._ledger, self._done = ledger, done
        self._thread: threading.Thread | None = None
        self.message, self.failed = "", False
        self.answers: list[str] = []  # of all requests

    @property
    def busy(self) -> bool:
        return self._thread is not None and self._thread.is_alive()

    def say(self, text: str, *, failed: bool = False) -> None:
        self.message, self.failed = text, failed

    def ask(self, verb: Verb, run_id: str) -> None:
        if self.busy:
            self.say("Wait until MongoDB has answered the request before.", failed=True)
            return
        self.say(f"Asking run {run_id} to {verb.name} ...")
        self._thread = threading.Thread(target=self._ask, args=(verb, run_id), name="asking", daemon=True)
        self._thread.start()

    def wait(self) -> None:
        """Waits for the answer to the last request, for a while."""
        if self._thread is not None:
            self._thread.join(PATIENCE)

    def _ask(self, verb: Verb, run_id: str) -> None:
        try:
            run = verb.ask(self._ledger, run_id)
            text, failed = f"{caller()} asked run {run_id} to {verb.name}: it is {run.status}.", False
            if verb.name == "resume" and not self._ledger.leases.slots(ALIVE, run=run):
                text += f" No worker that is alive serves it. Start some: whimbrel resume {run_id}"
        except WhimbrelError as error:
            text, failed = f"Run {run_id} was not asked to {verb.name}: {one_line(str(error))}", True
        except Exception as error:  # noqa: BLE001  logged; else the request would seem to wait for MongoDB
            fault = internal_fault("a request broke", error, None)
            text, failed = f"Asking run {run_id} to {verb.name} failed: {one_line(str(fault))}", True
        self.answers.append(text)
        self.say(text, failed=failed)
        self._done()
