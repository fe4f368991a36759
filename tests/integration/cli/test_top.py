"""`whimbrel top` on a terminal: a real run, seen, paused, resumed and cancelled by keys."""

# ruff: noqa: F811  fixtures are imported by their names

import json
import os
import signal
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pymongo.database import Database

from tests.integration.in_process_commands import Commands, commands  # noqa: F401
from tests.integration.in_process_system import DEFAULTS, start, system
from tests.integration.in_process_system import until as until_run
from tests.servers.proxy import Proxy, through
from tests.terminals import Terminal
from whimbrel import migration
from whimbrel.cli.commands.status import lines_that_fit
from whimbrel.cli.fullscreen.frames import Size
from whimbrel.cli.output.terminal_text import VisibleConsole
from whimbrel.cli.top import run_pages
from whimbrel.cli.top.frame import Drawer
from whimbrel.cli.top.requests import Requests
from whimbrel.cli.top.snapshot import Looker
from whimbrel.cli.top.view import View
from whimbrel.domain.runs.run import Run
from whimbrel.domain.runs.states import RunStatus
from whimbrel.engine.operating.start import draft_run
from whimbrel.mongo.store import MongoStore

Docs = Database[dict[str, Any]]
PROGRAM = [sys.executable, "-m", "whimbrel.cli.main"]
HOSTILE = "\x1b[2J\u202eevil\u2066 東京\x07\nand more"
SHOWN_HOSTILE = "\\x1b[2J\\u202eevil\\u2066 東京\\x07 and more"
TEN = 10  # runs of a page
NO_COLOURS: set[str] = set()
ENTER, ESCAPE, DOWN, END = "\r", "\x1b", "\x1b[B", "\x1b[F"
GO = threading.Event()


@migration(collection="things", timeout=300)
def slow(thing: dict[str, Any]) -> dict[str, Any]:
    """A document in five fails at once; those after the first thousand wait until the test says so."""
    if thing["_id"] >= 1000:
        GO.wait(60)
    if thing["_id"] % 5 == 0:
        raise ValueError(HOSTILE)
    return {"$set": {"v": 2}}


@pytest.fixture
def environment(database: Docs, mongo_uri: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "LINES", "NO_COLOR")}
    return {**kept, "MONGODB_URI": mongo_uri, "MONGODB_DB_NAME": database.name, "TERM": "xterm-256color"}


@pytest.fixture
def things(database: Docs) -> Iterator[Docs]:
    database["things"].insert_many({"_id": n} for n in range(3000))
    GO.clear()
    yield database
    GO.set()


def looks_around(it: Terminal, run: Run) -> None:
    it.type(ENTER)
    detail = it.shows(f"Run {run.id} of slow", "Phases", "Outcomes", "800 changed", "200 failed")
    assert "= 1,000 of 3,000 documents evaluated" in detail
    it.type(END)
    it.shows("Settings", "Workers on it", "on batch")
    it.type(ESCAPE)
    it.shows("by state", without=["Outcomes"])

    it.type("/nowhere")
    it.shows("No run has 'nowhere'")
    it.type("\x15slow RUNNING\r")
    it.shows(run.id, "with 'slow RUNNING'")
    it.type(ESCAPE)
    it.shows("by state", without=["RUNNING"])
    it.type("s")
    it.shows("by done", "done▼")
    it.type("S")
    it.shows("by done, reversed", "done▲")
    it.type("?")
    it.shows("Ctrl-C", "this help")
    it.type("w")
    it.shows("slots", "at work on", run.id)
    it.type(ESCAPE)
    it.shows("by done")


def asks(it: Terminal, store: MongoStore, run: Run) -> None:
    it.type("p")
    it.shows(f"Pause run {run.id} of slow, 3,000", "[y/N]")
    it.type("n")
    it.shows(f"Run {run.id} was not asked to pause")
    it.type("py")
    it.shows(f"asked run {run.id} to pause")
    GO.set()
    it.shows("paused")
    until_run(store, run, RunStatus.PAUSED)
    GO.clear()
    it.type("ry")
    it.shows(f"asked run {run.id} to resume")
    until_run(store, run, RunStatus.RUNNING)
    it.type("ry")
    it.shows("was not asked to resume: ", "It is at work already")

    key = run.id[-6:]
    it.type("xwrong1\r")
    it.shows(f"Run {run.id} was not asked to cancel")
    it.type(f"x{key}\r")
    it.shows(f"asked run {run.id} to cancel")
    GO.set()
    until_run(store, run, RunStatus.CANCELLED)
    it.shows("cancelled")


def test_a_run_is_seen_and_told_what_to_do_by_keys(
    environment: dict[str, str], store: MongoStore, things: Docs, tmp_path: Path
) -> None:
    with system(store, [slow]), Terminal([*PROGRAM, "top"], {**environment, "NO_COLOR": "1"}, tmp_path) as it:
        it.shows("There are no runs yet")
        run = start(store, slow)
        it.shows(run.id, "running", "200 failed", "busy")
        assert (len(it.picture.rows), it.picture.width) == (24, 80)
        assert "collection" not in it.picture.text
        it.resize(200, 60)
        it.shows(
            run.id, "collection", f"{things.name}.things", "causes of failures", "200 open", SHOWN_HOSTILE
        )
        assert (len(it.picture.rows), it.picture.width) == (60, 200)
        it.resize(80, 24)
        it.until(lambda picture: (len(picture.rows), picture.width) == (24, 80) and run.id in picture.text)

        looks_around(it, run)
        asks(it, store, run)
        it.type("q")
        assert it.end() == 0
        assert it.as_it_was()
        assert it.picture.colours == NO_COLOURS
        assert "to cancel: it is cancelling" in it.picture.before  # what was asked stays to be read
        assert store.ledger.runs.get(run.id) is not None


def test_a_database_that_does_not_answer_is_shown_as_stale_and_heals(
    environment: dict[str, str], store: MongoStore, things: Docs, mongo_uri: str, tmp_path: Path
) -> None:
    run = store.ledger.runs.add(draft_run(store, slow.definition, defaults=DEFAULTS), "test")
    host, port = address(mongo_uri)
    with Proxy(host, port) as proxy:
        reached = {**environment, "MONGODB_URI": through(mongo_uri, proxy.port)}
        with Terminal([*PROGRAM, "top"], reached, tmp_path) as it:
            it.shows(run.id, "queued")
            assert it.picture.colours
            proxy.freeze()
            it.shows("MongoDB does not answer for", run.id)
            it.type("py")  # the view goes on, and the request waits
            it.shows(f"Asking run {run.id} to pause")
            proxy.thaw()
            it.shows("paused", without=["does not answer"])
            it.process.send_signal(signal.SIGTERM)
            assert it.end() == 128 + signal.SIGTERM
            assert it.as_it_was()


def address(uri: str) -> tuple[str, int]:
    host, _, port = uri.partition("@")[2].partition("/")[0].partition(":")
    return host, int(port)


def test_where_there_is_no_full_screen_it_writes_lines(
    commands: Commands, store: MongoStore, things: Docs
) -> None:
    commands.set(MONGODB_DB_NAME=things.name)
    assert "There are no runs yet" in commands("top").out
    run = store.ledger.runs.add(draft_run(store, slow.definition, defaults=DEFAULTS), "test")
    told = commands("top", "--sort", "failed")
    assert run.id in told.out
    assert "no worker is alive" in told.out
    assert "needs a terminal" in told.err
    assert "\x1b" not in told.out + told.err
    assert f"Run {run.id} of slow" in commands("top", run.id).out
    found = json.loads(commands("top", "--json").out)
    assert [row["migrationId"] for row in found["runs"]] == [run.id]
    assert (found["share"], found["frozen"], found["more"], found["workers"]) == (None, False, False, [])
    assert commands("top", "nothing", code=66).err


def test_a_dumb_terminal_gets_lines(environment: dict[str, str], store: MongoStore, tmp_path: Path) -> None:
    with Terminal([*PROGRAM, "top"], {**environment, "TERM": "dumb"}, tmp_path) as it:
        assert it.end() == 0
        it.until(lambda picture: "There are no runs yet" in picture.before)
        assert b"\x1b" not in it.raw


def many_runs(store: MongoStore) -> tuple[list[str], list[str]]:
    """Adds queued, paused and cancelled runs. Returns them in the order in which they are to be seen, and the cancelled ones."""
    draft = draft_run(store, slow.definition, defaults=DEFAULTS)
    added = [
        store.ledger.runs.add(replace(draft, id=f"20261231-{n:06}"), "test").id for n in range(2 * TEN + 3)
    ]
    ended, paused, queued = added[: TEN + 5], added[TEN + 5 : TEN + 8], added[TEN + 8 :]
    for run_id in ended:
        assert store.ledger.runs.move(run_id, RunStatus.CANCELLED, who="test")
    for run_id in paused:
        assert store.ledger.runs.move(run_id, RunStatus.PAUSED, who="test")
    return [*paused[::-1], *queued[::-1], *ended[::-1]], ended[::-1]


class Seen:
    """A view without a terminal: keys, and what is looked at then."""

    def __init__(self, store: MongoStore) -> None:
        self.view = View(Requests(store.ledger, lambda: None), "here")
        self.looker = Looker(store.ledger, self.view.wanted)
        self.snapshot = self.looker.look()

    def press(self, *keys: str) -> list[str]:
        for key in keys:
            self.view.press(key, self.snapshot)
            if self.looker.wanted != self.view.wanted:
                self.looker.wanted = self.view.wanted
                self.snapshot = self.looker.look()
        return [each.run.id for each in self.snapshot.page.views]


def test_any_number_of_runs_is_shown_in_pages(
    store: MongoStore, things: Docs, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_pages, "PAGE", TEN)
    expected, ended = many_runs(store)
    it = Seen(store)
    pages = [it.press(), it.press("end", "page down"), it.press("end", "down"), it.press("end", "down")]
    assert pages == [expected[:TEN], expected[TEN : 2 * TEN], expected[2 * TEN :], expected[2 * TEN :]]
    assert it.press("home", "page up") == pages[1]
    assert it.press("home", "up") == pages[0]
    assert it.press("/", *ended[-1]) == [ended[-1]]  # the oldest of all
    assert it.press("escape") == pages[0]
    assert it.press("a") == expected[:8]
    assert it.snapshot.page.following is None
    drawer = Drawer(VisibleConsole(force_terminal=True, color_system=None), "here")
    for size in (Size(80, 24), Size(200, 60), Size(40, 12), Size(20, 5), Size(1, 1), Size(500, 200)):
        lines = drawer.draw(it.view, it.snapshot, 0.0, size)
        assert len(lines) == size.lines
    for columns, lines_of in ((80, 24), (200, 60), (30, 6)):
        shown = lines_that_fit(list(it.snapshot.page.views), columns, lines_of)
        assert len(shown) < lines_of
        assert all(line.cell_len <= columns for line in shown)
